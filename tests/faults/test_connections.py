"""Connections with bodies that nobody reads, bodies that break off, and clients that go away."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import Server, jpeg, put
from scale import record, scale
from wire import Connection, exchange, request, without_traceback

pytestmark = pytest.mark.slow
SEED = 13
BIG = jpeg() + b"J" * 20_000_000
SIDECAR = "kept.jpg.json"  # which every hidden request would remove
HIDDEN = b"DELETE /item?path=kept.jpg HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: hidden\r\n\r\n"
LAST = request("GET", "/health/live", "X-Request-Id: last", "Connection: close")
WHOLE = request("GET", "/health/live")
EDIT = b'{"notes": "edited"}'


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([line, "Host: localhost", *lines, "", ""]).encode("latin-1")


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


PUT, GET = "PUT /item?path=a.jpg HTTP/1.1", "GET /item?path=a.jpg HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


class Body(NamedTuple):
    """A request that is right, with the hidden one in its body, and how it is answered."""

    data: bytes
    status: int


# Nothing is wrong with these; the body must not be taken for a request, whether it is read or not.
LONG = HIDDEN * 4000
LENGTH = f"Content-Length: {len(HIDDEN)}"
UPGRADE = [
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
]
BODIES = {
    "edit": Body(head(PUT, LENGTH) + HIDDEN, 400),
    "edit in chunks": Body(head(PUT, CHUNKED) + chunks(HIDDEN[:20], HIDDEN[20:]), 400),
    "size with zeros": Body(head(PUT, CHUNKED) + b"0" * 9 + chunks(HIDDEN), 400),
    "chunk extensions": Body(
        head(PUT, CHUNKED) + b'%x;a;b="c;\\"d";e=f\r\n%b\r\n0;x\r\n\r\n' % (len(HIDDEN), HIDDEN),
        400,
    ),
    "trailers": Body(head(PUT, CHUNKED) + chunks(EDIT, end=b"0\r\nX: 1\r\nY: 2\r\n\r\n"), 200),
    "odd capitals": Body(head(PUT, "tRANSFER-eNCODING: ChUnKeD") + chunks(EDIT), 200),
    "a tab before the value": Body(head(PUT, "Transfer-Encoding:\tchunked\t") + chunks(EDIT), 200),
    "zeros before the length": Body(head(PUT, f"Content-Length: 00{len(EDIT)}") + EDIT, 200),
    "absolute address": Body(
        b"PUT http://localhost/item?path=a.jpg HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
        400,
    ),
    "GET with a body": Body(head(GET, LENGTH) + HIDDEN, 200),
    "GET with chunks": Body(head(GET, CHUNKED) + chunks(HIDDEN), 200),
    "GET with a long body": Body(head(GET, f"Content-Length: {len(LONG)}") + LONG, 200),
    "GET with long chunks": Body(head(GET, CHUNKED) + chunks(*[HIDDEN] * 4000), 200),
    "original with a body": Body(head("GET /file?path=a.jpg HTTP/1.1", LENGTH) + HIDDEN, 200),
    "DELETE with a body": Body(head("DELETE /item?path=none.jpg HTTP/1.1", LENGTH) + HIDDEN, 404),
    "too long": Body(head(PUT, f"Content-Length: {len(LONG)}") + LONG, 413),
    "too long in chunks": Body(head(PUT, CHUNKED) + chunks(*[HIDDEN] * 4000), 413),
    "another site": Body(head(PUT, "Sec-Fetch-Site: cross-site", LENGTH) + HIDDEN, 403),
    "another host": Body(head(PUT, LENGTH).replace(b"localhost", b"example.org") + HIDDEN, 421),
    "no such route": Body(head("POST /nothing HTTP/1.1", CHUNKED) + chunks(HIDDEN), 404),
    "no such method": Body(head("PATCH /item HTTP/1.1", LENGTH) + HIDDEN, 405),
    "an expectation": Body(head(PUT, "Expect: 100-continue", LENGTH) + HIDDEN, 400),
    "another protocol": Body(head(PUT, LENGTH, *UPGRADE) + HIDDEN, 400),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over two photos, one with the sidecar that hidden requests would remove."""
    home = tmp_path_factory.mktemp("connections")
    for name in ("a.jpg", "kept.jpg"):
        put(home / "photos" / name)
    put(home / "photos/big.jpg", BIG)
    (home / "photos" / SIDECAR).write_text('{"v": 1, "tags": ["kept"], "notes": "kept"}')
    started = Server(home / "photos", home, WEB_CONCURRENCY="1")
    try:
        started.until(lambda: started.json("/search?q=tag:kept").get("total") == 1)
        yield started
    finally:
        started.stop()


@pytest.fixture(autouse=True)
def no_traceback(server: Server) -> Iterator[None]:
    with without_traceback(server):
        yield


def test_a_body_is_never_taken_for_a_request(server: Server) -> None:
    """The next request on the connection is answered, unless the body is long or the service says
    that it closes."""
    for name, (sent, status) in BODIES.items():
        for _ in range(scale(1, 20)):
            first, *rest = exchange(server.port, sent + LAST)
            assert first.status == status, (name, first)
            may_close = first.headers["Connection"] == "close" or len(sent) > 64 * 1024
            allowed = [["last"], []] if may_close else [["last"]]
            assert [answer.id for answer in rest] in allowed, name
            assert (server.log.parent / "photos" / SIDECAR).exists(), name
    record("requests in bodies", requests=len(BODIES) * scale(1, 20))


# Bodies that end too early, or are malformed: none of them is an edit, though the JSON is whole.
CHUNKS, PROMISED = head(PUT, CHUNKED), head(PUT, "Content-Length: 100")
HALF = b'{"notes": "half"}'
BROKEN = {
    "no chunk": CHUNKS,
    "half a size": CHUNKS + b"1",
    "a size without a chunk": CHUNKS + b"11\r\n",
    "half a chunk": CHUNKS + b"11\r\n" + HALF[:5],
    "no end of a chunk": CHUNKS + b"11\r\n" + HALF,
    "no last chunk": CHUNKS + b"11\r\n" + HALF + b"\r\n",
    "half a last chunk": CHUNKS + b"11\r\n" + HALF + b"\r\n0\r\n",
    "no end of trailers": CHUNKS + b"11\r\n" + HALF + b"\r\n0\r\nX: 1\r\n",
    "a size that is no number": CHUNKS + b"zz\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a negative size": CHUNKS + b"-11\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a size without bounds": CHUNKS + b"f" * 9000 + b"\r\n" + HALF,
    "a size of many bytes": CHUNKS + b"f" * 15 + b"\r\n" + HALF,
    "a chunk that is longer": CHUNKS + b"10\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a chunk that is shorter": CHUNKS + b"12\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a broken extension": CHUNKS + b"11;\0\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a broken trailer": CHUNKS + b"11\r\n" + HALF + b"\r\n0\r\nX\r\n\r\n",
    "a trailer with a length": CHUNKS + b"11\r\n" + HALF + b"\r\n0\r\nContent-Length: 1\r\n\r\n",
    "trailers without bounds": CHUNKS + b"11\r\n" + HALF + b"\r\n0\r\n" + b"X: 1\r\n" * 200_000,
    "no body": PROMISED,
    "a part of a body": PROMISED + HALF[:5],
    "a body that is too short": PROMISED + HALF,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_that_is_broken_or_ends_early_answers_400_and_changes_nothing(
    server: Server, name: str
) -> None:
    (answer,) = exchange(server.port, BROKEN[name])
    assert answer.status == 400
    told = answer.json
    assert isinstance(told["title"], str) and isinstance(told["description"], str)
    assert server.json("/item?path=a.jpg").get("notes") != "half"


def test_a_client_that_goes_away_in_the_middle_leaves_no_connection_open(server: Server) -> None:
    """Closed, or reset, after each part of a request and of an answer."""
    (pid,) = server.workers() - {server.index_pid()}
    before, chance, count = sockets(pid), random.Random(SEED), 0
    print(f"seed {SEED}")
    parts = [*BROKEN.values(), request("GET", "/file?path=big.jpg"), WHOLE, WHOLE * 50]
    for data in parts * scale(2, 60):
        with Connection(server.port, small=True) as connection:
            if chance.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.send(data[: chance.randint(1, len(data))])
            threading.Event().wait(chance.random() / 50)
        count += 1
    assert server.json("/item?path=a.jpg").get("notes") != "half"
    server.until(lambda: sockets(pid) <= before)
    record("clients that go away", connections=count)


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += os.readlink(file).startswith("socket:")
    return found


def test_requests_that_follow_each_other_are_answered_in_order(server: Server) -> None:
    """Sent all at once, with bodies, and with some that are refused."""
    kinds = [
        (request("GET", "/health/live"), 200),
        (request("PUT", "/item?path=a.jpg", body=EDIT), 200),
        (request("GET", "/item?path=none.jpg"), 404),
        (CHUNKS + b"2\r\n{}\r\n0\r\n\r\n", 200),
        (request("GET", "/folders", body=b"not read"), 200),
        (request("GET", "/file?path=a.jpg"), 200),
        (request("PUT", "/item?path=a.jpg", body=b"no JSON"), 400),
        (request("DELETE", "/openapi.json"), 405),
    ]
    for number in range(scale(5, 200)):
        named = [
            sent.replace(b"\r\n", b"\r\nX-Request-Id: %d-%d\r\n" % (number, at), 1)
            for at, (sent, _) in enumerate(kinds)
        ]
        with Connection(server.port) as connection:
            connection.send(b"".join(named))
            answers = [connection.answer() for _ in kinds]
            found = [(each.id, each.status) for each in answers if each]
            assert found == [(f"{number}-{at}", status) for at, (_, status) in enumerate(kinds)]
            connection.send(WHOLE)  # and the connection is kept
            answer = connection.answer()
            assert answer and answer.status == 200


@pytest.mark.parametrize("size", [262_145, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_that_is_too_long_is_answered_413_and_ends_nothing_else(
    server: Server, size: int, chunked: bool
) -> None:
    """Also to a client that sends all of it before it reads, and asks on."""
    body = b'{"notes": "' + b"x" * (size - 13) + b'"}'
    sent = request("PUT", "/item?path=a.jpg", body=body)
    if chunked:
        sent = CHUNKS + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with Connection(server.port) as connection:
        connection.send(WHOLE)
        first = connection.answer()
        assert first and first.status == 200
        connection.send(sent)
        refused = connection.answer()
        assert refused and refused.status == 413
        assert json.loads(refused.body)["title"]
        connection.send(WHOLE)
        for answer in connection.answers():
            assert answer.status == 200
            break
    assert server.get("/health/live")[0] == 200
