"""Requests that wait until the index process has made a file."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lenslet.errors import NotFound

# The first pause between two looks, and the longest: looking for a thumbnail takes 60 µs.
_PAUSES, _PAUSES_S3 = (0.004, 0.1), (0.25, 1.0)

Answer = TypeVar("Answer")


class Waiters:
    """At most `most` requests that wait. `is_shared`: each look asks a bucket."""

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._is_shared = is_shared

    def wait(
        self, seconds: float, look: Callable[[], Answer], *, in_cache: bool = False
    ) -> Answer | None:
        """Calls `look` until it finds something; None if it has raised `NotFound` for `seconds`.

        None at once if there is no place to wait. `in_cache`: the file is in this host's cache.
        """
        if not (seconds and self._places.acquire(blocking=False)):
            return None
        pause, most = _PAUSES_S3 if self._is_shared and not in_cache else _PAUSES
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(pause, left))
                with contextlib.suppress(NotFound):
                    return look()
                pause = min(1.2 * pause, most)
            return None
        finally:
            self._places.release()
