"""`/item`: the tags and notes of one image."""

from __future__ import annotations

import falcon
from blake3 import blake3

from lenslet import images, times
from lenslet.errors import (
    BadRequest,
    Conflict,
    Denied,
    NotFound,
    PreconditionFailed,
    TooLarge,
    UnreadableImage,
)
from lenslet.library import sidecar
from lenslet.library.sidecar import Document, Sidecar
from lenslet.web import conditional
from lenslet.web.common import HEAD_BYTES, JSON, Image, Service, image_param, send

MAX_BODY_BYTES = 256 * 1024
_FACTS = ("width", "height", "createdAt")


class Item:
    """`GET`, `PUT` and `DELETE /item?path=`"""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self._service.image(path)
        found = sidecar.find(image.location.tree, image.file)
        if found.unreadable and not found.sidecar:
            raise Conflict(found.unreadable)
        document, tag = _shown(image, found.sidecar, self._current(image))
        send(req, resp, sidecar.dumps(document), JSON, tag)

    on_head = on_get

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        image = self._service.image(image_param(req), fresh=True)
        edit = sidecar.validate(_body(req))
        current = self._current(image)

        def change(stored: Sidecar | None) -> Document:
            self._check(req, stored)
            merged = sidecar.merge(stored.document if stored else None, edit)
            return _with_facts(merged, current) if "hash" in current else merged

        stored = self._edit(image, change)
        document, tag = _shown(image, stored, current)
        resp.content_type, resp.cache_control = JSON, ["no-cache"]
        resp.data = sidecar.dumps(document)
        resp.set_header("ETag", f'"{tag}"')

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self._service.image(path, fresh=True)

        def change(stored: Sidecar | None) -> None:
            if stored is None:
                raise NotFound(f"{path} has no sidecar.")
            self._check(req, stored)

        self._edit(image, change)
        resp.status = falcon.HTTP_204

    def _edit(self, image: Image, change: sidecar.Edit) -> Sidecar | None:
        location = image.location
        if location.readonly:
            raise Denied(f"{location.path} points to images that are marked readonly.")
        stored = sidecar.edit(location.tree, image.file, change)
        self._service.tell(image.path.parent)
        if location.chain and location.tree is self._service.tree:
            self._service.tell(location.folder)
        return stored

    def _check(self, req: falcon.Request, stored: Sidecar | None) -> None:
        tag = sidecar.digest(stored.raw if stored else None)
        match, none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
        if not conditional.write_allowed(match, none_match, tag):
            raise PreconditionFailed(
                "If-Match or If-None-Match does not fit the stored sidecar.",
                stored.raw if stored else None,
            )

    def _current(self, image: Image) -> Document:
        """Returns `exif` and `hash` from the manifest, if that describes the current file.

        Otherwise what the first bytes of the file show.
        """
        item = self._service.known(image)
        if not item or "hash" not in item:
            self._service.nudge(image.location)
            return {"exif": _exif(*self._probed(image))}
        return {"exif": _exif(item["w"], item["h"], item.get("createdAt")), "hash": item["hash"]}

    def _probed(self, image: Image) -> tuple[int, int, str | None]:
        try:
            head = image.head or image.location.tree.head(image.file, HEAD_BYTES)[0]
            facts = images.probe(head)
        except (UnreadableImage, Denied):
            return 0, 0, None
        return facts.width, facts.height, facts.created_at


def _shown(image: Image, stored: Sidecar | None, current: Document) -> tuple[Document, str]:
    """Returns the document to send, and its tag."""
    blank = {"v": 1, "tags": [], "notes": "", "updatedBy": ""}
    document = _with_facts(blank | (stored.document if stored else {}), current)
    if "updatedAt" not in document:
        document["updatedAt"] = times.of_ns(image.stat.mtime_ns)
    merged = {key: document.get(key) for key in ("exif", "hash", "updatedAt")}
    rest = blake3(sidecar.dumps(merged)).hexdigest()[:12]
    return document, f"{sidecar.digest(stored.raw if stored else None)}.{rest}"


def _exif(width: int, height: int, created_at: str | None) -> Document:
    return {"width": width, "height": height, **({"createdAt": created_at} if created_at else {})}


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
    chunked = req.env.get("wsgi.input_terminated")  # then gunicorn ends the body
    raw = (req.stream if chunked else req.bounded_stream).read(MAX_BODY_BYTES + 1)
    if len(raw) > MAX_BODY_BYTES:
        raise TooLarge(f"The body has more than {MAX_BODY_BYTES} bytes.")
    try:
        found: object = sidecar.loads(raw)
    except ValueError as error:
        raise BadRequest("body", f"not JSON: {error}") from error
    return found
