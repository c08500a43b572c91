"""`/zip`: the originals of a folder or a selection, in one archive that is made as it is sent."""

import contextlib
import errno
import itertools
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
_SLOW_SECONDS = 5.0  # for one piece of an archive: slower ones give way to others
_UNNAMED = "photos"  # the root, and a selection from its folders


class Entry(NamedTuple):
    """An image that goes into an archive, if it still has this size and rev when it is sent."""

    path: Path
    size: int
    rev: str


@dataclass(eq=False, slots=True)
class Sending:
    """An archive that is being sent, and since when a piece of it waits for the client to read."""

    connection: socket.socket | None
    waits_since: float = math.inf


class Zip(Resource):
    """`GET /zip?path=&recursive=&q=`, `POST /zip`"""

    only_reads = True

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._sent: set[Sending] = set()
        self._lock = threading.Lock()

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
        wanted = list(dict.fromkeys(parse_image(req, text, "paths") for text in texts))
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
        """Sends an archive in which images have their paths below `folder` after `top`.

        Names that some system cannot unpack are others there.
        """
        found = list(itertools.islice(entries, container.MOST_FILES + 1))
        if not found:
            raise NotFound(f"{folder or '/'} has no such images.")
        if len(found) > container.MOST_FILES:
            raise Invalid(
                "path", f"has more than {container.MOST_FILES} images: ask for parts of it"
            )
        names = container.portable(top + entry.path.below(folder) for entry in found)
        if req.method != "HEAD":
            sending = Sending(req.env.get("gunicorn.socket"))
            files = self._files(zip(names, found, strict=True))
            stream = self._pieces(files, sending)
            next(stream)
            resp.stream = stream
        resp.content_length = container.length(
            zip(names, (entry.size for entry in found), strict=True)
        )
        resp.content_type = "application/zip"
        resp.cache_control = ["no-store"]
        resp.accept_ranges = "none"
        resp.downloadable_as = f"{folder.name or _UNNAMED}.zip"
        resp.set_header("X-Accel-Buffering", "no")  # nginx would store it, ahead of the client

    def _pieces(self, files: container.Files, sending: Sending) -> Iterator[bytes]:
        """Yields nothing once the first image was read, and then the archive.

        An error before that is answered; one after it ends the connection.
        """
        self._begin(sending)
        try:
            pieces = container.pieces(files)
            first = next(pieces)
            yield b""
            try:
                for piece in itertools.chain([first], pieces):
                    sending.waits_since = time.monotonic()
                    yield piece
                    sending.waits_since = math.inf
            except LensletError as error:
                log.warning("an archive was not sent to its end: %s", error)
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        finally:
            with self._lock:
                self._sent.discard(sending)

    def _begin(self, sending: Sending) -> None:
        """Takes a place for an archive; of those that are sent, the slowest may have to give way.

        Its connection ends, so that it holds no thread any more.
        """
        with self._lock:
            if len(self._sent) >= ZIPS:
                slowest = min(self._sent, key=lambda each: each.waits_since)
                is_slow = time.monotonic() - slowest.waits_since > _SLOW_SECONDS
                if not (is_slow and slowest.connection):
                    raise StorageUnavailable(f"{ZIPS} archives are being sent: try again later.")
                with contextlib.suppress(OSError):
                    slowest.connection.shutdown(socket.SHUT_RDWR)
                self._sent.remove(slowest)
            self._sent.add(sending)

    def _files(self, entries: Iterable[tuple[str, Entry]]) -> container.Files:
        """Opens one image after the other, `Overtaken` if it is not the one that was listed."""
        for name, entry in entries:
            location = self.service.library.locator.item(entry.path)
            tree, path = location.tree, location.file(entry.path.name)
            try:
                file, stat = tree.open(path)
                with file:
                    if (stat.size, stat.rev) != (entry.size, entry.rev):
                        raise Overtaken(f"{entry.path} has changed: try again in a moment.")
                    yield name, stat, file
                tree.check_same(path, stat)
            except (NotFound, Overtaken):
                self.service.folder_jobs.enqueue(entry.path.parent)
                raise


def _entry(item: Item) -> Entry:
    return Entry(paths.parse(item["path"]), item["size"], item["rev"])
