"""`/thumb`: thumbnails from their files. A missing one is requested and waited for a little."""

from __future__ import annotations

from dataclasses import replace

import falcon
from blake3 import blake3

from lenslet.errors import NotFound, StorageUnavailable, UnreadableImage
from lenslet.index.queue import Job, Kind
from lenslet.index.status import STORAGE
from lenslet.library import thumbnail
from lenslet.storage import Stat
from lenslet.web.common import (
    Image,
    Service,
    flag_param,
    image_param,
    send,
    send_json,
    send_pending,
    url,
)

WEBP = "image/webp"
_FOREVER = ["private", "max-age=31536000", "immutable"]


class Thumb:
    """`GET /thumb?path=&v=`, `POST /thumb?path=&force=`, `DELETE /thumb?path=`"""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self._service.image(path)
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
        image = self._service.image(path)
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
        self._service.locator.item(path)
        thumbnail.delete(self._service.tree, path)
        self._service.tell(path.parent)
        resp.status = falcon.HTTP_204

    def _kept(self, image: Image) -> tuple[bytes, Stat]:
        return thumbnail.read(self._service.tree, image.path, image.stat)

    def _make(
        self, image: Image, before: Stat | None = None, force: bool = False
    ) -> tuple[bytes, Stat] | None:
        """Requests a thumbnail and waits for it; None if it takes longer than `THUMB_WAIT`.

        Raises `UnreadableImage` if it cannot be made, and `Denied` if the image cannot be read.
        """
        if not force:
            self._refuse_unreadable(image)

        def look() -> tuple[bytes, Stat]:
            data, stat = thumbnail.read(self._service.tree, image.path, image.stat)
            if stat == before:
                raise NotFound(f"{image.path} still has its old thumbnail.")
            return data, stat

        self._service.jobs.send(Job(Kind.THUMBNAIL, image.path, force=force))
        made = self._service.wait(self._service.settings.thumb_wait, look)
        if made is None:
            self._refuse_unreadable(replace(image, item=None))
            image.location.tree.head(image.file, 1)  # raises if it cannot be read
            problem = self._service.status.problem(STORAGE)
            if problem:
                raise StorageUnavailable(f"Thumbnails cannot be made right now: {problem}")
        return made

    def _refuse_unreadable(self, image: Image) -> None:
        item = self._service.known(image)
        if item and "error" in item:
            raise UnreadableImage(item["error"])
