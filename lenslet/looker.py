"""One look at one folder: what is in it, compared with its manifest, and the manifest kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lenslet import manifest, paths, sidecar, thumbnail
from lenslet.comparison import Comparison, Look
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, Denied, LensletError, NotFound, PointerLoop
from lenslet.manifest import Dir, Facts, Manifest, Problem
from lenslet.paths import Path
from lenslet.pointers import Place, Resolver
from lenslet.storage import Listing, Stat, Storage, Tree

Stamp = tuple[int, int, int]
Leftovers = list[tuple[Tree, Path, list[str]]]  # temporary files, and where they are


@dataclass(slots=True)
class Looked:
    """A folder as one look found it: nothing is written yet."""

    place: Place
    stamp: Stamp  # taken before the listing, so that no later change is missed
    listing: Listing
    old: Manifest
    look: Look
    leftovers: Leftovers
    hidden: dict[Path, int]  # folders marked as ignored, where they lie, and their stamps

    @property
    def shown(self) -> tuple[bool, int, str | None]:
        """What its parent's manifest tells of it."""
        return bool(self.look.manifest.items), len(self.place.chain), self.place.label


class Looker:
    """Looks into the folders of a library."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        resolver: Resolver,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """`wall` tells the time in nanoseconds, as files have it."""
        self._wall = wall
        self._storage = storage
        self._page_size = settings.page_size
        self._resolver = resolver

    def stamp(self, place: Place) -> Stamp:
        """Moves when names come or go in the folder, in its target, or in what is kept of it."""
        own = self._storage.root.stamp(place.path) if self._is_pointer(place) else 0
        kept = 0
        if place.storage.overlaid:
            with contextlib.suppress(NotFound):
                kept = place.storage.state.stamp(place.folder)
        return place.storage.root.stamp(place.folder), own, kept

    def _is_pointer(self, place: Place) -> bool:
        """Whether the folder is itself a pointer, so that it has a file of its own to watch."""
        return place.pointed and self._storage.root.has_folder(place.path)

    def look(self, path: Path, facts: Mapping[str, Facts], *, retry: bool = False) -> Looked:
        """Compare the folder with its manifest; with `retry`, undecodable images are to be tried.

        Raises `NotFound`, `Denied`, `BrokenPointer`, `PointerLoop` and `StorageUnavailable`.
        """
        place = self._resolver.folder(path, fresh=True)
        stamp = self.stamp(place)
        listing = place.storage.root.listing(place.folder)
        old = manifest.load(self._storage, path) or Manifest(path)
        leftovers: Leftovers = []
        if not place.storage.overlaid:
            leftovers.append((place.storage.root, place.folder, listing.temporary))
        thumbnails = self._thumbnails(place, listing, leftovers)
        edits = self._edits(place, leftovers)
        comparison = Comparison(
            old,
            listing,
            thumbnails,
            edits,
            facts,
            lambda name: sidecar.find(place.storage, place.folder.child(name)),
            self._wall(),
            retry,
        )
        hidden: dict[Path, int] = {}
        look = comparison.look(self._dirs(place, listing, hidden), self._resolver.ignore.path)
        return Looked(place, stamp, listing, old, look, leftovers, hidden)

    def _thumbnails(self, place: Place, listing: Listing, leftovers: Leftovers) -> dict[str, Stat]:
        beside = not (self._storage.overlaid or place.pointed)
        files = dict(listing.files) if beside else {}
        for tree, kept in self._storage.kept(place.path, elsewhere=beside):
            files.update(kept.files)
            leftovers.append((tree, place.path, kept.temporary))
        return {name: stat for name, stat in files.items() if name.endswith(paths.THUMBNAIL)}

    def _edits(self, place: Place, leftovers: Leftovers) -> dict[str, Stat]:
        """Sidecars that are kept elsewhere than beside the images."""
        files: dict[str, Stat] = {}
        if place.storage.overlaid:
            for tree, kept in place.storage.kept(place.folder, elsewhere=True):
                files.update(kept.files)
                leftovers.append((tree, place.folder, kept.temporary))
        return {name: stat for name, stat in files.items() if name.endswith(paths.SIDECARS)}

    def _dirs(self, place: Place, listing: Listing, hidden: dict[Path, int]) -> list[Dir]:
        shown = []
        for name in sorted(listing.folders, key=paths.natural_key):
            child = place.path.child(name)
            if self._resolver.ignore.path(child):
                continue
            entry = self._shown(child, len(place.chain))
            if entry:
                shown.append(entry)
            else:
                with contextlib.suppress(LensletError):
                    at = place.folder.child(name)
                    hidden[at] = place.storage.root.stamp(at)
        return shown

    def _shown(self, path: Path, depth: int) -> Dir | None:
        """How a folder shows in its parent's `dirs`; None for one that is marked as ignored."""
        try:
            place = self._resolver.folder(path, fresh=True)
            if len(place.chain) > depth:
                label = {"label": place.label} if place.label else {}
                return {"name": path.name, "kind": "leaf-pointer", **label}
            leaf = place.storage.root.any_file(
                place.folder,
                lambda name: (
                    paths.is_item(name) and not self._resolver.ignore.path(path.child(name))
                ),
            )
        except NotFound:
            return None
        except (BrokenPointer, PointerLoop):
            return {"name": path.name, "kind": "leaf-pointer"}
        except LensletError:
            leaf = False
        return {"name": path.name, "kind": "leaf-real" if leaf else "branch"}

    def keep(self, looked: Looked) -> None:
        """Store the manifest if it changed, and remove what is no longer of use."""
        look, path = looked.look, looked.place.path
        for name in look.replaced:
            with contextlib.suppress(NotFound, Denied):
                thumbnail.drop(self._storage, path.child(name))
        make = looked.place.pointed
        if look.changed and not manifest.keep(
            self._storage, look.manifest, self._page_size, make=make
        ):
            reason = "cannot be written here: what Lenslet makes is kept in this host's cache"
            look.problems.append(Problem("notKept", path, reason))
        for tree, folder, names in looked.leftovers:
            with contextlib.suppress(LensletError):
                tree.sweep(folder, names)
