"""What the index process remembers: one small record per folder, and the images touched lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from lenslet.health import FolderHealth
from lenslet.manifest import Dir, Facts
from lenslet.paths import Path
from lenslet.places import Place
from lenslet.sight import Stamp

RETRY_SECONDS, RETRY_SECONDS_MOST = 60.0, 3600.0
WATCHED_IMAGES = 1000


@dataclass(slots=True)
class Retry:
    """An image that could not be read for now: when it is tried again, and why it failed."""

    due: float
    tries: int
    reason: str


@dataclass(slots=True)
class Known:
    """What is remembered of one folder. Times are seconds of the loop's clock."""

    place: Place | None = None
    stamp: Stamp | None = None  # None: look again at the next scan
    generation: str | None = None  # of the manifest as it was kept here last
    hidden: dict[Path, int] = field(default_factory=dict)  # folders marked as ignored, and stamps
    shown: tuple[bool, int, str | None] | None = None
    children: set[str] | None = None
    dirs: dict[str, Dir] = field(default_factory=dict)  # in a bucket: how they show
    unserved: list[str] = field(default_factory=list)  # in a bucket: folders that do not show
    health: FolderHealth = field(default_factory=FolderHealth)
    facts: dict[str, Facts] = field(default_factory=dict)  # read, and not in the manifest yet
    read_at: dict[str, float] = field(default_factory=dict)  # when those were read
    pending: set[str] = field(default_factory=set)  # images that wait to be read
    gone: set[str] = field(default_factory=set)  # objects that are no more, still in the manifest
    sent: set[str] = field(default_factory=set)  # images that any host may read by now
    sent_at: float = float("-inf")
    told: dict[str, Dir | None] = field(default_factory=dict)  # folders that show otherwise now
    edited: set[str] = field(default_factory=set)  # images whose sidecars are other objects now
    retries: dict[str, Retry] = field(default_factory=dict)
    looked: float = float("-inf")
    took: float = 0.0
    asked: float = float("-inf")

    @property
    def far(self) -> bool:
        """Whether the folder's images lie in a bucket, where each look costs a request."""
        return self.place is not None and self.place.storage.root.remote

    @property
    def untold(self) -> set[str]:
        """The images of which the manifest is still to tell something."""
        return {*self.pending, *list(self.facts), *self.gone, *self.edited}

    def told_of(
        self,
        facts: dict[str, Facts],
        gone: set[str],
        edited: set[str],
        told: dict[str, Dir | None],
    ) -> None:
        """The manifest tells of these now; what was learnt since stays."""
        for name, learnt in facts.items():
            if self.facts.get(name) is learnt:
                del self.facts[name]
                self.read_at.pop(name, None)
        self.gone -= gone
        self.edited -= edited
        for name, entry in told.items():
            if self.told.get(name) is entry:
                self.told.pop(name, None)

    def failed(self, name: str, reason: str, now: float) -> None:
        """An image could not be read: try again, later and later."""
        tries = self.retries[name].tries + 1 if name in self.retries else 1
        wait = min(RETRY_SECONDS * 2 ** (tries - 1), RETRY_SECONDS_MOST)
        self.retries[name] = Retry(now + wait, tries, reason)

    def keep_retries(self, names: set[str]) -> None:
        """Only these images are still there."""
        self.retries = {n: retry for n, retry in list(self.retries.items()) if n in names}

    def has_due_retry(self, now: float) -> bool:
        return any(retry.due <= now for retry in list(self.retries.values()))


class Memory:
    """The records of all folders; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, Known] = {}

    def get(self, path: Path) -> Known | None:
        return self._folders.get(path)

    def of(self, path: Path) -> Known:
        """The record of a folder, made where there is none."""
        with self._lock:
            return self._folders.setdefault(path, Known())

    def all(self) -> list[tuple[Path, Known]]:
        with self._lock:
            return list(self._folders.items())

    def forget(self, path: Path) -> None:
        """A folder is gone, and all below it."""
        with self._lock:
            for folder in [folder for folder in self._folders if path.holds(folder)]:
                del self._folders[folder]
            above = self._folders.get(path.parent)
            if above and above.children:
                above.children.discard(path.name)


class Watch:
    """The images that changed last, by their revs: a copy may go on in place after a pause.

    Writing into a file moves no time of its folder, which is all that a cheap scan looks at.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revs: OrderedDict[Path, str] = OrderedDict()

    def add(self, path: Path, rev: str) -> None:
        """An image has this rev; the one that was added longest ago may be let go for it."""
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


class Walk:
    """One walk through all folders: what is still to be seen, and whether it saw everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: set[Path] = set()
        self._broken = False
        self.began: float | None = None  # None: there is no complete walk, one is due
        self.full = False  # it is one through all folders, and not only through new ones

    @property
    def going_on(self) -> bool:
        return bool(self._left)

    def begin(self, now: float) -> None:
        self.began, self._broken, self.full = now, False, True

    def add(self, path: Path) -> None:
        """This folder is to be seen."""
        with self._lock:
            self._left.add(path)

    def interrupt(self) -> None:
        """A folder could not be seen: this walk proves nothing, and another is due."""
        self._broken, self.began = True, None

    def seen(self, path: Path) -> bool:
        """This folder was seen; True when it was the last and the walk is complete."""
        with self._lock:
            if path not in self._left:
                return False
            self._left.discard(path)
            return not (self._left or self._broken)
