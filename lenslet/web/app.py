"""`create_app`: the routes, and how errors are answered."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import falcon

from lenslet import errors
from lenslet.errors import LensletError
from lenslet.index.messages import Sender
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.library.location import Locator
from lenslet.library.sidecar import digest, loads
from lenslet.search.query import Search
from lenslet.web.access import Access, Session
from lenslet.web.answers import JSON, Representation, send_error, status_of
from lenslet.web.file import File
from lenslet.web.folders import Folder, Folders
from lenslet.web.health import Health, Live
from lenslet.web.images import Images
from lenslet.web.item import Item, Tags
from lenslet.web.jobs import FolderJobs
from lenslet.web.metrics import Metrics
from lenslet.web.requests import Requests
from lenslet.web.root import OpenApi, Root
from lenslet.web.search import Counts, Facets, RebuildIndex, SearchItems, Suggest, Timeline
from lenslet.web.service import Part, Resource, Service
from lenslet.web.thumb import Preview, Thumb
from lenslet.web.waiters import Waiters

log = logging.getLogger("lenslet")

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

RESOURCES: dict[str, type[Resource]] = {
    "/": Root,
    "/openapi.json": OpenApi,
    "/folders": Folders,
    "/folders/{rest:path}": Folder,
    "/item": Item,
    "/items/tags": Tags,
    "/thumb": Thumb,
    "/preview": Preview,
    "/file": File,
    "/files/{rest:path}": File,
    "/search": SearchItems,
    "/search/counts": Counts,
    "/search/facets": Facets,
    "/search/suggest": Suggest,
    "/timeline": Timeline,
    "/search/rebuild-index": RebuildIndex,
    "/session": Session,
    "/health": Health,
    "/health/live": Live,
    "/health/{part}": Health,
    "/metrics": Metrics,
}


def create_app(
    library: Library,
    jobs: Sender,
    status: Status,
    parts: Sequence[Part] = (),
) -> WSGIApp:
    """Returns the WSGI application over a library.

    `jobs` sends work to the index process, `status` is the memory in which it reports. `parts` hang
    on it. At most three quarters of the server's threads wait for files.
    """
    routes = dict(RESOURCES)
    for part in parts:
        routes |= part.routes
    waiting = max(1, 3 * library.settings.web_threads // 4)
    folder_jobs = FolderJobs(jobs)
    service = Service(
        library=library,
        search=Search(library.tree, library.cache),
        images=Images(library, folder_jobs),
        jobs=jobs,
        folder_jobs=folder_jobs,
        status=status,
        requests=Requests(status, routes, logs=library.settings.access_log),
        waiters=Waiters(waiting, is_shared=not (library.tree.has_stamps or library.tree.own)),
        parts=parts,
    )
    others = [make(service) for part in parts for make in part.middleware]
    prefix, access = Prefix(library.locator), Access(library.settings)
    middleware: list[Any] = [prefix, service.requests, Representation(), *others, access]
    if library.settings.cors_origins:
        middleware.append(_cors(library.settings.cors_origins))
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(
        media_type=JSON, middleware=middleware
    )
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True
    for route, resource in routes.items():
        app.add_route(route, resource(service))
    app.add_error_handler(LensletError, partial(_answer_error, service))
    app.add_error_handler(Exception, _answer_defect)
    app.set_error_serializer(_serialize)
    return app


class Prefix:
    """Middleware that removes `/api` from a path, because all routes are also there.

    `req.context.prefix` is what URLs in the answer begin with, `written` that of the locator.
    """

    def __init__(self, locator: Locator) -> None:
        self._locator = locator

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        root = "/" + req.root_path.lstrip("/") if req.root_path else ""  # `//host` is another site
        api = "/api" if f"{req.path}/".startswith("/api/") else ""
        req.path = req.path.removeprefix(api) or "/"
        req.context.prefix, req.context.written = root + api, self._locator.written


def _cors(origins: tuple[str, ...]) -> object:
    """Lets pages of other sites read answers; with cookies only if the sites are named."""
    every = "*" in origins
    return falcon.CORSMiddleware(
        allow_origins="*" if every else origins,
        allow_credentials=None if every else origins,
        expose_headers=("Content-Range", "ETag", "Location", "Retry-After"),
    )


def _answer_error(
    service: Service,
    req: falcon.Request,
    resp: falcon.Response,
    error: LensletError,
    params: dict[str, Any],
) -> None:
    """Answers an error."""
    error = service.explained(error)
    more: dict[str, Any] = {}
    if isinstance(error, errors.PointerLoop):
        more = {"chain": error.chain}
    if isinstance(error, errors.PreconditionFailed) and error.stored is not None:
        more = loads(error.stored)
        resp.etag = digest(error.stored)
    send_error(resp, status_of(error), str(error), **more)
    if resp.status == falcon.HTTP_503:
        resp.set_header("Retry-After", "5")
        what, number = (req.method, req.path, error), req.context.id
        log.warning("%s %s: %s (request %s)", *what, number, extra={"request": number})


def _answer_defect(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    """Answers what should not happen: 500, with the traceback in the log and not in the answer."""
    number = req.context.id
    what, more = (req.method, req.path, number), {"request": number}
    log.error("%s %s failed (request %s)", *what, exc_info=error, extra=more)
    raise falcon.HTTPInternalServerError(description="An error in Lenslet; the log has more.")


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Answers Falcon's own errors in the same shape, whatever the client accepts."""
    description = error.description or f"{req.method} {req.path} cannot be answered."
    send_error(resp, str(resp.status), description)
