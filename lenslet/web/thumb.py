"""`/thumb`, `/preview`: small images from their files, made while the request waits."""

import contextlib
from dataclasses import replace

import falcon
from blake3 import blake3

from lenslet.errors import NotFound, StorageUnavailable, UnreadableImage
from lenslet.images import DIGEST_CHARS, SCREEN, TILE, preview, rendering
from lenslet.index.messages import Render
from lenslet.index.status import IMAGES, PREVIEWS
from lenslet.paths import THUMBNAIL, file_beside
from lenslet.storage.tree import read_thumbnail
from lenslet.web.answers import FOREVER, RETRY_SECONDS, send, send_json, send_pending, url
from lenslet.web.images import Image
from lenslet.web.parameters import choice_param, image_param
from lenslet.web.service import Resource

WEBP = "image/webp"


class Picture(Resource):
    """What the index process makes of one image: a preview or a thumbnail."""

    def edge(self, req: falcon.Request) -> int:
        """The long edge of the preview that is asked for; 0 for a thumbnail."""
        return 0

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path, edge = image_param(req), self.edge(req)
        image, seconds = self.service.image(req, path), self.service.settings.thumb_wait
        is_img = req.get_header("Sec-Fetch-Dest") == "image" or "image/" in req.accept
        if is_img:  # which does not ask again
            seconds = max(seconds, self.service.settings.img_wait)
        try:
            found: tuple[bytes, str] | None = self._look(image, edge)
        except NotFound:
            found = self._make(image, seconds, edge)
        if found:
            data, rev = found
            self.service.check_rev(req, path, rev)
            tag = str(blake3(data).hexdigest())[:20]
            send(resp, data, WEBP, tag)
            if self._is_version(req.get_param("v", default=""), tag, rev, edge):
                resp.cache_control = FOREVER
        elif is_img:
            raise falcon.HTTPServiceUnavailable(
                description="The picture is being made.", retry_after=RETRY_SECONDS
            )
        else:
            size = {"size": edge} if edge == TILE else {}
            send_pending(req, resp, path, url(req, req.path, path=path, **size))

    def _is_version(self, version: str, tag: str, rev: str, edge: int) -> bool:
        """True if the `v` of a URL names exactly this answer, so that it never changes.

        `tag` begins like the hash of the answer, `rev` is that of the image it was made from.
        """
        if edge:
            return version == f"{rev}-{rendering(**preview(edge))}"
        return version.partition("-")[0] == tag[:DIGEST_CHARS]

    def _read(self, image: Image, edge: int) -> bytes:
        """Reads what was made of this image; `NotFound` if there is nothing."""
        if edge:
            return self.service.library.previews.read(image.path, image.stat.rev, edge)[0]
        return read_thumbnail(self.service.tree, image.path, image.stat)[0]

    def _look(self, image: Image, edge: int) -> tuple[bytes, str]:
        """Reads what was made of an image, and returns the image's rev with it.

        `NotFound` if there is nothing, `UnreadableImage` if it cannot be made.
        """
        try:
            return self._read(image, edge), image.stat.rev
        except NotFound:
            if (item := self.service.images.item(image)) and "error" in item:
                raise UnreadableImage(item["error"]) from None
            raise

    def _make(
        self, image: Image, seconds: float, edge: int = 0, *, anew: bool = False
    ) -> tuple[bytes, str] | None:
        """Enqueues the job that makes it, and waits; None if it takes more than `seconds`.

        `anew`: also if it could not be made before. Raises `Denied` if the image cannot be read or
        what is made of it not be stored, and `StorageUnavailable` if no image can be read now.
        """
        _, stat = image.location.tree.head(image.file, 1)
        if stat.rev != image.stat.rev:  # the manifest is out of date
            self.service.folder_jobs.enqueue(image.path.parent)
        image = replace(image, stat=stat, item=None)
        self.service.jobs.send(Render(image.path, edge, anew=anew))

        def look() -> tuple[bytes, str]:  # a local file may still grow
            now = image if image.stat.etag else self.service.images.find(image.path)
            return (self._read(now, edge), now.stat.rev) if anew else self._look(now, edge)

        made = self.service.waiters.wait(seconds, look, in_cache=edge > 0)
        if made is None:
            if problem := self.service.status.problem(PREVIEWS if edge else IMAGES):
                raise StorageUnavailable(f"No images can be read right now: {problem}")
            if not edge:
                self.service.tree.check_write(file_beside(image.path, THUMBNAIL))
        return made


class Thumb(Picture):
    """`GET /thumb?path=&v=`, `POST /thumb?path=&force=`, `DELETE /thumb?path=`"""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        path, force = image_param(req), req.get_param_as_bool("force", default=False)
        image = self.service.image(req, path)
        found: object = None
        with contextlib.suppress(NotFound):
            if force:
                self.service.tree.delete(file_beside(path, THUMBNAIL))
            else:
                found = self._look(image, 0)
        if found or self._make(image, self.service.settings.thumb_wait, anew=force):
            send_json(resp, {"status": "ready", "path": path, "url": url(req, "/thumb", path=path)})
        else:
            send_pending(req, resp, path, url(req, "/thumb", path=path))

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        self.service.library.locator.item(path)
        self.service.tree.delete(file_beside(path, THUMBNAIL))
        self.service.folder_jobs.enqueue(path.parent)
        resp.status = falcon.HTTP_204


class Preview(Picture):
    """`GET /preview?path=&size=&v=`: 1,600 pixels, for a screen, or 640, for a tile"""

    def edge(self, req: falcon.Request) -> int:
        return int(choice_param(req, "size", (str(SCREEN), str(TILE))))
