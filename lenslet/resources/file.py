"""`/file` and `/files/<path>`: the original, whole or one range of it."""

from __future__ import annotations

import datetime as dt
from typing import BinaryIO

import falcon

from lenslet import conditional, paths
from lenslet.paths import Path
from lenslet.resources.common import Library, image_param
from lenslet.times import UTC


class File:
    """`GET /file?path=`, `GET /files/<path>`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response, rest: str | None = None) -> None:
        path = image_param(req) if rest is None else paths.parse(rest)
        place = self._library.resolver.item(path)
        file, stat = place.storage.root.open(place.folder.child(path.name))
        try:
            self._send(req, resp, path, file, stat.rev, stat.size, stat.mtime_ns)
        finally:
            if resp.stream is None:
                file.close()

    on_head = on_get

    def _send(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        path: Path,
        file: BinaryIO,
        tag: str,
        size: int,
        mtime_ns: int,
    ) -> None:
        modified = falcon.dt_to_http(dt.datetime.fromtimestamp(max(0, mtime_ns) // 10**9, UTC))
        resp.set_header("ETag", f'"{tag}"')
        resp.set_header("Last-Modified", modified)
        resp.set_header("Accept-Ranges", "bytes")
        resp.cache_control = ["no-cache"]
        if _unchanged(req, tag, modified):
            resp.status = falcon.HTTP_304
            return
        resp.content_type = paths.media_type(path.name)
        wanted = None
        if conditional.range_applies(req.get_header("If-Range"), tag, modified):
            wanted = conditional.byte_range(req.get_header("Range"), size)
        first, length = wanted or (0, size)
        if wanted:
            resp.status = falcon.HTTP_206
            resp.set_header("Content-Range", f"bytes {first}-{first + length - 1}/{size}")
        if req.method == "HEAD":
            resp.content_length = length
            return
        file.seek(first)
        resp.set_stream(Part(file, length), length)


def _unchanged(req: falcon.Request, tag: str, modified: str) -> bool:
    asked = req.get_header("If-None-Match")
    if asked is not None:
        return conditional.not_modified(asked, tag)
    return req.get_header("If-Modified-Since") == modified


class Part:
    """The next `length` bytes of a file; `fileno` lets the server hand it to `sendfile`."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int | None = None, /) -> bytes:
        data = self._file.read(self._left if size is None or size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
