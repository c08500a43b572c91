"""Moves sidecars after their photos.

A photo is what it shows; its path is only where it is. If exactly one image of the library has the
hash that a sidecar holds, and that is not the image beside it, the sidecar is moved there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import NamedTuple

from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.record import Record, Records
from lenslet.library import Library, manifest, orphans
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.orphans import Orphan
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

PATIENCE_SECONDS = 5.0  # while a copy or a sync is in progress, photos come and go
_RETRY_SECONDS = 600.0  # after a move that failed, while nothing changes
_LOOK_ALL_SECONDS = 30.0  # at least, between two looks at all folders
_TURN_SECONDS = 4.0  # of moving, some thousands; then other work has its turn


class Place(NamedTuple):
    """An image with the hash of an orphan: where it is shown, and the file that it really is."""

    hash: str
    path: Path
    file: str
    readonly: bool = False


class Move(NamedTuple):
    """A sidecar, and the image to which it is moved."""

    orphan: Orphan
    place: Place


def decide(found: Iterable[Orphan], places: Iterable[Place]) -> Move | str:
    """Decides which of the orphans of one hash is moved to which of the images that have it.

    That is the newest, if there is one such image. Returns the reason if none is moved.
    """
    in_order = sorted(places, key=lambda place: (place.readonly, place.path), reverse=True)
    photos = sorted({place.file: place for place in in_order}.values())
    if len(photos) > 1:
        shown = f"{photos[0].path} and {photos[1].path}"
        return f"{len(photos)} images have the content of its photo: {shown}"
    movable = [each for each in found if each.editable]
    for photo in photos:
        if not movable or photo.readonly:
            return f"its photo is {photo.path}, but it must not be moved"
        return Move(max(movable, key=lambda each: (each.updated, each.path)), photo)
    return ""


@dataclass(slots=True)
class Waiting:
    """A move that waits, and `since` when. After a try that is a time to come: it rests until then.

    `failed` says why the try failed; empty if it did not, or if the photo has gone.
    """

    move: Move
    since: float
    failed: str = ""


class Step(NamedTuple):
    """What follows a step: folders to `look` at, or all of them; `waits`: another step soon."""

    look: frozenset[Path] = frozenset()
    look_all: bool = False
    waits: bool = False


class Moves:
    """Finds the photos of orphan sidecars, and moves the sidecars after them.

    `health` counts the orphans that stay. Used by one thread at a time.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._search = _Search(library)
        self._waiting: dict[str, Waiting] = {}  # by hash
        self._asked = float("-inf")  # when all folders were to be looked at
        self.health = FolderHealth()

    def step(self, records: Records) -> Step:
        """Moves the sidecars whose photo is elsewhere, for some seconds at most."""
        now = self._clock()
        found = defaultdict[str, list[Orphan]](list)
        for each in (orphan for record in records.values() for orphan in record.orphans):
            found[each.hash].append(each)
        places = self._search.places(found.keys() - {""}, records)
        decided = {key: decide(found[key], there) for key, there in places.items()}
        moves = {key: each for key, each in decided.items() if isinstance(each, Move)}
        before, self._waiting = self._waiting, {}
        for key, move in moves.items():
            known = before.get(key)
            self._waiting[key] = known if known and known.move == move else Waiting(move, now)
        waits = [each for each in self._waiting.values() if each.since <= now]
        # While images are unread, any may be the photo; a folder may change until it is looked at.
        unread = any(each.left for each in records.values())
        looked = min(each.looked - each.took for each in records.values())
        quiet = [e for e in waits if e.since + PATIENCE_SECONDS <= now and not unread]
        looks, until = set[Path](), now + _TURN_SECONDS
        for waiting in quiet:
            if waiting.since < looked and self._clock() <= until:
                looks |= self._move(waiting)
        reasons = {key: each for key, each in decided.items() if isinstance(each, str)}
        reasons |= {key: each.failed for key, each in self._waiting.items()}
        problems = (
            Problem(each.kind, each.path, reasons.get(key) or each.reason)
            for key, of_one_photo in found.items()
            for each in of_one_photo
        )
        self.health = FolderHealth().plus(sorted(problems))
        look_all = any(each.since >= looked for each in quiet)
        look_all &= now - self._asked > _LOOK_ALL_SECONDS
        if look_all:
            self._asked = now
        return Step(frozenset(looks), look_all, waits=bool(waits))

    def _move(self, waiting: Waiting) -> set[Path]:
        """Moves one sidecar; returns the folders to look at."""
        (orphan, place), before = waiting.move, waiting.failed
        waiting.since, waiting.failed = self._clock() + _RETRY_SECONDS, ""
        self._library.tree.check()
        folder = place.path.parent
        try:
            location = self._library.locator.folder(folder, fresh=True)
            moved = orphans.move(orphan, location, place.path.name)
        except LensletError as error:
            self._library.check_storage(error)
            waiting.failed = "" if isinstance(error, NotFound) else one_line(error)
            if waiting.failed != before:
                log.warning("sidecar %s is not moved: %s", orphan.path, one_line(error))
            return set()
        log.info("sidecar %s moved after its photo: %s", orphan.path, folder.child(moved.name))
        return {folder, orphan.path.parent}


class _Search:
    """Finds the images that have one of some hashes, and reads only what has changed."""

    def __init__(self, library: Library) -> None:
        self._tree = library.tree
        self._wanted: Set[str] = frozenset()
        self._found: dict[tuple[Path, str], set[Place]] = {}  # by folder and generation

    def places(self, wanted: Set[str], records: Records) -> dict[str, set[Place]]:
        """Returns where in the library images have each of the `wanted` hashes."""
        new, self._wanted = wanted - self._wanted, frozenset(wanted)
        before, self._found = self._found, {}
        places: dict[str, set[Place]] = {each: set() for each in wanted}
        for folder, record in records.items():
            key = folder, record.generation
            search = new if key in before else wanted
            found = {each for each in before.get(key, ()) if each.hash in wanted}
            self._found[key] = found | set(self._read(folder, record, search))
            for place in self._found[key]:
                places[place.hash].add(place)
        return places

    def _read(self, folder: Path, record: Record, wanted: Set[str]) -> Iterator[Place]:
        if not (wanted and record.location and record.generation):
            return
        for item in manifest.items_with(self._tree, folder, wanted):
            file = f"{record.location.tree.name}/{record.location.file(item['name'])}"
            yield Place(item["hash"], Path(item["path"]), file, record.location.readonly)
