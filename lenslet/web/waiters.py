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
    """At most `most` requests that wait. `is_shared`: each look asks a bucket."""

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._is_shared = is_shared

    def wait(
        self, seconds: float, look: Callable[[], Answer], *, in_cache: bool = False
    ) -> Answer | None:
        """Returns what `look` returns within `seconds`; None if it raises `NotFound` until then.

        Looks once if there is no place to wait; in a bucket once a second, or three times if
        `seconds` is less than 3. `in_cache`: the file is in this host's cache.
        """
        costs = self._is_shared and not in_cache
        has_place = bool(seconds) and self._places.acquire(blocking=False)
        try:
            return _found(look, seconds if has_place else 0.0, costs=costs)
        finally:
            if has_place:
                self._places.release()


def _found(look: Callable[[], Answer], seconds: float, *, costs: bool) -> Answer | None:
    pause, until = _FIRST_POLL_SECONDS, time.monotonic() + seconds
    if costs:
        pause = min(seconds / _FEWEST_POLLS_S3, _POLL_SECONDS_S3)
        time.sleep(pause)
    while True:
        try:
            return look()
        except NotFound:
            if time.monotonic() + pause >= until:
                return None
        time.sleep(pause)
        pause = max(pause, min(1.2 * pause, _POLL_SECONDS))
