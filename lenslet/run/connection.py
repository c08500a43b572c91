"""A client's connection that never keeps a thread from others: slow clients wait apart.

Gunicorn's threads read and write blocking sockets. Here a thread that must wait for its client lets
another take its place in the pool, and a client that is too slow is cut off.
"""

import errno
import os
import select
import socket
import time
from typing import Any

from lenslet.run.pool import Pool

REQUEST_SECONDS = 15.0  # in which a request must have come, its head and its body
SEND_SECONDS = 30.0  # in which a client must take some of its answer
_AT_ONCE = 1 << 30
# At most so much waits in the system for a client. Of the megabytes that it allows otherwise, a
# third must leave before it says that the client took some: at 10 KB a second, that is too late.
_WAITING_BYTES = 128 * 1024
_recv, _send = socket.socket.recv, socket.socket.send  # faster than by `super()`


class Connection(socket.socket):
    """A connection that was accepted. To gunicorn it looks like a blocking socket."""

    def __init__(self, accepted: socket.socket, pool: Pool) -> None:
        super().__init__(fileno=accepted.detach())
        super().setblocking(False)
        if self.family != socket.AF_UNIX:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _WAITING_BYTES)
        self._pool = pool
        self._timeout: float | None = None
        self._until = float("inf")  # when the request must have come

    def begin(self) -> None:
        """Begins the time in which a request must come."""
        self._until = time.monotonic() + REQUEST_SECONDS

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def has_data(self) -> bool:
        """True if something has come, also the end."""
        return bool(self._poll(select.POLLIN, 0.0))

    def recv(self, size: int, flags: int = 0) -> bytes:
        while True:
            try:
                return _recv(self, size, flags)
            except BlockingIOError:
                self._wait(select.POLLIN, self._until - time.monotonic())

    def sendall(self, data: Any, flags: int = 0) -> None:
        sent = 0
        while sent < len(data):
            try:
                sent += _send(self, memoryview(data)[sent:] if sent else data, flags)
            except BlockingIOError:
                self._wait(select.POLLOUT, SEND_SECONDS)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends `count` bytes. If the file has become shorter, the connection must end."""
        left = count or 0
        while left:
            try:
                sent = os.sendfile(self.fileno(), file.fileno(), offset, min(left, _AT_ONCE))
            except BlockingIOError:
                self._wait(select.POLLOUT, SEND_SECONDS)
                continue
            if not sent:
                raise ConnectionAbortedError(errno.ECONNRESET, "the file is shorter than it was")
            offset, left = offset + sent, left - sent
        return count or 0

    def _wait(self, event: int, most: float) -> None:
        """Waits for the client while another thread does the work of this one."""
        if self._timeout is not None:
            most = min(most, self._timeout)
        with self._pool.stand_in():
            if not self._poll(event, max(0.0, most)):
                raise ConnectionResetError(errno.ECONNRESET, "the client is too slow")

    def _poll(self, event: int, seconds: float) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self, event)
        return poll.poll(1000 * seconds)
