"""`/folders`: manifests as they are stored, and the request to index a folder now."""

import falcon
import orjson

from lenslet import paths
from lenslet.errors import NotFound
from lenslet.index.queue import Job, Kind
from lenslet.library import manifest
from lenslet.library.location import Location
from lenslet.paths import Path
from lenslet.storage.tree import Stat
from lenslet.web import scope
from lenslet.web.answers import JSON, send, send_pending, url
from lenslet.web.parameters import path_param
from lenslet.web.service import Guests, Resource

BUILD_SECONDS = 1.0


class Folders(Resource):
    """`GET /folders?path=&page=`"""

    guests = Guests.FOLDER

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = path_param(req)
        page = req.get_param_as_int("page", min_value=0, max_value=1_000_000, default=0)
        location = self.service.library.locator.folder(path)
        try:
            found = self._read(location, page)
        except falcon.HTTPNotFound:
            # The folder may have grown, and have this page soon.
            self.service.folder_jobs.enqueue_view(location)
            raise
        if found is None:
            send_pending(req, resp, path, url(req, "/folders", path=path, page=page))
            return
        data, stat = found
        self.service.folder_jobs.enqueue_view(location)
        tag = f"{stat.rev}-{stat.ctime_ns:x}"
        if link := req.context.link:
            data = orjson.dumps(scope.shown_folder(link, orjson.loads(data)))
            tag += f"-{link.id}"
        send(req, resp, data, JSON, tag)

    def _read(self, location: Location, page: int) -> tuple[bytes, Stat] | None:
        """Reads a page of the manifest, and waits a second if it is missing; None: not yet.

        Raises why the manifest cannot be written, if that is known: `Foreign`, `Denied`.
        """
        path = location.path
        try:
            return self._page(path, page)
        except NotFound:
            self.service.check_root()
        location = self.service.library.locator.folder(path, fresh=True)
        if not location.tree.has_folder(location.folder):  # it was removed a moment ago
            raise NotFound(f"There is no folder {path}.")
        self.service.jobs.enqueue(Job(Kind.FOLDER, path, asked=True))
        found = self.service.waiters.wait(BUILD_SECONDS, lambda: self._page(path, page))
        if found is None:
            manifest.check_write(self.service.tree, path)
        return found

    def _page(self, path: Path, page: int) -> tuple[bytes, Stat]:
        try:
            return manifest.read(self.service.tree, path, page)
        except IndexError as error:
            raise falcon.HTTPNotFound(description=f"{path or '/'} has no page {page}.") from error


class Reindex(Resource):
    """`POST /folders/<path>/reindex?recursive=`"""

    def on_post(self, req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        folder, _, action = f"/{rest}".rpartition("/")
        if action != "reindex":
            raise falcon.HTTPNotFound(description="Only …/reindex can be posted to.")
        path = paths.parse(folder)
        deep = req.get_param_as_bool("recursive", default=False)
        self.service.library.locator.folder(path)
        self.service.check_root()
        self.service.jobs.enqueue(Job(Kind.FOLDER, path, asked=True, force=True, deep=deep))
        send_pending(req, resp, path, url(req, "/folders", path=path))
