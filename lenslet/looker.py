"""One look at one folder: what is in it, compared with its manifest, and the manifest kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace

from lenslet import manifest, paths, sidecar, thumbnail
from lenslet.comparison import Comparison, Look
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, Denied, Ignored, LensletError, NotFound, PointerLoop
from lenslet.manifest import Dir, Facts, Manifest, Problem
from lenslet.paths import MANIFEST, Path
from lenslet.pointers import Place, Resolver, label, read_pointer
from lenslet.storage import Listing, Stat, Storage, Tree

Stamp = tuple[int, int, int]
_SECOND = 1_000_000_000
Leftovers = list[tuple[Tree, Path, list[str]]]  # temporary files, and where they are
# How the folders in a folder of a bucket show, by name; None: not at all.
Entries = dict[Path, dict[str, "Dir | None"]]


@dataclass(slots=True)
class Looked:
    """A folder as one look found it: nothing is written yet."""

    place: Place
    stamp: Stamp | None  # taken before the listing, so that no later change is missed
    listing: Listing
    old: Manifest
    look: Look
    leftovers: Leftovers = field(default_factory=list)
    hidden: dict[Path, int] = field(default_factory=dict)  # ignored folders, and their stamps
    pages: set[str] = field(default_factory=set)  # names of the manifest's pages that there are
    over: str | None = None  # in a bucket: the rev of the manifest's object, "" for none
    entry: Dir | None = None  # in a bucket: how the folder shows in the one above

    @property
    def shown(self) -> tuple[bool, int, str | None]:
        """What its parent's manifest tells of it."""
        return bool(self.look.manifest.items), len(self.place.chain), self.place.label


@dataclass(slots=True)
class Seen:
    """What one look sees of a folder before it is compared with its manifest."""

    place: Place
    stamp: Stamp
    listing: Listing
    kept: list[tuple[Tree, Listing]]  # files that Lenslet keeps elsewhere than beside the images
    edits: list[tuple[Tree, Listing]]  # sidecars that are kept elsewhere
    pointed: bool = False  # the folder is a pointer itself


class Looker:
    """Looks into the folders of a library."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        resolver: Resolver,
        wall: Callable[[], int] = time.time_ns,
        entries: Entries | None = None,
    ) -> None:
        """`wall` tells the time in nanoseconds, as files have it.

        A listing of a bucket does not tell what its folders hold: `entries` does, for those that
        were looked into.
        """
        self._wall = wall
        self._storage = storage
        self._page_size = settings.page_size
        self._resolver = resolver
        self._entries = {} if entries is None else entries

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

    # Seeing

    def _see(self, path: Path) -> Seen:
        """What is in a folder now; in a bucket, from one listing of each place."""
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
            self._resolver.forget(here.path)
            self._purge(here, listing)
            raise
        pointed = len(place.chain) > len(here.chain)
        if pointed:
            listing = place.storage.root.listing(place.folder)
        return self._seen_far(place, listing, pointed=pointed)

    def _purge(self, here: Place, listing: Listing) -> None:
        """Remove the manifests of a folder that is not served and of all below it.

        What has a manifest in a bucket is answered without being looked for.
        """
        if not here.pointed and MANIFEST in listing.files:
            for name in listing.folders:
                with contextlib.suppress(LensletError):
                    below = replace(
                        here, path=here.path.child(name), folder=here.folder.child(name)
                    )
                    self._purge(below, below.storage.root.listing(below.folder))
            manifest.drop(self._storage, here.path)

    def _seen_far(self, place: Place, listing: Listing, *, pointed: bool) -> Seen:
        seen = self._seen(place, (0, 0, 0), listing)
        seen.pointed = pointed
        listings = [listing, *(kept for _, kept in (*seen.kept, *seen.edits))]
        digests = [hash((frozenset(each.files.items()), *each.folders)) for each in listings]
        seen.stamp = hash(tuple(digests)), 0, 0
        return seen

    def _seen(self, place: Place, stamp: Stamp, listing: Listing) -> Seen:
        beside = not (self._storage.overlaid or place.pointed)
        kept = self._storage.kept(place.path, elsewhere=beside)
        overlaid = place.storage.overlaid
        edits = place.storage.kept(place.folder, elsewhere=True) if overlaid else []
        return Seen(place, stamp, listing, kept, edits)

    # Comparing

    def look(
        self,
        path: Path,
        facts: Mapping[str, Facts],
        *,
        retry: bool = False,
        unless: Stamp | None = None,
    ) -> Looked | None:
        """Compare the folder with its manifest; with `retry`, undecodable images are to be tried.

        None for a folder of a bucket whose stamp is `unless`: nothing in it has changed. Raises
        `NotFound`, `Denied`, `BrokenPointer`, `PointerLoop` and `StorageUnavailable`.
        """
        seen = self._see(path)
        place, listing = seen.place, seen.listing
        if place.storage.root.remote and seen.stamp == unless:
            return None
        over = self._over(seen)
        old = Manifest(path)
        if over != "" or any(MANIFEST in kept.files for _, kept in seen.kept):
            old = manifest.load(self._storage, path) or old
        comparison = Comparison(
            old,
            listing,
            self._thumbnails(seen),
            _named(seen.edits, paths.SIDECARS),
            facts,
            lambda name: sidecar.find(place.storage, place.folder.child(name)),
            self._wall(),
            retry,
        )
        hidden: dict[Path, int] = {}
        dirs = self._dirs(place, listing, old, hidden)
        look = comparison.look(dirs, self._resolver.ignore.path)
        self._note_source(look, old, place)
        return Looked(
            place,
            seen.stamp,
            listing,
            old,
            look,
            _leftovers(seen),
            hidden,
            self._pages(seen),
            over,
            self._entry(place, look, pointed=seen.pointed),
        )

    def refresh(
        self,
        path: Path,
        facts: Mapping[str, Facts],
        gone: Set[str] = frozenset(),
        edited: Set[str] = frozenset(),
    ) -> Looked:
        """Bring the manifest of a folder of a bucket up to date with what is known, unlisted.

        `facts` are of images that were read, `gone` are no more, and of the `edited` the sidecars
        are read again. `NotFound` when there is no manifest that this can be done to.
        """
        place = self._resolver.folder(path)
        old = manifest.load(self._storage, path)
        if old is None or (self._storage.state.remote and old.rev is None):
            raise NotFound(f"There is no manifest of {path or '/'}.")
        files = {item["name"]: manifest.stat_of(item) for item in old.items}
        for name, learnt in facts.items():
            if learnt.stat and learnt.stat.mtime_ns // _SECOND >= _seconds(files.get(name)):
                files[name] = learnt.stat
        listing = Listing({name: stat for name, stat in files.items() if name not in gone})
        sidecars = {
            name: sidecar.find(place.storage, place.folder.child(name))
            for name in {*edited, *(facts.keys() - {item["name"] for item in old.items})}
            if name in listing.files
        }
        comparison = Comparison(
            old,
            listing,
            _bound(old, facts, listing),
            {},
            facts,
            lambda name: (
                sidecars.get(name) or sidecar.find(place.storage, place.folder.child(name))
            ),
            self._wall(),
            meta_revs={item["name"]: item.get("metaRev", "") for item in old.items}
            | {name: "+".join(found.revs) for name, found in sidecars.items()},
        )
        shown = self._entries.get(path, {})
        listing.folders = list({entry["name"] for entry in old.dirs} | shown.keys())
        look = comparison.look(self._far_dirs(place, listing, old, {}), lambda path: False)
        self._note_source(look, old, place)
        over = old.rev if self._storage.state.remote else None
        pages = set(map(manifest.page_name, range(old.page_count)))
        return Looked(place, None, listing, old, look, pages=pages, over=over)

    def _made(self, seen: Seen) -> Mapping[str, Stat]:
        """The files where Lenslet keeps what it makes of a folder: beside the images, or not."""
        if not (self._storage.overlaid or seen.place.pointed):
            return seen.listing.files
        found = [listing for tree, listing in seen.kept if tree is self._storage.state]
        return found[0].files if found else {}

    def _pages(self, seen: Seen) -> set[str]:
        """The names of all pages of the folder's manifest that there are."""
        names = {*self._made(seen), *(name for _, kept in seen.kept for name in kept.files)}
        return set(filter(manifest.is_page, names))

    def _over(self, seen: Seen) -> str | None:
        """The rev of a manifest's object as the listings tell it; None for one in a file."""
        if not self._storage.state.remote:
            return None
        stat = self._made(seen).get(MANIFEST)
        return stat.etag if stat else ""

    def _note_source(self, look: Look, old: Manifest, place: Place) -> None:
        look.manifest.source = self._resolver.source(place)
        if look.manifest.source != old.source and old.generated_at:
            look.renew(old)

    def _thumbnails(self, seen: Seen) -> dict[str, Stat]:
        made = self._storage.state, Listing(dict(self._made(seen)))
        return _named([made, *seen.kept], (paths.THUMBNAIL,))

    # Folders

    def _dirs(
        self, place: Place, listing: Listing, old: Manifest, hidden: dict[Path, int]
    ) -> list[Dir]:
        if place.storage.root.remote:
            return self._far_dirs(place, listing, old, hidden)
        shown = []
        for name in sorted(listing.folders, key=paths.natural_key):
            child = place.path.child(name)
            if self._resolver.ignore.path(child):
                continue
            entry = self._shown(place, name)
            if entry:
                shown.append(entry)
            else:
                with contextlib.suppress(LensletError):
                    at = place.folder.child(name)
                    hidden[at] = place.storage.root.stamp(at)
        return shown

    def _shown(self, place: Place, name: str) -> Dir | None:
        """How a folder shows in its parent's `dirs`; None for one that is marked as ignored."""
        root, folder = place.storage.root, place.folder.child(name)
        try:
            pointer = read_pointer(place.storage, folder)
            if pointer:
                text = label(pointer)
                return {"name": name, "kind": "leaf-pointer", **({"label": text} if text else {})}
            leaf = root.any_file(
                folder,
                lambda file: (
                    paths.is_item(file)
                    and not self._resolver.ignore.path(place.path.child(name).child(file))
                ),
            )
        except NotFound:
            return None
        except BrokenPointer:
            return {"name": name, "kind": "leaf-pointer"}
        except LensletError:
            leaf = False
        return {"name": name, "kind": "leaf-real" if leaf else "branch"}

    def _far_dirs(
        self, place: Place, listing: Listing, old: Manifest, hidden: dict[Path, int]
    ) -> list[Dir]:
        """The folders of a bucket as they were found before; `branch` where they were not."""
        before = {entry["name"]: entry for entry in old.dirs}
        entries = self._entries.get(place.path, {})  # what this process itself has found
        shown = []
        for name in sorted(listing.folders, key=paths.natural_key):
            child = place.path.child(name)
            if self._resolver.ignore.path(child):
                continue
            unknown = before.get(name, {"name": name, "kind": "branch"})
            entry = entries.get(name, unknown)
            if entry:
                shown.append(entry)
            else:
                hidden[child] = 0
        return shown

    def _entry(self, place: Place, look: Look, *, pointed: bool) -> Dir | None:
        if not (place.path and place.storage.root.remote):
            return None
        text = {"label": place.label} if place.label else {}
        kind = "leaf-real" if look.manifest.items else "branch"
        if pointed:
            return {"name": place.path.name, "kind": "leaf-pointer", **text}
        return {"name": place.path.name, "kind": kind}

    # Keeping

    def keep(self, looked: Looked) -> None:
        """Store the manifest if it changed, and remove what is no longer of use.

        `Overtaken` when another host has written it meanwhile.
        """
        look, path = looked.look, looked.place.path
        for name in look.replaced:
            with contextlib.suppress(NotFound, Denied):
                thumbnail.drop(self._storage, path.child(name))
        if look.changed and not manifest.keep(
            self._storage,
            look.manifest,
            self._page_size,
            old=looked.old,
            pages=looked.pages,
            over=looked.over,
            make=looked.place.pointed,
        ):
            reason = "cannot be written here: what Lenslet makes is kept in this host's cache"
            look.problems.append(Problem("notKept", path, reason))
        for tree, folder, names in looked.leftovers:
            with contextlib.suppress(LensletError):
                tree.sweep(folder, names)


def _seconds(stat: Stat | None) -> int:
    return stat.mtime_ns // _SECOND if stat else 0


def _bound(old: Manifest, facts: Mapping[str, Facts], listing: Listing) -> dict[str, Stat]:
    """The thumbnails that there are by what the manifest and the readers of images say."""
    revs = {item["name"]: item["rev"] for item in old.items if item["hasThumb"]}
    revs |= {name: learnt.rev for name, learnt in facts.items() if not learnt.error}
    return {
        name + paths.THUMBNAIL: Stat(1, 0, etag="kept", source=rev)
        for name, rev in revs.items()
        if name in listing.files
    }


def _named(kept: list[tuple[Tree, Listing]], endings: tuple[str, ...]) -> dict[str, Stat]:
    """The files of some listings whose names end so; a later listing hides an earlier one."""
    return {
        name: stat
        for _, listing in kept
        for name, stat in listing.files.items()
        if name.endswith(endings)
    }


def _leftovers(seen: Seen) -> Leftovers:
    """Temporary files of dead writers, and where they are."""
    place = seen.place
    found: Leftovers = [(tree, place.path, kept.temporary) for tree, kept in seen.kept]
    found += [(tree, place.folder, kept.temporary) for tree, kept in seen.edits]
    if not place.storage.overlaid:
        found.append((place.storage.root, place.folder, seen.listing.temporary))
    return found
