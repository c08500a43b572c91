"""How resources answer: statuses of errors, ETags, JSON, URLs, and 202 for what is not ready."""

import re
import zlib
from urllib.parse import quote, urlencode

import falcon
import orjson
from blake3 import blake3

from lenslet import errors
from lenslet.errors import LensletError
from lenslet.paths import Path

JSON = "application/json"
FOREVER = ["private", "max-age=31536000", "immutable"]  # Cache-Control of a URL with a version
RETRY_SECONDS = 1
LITTLE = 1000  # bytes that are not worth compressing

# Accepts gzip. See RFC 9110, 12.5.3.
_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")

# The HTTP status of each error, and of those derived from it. The most specific class counts.
STATUSES: dict[type[LensletError], str] = {
    errors.BadRequest: falcon.HTTP_400,
    errors.Denied: falcon.HTTP_403,
    errors.NotFound: falcon.HTTP_404,
    errors.Foreign: falcon.HTTP_409,
    errors.Conflict: falcon.HTTP_409,
    errors.PreconditionFailed: falcon.HTTP_412,
    errors.TooLarge: falcon.HTTP_413,
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


def status_of(error: LensletError) -> str:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def url(req: falcon.Request, route: str, **query: str | int) -> str:
    """Returns a route's URL as this client reaches it, with the prefix it uses."""
    encoded = "?" + urlencode(query, quote_via=quote) if query else ""
    return f"{quote(req.context.prefix)}{route}{encoded}"


def send_json(resp: falcon.Response, document: object) -> None:
    resp.content_type = JSON
    resp.data = orjson.dumps(document)
    resp.cache_control = ["no-store"]


def send(resp: falcon.Response, data: bytes, content_type: str, tag: str = "") -> None:
    """Sends an answer that clients may keep; `tag` is its ETag, by default a hash of the data."""
    resp.content_type, resp.data = content_type, data
    resp.etag = tag or blake3(data).hexdigest()[:20]
    resp.cache_control = ["no-cache"]


def send_error(resp: falcon.Response, status: str, description: str, **more: object) -> None:
    """Sends an error in Falcon's shape, whatever the client accepts."""
    resp.status = status
    send_json(resp, {**more, "title": status, "description": description})


def has_version(req: falcon.Request, tag: str) -> bool:
    """True if the client has the version of an answer with this ETag. See RFC 9110, 13.1.2."""
    known = req.if_none_match or ()
    return "*" in known or tag in known


class Representation:
    """Middleware that sends answers with text compressed, and 304 to a client that has them."""

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        tag, data = resp.etag, resp.data or b""
        can = len(data) > LITTLE and (resp.content_type or "").startswith((JSON, "text/"))
        packs = can and _GZIP.search(req.get_header("Accept-Encoding") or "")
        if can:
            resp.append_header("Vary", "Accept-Encoding")
        if packs and tag:
            resp.etag = f"W/{tag}"  # the same content in other bytes, see RFC 9110, 8.8.1
        reads = req.method in ("GET", "HEAD") and resp.status_code == 200
        if reads and tag and has_version(req, tag.strip('"')):
            resp.status = falcon.HTTP_304
            resp.delete_header("Content-Type")
        elif packs:
            resp.data = zlib.compress(data, level=4, wbits=31)  # 2 ms for 200 KB
            resp.set_header("Content-Encoding", "gzip")


def send_pending(req: falcon.Request, resp: falcon.Response, path: Path, poll: str) -> None:
    """Sends 202: the result is being made. The client should retry at `poll`."""
    resp.status = falcon.HTTP_202
    resp.set_header("Retry-After", str(RETRY_SECONDS))
    resp.location = poll
    send_json(resp, {"status": "pending", "path": path, "poll": poll, "retryAfter": RETRY_SECONDS})
