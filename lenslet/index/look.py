"""Looks at one folder: lists it, reads changed sidecars, compares it with its manifest."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lenslet import paths
from lenslet.errors import Denied, LensletError, NotFound, one_line
from lenslet.index.compare import (
    Plan,
    Snapshot,
    changed_sidecars,
    compare,
    sidecars_of,
)
from lenslet.index.records import Stamp
from lenslet.library import Library, manifest, sidecar
from lenslet.library.health import Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, Facts, Item, Manifest
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.storage.tree import Listing, Tree
from lenslet.times import Clock

Entry = Callable[[Path, "Dir | None"], "Dir | None"]  # how a folder shows, by path and default


@dataclass(slots=True)
class Look:
    """What a look at a folder found. Nothing is written yet.

    `listing` is of the images' folder, `kept` of the folder where derived files are. `children` are
    the subfolders, each as the manifest shows it, None if it does not.
    """

    location: Location
    stamps: tuple[Stamp, ...]
    listing: Listing
    kept: Listing
    old: Manifest
    plan: Plan
    children: dict[str, Dir | None]

    @property
    def entry(self) -> Dir:
        """How the folder shows in its parent."""
        name, location = self.location.path.name, self.location
        if location.is_pointer:
            label = {"label": location.label} if location.label else {}
            return {"name": name, "kind": "leaf-pointer", **label}
        return {"name": name, "kind": "leaf-real" if self.plan.manifest.items else "branch"}


class Looker:
    """Looks at folders, and writes what was decided."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._tree = library.tree
        self._locator = library.locator
        self._page_size = library.settings.page_size
        self._clock = clock

    def look(
        self,
        path: Path,
        facts: Mapping[str, Facts],
        entry: Entry,
        *,
        retry: bool = False,
        unless: tuple[Stamp, ...] = (),
    ) -> Look | None:
        """Compares a folder with its manifest. `entry` says how each subfolder is shown.

        `retry` tries undecodable images again. Returns None if a folder in a bucket still has the
        stamps `unless`. Raises `NotFound`, `Ignored`, `Denied`, `BrokenPointer`,
        `PointerLoop` and `StorageUnavailable`.
        """
        here = self._locator.beneath(path)
        listing, stamp = self._list(here.tree, here.folder)
        location = self._locator.enter(here, listing.files)
        stamps = [stamp]
        kept = listing
        if here.tree is not self._tree or here.folder != path:
            kept, stamp = self._list_kept(path)
            stamps.append(stamp)
        if location.is_pointer:
            listing, stamp = self._list(location.tree, location.folder)
            stamps.append(stamp)
        if not location.tree.has_stamps and tuple(stamps) == unless:
            return None
        old = manifest.load(self._tree, path) if MANIFEST in kept.files else Manifest(path)
        snapshot = self._snapshot(location, listing, kept)
        before = {each["name"]: each for each in old.dirs}
        children: dict[str, Dir | None] = {}
        for name in sorted(listing.folders, key=paths.natural_key):
            if not self._locator.ignore.path(path.child(name)):
                # A new subfolder is shown when it has been indexed, at the very first look at once.
                default = None if old.generated_at else {"name": name, "kind": "branch"}
                children[name] = entry(path.child(name), before.get(name, default))
        snapshot.dirs = list(filter(None, children.values()))
        changed = changed_sidecars(old, snapshot.sidecars)
        metas = {name: self._meta(location, name) for name in changed}
        plan = compare(old, snapshot, facts, metas, retry=retry)
        plan.problems += self._problems(location, listing, kept)
        return Look(location, tuple(stamps), listing, kept, old, plan, children)

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

    def _list_kept(self, path: Path) -> tuple[Listing, Stamp]:
        """Lists the folder of the derived files. Below a pointer it may not exist yet."""
        try:
            return self._list(self._tree, path)
        except NotFound:
            return Listing(), Stamp(self._tree, path, 0)

    def _snapshot(self, location: Location, listing: Listing, kept: Listing) -> Snapshot:
        files = listing.files
        served = self._locator.ignore.served(location.path, filter(paths.is_item, files))
        sidecars = sidecars_of(files, listing.covered)
        return Snapshot(
            images={name: files[name] for name in served},
            now_ns=self._clock.wall_ns(),
            thumbnails={
                name.removesuffix(THUMBNAIL): stat
                for name, stat in kept.files.items()
                if name.endswith(THUMBNAIL)
            },
            sidecars={name: sidecars[name] for name in sidecars.keys() & served},
        )

    def _meta(self, location: Location, name: str) -> Item:
        """Reads a sidecar into the keys of an item that describe it."""
        try:
            found = sidecar.find(location.tree, location.file(name))
        except LensletError as error:
            found = sidecar.Found(unreadable=one_line(error))
        document = found.sidecar.document if found.sidecar else {}
        meta: Item = {"hasMeta": found.sidecar is not None}
        meta.update({key: document[key] for key in ("tags", "notes") if document.get(key)})
        if found.foreign:
            meta["foreign"] = True
        if found.unreadable:
            meta["metaError"] = found.unreadable
        return meta

    def _problems(self, location: Location, listing: Listing, kept: Listing) -> Iterator[Problem]:
        """Yields names that cannot be served, and the files of images that are gone."""
        path, reason = location.path, "its image is gone"
        for name in listing.unusable:
            yield Problem("unusableNames", path.child(name), "the name cannot be part of a path")
        for name in kept.files:
            image = name.removesuffix(THUMBNAIL)
            if image != name and image not in listing.files and paths.is_item(image):
                yield Problem("orphanThumbnails", path.child(name), reason)
        for image in sidecars_of(listing.files, listing.covered):
            if image not in listing.files and paths.is_item(image):
                found = sidecar.find(location.tree, location.file(image))
                ours = {each.path.name for each in found.ours}
                for name in (image + suffix for suffix in SIDECARS):
                    if name in listing.files and (found.unreadable or name in ours):
                        yield Problem("orphanSidecars", path.child(name), reason)

    def write(self, look: Look) -> None:
        """Writes the manifest if it changed, and removes what is no longer needed.

        `Overtaken` if another host has written it since.
        """
        path, plan = look.location.path, look.plan
        for name in plan.replaced:
            with contextlib.suppress(NotFound, Denied):
                self._tree.delete(path.child(name + THUMBNAIL))
        if plan.changed:
            if look.location.chain:  # the folder of a pointer's subfolder may be missing
                self._tree.make_folder(path)
            pages = filter(manifest.is_page, look.kept.files)
            manifest.write(self._tree, plan.manifest, self._page_size, old=look.old, pages=pages)
        with contextlib.suppress(LensletError):
            self._tree.sweep(path, look.kept.leftovers)
            if look.listing is not look.kept:
                look.location.tree.sweep(look.location.folder, look.listing.leftovers)
