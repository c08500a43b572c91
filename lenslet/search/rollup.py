"""The formats of the rollup, and of the folded copies that queries read.

`_rollup.json` holds one item per line and, at its end, the generation of each folder's manifest.
`_rollup_delta.json` names the folders whose manifest has another generation now.

Each host keeps in its cache a folded copy (without case and accents) of the rollup. It has three
files, whose key is the rollup's id.

- `KEY.json`: the items, one per line.
- `KEY.lines`: a line for each item: its shape, when it was added, where it is in `KEY.json`, name,
  folder, tags (and keywords), notes (title and caption), camera, lens and date.
- `KEY.terms`: months, folders, tags, the words of names, cameras and lenses, with their counts.
"""

import contextlib
import datetime as dt
import itertools
import math
import os
import re
import secrets
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, BinaryIO

import orjson

from lenslet import paths, times
from lenslet.bounds import DELTA_BYTES, FOLDERS_BYTES, LINE_BYTES, MAX_TAGS, TERMS_BYTES, loads
from lenslet.errors import BadRequest, NotFound, Overtaken, StorageUnavailable
from lenslet.library import SEARCH_FORM
from lenslet.library.item import KEYS, Item
from lenslet.library.manifest import Manifest, is_later
from lenslet.paths import ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key
from lenslet.storage.tree import Tree, is_ours

FIELD, TAG = "\x1f", "\x1e"  # separators in a folded line; folded text has no control characters
_WRITTEN = [name for name, key in KEYS.items() if key.read]  # absent for none
_KEYS = ("path", "name", "type", "w", "h", "size", "rev", "tags", "notes", *_WRITTEN)
_TYPES = tuple(KEYS[name].kind for name in _KEYS)
_BLANK = {name: KEYS[name].kind() for name in _KEYS if name != "path"}
_CONTROL = re.compile(r"[\x00-\x1f]+")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MOST_TERMS = 50_000  # of a kind
TAGS, WORDS, CAMERAS, LENSES = KINDS = "twcl"  # as they stand in `KEY.terms`
_MOST_NAMED = 20_000  # folders in a delta, about 2 MB
_TRIES = 50  # to write it: each time another host was faster costs one
_EMPTY = "empty"  # the key of a copy without items, in use until there is a rollup
_MAKING_SECONDS = 600.0  # a copy that is younger than the one in use may still be being made
# When a rollup is written:
_SMALL_BYTES = 256 * 1024  # it is so small that it may always be written
_IMAGE_BYTES = 2000  # an image that was read counts as much: four such images, four lines of it
_DOUBLE_DAYS, _MOST_DAYS = 1.0, 60.0  # what has been written counts double after each day
_MOST_FOLDERS = 5000  # in the delta: looking through more takes too long
_ID = re.compile(r"[0-9a-f]{16}")
# Positions are written in letters that folded text never contains, so that no query finds them.
_CODE = str.maketrans("0123456789", "GHIJKLMNOP")
_DECODE = bytes.maketrans(b"GHIJKLMNOP", b"0123456789")
_SHAPE, _ADDED, _MONTH = 3, 10, 6  # letters of a shape, a minute (`2611231559`) and a month
_LEAST_SHAPE, _MOST_SHAPE = 50, 300  # a panorama counts as much as one that is three times as wide
# Of a folded line, the shape and the month.
_MONTHS = re.compile(rb"^(...)[^\x1f\n]*(?:\x1f[^\x1f\n]*){6}\x1f([G-P]{0,6})", re.MULTILINE)
_HEAD_BYTES, _CHUNK = 4096, 1 << 20
_FOLDERS = b'\n],"folders":'
_FOLDER_BYTES = 16  # on average, a folder of them with its generation has more

Generations = dict[Path, str]


def fold(text: str) -> str:
    """Removes case and accents; each run of control characters becomes one space."""
    if text.isascii():
        return _CONTROL.sub(" ", text).lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return _CONTROL.sub(" ", plain.casefold())


def entry(item: Item) -> Item:
    """Returns the keys of an item that the rollup has.

    If the image does not say when it was taken, its name may.
    """
    found = {  # written out: 0.6 µs instead of 2.5
        "path": item["path"],
        "name": item["name"],
        "type": item["type"],
        "w": item["w"],
        "h": item["h"],
        "size": item["size"],
        "rev": item["rev"],
        "tags": item.get("tags", []),
        "notes": item.get("notes", ""),
    }
    for key in ("createdAt", "takenAt", "addedAt", "thumb", *_WRITTEN):
        if key in item:
            found[key] = item[key]
    if not found.keys() & {"createdAt", "takenAt"} and (named := times.named(item["name"])):
        found["takenAt"] = named
    return found


# The files of the library


def encode_rollup(rollup_id: str, items: Iterable[Item], folders: Generations) -> Iterator[bytes]:
    """Yields the lines of a rollup. `folders` may be filled while `items` is read."""
    head = {"v": 1, "generatedAt": times.text(times.now()), "id": rollup_id, "form": SEARCH_FORM}
    line = orjson.dumps(head)[:-1] + b',"items":['
    comma = b"\n"
    for text in filter(None, map(encode_item, items)):
        yield line + comma
        line, comma = text, b",\n"
    yield line + _FOLDERS + orjson.dumps(folders, option=orjson.OPT_NON_STR_KEYS) + b"}\n"


def encode_item(item: Item) -> bytes:
    """Returns an item as a line of the rollup, without its end; nothing if it is too long."""
    text = orjson.dumps(entry(item))
    return text if len(text) < LINE_BYTES - 2 else b""  # a comma and the end of the line


def read_head(tree: Tree) -> dict[str, Any]:
    """Reads what the first line of the rollup says; `NotFound` if there is no rollup of ours."""
    data, _ = tree.head(Path(ROLLUP), _HEAD_BYTES)
    return _parse_head(data)


def _parse_head(data: bytes) -> dict[str, Any]:
    line, _, _ = data.partition(b"\n")
    try:
        found = orjson.loads(line.removesuffix(b"]") + b"]}")
    except orjson.JSONDecodeError as error:
        raise NotFound("The rollup is torn.") from error
    # The id becomes a file name.
    if not (_ID.fullmatch(str(found.get("id"))) and "generatedAt" in found):
        raise NotFound("The rollup is nonsense.")
    return dict(found)


def read_folders(file: BinaryIO) -> Generations:
    """Reads the generation of each folder from the end of a rollup; none if it is torn."""
    size, step = file.seek(0, 2), _CHUNK
    while True:
        file.seek(max(0, size - step))
        _, mark, found = file.read().rpartition(_FOLDERS)
        if mark or step >= min(size, FOLDERS_BYTES):
            right = mark and found.count(b",") <= len(found) // _FOLDER_BYTES
            return parse_delta(b'{"folders":' + found, math.inf) if right else {}
        step *= 4


def parse_delta(data: bytes, most: float = _MOST_NAMED) -> Generations:
    """Returns the folders that a delta names, with their generation, "" for a folder that is gone.

    A torn delta names none, nor does one of more than `most` folders.
    """
    try:
        folders = loads(data)["folders"].items()
        if len(folders) > most:
            return {}
        for _, generation in folders:
            times.parse(generation or times.LONG_AGO)
        return {paths.parse(path): generation or "" for path, generation in folders}
    except (KeyError, TypeError, AttributeError, ValueError, BadRequest):
        return {}


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta: its folders, and how many bytes were written since the `rollup` with that id."""

    folders: Generations = field(default_factory=dict)
    rollup: str = ""
    written: int = 0

    def encode(self) -> bytes:
        head = {"v": 1, "generatedAt": times.text(times.now())}
        document = head | {"rollup": self.rollup, "written": self.written, "folders": self.folders}
        return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def of(cls, data: bytes) -> "Delta":
        """Parses a delta. One that is torn or nonsense is empty."""
        folders, written = parse_delta(data), 0
        if folders:
            found = orjson.loads(data)
            rollup, written = str(found.get("rollup")), found.get("written")
            if isinstance(written, int) and 0 <= written < 1 << 53:
                return cls(folders, rollup, written)
        return cls(folders)

    def after(self, rollup: str, changed: Generations, known: Generations, images: int) -> "Delta":
        """Returns the delta that names the `changed` folders too.

        `known` are the generations in the rollup, `images` how many were read meanwhile.
        """
        found = dict(self.folders)
        for path, generation in changed.items():
            if not generation or not is_later(found.get(path, ""), generation):
                found[path] = generation
        folders = {
            path: generation
            for path, generation in sorted(found.items())
            if generation != known.get(path, "")
        }
        if folders == self.folders:
            return self
        new = Delta(folders, rollup, self.written if self.rollup == rollup else 0)
        return replace(new, written=new.written + len(new.encode()) + images * _IMAGE_BYTES)


def is_due(size: int, days: float, written: int, folders: int) -> bool:
    """True if a rollup of `size` bytes, `days` old, should be written anew.

    It is when as many bytes were `written` since: at most half of what is written is the rollup.
    They count double after each day, so that a rollup does not stay old for ever. `folders` is how
    many the delta names; if there are many, each query takes longer.
    """
    weight = 2 ** (min(max(days, 0.0), _MOST_DAYS) / _DOUBLE_DAYS)
    due = written * weight >= size - _SMALL_BYTES or folders > _MOST_FOLDERS
    return folders > 0 and due


# The copies in the cache


def copy_rollup(tree: Tree, cache: Tree, rollup_id: str) -> str:
    """Makes this host's copy of the rollup, if it is missing; returns its id.

    `NotFound` if the rollup is missing or torn. If it was replaced meanwhile, copies the newer one.
    """
    if _has_copy(cache, rollup_id):
        return rollup_id
    file, _ = tree.open(Path(ROLLUP))
    with file:
        first = file.read(_HEAD_BYTES)
        rollup_id = str(_parse_head(first)["id"])
        rest = iter(partial(file.read, _CHUNK), b"")
        cache.write(Path(f"{rollup_id}.json"), lambda: itertools.chain((first,), rest))
    fold_copy(cache, rollup_id)
    return rollup_id


def _has_copy(cache: Tree, key: str) -> bool:
    """True if the three files are there, and not empty as after a crash."""
    try:
        cache.stat(Path(f"{key}.terms"))  # may be empty
        return all(cache.stat(Path(f"{key}.{kind}")).size for kind in ("json", "lines"))
    except NotFound:
        return False


def fold_copy(cache: Tree, key: str) -> None:
    """Writes the folded lines and the terms of the items in `KEY.json`.

    `NotFound` if the file of items is torn.
    """
    terms = Terms()

    def lines() -> Iterator[bytes]:
        yield b"\n"
        with cache.open(Path(f"{key}.json"))[0] as file:
            for position, item in _items_of(file):
                terms.add(item)
                yield folded_line(item, position)

    try:
        cache.write(Path(f"{key}.lines"), lines)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cache.delete(Path(f"{key}.json"))
        raise NotFound("The rollup is nonsense.") from error
    cache.write(Path(f"{key}.terms"), terms.encode())


def empty_copy(cache: Tree) -> str:
    """Makes a copy of a rollup without items, and returns its key."""
    cache.write(Path(f"{_EMPTY}.json"), lambda: encode_rollup(_EMPTY, (), {}))
    fold_copy(cache, _EMPTY)
    return _EMPTY


def _items_of(file: BinaryIO) -> Iterator[tuple[int, Item]]:
    """Yields each item of a copy and the position of its line."""
    position = len(file.readline(LINE_BYTES))
    for line in iter(partial(file.readline, LINE_BYTES), b""):
        if line.startswith(b"{"):
            item = {**_BLANK, **loads(line.rstrip(b",\n"))}  # an older form had fewer keys
            known = tuple(map(type, map(item.get, _KEYS))) == _TYPES
            if not known or max(len(item["tags"]), len(item["keywords"])) > MAX_TAGS:
                raise TypeError("an item is nonsense")
            yield position, item
        position += len(line)


def folded_line(item: Item, position: int) -> bytes:
    path = Path(item["path"])
    tags = TAG + "".join(fold(tag) + TAG for tag in _tags_of(item))
    texts = (item["notes"], item.get("title"), item.get("caption"))
    notes = TAG.join(fold(text) for text in texts if text)
    camera, lens = fold(item.get("camera", "")), fold(item.get("lens", ""))
    added = re.sub("[^0-9]", "", str(item.get("addedAt"))[2:16])[:_ADDED]
    where = f"{_shape(item):03}{added:0<{_ADDED}}{position:X}".translate(_CODE)
    date = _date_of(item).decode()
    fields = (where, fold(path.name), fold(path.parent), tags, notes, camera, lens, date)
    return FIELD.join(fields).encode() + b"\n"


def _tags_of(item: Item) -> list[str]:
    """Returns the user's tags of an item and the keywords in its image, each once."""
    return list(dict.fromkeys((*item.get("tags", ()), *item.get("keywords", ()))))


def _shape(item: Item) -> int:
    """The width of an image over its height, in hundredths; 100 while it is not known."""
    width, height = item["w"], item["h"]
    shape: int = 100 * width // height if width > 0 and height > 0 else 100
    return min(max(shape, _LEAST_SHAPE), _MOST_SHAPE)


def _date_of(item: Item) -> bytes:
    return encode_date(str(item.get("takenAt") or item.get("createdAt") or "")[:19])


def encode_date(text: str) -> bytes:
    """Returns the digits of a date in letters that folded text never contains. Both sort alike."""
    return re.sub(r"\D", "", text).translate(_CODE).encode()


def position_of(line: bytes) -> int:
    """Returns where the item of a folded line is in the file of items."""
    return int(line[_SHAPE + _ADDED : line.index(b"\x1f")].translate(_DECODE), 16)


def added_of(line: bytes) -> bytes:
    """Returns when the item of a folded line was added, in letters that sort as their digits."""
    return line[_SHAPE : _SHAPE + _ADDED]


class Months:
    """Counts images by the month in which they were taken, and adds up their shapes.

    Both are by `201909`, or by nothing for images without a date; shapes are in hundredths.
    """

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.shapes: Counter[bytes] = Counter()

    def add(self, month: bytes, count: int, shape: int) -> None:
        self.counts[month] += count
        self.shapes[month] += shape

    def add_lines(self, lines: bytes) -> None:
        """Adds the images of folded lines."""
        for (shape, month), count in Counter(_MONTHS.findall(lines)).items():
            self.add(month.translate(_DECODE), count, count * int(shape.translate(_DECODE)))

    def update(self, other: "Months") -> None:
        self.counts.update(other.counts)
        self.shapes.update(other.shapes)

    def encode(self) -> bytes:
        """Returns lines of kind (`m`), month, shapes and count."""
        counts = self.counts.items()
        return b"".join(b"m\t%s\t%d\t%d\n" % (m, self.shapes[m], n) for m, n in counts)

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> "Months":
        """Reads what `encode` returned, from lines that begin with it."""
        found = cls()
        for line in itertools.takewhile(lambda line: line.startswith(b"m\t"), lines):
            _, month, shapes, count = line.split(b"\t")
            found.add(month, int(count), int(shapes))
        return found


class Terms:
    """Counts months, folders, tags, cameras and lenses as they are written, and words of names."""

    def __init__(self) -> None:
        self.months = Months()
        self.folders: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def add(self, item: Item) -> None:
        self._count(item, 1)
        for kind, texts in _texts_of(item):
            counts = self._counts[kind]
            counts.update(texts)
            if len(counts) > 2 * _MOST_TERMS:  # file names that are hashes give endless words
                self._counts[kind] = Counter(dict(counts.most_common(_MOST_TERMS)))

    def remove(self, item: Item) -> None:
        self._count(item, -1)
        for kind, texts in _texts_of(item):
            self._counts[kind].subtract(texts)

    def _count(self, item: Item, times: int) -> None:
        month = _date_of(item)[:_MONTH].translate(_DECODE)
        self.months.add(month, times, times * _shape(item))
        self.folders[item["path"].rpartition("/")[0]] += times

    def encode(self) -> bytes:
        """Returns the months and folders, and then the other terms; the rarest left out.

        A folder is a line of kind (`f`), path and count, without those below it. Any other term is
        one of kind (one of `KINDS`), folded text, text and count.
        """
        counts = self.folders.items()
        folders = (f"f\t{path}\t{count}\n".encode() for path, count in counts if count)
        terms = itertools.chain(*itertools.starmap(_term_lines, self._counts.items()))
        return b"".join((self.months.encode(), *folders, *terms))


def count_below(folder: Path, terms: bytes) -> Counter[str]:
    """Returns the subfolders of a folder with the number of images in and below each."""
    start = re.escape(f"{folder}/".encode()) if folder else b""
    lines = rb"^f\t%b([^/\t\n]+)[^\t\n]*\t(-?\d+)$" % start
    found: Counter[str] = Counter()
    for name, count in re.findall(lines, terms, re.MULTILINE):
        found[name.decode()] += int(count)
    return found


def _term_lines(kind: str, counts: Counter[str]) -> Iterator[bytes]:
    left = TERMS_BYTES
    for text, count in counts.most_common(_MOST_TERMS):
        if count:
            line = f"{kind}\t{fold(text)}\t{_CONTROL.sub(' ', text)}\t{count}\n".encode()
            left -= len(line)
            if left < 0:
                return
            yield line


def _texts_of(item: Item) -> Iterator[tuple[str, Iterable[str]]]:
    """Yields the terms of an item that are counted, by kind."""
    yield TAGS, _tags_of(item)
    yield WORDS, set(_WORDS.findall(fold(Path(item["path"]).name.rpartition(".")[0])))
    yield CAMERAS, filter(None, [item.get("camera")])
    yield LENSES, filter(None, [item.get("lens")])


def forget_copies(cache: Tree, key: str, drop: str = "") -> None:
    """Removes the copies that are older than the one with this key, and the one of `drop`.

    A process that has one open goes on reading it, and one that was about to open it tries again.
    A younger copy is only removed if it is not ready after ten minutes.
    """
    with contextlib.suppress(NotFound):  # nothing was ever copied
        found = cache.listing(ROOT)
        cache.sweep(ROOT, found.leftovers)
        before = time.time_ns() - int(_MAKING_SECONDS * 1e9)
        if current := found.files.get(f"{key}.json"):
            before = max(before, current.mtime_ns)
        for name, stat in found.files.items():
            of = name.partition(".")[0]
            if of == drop or (of != key and stat.mtime_ns <= before):
                with contextlib.suppress(NotFound):
                    cache.delete(Path(name))


# The writer


class Rollup:
    """Keeps the rollup and the delta. Used by one thread at a time.

    `generations` are the folders' generations in the rollup, `delta` those in the delta.
    """

    def __init__(self, tree: Tree, cache: Tree) -> None:
        self._tree = tree
        self._cache = cache
        self._id = ""  # of the rollup that was read last
        self._rev = ""  # of the delta that was read last
        self._made, self._size = times.now(), 0
        self.generations: Generations = {}
        self.is_old = False  # it is of an older form
        self.delta = Delta()

    @property
    def exists(self) -> bool:
        return bool(self._id)

    @property
    def is_due(self) -> bool:
        """True if it is time to write it anew."""
        written = self.delta.written if self.delta.rollup == self._id else 0
        days = (times.now() - self._made) / dt.timedelta(days=1)
        return is_due(self._size, days, written, len(self.delta.folders))

    def refresh(self) -> None:
        """Reads both files; `Foreign` if another program's is in place of the delta."""
        try:
            head = read_head(self._tree)
            form = head.get("form", 1)
            self.is_old = isinstance(form, int) and form < SEARCH_FORM
            if head["id"] != self._id:
                self._id = copy_rollup(self._tree, self._cache, str(head["id"]))
                with self._cache.open(Path(f"{self._id}.json"))[0] as file:
                    self.generations = read_folders(file)
                    self._size = file.seek(0, os.SEEK_END)
                with contextlib.suppress(TypeError, ValueError):
                    self._made = times.parse(head["generatedAt"])
                forget_copies(self._cache, self._id)
        except NotFound:
            self._id, self.generations = "", {}
        data, self._rev = b"", ""
        with contextlib.suppress(NotFound):
            data, stat = self._tree.read(Path(ROLLUP_DELTA), fresh=True)
            self._rev = stat.rev
        if not (data and is_ours(ROLLUP_DELTA, data)):
            self._rev = self._tree.own_rev(Path(ROLLUP_DELTA))
        self.delta = Delta.of(data)

    def name(self, changed: Generations, images: int) -> bool:
        """Names the `changed` folders in the delta, so that search looks at their manifests.

        The generation of a folder that is gone is "". `images` is how many were read since the last
        time. False if there is no news, and the delta is not written. If there are too many names,
        search knows after the next rollup.
        """
        for _ in range(_TRIES):
            wanted = self.delta.after(self._id, changed, self.generations, images)
            data, named = wanted.encode(), len(wanted.folders)
            if wanted == self.delta or named > _MOST_NAMED or len(data) > DELTA_BYTES:
                self.delta = wanted
                return False
            with contextlib.suppress(Overtaken):
                self._tree.write(Path(ROLLUP_DELTA), data, over=self._rev)
                self.delta = wanted
                return True
            self.refresh()
        raise StorageUnavailable(f"{ROLLUP_DELTA}: other hosts were first for too long.")

    def compact(self, folders: Iterable[Path], load: Callable[[Path], Manifest]) -> int:
        """Writes the rollup anew from the manifests of `folders`; returns the number of items.

        A folder without a complete manifest is left out; the delta names it when it has one.
        """
        count, generations = 0, {}

        def items() -> Iterator[Item]:
            nonlocal count
            for folder in sorted(folders, key=folder_key):
                found = load(folder)
                if found.generated_at:
                    generations[folder] = found.generated_at
                    count += len(found.items)
                    yield from found.items

        rollup_id = secrets.token_hex(8)
        name = Path(f"{rollup_id}.json")
        try:
            self._cache.write(name, lambda: encode_rollup(rollup_id, items(), generations))
            fold_copy(self._cache, rollup_id)  # so that it can be searched as soon as it is there
            with self._cache.open(name)[0] as file:

                def content() -> Iterator[bytes]:
                    file.seek(0)
                    return iter(partial(file.read, _CHUNK), b"")

                self._tree.write(Path(ROLLUP), content)
                size = file.seek(0, os.SEEK_END)
            self._id, self.generations, self.is_old = rollup_id, generations, False
            self._made, self._size = times.now(), size
        finally:
            forget_copies(self._cache, self._id, "" if self._id == rollup_id else rollup_id)
        return count
