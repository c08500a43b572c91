"""What the service has to say of a user's files: a model without files, images or time."""

from __future__ import annotations

import itertools
import json
from typing import Any

from conftest import BROKEN_JPEG, draw, encode

# Names in natural order, as manifests have them.
NAMES = ("a b.webp", "img2.jpg", "Img3.PNG", "img10.jpg", "zoë.jpeg")
FOLDERS = ("d2", "D10", "x y", "zoë")
TAGS = ("sea", "sunny", "mountains")  # no two sets of them have sidecars of the same size
QUERIES = ("name:.", ".webp", "img2", "IMG", "zoe", *(f"tag:{tag}" for tag in TAGS))
MARK, POINTER = ".nomedia", ".lenslet.folder.json"
FOREIGN = b'{"title": "IMG_2", "description": "JSON of another program"}'

_SIZES = ((8, 6), (6, 8), (9, 5))
_KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_DRAWN = {kind: [encode(draw(*size), kind) for size in _SIZES] for kind in set(_KINDS.values())}
_SIZE_OF = {
    data: size for all_of in _DRAWN.values() for data, size in zip(all_of, _SIZES, strict=True)
}
_NUMBER_BYTES, _numbers = 4, itertools.count()


class Gone(Exception):
    """A folder is not there, or is ignored."""


class Broken(Exception):
    """A pointer leads nowhere (403), or back to where it comes from (508)."""


def image(name: str, number: int) -> bytes:
    """One of four images for a file of this name; the last cannot be decoded.

    No two have the same bytes: whose notes are whose is not the matter of this model.
    """
    drawn = [*_DRAWN[_KINDS[name.rpartition(".")[2].lower()]], BROKEN_JPEG][number]
    return drawn + next(_numbers).to_bytes(_NUMBER_BYTES, "big")


def written(data: bytes) -> Any:
    """What the user wrote in a file: in a sidecar, all but what the service adds of the photo."""
    if not data.startswith(b"{"):
        return data
    told = {"notes": "", **json.loads(data)}
    return {key: value for key, value in told.items() if key not in ("hash", "exif")}


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def holds(folder: str, path: str) -> bool:
    """Whether `path` is a folder or lies below it."""
    return not folder or path == folder or path.startswith(f"{folder}/")


def matches(query: str, path: str, item: dict[str, Any]) -> bool:
    """Whether an item is what one of `QUERIES` asks for."""
    kind, _, text = query.rpartition(":")
    if kind == "tag":
        return text in item["tags"]
    plain = path.casefold().replace("ë", "e")
    return text.casefold() in (plain.rpartition("/")[2] if kind == "name" else plain)


def few(item: dict[str, Any]) -> dict[str, Any]:
    """Of an item of a manifest, what `Model.item` tells too."""
    told = {key: item[key] for key in ("name", "w", "h", "hasThumb", "hasMeta")}
    return {**told, "error": "error" in item, "tags": item.get("tags", [])}


class Model:
    """A user's files by path, and folders."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders = {""}

    def rename(self, old: str, new: str) -> None:
        def moved(path: str) -> str:
            return new + path[len(old) :] if holds(old, path) else path

        self.folders = set(map(moved, self.folders))
        self.files = {moved(path): data for path, data in self.files.items()}

    def place(self, path: str, chain: tuple[str, ...] = ()) -> str:
        """Where the images of a folder lie, the pointers on the way followed."""
        here = ""
        for name in filter(None, path.split("/")):
            here = join(here, name)
            if here not in self.folders or join(here, MARK) in self.files:
                raise Gone
            if pointer := self.files.get(join(here, POINTER)):
                target = json.loads(pointer)["target"]["path"]
                chain = (*chain, here)
                if len(chain) > 16 or any(holds(target, spot) for spot in chain):
                    raise Broken(508)
                try:
                    here = self.place(target, chain)
                except Gone:
                    raise Broken(403) from None
        return here

    def status(self, path: str) -> int:
        """The status of an answer that is about a folder."""
        try:
            self.place(path)
        except Gone:
            return 404
        except Broken as error:
            return int(error.args[0])
        return 200

    def served(self) -> dict[str, str | None]:
        """Where the images of each folder lie that shows; None for a pointer that is broken."""
        found, waiting = {"": ""}, [""]
        for folder in waiting:
            for path in (join(folder, name) for name in FOLDERS):
                if join(found[folder], path.rpartition("/")[2]) not in self.folders:
                    continue
                if (status := self.status(path)) == 200:
                    found[path] = self.place(path)
                    waiting.append(path)
                elif status != 404:
                    found[path] = None
        return found

    def images(self, place: str) -> list[str]:
        return [name for name in NAMES if join(place, name) in self.files]

    def dirs(self, folder: str, served: dict[str, str | None]) -> dict[str, str]:
        """How the folders in a folder show, in order."""
        found = {}
        for path, place in served.items():
            if path and folder in served and parent(path) == folder:
                name = path.rpartition("/")[2]
                pointed = join(join(served[folder], name), POINTER) in self.files
                real = "leaf-real" if place is not None and self.images(place) else "branch"
                found[name] = "leaf-pointer" if pointed else real
        return found

    def sidecar(self, path: str) -> str:
        """The file that tells of an image, or will once it is edited."""
        own, usual = f"{path}.lenslet.json", f"{path}.json"
        return own if own in self.files or self.files.get(usual) == FOREIGN else usual

    def items(self, place: str | None) -> list[dict[str, Any]]:
        """What a manifest says of the images in a folder; nothing of one that is not there."""
        return [] if place is None else [self.item(place, name) for name in self.images(place)]

    def item(self, place: str, name: str) -> dict[str, Any]:
        """What a manifest says of an image, in a few words."""
        path = join(place, name)
        size, meta = (
            _SIZE_OF.get(self.files[path][:-_NUMBER_BYTES]),
            self.files.get(self.sidecar(path)),
        )
        good, (width, height) = size is not None, size or (0, 0)
        tags = json.loads(meta)["tags"] if meta else []
        return {"name": name, "w": width, "h": height, "hasThumb": good, "error": not good,
                "hasMeta": meta is not None, "tags": tags}  # fmt: skip
