"""Files beside images are input from strangers: real gunicorn over a folder full of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import operator
import os
import pathlib
import re
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Server, jpeg, put, wait_for
from processes import limited, processes, processor_seconds

pytestmark = pytest.mark.slow
MEMORY_BYTES = 400 << 20
PHOTO = jpeg(24, 16)


# Looking at the service


def until_none(what: Callable[[], object], *about: object) -> None:
    """Waits until nothing is left of `what`; fails with what is left."""
    left: list[object] = []
    try:
        wait_for(lambda: left.append(what()) or not left[-1], 10.0)
    except AssertionError:
        raise AssertionError(f"left: {str(left[-1])[:2000]}; {about}") from None


@contextmanager
def watched(root: pathlib.Path, home: pathlib.Path, **more: str) -> Iterator[Server]:
    """A service that must stay whole: the same index process, at rest in the end, and small."""
    before = photos(root)
    server = Server(root, home, **{"SCAN_SECONDS": "1", "THUMB_WAIT": "0", **more})
    try:
        index = server.index_pid()
        with limited(server, MEMORY_BYTES):
            yield server
            until_none(lambda: busy(server), "at work without an end")
        assert server.index_pid() == index
        assert "Traceback" not in server.log.read_text()
        assert before.items() <= photos(root).items()
    finally:
        server.stop()


def photos(root: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.jpg")}


def busy(server: Server) -> list[int]:
    """The processes that have worked for most of the last second."""
    before = {pid: processor_seconds(pid) for pid in processes(server)}
    time.sleep(1)
    now = {pid: processor_seconds(pid) for pid in processes(server)}
    return [pid for pid in now if now[pid] - before.get(pid, 0) > 0.5]


def ill(server: Server, root: pathlib.Path) -> object:
    """What health says, if it is not that all is well and counted."""
    health, items = server.json("/health"), len(photos(root))
    right = {"items": items, "thumbnailsMissing": 0, "quarantined": 0, "unreadableSidecars": 0}
    counts = (health.get("library") or {}).get("counts", {})
    is_well = health["status"] == "ok" and counts.items() >= right.items()
    return {} if is_well and "Infinity" not in str(server.get("/metrics")) else health


def url(route: str, **query: str | int) -> str:
    return f"{route}?{urllib.parse.urlencode(query)}"


GENERAL = ("/folders", "/search/suggest?q=a", "/search?q=a&sort=date", "/metrics", "/health", "/")


def ask_all(server: Server, folders: Collection[str], about: object) -> None:
    """Asks every route of some folders: none may fail, or have no answer."""
    routes = [*GENERAL]
    for folder in folders:
        path = f"{folder}/a.jpg".lstrip("/")
        routes += (url("/folders", path=folder, page=page) for page in range(4))
        routes += (url(route, path=path) for route in ("/item", "/thumb", "/preview", "/file"))
        routes += ("/files/" + urllib.parse.quote(path), url("/search", path=folder))
    statuses = {route: server.get(route)[0] for route in routes}
    failed = {route: each for route, each in statuses.items() if not 200 <= each < 500}
    assert {*failed.values()} <= {503, 508}, (failed, about)


def shown(server: Server, folder: str) -> list[object]:
    """What the service says of a folder, on all of its pages."""
    first = server.json(url("/folders", path=folder))
    more = (url("/folders", path=folder, page=n) for n in range(1, first.get("pageCount", 1)))
    pages = (first, *map(server.json, more))
    keys = ("path", "name", "type", "w", "h", "size", "tags", "notes")
    items = [tuple(map(item.get, keys)) for page in pages for item in page.get("items", ())]
    return [*items, *(entry["name"] for entry in first.get("dirs", ()))]


def edit_all(server: Server, folders: Iterable[str], about: object = "") -> None:
    """Edits an image of each folder; search finds every edit soon."""
    tags = {f"{folder}/a.jpg": f"edit{time.monotonic_ns()}" for folder in folders}
    for path, tag in tags.items():
        answer = server.request("PUT", url("/item", path=path), {"tags": [tag]})
        assert answer[0] == 200, (about, path, answer)

    def missing() -> list[str]:
        hits = {path: server.json(url("/search", q=f"tag:{tag}")) for path, tag in tags.items()}
        return [path for path, each in hits.items() if path not in str(each.get("items"))]

    until_none(missing, about, "edits that search does not find")


def unsearched(server: Server, root: pathlib.Path, but: Collection[str] = ()) -> set[str]:
    """Images that search does not list, and what it lists beside them; not those of some folders."""
    found = server.json(url("/search", path="/", limit=1000)).get("items", ())
    wrong = photos(root).keys() ^ {item["path"] for item in found}
    return {path for path in wrong if path.partition("/")[0] not in but}


# What strangers write


@dataclass(frozen=True)
class Raw:
    """Stands for a value in JSON that Python would not write so."""

    data: bytes


GONE = Raw(b"gone")  # instead of a value: the key is taken away
SURROGATE = Raw(b'"\\ud800.jpg"')
BIG = 10**400
DEEP = Raw(b"[" * 100_000 + b"]" * 100_000)
LINE = "x" * (60 << 20)
Change = Callable[[bytes], bytes]


def compact(document: object) -> bytes:
    """JSON as Lenslet writes a manifest."""
    text = json.dumps(document, separators=(",", ":"), default=lambda raw: f"raw:{raw.data.hex()}")
    data = re.sub(r'"raw:(\w*)"', lambda raw: bytes.fromhex(raw[1]).decode("latin-1"), text)
    return data.encode("latin-1") + b"\n"


def changed(**keys: Any) -> Change:
    """Other values of some keys."""

    def change(data: bytes) -> bytes:
        document = json.loads(data) | keys
        return compact({key: each for key, each in document.items() if each is not GONE})

    return change


def item_with(**keys: Any) -> Change:
    """The first item is another."""

    def change(data: bytes) -> bytes:
        first, *rest = json.loads(data)["items"]
        return changed(items=[first | keys, *rest])(data)

    return change


def paged(**keys: Any) -> Change:
    """The head of a manifest whose items are on pages."""
    pages = {"pageCount": 1, "itemCount": 5, "dirs": [], "pages": ["a"], "items": GONE}
    return changed(**pages | keys)


def swap(old: bytes, new: bytes) -> Change:
    return lambda data: re.sub(old, lambda _: new, data, count=1, flags=re.DOTALL)


def each_of(make: Callable[..., Any], table: dict[str, list[Any]]) -> dict[str, Any]:
    """A case for each value of each key; `make` makes it of the key and the value."""
    return {
        f"{key} {number}: {str(value)[:60]!r}": make(**{key: value})
        for key, values in table.items()
        for number, value in enumerate(values)
    }


ANYTHING: dict[str, Change] = {
    "empty": lambda _: b"",
    "NUL": lambda _: b"\0" * 5000,
    "a text": lambda _: b'"text"\n',
    "a list": lambda _: b"[]\n",
    "of another program": lambda _: b'{"images": []}\n',
    "half of it": lambda data: data[: len(data) // 2],
    "deep": lambda data: data[:60] + b"[" * 100_000,
}
OF_AN_ITEM = {
    "w": ["400", 10**30, BIG, Raw(b"1e400"), Raw(b"NaN"), -1],
    "h": [True],
    "size": [-1],
    "type": ["text/html"],
    "tags": ["a", [1, 2]],
    "hash": [5, "/etc/passwd"],
    "facts": [True, 2**63],
    "limit": [["MAX_PIXELS=1"], "MAX_PIXELS=1e999"],
    "name": ["x/a.jpg", "..", "a\0.jpg", "", SURROGATE, Raw(b'"\xff\xfe"')],
    "path": ["other/a.jpg", "../../etc/passwd.jpg", "/etc/passwd.jpg", 5, "a\0.jpg", SURROGATE],
    "keywords": ["a", ["k" * 201], ["k"] * 501],
    "title": [1],
    "caption": ["c" * 4001],
    "camera": ["c" * 101],
    "notes": [LINE],
}
OF_A_MANIFEST = {
    "items": ["a", [1, "x", None, []], [{}], [], GONE],
    "starts": ["a"],
    "pageCount": [GONE],
    "generatedAt": ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "now", "", 5, "2026\0"],
    "v": ["1", 2, BIG],
    "path": ["other/"],
    "dirs": [DEEP, Raw(b"[" * 100_000)],
    "more": [LINE],
}
EITHER = {  # of a manifest, or of one of its pages
    **each_of(item_with, OF_AN_ITEM),
    **each_of(changed, OF_A_MANIFEST),
    "the first twice": lambda data: re.sub(rb'(\{"path".*?\},)', rb"\1\1", data, count=1),
    **ANYTHING,
}


SUB = {"name": "sub", "kind": "branch"}
OF_PAGES = {
    "pageCount": [10**15, "1", BIG, True],
    "pages": [GONE, 5, ["a"] * 10**6],
    "itemCount": [90_000_000, -5, BIG, "5"],
}
FOLDERS_OF_A_HEAD = {"dirs": [GONE, "a", ["a"], [SUB, SUB]]}
ENTRY = {"name": ["..", "/etc"], "kind": ["other"], "cover": [5], "coverRev": ["1"]}
HEADS = {
    **each_of(paged, OF_PAGES),
    **each_of(changed, FOLDERS_OF_A_HEAD),
    **each_of(lambda **keys: changed(dirs=[SUB | {"cover": "/etc/passwd"} | keys]), ENTRY),
    "no pages": paged(pages=[], pageCount=0),
    "a million pages": paged(pages=["a"] * 10**6, pageCount=10**6),
}
IN_THE_WAY: dict[str, Callable[[pathlib.Path], object]] = {
    "a folder": lambda file: (file / "inside").mkdir(parents=True),
    "a pipe": os.mkfifo,
    "a link": lambda file: file.symlink_to("/etc/passwd"),
    "a dangling link": lambda file: file.symlink_to("nothing"),
}
SPARSE = {"20 GB": 20 << 30}  # a size: it begins and ends as before


def put_hostile(file: pathlib.Path, case: str, how: Any) -> bytes | None:
    """Puts a case in place of a file; its bytes, unless it is no file or without an end."""
    if case in IN_THE_WAY:
        while not (file.is_dir() or file.is_fifo() or file.is_symlink()):
            # The service may make it again meanwhile.
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                file.unlink(missing_ok=True)
                how(file)
    elif isinstance(how, int):
        end = file.read_bytes()[-50:]
        with file.open("r+b") as out:
            out.truncate(how)
            out.seek(-50, os.SEEK_END)
            out.write(end)
    else:
        data: bytes = how if isinstance(how, bytes) else how(file.read_bytes())
        file.write_bytes(data)
        return data
    return None


def is_foreign(data: bytes | None) -> bool:
    """True for what does not begin as Lenslet's documents do, and is not blank."""
    begins = re.compile(rb'\{\s*"v":\s*1,\s*("path":\s*"(\\.|[^"\\])*",\s*)?"generatedAt":')
    return bool((data or b"").strip(b"\0 \n")) and not begins.match(data or b"")


# Manifests


def fill(root: pathlib.Path, folders: Iterable[str], names: str) -> None:
    for folder, name in itertools.product(folders, (*names, "sub/c")):
        os.utime(put(root / folder / f"{name}.jpg", PHOTO), (1, 1))


FEW, MANY = "ab", "abcdefg"  # images; with many of them a manifest has pages
GROUPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "heads": ("_index.json", FEW, HEADS | EITHER | SPARSE | IN_THE_WAY),
    "pages": ("_index_1.json", MANY, EITHER | SPARSE | IN_THE_WAY),
    "heads of pages": ("_index.json", MANY, HEADS | SPARSE),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_manifest_is_made_again(root, tmp_path, group: str) -> None:
    """Each case is in a folder of its own, and is put there while it is served."""
    file, names, table = GROUPS[group]
    folders = {f"m{number}": case for number, case in enumerate(table)}
    fill(root, folders, names)
    with watched(root, tmp_path, PAGE_SIZE="3") as server:
        server.until(lambda: not (ill(server, root) or unsearched(server, root)))
        before = {folder: shown(server, folder) for folder in folders}
        assert all(len(each) == len(names) + 1 for each in before.values())
        there = {
            folder: put_hostile(root / folder / file, case, table[case])
            for folder, case in folders.items()
        }
        foreign = {folder: data for folder, data in there.items() if is_foreign(data)}
        stay = foreign.keys() | {each for each, case in folders.items() if case in IN_THE_WAY}
        ask_all(server, folders, folders)
        again = folders.keys() - stay
        until_none(lambda: [each for each in again if shown(server, each) != before[each]], folders)
        edit_all(server, again, folders)
        until_none(lambda: unsearched(server, root, stay), folders)
        until_none(lambda: {p.partition("/")[0] for p in problems(server)} ^ stay, "in health")
        until_none(
            lambda: [each for each in stay if server.get(url("/folders", path=each))[0] != 409],
            folders,
        )
        assert {each: (root / each / file).read_bytes() for each in foreign} == foreign
        ask_all(server, folders, folders)


def problems(server: Server) -> set[str]:
    """The paths that health names."""
    library = server.json("/health").get("library") or {"problems": {}}
    return {each["path"] for kind in library["problems"].values() for each in kind}


def found(server: Server, query: str) -> int:
    """How many images a search finds."""
    return int(server.json(url("/search", q=query)).get("total", -1))


# The documents of the root

ID = rb'"id":"[0-9a-f]{16}"'
KNOWN = ("", "m0", "m0/sub", "m1", "m1/sub")


def rollup_item(**keys: Any) -> Change:
    """The first item, which has a line of its own, is another."""

    def change(data: bytes) -> bytes:
        head, first, rest = data.split(b"\n", 2)
        item = compact(json.loads(first.rstrip(b",")) | keys)
        return b"\n".join([head, item[:-1] + b",", rest])

    return change


def rollup_with(folders: Any) -> Change:
    return swap(rb'"folders":.*', b'"folders":' + compact(folders)[:-1] + b"}\n")


OF_A_LINE = {
    "path": [5, "m0/\n\x1fG\x1fa\x1e.jpg", SURROGATE],
    "name": [[]],
    "tags": [[1, 2], "a", ["a\x1fb\x1ec\nd"]],
    "notes": [["a"], LINE],
    "takenAt": [["a"]],
    "addedAt": ["٢" * 20],
    "w": [Raw(b"1e400")],
}
FOLDERS_THAT_CHANGED = {
    "folders": [
        *([], {}, *(dict.fromkeys(KNOWN, each) for each in (5, "now", "9999-12-31T23:59:59Z", ""))),
        {**dict.fromkeys(KNOWN, "2026-01-01T00:00:00Z"), "../../etc": "2026-01-01T00:00:00Z"},
    ]
}
IDS = {
    "id: a way out": b'"../../escaped"',
    "id: of a parent": b'"../../../../../../tmp/escaped"',
    "id: a number": b"5",
    "id: a line": b'"0123456789abcdef\\n"',
}
ROLLUPS = {
    **{case: swap(ID, b'"id":' + value) for case, value in IDS.items()},
    **each_of(rollup_item, OF_A_LINE),
    **each_of(rollup_with, FOLDERS_THAT_CHANGED),
    "item: a number": swap(b'\n{"path"', b'\n{"x":5},\n{"path"'),
    "item: torn": swap(b'"name"', b'"name'),
}
DELTAS = {
    **each_of(changed, FOLDERS_THAT_CHANGED),
    "folders: 200,000": changed(folders={f"no{n}": "2026-01-01T00:00:00Z" for n in range(200_000)}),
    "60 MB of one line": changed(more=LINE),
}
OF_HEALTH = {
    "counts": [
        *([], {}, {"items": "many", "quarantined": "5", "brokenPointers": "x"}),
        *(dict.fromkeys(("items", "quarantined", "brokenPointers"), each) for each in (BIG, -5)),
    ],
    "problems": [{"quarantined": 5, "x": [{"path": 5, "reason": []}]}, {"quarantined": [5]}, [5]],
    "passes": ["a"],
    "generatedAt": [5],
    "more": [LINE],
}
AT_THE_ROOT: dict[str, dict[str, Any]] = {
    "_rollup.json": SPARSE | ROLLUPS | ANYTHING,
    "_rollup_delta.json": SPARSE | DELTAS | ANYTHING,
    "_health.json": SPARSE | each_of(changed, OF_HEALTH) | ANYTHING,
}
EMPTY_DELTA = b'{"v":1,"generatedAt":"2026-01-01T00:00:00Z","folders":{}}\n'


@pytest.mark.parametrize("file", AT_THE_ROOT)
def test_a_hostile_document_of_the_root_is_made_again(root, tmp_path, file: str) -> None:
    """The rollup, its delta and the report: search and health soon say what is true."""
    fill(root, ["m0", "m1"], FEW)
    with watched(root, tmp_path) as server:
        server.until(lambda: not (ill(server, root) or unsearched(server, root)))
        for case in AT_THE_ROOT[file]:
            attack_root(server, root / file, case)
            assert not list(tmp_path.rglob("*escaped*")), case
        taken = sum(each.stat().st_blocks * 512 for each in (tmp_path / "cache").rglob("*.*"))
        assert taken < MEMORY_BYTES


def attack_root(server: Server, target: pathlib.Path, case: str) -> None:
    """Puts a case in place of a document, looks at the rest, and takes it away."""
    root, file = target.parent, target.name
    valid = target.read_bytes() if target.exists() else EMPTY_DELTA
    if case not in SPARSE:  # another rollup than the service knows, so that it is read
        valid = swap(ID, b'"id":"%016x"' % time.monotonic_ns())(valid)
    target.write_bytes(valid)
    data = put_hostile(target, case, AT_THE_ROOT[file][case])
    foreign = is_foreign(data)
    ask_all(server, ["m0"], case)
    if foreign:
        until_none(lambda: file not in json.dumps(server.json("/health")), case, "not in health")
        assert target.read_bytes() == data, case
    if foreign and file == "_rollup_delta.json":
        until_none(lambda: server.get("/search?q=a")[0] != 409, case, "not 409")
    else:
        edit_all(server, ["m0", "m1"], case)
        until_none(lambda: unsearched(server, root), case)
    target.unlink(missing_ok=True)
    until_none(lambda: ill(server, root), case)
    if file != "_rollup_delta.json":
        until_none(lambda: not target.exists(), case, "not written again")


# Sidecars


def sidecar(**keys: Any) -> bytes:
    return compact({"v": 1, "tags": ["mine"], "notes": "n", **keys})


NOT_SIDECARS = {
    "tags": ["mine", [1]],
    "notes": [5, SURROGATE],
    "v": [2, BIG, Raw(b"1" + b"0" * 5000), Raw(b"1e400"), Raw(b"NaN")],
    "mine": [BIG, 2**64, Raw(b"Infinity"), DEEP, "x" * (4 << 20), LINE],
}
OF_OTHERS = {
    **each_of(sidecar, {"v": ["1", True, Raw(b"1.0")]}),
    "a list": b"[]",
    "v alone": b'{"v": 1}',
    "of a phone": b'{"title": "a.jpg", "photoTakenTime": {"timestamp": "1"}}',
}
NONSENSE_IN_OURS = {
    "tags": [None, [f"t{number}" for number in range(400)]],
    "updatedAt": [5, "now"],
    "exif": [5, functools.reduce(lambda each, _: [each], range(150), 1)],
    "hash": [[]],
}
STILL_OURS = {
    **each_of(sidecar, NONSENSE_IN_OURS),
    "tags: twice": b'{"v": 1, "tags": ["a"], "tags": ["b"]}',
    "keys: strange": sidecar(**{"": 1, "\0": 2, "__proto__": {}, "a" * 1000: 3}),
}
REFUSED: dict[str, Any] = {
    **each_of(sidecar, NOT_SIDECARS),
    "empty": b"",
    "NUL": b"\0" * 300,
    "torn": sidecar()[:20],
    "not UTF-8": b'{"v": 1, "tags": ["\xff"]}',
    **IN_THE_WAY,
}
SIDECARS = REFUSED | OF_OTHERS | STILL_OURS
seen = operator.attrgetter("st_ino", "st_mtime_ns", "st_size")
IMAGES = {case: f"sidecars/s{number}.jpg" for number, case in enumerate(SIDECARS)}


def test_a_hostile_sidecar_is_left_as_it_is(house: House) -> None:
    """What may be the user's and cannot be read is 409, is in health, and is never written."""
    server, root = house
    refused = {IMAGES[case] for case in REFUSED}
    for case, image in IMAGES.items():
        file, asked = root / f"{image}.json", [("GET", None), ("PUT", {"tags": ["new"]})]
        if case in REFUSED:
            asked.append(("DELETE", None))
        before = seen(file.lstat())
        statuses = {server.request(how, url("/item", path=image), body)[0] for how, body in asked}
        assert statuses == {409 if case in REFUSED else 200}, (case, statuses)
        assert case in STILL_OURS or seen(file.lstat()) == before, case
    until_none(lambda: refused - {path.removesuffix(".json") for path in problems(server)})
    until_none(lambda: found(server, "tag:new") != len(IMAGES) - len(refused))
    until_none(lambda: found(server, "name:s") != len(IMAGES))


# Pointers


def pointer(path: Any = "good", **keys: Any) -> bytes:
    target = {"type": "local", "path": path}
    return compact({"version": 1, "kind": "pointer", "target": target, **keys})


NOT_POINTERS = {
    "version": [2, BIG, Raw(b"1e400")],
    "kind": ["link"],
    "target": [
        *("good", {"type": "ftp", "path": "good"}, {"type": "local"}, {"type": "s3", "bucket": 5}),
        *({"type": "s3", "bucket": "b", "prefix": ""}, {"type": "s3", "bucket": ""}),
    ],
    "more": ["x" * (5 << 20)],
    "path": [
        *(5, "good\0", "good\n", SURROGATE, "..", "../photos/good", "x/" * 5000 + "x", "missing"),
        *("/etc", "/etc\0", "good/a.jpg", ".hidden"),
    ],
}
ROUND = {"to itself": pointer("p0"), "to the root": pointer("."), "to nothing": pointer("")}
POINTERS: dict[str, Any] = {
    **ROUND,
    **each_of(pointer, NOT_POINTERS),
    "empty": b"",
    "NUL": b"\0" * 300,
    "a list": b"[]",
    "torn": pointer()[:30],
    "not UTF-8": b'{"version": 1, "target": "\xff"}',
    "deep": b"[" * 100_000,
    **IN_THE_WAY,
}
FOLDERS = {case: f"p{number}" for number, case in enumerate(POINTERS)}


def test_a_hostile_pointer_breaks_its_own_folder_alone(house: House) -> None:
    server, _ = house
    for case, folder in FOLDERS.items():
        status = server.get(url("/folders", path=folder))[0]
        assert status == (508 if case in ROUND else 403), case
    ask_all(server, FOLDERS.values(), FOLDERS)
    until_none(lambda: {*FOLDERS.values()} - problems(server))
    edit_all(server, ["plain"])


House = tuple[Server, pathlib.Path]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service over a root that has hostile files of all kinds from the start."""
    home = tmp_path_factory.mktemp("house")
    root = home / "photos"
    folders = [f"{folder}/a.jpg" for folder in ("good", "plain", ".hidden", *FOLDERS.values())]
    for image in (*IMAGES.values(), *folders):
        put(root / image, PHOTO)
    for case, image in IMAGES.items():
        put_hostile(root / f"{image}.json", case, SIDECARS[case])
    for case, folder in FOLDERS.items():
        put_hostile(root / folder / ".lenslet.folder.json", case, POINTERS[case])
    with watched(root, home, POINTER_ROOTS=str(root.parent)) as server:
        server.until(lambda: found(server, "path:plain") == 1)
        yield server, root
