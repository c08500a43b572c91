"""Requests that wait until the index process has made a file."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lenslet.errors import NotFound

_POLL_SECONDS, _FIRST_POLL_SECONDS = 0.1, 0.004  # looking for a thumbnail takes 60 µs
_POLL_SECONDS_S3, _FEWEST_POLLS_S3 = 1.0, 3

Answer = TypeVar("Answer")


class Waiters:
    """At most `most` requests that wait, each on a thread of the server; others do not wait.

    `is_shared`: each look for a file is a request to a bucket.
    """

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._is_shared = is_shared

    def wait(
        self, seconds: float, look: Callable[[], Answer], *, in_cache: bool = False
    ) -> Answer | None:
        """Returns what `look` returns within `seconds`; None if it raises `NotFound` until then.

        If there is no place to wait, it looks once. It looks in a bucket once a second, or three
        times if `seconds` is less than 3. `in_cache`: the file is in this host's cache, also for a
        bucket.
        """
        if not seconds or not self._places.acquire(blocking=False):
            return _once(look)
        try:
            return self._look(seconds, look, costs=self._is_shared and not in_cache)
        finally:
            self._places.release()

    def _look(self, seconds: float, look: Callable[[], Answer], *, costs: bool) -> Answer | None:
        until = time.monotonic() + seconds
        pause = _FIRST_POLL_SECONDS
        if costs:
            pause = min(seconds / _FEWEST_POLLS_S3, _POLL_SECONDS_S3)
            time.sleep(pause)
        while (found := _once(look)) is None and time.monotonic() + pause <= until:
            time.sleep(pause)
            pause = max(pause, min(1.2 * pause, _POLL_SECONDS))
        return found


def _once(look: Callable[[], Answer]) -> Answer | None:
    try:
        return look()
    except NotFound:
        return None
