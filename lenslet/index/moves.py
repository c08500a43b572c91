"""Moves sidecars after their photos.

A photo is what it shows; its path is only where it is. A sidecar belongs to the photo whose hash it
holds, so the sidecar of a photo that was renamed or moved is moved after it.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.record import Record, Records
from lenslet.library import Library, manifest, orphans
from lenslet.library.health import SHOWN, FolderHealth, Problem
from lenslet.library.orphans import Orphan
from lenslet.library.sidecar import Whose
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

PATIENCE_SECONDS = 5.0  # while a copy or a sync is in progress, photos come and go
_WALK_SECONDS = 3600.0
_RETRY_SECONDS = 600.0  # after a move that failed, while nothing changes
_UNSETTLED_SECONDS = 120.0  # the longest wait for images that are being written all the time
_SCAN_SECONDS = 30.0  # at least, between two looks at all folders
_TURN_SECONDS = 4.0  # of moving, some thousands; then other work has its turn


class Place(NamedTuple):
    """An image with the hash of an orphan.

    `path` is where it is shown, `file` where it really is. `has_sidecar`: it has one of its own.
    """

    path: Path
    file: str
    has_sidecar: bool
    readonly: bool = False


class Decision(NamedTuple):
    """What to do about the sidecars of one photo that are not beside it.

    `verdict` says whose the doubtful ones are. `move` goes to `place`. `reason` says why those that
    are not moved stay where they are.
    """

    verdict: Whose
    reason: str = ""
    move: Orphan | None = None
    place: Place | None = None


@dataclass(slots=True)
class Pending:
    """A move or a decision that waits: the `situation`, since when it is so, and when it is due.

    If it was `tried`, `reason` says why it failed.
    """

    situation: object
    since: float
    due: float
    tried: bool = False
    reason: str = ""


class Knowledge(NamedTuple):
    """How well the library is known.

    Images are still to be read (`unread`), or being written (`unsettled`), and since when every
    folder was `looked` at.
    """

    unread: bool
    unsettled: bool
    looked: float

    @classmethod
    def of(cls, records: Mapping[Path, Record]) -> Knowledge:
        return cls(
            any(each.left.images for each in records.values()),
            any(each.left.unsettled for each in records.values()),
            min(each.looked.at - each.looked.took for each in records.values()),
        )


class Next(enum.Enum):
    """What comes next for a situation: WAIT, LOOK at all folders, ACT, or REST: nothing is due."""

    WAIT, LOOK, ACT, REST = range(4)


def next_step(pending: Pending, now: float, knowledge: Knowledge) -> Next:
    """Decides what comes next.

    It is acted on what has not changed for some seconds, when all images have been read and every
    folder was looked at since.
    """
    if now < pending.due:
        return Next.REST if pending.tried else Next.WAIT
    writing = knowledge.unsettled and now - pending.since <= _UNSETTLED_SECONDS
    if knowledge.unread or writing:
        return Next.WAIT
    return Next.ACT if knowledge.looked > pending.since else Next.LOOK


def decide(found: Iterable[Orphan], places: Iterable[Place]) -> Decision:
    """Decides about the orphans `found` of one hash, and the images that have it.

    Of several sidecars of one photo the newest is moved.
    """
    in_order = sorted(places, key=lambda place: (place.readonly, place.path), reverse=True)
    photos = sorted({place.file: place for place in in_order}.values())
    if not photos:
        return Decision(Whose.EDITED)  # by the image beside it
    if len(photos) > 1:
        shown = f"{photos[0].path} and {photos[1].path}"
        return Decision(Whose.OTHER, f"{len(photos)} images have the content of its photo: {shown}")
    photo = photos[0]
    movable = [each for each in found if each.editable and not each.doubtful]
    if not movable or photo.readonly:
        return Decision(Whose.OTHER, f"its photo is {photo.path}, but it must not be moved")
    reason = f"its photo is {photo.path}, which has a sidecar of its own"
    newest = max(movable, key=lambda each: (each.updated, each.path))
    return Decision(Whose.OTHER, reason if photo.has_sidecar else "", newest, photo)


class Step(NamedTuple):
    """What is due after a step: folders to look at, all of them, another step; a move `waits`."""

    look: frozenset[Path] = frozenset()
    look_all: bool = False
    again: float | None = None
    waits: bool = False


class Moves:
    """Finds the photos of orphan sidecars, and moves the sidecars after them.

    `waits`: something will be moved or decided soon. `health` counts the orphans that stay.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._looks = set[Path]()
        self._clock = clock
        self._search = _Search(library)
        self._verdicts: dict[str, Whose] = {}  # by hash, as far as that was decided
        self._pending: dict[str, Pending] = {}  # by hash
        self._gone = _Gone(library)
        self.health = FolderHealth()
        self.waits = False

    def verdict(self, digest: str) -> Whose:
        """EDITED if no image of the library has this hash, OTHER if one has, or UNDECIDED."""
        return self._verdicts.get(digest, Whose.UNDECIDED)

    def step(self, records: Records, forgotten: int) -> Step:
        """Moves the sidecars whose photo is elsewhere, for some seconds at most."""
        self._looks = set()
        self._gone.look(records, forgotten, self._clock())
        found = defaultdict[str, list[Orphan]](list)
        for each in (*(o for r in records.values() for o in r.orphans), *self._gone.orphans()):
            found[each.hash].append(each)
        places = self._search.places(found.keys() - {""}, records)
        self._pending = {key: each for key, each in self._pending.items() if key in places}
        self._verdicts = {key: each for key, each in self._verdicts.items() if key in places}
        knowledge, until = Knowledge.of(records), self._clock() + _TURN_SECONDS
        steps, reasons = set[Next](), dict[str, str]()
        for key, there in places.items():
            step, reasons[key] = self._advance(key, found[key], there, knowledge, until)
            steps.add(step)
        self.waits = bool(steps & {Next.WAIT, Next.LOOK})
        self.health = _health(found, reasons)
        again = (0.0 if self._clock() > until else 1.0) if self.waits else None
        return Step(frozenset(self._looks), Next.LOOK in steps, again, self.waits)

    def _advance(
        self,
        key: str,
        found: list[Orphan],
        places: set[Place],
        knowledge: Knowledge,
        until: float,
    ) -> tuple[Next, str]:
        """Brings the orphans of one hash forward, by one step at most, unless it is after `until`.

        Returns what comes next, and why those that stay are not moved.
        """
        decision, now = decide(found, places), self._clock()
        doubtful = {each.path.parent for each in found if each.doubtful}
        is_news = bool(doubtful) and self.verdict(key) is not decision.verdict
        if not (is_news or decision.move):
            return Next.REST, decision.reason
        situation = frozenset(found), frozenset(places)
        pending = self._pending.get(key)
        if pending is None or pending.situation != situation:
            pending = self._pending[key] = Pending(situation, now, now + PATIENCE_SECONDS)
        step = next_step(pending, now, knowledge)
        if step is Next.ACT and now > until:
            step = Next.WAIT
        if step is Next.ACT:
            pending.due, pending.tried = now + _RETRY_SECONDS, True
            self._library.tree.check()
            if is_news:  # the folders read their sidecars again, and ask for the verdict
                self._verdicts[key] = decision.verdict
                self._look_at(doubtful)
            elif decision.move and decision.place:
                pending.reason = self._move(decision.move, decision.place)
        return step, pending.reason or decision.reason

    def _move(self, orphan: Orphan, place: Place) -> str:
        """Moves one sidecar; returns why it could not be moved."""
        folder = place.path.parent
        try:
            location = self._library.locator.folder(folder, fresh=True)
            moved = orphans.move(orphan, location, place.path.name, has_sidecar=place.has_sidecar)
        except LensletError as error:
            self._library.check_storage(error)
            if not place.has_sidecar:
                log.warning("sidecar %s is not moved: %s", orphan.path, one_line(error))
            return "" if isinstance(error, NotFound) else one_line(error)
        log.info("sidecar %s moved after its photo: %s", orphan.path, folder.child(moved.name))
        self._look_at({folder})
        if not self._gone.forget(orphan):
            self._look_at({orphan.path.parent})
        return ""

    def _look_at(self, folders: Iterable[Path]) -> None:
        self._looks.update(folders)


def _health(found: Mapping[str, list[Orphan]], reasons: Mapping[str, str]) -> FolderHealth:
    """Returns the health of all orphans that stay; `reasons` says why, by the hash."""
    problems = [
        Problem("orphanSidecars", each.path, reasons.get(key) or each.reason)
        for key, of_one_photo in found.items()
        for each in of_one_photo
        if not each.doubtful
    ]
    counts = Counter(orphanSidecars=len(problems))
    return FolderHealth(counts, tuple(sorted(problems)[:SHOWN]))


class _Search:
    """Finds the images that have one of some hashes, and reads only what has changed."""

    def __init__(self, library: Library) -> None:
        self._tree = library.tree
        self._wanted: Set[str] = frozenset()
        self._found: dict[Path, tuple[str, list[tuple[str, Place]]]] = {}  # with the generation

    def places(self, wanted: Set[str], records: Mapping[Path, Record]) -> dict[str, set[Place]]:
        """Returns where in the library images have each of the `wanted` hashes."""
        new, self._wanted = wanted - self._wanted, frozenset(wanted)
        if not wanted:
            self._found = {}
            return {}
        before, self._found = self._found, {}
        places: dict[str, set[Place]] = {each: set() for each in wanted}
        for folder, record in records.items():
            if not (record.location and record.generation):
                continue
            generation, found = before.get(folder, ("", []))
            search = new if generation == record.generation else wanted
            found = found if generation == record.generation else []
            if search:
                for item in manifest.items_with(self._tree, folder, search):
                    file = f"{record.location.tree.name}/{record.location.file(item['name'])}"
                    readonly = record.location.readonly
                    place = Place(Path(item["path"]), file, item["hasMeta"], readonly)
                    found = [*found, (item["hash"], place)]
            self._found[folder] = record.generation, found
            for digest, place in found:
                if digest in places:
                    places[digest].add(place)
        return places


class _Gone:
    """The sidecars in folders of `STATE_DIR` that are gone from the library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._orphans: dict[Path, dict[Path, Orphan]] = {}  # by folder and path
        self._looked = float("-inf")
        self._forgotten = 0

    def look(self, records: Mapping[Path, Record], forgotten: int, now: float) -> None:
        """Looks for such folders every hour, and when a folder was `forgotten`.

        Removes their derived files.
        """
        tree = self._library.tree
        locations = [each.location for each in records.values() if each.location]
        if self._orphans:  # without those that came back
            here = orphans.folders_of(tree, locations)
            kept = {path: found for path, found in self._orphans.items() if path not in here}
            self._orphans = kept
        if tree.own is None or (
            forgotten == self._forgotten and now - self._looked < _WALK_SECONDS
        ):
            return
        tree.check()
        known = orphans.folders_of(tree, locations)
        # What lies behind a pointer that is broken right now is not gone.
        kinds = ("brokenPointers", "unreadableFolders")
        targets = not any(r.health.counts[kind] for r in records.values() for kind in kinds)
        gone = orphans.folders_gone(tree.own, self._library.locator, known, targets=targets)
        self._orphans = {
            folder: {each.path: each for each in orphans.clear(tree, folder)} for folder in gone
        }
        self._forgotten, self._looked = forgotten, now

    def orphans(self) -> list[Orphan]:
        return [each for found in self._orphans.values() for each in found.values()]

    def forget(self, orphan: Orphan) -> bool:
        """Forgets an orphan that was moved; False if it was in a folder of the library."""
        found = self._orphans.get(orphan.path.parent, {})
        if found.pop(orphan.path, None) is None:
            return False
        if not found and self._library.tree.own:
            for folder in (orphan.path.parent, *orphan.path.parent.ancestors()):
                self._library.tree.own.remove_folder(folder)
        return True
