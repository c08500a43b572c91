"""`/zip`: the originals of a folder or a selection, in one archive that is made as it is sent."""

import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import falcon
import orjson

from lenslet import paths
from lenslet.errors import (
    BrokenPointer,
    Invalid,
    LensletError,
    NotFound,
    Overtaken,
    PointerLoop,
    StorageUnavailable,
)
from lenslet.library import manifest
from lenslet.library.links import Link
from lenslet.paths import Path
from lenslet.search.query import Page
from lenslet.storage.local import Scratch
from lenslet.storage.text import Text
from lenslet.storage.tree import Stat
from lenslet.web import archive
from lenslet.web.answers import send_pending, url
from lenslet.web.folders import read_page
from lenslet.web.parameters import choice_param, parse_image, path_param, read_json_or_form, strings
from lenslet.web.scope import Guests
from lenslet.web.search import query_param
from lenslet.web.service import Resource, Service

log = logging.getLogger("lenslet")

MAX_PATHS = 5000
ZIPS = 4  # archives that a process sends at once
_UNNAMED = "photos"  # the root, and a selection from its folders
_NOT_PLAIN = re.compile(r'[^ -~]|["%\\]')


class Entry(NamedTuple):
    """An image that goes into an archive, if it still has this size and rev when it is sent."""

    path: Path
    size: int
    rev: str


class Zip(Resource):
    """`GET /zip?path=&recursive=&q=`, `POST /zip`"""

    guests = Guests.ORIGINALS

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._free = threading.BoundedSemaphore(ZIPS)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        folder, query = path_param(req), query_param(req)
        recursive = choice_param(req, "recursive", ("false", "true"))
        if query.strip():
            found = iter(self._found(query, folder))
            self._send(req, resp, found, folder, folder.name or _UNNAMED, "")
            return
        location = self.service.library.locator.folder(folder)
        if read_page(self.service, location) is None:
            send_pending(req, resp, folder, url(req, "/zip", path=folder, recursive=recursive))
            return
        self.service.folder_jobs.enqueue_view(location)
        entries = self._images(folder, recursive=recursive == "true")
        top = folder.name or _UNNAMED
        self._send(req, resp, entries, folder, top, f"{top}/")

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        texts = strings(read_json_or_form(req, "paths"), "paths")
        if not 0 < len(texts) <= MAX_PATHS:
            raise Invalid("paths", f"must be 1 to {MAX_PATHS} paths of images")
        wanted = list(dict.fromkeys(parse_image(text, "paths") for text in texts))
        above = Path(os.path.commonpath([path.parent for path in wanted]))
        self._send(req, resp, self._selected(wanted), above, above.name or _UNNAMED, "")

    def _found(self, query: str, folder: Path) -> list[Entry]:
        """Returns the images that a query finds below a folder; `Invalid` if they are too many."""
        page = Page(limit=MAX_PATHS + 1)
        found = self.service.search.find(query, folder, page).items
        if len(found) > MAX_PATHS:
            raise Invalid("q", f"finds more than {MAX_PATHS} images")
        return [_entry(orjson.loads(item)) for item in found]

    def _selected(self, wanted: list[Path]) -> Iterator[Entry]:
        for path in wanted:
            image = self.service.images.find(path)
            yield Entry(image.path, image.stat.size, image.stat.rev)

    def _images(self, folder: Path, *, recursive: bool) -> Iterator[Entry]:
        """Yields the images of a folder in order, then, if `recursive`, those of each subfolder.

        A subfolder that is gone, or whose pointer cannot be followed, shows no images.
        """
        left = [folder]
        while left:
            path = left.pop()
            try:
                location = self.service.library.locator.folder(path)
                found = read_page(self.service, location)
            except (NotFound, BrokenPointer, PointerLoop):
                if path == folder:
                    raise
                continue
            if found is None:
                raise StorageUnavailable(f"{path} is being indexed: try again in a moment.")
            for page in manifest.pages(self.service.tree, path):
                for item in page["items"]:
                    yield _entry(item)
                if recursive:
                    left += reversed(_subfolders(path, page))

    def _send(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        entries: Iterator[Entry],
        folder: Path,
        name: str,
        top: str,
    ) -> None:
        """Sends an archive `name`, in which images have their paths below `folder` after `top`.

        The list of images is written to a temporary file first: it may be a whole library, and it
        stays the same while folders are indexed anew.
        """
        if not self._free.acquire(blocking=False):
            raise StorageUnavailable(f"{ZIPS} archives are being sent: try again later.")
        with contextlib.ExitStack() as stack:
            stack.callback(self._free.release)
            notes = self.service.library.cache.scratch()
            length = archive.length(_noted(entries, notes, folder, top))
            if not notes.size:
                raise NotFound(f"{folder or '/'} has no such images.")
            if req.method != "HEAD":
                files = self._files(notes.text(), folder, top, req.context.link)
                pieces = stack.enter_context(contextlib.closing(archive.pieces(files, notes)))
                resp.stream = _Stream(next(pieces), pieces, stack.pop_all().close)
            resp.content_length = length
            resp.content_type = "application/zip"
            resp.cache_control = ["no-store"]
            resp.set_header("Accept-Ranges", "none")
            resp.set_header("Content-Disposition", _disposition(f"{name}.zip"))

    def _files(
        self, notes: Text, folder: Path, top: str, link: Link | None
    ) -> Iterator[tuple[str, Stat, BinaryIO]]:
        """Opens one image after the other, `Overtaken` if it is not the one that was noted.

        `NotFound` once the link has ended or was taken back.
        """
        for entry in _entries(notes):
            if link:
                self.service.links.get(link.id)
            location = self.service.library.locator.item(entry.path)
            tree, path = location.tree, location.file(entry.path.name)
            try:
                file, stat = tree.open(path)
            except NotFound:
                self.service.folder_jobs.enqueue(entry.path.parent)
                raise
            with file:
                self._check(entry, stat)
                yield top + entry.path.below(folder), stat, file
            if tree.has_stamps:  # it may have been written to while it was read
                self._check(entry, tree.stat(path))

    def _check(self, entry: Entry, stat: Stat) -> None:
        if (stat.size, stat.rev) != (entry.size, entry.rev):
            self.service.folder_jobs.enqueue(entry.path.parent)
            raise Overtaken(f"{entry.path} has changed: try again in a moment.")


class _Stream:
    """The pieces of an answer that has begun: an error ends the connection."""

    def __init__(self, first: bytes, more: Iterator[bytes], close: Callable[[], None]) -> None:
        self._first = first
        self._more = more
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        try:
            yield from self._more
        except LensletError as error:
            log.warning("an archive was not sent to its end: %s", error)
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


def _entry(item: manifest.Item) -> Entry:
    return Entry(paths.parse(item["path"]), item["size"], item["rev"])


def _subfolders(path: Path, page: dict[str, list[dict[str, str]]]) -> list[Path]:
    """Returns the subfolders that a page lists, each directly below `path`, whatever it says."""
    names = dict.fromkeys(entry["name"] for entry in page.get("dirs", ()))
    return [path.child(name) for name in names if paths.usable_segment(name) and "/" not in name]


def _noted(
    entries: Iterator[Entry], notes: Scratch, folder: Path, top: str
) -> Iterator[tuple[str, int]]:
    """Writes each entry on a line, and yields its name in the archive and its size."""
    for entry in entries:
        notes.append(orjson.dumps([*entry]) + b"\n")
        yield top + entry.path.below(folder), entry.size


def _entries(notes: Text) -> Iterator[Entry]:
    start = 0
    while (end := notes.find(b"\n", start)) >= 0:
        path, size, rev = orjson.loads(notes[start:end])
        yield Entry(Path(path), size, rev)
        start = end + 1


def _disposition(name: str) -> str:
    """Returns the header that names a download, also for programs that know ASCII alone."""
    plain = _NOT_PLAIN.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
