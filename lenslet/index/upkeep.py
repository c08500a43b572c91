"""When the library is scanned, and search and health are written. Owned by the loop."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from lenslet.index.messages import Look
from lenslet.index.scan import Scanned, find_due
from lenslet.index.summary import Known, Summarized, Summary, passed
from lenslet.index.walk import Walk
from lenslet.index.work import Message, Work
from lenslet.library import Library
from lenslet.times import Clock

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0
_REST = 100  # times what a scan took, then comes the next: after a quarter to all of SCAN_SECONDS
SUMMARY_SECONDS = 1.0  # until search and health say what changed in a folder
_FAILED_SECONDS = 30.0  # until search is tried again, if nothing changes


class Scan(NamedTuple):
    """It is time to scan; `full`: to look at all folders."""

    full: bool = False


class Summarize(NamedTuple):
    """It is time to write what search and health read.

    `rebuild`: the rollup anew; `at_once`: the rollup, if it is out of date.
    """

    rebuild: bool = False
    at_once: bool = False


class Upkeep:
    """Asks for scans and summaries, one of each at a time.

    A scan finds what changed, as often as it costs a hundredth of the time. Every hour all folders
    are looked at.
    """

    def __init__(self, library: Library, work: Work, walk: Walk, clock: Clock) -> None:
        self._library = library
        self._seconds = library.settings.scan_seconds
        self._least = self._seconds / 4 if library.tree.has_stamps else self._seconds
        self._work = work
        self._walk = walk
        self._clock = clock
        self._summary = Summary(library, clock)
        self._busy = set[type]()  # kinds of work that are being done
        self._looked_at_all = float("-inf")
        self._passes: dict[str, Any] = {}
        self.summarized = Summarized()

    def known(self) -> Known:
        memory = self._walk.memory
        records, gone = dict(memory.records), frozenset(memory.gone)
        passes = dict(self._passes)
        return Known(records, gone, memory.images_read, memory.is_complete, passes)

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._summary.report(self.known())

    @property
    def is_idle(self) -> bool:
        """True if neither a scan nor a summary is being done."""
        return not self._busy

    def _begin(self, message: Scan | Summarize, work: Callable[[], Message]) -> None:
        """Has such work done; while some is being done, the message comes again later."""
        if type(message) in self._busy:
            self._work.later(message, SUMMARY_SECONDS)
            return
        self._busy.add(type(message))
        failed = Scanned() if isinstance(message, Scan) else Summarized()
        self._work.call(functools.partial(_guarded, work, failed))

    def scan(self, message: Scan) -> None:
        """Has the folders found that are due. With `full`, and every hour, all of them are."""
        records, now = dict(self._walk.memory.records), self._clock()
        full = message.full or now - self._looked_at_all > FULL_SCAN_SECONDS

        def scan() -> Scanned:
            found = find_due(self._library, records, now, full=full)
            return found._replace(seconds=self._clock() - now)

        self._begin(message, scan)

    def scanned(self, scanned: Scanned) -> None:
        """Has the folders looked at that a scan found."""
        self._busy.discard(Scan)
        if self._seconds:
            pause = max(self._least, min(_REST * scanned.seconds, self._seconds))
            self._work.later(Scan(), pause)
        for path in scanned.folders:
            self._walk.want(Look(path))
        if scanned.full:
            self._looked_at_all = self._clock()
        if not scanned.outage:
            self._passes["scan"] = passed(scanned.seconds)
            self._work.later(Summarize(), SUMMARY_SECONDS)

    def summarize(self, message: Summarize) -> None:
        """Has search and health written."""
        self._begin(message, functools.partial(self._summary.write, self.known(), *message))

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


def _guarded(work: Callable[[], Message], failed: Message) -> Message:
    """Returns the result of work; `failed` if there is an error in Lenslet."""
    try:
        return work()
    except Exception:  # the outermost frame: the next scan or summary may end well
        log.exception("a scan or a summary failed")
        return failed
