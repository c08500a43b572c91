"""The threads of a request process. One that waits lets another take its place."""

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from lenslet.errors import Overloaded

log = logging.getLogger("lenslet")


class Pool(futures.Executor):
    """At most `size` threads that work, and one more for each that waits.

    Measured: a pool of 72 threads from the start answers a seventh fewer requests than one of 8.
    If the system allows no more threads, those that are there do all the work.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._is_limited = False  # no thread could be started last
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> futures.Future[Any]:
        """Called by one thread only, as gunicorn does. `Overloaded` if there is no thread."""
        future: futures.Future[Any] = futures.Future()
        if self._started < self._size and self._start():
            self._started += 1
        if not self._started:
            raise Overloaded("No thread can be started right now.")
        self._work.put(functools.partial(_do, future, functools.partial(call, *args, **named)))
        return future

    def _start(self) -> bool:
        """Starts a thread; False if the system allows no more."""
        try:
            threading.Thread(target=self._run, name="request").start()
        except RuntimeError as error:
            if not self._is_limited:  # not for each request
                log.warning("requests wait or are refused: %s: a limit of tasks?", error)
            self._is_limited = True
            return False
        self._is_limited = False
        return True

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    @contextlib.contextmanager
    def stand_in(self) -> Iterator[None]:
        """Starts a thread in place of this one, which waits; then one of them ends."""
        started = self._start()
        try:
            yield
        finally:
            if started:
                self._work.put(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads after the work that was submitted; does not wait for them."""
        for _ in range(self._started):
            self._work.put(None)


def _do(future: futures.Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
