"""`create_app`: the routes, each also under `/api`, and the table from errors to HTTP."""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import falcon
import orjson

from lenslet import errors
from lenslet.errors import LensletError, NotFound
from lenslet.index.queue import Sender
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.library.sidecar import digest
from lenslet.search.query import Search
from lenslet.web.common import JSON, Resource, Service
from lenslet.web.file import File
from lenslet.web.folders import Folders, Reindex
from lenslet.web.health import Health, Index, Live
from lenslet.web.item import Item
from lenslet.web.search import RebuildIndex, Suggest
from lenslet.web.search import Search as SearchItems
from lenslet.web.thumb import Thumb

log = logging.getLogger("lenslet")

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

RESOURCES: dict[str, type[Resource]] = {
    "/": Index,
    "/folders": Folders,
    "/folders/{rest:path}": Reindex,
    "/item": Item,
    "/thumb": Thumb,
    "/file": File,
    "/files/{rest:path}": File,
    "/search": SearchItems,
    "/search/suggest": Suggest,
    "/search/rebuild-index": RebuildIndex,
    "/health": Health,
    "/health/live": Live,
    "/health/{part}": Health,
}

# The HTTP status of each error, and of those derived from it. The most specific class counts.
STATUSES: dict[type[LensletError], str] = {
    errors.BadRequest: falcon.HTTP_400,
    errors.Denied: falcon.HTTP_403,
    errors.NotFound: falcon.HTTP_404,
    errors.Conflict: falcon.HTTP_409,
    errors.PreconditionFailed: falcon.HTTP_412,
    errors.TooLarge: falcon.HTTP_413,
    errors.RangeNotSatisfiable: falcon.HTTP_416,
    errors.Invalid: falcon.HTTP_422,
    errors.UnreadableImage: falcon.HTTP_422,
    errors.SettingError: falcon.HTTP_500,
    errors.Unsupported: falcon.HTTP_501,
    errors.StorageNonsense: falcon.HTTP_502,
    errors.Overtaken: falcon.HTTP_503,
    errors.StorageUnavailable: falcon.HTTP_503,
    errors.StorageFull: falcon.HTTP_507,
    errors.PointerLoop: falcon.HTTP_508,
}


def create_app(library: Library, jobs: Sender, status: Status) -> WSGIApp:
    """Returns the WSGI application over a library.

    `jobs` sends work to the index process, `status` is the memory in which it reports.
    """
    service = Service(
        settings=library.settings,
        tree=library.tree,
        locator=library.locator,
        search=Search(library.tree, library.cache),
        jobs=jobs,
        status=status,
        waiters=threading.BoundedSemaphore(max(1, library.settings.web_threads // 2)),
    )
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(media_type=JSON)
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True
    for route, resource in RESOURCES.items():
        for prefix in ("", "/api"):
            app.add_route((prefix + route).rstrip("/") or "/", resource(service))
    app.add_error_handler(LensletError, partial(_answer_error, service))
    app.set_error_serializer(_serialize)
    return app


def status_of(error: LensletError) -> str:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _answer_error(
    service: Service,
    req: falcon.Request,
    resp: falcon.Response,
    error: LensletError,
    params: dict[str, Any],
) -> None:
    """Answers an error. While the root cannot be used, 404 becomes 503: files may still exist."""
    if isinstance(error, NotFound) and (away := service.away()):
        error = errors.StorageUnavailable(away)
    resp.status = status_of(error)
    answer: dict[str, Any] = {"title": resp.status, "description": str(error)}
    if isinstance(error, errors.PointerLoop):
        answer["chain"] = error.chain
    if isinstance(error, errors.PreconditionFailed) and error.stored is not None:
        answer = {**json.loads(error.stored.decode("utf-8-sig")), **answer}
        resp.set_header("ETag", f'"{digest(error.stored)}"')
    if isinstance(error, errors.RangeNotSatisfiable):
        resp.set_header("Content-Range", f"bytes */{error.size}")
    if resp.status == falcon.HTTP_503:
        resp.set_header("Retry-After", "5")
        log.warning("%s %s: %s", req.method, req.path, error)
    _send(resp, json.dumps(answer, ensure_ascii=False).encode())


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Answers Falcon's own errors in the same shape, whatever the client accepts."""
    description = error.description or f"{req.method} {req.path} cannot be answered."
    _send(resp, orjson.dumps({"title": error.title, "description": description}))


def _send(resp: falcon.Response, data: bytes) -> None:
    resp.content_type, resp.data = JSON, data
    resp.cache_control = ["no-store"]
