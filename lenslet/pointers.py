"""Where a folder's images really lie: pointer files followed, ignored folders refused."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import Any

from lenslet import manifest, paths
from lenslet.config import Settings
from lenslet.errors import (
    BadRequest,
    BrokenPointer,
    NotFound,
    PointerLoop,
)
from lenslet.paths import ROOT, Ignore, Path
from lenslet.places import Place, Spot, label, read_pointer
from lenslet.storage import Listing, LocalTree, S3Tree, Storage, Tree

LONGEST_CHAIN = 16
_REMEMBERED_SECONDS, _REMEMBERED_SECONDS_FAR, _REMEMBERED_FOLDERS = 2.0, 30.0, 20_000


class Resolver:
    """Turns a folder's path into its `Place`, and remembers it: for two seconds, in a bucket 30."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._ignore = Ignore(settings.ignore)
        self._state_dir = settings.state_dir
        self._roots = [os.path.realpath(root) for root in settings.pointer_roots]
        self._buckets = {*settings.pointer_buckets, *filter(None, [settings.s3_bucket])}
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
        place = None if fresh else self._told(path) or self._further(path)
        if place is None:
            place = replace(self._walk(self._storage, path, ()), path=path)
        self._remember(place)
        return place

    def _further(self, path: Path) -> Place | None:
        """A folder of a bucket below a local pointer, from the one above, which is known."""
        if not path or not self._buckets or self._storage.root.remote:
            return None
        here = self.below(path)
        if not here.storage.root.remote:
            return None
        if read_pointer(here.storage, here.folder):
            return None
        return here

    def _remember(self, place: Place) -> None:
        far = place.storage.root.remote or self._storage.root.remote
        until = time.monotonic() + (_REMEMBERED_SECONDS_FAR if far else _REMEMBERED_SECONDS)
        with self._lock:
            if len(self._known) >= _REMEMBERED_FOLDERS:
                self._known.clear()
            self._known[place.path] = (until, place)

    def forget(self, path: Path) -> None:
        """A folder is not served any more; what lay below it is to be looked for anew."""
        with self._lock:
            self._known = {p: known for p, known in self._known.items() if not path.holds(p)}

    def item(self, path: Path) -> Place:
        """The place of the folder that holds the image `path`; `NotFound` when it is no item."""
        if not paths.is_item(path.name) or self._ignore.path(path):
            raise NotFound(f"There is no image {path}.")
        return self.folder(path.parent)

    def below(self, path: Path) -> Place:
        """Where a folder lies by what is known of the one above it, its own pointer left out."""
        if not path:
            return Place(path, self._storage, ROOT)
        self._refuse_ignored(path)
        above = self.folder(path.parent)
        return replace(above, path=path, folder=above.folder.child(path.name), label=None)

    def entered(self, here: Place, listing: Listing) -> Place:
        """The place that a folder's pointer leads to, if its listing has one, or `here`.

        Raises `Ignored` for a folder that is marked so, `BrokenPointer` and `PointerLoop`.
        """
        place = here
        if here.path and read_pointer(here.storage, here.folder, listing.files):
            # From the top, so that no loop is missed: what a manifest tells has a short memory.
            place = replace(self._walk(self._storage, here.path, ()), path=here.path)
        self._remember(place)
        return place

    def _refuse_ignored(self, path: Path) -> None:
        if self._ignore.path(path):
            raise NotFound(f"There is no folder {path}.")

    def _told(self, path: Path) -> Place | None:
        """The place that a manifest tells of, so that nothing else need be asked for.

        The index process removes the manifest of a folder that is hidden or points nowhere.
        """
        if not self._storage.root.remote:
            return None
        for folder in (path, *path.ancestors()):
            if folder:
                self._refuse_ignored(folder)
        try:
            source = manifest.source(self._storage, path)
        except NotFound:
            return None
        return self._sourced(path, source) if source else Place(path, self._storage, path)

    def _sourced(self, path: Path, source: dict[str, Any]) -> Place | None:
        """The place that a manifest's `source` names; None when it cannot be trusted."""
        try:
            folder, at = paths.parse(source["folder"]), paths.parse(source["at"])
            storage = self._storage
            if "bucket" in source:
                names = source["bucket"], source["prefix"], source["region"]
                storage = self._in_bucket(at, *names)
        except (BadRequest, BrokenPointer, KeyError, TypeError, AttributeError):
            return None
        where = self._spot(self._storage, at)
        readonly = source.get("readonly") is True
        return Place(path, storage, folder, readonly, source.get("label"), (where,))

    def source(self, place: Place) -> dict[str, Any] | None:
        """What a manifest tells of a place, for `_told`; None where it need not."""
        root = place.storage.root
        if not (place.pointed and self._storage.root.remote):
            return None
        found: dict[str, Any] = {"folder": place.folder, "at": place.chain[-1].folder}
        if isinstance(root, S3Tree) and place.storage is not self._storage:
            found |= {"bucket": root.bucket, "prefix": root.prefix, "region": root.region}
            found["at"] = self._kept_at(place.storage, ROOT) if self._state_dir else found["at"]
        if place.readonly:
            found["readonly"] = True
        return {**found, "label": place.label} if place.label else found

    def _walk(self, storage: Storage, path: Path, chain: tuple[Spot, ...]) -> Place:
        here = Place(path, storage, ROOT, chain=chain)
        walked = ROOT
        for segment in path.segments:
            walked = walked.child(segment)
            self._refuse_ignored(walked)
            here = replace(here, folder=here.folder.child(segment), label=None)
            pointer = read_pointer(here.storage, here.folder)
            if pointer:
                here = self._follow(here, pointer)
        if not path and not here.storage.root.has_folder(ROOT):
            raise NotFound("There is no root.")
        return here

    def _follow(self, here: Place, pointer: dict[str, Any]) -> Place:
        where = self._spot(here.storage, here.folder)
        chain = (*here.chain, where)
        storage, folder = self._target(here, where, pointer["target"])
        there = self._spot(storage, folder)
        if len(chain) > LONGEST_CHAIN or any(map(there.holds, chain)):
            raise PointerLoop([spot.shown for spot in (*chain, there)])
        try:
            found = self._walk(storage, folder, chain)
            if not folder:
                found = self._entered(found)
        except NotFound as error:
            raise BrokenPointer(
                f"{where.shown} points to {there.shown}, which is not there."
            ) from error
        readonly = here.readonly or found.readonly or pointer.get("readonly") is True
        return replace(found, readonly=readonly, label=label(pointer))

    def _entered(self, here: Place) -> Place:
        """The top of another tree, or where a pointer in it leads."""
        pointer = read_pointer(here.storage, ROOT)
        if pointer:
            return self._follow(here, pointer)
        if here.storage.root.remote and here.storage.root.is_empty():
            raise NotFound("There is nothing.")
        return here

    def _spot(self, storage: Storage, folder: Path) -> Spot:
        tree = storage.root.name
        outside = "" if storage is self._storage else f"…/{os.path.basename(tree)}/"
        return Spot(tree, folder, f"{outside}{folder}".rstrip("/") or "/")

    def _target(self, here: Place, where: Spot, target: dict[str, Any]) -> tuple[Storage, Path]:
        if target["type"] == "s3":
            return self._in_any_bucket(here, where, target)
        text = target["path"]
        if not os.path.isabs(text):
            return here.storage, _relative(text, where)
        if here.storage.root.remote:
            raise BrokenPointer(f"{where.shown} points from a bucket to a folder of a host.")
        real = os.path.realpath(text.replace("\0", ""))
        if "\0" in text or not any(
            os.path.commonpath((real, root)) == root for root in self._roots
        ):
            raise BrokenPointer(
                f"{where.shown} points outside the root and every one of POINTER_ROOTS."
            )
        return self._beside(LocalTree(real), self._kept_at(here.storage, where.folder)), ROOT

    def _in_any_bucket(
        self, here: Place, where: Spot, target: dict[str, Any]
    ) -> tuple[Storage, Path]:
        """The target in a bucket: in the root itself where it lies there."""
        bucket, prefix = target["bucket"], _relative(target.get("prefix", ""), where)
        root = self._storage.root
        if isinstance(root, S3Tree) and root.bucket == bucket:
            top = Path(root.prefix.rstrip("/"))
            if top.holds(prefix):
                return self._storage, prefix.below(top)
        at = self._kept_at(here.storage, where.folder)
        return self._in_bucket(at, bucket, prefix, target.get("region", "")), ROOT

    def _kept_at(self, storage: Storage, folder: Path) -> Path:
        """Where in `STATE_DIR` the sidecars stand that belong to a pointer's other tree."""
        if storage is self._storage or not self._state_dir:
            return folder
        within = os.path.relpath(storage.state.name, self._storage.state.name)
        return Path(f"{within}/{folder}" if folder else within)

    def _in_bucket(self, at: Path, bucket: str, prefix: str, region: str) -> Storage:
        """The storage of a pointer at the folder `at` to a prefix of an allowed bucket."""
        if bucket not in self._buckets:
            raise BrokenPointer(f"{at} points to a bucket that is not one of POINTER_BUCKETS.")
        assert self._storage.store is not None
        begins = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        return self._beside(S3Tree(self._storage.store, bucket, begins, region), at)

    def _beside(self, root: Tree, at: Path) -> Storage:
        """The storage of another tree's images, to which a pointer at the folder `at` leads."""
        store = self._storage.store
        if not self._state_dir:
            return Storage(root, root, store=store)
        kept = os.path.join(self._storage.state.name, at)
        return Storage(root, LocalTree(kept, private=True), store=store)


def _relative(text: str, where: Spot) -> Path:
    try:
        return paths.parse("" if text == "." else text)
    except BadRequest as error:
        raise BrokenPointer(f"{where.shown} points to a path that is not one: {error}") from error
