"""A host's copy of the rollup, in its cache: the items, a folded line for each, counts of terms.

Its three files are named by the rollup's id and `FORM`: `ID.7.json`, `ID.7.lines`, `ID.7.terms`.
"""

import bisect
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, BinaryIO

import orjson

from lenslet.bounds import LINE_BYTES, MAX_TAGS, loads
from lenslet.errors import NotFound
from lenslet.library import item as items
from lenslet.library.item import Item
from lenslet.paths import ROLLUP, ROOT, Path, folder_key
from lenslet.search.format import (
    FORM,
    HEAD_BYTES,
    KEYS,
    Months,
    Terms,
    folded_line,
    parse_head,
    position_of,
)
from lenslet.storage.text import Text, map_file
from lenslet.storage.tree import Tree

CHUNK = 1 << 20
KINDS = ("json", "lines", "terms")  # of the files of a copy
_MAKING_SECONDS = 600.0  # a copy that is younger than the one in use may still be being made
_SLICE = 4 << 20  # bytes of lines that are counted at a time
_READ = {name: key.kind for name, key in items.KEYS.items() if key.read}
_BLANK = {name: kind() for name, kind in (KEYS | _READ).items() if name != "path"}
_TYPES = {"path": str} | {key: type(value) for key, value in _BLANK.items()}


def file_of(key: str, kind: str) -> Path:
    return Path(f"{key}.{FORM}.{kind}")


# Making a copy


def copy_rollup(tree: Tree, cache: Tree, rollup_id: str) -> str:
    """Makes this host's copy of the rollup, if it is missing; returns its id.

    `NotFound` if the rollup is missing or torn. If it was replaced meanwhile, copies the newer one.
    """
    if _has_copy(cache, rollup_id):
        return rollup_id
    file, _ = tree.open(Path(ROLLUP))
    with file:
        first = file.read(HEAD_BYTES)
        rollup_id = str(parse_head(first)["id"])
        rest = iter(partial(file.read, CHUNK), b"")
        cache.write(file_of(rollup_id, "json"), lambda: itertools.chain((first,), rest))
    fold_copy(cache, rollup_id)
    return rollup_id


def _has_copy(cache: Tree, key: str) -> bool:
    """True if the three files were written since the start of the machine.

    A crash may leave torn ones, and they are too large to be checked.
    """
    started = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        return all(cache.stat(file_of(key, kind)).mtime_ns > started for kind in KINDS)
    except NotFound:
        return False


def fold_copy(cache: Tree, key: str) -> None:
    """Writes the folded lines and the terms of a copy's items; `NotFound` if these are torn."""
    terms = Terms()

    def lines() -> Iterator[bytes]:
        yield b"\n"
        with cache.open(file_of(key, "json"))[0] as file:
            for position, item in _items_of(file):
                terms.add(item)
                yield folded_line(item, position)

    try:
        cache.write(file_of(key, "lines"), lines)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cache.delete(file_of(key, "json"))
        raise NotFound("The rollup is nonsense.") from error
    cache.write(file_of(key, "terms"), terms.encode())


def _items_of(file: BinaryIO) -> Iterator[tuple[int, Item]]:
    """Yields each item of a copy and the position of its line."""
    position = len(file.readline(LINE_BYTES))
    for line in iter(partial(file.readline, LINE_BYTES), b""):
        if line.startswith(b"{"):
            item = {**_BLANK, **loads(line.rstrip(b",\n"))}  # an older form had fewer keys
            known = all(type(item.get(key)) is kind for key, kind in _TYPES.items())
            if not known or max(len(item["tags"]), len(item["keywords"])) > MAX_TAGS:
                raise TypeError("an item is nonsense")
            yield position, item
        position += len(line)


def forget_copies(cache: Tree, key: str, drop: str = "") -> None:
    """Removes the copies that are older than the one with this key, and the one of `drop`.

    A process that has one open goes on reading it, and one that was about to open it tries again.
    A younger copy is only removed if it is not ready after ten minutes.
    """
    with contextlib.suppress(NotFound):  # nothing was ever copied
        found = cache.listing(ROOT)
        cache.sweep(ROOT, found.leftovers)
        before = time.time_ns() - int(_MAKING_SECONDS * 1e9)
        if current := found.files.get(file_of(key, "json")):
            before = max(before, current.mtime_ns)
        for name, stat in found.files.items():
            of = name.partition(".")[0]
            if of == drop or (of != key and stat.mtime_ns <= before):
                with contextlib.suppress(NotFound):
                    cache.delete(Path(name))


# Reading a copy


@dataclass(frozen=True)
class FoldedCopy:
    """A copy that is read; without a `key`, one of no items.

    Its files stay mapped: another process may remove them.
    """

    key: str = ""
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
        return cls(key, *texts)

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
