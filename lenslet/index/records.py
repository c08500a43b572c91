"""What the index process remembers of folders."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.library.health import FolderHealth
from lenslet.library.location import Location
from lenslet.library.manifest import Dir
from lenslet.paths import ROOT, Path
from lenslet.storage.tree import Tree

RETRY_SECONDS, RETRY_SECONDS_MOST = 60.0, 3600.0
_NEVER = float("inf")


class Stamp(NamedTuple):
    """A folder that was listed, and a number that changes when its listing may change."""

    tree: Tree
    folder: Path
    value: int


class Retry(NamedTuple):
    """When a folder is looked at again for its bad images, and how often it was before.

    `reasons` says why images could not be read, by name. `due` is in seconds of the loop's clock.
    """

    reasons: Mapping[str, str] = {}
    due: float = _NEVER
    tries: int = 0

    def after(
        self, now: float, reasons: Mapping[str, str], *, broken: bool, changed: bool
    ) -> Retry:
        """Returns the next one: after 1, 2, 4 … minutes, and from the start if something changed.

        `broken`: an image cannot be decoded. It may still be being written, which does not change
        the stamp of its folder.
        """
        if not (reasons or broken):
            return Retry()
        if now < self.due and self.tries and not changed:
            return self._replace(reasons=reasons)
        tries = 0 if changed else self.tries
        wait = min(RETRY_SECONDS * 2**tries, RETRY_SECONDS_MOST)
        return Retry(reasons, now + wait, tries + 1)


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Replaced as a whole by the run that indexed the folder.

    `entry` is how the folder is shown in its parent, None if it is not. `generation` is that of
    its manifest, "" if it has none. `children` are its subfolders, each as the manifest shows it.
    `looked` is when it was listed, in seconds of the loop's clock, and `took` how many seconds that
    took.
    """

    location: Location | None = None
    stamps: tuple[Stamp, ...] = ()
    generation: str = ""
    entry: Dir | None = None
    children: Mapping[str, Dir | None] = field(default_factory=dict)
    health: FolderHealth = field(default_factory=FolderHealth)
    retry: Retry = field(default_factory=Retry)
    looked: float = -_NEVER
    took: float = 0.0


class Records:
    """The records of all folders. A folder that was not indexed yet has one too. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders = {ROOT: Record()}
        self._gone: set[Path] = set()  # folders that search must still learn of
        self.version = 0  # changes with every change of a record

    def get(self, path: Path) -> Record:
        """Returns the record of a folder, an empty one if it is unknown."""
        return self._folders.get(path) or Record()

    def all(self) -> list[tuple[Path, Record]]:
        with self._lock:
            return list(self._folders.items())

    @property
    def complete(self) -> bool:
        """True if every known folder has been indexed."""
        return all(record.looked > -_NEVER for _, record in self.all())

    def expect(self, path: Path, entry: Dir | None) -> bool:
        """Notes a subfolder, as its parent shows it; True if it has not been indexed yet."""
        with self._lock:
            return self._folders.setdefault(path, Record(entry=entry)).looked == -_NEVER

    def entry(self, path: Path, default: Dir | None = None) -> Dir | None:
        """Returns how a folder is shown in its parent, None if not; `default` if it is unknown."""
        record = self._folders.get(path)
        return record.entry if record else default

    def put(self, path: Path, record: Record) -> None:
        with self._lock:
            self._folders[path] = record
            self.version += 1

    def forget(self, path: Path) -> None:
        """Forgets a folder and all below it."""
        with self._lock:
            self.version += 1
            gone = {path, *filter(path.holds, self._folders)}
            self._gone |= gone
            for folder in gone:
                self._folders.pop(folder, None)

    def take_gone(self) -> set[Path]:
        """Returns the folders that were forgotten since it was last called."""
        with self._lock:
            gone, self._gone = self._gone, set()
        return gone
