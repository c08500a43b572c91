"""What is to be done, in which order: the queue, the way to it, and the board of who does what."""

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
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from lenslet.paths import ROOT, Path

_MESSAGE_BYTES = 8192
QUEUE_SIZE = 20_000  # images of one kind; what does not fit is found again by a later look


class Kind(enum.IntEnum):
    """Kinds of work, most urgent first."""

    THUMBNAIL = 0  # somebody waits for it
    FOLDER = 1  # somebody asked for this folder
    KEY = 2  # a file of a bucket that somebody changed
    WANTED = 3  # a new image of a folder that somebody asked for
    LOOK = 4  # a folder in which the scan may find new images
    IMAGE = 5  # a new image
    MANIFEST = 6  # a folder whose images are done
    SCAN = 7  # one stat a folder
    ROLLUP = 8  # what changed, for search
    COMPACT = 9  # the whole rollup
    HEALTH = 10


class State(enum.Enum):
    """How far a job is, with all that follows from it."""

    BUSY = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


IMAGES = frozenset((Kind.THUMBNAIL, Kind.WANTED, Kind.IMAGE))
# How many seconds a kind lets more urgent ones pass it before it takes its turn all the same.
PATIENCE = {
    Kind.THUMBNAIL: 0.1,
    Kind.FOLDER: 0.5,
    Kind.KEY: 0.5,
    Kind.WANTED: 30.0,
    Kind.LOOK: 60.0,
    Kind.IMAGE: 60.0,
    Kind.MANIFEST: 2.0,
    Kind.SCAN: 10.0,
    Kind.ROLLUP: 1.0,
    Kind.COMPACT: 5.0,
    Kind.HEALTH: 5.0,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do. `force`: although nothing seems to have changed. `deep`: below it, too.

    `rev`: what a `KEY` is now, where that is known.
    """

    kind: Kind
    path: Path = ROOT
    force: bool = False
    deep: bool = False
    rev: str = ""

    @property
    def key(self) -> tuple[Kind, Path]:
        return self.kind, self.path


class Queue:
    """Jobs by urgency and then age, each once, some of them for later; safe for threads.

    A job that is put again while it runs runs once more afterwards. Only images are bounded in
    number: there are as many jobs for folders as folders, which are remembered anyway.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: dict[Kind, OrderedDict[Path, tuple[float, Job]]] = {
            kind: OrderedDict() for kind in Kind
        }
        self._later: list[tuple[float, int, tuple[Kind, Path]]] = []
        self._due: dict[tuple[Kind, Path], tuple[float, Job]] = {}
        self._order = itertools.count()
        self._running: dict[tuple[Kind, Path], Job | None] = {}

    def put(self, job: Job, delay: float = 0.0) -> bool:
        """Add a job, due in `delay` seconds; False when there is no room for it."""
        with self._changed:
            if delay:
                return self._put_later(job, self._clock() + delay)
            return self._put_now(job)

    def _put_now(self, job: Job) -> bool:
        if job.key in self._running:
            again = self._running[job.key]
            self._running[job.key] = _both(again, job) if again else job
            return True
        ready = self._ready[job.kind]
        if job.path in ready:
            since, waiting = ready[job.path]
            ready[job.path] = since, _both(waiting, job)
            return True
        if job.kind in IMAGES and len(ready) >= QUEUE_SIZE:
            return False
        ready[job.path] = self._clock(), job
        self._changed.notify()
        return True

    def _put_later(self, job: Job, due: float) -> bool:
        if job.key in self._due:
            earlier, waiting = self._due[job.key]
            if earlier <= due:
                self._due[job.key] = earlier, _both(waiting, job)
                return True
            job = _both(waiting, job)
        self._due[job.key] = due, job
        heapq.heappush(self._later, (due, next(self._order), job.key))
        self._changed.notify()
        return True

    def get(self, wait: float = 0.0) -> Job | None:
        """The next job, to be given to `done` afterwards; None when none is due within `wait` s."""
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
                _, job = self._due.pop(key)
                if not self._put_now(job):
                    self._put_later(job, now + 1.0)

    def _next(self, now: float) -> Job | None:
        if self._ready[Kind.THUMBNAIL]:
            return self._take(Kind.THUMBNAIL)
        heads = {
            kind: next(iter(ready.values()))[0] for kind, ready in self._ready.items() if ready
        }
        if not heads:
            return None
        overdue = {kind: (now - since) / PATIENCE[kind] for kind, since in heads.items()}
        latest = max(overdue, key=lambda kind: overdue[kind])
        return self._take(latest if overdue[latest] > 1 else min(heads))

    def _take(self, kind: Kind) -> Job:
        _, (_, job) = self._ready[kind].popitem(last=False)
        return job

    def done(self, job: Job) -> None:
        """`job` has run; what was put meanwhile may run now."""
        with self._changed:
            again = self._running.pop(job.key, None)
            if again and not self._put_now(again):
                self._put_later(again, self._clock() + 1.0)

    def has(self, job: Job) -> bool:
        """Whether a job like this one waits or runs."""
        with self._changed:
            waits = job.path in self._ready[job.kind] or job.key in self._due
            return waits or job.key in self._running

    def waiting(self, *kinds: Kind) -> int:
        """How many jobs of these kinds (all, where none is named) wait or run."""
        with self._changed:
            chosen = kinds or tuple(Kind)
            ready = sum(len(self._ready[kind]) for kind in chosen)
            later = sum(kind in chosen for kind, _ in self._due)
            return ready + later + sum(kind in chosen for kind, _ in self._running)

    def wake(self) -> None:
        """Let everyone who waits in `get` look around."""
        with self._changed:
            self._changed.notify_all()


def _both(one: Job, other: Job) -> Job:
    force, deep = one.force or other.force, one.deep or other.deep
    return replace(one, force=force, deep=deep, rev=one.rev if one.rev == other.rev else "")


class Sender(Protocol):
    """Passes jobs on to an index process."""

    def send(self, job: Job) -> bool:
        """Pass a job on; False when it is not taken: the client asks again."""


class Channel:
    """Jobs from request processes to the index process: datagrams, made before any fork.

    A full or lost message is harmless: the client asks again, and the scan finds it anyway.
    """

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)

    def send(self, job: Job) -> bool:
        """Pass a job on; False when the index process is too far behind to take it."""
        try:
            self._sender.send(orjson.dumps([job.kind, job.path, job.force, job.deep]))
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def receive(self, wait: float) -> Job | None:
        """The next job, if one comes within `wait` seconds."""
        if not select.select([self._receiver], [], [], wait)[0]:
            return None
        try:
            kind, path, force, deep = orjson.loads(self._receiver.recv(_MESSAGE_BYTES))
        except BlockingIOError:
            return None
        return Job(Kind(kind), Path(path), force, deep)

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()
