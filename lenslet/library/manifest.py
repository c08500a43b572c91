"""A folder's manifest: the list of its images, stored exactly as it is sent."""

import bisect
import contextlib
import datetime as dt
import functools
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from lenslet import paths, times
from lenslet.bounds import DIRS_BYTES, PAGE_BYTES, dumps, loads
from lenslet.errors import Denied, Foreign, NotFound, Overtaken, TooLarge
from lenslet.library.about import ABOUT_KEYS, About
from lenslet.library.item import Item, are_items
from lenslet.paths import HEALTH, MANIFEST, ROLLUP, ROLLUP_DELTA, USER_FILES, Path
from lenslet.storage.tree import Stat, Tree, is_ours

Dir = dict[str, str]

_DOCUMENTS = {MANIFEST, ROLLUP, ROLLUP_DELTA, HEALTH, *USER_FILES}
_PAGE = re.compile(r"_index_(0|[1-9][0-9]{0,8})\.json")
_HEAD_BYTES = 8 * 1024  # the keys before the items need less
_ITEMS = b',"items":['
_MOST_PAGES = 4_000  # of one folder
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


def is_page(name: str) -> bool:
    """True if a file's name is that of a manifest's page."""
    return name.startswith("_") and _PAGE.fullmatch(name) is not None


def is_own_name(name: str) -> bool:
    """True for the names of Lenslet's documents: manifests, their pages, and those at the root."""
    return name in _DOCUMENTS or is_page(name)


def page_name(number: int) -> str:
    return f"_index_{number}.json"


# Writing


def encode(manifest: Manifest, page_size: int, library: str) -> dict[str, bytes]:
    """Returns the files of a manifest by name, `_index.json` last. `library` says whose it is.

    A page has at most `page_size` items and `PAGE_BYTES`; the first one has the subfolders too.
    """
    lines = list(map(dumps, manifest.items))  # one per line: found without parsing others
    page_size = max(page_size, -(-len(lines) // (_MOST_PAGES // 2)))
    more = {"reader": manifest.reader, "unsupported": manifest.unsupported, "library": library}
    about = manifest.about | {key: value for key, value in more.items() if value}
    dirs = b"," + orjson.dumps({"dirs": manifest.dirs} | about)[1:-1]
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
    return b',"items":[\n' + b",\n".join(lines) + b"\n]"


def write(
    tree: Tree, manifest: Manifest, page_size: int, *, old: Manifest, pages: Iterable[str] = ()
) -> None:
    """Writes a manifest in place of `old`, and removes those of the `pages` no longer needed.

    `_index.json` is written last, and a page is valid only if `_index.json` has the same
    generation, so no reader mixes two. `Overtaken` if another host was faster than this one.
    """
    files = encode(manifest, page_size, _library(tree))
    head = files.pop(MANIFEST)
    for name, data in files.items():
        tree.write(manifest.path.child(name), data)
    tree.write(manifest.path.child(MANIFEST), head, over=old.rev)
    for name in set(pages) - files.keys():
        with contextlib.suppress(NotFound, Denied):
            tree.delete(manifest.path.child(name))


def check_write(tree: Tree, folder: Path) -> None:
    """Raises why the manifest of a folder cannot be written, if that is known.

    That is `Foreign` if a file of another program or library is in the way, `Denied` or
    `StorageFull`.
    """
    tree.check_write(folder.child(MANIFEST))
    if is_others(tree, folder):
        raise Foreign(
            folder.child(MANIFEST),
            "is written by another service, whose root is another folder: set STATE_DIR for one",
        )
    numbers = itertools.count()
    while tree.own_rev(folder.child(page_name(next(numbers)))):
        pass  # pages are written in order, so there is none behind one that is missing


def is_others(tree: Tree, folder: Path) -> bool:
    """True if a folder's manifest is whole, and of a library that has it under another path.

    Then the folder was moved here, or the root of a service is in that of another.
    """
    with contextlib.suppress(NotFound, AttributeError, KeyError, TypeError, ValueError):
        data, _ = (tree.own or tree).read(folder.child(MANIFEST))
        head = loads(data)
        path = Path(head["path"].removesuffix("/"))
        return path != folder and head["library"] != _library(tree) and bool(_parse(path, data))
    return False


def _library(tree: Tree) -> str:
    """Returns what a manifest says of the library that it belongs to, and not where that is."""
    return hashlib.sha256(os.fsencode(tree.name)).hexdigest()[:16]


def later_than(generation: str, now: dt.datetime) -> str:
    """Returns the later of `now` and one microsecond after `generation`, which may be empty."""
    if generation:
        now = max(now, times.parse(generation) + dt.timedelta(microseconds=1))
    return times.text(now)


def is_later(one: str, other: str) -> bool:
    """True if generation `one` is later than the `other`; each may be empty.

    One that is more than a day in the future comes from a wrong clock and is not.
    """
    if not one or times.parse(one) > times.now() + dt.timedelta(days=1):
        return False
    return not other or times.parse(one) > times.parse(other)


# Reading


def read(tree: Tree, folder: Path, page: int = 0) -> tuple[bytes, Stat]:
    """Reads one page of a manifest as it is sent.

    `NotFound` if the manifest is missing, torn or nonsense, `IndexError` if it has no such page.
    A page that is not of the same generation as `_index.json` is missing for a moment.
    """
    name = MANIFEST
    data, stat = tree.read(folder.child(name))
    head = _head(folder, data)
    if page >= (len(head["pages"]) if head else 1):
        raise IndexError(page)
    if head:
        name, mark = page_name(page), b'"generatedAt":' + orjson.dumps(head["generatedAt"])
        data, stat = tree.read(folder.child(name))
        if mark not in data[:_HEAD_BYTES]:
            raise NotFound(f"Page {page} of {folder} is of another generation.")
    check = functools.partial(_parse, folder, data)
    if tree.cache:
        tree.cache.check(folder.child(name), stat, check)
    else:
        check()
    return data, stat


def about_of(tree: Tree, folder: Path) -> About:
    """Returns what the manifest of a folder says that people say of it, and parses no items."""
    with contextlib.suppress(NotFound, ValueError):  # the file may be nonsense
        data, _ = tree.read(folder.child(MANIFEST))
        found = _head(folder, data) or loads(b'{"items":[' + data[data.rfind(b"\n]") :])
        return {key: found[key] for key in ABOUT_KEYS if isinstance(found.get(key), str)}
    return {}


def starts(tree: Tree, folder: Path) -> list[int]:
    """Returns how many items come before each page of a manifest; `NotFound` if it is torn."""
    head = _head(folder, tree.read(folder.child(MANIFEST))[0])
    return head.get("starts", [0]) if head else [0]


def _head(folder: Path, data: bytes) -> dict[str, Any] | None:
    """Parses an `_index.json` that has pages; None if it has its items itself."""
    if data.find(_ITEMS, 0, _HEAD_BYTES) >= 0:
        return None
    return {"pages": []} | _parse(folder, data)


def _parse(folder: Path, data: bytes) -> dict[str, Any]:
    """Parses a file of a manifest; `NotFound` if it is torn, of another folder, or nonsense.

    Anybody may have edited it.
    """
    start = _START + orjson.dumps(f"{folder}/" if folder else "") + b","
    if data.startswith(start) and data.endswith(_END):
        with contextlib.suppress(ValueError):
            found = loads(data)
            if _is_sound(found, folder):
                return dict(found)
    raise NotFound(f"The manifest of {folder or '/'} is torn or nonsense.")


def _is_sound(found: dict[str, Any], folder: Path) -> bool:
    generated, reader, dirs = found.get("generatedAt"), found.get("reader"), found.get("dirs", [])
    return (
        _is_time(generated)
        and are_items(found.get("items", []), folder)
        and _is_list(dirs, dict)
        and all(_is_map(each, str) and {"name", "kind"} <= each.keys() for each in dirs)
        and _is_list(found.get("starts", []), int)
        and ("items" in found or bool(found.get("pages")))
        and _is_list(found.get("pages", []), str)
        and len(found.get("pages", [])) <= _MOST_PAGES
        and isinstance(found.get("pageCount", 1), int)
        and _is_map(found.get("unsupported", {}), int)
        and (reader is None or (_is_map(reader, str) and "host" in reader))
        and (reader is None or _is_time(reader.get("at")))
        and all(isinstance(found.get(key, ""), str) for key in ABOUT_KEYS)
    )


def _is_time(text: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return times.parse(text).year < dt.MAXYEAR  # or no generation would be later
    return False


def _is_list(found: Any, kind: type) -> bool:
    return isinstance(found, list) and all(isinstance(each, kind) for each in found)


def _is_map(found: Any, kind: type) -> bool:
    return isinstance(found, dict) and _is_list([*found.values()], kind)


def load(tree: Tree, folder: Path) -> Manifest:
    """Reads a whole manifest, every page; an empty one if it is missing, torn or nonsense.

    An incomplete manifest has no `generated_at`, and may lack items. An item on a page of another
    generation is used too: its rev says if it is out of date.
    """
    found = Manifest(folder)
    with contextlib.suppress(NotFound):
        data, stat = tree.read(folder.child(MANIFEST))
        found.rev = stat.rev if is_ours(MANIFEST, data) else ""
        head = _parse(folder, data)
        found.items, found.dirs = head.get("items", []), head.get("dirs", [])
        found.reader, found.unsupported = head.get("reader", {}), head.get("unsupported", {})
        found.about = {key: head[key] for key in ABOUT_KEYS if key in head}
        generations = {head["generatedAt"]}
        for generation, items in _pages(tree, folder, head):
            found.items += items
            generations.add(generation)
        found.generated_at = head["generatedAt"] if len(generations) == 1 else ""
    return found


def stream(tree: Tree, folder: Path) -> tuple[str, About, Iterator[Item]]:
    """Returns the generation of a manifest, what people say of its folder, and its items.

    One page of them is in memory at a time. `NotFound` if there is no manifest; `Overtaken` in
    place of an item if its page is missing, or of another generation.
    """
    head = _parse(folder, tree.read(folder.child(MANIFEST), fresh=True)[0])

    def items() -> Iterator[Item]:
        yield from head.get("items", ())
        for generation, found in _pages(tree, folder, head):
            if generation != head["generatedAt"]:
                raise Overtaken(f"The manifest of {folder or '/'} is being written.")
            yield from found

    return head["generatedAt"], {key: head[key] for key in ABOUT_KEYS if key in head}, items()


def _pages(tree: Tree, folder: Path, head: dict[str, Any]) -> Iterator[tuple[str, list[Item]]]:
    """Yields the generation and the items of each page; "" and none of one that is missing."""
    for number in range(len(head.get("pages", ()))):
        page: dict[str, Any] = {"generatedAt": "", "items": []}
        with contextlib.suppress(NotFound):
            page |= _parse(folder, tree.read(folder.child(page_name(number)))[0])
        yield page["generatedAt"], page["items"]


def find(tree: Tree, item: Path) -> Item | None:
    """Finds one item in its folder's manifest, and parses nothing else; None without one.

    It may be on a page of another generation: its rev says if it is out of date.
    """
    folder = item.parent
    with contextlib.suppress(NotFound, ValueError):  # a line may be nonsense
        data, _ = tree.read(folder.child(MANIFEST))
        if head := _head(folder, data):
            key = paths.natural_key
            page = bisect.bisect_right(head["pages"], key(item.name), key=key) - 1
            data, _ = tree.read(folder.child(page_name(max(page, 0))))
        start = data.find(b'\n{"path":' + orjson.dumps(item) + b",") + 1
        line = data[start : data.find(b"\n", start)].removesuffix(b",")
        if start and are_items(found := [loads(line)], folder):
            return found[0]
    return None
