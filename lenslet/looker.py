"""One look at one folder: what is in it, compared with its manifest, and the manifest kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial

from lenslet import manifest, paths, sidecar, thumbnail
from lenslet.comparison import Comparison, Look
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, Denied, LensletError, NotFound
from lenslet.manifest import Dir, Facts, Item, Manifest, Problem
from lenslet.paths import MANIFEST, Path
from lenslet.places import Place, label, read_pointer
from lenslet.pointers import Resolver
from lenslet.sidecar import Found
from lenslet.sight import Seen, Sight, Stamp
from lenslet.storage import Listing, Stat, Storage, Tree

_SECOND = 1_000_000_000
Leftovers = list[tuple[Tree, Path, list[str]]]  # temporary files, and where they are
Told = Mapping[str, "Dir | None"]  # how folders of a bucket show by now; None: not at all


@dataclass(slots=True)
class Looked:
    """A folder as one look found it: nothing is written yet."""

    place: Place
    stamp: Stamp | None  # None: nothing was listed
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
        self._sight = Sight(storage, resolver)

    def stamp(self, place: Place) -> Stamp:
        """Moves when names come or go in a local folder, or in what is kept of it."""
        return self._sight.stamp(place)

    def forget(self, path: Path) -> None:
        """A folder is gone: nothing that tells of it stays."""
        self._sight.forget(path)

    def rev_of(self, path: Path, name: str) -> str:
        """What an image of a folder is now; nothing when it is not there."""
        try:
            place = self._resolver.folder(path)
            return place.storage.root.stat(place.folder.child(name)).rev
        except NotFound:
            return ""

    def look(
        self,
        path: Path,
        facts: Mapping[str, Facts],
        *,
        told: Told | None = None,
        retry: bool = False,
        unless: Stamp | None = None,
    ) -> Looked | None:
        """Compare the folder with its manifest; with `retry`, undecodable images are to be tried.

        A listing of a bucket does not tell how its folders show: `told` does, else the manifest.
        None for a folder of a bucket whose stamp is `unless`: nothing in it has changed. Raises
        `NotFound`, `Denied`, `BrokenPointer`, `PointerLoop` and `StorageUnavailable`.
        """
        seen = self._sight.see(path)
        place, listing = seen.place, seen.listing
        if place.storage.root.remote and seen.stamp == unless:
            return None
        loaded = manifest.load(self._storage, path) if seen.has_manifest else None
        old = loaded or Manifest(path)
        comparison = Comparison(
            old,
            listing,
            seen.thumbnails,
            seen.sidecars,
            facts,
            partial(self._find, place),
            self._wall(),
            retry,
        )
        found = Looked(place, seen.stamp, listing, old, Look(old), seen.leftovers)
        dirs, hidden = self._dirs_of(found, told or {})
        found.look = comparison.look(dirs, self._resolver.ignore.served)
        self._note_rest(found, hidden)
        found.pages, found.over = seen.pages, self._over(seen)
        found.entry = self._entry(found, pointed=seen.pointed)
        return found

    def _over(self, seen: Seen) -> str | None:
        """The rev of a manifest's object by the listing; None for one in a file."""
        if not self._storage.state.remote:
            return None
        return seen.made[MANIFEST].etag if MANIFEST in seen.made else ""

    def _find(self, place: Place, name: str) -> Found:
        return sidecar.find(place.storage, place.folder.child(name))

    def refresh(
        self,
        path: Path,
        facts: Mapping[str, Facts],
        gone: Set[str] = frozenset(),
        edited: Set[str] = frozenset(),
        told: Told | None = None,
    ) -> Looked:
        """Bring the manifest of a folder of a bucket up to date with what is known, unlisted.

        `facts` are of images that were read, `gone` are no more, of the `edited` the sidecars
        are read again, and `told` is how some folders show now. `NotFound` when there is no
        manifest that this can be done to.
        """
        place = self._resolver.folder(path)
        old = manifest.load(self._storage, path)
        whole = old and old.generated_at
        if not old or not whole or (self._storage.state.remote and old.rev is None):
            raise NotFound(f"There is no manifest of {path or '/'}.")
        before = {item["name"]: item for item in old.items}
        listing = Listing(_files(before, facts, gone))
        asked = (edited | (facts.keys() - before.keys())) & listing.files.keys()
        sidecars = {name: self._find(place, name) for name in asked}
        revs = {name: item.get("metaRev", "") for name, item in before.items()}
        revs |= {name: "+".join(found.revs) for name, found in sidecars.items()}
        bound = _bound(before, facts, listing)

        def find(name: str) -> Found:
            return sidecars.get(name) or self._find(place, name)

        comparison = Comparison(old, listing, bound, {}, facts, find, self._wall(), meta_revs=revs)
        names = {*(entry["name"] for entry in old.dirs), *old.hidden, *(told or {})}
        dirs, hidden = self._far_dirs(place, list(names), old, told or {})
        look = comparison.look(dirs, lambda folder, names: set(names))
        pages = set(map(manifest.page_name, range(old.page_count)))
        over = old.rev if self._storage.state.remote else None
        found = Looked(place, None, listing, old, look, pages=pages, over=over)
        self._note_rest(found, hidden)
        return found

    def _note_rest(self, found: Looked, hidden: list[str]) -> None:
        """What a manifest tells beside items and folders, to those who ask for nothing else."""
        now, old = found.look.manifest, found.old
        now.source, now.hidden = self._resolver.source(found.place), hidden
        if (now.source, now.hidden) != (old.source, old.hidden) and not found.look.changed:
            found.look.renew(old)

    # Folders

    def _dirs_of(self, found: Looked, told: Told) -> tuple[list[Dir], list[str]]:
        """How the folders in a folder show, and which do not."""
        place, listing = found.place, found.listing
        if place.storage.root.remote:
            return self._far_dirs(place, listing.folders, found.old, told)
        return self._dirs(place, listing, found.hidden), []

    def _dirs(self, place: Place, listing: Listing, hidden: dict[Path, int]) -> list[Dir]:
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
        self, place: Place, names: list[str], old: Manifest, told: Told
    ) -> tuple[list[Dir], list[str]]:
        """How the folders of a bucket show, and which of them do not.

        As is told by now, or as the manifest has it; `branch` before they were looked into.
        """
        before: dict[str, Dir | None] = {entry["name"]: entry for entry in old.dirs}
        before |= dict.fromkeys(old.hidden)
        shown, hidden = [], []
        for name in sorted(names, key=paths.natural_key):
            if self._resolver.ignore.path(place.path.child(name)):
                continue
            entry = told[name] if name in told else before.get(name, _branch(name))
            if entry:
                shown.append(entry)
            else:
                hidden.append(name)
        return shown, hidden

    def _entry(self, found: Looked, *, pointed: bool) -> Dir | None:
        place = found.place
        if not (place.path and place.storage.root.remote):
            return None
        text = {"label": place.label} if place.label else {}
        kind = "leaf-real" if found.look.manifest.items else "branch"
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


def _branch(name: str) -> Dir:
    return {"name": name, "kind": "branch"}


def _seconds(stat: Stat | None) -> int:
    return stat.mtime_ns // _SECOND if stat else 0


def _files(
    before: Mapping[str, Item], facts: Mapping[str, Facts], gone: Set[str]
) -> dict[str, Stat]:
    """The images of a folder by what its manifest and the readers of images say.

    What was read from an object older than the manifest's is no news.
    """
    files = {name: manifest.stat_of(item) for name, item in before.items()}
    for name, learnt in facts.items():
        if learnt.stat and _seconds(learnt.stat) >= _seconds(files.get(name)):
            files[name] = learnt.stat
    return {name: stat for name, stat in files.items() if name not in gone or name in facts}


def _bound(
    before: Mapping[str, Item], facts: Mapping[str, Facts], listing: Listing
) -> dict[str, Stat]:
    """The thumbnails that there are, by the same."""
    revs = {name: item["rev"] for name, item in before.items() if item["hasThumb"]}
    revs |= {name: learnt.rev for name, learnt in facts.items() if not learnt.error}
    return {
        name + paths.THUMBNAIL: Stat(1, 0, etag="kept", source=rev)
        for name, rev in revs.items()
        if name in listing.files
    }
