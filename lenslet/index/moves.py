"""Moves sidecars after their photos.

A photo is what it shows; its path is only where it is. If exactly one image of the library has the
hash that a sidecar holds, and that is not the image beside it, the sidecar is moved there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
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
_LOOK_ALL_SECONDS = 30.0  # at least, between two looks at all folders
_RETRY_SECONDS = 600.0  # after a move that failed, while nothing changes
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


class Step(NamedTuple):
    """What follows a step: `looks` at folders, or at all; `waits`: another step soon."""

    looks: frozenset[Path] = frozenset()
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
        self._since: dict[Move, float] = {}  # since when each move is to be made
        self._failed: dict[Move, tuple[float, str]] = {}  # until when it rests, and why
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
        moves = [each for each in decided.values() if isinstance(each, Move)]
        self._since = {move: self._since.get(move, now) for move in moves}
        self._failed = {move: self._failed[move] for move in moves if move in self._failed}
        waiting = [move for move in moves if self._failed.get(move, (now, ""))[0] <= now]
        # While images are unread, any may be the photo.
        unread = any(each.left for each in records.values())
        quiet = [m for m in waiting if now - self._since[m] >= PATIENCE_SECONDS and not unread]
        # A folder may have changed until it is looked at: each must have been since then.
        looked = min(each.looked - each.took for each in records.values())
        look_all = any(self._since[move] >= looked for move in quiet)
        look_all &= now - self._asked > _LOOK_ALL_SECONDS
        self._asked = now if look_all else self._asked
        looks = set[Path]()
        for move in quiet:
            if self._since[move] < looked and self._clock() <= now + _TURN_SECONDS:
                looks |= self._move(move)
        problems = []
        for key, orphans_of_one in found.items():
            reason = decided.get(key, "")
            reason = self._failed.get(reason, (0, ""))[1] if isinstance(reason, Move) else reason
            problems += [Problem(e.kind, e.path, reason or e.reason) for e in orphans_of_one]
        self.health = FolderHealth().plus(sorted(problems))
        return Step(frozenset(looks), look_all, waits=bool(waiting))

    def _move(self, move: Move) -> set[Path]:
        """Moves one sidecar; returns the folders to look at."""
        orphan, place = move
        self._library.tree.check()
        folder = place.path.parent
        try:
            location = self._library.locator.folder(folder, fresh=True)
            moved = orphans.move(orphan, location, place.path.name)
        except LensletError as error:
            self._library.check_storage(error)
            reason = "" if isinstance(error, NotFound) else one_line(error)  # it has gone meanwhile
            if reason and reason != self._failed.get(move, (0, ""))[1]:
                log.warning("sidecar %s is not moved: %s", orphan.path, reason)
            self._failed[move] = self._clock() + _RETRY_SECONDS, reason
            return set()
        # It rests until it is seen that it has moved.
        self._failed[move] = self._clock() + _RETRY_SECONDS, ""
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
