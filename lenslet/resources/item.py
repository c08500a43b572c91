"""`/item`: one image's tags and notes, edited safely."""

from __future__ import annotations

import json

import falcon
from blake3 import blake3

from lenslet import conditional, manifest, sidecar, times
from lenslet.errors import BadRequest, Conflict, Denied, NotFound, PreconditionFailed, TooLarge
from lenslet.jobs import Job, Kind
from lenslet.paths import Path
from lenslet.pointers import Place
from lenslet.resources.common import JSON, Library, image_param, send
from lenslet.sidecar import Document, Sidecar
from lenslet.storage import Stat

MAX_BODY_BYTES = 256 * 1024
_FACTS = ("width", "height", "createdAt")


class Item:
    """`GET`, `PUT` and `DELETE /item?path=`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        place, image = self._library.image(path)
        found = sidecar.find(place.storage, place.folder.child(path.name))
        if found.unreadable and not found.sidecar:
            raise Conflict(found.unreadable)
        document, tag = self._shown(path, image, found.sidecar)
        send(req, resp, json.dumps(document, ensure_ascii=False).encode(), JSON, tag)

    on_head = on_get

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        place, image = self._library.image(path)
        edit = sidecar.validate(_body(req))
        current = self._current(path, image)

        def change(stored: Sidecar | None) -> Document:
            self._check(req, stored)
            merged = sidecar.merge(stored.document if stored else None, edit)
            return _with_facts(merged, current) if "hash" in current else merged

        stored = self._edit(place, path, change)
        document, tag = self._shown(path, image, stored)
        resp.content_type, resp.cache_control = JSON, ["no-cache"]
        resp.data = json.dumps(document, ensure_ascii=False).encode()
        resp.set_header("ETag", f'"{tag}"')

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        place, _ = self._library.image(path)

        def change(stored: Sidecar | None) -> None:
            if stored is None:
                raise NotFound(f"{path} has no sidecar.")
            self._check(req, stored)

        self._edit(place, path, change)
        resp.status = falcon.HTTP_204

    def _edit(self, place: Place, path: Path, change: sidecar.Change) -> Sidecar | None:
        if place.readonly:
            raise Denied(f"{place.path} points to images that are marked readonly.")
        stored = sidecar.edit(place.storage, place.folder.child(path.name), change)
        self._library.jobs.send(Job(Kind.FOLDER, path.parent))
        if place.pointed and place.storage is self._library.storage:
            self._library.jobs.send(Job(Kind.FOLDER, place.folder))
        return stored

    def _check(self, req: falcon.Request, stored: Sidecar | None) -> None:
        tag = sidecar.digest(stored.raw if stored else None)
        match, none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
        if not conditional.write_allowed(match, none_match, tag):
            raise PreconditionFailed(
                "The stored sidecar is another than the request expects.",
                stored.raw if stored else None,
            )

    def _current(self, path: Path, image: Stat) -> Document:
        """`exif` and `hash` as the manifest knows them for the image as it is now."""
        item = manifest.find(self._library.storage, path)
        if not item or item["rev"] != image.rev or "hash" not in item:
            self._library.nudge(path.parent)
            return {"exif": {"width": 0, "height": 0}}
        exif = {"width": item["w"], "height": item["h"]}
        if "createdAt" in item:
            exif["createdAt"] = item["createdAt"]
        return {"exif": exif, "hash": item["hash"]}

    def _shown(self, path: Path, image: Stat, stored: Sidecar | None) -> tuple[Document, str]:
        """The document that is answered, and its tag."""
        blank = {"v": 1, "tags": [], "notes": "", "updatedBy": ""}
        blank["updatedAt"] = times.of_ns(image.mtime_ns)
        document = {**blank, **(stored.document if stored else {})}
        document = _with_facts(document, self._current(path, image))
        merged = json.dumps([document["exif"], document.get("hash"), document["updatedAt"]])
        rest = blake3(merged.encode()).hexdigest()[:12]
        return document, f"{sidecar.digest(stored.raw if stored else None)}.{rest}"


def _with_facts(document: Document, current: Document) -> Document:
    """A document with the image's facts of now; keys of others in its `exif` stay."""
    old = document.get("exif")
    others = {k: v for k, v in old.items() if k not in _FACTS} if isinstance(old, dict) else {}
    rest = {key: value for key, value in document.items() if key != "hash"}
    return {**rest, **current, "exif": {**others, **current["exif"]}}


def _body(req: falcon.Request) -> object:
    """The request's JSON; `TooLarge` over 256 KiB, `BadRequest` when it is not JSON."""
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise TooLarge(f"The body has more than {MAX_BODY_BYTES} bytes.")
    chunked = req.env.get("wsgi.input_terminated")  # then the server ends the body
    raw = (req.stream if chunked else req.bounded_stream).read(MAX_BODY_BYTES + 1)
    if len(raw) > MAX_BODY_BYTES:
        raise TooLarge(f"The body has more than {MAX_BODY_BYTES} bytes.")
    try:
        found: object = sidecar.loads(raw)
    except ValueError as error:
        raise BadRequest("body", f"not JSON: {error}") from error
    return found
