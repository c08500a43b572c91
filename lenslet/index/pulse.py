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

_SHOWN_SECONDS = 5.0  # how long health says that an image could not be read


class Pulse:
    """What is wrong with the index process, and when it has done something last. Owned by the loop.

    `outage` says why storage cannot be used, `search` why its files cannot be written.
    """

    def __init__(self, library: Library, status: Status, clock: Clock) -> None:
        self.outage = self.search = ""
        self._tree, self._client = library.tree, library.client
        self._status = status
        self._clock = clock
        # The last one of each, and when it was: what fails is tried again every two seconds.
        self._problems = dict.fromkeys((IMAGES, PREVIEWS), ("", 0.0))
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
        if read.problem and (read.again is not None or read.wanted.preview):
            source = PREVIEWS if read.wanted.preview else IMAGES
            self._problems[source] = read.problem, self._clock()

    def beat(self, changes: int, backlog: int) -> None:
        """Reports that the loop works. `changes` counts what looks have found anew."""
        seen = self._client.writes, changes
        if seen != self._seen:
            self._status.changed()
            self._seen = seen
        self._status.beat(backlog)
        problems = [self.outage, self.search, str(self._tree.obstacle() or "")]
        for source, (problem, at) in self._problems.items():
            problem *= self._clock() - at < _SHOWN_SECONDS
            problems.append(problem)
            self._status.set_problem(source, self.outage or problem)
        self._show(next(filter(None, problems), ""))

    def _show(self, problem: str) -> None:
        """Says in health, and in the log, what is wrong."""
        if problem and not self._shown:
            log.warning("%s", problem)
        elif self._shown and not problem:
            log.info("this is over: %s", self._shown)
        self._shown = problem
        self._status.set_problem(STORAGE, problem)
