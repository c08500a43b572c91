"""`/file` and `/files/<path>`: the original, whole or one range of it, or where a bucket has it."""

from __future__ import annotations

import datetime as dt
from typing import BinaryIO
from urllib.parse import quote

import falcon

from lenslet import conditional, paths
from lenslet.errors import Overtaken
from lenslet.paths import Path
from lenslet.resources.common import Image, Library, image_param
from lenslet.storage import S3Tree, Stat
from lenslet.times import UTC


class File:
    """`GET /file?path=`, `GET /files/<path>`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response, rest: str | None = None) -> None:
        path = image_param(req) if rest is None else paths.parse(rest)
        place = self._library.resolver.item(path)
        if isinstance(place.storage.root, S3Tree):
            self._send_object(req, resp, self._library.image(path), place.storage.root)
            return
        file, stat = place.storage.root.open(place.folder.child(path.name))
        try:
            part = _describe(req, resp, path, stat)
            if part:
                file.seek(part[0])
                resp.set_stream(Part(file, part[1]), part[1])
        finally:
            if resp.stream is None:
                file.close()

    on_head = on_get

    def _send_object(
        self, req: falcon.Request, resp: falcon.Response, image: Image, tree: S3Tree
    ) -> None:
        """Send the client to the bucket or, with `PRESIGN_SECONDS=0`, pass the object on."""
        seconds = self._library.settings.presign_seconds
        if seconds and req.method == "GET":
            self._redirect(req, resp, image, tree, seconds)
            return
        try:
            self._pass_on(req, resp, image, image.stat, tree)
        except Overtaken:  # it has changed since the manifest was written
            resp.status = falcon.HTTP_200
            resp.delete_header("Content-Range")
            self._pass_on(req, resp, image, tree.stat(image.file), tree)

    def _pass_on(
        self, req: falcon.Request, resp: falcon.Response, image: Image, stat: Stat, tree: S3Tree
    ) -> None:
        part = _describe(req, resp, image.path, stat)
        if part:
            resp.set_stream(tree.part(image.file, stat, *part), part[1])

    def _redirect(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        image: Image,
        tree: S3Tree,
        seconds: int,
    ) -> None:
        resp.set_header("ETag", f'"{image.stat.rev}"')
        if conditional.not_modified(req.get_header("If-None-Match"), image.stat.rev):
            resp.status = falcon.HTTP_304
            return
        name = quote(image.path.name, safe="")
        resp.status = falcon.HTTP_302
        resp.location = tree.presigned(
            image.file,
            seconds,
            ResponseContentType=paths.media_type(image.path.name),
            ResponseContentDisposition=f"inline; filename*=UTF-8''{name}",
        )
        resp.cache_control = ["private", f"max-age={seconds // 2}"]


def _describe(
    req: falcon.Request, resp: falcon.Response, path: Path, stat: Stat
) -> tuple[int, int] | None:
    """Set the head of the answer; the first byte and the length of what is to be sent, if any."""
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
