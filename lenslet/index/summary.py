"""Keeps search and the health report up to date with the records of the folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lenslet import times
from lenslet.errors import LensletError
from lenslet.index.moves import Moves
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.records import Record, Records
from lenslet.library import Library, health, manifest
from lenslet.library.health import FolderHealth
from lenslet.paths import Path, folder_key
from lenslet.search.rollup import Generations, Rollup
from lenslet.storage.tree import Tree
from lenslet.times import Clock

log = logging.getLogger("lenslet")

COMPACT_SECONDS = 300.0  # at least, between two rollups
_REST = 10  # a rollup that failed is tried again after so many times what it took
_OVERLAP = 60.0  # a record is stored at most so many seconds after its look ended


class Summary:
    """Updates, in this order, the delta, the rollup, sidecars without their photo and the report.

    Of the hosts that share a bucket, only the one that scans is the leader, which writes the rollup
    and the report. Every host adds the folders that it has indexed to the delta.
    """

    def __init__(
        self,
        library: Library,
        records: Records,
        report: Report,
        moves: Moves,
        search: SearchFiles,
    ) -> None:
        self._tree = library.tree
        self._records = records
        self._report = report
        self._moves = moves
        self._search = search
        self._leads = library.settings.scan_seconds > 0

    def write(self, job: Job) -> None:
        """Writes what has changed. `force` writes the rollup anew, `deep` if it is out of date."""
        if job.force:
            self._search.rebuild()
        self._tree.check()
        complete = self._leads and self._records.complete
        try:
            self._search.name_changes(leads=self._leads)
            if complete:
                self._search.compact(at_once=job.deep)
        finally:  # these go on whatever is in the way of search
            if complete:
                self._move_and_report()

    def _move_and_report(self) -> None:
        try:
            self._moves.step(self._records)
        finally:
            self._report.write(self._moves.health)

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._report.current(self._moves.health)


class SearchFiles:
    """The files that search reads: the rollup, and the delta of the folders that have changed."""

    def __init__(
        self, library: Library, queue: Queue, records: Records, report: Report, clock: Clock
    ) -> None:
        self._tree = library.tree
        self._queue = queue
        self._records = records
        self._report = report
        self._clock = clock
        self._rollup = Rollup(library.tree, library.cache)
        self._flushed = float("-inf")  # when the delta was last compared with the records
        self._read = 0  # images that the delta knows were read
        # When the rollup was written last; None: it is to be written anew.
        self._compacted: float | None = clock()
        self._failed: tuple[float, LensletError] | None = None  # a rollup: until when it rests

    def rebuild(self) -> None:
        """Has the rollup written anew by the next `compact`, whatever failed before."""
        self._compacted, self._failed = None, None

    def name_changes(self, *, leads: bool) -> None:
        """Names in the delta the folders whose manifest is not the one in the rollup."""
        rollup, complete = self._rollup, self._records.complete
        rollup.refresh()
        if leads and not (complete or rollup.exists):
            return  # the first rollup will have everything
        began, known = self._clock(), rollup.generations
        gone = self._records.gone()
        now = {path: each for path, each in self._records.all() if each.generation}
        since = self._flushed - _OVERLAP
        changed = dict.fromkeys(gone, "") | {
            path: each.generation for path, each in now.items() if each.looked.at > since
        }
        if leads and complete:  # what is not among the records is not there
            changed |= _differing(now, known)
            for path in rollup.delta.folders.keys() - now.keys() - changed.keys():
                self._queue.enqueue(Job(Kind.FOLDER, path))  # another host has found it
        read = self._records.images_read
        if rollup.name(changed, read - self._read):
            self._read = read
        self._records.search_knows(gone)
        self._flushed = began

    def compact(self, *, at_once: bool) -> None:
        """Writes the rollup, if that is due, or `at_once` if it is out of date."""
        has_delta = bool(self._rollup.delta.folders)
        if has_delta:
            self._queue.enqueue(Job(Kind.SUMMARY), COMPACT_SECONDS)
        if self._failed and self._clock() < self._failed[0] and not at_once:
            raise self._failed[1]
        if not (self._is_due or (at_once and has_delta)):
            return
        began = self._clock()
        folders = [path for path, record in self._records.all() if record.generation]
        try:
            count = self._rollup.compact(folders, self._load)
        except LensletError as error:
            self._failed = self._clock() + _REST * (self._clock() - began), error
            raise
        self._compacted, self._failed = self._clock(), None
        self._report.ended("rollup", self._compacted - began, items=count)
        self.name_changes(leads=True)

    @property
    def _is_due(self) -> bool:
        if self._compacted is None or not self._rollup.exists or self._rollup.is_old:
            return True
        return self._clock() - self._compacted >= COMPACT_SECONDS and self._rollup.is_due

    def _load(self, folder: Path) -> manifest.Manifest:
        found = manifest.load(self._tree, folder)
        if not found.generated_at:
            self._queue.enqueue(Job(Kind.FOLDER, folder))
        return found


def _differing(now: Mapping[Path, Record], known: Generations) -> Generations:
    """Returns the folders whose generation the rollup does not have, "" for those that are gone."""
    differs = {path: each.generation for path, each in now.items()}
    differs = {path: each for path, each in differs.items() if each != known.get(path)}
    return differs | dict.fromkeys(known.keys() - now.keys(), "")


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
