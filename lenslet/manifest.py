"""A folder's manifest: made from a listing, kept as it is sent, searched for one item's bytes."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lenslet import paths, times
from lenslet.errors import Denied, NotFound
from lenslet.paths import MANIFEST, Path
from lenslet.storage import Stat, Storage

Item = dict[str, Any]
Dir = dict[str, str]

QUARANTINED = "quarantined"  # how the error of an image that kills its reader begins
_NEEDED = {"path", "name", "type", "w", "h", "size", "hasThumb", "hasMeta", "rev"}
_START, _END = b'{"v":1,"path":', b"}\n"


class Problem(NamedTuple):
    """Something that health tells: its kind, as `_health.json` counts it, where, and why."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading one image told: its dimensions and hash, or the `error` that it cannot be."""

    rev: str
    width: int = 0
    height: int = 0
    hash: str | None = None
    created_at: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Manifest:
    """A folder's items and folders, in order, and when they were last different."""

    path: Path
    items: list[Item] = field(default_factory=list)
    dirs: list[Dir] = field(default_factory=list)
    generated_at: str = ""
    kept_ns: int = 0  # mtime of its file


def ours(data: bytes, stat: Stat | None = None) -> bool:
    """Whether a JSON file is Lenslet's own, or a torn one: an object with `v` and `generatedAt`."""
    head = data[: 64 * 1024]
    if (head.startswith(b'{"v":1,') and b'"generatedAt":' in head) or not head.strip(b"\0 \r\n"):
        return True
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and "v" in found and "generatedAt" in found


def whole(folder: Path) -> Callable[[bytes, Stat], bool]:
    """A check that a manifest is this folder's own and was written to its end in today's form."""
    start = _START + orjson.dumps(_shown(folder)) + b","
    return lambda data, stat: data.startswith(start) and data.endswith(_END)


def _shown(folder: Path) -> str:
    return f"{folder}/" if folder else ""


def page_name(number: int) -> str:
    return f"_index_{number}.json"


def _head(manifest: Manifest, **more: int) -> bytes:
    head = {"v": 1, "path": _shown(manifest.path), "generatedAt": manifest.generated_at, **more}
    return orjson.dumps(head)[:-1]


def _lines(items: list[Item]) -> bytes:
    """The items as a JSON array, one on a line, so that one can be found without parsing."""
    if not items:
        return b',"items":[]'
    return b',"items":[\n' + b",\n".join(map(orjson.dumps, items)) + b"\n]"


def encode(manifest: Manifest, page_size: int) -> dict[str, bytes]:
    """The files that hold a manifest, by name, `_index.json` last."""
    items, dirs = manifest.items, b',"dirs":' + orjson.dumps(manifest.dirs)
    if len(items) <= page_size:
        return {MANIFEST: _head(manifest) + _lines(items) + dirs + _END}
    starts = range(0, len(items), page_size)
    files = {}
    for page, start in enumerate(starts):
        head = _head(manifest, page=page, pageCount=len(starts), itemCount=len(items))
        lines = _lines(items[start : start + page_size])
        files[page_name(page)] = head + lines + (b"" if page else dirs) + _END
    firsts = orjson.dumps([items[start]["name"] for start in starts])
    head = _head(manifest, pageCount=len(starts), itemCount=len(items))
    files[MANIFEST] = head + dirs + b',"pages":' + firsts + _END
    return files


def keep(storage: Storage, manifest: Manifest, page_size: int, *, make: bool = False) -> bool:
    """Store a manifest; False when it could not be kept where it belongs.

    With `make`, its folder is made: that of a pointer's subfolder is not there by itself.

    `_index.json` is replaced last, and a page is only believed beside an `_index.json` of its own
    generation, so that nobody reads two generations as one.
    """
    before = _page_count(storage, manifest.path)
    files = encode(manifest, page_size)
    in_place = True
    for name, data in files.items():
        in_place &= storage.keep(manifest.path.child(name), data, ours=ours, make=make)
    for page in range(max(0, len(files) - 1), before):
        try:
            storage.drop(manifest.path.child(page_name(page)))
        except (NotFound, Denied):
            continue
    return in_place


def _page_count(storage: Storage, folder: Path) -> int:
    try:
        head, _ = storage.derived(folder.child(MANIFEST), whole(folder))
    except NotFound:
        return 0
    return _pages(head)[0]


def _pages(head: bytes) -> tuple[int, str, list[str]]:
    """Page count, generation and first names that an `_index.json` tells; 0 pages for one whole."""
    if b'"pageCount":' not in head[: 16 * 1024] or b',"items":[' in head[: 16 * 1024]:
        return 0, "", []
    found = orjson.loads(head)
    return found["pageCount"], found["generatedAt"], found["pages"]


def read(storage: Storage, folder: Path, page: int = 0) -> tuple[bytes, Stat]:
    """One page of a manifest as it is sent, and its file.

    `NotFound` when it is not built yet, `IndexError` when the manifest has no such page.
    """
    data, stat = storage.derived(folder.child(MANIFEST), whole(folder))
    count, generation, _ = _pages(data)
    if page >= max(count, 1):
        raise IndexError(page)
    if not count:
        return data, stat
    return storage.derived(folder.child(page_name(page)), _of_generation(folder, generation))


def _of_generation(folder: Path, generation: str) -> Callable[[bytes, Stat], bool]:
    mark, ours = b'"generatedAt":' + orjson.dumps(generation), whole(folder)
    return lambda data, stat: ours(data, stat) and mark in data[: 16 * 1024]


def load(storage: Storage, folder: Path) -> Manifest | None:
    """A folder's whole manifest, every page of it; None when it is not built or torn."""
    try:
        data, stat = storage.derived(folder.child(MANIFEST), whole(folder))
        head = orjson.loads(data)
        items = head.get("items")
        if items is None:
            items = []
            for page in range(head["pageCount"]):
                items += orjson.loads(read(storage, folder, page)[0])["items"]
        times.parse(head["generatedAt"])
        if not all(isinstance(item, dict) and item.keys() >= _NEEDED for item in items):
            return None
        return Manifest(folder, items, head["dirs"], head["generatedAt"], stat.mtime_ns)
    except (NotFound, IndexError, KeyError, TypeError, ValueError):
        return None


def find(storage: Storage, item: Path) -> Item | None:
    """One item as its folder's manifest has it; None when it does not. Nothing else is parsed."""
    try:
        data, _ = storage.derived(item.parent.child(MANIFEST), whole(item.parent))
        count, _, firsts = _pages(data)
        if count:
            keys = [paths.natural_key(name) for name in firsts]
            page = bisect.bisect_right(keys, paths.natural_key(item.name)) - 1
            data, _ = read(storage, item.parent, max(page, 0))
    except (NotFound, IndexError):
        return None
    start = data.find(b'\n{"path":' + orjson.dumps(item) + b",")
    if start < 0:
        return None
    line = data[start + 1 : data.index(b"\n", start + 1)]
    found: Item = orjson.loads(line.removesuffix(b","))
    return found
