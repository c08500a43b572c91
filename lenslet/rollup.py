"""The rollup of all items, what has changed since, and the folded copies that search reads.

`_rollup.json` and `_rollup_delta.json` hold one item a line. A folded copy, in the host's cache
and named after the generation it was made from, has a line for each of them: where the item stands
in its file, then its name, folder, tags and notes without case and accents. A terms file holds the
tags and the words of names, most frequent first.
"""

from __future__ import annotations

import re
import secrets
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import orjson

from lenslet import manifest, times
from lenslet.errors import NotFound
from lenslet.manifest import Item
from lenslet.paths import ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key, natural_key
from lenslet.storage import Storage, Tree

FIELD, TAG = "\x1f", "\x1e"  # separators in a folded line; folded text has no control characters
_SHOWN = ("path", "name", "type", "w", "h", "size", "rev", "tags", "notes")
_CONTROL = re.compile(r"[\x00-\x1f]+")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MOST_WORDS = 50_000
# A position in letters that folded text never holds, so that no search finds it.
_CODE = str.maketrans("0123456789", "GHIJKLMNOP")
_DECODE = bytes.maketrans(b"GHIJKLMNOP", b"0123456789")
_TAIL = b"\n]}\n"


def fold(text: str) -> str:
    """`text` without case and accents, each run of control characters made one space."""
    if text.isascii():
        return _CONTROL.sub(" ", text).lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return _CONTROL.sub(" ", plain.casefold())


def shown(item: Item) -> Item:
    """What the rollup and search tell of an item."""
    return {key: item.get(key, [] if key == "tags" else "") for key in _SHOWN}


def folded_line(item: Item, position: int) -> bytes:
    path = Path(item["path"])
    tags = TAG + "".join(fold(tag) + TAG for tag in item["tags"])
    where = f"{position:X}".translate(_CODE)
    fields = (where, fold(path.name), fold(path.parent), tags, fold(item["notes"]))
    return FIELD.join(fields).encode() + b"\n"


def position(line: bytes) -> int:
    """Where the item of a folded line stands in its file, in bytes."""
    return int(line[: line.index(b"\x1f")].translate(_DECODE), 16)


class _Terms:
    """Counts tags, as they are written, and the words of names."""

    def __init__(self) -> None:
        self._tags: Counter[str] = Counter()
        self._words: Counter[str] = Counter()

    def add(self, item: Item) -> None:
        """Count an item; one of a delta counts for what it adds to what it `was` in the rollup."""
        self._tags.update(item.get("tags", ()))
        words = set(_WORDS.findall(fold(Path(item["path"]).name.rpartition(".")[0])))
        was = item.get("was")
        if was is not None:
            self._tags.subtract(was)
        if was is None:
            self._words.update(words)
        elif "gone" in item:
            self._words.subtract(words)
        if len(self._words) > 2 * _MOST_WORDS:  # names that are hashes: keep what comes again
            self._words = Counter(dict(self._words.most_common(_MOST_WORDS)))

    def encode(self) -> bytes:
        """Lines of kind (`t` or `w`), folded text, text as shown and count."""
        lines = [
            f"{kind}\t{fold(text)}\t{_CONTROL.sub(' ', text)}\t{count}\n"
            for kind, counter in (("t", self._tags), ("w", self._words))
            for text, count in counter.most_common()
            if count
        ]
        return "".join(lines).encode()


def head_of(file: BinaryIO) -> dict[str, Any] | None:
    """What the first line of a rollup or delta says; None when it is torn or not ours."""
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_TAIL)))
    tail = file.read(len(_TAIL))
    file.seek(0)
    line = file.readline(4096)
    if not line.startswith(b'{"v":1,') or not tail.endswith(b"]}\n"):
        return None
    try:
        head: dict[str, Any] = orjson.loads(line.rstrip(b"\n") + b"]}")
    except orjson.JSONDecodeError:
        return None
    return head if {"generation", "generatedAt"} <= head.keys() else None


def items_of(file: BinaryIO) -> Iterator[tuple[int, Item]]:
    """Each item of an open rollup or delta, and where its line starts."""
    start = len(file.readline())
    for line in file:
        if line.startswith(b"{"):
            yield start, orjson.loads(line.rstrip(b",\n"))
        start += len(line)


def fold_file(cache: Tree, generation: str, file: BinaryIO) -> None:
    """Keep the folded copy of an open rollup or delta, and its terms."""
    terms = _Terms()

    def pieces() -> Iterator[bytes]:
        yield b"\n"
        for where, item in items_of(file):
            if not item["path"].endswith("/"):
                terms.add(item)
            if "gone" not in item:
                yield folded_line(item, where)

    cache.write(Path(f"{generation}.fold"), _joined(pieces()))
    cache.write(Path(f"{generation}.terms"), terms.encode())


def gone_mark(folder: Path) -> str:
    """How a delta names a folder that is gone with all its items: as a path that ends with `/`."""
    return f"{folder}/"


def forget_generations(cache: Tree, keep: set[str]) -> None:
    """Remove folded copies of other generations; who has one open goes on reading it."""
    found = cache.listing(ROOT)
    cache.sweep(ROOT, found.temporary)
    for name in found.files:
        if name.partition(".")[0] not in keep:
            try:
                cache.delete(Path(name))
            except NotFound:
                continue


class Rollup:
    """Keeps the rollup and its delta up to date; the index process has one.

    Changes are noted with `note`, made visible with `flush`, and folded into the rollup itself
    with `compact`, which reads every manifest. Safe to call from several threads.
    """

    def __init__(self, storage: Storage, cache: Tree) -> None:
        self._storage = storage
        self._cache = cache
        self._lock = threading.Lock()  # the two dictionaries
        self._writing = threading.Lock()  # the files
        self._base = ""  # the rollup's generation; nothing before the first
        self._noted: dict[str, Item] = {}
        self._compacting: dict[str, Item] = {}
        self._coming = ""  # the generation that a compaction is writing
        self._unflushed = False
        self.written_ns = 0  # mtime of the newer of the two files when they were opened
        self._open()

    def _open(self) -> None:
        """Take up where an earlier process stopped."""
        try:
            base, stat = self._storage.open_derived(Path(ROLLUP))
        except NotFound:
            return
        with base:
            head = head_of(base)
        if head is None:
            return
        self._base, self.written_ns = head["generation"], stat.mtime_ns
        try:
            delta, stat = self._storage.open_derived(Path(ROLLUP_DELTA))
        except NotFound:
            return
        with delta:
            head = head_of(delta)
            if head and head.get("base") == self._base:
                self.written_ns = max(self.written_ns, stat.mtime_ns)
                self._noted = {item["path"]: item for _, item in items_of(delta)}
            else:  # the last process ended between the two: what was noted meanwhile is lost
                self.written_ns = 0

    @property
    def built(self) -> bool:
        return bool(self._base)

    @property
    def unflushed(self) -> bool:
        return self._unflushed

    @property
    def backlog(self) -> int:
        """How many items the rollup itself does not know yet."""
        return len(self._noted)

    def note(self, folder: Path, before: list[Item], after: list[Item]) -> None:
        """The items of `folder` changed from `before` to `after`.

        Before there is a rollup nothing is noted: the first one is made from all manifests.
        """
        if not self._base:
            return
        if any(gone_mark(above) in self._noted for above in (folder, *folder.ancestors())):
            before = []  # it was gone, and is there again
        old = {item["path"]: item for item in before}
        changes: dict[str, Item] = {}
        for item in after:
            was = old.pop(item["path"], None)
            if was is None:
                changes[item["path"]] = {**shown(item), "was": None}
            elif was is not item and shown(was) != shown(item):
                changes[item["path"]] = {**shown(item), "was": was.get("tags", [])}
        for path, was in old.items():
            changes[path] = {"path": path, "gone": True, "was": was.get("tags", [])}
        if changes:
            with self._lock:
                for path, change in changes.items():
                    before_that = self._noted.get(path, change)
                    self._noted[path] = {**change, "was": before_that["was"]}
                self._unflushed = True

    def note_gone(self, folder: Path) -> None:
        """`folder` is gone, and all below it."""
        mark = gone_mark(folder)
        if not self._base:
            return
        with self._lock:
            for path in [path for path in self._noted if path.startswith(mark)]:
                del self._noted[path]
            self._noted[mark] = {"path": mark, "gone": True, "was": []}
            self._unflushed = True

    def is_there(self) -> bool:
        """Whether the rollup's file is there and whole."""
        return self._head(ROLLUP) is not None

    def catch_up(self) -> None:
        """Take over a rollup that another process wrote, and see whether the delta is there.

        What is noted here stays true on top of the other's rollup.
        """
        base, delta = self._head(ROLLUP), self._head(ROLLUP_DELTA)
        if base:
            self._base = base["generation"]
        if not delta or delta.get("base") != self._base:
            self._unflushed = True

    def _head(self, name: str) -> dict[str, Any] | None:
        try:
            file, _ = self._storage.open_derived(Path(name))
        except NotFound:
            return None
        with file:
            return head_of(file)

    def flush(self) -> None:
        """Write what changed to the delta, where search finds it."""
        with self._writing:
            with self._lock:
                changes = {**self._compacting, **self._noted}
                self._unflushed = False
            self._write_delta(changes)

    def compact(self, folders: list[Path], load: Callable[[Path], list[Item]]) -> int:
        """Write the rollup anew from what `load` gives for each folder; how many items it has.

        When `load` raises, the rollup stays as it was.
        """
        with self._lock:
            self._compacting, self._noted = {**self._compacting, **self._noted}, {}
        in_order = sorted(folders, key=folder_key)
        count = 0

        def items() -> Iterator[Item]:
            nonlocal count
            for folder in in_order:
                for item in load(folder):
                    count += 1
                    yield shown(item)

        generation = self._write(ROLLUP, items())
        with self._writing:
            self._base = generation
            with self._lock:
                self._compacting = {}
                changes, self._unflushed = dict(self._noted), False
            self._write_delta(changes)
        return count

    def _write_delta(self, changes: dict[str, Item]) -> None:
        items = sorted(changes.values(), key=lambda item: _order(Path(item["path"])))
        generation = self._write(ROLLUP_DELTA, items, base=self._base)
        forget_generations(self._cache, {self._base, self._coming, generation})

    def _write(self, name: str, items: Iterable[Item], **more: str) -> str:
        """Write one of the two files and its folded copy; the generation that it got."""
        generation = secrets.token_hex(8)
        if name == ROLLUP:
            self._coming = generation
        head = {"v": 1, "generatedAt": times.text(times.now()), "generation": generation, **more}

        def pieces() -> Iterator[bytes]:
            comma = orjson.dumps(head)[:-1] + b',"items":[\n'
            for item in items:
                yield comma + orjson.dumps(item)
                comma = b",\n"
            yield (b"" if comma == b",\n" else comma.rstrip()) + _TAIL

        self._storage.keep(Path(name), lambda: _joined(pieces()), ours=manifest.ours)
        file, _ = self._storage.open_derived(Path(name))
        with file:
            fold_file(self._cache, generation, file)
        return generation


def _joined(pieces: Iterable[bytes], size: int = 256 * 1024) -> Iterator[bytes]:
    """Small pieces as larger ones."""
    held: list[bytes] = []
    total = 0
    for piece in pieces:
        held.append(piece)
        total += len(piece)
        if total >= size:
            yield b"".join(held)
            held, total = [], 0
    yield b"".join(held)


def _order(path: Path) -> tuple[list[Any], Any]:
    return folder_key(path.parent), natural_key(path.name)
