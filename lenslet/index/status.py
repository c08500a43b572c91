"""Shared memory in which the index process reports: that it works, on what, and its problems."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from lenslet.paths import Path

# Requests to a bucket or a queue, by the names of their operations; any other is "Other".
OPERATIONS = (
    "ListObjectsV2",
    "GetObject",
    "HeadObject",
    "PutObject",
    "DeleteObject",
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "Other",
)


STORAGE, QUEUE = 0, 1  # what may have a problem
_PROBLEM_BYTES = 1024


class Mark(NamedTuple):
    """The image that a thread decodes, or decoded when its process died.

    `since` is in seconds of the monotonic clock.
    """

    path: Path
    since: float


class Heartbeat(NamedTuple):
    """The index process's pid (0: none yet), seconds since its last report and since its start."""

    pid: int
    age: float
    uptime: float
    backlog: int


class Status:
    """Shared memory that outlives the index process.

    Anonymous when the master makes it before the fork; in a file for `worker.py`. All processes of
    a host share the monotonic clock, so their times can be compared.
    """

    _HEARTBEAT = struct.Struct("<qddq")
    _LENGTH, _PROBLEMS_AT = struct.Struct("<h"), (512, 2048)
    _MARK = struct.Struct("<di")
    _MARK_BYTES, SLOTS = 4096, 128
    _COUNT, _COUNT_SLOTS = struct.Struct("<Q"), 128

    def __init__(self, fd: int = -1) -> None:
        """Uses anonymous memory, or the file of a descriptor that stays open."""
        self._counts_at = (1 + self.SLOTS) * self._MARK_BYTES
        self._lock = threading.Lock()
        self._used: set[int] = set()
        size = self._counts_at + self._COUNT_SLOTS * len(OPERATIONS) * self._COUNT.size
        if fd >= 0:
            os.ftruncate(fd, size)
        self._memory = mmap.mmap(fd, size)

    def beat(self, backlog: int) -> None:
        """Reports that the index process works, and how much waits."""
        pid, _, started, _ = self._HEARTBEAT.unpack_from(self._memory, 0)
        now = time.monotonic()
        started = started if pid == os.getpid() else now
        self._HEARTBEAT.pack_into(self._memory, 0, os.getpid(), now, started, backlog)

    def heartbeat(self) -> Heartbeat:
        pid, beat, started, backlog = self._HEARTBEAT.unpack_from(self._memory, 0)
        now = time.monotonic()
        return Heartbeat(pid, now - beat, now - started, backlog)

    def set_problem(self, source: int, reason: str) -> None:
        """Reports what `STORAGE` or the `QUEUE` refuses right now; empty if nothing."""
        data = reason.encode()[:_PROBLEM_BYTES]
        first = self._PROBLEMS_AT[source] + self._LENGTH.size
        self._memory[first : first + len(data)] = data
        self._LENGTH.pack_into(self._memory, self._PROBLEMS_AT[source], len(data))

    def problem(self, source: int) -> str:
        (length,) = self._LENGTH.unpack_from(self._memory, self._PROBLEMS_AT[source])
        first = self._PROBLEMS_AT[source] + self._LENGTH.size
        return self._memory[first : first + length].decode("utf-8", "replace")

    def count(self, operation: str) -> None:
        """Counts one request of this process."""
        known = operation if operation in OPERATIONS else OPERATIONS[-1]
        at = self._count_at(os.getpid() % self._COUNT_SLOTS, OPERATIONS.index(known))
        with self._lock:
            (before,) = self._COUNT.unpack_from(self._memory, at)
            self._COUNT.pack_into(self._memory, at, before + 1)

    def _count_at(self, slot: int, operation: int) -> int:
        return self._counts_at + (slot * len(OPERATIONS) + operation) * self._COUNT.size

    def counts(self) -> dict[str, int]:
        """Returns the requests of all processes, by operation."""
        found = {}
        for number, operation in enumerate(OPERATIONS):
            ats = (self._count_at(slot, number) for slot in range(self._COUNT_SLOTS))
            found[operation] = sum(self._COUNT.unpack_from(self._memory, at)[0] for at in ats)
        return {operation: count for operation, count in found.items() if count}

    @contextlib.contextmanager
    def marked(self, path: Path) -> Iterator[None]:
        """Marks the image that this thread decodes, in case decoding ends the process."""
        with self._lock:
            slot = min(set(range(self.SLOTS)) - self._used)
            self._used.add(slot)
        self.mark(slot, path)
        try:
            yield
        finally:
            self.clear(slot)

    def mark(self, slot: int, path: Path) -> None:
        self._used.add(slot)
        data = path.encode()
        start = (1 + slot) * self._MARK_BYTES
        head = self._MARK.size
        self._memory[start + head : start + head + len(data)] = data
        self._MARK.pack_into(self._memory, start, time.monotonic(), len(data))

    def clear(self, slot: int) -> None:
        self._MARK.pack_into(self._memory, (1 + slot) * self._MARK_BYTES, 0.0, 0)
        self._used.discard(slot)

    def marks(self) -> dict[int, Mark]:
        """Returns what each thread decodes, or decoded when its process died."""
        found = {}
        for slot in range(self.SLOTS):
            start = (1 + slot) * self._MARK_BYTES
            since, length = self._MARK.unpack_from(self._memory, start)
            if 0 < length <= self._MARK_BYTES - self._MARK.size:
                first = start + self._MARK.size
                text = self._memory[first : first + length].decode("utf-8", "replace")
                found[slot] = Mark(Path(text), since)
        return found
