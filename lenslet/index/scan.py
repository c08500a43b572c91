"""Finds the folders that changed: one stat a folder, or one listing in a bucket."""

from lenslet.errors import LensletError, NotFound
from lenslet.index.look import Stamp
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.records import Record, Records
from lenslet.index.summary import Report
from lenslet.library import Library
from lenslet.paths import ROOT, Path
from lenslet.times import Clock

FULL_SCAN_SECONDS = 3600.0
S3_SCAN_SECONDS = 120.0  # between two listings of a pointer's target in a bucket
_REST = 100  # times what a scan took, then comes the next: after a quarter to all of SCAN_SECONDS


class Scanner:
    """Queues what may have changed or is tried again, and every hour all folders."""

    def __init__(
        self, library: Library, queue: Queue, records: Records, report: Report, clock: Clock
    ) -> None:
        self._library = library
        self._queue = queue
        self._records = records
        self._report = report
        self._clock = clock
        self.seconds = library.settings.scan_seconds
        self._in_folders = library.tree.has_stamps
        self._took = 0.0  # the last scan
        self._full_since, self._is_full = float("-inf"), False  # True until all is done

    def scan(self, job: Job) -> None:
        """Queues the folders that changed; with `force`, and every hour, all folders."""
        began = self._clock()
        self._library.tree.check()
        if self.seconds:
            least = self.seconds / 4 if self._in_folders else self.seconds
            self._queue.enqueue(Job(Kind.SCAN), max(least, min(_REST * self._took, self.seconds)))
        if job.force or began - self._full_since > FULL_SCAN_SECONDS:
            self._full_since, self._is_full = began, True
            for path in (ROOT, *(path for path, _ in self._records.all())):
                self._queue.enqueue(Job(Kind.FOLDER, path))
            return
        for path, record in self._records.all():
            if self._is_due(path, record):
                self._queue.enqueue(Job(Kind.FOLDER, path))
        if self._is_full and not self._queue.waiting(Kind.FOLDER, Kind.IMAGE):
            self._is_full = False
            self._report.ended("full", began - self._full_since)
        self._took = self._clock() - began
        self._report.ended("scan", self._took)
        self._queue.enqueue(Job(Kind.SUMMARY))

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
            return self._clock() - record.looked.at > 0.9 * max(self.seconds, least)
        try:
            return stamp.tree.stamp(stamp.folder) != stamp.value
        except NotFound:
            return stamp.value != 0
        except LensletError:
            return True
