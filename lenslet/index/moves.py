"""Moves sidecars after their photos.

A photo is what it shows; its path is only where it is. If exactly one image of the library has the
hash that a sidecar holds, and that is not the image beside it, the sidecar is moved there.
"""

from __future__ import annotations

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
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

PATIENCE_SECONDS = 5.0  # while a copy or a sync is in progress, photos come and go
_WALK_SECONDS = 3600.0
_RETRY_SECONDS = 600.0  # after a move that failed, while nothing changes
_UNSETTLED_SECONDS = 120.0  # the longest wait for images that are being written all the time
_TURN_SECONDS = 4.0  # of moving, some thousands; then other work has its turn


class Place(NamedTuple):
    """An image with the hash of an orphan: where it is shown, and the file that it really is."""

    path: Path
    file: str
    readonly: bool = False


class Decision(NamedTuple):
    """What to do about the sidecars of one photo that are not beside it.

    `move` goes to `place`. `reason` says why the others stay where they are.
    """

    move: Orphan | None = None
    place: Place | None = None
    reason: str = ""


class Step(NamedTuple):
    """What follows a step: folders to `look` at, or all of them; the next step in `again` seconds.

    `waits`: a sidecar will be moved soon.
    """

    look: frozenset[Path] = frozenset()
    look_all: bool = False
    again: float | None = None
    waits: bool = False


@dataclass(slots=True)
class Pending:
    """A move that waits: the `situation`, since when it is so, when it is due, why it failed."""

    situation: object
    since: float
    due: float
    reason: str | None = None


class Knowledge(NamedTuple):
    """How well the library is known.

    Images are still to be read (`unread`), or being written (`unsettled`), and since when every
    folder was `looked` at.
    """

    unread: bool
    unsettled: bool
    looked: float

    @classmethod
    def of(cls, records: Records) -> Knowledge:
        return cls(
            any(each.left.images for each in records.values()),
            any(each.left.unsettled for each in records.values()),
            min(each.looked.at - each.looked.took for each in records.values()),
        )

    def is_ready(self, pending: Pending, now: float) -> bool:
        """True if nothing has changed for some seconds, and all images have been read."""
        writing = self.unsettled and now - pending.since <= _UNSETTLED_SECONDS
        return now >= pending.due and not (self.unread or writing)


def decide(found: Iterable[Orphan], places: Iterable[Place]) -> Decision:
    """Decides about the orphans `found` of one hash, and the images that have it.

    Of several sidecars of one photo the newest is moved.
    """
    in_order = sorted(places, key=lambda place: (place.readonly, place.path), reverse=True)
    photos = sorted({place.file: place for place in in_order}.values())
    if not photos:
        return Decision()
    if len(photos) > 1:
        shown = f"{photos[0].path} and {photos[1].path}"
        return Decision(reason=f"{len(photos)} images have the content of its photo: {shown}")
    photo = photos[0]
    movable = [each for each in found if each.editable]
    if not movable or photo.readonly:
        return Decision(reason=f"its photo is {photo.path}, but it must not be moved")
    newest = max(movable, key=lambda each: (each.updated, each.path))
    return Decision(newest, photo)


class Moves:
    """Finds the photos of orphan sidecars, and moves the sidecars after them.

    `health` counts the orphans that stay. Used by one thread at a time.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._search = _Search(library)
        self._pending: dict[str, Pending] = {}  # by hash
        self._gone = _Gone(library)
        self.health = FolderHealth()

    def step(self, records: Records, forgotten: int) -> Step:
        """Moves the sidecars whose photo is elsewhere, for some seconds at most."""
        self._gone.look(records, forgotten, self._clock())
        found = defaultdict[str, list[Orphan]](list)
        for each in (*(o for r in records.values() for o in r.orphans), *self._gone.orphans()):
            found[each.hash].append(each)
        places = self._search.places(found.keys() - {""}, records)
        decisions = {key: decide(found[key], there) for key, there in places.items()}
        moves = {key: each for key, each in decisions.items() if each.move}
        self._pending = {key: each for key, each in self._pending.items() if key in moves}
        knowledge, until = Knowledge.of(records), self._clock() + _TURN_SECONDS
        looks, waits, look_all = set[Path](), False, False
        for key, decision in moves.items():
            pending, now = (
                self._wait(key, (frozenset(found[key]), frozenset(places[key]))),
                self._clock(),
            )
            is_ready = knowledge.is_ready(pending, now)
            if is_ready and knowledge.looked > pending.since and now < until:
                pending.due = now + _RETRY_SECONDS
                pending.reason = self._move(decision, looks)
            else:
                waits |= is_ready or pending.reason is None
                look_all |= is_ready and knowledge.looked <= pending.since
        reasons = {key: each.reason for key, each in decisions.items()}
        reasons |= {key: each.reason or "" for key, each in self._pending.items()}
        self.health = _health(found, reasons)
        again = (0.0 if self._clock() > until else 1.0) if waits or looks else None
        return Step(frozenset(looks), look_all, again, waits or bool(looks))

    def _wait(self, key: str, situation: object) -> Pending:
        """Returns since when the situation of a move is as it is."""
        pending = self._pending.get(key)
        if pending is None or pending.situation != situation:
            now = self._clock()
            pending = self._pending[key] = Pending(situation, now, now + PATIENCE_SECONDS)
        return pending

    def _move(self, decision: Decision, looks: set[Path]) -> str:
        """Moves one sidecar; returns why it could not be moved."""
        orphan, place = decision.move, decision.place
        assert orphan and place
        self._library.tree.check()
        folder = place.path.parent
        try:
            location = self._library.locator.folder(folder, fresh=True)
            moved = orphans.move(orphan, location, place.path.name)
        except LensletError as error:
            self._library.check_storage(error)
            log.warning("sidecar %s is not moved: %s", orphan.path, one_line(error))
            return "" if isinstance(error, NotFound) else one_line(error)
        log.info("sidecar %s moved after its photo: %s", orphan.path, folder.child(moved.name))
        looks.add(folder)
        if not self._gone.forget(orphan):
            looks.add(orphan.path.parent)
        return ""


def _health(found: Mapping[str, list[Orphan]], reasons: Mapping[str, str]) -> FolderHealth:
    """Returns the health of all orphans that stay; `reasons` says why, by the hash."""
    problems = sorted(
        Problem(
            "changedPhotos" if each.is_shown else "orphanSidecars",
            each.path,
            reasons.get(key) or each.reason,
        )
        for key, of_one_photo in found.items()
        for each in of_one_photo
    )
    shown = Counter[str]()
    for problem in problems:
        shown[problem.kind] += 1
    return FolderHealth(shown, tuple(problems[: 2 * SHOWN]))


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
                    place = Place(Path(item["path"]), file, record.location.readonly)
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

    def look(self, records: Records, forgotten: int, now: float) -> None:
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
