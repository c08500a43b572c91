"""What the index process remembers of a folder between two looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.library.health import FolderHealth
from lenslet.library.location import Location
from lenslet.library.manifest import Dir
from lenslet.library.orphans import Orphan
from lenslet.paths import ROOT, Path
from lenslet.storage.tree import Tree

RETRY_SECONDS, RETRY_SECONDS_MOST = 3.0, 3600.0  # the first distance between two tries, the longest
_MOST_TRIES = 20  # that are counted
MOST_NESTED = 1000  # folders behind several pointers
NEVER = float("inf")


class Retry(NamedTuple):
    """What could not be read in a folder, and when a scan tries it again.

    `reasons` by the names of images, "" for the folder; the reason of an image that is damaged is
    empty: it is read again if it has changed. `due` is in seconds of the loop's clock.
    """

    reasons: Mapping[str, str] = {}
    due: float = NEVER
    tries: int = 0

    @property
    def failed(self) -> set[str]:
        """The names of those that could not be read."""
        return {name for name, reason in self.reasons.items() if reason}

    def after(self, now: float, reasons: Mapping[str, str], *, changed: bool) -> Retry:
        """Returns the next retry, at double the distance of the last one.

        The distances start again if something changed, or if something else failed.
        """
        if not reasons:
            return Retry()
        tries = 0 if changed or reasons.keys() - self.reasons.keys() else self.tries
        if tries and now < self.due:
            return self._replace(reasons=reasons)
        wait = min(RETRY_SECONDS * 2**tries, RETRY_SECONDS_MOST)
        return Retry(reasons, now + wait, min(tries + 1, _MOST_TRIES))


class Stamp(NamedTuple):
    """A folder that was listed, and a number that changes when names come or go in it."""

    tree: Tree
    folder: Path
    value: int


class Looked(NamedTuple):
    """When a look began and ended, in seconds of the loop's clock.

    `began_ns` is when it began, as files have it. `again`: the next scan looks again, whatever the
    stamps say.
    """

    at: float = -NEVER
    took: float = 0.0
    began_ns: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Each look replaces it as a whole.

    `entry` is how the folder is shown in its parent, None if it is not. `generation` is that of
    its manifest, "" if it has none. `children` are its subfolders, each as the manifest shows it.
    `orphans` are sidecars whose photo is not beside them. `left` images will be read.
    """

    location: Location | None = None
    stamps: tuple[Stamp, ...] = ()
    generation: str = ""
    entry: Dir | None = None
    children: Mapping[str, Dir | None] = field(default_factory=dict)
    health: FolderHealth = field(default_factory=FolderHealth)
    retry: Retry = field(default_factory=Retry)
    looked: Looked = field(default_factory=Looked)
    orphans: tuple[Orphan, ...] = ()
    left: int = 0

    @property
    def is_known(self) -> bool:
        """True if the folder was looked at."""
        return self.looked.at > -NEVER

    @property
    def shown(self) -> tuple[object, ...]:
        """What search and health show of the folder."""
        return self.generation, self.health, self.orphans, self.left


Records = Mapping[Path, Record]


class Memory:
    """The records of all folders. Owned by the loop.

    `gone` are folders that search must learn are gone. `changes` counts what looks found anew,
    `images_read` the images that were read, and `left` those that will be.
    """

    def __init__(self) -> None:
        self.records: dict[Path, Record] = {ROOT: Record()}
        self.gone: set[Path] = set()
        self.changes = self.images_read = self.left = 0
        self._nested: set[Path] = set()

    def get(self, path: Path) -> Record:
        """Returns the record of a folder, an empty one if it is unknown."""
        return self.records.get(path) or Record()

    @property
    def is_complete(self) -> bool:
        """True if every known folder was looked at."""
        return all(record.is_known for record in self.records.values())

    def may_nest(self, path: Path) -> bool:
        """True if a folder may be behind several pointers, which multiply what is shown."""
        return path in self._nested or len(self._nested) < MOST_NESTED

    def known(self, path: Path) -> dict[str, Dir | None]:
        """Returns how the subfolders of a folder are shown, as far as they are known."""
        names = ((name, self.records.get(path.child(name))) for name in self.get(path).children)
        return {name: record.entry for name, record in names if record}

    def put(self, path: Path, record: Record) -> None:
        """Replaces the record of a folder."""
        before = self.get(path)
        self.changes += before.stamps != record.stamps
        self.left += record.left - before.left
        if before.generation and not record.generation:  # it is not served any more
            self.gone.add(path)
        self._nested.discard(path)
        if record.location and len(record.location.chain) > 1:
            self._nested.add(path)
        self.records[path] = record
        if gone := before.children.keys() - record.children.keys():
            self.forget(*map(path.child, gone))

    def expect(self, path: Path, entry: Dir | None) -> Record:
        """Returns the record of a subfolder, made as its parent shows it if it is not known."""
        return self.records.setdefault(path, Record(entry=entry))

    def forget(self, *paths: Path) -> None:
        """Forgets folders and all below them, in one pass over what is known."""
        gone = set(paths)
        gone |= {path for path in self.records if not gone.isdisjoint(path.ancestors())}
        self.changes += 1
        self.gone |= gone
        self._nested -= gone
        for folder in gone:
            self.left -= self.records.pop(folder, Record()).left
