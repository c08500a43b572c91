"""Single files of a bucket that are said to be others now: looked at without any listing."""

from __future__ import annotations

from lenslet import manifest, paths
from lenslet.books import Books
from lenslet.jobs import Job, Kind, Queue, State
from lenslet.known import Memory
from lenslet.manifest import Item
from lenslet.paths import Path
from lenslet.pointers import Resolver
from lenslet.reading import SETTLE_SECONDS, SOON, Reading
from lenslet.storage import Storage


class Keys:
    """Looks at files that an event, an edit or another host names; says how far a job is."""

    def __init__(
        self,
        storage: Storage,
        resolver: Resolver,
        queue: Queue,
        memory: Memory,
        reading: Reading,
        books: Books,
    ) -> None:
        self._storage = storage
        self._resolver = resolver
        self._queue = queue
        self._memory = memory
        self._reading = reading
        self._books = books

    def look(self, job: Job) -> None:
        """Look at one file of a bucket that is said to be another now, without any listing."""
        path, name = job.path, job.path.name
        if name in paths.ABOUT_FOLDERS:
            self._queue.put(Job(Kind.LOOK, path.parent))
            return
        image = next(filter(paths.is_item, _images_of(name)), None)
        if image is None or not self._is_served(path.parent.child(image)):
            return
        known = self._memory.of(path.parent)
        if image != name:
            known.edited.add(image)
            self._queue.put(Job(Kind.MANIFEST, path.parent), SOON)
        elif not job.force and (item := self._current(job)):
            self._books.note_item(item)  # should whoever read it have ended before search knew
        else:
            known.pending.add(name)
            if not self._queue.put(Job(Kind.WANTED, path, job.force)):
                known.pending.discard(name)
                self._queue.put(job, SETTLE_SECONDS)

    def _is_served(self, image: Path) -> bool:
        ignore = self._resolver.ignore.path
        return not any(ignore(path) for path in (image, *image.ancestors()) if path)

    def _current(self, job: Job) -> Item | None:
        """The image as the manifest tells of it, if that is as it is said to be."""
        item = manifest.find(self._storage, job.path) if job.rev else None
        if item is None or item["rev"] != job.rev:
            return None
        return item if "error" in item or (item["hasThumb"] and "hash" in item) else None

    def state(self, job: Job) -> State:
        """How far a job is, to the manifest that tells of it."""
        path, whole = job.path, job.kind in (Kind.FOLDER, Kind.LOOK, Kind.MANIFEST)
        folder = path if whole else path.parent
        about_folder = job.kind is Kind.KEY and path.name in paths.ABOUT_FOLDERS
        if self._queue.has(job) or (about_folder and self._queue.has(Job(Kind.LOOK, folder))):
            return State.BUSY
        known = self._memory.get(folder)
        if known is None or job.kind in (Kind.ROLLUP, Kind.COMPACT, Kind.HEALTH):
            return State.DONE
        names = {*known.untold, *list(known.retries)} if whole else set(_images_of(path.name))
        if names & known.untold or (whole and self._reading.has_more(folder)):
            return State.BUSY
        if names & known.retries.keys():
            return State.FAILED
        return State.BUSY if self._books.unflushed else State.DONE


def _images_of(name: str) -> list[str]:
    """The image that a file is, or may belong to."""
    return [name, *(name.removesuffix(end) for end in paths.SIDECARS if name.endswith(end))]
