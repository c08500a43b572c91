"""Enqueues the folders that clients change and view, for the index process."""

import contextlib
import time

from lenslet.errors import StorageUnavailable
from lenslet.index.messages import REST_SECONDS, Look, Request, Sender, View
from lenslet.library.location import Location
from lenslet.paths import Path

_VIEW_SECONDS, _VIEW_SECONDS_S3 = 1.0, 20.0  # between two views of a folder that are enqueued
_MOST_FOLDERS = 10_000


class FolderJobs:
    """Enqueues folders. If that is not possible, a scan finds what has changed.

    `is_near`: this host has an index process of its own.
    """

    def __init__(self, jobs: Sender, *, is_near: bool) -> None:
        self._jobs = jobs
        self._is_near = is_near
        self._viewed: dict[Path, float] = {}

    def enqueue(self, folder: Path) -> None:
        """Enqueues a folder to be indexed now."""
        self._send(Look(folder, asked=True))

    def enqueue_view(self, location: Location) -> None:
        """Enqueues a folder because a client views it, at most once a second.

        Listing a folder in a bucket costs, so the index process decides whether it is due. One of
        another host is only sent the first view after a rest, because each message costs too.
        """
        folder, now = location.path, time.monotonic()
        is_local = location.tree.has_stamps
        rest = _VIEW_SECONDS if is_local else _VIEW_SECONDS_S3 if self._is_near else REST_SECONDS
        is_due = now - self._viewed.get(folder, float("-inf")) >= rest
        if len(self._viewed) >= _MOST_FOLDERS:
            self._viewed.clear()
        if is_due or not (is_local or self._is_near):
            self._viewed[folder] = now
        if is_due:
            self._send(Look(folder, asked=True) if is_local else View(folder))

    def _send(self, request: Request) -> None:
        with contextlib.suppress(StorageUnavailable):
            self._jobs.send(request)
