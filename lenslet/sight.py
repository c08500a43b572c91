"""What a folder holds at this moment: its place, its listing, and what Lenslet keeps of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from lenslet import manifest, paths
from lenslet.errors import BrokenPointer, Ignored, NotFound, PointerLoop
from lenslet.paths import MANIFEST, Path
from lenslet.places import Place
from lenslet.pointers import Resolver
from lenslet.storage import Listing, Stat, Storage, Tree

Stamp = tuple[int, int, int]
Kept = list[tuple[Tree, Listing]]


@dataclass(slots=True)
class Seen:
    """What one look sees of a folder before it is compared with its manifest."""

    place: Place
    stamp: Stamp  # taken before the listing, so that no later change is missed
    listing: Listing
    made: Mapping[str, Stat]  # the files where Lenslet keeps what it makes of the folder
    kept: Kept  # listings of where else it keeps that
    edits: Kept  # listings of where sidecars are kept apart from the images
    pointed: bool = False  # the folder is a pointer itself

    @property
    def thumbnails(self) -> dict[str, Stat]:
        """Thumbnails by the names of their files; those kept elsewhere hide the others."""
        files = dict(self.made)
        for _, listing in self.kept:
            files |= listing.files
        return {name: stat for name, stat in files.items() if name.endswith(paths.THUMBNAIL)}

    @property
    def sidecars(self) -> dict[str, Stat]:
        """Sidecars that are kept apart from the images, by the names of their files."""
        return {
            name: stat
            for _, listing in self.edits
            for name, stat in listing.files.items()
            if name.endswith(paths.SIDECARS)
        }

    @property
    def pages(self) -> set[str]:
        """The names of all pages of the folder's manifest that there are."""
        names = {*self.made, *(name for _, kept in self.kept for name in kept.files)}
        return set(filter(manifest.is_page, names))

    @property
    def has_manifest(self) -> bool:
        """Whether there may be a manifest."""
        return any(MANIFEST in files for files in (self.made, *(k.files for _, k in self.kept)))

    @property
    def leftovers(self) -> list[tuple[Tree, Path, list[str]]]:
        """Temporary files of dead writers, and where they are."""
        place = self.place
        found = [(tree, place.path, kept.temporary) for tree, kept in self.kept]
        found += [(tree, place.folder, kept.temporary) for tree, kept in self.edits]
        if not place.storage.overlaid:
            found.append((place.storage.root, place.folder, self.listing.temporary))
        return found


class Sight:
    """Sees folders as they are now."""

    def __init__(self, storage: Storage, resolver: Resolver) -> None:
        self._storage = storage
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

    def see(self, path: Path) -> Seen:
        """What is in a folder now; in a bucket, from one listing of each place.

        Raises `NotFound`, `Denied`, `BrokenPointer`, `PointerLoop` and `StorageUnavailable`.
        """
        here = self._resolver.below(path)
        if here.storage.root.remote:
            return self._see_far(here)
        place = self._resolver.folder(path, fresh=True)
        if place.storage.root.remote:
            listing = place.storage.root.listing(place.folder)
            return self._seen_far(place, listing, pointed=True)
        stamp = self.stamp(place)
        return self._seen(place, stamp, place.storage.root.listing(place.folder))

    def _see_far(self, here: Place) -> Seen:
        listing = here.storage.root.listing(here.folder)
        try:
            place = self._resolver.entered(here, listing)
        except (Ignored, BrokenPointer, PointerLoop):
            self.forget(here.path)
            raise
        pointed = len(place.chain) > len(here.chain)
        if pointed:
            listing = place.storage.root.listing(place.folder)
        return self._seen_far(place, listing, pointed=pointed)

    def forget(self, path: Path) -> None:
        """A folder is not served any more: remove the manifests of it and of all below it.

        What has a manifest in a bucket is answered without being looked for.
        """
        self._resolver.forget(path)
        if self._storage.root.remote:
            self._purge(path)

    def _purge(self, path: Path) -> None:
        for _, listing in self._storage.kept(path):
            if MANIFEST in listing.files:
                for name in listing.folders:
                    self._purge(path.child(name))
                manifest.drop(self._storage, path)

    def _seen_far(self, place: Place, listing: Listing, *, pointed: bool) -> Seen:
        """In a bucket only the listing itself tells whether it has changed."""
        seen = self._seen(place, (0, 0, 0), listing)
        seen.pointed = pointed
        listings = [listing, *(kept for _, kept in (*seen.kept, *seen.edits))]
        digests = [hash((frozenset(each.files.items()), *each.folders)) for each in listings]
        seen.stamp = hash(tuple(digests)), 0, 0
        return seen

    def _seen(self, place: Place, stamp: Stamp, listing: Listing) -> Seen:
        beside = not (self._storage.overlaid or place.pointed)
        kept = self._storage.kept(place.path, elsewhere=beside)
        made = [listing.files] if beside else []
        made += [each.files for tree, each in kept if tree is self._storage.state]
        overlaid = place.storage.overlaid
        edits = place.storage.kept(place.folder, elsewhere=True) if overlaid else []
        return Seen(place, stamp, listing, made[0] if made else {}, kept, edits)
