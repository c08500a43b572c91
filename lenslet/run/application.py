"""The service with all its parts. One that is left out is a line less here, and a package less."""

from lenslet import archive, gallery, guests
from lenslet.index.messages import Sender
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.web.app import WSGIApp, create_app

PARTS = (
    archive.PART,
    gallery.PART,
    guests.PART,
)


def application(library: Library, jobs: Sender, status: Status) -> WSGIApp:
    """Returns the WSGI application; see `web.app.create_app`."""
    return create_app(library, jobs, status, PARTS)
