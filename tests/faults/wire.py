"""Connections that send bytes which no HTTP library would send, and read what comes back."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from conftest import Server

SECONDS = 20.0  # after which a connection without a sign of life fails the test


class Answer(NamedTuple):
    """One answer as it came. `complete` is false if the connection ended within its body."""

    status: int
    headers: Any
    body: bytes
    complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The id of the request that this answers, which a client may choose."""
        return str(self.headers["X-Request-Id"])


def read_answer(file: BinaryIO, *, head: bool = False) -> Answer | None:
    """Reads the next answer; None at the end. What is not HTTP fails the test."""
    line = file.readline()
    if not line:
        return None
    version, status, _ = (line.decode("latin-1") + "  ").split(" ", 2)
    assert version in ("HTTP/1.0", "HTTP/1.1") and status.isdigit(), line
    headers = http.client.parse_headers(file)
    if status.startswith("1"):
        return read_answer(file, head=head)
    if head or status in ("204", "304"):
        return Answer(int(status), headers, b"")
    length = headers["Content-Length"]
    body = file.read() if length is None else file.read(int(length))
    return Answer(int(status), headers, body, length is None or len(body) == int(length))


class Connection:
    """A connection to a port of this host. `small` receives little before it is read."""

    def __init__(self, port: int, *, small: bool = False, seconds: float = SECONDS) -> None:
        self.sock = socket.socket()
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(seconds)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        """Sends bytes. If the service has closed already, its answer still waits to be read."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> None:
        """Says that nothing more will be sent; answers can still be read."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def answer(self, *, head: bool = False) -> Answer | None:
        """The next answer, None if the service has closed the connection."""
        try:
            return read_answer(self.file, head=head)
        except ConnectionResetError:
            return None

    def answers(self) -> Iterator[Answer]:
        """All answers until the service closes the connection."""
        while found := self.answer():
            yield found

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exchange(port: int, data: bytes, *, head: bool = False, ends: bool = True) -> list[Answer]:
    """Sends bytes and, if `ends`, says that this was all; every answer until the connection ends."""
    with Connection(port) as connection:
        connection.send(data)
        if ends:
            connection.end()
        if head:
            return [found for found in [connection.answer(head=True)] if found]
        return list(connection.answers())


def request(
    method: str, target: str, *headers: str, body: bytes = b"", host: str = "localhost"
) -> bytes:
    """A request as it goes over the wire, with a length if it has a body."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *length, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@contextmanager
def without_traceback(server: Server) -> Iterator[None]:
    """What happens meanwhile leaves no traceback in the log."""
    before = server.log.stat().st_size
    yield
    added = server.log.read_bytes()[before:]
    assert b"Traceback" not in added, added[-2000:].decode(errors="replace")


class Asker:
    """A client that asks one thing after another, on one connection as long as that lasts."""

    def __init__(self, port: int, *, seconds: float = SECONDS) -> None:
        self.port, self.seconds, self.asked = port, seconds, 0
        self.connection: Connection | None = None

    def __call__(self, data: bytes, *, head: bool = False) -> Answer:
        """The answer to one request; asked again if the kept connection was closed before it."""
        self.asked += 1
        kept = self.connection is not None
        self.connection = self.connection or Connection(self.port, seconds=self.seconds)
        self.connection.send(data)
        found = self.connection.answer(head=head)
        if found is None or found.headers["Connection"] == "close":
            self.close()
        if found is None:
            assert kept, f"no answer to {data[:300]!r}"
            return self(data, head=head)
        return found

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
