"""Lenslet inside another program, without gunicorn.

`settings` has the names and values of the environment variables, such as
`{"ROOT_PATH": "/srv/photos"}`; nothing is taken from the environment or a file. A wrong
value raises `lenslet.errors.SettingError`.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from lenslet import config
from lenslet.errors import SettingError, StorageUnavailable
from lenslet.index.loop import Loop
from lenslet.index.status import Status
from lenslet.run import FRESH_SECONDS, log_start, open_library
from lenslet.run.parts import PARTS
from lenslet.run.worker import reach
from lenslet.storage import check_settings
from lenslet.web import app
from lenslet.web.app import WSGIApp


class Application:
    """A WSGI application over a library, which `close` or the end of a `with` block closes."""

    def __init__(self, app: WSGIApp, *ends: Callable[[], None]) -> None:
        self._app = app
        self._ends = ends

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def close(self) -> None:
        """Ends its threads and processes, and waits for that. Do not use it afterwards."""
        for end in self._ends:
            end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_app(settings: Mapping[str, str]) -> Application:
    """Returns the WSGI application, and indexes on `WORKER_THREADS` threads of this process.

    Without `API_TOKEN` whoever reaches the program may edit tags and notes. `WEB_THREADS` is the
    number of threads of the server: three quarters of them may wait. Call this once in each
    process, after any fork. With several processes set `WORKER_THREADS=0` and run `lenslet worker`
    beside them. The threads end with `close`, or with the process: nothing is lost then.
    """
    checked = _checked(settings)
    library = open_library(checked, fresh_seconds=FRESH_SECONDS)
    log_start(checked, "serves")
    if not checked.worker_threads:
        served = app.create_app(library, *reach(checked), PARTS)
        return Application(served, library.decoders.close)
    status, stop = Status(), threading.Event()
    loop = Loop(open_library(checked, patient=True), status)
    # A program that ends must not wait for it.
    indexer = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    indexer.start()
    served = app.create_app(library, loop, status, PARTS)
    return Application(served, stop.set, loop.wake, indexer.join, library.decoders.close)


def index_once(settings: Mapping[str, str]) -> dict[str, Any]:
    """Indexes everything once, and returns the report that is in `_health.json`.

    Raises `lenslet.errors.StorageUnavailable` if storage goes away or is full.
    """
    library = open_library(_checked(settings), patient=True)
    library.tree.check()
    loop = Loop(library, Status())
    loop.run(threading.Event(), once=True)
    if loop.outage:
        raise StorageUnavailable(loop.outage)
    return loop.report()


def _checked(settings: Mapping[str, str]) -> config.Settings:
    for name, value in settings.items():
        if name not in config.names():
            raise SettingError(f"{name} is not a setting")
        if not isinstance(value, str):
            raise SettingError(f"{name}: must be text, not {type(value).__name__}")
        if not value and name in config.ACCESS:
            raise SettingError(f"{name} is empty: everyone would have access; or leave it out")
    return check_settings(config.settings(settings))
