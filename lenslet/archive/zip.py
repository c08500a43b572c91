"""`/zip`: the originals of a folder or a selection, in one archive that is made as it is sent."""

import errno
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import falcon
import orjson

from lenslet import paths
from lenslet.archive import container
from lenslet.errors import (
    Invalid,
    LensletError,
    NotFound,
    Overtaken,
    StorageUnavailable,
)
from lenslet.library import manifest
from lenslet.library.item import Item
from lenslet.paths import Path
from lenslet.search.query import Page
from lenslet.web.answers import send_pending, url
from lenslet.web.folders import read_page
from lenslet.web.parameters import choice_param, parse_image, path_param, read_json_or_form, strings
from lenslet.web.search import query_param
from lenslet.web.service import Resource, Service

log = logging.getLogger("lenslet")

MAX_PATHS = 5000
ZIPS = 4  # archives that a process sends at once
_UNNAMED = "photos"  # the root, and a selection from its folders


class Entry(NamedTuple):
    """An image that goes into an archive, if it still has this size and rev when it is sent."""

    path: Path
    size: int
    rev: str


class Zip(Resource):
    """`GET /zip?path=&recursive=&q=`, `POST /zip`"""

    only_reads = True

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._free = threading.BoundedSemaphore(ZIPS)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        folder, query = path_param(req), query_param(req).strip()
        recursive = choice_param(req, "recursive", ("false", "true"))
        location = self.service.library.locator.folder(folder)
        searches = bool(query or recursive == "true" or req.context.search)
        if not query and read_page(self.service, location) is None:
            send_pending(req, resp, folder, url(req, "/zip", path=folder, recursive=recursive))
            return
        self.service.folder_jobs.enqueue_view(location)
        top = "" if query else f"{folder.name or _UNNAMED}/"
        items: Iterator[Item]
        if searches:
            page = Page(limit=container.MOST_FILES + 1)
            found = self.service.search_of(req).find(query, folder, page)
            items = map(orjson.loads, found.items)
        else:
            listed = manifest.load(self.service.tree, folder)
            if not listed.generated_at:
                raise Overtaken(f"{folder or '/'} has changed: try again in a moment.")
            items = iter(listed.items)
        self._send(req, resp, map(_entry, items), folder, top)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        texts = strings(read_json_or_form(req, "paths"), "paths")
        if not 0 < len(texts) <= MAX_PATHS:
            raise Invalid("paths", f"must be 1 to {MAX_PATHS} paths of images")
        wanted = list(dict.fromkeys(parse_image(text, "paths") for text in texts))
        above = Path(os.path.commonpath([path.parent for path in wanted]))
        self._send(req, resp, self._selected(wanted), above)

    def _selected(self, wanted: list[Path]) -> Iterator[Entry]:
        for path in wanted:
            image = self.service.images.find(path)
            yield Entry(image.path, image.stat.size, image.stat.rev)

    def _send(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        entries: Iterable[Entry],
        folder: Path,
        top: str = "",
    ) -> None:
        """Sends an archive in which images have their paths below `folder` after `top`."""
        found = list(itertools.islice(entries, container.MOST_FILES + 1))
        if not found:
            raise NotFound(f"{folder or '/'} has no such images.")
        if len(found) > container.MOST_FILES:
            raise Invalid(
                "path", f"has more than {container.MOST_FILES} images: ask for parts of it"
            )
        sizes = ((top + entry.path.below(folder), entry.size) for entry in found)
        if req.method != "HEAD":
            stream = self._pieces(self._files(found, folder, top))
            next(stream)
            resp.stream = stream
        resp.content_length = container.length(sizes)
        resp.content_type = "application/zip"
        resp.cache_control = ["no-store"]
        resp.accept_ranges = "none"
        resp.downloadable_as = f"{folder.name or _UNNAMED}.zip"

    def _pieces(self, files: container.Files) -> Iterator[bytes]:
        """Yields nothing once the first image was read, and then the archive.

        An error before that is answered; one after it ends the connection.
        """
        if not self._free.acquire(blocking=False):
            raise StorageUnavailable(f"{ZIPS} archives are being sent: try again later.")
        try:
            pieces = container.pieces(files)
            first = next(pieces)
            yield b""
            try:
                yield first
                yield from pieces
            except LensletError as error:
                log.warning("an archive was not sent to its end: %s", error)
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        finally:
            self._free.release()

    def _files(self, entries: list[Entry], folder: Path, top: str) -> container.Files:
        """Opens one image after the other, `Overtaken` if it is not the one that was listed."""
        for entry in entries:
            location = self.service.library.locator.item(entry.path)
            tree, path = location.tree, location.file(entry.path.name)
            try:
                file, stat = tree.open(path)
                with file:
                    if (stat.size, stat.rev) != (entry.size, entry.rev):
                        raise Overtaken(f"{entry.path} has changed: try again in a moment.")
                    yield top + entry.path.below(folder), stat, file
                tree.check_same(path, stat)
            except (NotFound, Overtaken):
                self.service.folder_jobs.enqueue(entry.path.parent)
                raise


def _entry(item: Item) -> Entry:
    return Entry(paths.parse(item["path"]), item["size"], item["rev"])
