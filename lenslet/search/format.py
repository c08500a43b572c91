"""The formats of the files that search reads.

`_rollup.json` has one item per line and, at its end, the generation of each folder's manifest.
`_rollup_delta.json` names the folders whose manifest has another generation now.

A host's copy of the rollup is three files in its cache, named by its id and `FORM`. `ID.10.json` is
the same. `ID.10.lines` has a folded line (without case and accents) for each item: what a query
looks through, see `Line`. `ID.10.terms` counts terms in lines of kind, folded text, text and count.
"""

import bisect
import contextlib
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from lenslet import paths, times
from lenslet.bounds import FOLDERS_BYTES, LINE_BYTES, TERMS_BYTES, dumps, loads
from lenslet.errors import NotFound
from lenslet.library import item as items
from lenslet.library.about import About
from lenslet.library.item import Item
from lenslet.library.manifest import is_later
from lenslet.paths import ROLLUP, ROLLUP_DELTA, Path, folder_key
from lenslet.storage.text import Text, map_file
from lenslet.storage.tree import Stat, Tree, is_ours

FORM = 10  # the version of these formats; raised with every change
KINDS = ("json", "lines", "terms")  # of the files of a copy
HEAD_BYTES = 4096  # of a rollup; its first line is shorter
FIELD, TAG = "\x1f", "\x1e"  # separators in a folded line; folded text has no control characters
MOST_NAMED = 20_000  # folders in a delta, about 2 MB
SUGGESTED = ("tag", "name", "camera", "lens")  # the kinds of terms that are suggested, in order
FACETS = ("tag", "camera", "lens")  # those that are counted in a search, in order
# An item of the rollup has these keys, and of the others those that it has in its manifest.
_NEEDED = ("path", "name", "type", "w", "h", "size", "rev", "tags", "notes")
ROLLUP_KEYS = {name: items.KEYS[name].kind for name in _NEEDED}
_READ = (name for name, key in items.KEYS.items() if key.read)
COPIED = (*ROLLUP_KEYS, "createdAt", "takenAt", "addedAt", "thumb", "about", *_READ)
_DESCRIBED = 500  # characters of a folder's description: each of its items has them
# Each character that Unicode does not take apart, and what people type for it: letters with strokes
# and hooks, ligatures, quotes, dashes.
_LOOKALIKES = """
    łl øo đd ðd ħh ŧt ıi ƀb ȼc ɇe ǥg ɨi ɉj ƚl ɵo ɍr ʉu ɏy ƶz ⱥa ⱦt ɓb ɖd ɗd ƙk ŋn ƴy æae œoe þth
    ‘' ’' ‚' ‛' ′' ʻ' ʼ' ‹' ›' “" ”" „" ‟" «" »" ‐- ‒- –- —- ―- −-
"""
_CONTROL = re.compile(r"[\x00-\x1f]+")
_NOT_DIGITS = re.compile("[^0-9]+")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MOST_TERMS = 50_000  # of a kind, while they are counted
_ID = re.compile(r"[0-9a-f]{16}")
# Numeric fields of a folded line have A–J for 0–9. Words of a query are lower case: no one finds
# a number.
_CODE = str.maketrans("0123456789", "ABCDEFGHIJ")
_DECODE = bytes.maketrans(b"ABCDEFGHIJ", b"0123456789")
_MONTH = 6  # digits of a month, such as `201909`
_LEAST_SHAPE, _MOST_SHAPE = 50, 300  # a panorama counts as much as one that is three times as wide
_MONTHS = re.compile(rb"^([^\x1f]*).*\x1f(.{0,6}).*$", re.MULTILINE)  # of lines, after the shape
_MONTH_TERMS = re.compile(rb"^(month|shapes)\t\t(\d*)\t(-?\d+)$", re.MULTILINE)
_SLICE = 4 << 20  # bytes of lines that are counted at a time
_FOLDERS = b'\n],"folders":'
_FOLDER_BYTES = 16  # on average, a folder with its generation has more

Generations = dict[Path, str]


class Line(NamedTuple):
    """The fields of a folded line, in their order. A query may name those in `QUERIED`.

    `position` is where the JSON of the item is, `shape` its width over its height in hundredths.
    Both, `added` (to the minute) and `date` are numbers. `_MONTHS` reads the first and the last.
    """

    shape: str
    position: str
    name: str
    path: str
    tag: str
    notes: str
    about: str
    camera: str
    lens: str
    added: str
    date: str


QUERIED = ("name", "path", "tag", "notes", "camera", "lens", "date")
_NUMBERS = {name: number for number, name in enumerate(Line._fields)}


class _Plain(dict[int, int | str | None]):
    """What `str.translate` makes of each character; None removes it.

    Filled as characters are seen: a dict that has them all is three times as fast as a function.
    """

    def __missing__(self, code: int) -> int | None:
        self[code] = found = None if unicodedata.combining(chr(code)) else code
        return found


_PLAIN = _Plain((ord(each[0]), each[1:]) for each in _LOOKALIKES.split())


def fold(text: str) -> str:
    """Removes case, accents and strokes; each run of control characters becomes one space."""
    if text.isascii():
        return _CONTROL.sub(" ", text).lower()
    plain = unicodedata.normalize("NFKD", text.casefold()).translate(_PLAIN)
    return _CONTROL.sub(" ", plain.casefold())


def entry(item: Item) -> Item:
    """Returns the keys of an item that the rollup has."""
    item = {"tags": [], "notes": "", **item}
    return {key: item[key] for key in COPIED if key in item}


def with_about(items: Iterable[Item], about: About) -> Iterator[Item]:
    """Yields the items of a folder with a line for its title, and the start of its description."""
    words = f"{about.get('title', '')}\n{about.get('description', '')[:_DESCRIBED]}".rstrip()
    return ({**item, "about": words} if words else item for item in items)


# The rollup


def encode_rollup(rollup_id: str, items: Iterable[Item], folders: Generations) -> Iterator[bytes]:
    """Yields the lines of a rollup. `folders` may be filled while `items` is read."""
    head = {"v": 1, "generatedAt": times.text(times.now()), "id": rollup_id, "form": FORM}
    line = orjson.dumps(head)[:-1] + b',"items":['
    comma = b"\n"
    for text in filter(None, map(encode_item, items)):
        yield line + comma
        line, comma = text, b",\n"
    yield line + _FOLDERS + orjson.dumps(folders, option=orjson.OPT_NON_STR_KEYS) + b"}\n"


def encode_item(item: Item) -> bytes:
    """Returns an item as a line of the rollup, without its end; nothing if it is too long."""
    text = dumps(entry(item))
    return text if len(text) < LINE_BYTES - 2 else b""  # a comma and the end of the line


def read_head(tree: Tree) -> tuple[dict[str, Any], Stat]:
    """Reads what the first line of the rollup says; `NotFound` if there is no rollup of ours."""
    data, stat = tree.head(Path(ROLLUP), HEAD_BYTES)
    return parse_head(data), stat


def parse_head(data: bytes) -> dict[str, Any]:
    line, _, _ = data.partition(b"\n")
    try:
        found = orjson.loads(line.removesuffix(b"]") + b"]}")
    except orjson.JSONDecodeError as error:
        raise NotFound("The rollup is torn.") from error
    # The id becomes a file name.
    known = _ID.fullmatch(str(found.get("id"))) and "generatedAt" in found
    if not (known and isinstance(found.get("form", 1), int)):
        raise NotFound("The rollup is nonsense.")
    return dict(found)


def read_folders(text: Text) -> Generations:
    """Reads the generation of each folder from the end of a rollup; none if it is torn."""
    start = text.rfind(_FOLDERS, max(0, len(text) - FOLDERS_BYTES))
    found = text[start + len(_FOLDERS) :] if start >= 0 else b""
    if found.count(b",") > len(found) // _FOLDER_BYTES:
        return {}
    return parse_delta(b'{"folders":' + found, math.inf)


# The delta: the generation of each folder's manifest, or "" for a folder that is gone


def encode_delta(folders: Generations) -> bytes:
    document = {"v": 1, "generatedAt": times.text(times.now()), "folders": folders}
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)


def parse_delta(data: bytes, most: float = MOST_NAMED) -> Generations:
    """Parses a delta. It is empty if it is nonsense or has more than `most` folders."""
    try:
        found = loads(data)["folders"]
        if len(found) > most:
            return {}
        folders = {paths.parse(path): text or "" for path, text in found.items()}
        for generation in filter(None, folders.values()):
            times.parse(generation)
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    return folders


def merge_delta(delta: Generations, changed: Generations, rollup: Generations) -> Generations:
    """Returns a delta with the `changed` folders whose generation is another in the `rollup`."""
    found = dict(delta)
    for path, generation in changed.items():
        if not generation or not is_later(found.get(path, ""), generation):
            found[path] = generation
    return {path: each for path, each in sorted(found.items()) if each != rollup.get(path, "")}


def read_delta(tree: Tree, *, fresh: bool = False) -> tuple[bytes, str]:
    """Reads the delta, and its rev, "" for none; `Foreign` if another program's is in its place."""
    data, rev = b"", ""
    with contextlib.suppress(NotFound):
        data, stat = tree.read(Path(ROLLUP_DELTA), fresh=fresh)
        rev = stat.rev
    if not (data and is_ours(ROLLUP_DELTA, data)):
        rev = tree.own_rev(Path(ROLLUP_DELTA))  # in a root under STATE_DIR it may be another's
    return data, rev


# Folded lines


def folded_line(item: Item, position: int) -> bytes:
    """Returns the folded line of an item of the rollup; `position` is where its JSON is."""
    path = Path(item["path"])
    texts = (item["notes"], item.get("title"), item.get("caption"))
    added = _letters(item.get("addedAt", "")[:16])
    line = Line(
        shape=_letters(str(_shape(item))),
        position=_letters(str(position)),
        name=fold(path.name),
        path=fold(path.parent),
        tag=TAG + "".join(fold(tag) + TAG for tag in _tags_of(item)),
        notes=TAG.join(fold(text) for text in texts if text),
        about=fold(item.get("about", "")),
        camera=fold(item.get("camera", "")),
        lens=fold(item.get("lens", "")),
        added=added and f"+{added}",  # or it would look like a date to `find`
        date=_letters(_date_of(item)),
    )
    return FIELD.join(line).encode() + b"\n"


def field_of(line: bytes, name: str) -> bytes:
    """Returns a field of a folded line."""
    return line.split(FIELD.encode(), _NUMBERS[name] + 1)[_NUMBERS[name]]


def position_of(line: bytes) -> int:
    """Returns where the JSON of a folded line's item is."""
    return int(field_of(line, "position").translate(_DECODE))


def facets_of(lines: Iterable[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yields each kind in `FACETS` with what folded lines have of it: folded texts, some empty."""
    rows = [line.split(FIELD.encode()) for line in lines]
    for kind in FACETS:
        yield kind, TAG.encode().join(row[_NUMBERS[kind]] for row in rows).split(TAG.encode())


def _tags_of(item: Item) -> list[str]:
    """Returns the user's tags of an item and the keywords in its image, each once."""
    return list(dict.fromkeys((*item["tags"], *item.get("keywords", ()))))


def _shape(item: Item) -> int:
    """The width of an image over its height, in hundredths; 100 while it is not known."""
    width, height = item["w"], item["h"]
    shape: int = 100 * width // height if width > 0 and height > 0 else 100
    return min(max(shape, _LEAST_SHAPE), _MOST_SHAPE)


def _date_of(item: Item) -> str:
    """Returns the digits of when an image was taken; nothing if that is not known.

    Those of a year alone are `193200`: before its months, found by `date:1932` and `date:1932-00`.
    """
    digits = _NOT_DIGITS.sub("", (item.get("takenAt") or item.get("createdAt") or "")[:19])
    return digits and digits.ljust(_MONTH, "0")


def _letters(text: str) -> str:
    """Returns the digits of a text as folded lines have them. Both sort alike."""
    return _NOT_DIGITS.sub("", text).translate(_CODE)


def encode_date(text: str) -> bytes:
    """Returns a date as folded lines have it."""
    return _letters(text).encode()


# Counts of terms


class Terms:
    """Counts tags, words of names, cameras, lenses, folders and months, and adds shapes by month.

    Of the kinds in `SUGGESTED`, the rarest are left out.
    """

    def __init__(self) -> None:
        self._counts = {kind: Counter[str]() for kind in (*SUGGESTED, "folder", "month", "shapes")}

    def add(self, item: Item, count: int = 1) -> None:
        """Counts an item once more or, with `count=-1`, once less."""
        for kind, texts in _terms_of(item):
            counts = self._counts[kind]
            for text in texts:
                counts[text] += count
            # File names that are hashes give endless words.
            if len(counts) > 2 * _MOST_TERMS:
                self._counts[kind] = Counter(dict(counts.most_common(_MOST_TERMS)))
        path, month = Path(item["path"]), _date_of(item)[:_MONTH]
        self._counts["folder"][path.parent] += count
        self._counts["month"][month] += count
        self._counts["shapes"][month] += count * _shape(item)

    def encode(self) -> bytes:
        return b"".join(itertools.chain(*itertools.starmap(_encode_terms, self._counts.items())))


def _encode_terms(kind: str, counts: Counter[str]) -> Iterator[bytes]:
    is_limited = kind in SUGGESTED
    left = TERMS_BYTES if is_limited else math.inf
    for text, count in counts.most_common():
        if count:
            folded = fold(text) if is_limited else ""
            line = f"{kind}\t{folded}\t{_CONTROL.sub(' ', text)}\t{count}\n".encode()
            left -= len(line)
            if left < 0:
                return
            yield line


def _terms_of(item: Item) -> Iterator[tuple[str, Iterable[str]]]:
    """Yields the terms of an item that are suggested, by kind."""
    yield "tag", _tags_of(item)
    yield "name", set(_WORDS.findall(fold(Path(item["path"]).name.rpartition(".")[0])))
    yield "camera", filter(None, [item.get("camera")])
    yield "lens", filter(None, [item.get("lens")])


def count_below(folder: Path, terms: bytes) -> Counter[str]:
    """Returns the subfolders of a folder with the number of images in and below each."""
    start = re.escape(f"{folder}/".encode()) if folder else b""
    lines = rb"^folder\t\t%b([^/\t\n]+)[^\t\n]*\t(-?\d+)$" % start
    found: Counter[str] = Counter()
    for name, count in re.findall(lines, terms, re.MULTILINE):
        found[name.decode()] += int(count)
    return found


class Months:
    """How many images there are of each month, and the sum of their shapes in hundredths.

    A month is `201909`, or nothing for images without a date.
    """

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.shapes: Counter[bytes] = Counter()

    def update(self, other: "Months") -> None:
        self.counts.update(other.counts)
        self.shapes.update(other.shapes)

    def add_terms(self, terms: bytes) -> None:
        for kind, month, count in _MONTH_TERMS.findall(terms):
            (self.counts if kind == b"month" else self.shapes)[month] += int(count)

    def add_lines(self, lines: bytes) -> None:
        """Adds the images of folded lines."""
        for (shape, letters), count in Counter(_MONTHS.findall(lines)).items():
            month = letters.translate(_DECODE)
            self.counts[month] += count
            self.shapes[month] += count * int(shape.translate(_DECODE))


# A copy


def file_of(key: str, kind: str) -> Path:
    return Path(f"{key}.{FORM}.{kind}")


@dataclass(frozen=True)
class FoldedCopy:
    """A host's copy of the rollup; without a `key`, of none.

    Its files stay mapped: another process may remove them.
    """

    key: str = ""
    generated_at: str = times.LONG_AGO
    items: Text = b""
    lines: Text = b"\n"
    terms: Text = b""

    @classmethod
    def open(cls, cache: Tree, key: str) -> "FoldedCopy":
        """Opens the copy with this key; `NotFound` if there is none."""
        texts = []
        for kind in KINDS:
            with cache.open(file_of(key, kind))[0] as file:
                texts.append(map_file(file.fileno()))
        return cls(key, parse_head(texts[0][:HEAD_BYTES])["generatedAt"], *texts)

    def item(self, line: bytes) -> bytes:
        """Returns the JSON of the item that a folded line stands for."""
        start = position_of(line)
        return self.items[start : self.items.find(b"\n", start)].rstrip(b",")

    def range_of(self, folder: Path, *, below: bool = False) -> tuple[int, int]:
        """Returns where the lines of a folder, or also of all folders below it, start and end."""
        if below and not folder:
            return 1, len(self.lines)
        key = folder_key(folder)

        def key_at(place: int) -> Any:
            """The key of the folder whose line has a byte at this place."""
            start = self.lines.rfind(b"\n", 0, place) + 1
            item = orjson.loads(self.item(self.lines[start : self.lines.find(b"\n", start)]))
            found = folder_key(Path(item["path"]).parent)
            return found[: len(key)] if below else found

        places, first = range(len(self.lines)), 1  # the first line is empty
        start = bisect.bisect_left(places, key, first, key=key_at)
        return start, bisect.bisect_right(places, key, start, key=key_at)

    @cached_property
    def months(self) -> Months:
        """The images of all folders by month."""
        found = Months()
        found.add_terms(self.terms[:])
        return found

    def months_below(self, folder: Path) -> Months:
        """Counts the images of a folder and of all folders below it by month."""
        found = Months()
        if not folder:
            found.update(self.months)
            return found
        start, end = self.range_of(folder, below=True)
        while start < end:
            stop = self.lines.find(b"\n", min(start + _SLICE, end) - 1) + 1
            found.add_lines(self.lines[start:stop])
            start = stop
        return found
