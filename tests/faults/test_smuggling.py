"""Requests hidden in other requests: never executed, and no client gets another's answer."""

from __future__ import annotations

import json
import pathlib
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import Server, free_port, put, wait_for
from scale import record, scale
from wire import Answer, Connection, exchange, request, without_traceback

pytestmark = pytest.mark.slow
SEED = 13
NGINX = shutil.which("nginx")
SIDECAR = "kept.jpg.json"  # which every hidden request would remove
HIDDEN = b"DELETE /item?path=kept.jpg HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: hidden\r\n\r\n"
LEAKED = HIDDEN.replace(b"DELETE /item?path=kept.jpg", b"GET /item?path=kept.jpg&a=")
LAST = request("GET", "/health/live", "X-Request-Id: last", "Connection: close")
EDIT = b'{"notes": "edited"}'


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([line, "Host: localhost", *lines, "", ""]).encode("latin-1")


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


PUT, GET = "PUT /item?path=a.jpg HTTP/1.1", "GET /item?path=a.jpg HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"
ENDED = b"0\r\n\r\n" + HIDDEN  # the hidden request, for one who reads chunks

# Both lengths, or chunks announced oddly. For one reader the hidden request is part of the body.
TWO_LENGTHS = {
    "CL.TE": [f"Content-Length: {len(ENDED)}", CHUNKED],
    "TE.CL": [CHUNKED, "Content-Length: 5"],
    "TE.CL of all": [CHUNKED, f"Content-Length: {len(ENDED)}"],
    **{
        f"TE.TE {line!r}": [f"Content-Length: {len(ENDED)}", line]
        for line in (
            *("Transfer-Encoding: xchunked", "Transfer-Encoding: chunked-not", CHUNKED.upper()),
            *("Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " " + CHUNKED),
            *("Transfer-Encoding:\tchunked", "Transfer-Encoding: \x0bchunked", "X: x\n" + CHUNKED),
            *("Transfer-Encoding: chunked\x00", "Transfer-Encoding: 'chunked'", "X: x\r" + CHUNKED),
            *("Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity, chunked"),
            *("Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "\t" + CHUNKED),
            *("Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "\x00: x"),
            *(
                "Transfer-Encoding: chunked;q=1",
                "Transfer-Encoding:",
                "Transfer-Encoding: ,chunked",
            ),
            *("Transfer-Encoding: cow\r\n" + CHUNKED, "Transfer-Encoding: \xa0chunked"),
            *(CHUNKED + "\r\nTransfer-Encoding: cow", "Transfer-Encoding: ch\xfcnked"),
            *("Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked\r\n , identity"),
            *("Transfer_Encoding: chunked", "Transfer-Encoding\xff: chunked", "TE: chunked"),
            *("Connection: Transfer-Encoding\r\n" + CHUNKED, "Trailer: Content-Length"),
        )
    },
    **{
        f"CL {value!r}": [f"Content-Length: {value}"]
        for value in (
            *(f"+{len(ENDED)}", f"-{len(ENDED)}", f"{len(ENDED)} ,", f"0x{len(ENDED):x}", "", "²"),
            *(f"{len(ENDED)}, {len(ENDED)}", f"{len(ENDED)} 0", f"{len(ENDED)}.0", "0x0", "1_0"),
            *(f"{len(ENDED)}\x00", f"{len(ENDED)}\x0b", f"{len(ENDED)};", "9" * 5000, "1e2", "NaN"),
        )
    },
    "same length twice": [f"Content-Length: {len(ENDED)}"] * 2,
    "two different lengths": ["Content-Length: 5", f"Content-Length: {len(ENDED)}"],
    "length of other letters": [f"Content-Length: {len(ENDED)}", "content-length: 5"],
    "length with a space": ["Content-Length : 5", f"Content-Length: {len(ENDED)}"],
    "length that is folded": ["Content-Length:", f" {len(ENDED)}"],
    "length after a bare LF": [f"X: x\nContent-Length: 5\r\nContent-Length: {len(ENDED)}"],
    "length with an underscore": ["Content_Length: 5", f"Content-Length: {len(ENDED)}"],
}

# Chunks that one reader ends before the hidden request, and another after it.
CHUNKS = {
    f"size {size!r}": size.encode("latin-1") + b"\r\n" + HIDDEN + b"\r\n0\r\n\r\n"
    for size in (
        *(f"0x{len(HIDDEN):x}", f"+{len(HIDDEN):x}", f"-{len(HIDDEN):x}", f" {len(HIDDEN):x}", ""),
        *("-0", "1" + "0" * 16, "f" * 16, "f" * 4000, "²", "g", "0;\n\r", "0\r\r"),
        *(f"{len(HIDDEN):x}{end}" for end in (" ", "\t", "_", "\x00", "\x0b", "h")),
        *(f"{len(HIDDEN):x};{end}" for end in ("\r", "a\nb", "a=\x00")),
    )
} | {
    "size ended by a bare LF": b"%x\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "chunk ended by a bare LF": b"2\r\n{}\n0\r\n\r\n" + HIDDEN,
    "chunk without an end": b"2\r\n{}0\r\n\r\n" + HIDDEN,
    "chunk ended by two other bytes": b"2\r\n{}XX0\r\n\r\n" + HIDDEN,
    "chunk longer than its size": b"2\r\n{}" + HIDDEN + b"\r\n0\r\n\r\n",
    "last chunk ended by a bare LF": b"2\r\n{}\r\n0\n\n" + HIDDEN,
    "trailer ended by a bare LF": b"2\r\n{}\r\n0\r\nX: 1\n\n" + HIDDEN,
    "trailer with a space": b"2\r\n{}\r\n0\r\nX : 1\r\n\r\n" + HIDDEN,
    "trailer with a length": b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n" + HIDDEN,
    "trailer with an encoding": b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN,
    "trailer that is the hidden request": b"2\r\n{}\r\n0\r\n" + HIDDEN,
    "extension with a line": b"2;a=" + HIDDEN + b"{}\r\n0\r\n\r\n",
}

# Heads that one reader ends, or splits, where another does not.
HEADS = {
    "bare LF everywhere": b"GET /health HTTP/1.1\nHost: localhost\n\n" + HIDDEN,
    "bare LF at the end": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\n" + HIDDEN,
    "bare LF in the middle": b"GET /health HTTP/1.1\r\nHost: localhost\nX: 1\r\n\r\n" + HIDDEN,
    "bare CR at the end": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r" + HIDDEN,
    "bare CR in a header": head("GET /health HTTP/1.1", "X: 1\r\rGET / HTTP/1.1") + HIDDEN,
    "folded header": head("GET /health HTTP/1.1", "X: 1", " " + HIDDEN.decode()),
    "NUL in a header": head("GET /health HTTP/1.1", "X: \0") + HIDDEN,
    "space before a colon": head("GET /health HTTP/1.1", "X : 1") + HIDDEN,
    "line without a colon": head("GET /health HTTP/1.1", "nothing") + HIDDEN,
    "no name": head("GET /health HTTP/1.1", ": 1") + HIDDEN,
    "space before the method": b" " + head("GET /health HTTP/1.1") + HIDDEN,
    "two empty lines before": b"\r\n\r\n" + head("GET /health HTTP/1.1") + HIDDEN,
    "bare LF before": b"\n" + head("GET /health HTTP/1.1") + HIDDEN,
    "CRLF in the path": b"GET /health\r\n HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
    "LF in the path": b"GET /health\n HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
    "a request in the path": b"GET /health HTTP/1.1\r\n" + HIDDEN[:-2] + b" HTTP/1.1\r\n\r\n",
    "a tab in the first line": head("GET\t/health\tHTTP/1.1") + HIDDEN,
    "two spaces in the first line": head("GET  /health HTTP/1.1") + HIDDEN,
    "HTTP/0.9": b"GET /health\r\n" + HIDDEN,
    "HTTP/1.0 with chunks": head("PUT /item?path=a.jpg HTTP/1.0", CHUNKED) + ENDED,
    "HTTP/2.0": head("GET /health HTTP/2.0") + HIDDEN,
    "HTTP/1.10": head("GET /health HTTP/1.10") + HIDDEN,
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a tunnel": head("CONNECT localhost:80 HTTP/1.1") + HIDDEN,
    "two hosts": head("GET /health HTTP/1.1", "Host: other") + HIDDEN,
    "closed": head("GET /health HTTP/1.1", "Connection: close") + HIDDEN,
    "closed, HTTP/1.0": head("GET /health HTTP/1.0") + HIDDEN,
    "expectation": head("GET /health HTTP/1.1", "Expect: x") + HIDDEN,
    "path below another": head("GET /health HTTP/1.1", "SCRIPT_NAME: /x") + HIDDEN,
}


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
    "edit in chunks": Body(head(PUT, CHUNKED) + chunked(HIDDEN[:20], HIDDEN[20:]), 400),
    "size with zeros": Body(head(PUT, CHUNKED) + b"0" * 9 + chunked(HIDDEN), 400),
    "chunk extensions": Body(
        head(PUT, CHUNKED) + b'%x;a;b="c;\\"d";e=f\r\n%b\r\n0;x\r\n\r\n' % (len(HIDDEN), HIDDEN),
        400,
    ),
    "trailers": Body(head(PUT, CHUNKED) + chunked(EDIT, end=b"0\r\nX: 1\r\nY: 2\r\n\r\n"), 200),
    "odd capitals": Body(head(PUT, "tRANSFER-eNCODING: ChUnKeD") + chunked(EDIT), 200),
    "a tab before the value": Body(head(PUT, "Transfer-Encoding:\tchunked\t") + chunked(EDIT), 200),
    "zeros before the length": Body(head(PUT, f"Content-Length: 00{len(EDIT)}") + EDIT, 200),
    "absolute address": Body(
        b"PUT http://localhost/item?path=a.jpg HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
        400,
    ),
    "GET with a body": Body(head(GET, LENGTH) + HIDDEN, 200),
    "GET with chunks": Body(head(GET, CHUNKED) + chunked(HIDDEN), 200),
    "GET with a long body": Body(head(GET, f"Content-Length: {len(LONG)}") + LONG, 200),
    "GET with long chunks": Body(head(GET, CHUNKED) + chunked(*[HIDDEN] * 4000), 200),
    "original with a body": Body(head("GET /file?path=a.jpg HTTP/1.1", LENGTH) + HIDDEN, 200),
    "DELETE with a body": Body(head("DELETE /item?path=none.jpg HTTP/1.1", LENGTH) + HIDDEN, 404),
    "too long": Body(head(PUT, f"Content-Length: {len(LONG)}") + LONG, 413),
    "too long in chunks": Body(head(PUT, CHUNKED) + chunked(*[HIDDEN] * 4000), 413),
    "another site": Body(head(PUT, "Sec-Fetch-Site: cross-site", LENGTH) + HIDDEN, 403),
    "another host": Body(head(PUT, LENGTH).replace(b"localhost", b"example.org") + HIDDEN, 421),
    "no such route": Body(head("POST /nothing HTTP/1.1", CHUNKED) + chunked(HIDDEN), 404),
    "no such method": Body(head("PATCH /item HTTP/1.1", LENGTH) + HIDDEN, 405),
    "an expectation": Body(head(PUT, "Expect: 100-continue", LENGTH) + HIDDEN, 400),
    "another protocol": Body(head(PUT, LENGTH, *UPGRADE) + HIDDEN, 400),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over two photos, one with the sidecar that hidden requests would remove."""
    home = tmp_path_factory.mktemp("smuggling")
    for name in ("a.jpg", "kept.jpg"):
        put(home / "photos" / name)
    (home / "photos" / SIDECAR).write_text('{"v": 1, "tags": ["kept"], "notes": "kept"}')
    started = Server(home / "photos", home)
    try:
        started.until(lambda: started.json("/search?q=tag:kept").get("total") == 1)
        yield started
    finally:
        started.stop()


@pytest.fixture(autouse=True)
def no_traceback(server: Server) -> Iterator[None]:
    with without_traceback(server):
        yield


def executed(server: Server) -> bool:
    """True if a hidden request has removed the sidecar."""
    return not (server.log.parent / "photos" / SIDECAR).exists()


def nothing_hidden(server: Server, answers: list[Answer], sent: object) -> None:
    """No answer is one to a hidden request, and none was executed."""
    assert all(answer.id != "hidden" for answer in answers), (sent, answers)
    assert not executed(server), sent


def test_a_request_of_two_readings_is_refused_and_ends_its_connection(server: Server) -> None:
    """Whatever follows it on the connection is not read."""
    kinds = [(name, head(PUT, *lines) + ENDED) for name, lines in TWO_LENGTHS.items()]
    kinds += [(name, head(PUT, CHUNKED) + body) for name, body in CHUNKS.items()]
    kinds += list(HEADS.items())
    harmless = (
        *("TE.TE 'TE: chunked'", "TE.TE 'Trailer: Content-Length'", "length with an underscore"),
        *("TE.TE 'Transfer_Encoding: chunked'", "closed", "closed, HTTP/1.0", "a tunnel"),
        "TE.TE 'Transfer-Encoding: cow'",
    )
    wrong = {}
    for name, sent in kinds:
        answers = exchange(server.port, sent + LAST)
        nothing_hidden(server, answers, name)
        statuses = [answer.status for answer in answers]
        if name not in harmless and statuses not in ([400], [501], [417]):
            wrong[name] = statuses
    assert wrong == {}
    record("requests of two readings", requests=len(kinds), executed=0)


def test_a_body_is_never_taken_for_a_request(server: Server) -> None:
    """The next request on the connection is answered, unless the body is long or the service says
    that it closes."""
    for name, (sent, status) in BODIES.items():
        for _ in range(scale(1, 20)):
            first, *rest = exchange(server.port, sent + LAST)
            assert first.status == status, (name, first)
            nothing_hidden(server, [first, *rest], name)
            may_close = first.headers["Connection"] == "close" or len(sent) > 64 * 1024
            allowed = [["last"], []] if may_close else [["last"]]
            assert [answer.id for answer in rest] in allowed, name
    record("requests in bodies", requests=len(BODIES) * scale(1, 20), executed=0)


ODD = [*"\t \x0b\x0c\r\n\0,;:_x\xa0\xad", "\r\n", '"']


def spoiled(chance: random.Random, line: str) -> str:
    """A line with one to three odd letters somewhere in it. It never becomes an empty line."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(line) + 1)
        line = line[:at] + chance.choice(ODD) + line[at:]
    return re.sub(r"(\r\n)+", "\r\n", line).removeprefix("\r\n").removesuffix("\r\n")


def spoiled_requests(chance: random.Random, count: int) -> Iterator[bytes]:
    """Requests in whose body another is, with one line of theirs spoiled.

    By the line that is not spoiled, the hidden request is in the body. So either the request is
    refused, or the hidden one is never executed.
    """
    for number in range(count):
        if number % 3 == 0:
            lines = [f"Content-Length: {len(ENDED)}", spoiled(chance, CHUNKED)]
            yield head(PUT, *lines) + ENDED
        elif number % 3 == 1:
            yield head(PUT, CHUNKED, spoiled(chance, "Content-Length: 5")) + chunked(HIDDEN)
        else:
            size = spoiled(chance, f"{len(HIDDEN):x}").encode("latin-1")
            yield head(PUT, CHUNKED) + size + b"\r\n" + HIDDEN + b"\r\n0\r\n\r\n"


def test_no_spoiled_line_lets_a_body_become_a_request(server: Server) -> None:
    count = scale(400, 15_000)
    print(f"seed {SEED}")
    for sent in spoiled_requests(random.Random(SEED), count):
        answers = exchange(server.port, sent + LAST)
        nothing_hidden(server, answers, sent)
        assert 1 <= len(answers) <= 2, (sent, answers)
        assert all(answer.id == "last" for answer in answers[1:]), (sent, answers)
        assert all(answer.status < 500 or answer.status == 501 for answer in answers), sent
    record("spoiled lines", requests=count, executed=0, seed=SEED)


# Through nginx, which keeps one connection to the service for all its clients


class Front:
    """nginx before a service: one port that reads bodies whole, one that passes them on at once.

    It refuses the hidden requests where it sees them, so only one that it does not see is passed on.
    """

    def __init__(self, home: pathlib.Path, behind: int) -> None:
        self.ports, self.log = [free_port(), free_port()], home / "access"
        servers = "".join(
            f"server {{ listen 127.0.0.1:{port}; proxy_request_buffering {buffering};\n"
            "if ($http_x_request_id = hidden) { return 403; }\n"
            "location / { proxy_pass http://lenslet; } }\n"
            for port, buffering in zip(self.ports, ("on", "off"), strict=True)
        )
        folders = "".join(
            f"{name}_temp_path {home}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (home / "conf").write_text(
            f"user root;\npid {home}/pid;\nerror_log {home}/error;\ndaemon off;\n"
            "worker_processes 1;\nevents {}\nhttp {\n"
            f"{folders}log_format status '$upstream_status';\naccess_log {self.log} status;\n"
            f"upstream lenslet {{ server 127.0.0.1:{behind}; keepalive 1; }}\n"
            "underscores_in_headers on;\nignore_invalid_headers off;\nproxy_http_version 1.1;\n"
            'proxy_set_header Connection "";\nproxy_set_header Host $http_host;\n'
            "client_header_timeout 300ms;\nclient_body_timeout 300ms;\n"
            f"client_max_body_size 1m;\n{servers}}}\n"
        )
        self.process = subprocess.Popen([str(NGINX), "-c", str(home / "conf"), "-p", str(home)])

    def forwarded(self) -> int:
        """How many requests it has passed on; one that it tried twice counts twice."""
        return len(re.findall(r"\d{3}", self.log.read_text()))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def front(server: Server, tmp_path: pathlib.Path) -> Iterator[Front]:
    (tmp_path / "front").mkdir()
    found = Front(tmp_path / "front", server.port)
    try:
        wait_for(lambda: all(exchange(port, LAST, ends=False) for port in found.ports))
        yield found
    finally:
        found.stop()


def answered(server: Server) -> int:
    """How many requests the service has answered, this one not."""
    text = server.get("/metrics")[1].decode()
    return sum(map(int, re.findall(r"^lenslet_requests_total\{.*\} (\d+)$", text, re.MULTILINE)))


def check_victim(port: int, number: int) -> None:
    """Another client, on another connection, gets the answer to what it asked, and no other."""
    sent = request("GET", "/item?path=a.jpg", f"X-Request-Id: victim-{number}", "Connection: close")
    found = exchange(port, sent, ends=False)
    assert [(each.status, each.id) for each in found] == [(200, f"victim-{number}")]
    assert "kept" not in json.loads(found[0].body)["tags"]


def attacks() -> Iterator[bytes]:
    """Everything that is tried on the service itself, with a hidden DELETE and a hidden GET."""
    whole = [head(PUT, *lines) + ENDED for lines in TWO_LENGTHS.values()]
    whole += [head(PUT, CHUNKED) + body for body in CHUNKS.values()]
    whole += [*HEADS.values(), *(body.data for body in BODIES.values() if len(body.data) < 100_000)]
    yield from whole
    yield from (each.replace(HIDDEN, LEAKED) for each in whole if HIDDEN in each)
    yield from spoiled_requests(random.Random(SEED), scale(60, 3_000))


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_behind_nginx_nothing_hidden_is_executed_and_no_answer_goes_astray(
    server: Server, front: Front
) -> None:
    """The service answers exactly as many requests as nginx has passed on."""
    sent, answers_before, forwarded_before = 0, answered(server), front.forwarded()
    for number, data in enumerate(attacks()):
        for port in front.ports:
            with Connection(port) as connection:
                connection.send(data)
                found = connection.sock.recv(65_536)
            assert b"X-Request-Id: hidden" not in found, data
            check_victim(port, number)
            sent += 1
        assert not executed(server), data
    refused = server.log.read_text(errors="replace").count("refused a request of")
    answers = answered(server) - answers_before - 1
    forwarded = front.forwarded() - forwarded_before
    assert answers <= forwarded <= answers + refused
    record("smuggling through nginx", requests=sent, forwarded=forwarded, executed=0, astray=0)
