"""Where a folder's images really lie: pointer files followed, ignored folders refused."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import orjson

from lenslet import paths
from lenslet.config import Settings
from lenslet.errors import (
    BadRequest,
    BrokenPointer,
    Conflict,
    Denied,
    NotFound,
    NotRegular,
    PointerLoop,
)
from lenslet.paths import IGNORE_MARKS, POINTERS, ROOT, Ignore, Path
from lenslet.storage import LocalTree, Storage
from lenslet.storage.tree import DOCUMENT_BYTES

LONGEST_CHAIN = 16
_REMEMBERED_SECONDS, _REMEMBERED_FOLDERS = 2.0, 20_000


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


def read_pointer(storage: Storage, folder: Path) -> dict[str, Any] | None:
    """The pointer file in `folder`, checked; None when there is none.

    Raises `BrokenPointer` for one that cannot be used, and `NotFound` for a folder that is not
    there or is marked as ignored.
    """
    names = storage.root.which(folder, (*IGNORE_MARKS, *POINTERS))
    if not names.isdisjoint(IGNORE_MARKS):
        raise NotFound(f"There is no folder {folder}.")
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
    if target["type"] == "s3":
        raise BrokenPointer(f"{folder} points to a bucket, which this version does not serve yet.")
    if not isinstance(target.get("path"), str):
        raise BrokenPointer(f"The pointer file in {folder} names no path.")
    return found


def label(pointer: dict[str, Any]) -> str | None:
    text = pointer.get("label")
    return text if isinstance(text, str) else None


class Resolver:
    """Turns a folder's path into its `Place`, and remembers it for two seconds."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._ignore = Ignore(settings.ignore)
        self._state_dir = settings.state_dir
        self._roots = [os.path.realpath(root) for root in settings.pointer_roots]
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[float, Place]] = {}

    @property
    def ignore(self) -> Ignore:
        return self._ignore

    def folder(self, path: Path, *, fresh: bool = False) -> Place:
        """The place of the folder `path`.

        Raises `NotFound` when it is missing or ignored, `BrokenPointer` when it, or a folder above
        it, points nowhere allowed, and `PointerLoop`.
        """
        now = time.monotonic()
        known = self._known.get(path)
        if known and known[0] > now and not fresh:
            return known[1]
        place = replace(self._walk(self._storage, path, ()), path=path)
        with self._lock:
            if len(self._known) >= _REMEMBERED_FOLDERS:
                self._known.clear()
            self._known[path] = (now + _REMEMBERED_SECONDS, place)
        return place

    def item(self, path: Path) -> Place:
        """The place of the folder that holds the image `path`; `NotFound` when it is no item."""
        if not paths.is_item(path.name) or self._ignore.path(path):
            raise NotFound(f"There is no image {path}.")
        return self.folder(path.parent)

    def _walk(self, storage: Storage, path: Path, chain: tuple[Spot, ...]) -> Place:
        here = Place(path, storage, ROOT, chain=chain)
        walked = ROOT
        for segment in path.segments:
            walked = walked.child(segment)
            if self._ignore.path(walked):
                raise NotFound(f"There is no folder {walked}.")
            here = replace(here, folder=here.folder.child(segment), label=None)
            pointer = read_pointer(here.storage, here.folder)
            if pointer:
                here = self._follow(here, pointer)
        if not path and not storage.root.has_folder(ROOT):
            raise NotFound("There is no root.")
        return here

    def _follow(self, here: Place, pointer: dict[str, Any]) -> Place:
        where = self._spot(here.storage, here.folder)
        chain = (*here.chain, where)
        storage, folder = self._target(here, where, pointer["target"]["path"])
        there = self._spot(storage, folder)
        if len(chain) > LONGEST_CHAIN or any(map(there.holds, chain)):
            raise PointerLoop([spot.shown for spot in (*chain, there)])
        try:
            found = self._walk(storage, folder, chain)
        except NotFound as error:
            raise BrokenPointer(
                f"{where.shown} points to {there.shown}, which is not there."
            ) from error
        readonly = here.readonly or found.readonly or pointer.get("readonly") is True
        return replace(found, readonly=readonly, label=label(pointer))

    def _spot(self, storage: Storage, folder: Path) -> Spot:
        tree = storage.root.name
        outside = "" if storage is self._storage else f"…/{os.path.basename(tree)}/"
        return Spot(tree, folder, f"{outside}{folder}".rstrip("/") or "/")

    def _target(self, here: Place, where: Spot, text: str) -> tuple[Storage, Path]:
        if not os.path.isabs(text):
            try:
                return here.storage, paths.parse("" if text == "." else text)
            except BadRequest as error:
                raise BrokenPointer(
                    f"{where.shown} points to a path that is not one: {error}"
                ) from error
        real = os.path.realpath(text.replace("\0", ""))
        if "\0" in text or not any(
            os.path.commonpath((real, root)) == root for root in self._roots
        ):
            raise BrokenPointer(
                f"{where.shown} points outside the root and every one of POINTER_ROOTS."
            )
        root = LocalTree(real)
        if not self._state_dir:
            return Storage(root, root), ROOT
        kept = os.path.join(here.storage.state.name, where.folder)
        return Storage(root, LocalTree(kept, private=True)), ROOT
