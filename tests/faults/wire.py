"""Requests as bytes, which no HTTP library would send, and what comes back."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from email.message import Message
from typing import Any, NamedTuple

SECONDS = 20.0  # after which a connection without a sign of life fails the test


class Answer(NamedTuple):
    """An answer whose body is whole."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(port: int, data: bytes, *, head: bool = False) -> Answer:
    """Sends bytes, says that this was all, and reads the first answer."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        with contextlib.suppress(OSError):  # it has closed already, and its answer waits
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        with http.client.HTTPResponse(client, method="HEAD" if head else "GET") as answer:
            answer.begin()
            return Answer(answer.status, answer.headers, answer.read())


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire, with a length if it has a body."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *length, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
