"""What the index process has to do, most urgent first, and the way for requests to ask for it."""

from __future__ import annotations

import enum
import heapq
import itertools
import select
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import orjson

from lenslet.errors import StorageUnavailable
from lenslet.paths import ROOT, Path

_MESSAGE_BYTES = 8192
Waiter = Callable[[bool], None]  # is told whether the work was done


class Kind(enum.IntEnum):
    """Kinds of work, most urgent first."""

    THUMBNAIL = 0  # of one image; somebody waits for it
    FOLDER = 1  # index a folder
    IMAGE = 2  # read one image of a folder
    SCAN = 3  # look for folders that changed
    SUMMARY = 4  # tell search and health


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    `asked`: somebody waits for it. `force`: do it although nothing seems to have changed; of an
    image: make a thumbnail. `deep`: also for every folder below. `waiters` are called with whether
    it ended well.
    """

    kind: Kind
    path: Path = ROOT
    asked: bool = False
    force: bool = False
    deep: bool = False
    waiters: tuple[Waiter, ...] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[Kind, Path]:
        return self.kind, self.path

    @property
    def lane(self) -> tuple[Kind, bool]:
        """Jobs of one lane are done in order; asked ones come before others of their kind."""
        return self.kind, not self.asked

    def merged(self, other: Job) -> Job:
        """Returns one job that does the work of both."""
        return replace(
            self,
            asked=self.asked or other.asked,
            force=self.force or other.force,
            deep=self.deep or other.deep,
            waiters=(*self.waiters, *other.waiters),
        )


_LANES = [(kind, later) for kind in Kind for later in (False, True)]
# The seconds after which a waiting job counts as overdue. The most overdue job is next.
_PATIENCE = {
    Kind.THUMBNAIL: (0.1, 0.1),
    Kind.FOLDER: (0.5, 5.0),
    Kind.IMAGE: (30.0, 60.0),
    Kind.SCAN: (10.0, 10.0),
    Kind.SUMMARY: (1.0, 1.0),
}


class Queue:
    """Jobs by urgency and then age, each at most once, some of them for later. Safe for threads.

    If a job is put while it is running, it runs once more afterwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: dict[tuple[Kind, bool], OrderedDict[Path, tuple[float, Job]]] = {
            lane: OrderedDict() for lane in _LANES
        }
        self._later: list[tuple[float, int, tuple[Kind, Path]]] = []
        self._due: dict[tuple[Kind, Path], tuple[float, Job]] = {}
        self._order = itertools.count()
        self._running: dict[tuple[Kind, Path], Job | None] = {}

    def put(self, job: Job, delay: float = 0.0) -> None:
        """Adds a job, due in `delay` seconds. One that waits already is merged with it."""
        with self._changed:
            if delay > 0:
                self._put_later(job, self._clock() + delay)
            else:
                self._put_now(job)

    def _put_now(self, job: Job) -> None:
        if job.key in self._running:
            again = self._running[job.key]
            self._running[job.key] = again.merged(job) if again else job
            return
        since = self._clock()
        for later in (False, True):
            ready = self._ready[job.kind, later]
            if job.path in ready:
                since, waiting = ready[job.path]
                job = waiting.merged(job)
                if job.lane != (job.kind, later):
                    del ready[job.path]
        self._ready[job.lane][job.path] = since, job
        self._changed.notify()

    def _put_later(self, job: Job, due: float) -> None:
        if job.key in self._due:
            earlier, waiting = self._due[job.key]
            if earlier <= due:
                self._due[job.key] = earlier, waiting.merged(job)
                return
            job = waiting.merged(job)
        self._due[job.key] = due, job
        heapq.heappush(self._later, (due, next(self._order), job.key))
        self._changed.notify()

    def get(self, wait: float = 0.0) -> Job | None:
        """Returns the next job; the caller must call `done`. None if none is due in `wait` s."""
        deadline = self._clock() + wait
        with self._changed:
            while True:
                now = self._clock()
                self._promote(now)
                job = self._next(now)
                if job:
                    self._running[job.key] = None
                    return job
                until = min(deadline, self._later[0][0] if self._later else deadline)
                if until <= now:
                    return None
                self._changed.wait(until - now)

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if key in self._due and self._due[key][0] == due:
                self._put_now(self._due.pop(key)[1])

    def _next(self, now: float) -> Job | None:
        heads = {
            lane: next(iter(ready.values()))[0] for lane, ready in self._ready.items() if ready
        }
        if not heads:
            return None
        overdue = {
            lane: (now - since) / _PATIENCE[lane[0]][lane[1]] for lane, since in heads.items()
        }
        lane = max(overdue, key=lambda each: overdue[each])
        if overdue[lane] <= 1 or min(heads)[0] is Kind.THUMBNAIL:
            lane = min(heads)
        return self._ready[lane].popitem(last=False)[1][1]

    def done(self, job: Job) -> None:
        """Says that `job` has run. If it was put meanwhile, it becomes ready now."""
        with self._changed:
            again = self._running.pop(job.key, None)
            if again:
                self._put_now(again)

    def waiting(self, *kinds: Kind) -> int:
        """Returns how many jobs of these kinds wait or run."""
        with self._changed:
            ready = sum(len(jobs) for (kind, _), jobs in self._ready.items() if kind in kinds)
            later = sum(kind in kinds for kind, _ in self._due)
            return ready + later + sum(kind in kinds for kind, _ in self._running)

    def wake(self) -> None:
        """Wakes every thread that waits in `get`."""
        with self._changed:
            self._changed.notify_all()


class Sender(Protocol):
    """Sends jobs to an index process."""

    @property
    def problem(self) -> str:
        """Why jobs cannot be sent right now; empty if they can."""

    def send(self, job: Job) -> None:
        """Sends a job; `StorageUnavailable` if it cannot be taken: the client tries again."""


class NoSender:
    """For a host without an index process and without a queue."""

    problem = ""

    def send(self, job: Job) -> None:
        raise StorageUnavailable(
            "This host has no index process (WORKER_THREADS=0) and no queue (JOBS_QUEUE_URL): "
            "another host indexes, and finds the change at its next scan."
        )


class Channel:
    """Sends jobs from request processes to the index process: datagrams over a socket pair.

    Made before any fork.
    """

    problem = ""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)

    def send(self, job: Job) -> None:
        try:
            self._sender.send(orjson.dumps([job.kind, job.path, job.asked, job.force, job.deep]))
        except (BlockingIOError, ConnectionError) as error:
            raise StorageUnavailable("The index process has too much to do right now.") from error

    def receive(self, wait: float) -> Job | None:
        """Returns the next job, if one comes within `wait` seconds."""
        if not select.select([self._receiver], [], [], wait)[0]:
            return None
        try:
            kind, path, asked, force, deep = orjson.loads(self._receiver.recv(_MESSAGE_BYTES))
        except BlockingIOError:
            return None
        return Job(Kind(kind), Path(path), asked, force, deep)

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()
