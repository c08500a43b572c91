"""A small shared memory in which the index process shows that it lives and what it reads."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass

from lenslet.paths import Path

# Requests to a bucket and a queue, as their operations are called; what is none of them, last.
OPERATIONS = (
    "ListObjectsV2",
    "GetObject",
    "HeadObject",
    "PutObject",
    "DeleteObject",
    "SendMessage",
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "Other",
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What one thread reads, or read when its process died, since when by the monotonic clock."""

    path: Path
    since: float


class Board:
    """A small shared memory that outlives the index process: its pulse and what it works on.

    Anonymous where a master makes it before the fork; a file for `worker.py`, which has none.
    Times are seconds of the monotonic clock, which all processes of a host share.
    """

    _HEAD = struct.Struct("<qddq")  # pid, pulse, started, waiting
    _TROUBLE, _TROUBLE_AT, _TROUBLE_BYTES = struct.Struct("<h"), 1024, 1024
    _SLOT = struct.Struct("<di")  # since, length of the path behind it
    _SLOT_BYTES, SLOTS = 4096, 64
    _COUNT, _COUNT_SLOTS = struct.Struct("<Q"), 128

    def __init__(self, fd: int = -1) -> None:
        """In anonymous memory, or in the file of a descriptor that stays open."""
        self._counts_at = (1 + self.SLOTS) * self._SLOT_BYTES
        self._counting = threading.Lock()
        size = self._counts_at + self._COUNT_SLOTS * len(OPERATIONS) * self._COUNT.size
        if fd >= 0:
            os.ftruncate(fd, size)
        self._memory = mmap.mmap(fd, size)

    def pulse(self, waiting: int, started: float) -> None:
        """The index process lives, and so much waits."""
        self._HEAD.pack_into(self._memory, 0, os.getpid(), time.monotonic(), started, waiting)

    def state(self) -> tuple[int, float, float, int]:
        """The index process (0: none yet), seconds since its pulse and its start, jobs waiting."""
        pid, pulse, started, waiting = self._HEAD.unpack_from(self._memory, 0)
        now = time.monotonic()
        return pid, now - pulse, now - started, waiting

    def tell_trouble(self, reason: str) -> None:
        """Why storage takes nothing for now; nothing when it does again."""
        data = reason.encode()[: self._TROUBLE_BYTES]
        first = self._TROUBLE_AT + self._TROUBLE.size
        self._memory[first : first + len(data)] = data
        self._TROUBLE.pack_into(self._memory, self._TROUBLE_AT, len(data))

    def trouble(self) -> str:
        """What `tell_trouble` said last."""
        (length,) = self._TROUBLE.unpack_from(self._memory, self._TROUBLE_AT)
        first = self._TROUBLE_AT + self._TROUBLE.size
        return self._memory[first : first + length].decode("utf-8", "replace")

    def _count_at(self, slot: int, operation: int) -> int:
        return self._counts_at + (slot * len(OPERATIONS) + operation) * self._COUNT.size

    def count(self, operation: str) -> None:
        """One request was sent; each process counts for itself."""
        known = operation if operation in OPERATIONS else OPERATIONS[-1]
        at = self._count_at(os.getpid() % self._COUNT_SLOTS, OPERATIONS.index(known))
        with self._counting:
            (before,) = self._COUNT.unpack_from(self._memory, at)
            self._COUNT.pack_into(self._memory, at, before + 1)

    def counts(self) -> dict[str, int]:
        """The requests of all processes since the board was made, by operation."""
        found = {}
        for number, operation in enumerate(OPERATIONS):
            ats = (self._count_at(slot, number) for slot in range(self._COUNT_SLOTS))
            found[operation] = sum(self._COUNT.unpack_from(self._memory, at)[0] for at in ats)
        return {operation: count for operation, count in found.items() if count}

    def mark(self, slot: int, path: Path) -> None:
        """Thread `slot` begins to read `path`."""
        data = path.encode()
        start = (1 + slot % self.SLOTS) * self._SLOT_BYTES
        head = self._SLOT.size
        self._memory[start + head : start + head + len(data)] = data
        self._SLOT.pack_into(self._memory, start, time.monotonic(), len(data))

    def clear(self, slot: int) -> None:
        """Thread `slot` has read it."""
        self._SLOT.pack_into(self._memory, (1 + slot % self.SLOTS) * self._SLOT_BYTES, 0.0, 0)

    def marks(self) -> dict[int, Mark]:
        """What each thread reads, or read when its process died."""
        found = {}
        for slot in range(self.SLOTS):
            start = (1 + slot) * self._SLOT_BYTES
            since, length = self._SLOT.unpack_from(self._memory, start)
            if 0 < length <= self._SLOT_BYTES - self._SLOT.size:
                first = start + self._SLOT.size
                text = self._memory[first : first + length].decode("utf-8", "replace")
                found[slot] = Mark(Path(text), since)
        return found
