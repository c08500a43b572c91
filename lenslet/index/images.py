"""The images to read, the most urgent first. The loop puts them in, readers take them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from lenslet.library.companions import Companions
from lenslet.paths import Path

_OTHER_TURN = 8  # each eighth turn begins with what is least urgent

Waiting = TypeVar("Waiting", bound=Hashable)
Key = tuple[Path, int, bool]  # of an image that waits: `preview`, `slow`


class Urgency(IntEnum):
    """Who waits: a client for this very thing, a client for its folder, or nobody.

    Stale images are read again after all others.
    """

    CLIENT, FOLDER, NOBODY, STALE = range(4)


_OTHER_ORDER = Urgency.NOBODY, Urgency.STALE, Urgency.FOLDER, Urgency.CLIENT


class Queue(Generic[Waiting]):
    """Keys that wait, each once, the most urgent first. Not safe for threads.

    Of those that a client waits for, the oldest and the newest come in turn: so a new request does
    not wait for all before it, and none waits for ever. Each eighth turn begins with what nobody
    waits for.
    """

    def __init__(self) -> None:
        self._keys = {urgency: OrderedDict[Waiting, None]() for urgency in Urgency}
        self._turns = 0

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def has(self, urgency: Urgency) -> bool:
        """True if a key of this urgency waits."""
        return bool(self._keys[urgency])

    def put(self, key: Waiting, urgency: Urgency) -> None:
        """Adds a key. One that waits already can only become more urgent."""
        if any(key in self._keys[each] for each in Urgency if each <= urgency):
            return
        for keys in self._keys.values():
            keys.pop(key, None)
        self._keys[urgency][key] = None

    def take(self) -> Waiting | None:
        """Removes and returns the next key; None if there is none."""
        self._turns += 1
        for urgency in Urgency if self._turns % _OTHER_TURN else _OTHER_ORDER:
            if keys := self._keys[urgency]:
                takes_newest = urgency is Urgency.CLIENT and self._turns % 2 == 1
                return keys.popitem(last=takes_newest)[0]
        return None


class Wanted(NamedTuple):
    """An image to read.

    `preview`: one with this long edge is made, and nothing else. A thumbnail is made if `anew`, or
    if a client `waits` and there is none. `slow`: it takes long, and one thread alone reads such
    images. Its `companions` are None if a client asked for it.
    """

    path: Path
    preview: int = 0
    waits: bool = False
    anew: bool = False
    slow: bool = False
    companions: Companions | None = None


class ImageQueue:
    """The images that wait to be read. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines = Queue[Key](), Queue[Key]()  # by `slow`, as what follows
        self._filled = threading.Condition(self._lock), threading.Condition(self._lock)
        self._wanted: dict[Key, Wanted] = {}
        self._reading = 0
        self.is_closed = False

    def put(self, wanted: Wanted, urgency: Urgency = Urgency.CLIENT) -> None:
        """Adds an image, or makes one that waits already more urgent."""
        key = wanted.path, wanted.preview, wanted.slow
        with self._lock:
            if before := self._wanted.get(key):
                waits, anew = before.waits or wanted.waits, before.anew or wanted.anew
                companions = wanted.companions or before.companions
                wanted = wanted._replace(waits=waits, anew=anew, companions=companions)
            self._wanted[key] = wanted
            self._lines[wanted.slow].put(key, urgency)
            self._filled[wanted.slow].notify()

    def hurry(self, paths: Iterable[Path]) -> None:
        """Makes images more urgent that still wait: a client looks at their folder now."""
        with self._lock:
            for slow, path in itertools.product((False, True), paths):
                if (path, 0, slow) in self._wanted:
                    self._lines[slow].put((path, 0, slow), Urgency.FOLDER)

    def take(self, wait: float = 0.0, *, slow: bool = False) -> Wanted | None:
        """Returns the next image, if one comes within `wait` seconds; the caller calls `done`."""
        with self._lock:
            line = self._lines[slow]
            self._filled[slow].wait_for(lambda: self.is_closed or line, wait)
            key = None if self.is_closed else line.take()
            wanted = self._wanted.pop(key, None) if key else None
            self._reading += wanted is not None
            return wanted

    def done(self) -> None:
        """Says that an image was read, or could not be."""
        with self._lock:
            self._reading -= 1

    def close(self) -> None:
        """Ends all waits."""
        with self._lock:
            self.is_closed = True
            for filled in self._filled:
                filled.notify_all()

    def __len__(self) -> int:
        """How many wait or are being read."""
        return len(self._wanted) + self._reading

    @property
    def somebody_waits(self) -> bool:
        """True if a client waits for an image that is not slow."""
        return self._lines[False].has(Urgency.CLIENT)
