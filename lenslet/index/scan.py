"""Finds the folders that changed: one stat a folder, or one listing in a bucket."""

from typing import NamedTuple

from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.record import Record, Records, Stamp
from lenslet.library import Library
from lenslet.paths import Path
from lenslet.times import Clock

S3_SCAN_SECONDS = 120.0  # between two listings of a pointer's target in a bucket


class Scanned(NamedTuple):
    """What a scan found: folders that may have changed, or an `outage`; and how long it took.

    `is_full`: every folder must be looked at.
    """

    folders: tuple[Path, ...] = ()
    seconds: float = 0.0
    outage: str = ""
    is_full: bool = False


class Scanner:
    """Finds what may have changed, and what is due to be tried again. Changes nothing."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._in_folders = library.tree.has_stamps
        self._seconds = library.settings.scan_seconds

    def scan(self, records: Records) -> Scanned:
        """Returns the folders that are due."""
        began = self._clock()
        try:
            self._library.tree.check()
        except LensletError as error:
            return Scanned(outage=one_line(error))
        due = tuple(path for path, record in records.items() if self._is_due(path, record))
        return Scanned(due, self._clock() - began)

    def _is_due(self, path: Path, record: Record) -> bool:
        """True if a folder may have changed, or if what failed in it is tried again."""
        if record.retry.due <= self._clock():
            return True
        if "" in record.retry.reasons:  # it cannot be read
            return False
        if record.looked.again or not record.stamps:
            return True
        if any(self._is_old(stamp, record) for stamp in record.stamps):
            return True
        location = record.location
        if not (location and location.chain and self._in_folders):
            return False
        try:  # a pointer on the way may lead elsewhere now
            return self._library.locator.folder(path, fresh=True).target != location.target
        except LensletError:
            return True

    def _is_old(self, stamp: Stamp, record: Record) -> bool:
        if not stamp.tree.has_stamps:  # only a listing tells; is one due?
            least = 0.0 if stamp.tree is self._library.tree else S3_SCAN_SECONDS
            return self._clock() - record.looked.at > 0.9 * max(self._seconds, least)
        try:
            return stamp.tree.stamp(stamp.folder) != stamp.value
        except NotFound:
            return stamp.value != 0
        except LensletError:
            return True
