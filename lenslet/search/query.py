"""Answers queries: an item matches if it contains every term. Case and accents do not count."""

import collections
import contextlib
import heapq
import itertools
import logging
import operator
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson

from lenslet import times
from lenslet.errors import BadRequest, Foreign, LensletError, NotFound, one_line
from lenslet.library import manifest
from lenslet.paths import ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key, natural_key
from lenslet.search.changes import Changed, Line, fold_changes, without_garbage
from lenslet.search.rollup import (
    FIELD,
    KINDS,
    TAG,
    WORDS,
    Months,
    added_of,
    copy_rollup,
    count_below,
    empty_copy,
    encode_date,
    encode_item,
    entry,
    fold,
    folded_line,
    forget_copies,
    parse_delta,
    position_of,
    read_head,
)
from lenslet.storage.local import LocalTree, Scratch
from lenslet.storage.text import Text, find, map_file
from lenslet.storage.tree import Stat, Tree, is_ours

log = logging.getLogger("lenslet")

Answer = TypeVar("Answer")
SUGGESTED = ("tag", "name", "camera", "lens")  # the names of KINDS
COUNTED = 1000  # beyond it `total` is not exact
MOST_TERMS = 32
# While one thread reads what has changed, others answer from a view that was up to date so long
# ago, and wait so long at most for a newer one if theirs is older.
_OLD_SECONDS, _WAIT_SECONDS = 1.0, 2.0
_BATCH = 10_000  # lines that are counted at a time
_SLICE = 4 * 1024 * 1024  # bytes of lines that are counted at a time
_TERM = re.compile(r'(-?)(?:(tag|name|notes|path|camera|lens|date):)?(?:"([^"]*)"?|(\S+))')
_FIELDS = {"name": 1, "path": 2, "tag": 3, "notes": 4, "camera": 5, "lens": 6, "date": 7}
# The fields that hold nothing of what people write about a photo.
WORDLESS = frozenset(_FIELDS[name] for name in ("name", "path", "camera", "lens", "date"))
_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)
_EVERY_YEAR = re.compile(r"\*(-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))", re.ASCII)


@dataclass(frozen=True, slots=True)
class Term:
    """One folded term: the field it is limited to (0: any), and whether it excludes.

    `dates` are the first and the last date that match: each a year, a month or a day. `day` is a
    month and a day of any year.
    """

    text: bytes
    field: int = 0
    excludes: bool = False
    dates: tuple[bytes, bytes] | None = None
    day: bytes = b""

    def matches(self, line: bytes) -> bool:
        where = line.split(b"\x1f")[self.field] if self.field else line
        if self.day:
            return (where[4:8] == self.day) != self.excludes
        if self.dates is None:
            return (self.text in where) != self.excludes
        first, last = self.dates
        found = bool(where) and first <= where[: len(first)] and where[: len(last)] <= last
        return found != self.excludes


def parse(query: str) -> list[Term]:
    """Parses words, "phrases", terms of one field (`_FIELDS`), and `-` to exclude.

    Raises `BadRequest` for a date that is not a year, a month, a day, or two of them with `..`, or
    a day of every year (`*-12-24`).
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
    if every := _EVERY_YEAR.fullmatch(text):
        day = encode_date(every[1])
        return Term(day, _FIELDS["date"], excludes, None, day)
    first, dots, last = text.partition("..")
    if dots and (first or last):
        first, last = first or "0000", last or "9999"
    elif not dots:
        last = first
    if not all(map(_DATE.fullmatch, (first, last))):
        raise BadRequest(
            "q", f"date:{text} must be like 2024, 2024-07, *-12-24 or 2024-07-01..2024-07-15"
        )
    begin, end = encode_date(first), encode_date(last)
    common = next(begin[:n] for n in range(len(begin), -1, -1) if end.startswith(begin[:n]))
    return Term(FIELD.encode() + common, _FIELDS["date"], excludes, (begin, end))


class FoldedCopy:
    """A host's copy of the rollup: the items, and a folded line for each.

    Items and lines stay open, so that they can be read after another process removed them.
    """

    def __init__(self, cache: Tree, key: str) -> None:
        self.key = key
        with cache.open(Path(f"{key}.lines"))[0] as file:
            self.fold = map_file(file.fileno())
        items, _ = cache.open(Path(f"{key}.json"))
        self._items = items.fileno()
        weakref.finalize(self, items.close)  # threads may still read when it is replaced
        with cache.open(Path(f"{key}.terms"))[0] as file:
            self._months = Months.of(file)

    def item(self, line: bytes) -> bytes:
        """Returns the JSON of the item that a folded line stands for."""
        start, size = position_of(line), 2048
        while True:
            data = os.pread(self._items, size, start)
            end = data.find(b"\n")
            if end >= 0 or len(data) < size:
                return data[: end if end >= 0 else None].rstrip(b",")
            size *= 8

    def lines(self, start: int, end: int) -> list[Line]:
        """Returns where each folded line in a range starts, and the JSON of its item."""
        lines = self.fold[start:end].splitlines(keepends=True)
        if not lines:
            return []
        starts = itertools.accumulate(map(len, lines), initial=start)
        at = [position_of(line) for line in lines]
        data = os.pread(self._items, at[-1] - at[0], at[0])
        parts = [data[first - at[0] : last - at[0]] for first, last in itertools.pairwise(at)]
        texts = [part.partition(b"\n")[0].rstrip(b",") for part in parts]
        return list(zip(starts, [*texts, self.item(lines[-1])], strict=False))

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

    def months_below(self, folder: Path) -> Months:
        """Counts the images of a folder and of all folders below it by month."""
        if not folder:
            return self._months
        found = Months()
        start, end = self.range_below(folder)
        while start < end:
            stop = self.fold.find(b"\n", min(start + _SLICE, end) - 1) + 1
            found.add_lines(self.fold[start:stop])
            start = stop
        return found

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


def _lines_with(
    fold: Text, texts: set[bytes], start: int, end: int, old: Sequence[tuple[int, int]] = ()
) -> Iterator[tuple[int, int]]:
    """Yields start and end of each line in a range that contains all texts.

    Lines in one of the `old` ranges, which are in order, do not count. If a text next occurs in a
    later line, no line before contains all texts: continue there.
    """
    ranges = iter((*old, (end, end)))
    first, last = next(ranges)  # the first that does not end before the line
    while start < end:
        agreed = 0
        for text in itertools.cycle(texts):
            if agreed == len(texts):
                break
            at = find(fold, text, start, end)
            if at < 0:
                return
            later = fold.rfind(b"\n", start, at) + 1
            start, agreed = (later, 1) if later else (start, agreed + 1)
        while last <= start:
            first, last = next(ranges)
        if first <= start:
            start = last
            continue
        stop = fold.find(b"\n", start)
        yield start, stop
        start = stop + 1


@dataclass(frozen=True, slots=True)
class _View:
    """A rollup, and the folders that have changed since, in order, with their log and its text."""

    rollup: FoldedCopy
    generated_at: str
    log: Scratch
    text: Text
    changed: list[Changed]


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the hits are wanted, in which order: `folder`, `name`, `date` or `added`."""

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


Hit = tuple[Changed | None, bytes]  # a folded line, and the changed folder it is in


def _item(view: _View, hit: Hit) -> bytes:
    changed, line = hit
    return changed.item(view.text, line) if changed else view.rollup.item(line)


def _ordered(hits: Iterator[Hit], page: Page) -> tuple[list[Hit], int]:
    """Returns the hits of a page, and how many there are. Items without a date come last."""
    numbers = itertools.count()
    counted = (hit for hit, _ in zip(hits, numbers, strict=False))
    end = page.offset + page.limit

    def key(hit: Hit) -> Any:
        line = hit[1]
        if page.sort == "added":
            return added_of(line)
        if page.sort == "date":
            date = line.rpartition(FIELD.encode())[2]
            return (not date) != page.descending, date
        return natural_key(line.split(FIELD.encode())[_FIELDS["name"]].decode())

    if page.sort == "folder":
        found = list(collections.deque(counted, maxlen=end))[::-1]
    elif page.descending:
        found = heapq.nlargest(end, counted, key)
    else:
        found = heapq.nsmallest(end, counted, key)
    return found[page.offset :], next(numbers)


class Search:
    """Answers queries from the newest rollup and delta. Safe for threads."""

    def __init__(self, tree: Tree, cache: LocalTree) -> None:
        self._tree = tree
        self._cache = cache
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._fresh_seconds = tree.cache.seconds if tree.cache else 0.0
        self._seen: tuple[Stat | None, Stat | None] = (None, None)
        self._view: _View | None = None

    def find(self, query: str, below: Path | None, page: Page, *, wordless: bool = False) -> Found:
        """Finds items below a folder, or everywhere if that is None.

        An empty query finds every item below the folder. Without a folder it finds nothing. If it
        is `wordless`, no time is spent on what people write, because that would tell of it.
        """
        terms = parse(query)
        return self._with_view(lambda view: self._find(view, terms, below, page, wordless))

    def finds(self, query: str, image: Path) -> bool:
        """True if a query finds an image, by what its manifest says now."""
        item = manifest.find(self._tree, image)
        line = folded_line(entry(item), 0).rstrip(b"\n") if item else b""
        return bool(line) and all(term.matches(line) for term in parse(query))

    def _with_view(self, call: Callable[[_View], Answer]) -> Answer:
        """Calls with the current view, and once more if the cache has lost one of its files."""
        try:
            return call(self._current())
        except NotFound:
            self._view = None
            return call(self._current())

    def _find(
        self, view: _View, terms: list[Term], below: Path | None, page: Page, wordless: bool
    ) -> Found:
        hits: Iterator[Hit] = iter(())
        if terms or below is not None:
            hits = self._hits(view, terms, below or ROOT, wordless)
        end, count, more = page.offset + page.limit, 0, False
        if page.sort != "folder" or page.descending:
            found, count = _ordered(hits, page)
        else:
            found = []
            for hit in hits:
                if count == max(COUNTED, end):
                    more = True
                    break
                if page.offset <= count < end:
                    found.append(hit)
                count += 1
        return Found([_item(view, hit) for hit in found], count, more, view.generated_at)

    def _hits(self, view: _View, terms: list[Term], below: Path, wordless: bool) -> Iterator[Hit]:
        """Yields the lines of the rollup and those that replace some of them, in order.

        Lines that hold a text anywhere are found quickly, and only they are split into fields. In
        a `wordless` search these are dates alone, whose letters are in no other field.
        """
        changed = [each for each in view.changed if below.holds(each.folder)]
        old = [(start, end) for each in changed for start, end, *_ in each.splices if start < end]
        quick = [term for term in terms if not wordless or term.dates or term.day]
        texts = {term.text for term in quick if not term.excludes}
        rest = [term for term in terms if term.excludes or term.field or wordless]

        def matching(fold: Text, lines: Iterator[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
            for first, last in lines:
                line = fold[first:last]
                if all(term.matches(line) for term in rest):
                    yield first, line

        fold, log = view.rollup.fold, view.text
        unchanged = matching(fold, _lines_with(fold, texts, *view.rollup.range_below(below), old))
        following = next(unchanged, None)
        for each in changed:
            for start, _, first, last in each.lines():
                if not all(find(log, text, first, last) >= 0 for text in texts):
                    continue
                for _, line in matching(log, _lines_with(log, texts, first, last)):
                    while following and following[0] < start:
                        yield None, following[1]
                        following = next(unchanged, None)
                    yield each, line
        if following:
            yield None, following[1]
        for _, line in unchanged:
            yield None, line

    def timeline(self, query: str, below: Path, *, wordless: bool = False) -> Months:
        """Counts what a query finds below a folder, or everything there, by month; see `find`."""
        terms = parse(query)
        return self._with_view(lambda view: self._timeline(view, terms, below, wordless))

    def _timeline(self, view: _View, terms: list[Term], below: Path, wordless: bool) -> Months:
        found = Months()
        if terms:
            hits = (line for _, line in self._hits(view, terms, below, wordless))
            while lines := list(itertools.islice(hits, _BATCH)):
                found.add_lines(b"\n".join(lines))
            return found
        found.update(view.rollup.months_below(below))
        for each in view.changed:
            if below.holds(each.folder):
                found.update(each.months)
        return found

    def suggest(self, text: str, limit: int, kind: str = "") -> list[dict[str, Any]]:
        """Suggests tags that contain a text, words of file names that begin with it, and cameras
        and lenses that contain it.

        They come in this order, of each the most frequent first; or those of one `kind` alone.
        """
        wanted = fold(text).strip().encode()
        kinds = (KINDS[SUGGESTED.index(kind)] if kind else KINDS).encode()
        return self._with_view(lambda view: self._suggest(view, wanted, limit, kinds))

    def _suggest(
        self, view: _View, wanted: bytes, limit: int, kinds: bytes
    ) -> list[dict[str, Any]]:
        counts: dict[tuple[int, bytes], int] = {}
        for text in self._terms(view):
            for line in [line for line in text.splitlines() if wanted in line]:
                if line[:1] not in kinds:
                    continue
                kind, folded, term, count = line.split(b"\t")
                if folded.startswith(wanted) if kind == WORDS.encode() else wanted in folded:
                    key = KINDS.index(kind.decode()), term
                    counts[key] = counts.get(key, 0) + int(count)
        ordered = ((kind, -count, term) for (kind, term), count in counts.items() if count > 0)
        return [
            {"text": term.decode(), "count": -less, "kind": SUGGESTED[kind]}
            for kind, less, term in heapq.nsmallest(limit, ordered)
        ]

    def count_below(self, folder: Path) -> dict[str, int]:
        """Counts the images in and below each subfolder of a folder, unless it has none."""
        found = collections.Counter[str]()
        for text in self._with_view(self._terms):
            found.update(count_below(folder, text))
        return dict(+found)

    def _terms(self, view: _View) -> list[bytes]:
        """The counts of the rollup, and those that changed folders add to them."""
        copied, _ = self._cache.read(Path(f"{view.rollup.key}.terms"))
        return [copied, *(each.terms_of(view.text) for each in view.changed)]

    # The view

    def _current(self) -> _View:
        """The current view. One thread brings it up to date.

        Others use the old one, if that was up to date a second ago. Else they wait, but not long.
        """
        view = self._view
        is_old = time.monotonic() - self._checked > _OLD_SECONDS
        if self._lock.acquire(timeout=-1 if view is None else is_old * _WAIT_SECONDS):
            try:
                view = self._view
                if not view or time.monotonic() - self._checked >= self._fresh_seconds:
                    view = self._view = self._renewed(view)
                    self._checked = time.monotonic()
            finally:
                self._lock.release()
        assert view  # without an old view, this thread has made one
        return view

    def _renewed(self, old: _View | None) -> _View:
        """Brings a view up to date, or returns it as it is while that fails."""
        try:
            return self._refresh(old)
        except LensletError as error:
            if old is None or isinstance(error, Foreign):
                raise
            log.warning("search answers from an old rollup: %s", one_line(error))
            return old

    def _refresh(self, old: _View | None) -> _View:
        """Reads the delta before the rollup: a folder that has left the delta is in the rollup.

        `Foreign` if the delta is another program's: then nothing tells what has changed.
        """
        data, delta, rollup = b"", None, None
        with contextlib.suppress(NotFound):
            data, delta = self._tree.read(Path(ROLLUP_DELTA))
        if delta is None or not is_ours(ROLLUP_DELTA, data):
            self._tree.own_rev(Path(ROLLUP_DELTA))  # in a root under STATE_DIR it may be
        with contextlib.suppress(NotFound):
            rollup = self._tree.stat(Path(ROLLUP))
        if old and (delta, rollup) == self._seen:
            return old
        view = self._open_rollup(old)
        known = {each.folder: each for each in view.changed}
        changed, complete = list[Changed](), True
        for folder, generation in parse_delta(data).items():
            each = known.get(folder)
            if not each or each.generation != generation:
                new = self._changed(view, folder, generation, each)
                complete &= new is not None
                each = new or each  # until its manifest is complete
            changed += [each] if each else []
        changed.sort(key=operator.attrgetter("order"))
        log, changed = without_garbage(view.log, changed)
        self._seen = delta if complete else None, rollup
        return _View(view.rollup, view.generated_at, log, log.text(), changed)

    def _open_rollup(self, old: _View | None) -> _View:
        """Opens the rollup. If it is missing, the last one stays in use."""
        try:
            head = read_head(self._tree)
            if old and old.rollup.key == head["id"]:
                return old
            key, generated_at = (
                copy_rollup(self._tree, self._cache, head["id"]),
                head["generatedAt"],
            )
        except NotFound:
            if old:
                return old
            key, generated_at = empty_copy(self._cache), times.LONG_AGO
        copy = FoldedCopy(self._cache, key)
        forget_copies(self._cache, key)
        return _View(copy, generated_at, self._cache.scratch(), b"", [])

    def _changed(
        self, view: _View, folder: Path, generation: str, known: Changed | None
    ) -> Changed | None:
        """A changed folder, folded; None while its manifest is being written."""
        new = list[bytes]()
        if generation:
            generation, new = self._items(folder)
            if not generation:
                return None
        start, end = (known.start, known.end) if known else view.rollup.range_of(folder)
        text, splices, terms, months = fold_changes(view.rollup.lines(start, end), end, new)
        order = known.order if known else folder_key(folder)
        base = view.log.append(text)
        where = start, end, splices, base, terms, len(text)
        return Changed(folder, order, generation, *where, months)

    def _items(self, folder: Path) -> tuple[str, list[bytes]]:
        """Returns the generation of a folder's manifest, and its items as lines of a rollup.

        The generation may be later than in the delta. It is "" while the manifest is incomplete.
        """
        found = manifest.load(self._tree, folder, fresh=True)
        return found.generated_at, [*filter(None, map(encode_item, found.items))]
