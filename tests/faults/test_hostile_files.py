"""Files beside images are input from strangers: real gunicorn over a folder full of them."""

from __future__ import annotations

import contextlib
import copy
import functools
import http.client
import itertools
import json
import os
import pathlib
import re
import resource
import stat
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from conftest import Server, jpeg, put
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from scale import LONG, record, scale

pytestmark = pytest.mark.slow
SEED = 13
MEMORY_BYTES = 400 << 20  # the most that a process may take
ADDRESSES_BYTES = 6 << 30  # a service that reads 20 GB at once must not stop the machine
SOON_SECONDS = 10.0
REST_SECONDS = 8.0
WIDTH, HEIGHT = 24, 16
PHOTO = jpeg(WIDTH, HEIGHT)
SPARSE = 20 << 30

Document = dict[str, Any]


# Looking at the service


class Findings:
    """What did not hold. All of it is told at the end, and not only the first."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.requests = 0

    def expect(self, holds: bool, *about: object) -> None:
        if not holds:
            self.found.append(" ".join(map(str, about))[:700])

    def check(self) -> None:
        assert not self.found, "\n".join([f"seed {SEED}", *self.found])

    def until(self, what: Callable[[], object], seconds: float, *about: object) -> None:
        """Expects that nothing is left of `what` within some seconds."""
        deadline = time.monotonic() + seconds
        while (left := what()) and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        self.expect(not left, *about, left)


@contextmanager
def watched(
    root: pathlib.Path, home: pathlib.Path, **more: str
) -> Iterator[tuple[Server, Findings]]:
    """A service that must stay whole: the same index process, at rest in the end, and small.

    What the user has stays as it is.
    """
    before, findings = photos_of(root), Findings()
    server = Server(root, home, **{"SCAN_SECONDS": "1", "THUMB_WAIT": "0", **more})
    try:
        index = server.index_pid()
        for pid in processes(server):
            resource.prlimit(pid, resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
        yield server, findings
        findings.until(lambda: busy(server), REST_SECONDS, "at work without an end:")
        findings.expect(server.index_pid() == index, "another index process")
        taken = {pid: peak_bytes(pid) >> 20 for pid in processes(server)}
        small = max(taken.values()) < MEMORY_BYTES >> 20
        findings.expect(small, "MB:", taken, "index process:", index)
        log = server.log.read_text()
        raised = Counter(re.findall(r"(?ms)^Traceback .*?^(\w\S*(?:Error|Exception)\b.*?)$", log))
        findings.expect(not raised, "tracebacks:", dict(raised))
        findings.expect(before.items() <= photos_of(root).items(), "photos have changed")
        findings.check()
    finally:
        server.stop()


def processes(server: Server) -> set[int]:
    return server.workers() | {server.process.pid}


def busy(server: Server) -> list[int]:
    """The processes that have worked for most of the last second."""
    before = {pid: processor_seconds(pid) for pid in processes(server)}
    threading.Event().wait(1)
    now = {pid: processor_seconds(pid) for pid in processes(server)}
    return [pid for pid in now if now[pid] - before.get(pid, 0) > 0.5]


def processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def url(route: str, **query: str | int) -> str:
    return f"{route}?{urllib.parse.urlencode(query)}"


GENERAL = ("/folders", "/search/suggest?q=a", "/search?q=a&sort=date", "/metrics", "/health")
GENERAL += ("/health/storage", "/health/workers", "/openapi.json", "/")


def ask_all(server: Server, findings: Findings, folders: Mapping[str, object]) -> None:
    """Asks every route of some folders; none may fail, and 503 must say when to come back."""
    for folder, about in folders.items():
        path = f"{folder}/a.jpg".lstrip("/")
        routes = [
            *(url("/folders", path=folder, page=page) for page in range(4)),
            *(url(route, path=path) for route in ("/item", "/thumb", "/preview", "/file")),
            "/files/" + urllib.parse.quote(path),
            url("/search", path=folder),
        ]
        ask_each(server, findings, routes, about)
    ask_each(server, findings, GENERAL, *[*folders.values()][:1])


def ask_each(server: Server, findings: Findings, routes: Collection[str], *about: object) -> None:
    failed = list(filter(None, (failure(server, route) for route in routes)))
    findings.expect(not failed, *about, failed)
    findings.requests += len(routes)


def failure(server: Server, route: str) -> tuple[str, int] | None:
    """A route that fails, and its status."""
    status, headers, _ = get(server, route)
    waits = status == 503 and "Retry-After" in headers
    clear = waits or 200 <= status < 500 or status == 508
    return None if clear else (route.partition("?")[0], status)


def get(server: Server, route: str) -> tuple[int, Any, bytes]:
    """Status, headers and body; status 0 if there is no answer within 20 s."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        try:
            connection.request("GET", route)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b""


Truth = tuple[list[tuple[Any, ...]], list[str]]


def truth(root: pathlib.Path, folder: str) -> Truth:
    """The images, of which none has tags or notes, and the subfolders that a folder has."""
    entries = sorted((root / folder).iterdir())
    items = [
        (f"{folder}/{name}".lstrip("/"), name, "image/jpeg", WIDTH, HEIGHT, len(PHOTO), None, None)
        for name in (entry.name for entry in entries if entry.name.endswith("jpg"))
    ]
    return items, [each.name for each in entries if each.is_dir() and not each.is_symlink()]


def shown(server: Server, folder: str) -> Truth:
    """What the service says of a folder, on all of its pages."""
    first = server.json(url("/folders", path=folder))
    more = (url("/folders", path=folder, page=n) for n in range(1, first.get("pageCount", 1)))
    found = [item for page in (first, *map(server.json, more)) for item in page.get("items", ())]
    keys = ("path", "name", "type", "w", "h", "size", "tags", "notes")
    items = [tuple(map(item.get, keys)) for item in found]
    return items, [entry["name"] for entry in first.get("dirs", ())]


def lies(server: Server, root: pathlib.Path, folders: dict[str, str]) -> dict[str, object]:
    """The cases whose folders are not shown as they are."""
    found: dict[str, object] = {}
    for folder, case in folders.items():
        try:
            said, true = shown(server, folder), truth(root, folder)
            if said != true:
                wrong = (
                    set(map(str, one)) ^ set(map(str, other))
                    for one, other in zip(said, true, strict=True)
                )
                found[case] = [*itertools.chain(*wrong)][:3] or "another order, or one twice"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found[case] = error
    return found


def edit_all(server: Server, findings: Findings, folders: dict[str, str]) -> None:
    """Edits an image of each folder; search finds every edit soon."""
    tags = {folder: f"edit{time.monotonic_ns()}" for folder in folders}
    for folder, tag in tags.items():
        edit = url("/item", path=f"{folder}/a.jpg".lstrip("/"))
        status, body = server.request("PUT", edit, {"tags": [tag]})
        findings.expect(status == 200, folders[folder], edit, status, body)

    def missing() -> list[str]:
        for folder, tag in list(tags.items()):
            found = server.json(url("/search", q=f"tag:{tag}")).get("items", ())
            if [item["path"] for item in found] == [f"{folder}/a.jpg".lstrip("/")]:
                del tags[folder]
        return [folders[folder] for folder in tags]

    findings.until(missing, SOON_SECONDS, "edits that search does not find:")


def unsearched(server: Server, root: pathlib.Path, but: Container[str] = ()) -> list[str]:
    """Images that search does not list once, and what it lists beside them.

    Those of some folders need not be listed.
    """
    paths = Counter(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    found: Counter[str] = Counter()
    for offset in range(0, len(paths) + 1, 1000):
        more = url("/search", path="/", limit=1000, offset=offset)
        found.update(item["path"] for item in server.json(more).get("items", ()))
    wrong = [*(paths - found), *(found - paths)]
    return [path for path in wrong if path.partition("/")[0] not in but]


def photos_of(root: pathlib.Path) -> dict[str, bytes]:
    """The images that the user has; `os.walk` goes on where a path is too long."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                if name.endswith(".jpg"):
                    found[f"{folder}/{name}"] = pathlib.Path(folder, name).read_bytes()
    return found


# What strangers write


def compact(document: object) -> bytes:
    """JSON as Lenslet writes a manifest."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def changed(**keys: Any) -> Callable[[Document], bytes]:
    return lambda document: compact({**document, **keys})


def without(key: str) -> Callable[[Document], bytes]:
    return lambda document: compact({k: v for k, v in document.items() if k != key})


def item_with(**keys: Any) -> Callable[[Document], bytes]:
    """The first item is another."""
    return lambda document: compact(
        {**document, "items": [{**document["items"][0], **keys}, *document["items"][1:]]}
    )


def raw(key: str, value: bytes) -> Callable[[Document], bytes]:
    """A value that is not JSON as Python writes it."""
    return lambda document: compact({**document, key: "here"}).replace(b'"here"', value)


def raw_item(key: str, value: bytes) -> Callable[[Document], bytes]:
    return lambda document: item_with(**{key: "here"})(document).replace(b'"here"', value)


def paged(**keys: Any) -> Callable[[Document], bytes]:
    """The head of a manifest whose items are on pages."""

    def make(document: Document) -> bytes:
        head = {key: document[key] for key in ("v", "path", "generatedAt")}
        pages = {"pageCount": 1, "itemCount": 5, "dirs": [], "pages": ["a"], **keys}
        return compact({**head, **{k: v for k, v in pages.items() if v is not None}})

    return make


BIG = 10**400
LINE = "x" * (60 << 20)
ANYTHING: dict[str, Callable[[Any], bytes]] = {
    "empty": lambda _: b"",
    "NUL": lambda _: b"\0" * 5000,
    "a text": lambda _: b'"text"\n',
    "a list": lambda _: b"[]\n",
    "of another program": lambda _: b'{"images": []}\n',
}
EITHER = {  # of a manifest, or of one of its pages
    "items: a text": changed(items="a"),
    "items: of no objects": changed(items=[1, "x", None, []]),
    "starts: a text": changed(starts="a"),
    "pageCount: absent": without("pageCount"),
    "items: empty objects": changed(items=[{}]),
    "items: none": changed(items=[]),
    "items: absent": without("items"),
    "items: the first twice": lambda d: compact({**d, "items": [d["items"][0], *d["items"]]}),
    "w: a text": item_with(w="400"),
    "w: 10^30": item_with(w=10**30),
    "w: 10^400": item_with(w=BIG),
    "w: 1e400": raw_item("w", b"1e400"),
    "w: NaN": raw_item("w", b"NaN"),
    "w: negative": item_with(w=-1),
    "h: true": item_with(h=True),
    "size: negative": item_with(size=-1),
    "type: a page": item_with(type="text/html"),
    "tags: a text": item_with(tags="a"),
    "tags: numbers": item_with(tags=[1, 2]),
    "hash: a number": item_with(hash=5),
    "hash: a path": item_with(hash="/etc/passwd"),
    "facts: true": item_with(facts=True),
    "facts: 2^63": item_with(facts=2**63),
    "limit: a list": item_with(limit=["MAX_PIXELS=1"]),
    "limit: 1e999": item_with(limit="MAX_PIXELS=1e999"),
    "name: with a slash": item_with(name="x/a.jpg"),
    "name: ..": item_with(name=".."),
    "name: NUL": item_with(name="a\0.jpg"),
    "name: half a surrogate": raw_item("name", b'"\\ud800.jpg"'),
    "name: empty": item_with(name=""),
    "path: of another folder": item_with(path="other/a.jpg"),
    "path: of a parent": item_with(path="../../etc/passwd.jpg"),
    "path: of this host": item_with(path="/etc/passwd.jpg"),
    "path: a number": item_with(path=5),
    "path: NUL": item_with(path="a\0.jpg"),
    "path: half a surrogate": raw_item("path", b'"\\udfff.jpg"'),
    "generatedAt: in 9999": changed(generatedAt="9999-12-31T23:59:59Z"),
    "generatedAt: in 1": changed(generatedAt="0001-01-01T00:00:00+14:00"),
    "generatedAt: nonsense": changed(generatedAt="now"),
    "generatedAt: empty": changed(generatedAt=""),
    "generatedAt: a number": changed(generatedAt=5),
    "generatedAt: NUL": changed(generatedAt="2026-01-01T00:00:00\0Z"),
    "v: a text": changed(v="1"),
    "v: 2": changed(v=2),
    "v: 10^400": changed(v=BIG),
    "path of another folder": changed(path="other/"),
    "dirs: deep": raw("dirs", b"[" * 100_000 + b"]" * 100_000),
    "dirs: deep and open": raw("dirs", b"[" * 100_000),
    "60 MB of one line": changed(more=LINE),
    "notes of 60 MB": item_with(notes=LINE),
    "half of it": lambda d: compact(d)[: len(compact(d)) // 2],
    "not UTF-8": raw_item("name", b'"\xff\xfe"'),
    **ANYTHING,
}
HEADS = {
    "pages without end": paged(pageCount=10**15, generatedAt="2026-01-01T00:00:00Z"),
    "pages: absent": paged(pages=None),
    "pages: a number": paged(pages=5),
    "pages: a million": paged(pageCount=10**6, pages=["a"] * 10**6),
    "pages: empty": paged(pages=[], pageCount=0),
    "pageCount: a text": paged(pageCount="1"),
    "pageCount: 10^400": paged(pageCount=BIG),
    "pageCount: true": paged(pageCount=True),
    "itemCount: 90 million": paged(itemCount=90_000_000),
    "itemCount: negative": paged(itemCount=-5),
    "itemCount: 10^400": paged(itemCount=BIG),
    "itemCount: a text": paged(itemCount="5"),
    "dirs: absent": without("dirs"),
    "dirs: a text": changed(dirs="a"),
    "dirs: texts": changed(dirs=["a"]),
    "dirs: ..": changed(dirs=[{"name": "..", "kind": "branch"}]),
    "dirs: /etc": changed(dirs=[{"name": "/etc", "kind": "branch"}]),
    "dirs: of no kind": changed(dirs=[{"name": "sub", "kind": "other"}]),
    "dirs: the same twice": changed(dirs=[{"name": "sub", "kind": "branch"}] * 2),
    "dirs: cover: a number": changed(dirs=[{"name": "sub", "kind": "branch", "cover": 5}]),
    "dirs: cover: of this host": changed(
        dirs=[{"name": "sub", "kind": "branch", "cover": "/etc/passwd", "coverRev": "1"}]
    ),
}


def sparse(file: pathlib.Path, size: int = SPARSE) -> None:
    """Makes a document very long, that begins and ends as before."""
    data = file.read_bytes()
    with file.open("r+b") as out:
        out.truncate(size)
        out.seek(-50, os.SEEK_END)
        out.write(data[-50:])


def folder(file: pathlib.Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def pipe(file: pathlib.Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: pathlib.Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


def dangling(file: pathlib.Path) -> None:
    file.unlink()
    file.symlink_to("nothing")


IN_THE_WAY = [folder, pipe, link, dangling]


# Mutants


def positions(document: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    entries: Any = ()
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list):
        entries = enumerate(document)
    for key, value in entries:
        yield (*at, key)
        yield from positions(value, (*at, key))


TEXTS = (
    "",
    "text",
    "../x",
    "/etc/passwd",
    "a/../b",
    "\0",
    "\n",
    "9999-12-31T23:59:59Z",
    "x" * 9999,
)
NUMBERS = (-1, 1.5, 2**53, -(2**63), 10**30, BIG)
GONE = "gone"  # instead of a value: it is taken away
VALUES = st.sampled_from([GONE, None, True, [], {}, [[]], [1], ["a"], {"v": 1}, *TEXTS, *NUMBERS])


Mutation = list[tuple[int, Any]]


@functools.cache
def mutations(count: int) -> list[Mutation]:
    """Changes of one to three values, the same in each run: which, and to what."""
    found: list[Mutation] = []

    @seed(SEED)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.tuples(st.integers(0, 9999), VALUES), min_size=1, max_size=3))
    def collect(mutation: Mutation) -> None:
        found.append(mutation)

    collect()
    return found


def mutate(mutation: Mutation, document: Document) -> bytes:
    """A document of which some values are others, or are gone."""
    mutant = copy.deepcopy(document)
    for number, value in mutation:
        ways = list(positions(mutant))
        *way, last = ways[number % len(ways)]
        inner = functools.reduce(lambda each, key: each[key], way, mutant)
        if value == GONE and len(ways) > 1:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    return compact(mutant)


# Manifests


def fill(root: pathlib.Path, folders: list[str], names: str = "ab") -> None:
    for each in folders:
        for name in names:
            put(root / each / f"{name}.jpg", PHOTO)
        put(root / each / "sub" / "c.jpg", PHOTO)
        for file in (root / each).rglob("*.jpg"):
            os.utime(file, (1, 1))


def until_indexed(server: Server, root: pathlib.Path, folders: dict[str, str]) -> None:
    server.until(lambda: not unsearched(server, root))
    server.until(lambda: all((root / each / "a.jpg.thumbnail").exists() for each in folders))
    for each in folders:
        server.until(lambda each=each: not lies(server, root, {each: each}))
    server.until(lambda: server.json("/health").get("status") == "ok")


class Case(NamedTuple):
    """Something hostile in place of one file of a folder that has images of these names."""

    name: str
    file: str
    names: str
    spoil: Callable[..., Any]


HEAD, PAGE = ("_index.json", "ab"), ("_index_1.json", "abcdefg")
HEAD_OF_PAGES = ("_index.json", "abcdefg")


def cases_of(
    kind: tuple[str, str], table: dict[str, Any], short: tuple[str, ...] = ()
) -> list[Case]:
    """The cases of a table; in the short form only some."""
    return [Case(name, *kind, each) for name, each in table.items() if LONG or name in short]


def mutants(kind: tuple[str, str], count: int) -> list[Case]:
    return [
        Case(f"{kind[0]}: {str(each)[:200]}", *kind, functools.partial(mutate, each))
        for each in mutations(count)
    ]


def attack_manifests(root: pathlib.Path, home: pathlib.Path, cases: list[Case]) -> None:
    """Puts each case in place of a document of a folder of its own, while it is served."""
    folders = {f"m{number}": case for number, case in enumerate(cases)}
    for folder, case in folders.items():
        fill(root, [folder], case.names)
    names = {folder: f"{folder}: {case.name}" for folder, case in folders.items()}
    with watched(root, home, PAGE_SIZE="3") as (server, findings):
        until_indexed(server, root, names)
        foreign: dict[str, bytes] = {}
        for folder, case in folders.items():
            target = root / folder / case.file
            if case.spoil in IN_THE_WAY or case.spoil is sparse:
                case.spoil(target)
            else:
                target.write_bytes(data := case.spoil(json.loads(target.read_bytes())))
                if is_foreign(data):
                    foreign[folder] = data
        ask_all(server, findings, names)
        blocked = {folder for folder, case in folders.items() if case.spoil in IN_THE_WAY}
        blocked |= foreign.keys()
        served = {folder: name for folder, name in names.items() if folder not in blocked}
        findings.until(lambda: lies(server, root, served), SOON_SECONDS, "shown:")
        edit_all(server, findings, served)
        findings.until(lambda: unsearched(server, root, blocked), SOON_SECONDS, "search:")
        check_named(server, findings, folders, blocked)
        for folder, data in foreign.items():
            is_kept = (root / folder / folders[folder].file).read_bytes() == data
            findings.expect(is_kept, names[folder], "is not kept as it was")
        ask_all(server, findings, names)
    record("hostile manifests", files=len(cases), requests=findings.requests)


def check_named(
    server: Server, findings: Findings, folders: dict[str, Case], stay: set[str]
) -> None:
    """Health and its folder name what is not ours, which stays. All else is mended."""

    def mistakes() -> list[str]:
        library = server.json("/health").get("library") or {"problems": {}}
        texts = [each["path"] for kind in library["problems"].values() for each in kind]
        named = {path for path in folders if any(re.match(rf"{path}\b", text) for text in texts)}
        return [f"{path}: {folders[path][:2]}" for path in named ^ stay]

    def silent() -> list[str]:
        return [path for path in stay if get(server, url("/folders", path=path))[0] != 409]

    findings.until(mistakes, SOON_SECONDS, "health:")
    findings.until(silent, SOON_SECONDS, "not 409:")


def is_foreign(data: bytes) -> bool:
    """True for JSON that does not show itself to be Lenslet's."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    ours = isinstance(found, dict) and found.keys() >= {"v", "generatedAt"}
    return not ours or BIG in (found["v"], found.get("path"))  # no manifest begins so


SHORT_HEADS = (
    *("pages without end", "pages: absent", "pageCount: a text", "itemCount: 90 million"),
    *("w: a text", "w: 10^30", "path: of another folder", "dirs: ..", "60 MB of one line"),
    *("generatedAt: in 9999", "generatedAt: nonsense", "name: half a surrogate", "a list"),
    *("items: the first twice", "type: a page", "tags: a text", "name: with a slash", "dirs: deep"),
)
SHORT_PAGES = (
    *("starts: a text", "pageCount: absent", "w: a text", "name: .."),
    *("items: of no objects", "generatedAt: in 9999", "a list"),
)


GROUPS = {
    "heads": cases_of(HEAD, HEADS | EITHER, SHORT_HEADS),
    "pages": cases_of(PAGE, EITHER, SHORT_PAGES),
    "heads of pages": cases_of(HEAD_OF_PAGES, HEADS, SHORT_HEADS[:4]),
    "no files": [Case(each.__name__, *kind, each) for kind in (HEAD, PAGE) for each in IN_THE_WAY],
    "20 GB": [Case("20 GB", *kind, sparse) for kind in (HEAD, PAGE, HEAD_OF_PAGES)],
    "mutants of a head": mutants(HEAD, scale(5, 250)),
    "mutants of a page": mutants(("_index_0.json", "abcdefg"), scale(4, 250)),
}
if not LONG:
    small = [case for group in GROUPS.values() for case in group if case.spoil is not sparse]
    GROUPS = {"one half": small[::2], "the other": small[1::2], "20 GB": GROUPS["20 GB"]}


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_manifest_is_made_again(root, tmp_path, group: str) -> None:
    attack_manifests(root, tmp_path, GROUPS[group])


# The documents of the root


def new_id(valid: bytes) -> bytes:
    """A rollup that is not the one that the service knows."""
    return re.sub(rb'"id":"[0-9a-f]{16}"', b'"id":"%016x"' % time.monotonic_ns(), valid)


def rollup_item(**keys: Any) -> Callable[[bytes], bytes]:
    def make(valid: bytes) -> bytes:
        head, first, rest = new_id(valid).split(b"\n", 2)
        item = {**json.loads(first.rstrip(b",")), **keys}
        return b"\n".join([head, compact(item)[:-1] + b",", rest])

    return make


def rollup_folders(change: Callable[[Document], object]) -> Callable[[bytes], bytes]:
    def make(valid: bytes) -> bytes:
        start, mark, end = new_id(valid).rpartition(b'"folders":')
        found = json.loads(b'{"folders":' + end)["folders"]
        return start + mark + compact(change(found))[:-1] + b"}\n"

    return make


def rollup_id(value: bytes) -> Callable[[bytes], bytes]:
    return lambda valid: re.sub(rb'"id":"[0-9a-f]{16}"', b'"id":' + value, valid)


def json_of(change: Callable[[Document], bytes]) -> Callable[[bytes], bytes]:
    return lambda valid: change(json.loads(valid))


def counts(**keys: Any) -> Callable[[bytes], bytes]:
    return json_of(lambda d: compact({**d, "counts": {**d["counts"], **keys}}))


ANY = {
    **ANYTHING,
    "half of it": lambda valid: valid[: len(valid) // 2],
    "deep": lambda valid: valid[:60] + b"[" * 100_000,
}
ROLLUPS = {
    "id: a way out": rollup_id(b'"../../escaped"'),
    "id: of a parent": rollup_id(b'"../../../../../../tmp/escaped"'),
    "id: a number": rollup_id(b"5"),
    "id: a line": rollup_id(b'"0123456789abcdef\\n"'),
    "item: a number": lambda valid: new_id(valid).replace(b'\n{"path"', b'\n{"x":5},\n{"path"', 1),
    "item: torn": lambda valid: new_id(valid).replace(b'"name"', b'"name', 1),
    "path: a number": rollup_item(path=5),
    "path: separators": rollup_item(path="m0/\n\x1fG\x1fa\x1e.jpg"),
    "path: half a surrogate": lambda valid: new_id(valid).replace(b"m0/a.jpg", b"\\ud800.jpg", 1),
    "name: a list": rollup_item(name=[]),
    "tags: numbers": rollup_item(tags=[1, 2]),
    "tags: a text": rollup_item(tags="a"),
    "tags: separators": rollup_item(tags=["a\x1fb\x1ec\nd"]),
    "notes: a list": rollup_item(notes=["a"]),
    "takenAt: a list": rollup_item(takenAt=["a"]),
    "w: 1e400": lambda valid: new_id(valid).replace(b'"w":24', b'"w":1e400', 1),
    "a line of 60 MB": rollup_item(notes=LINE),
    "folders: a list": rollup_folders(lambda _: []),
    "folders: numbers": rollup_folders(lambda found: dict.fromkeys(found, 5)),
    "folders: nonsense": rollup_folders(lambda found: dict.fromkeys(found, "now")),
    "folders: in 9999": rollup_folders(lambda found: dict.fromkeys(found, "9999-12-31T23:59:59Z")),
    "folders: outside": rollup_folders(
        lambda found: {**found, "../../etc": "2026-01-01T00:00:00Z"}
    ),
    "folders: none": rollup_folders(lambda _: {}),
}
DELTAS = {
    "folders: a list": json_of(changed(folders=[])),
    "folders: numbers": json_of(changed(folders={"m0": 5})),
    "folders: nonsense": json_of(changed(folders={"m0": "now"})),
    "folders: in 9999": json_of(changed(folders={"m0": "9999-12-31T23:59:59Z"})),
    "folders: all gone": json_of(changed(folders={"": "", "m0": "", "m0/sub": "", "m1": ""})),
    "folders: outside": json_of(changed(folders={"../../etc": "2026-01-01T00:00:00Z"})),
    "folders: 200,000": json_of(
        changed(folders={f"no{each}": "2026-01-01T00:00:00Z" for each in range(200_000)})
    ),
    "60 MB of one line": json_of(changed(more=LINE)),
}
HEALTHS = {
    "counts: texts": counts(items="many", quarantined="5", brokenPointers="x"),
    "counts: 10^400": counts(items=BIG, quarantined=BIG),
    "counts: negative": counts(items=-5, quarantined=-5),
    "counts: a list": json_of(changed(counts=[])),
    "counts: absent": json_of(changed(counts={})),
    "problems: numbers": json_of(changed(problems={"quarantined": 5, "brokenPointers": [5]})),
    "problems: a list": json_of(changed(problems=[5])),
    "problems: of another kind": json_of(changed(problems={"x": [{"path": 5, "reason": []}]})),
    "passes: a text": json_of(changed(passes="a")),
    "generatedAt: a number": json_of(changed(generatedAt=5)),
    "60 MB of one line": json_of(changed(more=LINE)),
}
AT_THE_ROOT: dict[str, dict[str, Any]] = {
    "_rollup.json": {"3 GB": sparse, **ROLLUPS, **ANY},
    "_rollup_delta.json": {"3 GB": sparse, **DELTAS, **ANY},
    "_health.json": {"3 GB": sparse, **HEALTHS, **ANY},
}
SHORT_ROOT = {
    ("_rollup.json", "id: a way out"),
    ("_rollup.json", "path: a number"),
    ("_rollup_delta.json", "folders: in 9999"),
    ("_health.json", "counts: texts"),
}
ROOT_CASES = {
    group: [
        (file, case)
        for file, cases in AT_THE_ROOT.items()
        for case in cases
        if file == group or (group == "all" and (file, case) in SHORT_ROOT)
    ]
    for group in (AT_THE_ROOT if LONG else ["all"])
}


@pytest.mark.parametrize("group", ROOT_CASES)
def test_a_hostile_document_of_the_root_is_made_again(root, tmp_path, group: str) -> None:
    """The rollup, its delta and the report: search and health soon tell the truth."""
    fill(root, ["m0", "m1"])
    with watched(root, tmp_path) as (server, findings):
        until_indexed(server, root, {"m0": "", "m1": ""})
        for file, case in ROOT_CASES[group]:
            attack_root(server, findings, root, file, case)
            findings.expect(not list(tmp_path.rglob("*escaped*")), file, case, "wrote elsewhere")
            taken = sum(each.stat().st_blocks * 512 for each in (tmp_path / "cache").rglob("*.*"))
            findings.expect(taken < MEMORY_BYTES, file, case, taken >> 20, "MB in the cache")
    record(f"hostile {group}", files=len(ROOT_CASES[group]), requests=findings.requests)


EMPTY_DELTA = b'{"v":1,"generatedAt":"2026-01-01T00:00:00Z","folders":{}}\n'


def attack_root(
    server: Server, findings: Findings, root: pathlib.Path, file: str, case: str
) -> None:
    """Puts something hostile in place of a document, looks at the rest, and takes it away."""
    spoil, target, about = AT_THE_ROOT[file][case], root / file, f"{file} {case}:"
    valid = target.read_bytes() if target.exists() else EMPTY_DELTA
    target.write_bytes(valid)
    if spoil is sparse:
        sparse(target, 3 << 30)
    else:
        target.write_bytes(spoil(valid))
    foreign = spoil is not sparse and is_foreign(spoil(valid))
    ask_all(server, findings, {"m0": about})
    if foreign and file == "_rollup_delta.json":
        refused = url("/search", q="a")
        findings.until(lambda: get(server, refused)[0] != 409, SOON_SECONDS, about, "not 409")
    else:
        edit_all(server, findings, {"m0": about, "m1": about})
        findings.until(lambda: unsearched(server, root), SOON_SECONDS, about, "search")
    if not (foreign and file == "_health.json"):
        findings.until(lambda: miscounted(server), SOON_SECONDS, about)
    if foreign:
        findings.until(lambda: not is_named(server, file), SOON_SECONDS, about, "not in health")
        findings.expect(target.read_bytes() == spoil(valid), about, "is not kept as it was")
    target.unlink(missing_ok=True)
    if file != "_rollup_delta.json":
        findings.until(lambda: not target.exists(), SOON_SECONDS, about, "not written again")
    findings.until(lambda: not is_ok(server), SOON_SECONDS, about, "health is not ok after it")


def is_ok(server: Server) -> bool:
    return bool(server.json("/health").get("status") == "ok")


def is_named(server: Server, file: str) -> bool:
    """True if health tells of a file."""
    found = server.json("/health")
    return found.get("status") != "ok" and file in json.dumps(found)


def miscounted(server: Server) -> object:
    """The counts in the health report, if they are not those of the two folders."""
    found = (server.json("/health").get("library") or {}).get("counts", {})
    right = {"folders": 5, "items": 6, "sidecars": 2, "thumbnailsMissing": 0, "quarantined": 0}
    metrics = server.get("/metrics")[1].decode()
    return {} if found.items() >= right.items() and "Infinity" not in metrics else found


# Sidecars


def sidecar(**keys: Any) -> bytes:
    return compact({"v": 1, "tags": ["mine"], "notes": "n", **keys})


UNREADABLE = {
    "empty": b"",
    "NUL": b"\0" * 300,
    "torn": sidecar()[:20],
    "not UTF-8": b'{"v": 1, "tags": ["\xff"]}',
    "tags: a text": sidecar(tags="mine"),
    "tags: numbers": sidecar(tags=[1]),
    "notes: a number": sidecar(notes=5),
    "v: 2": sidecar(v=2),
    "v: 10^400": sidecar(v=BIG),
    "mine: 10^400": sidecar(mine=BIG),
    "mine: 2^64": sidecar(mine=2**64),
    "v: 10^5000": sidecar(v=5).replace(b"5", b"1" + b"0" * 5000),
    "v: 1e400": sidecar(v=5).replace(b"5", b"1e400"),
    "v: NaN": sidecar(v=5).replace(b"5", b"NaN"),
    "an infinity": sidecar(mine=5).replace(b":5", b":Infinity"),
    "half a surrogate": sidecar(notes="here").replace(b"here", b"\\ud800"),
    "deep": sidecar(mine="here").replace(b'"here"', b"[" * 100_000 + b"]" * 100_000),
    "4 MB": sidecar(mine="x" * (4 << 20)),
    "60 MB": sidecar(mine=LINE),
}
OF_OTHERS = {
    "a list": b"[]",
    "v: a text": sidecar(v="1"),
    "v: true": sidecar(v=True),
    "v: 1.0": sidecar(v=5).replace(b"5", b"1.0"),
    "v alone": b'{"v": 1}',
    "of a phone": b'{"title": "a.jpg", "photoTakenTime": {"timestamp": "1"}}',
}
STILL_OURS = {
    "tags: null": sidecar(tags=None),
    "tags: twice": b'{"v": 1, "tags": ["a"], "tags": ["b"]}',
    "updatedAt: a number": sidecar(updatedAt=5),
    "updatedAt: nonsense": sidecar(updatedAt="now"),
    "exif: a number": sidecar(exif=5),
    "exif: deep": sidecar(exif=functools.reduce(lambda each, _: [each], range(150), 1)),
    "hash: a list": sidecar(hash=[]),
    "tags: 10,000": sidecar(tags=[f"t{number}" for number in range(400)]),
    "keys: strange": sidecar(**{"": 1, "\0": 2, "__proto__": {}, "a" * 1000: 3}),
}


SIDECARS: dict[str, Any] = {**UNREADABLE, **OF_OTHERS, **STILL_OURS}
SIDECARS |= {each.__name__: each for each in IN_THE_WAY}
ASIDE = {f"{each.__name__} aside": each for each in IN_THE_WAY}
SIDECARS |= ASIDE
REFUSED = {case for case, each in SIDECARS.items() if case in UNREADABLE or callable(each)}
IMAGES = {case: f"s{number}.jpg" for number, case in enumerate(SIDECARS)}


def sidecar_of(root: pathlib.Path, case: str) -> pathlib.Path:
    suffix = ".lenslet.json" if case in ASIDE else ".json"
    return root / "sidecars" / (IMAGES[case] + suffix)


def fill_sidecars(root: pathlib.Path) -> None:
    for case, content in SIDECARS.items():
        put(root / "sidecars" / IMAGES[case], PHOTO)
        file = put(sidecar_of(root, case), b"{}" if callable(content) else content)
        if callable(content):
            content(file)


def test_a_hostile_sidecar_is_left_as_it_is(house: House) -> None:
    """What may be the user's and cannot be read is 409, is in health, and is never written."""
    server, findings = house.server, Findings()
    for case, image in IMAGES.items():
        route, file = url("/item", path=f"sidecars/{image}"), sidecar_of(house.root, case)
        before = state(file)
        statuses = [
            server.get(route)[0],
            server.request("PUT", route, {"tags": ["new"]})[0],
            *([server.request("DELETE", route)[0]] if case in REFUSED else []),
        ]
        findings.expect(statuses == ([409] * 3 if case in REFUSED else [200] * 2), case, statuses)
        findings.expect(case in STILL_OURS or state(file) == before, case, "is not as it was")

    def mislisted() -> list[str]:
        listed = house.listed("unreadableSidecars")
        found = {case for case, image in IMAGES.items() if listed & names_of(f"sidecars/{image}")}
        return sorted(found ^ REFUSED)

    findings.until(mislisted, SOON_SECONDS, "unreadableSidecars:")
    edited = url("/search", path="sidecars", q="tag:new")
    right = len(SIDECARS) - len(REFUSED)
    findings.until(lambda: server.json(edited).get("total") != right, SOON_SECONDS, "not found")
    every = url("/search", path="sidecars")
    findings.expect(server.json(every).get("total") == len(IMAGES), "search lacks images")
    findings.check()
    record("hostile sidecars", files=len(SIDECARS))


def names_of(image: str) -> set[str]:
    return {image, f"{image}.json", f"{image}.lenslet.json"}


def state(file: pathlib.Path) -> object:
    """What a file is, without following a link or reading from a pipe."""
    info = file.lstat()
    data = file.read_bytes() if stat.S_ISREG(info.st_mode) else b""
    return info.st_ino, info.st_mtime_ns, info.st_mode, data


# Pointers

POINTER = ".lenslet.folder.json"


def pointer(path: Any = "good", **keys: Any) -> bytes:
    target = {"type": "local", "path": path}
    return compact({"version": 1, "kind": "pointer", "target": target, **keys})


BROKEN = {
    "empty": b"",
    "NUL": b"\0" * 300,
    "a list": b"[]",
    "torn": pointer()[:30],
    "not UTF-8": b'{"version": 1, "target": "\xff"}',
    "deep": b"[" * 100_000,
    "5 MB": pointer(more="x" * (5 << 20)),
    "version: 2": pointer(version=2),
    "version: 10^400": pointer(version=BIG),
    "version: 1e400": pointer(version="here").replace(b'"here"', b"1e400"),
    "kind: of others": pointer(kind="link"),
    "target: a text": pointer(target="good"),
    "type: another": pointer(target={"type": "ftp", "path": "good"}),
    "path: a number": pointer(5),
    "path: absent": pointer(target={"type": "local"}),
    "path: NUL": pointer("good\0"),
    "path: a line": pointer("good\n"),
    "path: half a surrogate": pointer("here").replace(b"here", b"\\ud800"),
    "path: ..": pointer(".."),
    "path: out and in": pointer("../photos/good"),
    "path: long": pointer("x/" * 5000 + "x"),
    "path: of this host": pointer("/etc"),
    "path: of this host, NUL": pointer("/etc\0"),
    "path: missing": pointer("missing"),
    "path: a file": pointer("good/a.jpg"),
    "path: ignored": pointer(".hidden"),
    "bucket: not allowed": pointer(target={"type": "s3", "bucket": "b", "prefix": ""}),
    "bucket: a number": pointer(target={"type": "s3", "bucket": 5}),
    "bucket: empty": pointer(target={"type": "s3", "bucket": ""}),
}
ROUND = {"path: itself": "p0", "path: the root": ".", "path: empty": ""}


POINTERS: dict[str, Any] = {name: pointer(path) for name, path in ROUND.items()}
POINTERS |= {**BROKEN, **{each.__name__: each for each in IN_THE_WAY}}
FOLDERS = {case: f"p{number}" for number, case in enumerate(POINTERS)}
CHAIN = [*(f"c{number}" for number in range(30)), "good"]


def fill_pointers(root: pathlib.Path) -> None:
    put(root / "good/a.jpg", PHOTO)
    put(root / "plain/a.jpg", PHOTO)
    put(root / ".hidden/a.jpg", PHOTO)
    for case, content in POINTERS.items():
        put(root / FOLDERS[case] / "a.jpg", PHOTO)
        file = root / FOLDERS[case] / POINTER
        put(file, b"{}" if callable(content) else content)
        if callable(content):
            content(file)
    for here, there in itertools.pairwise(CHAIN):
        put(root / here / POINTER, pointer(there))


def test_a_hostile_pointer_breaks_its_own_folder_alone(house: House) -> None:
    server, findings = house.server, Findings()
    for case, folder in FOLDERS.items():
        status = server.get(url("/folders", path=folder))[0]
        findings.expect(status == (508 if case in ROUND else 403), case, status)
    ask_all(server, findings, {folder: case for case, folder in FOLDERS.items()})
    chain = [server.get(url("/folders", path=name))[0] for name in CHAIN]
    findings.expect(chain == [508] * 14 + [200] * 17, "a chain:", chain)
    cases = {folder: case for case, folder in FOLDERS.items()}

    def mislisted() -> list[str]:
        mine = {each for each in house.listed("brokenPointers") if each[0] in "pc"}
        return sorted(cases.get(each, each) for each in mine ^ {*cases, *CHAIN[:14]} - {"plain"})

    findings.until(mislisted, SOON_SECONDS, "brokenPointers:")
    edit_all(server, findings, {"plain": "the folder beside them"})
    findings.check()
    record("hostile pointers", files=len(FOLDERS), requests=findings.requests)


def fill_levels(root: pathlib.Path, levels: int) -> None:
    """Six pointers in each folder of some levels, which lead to the next."""
    for level in range(levels):
        for number in range(6):
            put(root / f"l{level}/p{number}" / POINTER, pointer(f"l{level + 1}"))
    put(root / f"l{levels}/a.jpg", PHOTO)


def test_pointers_of_two_levels_are_shown_whole(house: House) -> None:
    found = [
        shown(house.server, f"l0/p{one}/p{other}")[0] for one in range(6) for other in range(6)
    ]
    names = [item[0] for items in found for item in items]
    assert names == [f"l0/p{one}/p{other}/a.jpg" for one in range(6) for other in range(6)]


SECRETS = {  # what a pointer leads to: an image that IGNORE hides there, through the pointer
    "i0": ("private", "i0/a.jpg"),
    "i1": ("albums", "i1/private/a.jpg"),
    "i2": ("albums/private", "i2/a.jpg"),
    "i3": ("/outside", "i3/photos/private/a.jpg"),
}
IGNORED = "private/*,albums/private/*"


def fill_ignored(root: pathlib.Path) -> None:
    put(root / "private/a.jpg", PHOTO)
    put(root / "albums/private/a.jpg", PHOTO)
    put(root / "albums/b.jpg", PHOTO)
    for name, (target, _) in SECRETS.items():
        put(root / name / POINTER, pointer(str(root.parent) if target[0] == "/" else target))


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_ignored_by_its_path_is_not_shown_by_a_pointer(house: House, name: str) -> None:
    server, findings, secret = house.server, Findings(), SECRETS[name][1]
    folder = secret.rpartition("/")[0]
    server.get(url("/folders", path=name))
    for route in ("/file", "/thumb", "/item", "/preview"):
        status = server.get(url(route, path=secret))[0]
        findings.expect(status in (403, 404, 508), route, status)
    listed = server.json(url("/folders", path=folder)).get("items", [])
    findings.expect(not listed, folder, "lists", [item["path"] for item in listed])
    found = [item["path"] for item in server.json(url("/search", path=name)).get("items", [])]
    findings.expect(secret not in found, "search finds", found)
    findings.expect(not (house.root / f"{secret}.thumbnail").exists(), "there is a thumbnail")
    findings.check()


# Long names


def lengths_of(root: pathlib.Path) -> list[int]:
    """Lengths of folders' paths: they fit in PATH_MAX, and those of the files in them hardly do."""
    most = 4095 - len(str(root)) - 1
    margins = (60, 30, 20, 13, 12, 11, 7, 6, 5, 1, 0)[:: scale(3, 1)]
    return [3690, *(most - less for less in margins), 3790]


def fill_deep(root: pathlib.Path) -> None:
    for number, length in enumerate(lengths_of(root)):
        make_deep(root / f"d{number}", length - len(f"d{number}"))


def test_a_path_that_nearly_fills_path_max_does_not_stop_search(house: House) -> None:
    server, findings = house.server, Findings()
    edit_all(server, findings, {"plain": "the folder beside them"})
    for number in range(len(lengths_of(house.root))):
        below = deepest(house.root / f"d{number}", house.root)
        ask_all(server, findings, {below: f"{len(below)} bytes"})
    put(house.root / "new/a.jpg", PHOTO)
    for folder in ("d0", "new"):
        found_once(house, findings, url("/search", q="name:a.jpg", path=folder), folder)
    findings.until(lambda: unsaid(house), SOON_SECONDS, "neither shown nor in health:")
    findings.check()


def unsaid(house: House) -> list[int]:
    """The lengths of the folders that are not shown, and that health does not name."""
    problems = (house.server.json("/health").get("library") or {}).get("problems", {})
    named = " ".join(each["path"] for kind in problems.values() for each in kind)
    tops = (house.root / f"d{number}" for number in range(len(lengths_of(house.root))))
    silent = (path for top in tops if (path := deepest(top, house.root)) not in named)
    return [len(path) for path in silent if house.server.get(url("/folders", path=path))[0] != 200]


def deepest(top: pathlib.Path, root: pathlib.Path) -> str:
    return max((folder for folder, _, _ in os.walk(top)), key=len)[len(str(root)) + 1 :]


def make_deep(top: pathlib.Path, length: int) -> None:
    """Folders in folders whose path below `top` has `length` bytes, with an image in the last."""
    top.mkdir()
    fd = os.open(top, os.O_DIRECTORY)
    while length > 1:
        size = min(200, length - 1)
        size -= length - 1 - size == 1  # nothing is left that would be a slash alone
        os.mkdir("d" * size, dir_fd=fd)
        below = os.open("d" * size, os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd, length = below, length - 1 - size
    with open(os.open("a.jpg", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd), "wb") as image:
        image.write(PHOTO)
    os.close(fd)


LONG_NAMES = {
    f"n/{'x' * 251}.jpg": 422,  # there is no room for a sidecar or a thumbnail beside it
    f"n/{'é' * 125}x.jpg": 422,
    f"n/{'y' * 240}.jpg": 200,
    f"{'f' * 255}/a.jpg": 200,
}


def test_names_of_255_bytes_are_shown_and_found(house: House) -> None:
    server, findings = house.server, Findings()
    for image, wanted in LONG_NAMES.items():
        thumbnail = server.thumbnail(image)[0]
        edit = server.request("PUT", url("/item", path=image), {"tags": ["new"]})[0]
        original = server.get(url("/file", path=image)) == (200, PHOTO)
        answers = thumbnail, edit, original
        findings.expect(answers == (wanted, wanted, True), image, answers)
        folder, _, name = image.rpartition("/")
        found_once(house, findings, url("/search", path=folder, q=f"name:{name}"), image)
    findings.check()


def found_once(house: House, findings: Findings, route: str, *about: object) -> None:
    """A search finds one image soon."""
    findings.until(lambda: house.server.json(route).get("total") != 1, SOON_SECONDS, *about)


# One service for all that does not disturb the rest


class House(NamedTuple):
    server: Server
    root: pathlib.Path

    def listed(self, kind: str) -> set[str]:
        """The paths of one kind of problem in health."""
        library = self.server.json("/health").get("library") or {"problems": {}}
        return {each["path"] for each in library["problems"].get(kind, ())}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service over a root with a long path that has hostile files of all kinds from the start."""
    home = tmp_path_factory.mktemp("house")
    root = home / ("r" * 200) / ("s" * 100) / "photos"
    root.mkdir(parents=True)
    for each in (fill_sidecars, fill_pointers, fill_ignored, fill_deep):
        each(root)
    fill_levels(root, 2)
    for image in LONG_NAMES:
        put(root / image, PHOTO)
    options = {"IGNORE": IGNORED, "POINTER_ROOTS": str(root.parent)}
    with watched(root, home, **options) as (server, _):
        server.until(lambda: server.json("/search?q=name:a.jpg&path=plain").get("total") == 1)
        yield House(server, root)
