"""`/file` and `/files/<path>`: the original, whole or one range, or a redirect to the bucket."""

from __future__ import annotations

import datetime as dt
from typing import BinaryIO
from urllib.parse import quote

import falcon

from lenslet import paths
from lenslet.errors import Overtaken
from lenslet.paths import Path
from lenslet.storage import Stat
from lenslet.times import UTC
from lenslet.web import conditional
from lenslet.web.common import Image, Service, image_param


class File:
    """`GET /file?path=`, `GET /files/<path>`"""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, rest: str | None = None) -> None:
        path = image_param(req) if rest is None else paths.parse(rest)
        image, seconds = self._service.image(path), self._service.settings.presign_seconds
        if seconds and req.method == "GET":
            name = quote(path.name, safe="")
            url = image.location.tree.url(
                image.file,
                seconds,
                ResponseContentType=paths.media_type(path.name),
                ResponseContentDisposition=f"inline; filename*=UTF-8''{name}",
            )
            if url:
                _redirect(req, resp, image, url, seconds)
                return
        try:
            self._send(req, resp, image, image.stat)
        except Overtaken:  # the object has changed since the manifest was written
            resp.status = falcon.HTTP_200
            resp.delete_header("Content-Range")
            self._send(req, resp, image, image.location.tree.stat(image.file))

    on_head = on_get

    def _send(self, req: falcon.Request, resp: falcon.Response, image: Image, stat: Stat) -> None:
        part = _describe(req, resp, image.path, stat)
        if part:
            file = image.location.tree.part(image.file, stat, *part)
            resp.set_stream(Part(file, part[1]), part[1])


def _redirect(
    req: falcon.Request, resp: falcon.Response, image: Image, url: str, seconds: int
) -> None:
    resp.set_header("ETag", f'"{image.stat.rev}"')
    if conditional.not_modified(req.get_header("If-None-Match"), image.stat.rev):
        resp.status = falcon.HTTP_304
        return
    resp.status = falcon.HTTP_302
    resp.location = url
    resp.cache_control = ["private", f"max-age={seconds // 2}"]


def _describe(
    req: falcon.Request, resp: falcon.Response, path: Path, stat: Stat
) -> tuple[int, int] | None:
    """Sets the headers; returns the first byte and the length of the body, None without one."""
    modified = falcon.dt_to_http(dt.datetime.fromtimestamp(max(0, stat.mtime_ns) // 10**9, UTC))
    resp.set_header("ETag", f'"{stat.rev}"')
    resp.set_header("Last-Modified", modified)
    resp.set_header("Accept-Ranges", "bytes")
    resp.cache_control = ["no-cache"]
    if _unchanged(req, stat.rev, modified):
        resp.status = falcon.HTTP_304
        return None
    resp.content_type = paths.media_type(path.name)
    wanted = None
    if conditional.range_applies(req.get_header("If-Range"), stat.rev, modified):
        wanted = conditional.byte_range(req.get_header("Range"), stat.size)
    first, length = wanted or (0, stat.size)
    if wanted:
        resp.status = falcon.HTTP_206
        resp.set_header("Content-Range", f"bytes {first}-{first + length - 1}/{stat.size}")
    if req.method == "HEAD":
        resp.content_length = length
        return None
    return first, length


def _unchanged(req: falcon.Request, tag: str, modified: str) -> bool:
    asked = req.get_header("If-None-Match")
    if asked is not None:
        return conditional.not_modified(asked, tag)
    return req.get_header("If-Modified-Since") == modified


class Part:
    """The next `length` bytes of a file. With `fileno` the server can use `sendfile`."""

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
