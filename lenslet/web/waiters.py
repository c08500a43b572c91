"""Requests that wait until the index process has made a file."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lenslet.errors import NotFound

_POLL_SECONDS, _FIRST_POLL_SECONDS = 0.1, 0.004  # looking for a thumbnail takes 60 µs
_POLL_SECONDS_S3, _FEWEST_POLLS_S3 = 1.0, 3

Answer = TypeVar("Answer")


class Waiters:
    """A limited number of places for requests that wait, so that threads are left for others.

    `is_shared`: each look for a file is a request to a bucket.
    """

    def __init__(self, places: int, *, is_shared: bool) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._is_shared = is_shared

    def wait(
        self, seconds: float, look: Callable[[], Answer], *, in_cache: bool = False
    ) -> Answer | None:
        """Returns what `look` returns within `seconds`; None if it raises `NotFound` until then.

        Without a free place it looks only once. It looks in a bucket once a second, or three times
        if `seconds` is less than 3. `in_cache`: the file is in this host's cache, not the bucket.
        """
        pause, until = _FIRST_POLL_SECONDS, time.monotonic() + seconds
        if self._is_shared and not in_cache:
            pause = min(seconds / _FEWEST_POLLS_S3, _POLL_SECONDS_S3)
        with self.place() as has_place:
            while True:
                try:
                    return look()
                except NotFound:
                    if not has_place or time.monotonic() + pause > until:
                        return None
                threading.Event().wait(pause)
                pause = max(pause, min(1.2 * pause, _POLL_SECONDS))

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Takes a place while the context lasts; False if there is none."""
        has_place = self._places.acquire(blocking=False)
        try:
            yield has_place
        finally:
            if has_place:
                self._places.release()
