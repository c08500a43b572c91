"""`/file` and `/files/<path>`: the original, whole or one range, or a redirect to the bucket."""

import contextlib
import datetime as dt
import errno
from typing import BinaryIO
from urllib.parse import quote

import falcon

from lenslet import paths
from lenslet.errors import LensletError, Overtaken, PreconditionFailed
from lenslet.storage.tree import Stat
from lenslet.web.answers import has_version
from lenslet.web.images import Image
from lenslet.web.parameters import image_param, parse_path
from lenslet.web.service import Resource


class File(Resource):
    """`GET /file?path=`, `GET /files/<path>`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, rest: str | None = None) -> None:
        path = image_param(req) if rest is None else parse_path(req, rest)
        image = self.service.image(req, path)
        if self._redirect(req, resp, image) or self._hand_over(resp, image):
            return
        try:
            _send(req, resp, image, image.stat)
        except Overtaken:  # the object has changed since the manifest was written
            image = self.service.image(req, path, fresh=True)
            _send(req, resp, image, image.stat)

    def _redirect(self, req: falcon.Request, resp: falcon.Response, image: Image) -> bool:
        """Sends the client to the bucket; False if the image must be sent from here.

        Never 304 and no ETag: the URL in the client's copy may have ended. A URL shows whatever is
        there later, so a request for one version is answered from here.
        """
        seconds = self.service.settings.presign_seconds
        if not seconds or req.method == "HEAD" or req.context.rev:
            return False
        name = image.path.name
        url = image.location.tree.url(
            image.file,
            seconds,
            ResponseContentType=paths.format_of(name).media_type,
            ResponseContentDisposition=f"inline; filename*=UTF-8''{quote(name, safe='')}",
        )
        if url:
            resp.status = falcon.HTTP_302
            resp.location = url
            resp.cache_control = ["private", f"max-age={seconds // 2}"]
        return bool(url)

    def _hand_over(self, resp: falcon.Response, image: Image) -> bool:
        """Lets nginx send a file of the root; False if it must be sent from here."""
        prefix = self.service.settings.accel_prefix
        tree = image.location.tree
        if not (prefix and tree is self.service.tree and tree.has_stamps):
            return False
        resp.set_header("X-Accel-Redirect", prefix + quote(image.file))
        resp.content_type = paths.format_of(image.path.name).media_type
        return True


def _send(req: falcon.Request, resp: falcon.Response, image: Image, stat: Stat) -> None:
    modified: dt.datetime | None = None
    with contextlib.suppress(OverflowError, ValueError, OSError):  # after the year 9999: no date
        modified = dt.datetime.fromtimestamp(max(0, stat.mtime_ns) // 10**9, dt.UTC)
        resp.last_modified = modified
    resp.accept_ranges = "bytes"
    resp.etag, resp.cache_control = stat.rev, ["no-cache"]
    if _is_known(req, stat.rev, modified):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = paths.format_of(image.path.name).media_type
    last_modified = resp.get_header("Last-Modified")
    is_current = req.get_header("If-Range") in (None, f'"{stat.rev}"', last_modified)
    wanted = _range(req, stat.size) if is_current else None
    first, length = wanted or (0, stat.size)
    if req.method != "HEAD":
        file, now = image.location.tree.open(image.file, first, length)
        if now.rev != stat.rev:
            file.close()
            raise Overtaken(f"{image.path} has changed.")
        resp.stream = Piece(file, length)
    resp.content_length = length
    if wanted:
        resp.status = falcon.HTTP_206
        resp.content_range = (first, first + length - 1, stat.size)


def _is_known(req: falcon.Request, tag: str, modified: dt.datetime | None) -> bool:
    """True if the client has this version; `PreconditionFailed` if it wants no such version.

    In the order of RFC 9110, 13.2.2.
    """
    unmodified = _date(req, "If-Unmodified-Since")
    if (wanted := req.get_header("If-Match")) is not None:
        if wanted.strip() != "*" and f'"{tag}"' not in map(str.strip, wanted.split(",")):
            raise PreconditionFailed("If-Match does not fit the image: it has changed.")
    elif modified and unmodified and modified > unmodified:
        raise PreconditionFailed("The image was changed after If-Unmodified-Since.")
    if req.if_none_match is not None:
        return has_version(req, tag)
    since = _date(req, "If-Modified-Since")
    return bool(modified and since and modified <= since)


def _date(req: falcon.Request, header: str) -> dt.datetime | None:
    """Returns the date in a header, in any form of RFC 9110, 5.6.7; None for any other text."""
    with contextlib.suppress(falcon.HTTPInvalidHeader):
        return req.get_header_as_datetime(header, obs_date=True)
    return None


def _range(req: falcon.Request, size: int) -> tuple[int, int] | None:
    """Returns first byte and length of the wanted range; None if the whole file is wanted.

    Several ranges, other units and nonsense are ignored, as RFC 9110, 14.2 allows.
    """
    try:
        wanted = req.range if req.range_unit == "bytes" else None
    except falcon.HTTPInvalidHeader:
        wanted = None
    if not (wanted and size):
        return None
    first, last = wanted
    if first >= size:
        raise falcon.HTTPRangeNotSatisfiable(size)
    begin = first if first >= 0 else max(0, size + first)
    end = min(last, size - 1) if last >= 0 else size - 1
    return begin, end - begin + 1


class Piece:
    """The next `length` bytes of a file; `fileno` lets the server use `sendfile`.

    If the file is shorter by now, fewer bytes are sent, and the client waits until the connection
    ends.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length
        self.fileno, self.close = file.fileno, file.close

    def read(self, size: int | None = None, /) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        try:
            data = self._file.read(wanted)
        except LensletError as error:  # of the store: only the end of the connection says that
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        self._left -= len(data)
        return data
