"""Reads images, each once: hash, size, date and thumbnail."""

import contextlib
import io
import logging
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import BinaryIO

from blake3 import blake3

from lenslet import errors, images
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images.alone import ends_its_process
from lenslet.index.folders import AGAIN_SECONDS, Folders
from lenslet.index.queue import Job, Kind
from lenslet.index.status import Count, Status
from lenslet.library import Library
from lenslet.library.manifest import QUARANTINED, Facts
from lenslet.paths import THUMBNAIL, Path
from lenslet.storage.tree import Stat, Tree, read_thumbnail
from lenslet.times import Clock

log = logging.getLogger("lenslet")

IN_MEMORY_BYTES = 32 * 1024 * 1024  # a larger file is not held in memory
PIXELS_AT_ONCE = 45_000_000  # 180 MB; an image with more is decoded while no other is
_HASHED_AT_ONCE = 8 << 20
_PREVIEW = {"long_edge": 1600, "quality": 80}

Listener = Callable[[Path, "str | None"], None]


class Unsettled(Exception):
    """The image is being written, or changed while it was read: try again in two seconds."""


class PixelBudget:
    """Limits to `total` the pixels that all threads together hold while they decode.

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


class Images:
    """Reads images, writes their thumbnails, and tells `folders` what they showed.

    `listener` is called for every image that was read, with the reason if it could not be.
    """

    def __init__(
        self, library: Library, folders: Folders, status: Status, clock: Clock, listener: Listener
    ) -> None:
        self._library = library
        self._folders = folders
        self._status = status
        self._clock = clock
        self._listener = listener
        self._budget = PixelBudget()
        self._suspects: dict[int, Path] = {}  # by slot of the status; one ended the last process
        settings = library.settings
        self._how = {
            "long_edge": settings.thumb_long_edge,
            "quality": settings.thumb_quality,
            "max_pixels": settings.max_pixels,
        }

    def do(self, job: Job) -> bool:
        """Reads one image, unless another job has done it meanwhile; False if it must wait."""
        ok = False
        try:
            if job.kind is Kind.PREVIEW:
                ok = self._preview(job.path)
            else:
                ok = self._do(job.path, asked=job.kind is Kind.THUMBNAIL, force=job.force)
        finally:
            for waiter in job.waiters:
                waiter(ok)
        return ok

    def _do(self, path: Path, *, asked: bool, force: bool) -> bool:
        """Reads an image; False if it must be read again."""
        if not (asked or self._folders.is_reading(path)):
            return True
        if path in self._suspects.values():
            return False
        try:
            facts = self._read(path, asked=asked, force=force)
        except Unsettled:
            self._folders.finish(path, wait=AGAIN_SECONDS)
            return False
        except (NotFound, errors.BrokenPointer, errors.PointerLoop):
            self._folders.finish(path)
            return True
        except Exception as error:
            reason = one_line(error) or type(error).__name__
            self._tell(path, reason)
            self._folders.finish(path, problem=reason)
            raise
        self._tell(path, facts.error)
        self._folders.finish(path, facts, asked=asked)
        return True

    def _preview(self, item: Path) -> bool:
        """Makes a preview; False if it must be made later, as an image that is being written.

        An image that cannot be decoded is read as for a thumbnail.
        """
        if item in self._suspects.values():
            return False
        tree, path, file, stat = self._open(item)
        with file:
            if not stat.settled(self._clock.wall_ns()):
                return False
            with contextlib.suppress(NotFound):
                self._library.previews.read(item, stat.rev)
                return True
            if stat.size > self._library.settings.max_file_bytes:
                return self._do(item, asked=True, force=False)
            with _whole(file, stat.size) as source:
                how = {**self._how, **_PREVIEW}
                budget = partial(self._decoding, item)
                facts, data = images.render(source, **how, budget=budget, thumbnail=True)
        if facts.error:
            return self._do(item, asked=True, force=False)
        if not stat.etag and tree.stat(path).rev != stat.rev:
            return False
        self._library.previews.write(item, stat.rev, data)
        return True

    def _tell(self, path: Path, error: str | None) -> None:
        """Counts an image that was read, and tells the listener."""
        self._status.count((Count.IMAGES_FAILED if error else Count.IMAGES_READ, 1))
        self._listener(path, error)

    def _open(self, item: Path) -> tuple[Tree, Path, BinaryIO, Stat]:
        location = self._library.locator.item(item)
        path = location.file(item.name)
        return location.tree, path, *location.tree.open(path)

    def _read(self, item: Path, *, asked: bool, force: bool) -> Facts:
        """Returns an image's facts. Writes its thumbnail if `asked` and missing, or by `force`."""
        tree, path, file, stat = self._open(item)
        with file:
            if not stat.settled(self._clock.wall_ns()):
                raise Unsettled
            if stat.size > self._library.settings.max_file_bytes:
                return Facts(stat.rev, error=f"{stat.size} bytes are more than MAX_FILE_BYTES")
            thumbnail = force or (asked and not self._has_thumbnail(item, stat))
            with _whole(file, stat.size) as source:
                facts, data = self._decode(item, source, stat, thumbnail)
        if not stat.etag and tree.stat(path).rev != stat.rev:  # one GET is one version of an object
            raise Unsettled
        if data:
            try:
                self._library.tree.write(Path(item + THUMBNAIL), data, image=stat)
            except errors.Invalid:
                reason = "no thumbnail can be stored: the name is too long to add .thumbnail"
                return replace(facts, error=reason)
        return facts

    def _has_thumbnail(self, item: Path, image: Stat) -> bool:
        """True if somebody else has made it. False in a bucket, where asking costs a request."""
        if not image.etag:
            with contextlib.suppress(NotFound):
                read_thumbnail(self._library.tree, item, image)
                return True
        return False

    def _decode(
        self, item: Path, source: BinaryIO, stat: Stat, thumbnail: bool
    ) -> tuple[Facts, bytes]:
        hasher = blake3()
        while chunk := source.read(_HASHED_AT_ONCE):
            hasher.update(chunk)
        source.seek(0)
        digest = f"blake3:{hasher.hexdigest()}"
        found, data = images.render(
            source,
            **self._how,
            budget=partial(self._decoding, item),
            thumbnail=thumbnail,
        )
        return Facts(stat.rev, digest, **asdict(found)), data

    @contextlib.contextmanager
    def _decoding(self, item: Path, pixels: int) -> Iterator[None]:
        """Waits for the budget, and only then marks the image: one that waits is not stuck."""
        with self._budget(pixels), self._status.marked(item):
            yield

    def take_suspects(self) -> bool:
        """Takes the images that the last process was decoding when it died; True if any."""
        self._suspects = {slot: mark.path for slot, mark in self._status.marks().items()}
        self._renew_marks()
        return bool(self._suspects)

    def _renew_marks(self) -> None:
        """Marks the suspects again, with the current time, in case this process dies too."""
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
                facts = self._try_alone(path)
            except (LensletError, OSError) as error:
                log.warning("image %s: %s", path, one_line(error))
            if facts:
                log.error("image %s: %s", path, facts.error)
                self._tell(path, facts.error)
            del self._suspects[slot]
            self._status.clear(slot)
            self._folders.finish(path, facts)

    def _try_alone(self, item: Path) -> Facts | None:
        """Returns the facts of an image that kills its reader; None for any other image."""
        _, _, file, stat = self._open(item)
        with file, tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            how = ends_its_process(copy, **self._how)
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
