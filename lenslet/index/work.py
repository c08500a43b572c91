"""What the loop asks others for: functions to call, images to read, messages for later."""

from __future__ import annotations

import heapq
import itertools
import queue
from collections.abc import Callable
from typing import Any

from lenslet.index.images import Images

Message = Any  # see `loop`; equal ones that are due later wait once
Call = Callable[[], Message]  # returns the message that says how it ended


class Timers:
    """Messages for later. Owned by the loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Message]] = []
        self._due: dict[tuple[type, Message], float] = {}  # tuples of two types may be equal
        self._numbers = itertools.count()

    def add(self, message: Message, seconds: float) -> None:
        """Adds a message that is due in `seconds`, or sooner if it was to be."""
        key, due = (type(message), message), self._clock() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._numbers), message))

    def pop(self) -> Message | None:
        """Removes and returns a message that is due; None if there is none."""
        while self._heap and self._heap[0][0] <= self._clock():
            due, _, message = heapq.heappop(self._heap)
            key = type(message), message
            if self._due.get(key) == due:  # else it was due sooner
                del self._due[key]
                return message
        return None

    def wait(self, most: float) -> float:
        """Returns the seconds until the next one is due, `most` if that is later."""
        next_due = self._heap[0][0] if self._heap else float("inf")
        return max(0.0, min(most, next_due - self._clock()))


class Work:
    """The inbox of the loop, and all that it asks for. The loop puts in, other threads take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.images = Images()
        self.tasks: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.timers = Timers(clock)

    def call(self, call: Call) -> None:
        """Has a function called on another thread; what it returns comes as a message."""
        self.tasks.put(call)

    def later(self, message: Message, seconds: float) -> None:
        """Sends a message to the loop in some seconds."""
        self.timers.add(message, seconds)
