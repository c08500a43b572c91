"""What the index process has to do, most urgent first, and the way for requests to ask for it."""

from __future__ import annotations

import bisect
import enum
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
    """Kinds of work."""

    THUMBNAIL = 0  # of one image; somebody waits for it
    PREVIEW = 1  # of one image; somebody waits for it
    FOLDER = 2  # index a folder
    IMAGE = 3  # read one image of a folder
    SCAN = 4  # look for folders that changed
    SUMMARY = 5  # update search and health
    VIEW = 6  # somebody looks at a folder in a bucket: list it, if that is due


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    `asked`: a client asked for it. `large`: the image needs more memory or time than others.
    `waiters` are called with whether it ended well. `thumbnail`: an `IMAGE` gets one.
    `rereads`: stale images of a `FOLDER` may be read again, for nothing else is due. `force`: do it
    although nothing seems to have changed. So a `FOLDER` is read and written anew, with what
    could not be read; a `THUMBNAIL` is made again; a `SCAN` looks at all folders; a `SUMMARY`
    writes the rollup anew. `deep`: a `FOLDER` with every folder below, a `SUMMARY` with what it
    would put off.
    """

    kind: Kind
    path: Path = ROOT
    asked: bool = False
    force: bool = False
    deep: bool = False
    large: bool = False
    thumbnail: bool = False
    rereads: bool = False
    waiters: tuple[Waiter, ...] = field(default=(), compare=False)

    @property
    def key(self) -> Key:
        return self.kind, self.path

    @property
    def urgency(self) -> tuple[int, bool]:
        """The line in which the job waits, most urgent first, and whether it is behind in it."""
        if self.kind in (Kind.THUMBNAIL, Kind.PREVIEW):
            return _AWAITED, False
        if self.kind is Kind.FOLDER:
            return (_AWAITED, False) if self.asked else (_CHORES, True)
        return (_IMAGES, not self.asked) if self.kind is Kind.IMAGE else (_CHORES, False)

    def merged(self, other: Job) -> Job:
        """Returns one job that does the work of both."""
        return replace(
            self,
            asked=self.asked or other.asked,
            force=self.force or other.force,
            deep=self.deep or other.deep,
            large=self.large or other.large,
            thumbnail=self.thumbnail or other.thumbnail,
            rereads=self.rereads or other.rereads,
            waiters=(*self.waiters, *other.waiters),
        )


Key = tuple[Kind, Path]
Entry = tuple[bool, float, int, Key]  # behind others, when due, a number that no other has
_AWAITED, _CHORES, _IMAGES = range(3)  # the lines: somebody waits; folders and summaries; images
# The line from which the next job comes, if it has one; otherwise the first that has one. So of 16
# jobs at least three are chores and one is an image, however many clients wait.
_TURNS = (_IMAGES, *3 * (_AWAITED,), *3 * (_CHORES, *3 * (_AWAITED,)))
_LATE_SECONDS = 3.0  # after which it is said that large images wait


class Line:
    """The due jobs for one kind of thread, in three sorted lists. Not safe for threads."""

    def __init__(self) -> None:
        self.jobs: tuple[list[Entry], ...] = [], [], []
        self._turns = 0

    def take(self) -> Key | None:
        """Removes and returns the next job's key.

        Of what clients wait for, the oldest and the newest come in turn: so a new request does not
        wait for all images of a flood, and no request waits for ever.
        """
        self._turns += 1
        preferred = self.jobs[_TURNS[self._turns % len(_TURNS)]]
        found = next(filter(None, (preferred, *self.jobs)), None)
        if found is None:
            return None
        newest = found is self.jobs[_AWAITED] and self._turns % 2
        return found.pop(-1 if newest else 0)[3]


@dataclass(slots=True)
class _Waiting:
    """A job that waits, and the list that has its entry; none while one of its key runs."""

    job: Job
    due: float
    entry: Entry
    place: list[Entry] | None = None


class Queue:
    """Jobs, each at most once, for two kinds of threads: one reads only large images.

    What clients wait for comes first, then folders and summaries, then images; none waits for ever.
    If a job is enqueued while it is running, it runs once more afterwards. Safe for threads.
    """

    problem = ""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = [threading.Condition(self._lock) for _ in (False, True)]  # by `large`
        self._waiting: dict[Key, _Waiting] = {}
        self._later: list[Entry] = []  # sorted by when they are due
        self._lines = Line(), Line()  # by `large`
        self._numbers = itertools.count()
        self._running: set[Key] = set()
        self._wakes = 0
        self._counts = Counter[Kind]()

    def enqueue(self, job: Job, delay: float = 0.0) -> None:
        """Adds a job, due in `delay` seconds. One that waits already is merged with it."""
        with self._lock:
            due = self._clock() + delay
            if waiting := self._waiting.get(job.key):
                self._remove(waiting)
                job, due = waiting.job.merged(job), min(due, waiting.due)
            else:
                self._counts[job.kind] += 1
            self._insert(job, due)

    def _insert(self, job: Job, due: float) -> None:
        line, behind = job.urgency
        number = next(self._numbers)
        waiting = _Waiting(job, due, (behind, due, number, job.key))
        self._waiting[job.key] = waiting
        if job.key in self._running:
            return
        if due > self._clock():
            waiting.entry = (False, due, number, job.key)
            waiting.place = self._later
        else:
            waiting.place = self._lines[job.large].jobs[line]
        bisect.insort(waiting.place, waiting.entry)
        self._changed[job.large].notify()

    def _remove(self, waiting: _Waiting) -> None:
        if waiting.place is not None:
            del waiting.place[bisect.bisect_left(waiting.place, waiting.entry)]

    def get(self, wait: float = 0.0, *, large: bool | None = None) -> Job | None:
        """Returns the next job; the caller must call `done`. None if none is due in `wait` s.

        `large`: only large jobs, or only others; None: of both.
        """
        deadline, changed = self._clock() + wait, self._changed[bool(large)]
        with changed:
            wakes = self._wakes
            while wakes == self._wakes:
                now = self._clock()
                while self._later and self._later[0][1] <= now:  # it is due now
                    waiting = self._waiting[self._later.pop(0)[3]]
                    self._insert(waiting.job, waiting.due)
                for each in (False, True) if large is None else (large,):
                    if key := self._lines[each].take():
                        self._running.add(key)
                        changed.notify()  # another thread must know when the next job is due
                        return self._waiting.pop(key).job
                until = min(deadline, self._later[0][1]) if self._later else deadline
                if until <= now:
                    return None
                changed.wait(until - now)
        return None

    @property
    def somebody_waits(self) -> bool:
        """True if a job is due that a client waits for, and that is not a large image."""
        return bool(self._lines[False].jobs[_AWAITED])

    def done(self, job: Job) -> None:
        """Says that `job` has run. If it was enqueued meanwhile, it waits again now."""
        with self._lock:
            self._running.discard(job.key)
            self._counts[job.kind] -= 1
            if waiting := self._waiting.get(job.key):
                self._insert(waiting.job, waiting.due)

    def waiting(self, *kinds: Kind) -> int:
        """Returns how many jobs of these kinds wait or run."""
        with self._lock:  # a folder may enqueue images while they are added up
            return sum(self._counts[kind] for kind in kinds)

    def late(self) -> int:
        """Returns how many large images wait; 0 if none of them has waited for long."""
        with self._lock:
            due = [entry[1] for each in self._lines[True].jobs for entry in each]
            return len(due) if self._clock() - min(due, default=math.inf) >= _LATE_SECONDS else 0

    def wake(self) -> None:
        """Ends the waits of all threads in `get`."""
        with self._lock:
            self._wakes += 1
            for changed in self._changed:
                changed.notify_all()


class Sender(Protocol):
    """Enqueues jobs of an index process."""

    @property
    def problem(self) -> str:
        """Why jobs could not be sent last; empty if they could."""

    def enqueue(self, job: Job) -> None:
        """Sends a job; `StorageUnavailable` if it cannot be taken: the client tries again."""


class NoSender:
    """For a process that can reach neither an index process nor a queue."""

    problem = ""

    def enqueue(self, job: Job) -> None:
        if job.kind is Kind.PREVIEW:
            raise StorageUnavailable(
                "No previews are made on this host, because it has no index process "
                "(WORKER_THREADS=0, and no 'lenslet worker'): use the thumbnail or the original."
            )
        raise StorageUnavailable(
            "No index process can be reached from here: run 'lenslet worker' on this host, or set "
            "JOBS_QUEUE_URL."
        )


def post(sender: socket.socket, job: Job) -> None:
    """Sends a job as one datagram."""
    try:
        sender.send(orjson.dumps([job.kind, job.path, job.asked, job.force, job.deep]))
    except (BlockingIOError, ConnectionError) as error:
        raise StorageUnavailable("The index process has too much to do right now.") from error


class Channel:
    """Sends jobs from request processes to the index process: datagrams over a socket pair.

    Made before any fork.
    """

    problem = ""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)

    def enqueue(self, job: Job) -> None:
        post(self._sender, job)

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
