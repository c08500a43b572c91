"""Answers queries: an item matches if it contains every term. Case and accents do not count."""

import collections
import contextlib
import heapq
import itertools
import logging
import operator
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import orjson

from lenslet.errors import (
    BadRequest,
    Denied,
    Foreign,
    LensletError,
    NotFound,
    Overtaken,
    one_line,
)
from lenslet.library import manifest
from lenslet.paths import ROLLUP, ROOT, Path, folder_key, natural_key
from lenslet.search.format import (
    FACETS,
    FIELD,
    QUERIED,
    SUGGESTED,
    TAG,
    FoldedCopy,
    Months,
    Terms,
    count_below,
    encode_date,
    encode_item,
    facets_of,
    field_of,
    fold,
    folded_line,
    parse_delta,
    position_of,
    read_delta,
    read_head,
    with_about,
)
from lenslet.search.writer import copy_rollup, forget_copies
from lenslet.storage.local import LocalTree
from lenslet.storage.text import Text, find
from lenslet.storage.tree import Stat, Tree

log = logging.getLogger("lenslet")

COUNTED = 1000  # beyond it `total` is not exact
MOST_TERMS = 32
_WAIT_SECONDS = 2.0  # while one thread reads what has changed, others wait, and use the old view
_BATCH = 10_000  # lines that are counted at a time
_TERM = re.compile(rf'(-?)(?:((?i:{"|".join(QUERIED)})):)?(?:"([^"]*)"?|(\S+))')
# The fields that hold nothing of what people write about a photo.
WORDLESS = frozenset({"name", "path", "camera", "lens", "date"})
_DATE = re.compile(r"\d{4}(-(0\d|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)
_EVERY_YEAR = re.compile(r"\*(-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))", re.ASCII)


@dataclass(frozen=True, slots=True)
class Term:
    """One folded term: the field it is limited to, "" for none, and whether it excludes.

    `dates` are the first and the last date that match: each a year, a month or a day. A term of no
    field matches its text or its dates. Without them, the text of a date is a month and a day of
    any year.
    """

    text: bytes
    field: str = ""
    excludes: bool = False
    dates: tuple[bytes, bytes] | None = None

    @property
    def texts(self) -> tuple[bytes, ...]:
        """A line that matches has one of these texts, unless the term excludes."""
        if self.dates and not self.field:
            return self.text, FIELD.encode() + self.dates[0]
        return (self.text,)

    def matches(self, line: bytes) -> bool:
        where = field_of(line, self.field) if self.field else line
        if self.field == "date":
            found = self._matches_date(where)
        else:
            found = self.text in where
            if self.dates and not found:
                found = self._matches_date(field_of(line, "date"))
        return found != self.excludes

    def _matches_date(self, date: bytes) -> bool:
        if not self.dates:
            return date[4:8] == self.text
        first, last = self.dates
        return bool(date) and first <= date[: len(first)] and date[: len(last)] <= last


def typed_terms(query: str) -> Iterator[dict[str, Any]]:
    """Yields the terms of a query as they were typed, without those that ask for nothing.

    Each has its whole `text`, its `field` or "", its `word`, and whether it excludes, `not`.
    """
    for found in _TERM.finditer(query):
        minus, name, phrase, word = found.groups("")
        if fold(phrase or word).strip():
            term = {"text": found[0], "field": name.lower(), "word": phrase or word}
            yield {**term, "not": bool(minus)}


def parse(query: str) -> list[Term]:
    """Parses words, "phrases", terms of one field of `Line`, and `-` to exclude.

    A word that is a year, a month or a day also asks for when an image was taken.

    Raises `BadRequest` for a date that is not a year, a month, a day, or two of them with `..`, or
    a day of every year (`*-12-24`).
    """
    terms = []
    for typed in typed_terms(query):
        text, name, excludes = fold(typed["word"]).strip(), typed["field"], typed["not"]
        dates = None
        if name == "date":
            terms.append(_date_term(text, excludes=excludes))
            continue
        if name == "tag":
            text = f"{TAG}{text}{TAG}"
        if _DATE.fullmatch(fold(typed["text"].removeprefix("-"))):  # no field, no phrase
            dates = encode_date(text), encode_date(text)
        terms.append(Term(text.encode(), name, excludes, dates))
    if len(terms) > MOST_TERMS:
        raise BadRequest("q", f"more than {MOST_TERMS} terms")
    return list(dict.fromkeys(terms))


def _date_term(text: str, *, excludes: bool) -> Term:
    """A term for when an image was taken. Its `text` is what the dates have in common."""
    if every := _EVERY_YEAR.fullmatch(text):
        return Term(encode_date(every[1]), "date", excludes)
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
    return Term(FIELD.encode() + common, "date", excludes, (begin, end))


class Hit(NamedTuple):
    """A folded line that matches, and where it starts.

    A new one has the start of the line of the rollup that it follows, and its JSON as `item`.
    """

    place: int
    line: bytes
    item: bytes = b""


def matching(
    text: Text, terms: list[Term], start: int, end: int, gone: Container[int] = ()
) -> Iterator[Hit]:
    """Yields the lines of a range that match all terms.

    Those that start where `gone` says do not count. Lines that hold the texts of the terms anywhere
    are found quickly, and only they are split.
    """
    found = _lines_with(text, [term.texts for term in terms if not term.excludes], start, end)
    others = [term for term in terms if term.excludes or term.field or term.dates]
    for at, line in found:
        if at not in gone and (not others or all(term.matches(line) for term in others)):
            yield Hit(at, line)


def _lines_with(
    text: Text, wanted: list[tuple[bytes, ...]], start: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a range that may match, and where each starts.

    Each of `wanted` is one text, or several that may stand for it. Goes from `start` to the next
    line with the first, from there to the next with the second, and so on: no line before has all
    of them. The line that is reached is tested for each single text; the caller tests the others.
    """
    finders = [_finder(text, each) for each in wanted]
    before = [each[0] for each in wanted[:-1] if len(each) == 1]  # the line has the last one
    while start < end:
        for find_next in finders:
            at = find_next(start, end)
            if at < 0:
                return
            start = text.rfind(b"\n", start, at) + 1 or start
        stop = text.find(b"\n", start)
        line = text[start:stop]
        for each in before:
            if each not in line:
                break
        else:
            yield start, line
        start = stop + 1


def _finder(text: Text, wanted: tuple[bytes, ...]) -> Callable[[int, int], int]:
    """Returns a function as `find` that finds the next of some texts; its ranges only advance.

    Where each text comes next is kept: a rare one is far away, and would be looked for each time.
    """
    if len(wanted) == 1:
        return partial(find, text, wanted[0])
    places = dict.fromkeys(wanted, -1)

    def find_next(start: int, end: int) -> int:
        for each, place in places.items():
            if place < start:
                at = find(text, each, start, end)
                places[each] = at if at >= 0 else end
        at = min(places.values())
        return at if at < end else -1

    return find_next


# What has changed since the rollup


@dataclass(frozen=True, slots=True)
class Recent:
    """How a folder differs from the rollup.

    `gone` are the starts of lines of the rollup that no longer count. `lines` are the folded lines
    of new items. The position of such a line is an index into `items`, which has the start of the
    line of the rollup before it, and its JSON. `terms` are the differences of the counts.
    """

    folder: Path
    generation: str
    gone: set[int]
    lines: bytes
    items: list[tuple[int, bytes]]
    terms: bytes

    def hits(self, terms: list[Term]) -> Iterator[Hit]:
        for hit in matching(self.lines, terms, 0, len(self.lines)):
            place, item = self.items[position_of(hit.line)]
            yield Hit(place, hit.line, item)


def differences(copy: FoldedCopy, folder: Path, generation: str, new: Iterable[bytes]) -> Recent:
    """Compares the items of a folder, as lines of a rollup, with those in the rollup."""
    start, end = copy.range_of(folder)
    known = {copy.item(hit.line): hit.place for hit in matching(copy.lines, [], start, end)}
    place, kept = start - 1, set[int]()
    lines, items, terms = bytearray(), list[tuple[int, bytes]](), Terms()
    for text in new:
        at = known.get(text, -1)
        if at > place:  # it is as it was, and in the same order
            place = at
            kept.add(at)
        else:
            item = orjson.loads(text)
            terms.add(item)
            lines += folded_line(item, len(items))
            items.append((place, text))
    gone = {at: text for text, at in known.items() if at not in kept}
    for text in gone.values():
        terms.add(orjson.loads(text), -1)
    return Recent(folder, generation, set(gone), bytes(lines), items, terms.encode())


Counted = collections.Counter[tuple[str, bytes, bytes]]  # by kind, folded text and text


@dataclass(frozen=True, slots=True)
class View:
    """A copy of the rollup, and the folders that have changed since, in order."""

    copy: FoldedCopy
    changed: list[Recent]
    gone: set[int]  # of all of them

    def hits(self, terms: list[Term], below: Path) -> Iterator[Hit]:
        """Yields what matches below a folder, in the order of folders and names."""
        where = self.copy.range_of(below, below=True)
        old = matching(self.copy.lines, terms, *where, self.gone)
        changed = (each for each in self.changed if below.holds(each.folder))
        new = itertools.chain.from_iterable(each.hits(terms) for each in changed)
        return heapq.merge(old, new, key=operator.itemgetter(0))

    def item(self, hit: Hit) -> bytes:
        """Returns the JSON of a hit."""
        return hit.item or self.copy.item(hit.line)

    def months(self, below: Path) -> Months:
        """Counts the images below a folder by month."""
        found = self.copy.months_below(below)
        for each in self.changed:
            if below.holds(each.folder):
                found.add_terms(each.terms)
        return found

    def terms(self) -> list[bytes]:
        """The counts of the rollup, and those that changed folders add to them."""
        return [self.copy.terms[:], *(each.terms for each in self.changed)]

    def count(self, kinds: Iterable[str], wanted: bytes = b"") -> Counted:
        """Counts the terms of these kinds whose folded text contains what is `wanted`."""
        starts = tuple(f"{kind}\t".encode() for kind in kinds)
        found: Counted = collections.Counter()
        for terms in self.terms():
            for line in terms.splitlines():
                if wanted in line and line.startswith(starts):
                    kind, folded, text, count = line.split(b"\t")
                    if wanted in folded:
                        found[kind.decode(), folded, text] += int(count)
        return +found


# Answers


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the hits are wanted, in which order: `folder`, `name`, `date` or `added`."""

    limit: int = 100
    offset: int = 0
    sort: str = "folder"
    descending: bool = False


class Hits(NamedTuple):
    """The JSON of a page of items.

    `total` is the number of hits; if `more` is true, there are more than that. `generated_at`
    is when the rollup was generated.
    """

    items: list[bytes]
    total: int
    more: bool
    generated_at: str


def page_of(hits: Iterator[Hit], page: Page) -> tuple[list[Hit], int, bool]:
    """Returns the hits of a page, how many hits there are, and whether there are more than that.

    Items without a date come last.
    """
    total, end = 0, page.offset + page.limit

    def counted() -> Iterator[Hit]:
        nonlocal total
        for hit in hits:
            total += 1
            yield hit

    def key(hit: Hit) -> Any:
        if page.sort == "name":
            return natural_key(field_of(hit.line, "name").decode())
        when = field_of(hit.line, page.sort)
        return (not when) != page.descending, when

    if page.sort == "folder" and not page.descending:
        most = itertools.islice(counted(), max(end, COUNTED))
        found = list(itertools.islice(most, page.offset, end))
        collections.deque(most, maxlen=0)  # to count them
        return found, total, next(hits, None) is not None
    if page.sort == "folder":
        found = list(collections.deque(counted(), maxlen=end))[::-1]
    elif page.descending:
        found = heapq.nlargest(end, counted(), key)
    else:
        found = heapq.nsmallest(end, counted(), key)
    return found[page.offset :], total, False


def matching_lines(items: Iterable[bytes], query: str) -> dict[str, str]:
    """Returns the first line of the title, caption or notes that has a word of a query, by path.

    `items` are the JSON of items. Those without such a line are left out.
    """
    wanted = [each for each in parse(query) if each.field in ("", "notes") and not each.excludes]
    words = [each.text.decode() for each in wanted]
    found = {}
    for item in map(orjson.loads, items if words else ()):
        texts = filter(None, map(item.get, ("title", "caption", "notes")))
        lines = "\n".join(texts).splitlines()
        has_word = (line for line in lines if any(word in fold(line) for word in words))
        if line := next(has_word, ""):
            found[item["path"]] = line
    return found


class Search:
    """Answers queries from the newest rollup and delta. Safe for threads."""

    def __init__(self, tree: Tree, cache: LocalTree) -> None:
        self._tree = tree
        self._cache = cache
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._fresh_seconds = tree.cache.seconds if tree.cache else 0.0
        self._seen: tuple[str | None, Stat | None] = (None, None)
        self._view: View | None = None

    def find(self, query: str, below: Path | None, page: Page, within: Sequence[Term] = ()) -> Hits:
        """Finds items below a folder, or everywhere if that is None; all terms `within` match too.

        An empty query finds every item below the folder. Without a folder it finds nothing.
        """
        terms, view = [*within, *parse(query)], self._current()
        hits = view.hits(terms, below or ROOT) if terms or below is not None else iter(())
        found, total, more = page_of(hits, page)
        return Hits(list(map(view.item, found)), total, more, view.copy.generated_at)

    def timeline(self, query: str, below: Path, within: Sequence[Term] = ()) -> Months:
        """Counts what a query finds below a folder, or everything there, by month."""
        terms, view = [*within, *parse(query)], self._current()
        if not terms:
            return view.months(below)
        found, lines = Months(), (hit.line for hit in view.hits(terms, below))
        while batch := list(itertools.islice(lines, _BATCH)):
            found.add_lines(b"\n".join(batch))
        return found

    def suggest(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Suggests tags that contain a text, words of file names that begin with it, and cameras
        and lenses that contain it.

        They come in this order, of each the most frequent first.
        """
        wanted = fold(text).strip().encode()
        counts = self._current().count(SUGGESTED, wanted)
        found = (
            (SUGGESTED.index(kind), -count, term)
            for (kind, folded, term), count in counts.items()
            if kind != "name" or folded.startswith(wanted)
        )
        return [
            {"text": term.decode(), "count": -less, "kind": SUGGESTED[of]}
            for of, less, term in heapq.nsmallest(limit, found)
        ]

    def facets(self, query: str, below: Path, limit: int) -> list[dict[str, Any]]:
        """Counts the tags, cameras and lenses of what a query finds below a folder.

        They come in this order, of each the `limit` most frequent. Those that differ in case and
        accents alone count as one, which is written as most photos have it.
        """
        terms, view = parse(query), self._current()
        everything = view.count(FACETS)
        texts = {each[:2]: each[2] for each, _ in reversed(everything.most_common())}
        counts = {kind: collections.Counter[bytes]() for kind in FACETS}
        if terms or below:
            lines = (hit.line for hit in view.hits(terms, below))
            while batch := list(itertools.islice(lines, _BATCH)):
                for kind, found in facets_of(batch):
                    counts[kind].update(found)
        else:
            for (kind, folded, _), count in everything.items():
                counts[kind][folded] += count
        ordered = {
            kind: [(-n, text) for text, n in counts[kind].items() if text] for kind in FACETS
        }
        return [
            {"text": texts.get((kind, folded), folded).decode(), "count": -less, "kind": kind}
            for kind in FACETS
            for less, folded in heapq.nsmallest(limit, ordered[kind])
        ]

    def count_below(self, folder: Path) -> dict[str, int]:
        """Counts the images in and below each subfolder of a folder, unless it has none."""
        found = collections.Counter[str]()
        for terms in self._current().terms():
            found.update(count_below(folder, terms))
        return dict(+found)

    def _current(self) -> View:
        """Returns the view, after one thread has brought it up to date, or as it is if that fails.

        `Foreign` if the delta is another program's: then nothing says what has changed.
        """
        if self._lock.acquire(timeout=_WAIT_SECONDS if self._view else -1):
            try:
                if not self._view or time.monotonic() - self._checked >= self._fresh_seconds:
                    self._view = self._renewed(self._view)
                    self._checked = time.monotonic()
            except LensletError as error:
                if self._view is None or isinstance(error, Foreign):
                    raise
                log.warning("search answers from an old rollup: %s", one_line(error))
            finally:
                self._lock.release()
        assert self._view  # without a view, this thread has made one
        return self._view

    def _renewed(self, old: View | None) -> View:
        """Reads the delta before the rollup: a folder that has left the delta is in the rollup."""
        data, seen = read_delta(self._tree)
        rollup = None
        with contextlib.suppress(NotFound):
            rollup = self._tree.stat(Path(ROLLUP))
        if old and (seen, rollup) == self._seen:
            return old
        copy = self._open_rollup(old.copy if old else None)
        known = {each.folder: each for each in old.changed} if old and old.copy is copy else {}
        changed, complete = list[Recent](), True
        for folder, generation in parse_delta(data).items():
            each = known.get(folder)
            if not each or each.generation != generation:
                new = self._compared(copy, folder, generation)
                complete &= new is not None
                each = new or each  # until its manifest is complete
            changed += [each] if each else []
        changed.sort(key=lambda each: folder_key(each.folder))
        self._seen = seen if complete else None, rollup
        gone = set[int]().union(*(each.gone for each in changed))
        return View(copy, changed, gone)

    def _open_rollup(self, old: FoldedCopy | None) -> FoldedCopy:
        """Opens the copy of the rollup. If there is no rollup, the last one stays in use."""
        try:
            rollup_id = read_head(self._tree)[0]["id"]
            if old and old.key == rollup_id:
                return old
            key = copy_rollup(self._tree, self._cache, rollup_id)
        except NotFound:
            return old or FoldedCopy()
        try:
            copy = FoldedCopy.open(self._cache, key)
        except NotFound:  # the index process has just replaced it
            return self._open_rollup(old)
        forget_copies(self._cache, key)
        return copy

    def _compared(self, copy: FoldedCopy, folder: Path, generation: str) -> Recent | None:
        """Compares a folder with the rollup; None while its manifest is being written."""
        if not generation:
            return differences(copy, folder, "", ())
        # Denied: the index process is about to see that.
        with contextlib.suppress(NotFound, Overtaken, Denied):
            now, about, items = manifest.stream(self._tree, folder)  # maybe later than in the delta
            new = filter(None, map(encode_item, with_about(items, about)))
            return differences(copy, folder, now, new)
        return None
