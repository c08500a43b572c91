"""The folders that are being indexed: when each is looked at, and whose images are read."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from lenslet.index.folders import Host, Outcome, Task
from lenslet.index.images import Line, Urgency, Wanted
from lenslet.index.messages import Look
from lenslet.index.read import AGAIN_SECONDS, Read
from lenslet.index.record import Memory, Record
from lenslet.index.work import Work
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
_REST = 10  # a folder rests so many times as long as the last look at it took
# The longest rest, and if somebody waits. A look takes long also where a machine or a disk slept.
_MOST_REST_SECONDS, _ASKED_REST_SECONDS = 30.0, 2.0
MOST_IMAGES = 20_000  # that wait to be read
_MOST_REREAD = 500  # images of a folder that are read again at a time


class Start(NamedTuple):
    """It is time to look at a folder."""

    path: Path


class Phase(Enum):
    """Where a flight is: no look is wanted, one is due later, it is in line, or it is under way."""

    IDLE, DUE, IN_LINE, LOOKING = range(4)


@dataclass(slots=True)
class Flight:
    """A folder, from the first reason to look at it until all its images are read.

    Its looks go round: IDLE, DUE, IN_LINE, LOOKING, IDLE. Meanwhile its images are `reading`; what
    they showed (`reads`) makes the next look due. It ends when it is IDLE and reads none.

    `asked`: a client waits for it. `anew` and `deep` are for the next look, see `messages.Look`;
    `next_delay` is in how many seconds after the one that is under way it is due. `reading` are the
    images that are being read, `reads` is what others showed that is not in the manifest yet.
    """

    phase: Phase = Phase.IDLE
    asked: bool = False
    anew: bool = False
    deep: bool = False
    next_delay: float | None = None
    reading: set[str] = field(default_factory=set)
    reads: dict[str, Read] = field(default_factory=dict)

    @property
    def urgency(self) -> Urgency:
        """Who waits for it."""
        return Urgency.FOLDER if self.asked else Urgency.NOBODY


class Walk:
    """Decides which folder is looked at next, and which of its images are read. Owned by the loop.

    `look` is called on other threads, for at most `most` folders at a time, and never twice at once
    for one folder. `changed` is called when search and health have to say something else.
    """

    def __init__(
        self,
        work: Work,
        clock: Clock,
        host: Host,
        look: Callable[[Task], Outcome],
        most: int,
        changed: Callable[[], None],
    ) -> None:
        self.memory = Memory()
        self._work = work
        self._clock = clock
        self._host = host
        self._look = look
        self._changed = changed
        self._most = self._room = most
        self.hurries = False  # nothing else gives way to: folders do not rest
        self._ready = Line[Path]()
        self._flights: dict[Path, Flight] = {}
        # Folders with images that found no room (True), or that are to be read again.
        self._leftovers: dict[Path, bool] = {}

    def __len__(self) -> int:
        """How many folders are in flight, or have images that are left over."""
        return len(self._flights) + len(self._leftovers)

    @property
    def rests(self) -> bool:
        """True if nothing is being looked at or read, and nothing is in line."""
        return self._room == self._most and not len(self._ready) and not len(self._work.images)

    # Looks

    def want(self, request: Look, delay: float = 0.0) -> None:
        """Has a folder looked at in `delay` seconds, or when it has rested."""
        flight = self._flights.setdefault(request.path, Flight())
        if request.asked and not flight.asked:
            self._work.images.hurry(map(request.path.child, flight.reading))
        flight.asked |= request.asked
        flight.anew |= request.anew
        flight.deep |= request.deep
        if flight.phase is Phase.LOOKING:
            later = flight.next_delay
            flight.next_delay = delay if later is None else min(delay, later)
            return
        if flight.phase is Phase.IN_LINE:
            self._ready.put(request.path, flight.urgency)  # it may be more urgent now
            return
        if not (request.anew or self.hurries):
            record = self.memory.get(request.path)
            rest = min(_REST * record.took, _MOST_REST_SECONDS)
            if request.asked:
                rest = min(max(SOON, rest), _ASKED_REST_SECONDS)
            delay = max(delay, record.looked + rest - self._clock())
        flight.phase = Phase.DUE
        self._work.later(Start(request.path), delay)

    def start(self, path: Path) -> None:
        """Puts a folder in line, whose look is due now."""
        flight = self._flights[path]
        flight.phase = Phase.IN_LINE
        self._ready.put(path, flight.urgency)

    def fill(self) -> None:
        """Starts the looks for which there is room, and puts images that were left over in line."""
        while self._room and (path := self._ready.take()) is not None:
            self._room -= 1
            flight = self._flights[path]
            task = Task(
                path,
                self.memory.get(path),
                self.memory.known(path),
                dict(flight.reads),
                frozenset(flight.reading),
                busy=flight.asked or bool(flight.reading),
                anew=flight.anew,
                deep=flight.deep,
            )
            flight.phase, flight.anew, flight.deep = Phase.LOOKING, False, False
            self._work.call(functools.partial(self._look, task))
        if self._leftovers and self.rests:
            path = max(self._leftovers, key=self._leftovers.__getitem__)
            del self._leftovers[path]
            self.want(Look(path))

    def looked(self, outcome: Outcome) -> None:
        """Remembers what a look found, and has done what follows."""
        task, path, record = outcome.task, outcome.task.path, outcome.record
        flight = self._flights[path]
        delay, flight.next_delay, flight.phase = flight.next_delay, None, Phase.IDLE
        self._room += 1
        if not outcome.is_done:
            self.want(Look(path, flight.asked, task.anew, task.deep), outcome.again or 0.0)
            return
        flight.reads = {n: r for n, r in flight.reads.items() if task.reads.get(n) is not r}
        self.memory.images_read += sum(each.facts is not None for each in task.reads.values())
        if record is None:
            self.memory.forget(path)
            if path and path.name in self.memory.get(path.parent).children:
                self.want(Look(path.parent), PATIENTLY)  # a ghost mount is listed and is not there
            self._changed()
        elif self._is_there(path, record, task.before):
            self._remember(path, record, task.before)
            self._read(flight, outcome)
        for name in outcome.below:
            self.want(Look(path.child(name), anew=task.anew, deep=True))
        if outcome.again is not None:
            self.want(Look(path), outcome.again)
        if delay is not None:
            self.want(Look(path, flight.asked, flight.anew, flight.deep), delay)
        if flight.phase is Phase.IDLE and not flight.reading:
            del self._flights[path]
            self._host.ended(path)

    def _is_there(self, path: Path, record: Record, before: Record) -> bool:
        """False if a folder above went during the look, or one that nobody knows is ignored."""
        is_new = not (before.is_known or before.entry)  # asked for before its parent lists it
        return path in self.memory.records or (is_new and record.entry is not None)

    def _remember(self, path: Path, record: Record, before: Record) -> None:
        """Replaces a folder's record, and has its parent and its subfolders looked at if due."""
        self.memory.put(path, record)
        had, has = (each.health.counts["unreadableFolders"] for each in (before, record))
        if had and not has:
            log.info("this is over: folder %s can be indexed", path or "/")
        for name, entry in record.children.items():
            child = self.memory.records.setdefault(path.child(name), Record(entry=entry))
            if not child.is_known:
                self.want(Look(path.child(name)))
            elif child.entry != entry and not has:  # it was looked at meanwhile
                self.want(Look(path), SOON)
        if path and before.entry != record.entry:
            self.want(Look(path.parent), SOON / 10 if self.hurries else SOON)
        if before.shown != record.shown:
            self._changed()

    # Images

    def _read(self, flight: Flight, outcome: Outcome) -> None:
        """Has images of a folder read: new ones; if there are none, and nothing waits, stale ones.

        Those that find no room wait until nothing else is due.
        """
        path, images = outcome.task.path, self._work.images
        wanted, is_new = outcome.new or outcome.stale, bool(outcome.new)
        room = MOST_IMAGES - (0 if flight.asked else min(len(images), MOST_IMAGES))
        if not is_new:
            room = _MOST_REREAD if self.rests else 0
        if len(wanted) > room:
            self._leftovers[path] = is_new
        for name, anew in itertools.islice(wanted.items(), room):
            if name not in flight.reading and name not in flight.reads:  # read meanwhile
                flight.reading.add(name)
                anew |= outcome.task.anew
                images.put(Wanted(path.child(name), anew=anew), flight.urgency)

    def read(self, read: Read) -> None:
        """Takes what reading an image showed; its folder is looked at soon."""
        wanted, folder, name = read.wanted, read.wanted.path.parent, read.wanted.path.name
        if read.again is not None and (wanted.waits or wanted.slow):
            self._work.later(wanted, read.again)
            return
        flight = self._flights.get(folder) or Flight()
        is_for_folder = name in flight.reading and not wanted.preview
        if is_for_folder:
            flight.reading.discard(name)
        if read.again is not None:
            if is_for_folder:
                self.want(Look(folder), AGAIN_SECONDS)
            return
        if is_for_folder or read.facts or (read.problem and not wanted.preview):
            self._flights[folder] = flight
            if read.facts or read.problem:
                flight.reads[name] = read
            is_shown = wanted.waits and read.facts and read.facts.error  # a client may wait for it
            waits = flight.reading and not is_shown
            self.want(Look(folder), (SOON if flight.asked else PATIENTLY) if waits else 0.0)
        if not wanted.preview:
            self._host.ended(wanted.path)

    def read_again(self, wanted: Wanted) -> None:
        """Puts an image in line again that is slow, or was being written."""
        flight = self._flights.get(wanted.path.parent) or Flight()
        self._work.images.put(wanted, Urgency.CLIENT if wanted.waits else flight.urgency)
