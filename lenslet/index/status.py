"""Shared memory in which processes report: the index process's work and problems, and counts."""

import ctypes
import mmap
import os
import threading
import time
from typing import NamedTuple

STORAGE, QUEUE, IMAGES, PREVIEWS = range(4)  # what may have a problem
# What is counted. The counts of requests, by route, follow; see `web/requests.py`.
IMAGES_READ, IMAGES_FAILED, REQUESTS = range(3)
_PROBLEM_BYTES, _PROGRESS_BYTES = 1024, 128
ROWS, _CELLS = 128, 256  # processes that count, and counts of each


class _Memory(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int64),
        ("beat", ctypes.c_double),
        ("folders", ctypes.c_int64),
        ("images", ctypes.c_int64),
        ("backlog", ctypes.c_int64),
        ("progress", ctypes.c_char * _PROGRESS_BYTES),
        ("problems", ctypes.c_char * _PROBLEM_BYTES * 4),
        ("counts", ctypes.c_int64 * _CELLS * ROWS),
        ("changed", ctypes.c_double),
    )


class Heartbeat(NamedTuple):
    """The index process's pid (0: none yet) and seconds since its last report, with what it said.

    That is how many folders and images it knows, how many of both are left, and a sentence of it.
    """

    pid: int
    age: float
    folders: int
    images: int
    backlog: int
    progress: str


class Progress(NamedTuple):
    """How far the index is: folders and images that are known, and how many are left of each.

    `read` images were read in `seconds`.
    """

    folders: int
    images: int
    folders_left: int
    images_left: int
    read: int
    seconds: float

    def __str__(self) -> str:
        done, rate = max(0, self.images - self.images_left), self.read / max(self.seconds, 0.001)
        shown = f"{self.folders:,} folders, {done:,} of {self.images:,} photos"
        if self.images_left and rate:
            seconds = self.images_left / rate
            left = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:,.0f} min"
            shown += f", {rate:,.1f} a second, {left} left"
        return shown


class Status:
    """Shared memory that outlives the index process. The master makes it before the fork.

    With `file`, a file holds it, for processes that no master has forked.

    All processes of a host share the monotonic clock, so their times can be compared. Each process
    counts in a `row`. One that takes the place of another goes on with its counts.
    """

    def __init__(self, file: str = "") -> None:
        self.row = 0
        self._lock = threading.Lock()
        size = ctypes.sizeof(_Memory)
        memory = mmap.mmap(-1, size)
        if file:
            with open(os.open(f"{file}-{size}", os.O_RDWR | os.O_CREAT, 0o600), "r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, size)
                memory = mmap.mmap(opened.fileno(), size)
        self._memory = _Memory.from_buffer(memory)

    def beat(self, progress: Progress) -> None:
        """Reports that the index process works, and how far it is."""
        memory = self._memory
        memory.folders, memory.images = progress.folders, progress.images
        memory.backlog = progress.folders_left + progress.images_left
        memory.progress = str(progress).encode()[:_PROGRESS_BYTES]
        memory.pid, memory.beat = os.getpid(), time.monotonic()

    def end(self) -> None:
        """Reports that the index process has ended as it should."""
        self._memory.pid = 0

    def heartbeat(self) -> Heartbeat:
        memory = self._memory
        age = time.monotonic() - memory.beat
        progress = memory.progress.decode(errors="replace")
        return Heartbeat(memory.pid, age, memory.folders, memory.images, memory.backlog, progress)

    def changed(self, ahead: float = 0.0) -> None:
        """Reports that a bucket has changed, or may change in the next `ahead` seconds."""
        self._memory.changed = max(self._memory.changed, time.monotonic() + ahead)

    def is_current(self, read: float, most: float) -> bool:
        """True for what was `read` after the last change, and at most `most` seconds ago."""
        return read > self._memory.changed and time.monotonic() - read < most

    def count(self, number: int) -> None:
        """Adds one to a count of this process."""
        with self._lock:
            self._memory.counts[self.row][number] += 1

    def total(self, number: int) -> int:
        """Returns a count of all processes."""
        return sum(row[number] for row in self._memory.counts)

    def set_problem(self, source: int, reason: str) -> None:
        """Reports what one of them refuses right now; empty if nothing."""
        self._memory.problems[source].value = reason.encode()[:_PROBLEM_BYTES]

    def problem(self, source: int) -> str:
        return bytes(self._memory.problems[source].value).decode("utf-8", "replace")
