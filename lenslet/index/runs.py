"""The folders whose images are read: what is in the queue, and what reading the others showed."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.errors import LensletError
from lenslet.images import Facts
from lenslet.index.claims import CLAIM_SECONDS, Claim, Host, Reader
from lenslet.index.look import Look
from lenslet.index.queue import Job, Kind, Queue, Waiter
from lenslet.index.records import Retry
from lenslet.paths import Path
from lenslet.times import Clock

# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
AGAIN_SECONDS = 2.0  # until it is looked again at what is being written
MOST_IMAGES = 20_000  # in the queue
_MOST_REREAD = 500  # images of a folder that are queued to be read again at a time


@dataclass(slots=True)
class Run:
    """One folder from the first look until all its images are read.

    `reading` are the images in the queue; `facts` what reading others showed that is not in the
    manifest yet, `failed` why some could not be read. `asked`: somebody looks at the folder.
    """

    reading: set[str] = field(default_factory=set)
    facts: dict[str, Facts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiters: list[Waiter] = field(default_factory=list)
    asked: bool = False
    goes_on: bool = False  # another look is to come: images found no room, or a host was faster

    @property
    def is_done(self) -> bool:
        return not (self.reading or self.facts or self.failed or self.goes_on)


class News(NamedTuple):
    """What reading images showed since the last look, why some failed, and if the run `goes_on`."""

    facts: dict[str, Facts]
    failed: dict[str, str]
    goes_on: bool

    def __bool__(self) -> bool:
        """True if a look is due, although nothing in the folder has changed."""
        return bool(self.facts or self.failed or self.goes_on)


class Selection(NamedTuple):
    """The images of a folder that wait to be read, each with whether it gets a thumbnail.

    `new` ones, and `stale` ones, which are read again when nothing else is due. `newest_ns` is when
    the newest image of the folder was written. The `claim` says which host reads them.
    """

    new: dict[str, bool]
    stale: dict[str, bool]
    newest_ns: int
    claim: Claim


class Runs:
    """The runs of all folders. Each image is read by one thread; another then indexes the folder.

    A folder whose images find no room in the queue, or are to be read again, waits until the queue
    is empty. `host` is this index process as others know it.
    """

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self.host = Host()
        self._queue = queue
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[Path, Run] = {}
        self._waiting: dict[Path, tuple[bool, int]] = {}  # how urgent these folders are

    # For the thread that indexes a folder

    def join(self, job: Job) -> Run:
        """Returns the run of a job's folder. Who waits for the job waits for its end."""
        with self._lock:
            run = self._runs.setdefault(job.path, Run())
            run.waiters += job.waiters
            run.asked |= job.asked
            return run

    def begin_look(self, run: Run) -> News:
        """Returns what has come since the last look. This one may be the last one of the run."""
        with self._lock:
            goes_on, run.goes_on = run.goes_on, False
            return News(dict(run.facts), dict(run.failed), goes_on)

    def written(self, run: Run, news: News) -> None:
        """Drops what the manifest says now; newer facts stay."""
        with self._lock:
            run.facts = {n: each for n, each in run.facts.items() if news.facts.get(n) is not each}
            run.failed = {n: each for n, each in run.failed.items() if n not in news.failed}

    def select(self, job: Job, run: Run, look: Look, retry: Retry) -> Selection:
        """Chooses the images to read: none that are being read, or whose next try is not due."""
        with self._lock:
            skipped = {*run.reading, *run.failed}
        if not job.force and self._clock() < retry.due:
            skipped |= retry.failed
        new, stale = (
            {name: thumbnail for name, thumbnail in images.items() if name not in skipped}
            for images in (look.plan.todo, look.plan.stale)
        )
        claim = Claim(Reader.HERE)
        if look.plan.todo:
            is_busy = bool(run.waiters or run.asked or run.reading)
            claim = self.host.claim(look.stored.reader, len(new), is_busy=is_busy, force=job.force)
        return Selection(new, stale, look.newest_ns if new or stale else 0, claim)

    def enqueue_images(self, job: Job, run: Run, selected: Selection) -> None:
        """Has the selected images read, by the host whose claim it is."""
        if selected.claim.reader is Reader.ELSEWHERE:  # until that host has ended, or died
            self._queue.enqueue(Job(Kind.FOLDER, job.path), CLAIM_SECONDS)
            return
        if selected.claim.reader is Reader.ANYWHERE and self.host.share:
            with contextlib.suppress(LensletError):
                self.host.share(Job(Kind.FOLDER, job.path, force=job.force))
                return
        # New ones, as far as there is room; if there are none, perhaps stale ones.
        room = max(0, MOST_IMAGES - self._queue.waiting(Kind.IMAGE))
        chosen = dict(itertools.islice(selected.new.items(), room))
        if job.rereads and not selected.new:
            chosen = dict(itertools.islice(selected.stale.items(), _MOST_REREAD))
        with self._lock:
            known = {*run.reading, *run.facts, *run.failed}  # some were read meanwhile
            started = [name for name in chosen if name not in known]
            run.reading.update(started)
            run.goes_on = len(selected.new) > len(chosen)
            if len(selected.new or selected.stale) > len(chosen):
                self._waiting[job.path] = bool(selected.new), selected.newest_ns
        for name in started:
            thumbnail = job.force or chosen[name]
            item = job.path.child(name)
            self._queue.enqueue(Job(Kind.IMAGE, item, run.asked, thumbnail=thumbnail))

    def go_on(self, run: Run) -> None:
        """Keeps a run: its folder will be looked at again."""
        with self._lock:
            run.goes_on = True

    def drop(self, run: Run) -> None:
        """Drops what was read of a folder that cannot be indexed."""
        with self._lock:
            run.facts, run.failed = {}, {}

    def end(self, folder: Path, run: Run, ok: bool) -> None:
        """Ends a run that is done, and says to all who wait how it ended."""
        with self._lock:
            if not run.is_done:
                return
            self._runs.pop(folder, None)
        self.tell(run, ok)

    def tell(self, run: Run, ok: bool) -> None:
        """Says to all who wait for a folder whether it could be indexed."""
        with self._lock:
            waiters, run.waiters = run.waiters, []
        for waiter in waiters:
            waiter(ok)

    # For the threads that read images

    def is_reading(self, item: Path) -> bool:
        """True while an image is still to be read for its folder."""
        run = self._runs.get(item.parent)
        return run is not None and item.name in run.reading

    def finish_image(
        self,
        item: Path,
        facts: Facts | None = None,
        *,
        problem: str = "",
        asked: bool = False,
        wait: float = 0.0,
    ) -> None:
        """Takes what reading an image showed; its folder is indexed again after at least `wait`."""
        with self._lock:
            run = self._runs.setdefault(item.parent, Run())
            run.reading.discard(item.name)
            if facts:
                run.facts[item.name] = facts
            if problem:
                run.failed[item.name] = problem
        if run.reading and not (asked and facts and facts.error):  # else a client may wait for it
            wait = max(wait, SOON if run.asked else PATIENTLY)
        self._queue.enqueue(Job(Kind.FOLDER, item.parent), wait)

    # For whoever finds the queue empty

    @property
    def waiting(self) -> int:
        """How many folders have images that are not in the queue."""
        return len(self._waiting)

    def fill_queue(self) -> None:
        """Has the most urgent folder indexed whose images wait: new ones first, then by time."""
        with self._lock:
            path = max(self._waiting, key=self._waiting.__getitem__, default=None)
            if path is None:
                return
            del self._waiting[path]
        self._queue.enqueue(Job(Kind.FOLDER, path, rereads=True))
