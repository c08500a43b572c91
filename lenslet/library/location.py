"""Where a folder's images are: follows pointer folders and refuses ignored ones."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

from lenslet import errors, paths
from lenslet.bounds import POINTER_BYTES, loads
from lenslet.config import Settings
from lenslet.errors import BadRequest, BrokenPointer, Ignored, LensletError, NotFound, PointerLoop
from lenslet.paths import FOLDER_FILES, IGNORE_MARKS, POINTERS, ROOT, Ignore, Path
from lenslet.storage import with_state
from lenslet.storage.client import Client
from lenslet.storage.local import LocalTree
from lenslet.storage.s3 import S3Tree
from lenslet.storage.tree import Tree, Trust

TARGETS = ".targets"  # in STATE_DIR: the sidecars of what pointers lead to, outside the root
LONGEST_CHAIN = 16
_LABEL_CHARACTERS = 500
_CACHED_SECONDS, _CACHED_SECONDS_S3, _CACHED_FOLDERS = 2.0, 30.0, 20_000


@dataclass(frozen=True, slots=True)
class Spot:
    """One folder in a chain of pointers, and its tree. `shown` is its name for clients."""

    tree: str
    folder: Path
    shown: str

    def holds(self, other: Spot) -> bool:
        """True if `other` is this folder or is below it."""
        mine, theirs = (
            Path(f"{spot.tree.strip('/')}/{spot.folder}".strip("/")) for spot in (self, other)
        )
        return mine.holds(theirs)

    def broken(self, reason: str) -> BrokenPointer:
        return BrokenPointer(f"{self.shown} points to {reason}.")


@dataclass(frozen=True, slots=True)
class Location:
    """A folder as the client names it, and the tree and folder that its images are in.

    Derived files are at `path` in the library's own tree; images and sidecars are at `folder` in
    `tree`.
    """

    path: Path
    tree: Tree
    folder: Path
    readonly: bool = False
    label: str | None = None
    is_pointer: bool = False  # the folder has a pointer file itself
    chain: tuple[Spot, ...] = ()  # the pointers that lead here

    @property
    def target(self) -> tuple[str, Path, bool, str | None]:
        """What a pointer decides: where the images are, whether they are readonly, the label."""
        return self.tree.name, self.folder, self.readonly, self.label

    def file(self, name: str) -> Path:
        """Returns where in `tree` the file `name` is."""
        return self.folder.child(name)


class Locator:
    """Finds the `Location` of a folder, and caches it for 2 seconds, or 30 in a bucket.

    In a bucket also as long as `trusts` says that nothing has changed since, but not behind a
    pointer, which may have been taken back.
    """

    def __init__(
        self,
        tree: Tree,
        settings: Settings,
        client: Client,
        trusts: Trust = lambda since: False,
    ) -> None:
        self._trusts = trusts
        self._ignore = Ignore(settings.ignore)
        self._tree = tree
        self._settings = settings
        self._client = client
        self._lock = threading.Lock()
        self._cached: dict[Path, tuple[float, Location]] = {}

    def folder(self, path: Path, *, fresh: bool = False) -> Location:
        """Returns the location of the folder `path`; `fresh` looks at every pointer again.

        Raises `NotFound` if it is missing or ignored, `BrokenPointer` if it, or a folder above it,
        points to something that is missing or not allowed, and `PointerLoop`.
        """
        location = Location(ROOT, self._tree, ROOT)
        for above in () if fresh else (path, *path.ancestors()):
            known = self._cached.get(above)
            if known and self._is_current(*known):
                location = known[1]
                break
        if not path and not self._tree.has_folder(ROOT):
            raise NotFound("There is no root.")
        for name in path.below(location.path).segments:
            location = self.enter(self._child(location, name))
        return location

    def _is_current(self, checked: float, location: Location) -> bool:
        age = time.monotonic() - checked
        here, there = self._tree.has_stamps, location.tree.has_stamps
        least = _CACHED_SECONDS if here and there else _CACHED_SECONDS_S3
        trusted = not (here or location.chain) and self._trusts(checked)
        return age < least or trusted

    def item(self, path: Path, *, fresh: bool = False) -> Location:
        """Returns the location of an image's folder; `NotFound` if no image can have this name."""
        if not paths.is_item(path.name):
            raise NotFound(f"There is no image {path}.")
        location = self.folder(path.parent, fresh=fresh)
        if self.ignores(location, path.name):
            raise NotFound(f"There is no image {path}.")
        return location

    def ignores(self, location: Location, name: str) -> bool:
        """True if a name in a folder is ignored, by its path here or by that behind a pointer."""
        inside = location.chain and location.tree is self._tree
        return self._ignore.path(location.path.child(name)) or (
            bool(inside) and self._ignore.path(location.file(name))
        )

    def served(self, location: Location, names: Iterable[str]) -> set[str]:
        """Returns those of a folder's names that are not ignored."""
        if self._ignore.has_globs:
            return {name for name in names if not self.ignores(location, name)}
        return {name for name in names if not self._ignore.name(name)}

    def beneath(self, path: Path) -> Location:
        """Returns a folder's location without following its own pointer, only those above it."""
        if not path:
            return Location(path, self._tree, ROOT)
        return self._child(self.folder(path.parent), path.name)

    def _child(self, parent: Location, name: str) -> Location:
        path = parent.path.child(name)
        if self.ignores(parent, name):
            raise NotFound(f"There is no folder {path}.")
        folder = parent.folder.child(name)
        return replace(parent, path=path, folder=folder, label=None, is_pointer=False)

    def enter(self, here: Location, names: Container[str] | None = None) -> Location:
        """Follows the pointer in a folder, if it has one. `names` are its files, if known.

        Raises `Ignored` for a folder with an ignore mark, `BrokenPointer` and `PointerLoop`.
        """
        checked = time.monotonic()
        try:
            location = self._enter(here, names) if here.path else here
        except LensletError:
            with self._lock:  # what is below must not be served any more either
                self._cached.pop(here.path, None)
            raise
        with self._lock:
            if len(self._cached) >= _CACHED_FOLDERS:
                self._cached.clear()
            self._cached[location.path] = (checked, location)
        return location

    def _enter(self, here: Location, names: Container[str] | None = None) -> Location:
        pointer = _read_pointer(here.tree, here.folder, names)
        return self._follow(here, pointer) if pointer else here

    def _follow(self, here: Location, pointer: dict[str, Any]) -> Location:
        where = self._spot(here.tree, here.folder)
        chain = (*here.chain, where)
        tree, folder = self._target(here, where, pointer["target"])
        there = self._spot(tree, folder)
        if len(chain) > LONGEST_CHAIN or any(map(there.holds, chain)):
            raise PointerLoop([spot.shown for spot in (*chain, there)])
        try:
            found = self._walk(Location(ROOT, tree, ROOT, chain=chain), folder)
        except NotFound as error:
            raise where.broken(f"{there.shown}, which does not exist") from error
        readonly = here.readonly or found.readonly or pointer.get("readonly") is True
        return replace(
            found, path=here.path, readonly=readonly, label=_label(pointer), is_pointer=True
        )

    def _walk(self, here: Location, folder: Path) -> Location:
        """Goes down from the top of a tree, and follows the pointers on the way."""
        if here.tree is not self._tree:
            here = self._enter(here)
        for name in folder.segments:
            here = self._enter(self._child(here, name))
        return here

    def _spot(self, tree: Tree, folder: Path) -> Spot:
        outside = "" if tree is self._tree else f"…/{os.path.basename(tree.name)}/"
        return Spot(tree.name, folder, f"{outside}{folder}".rstrip("/") or "/")

    def _target(self, here: Location, where: Spot, target: dict[str, Any]) -> tuple[Tree, Path]:
        if target["type"] == "s3":
            return self._in_bucket(where, target)
        text = target["path"]
        if not os.path.isabs(text):
            return here.tree, _relative(text, where)
        if not here.tree.has_stamps:
            raise where.broken("a folder of this host, which a pointer in a bucket cannot do")
        real = os.path.realpath(text.replace("\0", ""))
        roots = map(os.path.realpath, self._settings.pointer_roots)
        if "\0" in text or not any(os.path.commonpath((real, root)) == root for root in roots):
            raise where.broken("a folder that is not in one of POINTER_ROOTS")
        top = os.path.realpath(self._settings.root_path)
        if os.path.commonpath((real, top)) == top:
            inside = os.path.relpath(real, top)
            return self._tree, ROOT if inside == "." else Path(inside)
        # What people say of the photos is kept by target, so that all pointers to it show the same.
        state = Path(f"{TARGETS}/local{real}".rstrip("/"))
        return with_state(self._settings, LocalTree(real), state), ROOT

    def _in_bucket(self, where: Spot, target: dict[str, Any]) -> tuple[Tree, Path]:
        """Opens a target in a bucket; returns the library's own tree if the target is inside it."""
        bucket, prefix = target["bucket"], _relative(target.get("prefix", ""), where)
        if bucket not in self._settings.buckets:
            raise where.broken("a bucket that is not one of POINTER_BUCKETS")
        top = Path(self._settings.s3_prefix.rstrip("/"))
        if bucket == self._settings.s3_bucket and top.holds(prefix):
            return self._tree, prefix.below(top)
        below = f"{prefix}/".lstrip("/")
        tree = S3Tree(self._client, bucket, below, target.get("region", ""))
        state = Path(f"{TARGETS}/s3/{bucket}/{prefix}".rstrip("/"))
        return with_state(self._settings, tree, state), ROOT


def _read_pointer(tree: Tree, folder: Path, names: Container[str] | None) -> dict[str, Any] | None:
    if names is None:
        names = tree.names(folder, FOLDER_FILES)
    if any(mark in names for mark in IGNORE_MARKS):
        raise Ignored(f"There is no folder {folder}.")
    for name in POINTERS:
        if name in names:
            try:
                raw, _ = tree.read(folder.child(name), POINTER_BYTES)
            except (errors.NotRegular, errors.Conflict, errors.Denied) as error:
                raise BrokenPointer(
                    f"The pointer file in {folder} cannot be read: {error}"
                ) from error
            return _checked(raw, folder)
    return None


def _checked(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        found = loads(raw)
        target = found["target"]
        if target["type"] == "local":
            texts = [target["path"]]
        else:
            texts = [target["bucket"] or None, target.get("prefix", ""), target.get("region", "")]
        known = target["type"] in ("local", "s3") and all(isinstance(text, str) for text in texts)
        if known and (found["kind"], found["version"]) == ("pointer", 1):
            return dict(found)
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenPointer(f"The pointer file in {folder} is not valid ({error!r}).") from error
    raise BrokenPointer(f"The pointer file in {folder} is not a pointer of version 1.")


def _label(pointer: dict[str, Any]) -> str | None:
    text = pointer.get("label")
    return text[:_LABEL_CHARACTERS] if isinstance(text, str) else None


def _relative(text: str, where: Spot) -> Path:
    try:
        return paths.parse("" if text == "." else text)
    except BadRequest as error:
        raise where.broken(f"an invalid path ({error})") from error
