"""The writer of the rollup and its delta, in the index process, and of each host's copy of it."""

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import BinaryIO

from lenslet.bounds import DELTA_BYTES, LINE_BYTES, MAX_TAGS, loads
from lenslet.errors import LensletError, NotFound, Overtaken, StorageUnavailable
from lenslet.library import item as items
from lenslet.library.item import Item
from lenslet.library.manifest import Manifest
from lenslet.paths import ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key
from lenslet.search.format import (
    COPIED,
    FORM,
    HEAD_BYTES,
    KINDS,
    MOST_NAMED,
    FoldedCopy,
    Generations,
    Terms,
    encode_delta,
    encode_rollup,
    file_of,
    folded_line,
    merge_delta,
    parse_delta,
    parse_head,
    read_delta,
    read_folders,
    read_head,
    with_about,
)
from lenslet.storage.tree import Stat, Tree

_CHUNK = 1 << 20
_TYPES = {name: items.KEYS[name].kind for name in COPIED}
_BLANK = {name: kind() for name, kind in _TYPES.items() if name != "path"}
# When a rollup is written:
_SMALL_BYTES = 256 * 1024  # it is so small that it may always be written
_DAY_NS = 24 * 3600 * 10**9
_MOST_DAYS = 7.0  # so old, however little has changed since
_TRIES = 50  # to write the delta: each time another host was faster costs one
_MOST_FOLDERS = 5000  # in the delta: looking through more takes too long


def is_due(size: int, days: float, written: int, folders: int) -> bool:
    """True if a rollup of `size` bytes, `days` old, should be written anew.

    That is when as many bytes were `written` since, or it is old. `folders` is how many the delta
    names; if there are many, each query takes longer.
    """
    has_grown = written >= size - _SMALL_BYTES or folders > _MOST_FOLDERS
    return folders > 0 and (has_grown or days >= _MOST_DAYS)


class Rollup:
    """Keeps the rollup and the delta. Used by one thread at a time.

    `generations` are the folders' generations in the rollup, `delta` those in the delta. What this
    process has written since the rollup says when the next is due.
    """

    def __init__(self, tree: Tree, cache: Tree) -> None:
        self._tree = tree
        self._cache = cache
        self._id = ""  # of the rollup that was read last
        self._rev = ""  # of the delta that was read last
        self._stat = Stat(0, 0)  # of that rollup
        self._written = 0  # bytes, since that rollup
        self.is_old = False  # it is of an older form
        self.generations: Generations = {}
        self.delta: Generations = {}

    @property
    def exists(self) -> bool:
        return bool(self._id)

    @property
    def is_due(self) -> bool:
        """True if it is time to write it anew."""
        days = (time.time_ns() - self._stat.mtime_ns) / _DAY_NS
        return is_due(self._stat.size, days, self._written, len(self.delta))

    def refresh(self) -> None:
        """Reads both files; `Foreign` if another program's is in place of the delta."""
        try:
            head, self._stat = read_head(self._tree)
            self.is_old = head.get("form", 1) < FORM
            if head["id"] != self._id:
                self._written = 0
                self._id = copy_rollup(self._tree, self._cache, str(head["id"]))
                self.generations = read_folders(FoldedCopy.open(self._cache, self._id).items)
                forget_copies(self._cache, self._id)
        except NotFound:
            self._id, self.generations = "", {}
        data, self._rev = read_delta(self._tree, fresh=True)
        self.delta = parse_delta(data)
        self._written = max(self._written, len(data))  # by an earlier process, or another host

    def name(self, changed: Generations, text: int) -> None:
        """Names the `changed` folders in the delta, so that search looks at their manifests.

        The generation of a folder that is gone is "". `text` is how many bytes of items changed
        since the last time: search folds them anew. If there are too many names, search knows after
        the next rollup.
        """
        self._written += text
        for _ in range(_TRIES):
            wanted = merge_delta(self.delta, changed, self.generations)
            data = encode_delta(wanted)
            if wanted == self.delta or len(wanted) > MOST_NAMED or len(data) > DELTA_BYTES:
                self.delta = wanted
                return
            with contextlib.suppress(Overtaken):
                self._tree.write(Path(ROLLUP_DELTA), data, over=self._rev)
                self.delta, self._written = wanted, self._written + len(data)
                return
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
                    yield from with_about(found.items, found.about)

        def content() -> Iterator[bytes]:
            with self._cache.open(file)[0] as copy:
                yield from iter(partial(copy.read, _CHUNK), b"")

        rollup_id = secrets.token_hex(8)
        file = file_of(rollup_id, "json")
        try:
            self._cache.write(file, lambda: encode_rollup(rollup_id, items(), generations))
            fold_copy(self._cache, rollup_id)  # so that it can be searched as soon as it is there
            self._tree.write(Path(ROLLUP), content)
        except LensletError:
            _remove(self._cache, *(file_of(rollup_id, kind) for kind in KINDS))
            raise
        self.refresh()
        return count


# Copies


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
        rest = iter(partial(file.read, _CHUNK), b"")
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
        _remove(cache, file_of(key, "json"))
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


def forget_copies(cache: Tree, key: str) -> None:
    """Removes the copies that are older than the one with this key; a younger one may be in work.

    A process that has one open goes on reading it, and one that was about to open it tries again.
    """
    with contextlib.suppress(NotFound):
        newest = cache.stat(file_of(key, "json")).mtime_ns
        found = cache.listing(ROOT)
        cache.sweep(ROOT, found.leftovers)
        for name, stat in found.files.items():
            if stat.mtime_ns < newest:
                _remove(cache, Path(name))


def _remove(cache: Tree, *files: Path) -> None:
    for file in files:
        with contextlib.suppress(NotFound):
            cache.delete(file)
