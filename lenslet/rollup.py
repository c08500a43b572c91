"""The rollup of all items, and what has changed since: written by the index process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from lenslet import manifest, times
from lenslet.errors import NotFound
from lenslet.folding import (
    TAIL,
    fold_file,
    forget_generations,
    gone_mark,
    head_of,
    items_of,
    joined,
    shown,
)
from lenslet.manifest import Item
from lenslet.paths import ROLLUP, ROLLUP_DELTA, Path, folder_key, natural_key
from lenslet.storage import Storage, Tree


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
            count = 0
            for folder in in_order:
                for item in load(folder):
                    count += 1
                    yield shown(item)

        generation = self._write(ROLLUP, items)
        with self._writing:
            self._base = generation
            with self._lock:
                self._compacting = {}
                changes, self._unflushed = dict(self._noted), False
            self._write_delta(changes)
        return count

    def _write_delta(self, changes: dict[str, Item]) -> None:
        items = sorted(changes.values(), key=lambda item: _order(Path(item["path"])))
        generation = self._write(ROLLUP_DELTA, lambda: items, base=self._base)
        forget_generations(self._cache, {self._base, self._coming, generation})

    def _write(self, name: str, items: Callable[[], Iterable[Item]], **more: str) -> str:
        """Write one of the two files and its folded copy; the generation that it got.

        `items` is asked again when the first place cannot take the file.
        """
        generation = secrets.token_hex(8)
        if name == ROLLUP:
            self._coming = generation
        head = {"v": 1, "generatedAt": times.text(times.now()), "generation": generation, **more}

        def pieces() -> Iterator[bytes]:
            comma = orjson.dumps(head)[:-1] + b',"items":[\n'
            for item in items():
                yield comma + orjson.dumps(item)
                comma = b",\n"
            yield (b"" if comma == b",\n" else comma.rstrip()) + TAIL

        self._storage.keep(Path(name), lambda: joined(pieces()), ours=manifest.ours)
        file, _ = self._storage.open_derived(Path(name))
        with file:
            fold_file(self._cache, generation, file)
        return generation


def _order(path: Path) -> tuple[list[Any], Any]:
    return folder_key(path.parent), natural_key(path.name)
