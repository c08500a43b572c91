"""Reads images, each once: hash, size, date and thumbnail."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from lenslet import errors
from lenslet.bounds import DOCUMENT_BYTES
from lenslet.errors import Denied, LensletError, NotFound, one_line
from lenslet.images import DIGEST_CHARS, Facts, preview, rendering
from lenslet.images.decoders import Killed, Slow, Stopped, descriptor
from lenslet.index.images import Wanted
from lenslet.library import Library
from lenslet.library.item import QUARANTINED
from lenslet.paths import THUMBNAIL, Path, file_beside
from lenslet.storage.tree import Stat, Tree, read_thumbnail
from lenslet.times import Clock

log = logging.getLogger("lenslet")

AGAIN_SECONDS = 2.0  # until it is looked again at what is being written
AWAY_SECONDS = 3.0  # and until storage that was away is tried again
_GONE = NotFound, errors.BrokenPointer, errors.PointerLoop


class Read(NamedTuple):
    """What reading an image showed: its `facts`, or the `problem` why it could not be read.

    Neither: it is gone, or only a preview was made. If `again` is set, it must be read again in so
    many seconds: it is being written, or takes long, or no process can be started, or storage
    cannot be used; `outage` says why.
    """

    wanted: Wanted
    facts: Facts | None = None
    problem: str = ""
    again: float | None = None
    outage: str = ""

    @property
    def hindrance(self) -> str:
        """What kept it from being made, that is not the image itself."""
        return self.problem if self.again is not None or self.wanted.preview else ""


class Unsettled(Exception):
    """The image is perhaps still being written: try again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Reader:
    """Reads images on any number of threads, and writes what is made of them."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        settings = library.settings
        size = {"long_edge": settings.thumb_long_edge, "quality": settings.thumb_quality}
        self._how = {**size, "max_pixels": settings.max_pixels}
        self._rendering = rendering(**size)

    def read(self, wanted: Wanted) -> Read:
        """Reads one image, and handles what is wrong with it."""
        try:
            return self._preview(wanted) if wanted.preview else Read(wanted, self._read(wanted))
        except Slow:
            return Read(wanted._replace(slow=True), again=0.0)
        except Unsettled as error:
            return Read(wanted, again=error.seconds)
        except errors.Overtaken:  # it has changed while it was read
            return Read(wanted, again=AGAIN_SECONDS)
        except (Stopped, errors.Overloaded) as error:
            return Read(wanted, problem=one_line(error), again=AGAIN_SECONDS)
        except _GONE:
            return Read(wanted)
        except Exception as error:  # the outermost frame: one bad image must not stop the rest
            return self._failed(wanted, error)

    def _failed(self, wanted: Wanted, error: Exception) -> Read:
        try:  # while it is away, nothing is known of the image
            self._library.check_storage(error)
        except LensletError as away:
            return Read(wanted, again=AWAY_SECONDS, outage=one_line(away))
        reason = one_line(error) or type(error).__name__
        if isinstance(error, LensletError):
            log.warning("image %s: %s", wanted.path, reason)
        else:
            log.error("image %s failed", wanted.path, exc_info=error)
        return Read(wanted, problem=reason)

    def _preview(self, wanted: Wanted) -> Read:
        """Makes a preview. An image that cannot be decoded is read as for a thumbnail."""
        item = wanted.path
        tree, path, file, stat = self._open(item)
        with file:
            with contextlib.suppress(NotFound):
                self._library.previews.read(item, stat.rev, wanted.preview)
                return Read(wanted)
            facts, data = self._decode(file, stat, wanted, {}, **preview(wanted.preview))
        if facts.error:
            found = self._read(wanted)
            problem = "" if found.error else facts.error  # a preview takes more memory
            return Read(wanted, found, problem)
        tree.check_same(path, stat)
        try:
            self._library.previews.write(item, stat.rev, wanted.preview, data)
        except LensletError as error:
            return Read(wanted, problem=one_line(error))
        return Read(wanted)

    def _open(self, item: Path) -> tuple[Tree, Path, BinaryIO, Stat]:
        location = self._library.locator.item(item)
        path = location.file(item.name)
        return location.tree, path, *location.tree.open(path)

    def _read(self, wanted: Wanted) -> Facts:
        """Returns an image's facts; writes its thumbnail if it is to have a new one."""
        item = wanted.path
        try:
            tree, path, file, stat = self._open(item)
        except errors.Archived as error:  # not tried again and again: restoring takes hours
            return Facts(error=str(error), rev=error.rev)
        with file, self._companions(tree, path, wanted) as others:
            # In a bucket, asking for a thumbnail that is probably missing costs a request.
            skips = wanted.anew or (wanted.waits and stat.etag)
            there = b"" if skips else self._thumbnail(item, stat)
            thumbnail = wanted.anew or (wanted.waits and not there)
            facts, data = self._decode(file, stat, wanted, others, thumbnail=thumbnail)
        tree.check_same(path, stat)
        if there or data:
            digest = str(blake3(data or there).hexdigest())[:DIGEST_CHARS]
            facts = replace(facts, thumb=f"{digest}-{self._rendering}")
        if data:
            try:
                self._library.tree.write(file_beside(item, THUMBNAIL), data, image=stat)
            except errors.Invalid:
                reason = "no thumbnail can be stored: the path is too long for this storage"
                return replace(facts, error=reason)
        return facts

    @contextlib.contextmanager
    def _companions(self, tree: Tree, path: Path, wanted: Wanted) -> Iterator[dict[str, int]]:
        """Yields the descriptors of an image's companions. What cannot be read says nothing."""
        found = {}
        with contextlib.ExitStack() as stack:
            for name in wanted.companions.names if wanted.companions else ():
                with contextlib.suppress(NotFound, Denied, errors.Archived):
                    file, stat = tree.open(path.parent.child(name))
                    stack.enter_context(file)
                    if stat.size <= DOCUMENT_BYTES:
                        found[name] = stack.enter_context(descriptor(file))
            yield found

    def _thumbnail(self, item: Path, image: Stat) -> bytes:
        """Reads the thumbnail that somebody has made; empty if there is none."""
        with contextlib.suppress(NotFound):
            return read_thumbnail(self._library.tree, item, image)[0]
        return b""

    def _decode(
        self,
        file: BinaryIO,
        stat: Stat,
        wanted: Wanted,
        companions: Mapping[str, int],
        **how: Any,
    ) -> tuple[Facts, bytes]:
        """Reads an open image in a process of its own.

        `Unsettled` if a part of it is missing or wrong, and it has just been written.
        """
        read = wanted.companions
        known = Facts(rev=stat.rev, companions=read.rev if read else None)
        if stat.size > self._library.settings.max_file_bytes:
            reason = f"{stat.size} bytes are more than MAX_FILE_BYTES"
            limit = f"MAX_FILE_BYTES={self._library.settings.max_file_bytes}"
            return replace(known, error=reason, limit=limit), b""
        try:
            with descriptor(file) as number:
                how = {**self._how, "name": wanted.path.name, "companions": [*companions], **how}
                files = number, *companions.values()
                facts, data = self._library.decoders.read(*files, slow=wanted.slow, **how)
        except Killed as error:
            reason = f"{QUARANTINED}: reading it {error}"
            return replace(known, error=reason, limit=error.limit), b""
        if (facts.error or facts.warning) and (wait := stat.settles_in(self._clock.wall_ns())):
            raise Unsettled(wait)
        return replace(facts, rev=known.rev, companions=known.companions), data
