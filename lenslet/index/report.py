"""Keeps the health report up to date with the records of the folders."""

import logging
from typing import Any

from lenslet import times
from lenslet.index.records import Records
from lenslet.library import health
from lenslet.library.health import FolderHealth
from lenslet.paths import folder_key
from lenslet.storage.tree import Tree

log = logging.getLogger("lenslet")


class Report:
    """The health of the library: what is in its folders, and when it was looked at."""

    def __init__(self, tree: Tree, records: Records) -> None:
        self._tree = tree
        self._records = records
        self._passes: dict[str, dict[str, Any]] = {}
        self._since: health.Since = {}
        self._is_announced = False
        self._written: tuple[Any, ...] = ()  # the records' version, the orphans and the passes

    def ended(self, name: str, seconds: float, **more: int) -> None:
        """Remembers that a pass has ended; the report says when, and how long it took."""
        passed = {"at": times.text(times.now()), "seconds": round(seconds, 3), **more}
        self._passes[name] = passed

    def write(self, orphans: FolderHealth) -> None:
        """Writes the report, unless it says what it said before."""
        passes = {name: each for name, each in self._passes.items() if name != "scan"}
        news = self._records.version, orphans, passes
        if not self._is_announced:
            log.info("%s", health.summary(self.current(orphans)))
            self._is_announced = True
        if news != self._written or health.load(self._tree) is None:
            health.write(self._tree, self.current(orphans))
        self._written = news

    def current(self, orphans: FolderHealth) -> dict[str, Any]:
        """Returns the report as of now; `orphans` are the sidecars whose photo is elsewhere."""
        records = sorted(self._records.all(), key=lambda entry: folder_key(entry[0]))
        folders = (*(record.health for _, record in records), orphans)
        return health.report(folders, self._passes, self._since)
