"""Keeps search and the health report up to date with the records of the folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from lenslet import times
from lenslet.errors import LensletError, one_line
from lenslet.index.moves import Moves
from lenslet.index.record import Records
from lenslet.library import Library, health, manifest
from lenslet.paths import Path, folder_key
from lenslet.search.format import Generations
from lenslet.search.rollup import Rollup
from lenslet.times import Clock

log = logging.getLogger("lenslet")

COMPACT_SECONDS = 300.0  # at least, between two rollups
_REST = 10  # a rollup that failed is tried again after so many times what it took
_MOVES_SECONDS = 1.0  # between two steps of moving sidecars
_OVERLAP = 60.0  # a record is stored at most so many seconds after its look ended


class Known(NamedTuple):
    """What the loop knows of the library, as it is when a summary is made.

    `gone` are folders that search must learn are gone; `images_read` counts the images that were
    read. `is_complete`: every folder was looked at. `passes` say when each pass ended, and how long
    it took.
    """

    records: Records
    gone: frozenset[Path] = frozenset()
    images_read: int = 0
    is_complete: bool = False
    passes: Mapping[str, Mapping[str, Any]] = {}


class Summarized(NamedTuple):
    """What a summary asks for.

    `looks` are the folders to look at, `look_all`: all of them. `again` is in how many seconds the
    next summary is due. `named` are the gone folders that search has learned of. `moves_wait`: a
    sidecar is about to be moved. `problem` says what could not be written.
    """

    looks: frozenset[Path] = frozenset()
    look_all: bool = False
    again: float | None = None
    named: frozenset[Path] = frozenset()
    moves_wait: bool = False
    problem: str = ""


class Summary:
    """Updates, in this order, the delta, the rollup, sidecars without their photo and the report.

    Of the hosts that share a bucket, only the one that scans is the leader, which writes the rollup
    and the report. Every host adds the folders that it has indexed to the delta. Used by one thread
    at a time.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._tree = library.tree
        self._leads = library.settings.scan_seconds > 0
        self._search = SearchFiles(library, clock)
        self._moves = Moves(library, clock)
        self._since: health.Since = {}
        self._written: tuple[Any, ...] = ()  # what the last report was made of
        self._is_announced = False

    def write(self, known: Known, *, rebuild: bool = False, at_once: bool = False) -> Summarized:
        """Writes what has changed: the rollup anew, or `at_once` if it is out of date."""
        leads, done = self._leads and known.is_complete, Summarized()
        try:
            self._tree.check()
            if rebuild:
                self._search.rebuild()
            done = self._search.update(known, leads=self._leads, at_once=at_once)
        except LensletError as error:
            done = Summarized(problem=one_line(error))
        if not leads or self._is_away():
            return done
        try:  # whatever is in the way of search
            step = self._moves.step(known.records)
            self._report(known)
        except LensletError as error:
            problems = filter(None, (done.problem, one_line(error)))
            return done._replace(problem="; ".join(problems))
        moves = _MOVES_SECONDS if step.waits else None
        again = min((each for each in (done.again, moves) if each is not None), default=None)
        looks = done.looks | step.look
        return done._replace(
            looks=looks, look_all=step.look_all, again=again, moves_wait=step.waits
        )

    def _is_away(self) -> bool:
        try:
            self._tree.check()
        except LensletError:
            return True
        return False

    def report(self, known: Known) -> dict[str, Any]:
        """Returns the report as of now."""
        records = sorted(known.records.items(), key=lambda entry: folder_key(entry[0]))
        folders = (*(record.health for _, record in records), self._moves.health)
        return health.report(folders, {**known.passes, **self._search.passes}, self._since)

    def _report(self, known: Known) -> None:
        """Writes the report, unless it says what it said before."""
        if not self._is_announced:
            log.info("%s", health.summary(self.report(known)))
            self._is_announced = True
        passes = {name: each for name, each in known.passes.items() if name != "scan"}
        shown = {path: record.health for path, record in known.records.items()}
        news = shown, self._moves.health, {**passes, **self._search.passes}
        if news != self._written or health.load(self._tree) is None:
            health.write(self._tree, self.report(known))
        self._written = news


class SearchFiles:
    """The files that search reads: the rollup, and the delta of the folders that have changed."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._tree = library.tree
        self._clock = clock
        self._rollup = Rollup(library.tree, library.cache)
        self._flushed = float("-inf")  # when the delta was last compared with the records
        self._read = 0  # images that the delta knows were read
        # When the rollup was written last; None: it is to be written anew.
        self._compacted: float | None = clock()
        self._failed: tuple[float, LensletError] | None = None  # a rollup: until when it rests
        self.passes: dict[str, Mapping[str, Any]] = {}

    def rebuild(self) -> None:
        """Has the rollup written anew by the next `update`, whatever failed before."""
        self._compacted, self._failed = None, None

    def update(self, known: Known, *, leads: bool, at_once: bool) -> Summarized:
        """Names changed folders in the delta, and writes the rollup if that is due.

        `at_once`: if it is out of date.
        """
        done = self._name_changes(known, leads=leads)
        if not (leads and known.is_complete):
            return done
        has_delta = bool(self._rollup.delta.folders)
        if self._failed and self._clock() < self._failed[0] and not at_once:
            raise self._failed[1]
        if self._is_due or (at_once and has_delta):
            looks = self._compact(known)
            done = self._name_changes(known._replace(gone=frozenset()), leads=True)._replace(
                named=done.named, looks=done.looks | looks
            )
        return done._replace(again=COMPACT_SECONDS if has_delta else None)

    def _name_changes(self, known: Known, *, leads: bool) -> Summarized:
        """Names in the delta the folders whose manifest is not the one in the rollup."""
        rollup = self._rollup
        rollup.refresh()
        if leads and not (known.is_complete or rollup.exists):
            return Summarized()  # the first rollup will have everything
        began, looks = self._clock(), frozenset[Path]()
        now = {path: record for path, record in known.records.items() if record.generation}
        since = self._flushed - _OVERLAP
        changed = dict.fromkeys(known.gone, "") | {
            path: each.generation for path, each in now.items() if each.looked.at > since
        }
        if leads and known.is_complete:  # what is not among the records is not there
            changed |= _differing(now, rollup.generations)
            # Another host has found these.
            looks = frozenset(rollup.delta.folders.keys() - now.keys() - changed.keys())
        if rollup.name(changed, known.images_read - self._read):
            self._read = known.images_read
        self._flushed = began
        return Summarized(looks=looks, named=known.gone)

    @property
    def _is_due(self) -> bool:
        if self._compacted is None or not self._rollup.exists or self._rollup.is_old:
            return True
        return self._clock() - self._compacted >= COMPACT_SECONDS and self._rollup.is_due

    def _compact(self, known: Known) -> frozenset[Path]:
        """Writes the rollup; returns the folders whose manifest must be made anew for it."""
        began, missing = self._clock(), set[Path]()

        def load(folder: Path) -> manifest.Manifest:
            found = manifest.load(self._tree, folder)
            if not found.generated_at:
                missing.add(folder)
            return found

        folders = [path for path, record in known.records.items() if record.generation]
        try:
            count = self._rollup.compact(folders, load)
        except LensletError as error:
            self._failed = self._clock() + _REST * (self._clock() - began), error
            raise
        self._compacted, self._failed = self._clock(), None
        self.passes["rollup"] = passed(self._compacted - began, items=count)
        return frozenset(missing)


def passed(seconds: float, **more: int) -> Mapping[str, Any]:
    """Returns what the report says of a pass that has ended now."""
    return {"at": times.text(times.now()), "seconds": round(seconds, 3), **more}


def _differing(now: Records, known: Generations) -> Generations:
    """Returns the folders whose generation the rollup does not have, "" for those that are gone."""
    differs = {path: each.generation for path, each in now.items()}
    differs = {path: each for path, each in differs.items() if each != known.get(path)}
    return differs | dict.fromkeys(known.keys() - now.keys(), "")
