"""`create_app`: routes, the table from errors to HTTP, and the `/api` prefix."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import falcon
import orjson

from lenslet import errors, resources
from lenslet.board import Board
from lenslet.config import Settings
from lenslet.errors import (
    LensletError,
    NotFound,
    PointerLoop,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageUnavailable,
)
from lenslet.jobs import Sender
from lenslet.pointers import Resolver
from lenslet.resources.common import JSON, Library
from lenslet.search import Search
from lenslet.sidecar import digest
from lenslet.storage import Storage, Tree

log = logging.getLogger("lenslet")

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# What each error is in HTTP. The most special class counts.
STATUSES: dict[type[LensletError], str] = {
    errors.BadRequest: falcon.HTTP_400,
    errors.Denied: falcon.HTTP_403,
    errors.BrokenPointer: falcon.HTTP_403,
    errors.NotFound: falcon.HTTP_404,
    errors.Ignored: falcon.HTTP_404,
    errors.NotRegular: falcon.HTTP_404,
    errors.Conflict: falcon.HTTP_409,
    errors.PreconditionFailed: falcon.HTTP_412,
    errors.TooLarge: falcon.HTTP_413,
    errors.RangeNotSatisfiable: falcon.HTTP_416,
    errors.Invalid: falcon.HTTP_422,
    errors.EmptyObject: falcon.HTTP_416,
    errors.UnreadableImage: falcon.HTTP_422,
    errors.SettingError: falcon.HTTP_500,
    errors.Unsupported: falcon.HTTP_501,
    errors.StorageNonsense: falcon.HTTP_502,
    errors.Overtaken: falcon.HTTP_503,
    errors.StorageUnavailable: falcon.HTTP_503,
    errors.Unreachable: falcon.HTTP_503,
    errors.StorageFull: falcon.HTTP_507,
    errors.PointerLoop: falcon.HTTP_508,
}


def create_app(
    settings: Settings, storage: Storage, cache: Tree, jobs: Sender, board: Board
) -> WSGIApp:
    """The WSGI application over `storage`, sending work to `jobs`; `board` tells of the worker."""
    library = Library(
        storage=storage,
        settings=settings,
        resolver=Resolver(storage, settings),
        search=Search(storage, cache),
        jobs=jobs,
        board=board,
        waiters=threading.BoundedSemaphore(max(1, settings.web_threads // 2)),
    )
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(media_type=JSON)
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True
    _add_routes(app, library)
    app.add_error_handler(LensletError, partial(_answer_error, library))
    app.set_error_serializer(_serialize)
    return under_api(app)


def _add_routes(app: Any, library: Library) -> None:
    health, file = resources.Health(library), resources.File(library)
    app.add_route("/", resources.Index())
    app.add_route("/folders", resources.Folders(library))
    app.add_route("/folders/{rest:path}", resources.Reindex(library))
    app.add_route("/item", resources.Item(library))
    app.add_route("/thumb", resources.Thumb(library))
    app.add_route("/file", file)
    app.add_route("/files/{rest:path}", file)
    app.add_route("/search", resources.Search(library))
    app.add_route("/search/suggest", resources.Suggest(library))
    app.add_route("/search/rebuild-index", resources.RebuildIndex(library))
    app.add_route("/health", health)
    app.add_route("/health/live", resources.Live())
    app.add_route("/health/{part}", health)


def under_api(app: WSGIApp) -> WSGIApp:
    """Every route under `/api` too: the prefix moves to SCRIPT_NAME, so that URLs keep it."""

    def prefixed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/api" or path.startswith("/api/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + "/api"
            environ["PATH_INFO"] = path[4:] or "/"
        return app(environ, start_response)

    return prefixed


def status_of(error: LensletError) -> str:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _answer_error(
    library: Library,
    req: falcon.Request,
    resp: falcon.Response,
    error: LensletError,
    params: dict[str, Any],
) -> None:
    """Shape an error. What is not found while the root is away is not gone."""
    if isinstance(error, NotFound) and (away := library.away()):
        error = StorageUnavailable(away)
    resp.status = status_of(error)
    answer: dict[str, Any] = {"title": resp.status, "description": str(error)}
    if isinstance(error, PointerLoop):
        answer["chain"] = error.chain
    if isinstance(error, PreconditionFailed) and error.stored is not None:
        answer = {**json.loads(error.stored.decode("utf-8-sig")), **answer}
        resp.set_header("ETag", f'"{digest(error.stored)}"')
    if isinstance(error, RangeNotSatisfiable):
        resp.set_header("Content-Range", f"bytes */{error.size}")
    if resp.status == falcon.HTTP_503:
        resp.set_header("Retry-After", "5")
        log.warning("%s %s: %s", req.method, req.path, error)
    _send(resp, json.dumps(answer, ensure_ascii=False).encode())


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's own errors in the same shape, whatever the client accepts."""
    description = error.description or f"{req.method} {req.path} cannot be answered."
    _send(resp, orjson.dumps({"title": error.title, "description": description}))


def _send(resp: falcon.Response, data: bytes) -> None:
    resp.content_type, resp.data = JSON, data
    resp.cache_control = ["no-store"]
