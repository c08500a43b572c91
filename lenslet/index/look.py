"""Looks at one folder: lists it, reads changed sidecars, compares it with its manifest."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet import paths
from lenslet.errors import Denied, Ignored, LensletError, NotFound
from lenslet.images import Facts
from lenslet.index import sidecars
from lenslet.index.compare import (
    Plan,
    Rules,
    Snapshot,
    compare,
    sidecars_of,
)
from lenslet.index.record import Stamp
from lenslet.library import Library, about, manifest, orphans
from lenslet.library.about import About
from lenslet.library.health import Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, Manifest
from lenslet.library.orphans import Orphan
from lenslet.library.sidecar import Document
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.storage.tree import Listing, Tree
from lenslet.times import Clock

_COVER = ("cover", "coverRev", "coverThumb")
_SUFFIXES = 20  # of files that are not shown, the most frequent


class Contents(NamedTuple):
    """What is in a folder.

    `listing` is of the images' folder, `derived` of the folder where derived files are.
    """

    location: Location
    stamps: tuple[Stamp, ...]
    listing: Listing
    derived: Listing


@dataclass(slots=True)
class Findings:
    """What a look at a folder found. Nothing is written yet.

    `stored` is the manifest as it is, `plan` what must be done. `children` are the subfolders,
    each as the manifest shows it, None if it does not. `orphans` are sidecars whose photo is not
    beside them. `incomplete` are images whose sidecar does not say yet which photo it belongs to.
    `young`: a sidecar may be written again without looking changed.
    """

    contents: Contents
    stored: Manifest
    plan: Plan
    children: dict[str, Dir | None]
    orphans: list[Orphan] = field(default_factory=list)
    incomplete: dict[str, Document] = field(default_factory=dict)
    young: bool = False

    @property
    def entry(self) -> Dir:
        """How the folder shows in its parent."""
        location, manifest = self.contents.location, self.plan.manifest
        kind = "leaf-real" if manifest.items else "branch"
        if location.is_pointer:
            kind = "leaf-pointer"
        title = manifest.about.get("title")
        label = {"label": title} if title else {}
        return {"name": location.path.name, "kind": kind, **label, **self._cover()}

    @property
    def newest_ns(self) -> int:
        """When the newest image was written; 0 without images."""
        files = self.contents.listing.files
        items = self.plan.manifest.items
        return max((files[item["name"]].mtime_ns for item in items), default=0)

    def _cover(self) -> Dir:
        """The chosen image or else the first, if it can be shown; or that of a subfolder."""
        manifest = self.plan.manifest
        shown = (item for item in manifest.items if "error" not in item)
        chosen = manifest.about.get("cover")
        if item := min(shown, key=lambda item: bool(item["path"] != chosen), default=None):
            found = item["path"], item["rev"], item.get("thumb")
            return {key: value for key, value in zip(_COVER, found, strict=True) if value}
        covered = (entry for entry in manifest.dirs if "cover" in entry)
        below = next(covered, {})
        return {key: below[key] for key in _COVER if key in below}


class Looker:
    """Looks at folders, and writes what was decided."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._tree = library.tree
        self._locator = library.locator
        self._page_size = library.settings.page_size
        self._rules = Rules.of(library.settings)
        self._clock = clock

    def contents(self, path: Path) -> Contents:
        """Lists a folder, after its pointers were followed.

        Raises `NotFound`, `Ignored`, `Denied`, `BrokenPointer`, `PointerLoop` and
        `StorageUnavailable`.
        """
        here = self._locator.beneath(path)
        listing, stamp = self._list(here.tree, here.folder)
        marks = {*paths.FOLDER_FILES} & {*listing.files, *listing.folders, *listing.others}
        location = self._locator.enter(here, marks)
        derived, stamps = listing, [stamp]
        if here.tree is not self._tree or here.folder != path:
            derived, stamp = self._list_derived(path)
            stamps.append(stamp)
        if location.is_pointer:
            listing, stamp = self._list(location.tree, location.folder)
            stamps.append(stamp)
        return Contents(location, tuple(stamps), listing, derived)

    def look(
        self,
        contents: Contents,
        facts: Mapping[str, Facts],
        known: Mapping[str, Dir | None],
        *,
        anew: bool = False,
        since_ns: int = 0,
    ) -> Findings:
        """Compares a folder with its manifest.

        `facts` are what reading showed, by image name. `known` says how those of the subfolders are
        shown that were indexed, None if they are not. `anew` tries undecodable images again. The
        last look was at `since_ns`.
        """
        location, listing, derived = contents.location, contents.listing, contents.derived
        path = location.path
        has_manifest = MANIFEST in derived.files
        old = manifest.load(self._tree, path) if has_manifest else Manifest(path)
        snapshot = self._snapshot(contents)
        before = {each["name"]: each for each in old.dirs}
        children: dict[str, Dir | None] = {}
        for name in sorted(listing.folders, key=paths.natural_key):
            if not self._fits(location, name):
                listing.unusable.append(name)
            elif name in known:
                children[name] = known[name]
            elif not self._locator.ignores(location, name):
                children[name] = before.get(name) or self._first_entry(path.child(name), old)
        snapshot.dirs = manifest.bounded(list(filter(None, children.values())))
        beside = sidecars.read(location, old, snapshot, facts, since_ns)
        metas = {name: each.keys for name, each in beside.items()}
        plan = compare(old, snapshot, facts, metas, self._rules, anew=anew)
        plan.problems += self._problems(contents)
        look = Findings(contents, old, plan, children)
        look.orphans = [orphan for each in beside.values() for orphan in each.apart]
        look.orphans += orphans.without_image(location, listing)
        look.incomplete = {name: each.lacking for name, each in beside.items() if each.lacking}
        look.young = any(map(snapshot.is_young, snapshot.sidecars.values()))
        return look

    def _fits(self, location: Location, name: str) -> bool:
        """True if what is in a subfolder can be reached, and be asked for."""
        here, there = location.path.child(name), location.file(name)
        return max(len(here.encode()), len(there.encode())) <= paths.LONGEST_PATH

    def _first_entry(self, child: Path, old: Manifest) -> Dir | None:
        """Returns how a new subfolder is shown.

        The first manifest of a folder shows every subfolder, until those to ignore are indexed.
        """
        if old.generated_at:
            try:
                self._locator.folder(child)
            except Ignored:
                return None
            except LensletError:
                pass  # indexing it will say what is wrong
        return {"name": child.name, "kind": "branch"}

    def stamps(self, path: Path) -> tuple[Stamp, ...]:
        """Returns the stamps of a folder that is not served; `Unsupported` in a bucket."""
        here = self._locator.beneath(path)
        return (Stamp(here.tree, here.folder, here.tree.stamp(here.folder)),)

    def _list(self, tree: Tree, folder: Path) -> tuple[Listing, Stamp]:
        """Lists a folder. The stamp is taken before, so that no later change is missed."""
        if not tree.has_stamps:
            listing = tree.listing(folder)
            return listing, Stamp(tree, folder, listing.digest())
        stamp = tree.stamp(folder)
        return tree.listing(folder), Stamp(tree, folder, stamp)

    def _list_derived(self, path: Path) -> tuple[Listing, Stamp]:
        """Lists the folder of the derived files. Below a pointer it is not in the root.

        There it is in `STATE_DIR`, or does not exist yet.
        """
        for tree in filter(None, (self._tree, self._tree.own)):
            with contextlib.suppress(NotFound):
                return self._list(tree, path)
        return Listing(), Stamp(self._tree, path, 0)

    def _snapshot(self, contents: Contents) -> Snapshot:
        location, listing = contents.location, contents.listing
        files = listing.files
        served = self._locator.served(location, filter(paths.is_item, files))
        beside = sidecars_of(files, listing.covered)
        rest = (name for name in files if name not in served and not name.endswith(THUMBNAIL))
        others = self._locator.served(location, filter(paths.unsupported, rest))
        unsupported = Counter(map(paths.unsupported, sorted(others)))
        return Snapshot(
            images={name: files[name] for name in served},
            unsupported=dict(unsupported.most_common(_SUFFIXES)),
            now_ns=self._clock.wall_ns(),
            thumbnails={
                name.removesuffix(THUMBNAIL): stat
                for name, stat in contents.derived.files.items()
                if name.endswith(THUMBNAIL)
            },
            sidecars={name: beside[name] for name in beside.keys() & served},
            about=self._about(contents, served),
        )

    def _about(self, contents: Contents, images: Container[str]) -> About:
        """Reads what people say of a folder. The label of a pointer is its title."""
        location, found = contents.location, About()
        if about.FILE in contents.listing.files:
            found = about.read(location.tree, location.folder)
        if location.label:
            found["title"] = location.label
        if (cover := found.pop("cover", "")) in images:
            found["cover"] = location.path.child(cover)
        return found

    def _problems(self, contents: Contents) -> Iterator[Problem]:
        """Yields names that cannot be served, and thumbnails of images that are gone."""
        path, listing = contents.location.path, contents.listing
        for name in listing.unusable:
            yield Problem("unusableNames", path.child(name), "the name cannot be part of a path")
        for name in (*listing.folders, *listing.others):
            if any(name.removesuffix(suffix) in listing.files for suffix in SIDECARS):
                yield Problem("unreadableSidecars", path.child(name), "not a file")
        for name in contents.derived.files:
            image = name.removesuffix(THUMBNAIL)
            if image != name and image not in listing.files and paths.is_item(image):
                yield Problem("orphanThumbnails", path.child(name), orphans.GONE)

    def write(
        self, look: Findings, reader: Mapping[str, str] | None = None, *, at_once: bool = False
    ) -> None:
        """Writes the manifest if it changed, and removes what is no longer needed.

        The manifest says which host is the `reader` of new images; `at_once` also if nothing else
        has changed. Thumbnails of images that are gone are removed from `STATE_DIR`; in the root
        they stay, and count. `Overtaken` if another host has written the manifest since.
        """
        plan, contents = look.plan, look.contents
        plan.manifest.reader = dict(reader or {})
        location = contents.location
        path = location.path
        if own := self._tree.own:
            for problem in list(plan.problems):
                if problem.kind == "orphanThumbnails":
                    with contextlib.suppress(NotFound, Denied):
                        own.delete(Path(problem.path))
                        plan.problems.remove(problem)
        for name in plan.replaced:
            with contextlib.suppress(NotFound, Denied):
                self._tree.delete(path.child(name + THUMBNAIL))
        if plan.changed or at_once:
            if location.chain:  # below a pointer, the folder to write in may not exist yet
                self._tree.make_folder(path)
            pages = filter(manifest.is_page, contents.derived.files)
            manifest.write(self._tree, plan.manifest, self._page_size, old=look.stored, pages=pages)
        with contextlib.suppress(LensletError):
            self._tree.sweep(path, contents.derived.leftovers)
            if contents.listing is not contents.derived:
                location.tree.sweep(location.folder, contents.listing.leftovers)
