"""Finds the folders that changed: one stat a folder, or one listing in a bucket."""

from typing import NamedTuple

from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.record import Record, Records, Stamp
from lenslet.library import Library
from lenslet.paths import Path
from lenslet.times import Clock

S3_SCAN_SECONDS = 120.0  # between two listings of a pointer's target in a bucket


class Scan(NamedTuple):
    """It is time to scan; `full`: to look at all folders."""

    full: bool = False


class Scanned(NamedTuple):
    """What a scan found: folders that may have changed, or an `outage`; and how long it took.

    `full`: those are all folders.
    """

    folders: tuple[Path, ...] = ()
    seconds: float = 0.0
    outage: str = ""
    full: bool = False


def find_due(library: Library, records: Records, clock: Clock, full: bool) -> Scanned:
    """Returns the folders that may have changed, or that are tried again; with `full`, all."""
    began = clock()
    try:
        library.tree.check()
    except LensletError as error:
        return Scanned(outage=one_line(error))
    due = [path for path, each in records.items() if full or _is_due(library, path, each, began)]
    return Scanned(tuple(due), clock() - began, full=full)


def _is_due(library: Library, path: Path, record: Record, now: float) -> bool:
    if record.retry.due <= now:
        return True
    if "" in record.retry.reasons:  # it cannot be read
        return False
    if not record.stamps or any(_is_old(library, each, record, now) for each in record.stamps):
        return True
    location = record.location
    if not (location and location.chain and library.tree.has_stamps):
        return False
    try:  # a pointer on the way may lead elsewhere now
        return library.locator.folder(path, fresh=True).target != location.target
    except LensletError:
        return True


def _is_old(library: Library, stamp: Stamp, record: Record, now: float) -> bool:
    if not stamp.tree.has_stamps:  # only a listing tells; is one due?
        least = 0.0 if stamp.tree is library.tree else S3_SCAN_SECONDS
        return now - record.looked > 0.9 * max(library.settings.scan_seconds, least)
    try:
        return stamp.tree.stamp(stamp.folder) != stamp.value
    except NotFound:
        return stamp.value != 0
    except LensletError:
        return True
