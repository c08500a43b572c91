"""`/thumb`, `/preview`: small images from their files, made while the request waits."""

from dataclasses import replace

import falcon
from blake3 import blake3

from lenslet.errors import NotFound, StorageUnavailable, UnreadableImage
from lenslet.images import DIGEST_CHARS, PREVIEW_RENDERING
from lenslet.index.messages import Render
from lenslet.index.status import IMAGES, PREVIEWS
from lenslet.paths import THUMBNAIL, Path
from lenslet.storage.tree import Stat, read_thumbnail
from lenslet.web.answers import FOREVER, RETRY_SECONDS, send, send_json, send_pending, url
from lenslet.web.images import Image
from lenslet.web.parameters import image_param
from lenslet.web.service import Resource

WEBP = "image/webp"


class Picture(Resource):
    """What the index process makes of one image, a preview or a thumbnail, at `route`."""

    is_preview: bool
    problems: int
    route: str

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self.service.images.find(path)
        try:
            (data, _), rev = self._read(image), image.stat.rev
        except NotFound:
            seconds = self.service.settings.thumb_wait
            is_img = req.get_header("Sec-Fetch-Dest") == "image" or "image/" in (req.accept or "")
            if is_img:  # which does not ask again
                seconds = max(seconds, self.service.settings.img_wait)
            made = self._make(image, seconds)
            if made is None:
                if is_img:
                    raise falcon.HTTPServiceUnavailable(
                        description="The picture is being made.", retry_after=RETRY_SECONDS
                    ) from None
                send_pending(req, resp, path, url(req, self.route, path=path))
                return
            data, rev = made
        tag = str(blake3(data).hexdigest())[:20]
        send(resp, data, WEBP, tag)
        if self._is_version(req.get_param("v", default=""), tag, rev):
            resp.cache_control = FOREVER

    def _is_version(self, version: str, tag: str, rev: str) -> bool:
        """True if the `v` of a URL names exactly this answer, so that it never changes.

        `tag` begins like the hash of the answer, `rev` is that of the image it was made from.
        """
        raise NotImplementedError

    def _read(self, image: Image) -> tuple[bytes, Stat]:
        """Reads what was made of this image; `NotFound` if there is nothing."""
        raise NotImplementedError

    def _make(
        self, image: Image, seconds: float, *, before: Stat | None = None, force: bool = False
    ) -> tuple[bytes, str] | None:
        """Enqueues the job that makes it, and waits; None if it takes more than `seconds`.

        Returns it with the rev of the image that it was made from; `before` is one that exists and
        must be replaced. Raises `UnreadableImage` if it cannot be made, `Denied` if the image
        cannot be read or what is made of it not be stored, and `StorageUnavailable` if no image
        can be read right now.
        """
        if not force:
            self._refuse_unreadable(image)
        image = self._current(image)
        self.service.jobs.send(Render(image.path, self.is_preview, anew=force))

        def look() -> tuple[bytes, str]:
            now = image
            if not image.stat.etag:  # a file may still grow
                now = replace(image, stat=image.location.tree.stat(image.file))
            try:
                data, stat = self._read(now)
            except NotFound:
                if not force:
                    self._refuse_unreadable(now)
                raise
            if stat == before:
                raise NotFound(f"{image.path} has no new thumbnail yet.")
            return data, now.stat.rev

        made = self.service.waiters.wait(seconds, look, in_cache=self.is_preview)
        if made is None:
            self._refuse_unreadable(image)
            if problem := self.service.status.problem(self.problems):
                raise StorageUnavailable(f"No images can be read right now: {problem}")
            self._check_place(image)
        return made

    def _current(self, image: Image) -> Image:
        """Returns an image as its file is now. Raises an error if it cannot be read."""
        _, stat = image.location.tree.head(image.file, 1)
        if stat.rev != image.stat.rev:  # the manifest is out of date
            self.service.folder_jobs.enqueue(image.path.parent)
        return replace(image, stat=stat, item=None)

    def _check_place(self, image: Image) -> None:
        """Raises why what is made of an image cannot be stored, if that is known."""

    def _refuse_unreadable(self, image: Image) -> None:
        if (item := self.service.images.item(image)) and "error" in item:
            raise UnreadableImage(item["error"])


class Thumb(Picture):
    """`GET /thumb?path=&v=`, `POST /thumb?path=&force=`, `DELETE /thumb?path=`"""

    is_preview, problems, route = False, IMAGES, "/thumb"

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        path, force = image_param(req), req.get_param_as_bool("force", default=False)
        image = self.service.images.find(path)
        try:
            _, before = self._read(image)
        except NotFound:
            before = None
        seconds = self.service.settings.thumb_wait
        if (force or not before) and not self._make(image, seconds, before=before, force=force):
            send_pending(req, resp, path, url(req, "/thumb", path=path))
        else:
            send_json(resp, {"status": "ready", "path": path, "url": url(req, "/thumb", path=path)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        self.service.library.locator.item(path)
        self.service.tree.delete(Path(path + THUMBNAIL))
        self.service.folder_jobs.enqueue(path.parent)
        resp.status = falcon.HTTP_204

    def _read(self, image: Image) -> tuple[bytes, Stat]:
        return read_thumbnail(self.service.tree, image.path, image.stat)

    def _check_place(self, image: Image) -> None:
        self.service.tree.check_write(Path(image.path + THUMBNAIL))

    def _is_version(self, version: str, tag: str, rev: str) -> bool:
        return version.partition("-")[0] == tag[:DIGEST_CHARS]


class Preview(Picture):
    """`GET /preview?path=&v=`: 1,600 pixels, for a screen"""

    is_preview, problems, route = True, PREVIEWS, "/preview"

    def _read(self, image: Image) -> tuple[bytes, Stat]:
        return self.service.library.previews.read(image.path, image.stat.rev)

    def _is_version(self, version: str, tag: str, rev: str) -> bool:
        return version == f"{rev}-{PREVIEW_RENDERING}"
