"""Queries over the rollup's folded copies: every term, anywhere in a word, whatever the case."""

from __future__ import annotations

import mmap
import os
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from lenslet import folding
from lenslet.errors import NotFound
from lenslet.folding import fold, fold_file, forget_generations, items_of, open_file
from lenslet.paths import ROLLUP, ROLLUP_DELTA, Path, folder_key
from lenslet.storage import Storage, Tree

_NEVER = "1970-01-01T00:00:00Z"
COUNTED = 1000  # beyond it `total` is not exact
_SLICE = 4 * 1024 * 1024  # bytes looked through before other threads may run
_COPY_SECONDS = 600.0  # for so long a copy of what a bucket had may be of use to another process
_OTHERS_SECONDS = 30.0  # how long the index process is given to fold what it wrote
_TERM = re.compile(r'(-?)(?:(tag|name|notes|path):)?(?:"([^"]*)"?|(\S+))')
_FIELDS = {"name": 1, "path": 2, "tag": 3, "notes": 4}


@dataclass(frozen=True, slots=True)
class Term:
    """One folded term: the field it is limited to (0: any) and whether it excludes."""

    text: bytes
    field: int = 0
    excludes: bool = False

    def matches(self, line: bytes) -> bool:
        where = line.split(b"\x1f")[self.field] if self.field else line
        return (self.text in where) != self.excludes


def parse(query: str) -> list[Term]:
    """The terms of a query: words, "phrases", `tag:` `name:` `notes:` `path:`, `-` to exclude."""
    terms = []
    for minus, name, phrase, word in _TERM.findall(query):
        text = fold(phrase or word).strip()
        if not text:
            continue
        if name == "tag":
            text = f"{folding.TAG}{text}{folding.TAG}"
        terms.append(Term(text.encode(), _FIELDS.get(name, 0), bool(minus)))
    return terms


class Segment:
    """One generation of the rollup or of its delta, open together with its folded copy."""

    def __init__(self, storage: Storage, cache: Tree, name: str, *, build: bool) -> None:
        """`NotFound` when the file is missing or torn, or not folded yet and not to `build`."""
        self.file, self.head, self.stat = open_file(storage, cache, name)
        try:
            self._fold = self._mapped(cache, "fold", build)
            self._terms = self._mapped(cache, "terms", build)
        finally:
            weakref.finalize(self, self.file.close)  # threads may still read when it is replaced

    def _mapped(self, cache: Tree, kind: str, build: bool) -> mmap.mmap:
        path = Path(f"{self.head['generation']}.{kind}")
        try:
            file, stat = cache.open(path)
        except NotFound:
            if not build:
                raise
            self.file.seek(0)
            fold_file(cache, self.head["generation"], self.file)
            file, stat = cache.open(path)
        with file:
            if not stat.size:
                return mmap.mmap(-1, 1)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def paths(self) -> frozenset[str]:
        """Every path that this segment speaks of."""
        self.file.seek(0)
        return frozenset(item["path"] for _, item in items_of(self.file))

    def item(self, line: bytes) -> tuple[bytes, Path]:
        """The JSON of the item that a folded line stands for, and its path."""
        start, size = folding.position(line), 2048
        while True:
            data = os.pread(self.file.fileno(), size, start)
            end = data.find(b"\n")
            if end >= 0 or len(data) < size:
                found = data[: end if end >= 0 else None].rstrip(b",")
                return found, Path(orjson.loads(found)["path"])
            size *= 8

    def hits(self, terms: list[Term], below: Path) -> Iterator[bytes]:
        """The folded lines below a folder that every term agrees with, in order."""
        start, end = self._range(below)
        texts = {term.text for term in terms if not term.excludes}
        rest = [term for term in terms if term.excludes or term.field]
        for first, last in self._lines_with(texts, start, end):
            line = self._fold[first:last]
            if all(term.matches(line) for term in rest):
                yield line

    def _lines_with(self, texts: set[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
        """Start and end of each line that holds all of some texts; of every line, for none.

        Whichever text comes next furthest away is leapt to: what the rarest does not share with
        the others costs nothing.
        """
        fold, found = self._fold, dict.fromkeys(texts, -1)
        while start < end:
            last = fold.find(b"\n", start)
            for text, at in found.items():
                if at < start:
                    at = found[text] = self._find(text, start, end)
                    if at < 0:
                        return
                if at > last:
                    start = fold.rfind(b"\n", last, at) + 1
                    break
            else:
                yield start, last
                start = last + 1

    def _find(self, seed: bytes, start: int, end: int) -> int:
        while start < end:
            stop = min(end, start + _SLICE)
            at = self._fold.find(seed, start, stop)
            if at >= 0 or stop == end:
                return at
            start = stop - len(seed) + 1
        return -1

    def _range(self, below: Path) -> tuple[int, int]:
        """Where the lines of a folder and of all below it start and end."""
        if not below:
            return 1, len(self._fold)
        start = self._bisect(lambda folder: folder_key(folder) >= folder_key(below))
        end = self._bisect(
            lambda folder: folder_key(folder) > folder_key(below) and not below.holds(folder)
        )
        return start, end

    def _bisect(self, reached: Any) -> int:
        """The start of the first line whose folder `reached` agrees to; lines are in its order."""
        low, high = 1, len(self._fold)
        while low < high:
            first = self._fold.rfind(b"\n", 0, (low + high) // 2) + 1
            last = self._fold.find(b"\n", first) + 1
            if reached(self.item(self._fold[first : last - 1])[1].parent):
                high = first
            else:
                low = last
        return low

    def suggestions(self, text: str) -> Iterator[tuple[str, str, int]]:
        """Kind, text and count of the tags that hold `text` and the words that begin with it."""
        wanted, data = text.encode(), self._terms
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line, start = data[start:end], end + 1
            kind, folded, shown, count = line.split(b"\t")
            if (wanted in folded) if kind == b"t" else folded.startswith(wanted):
                yield kind.decode(), shown.decode(), int(count)


class Search:
    """Answers queries from the newest rollup and delta that belong together."""

    def __init__(self, storage: Storage, cache: Tree) -> None:
        self._storage = storage
        self._cache = cache
        self._lock = threading.Lock()
        self._stale_since = 0.0
        self._asked = float("-inf")
        self._opened: tuple[list[Segment], frozenset[str]] = ([], frozenset())

    def find(
        self, query: str, below: Path, limit: int, offset: int
    ) -> tuple[list[bytes], int, bool, str]:
        """The JSON of `limit` hits from `offset` on, how many there are, whether there are more
        than were counted, and when the rollup was generated.
        """
        segments, covered = self._current()
        terms = parse(query)
        generated = segments[0].head["generatedAt"] if segments else _NEVER
        found: list[bytes] = []
        count, enough = 0, max(COUNTED, offset + limit)
        for item in self._items(segments, covered, terms, below):
            if count == enough:
                return found, count, True, generated
            if offset <= count < offset + limit:
                found.append(item)
            count += 1
        return found, count, False, generated

    def _items(
        self, segments: list[Segment], covered: frozenset[str], terms: list[Term], below: Path
    ) -> Iterator[bytes]:
        """Delta first; what it speaks of is not taken from the rollup."""
        if not terms:
            return
        for segment in segments:
            delta = "base" in segment.head
            for line in segment.hits(terms, below):
                item, path = segment.item(line)
                if delta:
                    yield orjson.dumps(folding.shown(orjson.loads(item)))
                elif not covered or _is_current(path, covered):
                    yield item

    def suggest(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Tags, then words of names, that go with what was typed; most frequent first."""
        counts: Counter[tuple[str, str]] = Counter()
        for segment in self._current()[0]:
            for kind, shown, count in segment.suggestions(fold(text).strip()):
                counts[kind, shown] += count
        ordered = sorted(counts.items(), key=lambda entry: (entry[0][0], -entry[1], entry[0][1]))
        return [{"text": shown, "count": count} for (_, shown), count in ordered if count > 0][
            :limit
        ]

    def _current(self) -> tuple[list[Segment], frozenset[str]]:
        """The open segments, brought up to date by one thread at a time."""
        if self._lock.acquire(blocking=not self._opened[0]):
            try:
                self._refresh(time.monotonic())
            finally:
                self._lock.release()
        return self._opened

    def _refresh(self, now: float) -> None:
        """Open newer files, both or neither; keep the old ones while the new are being folded."""
        far = self._storage.state.remote
        if now - self._asked < self._storage.fresh_seconds:
            return
        changed = self._changed()
        self._asked = now
        if not changed:
            self._stale_since = 0.0
            return
        self._stale_since = self._stale_since or now
        late = now - self._stale_since > _OTHERS_SECONDS
        build = far or late or not self._opened[0]  # on a bucket another host may have written it
        base = self._segment(ROLLUP, build)
        delta = self._segment(ROLLUP_DELTA, build)
        if not base and not delta:
            return  # the root is away, or they are being made again: the old ones still tell most
        together = delta and delta.head.get("base") == (base.head["generation"] if base else "")
        if not build and not together:
            return
        found = [segment for segment in (delta if together else None, base) if segment]
        self._opened = found, delta.paths() if delta and together else frozenset()
        if far:  # there may be no index process on this host to do it
            forget_generations(
                self._cache, {segment.head["generation"] for segment in found}, _COPY_SECONDS
            )
        self._stale_since = 0.0

    def _segment(self, name: str, build: bool) -> Segment | None:
        try:
            return Segment(self._storage, self._cache, name, build=build)
        except NotFound:
            return None

    def _changed(self) -> bool:
        seen = [self._rev(ROLLUP_DELTA), self._rev(ROLLUP)]
        known = {("base" in s.head): (s.stat.rev, s.stat.ctime_ns) for s in self._opened[0]}
        return seen != [known.get(True), known.get(False)]

    def _rev(self, name: str) -> tuple[str, int] | None:
        try:
            stat = self._storage.stat_derived(Path(name))
        except NotFound:
            return None
        return stat.rev, stat.ctime_ns


def _is_current(path: Path, covered: frozenset[str]) -> bool:
    """Whether the delta, which speaks of `covered`, leaves an item of the rollup as it is."""
    return path not in covered and not any(
        folding.gone_mark(folder) in covered for folder in path.ancestors() if folder
    )
