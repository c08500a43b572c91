"""Lenslet: a folder of photos served over HTTP, with everything it knows in files beside them.

`create_app` and `index_once` are for programs that have Lenslet inside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenslet.run.embed import Application

__version__ = "0.2.0"


def create_app(settings: Mapping[str, str]) -> Application:
    """Returns a WSGI application that can be closed; see `lenslet.run.embed`."""
    from lenslet.run import embed  # importing the package alone costs nothing

    return embed.create_app(settings)


def index_once(settings: Mapping[str, str]) -> dict[str, Any]:
    """Indexes everything once, and returns the report; see `lenslet.run.embed`."""
    from lenslet.run import embed

    return embed.index_once(settings)
