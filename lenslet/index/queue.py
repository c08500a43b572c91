"""What the index process has to do, most urgent first, and the way for requests to ask for it."""

from __future__ import annotations

import enum
import heapq
import itertools
import math
import select
import socket
import threading
import time
from collections import Counter
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
    PREVIEW = 1  # of one image; somebody waits for it
    FOLDER = 2  # index a folder
    IMAGE = 3  # read one image of a folder
    SCAN = 4  # look for folders that changed
    SUMMARY = 5  # tell search and health
    RETRY = 6  # index a folder again, later
    VIEW = 7  # somebody looks at a folder in a bucket: list it, if that is due
    REREAD = 8  # read an image of a folder again, whose facts or thumbnail are of an older version
    RENEW = 9  # index a folder, and queue its images that did not fit or are to be read again


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    `asked`: a client asked for it. `force`: do it although nothing seems to have changed. An
    `IMAGE` or `REREAD` gets a thumbnail only with `force`. `deep`: also for every folder below.
    `large`: the image needs more memory or time than others. `waiters` are called with whether it
    ended well.
    """

    kind: Kind
    path: Path = ROOT
    asked: bool = False
    force: bool = False
    deep: bool = False
    large: bool = False
    waiters: tuple[Waiter, ...] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[Kind, Path]:
        return self.kind, self.path

    @property
    def lane(self) -> Lane:
        """Jobs of one lane are done in order; asked ones come before others of their kind."""
        return self.kind, not self.asked, self.large

    def merged(self, other: Job) -> Job:
        """Returns one job that does the work of both."""
        return replace(
            self,
            asked=self.asked or other.asked,
            force=self.force or other.force,
            deep=self.deep or other.deep,
            large=self.large or other.large,
            waiters=(*self.waiters, *other.waiters),
        )


Lane = tuple[Kind, bool, bool]
Key = tuple[Kind, Path]
WAITED_FOR = (Kind.THUMBNAIL, Kind.PREVIEW)  # a client waits for each of these jobs
# The lanes of jobs that somebody waits for, but for large images.
_ANSWERED = (
    (Kind.FOLDER, False, False),
    *((k, u, False) for k in WAITED_FOR for u in (False, True)),
)
# The seconds after which a due job counts as overdue: if it is asked, and if not.
_PATIENCE = {
    Kind.THUMBNAIL: (0.1, 0.1),
    Kind.PREVIEW: (0.3, 0.3),
    Kind.FOLDER: (0.5, 5.0),
    Kind.IMAGE: (30.0, 60.0),
    Kind.SCAN: (10.0, 10.0),
    Kind.SUMMARY: (1.0, 1.0),
    Kind.RETRY: (1.0, 1.0),
    Kind.VIEW: (1.0, 1.0),
    Kind.REREAD: (math.inf, math.inf),  # only when there is nothing else to do
    Kind.RENEW: (math.inf, math.inf),
}


_LATE_SECONDS = 3.0  # after which it is said that large images wait


class Queue:
    """Jobs by urgency and then by when they are due, each at most once. Safe for threads.

    If a job is put while it is running, it runs once more afterwards.
    """

    problem = ""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = [threading.Condition(self._lock) for _ in (False, True)]  # by `large`
        self._jobs: dict[Key, tuple[float, Job]] = {}  # those that wait, and when they are due
        # The due times of each lane with jobs; some are of jobs that have moved or are running.
        self._due: dict[Lane, list[tuple[float, int, Key]]] = {}
        self._last: dict[Lane, list[tuple[float, int, Key]]] = {}  # the same, in order
        self._order = itertools.count()
        self._takes_newest = False
        self._running: set[Key] = set()
        self._wakes = 0
        self._counts = Counter[Kind]()

    def put(self, job: Job, delay: float = 0.0) -> None:
        """Adds a job, due in `delay` seconds. One that waits already is merged with it."""
        with self._lock:
            due = self._clock() + delay
            earlier, waiting = self._jobs.get(job.key, (due, None))
            if waiting:
                due, job = min(due, earlier), waiting.merged(job)
            else:
                self._counts[job.kind] += 1
            self._jobs[job.key] = due, job
            if not waiting or (due, job.lane) != (earlier, waiting.lane):
                self._push(job.key)

    def send(self, job: Job) -> None:
        """Takes a job of a request in the same process."""
        self.put(job)

    def _push(self, key: Key) -> None:
        due, job = self._jobs[key]
        if key not in self._running:
            entry = due, next(self._order), key
            heapq.heappush(self._due.setdefault(job.lane, []), entry)
            if job.kind in WAITED_FOR:
                self._last.setdefault(job.lane, []).append(entry)
            self._changed[job.large].notify()

    def get(self, wait: float = 0.0, *, large: bool | None = None) -> Job | None:
        """Returns the next job; the caller must call `done`. None if none is due in `wait` s.

        `large`: only large jobs, or only others; None: of both.
        """
        deadline, changed = self._clock() + wait, self._changed[bool(large)]
        with changed:
            wakes = self._wakes
            while wakes == self._wakes:
                now, heads = self._clock(), self._heads(large)
                ready = {lane: now - due for lane, due in heads.items() if due <= now}
                if ready:
                    key = self._take(_next_lane(ready), now)
                    self._running.add(key)
                    changed.notify()  # another thread must know when the next job is due
                    return self._jobs.pop(key)[1]
                until = min(deadline, *heads.values()) if heads else deadline
                if until <= now:
                    return None
                changed.wait(until - now)
        return None

    def _take(self, lane: Lane, now: float) -> Key:
        """Takes a lane's oldest job. Where clients wait, every other time the newest.

        So a new request does not wait until all images of a flood have had their try.
        """
        newest = self._last.get(lane, [])
        self._takes_newest = bool(newest) and not self._takes_newest
        while self._takes_newest and newest:
            due, _, key = newest.pop()
            if due <= now and self._is_waiting(lane, due, key):
                return key
        return heapq.heappop(self._due[lane])[2]

    @property
    def somebody_waits(self) -> bool:
        """True if a job is due that a client waits for, and that is not a large image."""
        if not any(lane in self._due for lane in _ANSWERED):  # so for most images
            return False
        with self._lock:
            now, heads = self._clock(), self._heads(False)
            return any(lane in heads and heads[lane] <= now for lane in _ANSWERED)

    def _heads(self, large: bool | None) -> dict[Lane, float]:
        """Returns when the first job of each lane is due; `large` as in `get`."""
        heads = {}
        for lane, heap in list(self._due.items()):
            while heap and not self._is_waiting(lane, heap[0][0], heap[0][2]):
                heapq.heappop(heap)
            if not heap:
                del self._due[lane]
                self._last.pop(lane, None)
            elif large in (None, lane[2]):
                heads[lane] = heap[0][0]
        return heads

    def _is_waiting(self, lane: Lane, due: float, key: Key) -> bool:
        waiting = self._jobs.get(key)
        current = waiting and (waiting[0], waiting[1].lane) == (due, lane)
        return bool(current) and key not in self._running

    def done(self, job: Job) -> None:
        """Says that `job` has run. If it was put meanwhile, it waits again now."""
        with self._lock:
            self._running.discard(job.key)
            self._counts[job.kind] -= 1
            if job.key in self._jobs:
                self._push(job.key)

    def waiting(self, *kinds: Kind) -> int:
        """Returns how many jobs of these kinds wait or run."""
        with self._lock:  # a folder may put images while they are added up
            return sum(self._counts[kind] for kind in kinds)

    def late(self) -> int:
        """Returns how many large images wait; 0 if none of them has waited for long."""
        with self._lock:
            now, heads = self._clock(), self._heads(True)
            if all(now - due < _LATE_SECONDS for due in heads.values()):
                return 0
            return sum(job.large and due <= now for due, job in self._jobs.values())

    def wake(self) -> None:
        """Ends the waits of all threads in `get`."""
        with self._lock:
            self._wakes += 1
            for changed in self._changed:
                changed.notify_all()


def _next_lane(ready: dict[Lane, float]) -> Lane:
    """Returns the most overdue lane or, if none is overdue, the most urgent one.

    A thumbnail comes before everything. `ready` has the seconds since the first job was due.
    """
    first = min(ready)
    overdue = {lane: late / _PATIENCE[lane[0]][lane[1]] for lane, late in ready.items()}
    latest = max(overdue, key=lambda lane: overdue[lane])
    return first if overdue[latest] <= 1 or first[0] is Kind.THUMBNAIL else latest


class Sender(Protocol):
    """Sends jobs to an index process."""

    @property
    def problem(self) -> str:
        """Why jobs could not be sent last; empty if they could."""

    def send(self, job: Job) -> None:
        """Sends a job; `StorageUnavailable` if it cannot be taken: the client tries again."""


class NoSender:
    """For a process that can reach neither an index process nor a queue."""

    problem = ""

    def send(self, job: Job) -> None:
        if job.kind is Kind.PREVIEW:
            raise StorageUnavailable(
                "No previews are made on this host, because it has no index process "
                "(WORKER_THREADS=0): use the thumbnail or the original."
            )
        raise StorageUnavailable(
            "This process reaches neither an index process (WORKER_THREADS=0) nor a queue "
            "(JOBS_QUEUE_URL): the change is found at the next scan."
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
