"""What the index process remembers of each folder between two looks at it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet import errors
from lenslet.errors import LensletError, one_line
from lenslet.index.look import Look, Stamp
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, Manifest
from lenslet.library.orphans import Orphan
from lenslet.paths import ROOT, Path

RETRY_SECONDS, RETRY_SECONDS_MOST = 3.0, 3600.0  # the first distance between two tries, the longest
_MOST_TRIES = 20  # that are counted
_MOST_NESTED = 1000  # folders behind several pointers
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


class Looked(NamedTuple):
    """When a look ended and how long it took, in seconds of the loop's clock.

    `began_ns` is when it began, as files have it. `again`: the next scan looks again, whatever the
    stamps say.
    """

    at: float = -NEVER
    took: float = 0.0
    began_ns: int = 0
    again: bool = False


class Left(NamedTuple):
    """How many images of a folder will be read, and whether some are still being written."""

    images: int = 0
    unsettled: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Replaced as a whole by the run that indexed the folder.

    `entry` is how the folder is shown in its parent, None if it is not. `generation` is that of
    its manifest, "" if it has none. `children` are its subfolders, each as the manifest shows it.
    `orphans` are sidecars whose photo is not beside them.
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
    left: Left = field(default_factory=Left)

    @classmethod
    def of(
        cls,
        look: Look,
        before: Record,
        failed: Mapping[str, str],
        looked: Looked,
        *,
        has_stamps: bool,
    ) -> Record:
        """Returns the record of a folder after a look.

        `failed` says why some images could not be read since the look `before`.
        """
        plan, path = look.plan, look.contents.location.path
        pending = plan.todo.keys() | plan.stale.keys()
        reasons = {**before.retry.reasons, **failed}
        reasons = {n: reason for n, reason in reasons.items() if reason and n in pending}
        # A copy that paused may go on, which no stamp tells; an object in a bucket is whole.
        damaged = dict.fromkeys(plan.damaged if has_stamps else (), "")
        problems = [Problem("unreadableFiles", path.child(n), r) for n, r in reasons.items()]
        return cls(
            location=look.contents.location,
            stamps=look.contents.stamps,
            generation=plan.manifest.generated_at,
            entry=look.entry,
            children=look.children,
            health=FolderHealth.of(plan.manifest, [*plan.problems, *problems]),
            retry=before.retry.after(looked.at, {**damaged, **reasons}, changed=plan.changed),
            looked=looked,
            orphans=tuple(look.orphans),
            left=Left(len(plan.todo.keys() - reasons.keys()), plan.unsettled),
        )

    @property
    def shown(self) -> tuple[object, ...]:
        """What search and health show of the folder."""
        return self.generation, self.health, self.orphans, self.left


def only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    """Returns the health of a folder that has this problem, and is not known otherwise."""
    return FolderHealth.of(Manifest(path), [Problem(kind, path, one_line(error))])


class Records:
    """The records of all folders. A folder that was not indexed yet has one too. Thread-safe.

    `changes` counts what looks found, `version` the changes of health, `forgotten` the indexed
    folders that are gone, `left` the images that will be read, `images_read` those that were.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders = {ROOT: Record()}
        self._gone: set[Path] = set()  # forgotten folders that search has not learned of
        self._nested: set[Path] = set()  # those behind several pointers
        self.changes = self.version = self.forgotten = self.left = self.images_read = 0

    def get(self, path: Path) -> Record:
        """Returns the record of a folder, an empty one if it is unknown."""
        return self._folders.get(path) or Record()

    def all(self) -> list[tuple[Path, Record]]:
        with self._lock:
            return list(self._folders.items())

    def check_nested(self, path: Path, location: Location) -> None:
        """Raises `TooManyPointers` for one more folder behind several pointers than are allowed.

        Pointers to folders that hold pointers multiply what is shown.
        """
        with self._lock:
            if len(location.chain) > 1 and path not in self._nested:
                if len(self._nested) >= _MOST_NESTED:
                    raise errors.TooManyPointers(
                        f"{path} is behind {len(location.chain)} pointers, and {_MOST_NESTED} "
                        "folders are behind several pointers already."
                    )
                self._nested.add(path)

    @property
    def complete(self) -> bool:
        """True if every known folder has been indexed."""
        return all(record.looked.at > -NEVER for _, record in self.all())

    def expect(self, path: Path, entry: Dir | None) -> bool:
        """Remembers a subfolder as its parent shows it; True if it has not been indexed yet."""
        with self._lock:
            return self._folders.setdefault(path, Record(entry=entry)).looked.at == -NEVER

    def entries(self, folder: Path, names: list[str]) -> dict[str, Dir | None]:
        """Returns how those of the subfolders that are known are shown, None if they are not."""
        found = ((name, self._folders.get(folder.child(name))) for name in names)
        return {name: record.entry for name, record in found if record}

    def put(self, path: Path, record: Record, *, images_read: int = 0) -> None:
        """Replaces the record of a folder, and counts the images that were read since."""
        with self._lock:
            self.images_read += images_read
            before = self.get(path)
            self.version += before.health != record.health
            self.changes += before.stamps != record.stamps
            self.left += record.left.images - before.left.images
            self._folders[path] = record

    def forget(self, path: Path) -> None:
        """Forgets a folder and all below it."""
        with self._lock:
            self.version += 1
            self.changes += 1
            start = f"{path}/" if path else ""
            gone = {path, *(folder for folder in self._folders if folder.startswith(start))}
            self._gone |= gone
            self.forgotten += any(self.get(folder).generation for folder in gone)
            self._nested -= gone
            for folder in gone:
                self.left -= self._folders.pop(folder, Record()).left.images

    def gone(self) -> set[Path]:
        """Returns the forgotten folders that search has not learned of."""
        with self._lock:
            return set(self._gone)

    def search_knows(self, gone: set[Path]) -> None:
        """Drops folders that search has learned of."""
        with self._lock:
            self._gone -= gone
