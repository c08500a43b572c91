"""Reads images, each once: hash, size, date and thumbnail."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from blake3 import blake3

from lenslet import errors
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images import DIGEST_CHARS, PREVIEW, Facts, rendering
from lenslet.images.decoders import Killed, NeedsMore, Stopped, descriptor
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.runs import AGAIN_SECONDS, Runs
from lenslet.library import Library
from lenslet.library.manifest import QUARANTINED
from lenslet.paths import THUMBNAIL, Path
from lenslet.storage.tree import Stat, Tree, read_thumbnail
from lenslet.times import Clock

log = logging.getLogger("lenslet")

# Not this image's fault.
_LATER = NeedsMore, Stopped, NotFound, errors.BrokenPointer, errors.PointerLoop, errors.Overloaded

Listener = Callable[[Path, "str | None"], None]


class Unsettled(Exception):
    """The image is being written, or changed while it was read: try again in `seconds`."""

    def __init__(self, seconds: float = AGAIN_SECONDS) -> None:
        self.seconds = seconds


class Images:
    """Reads images, writes their thumbnails, and gives `runs` what they showed.

    `listener` is called for every image that was read, with the reason if it could not be.
    """

    def __init__(
        self, library: Library, queue: Queue, runs: Runs, clock: Clock, listener: Listener
    ) -> None:
        self._library = library
        self._queue = queue
        self._runs = runs
        self._clock = clock
        self._listener = listener
        settings = library.settings
        size = {"long_edge": settings.thumb_long_edge, "quality": settings.thumb_quality}
        self._how = {**size, "max_pixels": settings.max_pixels}
        self._rendering = rendering(**size)

    def do(self, job: Job) -> None:
        """Reads one image, unless another job has done it meanwhile.

        One that takes long, or that is being written, is put into the queue again. Raises why
        storage cannot be used.
        """
        ok = False
        try:
            ok = self._preview(job) if job.kind is Kind.PREVIEW else self._do(job)
        except NeedsMore:
            self._queue.enqueue(replace(job, large=True))
            job = replace(job, waiters=())  # they wait for the next try
        except (Unsettled, Stopped) as error:
            self._queue.enqueue(
                job, error.seconds if isinstance(error, Unsettled) else AGAIN_SECONDS
            )
            job = replace(job, waiters=())
        except (NotFound, errors.BrokenPointer, errors.PointerLoop):
            self._runs.finish_image(job.path)
            ok = True
        finally:
            for waiter in job.waiters:
                waiter(ok)

    def _do(self, job: Job) -> bool:
        """Reads an image; False if it could not be read."""
        path, asked = job.path, job.kind is not Kind.IMAGE
        if not (asked or self._runs.is_reading(path)):
            return True
        try:
            facts = self._read(job, asked=asked)
        except _LATER:
            raise
        except Unsettled:
            if asked:
                raise
            self._runs.finish_image(path, wait=AGAIN_SECONDS)
            return False
        except Exception as error:
            self._library.check_storage(error)  # while it is away, nothing is known of the image
            reason = one_line(error) or type(error).__name__
            self._listener(path, reason)
            self._runs.finish_image(path, problem=reason)
            if not isinstance(error, LensletError):
                raise
            log.warning("image %s: %s", path, reason)
            return False
        self._listener(path, facts.error)
        self._runs.finish_image(path, facts, asked=asked)
        return True

    def _preview(self, job: Job) -> bool:
        """Makes a preview. An image that cannot be decoded is read as for a thumbnail."""
        item = job.path
        try:
            tree, path, file, stat = self._open(item)
            with file:
                self._check_settled(stat)
                with contextlib.suppress(NotFound):
                    self._library.previews.read(item, stat.rev)
                    return True
                facts, data = self._decode(file, stat, large=job.large, hashed=False, **PREVIEW)
        except _LATER:
            raise
        except (errors.Denied, errors.StorageUnavailable) as error:
            self._library.check_storage(error)
            return False  # it is this one file
        if facts.error:
            return self._do(job)
        if not stat.etag and tree.stat(path).rev != stat.rev:
            raise Unsettled
        self._library.previews.write(item, stat.rev, data)
        return True

    def _open(self, item: Path) -> tuple[Tree, Path, BinaryIO, Stat]:
        location = self._library.locator.item(item)
        path = location.file(item.name)
        return location.tree, path, *location.tree.open(path)

    def _read(self, job: Job, *, asked: bool) -> Facts:
        """Returns an image's facts; writes its thumbnail if it is to have a new one, or `asked`."""
        item, anew = job.path, job.force or job.thumbnail
        try:
            tree, path, file, stat = self._open(item)
        except errors.Archived as error:  # not tried again and again: restoring takes hours
            return Facts(error=str(error), rev=error.rev)
        with file:
            self._check_settled(stat)
            # In a bucket, asking for a thumbnail that is probably missing costs a request.
            there = b"" if anew or (asked and stat.etag) else self._thumbnail(item, stat)
            thumbnail = anew or (asked and not there)
            how = {"large": job.large, "hashed": True, "thumbnail": thumbnail}
            facts, data = self._decode(file, stat, **how)
        if not stat.etag and tree.stat(path).rev != stat.rev:  # one GET is one version of an object
            raise Unsettled
        if there:
            facts = replace(facts, thumb=_digest(there))
        if data:
            facts = replace(facts, thumb=f"{_digest(data)}-{self._rendering}")
            try:
                self._library.tree.write(Path(item + THUMBNAIL), data, image=stat)
            except errors.Invalid:
                reason = "no thumbnail can be stored: the name is too long to add .thumbnail"
                return replace(facts, error=reason)
        return facts

    def _thumbnail(self, item: Path, image: Stat) -> bytes:
        """Reads the thumbnail that somebody has made; empty if there is none."""
        with contextlib.suppress(NotFound):
            return read_thumbnail(self._library.tree, item, image)[0]
        return b""

    def _check_settled(self, stat: Stat) -> None:
        if seconds := stat.settles_in(self._clock.wall_ns()):
            raise Unsettled(seconds)

    def _decode(self, file: BinaryIO, stat: Stat, **how: Any) -> tuple[Facts, bytes]:
        """Reads an open image in a process of its own."""
        if stat.size > self._library.settings.max_file_bytes:
            reason = f"{stat.size} bytes are more than MAX_FILE_BYTES"
            limit = f"MAX_FILE_BYTES={self._library.settings.max_file_bytes}"
            return Facts(error=reason, limit=limit, rev=stat.rev), b""
        try:
            with descriptor(file) as number:
                facts, data = self._library.decoders.read(number, **self._how | how)
        except Killed as error:
            reason = f"{QUARANTINED}: reading it {error}"
            facts, data = Facts(error=reason, limit=error.limit), b""
        return replace(facts, rev=stat.rev), data


def _digest(thumbnail: bytes) -> str:
    return str(blake3(thumbnail).hexdigest())[:DIGEST_CHARS]
