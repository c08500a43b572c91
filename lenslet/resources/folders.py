"""`/folders`: manifests as they are kept, and the order to index a folder now."""

from __future__ import annotations

import falcon

from lenslet import manifest, paths
from lenslet.errors import NotFound
from lenslet.jobs import Job, Kind
from lenslet.manifest import Manifest
from lenslet.paths import Path
from lenslet.resources.common import (
    JSON,
    Library,
    flag_param,
    number_param,
    path_param,
    send,
    send_pending,
    url,
)
from lenslet.storage import Stat

BUILD_SECONDS = 1.0
_LAST_PAGE = 1_000_000


class Folders:
    """`GET /folders?path=&page=`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = path_param(req)
        page = number_param(req, "page", 0, 0, _LAST_PAGE)
        place = self._library.resolver.folder(path)
        try:
            found = self._read(path, page)
        except falcon.HTTPNotFound:
            self._library.nudge(place)  # a page may come with the next image
            raise
        if found is None:
            send_pending(req, resp, path, url(req, "/folders", path=path, page=page))
            return
        data, stat = found
        self._library.nudge(place)
        send(req, resp, data, JSON, f"{stat.rev}-{stat.ctime_ns:x}")

    on_head = on_get

    def _read(self, path: Path, page: int) -> tuple[bytes, Stat] | None:
        """A page of the manifest, waiting a second for one that is not built; None: not yet."""
        try:
            return self._page(path, page)
        except NotFound:
            if not path and self._library.storage.root.is_empty():
                return self._nothing()
        self._library.resolver.folder(path, fresh=True)  # or has it gone in this moment?
        self._library.jobs.send(Job(Kind.FOLDER, path))
        return self._library.wait(BUILD_SECONDS, lambda: self._page(path, page))

    def _page(self, path: Path, page: int) -> tuple[bytes, Stat]:
        try:
            return manifest.read(self._library.storage, path, page)
        except IndexError as error:
            raise falcon.HTTPNotFound(description=f"{path or '/'} has no page {page}.") from error

    def _nothing(self) -> tuple[bytes, Stat]:
        """An empty root is never written to, so its manifest is made here."""
        empty = Manifest(paths.ROOT, generated_at="1970-01-01T00:00:00Z")
        return manifest.encode(empty, 1)[paths.MANIFEST], Stat(0, 0, 0)


class Reindex:
    """`POST /folders/<path>/reindex?recursive=`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_post(self, req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        folder, _, action = f"/{rest}".rpartition("/")
        if action != "reindex":
            raise falcon.HTTPNotFound(description="Only …/reindex can be posted to.")
        path = paths.parse(folder)
        deep = flag_param(req, "recursive")
        self._library.resolver.folder(path)
        self._library.jobs.send(Job(Kind.FOLDER, path, force=True, deep=deep))
        send_pending(req, resp, path, url(req, "/folders", path=path))
