"""The folders that are being indexed: when each is looked at, and whose images are read."""

from __future__ import annotations

import functools
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.images import Facts
from lenslet.index.folders import AGAIN_SECONDS, Outcome, Task
from lenslet.index.images import Line, Urgency, Wanted
from lenslet.index.messages import Look
from lenslet.index.read import Read
from lenslet.index.record import RETRY_SECONDS, Memory, Record
from lenslet.index.work import Work
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
_AT_ONCE = 0.05  # so that several changes still cause one look
_REST = 10  # a folder rests so many times as long as the last look at it took
# The longest rest, and if somebody waits. A look takes long also where a machine or a disk slept.
_MOST_REST_SECONDS, _ASKED_REST_SECONDS = 30.0, 2.0
MOST_IMAGES = 20_000  # that wait to be read
_MOST_REREAD = 500  # images of a folder that are read again at a time

Waiter = Callable[[bool], None]  # is called with whether the work has ended well


class Start(NamedTuple):
    """It is time to look at a folder."""

    path: Path


@dataclass(slots=True)
class Flight:
    """A folder, from the first reason to look at it until all its images are read.

    It goes round: a `Start` is due (in the timers), it is in line (`Walk._ready`), `is_looking`,
    its images are `reading`; what they showed (`facts`, `failed`) makes a `Start` due again. It
    ends when none of these holds.

    `asked`: a client waits for it. `anew`, `deep` and `full` are for the next look, see `Task`.
    `reading` are the images that are being read; `facts` what reading others showed that is not in
    the manifest yet, `failed` why some could not be read.
    """

    asked: bool = False
    anew: bool = False
    deep: bool = False
    full: bool = False
    is_looking: bool = False
    reading: set[str] = field(default_factory=set)
    facts: dict[str, Facts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Walk:
    """Decides which folder is looked at next, and which of its images are read. Owned by the loop.

    `look` is called on other threads, for at most `most` folders at a time, and never twice at once
    for one folder. `changed` is called when search and health have to say something else.
    """

    def __init__(
        self,
        work: Work,
        clock: Clock,
        look: Callable[[Task], Outcome],
        most: int,
        changed: Callable[[], None],
    ) -> None:
        self.memory = Memory()
        self._work = work
        self._clock = clock
        self._look = look
        self._changed = changed
        self._most = self._room = most
        self.hurries = False  # nothing else gives way to: folders do not rest
        self._ready = Line[Path]()
        self._flights: dict[Path, Flight] = {}
        # Folders whose images found no room, or are to be read again: how urgent each is.
        self._leftovers: dict[Path, tuple[bool, int]] = {}
        self._waiters = defaultdict[Path, list[Waiter]](list)

    def __len__(self) -> int:
        """How many folders are in flight, or have images that are left over."""
        return len(self._flights) + len(self._leftovers)

    @property
    def rests(self) -> bool:
        """True if no folder is being looked at, and none is in line."""
        return self._room == self._most and not len(self._ready)

    # Looks

    def want(self, request: Look, delay: float = 0.0, *, full: bool = False) -> None:
        """Has a folder looked at in `delay` seconds, or when it has rested."""
        flight = self._flights.setdefault(request.path, Flight())
        flight.asked |= request.asked
        flight.anew |= request.anew
        flight.deep |= request.deep
        flight.full |= full
        no_rest = request.anew or self.hurries
        rest = 0.0 if no_rest else self._rest(request.path, asked=request.asked)
        self._work.later(Start(request.path), max(delay, rest))

    def _rest(self, path: Path, *, asked: bool) -> float:
        """Returns how long a folder still rests after the last look at it."""
        looked = self.memory.get(path).looked
        rest = min(_REST * looked.took, _MOST_REST_SECONDS)
        if asked:
            rest = min(max(SOON, rest), _ASKED_REST_SECONDS)
        return looked.at + rest - self._clock()

    def start(self, path: Path) -> None:
        """Looks at a folder as soon as there is room for one more look."""
        flight = self._flights.setdefault(path, Flight())
        if flight.is_looking:
            self._work.later(Start(path), SOON)
        else:
            self._ready.put(path, Urgency.FOLDER if flight.asked else Urgency.NOBODY)

    def fill(self) -> None:
        """Starts the looks for which there is room, and puts images that were left over in line."""
        while self._room and (path := self._ready.take()) is not None:
            self._room -= 1
            flight, before = self._flights[path], self.memory.get(path)
            task = Task(
                path,
                before,
                self.memory.known(path),
                dict(flight.facts),
                dict(flight.failed),
                frozenset(flight.reading),
                busy=flight.asked or bool(flight.reading or self._waiters.get(path)),
                full=flight.full,
                anew=flight.anew,
                deep=flight.deep,
                may_nest=self.memory.may_nest(path),
            )
            flight.is_looking, flight.anew, flight.deep, flight.full = True, False, False, False
            self._work.call(functools.partial(self._look, task))
        if self._leftovers and self.rests and not len(self._work.images):
            path = max(self._leftovers, key=self._leftovers.__getitem__)
            del self._leftovers[path]
            self.want(Look(path), full=True)

    def looked(self, outcome: Outcome) -> None:
        """Remembers what a look found, and has done what follows."""
        task, path = outcome.task, outcome.task.path
        flight = self._flights.setdefault(path, Flight())
        flight.is_looking = False
        self._room += 1
        if outcome.outage:
            self._tell(path, False)
            request = Look(path, flight.asked, task.anew, task.deep)
            self.want(request, RETRY_SECONDS, full=task.full)
            return
        if outcome.record is not task.before:  # else another host was faster
            facts = flight.facts.items()
            flight.facts = {name: each for name, each in facts if task.facts.get(name) is not each}
            flight.failed = {n: e for n, e in flight.failed.items() if n not in task.failed}
            self.memory.images_read += len(task.facts)
        if outcome.record is None:
            self._forget(path)
        elif path in self.memory.records or not (task.before.is_known or task.before.entry):
            self._remember(path, outcome.record, task)
            self._read(flight, outcome)  # else a folder above it went meanwhile
        for name in outcome.below:
            self.want(Look(path.child(name), anew=task.anew, deep=True))
        if outcome.record is task.before:  # another host was faster: all is still to be done
            request = Look(path, anew=task.anew, deep=task.deep)
            self.want(request, outcome.again or 0.0, full=True)
        elif outcome.again is not None:
            self.want(Look(path), outcome.again)
        self.end(path, ok=outcome.ok)

    def _forget(self, path: Path) -> None:
        self.memory.forget(path)
        if path and path.name in self.memory.get(path.parent).children:
            self.want(Look(path.parent), SOON)
        self._changed()

    def _remember(self, path: Path, record: Record, task: Task) -> None:
        """Replaces a folder's record, and has its parent and its subfolders looked at if due."""
        before = task.before
        self.memory.put(path, record)
        had, has = (each.health.counts["unreadableFolders"] for each in (before, record))
        if had and not has:
            log.info("this is over: folder %s can be indexed", path or "/")
        for name, entry in record.children.items():
            child = self.memory.expect(path.child(name), entry)
            if not child.is_known:
                self.want(Look(path.child(name)))
            elif child.entry != entry and not has:  # it was looked at meanwhile
                self.want(Look(path), SOON)
        if path and before.entry != record.entry:
            self.want(Look(path.parent), _AT_ONCE if self.hurries else SOON)
        if before.shown != record.shown:
            self._changed()

    def end(self, path: Path, *, ok: bool = True) -> None:
        """Ends a flight if nothing of it is left, and tells those who wait for it."""
        flight = self._flights.get(path)
        is_due = Start(path) in self._work.timers or path in self._ready
        if not (flight and (is_due or flight.is_looking or flight.reading)):
            self._flights.pop(path, None)
            self._tell(path, ok)

    def wait(self, path: Path, waiter: Waiter) -> None:
        """Calls `waiter` when the work at a folder, or an image, has ended."""
        self._waiters[path].append(waiter)

    def _tell(self, path: Path, ok: bool) -> None:
        for waiter in self._waiters.pop(path, ()):
            waiter(ok)

    # Images

    def _read(self, flight: Flight, outcome: Outcome) -> None:
        """Has images of a folder read: new ones; if there are none, and nothing waits, stale ones.

        Those that find no room wait until nothing else is due.
        """
        path, images = outcome.task.path, self._work.images
        room = max(0, MOST_IMAGES - len(images))
        chosen = dict(itertools.islice(outcome.new.items(), room))
        if outcome.task.full and not outcome.new and not len(images):
            chosen = dict(itertools.islice(outcome.stale.items(), _MOST_REREAD))
        known = {*flight.reading, *flight.facts, *flight.failed}  # some were read meanwhile
        started = {name: anew for name, anew in chosen.items() if name not in known}
        if len(outcome.new or outcome.stale) > len(chosen):
            self._leftovers[path] = bool(outcome.new), outcome.newest_ns
        urgency = Urgency.FOLDER if flight.asked else Urgency.NOBODY
        for name, anew in started.items():
            flight.reading.add(name)
            images.put(Wanted(path.child(name), anew=anew or outcome.task.anew), urgency)

    def read(self, read: Read) -> None:
        """Takes what reading an image showed; its folder is looked at soon."""
        wanted, folder, name = read.wanted, read.wanted.path.parent, read.wanted.path.name
        flight = self._flights.get(folder) or Flight()
        is_for_folder = name in flight.reading and not wanted.preview
        if read.again is not None and (wanted.waits or wanted.slow):
            self._work.later(wanted, read.again)
            return
        if is_for_folder:
            flight.reading.discard(name)
        if read.again is not None or read.outage:
            if is_for_folder:
                self.want(Look(folder), AGAIN_SECONDS, full=True)
        elif is_for_folder or read.facts or (read.problem and not wanted.preview):
            self._flights[folder] = flight
            if read.facts:
                flight.facts[name] = read.facts
            elif read.problem:
                flight.failed[name] = read.problem
            is_shown = wanted.waits and read.facts and read.facts.error  # a client may wait for it
            waits = flight.reading and not is_shown
            self.want(Look(folder), (SOON if flight.asked else PATIENTLY) if waits else 0.0)
        if not wanted.preview:
            self._tell(wanted.path, not (read.problem or read.outage))

    def read_again(self, wanted: Wanted) -> None:
        """Puts an image in line again that is slow, or was being written."""
        flight = self._flights.get(wanted.path.parent)
        urgency = Urgency.FOLDER if flight and flight.asked else Urgency.NOBODY
        self._work.images.put(wanted, Urgency.CLIENT if wanted.waits else urgency)
