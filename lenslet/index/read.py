"""Reads images, each once: hash, size, date and thumbnail."""

import contextlib
import io
import logging
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from blake3 import blake3

from lenslet import errors, images
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images.alone import ends_its_process
from lenslet.index.folders import SETTLE_SECONDS, Folders
from lenslet.index.queue import Job, Kind
from lenslet.index.status import Status
from lenslet.library import Library
from lenslet.library.location import Location
from lenslet.library.manifest import QUARANTINED, Facts
from lenslet.paths import THUMBNAIL, Path
from lenslet.storage.tree import Stat
from lenslet.times import Clock

log = logging.getLogger("lenslet")

IN_MEMORY_BYTES = 32 * 1024 * 1024  # a larger file is not held in memory
PIXELS_AT_ONCE = 45_000_000  # 180 MB; an image with more is decoded alone
_HASHED_AT_ONCE = 8 << 20

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

    def read(self, location: Location, item: Path, *, thumbnail: bool = True) -> Facts:
        """Returns an image's facts, and writes its `thumbnail`.

        Raises `Unsettled`, and what storage raises: `NotFound`, `Denied`, `StorageFull`.
        """
        tree, path = location.tree, location.file(item.name)
        file, stat = tree.open(path)
        with file:
            if not stat.settled(self._clock.wall_ns()):
                raise Unsettled
            if stat.size > self._settings.max_file_bytes:
                return Facts(stat.rev, error=f"{stat.size} bytes are more than MAX_FILE_BYTES")
            facts, data = self._decode(item, file, stat, thumbnail)
        if not stat.etag and tree.stat(path).rev != stat.rev:  # an object cannot change
            raise Unsettled
        if data:
            try:
                self._tree.write(Path(item + THUMBNAIL), data, image=stat)
            except errors.Invalid:
                reason = "no thumbnail can be stored: the name is too long to add .thumbnail"
                return replace(facts, error=reason)
        return facts

    def _decode(
        self, item: Path, file: BinaryIO, stat: Stat, thumbnail: bool
    ) -> tuple[Facts, bytes]:
        with _whole(file, stat.size) as source:
            hasher = blake3()
            while chunk := source.read(_HASHED_AT_ONCE):
                hasher.update(chunk)
            source.seek(0)
            digest = f"blake3:{hasher.hexdigest()}"
            try:
                found, data = images.render(
                    source,
                    long_edge=self._settings.thumb_long_edge,
                    quality=self._settings.thumb_quality,
                    max_pixels=self._settings.max_pixels,
                    budget=lambda pixels: self._decoding(item, pixels),
                    thumbnail=thumbnail,
                )
            except errors.UnreadableImage as error:
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
            shutil.copyfileobj(file, copy)
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
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


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
        ok = False
        try:
            ok = self._read(job.path, asked=job.kind is Kind.THUMBNAIL, force=job.force)
        finally:
            for waiter in job.waiters:
                waiter(ok)

    def _read(self, path: Path, *, asked: bool, force: bool) -> bool:
        """Reads an image; False if that is to be done again."""
        if not (asked or self._folders.is_reading(path)):
            return True
        if path in self._suspects.values():
            return False
        try:
            location = self._locator.item(path)
            facts = self._reader.read(location, path, thumbnail=asked or force)
        except Unsettled:
            self._folders.finish(path, wait=SETTLE_SECONDS)
            return False
        except (NotFound, errors.BrokenPointer, errors.PointerLoop):
            self._folders.finish(path)
            return True
        except Exception as error:
            reason = one_line(error) or type(error).__name__
            self._listener(path, reason)
            self._folders.finish(path, problem=reason)
            raise
        self._listener(path, facts.error)
        self._folders.finish(path, facts, asked=asked)
        return True

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
