"""The service with all its parts. Who leaves one out deletes its package, and its lines here."""

import lenslet.archive
import lenslet.gallery
import lenslet.guests
from lenslet.index.messages import Sender
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.web.app import WSGIApp, create_app

PARTS = (
    lenslet.archive.PART,
    lenslet.gallery.PART,
    lenslet.guests.PART,
)


def application(library: Library, jobs: Sender, status: Status) -> WSGIApp:
    """Returns the WSGI application; see `web.app.create_app`."""
    return create_app(library, jobs, status, PARTS)
