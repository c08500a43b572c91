"""When the library is scanned, and search and health are written. Owned by the loop."""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

from lenslet.index.messages import Look
from lenslet.index.scan import Scan, Scanned, find_due
from lenslet.index.summary import Known, Summarized, Summary, passed
from lenslet.index.walk import Walk
from lenslet.index.work import Work
from lenslet.library import Library

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0  # between two looks at all folders
# Until the next scan: so many times what one took, a quarter to all of SCAN_SECONDS.
_REST = 100
SUMMARY_SECONDS = 1.0  # until search and health say what changed in a folder
_FAILED_SECONDS = 30.0  # until search is tried again, if nothing changes


class Summarize(NamedTuple):
    """It is time to write what search and health read.

    `rebuild`: the rollup anew; `at_once`: the rollup, if it is out of date.
    """

    rebuild: bool = False
    at_once: bool = False


class Upkeep:
    """Asks for scans and summaries, one of each at a time: `busy` has those that are under way.

    A scan finds what changed, as often as it costs a hundredth of the time. Every hour all folders
    are looked at.
    """

    def __init__(self, library: Library, work: Work, walk: Walk) -> None:
        self._library = library
        self._work = work
        self._walk = walk
        self._summary = Summary(library, work.clock)
        self.busy = set[type]()
        self._looked_at_all = float("-inf")
        self._passes: dict[str, Any] = {}
        self.summarized = Summarized()

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._summary.report(self._known())

    def _known(self) -> Known:
        memory = self._walk.memory
        records, gone, passes = dict(memory.records), frozenset(memory.gone), dict(self._passes)
        has_seen_all = all(record.is_known for record in records.values())
        leads = self._library.settings.scan_seconds > 0 and has_seen_all
        return Known(records, gone, memory.text, leads, passes)

    def begin(self, message: Scan | Summarize) -> None:
        """Has this done; while one of its kind is being done, the message comes again later."""
        if type(message) in self.busy:
            self._work.later(message, SUMMARY_SECONDS)
            return
        self.busy.add(type(message))
        if self._work.clock() - self._looked_at_all > FULL_SCAN_SECONDS and message == Scan():
            message = Scan(full=True)
        self._work.tasks.put(functools.partial(self._do, message, self._known()))

    def _do(self, message: Scan | Summarize, known: Known) -> Scanned | Summarized:
        """Runs on another thread."""
        if isinstance(message, Summarize):
            return self._summary.write(known, *message)
        try:
            return find_due(self._library, known.records, self._work.clock, message.full)
        except Exception as error:  # the outermost frame: the next scan may end well
            log.exception("a scan failed")
            return Scanned(outage=f"an error in Lenslet: {type(error).__name__}")

    def scanned(self, scanned: Scanned) -> None:
        """Has the folders looked at that a scan found."""
        self.busy.discard(Scan)
        if most := self._library.settings.scan_seconds:
            least = most / 4 if self._library.tree.has_stamps else most
            self._work.later(Scan(), max(least, min(_REST * scanned.seconds, most)))
        for path in scanned.folders:
            self._walk.want(Look(path))
        if scanned.full:
            self._looked_at_all = self._work.clock()
        if not scanned.outage:
            self._passes["scan"] = passed(scanned.seconds)
            self._work.later(Summarize(), SUMMARY_SECONDS)

    def wrote(self, done: Summarized) -> None:
        """Has done what a summary asks for."""
        self.busy.discard(Summarize)
        self.summarized = done
        self._walk.memory.gone -= done.named
        for path in done.looks:
            self._walk.want(Look(path))
        if done.look_all:
            self._work.later(Scan(full=True), 0.0)
        again = _FAILED_SECONDS if done.problem else done.again
        if again is not None:
            self._work.later(Summarize(), again)
