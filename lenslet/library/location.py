"""Where a folder's images are: follows pointer folders and refuses ignored ones."""

from __future__ import annotations

import contextlib
import time
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from lenslet import paths
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, LensletError, NotFound, PointerLoop
from lenslet.library import manifest
from lenslet.library.pointer import Targets, read_pointer
from lenslet.paths import ROOT, Ignore, Path
from lenslet.storage.tree import Buckets, Tree

LONGEST_CHAIN = 16
_CACHED_SECONDS, _CACHED_SECONDS_S3, _CACHED_FOLDERS = 2.0, 30.0, 20_000


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
    chain: tuple[Path, ...] = ()  # the places of the pointers that lead here

    @property
    def place(self) -> Path:
        """Where the images are, the same for all locations that have them there."""
        return Path(f"{self.tree.name.strip('/')}/{self.folder}".strip("/"))

    @property
    def target(self) -> tuple[str, Path, bool, str | None]:
        """What a pointer decides: where the images are, whether they are readonly, the label."""
        return self.tree.name, self.folder, self.readonly, self.label

    @property
    def room(self) -> int:
        """How many bytes the name of an image or a folder in this folder may have."""
        longest = max(len(self.path.encode()), len(self.folder.encode()))
        return min(paths.LONGEST_NAME, paths.LONGEST_PATH - longest - 1)

    def file(self, name: str) -> Path:
        """Returns where in `tree` the file `name` is."""
        return self.folder.child(name)


class Locator:
    """Finds the `Location` of a folder, and caches it for 2 seconds, or 30 in a bucket."""

    def __init__(self, tree: Tree, settings: Settings, buckets: Buckets | None) -> None:
        self._ignore = Ignore(settings.ignore)
        self._tree = tree
        self._targets = Targets(tree, settings, buckets)
        self._cached: dict[Path, tuple[float, Location]] = {}  # each operation on it is atomic

    def folder(self, path: Path, *, fresh: bool = False) -> Location:
        """Returns the location of the folder `path`; `fresh` looks at every pointer again.

        Raises `NotFound` if it is missing or ignored, `BrokenPointer` if it, or a folder above it,
        points to something that is missing or not allowed, and `PointerLoop`.
        """
        location = Location(ROOT, self._tree, ROOT)
        for above in () if fresh else (path, *path.ancestors()):
            until, known = self._cached.get(above, (0.0, location))
            if time.monotonic() < until:
                location = known
                break
        for name in path.below(location.path).segments:
            location = self.enter(self._child(location, name))
        return location

    def item(self, path: Path, *, fresh: bool = False) -> Location:
        """Returns the location of an image's folder; `NotFound` if no image can have this name."""
        if paths.is_item(path.name):
            location = self.folder(path.parent, fresh=fresh)
            if not self.ignores(location, path.name):
                return location
        raise NotFound(f"There is no image {path}.")

    def written(self, path: Path) -> Path:
        """Returns a path as its names are written where they are.

        A Mac may write an accent as a character of its own (NFD), people type it with its letter
        (NFC): a name that is not there is looked for in both forms. Without either it stays.
        """
        found = ROOT
        for name in path.segments:
            forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
            different = dict.fromkeys(map(found.child, forms))
            there = filter(self._exists, different) if len(different) > 1 else iter(different)
            if (here := next(there, None)) is None:
                return path
            found = here
        return found

    def _exists(self, path: Path) -> bool:
        """True if there is an image or a folder; also if that cannot be known."""
        try:
            location = self.folder(path.parent)
            if not paths.is_item(path.name):
                return bool(self.folder(path))
            if not location.tree.has_stamps and manifest.find(self._tree, path):
                return True  # without a request
            return bool(location.tree.names(location.folder, [path.name]))
        except NotFound:
            return False
        except LensletError:
            return True

    def ignores(self, location: Location, name: str) -> bool:
        """True if a name in a folder is ignored, by its path here or by that behind a pointer."""
        inside = location.chain and location.tree is self._tree
        return self._ignore.path(location.path.child(name)) or (
            bool(inside) and self._ignore.path(location.file(name))
        )

    def served(self, location: Location, names: Iterable[str]) -> set[str]:
        """Returns those of a folder's names that are not ignored."""
        return {name for name in names if not self.ignores(location, name)}

    def beneath(self, path: Path, *, fresh: bool = False) -> Location:
        """Returns a folder's location without following its own pointer, only those above it."""
        if not path:
            return Location(path, self._tree, ROOT)
        return self._child(self.folder(path.parent, fresh=fresh), path.name)

    def gone(self, path: Path) -> Location:
        """Returns where a folder that is gone was, by what is above it; `NotFound` if ignored."""
        with contextlib.suppress(NotFound):
            return self.beneath(path)
        return self._child(self.gone(path.parent), path.name)

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
            location = self._followed(here, names)
        except LensletError:
            self._cached.pop(here.path, None)  # what is below must not be served any more either
            raise
        is_local = self._tree.has_stamps and location.tree.has_stamps
        until = checked + (_CACHED_SECONDS if is_local else _CACHED_SECONDS_S3)
        if len(self._cached) >= _CACHED_FOLDERS:
            self._cached.clear()
        self._cached[location.path] = (until, location)
        return location

    def _followed(self, here: Location, names: Container[str] | None = None) -> Location:
        """Returns the location of the target, if the folder `here` is a pointer, or `here`.

        From the top of the target's tree it goes down as everywhere, so it also follows the
        pointers on the way. The root itself is never a pointer.
        """
        if here.tree is self._tree and not here.folder:
            return here
        pointer = read_pointer(here.tree, here.folder, names)
        if not pointer:
            return here
        try:
            tree, folder = self._targets.open(here.tree, pointer["target"])
        except BrokenPointer as error:
            raise self._broken(here, str(error)) from error
        there, chain = Location(ROOT, tree, folder).place, (*here.chain, here.place)
        if len(chain) > LONGEST_CHAIN or any(map(there.holds, chain)):
            raise PointerLoop([self._shown(place) for place in (*chain, there)])
        try:
            found = self._followed(Location(ROOT, tree, ROOT, chain=chain))
            for name in folder.segments:
                found = self._followed(self._child(found, name))
        except NotFound as error:
            raise self._broken(here, f"{self._shown(there)}, which does not exist") from error
        readonly, label = pointer.get("readonly") is True, pointer["label"]
        readonly = readonly or here.readonly or found.readonly
        return replace(found, path=here.path, readonly=readonly, label=label, is_pointer=True)

    def _broken(self, here: Location, target: str) -> BrokenPointer:
        return BrokenPointer(f"{self._shown(here.place)} points to {target}.")

    def _shown(self, place: Path) -> str:
        """Returns the name of a place for clients: of one outside the library the last segment."""
        own = Location(ROOT, self._tree, ROOT).place
        return (place.below(own) or "/") if own.holds(place) else f"…/{place.name}"
