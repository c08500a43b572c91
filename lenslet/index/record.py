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

_LEAST_SECONDS, _MOST_SECONDS = 3.0, 3600.0  # between two tries
NEVER = float("inf")


class Retry(NamedTuple):
    """What could not be read in a folder, and when it is tried again.

    `reasons` by the names of images, "" for the folder. `due` is in seconds of the loop's clock;
    `wait` is how long it waits for that.
    """

    reasons: Mapping[str, str] = {}
    due: float = NEVER
    wait: float = 0.0

    def after(self, now: float, reasons: Mapping[str, str], *, changed: bool) -> Retry:
        """Returns the next retry, at double the distance of the last one.

        The distances start again if something changed, or if something else failed.
        """
        if not reasons:
            return Retry()
        is_new = changed or bool(reasons.keys() - self.reasons.keys())
        if not is_new and now < self.due:
            return self._replace(reasons=reasons)
        wait = _LEAST_SECONDS if is_new else min(2 * self.wait, _MOST_SECONDS)
        return Retry(reasons, now + wait, wait)


class Stamp(NamedTuple):
    """A folder that was listed, and a number that changes when names come or go in it.

    The number is 0 if the folder was not there.
    """

    tree: Tree
    folder: Path
    value: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Each look replaces it as a whole.

    The last look ended at `looked`, in seconds of the loop's clock, and took `took` seconds.
    Without `stamps` the next scan looks again. `entry` is how the folder is shown in its parent,
    None if it is not. `generation` is that of its manifest, "" if it has none. `children` are its
    subfolders, each as the manifest shows it. `orphans` are sidecars whose photo is not beside
    them. `left` images will be read, and `stale` ones after all others. `replaced`: the manifest of
    another library was replaced once, and is left alone from then on.
    """

    location: Location | None = None
    stamps: tuple[Stamp, ...] = ()
    looked: float = -NEVER
    took: float = 0.0
    generation: str = ""
    entry: Dir | None = None
    children: Mapping[str, Dir | None] = field(default_factory=dict)
    health: FolderHealth = field(default_factory=FolderHealth)
    retry: Retry = field(default_factory=Retry)
    orphans: tuple[Orphan, ...] = ()
    left: int = 0
    stale: int = 0
    replaced: bool = False

    @property
    def is_known(self) -> bool:
        """True if the folder was looked at."""
        return self.looked > -NEVER

    @property
    def shown(self) -> tuple[object, ...]:
        """What search and health show of the folder."""
        return self.generation, self.health, self.orphans, self.left


Records = Mapping[Path, Record]


class Memory:
    """The records of all folders. Owned by the loop.

    `gone` are folders that search must learn are gone; `text` counts the bytes of changed items.
    """

    def __init__(self) -> None:
        self.records: dict[Path, Record] = {ROOT: Record()}
        self.gone: set[Path] = set()
        self.text = 0

    def get(self, path: Path) -> Record:
        """Returns the record of a folder, an empty one if it is unknown."""
        return self.records.get(path) or Record()

    def entries(self, path: Path) -> dict[str, Dir | None]:
        """Returns how the subfolders of a folder are shown, as far as they are known."""
        names = ((name, self.records.get(path.child(name))) for name in self.get(path).children)
        return {name: record.entry for name, record in names if record}

    def lists(self, path: Path) -> bool:
        """True if the folder above lists it, or has a record and was not looked at yet."""
        above = self.records.get(path.parent)
        return not path or bool(above and (not above.is_known or path.name in above.children))

    def put(self, path: Path, record: Record) -> None:
        """Replaces the record of a folder."""
        before = self.get(path)
        if before.generation and not record.generation:  # it is not served any more
            self.gone.add(path)
        self.records[path] = record
        if gone := before.children.keys() - record.children.keys():
            self.forget(*map(path.child, gone))

    def forget(self, *paths: Path) -> None:
        """Forgets folders and all below them, in one pass over what is known."""
        gone = set(paths)
        gone |= {path for path in self.records if not gone.isdisjoint(path.ancestors())}
        self.gone |= gone
        for folder in gone:
            self.records.pop(folder, None)
