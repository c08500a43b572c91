"""Reads images, each once: hash, size, date and thumbnail."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from blake3 import blake3

from lenslet import images
from lenslet.errors import (
    BrokenPointer,
    Invalid,
    LensletError,
    NotFound,
    PointerLoop,
    UnreadableImage,
    one_line,
)
from lenslet.images.alone import ends_its_process
from lenslet.index.folders import SETTLE_SECONDS, Folders
from lenslet.index.queue import Job, Kind
from lenslet.index.status import Status
from lenslet.library import Library, thumbnail
from lenslet.library.location import Location
from lenslet.library.manifest import QUARANTINED, Facts
from lenslet.paths import Path
from lenslet.storage import Stat
from lenslet.times import Clock

log = logging.getLogger("lenslet")

IN_MEMORY_BYTES = 32 * 1024 * 1024  # a larger file is not held in memory
PIXELS_AT_ONCE = 45_000_000  # 180 MB; an image with more is decoded alone
_CHUNK, _HASHED_AT_ONCE = 1 << 20, 8 << 20


Listener = Callable[[Path, "str | None"], None]


class Unsettled(Exception):
    """The image is being written, or changed while it was read: try again in two seconds."""


class PixelBudget:
    """Limits the pixels that all threads together hold while decoding to `total`.

    First come, first served: a large image waits for its turn, and nobody overtakes it.
    """

    def __init__(self, total: int = PIXELS_AT_ONCE) -> None:
        self._total = total
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        share, ticket = min(pixels, self._total), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(
                lambda: self._waiting[0] is ticket and self._used + share <= self._total
            )
            self._waiting.popleft()
            self._used += share
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._used -= share
                self._changed.notify_all()


class Reader:
    """Reads images and writes their thumbnails."""

    def __init__(self, library: Library, status: Status, clock: Clock) -> None:
        self._tree = library.tree
        self._settings = library.settings
        self._status = status
        self._clock = clock
        self._budget = PixelBudget()

    def read(self, location: Location, item: Path, *, force: bool = False) -> Facts:
        """Returns an image's facts. Writes its thumbnail, unless it has one (`force`: anyway).

        Raises `Unsettled`, and what storage raises: `NotFound`, `Denied`, `StorageFull`.
        """
        tree, path = location.tree, location.file(item.name)
        file, stat = tree.open(path)
        with file:
            if not stat.settled(self._clock.wall_ns()):
                raise Unsettled
            if stat.size > self._settings.max_file_bytes:
                return Facts(stat.rev, error=f"{stat.size} bytes are more than MAX_FILE_BYTES")
            needed = force or not self._has_thumbnail(item, stat)
            facts, data = self._decode(item, file, stat, needed)
        if not stat.etag and tree.stat(path).rev != stat.rev:  # an object cannot change
            raise Unsettled
        if data:
            try:
                thumbnail.write(self._tree, item, stat, data)
            except Invalid:
                reason = "no thumbnail can be stored: the name is too long to add .thumbnail"
                return Facts(
                    stat.rev, facts.width, facts.height, facts.hash, facts.created_at, reason
                )
        return facts

    def _has_thumbnail(self, item: Path, image: Stat) -> bool:
        """True if a good thumbnail is there. False in a bucket, where asking costs a request."""
        if image.etag:
            return False
        try:
            thumbnail.read(self._tree, item, image)
        except NotFound:
            return False
        return True

    def _decode(self, item: Path, file: BinaryIO, stat: Stat, needed: bool) -> tuple[Facts, bytes]:
        with _whole(file, stat.size) as source:
            digest = _hash(source)
            try:
                found, data = images.render(
                    source,
                    long_edge=self._settings.thumb_long_edge,
                    quality=self._settings.thumb_quality,
                    max_pixels=self._settings.max_pixels,
                    budget=lambda pixels: self._decoding(item, pixels),
                    thumbnail=needed,
                )
            except UnreadableImage as error:
                return Facts(stat.rev, hash=digest, error=str(error)), b""
        return Facts(stat.rev, found.width, found.height, digest, found.created_at), data

    @contextlib.contextmanager
    def _decoding(self, item: Path, pixels: int) -> Iterator[None]:
        """Waits for the budget, and then marks the image: waiting is not being stuck."""
        with self._budget(pixels), self._status.marked(item):
            yield

    def try_alone(self, location: Location, item: Path) -> Facts | None:
        """Returns the facts of an image that kills its reader; None for any other image."""
        file, stat = location.tree.open(location.file(item.name))
        with file, tempfile.TemporaryFile() as copy:
            while chunk := file.read(_CHUNK):
                copy.write(chunk)
            copy.seek(0)
            how = ends_its_process(
                copy,
                long_edge=self._settings.thumb_long_edge,
                quality=self._settings.thumb_quality,
                max_pixels=self._settings.max_pixels,
            )
        return Facts(stat.rev, error=f"{QUARANTINED}: reading it {how}") if how else None


@contextlib.contextmanager
def _whole(file: BinaryIO, size: int) -> Iterator[BinaryIO]:
    """Yields a seekable copy: in memory if small, else the file or a temporary file."""
    if size <= IN_MEMORY_BYTES:
        yield io.BytesIO(file.read())
    elif file.seekable():
        yield file
    else:
        with tempfile.TemporaryFile() as copy:
            while chunk := file.read(_CHUNK):
                copy.write(chunk)
            copy.seek(0)
            yield copy


def _hash(file: BinaryIO) -> str:
    """Hashes a whole file and goes back to its start."""
    hasher = blake3()
    while chunk := file.read(_HASHED_AT_ONCE):
        hasher.update(chunk)
    file.seek(0)
    return f"blake3:{hasher.hexdigest()}"


class ImageJobs:
    """Does the jobs for images, and tells `folders` what they showed.

    `listener` is called for every image that was read, with the reason if it could not be.
    """

    def __init__(
        self, library: Library, folders: Folders, status: Status, clock: Clock, listener: Listener
    ) -> None:
        self._locator = library.locator
        self._folders = folders
        self._reader = Reader(library, status, clock)
        self._status = status
        self._listener = listener
        self._suspects: dict[int, Path] = {}  # by slots of the status; one was fatal

    def read(self, job: Job) -> None:
        """Reads one image, unless another job has done it meanwhile."""
        path, asked = job.path, job.kind is Kind.THUMBNAIL
        run = self._folders.run_of(path.parent)
        is_due = asked or (run is not None and run.is_reading(path.name))
        if not is_due or path in self._suspects.values():
            self._tell(job, not is_due)
            return
        try:
            location = self._locator.item(path)
            facts = self._reader.read(location, path, force=job.force)
        except (Unsettled, NotFound, BrokenPointer, PointerLoop) as error:
            wait = SETTLE_SECONDS if isinstance(error, Unsettled) else 0.0
            self._folders.finish(path, wait=wait)
            self._tell(job, not wait)
        except Exception as error:
            reason = one_line(error) or type(error).__name__
            self._listener(path, reason)
            self._folders.finish(path, problem=reason)
            self._tell(job, False)
            raise
        else:
            self._listener(path, facts.error)
            self._folders.finish(path, facts, asked=asked)
            self._tell(job, True)

    def _tell(self, job: Job, ok: bool) -> None:
        for waiter in job.waiters:
            waiter(ok)

    def take_suspects(self) -> bool:
        """Takes the images that the last process was decoding when it died; True if any."""
        self._suspects = {slot: mark.path for slot, mark in self._status.marks().items()}
        self._renew_marks()
        return bool(self._suspects)

    def _renew_marks(self) -> None:
        """Keeps the suspects marked, in case this process dies too, with a new time."""
        for slot, path in self._suspects.items():
            self._status.mark(slot, path)

    def try_suspects(self, stop: threading.Event) -> None:
        """Tries each suspect in a process of its own, while other images are read."""
        while self._suspects and not stop.is_set():
            self._renew_marks()
            slot, path = next(iter(self._suspects.items()))
            log.warning("the index process died while it read %s", path)
            facts = None
            try:
                facts = self._reader.try_alone(self._locator.item(path), path)
            except (LensletError, OSError) as error:
                log.warning("image %s: %s", path, one_line(error))
            if facts:
                log.error("image %s: %s", path, facts.error)
                self._listener(path, facts.error)
            del self._suspects[slot]
            self._status.clear(slot)
            self._folders.finish(path, facts)
