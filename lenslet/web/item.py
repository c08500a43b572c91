"""`/item`: the tags and notes of one image."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import falcon
import orjson
from blake3 import blake3

from lenslet import paths, times
from lenslet.errors import Conflict, Invalid, LensletError, NotFound, PreconditionFailed
from lenslet.images.decoders import descriptor
from lenslet.library import sidecar
from lenslet.library.sidecar import Document, Sidecar
from lenslet.web.answers import JSON, send, send_json, status_of
from lenslet.web.images import Image
from lenslet.web.parameters import choice_param, image_param, parse_image, read_json, strings
from lenslet.web.service import Resource

MAX_PATHS = 500
_AT_ONCE = 4  # edits in a bucket, by one request
_HEAD_BYTES, _WHOLE_BYTES = 256 * 1024, 32 * 1024 * 1024


class Item(Resource):
    """`GET`, `PUT` and `DELETE /item?path=`; `GET` with `exif=full` reads all of EXIF"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        image = self.service.image(req, image_param(req))
        item = self.service.images.item(image)
        found = self.service.images.sidecars(image, item)
        if found.unreadable and not found.sidecar:
            raise Conflict(found.unreadable)
        current = self._current(image, item)
        document, tag = _merged(image, found.sidecar, current)
        if choice_param(req, "exif", ("", "full")) == "full":
            document["exif"] |= self._details(image)
        if image.location.readonly:
            resp.set_header("Allow", "GET, HEAD")  # RFC 9110, 10.2.1
        send(resp, orjson.dumps(document), JSON, tag)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        image = self.service.images.find_to_edit(image_param(req))
        item = self.service.images.item(image)
        edit = sidecar.validate(read_json(req))
        if req.context.user:
            edit["updatedBy"] = req.context.user

        def change(stored: Sidecar | None) -> Document:
            _check(req, stored)
            seen = (req.get_header("If-Match") or "*").strip() != "*"
            return sidecar.merge(stored.document if stored else None, edit, seen=seen)

        stored = self.service.images.edit(image, item, change)
        document, tag = _merged(image, stored, self._current(image, item))
        send(resp, orjson.dumps(document), JSON, tag)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = image_param(req)
        image = self.service.images.find_to_edit(path)

        def check(stored: Sidecar | None) -> None:
            if stored is None:
                raise NotFound(f"{path} has no sidecar.")
            _check(req, stored)

        self.service.images.remove_sidecar(image, check)
        resp.status = falcon.HTTP_204

    def _details(self, image: Image) -> Document:
        """Reads the EXIF of an image now."""
        has_exif_at_end = paths.format_of(image.path).has_exif_at_end
        size = _WHOLE_BYTES if has_exif_at_end else _HEAD_BYTES
        head, _ = image.location.tree.open(image.file, 0, size)
        with head, descriptor(head) as number:
            return self.service.library.decoders.details(number)

    def _current(self, image: Image, item: Document | None) -> Document:
        """Returns `exif` and `hash` from the manifest, if that describes the current file.

        Until an image has been read its width and height are 0, as in a manifest.
        """
        if item and "hash" in item:
            return sidecar.facts_of(item)
        self.service.folder_jobs.enqueue_view(image.location)
        return {"exif": {"width": 0, "height": 0}}


class Tags(Resource):
    """`POST /items/tags`: adds and removes tags of many images, and replaces notes."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = read_json(req)
        if not isinstance(body, dict):
            raise Invalid("body", "must be a JSON object")
        known = ("paths", "add", "remove", "notes")
        for name in body.keys() - {*known}:
            raise Invalid(name, "is not known: 'paths', 'add', 'remove' and 'notes' are")
        texts, add, remove = (strings(body, name) for name in known[:3])
        notes = body.get("notes", {})
        if not isinstance(notes, dict):
            raise Invalid("notes", "must be an object: the notes of each image by its path")
        images = dict.fromkeys((*texts, *notes))
        if max(len(images), len(texts)) > MAX_PATHS:
            raise Invalid("paths", f"must be at most {MAX_PATHS} paths of images")
        add = sidecar.validate({"tags": add})["tags"]
        user = {"updatedBy": req.context.user} if req.context.user else {}

        def edit(path: str) -> Document:
            if path not in texts:
                return self._result(req, path, [], [], edits[path] | user)
            return self._result(req, path, add, remove, edits[path] | user)

        edits = {p: sidecar.validate({"notes": notes[p]} if p in notes else {}) for p in images}
        is_local = self.service.tree.has_stamps  # where a folder has one writer at a time
        with ThreadPoolExecutor(1 if is_local else _AT_ONCE) as pool:
            results = list(pool.map(edit, images))
        send_json(resp, {"results": results})

    def _result(
        self, req: falcon.Request, text: str, add: list[str], remove: list[str], more: Document
    ) -> Document:
        """Edits one image; returns its tags and what changed, or an error's status and words."""
        old: list[str] = []

        def change(stored: Sidecar | None) -> Document | None:
            nonlocal old
            document: Document = stored.document if stored else {"tags": [], "notes": ""}
            old = document["tags"]
            tags = [tag for tag in dict.fromkeys((*old, *add)) if tag not in remove]
            if tags == old and more.get("notes") in (None, document["notes"]):
                return None
            edit = sidecar.validate({"tags": tags, **more})
            return sidecar.merge(stored.document if stored else None, edit)

        try:
            image = self.service.images.find_to_edit(parse_image(req, text, "paths"))
            stored = self.service.images.edit(image, self.service.images.item(image), change)
        except LensletError as found:
            error = self.service.explained(found)
            return {"path": text, "status": int(status_of(error)[:3]), "description": str(error)}
        tags = stored.document["tags"] if stored else []
        return {
            "path": image.path,
            "status": 200,
            "tags": tags,
            "added": [tag for tag in tags if tag not in old],
            "removed": [tag for tag in old if tag not in tags],
        }


def _check(req: falcon.Request, stored: Sidecar | None) -> None:
    """Raises `PreconditionFailed` unless `If-Match` and `If-None-Match` hold (RFC 9110, 13.1).

    Of an ETag only the part before the dot counts, which stands for the sidecar. If-Match asks for
    the strong comparison, which a proxy that compresses answers makes impossible: it weakens their
    ETags. Ours is a hash of the sidecar's bytes, so a weak one too stands for these bytes alone.
    """
    tag = sidecar.digest(stored.raw if stored else None)

    def fits(tags: Iterable[falcon.ETag | str]) -> bool:
        return any(
            each.partition(".")[0] == tag if isinstance(each, falcon.ETag) else stored  # `*`
            for each in tags
        )

    holds = req.get_header("If-Match") is None or fits(req.if_match or ())
    if not holds or fits(req.if_none_match or ()):
        raise PreconditionFailed(
            "If-Match or If-None-Match does not fit the stored sidecar.",
            stored.raw if stored else None,
        )


def _merged(image: Image, stored: Sidecar | None, current: Document) -> tuple[Document, str]:
    """Returns a sidecar with the facts of its image, as it is sent, and its ETag."""
    blank = {"v": 1, "tags": [], "notes": "", "updatedBy": ""}
    document = sidecar.with_facts(blank | (stored.document if stored else {}), current)
    if "updatedAt" not in document:
        document["updatedAt"] = times.of_ns(image.stat.mtime_ns)
    facts = {key: document.get(key) for key in ("exif", "hash", "updatedAt")}
    rest = blake3(orjson.dumps(facts)).hexdigest()[:12]
    return document, f"{sidecar.digest(stored.raw if stored else None)}.{rest}"
