"""What the loop asks others for: functions to call, images to read, messages for later."""

from __future__ import annotations

import heapq
import itertools
import queue
from collections.abc import Callable
from typing import Any

from lenslet.index.images import ImageQueue
from lenslet.times import Clock

Message = Any  # see `loop`


class Work:
    """The inbox of the loop, and all that it asks for. The loop puts in, other threads take."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        # Functions to call; what each returns comes as a message, which says how it ended.
        self.tasks: queue.SimpleQueue[Callable[[], Message] | None] = queue.SimpleQueue()
        self.images = ImageQueue()
        self._later: list[tuple[float, int, Message]] = []  # a heap
        self._due: dict[tuple[type, Message], float] = {}  # tuples of two types may be equal
        self._numbers = itertools.count()

    def later(self, message: Message, seconds: float) -> None:
        """Sends a message to the loop in some seconds; of several equal ones only the first."""
        key, due = (type(message), message), self.clock() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._numbers), message))

    def next(self, wait: float) -> Message | None:
        """Returns the next message, if one comes within `wait` seconds."""
        while self._later and self._later[0][0] <= self.clock():
            due, _, message = heapq.heappop(self._later)
            if self._due.get((type(message), message)) == due:  # else it has come sooner
                del self._due[type(message), message]
                return message
        if self._later:
            wait = min(wait, self._later[0][0] - self.clock())
        try:
            return self.inbox.get(block=wait > 0, timeout=max(0.0, wait))
        except queue.Empty:
            return None
