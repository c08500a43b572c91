"""Manifests and other small documents that are read again and again, kept in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from lenslet.paths import HEALTH, ROLLUP_DELTA, Path
from lenslet.storage.tree import Stat


class Cached(NamedTuple):
    """A document, and when it was checked last, in seconds of the monotonic clock."""

    data: bytes
    stat: Stat
    checked: float


class DocumentCache:
    """Remembers the documents that were read last, `most` bytes of them. Safe for threads.

    A document counts as fresh for `seconds` after it was checked. None larger than a quarter of
    `most` is remembered.
    """

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        self._most = most
        self.seconds = seconds
        self._lock = threading.Lock()
        self._documents: OrderedDict[Path, Cached] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def takes(path: Path) -> bool:
        """True for the documents that are read again and again."""
        name = path.name
        return name.startswith("_index") or name in (HEALTH, ROLLUP_DELTA)

    def get(self, path: Path) -> Cached | None:
        return self._documents.get(path)

    def is_fresh(self, document: Cached) -> bool:
        return time.monotonic() - document.checked < self.seconds

    def put(self, path: Path, found: tuple[bytes, Stat] | None) -> None:
        """Remembers a document as it is now; None forgets it."""
        with self._lock:
            old = self._documents.pop(path, None)
            self._bytes -= len(old.data) if old else 0
            if found is None or not 0 < len(found[0]) <= self._most // 4:
                return
            if not found[1].settled(time.time_ns()):
                return  # it may change again unseen
            self._documents[path] = Cached(*found, time.monotonic())
            self._bytes += len(found[0])
            while self._bytes > self._most:
                _, last = self._documents.popitem(last=False)
                self._bytes -= len(last.data)
