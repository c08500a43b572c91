"""Previews: images made smaller for a screen, in this host's cache."""

import contextlib
import threading

from blake3 import blake3

from lenslet.errors import NotFound
from lenslet.images import preview, rendering
from lenslet.paths import ROOT, Path
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Content, is_whole

_TRIMMED = 0.9  # the share of the limit that is left when it was passed


class Previews:
    """Previews by image, rev and long edge, at most `most` bytes; the oldest go first.

    One that was made in another way than today is not found. Safe for threads and processes.
    """

    def __init__(self, tree: LocalTree, most: int) -> None:
        self._tree = tree
        self._most = most
        self._lock = threading.Lock()
        self._bytes = float("inf")  # not known before the first write

    def read(self, item: Path, rev: str, long_edge: int) -> Content:
        """Reads the preview of this version of an image; `NotFound` if there is none."""
        data, stat = self._tree.read(_name(item, rev, long_edge))
        if not is_whole(data):
            raise NotFound(f"{item} has no preview yet.")
        return data, stat

    def write(self, item: Path, rev: str, long_edge: int, data: bytes) -> None:
        self._tree.write(_name(item, rev, long_edge), data)
        with self._lock:
            self._bytes += len(data)
            if self._bytes > self._most:
                with contextlib.suppress(NotFound):  # another process removes some too
                    self._trim()

    def _trim(self) -> None:
        """Removes the oldest previews, and files that were never finished."""
        found = self._tree.listing(ROOT)
        self._tree.sweep(ROOT, found.leftovers)
        self._bytes = sum(stat.size for stat in found.files.values())
        for name, stat in sorted(found.files.items(), key=lambda entry: entry[1].mtime_ns):
            if self._bytes <= _TRIMMED * self._most:
                return
            self._tree.delete(ROOT.child(name))
            self._bytes -= stat.size


def _name(item: Path, rev: str, long_edge: int) -> Path:
    version = f"{item}\n{rev}\n{rendering(**preview(long_edge))}"
    return Path(blake3(version.encode()).hexdigest()[:40] + ".webp")
