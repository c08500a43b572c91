"""Hostile paths, parameters, headers and bodies: nothing leaks, fails or stops the others."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import json
import os
import pathlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from conftest import Server, encode, jpeg, put
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from scale import record, scale
from wire import Answer, exchange, request

from lenslet.search.format import encode_rollup

pytestmark = pytest.mark.slow
SEED = 13
SECRET = "outside-9f3c71"  # in every file outside the root
TOKEN, READ_TOKEN, NOTES = "token-5b1e88d0", "reader-77aa41c2", "notes-e41fd3 of a diary"
WIDTH = 123  # of the image outside, and of no other
MAGENTA = (255, 0, 255)  # its colour
FORGED = "FORGED: everything is fine"
ITEMS = 20_000

# What a path may try. None of them is the path of an image or of a folder that is served.
CLIMBS = [
    *("..", "../", "/..", "../outside/secret.jpg", "sub/../../outside/secret.jpg", "sub/.."),
    *("./a.jpg", "sub/./x.jpg", "sub//x.jpg", "//a.jpg", "a.jpg/.", "a.jpg/..", "..."),
    *("..\\outside\\secret.jpg", "sub\\x.jpg", "a.jpg/../../outside/secret.jpg", "....//a.jpg"),
    *("．．/outside/secret.jpg", "‥/outside/secret.jpg", "..／outside／secret.jpg", "∕etc∕passwd"),
    *("/etc/passwd", "//etc/passwd", "/proc/self/environ", "../" * 30 + "proc/self/environ"),
    *("file:///etc/passwd", "http://127.0.0.1/", "C:\\a.jpg", "~root", "$HOME", "%s%n", "{0}"),
]
LINKS = [
    *("link.jpg", "sub/link.jpg", "linked", "linked/secret.jpg", "up/outside/secret.jpg", "up"),
    *("loop", "loop/a.jpg", "loop/loop/sub/x.jpg", "dangling.jpg", "passwd.jpg", "proc"),
    *("proc/self/environ", "proc/self/cwd/lenslet/page/icon.svg", "environ.png", "self.jpg"),
]
NAMES = [
    *("a.jpg.json", "a.jpg.thumbnail", "a.jpg.lenslet.json", "_index.json", "_index_0.json"),
    *("_rollup.json", "_rollup_delta.json", "_health.json", "diary.txt", ".env", "a", "a.JPG.txt"),
    *(".hidden.jpg", ".hidden/x.jpg", "@eaDir/x.jpg", "unseen/x.jpg", ".lenslet.folder.json"),
    *(".lenslet-tmp-0123456789abcdef", "Thumbs.db", "lost+found", "fifo.jpg", "zero.jpg"),
    *("a.jpg\0", "a.jpg\0.png", "\0", "a\n.jpg", "a.jpg\r\nX-Made-Up: 1", "\x1b[2J.jpg", "\x7f"),
    *("x" * 256 + ".jpg", "x" * 5000, "é" * 1300, "d/" * 1900 + "a.jpg", "\u2028.jpg"),
]
PATHS = [*CLIMBS, *LINKS, *NAMES]

ENCODINGS: list[Callable[[str], str]] = [
    lambda text: quote(text, safe=""),
    lambda text: quote(text, safe="/:."),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: quote(text, safe="").replace(".", "%2e").replace("%2F", "%2f"),
    lambda text: quote(text, safe="/").replace(".", "%c0%ae").replace("/", "%c0%af"),
    lambda text: quote(text, safe="/").replace(".", "%u002e").replace("/", "%u2215"),
    lambda text: quote(text, safe="/").replace(".", "%e0%80%ae").replace("/", "%252f"),
]
SENT = b'{"notes": "written from outside"}'
ROUTES = [
    *(("GET", "/folders?path={}"), ("HEAD", "/folders?path={}"), ("GET", "/item?path={}")),
    *(("PUT", "/item?path={}"), ("DELETE", "/item?path={}"), ("GET", "/item?exif=full&path={}")),
    *(("GET", "/thumb?path={}"), ("POST", "/thumb?path={}"), ("DELETE", "/thumb?path={}")),
    *(("POST", "/thumb?force=true&path={}"), ("GET", "/preview?path={}"), ("GET", "/file?path={}")),
    *(("HEAD", "/file?path={}"), ("GET", "/files/{}"), ("HEAD", "/files/{}")),
    *(("POST", "/folders/{}/reindex"), ("POST", "/folders/{}/reindex?recursive=true")),
    *(("GET", "/search?path={}"), ("GET", "/health/{}"), ("GET", "/page/{}/app.js")),
    *(("GET", "/page/0/{}"), ("POST", "/items/tags"), ("GET", "/_/{}")),
]


LIBRARY = [
    *("a.jpg", "sub/x.jpg", ".hidden.jpg", ".hidden/x.jpg"),
    *("@eaDir/x.jpg", "unseen/x.jpg", "unseen/.nomedia", "swapped/secret.jpg"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A library with everything in it that should not be, beside a folder of secrets."""
    top = tmp_path_factory.mktemp("attack")
    outside, root = top / "outside", top / "photos"
    secret = encode(Image.new("RGB", (WIDTH, 457), MAGENTA), "JPEG", comment=SECRET)
    put(outside / "secret.jpg", secret)
    for name in LIBRARY:
        put(root / name)
    (root / "a.jpg.json").write_text(json.dumps({"v": 1, "tags": ["own"], "notes": "own"}))
    (root / "diary.txt").write_text(NOTES)
    for name, target in _links(outside).items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo.jpg")
    with contextlib.suppress(PermissionError):
        os.mknod(root / "zero.jpg", 0o20666, os.makedev(1, 5))
    return top


def _links(outside: pathlib.Path) -> dict[str, pathlib.Path | str]:
    """The links of the library, and where each leads."""
    return {
        "link.jpg": outside / "secret.jpg",
        "sub/link.jpg": "../../outside/secret.jpg",
        "linked": outside,
        "up": "..",
        "loop": ".",
        "self.jpg": "self.jpg",
        "dangling.jpg": "nowhere.jpg",
        "passwd.jpg": "/etc/passwd",
        "proc": "/proc",
        "environ.png": "/proc/self/environ",
    }


@contextlib.contextmanager
def _started(home: pathlib.Path, **environ: str) -> Iterator[Server]:
    waits = {"THUMB_WAIT": "0", "IMG_WAIT": "0", "LENSLET_MARKER": SECRET}
    server = Server(home / "photos", home, **waits, **environ)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def open_server(home: pathlib.Path) -> Iterator[Server]:
    """The service as it starts without settings: no token, and a log of text."""
    with _started(home) as server:
        server.until(lambda: server.json("/search?q=own").get("total") == 1)
        yield server


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and a log of JSON."""
    top = tmp_path_factory.mktemp("closed")
    put(top / "photos/a.jpg")
    with _started(top, API_TOKEN=TOKEN, READ_TOKEN=READ_TOKEN, LOG_FORMAT="json") as server:
        yield server


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """The regular files below a folder, not through links."""
    return {
        os.path.join(where, name): pathlib.Path(where, name).read_bytes()
        for where, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(where, name))
    }


def check(answer: Answer, sent: object, home: pathlib.Path | None = None) -> Answer:
    """An answer is whole, no failure of the service, and tells nothing that it should not."""
    assert answer.status < 500, (sent, answer)
    everything = str(answer.headers).encode() + answer.body
    for word in (b"Traceback", SECRET.encode(), b"root:x:0:", b'"w":%d,' % WIDTH):
        assert word not in everything, (sent, answer)
    if answer.status >= 400 and answer.body:
        assert answer.headers["Content-Type"] == "application/json", (sent, answer)
        assert "no-store" in answer.headers["Cache-Control"], (sent, answer)
        told = answer.json
        assert isinstance(told["title"], str) and isinstance(told["description"], str), sent
        assert home is None or str(home).encode() not in everything, (sent, answer)
    return answer


def no_traceback(server: Server) -> None:
    log = server.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-4000:]


def hostile_requests() -> list[tuple[str, str, bytes]]:
    """Every path on every route, in every encoding that fits into a request line."""
    found = []
    shapes = itertools.product(PATHS, ENCODINGS, ROUTES, ("", "/api"))
    for path, encoding, (method, route), prefix in shapes:
        target, body = prefix + route.format(encoding(path)), b""
        if method == "PUT":
            body = SENT
        elif route == "/items/tags":
            body = json.dumps({"paths": [path, unclear(encoding(path))], "add": ["x"]}).encode()
        if len(target) < 8000:
            found.append((method, target, body))
    return list(dict.fromkeys(found))


def unclear(encoded: str) -> str:
    """What a careless decoder makes of a percent-encoded path."""
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")


def refused(answer: Answer, target: str) -> bool:
    """True if an answer to a hostile path shows and changes nothing."""
    if "/search" in target:
        return answer.status >= 400 or answer.json["items"] == []
    if "/items/tags" in target and answer.status == 200:
        return all(400 <= result["status"] < 500 for result in answer.json["results"])
    return 400 <= answer.status < 500


def test_a_hostile_path_shows_and_changes_nothing(open_server: Server, home: pathlib.Path) -> None:
    """Not what links lead to, not Lenslet's own files, not what is ignored, no device."""
    before, mine = contents(home / "outside"), (home / "photos/a.jpg.json").read_bytes()
    sent = hostile_requests()
    random.Random(SEED).shuffle(sent)
    sent = sent[: scale(1500, len(sent))]
    for method, target, body in sent:
        data = request(method, target, body=body)
        answer = exchange(open_server.port, data, head=method == "HEAD")
        check(answer, (method, target), home)
        assert refused(answer, target), (method, target, answer)
    assert contents(home / "outside") == before
    kept = json.loads((home / "photos/a.jpg.json").read_bytes())
    assert kept.items() >= json.loads(mine).items()  # it got the hash of its photo
    no_traceback(open_server)
    record("hostile paths", requests=len(sent))


def middle(data: bytes) -> tuple[int, ...]:
    """The colour in the middle of a picture, magenta if it is nearly that."""
    with Image.open(io.BytesIO(data)) as image:
        found = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    near = all(abs(one - other) < 40 for one, other in zip(found, MAGENTA, strict=True))
    return MAGENTA if near else found


def exchange_names(one: pathlib.Path, other: pathlib.Path) -> None:
    """Two names change places at once, so that there is no moment without either."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = -100  # AT_FDCWD
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), 2):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_links_swapped_in_while_requests_run_never_lead_outside(
    open_server: Server, home: pathlib.Path
) -> None:
    """A file and a folder are real at one moment and links to secrets at the next."""
    before, root = contents(home / "outside"), home / "photos"
    put(root / "swap.jpg")
    (root / ".swap").symlink_to(home / "outside/secret.jpg")
    (root / ".swapped").symlink_to(home / "outside")
    stop = threading.Event()

    def swap() -> int:
        swaps = 0
        while not stop.is_set():
            exchange_names(root / "swap.jpg", root / ".swap")
            exchange_names(root / "swapped", root / ".swapped")
            swaps += 2
        return swaps

    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask_for_swapped, open_server, stop) for _ in range(2)]
        swapping = threads.submit(swap)
        stop.wait(scale(5, 40))
        stop.set()
    swaps, requests = swapping.result(), [each.result() for each in asked]
    assert contents(home / "outside") == before
    no_traceback(open_server)
    assert swaps > 100 and min(requests) > 20
    record("links swapped while requests run", swaps=swaps, requests=sum(requests))


def ask_for_swapped(server: Server, stop: threading.Event) -> int:
    """Reads and writes what is being swapped; every answer must come from inside the root."""
    routes = ["/file?path={}", "/thumb?path={}", "/item?path={}", "/preview?path={}", "/files/{}"]
    shapes = [("GET", each) for each in [*routes, "/item?exif=full&path={}"]]
    shapes += [("PUT", "/item?path={}"), ("POST", "/thumb?force=1&path={}")]
    shapes += [("DELETE", "/item?path={}"), ("DELETE", "/thumb?path={}")]
    pairs = itertools.product(shapes, ("swap.jpg", "swapped/secret.jpg"))
    wanted = [(method, route.format(path)) for (method, route), path in pairs]
    wanted += [("GET", "/folders?path=swapped"), ("GET", "/folders"), ("GET", "/search?q=secret")]
    for asked in itertools.count():
        if stop.is_set():
            return asked
        method, target = wanted[asked % len(wanted)]
        answer = exchange(
            server.port, request(method, target, body=SENT if method == "PUT" else b"")
        )
        if b"is being written" not in answer.body:  # 503: it was exchanged meanwhile
            check(answer, (method, target))
        if answer.headers["Content-Type"] in ("image/webp", "image/jpeg"):
            assert middle(answer.body) != MAGENTA, target
    raise AssertionError


def run(property_: Callable[[], None], examples: int) -> None:
    """Tries the same examples each time."""
    settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(property_)()


GOOD = ["a.jpg", "sub/x.jpg", "sub", "", "/", "asc", "date", "name", "full", "true", "1", "tag:own"]
NASTY = [
    *("-1", "0", "1e9", "9" * 400, "0x10", "٣", "1_0", " 1", "NaN", "null", "[]", "\0", "\r\n"),
    *('"' * 200, "-" * 500, "tag:", "date:2024-13", "date:..", "date:٢٠٢٤", "(" * 900, "a" * 1001),
    *("..", "%", "%zz", "\ud800", "\U0010ffff", "ﷺ" * 50, "İ" * 300, "ß", "*", "\\", "sub/../.."),
]
KNOWN = ["path", "page", "exif", "v", "force", "q", "limit", "offset", "sort", "order", "recursive"]
TARGETS = [
    *("/", "/openapi.json", "/page/0/app.js", "/folders", "/folders/sub/reindex", "/item"),
    *("/items/tags", "/thumb", "/preview", "/file", "/files/a.jpg", "/search", "/search/suggest"),
    *("/search/rebuild-index", "/session", "/health", "/health/live", "/health/storage"),
    *("/health/workers", "/metrics", "/nothing", "/api/folders", "/api"),
]
METHODS = ["GET", "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"]
values = st.one_of(
    st.sampled_from(GOOD),
    st.sampled_from(NASTY),
    st.integers().map(str),
    st.text(max_size=40),
)
queries = st.one_of(
    st.lists(st.tuples(st.sampled_from(KNOWN), values), max_size=5).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass")
    ),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60),
    st.text("%c0ae&=;+./pathq", max_size=60),
)


def test_whatever_stands_in_a_query_is_answered(open_server: Server, home: pathlib.Path) -> None:
    @given(st.sampled_from(METHODS), st.sampled_from(TARGETS), queries)
    def answered(method: str, target: str, query: str) -> None:
        sent = request(method, f"{target}?{query}")
        check(exchange(open_server.port, sent, head=method == "HEAD"), sent, home)

    run(answered, scale(60, 15_000))
    no_traceback(open_server)


HEADERS = [
    *("Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"),
    *("Accept", "Accept-Encoding", "Cookie", "Authorization", "Host", "Origin", "Referer"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "Expect"),
    *("SCRIPT_NAME", "SCRIPT-NAME", "PATH_INFO", "REMOTE_USER", "Remote-User", "Proxy", "Upgrade"),
    *("Sec-Fetch-Site", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "X-Request-Id", "Connection", "TE"),
    *("Content-Length", "Content-Type", "Content-Encoding", "Content-Range", "Transfer-Encoding"),
    *("X-HTTP-Method-Override", "Keep-Alive", "Trailer", "HTTP2-Settings", "Forwarded", "DNT"),
]
VALUES = [
    *("", "*", '"', '""', 'W/"', '"a", "b', "bytes=0-0", "bytes=-1", "bytes=5-1", "bytes=-"),
    *("bytes=0-1,3-4", "bytes=" + "0-1," * 500, "bytes=-" + "9" * 300, "bytes=99999999-"),
    *("Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 0000 99:99:99 GMT", "text/html", "image/*;q=x"),
    *("Bearer", "Bearer ", "Bearer x", "Basic !!!", "lenslet-7070=a.b; lenslet-7070=" + "f" * 999),
    *("localhost", "127.0.0.1:99999999", "[::1", "[::1]:x", "evil.example", "localhost:", "a@b"),
    *("/photos", "/folders", "//", "/item", "https", "for=unknown;proto=https", "null", "close"),
    *("keep-alive, close", "100-continue", "200-ok", "chunked", "h2c", "0", "-1", "1", "262145"),
    *("application/json; charset=x", "multipart/form-data", "same-origin", "cross-site", "²", "é"),
]
headers = st.tuples(
    st.sampled_from(HEADERS),
    st.one_of(
        st.sampled_from(VALUES),
        st.integers().map(str),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60),
    ),
).map(": ".join)


def test_whatever_stands_in_headers_is_answered(open_server: Server, home: pathlib.Path) -> None:
    """From a client of this host, which may also send the headers of a proxy."""
    targets = [*TARGETS, "/folders?path=sub", *(f"{each}?path=a.jpg" for each in TARGETS)]

    @given(
        st.sampled_from(METHODS),
        st.sampled_from(targets),
        st.lists(headers, min_size=1, max_size=4),
        st.sampled_from([b"", b"{}", b"\xff" * 10, b"0\r\n\r\n"]),
    )
    def answered(method: str, target: str, lines: list[str], body: bytes) -> None:
        given_host = any(line.startswith("Host") for line in lines)
        head = [f"{method} {target} HTTP/1.1", *([] if given_host else ["Host: localhost"])]
        sent = "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body
        check(exchange(open_server.port, sent, head=method == "HEAD"), sent, home)

    run(answered, scale(60, 8_000))
    no_traceback(open_server)


def nested(depth: int) -> bytes:
    return b'{"tags": ' + b"[" * depth + b"]" * depth + b"}"


BODIES = [
    *(b"", b"null", b"[]", b'""', b"1", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}{}", b"\0" * 99),
    *(nested(50), nested(990), nested(100_000), b"[" * 200_000, b'{"a":' * 40_000, b"9" * 5000),
    *(b'{"x": %s}' % (b"9" * 5000), b'{"x": 1e999}', b'{"x": NaN}', b'{"x": -Infinity}'),
    *(
        b'{"notes": "\\ud800"}',
        b'{"tags": ["\\udfff"]}',
        b'{"notes": "\\u0000"}',
        b'{"\\ud800": 1}',
    ),
    *(b'{"notes": "a", "notes": 5}', b'{"v": 1.0}', b'{"v": true}', b'{"updatedAt": "9999"}'),
    *(b'{"updatedAt": "0000-00-00T00:00:00Z"}', b'{"updatedAt": "2020-01-01T00:00:60Z"}'),
    *(b'{"tags": ["' + b"x" * 201 + b'"]}', b'{"tags": ["a\\nb"]}', b'{"exif": [[]], "hash": {}}'),
]
json_values = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        st.sampled_from(["a.jpg", "2024-01-01T00:00:00Z", TOKEN, READ_TOKEN, "..", "\ud800", "\0"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
FIELDS = ["v", "tags", "notes", "exif", "hash", "updatedAt", "updatedBy", "paths", "add", "remove"]
documents = st.one_of(
    st.dictionaries(st.sampled_from([*FIELDS, "token", "created_at", "title"]), json_values),
    st.fixed_dictionaries({"paths": st.just(["a.jpg", "b.jpg"])}, optional={"add": json_values}),
    json_values,
)
bodies = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    st.sampled_from(BODIES),
    st.binary(max_size=50),
)


def test_whatever_stands_in_a_body_is_answered(closed_server: Server) -> None:
    """And an edit that is taken can be read again."""
    targets = [("PUT", "/item?path=a.jpg"), ("POST", "/items/tags"), ("POST", "/session")]
    bearer, edited = f"Authorization: Bearer {TOKEN}", "/item?path=a.jpg"

    @given(st.sampled_from(targets), bodies)
    def answered(target: tuple[str, str], body: bytes) -> None:
        sent = request(*target, bearer, body=body)
        if check(exchange(closed_server.port, sent), (target, body[:500])).status == 200:
            read = exchange(closed_server.port, request("GET", edited, bearer))
            assert read.status == 200 and read.json["v"] == 1, body[:500]

    for target, body in itertools.product(targets, BODIES):
        sent = request(*target, bearer, body=body)
        check(exchange(closed_server.port, sent), (target, body[:500]))
    run(answered, scale(60, 4_000))
    no_traceback(closed_server)


HALF = b'{"notes": "half"}'
CHUNKED = request("PUT", "/item?path=a.jpg", "Transfer-Encoding: chunked")
BROKEN = [
    *(CHUNKED, CHUNKED + b"11\r\n" + HALF[:5], CHUNKED + b"11\r\n" + HALF + b"\r\n"),
    *(CHUNKED + b"zz\r\n" + HALF + b"\r\n0\r\n\r\n", CHUNKED + b"-11\r\n" + HALF),
    request("PUT", "/item?path=a.jpg", "Content-Length: 100") + HALF,
]


def test_a_body_that_is_broken_or_ends_early_answers_400_and_changes_nothing(
    open_server: Server,
) -> None:
    for sent in BROKEN:
        assert check(exchange(open_server.port, sent), sent).status == 400
    assert open_server.json("/item?path=a.jpg").get("notes") != "half"
    no_traceback(open_server)


# Ends of lines: of a terminal, of HTTP, of Unicode. The last is the beginning of a command to a terminal.
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[1A\x1b[2K"]


def forging_requests() -> Iterator[bytes]:
    """Requests with a line of a log in every place that has text."""
    for end in BREAKS:
        text = f"x{end}{FORGED}{end}"
        name, raw = quote(text, safe=""), text.encode().decode("latin-1")
        for route in ("/files/{}.jpg", "/item?path={}", "/{}", "/search?q={}"):
            yield request("GET", route.format(name))
        for route in ("/folders/{}/reindex", "/thumb?path={}"):
            yield request("POST", route.format(name))
        for header in ("X-Request-Id", "Host", "Cookie", "Origin", "SCRIPT_NAME", "Expect"):
            yield f"GET /folders HTTP/1.1\r\n{header}: {raw}\r\n\r\n".encode("latin-1")
        yield f"GET /{raw} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1")
        yield f"{raw} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1")
        document = json.dumps({"notes": text, "tags": [text], "updatedBy": text, text: 1}).encode()
        yield request("PUT", "/item?path=a.jpg", body=document)
        yield CHUNKED + f"{raw}\r\n".encode("latin-1")


def telling_requests() -> Iterator[bytes]:
    """Requests with secrets in every place, right and wrong."""
    edit = json.dumps({"notes": NOTES, "tags": [NOTES]}).encode()
    bearer, item = f"Authorization: Bearer {TOKEN}", "/item?path=a.jpg"
    for header in (bearer, f"Cookie: lenslet-7070={TOKEN}", f"Authorization: Basic {TOKEN}"):
        for target in ("/folders", item, "/files/a.jpg", "/file?path=b.jpg", "/health", "/nothing"):
            yield request("GET", target, header)
        for spoiled in (header, header.replace(":", "", 1), header + "\0", header + "\n"):
            yield request("PUT", item, spoiled, body=edit)
    yield request("GET", f"/folders?token={TOKEN}")
    for body in (f'{{"token": "{TOKEN}x"}}', f'{{"token": "{TOKEN}"'):
        yield request("POST", "/session", body=body.encode())
    yield request("PUT", item, bearer, body=b"\xff" + edit)
    yield request("PUT", item, bearer, "Content-Length: 2") + edit  # the rest is no request
    chunked = request("PUT", item, bearer, "Transfer-Encoding: chunked")
    yield chunked + edit + b"\r\n0\r\n\r\n"  # no size
    yield chunked + b"2\r\n" + edit + b"\r\n0\r\n\r\n"


@contextlib.contextmanager
def away(root: pathlib.Path) -> Iterator[None]:
    """The root is not there for a while, which makes the service log what it cannot do."""
    root.rename(root.with_name("away"))
    try:
        yield
    finally:
        root.with_name("away").rename(root)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_nothing_forges_a_line_of_the_log_and_no_secret_is_in_it(
    open_server: Server, closed_server: Server, kind: str
) -> None:
    """Neither names of files nor requests, also while the root is away."""
    server = open_server if kind == "text" else closed_server
    root = server.log.parent / "photos"
    for number, end in enumerate(BREAKS):
        put(root / f"{number}{end}{FORGED}{end}.jpg", b"no image")
        put(root / f"{number}{end}{FORGED}/x.jpg.json", b"no JSON")
    server.request("POST", "/folders//reindex?recursive=true", Authorization=f"Bearer {TOKEN}")
    sent = [*forging_requests(), *telling_requests()]
    for data in sent:
        exchange(server.port, data)
    with away(root):
        for data in sent:
            exchange(server.port, data)
    log = server.log.read_text(errors="replace")
    for line in log.splitlines():
        assert not line.lstrip().startswith(FORGED), line
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", line), line
        assert kind == "text" or "ResourceWarning" in line or is_event(line), line
    assert [secret for secret in (TOKEN, READ_TOKEN, NOTES) if secret in log] == []


def is_event(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


# Expensive queries


@pytest.fixture(scope="module")
def large_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that searches 20,000 items; no index process, so they need no files."""
    top = tmp_path_factory.mktemp("large")
    put(top / "photos/a.jpg", jpeg(20, 20))
    encoded = encode_rollup("0123456789abcdef", map(an_item, range(ITEMS)), {})
    (top / "photos/_rollup.json").write_bytes(b"".join(encoded))
    with _started(top, WORKER_THREADS="0") as server:
        server.until(lambda: server.json("/search?q=p019999").get("total") == 1)
        yield server


def an_item(number: int) -> dict[str, Any]:
    folder = f"{2000 + number // 1000}/{number // 100 % 10:02d}-holiday"
    name = f"p{number:06d}.jpg"
    day = f"{2000 + number % 24}-{1 + number % 12:02d}-{1 + number % 28:02d}"
    words = ("beach", "harbour", "mountain", "portrait", "night")
    return {
        **{"path": f"{folder}/{name}", "name": name, "type": "image/jpeg", "w": 4000, "h": 3000},
        **{"size": 5_000_000 + number, "rev": f"{number:x}"},
        "tags": [words[number % 5], words[number // 7 % 5], f"t{number % 50}"],
        "notes": f"The {words[number % 3]} at {number}, seen from above. " * 2,
        **{"takenAt": f"{day}T12:00:00", "createdAt": f"{day}T12:00:00Z"},
    }


def expensive_queries() -> list[str]:
    """Queries of at most 1,000 characters that match nothing, or everything with much work."""
    texts = [
        *(" ".join(["p0"] * 140), "0 1 2 p h o l i d a y t e r " * 9, "above night " * 80, "e", ""),
        *(" ".join(f"-z{number}" for number in range(140)), " ".join(["-tag:zzz"] * 110)),
        *(" ".join(["name:p"] * 140), " ".join(["notes:seen"] * 90), "p" * 999),
        *(" ".join(["date:1999..2100"] * 60), '"seen from" ' * 80, '"' + "e " * 490 + '"'),
    ]
    pages = [
        *({"offset": 0}, {"offset": 99_000, "limit": 1000}, {"sort": "name", "offset": 90_000}),
        {"sort": "date", "order": "desc", "limit": 1000},
    ]
    return [
        urlencode({"q": text[:1000], "path": "/", **page})
        for text, page in itertools.product(texts, pages)
    ]


@pytest.mark.timing
def test_no_query_takes_more_than_a_second(large_server: Server) -> None:
    """In a library of 20,000 items. One that would may be refused with 400."""
    wanted = [f"/search?{query}" for query in expensive_queries()]
    suggested = ["", "p", "e" * 1000, "holiday", "\u0130" * 100]
    wanted += ["/search/suggest?" + urlencode({"q": text, "limit": 100}) for text in suggested]
    random.Random(SEED).shuffle(wanted)
    for target in wanted[: scale(30, len(wanted))]:
        begun = time.monotonic()
        answer = exchange(large_server.port, request("GET", target))
        assert time.monotonic() - begun < 1, target
        assert check(answer, target).status in (200, 400), target


PAGES = [(499_900, 100, 200), (499_000, 1000, 200), (499_901, 100, 400), (499_001, 1000, 400)]


@pytest.mark.parametrize(("offset", "limit", "status"), [*PAGES, ("9" * 40, 100, 400)])
def test_a_page_ends_at_the_500_000th_item_at_most(
    large_server: Server, offset: int | str, limit: int, status: int
) -> None:
    query = urlencode({"q": "p0", "offset": offset, "limit": limit})
    found, body = large_server.get(f"/search?{query}")
    assert found == status
    assert status == 200 or "offset" in str(json.loads(body))
