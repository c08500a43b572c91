"""Writes into the shared memory how the index process is."""

from __future__ import annotations

import logging
import time

from lenslet.index.folders import Outcome
from lenslet.index.read import Read
from lenslet.index.status import IMAGES, PREVIEWS, STORAGE, Status
from lenslet.library import Library
from lenslet.times import Clock

log = logging.getLogger("lenslet")

_SHOWN_SECONDS = 3.0  # how long health says that a preview could not be made


class Pulse:
    """What is wrong with the index process, and when it has done something last. Owned by the loop.

    `outage` says why storage cannot be used, `search` why its files cannot be written.
    """

    def __init__(self, library: Library, status: Status, clock: Clock) -> None:
        self.outage = self.search = ""
        self._tree, self._client = library.tree, library.client
        self._status = status
        self._clock = clock
        self._problems = {IMAGES: "", PREVIEWS: ""}  # the last one, empty if all went well since
        self._preview_at = 0.0
        self._progressed = time.monotonic()
        self._seen = 0, 0  # writes and changes that were reported
        self._shown = ""

    def looked(self, outcome: Outcome) -> None:
        """Notes how a look has ended."""
        self.outage = outcome.outage
        if outcome.record and not outcome.task.before.is_known:
            self._progressed = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """How long nothing was read or found."""
        return time.monotonic() - self._progressed

    def read(self, read: Read) -> None:
        """Notes how reading an image has ended."""
        self.outage = read.outage or self.outage
        if read.again is None:
            self._progressed = time.monotonic()
        if read.wanted.preview:
            self._problems[PREVIEWS], self._preview_at = read.problem, self._clock()
        elif read.facts:
            self._problems[IMAGES] = ""
        elif read.again is not None:
            self._problems[IMAGES] = read.problem

    def beat(self, changes: int, backlog: int) -> None:
        """Reports that the loop works. `changes` counts what looks have found anew."""
        seen = self._client.writes, changes
        if seen != self._seen:
            self._status.changed()
            self._seen = seen
        self._status.beat(backlog)
        problems = [self.outage, *self._problems.values(), self.search]
        problems += map(str, filter(None, [self._tree.obstacle()]))
        self._show(next(filter(None, problems), ""))
        self._status.set_problem(IMAGES, self.outage or self._problems[IMAGES])
        if self._clock() - self._preview_at > _SHOWN_SECONDS:  # none is tried again by itself
            self._problems[PREVIEWS] = ""
        self._status.set_problem(PREVIEWS, self.outage or self._problems[PREVIEWS])

    def _show(self, problem: str) -> None:
        """Says in health, and in the log, what is wrong."""
        if problem and not self._shown:
            log.warning("%s", problem)
        elif self._shown and not problem:
            log.info("this is over: %s", self._shown)
        self._shown = problem
        self._status.set_problem(STORAGE, problem)
