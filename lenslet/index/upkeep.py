"""When the library is scanned, and search and health are written. Owned by the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from lenslet.index.messages import Look
from lenslet.index.scan import Scanned, Scanner
from lenslet.index.summary import Known, Summarized, Summary, passed
from lenslet.index.walk import Walk
from lenslet.index.work import Work
from lenslet.library import Library
from lenslet.paths import ROOT
from lenslet.times import Clock

log = logging.getLogger("lenslet")

Result = TypeVar("Result")

FULL_SCAN_SECONDS = 3600.0
_REST = 100  # times what a scan took, then comes the next: after a quarter to all of SCAN_SECONDS
SUMMARY_SECONDS = 1.0  # until search and health say what changed in a folder
_FAILED_SECONDS = 30.0  # until search is tried again, if nothing changes


class Scan(NamedTuple):
    """It is time to scan; `full`: to look at all folders."""

    full: bool = False


class Summarize(NamedTuple):
    """It is time to write what search and health read; `rebuild`: the rollup anew."""

    rebuild: bool = False


class Upkeep:
    """Asks for scans and summaries, one of each at a time.

    A scan finds what changed, as often as it costs a hundredth of the time. Every hour all folders
    are looked at.
    """

    def __init__(self, library: Library, work: Work, walk: Walk, clock: Clock) -> None:
        self._seconds = library.settings.scan_seconds
        self._least = self._seconds / 4 if library.tree.has_stamps else self._seconds
        self._work = work
        self._walk = walk
        self._clock = clock
        self._scanner = Scanner(library, clock)
        self._summary = Summary(library, clock)
        self._busy = set[type]()  # kinds of work that are being done
        self._full_since, self._is_full = float("-inf"), False  # True until all is done
        self._passes: dict[str, Any] = {}
        self.summarized = Summarized()

    def known(self) -> Known:
        memory = self._walk.memory
        return Known(
            dict(memory.records),
            frozenset(memory.gone),
            memory.images_read,
            memory.is_complete,
            dict(self._passes),
        )

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._summary.report(self.known())

    def _is_busy(self, message: Scan | Summarize) -> bool:
        """True if such work is being done, so that `message` comes again later."""
        if type(message) in self._busy:
            self._work.later(message, SUMMARY_SECONDS)
            return True
        self._busy.add(type(message))
        return False

    # Scans

    def scan(self, message: Scan) -> None:
        """Has the folders found that are due; with `full`, and every hour, all of them."""
        if self._is_busy(message):
            return
        records, now = dict(self._walk.memory.records), self._clock()
        is_full = message.full or now - self._full_since > FULL_SCAN_SECONDS
        if is_full:
            self._full_since, self._is_full = now, True

        def scan() -> Scanned:
            scanned = self._scanner.scan({} if is_full else records)
            every = tuple({ROOT, *records})
            return scanned._replace(folders=every, is_full=True) if is_full else scanned

        self._work.call(lambda: _guarded(scan, Scanned))

    def scanned(self, scanned: Scanned) -> None:
        """Has the folders looked at that a scan found."""
        self._busy.discard(Scan)
        if self._seconds:
            pause = max(self._least, min(_REST * scanned.seconds, self._seconds))
            self._work.later(Scan(), pause)
        was_idle = not len(self._walk)
        for path in scanned.folders:
            self._walk.want(Look(path))
        if scanned.outage:
            return
        if self._is_full and was_idle and not scanned.is_full:
            self._is_full = False
            self._passes["full"] = passed(self._clock() - self._full_since)
        self._passes["scan"] = passed(scanned.seconds)
        self._work.later(Summarize(), SUMMARY_SECONDS)

    # Summaries

    def summarize(self, message: Summarize, *, at_once: bool = False) -> None:
        """Has search and health written."""
        if self._is_busy(message):
            return
        known, write = self.known(), self._summary.write

        def summarize() -> Summarized:
            return write(known, rebuild=message.rebuild, at_once=at_once)

        self._work.call(lambda: _guarded(summarize, Summarized))

    def wrote(self, done: Summarized) -> None:
        """Has done what a summary asks for."""
        self._busy.discard(Summarize)
        if done.problem and done.problem != self.summarized.problem:  # not after every summary
            log.warning("search or health cannot be written: %s", done.problem)
        self.summarized = done
        self._walk.memory.gone -= done.named
        for path in done.looks:
            self._walk.want(Look(path))
        if done.look_all:
            self._work.later(Scan(full=True), 0.0)
        again = _FAILED_SECONDS if done.problem else done.again
        if again is not None:
            self._work.later(Summarize(), again)

    @property
    def is_idle(self) -> bool:
        """True if neither a scan nor a summary is being done."""
        return not self._busy


def _guarded(work: Callable[[], Result], failed: Callable[[], Result]) -> Result:
    """Returns the result of work; that of `failed` if there is an error in Lenslet."""
    try:
        return work()
    except Exception:  # the outermost frame: the next scan or summary may end well
        log.exception("a scan or a summary failed")
        return failed()
