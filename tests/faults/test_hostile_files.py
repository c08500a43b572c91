"""Files beside images are input from strangers: real gunicorn over a folder full of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pathlib
import random
import re
import stat
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from conftest import Server, jpeg, put, wait_for
from processes import limited, processes, processor_seconds
from scale import record, scale

pytestmark = pytest.mark.slow
SEED = 13
MEMORY_BYTES = 400 << 20
SOON_SECONDS = 10.0
WIDTH, HEIGHT = 24, 16
PHOTO = jpeg(WIDTH, HEIGHT)


# Looking at the service


def until_none(what: Callable[[], object], *about: object) -> None:
    """Waits until nothing is left of `what`; fails with what is left."""
    left: list[object] = []
    try:
        wait_for(lambda: left.append(what()) or not left[-1], SOON_SECONDS)
    except AssertionError:
        raise AssertionError(f"left: {str(left[-1])[:2000]}; {about}") from None


@contextmanager
def watched(root: pathlib.Path, home: pathlib.Path, **more: str) -> Iterator[Server]:
    """A service that must stay whole: the same index process, at rest in the end, and small.

    What the user has stays as it is.
    """
    before = photos_of(root)
    server = Server(root, home, **{"SCAN_SECONDS": "1", "THUMB_WAIT": "0", **more})
    try:
        index = server.index_pid()
        with limited(server, MEMORY_BYTES):
            yield server
            until_none(lambda: busy(server), "at work without an end")
        assert server.index_pid() == index
        assert "Traceback" not in server.log.read_text()
        assert before.items() <= photos_of(root).items()
    finally:
        server.stop()


def busy(server: Server) -> list[int]:
    """The processes that have worked for most of the last second."""
    before = {pid: processor_seconds(pid) for pid in processes(server)}
    time.sleep(1)
    now = {pid: processor_seconds(pid) for pid in processes(server)}
    return [pid for pid in now if now[pid] - before.get(pid, 0) > 0.5]


def url(route: str, **query: str | int) -> str:
    return f"{route}?{urllib.parse.urlencode(query)}"


GENERAL = ("/folders", "/search/suggest?q=a", "/search?q=a&sort=date", "/metrics", "/health")
GENERAL += ("/health/storage", "/health/workers", "/openapi.json", "/")


def ask_all(server: Server, folders: Collection[str], about: object) -> None:
    """Asks every route of some folders: none may fail, or have no answer."""
    routes = list(GENERAL)
    for folder in folders:
        path = f"{folder}/a.jpg".lstrip("/")
        routes += (url("/folders", path=folder, page=page) for page in range(4))
        routes += (url(route, path=path) for route in ("/item", "/thumb", "/preview", "/file"))
        routes += ("/files/" + urllib.parse.quote(path), url("/search", path=folder))
    statuses = {route: server.get(route)[0] for route in routes}
    failed = {route: each for route, each in statuses.items() if not 200 <= each < 500}
    assert set(failed.values()) <= {503, 508}, (failed, about)


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


def lies(server: Server, root: pathlib.Path, folders: Iterable[str]) -> dict[str, Truth]:
    """The folders that are not shown as they are, and what is said of them."""
    said = {folder: shown(server, folder) for folder in folders}
    return {folder: each for folder, each in said.items() if each != truth(root, folder)}


def edit_all(server: Server, folders: Iterable[str], about: object = "") -> None:
    """Edits an image of each folder; search finds every edit soon."""
    tags = {f"{folder}/a.jpg": f"edit{time.monotonic_ns()}" for folder in folders}
    for path, tag in tags.items():
        answer = server.request("PUT", url("/item", path=path), {"tags": [tag]})
        assert answer[0] == 200, (about, path, answer)

    def missing() -> list[str]:
        for path, tag in list(tags.items()):
            found = server.json(url("/search", q=f"tag:{tag}")).get("items", ())
            if [item["path"] for item in found] == [path]:
                del tags[path]
        return list(tags)

    until_none(missing, about, "edits that search does not find")


def unsearched(server: Server, root: pathlib.Path, but: Collection[str] = ()) -> list[str]:
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
    return changed(**{**pages, **keys})


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


def branches(**keys: Any) -> list[dict[str, Any]]:
    return [{"name": "sub", "kind": "branch", **keys}]


OF_PAGES = {
    "pageCount": [10**15, "1", BIG, True],
    "pages": [GONE, 5, ["a"] * 10**6],
    "itemCount": [90_000_000, -5, BIG, "5"],
}
OF_FOLDERS = {
    "dirs": [
        *(GONE, "a", ["a"], branches() * 2, branches(name=".."), branches(name="/etc")),
        *(branches(kind="other"), branches(cover=5), branches(cover="/etc/passwd", coverRev="1")),
    ]
}
HEADS = {
    **each_of(paged, OF_PAGES),
    **each_of(changed, OF_FOLDERS),
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
    """True for JSON that does not show itself to be Lenslet's."""
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        return False
    ours = isinstance(found, dict) and found.keys() >= {"v", "generatedAt"}
    return not ours or BIG in (found["v"], found.get("path"))  # no manifest begins so


VALUES = [
    *(None, True, [], {}, [[]], [1], ["a"], {"v": 1}, -1, 1.5, 2**53, -(2**63), 10**30, BIG),
    *("", "text", "../x", "/etc/passwd", "a/../b", "\0", "\n", "9999-12-31T23:59:59Z", "x" * 9999),
]


def positions(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside a document: what it is in, and its key there."""
    for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
        yield document, key
        if isinstance(value, dict | list):
            yield from positions(value)


def mutate(number: int, data: bytes) -> bytes:
    """A document of which one to three values are others, or are gone; the same in each run."""
    chance, document = random.Random(SEED + number), json.loads(data)
    for _ in range(chance.randint(1, 3)):
        inner, key = chance.choice([*positions(document)])
        if chance.random() < 0.1:
            del inner[key]
        else:
            inner[key] = chance.choice(VALUES)
    return compact(document)


def mutants(count: int) -> dict[str, Change]:
    return {f"mutant {number}": functools.partial(mutate, number) for number in range(count)}


# Manifests


def fill(root: pathlib.Path, folders: Iterable[str], names: str) -> None:
    for folder in folders:
        for name in (*names, "sub/c"):
            os.utime(put(root / folder / f"{name}.jpg", PHOTO), (1, 1))


def until_indexed(server: Server, root: pathlib.Path, folders: Collection[str]) -> None:
    server.until(lambda: not unsearched(server, root))
    server.until(lambda: all((root / each / "a.jpg.thumbnail").exists() for each in folders))
    server.until(lambda: not lies(server, root, folders))
    server.until(lambda: server.json("/health").get("status") == "ok")


FEW, MANY = "ab", "abcdefg"  # images; with many of them a manifest has pages
GROUPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "heads": ("_index.json", FEW, HEADS | EITHER | SPARSE | IN_THE_WAY),
    "pages": ("_index_1.json", MANY, EITHER | SPARSE | IN_THE_WAY),
    "heads of pages": ("_index.json", MANY, HEADS | SPARSE),
    "mutants of a head": ("_index.json", FEW, mutants(scale(10, 250))),
    "mutants of a page": ("_index_0.json", MANY, mutants(scale(10, 250))),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_manifest_is_made_again(root, tmp_path, group: str) -> None:
    """Each case is in a folder of its own, and is put there while it is served."""
    file, names, table = GROUPS[group]
    folders = {f"m{number}": case for number, case in enumerate(table)}
    fill(root, folders, names)
    with watched(root, tmp_path, PAGE_SIZE="3") as server:
        until_indexed(server, root, folders)
        there = {
            folder: put_hostile(root / folder / file, case, table[case])
            for folder, case in folders.items()
        }
        foreign = {folder: data for folder, data in there.items() if is_foreign(data)}
        stay = {folder for folder, case in folders.items() if case in IN_THE_WAY} | foreign.keys()
        ask_all(server, folders, folders)
        until_none(lambda: lies(server, root, folders.keys() - stay), folders)
        edit_all(server, folders.keys() - stay, folders)
        until_none(lambda: unsearched(server, root, stay), folders)
        until_none(lambda: named(server, folders) ^ stay, folders, "in health")
        until_none(lambda: [each for each in stay if status_of(server, each) != 409], folders)
        assert {each: (root / each / file).read_bytes() for each in foreign} == foreign
        ask_all(server, folders, folders)
    record("hostile manifests", files=len(folders))


def status_of(server: Server, folder: str) -> int:
    return server.get(url("/folders", path=folder))[0]


def named(server: Server, folders: Iterable[str]) -> set[str]:
    """The folders in which health has a problem."""
    library = server.json("/health").get("library") or {"problems": {}}
    paths = [each["path"] for kind in library["problems"].values() for each in kind]
    return {folder for folder in folders if any(re.match(rf"{folder}\b", path) for path in paths)}


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
        until_indexed(server, root, ["m0", "m1"])
        for case in AT_THE_ROOT[file]:
            attack_root(server, root / file, case)
            assert not list(tmp_path.rglob("*escaped*")), case
            taken = sum(each.stat().st_blocks * 512 for each in (tmp_path / "cache").rglob("*.*"))
            assert taken < MEMORY_BYTES, case
    record(f"hostile {file}", files=len(AT_THE_ROOT[file]))


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
    if foreign and file == "_rollup_delta.json":
        until_none(lambda: server.get("/search?q=a")[0] != 409, case, "not 409")
    else:
        edit_all(server, ["m0", "m1"], case)
        until_none(lambda: unsearched(server, root), case)
    if not (foreign and file == "_health.json"):
        until_none(lambda: miscounted(server), case)
    if foreign:
        until_none(lambda: file not in reasons(server), case, "not in health")
        assert target.read_bytes() == data, case
    target.unlink(missing_ok=True)
    if file != "_rollup_delta.json":
        until_none(lambda: not target.exists(), case, "not written again")
    until_none(lambda: reasons(server), case, "still in health")


def reasons(server: Server) -> str:
    """What health says if it is not ok."""
    found = server.json("/health")
    return "" if found.get("status") == "ok" else json.dumps(found)


def miscounted(server: Server) -> object:
    """The counts in the health report, if they are not those of the two folders."""
    found = (server.json("/health").get("library") or {}).get("counts", {"no": "counts"})
    right = {"folders": 5, "items": 6, "sidecars": 2, "thumbnailsMissing": 0, "quarantined": 0}
    metrics = server.get("/metrics")[1].decode()
    return {} if found.items() >= right.items() and "Infinity" not in metrics else found


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
SIDECARS = {
    **{("sidecars", case): how for case, how in (REFUSED | OF_OTHERS | STILL_OURS).items()},
    **{("aside", case): how for case, how in IN_THE_WAY.items()},  # at the sidecar's other name
}
IMAGES = {
    (folder, case): f"{folder}/s{number}.jpg" for number, (folder, case) in enumerate(SIDECARS)
}
NAMES = {"sidecars": ".json", "aside": ".lenslet.json"}


def fill_sidecars(root: pathlib.Path) -> None:
    for (folder, case), how in SIDECARS.items():
        photo = put(root / IMAGES[folder, case], PHOTO)
        put_hostile(photo.with_name(photo.name + NAMES[folder]), case, how)


def test_a_hostile_sidecar_is_left_as_it_is(house: House) -> None:
    """What may be the user's and cannot be read is 409, is in health, and is never written."""
    server, refused = house.server, set()
    for (folder, case), image in IMAGES.items():
        route, file = url("/item", path=image), house.root / (image + NAMES[folder])
        before, asked = state(file), [("GET", None), ("PUT", {"tags": ["new"]})]
        if case in REFUSED:
            asked.append(("DELETE", None))
            refused.add(image)
        statuses = {server.request(method, route, body)[0] for method, body in asked}
        assert statuses == {409 if case in REFUSED else 200}, (case, statuses)
        assert case in STILL_OURS or state(file) == before, case

    def listed() -> set[str]:
        """Those in health, where what is no file has its own name."""
        found = house.listed("unreadableSidecars", *NAMES)
        return {path.removesuffix(".json").removesuffix(".lenslet") for path in found}

    until_none(lambda: listed() ^ refused)
    for query, count in (("tag:new", len(IMAGES) - len(refused)), ("name:s", len(IMAGES))):
        route = url("/search", q=query)
        until_none(lambda route=route, count=count: server.json(route).get("total") != count, query)
    record("hostile sidecars", files=len(SIDECARS))


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


def fill_pointers(root: pathlib.Path) -> None:
    for folder in ("good", "plain", ".hidden", *FOLDERS.values()):
        put(root / folder / "a.jpg", PHOTO)
    for case, folder in FOLDERS.items():
        put_hostile(root / folder / POINTER, case, POINTERS[case])


def test_a_hostile_pointer_breaks_its_own_folder_alone(house: House) -> None:
    for case, folder in FOLDERS.items():
        assert status_of(house.server, folder) == (508 if case in ROUND else 403), case
    ask_all(house.server, FOLDERS.values(), FOLDERS)
    until_none(lambda: house.listed("brokenPointers", *FOLDERS.values()) ^ {*FOLDERS.values()})
    edit_all(house.server, ["plain"])
    record("hostile pointers", files=len(FOLDERS))


def test_pointers_of_two_levels_are_shown_whole(house: House) -> None:
    """Six pointers in each folder lead to the next level."""
    folders = [f"l0/p{one}/p{other}" for one in range(6) for other in range(6)]
    found = [item[0] for folder in folders for item in shown(house.server, folder)[0]]
    assert found == [f"{folder}/a.jpg" for folder in folders]


SECRETS = {  # what a pointer leads to: an image that IGNORE hides there, through the pointer
    "i0": ("private", "i0/a.jpg"),
    "i1": ("albums", "i1/private/a.jpg"),
    "i2": ("albums/private", "i2/a.jpg"),
    "i3": ("/outside", "i3/photos/private/a.jpg"),
}
IGNORED = "private/*,albums/private/*"


def fill_places(root: pathlib.Path) -> None:
    """What good pointers lead to, and those pointers."""
    for path in ("private/a.jpg", "albums/private/a.jpg", "albums/b.jpg", "l2/a.jpg"):
        put(root / path, PHOTO)
    for name, (target, _) in SECRETS.items():
        put(root / name / POINTER, pointer(str(root.parent) if target[0] == "/" else target))
    for level, number in itertools.product(range(2), range(6)):
        put(root / f"l{level}/p{number}" / POINTER, pointer(f"l{level + 1}"))


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_ignored_by_its_path_is_not_shown_by_a_pointer(house: House, name: str) -> None:
    server, secret = house.server, SECRETS[name][1]
    folder = secret.rpartition("/")[0]
    status_of(server, name)
    for route in ("/file", "/thumb", "/item", "/preview"):
        assert server.get(url(route, path=secret))[0] in (403, 404, 508), route
    for route in (url("/folders", path=folder), url("/search", path=name)):
        assert secret not in [item["path"] for item in server.json(route).get("items", [])]
    assert not (house.root / f"{secret}.thumbnail").exists()


# Long names


def lengths_of(root: pathlib.Path) -> list[int]:
    """Lengths of folders' paths: they fit in PATH_MAX, and those of the files in them hardly do."""
    most = 4095 - len(str(root)) - 1
    margins = (60, 30, 20, 13, 12, 11, 7, 6, 5, 1, 0)[:: scale(3, 1)]
    return [3690, *(most - less for less in margins), 3790]


def deep_folders(root: pathlib.Path) -> list[str]:
    """The last of each row of folders in folders."""
    tops = [root / f"d{number}" for number in range(len(lengths_of(root)))]
    folders = [max((folder for folder, _, _ in os.walk(top)), key=len) for top in tops]
    return [folder[len(str(root)) + 1 :] for folder in folders]


def test_a_path_that_nearly_fills_path_max_does_not_stop_search(house: House) -> None:
    edit_all(house.server, ["plain"])
    below = deep_folders(house.root)
    ask_all(house.server, below, "deep folders")
    put(house.root / "new/a.jpg", PHOTO)
    house.finds_one("name:a.jpg", "d0")
    house.finds_one("name:a.jpg", "new")
    until_none(
        lambda: {each for each in below if status_of(house.server, each) != 200} - house.named(),
        "neither shown nor in health",
    )


def fill_deep(root: pathlib.Path) -> None:
    """Folders in folders whose paths have these lengths, with an image in the last."""
    for number, length in enumerate(lengths_of(root)):
        fd, left = os.open(root, os.O_DIRECTORY), length
        name = f"d{number}"
        while left > 0:
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd, left = below, left - len(name) - (left < length)
            size = min(200, left - 1)
            name = "d" * (size - (left - 1 - size == 1))  # nothing is left that would be a slash
        with open(os.open("a.jpg", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd), "wb") as image:
            image.write(PHOTO)
        os.close(fd)


LONG_NAMES = {
    f"n/{'x' * 251}.jpg": 422,  # there is no room for a sidecar or a thumbnail beside it
    f"n/{'é' * 125}x.jpg": 422,
    f"n/{'y' * 240}.jpg": 200,
    f"{'f' * 255}/a.jpg": 200,
}


@pytest.mark.parametrize("image", LONG_NAMES)
def test_names_of_255_bytes_are_shown_and_found(house: House, image: str) -> None:
    server, folder, wanted = house.server, os.path.dirname(image), LONG_NAMES[image]
    assert server.thumbnail(image)[0] == wanted
    assert server.request("PUT", url("/item", path=image), {"tags": ["new"]})[0] == wanted
    assert server.get(url("/file", path=image)) == (200, PHOTO)
    house.finds_one(f"name:{os.path.basename(image)}", folder)


# One service for all that does not disturb the rest


class House(NamedTuple):
    server: Server
    root: pathlib.Path

    def named(self, kind: str = "") -> set[str]:
        """The paths of one kind of problem in health, or of all."""
        library = self.server.json("/health").get("library") or {"problems": {}}
        kinds = [library["problems"].get(kind, ())] if kind else library["problems"].values()
        return {each["path"] for found in kinds for each in found}

    def listed(self, kind: str, *folders: str) -> set[str]:
        """Those that are in some folders."""
        return {path for path in self.named(kind) if path.partition("/")[0] in folders}

    def finds_one(self, query: str, folder: str) -> None:
        """A search finds one image soon."""
        route = url("/search", q=query, path=folder)
        until_none(lambda: self.server.json(route).get("total") != 1, query, folder)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service over a root with a long path that has hostile files of all kinds from the start."""
    home = tmp_path_factory.mktemp("house")
    root = home / ("r" * 200) / ("s" * 100) / "photos"
    root.mkdir(parents=True)
    for each in (fill_sidecars, fill_pointers, fill_places, fill_deep):
        each(root)
    for image in LONG_NAMES:
        put(root / image, PHOTO)
    with watched(root, home, IGNORE=IGNORED, POINTER_ROOTS=str(root.parent)) as server:
        server.until(lambda: server.json("/search?q=name:a.jpg&path=plain").get("total") == 1)
        yield House(server, root)
