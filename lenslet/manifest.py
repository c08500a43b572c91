"""A folder's manifest: made from a listing, kept as it is sent, searched for one item's bytes."""

from __future__ import annotations

import bisect
import contextlib
import datetime as dt
import functools
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lenslet import paths, times
from lenslet.errors import Denied, NotFound
from lenslet.paths import MANIFEST, Path
from lenslet.storage import Stat, Storage, time_of

Item = dict[str, Any]
Dir = dict[str, str]

QUARANTINED = "quarantined"  # how the error of an image that kills its reader begins
_NEEDED = {
    "path": str,
    "name": str,
    "type": str,
    "w": int,
    "h": int,
    "size": int,
    "hasThumb": bool,
    "hasMeta": bool,
    "rev": str,
}
_MAY_HAVE = {
    "hash": str,
    "createdAt": str,
    "error": str,
    "modifiedAt": str,
    "metaRev": str,
    "metaError": str,
    "notes": str,
    "tags": list,
}
_PAGE = re.compile(r"_index_[0-9]+\.json")
_HEAD_BYTES = 16 * 1024  # that hold what a manifest tells before its items
_NEAR_FOLDERS = 10_000
_LONG_AGO = "1970-01-01T00:00:00Z"
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
    stat: Stat | None = None  # of an object in a bucket


@dataclass(slots=True)
class Manifest:
    """A folder's items and folders, in order, and when they were last different.

    In a bucket, `source` tells where the images lie when a pointer leads there, and `hidden` names
    the folders that a listing shows and that are not served.
    """

    path: Path
    items: list[Item] = field(default_factory=list)
    dirs: list[Dir] = field(default_factory=list)
    generated_at: str = ""
    source: dict[str, Any] | None = None
    hidden: list[str] = field(default_factory=list)
    kept_ns: int = 0  # mtime of its file
    rev: str | None = ""  # of its object; "" for none, None for a file
    page_count: int = 0


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


def is_page(name: str) -> bool:
    """Whether a file's name is that of a manifest's page."""
    return name.startswith("_") and _PAGE.fullmatch(name) is not None


def page_name(number: int) -> str:
    return f"_index_{number}.json"


def _head(manifest: Manifest, **more: Any) -> bytes:
    if manifest.hidden:
        more["hidden"] = manifest.hidden
    if manifest.source:
        more["source"] = manifest.source
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


def keep(
    storage: Storage,
    manifest: Manifest,
    page_size: int,
    *,
    old: Manifest,
    pages: Iterable[str] = (),
    over: str | None = None,
    make: bool = False,
) -> bool:
    """Store a manifest in place of `old`; False when it could not be kept where it belongs.

    Of `pages`, the names of those that there are, what is no longer needed is removed. With
    `make`, its folder is made: that of a pointer's subfolder is not there by itself. In a bucket,
    `over` is the rev of the `_index.json` that a listing found ("" for none), and
    `Overtaken` says that it is another now.

    `_index.json` is replaced last, and a page is only believed beside an `_index.json` of its own
    generation, so that nobody reads two generations as one.
    """
    if over is not None and len(manifest.items) > page_size:
        manifest.generated_at = _unique(manifest.generated_at)
    files = encode(manifest, page_size)
    known = over is not None and over == old.rev  # what is there was read, and is ours
    in_place = True
    for name, data in files.items():
        in_place &= storage.keep(
            manifest.path.child(name),
            data,
            ours=None if known else ours,
            make=make,
            over=over if name == MANIFEST else None,
        )
    for name in set(pages) - files.keys():
        with contextlib.suppress(NotFound, Denied):
            storage.drop(manifest.path.child(name))
    return in_place


def _unique(generation: str) -> str:
    """A generation that no other host gives to the pages that it writes in the same second."""
    microseconds = dt.timedelta(microseconds=secrets.randbelow(999_999) + 1)
    return times.text(times.parse(generation).replace(microsecond=0) + microseconds)


def drop(storage: Storage, folder: Path) -> None:
    """Remove a folder's manifest, if there is one that is ours."""
    with contextlib.suppress(NotFound, Denied):
        storage.derived(folder.child(MANIFEST), whole(folder))
        storage.drop(folder.child(MANIFEST))


def source(storage: Storage, folder: Path) -> dict[str, Any] | None:
    """Where a folder's manifest says that its images lie, if elsewhere; `NotFound` without one."""
    data, _ = storage.derived(folder.child(MANIFEST), whole(folder))
    head = data[:_HEAD_BYTES].partition(b',"items":[')[0].partition(b',"dirs":[')[0]
    if b',"source":{' not in head:
        return None
    try:
        found: dict[str, Any] = orjson.loads(head + b"}")["source"]
    except (orjson.JSONDecodeError, KeyError) as error:
        raise NotFound(f"The manifest of {folder} is torn.") from error
    return found


def _pages(head: bytes) -> tuple[int, str, list[str]]:
    """Page count, generation and first names that an `_index.json` tells; 0 pages for one whole."""
    if head.find(b',"items":[', 0, _HEAD_BYTES) >= 0 or b'"pageCount":' not in head[:_HEAD_BYTES]:
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
    return lambda data, stat: ours(data, stat) and mark in data[:_HEAD_BYTES]


def _of_pages(storage: Storage, folder: Path, head: dict[str, Any]) -> tuple[list[Item], bool]:
    """The items of all pages, and whether they are of one generation.

    What pages of another say of an image is as true: it is bound to the image's rev.
    """
    found: dict[str, Item] = {}
    one = True
    for number in range(head["pageCount"]):
        try:
            data, _ = storage.derived(folder.child(page_name(number)), whole(folder))
            page = orjson.loads(data)
        except (NotFound, orjson.JSONDecodeError):
            one = False
            continue
        one &= page["generatedAt"] == head["generatedAt"]
        found |= {item["name"]: item for item in page["items"]}
    return list(found.values()), one and len(found) == head["itemCount"]


def load(storage: Storage, folder: Path) -> Manifest | None:
    """A folder's whole manifest, every page of it; None when it is not built or torn.

    One whose pages are being written has no `generated_at`, and may lack items.
    """
    try:
        data, stat = storage.derived(folder.child(MANIFEST), whole(folder))
        head = orjson.loads(data)
        items = head.get("items")
        if items is None:
            items, whole_set = _of_pages(storage, folder, head)
            if not whole_set:
                head["generatedAt"] = ""
        times.parse(head["generatedAt"] or _LONG_AGO)
        if not (_are_items(items) and all(map(_is_dir, head["dirs"]))):
            return None
        return Manifest(
            folder,
            items,
            head["dirs"],
            head["generatedAt"],
            head.get("source"),
            head.get("hidden", []),
            kept_ns=stat.mtime_ns,
            rev=stat.etag or None,
            page_count=head.get("pageCount", 0),
        )
    except (NotFound, IndexError, KeyError, TypeError, ValueError):
        return None


def _are_items(lines: list[Any]) -> bool:
    """Whether the lines of a manifest are items: anybody may have written the file.

    Each line has its keys and types looked at, each combination of them is judged once.
    """
    if not all(isinstance(line, dict) for line in lines):
        return False
    return all(map(_is_shape, {(*line, *map(type, line.values())) for line in lines}))


@functools.lru_cache(maxsize=100)
def _is_shape(shape: tuple[Any, ...]) -> bool:
    kinds = dict(zip(shape[: len(shape) // 2], shape[len(shape) // 2 :], strict=True))
    needed = all(kinds.get(key) is kind for key, kind in _NEEDED.items())
    return needed and all(kinds[key] is kind for key, kind in _MAY_HAVE.items() if key in kinds)


def _is_dir(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(k), str) for k in ("name", "kind"))


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
    start = _line_start(data, item)
    if start < 0:
        return None
    line = data[start + 1 : data.index(b"\n", start + 1)]
    try:
        found: Item = orjson.loads(line.removesuffix(b","))
    except orjson.JSONDecodeError:
        return None
    return found if _are_items([found]) else None


_near: dict[Path, int] = {}  # where in its manifest a folder's item was found last


def _line_start(data: bytes, item: Path) -> int:
    """Where an item's line begins; -1 without one.

    Who asks for one item asks for the next: looking from the last one found saves 20 µs of 30.
    """
    folder, start_of = item.parent, b'\n{"path":' + orjson.dumps(item) + b","
    near = _near.get(folder, 0)
    start = data.find(start_of, near)
    if start < 0 and near:
        start = data.find(start_of, 0, near + len(start_of))
    if start >= 0:
        if len(_near) >= _NEAR_FOLDERS:
            _near.clear()
        _near[folder] = start
    return start


def stat_of(item: Item) -> Stat:
    """The object of a bucket that an item of a manifest tells of."""
    try:
        when = times.parse(item.get("modifiedAt", _LONG_AGO)).timestamp()
    except ValueError:
        when = 0.0
    return Stat(item["size"], time_of(int(when), item["rev"]), etag=item["rev"])
