"""The form of the rollup and its delta, and the folded copies of them that search reads.

`_rollup.json` and `_rollup_delta.json` hold one item a line. A folded copy, in the host's cache
and named after the generation it was made from, has a line for each of them: where the item stands
in its file, then its name, folder, tags and notes without case and accents. A terms file holds the
tags and the words of names, most frequent first.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import orjson

from lenslet.errors import NotFound
from lenslet.manifest import Item
from lenslet.paths import ROOT, Path
from lenslet.storage import Stat, Storage, Tree

FIELD, TAG = "\x1f", "\x1e"  # separators in a folded line; folded text has no control characters
_SHOWN = ("path", "name", "type", "w", "h", "size", "rev", "tags", "notes")
_CONTROL = re.compile(r"[\x00-\x1f]+")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_MOST_WORDS = 50_000
# A position in letters that folded text never holds, so that no search finds it.
_CODE = str.maketrans("0123456789", "GHIJKLMNOP")
_DECODE = bytes.maketrans(b"GHIJKLMNOP", b"0123456789")
_HEAD_BYTES, _CHUNK = 4096, 1 << 20
TAIL = b"\n]}\n"


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
    file.seek(max(0, size - len(TAIL)))
    tail = file.read(len(TAIL))
    file.seek(0)
    line = file.readline(_HEAD_BYTES)
    if not line.startswith(b'{"v":1,') or not tail.endswith(b"]}\n"):
        return None
    return _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        head: dict[str, Any] = orjson.loads(line.rstrip(b"\n") + b"]}")
    except orjson.JSONDecodeError:
        return None
    return head if {"generation", "generatedAt"} <= head.keys() else None


def head_at(storage: Storage, name: str) -> tuple[dict[str, Any], Stat]:
    """What the rollup's or delta's first line says; `NotFound` where none is whole."""
    if storage.state.remote:
        data, stat = storage.head_derived(Path(name), _HEAD_BYTES)
        head = _parsed(data.partition(b"\n")[0])
    else:
        file, stat = storage.open_derived(Path(name))
        with file:
            head = head_of(file)
    if head is None:
        raise NotFound(f"{name} is torn.")
    return head, stat


def open_file(storage: Storage, cache: Tree, name: str) -> tuple[BinaryIO, dict[str, Any], Stat]:
    """The rollup or delta, open for reading, with its head; of a bucket's, this host's copy."""
    head, stat = head_at(storage, name)
    if not storage.state.remote:
        file, stat = storage.open_derived(Path(name))
        return file, head, stat
    try:
        file, _ = cache.open(copy_of(head["generation"]))
    except NotFound:
        body, stat = storage.open_derived(Path(name))
        with body:
            now = head_of(body)  # it may be a newer one by now
            if now is None:
                raise NotFound(f"{name} is torn.") from None
            body.seek(0)
            cache.write(copy_of(now["generation"]), iter(lambda: body.read(_CHUNK), b""))
        file, _ = cache.open(copy_of(now["generation"]))
        return file, now, stat
    return file, head, stat


def copy_of(generation: str) -> Path:
    """Where in the cache this host keeps its copy of a bucket's rollup or delta."""
    return Path(f"{generation}.json")


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

    cache.write(Path(f"{generation}.fold"), joined(pieces()))
    cache.write(Path(f"{generation}.terms"), terms.encode())


def gone_mark(folder: Path) -> str:
    """How a delta names a folder that is gone with all its items: as a path that ends with `/`."""
    return f"{folder}/"


def forget_generations(cache: Tree, keep: set[str], older_than: float = 0.0) -> None:
    """Remove copies of other generations that are `older_than` so many seconds.

    Who has one open goes on reading it.
    """
    before = time.time_ns() - int(older_than * 1e9)
    found = cache.listing(ROOT)
    cache.sweep(ROOT, found.temporary)
    for name, stat in found.files.items():
        if name.partition(".")[0] not in keep and stat.mtime_ns <= before:
            try:
                cache.delete(Path(name))
            except NotFound:
                continue


def joined(pieces: Iterable[bytes], size: int = 256 * 1024) -> Iterator[bytes]:
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
