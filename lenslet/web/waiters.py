"""Requests that wait until the index process has made a file."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from lenslet.errors import NotFound

_POLL_SECONDS, _FIRST_POLL_SECONDS = 0.1, 0.004  # looking for a thumbnail takes 60 µs
_POLL_SECONDS_S3, _FEWEST_POLLS_S3 = 1.0, 3

Answer = TypeVar("Answer")


class Waiters:
    """Requests that wait: about `most`. One more ends the wait of the one that waits longest.

    So requests for slow images do not prevent others from waiting. A request whose wait was ended
    counts until it has left: there are never more than twice as many. Each is in the context
    `stand_in()`. `is_shared`: each look for a file is a request to a bucket.
    """

    def __init__(
        self, most: int, stand_in: Callable[[], AbstractContextManager[None]], *, is_shared: bool
    ) -> None:
        self._most = most
        self._stand_in = stand_in
        self._is_shared = is_shared
        self._lock = threading.Lock()
        self._waiting: dict[threading.Event, None] = {}  # each is set to end its wait

    def wait(
        self, seconds: float, look: Callable[[], Answer], *, in_cache: bool = False
    ) -> Answer | None:
        """Returns what `look` returns within `seconds`; None if it raises `NotFound` until then.

        It looks in a bucket once a second, or three times if `seconds` is less than 3. `in_cache`:
        the file is in this host's cache, also for a bucket.
        """
        costs = self._is_shared and not in_cache
        pause = _FIRST_POLL_SECONDS
        if costs:
            pause = min(seconds / _FEWEST_POLLS_S3, _POLL_SECONDS_S3)
        with self.place() if seconds else contextlib.nullcontext() as ended:
            until = time.monotonic() + seconds
            if costs and ended:
                ended.wait(pause)
            while True:
                try:
                    return look()
                except NotFound:
                    if not ended or ended.is_set() or time.monotonic() + pause > until:
                        return None
                ended.wait(pause)
                pause = max(pause, min(1.2 * pause, _POLL_SECONDS))

    @contextmanager
    def place(self) -> Iterator[threading.Event | None]:
        """Lets another thread take the place of this one; None if too many requests wait.

        The event is set when the wait must end.
        """
        if not (ended := self._enter()):
            yield None
            return
        try:
            with self._stand_in():
                yield ended
        finally:
            with self._lock:
                del self._waiting[ended]

    def _enter(self) -> threading.Event | None:
        with self._lock:
            if len(self._waiting) >= 2 * self._most:
                return None
            waiting = [each for each in self._waiting if not each.is_set()]
            if len(waiting) >= self._most:
                waiting[0].set()
            ended = threading.Event()
            self._waiting[ended] = None
            return ended
