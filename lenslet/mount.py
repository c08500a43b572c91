"""Whether the root is still what it was, or the empty place of a disk that went away."""

from __future__ import annotations

import logging

from lenslet.errors import LensletError, StorageUnavailable, one_line
from lenslet.paths import ROOT
from lenslet.storage import Tree

log = logging.getLogger("lenslet")


class RootWatch:
    """Knows the root's disk and the names at its top, and says when they are suddenly gone."""

    def __init__(self, root: Tree) -> None:
        self._root = root
        self._device: int | None = None
        self._names: set[str] = set()
        self.problem = ""  # why the root is not what it was

    def remember(self, names: set[str]) -> None:
        """These names stand at the root."""
        self._names = names

    def is_there(self) -> bool:
        """False while the root is unreachable or empty, or is another disk without our names."""
        try:
            self._check()
        except LensletError as error:
            if self.problem != str(error):
                log.warning("nothing is changed: %s", one_line(error))
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    def _check(self) -> None:
        if self._root.is_empty():
            raise StorageUnavailable("the root is empty: an unmounted disk?")
        device = self._root.device()
        if device == self._device:
            return
        if self._device is not None and not self._root.which(ROOT, self._names):
            raise StorageUnavailable("the root is on another disk, with nothing known on it")
        self._device = device
