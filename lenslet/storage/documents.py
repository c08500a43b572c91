"""Small documents held in memory, so that asking again costs a look at the file, or nothing."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from lenslet.paths import HEALTH, Path
from lenslet.storage.tree import Stat


def is_held(path: Path) -> bool:
    """Whether a document is one of those asked for again and again: a manifest, the report."""
    name = path.name
    return name == HEALTH or (name.startswith("_index") and name.count(".") == 1)


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes, its file, and when it was last seen to be so."""

    data: bytes
    stat: Stat
    checked: float


class Documents:
    """The documents read last, within a bound of bytes; safe for threads.

    None is larger than a quarter of that.
    """

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        """At most so many bytes; each is taken as it is for `seconds` after it was checked."""
        self._most = most
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
        with self._lock:
            self._remove(path)
            if not 0 < len(data) <= self._most // 4:
                return
            self._held[path] = Document(data, stat, time.monotonic())
            self._bytes += len(data)
            while self._bytes > self._most:
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
