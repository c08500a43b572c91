"""Enqueues the folders that clients change and view, for the index process."""

import contextlib
import time

from lenslet.errors import StorageUnavailable
from lenslet.index.messages import Look, Request, Sender
from lenslet.library.location import Location
from lenslet.paths import Path

_VIEW_SECONDS, _VIEW_SECONDS_S3 = 1.0, 30.0  # between two views of a folder that are enqueued
_MOST_FOLDERS = 10_000


class FolderJobs:
    """Enqueues folders. If that is not possible, a scan finds what has changed."""

    def __init__(self, jobs: Sender) -> None:
        self._jobs = jobs
        self._viewed: dict[Path, float] = {}

    def enqueue(self, folder: Path) -> None:
        """Enqueues a folder to be indexed now."""
        self._send(Look(folder, asked=True))

    def enqueue_view(self, location: Location) -> None:
        """Enqueues a folder because a client views it, at most once a second.

        In a bucket, where a listing costs, every 30 seconds, and as what nobody waits for.
        """
        folder, now, is_local = location.path, time.monotonic(), location.tree.has_stamps
        rest = _VIEW_SECONDS if is_local else _VIEW_SECONDS_S3
        if now - self._viewed.get(folder, float("-inf")) < rest:
            return
        if len(self._viewed) >= _MOST_FOLDERS:
            self._viewed.clear()
        self._viewed[folder] = now
        self._send(Look(folder, asked=is_local))

    def _send(self, request: Request) -> None:
        with contextlib.suppress(StorageUnavailable):
            self._jobs.send(request)
