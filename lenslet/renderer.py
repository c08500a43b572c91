"""One image read once: its hash, size, EXIF and thumbnail."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from blake3 import blake3

from lenslet import images, probe, thumbnail
from lenslet.config import Settings
from lenslet.errors import Invalid, NotFound, UnreadableImage, one_line
from lenslet.manifest import QUARANTINED, Facts
from lenslet.paths import Path
from lenslet.places import Place
from lenslet.storage import Stat, Storage

IN_MEMORY_BYTES = 32 * 1024 * 1024  # larger files are hashed as they stream
PIXELS_AT_ONCE = 45_000_000  # 180 MB; an image with more decodes alone
_CHUNK = 1 << 20


class Unsettled(Exception):
    """The image is being written, or changed while it was read: look again in two seconds."""


class PixelBudget:
    """Lets decodings go on at once while together they hold at most `total` pixels."""

    def __init__(self, total: int = PIXELS_AT_ONCE) -> None:
        self._total = total
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._used + share <= self._total)
            self._used += share
        try:
            yield
        finally:
            with self._changed:
                self._used -= share
                self._changed.notify_all()


class Renderer:
    """Reads images and keeps their thumbnails."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._budget = PixelBudget()

    def read(
        self, place: Place, item: Path, wall: Callable[[], int], *, force: bool = False
    ) -> Facts:
        """An image's facts; its thumbnail is kept unless a good one is there (`force`: anyway).

        Raises `Unsettled`, and what storage raises: `NotFound`, `Denied`, `StorageFull`.
        """
        tree, path = place.storage.root, place.folder.child(item.name)
        file, stat = tree.open(path)
        with file:
            if not stat.settled(wall()):
                raise Unsettled
            if stat.size > self._settings.max_file_bytes:
                told = f"{stat.size} bytes are more than MAX_FILE_BYTES"
                return Facts(stat.rev, error=told, stat=stat)
            needed = force or tree.remote or not self._has_thumbnail(item, stat)
            facts, data = self._decode(file, stat, needed)
        if not tree.remote and tree.stat(path).rev != stat.rev:
            raise Unsettled
        if data:
            try:
                thumbnail.keep(self._storage, item, stat, data, make=place.pointed)
            except Invalid as error:
                return replace(facts, error=f"no thumbnail can be kept: {one_line(error)}")
        return facts

    def try_alone(self, place: Place, item: Path) -> Facts | None:
        """The facts of an image that ends the process reading it; None for any other."""
        file, stat = place.storage.root.open(place.folder.child(item.name))
        with file:
            how = probe.ends_its_process(file, self._settings)
        return Facts(stat.rev, error=f"{QUARANTINED}: reading it {how}") if how else None

    def has_thumbnail(self, place: Place, item: Path) -> bool:
        """Whether a good thumbnail of the image is there already, if that is cheap to say."""
        if place.storage.root.remote:
            return False
        return self._has_thumbnail(item, place.storage.root.stat(place.folder.child(item.name)))

    def _has_thumbnail(self, item: Path, image: Stat) -> bool:
        try:
            thumbnail.read(self._storage, item, image)
        except NotFound:
            return False
        return True

    def _decode(self, file: BinaryIO, stat: Stat, needed: bool) -> tuple[Facts, bytes]:
        digest, source = _hashed(file, stat.size)
        try:
            facts, data = images.render(
                source,
                long_edge=self._settings.thumb_long_edge,
                quality=self._settings.thumb_quality,
                max_pixels=self._settings.max_pixels,
                budget=self._budget,
                thumbnail=needed,
            )
        except UnreadableImage as error:
            return Facts(stat.rev, hash=digest, error=str(error), stat=stat), b""
        read = Facts(stat.rev, facts.width, facts.height, digest, facts.created_at, stat=stat)
        return read, data


def _hashed(file: BinaryIO, size: int) -> tuple[str, BinaryIO]:
    """The hash of a whole file, and something to decode it from."""
    if size <= IN_MEMORY_BYTES:
        data = file.read()
        return f"blake3:{blake3(data).hexdigest()}", io.BytesIO(data)
    hasher = blake3()
    while chunk := file.read(_CHUNK):
        hasher.update(chunk)
    file.seek(0)
    return f"blake3:{hasher.hexdigest()}", file
