"""The rollup of all items, and what has changed since: written by the index processes."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from lenslet import manifest, times
from lenslet.errors import NotFound, Overtaken, StorageUnavailable
from lenslet.folding import (
    TAIL,
    copy_of,
    fold_file,
    forget_generations,
    gone_mark,
    head_at,
    items_of,
    joined,
    open_file,
    shown,
)
from lenslet.manifest import Item
from lenslet.paths import ROLLUP, ROLLUP_DELTA, Path, folder_key, natural_key
from lenslet.storage import Stat, Storage, Tree

Changes = dict[str, Item]
_TRIES = 10
_MEASURED = 1000  # so many items may stand in a delta of which only width and height are news
_CHUNK = 1 << 20


class Rollup:
    """Keeps the rollup and its delta up to date; each index process has one.

    Changes are noted with `note`, made visible with `flush`, and folded into the rollup itself
    with `compact`, which reads every manifest. In a bucket any number of processes flush, each
    on top of what the others did. Safe to call from several threads.
    """

    def __init__(self, storage: Storage, cache: Tree) -> None:
        self._storage = storage
        self._cache = cache
        self._lock = threading.Lock()  # the dictionaries
        self._writing = threading.Lock()  # the files
        self._base = ""  # the rollup's generation; nothing before the first
        self._delta = ""  # the generation of the delta that `_stored` is, nothing for none
        self._over: str | None = None  # the delta's rev in a bucket, "" for none
        self._stored: Changes = {}  # what the delta says
        self._pending: Changes = {}  # what it does not say yet
        self._early: set[Path] = set()  # folders that changed before there was a rollup
        self._measured = 0  # how many items' width and height only the next compaction will tell
        self._coming = ""  # the generation that a compaction is writing
        self._missing = False  # there is no delta of this very rollup
        self.written_ns = 0  # mtime of the newer of the two files when they were opened
        self._open()

    def _open(self) -> None:
        """Take up where an earlier process stopped."""
        with contextlib.suppress(StorageUnavailable):
            found = self._read()
            if self._storage.state.remote:
                found = found[:1]  # another host's delta tells nothing of this one's
            elif self._missing and self._delta:
                found = []  # the last process ended between the two: something is lost
            self.written_ns = max((stat.mtime_ns for stat in found), default=0)

    def _read(self) -> list[Stat]:
        """See which rollup there is and what its delta says; the files of both that belong."""
        try:
            head, base = head_at(self._storage, ROLLUP)
        except NotFound:
            self._see_delta()
            return []
        self._base = head["generation"]
        delta = self._see_delta()
        return [base, delta] if delta else [base]

    def _see_delta(self) -> Stat | None:
        """See what the delta says; its file, if it is the rollup's."""
        far = self._storage.state.remote
        try:
            head, stat = head_at(self._storage, ROLLUP_DELTA)
        except NotFound:
            self._delta, self._missing = "", True  # what is remembered of it stays true
            self._over = "" if far else None
            return None
        if head["generation"] != self._delta:
            file, head, stat = open_file(self._storage, self._cache, ROLLUP_DELTA)
            with file:
                self._stored = {item["path"]: item for _, item in items_of(file)}
            self._delta = head["generation"]
        self._over = stat.etag if far else None
        self._missing = head.get("base") != self._base
        with self._lock:
            if not self._missing and "measured" in head:
                self._measured = self._measured or 1
        return None if self._missing else stat

    @property
    def built(self) -> bool:
        return bool(self._base)

    @property
    def unflushed(self) -> bool:
        return bool(self._pending or self._early) or (self.built and self._missing)

    @property
    def backlog(self) -> int:
        """How many items the rollup itself does not know yet."""
        return len(self._stored) + len(self._pending)

    @property
    def behind(self) -> bool:
        """Whether the rollup itself does not know everything yet."""
        return self.backlog + self._measured > 0

    def note(self, folder: Path, before: list[Item], after: list[Item]) -> None:
        """The items of `folder` changed from `before` to `after`.

        Before there is a rollup only the folder is noted: it is made from all manifests.
        """
        if not self._base:
            if before != after:
                self._early.add(folder)
            return
        marks = [gone_mark(above) for above in (folder, *folder.ancestors())]
        if any(mark in self._pending or mark in self._stored for mark in marks):
            before = []  # it was gone, and is there again
        old = {item["path"]: item for item in before}
        changes: Changes = {}
        measured = 0
        for item in after:
            was = old.pop(item["path"], None)
            if was is None:
                changes[item["path"]] = {**shown(item), "was": None}
            elif was is not item and shown(was) != shown(item):
                if self._can_wait(was, item):
                    measured += 1
                else:
                    changes[item["path"]] = {**shown(item), "was": was.get("tags", [])}
        for path, was in old.items():
            changes[path] = {"path": path, "gone": True, "was": was.get("tags", [])}
        with self._lock:
            self._measured += measured
            for path, change in changes.items():
                known = self._pending.get(path) or self._stored.get(path) or change
                self._pending[path] = {**change, "was": known["was"]}

    def _can_wait(self, was: Item, item: Item) -> bool:
        """Whether an item was only measured, as the many of a new library are.

        Not in a bucket: the host that compacts might not hear of it.
        """
        if self._storage.state.remote:
            return False
        size = {"w": item["w"], "h": item["h"]}
        told = item["path"] in self._pending or item["path"] in self._stored
        return self.backlog >= _MEASURED and not told and shown(was) | size == shown(item)

    def note_item(self, item: Item) -> None:
        """One item is this now."""
        path, now = item["path"], shown(item)
        with self._lock:
            known = self._pending.get(path) or self._stored.get(path)
            if self._base and (known is None or shown(known) != now or "gone" in known):
                was = known["was"] if known else item.get("tags", [])
                self._pending[path] = {**now, "was": was}

    def note_lost(self, path: Path) -> None:
        """One item is no more."""
        with self._lock:
            known = self._pending.get(path) or self._stored.get(path)
            if self._base and (known is None or "gone" not in known):
                was = known["was"] if known else []
                self._pending[path] = {"path": path, "gone": True, "was": was}

    def note_gone(self, folder: Path) -> None:
        """`folder` is gone, and all below it."""
        mark = gone_mark(folder)
        if not self._base:
            return
        with self._lock:
            for path in [path for path in self._pending if path.startswith(mark)]:
                del self._pending[path]
            self._pending[mark] = {"path": mark, "gone": True, "was": []}

    def is_there(self) -> bool:
        """Whether the rollup's file is there and whole."""
        try:
            head_at(self._storage, ROLLUP)
        except NotFound:
            return False
        return True

    def catch_up(self, load: Callable[[Path], list[Item]] = lambda folder: []) -> None:
        """Take over what another process wrote; `load` gives the items of a folder now.

        What is noted here stays true on top of it.
        """
        with self._writing:
            self._read()
        for folder in list(self._early) if self._base else ():
            self.note(folder, [], load(folder))
            self._early.discard(folder)

    def flush(self) -> None:
        """Write what changed to the delta, where search finds it."""
        with self._writing:
            if self._base:
                self._write_delta(self._base, lambda stored: stored)

    def compact(self, manifests: Callable[[], Iterable[tuple[Path, list[Item]]]]) -> int:
        """Write the rollup anew from all folders and their items, in order; how many items.

        When `manifests` raises, the rollup stays as it was.
        """
        with self._writing:
            self._read()
            with self._lock:
                known = self._merged(self._stored, self._pending)
                self._early = set()
                measured = self._measured  # so many are in the manifests by now
        count = 0
        folders: set[Path] = set()

        def items() -> Iterator[Item]:
            nonlocal count
            count = 0
            for folder, some in manifests():
                folders.add(folder)
                for item in some:
                    count += 1
                    yield shown(item)

        generation = self._coming = secrets.token_hex(8)
        self._write(ROLLUP, generation, items)
        with self._writing:
            self._base = generation
            with self._lock:
                self._measured -= measured
                pending = self._pending
                self._pending = _not_in(known, folders, pending)
            # What was known before the manifests were read is in them.
            self._write_delta(generation, lambda stored: _not_in(known, folders, stored))
            self._coming = ""
        return count

    def _merged(self, stored: Changes, pending: Changes) -> Changes:
        """`stored` after `pending`, which was noted later."""
        gone = tuple(path for path in pending if path.endswith("/"))
        found = {p: c for p, c in stored.items() if not (gone and p.startswith(gone))}
        for path, change in pending.items():
            found[path] = {**change, "was": found.get(path, change)["was"]}
        return found

    def _write_delta(self, base: str, kept: Callable[[Changes], Changes]) -> None:
        """Write what is `kept` of the delta, and all that is pending, for the rollup `base`."""
        for _ in range(_TRIES):
            with self._lock:
                pending = dict(self._pending)
            changes = self._merged(kept(self._stored), pending)
            items = sorted(changes.values(), key=lambda item: _order(Path(item["path"])))
            generation = secrets.token_hex(8)
            try:
                more = {"measured": "later"} if self._measured else {}
                self._write(ROLLUP_DELTA, generation, lambda: items, base=base, **more)  # noqa: B023
            except Overtaken:
                self._see_delta()
                continue
            with self._lock:
                for path, change in pending.items():
                    if self._pending.get(path) is change:
                        del self._pending[path]
                self._stored, self._delta, self._missing = changes, generation, False
            forget_generations(self._cache, {self._base, self._coming, generation})
            return
        raise StorageUnavailable("Other hosts write the rollup's delta all the time.")

    def _write(
        self, name: str, generation: str, items: Callable[[], Iterable[Item]], **more: str
    ) -> None:
        """Write one of the two files and its folded copy.

        `items` is asked again when the first place cannot take the file. What goes to a bucket is
        written to the cache before, and folded from there.
        """
        head = {"v": 1, "generatedAt": times.text(times.now()), "generation": generation, **more}

        def pieces() -> Iterator[bytes]:
            comma = orjson.dumps(head)[:-1] + b',"items":[\n'
            for item in items():
                yield comma + orjson.dumps(item)
                comma = b",\n"
            yield (b"" if comma == b",\n" else comma.rstrip()) + TAIL

        if self._storage.state.remote:
            self._cache.write(copy_of(generation), joined(pieces()))
            over = self._over if name == ROLLUP_DELTA else None
            self._storage.keep(
                Path(name), lambda: self._copied(generation), ours=manifest.ours, over=over
            )
        else:
            self._storage.keep(Path(name), lambda: joined(pieces()), ours=manifest.ours)
        file, _, _ = open_file(self._storage, self._cache, name)
        with file:
            fold_file(self._cache, generation, file)

    def _copied(self, generation: str) -> Iterator[bytes]:
        file, _ = self._cache.open(copy_of(generation))
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _not_in(known: Changes, folders: set[Path], changes: Changes) -> Changes:
    """Those of `changes` that were not `known`, or are of folders that no manifest told of."""
    return {
        path: change
        for path, change in changes.items()
        if known.get(path) != change or ("gone" not in change and Path(path).parent not in folders)
    }


def _order(path: Path) -> tuple[list[Any], Any]:
    return folder_key(path.parent), natural_key(path.name)
