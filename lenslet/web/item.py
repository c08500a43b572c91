"""`/item`: the tags and notes of one image."""

from collections.abc import Iterable

import falcon
from blake3 import blake3

from lenslet import times
from lenslet.errors import BadRequest, Conflict, Denied, NotFound, PreconditionFailed, TooLarge
from lenslet.library import sidecar
from lenslet.library.sidecar import Document, Sidecar
from lenslet.web.common import JSON, Image, Resource, image_param, send

MAX_BODY_BYTES = 256 * 1024
_FACTS = ("width", "height", "createdAt")


class Item(Resource):
    """`GET`, `PUT` and `DELETE /item?path=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self.service.image(path)
        found = sidecar.find(image.location.tree, image.file)
        if found.unreadable and not found.sidecar:
            raise Conflict(found.unreadable)
        document, tag = _shown(image, found.sidecar, self._current(image))
        send(req, resp, sidecar.dumps(document), JSON, tag)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        image = self.service.image(image_param(req), fresh=True)
        edit = sidecar.validate(_body(req))
        current = self._current(image)

        def change(stored: Sidecar | None) -> Document:
            _check(req, stored)
            merged = sidecar.merge(stored.document if stored else None, edit)
            return _with_facts(merged, current) if "hash" in current else merged

        stored = self._edit(image, change)
        document, tag = _shown(image, stored, current)
        resp.content_type, resp.cache_control = JSON, ["no-cache"]
        resp.data = sidecar.dumps(document)
        resp.set_header("ETag", f'"{tag}"')

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self.service.image(path, fresh=True)

        def change(stored: Sidecar | None) -> None:
            if stored is None:
                raise NotFound(f"{path} has no sidecar.")
            _check(req, stored)

        self._edit(image, change)
        resp.status = falcon.HTTP_204

    def _edit(self, image: Image, change: sidecar.Edit) -> Sidecar | None:
        location = image.location
        if location.readonly:
            raise Denied(f"{location.path} points to images that are marked readonly.")
        stored = sidecar.edit(location.tree, image.file, change)
        self.service.tell(image.path.parent)
        if location.chain and location.tree is self.service.tree:
            self.service.tell(location.folder)
        return stored

    def _current(self, image: Image) -> Document:
        """Returns `exif` and `hash` from the manifest, if that describes the current file.

        Until an image has been read its width and height are 0, as in a manifest.
        """
        item = self.service.known(image)
        if not item or "hash" not in item:
            self.service.nudge(image.location)
            return {"exif": {"width": 0, "height": 0}}
        created = {"createdAt": item["createdAt"]} if "createdAt" in item else {}
        return {"exif": {"width": item["w"], "height": item["h"], **created}, "hash": item["hash"]}


def _check(req: falcon.Request, stored: Sidecar | None) -> None:
    """Raises `PreconditionFailed` unless `If-Match` and `If-None-Match` hold (RFC 9110, 13.1).

    Of an ETag only the part before the dot counts, which stands for the sidecar.
    """
    match, none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
    tag, holds = sidecar.digest(stored.raw if stored else None), True
    if match is not None:
        strong = [each for each in req.if_match or () if not getattr(each, "is_weak", False)]
        holds = stored is not None if match.strip() == "*" else tag in _parts(strong)
    if none_match is not None:
        tags = _parts(req.if_none_match or ())
        holds &= stored is None if none_match.strip() == "*" else tag not in tags
    if not holds:
        raise PreconditionFailed(
            "If-Match or If-None-Match does not fit the stored sidecar.",
            stored.raw if stored else None,
        )


def _parts(tags: Iterable[str]) -> list[str]:
    return [tag.partition(".")[0] for tag in tags]


def _shown(image: Image, stored: Sidecar | None, current: Document) -> tuple[Document, str]:
    """Returns the document to send, and its ETag."""
    blank = {"v": 1, "tags": [], "notes": "", "updatedBy": ""}
    document = _with_facts(blank | (stored.document if stored else {}), current)
    if "updatedAt" not in document:
        document["updatedAt"] = times.of_ns(image.stat.mtime_ns)
    merged = {key: document.get(key) for key in ("exif", "hash", "updatedAt")}
    rest = blake3(sidecar.dumps(merged)).hexdigest()[:12]
    return document, f"{sidecar.digest(stored.raw if stored else None)}.{rest}"


def _with_facts(document: Document, current: Document) -> Document:
    """Returns a document with the current facts; other keys in its `exif` are kept."""
    old = document.get("exif")
    others = {k: v for k, v in old.items() if k not in _FACTS} if isinstance(old, dict) else {}
    rest = {key: value for key, value in document.items() if key != "hash"}
    return {**rest, **current, "exif": {**others, **current["exif"]}}


def _body(req: falcon.Request) -> object:
    """Reads the request's JSON; `TooLarge` over 256 KiB, `BadRequest` if it is not JSON."""
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise TooLarge(f"The body has more than {MAX_BODY_BYTES} bytes.")
    chunked = req.env.get("wsgi.input_terminated")  # such a stream ends with the body
    raw = (req.stream if chunked else req.bounded_stream).read(MAX_BODY_BYTES + 1)
    if len(raw) > MAX_BODY_BYTES:
        raise TooLarge(f"The body has more than {MAX_BODY_BYTES} bytes.")
    try:
        found: object = sidecar.loads(raw)
    except ValueError as error:
        raise BadRequest("body", f"not JSON: {error}") from error
    return found
