"""A folder's manifest: made from a listing, kept as it is sent, searched for one item's bytes."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lenslet import paths, times
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.sidecar import Found
from lenslet.storage import Listing, Stat, Storage

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
        except NotFound:
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


@dataclass(slots=True)
class Look:
    """What one look at a folder found, beside what its manifest said before."""

    manifest: Manifest
    changed: bool = False
    todo: list[str] = field(default_factory=list)  # names to read and render
    replaced: list[str] = field(default_factory=list)  # names with another image's thumbnail
    unsettled: bool = False  # something is still being written
    problems: list[Problem] = field(default_factory=list)


class Comparison:
    """Compares one folder's listing with the manifest it had, one `look`, used once."""

    def __init__(
        self,
        old: Manifest,
        listing: Listing,
        thumbnails: Mapping[str, Stat],
        edits: Mapping[str, Stat],
        facts: Mapping[str, Facts],
        find_sidecar: Callable[[str], Found],
        now_ns: int,
        retry: bool = False,
    ) -> None:
        """`thumbnails` and `edits` are files by name: kept thumbnails, and sidecars elsewhere.

        With `retry`, images that could not be decoded are tried again.
        """
        self._folder = old.path
        self._old = old
        self._before = {item["name"]: item for item in old.items}
        self._listing = listing
        self._thumbnails = thumbnails
        self._edits = edits
        self._retry = retry
        self._facts = facts
        self._find_sidecar = find_sidecar
        self._now_ns = now_ns
        self._look = Look(Manifest(old.path, generated_at=old.generated_at))

    def look(self, dirs: list[Dir], ignored: Callable[[Path], bool]) -> Look:
        """The manifest as it should be, what is left to read, and what is wrong."""
        look, manifest = self._look, self._look.manifest
        for name in self._names(ignored):
            manifest.items.append(self._item(name, self._listing.files[name]))
        manifest.dirs = dirs
        look.changed = manifest.items != self._old.items or dirs != self._old.dirs
        if look.changed or not self._old.generated_at:
            manifest.generated_at = _later_than(self._old.generated_at)
            look.changed = True
        self._orphans()
        for name in self._listing.unusable:
            shown = self._folder.child(name)
            self._problem("unusableNames", shown, "the name cannot be part of a path")
        return look

    def _names(self, ignored: Callable[[Path], bool]) -> list[str]:
        names = {
            name
            for name in self._listing.files
            if paths.is_item(name) and not ignored(self._folder.child(name))
        }
        if names == self._before.keys():
            return list(self._before)
        return sorted(names, key=paths.natural_key)

    def _item(self, name: str, stat: Stat) -> Item:
        rev, before, facts = stat.rev, self._before.get(name), self._facts.get(name)
        if facts and facts.rev != rev:
            facts = None
        same = before if before and before["rev"] == rev else None
        thumbnail = self._thumbnails.get(name + THUMBNAIL)
        bound = thumbnail is not None and thumbnail.size > 0 and thumbnail.mtime_ns == stat.mtime_ns
        if bound and before and not same and not facts:
            self._look.replaced.append(name)
            bound = False
        meta_rev = self._meta_rev(name)
        kept = same and same["hasThumb"] == bound and _meta_is_known(same, meta_rev)
        if same and kept and not facts:
            item = same
        else:
            item = self._fresh(name, stat, same, facts, bound)
            item.update(self._meta(name, before, meta_rev))
        self._judge(item, stat)
        return item

    def _fresh(
        self, name: str, stat: Stat, same: Item | None, facts: Facts | None, bound: bool
    ) -> Item:
        known = same or {}
        width, height = known.get("w", 0), known.get("h", 0)
        digest, created, error = known.get("hash"), known.get("createdAt"), known.get("error")
        if facts:
            width, height, digest = facts.width, facts.height, facts.hash
            created, error = facts.created_at, facts.error
        item: Item = {
            "path": self._folder.child(name),
            "name": name,
            "type": paths.media_type(name),
            "w": width,
            "h": height,
            "size": stat.size,
            "hasThumb": bound and not error,
            "hasMeta": False,
        }
        optional = {"hash": digest, "createdAt": created, "rev": stat.rev, "error": error}
        item.update((key, value) for key, value in optional.items() if value is not None)
        return item

    def _meta_rev(self, name: str) -> str:
        files = self._listing.files
        found = (files.get(name + suffix) for suffix in SIDECARS)
        kept = (self._edits.get(name + suffix) for suffix in SIDECARS)
        return "+".join(stat.rev for stat in (*found, *kept) if stat)

    def _meta(self, name: str, before: Item | None, meta_rev: str) -> Item:
        """An item's keys that tell of its sidecar, which is opened only when it has changed."""
        if before and _meta_is_known(before, meta_rev):
            return {key: before[key] for key in _META_KEYS if key in before}
        if not meta_rev:
            return {}
        try:
            found = self._find_sidecar(name)
        except LensletError as error:
            found = Found(unreadable=one_line(error))
        document = found.sidecar.document if found.sidecar else {}
        meta: Item = {"hasMeta": found.sidecar is not None, "metaRev": meta_rev}
        meta.update({key: document[key] for key in ("tags", "notes") if document.get(key)})
        if found.foreign:
            meta["foreign"] = True
        if found.unreadable:
            meta["metaError"] = found.unreadable
        return meta

    def _judge(self, item: Item, stat: Stat) -> None:
        """Note what is left to do for an item, and what is wrong with it."""
        error = item.get("error")
        if error:
            kind = "quarantined" if error.startswith(QUARANTINED) else "unreadableImages"
            self._problem(kind, item["path"], error)
        tried = error and not (self._retry and item["name"] not in self._facts)
        if not tried and (not item["hasThumb"] or "hash" not in item):
            if stat.settled(self._now_ns):
                self._look.todo.append(item["name"])
            else:
                self._look.unsettled = True
        if item.get("foreign"):
            self._problem("foreignJson", item["path"] + SIDECARS[1], "JSON of another program")
        if item.get("metaError"):
            self._problem("unreadableSidecars", item["path"], item["metaError"])

    def _orphans(self) -> None:
        files = self._listing.files
        for name in {*files, *self._thumbnails, *self._edits}:
            image = name.removesuffix(THUMBNAIL)
            if image != name and paths.is_item(image) and image not in files:
                self._problem("orphanThumbnails", self._folder.child(name), "its image is gone")
            for suffix in SIDECARS:
                image = name.removesuffix(suffix)
                if image != name and paths.is_item(image) and image not in files:
                    self._orphan_sidecar(name, image)
                    break

    def _orphan_sidecar(self, name: str, image: str) -> None:
        found = self._find_sidecar(image)
        if found.sidecar or found.unreadable:
            self._problem("orphanSidecars", self._folder.child(name), "its image is gone")

    def _problem(self, kind: str, path: str, reason: str) -> None:
        self._look.problems.append(Problem(kind, path, reason))


def _meta_is_known(item: Item, meta_rev: str) -> bool:
    """Whether what an item says of its sidecar holds; one that could not be read is tried again."""
    return item.get("metaRev", "") == meta_rev and "metaError" not in item


_META_KEYS = ("hasMeta", "metaRev", "tags", "notes", "foreign", "metaError")


def _later_than(generation: str) -> str:
    """The present second, or the next after `generation`: no two generations share one."""
    now = times.now()
    if generation and times.parse(generation) < now + dt.timedelta(days=1):
        now = max(now, times.parse(generation) + dt.timedelta(seconds=1))
    return times.text(now)
