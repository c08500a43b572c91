"""`/thumb`: thumbnails from their files; what is missing is ordered and waited for a little."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import falcon
from blake3 import blake3

from lenslet import thumbnail
from lenslet.errors import NotFound, StorageUnavailable, UnreadableImage
from lenslet.jobs import Job, Kind
from lenslet.resources.common import (
    Image,
    Library,
    flag_param,
    image_param,
    send,
    send_json,
    send_pending,
    url,
)
from lenslet.storage import Stat

WEBP = "image/webp"
_FOREVER = ["private", "max-age=31536000", "immutable"]


class Thumb:
    """`GET /thumb?path=&v=`, `POST /thumb?path=&force=`, `DELETE /thumb?path=`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self._library.image(path)
        try:
            data, _ = self._kept(image)
        except NotFound:
            made = self._make(image)
            if made is None:
                send_pending(req, resp, path, url(req, "/thumb", path=path))
                return
            data, _ = made
        send(req, resp, data, WEBP, blake3(data).hexdigest()[:20])
        if req.get_param("v") == image.stat.rev:
            resp.cache_control = _FOREVER

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        path, force = image_param(req), flag_param(req, "force")
        image = self._library.image(path)
        try:
            _, before = self._kept(image)
        except NotFound:
            before = None
        done = before if before and not force else self._make(image, before, force)
        if done is None:
            send_pending(req, resp, path, url(req, "/thumb", path=path))
            return
        send_json(resp, {"status": "ready", "path": path, "url": url(req, "/thumb", path=path)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        self._library.resolver.item(path)
        thumbnail.drop(self._library.storage, path)
        self._library.jobs.send(Job(Kind.FOLDER, path.parent))
        resp.status = falcon.HTTP_204

    def _kept(self, image: Image) -> tuple[bytes, Stat]:
        """The thumbnail that there is; in a bucket, nothing is asked that the manifest denies."""
        if image.place.storage.root.remote and not (image.item and image.item["hasThumb"]):
            raise NotFound(f"{image.path} has no thumbnail yet.")
        return thumbnail.read(self._library.storage, image.path, image.stat)

    def _make(
        self, image: Image, before: Stat | None = None, force: bool = False
    ) -> tuple[bytes, Stat] | None:
        """Order a thumbnail and wait for it; None when it takes longer.

        Raises `UnreadableImage` when it cannot be made, and `Denied` when the image cannot be read.
        """
        if not force:
            self._refuse_unreadable(image)

        def look() -> tuple[bytes, Stat]:
            data, stat = thumbnail.read(self._library.storage, image.path, image.stat)
            if stat == before:
                raise NotFound(f"{image.path} has its old thumbnail still.")
            return data, stat

        far = image.place.storage.root.remote
        if far and not force:  # it may be there, and the manifest is still to tell
            with contextlib.suppress(NotFound):
                return look()
        self._library.jobs.send(Job(Kind.THUMBNAIL, image.path, force))
        made = self._library.wait(self._library.settings.thumb_wait, look)
        if made is None:
            self._refuse_unreadable(replace(image, item=None))
            image.place.storage.root.head(image.file, 1)  # or can it not be read?
            trouble = self._library.board.trouble()
            if trouble:
                raise StorageUnavailable(f"Thumbnails cannot be kept for now: {trouble}")
        return made

    def _refuse_unreadable(self, image: Image) -> None:
        item = self._library.known(image)
        if item and "error" in item:
            raise UnreadableImage(item["error"])
