"""A folder's manifest: the list of its images, stored exactly as it is sent."""

import bisect
import contextlib
import datetime as dt
import functools
import itertools
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import orjson

from lenslet import paths, times
from lenslet.bounds import (
    DERIVED_BYTES,
    DIRS_BYTES,
    DOCUMENT_BYTES,
    MAX_CAPTION,
    MAX_NAME,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    MAX_TITLE,
    PAGE_BYTES,
    loads,
)
from lenslet.errors import Conflict, Denied, NotFound, Overtaken, TooLarge
from lenslet.library.about import KEYS, About
from lenslet.paths import MANIFEST, Path
from lenslet.storage.s3 import time_of
from lenslet.storage.tree import HEAD_BYTES, Stat, Tree, is_ours

Item = dict[str, Any]
Dir = dict[str, str]

QUARANTINED = "quarantined"  # first word of the error of an image that kills its reader
_NEEDED: dict[str, type] = dict.fromkeys(("path", "name", "type", "rev"), str)
_NEEDED |= dict.fromkeys(("w", "h", "size"), int) | dict.fromkeys(("hasThumb", "hasMeta"), bool)
_OPTIONAL = {"hash", "createdAt", "takenAt", "warning", "error", "addedAt", "modifiedAt"}
_OPTIONAL |= {"metaRev", "metaError", "thumb", "limit"}
_LONGEST = {"notes": DOCUMENT_BYTES, "title": MAX_TITLE, "caption": MAX_CAPTION}
_LONGEST |= {"camera": MAX_NAME, "lens": MAX_NAME}  # characters
_OPTIONAL |= _LONGEST.keys()
_LISTS = ("tags", "keywords")  # of strings
_TYPES = frozenset(each.media_type for each in paths.FORMATS)
_PAGE = re.compile(r"_index_(0|[1-9][0-9]{0,8})\.json")
_HEAD_BYTES = 8 * 1024  # the keys before the items need less
_ITEMS = b',"items":['
_DIGEST = re.compile("blake3:[0-9a-f]{64}")
_HASH = re.compile(b'"hash":"(%b)"' % _DIGEST.pattern.encode())
_MOST_ITEMS, _MOST_PAGES, _MOST_PIXELS = 100_000_000, 4_000, 2**32
_MOST_KEYS = 100  # of an item
_START, _END = b'{"v":1,"path":', b"}\n"


@dataclass(slots=True)
class Manifest:
    """A folder's images and subfolders, in order.

    `generated_at` is its generation: every change of the content gets a later one. `rev` is that of
    its file, "" for none. `reader` is the host that reads the new images, if there are several.
    `unsupported` counts the files that are not shown, by suffix. `about` is what people say of the
    folder, with the path of the cover.
    """

    path: Path
    items: list[Item] = field(default_factory=list)
    dirs: list[Dir] = field(default_factory=list)
    generated_at: str = ""
    rev: str = ""
    reader: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, int] = field(default_factory=dict)
    about: About = field(default_factory=dict)


class _Head(NamedTuple):
    """What the `_index.json` of a manifest with pages says. Of each page: its first item's name."""

    generated_at: str
    item_count: int
    first_names: list[str]


def is_page(name: str) -> bool:
    """True if a file's name is that of a manifest's page."""
    return name.startswith("_") and _PAGE.fullmatch(name) is not None


def page_name(number: int) -> str:
    return f"_index_{number}.json"


# Writing


def encode(manifest: Manifest, page_size: int) -> dict[str, bytes]:
    """Returns the files of a manifest by name, `_index.json` last.

    A page has at most `page_size` items and `PAGE_BYTES`; the first one has the subfolders too.
    """
    lines = list(map(orjson.dumps, manifest.items))  # one per line: found without parsing others
    page_size = max(page_size, -(-len(lines) // (_MOST_PAGES // 2)))  # bytes may end pages too
    dirs = b',"dirs":' + orjson.dumps(manifest.dirs)
    if manifest.about:
        dirs += b"," + orjson.dumps(manifest.about)[1:-1]
    if manifest.reader:
        dirs += b',"reader":' + orjson.dumps(manifest.reader)
    if manifest.unsupported:
        dirs += b',"unsupported":' + orjson.dumps(manifest.unsupported)
    starts = _starts(list(map(len, lines)), page_size, PAGE_BYTES - len(dirs))
    if len(starts) <= 1:
        return {MANIFEST: _encode_head(manifest) + _encode_items(lines) + dirs + _END}
    dirs += b',"starts":' + orjson.dumps(starts)
    files = {}
    for page, (start, end) in enumerate(itertools.pairwise((*starts, len(lines)))):
        head = _encode_head(manifest, page=page, pageCount=len(starts), itemCount=len(lines))
        page_lines = _encode_items(lines[start:end])
        files[page_name(page)] = head + page_lines + (b"" if page else dirs) + _END
    firsts = orjson.dumps([manifest.items[start]["name"] for start in starts])
    head = _encode_head(manifest, pageCount=len(starts), itemCount=len(lines))
    files[MANIFEST] = head + dirs + b',"pages":' + firsts + _END
    return files


def _starts(sizes: list[int], most: int, room: int) -> list[int]:
    """Returns the number of the first item of each page; `room` is what the first one has."""
    starts = [0]
    for number, size in enumerate(sizes):
        room -= size + 2  # a comma and the end of the line
        if number - starts[-1] == most or (room < 0 and number > starts[-1]):
            starts.append(number)
            room = PAGE_BYTES - size - 2
    return starts


def bounded(dirs: list[Dir]) -> list[Dir]:
    """Returns the subfolders as a manifest can hold them; too many are listed without covers.

    `TooLarge` if they do not fit without covers either.
    """
    if len(orjson.dumps(dirs)) <= DIRS_BYTES:
        return dirs
    plain = [{"name": entry["name"], "kind": entry["kind"]} for entry in dirs]
    if len(orjson.dumps(plain)) > DIRS_BYTES:
        raise TooLarge(f"{len(dirs)} subfolders are more than fit into {DIRS_BYTES} bytes.")
    return plain


def _encode_head(manifest: Manifest, **more: int) -> bytes:
    path = f"{manifest.path}/" if manifest.path else ""
    head = {"v": 1, "path": path, "generatedAt": manifest.generated_at, **more}
    return orjson.dumps(head)[:-1]


def _encode_items(lines: list[bytes]) -> bytes:
    if not lines:
        return b',"items":[]'
    return b',"items":[\n' + b",\n".join(lines) + b"\n]"


def write(
    tree: Tree, manifest: Manifest, page_size: int, *, old: Manifest, pages: Iterable[str] = ()
) -> None:
    """Writes a manifest in place of `old`, and removes those of the `pages` no longer needed.

    `_index.json` is written last, and a page is valid only if `_index.json` has the same
    generation, so no reader mixes two. `Overtaken` if another host was faster than this one.
    """
    files = encode(manifest, page_size)
    head = files.pop(MANIFEST)
    for name, data in files.items():
        tree.write(manifest.path.child(name), data)
    tree.write(manifest.path.child(MANIFEST), head, over=old.rev)
    for name in set(pages) - files.keys():
        with contextlib.suppress(NotFound, Denied):
            tree.delete(manifest.path.child(name))


def check_write(tree: Tree, folder: Path) -> None:
    """Raises why the manifest of a folder cannot be written, if that is known.

    That is `Foreign` if a file of another program is in the way, `Denied` or `StorageFull`.
    """
    tree.check_write(folder.child(MANIFEST))
    numbers = itertools.count()
    while tree.own_rev(folder.child(page_name(next(numbers)))):
        pass  # pages are written in order, so there is none behind one that is missing


def later_than(generation: str, now: dt.datetime) -> str:
    """Returns the later of `now` and one microsecond after `generation`.

    A generation more than a day in the future comes from a wrong clock and is ignored.
    """
    if generation and times.parse(generation) < now + dt.timedelta(days=1):
        now = max(now, times.parse(generation) + dt.timedelta(microseconds=1))
    return times.text(now)


def is_later(one: str, other: str) -> bool:
    """True if generation `one` is later than the `other`, which may be empty.

    One that is more than a day in the future comes from a wrong clock and is not.
    """
    if not one or times.parse(one) > times.now() + dt.timedelta(days=1):
        return False
    return not other or times.parse(one) > times.parse(other)


# Reading


def read(tree: Tree, folder: Path, page: int = 0) -> tuple[bytes, Stat]:
    """Reads one page of a manifest as it is sent.

    `NotFound` if the manifest is missing, torn or nonsense, `IndexError` if it has no such page.
    """
    try:
        return _read(tree, folder, page, fresh=False)
    except NotFound:  # a cache may have had a page and a head of two generations
        return _read(tree, folder, page, fresh=True)


def pages(tree: Tree, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the parsed pages of a manifest, one at a time; the first has the subfolders too.

    Raises what `read` raises, and `Overtaken` if the manifest is written anew meanwhile.
    """
    first = _parse(read(tree, folder)[0])
    count, generation = first.get("pageCount", 1), first["generatedAt"]
    yield first
    for number in range(1, count):
        try:
            page = _parse(read(tree, folder, number)[0])
        except IndexError as error:
            raise Overtaken(f"{folder or '/'} has changed.") from error
        if page["generatedAt"] != generation:
            raise Overtaken(f"{folder or '/'} has changed.")
        yield page


def _read(tree: Tree, folder: Path, page: int, *, fresh: bool) -> tuple[bytes, Stat]:
    data, stat = _read_file(tree, folder, MANIFEST, fresh=fresh)
    head = _head_of_pages(data)
    if page >= (len(head.first_names) if head else 1):
        raise IndexError(page)
    name = MANIFEST
    if head is not None:
        name, mark = page_name(page), b'"generatedAt":' + orjson.dumps(head.generated_at)
        data, stat = _read_file(tree, folder, name, fresh=fresh)
        if mark not in data[:_HEAD_BYTES]:
            raise NotFound(f"Page {page} of {folder} is of another generation.")
    check = functools.partial(_is_sound, folder, page, data, head)
    if not (tree.cache.is_sound(folder.child(name), stat, check) if tree.cache else check()):
        raise NotFound(f"The manifest of {folder or '/'} is nonsense.")
    return data, stat


def _is_sound(folder: Path, page: int, data: bytes, head: _Head | None) -> bool:
    """True if a file is valid as this page, and may be sent."""
    try:
        return _is_page(_parse(data), folder, page, head)
    except NotFound:
        return False


def _is_page(found: dict[str, Any], folder: Path, page: int, head: _Head | None) -> bool:
    """True if a parsed file is valid as this page; `head` is that of a manifest with several."""
    numbers = [found.get(key) for key in ("page", "pageCount", "itemCount")]
    if head and numbers != [page, len(head.first_names), head.item_count]:
        return False
    starts, generated = found.get("starts", []), found.get("generatedAt")
    return (
        isinstance(starts, list)
        and all(isinstance(each, int) for each in starts)
        and bool(generated)
        and _is_time(generated)
        and _are_items(found.get("items"), folder)
        and (page > 0 or _are_dirs(found.get("dirs")))
        and all(isinstance(found.get(key, ""), str) for key in KEYS)
    )


def _read_file(tree: Tree, folder: Path, name: str, *, fresh: bool = False) -> tuple[bytes, Stat]:
    data, stat = tree.read(folder.child(name), fresh=fresh)
    return _complete(folder, data), stat


def _complete(folder: Path, data: bytes) -> bytes:
    """Returns a file of a manifest; `NotFound` if it is torn or not this folder's."""
    start = _START + orjson.dumps(f"{folder}/" if folder else "") + b","
    if not (data.startswith(start) and data.endswith(_END)):
        raise NotFound(f"The manifest of {folder or '/'} is torn.")
    return data


def _head_of_pages(data: bytes) -> _Head | None:
    """Parses an `_index.json` that has pages; None if it has its items itself."""
    if data.find(_ITEMS, 0, _HEAD_BYTES) >= 0:
        return None
    return _parse_head(_parse(data))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        found = loads(data)
    except ValueError as error:
        raise NotFound("A manifest is torn.") from error
    if not isinstance(found, dict):
        raise NotFound("A manifest is not an object.")
    return found


def _parse_head(found: dict[str, Any]) -> _Head:
    """Checks the values, for anybody may have edited the file; `NotFound` for nonsense."""
    generated, pages = found.get("generatedAt"), found.get("pages")
    count, items = found.get("pageCount"), found.get("itemCount")
    if not (_are_names(pages) and isinstance(generated, str) and isinstance(items, int)):
        raise NotFound("A manifest's pages are nonsense.")
    if count != len(pages) or len(pages) > _MOST_PAGES or not 0 < items <= _MOST_ITEMS:
        raise NotFound("A manifest's pages are nonsense.")
    return _Head(generated, items, pages)


def load(tree: Tree, folder: Path, *, fresh: bool = False) -> Manifest:
    """Reads a whole manifest, every page; an empty one if it is missing, torn or nonsense.

    An incomplete manifest has no `generated_at`, and may lack items.
    """
    path = folder.child(MANIFEST)
    try:
        data, stat = tree.read(path, DERIVED_BYTES, fresh=fresh)
    except NotFound:
        return Manifest(folder)
    except Conflict:  # too large; it is replaced if it is Lenslet's own
        data, stat = tree.head(path, HEAD_BYTES)
    rest = (b"more",) if stat.size > len(data) else ()
    rev = stat.rev if is_ours(MANIFEST, data, rest) else ""
    try:
        return _checked(tree, folder, data, rev)
    except NotFound:
        return Manifest(folder, rev=rev)


def _checked(tree: Tree, folder: Path, data: bytes, rev: str) -> Manifest:
    found = _parse(_complete(folder, data))
    items, generated = found.get("items"), found.get("generatedAt")
    if items is None:
        head = _parse_head(found)
        items, same = _load_pages(tree, folder, head, found.get("dirs"))
        generated = head.generated_at if same else ""
    elif not _is_page(found, folder, 0, None):
        raise NotFound(f"The manifest of {folder or '/'} is nonsense.")
    dirs = found.get("dirs")
    if not (_are_dirs(dirs) and _is_time(generated)):
        raise NotFound(f"The manifest of {folder or '/'} is nonsense.")
    reader, counts = found.get("reader"), found.get("unsupported")
    return Manifest(
        folder,
        items,
        dirs,
        generated,
        rev,
        reader if _is_reader(reader) else {},
        counts if _are_counts(counts) else {},
        {key: found[key] for key in KEYS if isinstance(found.get(key), str)},
    )


def _load_pages(tree: Tree, folder: Path, head: _Head, dirs: Any) -> tuple[list[Item], bool]:
    """The items of all pages, and whether the pages are complete and of one generation.

    An item on a page of another generation is used too: its rev says if it is out of date.
    """
    found: list[Item] = []
    same = True
    for number in range(len(head.first_names)):
        try:
            page = _parse(_read_file(tree, folder, page_name(number))[0])
        except NotFound:
            same = False
            continue
        sound = _is_page(page, folder, number, head)
        if not (sound or _are_items(page.get("items"), folder)):
            raise NotFound("A manifest's page is nonsense.")
        same &= sound and page.get("generatedAt") == head.generated_at
        same &= number > 0 or page.get("dirs") == dirs  # the first page has them too
        found += page["items"]
    known = {item["name"]: item for item in found}
    return list(known.values()), same and len(known) == len(found) == head.item_count


def _are_counts(found: Any) -> TypeGuard[dict[str, int]]:
    return isinstance(found, dict) and all(isinstance(count, int) for count in found.values())


def _is_reader(found: Any) -> TypeGuard[dict[str, str]]:
    known = isinstance(found, dict) and all(isinstance(found.get(k), str) for k in ("host", "at"))
    return known and bool(found["at"]) and _is_time(found["at"])


def _is_time(text: Any) -> TypeGuard[str]:
    try:
        times.parse(text or times.LONG_AGO)
    except (TypeError, ValueError):
        return False
    return True


def _are_items(lines: Any, folder: Path) -> TypeGuard[list[Item]]:
    """True if these are items of a folder.

    Most have the same keys and types, which are checked once.
    """
    if not (isinstance(lines, list) and all(isinstance(line, dict) for line in lines)):
        return False
    if max(map(len, lines), default=0) > _MOST_KEYS:
        return False
    if not all(map(_is_shape, {(*line, *map(type, line.values())) for line in lines})):
        return False
    above = f"{folder}/" if folder else ""

    def column(key: str) -> list[Any]:
        return [line[key] for line in lines if key in line]

    pixels = column("w") + column("h")
    return (
        column("path") == [above + name for name in column("name")]
        and _TYPES.issuperset(column("type"))
        and min(pixels, default=0) >= 0
        and max(pixels, default=0) <= _MOST_PIXELS
        and all(map(_DIGEST.fullmatch, column("hash")))
        and all(len(text) <= most for key, most in _LONGEST.items() for text in column(key))
        and all(map(_are_tags, column("tags") + column("keywords")))
    )


def _are_tags(tags: Any) -> bool:
    short = _are_names(tags) and len(tags) <= MAX_TAGS
    return short and all(len(tag) <= MAX_TAG_CHARACTERS for tag in tags)


@functools.lru_cache(maxsize=100)
def _is_shape(shape: tuple[Any, ...]) -> bool:
    kinds = dict(zip(shape[: len(shape) // 2], shape[len(shape) // 2 :], strict=True))
    needed = all(kinds.get(key) is kind for key, kind in _NEEDED.items())
    lists = all(kinds.get(key, list) is list for key in _LISTS)
    others = lists and kinds.get("facts", int) is int
    return needed and others and all(kinds[key] is str for key in _OPTIONAL & kinds.keys())


def _are_dirs(entries: Any) -> TypeGuard[list[Dir]]:
    return isinstance(entries, list) and all(
        isinstance(entry, dict)
        and {"name", "kind"} <= entry.keys()
        and _are_names([*entry.values()])
        for entry in entries
    )


def _are_names(names: Any) -> TypeGuard[list[str]]:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def find(tree: Tree, item: Path) -> Item | None:
    """Finds one item in its folder's manifest, and parses nothing else; None without one."""
    try:
        data, _ = _read_file(tree, item.parent, MANIFEST)
        if head := _head_of_pages(data):
            keys = [paths.natural_key(name) for name in head.first_names]
            page = bisect.bisect_right(keys, paths.natural_key(item.name)) - 1
            try:
                data, _ = read(tree, item.parent, max(page, 0))
            except NotFound:  # it is being replaced: the rev of an item says if it is out of date
                data, _ = _read_file(tree, item.parent, page_name(max(page, 0)), fresh=True)
        start = data.find(b'\n{"path":' + orjson.dumps(item) + b",")
        if start < 0:
            return None
        found = _parse(data[start + 1 : data.index(b"\n", start + 1)].removesuffix(b","))
    except (NotFound, IndexError):
        return None
    return found if _are_items([found], item.parent) else None


def items_with(tree: Tree, folder: Path, hashes: Container[str]) -> Iterator[Item]:
    """Yields the items of a manifest that have one of these hashes, and parses no others."""
    with contextlib.suppress(NotFound):
        data, _ = _read_file(tree, folder, MANIFEST)
        head = _head_of_pages(data)
        for page in range(len(head.first_names) if head else 1):
            if head:
                data, _ = _read_file(tree, folder, page_name(page))
            for found in _HASH.finditer(data):
                if found[1].decode() in hashes:
                    start = data.rfind(b"\n", 0, found.start()) + 1
                    item = _parse(data[start : data.index(b"\n", start)].removesuffix(b","))
                    if _are_items([item], folder):
                        yield item


def stat_of(item: Item) -> Stat:
    """Returns the size and times of the object in a bucket that an item describes."""
    try:
        when = times.parse(item.get("modifiedAt", times.LONG_AGO)).timestamp()
    except ValueError:
        when = 0.0
    return Stat(item["size"], time_of(int(when), item["rev"]), etag=item["rev"])
