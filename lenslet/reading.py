"""Images on their way from a look to their facts: put in the queue, read, tried again.

Marks on the board say what is being read, should it be the end of this process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lenslet.board import Board
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, LensletError, NotFound, PointerLoop, one_line
from lenslet.jobs import IMAGES, Job, Kind, Queue
from lenslet.known import Known, Memory
from lenslet.looker import Looked
from lenslet.manifest import Facts
from lenslet.paths import Path
from lenslet.pointers import Resolver
from lenslet.renderer import Renderer, Unsettled
from lenslet.storage import Storage

log = logging.getLogger("lenslet")

SETTLE_SECONDS = 2.0
SOON, PATIENTLY = 0.5, 5.0  # how long what was read may wait before its manifest tells of it
FAR = 6  # so many times longer where telling costs a request
ASKED_SECONDS = 10.0  # a folder counts as asked for so long
_SENT_SECONDS = 1800.0  # after which what any host might have read is given to them again
_FEW_IMAGES = 1000  # when so many are left in the queue, more are looked for

PassOn = Callable[[list[Path], bool], None]
Told = Callable[[Path, "str | None"], None]


class Reading:
    """Reads the images that looks have found; a record of each folder says what waits."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        resolver: Resolver,
        queue: Queue,
        board: Board,
        memory: Memory,
        *,
        told: Told,
        clock: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self._resolver = resolver
        self._queue = queue
        self._board = board
        self._memory = memory
        self._told = told
        self._clock = clock
        self._wall = wall
        self._renderer = Renderer(storage, settings)
        self._lock = threading.Lock()
        self._unfinished: set[Path] = set()  # folders with more images than the queue took
        self.pass_on: PassOn | None = None  # gives images to any host
        self.worked = clock()  # when an image was read last

    @property
    def unfinished(self) -> int:
        """How many folders have more images than the queue took."""
        return len(self._unfinished)

    def has_more(self, path: Path) -> bool:
        """Whether a folder has images that are still to be put in the queue."""
        return path in self._unfinished

    @contextmanager
    def marked(self, job: Job, slot: int) -> Iterator[None]:
        """What is being read stands on the board, should it be the end of this process."""
        if job.kind not in IMAGES:
            yield
            return
        self._board.mark(slot, job.path)
        try:
            yield
        finally:
            self._board.clear(slot)

    def recover(self, stop: threading.Event) -> None:
        """See whether an image that was being read when the last process died was the reason."""
        suspects = list(self._board.marks().items())
        while suspects and not stop.is_set():
            for slot, mark in suspects:  # anew, so that none of them seems to be stuck
                self._board.mark(slot, mark.path)
            slot, mark = suspects.pop(0)
            log.warning("the index process died while it read %s", mark.path)
            self._try_alone(mark.path)
            self._board.clear(slot)

    def _try_alone(self, path: Path) -> None:
        try:
            place = self._resolver.item(path)
            facts = self._renderer.try_alone(place, path)
        except LensletError as error:
            log.warning("image %s: %s", path, one_line(error))
            return
        if facts:
            log.error("image %s: %s", path, facts.error)
            self._learnt(path, facts)

    def put(self, job: Job, looked: Looked, known: Known) -> None:
        """Put the images that are to be read, as many as fit; more when those are done."""
        path, now = looked.place.path, self._clock()
        kind = Kind.WANTED if now - known.asked < ASKED_SECONDS else Kind.IMAGE
        self._unfinished.discard(path)
        for name in self._left_here(job, looked, known):
            retry = known.retries.get(name)
            if name in known.pending or (retry and retry.due > now and not job.force):
                continue
            known.pending.add(name)
            if not self._queue.put(Job(kind, path.child(name), job.force)):
                known.pending.discard(name)
                self._unfinished.add(path)
                break
        if looked.look.unsettled:
            self._queue.put(Job(Kind.MANIFEST, path), SETTLE_SECONDS)

    def _left_here(self, job: Job, looked: Looked, known: Known) -> list[str]:
        """The images that are to be read by this process: none, where any host may do it."""
        todo, now = looked.look.todo, self._clock()
        if not self.pass_on or not known.far:
            return todo
        if now - known.sent_at > _SENT_SECONDS:
            known.sent, known.sent_at = set(), now
        path = looked.place.path
        passed = set() if job.force else known.sent | known.pending
        names = [name for name in todo if name not in passed]
        try:
            self.pass_on([path.child(name) for name in names], job.force)
        except LensletError as error:
            log.warning("images of %s are read here: %s", path or "/", one_line(error))
            return todo
        known.sent.update(names)
        return []

    def more(self) -> None:
        """Look for more to read when little is left of what did not fit into the queue."""
        if self._unfinished and self._queue.waiting(Kind.IMAGE, Kind.WANTED) < _FEW_IMAGES:
            with self._lock:
                path = self._unfinished.pop() if self._unfinished else None
            if path is not None:
                self._queue.put(Job(Kind.LOOK, path))

    def image(self, job: Job) -> None:
        """Read one image, unless another job has done it meanwhile."""
        known = self._memory.get(job.path.parent)
        if job.kind is Kind.THUMBNAIL or (known and job.path.name in known.pending):
            self._read(job)
        self.more()

    def _read(self, job: Job) -> None:
        path = job.path
        try:
            place = self._resolver.item(path)
            waits = job.kind is Kind.THUMBNAIL and not job.force
            if waits and self._is_read(path):
                return
            if waits and self._renderer.has_thumbnail(place, path):
                return
            facts = self._renderer.read(place, path, self._wall, force=job.force)
        except Unsettled:
            self._queue.put(job, SETTLE_SECONDS)
        except (NotFound, BrokenPointer, PointerLoop) as error:
            if isinstance(error, NotFound):
                known = self._memory.of(path.parent)
                known.facts.pop(path.name, None)
                known.gone.add(path.name)
            self._done_with(path)
        except Exception as error:
            reason = one_line(error) or type(error).__name__
            self._memory.of(path.parent).failed(path.name, reason, self._clock())
            self._told(path, reason)
            self._done_with(path)
            raise
        else:
            self._learnt(path, facts, waited_for=job.kind is Kind.THUMBNAIL)

    def _is_read(self, path: Path) -> bool:
        """Whether an image was read, and its manifest is still to tell."""
        known = self._memory.get(path.parent)
        facts = known.facts.get(path.name) if known else None
        return facts is not None and not facts.error

    def _learnt(self, path: Path, facts: Facts, *, waited_for: bool = False) -> None:
        known = self._memory.of(path.parent)
        known.facts[path.name] = facts
        known.read_at[path.name] = self._clock()
        known.gone.discard(path.name)
        known.retries.pop(path.name, None)
        self.worked = self._clock()
        self._told(path, facts.error)
        self._done_with(path, at_once=waited_for and facts.error is not None)

    def _done_with(self, path: Path, *, at_once: bool = False) -> None:
        """One image fewer to wait for: its manifest is due now, or soon."""
        folder = path.parent
        known = self._memory.of(folder)
        known.pending.discard(path.name)
        asked = self._clock() - known.asked < ASKED_SECONDS
        if at_once:
            self._queue.put(Job(Kind.MANIFEST if known.far else Kind.FOLDER, folder))
        elif not known.pending:
            # Another may come at once; a small folder is soon told of again.
            wait = SOON if known.far else min(max(SOON / 10, known.took), SOON)
            self._queue.put(Job(Kind.MANIFEST, folder), wait / 2)
        else:
            wait = max(SOON if asked else PATIENTLY, 20 * known.took) * (FAR if known.far else 1)
            self._queue.put(Job(Kind.MANIFEST, folder), wait)
