"""Real gunicorn on a bucket whose store stalls, resets, refuses, talks nonsense, loses answers."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import random
import re
import socket
import socketserver
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from typing import Any, NamedTuple

import pytest
from buckets import BucketPath
from conftest import Server, jpeg, put
from PIL import Image
from scale import LONG, record, scale
from test_kills import Edit, Writers, edit_of, found

pytestmark = pytest.mark.slow
SEED = 13
HANG_SECONDS = 20.0  # a request that takes longer counts as one that hangs
SAYS_SECONDS = 10.0  # until health says that something is wrong, and that it is over
LIVE_SECONDS = 2.0
CACHED_SECONDS = 3.0  # health may answer from a report that it has just read
WRITERS, SHARED = scale(4, 8), scale(6, 24)  # images that all writers tag

Serve = Callable[..., Server]


# The store that fails


class Proxy(socketserver.ThreadingTCPServer):
    """Passes requests on to a store; between `begin` and `end` it spoils a share of them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, store: str) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.store = urllib.parse.urlsplit(store).netloc.split(":")
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.over = threading.Event()
        self.spoiled = 0
        self._random = random.Random(SEED)
        self._fault: tuple[Fault | None, float] = None, 0.0

    def begin(self, fault: Fault, share: float = 1.0) -> None:
        self.over.clear()
        self._fault = fault, share

    def end(self) -> None:
        self._fault = None, 0.0
        self.over.set()

    def due(self) -> Fault | None:
        """What happens to the next request; None: it is passed on."""
        fault, share = self._fault
        if fault is None or self._random.random() >= share:
            return None
        self.spoiled += 1
        return fault


class Connection(socketserver.StreamRequestHandler):
    """One request, then the connection is closed."""

    server: Proxy
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            if not head:
                return
            fault = self.server.due()
            if fault is stall:
                stall(self, b"")
                return
            if b"100-continue" in head.lower():
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            size = re.search(rb"(?i)content-length: *(\d+)", head)
            body = self.rfile.read(int(size[1])) if size else b""
            kept = [
                line
                for line in head.splitlines()
                if not line.lower().startswith((b"expect:", b"connection:"))
            ]
            request = b"\r\n".join([*kept, b"Connection: close", b"", body])
            if fault:
                fault(self, request)
            else:
                self.wfile.write(self.answer(request))

    def answer(self, request: bytes) -> bytes:
        """What the store answers."""
        host, port = self.server.store
        with socket.create_connection((host, int(port))) as store:
            store.sendall(request)
            return b"".join(iter(lambda: store.recv(1 << 16), b""))

    def reset(self) -> None:
        """Closes the connection so that the other side gets RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def say(self, status: str, kind: str, body: bytes, size: int | None = None) -> None:
        said = len(body) if size is None else size
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {said}\r\n"
        self.wfile.write(f"{head}Connection: close\r\n\r\n".encode() + body)


Fault = Callable[[Connection, bytes], None]


def stall(connection: Connection, _: bytes) -> None:
    connection.server.over.wait(60)


def reset(connection: Connection, _: bytes) -> None:
    connection.reset()


def refuse(connection: Connection, _: bytes) -> None:
    body = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>no</Message></Error>"
    connection.say("500 Internal Server Error", "application/xml", body)


def slow_down(connection: Connection, _: bytes) -> None:
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>slowly</Message></Error>"
    connection.say("503 Slow Down", "application/xml", body)


def html(connection: Connection, _: bytes) -> None:
    """As a proxy in between that wants a login."""
    connection.say("200 OK", "text/html", b"<html><body>Please sign in.</body></html>")


def half_xml(connection: Connection, _: bytes) -> None:
    body = b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>b</Name><Contents><Key>'
    connection.say("200 OK", "application/xml", body)


def cut(connection: Connection, request: bytes) -> None:
    """The store's own answer, whose body ends before its Content-Length."""
    answer = connection.answer(request)
    body = answer.find(b"\r\n\r\n") + 4
    connection.wfile.write(answer[: (body + len(answer)) // 2 if body < len(answer) else body - 9])


def lose(connection: Connection, request: bytes) -> None:
    """What was asked for is done, and the answer does not arrive."""
    connection.answer(request)
    connection.reset()


FAULTS: list[Fault] = [reset, refuse, slow_down, html, half_xml, cut, lose, stall]
SHARES = {"stall": 0.03}  # of requests at random; of other faults:
SHARE = 0.35


@pytest.fixture
def proxy(ours: BucketPath) -> Iterator[Proxy]:
    with Proxy(ours.service.endpoint) as found:
        server = threading.Thread(target=found.serve_forever, args=(0.05,))
        server.start()
        yield found
        found.end()
        found.shutdown()
        server.join()


# Clients


class Answer(NamedTuple):
    """An answer; `status` is 0 if there was none within `HANG_SECONDS`."""

    method: str
    route: str
    status: int
    headers: Message
    body: bytes
    seconds: float

    @property
    def is_clear(self) -> bool:
        """True if a client knows what to do."""
        if self.status == 503:
            return "Retry-After" in self.headers and "description" in json.loads(self.body)
        return self.status in (200, 202, 204, 502) or (self.method, self.status) == ("DELETE", 404)


def read(answer: http.client.HTTPResponse) -> bytes:
    """The body, or what came of it before the connection was closed."""
    try:
        return answer.read()
    except http.client.IncompleteRead as error:
        return error.partial


def ask(server: Server, method: str, route: str, body: Any = None) -> Answer:
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANG_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request(method, route, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            found = answer.status, answer.headers, read(answer)
        except (OSError, http.client.HTTPException) as error:
            found = 0, Message(), repr(error).encode()
    return Answer(method, route, *found, time.monotonic() - begun)


class Client:
    """Sends each request until it is answered, and keeps what it was told meanwhile."""

    def __init__(self, server: Server) -> None:
        self.answers: list[Answer] = []
        self._server = server

    def __call__(self, method: str, route: str, body: Any) -> tuple[int, bytes, int]:
        for sent in itertools.count(1):
            answer = ask(self._server, method, route, body)
            self.answers.append(answer)
            if answer.status not in (0, 502, 503):
                return answer.status, answer.body, sent
            threading.Event().wait(0.05)
        raise AssertionError


def check_stored(writers: Writers, bucket: BucketPath) -> None:
    """Every edit that was answered is in the bucket, whole, and no other is."""
    stored: dict[str, Edit] = {}
    for path in writers.expected():
        file = bucket / f"{path}.json"
        raw = file.read_bytes().strip() if file.exists() else b""  # a mark of removal is blank
        stored[path] = edit_of(json.loads(raw)) if raw else None
    assert stored == writers.expected()


PHOTO = jpeg(80, 60, seed=0)
NAMES = [f"album/photo{number}.jpg" for number in range(SHARED + 3 * WRITERS)]
FILES = ("/file?path=album/photo0.jpg", "/files/album/photo0.jpg")
READS = (
    *("/folders?path=album", "/item?path=album/photo0.jpg", "/thumb?path=album/photo0.jpg"),
    *(*FILES, "/search?q=photo&path=album", "/search/suggest?q=p"),
)


class Readers:
    """Clients that read everything, and one that asks all the time whether the process lives."""

    def __init__(self, server: Server) -> None:
        self.answers: list[Answer] = []
        self.live: list[Answer] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._read, self._knock)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            for route in READS:
                self.answers.append(ask(self._server, "GET", route))
            self._stop.wait(0.05)

    def _knock(self) -> None:
        while not self._stop.wait(0.1):
            self.live.append(ask(self._server, "GET", "/health/live"))

    def join(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def check_answers(client: Client, readers: Readers) -> None:
    """No answer is unclear or late, and the process always said that it lives."""
    answers = [*client.answers, *readers.answers]
    unclear = [answer for answer in answers if not answer.is_clear]
    assert not unclear, (len(unclear), unclear[:3])
    files = {answer.body for answer in answers if answer.route in FILES and answer.status == 200}
    assert all(map(PHOTO.startswith, files))
    dead = [answer for answer in readers.live if answer.status != 200]
    slowest = max(answer.seconds for answer in readers.live)
    assert not dead and slowest < LIVE_SECONDS, (dead[:3], slowest)


def fill(bucket: BucketPath) -> None:
    for number, name in enumerate(NAMES):
        put(bucket / name, jpeg(80, 60, seed=number))


@contextmanager
def clients(server: Server) -> Iterator[tuple[Writers, Client, Readers]]:
    client, readers = Client(server), Readers(server)
    writers = Writers(WRITERS, client, NAMES, SHARED)
    try:
        with writers.writing():
            yield writers, client, readers
    finally:
        readers.join()


def start(serve: Serve, bucket: BucketPath, proxy: Proxy, **settings: str) -> Server:
    fill(bucket)
    return serve(bucket, S3_ENDPOINT=proxy.endpoint, SCAN_SECONDS="2", **settings)


def is_ok(server: Server) -> bool:
    return bool(server.json("/health").get("status") == "ok")


def until_ok(server: Server, since: float, what: str, seconds: float = SAYS_SECONDS) -> float:
    """Waits until health is ok again; the seconds that it took."""
    while not is_ok(server):
        assert time.monotonic() - since < seconds, (what, SEED, trouble(server))
        threading.Event().wait(0.1)
    return time.monotonic() - since


def is_complete(server: Server, bucket: BucketPath, name: str) -> bool:
    """True if an image has a thumbnail in the bucket, and search finds it."""
    is_there = (bucket / f"album/{name}.thumbnail").exists()
    return is_there and server.json(f"/search?q=name:{name}").get("total") == 1


def check_completed(server: Server, bucket: BucketPath, writers: Writers, names: list[str]) -> None:
    """Thumbnails and search are complete soon, and nobody has to ask for it."""
    for name in names:
        server.until(lambda name=name: is_complete(server, bucket, name), 40)
        data = (bucket / f"album/{name}.thumbnail").read_bytes()
        assert Image.open(io.BytesIO(data)).size == (80, 60)
    for path, edit in writers.expected().items():
        for tag in edit[0] if edit else ():
            server.until(lambda path=path, tag=tag: path in found(server, f"tag:{tag}"), 20)


# The tests


def test_no_edit_is_lost_or_half_when_some_requests_to_the_store_fail(
    serve: Serve, ours: BucketPath, proxy: Proxy
) -> None:
    """Each kind of failure at random, under writers and readers."""
    server = start(serve, ours, proxy)
    server.until(lambda: is_ok(server))
    began = time.monotonic()
    with clients(server) as (writers, client, readers):
        for number, fault in enumerate(FAULTS):
            before, edits, name = proxy.spoiled, writers.edits, fault.__name__
            proxy.begin(fault, SHARES.get(name, SHARE))
            put(ours / f"album/new{number}.jpg", jpeg(80, 60, seed=60 + number))
            threading.Event().wait(scale(5, 200) / 10)
            server.until(lambda before=before: proxy.spoiled > before)
            proxy.end()
            figures = {"edits": writers.edits - edits, "spoiled": proxy.spoiled - before}
            record(f"store: {name} at random", **figures)
        ended, edits = time.monotonic(), writers.edits
        server.until(lambda: writers.edits > edits + WRITERS)
    check_stored(writers, ours)
    check_answers(client, readers)
    # Single images are tried again at doubling distance: within as long again as they failed.
    until_ok(server, ended, "all", ended - began + SAYS_SECONDS)
    names = [f"new{number}.jpg" for number in range(len(FAULTS))]
    check_completed(server, ours, writers, names)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.timing
@pytest.mark.parametrize("fault", FAULTS if LONG else [reset, html])
def test_an_outage_of_the_store_is_said_and_ends_without_help(
    serve: Serve, ours: BucketPath, proxy: Proxy, fault: Fault
) -> None:
    name = fault.__name__
    server = start(serve, ours, proxy)
    server.until(lambda: server.json("/search?q=photo&path=album").get("total") == len(NAMES))
    server.until(lambda: is_ok(server))
    with clients(server) as (writers, client, readers):
        server.until(lambda: writers.edits > 2 * WRITERS)
        proxy.begin(fault)
        begun = time.monotonic()
        put(ours / "album/new.jpg", jpeg(80, 60, seed=7))
        said = server.until(lambda: trouble(server), SAYS_SECONDS)
        threading.Event().wait(scale(2, 15) - (time.monotonic() - begun))
        assert server.until(lambda: trouble(server), CACHED_SECONDS)
        proxy.end()
        recovered = until_ok(server, time.monotonic(), name)
        before = writers.edits
        server.until(lambda: writers.edits > before + WRITERS)
    assert any("store" in reason.lower() for reason in said), said
    check_stored(writers, ours)
    check_answers(client, readers)
    check_completed(server, ours, writers, ["new.jpg"])
    assert "Traceback" not in server.log.read_text()
    record(f"store: outage, {name}", edits=writers.edits, recovered=round(recovered, 1))


def trouble(server: Server) -> list[str]:
    """The reasons that health gives, if it does not say ok."""
    found = server.json("/health")
    reasons: list[str] = found.get("reasons", []) if found.get("status") != "ok" else []
    return reasons


@pytest.mark.timing
def test_a_store_that_says_nothing_keeps_no_thread_from_what_needs_no_store(
    serve: Serve, ours: BucketPath, proxy: Proxy
) -> None:
    """However many requests wait for it; more than that are refused at once."""
    fill(ours)
    settings = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "4"}
    server = serve(ours, S3_ENDPOINT=proxy.endpoint, **settings)
    server.until(lambda: is_complete(server, ours, "photo0.jpg"))
    proxy.begin(stall)
    live = []
    with ThreadPoolExecutor(200) as clients:
        route = "/item?path=album/photo0.jpg"
        waiting = [clients.submit(ask, server, "GET", route) for _ in range(200)]
        while not all(each.done() for each in waiting):
            live += [ask(server, "GET", "/health/live"), ask(server, "GET", "/openapi.json")]
            threading.Event().wait(0.1)
    proxy.end()
    answers = [each.result() for each in waiting]
    assert {answer.status for answer in answers} == {503}
    assert all(answer.is_clear for answer in answers)
    assert max(answer.seconds for answer in answers) < HANG_SECONDS
    at_once = [answer for answer in answers if b"Too many requests wait" in answer.body]
    assert len(at_once) >= 190 and min(answer.seconds for answer in at_once) < 3
    assert {answer.status for answer in live} == {200}
    assert max(answer.seconds for answer in live) < LIVE_SECONDS
    until_ok(server, time.monotonic(), "after a silence")
