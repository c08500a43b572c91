"""A tree whose manifests and other small shared documents are kept in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple

from lenslet.errors import NotFound
from lenslet.paths import HEALTH, ROLLUP_DELTA, Path
from lenslet.storage.tree import Change, Data, Document, Listing, Stat, Tree


def is_cached(path: Path) -> bool:
    """True for the documents that are read again and again."""
    name = path.name
    return name.startswith("_index") or name in (HEALTH, ROLLUP_DELTA)


class _Cached(NamedTuple):
    data: bytes
    stat: Stat
    checked: float


class CachedTree(Tree):
    """Shows `tree`, and remembers the documents that were requested last, `most` bytes of them.

    A document is checked again when it is requested more than `seconds` after the last check. No
    document larger than a quarter of `most` is remembered. Safe for threads.
    """

    def __init__(self, tree: Tree, most: int, seconds: float = 0.0) -> None:
        self.tree = tree
        self.has_stamps = tree.has_stamps
        self.is_shared = tree.is_shared
        self._most = most
        self.fresh_seconds = seconds
        self._lock = threading.Lock()
        self._documents: OrderedDict[Path, _Cached] = OrderedDict()
        self._bytes = 0

    def read(
        self, path: Path, limit: int | None = None, *, fresh: bool = False
    ) -> tuple[bytes, Stat]:
        if not is_cached(path):
            return self.tree.read(path, limit)
        known = self._documents.get(path)
        now = time.monotonic()
        if known and not fresh and now - known.checked < self.fresh_seconds:
            return known.data, known.stat
        try:
            found = self.tree.read_changed(path, known.stat if known else None, limit)
        except NotFound:
            self._remember(path, None)
            raise
        if found is None and known:
            found = known.data, known.stat
        if found is None:
            raise NotFound(f"There is no {path}.")
        settled = found[1].settled(time.time_ns())  # else it may change again unseen
        self._remember(path, _Cached(*found, now) if settled else None)
        return found

    def _remember(self, path: Path, document: _Cached | None) -> None:
        with self._lock:
            old = self._documents.pop(path, None)
            self._bytes -= len(old.data) if old else 0
            if document is None or not 0 < len(document.data) <= self._most // 4:
                return
            self._documents[path] = document
            self._bytes += len(document.data)
            while self._bytes > self._most:
                _, last = self._documents.popitem(last=False)
                self._bytes -= len(last.data)

    def write(
        self,
        path: Path,
        data: Data,
        *,
        image: Stat | None = None,
        make: bool = False,
        over: str | None = None,
    ) -> None:
        self.tree.write(path, data, image=image, make=make, over=over)
        self._remember(path, None)

    def update(self, paths: Sequence[Path], change: Change, *, derived: bool = False) -> None:
        self.tree.update(paths, change, derived=derived)
        for path in paths:
            self._remember(path, None)

    def delete(self, path: Path) -> None:
        self.tree.delete(path)
        self._remember(path, None)

    # Everything else is the tree's own

    @property
    def name(self) -> str:
        return self.tree.name

    def check(self) -> None:
        self.tree.check()

    def listing(self, folder: Path) -> Listing:
        return self.tree.listing(folder)

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        return self.tree.names(folder, wanted)

    def has_folder(self, path: Path) -> bool:
        return self.tree.has_folder(path)

    def stamp(self, folder: Path) -> int:
        return self.tree.stamp(folder)

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        return self.tree.open(path)

    def stat(self, path: Path) -> Stat:
        return self.tree.stat(path)

    def head(self, path: Path, size: int) -> tuple[bytes, Stat]:
        return self.tree.head(path, size)

    def read_changed(
        self, path: Path, known: Stat | None, limit: int | None = None
    ) -> tuple[bytes, Stat] | None:
        return self.tree.read_changed(path, known, limit)

    def part(self, path: Path, stat: Stat, first: int, length: int) -> BinaryIO:
        return self.tree.part(path, stat, first, length)

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        return self.tree.url(path, seconds, **answer)

    def is_spare(self, path: Path) -> bool:
        return self.tree.is_spare(path)

    def copies(self, paths: Sequence[Path]) -> list[Document]:
        return self.tree.copies(paths)

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:
        self.tree.sweep(folder, leftovers)

    def writable(self) -> bool:
        return self.tree.writable()
