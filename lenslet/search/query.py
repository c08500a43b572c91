"""Answers queries: an item matches if it contains every term. Case and accents do not count."""

import heapq
import itertools
import logging
import mmap
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import orjson
from blake3 import blake3

from lenslet import times
from lenslet.errors import BadRequest, LensletError, NotFound, one_line
from lenslet.library import manifest
from lenslet.library.manifest import Item
from lenslet.paths import ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key, natural_key
from lenslet.search.rollup import (
    FIELD,
    TAG,
    copy_rollup,
    encode_date,
    fold,
    fold_folder,
    forget_copies,
    parse_delta,
    position_of,
    read_head,
)
from lenslet.storage.tree import Stat, Tree

log = logging.getLogger("lenslet")

Answer = TypeVar("Answer")
COUNTED = 1000  # beyond it `total` is not exact
MOST_TERMS = 32
MOST_SORTED = 500_000  # takes a second
_EMPTY = "empty"  # the key of a copy without items, in use until there is a rollup
_SLICE = 4 * 1024 * 1024  # bytes that are searched before other threads may run
_TERM = re.compile(r'(-?)(?:(tag|name|notes|path|date):)?(?:"([^"]*)"?|(\S+))')
_FIELDS = {"name": 1, "path": 2, "tag": 3, "notes": 4, "date": 5}
_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Term:
    """One folded term: the field it is limited to (0: any), and whether it excludes.

    `dates` are the first and the last date that match: each a year, a month or a day.
    """

    text: bytes
    field: int = 0
    excludes: bool = False
    dates: tuple[bytes, bytes] | None = None

    def matches(self, line: bytes) -> bool:
        where = line.split(b"\x1f")[self.field] if self.field else line
        if self.dates is None:
            return (self.text in where) != self.excludes
        first, last = self.dates
        found = bool(where) and first <= where[: len(first)] and where[: len(last)] <= last
        return found != self.excludes


def parse(query: str) -> list[Term]:
    """Parses words, "phrases", `tag:` `name:` `notes:` `path:` `date:`, and `-` to exclude.

    Raises `BadRequest` for a date that is not a year, a month, a day, or two of them with `..`.
    """
    terms = []
    for minus, name, phrase, word in _TERM.findall(query):
        text = fold(phrase or word).strip()
        if not text:
            continue
        if name == "date":
            terms.append(_date_term(text, excludes=bool(minus)))
            continue
        if name == "tag":
            text = f"{TAG}{text}{TAG}"
        terms.append(Term(text.encode(), _FIELDS.get(name, 0), bool(minus)))
    if len(terms) > MOST_TERMS:
        raise BadRequest("q", f"more than {MOST_TERMS} terms")
    return list(dict.fromkeys(terms))


def _date_term(text: str, *, excludes: bool) -> Term:
    """A term for when an image was taken. Its `text` is what the dates have in common."""
    first, dots, last = text.partition("..")
    if dots and (first or last):
        first, last = first or "0000", last or "9999"
    elif not dots:
        last = first
    if not all(map(_DATE.fullmatch, (first, last))):
        raise BadRequest("q", f"date:{text} must be like 2024, 2024-07 or 2024-07-01..2024-07-15")
    begin, end = encode_date(first), encode_date(last)
    common = next(begin[:n] for n in range(len(begin), -1, -1) if end.startswith(begin[:n]))
    return Term(FIELD.encode() + common, _FIELDS["date"], excludes, (begin, end))


class FoldedCopy:
    """A host's copy of some items: the items, and a folded line for each.

    Items and lines stay open, so that they can be read after another process removed them.
    """

    def __init__(self, cache: Tree, key: str) -> None:
        self.key = key
        with cache.open(Path(f"{key}.lines"))[0] as file:
            self.fold = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        items, _ = cache.open(Path(f"{key}.json"))
        self._items = items.fileno()
        weakref.finalize(self, items.close)  # threads may still read when it is replaced

    def item(self, line: bytes) -> bytes:
        """Returns the JSON of the item that a folded line stands for."""
        start, size = position_of(line), 2048
        while True:
            data = os.pread(self._items, size, start)
            end = data.find(b"\n")
            if end >= 0 or len(data) < size:
                return data[: end if end >= 0 else None].rstrip(b",")
            size *= 8

    def items(self, start: int, end: int) -> Iterator[Item]:
        """Yields the items of the folded lines in a range."""
        for line in bytes(self.fold[start:end]).splitlines():
            yield orjson.loads(self.item(line))

    def hits(self, terms: list[Term], start: int, end: int) -> Iterator[bytes]:
        """Yields the folded lines in a range that every term matches, in order."""
        texts = {term.text for term in terms if not term.excludes}
        rest = [term for term in terms if term.excludes or term.field]
        for first, last in self._lines_with(texts, start, end):
            line = self.fold[first:last]
            if all(term.matches(line) for term in rest):
                yield line

    def _lines_with(self, texts: set[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields start and end of each line that contains all texts.

        If a text next occurs in a later line, no line before contains all texts: continue there.
        """
        found = dict.fromkeys(texts, -1)
        while start < end:
            last = self.fold.find(b"\n", start)
            for text, at in found.items():
                if at < start:
                    at = found[text] = self._find(text, start, end)
                    if at < 0:
                        return
                if at > last:
                    start = self.fold.rfind(b"\n", last, at) + 1
                    break
            else:
                yield start, last
                start = last + 1

    def _find(self, text: bytes, start: int, end: int) -> int:
        while start < end:
            stop = min(end, start + _SLICE)
            at = self.fold.find(text, start, stop)
            if at >= 0 or stop == end:
                return at
            start = stop - len(text) + 1
        return -1

    def range_of(self, folder: Path) -> tuple[int, int]:
        """Returns where the lines of one folder start and end."""
        key = folder_key(folder)
        return (
            self._bisect(lambda other: folder_key(other) >= key),
            self._bisect(lambda other: folder_key(other) > key),
        )

    def range_below(self, folder: Path) -> tuple[int, int]:
        """Returns where the lines of a folder and of all folders below it start and end."""
        if not folder:
            return 1, len(self.fold)
        key = folder_key(folder)
        return (
            self._bisect(lambda other: folder_key(other) >= key),
            self._bisect(lambda other: folder_key(other) > key and not folder.holds(other)),
        )

    def _bisect(self, reached: Callable[[Path], bool]) -> int:
        """The start of the first line for whose folder `reached` is true; lines are in order."""
        low, high = 1, len(self.fold)
        while low < high:
            first = self.fold.rfind(b"\n", 0, (low + high) // 2) + 1
            last = self.fold.find(b"\n", first) + 1
            item = orjson.loads(self.item(self.fold[first : last - 1]))
            if reached(Path(item["path"]).parent):
                high = first
            else:
                low = last
        return low


@dataclass(slots=True)
class _Changed:
    """A folder in the delta: which lines of the rollup it replaces, and the key of its copy."""

    folder: Path
    start: int
    end: int
    key: str


@dataclass(slots=True)
class _View:
    """A rollup, and the folders that have changed since, sorted."""

    rollup: FoldedCopy
    generated_at: str
    changed: list[_Changed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the hits are wanted, in which order: by `folder` (and name), `name` or `date`."""

    limit: int = 100
    offset: int = 0
    sort: str = "folder"
    descending: bool = False


class Found(NamedTuple):
    """The JSON of a page of items.

    `total` is the number of hits; if `more` is true, there are more than that. `generated_at`
    is when the rollup was generated.
    """

    items: list[bytes]
    total: int
    more: bool
    generated_at: str


Hit = tuple[FoldedCopy, bytes]  # a folded line, and the copy it is in


def _ordered(hits: Iterator[Hit], page: Page) -> list[Hit]:
    """Sorts all hits; `BadRequest` if there are too many. Items without a date come last."""
    found = list(itertools.islice(hits, MOST_SORTED + 1))
    if len(found) > MOST_SORTED:
        raise BadRequest("sort", f"more than {MOST_SORTED} items match: sort fewer")
    if page.sort == "folder":
        return found[::-1]

    def key(hit: Hit) -> Any:
        if page.sort == "date":
            date = hit[1].rpartition(FIELD.encode())[2]
            return (not date) != page.descending, date
        return natural_key(hit[1].split(FIELD.encode())[_FIELDS["name"]].decode())

    return sorted(found, key=key, reverse=page.descending)


class Search:
    """Answers queries from the newest rollup and delta. Safe for threads."""

    def __init__(self, tree: Tree, cache: Tree) -> None:
        self._tree = tree
        self._cache = cache
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._fresh_seconds = tree.cache.seconds if tree.cache else 0.0
        self._seen: tuple[Stat | None, Stat | None] = (None, None)
        self._view: _View | None = None

    def find(self, query: str, below: Path | None, page: Page) -> Found:
        """Finds items below a folder, or everywhere if that is None.

        An empty query finds every item below the folder. Without a folder it finds nothing.
        """
        terms = parse(query)
        return self._ask(lambda view: self._find(view, terms, below, page))

    def _ask(self, ask: Callable[[_View], Answer]) -> Answer:
        """Asks the current view, and once more if the cache has lost one of its files."""
        try:
            return ask(self._current())
        except NotFound:
            self._view = None
            return ask(self._current())

    def _find(self, view: _View, terms: list[Term], below: Path | None, page: Page) -> Found:
        hits: Iterator[Hit] = iter(())
        if terms or below is not None:
            hits = self._hits(view, terms, below or ROOT)
        end, count, more = page.offset + page.limit, 0, False
        if page.sort != "folder" or page.descending:
            ordered = _ordered(hits, page)
            count, found = len(ordered), ordered[page.offset : end]
        else:
            found = []
            for hit in hits:
                if count == max(COUNTED, end):
                    more = True
                    break
                if page.offset <= count < end:
                    found.append(hit)
                count += 1
        items = [copy.item(line) for copy, line in found]
        return Found(items, count, more, view.generated_at)

    def _hits(self, view: _View, terms: list[Term], below: Path) -> Iterator[Hit]:
        """Goes through the rollup, and looks at each changed folder's copy in its place."""
        rollup = view.rollup
        start, end = rollup.range_below(below)
        for changed in view.changed:
            if below.holds(changed.folder):
                for line in rollup.hits(terms, start, changed.start):
                    yield rollup, line
                start = max(start, changed.end)
                copy = FoldedCopy(self._cache, changed.key)
                for line in copy.hits(terms, 1, len(copy.fold)):
                    yield copy, line
        for line in rollup.hits(terms, start, end):
            yield rollup, line

    def suggest(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Suggests tags that contain a text, then words of file names that begin with the text.

        The most frequent come first.
        """
        return self._ask(lambda view: self._suggest(view, fold(text).strip().encode(), limit))

    def _suggest(self, view: _View, wanted: bytes, limit: int) -> list[dict[str, Any]]:
        counts: dict[tuple[bytes, bytes], int] = {}
        for key in view.rollup.key, *(changed.key for changed in view.changed):
            lines = self._cache.read(Path(f"{key}.terms"))[0].splitlines()
            for line in [line for line in lines if wanted in line]:
                kind, folded, shown, count = line.split(b"\t")
                if (wanted in folded) if kind == b"t" else folded.startswith(wanted):
                    counts[kind, shown] = counts.get((kind, shown), 0) + int(count)
        ordered = ((kind, -count, shown) for (kind, shown), count in counts.items() if count > 0)
        return [
            {"text": shown.decode(), "count": -less, "kind": "tag" if kind == b"t" else "name"}
            for kind, less, shown in heapq.nsmallest(limit, ordered)
        ]

    # Keeping up

    def _current(self) -> _View:
        """The current view. One thread brings it up to date while others use the old one."""
        view = self._view
        if self._lock.acquire(blocking=view is None):
            try:
                view = self._view = self._refresh(self._view)
            except LensletError as error:
                if view is None:
                    raise
                log.warning("search answers from an old rollup: %s", one_line(error))
            finally:
                self._lock.release()
        assert view  # without an old view, this thread has made one
        return view

    def _refresh(self, old: _View | None) -> _View:
        """Reads the delta before the rollup: a folder that has left the delta is in the rollup."""
        now = time.monotonic()
        if old and now - self._checked < self._fresh_seconds:
            return old
        data, delta = _there(lambda: self._tree.read(Path(ROLLUP_DELTA))) or (b"", None)
        rollup = _there(lambda: self._tree.stat(Path(ROLLUP)))
        self._checked = now
        if old and (delta, rollup) == self._seen:
            return old
        view, complete = self._open_rollup(old), True
        folders = parse_delta(data)
        for folder, generation in sorted(folders.items(), key=lambda each: folder_key(each[0])):
            changed = self._changed(view, folder, generation)
            complete &= changed is not None
            view.changed += [changed] if changed else []
        self._seen = delta if complete else None, rollup
        current = {view.rollup.key, *(changed.key for changed in view.changed)}
        forget_copies(self._cache, current)
        return view

    def _open_rollup(self, old: _View | None) -> _View:
        """Opens the rollup. If it is missing, the last one stays in use."""
        try:
            head = read_head(self._tree)
            if old and old.rollup.key == head["id"]:
                return _View(old.rollup, old.generated_at)
            key = copy_rollup(self._tree, self._cache, head["id"])
            return _View(FoldedCopy(self._cache, key), head["generatedAt"])
        except NotFound:
            if old:
                return _View(old.rollup, old.generated_at)
            fold_folder(self._cache, _EMPTY, (), ())
            return _View(FoldedCopy(self._cache, _EMPTY), times.LONG_AGO)

    def _changed(self, view: _View, folder: Path, generation: str) -> _Changed | None:
        """A changed folder, folded; None while its manifest is being written."""
        rollup, items = view.rollup, list[Item]()
        start, end = rollup.range_of(folder)
        if generation:
            found = manifest.load(self._tree, folder, fresh=True)  # may be of a later generation
            generation, items = found.generated_at, found.items
            if not generation:
                return None
        name = f"{folder}\0{generation}\0{rollup.key}"
        key = blake3(name.encode()).hexdigest()[:20]
        fold_folder(self._cache, key, items, rollup.items(start, end))
        return _Changed(folder, start, end, key)


def _there(ask: Callable[[], Answer]) -> Answer | None:
    """Returns an answer about a file; None if the file is missing."""
    try:
        return ask()
    except NotFound:
        return None
