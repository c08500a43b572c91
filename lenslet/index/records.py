"""What the index process remembers of folders, and when an image that failed is tried again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.library.health import FolderHealth
from lenslet.library.location import Location
from lenslet.library.manifest import Dir
from lenslet.paths import ROOT, Path
from lenslet.storage import Tree

RETRY_SECONDS, RETRY_SECONDS_MOST = 60.0, 3600.0
WATCHED_IMAGES = 1000


class Stamp(NamedTuple):
    """A folder that was listed, and a number that changes when its listing may change."""

    tree: Tree
    folder: Path
    value: int


class Retry(NamedTuple):
    """An image that could not be read: when it is tried again, in seconds of the loop's clock."""

    due: float
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Replaced as a whole by the run that indexed the folder.

    `entry` is how the folder is shown in its parent, None if it is not. `generation` is that of
    its manifest, "" if it has none. `looked` is when it was listed, in seconds of the loop's
    clock, and `took` how many seconds that took.
    """

    location: Location | None = None
    stamps: tuple[Stamp, ...] = ()
    generation: str = ""
    entry: Dir | None = None
    children: frozenset[str] = frozenset()
    health: FolderHealth = field(default_factory=FolderHealth)
    failed: Mapping[str, Retry] = field(default_factory=dict)
    looked: float = float("-inf")
    took: float = 0.0

    def has_due_retry(self, now: float) -> bool:
        return any(retry.due <= now for retry in self.failed.values())


def retries(
    before: Mapping[str, Retry], failed: Mapping[str, str], names: Iterable[str], now: float
) -> dict[str, Retry]:
    """Returns the images to be tried again: those that `failed` now wait longer each time.

    `names` are the images still to be read; all others are forgotten.
    """
    found = {name: before[name] for name in names if name in before}
    for name, reason in failed.items():
        tries = before[name].tries + 1 if name in before else 1
        wait = min(RETRY_SECONDS * 2 ** (tries - 1), RETRY_SECONDS_MOST)
        found[name] = Retry(now + wait, tries, reason)
    return found


class Watch:
    """The images that changed last, by their revs.

    Writing into a file does not change the mtime of its folder, which is all that a scan looks at.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revs: OrderedDict[Path, str] = OrderedDict()

    def add(self, path: Path, rev: str) -> None:
        """Watches an image; the one that was added first is dropped if there are too many."""
        with self._lock:
            self._revs[path] = rev
            self._revs.move_to_end(path)
            if len(self._revs) > WATCHED_IMAGES:
                self._revs.popitem(last=False)

    def drop(self, path: Path) -> None:
        with self._lock:
            self._revs.pop(path, None)

    def all(self) -> list[tuple[Path, str]]:
        with self._lock:
            return list(self._revs.items())


class Records:
    """The records of all folders. Safe for threads.

    `watch` are the images that changed last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, Record] = {}
        self._expected: dict[Path, Dir | None] = {ROOT: None}  # known, and not indexed yet
        self._changed: set[Path] = set()  # folders that search must still learn of
        self.watch = Watch()
        self.version = 0  # changes with every change of a record

    def get(self, path: Path) -> Record | None:
        return self._folders.get(path)

    def all(self) -> list[tuple[Path, Record]]:
        with self._lock:
            return list(self._folders.items())

    @property
    def complete(self) -> bool:
        """True if every folder has been indexed."""
        return not self._expected

    def expect(self, path: Path, entry: Dir | None) -> bool:
        """Notes a subfolder, as its parent shows it; False if it has a record."""
        with self._lock:
            if path in self._folders:
                return False
            self._expected[path] = entry
            return True

    def entry(self, path: Path, default: Dir | None = None) -> Dir | None:
        """Returns how a folder is shown in its parent, None if not; `default` if it is new."""
        record = self._folders.get(path)
        return record.entry if record else self._expected.get(path, default)

    def put(self, path: Path, record: Record) -> None:
        with self._lock:
            before = self._folders.get(path)
            self._folders[path] = record
            self.version += 1
            self._expected.pop(path, None)
            if before is None or before.generation != record.generation:
                self._changed.add(path)

    def forget(self, path: Path) -> None:
        """Forgets a folder and all below it."""
        with self._lock:
            self.version += 1
            for folder in [folder for folder in self._folders if path.holds(folder)]:
                del self._folders[folder]
                self._changed.add(folder)
            for folder in [folder for folder in self._expected if path.holds(folder)]:
                del self._expected[folder]
            self._changed.add(path)

    def take_changed(self) -> dict[Path, str]:
        """Returns the changed folders and their generations, "" for none, and forgets them."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return {path: self.generation(path) for path in changed}

    def give_back(self, changed: Iterable[Path]) -> None:
        """Takes back changed folders that search must still learn of."""
        with self._lock:
            self._changed.update(changed)

    def generation(self, path: Path) -> str:
        record = self._folders.get(path)
        return record.generation if record else ""
