"""Clients that are slow, stall or go away: others are answered, and everything is free again."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import Server, jpeg, put
from scale import LONG, long_form, record, scale
from wire import Answer, Asker, Connection, exchange, request, without_traceback

pytestmark = pytest.mark.slow
SEED = 13
# Seconds in which a request must have come whole, in which a client must take some of its answer,
# and for which a connection is kept that asks for nothing: docs/deploy.md
REQUEST, SENDING, IDLE = 15, 30, 15
LATE = 6  # seconds that it may take for that, on a busy machine
TCP_CLOSE = 7  # the state of a socket that is no longer part of a connection
BIG = jpeg() + b"J" * 20_000_000
PUT = "PUT", "/item?path=a.jpg"
EDIT = b'{"notes": "whole"}'


class Kind(NamedTuple):
    """How a slow client behaves: what it sends at once, and what it then sends byte by byte.

    The service ends it after `seconds`, or never if that is None.
    """

    seconds: int | None
    sends: bytes
    drips: bytes = b""
    closes: bool = False  # its half of the connection
    reads: bool = True  # what comes back; if not, its buffers are small
    sips: bool = False  # reads a few bytes at a time


def promised(method: str, target: str, *headers: str) -> bytes:
    """The head of a request whose body has 100 bytes."""
    return request(method, target, "Content-Length: 100", *headers)


CHUNKED = request(*PUT, "Transfer-Encoding: chunked")
WHOLE = request("GET", "/health/live")
ORIGINAL = request("GET", "/file?path=big.jpg")
KINDS = {
    "says nothing": Kind(IDLE, b""),
    "sends a line byte by byte": Kind(REQUEST, b"", b"GET /health?" + b"x" * 4000),
    "stalls in the first line": Kind(REQUEST, b"GET /hea"),
    "stalls in the head": Kind(REQUEST, b"GET /health HTTP/1.1\r\nHost: localhost\r\n"),
    "sends headers byte by byte": Kind(REQUEST, b"GET /health HTTP/1.1\r\n", b"X: 1\r\n" * 900),
    "stalls in its second head": Kind(REQUEST, WHOLE + b"GET /hea"),
    "has been answered": Kind(IDLE, WHOLE),
    "stalls in a body": Kind(REQUEST, promised(*PUT) + EDIT[:10]),
    "sends a body byte by byte": Kind(REQUEST, promised(*PUT), b" " * 99),
    "stalls before a body": Kind(REQUEST, promised(*PUT)),
    "waits with a body": Kind(REQUEST, promised(*PUT, "Expect: 100-continue")),
    "stalls in a body that nobody reads": Kind(REQUEST, promised("GET", "/health") + EDIT[:10]),
    "sends a body that nobody reads byte by byte": Kind(
        REQUEST, promised("GET", "/health"), b" " * 99
    ),
    "stalls in a chunk": Kind(REQUEST, CHUNKED + b"64\r\n" + EDIT[:10]),
    "stalls in the size of a chunk": Kind(REQUEST, CHUNKED + b"6"),
    "stalls between chunks": Kind(REQUEST, CHUNKED + b"2\r\n{}\r\n"),
    "stalls in trailers": Kind(REQUEST, CHUNKED + b"2\r\n{}\r\n0\r\nX: "),
    "sends chunks byte by byte": Kind(REQUEST, CHUNKED, b"1\r\n \r\n" * 900),
    "does not read an original": Kind(SENDING, ORIGINAL, reads=False),
    "does not read many answers": Kind(
        SENDING, request("GET", "/openapi.json") * 1000, reads=False
    ),
    "reads an original sip by sip": Kind(None, ORIGINAL, reads=False, sips=True),
    "half closes before a request": Kind(2, b"", closes=True),
    "half closes in a head": Kind(2, b"GET /hea", closes=True),
    "half closes in a body": Kind(2, promised(*PUT) + EDIT[:10], closes=True),
    "half closes in a chunk": Kind(2, CHUNKED + b"64\r\n" + EDIT[:10], closes=True),
    "half closes after a request": Kind(2, WHOLE, closes=True),
}


class Slow:
    """Slow clients of some kinds, `count` of each, that a thread keeps up until they are closed."""

    def __init__(self, server: Server, kinds: list[str], count: int) -> None:
        self._server, self._stop = server, threading.Event()
        self.connections = [
            (name, Connection(server.port, small=not KINDS[name].reads))
            for name in kinds
            for _ in range(count)
        ]
        self.begun = time.monotonic()
        self.last_open = dict.fromkeys(kinds, 0.0)  # seconds after the beginning
        self._keeper = threading.Thread(target=self._keep_up)

    def __enter__(self) -> Slow:
        for name, connection in self.connections:
            connection.sock.setblocking(False)
            self._send(connection, KINDS[name].sends)
            if KINDS[name].closes:
                connection.end()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes those that the service has not ended."""
        self._stop.set()
        self._keeper.join()
        for _, connection in self.connections:
            connection.close()

    def _keep_up(self) -> None:
        """Sends one more byte, or reads a few, on each connection four times a second."""
        at = 0
        while not self._stop.wait(0.25):
            for name, connection in self.connections:
                self._send(connection, KINDS[name].drips[at : at + 1])
                if KINDS[name].sips:
                    with contextlib.suppress(OSError):
                        connection.sock.recv(100)
            for name in self.held():
                self.last_open[name] = time.monotonic() - self.begun
            at += 1

    def _send(self, connection: Connection, data: bytes) -> None:
        """Sends as much as the system takes at once, until the service has closed."""
        with contextlib.suppress(OSError):
            if data:
                connection.sock.send(data)

    def held(self) -> set[str]:
        """The kinds of which the service has a connection open.

        The port of one that ended after a half close may be that of another client by now.
        """
        ports = ports_held(self._server)
        return {
            name
            for name, each in self.connections
            if each.sock.getsockname()[1] in ports
            and each.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE
        }


def ports_held(server: Server) -> set[int]:
    """The clients' ports of the connections that the service's processes have open."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [(line.split()[1:3], line.split()[9]) for line in lines]
    return {
        int(ends[1].partition(":")[2], 16)
        for ends, inode in rows
        if int(ends[0].partition(":")[2], 16) == server.port and inode != "0"
    }


def request_pid(server: Server) -> int:
    """The only request process."""
    (pid,) = server.workers() - {server.index_pid()}
    return pid


def files_and_threads(pid: int) -> tuple[int, int]:
    """How many files and connections a process has open, and how many threads."""
    files = set[str]()
    for file in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if "/search-" not in os.readlink(f"/proc/{pid}/fd/{file}"):  # mapped after an edit
                files.add(file)
    return len(files), len(os.listdir(f"/proc/{pid}/task"))


def megabytes(pid: int) -> float:
    """The memory of a process that is its own."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return (sizes["Private_Clean:"] + sizes["Private_Dirty:"]) / 1024


NORMAL = [
    *(request("GET", f"/{each}?path=a.jpg") for each in ("item", "thumb", "file")),
    *(request("GET", f"/{each}") for each in ("health", "folders", "search?q=a", "openapi.json")),
    *(WHOLE, request(*PUT, body=EDIT), CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"),
]


def normal_requests(server: Server) -> float:
    """20 requests, half of them on a connection that is kept; the seconds that the slowest took."""
    slowest = 0.0
    with Asker(server.port, seconds=3) as kept:
        for sent in NORMAL:
            for ask in (kept, lambda sent: asked_alone(server, sent)):
                begun = time.monotonic()
                answer = ask(sent)
                seconds = time.monotonic() - begun
                assert answer and answer.status == 200, (sent, answer)
                assert seconds < 2, f"{seconds:.1f} s: {sent!r}"  # other tests share the processor
                slowest = max(slowest, seconds)
    return slowest


def asked_alone(server: Server, sent: bytes) -> Answer | None:
    with Connection(server.port, seconds=3) as connection:
        connection.send(sent)
        return connection.answer()


def everything_is_free(server: Server, before: tuple[int, int]) -> None:
    """No file, connection or thread more than before is left, after a few seconds."""

    def free() -> bool:
        now = files_and_threads(request_pid(server))
        return now[0] <= before[0] and now[1] <= before[1]

    server.until(free, 30)


@contextlib.contextmanager
def started(home: pathlib.Path) -> Iterator[Server]:
    """A service with one request process of four threads, warmed up."""
    put(home / "photos/a.jpg")
    put(home / "photos/big.jpg", BIG)
    settings = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "4", "WORKER_THREADS": "1"}
    with many_files():
        server = Server(home / "photos", home, **settings)
    try:
        server.until(lambda: server.json("/search?q=big").get("total") == 1)
        assert server.thumbnail("a.jpg")[0] == 200
        normal_requests(server)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("slow")) as server:
        yield server


class Besieged(NamedTuple):
    """A service that has slow clients of all kinds, while the other tests run."""

    server: Server
    slow: Slow
    before: tuple[int, int]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    with started(tmp_path_factory.mktemp("besieged")) as server:
        before = files_and_threads(request_pid(server))
        with Slow(server, list(KINDS), 10) as slow:
            yield Besieged(server, slow, before)


@pytest.fixture(autouse=True)
def no_traceback(server: Server) -> Iterator[None]:
    with without_traceback(server):
        yield


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """This process, and those that it starts meanwhile, may open 4,096 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_clients_of_all_kinds_together_keep_nobody_waiting(besieged: Besieged) -> None:
    threading.Event().wait(0.5)
    slowest = normal_requests(besieged.server)
    clients = len(besieged.slow.connections)
    record("slow clients of all kinds", connections=clients, slowest=round(slowest, 3))


GROUPS = {
    "heads": [name for name in KINDS if re.search("line|head|nothing|answered", name)],
    "bodies": [name for name in KINDS if "bod" in name or "chunk" in name or "trail" in name],
    "answers": [name for name, kind in KINDS.items() if not kind.reads],
    "halves": [name for name, kind in KINDS.items() if kind.closes],
}


@long_form
@pytest.mark.parametrize("group", GROUPS)
def test_many_slow_clients_of_a_kind_are_ended_in_time(server: Server, group: str) -> None:
    before = files_and_threads(request_pid(server))
    with Slow(server, GROUPS[group], 64) as slow:
        slowest = all_ended(server, slow, SENDING)
    everything_is_free(server, before)
    clients, most = len(slow.connections), max(slow.last_open.values())
    figures = {"slowest": round(slowest, 3), "ended_within": round(most, 1)}
    record(f"slow clients: {group}", connections=clients, **figures)


def all_ended(server: Server, slow: Slow, until: int) -> float:
    """Waits for the kinds that the service must end within `until` seconds, and looks that it did.

    Others are answered meanwhile. Returns the seconds that the slowest of them took.
    """
    wanted = {name: KINDS[name].seconds or until + 1 for name in slow.last_open}
    wanted = {name: seconds for name, seconds in wanted.items() if seconds <= until}
    slowest, latest = 0.0, slow.begun + max(wanted.values()) + LATE
    while slow.held() & wanted.keys() and time.monotonic() < latest:
        slowest = max(slowest, normal_requests(server))
        threading.Event().wait(0.25)
    took = {name: slow.last_open[name] for name in wanted}
    assert {name: took[name] for name in wanted if took[name] > wanted[name] + LATE - 1} == {}
    assert not slow.held() & wanted.keys()
    return slowest


def test_a_thousand_idle_connections_cost_little_and_stop_nobody(server: Server) -> None:
    """Some have never sent anything, some were answered once, and some stalled in a head."""
    pid = request_pid(server)
    before, memory = files_and_threads(pid), megabytes(pid)
    with many_files(), contextlib.ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(Connection(server.port, seconds=3))
            connection.send([b"", WHOLE, WHOLE[:20]][number % 3])
            if number % 3 == 1:
                answer = connection.answer()
                assert answer and answer.status == 200, number
        slowest = normal_requests(server)
        grown = megabytes(pid) - memory
        if LONG:
            server.until(lambda: len(ports_held(server)) <= 2, IDLE + LATE)
    assert grown < 50
    everything_is_free(server, before)
    record("1,000 idle connections", slowest_seconds=round(slowest, 3), megabytes=round(grown, 1))


# Bodies that end too early, or are malformed: none of them is an edit, though the JSON is whole.
HALF = b'{"notes": "half"}'
BROKEN = {
    "no chunk": CHUNKED,
    "half a size": CHUNKED + b"1",
    "a size without a chunk": CHUNKED + b"11\r\n",
    "half a chunk": CHUNKED + b"11\r\n" + HALF[:5],
    "no end of a chunk": CHUNKED + b"11\r\n" + HALF,
    "no last chunk": CHUNKED + b"11\r\n" + HALF + b"\r\n",
    "half a last chunk": CHUNKED + b"11\r\n" + HALF + b"\r\n0\r\n",
    "no end of trailers": CHUNKED + b"11\r\n" + HALF + b"\r\n0\r\nX: 1\r\n",
    "a size that is no number": CHUNKED + b"zz\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-11\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a size without bounds": CHUNKED + b"f" * 9000 + b"\r\n" + HALF,
    "a size of many bytes": CHUNKED + b"f" * 15 + b"\r\n" + HALF,
    "a chunk that is longer": CHUNKED + b"10\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a chunk that is shorter": CHUNKED + b"12\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a broken extension": CHUNKED + b"11;\0\r\n" + HALF + b"\r\n0\r\n\r\n",
    "a broken trailer": CHUNKED + b"11\r\n" + HALF + b"\r\n0\r\nX\r\n\r\n",
    "a trailer with a length": CHUNKED + b"11\r\n" + HALF + b"\r\n0\r\nContent-Length: 1\r\n\r\n",
    "trailers without bounds": CHUNKED + b"11\r\n" + HALF + b"\r\n0\r\n" + b"X: 1\r\n" * 200_000,
    "no body": promised(*PUT),
    "a part of a body": promised(*PUT) + HALF[:5],
    "a body that is too short": promised(*PUT) + HALF,
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


def test_a_client_that_goes_away_in_the_middle_leaves_no_traceback(server: Server) -> None:
    """Closed, or reset, after each part of a request and of an answer."""
    assert asked_alone(server, request(*PUT, body=EDIT))
    before, chance, count = files_and_threads(request_pid(server)), random.Random(SEED), 0
    print(f"seed {SEED}")
    parts = [*BROKEN.values(), ORIGINAL, request("GET", "/openapi.json") * 50, *NORMAL]
    for data in parts * scale(1, 60):
        with Connection(server.port, small=True) as connection:
            if chance.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.send(data[: chance.randint(1, len(data))])
            threading.Event().wait(chance.random() / 50)
        count += 1
    assert server.json("/item?path=a.jpg").get("notes") != "half"
    everything_is_free(server, before)
    record("clients that go away", connections=count, tracebacks=0)


@pytest.mark.parametrize("asked", ["whole", "part", "path"])
def test_a_file_truncated_while_it_is_sent_ends_the_connection(server: Server, asked: str) -> None:
    """The answer to the next request is never taken for the rest of the file."""
    file = server.log.parent / "photos/shrinks.jpg"
    target = "/files/shrinks.jpg" if asked == "path" else "/file?path=shrinks.jpg"
    headers = ["Range: bytes=1000-"] if asked == "part" else []
    following = request("GET", "/health/live", "X-Request-Id: following")
    for left in [0, 300_000, 5_000_000] * scale(1, 8):
        file.write_bytes(BIG)
        with Connection(server.port, small=True) as connection:
            connection.send(request("GET", target, *headers) + following)
            line = connection.file.readline()
            assert line.split()[1] in (b"200", b"206")
            while connection.file.readline() != b"\r\n":
                pass
            received = connection.file.read(100_000)
            os.truncate(file, left)
            with contextlib.suppress(ConnectionResetError):
                received += connection.file.read()
        assert b"HTTP/1.1" not in received and b"following" not in received
        assert len(received) < len(BIG) - 1000
    file.unlink()
    record(f"files truncated while they are sent: {asked}", files=3 * scale(1, 8), astray=0)


def test_requests_that_follow_each_other_are_answered_in_order(server: Server) -> None:
    """Sent all at once, with bodies, and with some that are refused."""
    kinds = [
        (request("GET", "/health/live"), 200),
        (request(*PUT, body=EDIT), 200),
        (request("GET", "/item?path=none.jpg"), 404),
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", 200),
        (request("GET", "/folders", body=b"not read"), 200),
        (request("GET", "/file?path=a.jpg"), 200),
        (request(*PUT, body=b"no JSON"), 400),
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
    sent = request(*PUT, body=body)
    if chunked:
        sent = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
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
    assert normal_requests(server) < 1


def test_after_all_this_the_service_is_as_it_was(server: Server) -> None:
    """It has not been restarted, is healthy, and answers as fast as ever."""
    assert normal_requests(server) < 1
    log = server.log.read_text(errors="replace")
    assert not re.search(
        "WORKER TIMEOUT|Worker exiting|was sent SIG|MemoryError|Too many open", log
    )
    server.until(lambda: server.json("/health").get("status") == "ok")
    assert server.json("/item?path=a.jpg")["notes"] == "whole"


def test_the_slow_clients_of_all_kinds_were_ended_in_time(besieged: Besieged) -> None:
    """In the short form, those that must be ended within 15 s."""
    server, slow, before = besieged
    all_ended(server, slow, scale(REQUEST, SENDING))
    slow.close()
    everything_is_free(server, before)
    log = server.log.read_text(errors="replace")
    assert "Traceback" not in log
