"""Moves sidecars after their photos.

A photo is what it shows; its path is only where it is. If exactly one image of the library has the
hash that a sidecar holds, and that is not the image beside it, the sidecar is moved there.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
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

    If exactly one image has the hash, the newest orphan is moved to it. Else returns the reason.
    """
    in_order = sorted(places, key=lambda place: (place.readonly, place.path), reverse=True)
    photos = sorted({place.file: place for place in in_order}.values())
    if len(photos) > 1:
        shown = f"{photos[0].path} and {photos[1].path}"
        return f"{len(photos)} images have the content of its photo: {shown}"
    if not photos:
        return ""
    photo, movable = photos[0], [each for each in found if each.editable]
    if not movable or photo.readonly:
        return f"its photo is {photo.path}, but one of the two folders is read-only"
    return Move(max(movable, key=lambda each: (each.updated, each.path)), photo)


class Step(NamedTuple):
    """What follows a step: `looks` at folders, or at all; `waits`: another step soon."""

    looks: frozenset[Path] = frozenset()
    look_all: bool = False
    waits: bool = False


@dataclass(slots=True)
class Pending:
    """A move that was decided: since when, when it is due, and why it failed."""

    since: float
    due: float
    reason: str = ""


class Moves:
    """Finds the photos of orphan sidecars, and moves the sidecars after them.

    `health` counts the orphans that stay. Used by one thread at a time.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._search = _Search(library)
        self._pending: dict[Move, Pending] = {}
        self._asked = float("-inf")  # when all folders were to be looked at
        self.health = FolderHealth()

    def step(self, records: Records) -> Step:
        """Moves the sidecars whose photo is elsewhere, for some seconds at most."""
        now, before = self._clock(), self._pending
        orphans_of = defaultdict[str, list[Orphan]](list)  # by hash
        for orphan in (each for record in records.values() for each in record.orphans):
            orphans_of[orphan.hash].append(orphan)
        places = self._search.places(orphans_of.keys() - {""}, records)
        decided = {key: decide(orphans_of[key], there) for key, there in places.items()}
        moves = (each for each in decided.values() if isinstance(each, Move))
        self._pending = {move: before.get(move) or Pending(now, now) for move in moves}
        waiting = [move for move, pending in self._pending.items() if pending.due <= now]
        looks, look_all = set[Path](), False
        if not any(record.left for record in records.values()):  # an unread image may be the photo
            settled = [m for m in waiting if now - self._pending[m].since >= PATIENCE_SECONDS]
            # Every folder must have been looked at since: until then, it may hold the photo too.
            looked = min(record.looked - record.took for record in records.values())
            ready = [move for move in settled if self._pending[move].since < looked]
            for move in itertools.takewhile(lambda _: self._clock() <= now + _TURN_SECONDS, ready):
                looks |= self._move(move)
            look_all = len(ready) < len(settled) and now - self._asked > _LOOK_ALL_SECONDS
        self._asked = now if look_all else self._asked
        self._report(orphans_of, decided)
        return Step(frozenset(looks), look_all, waits=bool(waiting))

    def _report(
        self, orphans_of: Mapping[str, list[Orphan]], decided: Mapping[str, Move | str]
    ) -> None:
        """Counts the orphans, each with the reason why it is not moved, if there is one."""
        problems = []
        for key, found in orphans_of.items():
            reason = decided.get(key, "")
            reason = self._pending[reason].reason if isinstance(reason, Move) else reason
            problems += [Problem(each.kind, each.path, reason or each.reason) for each in found]
        self.health = FolderHealth().plus(sorted(problems))

    def _move(self, move: Move) -> set[Path]:
        """Moves one sidecar; returns the folders to look at."""
        (orphan, place), pending = move, self._pending[move]
        folder, looks = place.path.parent, set[Path]()
        self._library.tree.check()
        try:
            location = self._library.locator.folder(folder, fresh=True)
            moved = orphans.move(orphan, location, place.path.name)
        except LensletError as error:
            self._library.check_storage(error)
            reason = "" if isinstance(error, NotFound) else one_line(error)  # it has gone meanwhile
            if reason not in ("", pending.reason):
                log.warning("sidecar %s is not moved: %s", orphan.path, reason)
        else:
            reason, looks = "", {folder, orphan.path.parent}
            log.info("sidecar %s moved after its photo: %s", orphan.path, folder.child(moved.name))
        # After a move it rests until the looks have seen that.
        pending.reason, pending.due = reason, self._clock() + _RETRY_SECONDS
        return looks


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
        for item in manifest.load(self._tree, folder).items:
            if item.get("hash") in wanted:
                file = f"{record.location.tree.name}/{record.location.file(item['name'])}"
                yield Place(item["hash"], Path(item["path"]), file, record.location.readonly)
