"""Shared memory in which processes report: the index process's work and problems, and counts."""

import contextlib
import ctypes
import enum
import mmap
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from lenslet.paths import Path

STORAGE, QUEUE = 0, 1  # what may have a problem
_PROBLEM_BYTES, _PATH_BYTES = 1024, 4088
_MARKS = 128
BACKLOG_SECONDS, _BACKLOGS = 2, 150  # the backlog of the last five minutes
ROWS, _CELLS = 128, 320  # processes that count, and counts of each


class _Mark(ctypes.Structure):
    _fields_ = (("since", ctypes.c_double), ("path", ctypes.c_char * _PATH_BYTES))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int64),
        ("beat", ctypes.c_double),
        ("backlog", ctypes.c_int64),
        ("problems", ctypes.c_char * _PROBLEM_BYTES * 2),
        ("marks", _Mark * _MARKS),
        ("scanned", ctypes.c_double),
        ("counts", ctypes.c_double * _CELLS * ROWS),
        ("step", ctypes.c_int64),
        ("backlogs", ctypes.c_uint32 * _BACKLOGS),
    )


class Count(enum.IntEnum):
    """What is counted. The counts of requests, by route, follow; see `web/metrics.py`."""

    IMAGES_READ = 0
    IMAGES_FAILED = 1
    THUMBNAILS_READY = 2  # answered at once
    THUMBNAILS_WAITED = 3
    THUMBNAILS_PENDING = 4  # answered 202
    REQUESTS = 5


class Mark(NamedTuple):
    """The image that a thread decodes, or decoded when its process died.

    `since` is in seconds of the monotonic clock.
    """

    path: Path
    since: float


class Heartbeat(NamedTuple):
    """The index process's pid (0: none yet), seconds since its last report, and what waits."""

    pid: int
    age: float
    backlog: int


class Status:
    """Shared memory that outlives the index process.

    Anonymous when the master makes it before the fork; in a file for `worker.py`. All processes of
    a host share the monotonic clock, so their times can be compared. Each process counts in a `row`
    of its own. One that takes the place of another goes on with its counts.
    """

    def __init__(self, fd: int = -1) -> None:
        """Uses anonymous memory, or the file of a descriptor that stays open."""
        self.row = 0
        self._lock = threading.Lock()
        self._used: set[int] = set()
        size = ctypes.sizeof(_Memory)
        if fd >= 0:
            os.ftruncate(fd, size)
        self._memory = _Memory.from_buffer(mmap.mmap(fd, size))

    def beat(self, backlog: int) -> None:
        """Reports that the index process works, and how much waits."""
        memory, now = self._memory, time.monotonic()
        step = int(now) // BACKLOG_SECONDS
        before = memory.step or step - 1
        for each in range(max(before + 1, step - _BACKLOGS + 1), step + 1):
            memory.backlogs[each % _BACKLOGS] = backlog
        slot = step % _BACKLOGS
        memory.backlogs[slot] = max(memory.backlogs[slot], backlog)
        memory.pid, memory.beat, memory.backlog, memory.step = os.getpid(), now, backlog, step

    def heartbeat(self) -> Heartbeat:
        memory = self._memory
        return Heartbeat(memory.pid, time.monotonic() - memory.beat, memory.backlog)

    def backlogs(self) -> list[int]:
        """Returns what waited, every `BACKLOG_SECONDS` of the last five minutes, oldest first."""
        first = self._memory.step + 1
        return [self._memory.backlogs[(first + each) % _BACKLOGS] for each in range(_BACKLOGS)]

    def scanned(self) -> None:
        """Reports that a scan has ended."""
        self._memory.scanned = time.monotonic()

    @property
    def scan_age(self) -> float | None:
        """Seconds since the last scan; None before the first."""
        return time.monotonic() - self._memory.scanned if self._memory.scanned else None

    def count(self, *amounts: tuple[int, float]) -> None:
        """Adds amounts to counts of this process, each by its number."""
        with self._lock:
            row = self._memory.counts[self.row]
            for number, amount in amounts:
                row[number] += amount

    def total(self, number: int) -> float:
        """Returns a count of all processes."""
        return float(sum(row[number] for row in self._memory.counts))

    def set_problem(self, source: int, reason: str) -> None:
        """Reports what `STORAGE` or the `QUEUE` refuses right now; empty if nothing."""
        self._memory.problems[source].value = reason.encode()[:_PROBLEM_BYTES]

    def problem(self, source: int) -> str:
        return bytes(self._memory.problems[source].value).decode("utf-8", "replace")

    @contextlib.contextmanager
    def marked(self, path: Path) -> Iterator[None]:
        """Marks the image that this thread decodes, in case decoding ends the process."""
        with self._lock:
            slot = min(set(range(_MARKS)) - self._used)
            self._used.add(slot)
        try:
            self.mark(slot, path)
            yield
        finally:
            self.clear(slot)

    def mark(self, slot: int, path: Path) -> None:
        self._used.add(slot)
        self._memory.marks[slot] = _Mark(time.monotonic(), path.encode()[:_PATH_BYTES])

    def clear(self, slot: int) -> None:
        self._memory.marks[slot] = _Mark()
        self._used.discard(slot)

    def marks(self) -> dict[int, Mark]:
        """Returns what each thread decodes, or decoded when its process died."""
        marks = map(_Mark.from_buffer_copy, self._memory.marks)  # others change them meanwhile
        return {
            slot: Mark(Path(mark.path.decode("utf-8", "replace")), mark.since)
            for slot, mark in enumerate(marks)
            if mark.path
        }
