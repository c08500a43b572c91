"""Which folder is looked at next, and which images are read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.index.folders import Host, Outcome, Task
from lenslet.index.images import Queue, Urgency, Wanted
from lenslet.index.messages import Look
from lenslet.index.read import Read
from lenslet.index.record import Memory, Record
from lenslet.index.work import Work
from lenslet.paths import Path

# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
_REST = 10  # a folder rests so many times as long as the last look at it took
# The longest rest, and if somebody waits. A look takes long also where a machine or a disk slept.
_MOST_REST_SECONDS, _ASKED_REST_SECONDS = 30.0, 2.0
_LOOKING_SECONDS = 0.1  # until it is tried again to look at a folder that is being looked at
MOST_IMAGES = 20_000  # that wait to be read
_MOST_STALE = 1_000  # and of those that are read again
_FEW = 100  # so few wait when those come for which there was no room


class Start(NamedTuple):
    """It is time to look at a folder."""

    path: Path


@dataclass(slots=True)
class Flight:
    """A folder that has something to do.

    =====================  ==========================================================
    a look is wanted       it is `due`: `Start` comes in some seconds
    `Start`                the folder is put in line, or `Start` comes again: it rests
    a thread is free       it is not `due` any more, but `looking`
    the look has ended     it is not `looking` any more; images to read are `reading`
    an image was read      it is one of `reads`, for the next look, which is wanted
    nothing of all that    the flight ends
    =====================  ==========================================================

    `asked`: a client waits for it. `anew` and `deep` are for the next look, see `messages.Look`.
    """

    due: bool = False
    looking: bool = False
    reading: set[str] = field(default_factory=set)
    reads: dict[str, Read] = field(default_factory=dict)
    asked: bool = False
    anew: bool = False
    deep: bool = False

    @property
    def urgency(self) -> Urgency:
        """Who waits for it."""
        return Urgency.FOLDER if self.asked else Urgency.NOBODY


class Walk:
    """Owns what is known of the folders. It has them looked at, and their images read.

    `look` is called on other threads, for at most `most` folders at a time, and never twice at once
    for one folder. `changed` is called when search and health have to say something else.
    """

    def __init__(
        self,
        work: Work,
        host: Host,
        look: Callable[[Task], Outcome],
        most: int,
        changed: Callable[[], None],
    ) -> None:
        self.memory = Memory()
        self.hurries = False  # as for `lenslet index`: folders do not rest
        self._work = work
        self._host = host
        self._look = look
        self._most = self._free = most
        self._changed = changed
        self._flights: dict[Path, Flight] = {}
        self._line = Queue[Path]()
        # Folders with images for which there was no room, and whether they are new.
        self._later: dict[Path, bool] = {}

    def __len__(self) -> int:
        """How many folders have something to do."""
        return len(self._flights) + len(self._later)

    @property
    def is_still(self) -> bool:
        """True if no folder is being looked at or in line."""
        return self._free == self._most and not len(self._line)

    # Looks

    def want(self, request: Look, delay: float = 0.0) -> None:
        """Has a folder looked at in `delay` seconds, or when it has rested."""
        path = request.path
        flight = self._flights.setdefault(path, Flight())
        if request.asked and not flight.asked:
            self._work.images.hurry(map(path.child, flight.reading))
        flight.asked |= request.asked
        flight.anew |= request.anew
        flight.deep |= request.deep
        flight.due = True
        self._work.later(Start(path), delay)

    def start(self, path: Path) -> None:
        """Puts a folder in line that has rested."""
        flight = self._flights.get(path)
        if not (flight and flight.due):
            return
        rest = _LOOKING_SECONDS if flight.looking else self._rest(flight, self.memory.get(path))
        if rest > 0:
            self._work.later(Start(path), rest)
        else:
            self._line.put(path, flight.urgency)

    def _rest(self, flight: Flight, record: Record) -> float:
        """Returns for how many seconds a folder still rests."""
        if flight.anew or self.hurries:
            return 0.0
        rest = min(_REST * record.took, _MOST_REST_SECONDS)
        if flight.asked:
            rest = min(max(SOON, rest), _ASKED_REST_SECONDS)
        return record.looked + rest - self._work.clock()

    def fill(self) -> None:
        """Begins looks, as long as there is room."""
        while self._free and (path := self._line.take()) is not None:
            flight, memory = self._flights[path], self.memory
            reads, reading = dict(flight.reads), frozenset(flight.reading)
            asks = flight.asked or bool(reading), flight.anew, flight.deep
            task = Task(path, memory.get(path), memory.entries(path), reads, reading, *asks)
            flight.due = flight.anew = flight.deep = False
            flight.looking = True
            self._free -= 1
            self._work.tasks.put(functools.partial(self._look, task))
        if self._later and self.is_still and len(self._work.images) < _FEW:
            path = max(self._later, key=self._later.__getitem__)
            del self._later[path]
            self.want(Look(path))

    def looked(self, outcome: Outcome) -> None:
        """Remembers what a look found, and has done what follows."""
        task, path = outcome.task, outcome.task.path
        flight = self._flights[path]
        flight.looking = False
        self._free += 1
        if outcome.is_done:
            flight.reads = {n: r for n, r in flight.reads.items() if task.reads.get(n) is not r}
            self.memory.text += outcome.plan.text if outcome.plan else 0
            self._remember(flight, outcome)
            again = Look(path)
        else:
            again = Look(path, anew=task.anew, deep=task.deep)
        if outcome.again is not None:
            self.want(again, outcome.again)
        if not (flight.due or flight.reading):
            del self._flights[path]
            self._host.ended(path)

    def _remember(self, flight: Flight, outcome: Outcome) -> None:
        """Replaces the record of a folder, unless it is gone or the one above does not list it.

        One that is neither listed nor served is gone too.
        """
        task, record, is_listed = outcome.task, outcome.record, self.memory.lists(outcome.task.path)
        is_gone = record is None or not (record.generation or is_listed)
        if is_gone:
            self.memory.forget(task.path)
        elif record and is_listed:
            self.memory.put(task.path, record)
            self._look_below(task, record)
            self._read_images(flight, outcome)
        if is_gone or (record and record.shown != task.before.shown):
            self._changed()
        self._look_above(task.path, record)

    def _look_above(self, path: Path, record: Record | None) -> None:
        """Has the folder above looked at, if its manifest shows this one wrongly.

        It must show what the last look at this one found (`Record.entry`).
        """
        listed = self.memory.get(path.parent).children
        if record is None:
            is_right = path.name not in listed
        else:
            is_right = path.name in listed and listed[path.name] == record.entry
        if path and not is_right:
            soon = SOON / 10 if self.hurries else SOON
            self.want(Look(path.parent), soon if record else PATIENTLY)

    def _look_below(self, task: Task, record: Record) -> None:
        """Has those subfolders looked at that are new, or that the manifest shows wrongly.

        All of them, if that is wanted (`deep`) or the folder's pointer leads elsewhere.
        """
        was, now = task.before.location, record.location
        deep = task.deep or bool(was and now and was.target != now.target)
        for name, entry in record.children.items():
            path = task.path.child(name)
            child = self.memory.records.setdefault(path, Record(entry=entry))
            if deep or not child.is_known or child.entry != entry:
                self.want(Look(path, anew=task.anew and deep, deep=deep))

    # Images

    def _read_images(self, flight: Flight, outcome: Outcome) -> None:
        """Has images of a folder read. If there is no room, that waits until few wait."""
        task, images = outcome.task, self._work.images
        companions = outcome.plan.companions if outcome.plan else {}
        wait = 0 if flight.asked else len(images)
        kinds = (
            (outcome.new, flight.urgency, MOST_IMAGES),
            (outcome.stale, Urgency.STALE, _MOST_STALE),
        )
        for wanted, urgency, most in kinds:
            for name, anew in wanted.items():
                if name in flight.reading or name in flight.reads:  # read meanwhile
                    continue
                if wait >= most:
                    self._later[task.path] = wanted is outcome.new
                    return
                wait += 1
                flight.reading.add(name)
                path, anew = task.path.child(name), anew or task.anew
                images.put(Wanted(path, anew=anew, companions=companions[name]), urgency)

    def read(self, read: Read) -> None:
        """Takes what reading an image showed; its folder is looked at soon."""
        wanted, folder = read.wanted, read.wanted.path.parent
        if read.again is not None:
            self._work.later(wanted, read.again)
            return
        if wanted.preview and not read.facts:
            return
        flight = self._flights.setdefault(folder, Flight())
        flight.reading.discard(wanted.path.name)
        if read.facts or read.problem:
            flight.reads[wanted.path.name] = read
        is_shown = wanted.waits and read.facts and read.facts.error  # a client may wait for it
        waits = flight.reading and not is_shown
        self.want(Look(folder), (SOON if flight.asked else PATIENTLY) if waits else 0.0)
        self._host.ended(wanted.path)

    def read_again(self, wanted: Wanted) -> None:
        """Puts an image in line again that is slow, or was being written."""
        flight = self._flights.get(wanted.path.parent) or Flight()
        self._work.images.put(wanted, Urgency.CLIENT if wanted.waits else flight.urgency)
