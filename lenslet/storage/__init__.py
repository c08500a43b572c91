"""Where a library's files lie: originals in `root`, what Lenslet writes in `state`.

The one module that request processes and the index process share to touch files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from lenslet import paths
from lenslet.config import Settings
from lenslet.errors import Denied, Invalid, LensletError, NotFound, NotRegular, SettingError
from lenslet.paths import ROOT, Path
from lenslet.storage.local import LocalTree
from lenslet.storage.s3 import S3Tree, time_of
from lenslet.storage.store import Count, Store
from lenslet.storage.tree import DOCUMENT_BYTES, Listing, Stat, Tree

__all__ = [
    "Listing",
    "LocalTree",
    "S3Tree",
    "Stat",
    "Storage",
    "Tree",
    "check_storage",
    "open_storage",
    "root_name",
    "time_of",
]

_HEAD_BYTES = 256 * 1024  # of an object: more than any health report has
_HELD_BYTES = 8 * 1024 * 1024  # of manifests in a request process: 33 of 1,000 items
Answer = TypeVar("Answer")
Check = Callable[[bytes, Stat], bool]


@dataclass(frozen=True, slots=True)
class Storage:
    """`root` holds originals and pointers; `state` takes derived files and sidecars.

    They are one tree unless `STATE_DIR` is set. `spill`, in the host's cache, takes the derived
    files that `state` cannot keep: a folder that must not be written, a foreign file in the way.
    `store` is asked for buckets that pointers lead to. What is read in a bucket again and again is
    taken as it is for `fresh_seconds` after it was checked.
    """

    root: Tree
    state: Tree
    spill: LocalTree | None = None
    store: Store | None = None
    fresh_seconds: float = 0.0

    @property
    def overlaid(self) -> bool:
        return self.state is not self.root

    def derived(self, path: Path, good: Check) -> tuple[bytes, Stat]:
        """The derived file at `path` that passes `good`; `NotFound` when none does.

        The spill is asked first: a copy is there only while the other place cannot take it.
        """
        for tree in self._places():
            try:
                data, stat = tree.read(path)
            except (NotFound, Denied):
                continue
            if good(data, stat):
                return data, stat
        raise NotFound(f"There is no {path} yet.")

    def _places(self) -> tuple[Tree, ...]:
        if self.spill is None or self.spill.is_unused():
            return (self.state,)
        return self.spill, self.state

    def open_derived(self, path: Path) -> tuple[BinaryIO, Stat]:
        """The derived file at `path`, open for reading; the caller closes it."""
        return self._first(path, lambda tree: tree.open(path))

    def stat_derived(self, path: Path) -> Stat:
        """The derived file at `path`."""
        return self._first(path, lambda tree: tree.stat(path))

    def head_derived(self, path: Path, size: int) -> tuple[bytes, Stat]:
        """The first `size` bytes of the derived file at `path`."""
        return self._first(path, lambda tree: tree.head(path, size))

    def _first(self, path: Path, ask: Callable[[Tree], Answer]) -> Answer:
        for tree in self._places():
            try:
                return ask(tree)
            except (NotFound, Denied):
                continue
        raise NotFound(f"There is no {path} yet.")

    def keep(
        self,
        path: Path,
        data: bytes | Callable[[], Iterable[bytes]],
        *,
        ours: Check | None = None,
        image: Stat | None = None,
        make: bool = False,
        over: str | None = None,
    ) -> bool:
        """Store a derived file; False when only the spill could take it.

        A large one comes in pieces, from a function that can be asked for them again. With
        `make`, folders are made on the way.
        A file in the way that fails `ours` belongs to somebody else and is left as it is.
        """
        try:
            if ours:
                self._refuse_foreign(path, ours)
            pieces = data() if callable(data) else data
            self.state.write(path, pieces, image=image, make=make, over=over)
        except (Denied, Invalid):
            if self.spill is None:
                raise
            self.spill.write(path, data() if callable(data) else data, image=image)
            return False
        self._forget_spilt(path)
        return True

    def _refuse_foreign(self, path: Path, ours: Check) -> None:
        try:
            data, stat = self.state.head(path, _HEAD_BYTES if self.state.remote else DOCUMENT_BYTES)
        except NotRegular as error:
            raise Denied(f"{path} is no file, and is left as it is.") from error
        except NotFound:
            return
        if not ours(data, stat):
            raise Denied(f"{path} is not Lenslet's own and is left as it is.")

    def _forget_spilt(self, path: Path) -> None:
        if self.spill is not None:
            with contextlib.suppress(NotFound):
                self.spill.delete(path)

    def drop(self, path: Path) -> None:
        """Remove a derived file wherever it is kept; `NotFound` when it is nowhere.

        `Denied` when the only one is where nothing can be removed.
        """
        found, error = False, LensletError()
        for tree in (self.spill, self.state):
            try:
                if tree is not None:
                    tree.delete(path)
                    found = True
            except (NotFound, Denied) as refused:
                error = refused
        if not found:
            raise error

    def kept(self, folder: Path, *, elsewhere: bool = False) -> list[tuple[Tree, Listing]]:
        """Where Lenslet keeps files for `folder`; with `elsewhere`, only what is not the root."""
        found = []
        for tree in (self.state, self.spill):
            if tree is None or (elsewhere and tree is self.root):
                continue
            try:
                found.append((tree, tree.listing(folder)))
            except NotFound:
                continue
        return found

    def edits_allowed(self) -> bool:
        """Whether sidecars can be written anywhere at all."""
        try:
            return self.state.writable(ROOT)
        except NotFound:
            if not self.overlaid:
                raise
            return True  # it is made by the first write


def open_storage(
    settings: Settings,
    count: Count = lambda operation: None,
    *,
    fresh_seconds: float = 0.0,
) -> Storage:
    """The storage that the settings name. The root may be away for now.

    `count` hears of each request to a bucket. With `fresh_seconds`, as request processes have it,
    manifests are held in memory.
    """
    root: Tree
    store, holds = Store(settings, count), _HELD_BYTES if fresh_seconds else 0
    if settings.s3_bucket:
        root = S3Tree(store, settings.s3_bucket, settings.s3_prefix, fresh_seconds=fresh_seconds)
    else:
        root = LocalTree(settings.root_path, holds=holds)
    if settings.state_dir:
        inside = isinstance(root, LocalTree) and _is_below(settings.state_dir, root.root)
        within = root if isinstance(root, LocalTree) and inside else None
        state = LocalTree(settings.state_dir, private=True, within=within, holds=holds)
        return Storage(root, state, store=store)
    spill = LocalTree(cache_folder(settings, "derived"), private=True)
    return Storage(root, root, spill, store, fresh_seconds if root.remote else 0.0)


def _is_below(folder: str, root: str) -> bool:
    return os.path.realpath(folder).startswith(os.path.join(root, ""))


def check_storage(settings: Settings) -> None:
    """Before a start: `SettingError` when a folder that the settings name cannot be used.

    A bucket is not asked for: it may come, as a disk may.
    """
    if not settings.s3_bucket and not os.path.isdir(settings.root_path):
        raise SettingError(
            f"ROOT_PATH={settings.root_path!r} cannot be used: it takes a folder that exists"
        )
    storage = open_storage(settings)
    if storage.overlaid:
        _check_state(storage.root.name, storage.state.name, settings)


def root_name(settings: Settings) -> str:
    """What is served, as an operator knows it."""
    if settings.s3_bucket:
        return f"s3://{settings.s3_bucket}/{settings.s3_prefix}"
    return os.path.realpath(settings.root_path)


def cache_folder(settings: Settings, name: str) -> str:
    """A folder of this host's cache that belongs to this root alone, and is there.

    Where the cache cannot be written (a service without a home), it is in the temporary folder.
    """
    root = root_name(settings)
    apart = f"{settings.s3_endpoint} {root}" if settings.s3_bucket else root
    digest = hashlib.sha256(os.fsencode(apart)).hexdigest()[:16]
    own = f"lenslet-{os.getuid()}"
    for cache in (settings.cache_dir, os.path.join(tempfile.gettempdir(), own)):
        shown = os.path.basename(root.rstrip("/"))[:40]
        folder = os.path.join(cache, f"{shown}-{digest}", name)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and os.stat(cache).st_uid == os.getuid():
            return folder
    raise SettingError("no folder for the cache can be written: set XDG_CACHE_HOME")


def _check_state(root: str, state: str, settings: Settings) -> None:
    told = f"STATE_DIR={settings.state_dir!r}"
    if not settings.s3_bucket:
        common = os.path.commonpath((state, root))
        if common == state:
            raise SettingError(f"{told} holds ROOT_PATH: it takes a folder apart")
        inside = os.path.relpath(state, root).split(os.sep)
        if common == root and not any(map(paths.Ignore(settings.ignore).name, inside)):
            raise SettingError(
                f"{told} lies inside ROOT_PATH: it takes an ignored name there, such as .lenslet"
            )
    above = state
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not (os.path.isdir(above) and os.access(above, os.W_OK)):
        raise SettingError(f"{told} cannot be written")
