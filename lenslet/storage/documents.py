"""Small documents of a bucket held in memory, so that asking again costs a condition or nothing."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from lenslet.paths import Path
from lenslet.storage.tree import Stat

_HELD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes, its file, and when the store said last that it is so."""

    data: bytes
    stat: Stat
    checked: float


class Documents:
    """The documents asked for last, within a bound of bytes; safe for threads."""

    def __init__(self, seconds: float) -> None:
        """A document is taken as it is for `seconds` after it was checked."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._held: OrderedDict[Path, Document] = OrderedDict()
        self._bytes = 0

    def get(self, path: Path) -> tuple[Document | None, bool]:
        """What is held of a document, and whether it need not be checked."""
        document = self._held.get(path)
        fresh = document is not None and time.monotonic() - document.checked < self._seconds
        return document, fresh

    def put(self, path: Path, data: bytes, stat: Stat) -> None:
        """This is what the store has now."""
        if len(data) > _HELD_BYTES // 4:
            return
        with self._lock:
            self._remove(path)
            self._held[path] = Document(data, stat, time.monotonic())
            self._bytes += len(data)
            while self._bytes > _HELD_BYTES:
                self._remove(next(iter(self._held)))

    def confirm(self, path: Path) -> None:
        """The store has still what is held."""
        with self._lock:
            if document := self._held.get(path):
                self._held[path] = replace(document, checked=time.monotonic())
                self._held.move_to_end(path)

    def drop(self, path: Path) -> None:
        """The store has something else now, or nothing."""
        with self._lock:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        document = self._held.pop(path, None)
        if document:
            self._bytes -= len(document.data)
