"""Where a folder's images lie, and what a pointer file in it says."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import orjson

from lenslet.errors import BrokenPointer, Conflict, Denied, Ignored, NotFound, NotRegular
from lenslet.paths import IGNORE_MARKS, POINTERS, Path
from lenslet.storage import Storage
from lenslet.storage.tree import DOCUMENT_BYTES

_LABEL_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Spot:
    """A folder in one of the trees, so that the same folder is known again."""

    tree: str
    folder: Path
    shown: str  # without a path of the server

    def holds(self, other: Spot) -> bool:
        """Whether `other` is this folder or lies below it."""
        mine, theirs = (
            Path(f"{spot.tree.strip('/')}/{spot.folder}".strip("/")) for spot in (self, other)
        )
        return mine.holds(theirs)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder as the client names it, and the storage and folder that its images lie in.

    Derived files are kept under `path` in the library's own storage; originals and sidecars are
    at `folder` in `storage`.
    """

    path: Path
    storage: Storage
    folder: Path
    readonly: bool = False
    label: str | None = None
    chain: tuple[Spot, ...] = ()  # the pointers followed on the way

    @property
    def pointed(self) -> bool:
        return bool(self.chain)


def read_pointer(
    storage: Storage, folder: Path, names: Container[str] | None = None
) -> dict[str, Any] | None:
    """The pointer file in `folder`, checked; None when there is none.

    `names` are those of the files in it, where they are known. Raises `BrokenPointer` for one that
    cannot be used, `NotFound` for a folder that is not there, `Ignored` for one marked so.
    """
    if names is None:
        names = storage.root.which(folder, (*IGNORE_MARKS, *POINTERS))
        if not names and storage.root.remote and not storage.root.has_folder(folder):
            raise NotFound(f"There is no folder {folder}.")
    if any(mark in names for mark in IGNORE_MARKS):
        raise Ignored(f"There is no folder {folder}.")
    for name in POINTERS:
        if name in names:
            try:
                raw, _ = storage.root.read(folder.child(name), DOCUMENT_BYTES)
            except (NotRegular, Conflict, Denied) as error:
                raise BrokenPointer(f"The pointer file in {folder} cannot be read.") from error
            return _checked(raw, folder)
    return None


def _checked(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BrokenPointer(f"The pointer file in {folder} is not JSON: {error}.") from error
    if not isinstance(found, dict) or found.get("kind") != "pointer" or found.get("version") != 1:
        raise BrokenPointer(f"The pointer file in {folder} is not a pointer of version 1.")
    target = found.get("target")
    if not isinstance(target, dict) or target.get("type") not in ("local", "s3"):
        raise BrokenPointer(f"The pointer file in {folder} has no target of a known type.")
    if target["type"] == "local" and not isinstance(target.get("path"), str):
        raise BrokenPointer(f"The pointer file in {folder} names no path.")
    if target["type"] == "s3":
        texts = [target.get(key, "") for key in ("bucket", "prefix", "region")]
        if not texts[0] or not all(isinstance(text, str) for text in texts):
            raise BrokenPointer(f"The pointer file in {folder} names no bucket.")
    return found


def label(pointer: dict[str, Any]) -> str | None:
    text = pointer.get("label")
    return text[:_LABEL_CHARACTERS] if isinstance(text, str) else None
