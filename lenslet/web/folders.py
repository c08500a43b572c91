"""`/folders`: manifests as they are stored, what people say of folders, and indexing one now."""

import falcon

from lenslet import paths
from lenslet.errors import BrokenPointer, Conflict, Invalid, NotFound, PointerLoop
from lenslet.index.messages import Look
from lenslet.library import about, manifest
from lenslet.library.location import Location
from lenslet.paths import Path
from lenslet.storage.tree import Stat
from lenslet.web.answers import JSON, send, send_json, send_pending, url
from lenslet.web.parameters import parse_path, path_param, read_json
from lenslet.web.service import Resource, Service

BUILD_SECONDS = 1.0


class Folders(Resource):
    """`GET /folders?path=&page=`; `PUT /folders`, which is the root without `path`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path = path_param(req)
        page = req.get_param_as_int("page", min_value=0, max_value=1_000_000, default=0)
        location = self.service.library.locator.folder(path)
        try:
            found = read_page(self.service, location, page)
        except falcon.HTTPNotFound:
            # The folder may have grown, and have this page soon.
            self.service.folder_jobs.enqueue_view(location)
            raise
        if found is None:
            send_pending(req, resp, path, url(req, "/folders", path=path, page=page))
            return
        data, stat = found
        self.service.folder_jobs.enqueue_view(location)
        send(resp, data, JSON, f"{stat.rev}-{stat.ctime_ns:x}")

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        _edit(self.service, req, resp, path_param(req))


def read_page(service: Service, location: Location, page: int = 0) -> tuple[bytes, Stat] | None:
    """Reads a page of a folder's manifest, and waits a second if it is missing; None: not yet.

    Raises why the manifest cannot be written, if that is known: `Foreign`, `Denied`.
    """
    path = location.path
    try:
        return _page(service, path, page)
    except NotFound:
        service.check_root()
    location = service.library.locator.folder(path, fresh=True)
    location.tree.stamp(location.folder)  # `NotFound` if it was removed a moment ago
    service.jobs.send(Look(path, asked=True))
    found = service.waiters.wait(BUILD_SECONDS, lambda: _page(service, path, page))
    if found is None:
        manifest.check_write(service.tree, path)
    return found


def _page(service: Service, path: Path, page: int) -> tuple[bytes, Stat]:
    try:
        return manifest.read(service.tree, path, page)
    except IndexError as error:
        raise falcon.HTTPNotFound(description=f"{path or '/'} has no page {page}.") from error


class Folder(Resource):
    """`PUT /folders/<path>`, `POST /folders/<path>/reindex?recursive=`"""

    def on_put(self, req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        _edit(self.service, req, resp, parse_path(req, f"/{rest}"))

    def on_post(self, req: falcon.Request, resp: falcon.Response, rest: str) -> None:
        folder, _, action = f"/{rest}".rpartition("/")
        if action != "reindex":
            raise falcon.HTTPNotFound(description="Only …/reindex can be posted to.")
        path = parse_path(req, folder)
        deep = req.get_param_as_bool("recursive", default=False)
        self.service.library.locator.folder(path)
        self.service.check_root()
        self.service.jobs.send(Look(path, asked=True, anew=True, deep=deep))
        send_pending(req, resp, path, url(req, "/folders", path=path))


def _edit(service: Service, req: falcon.Request, resp: falcon.Response, path: Path) -> None:
    """Changes what people say of a folder, and answers what its file holds now."""
    try:
        location = service.library.locator.folder(path, fresh=True)
    except (BrokenPointer, PointerLoop) as error:
        raise Conflict(str(error)) from error
    if location.is_pointer:
        raise Conflict(f"{path} is a pointer, whose file has its label: edit its target instead.")
    change = about.validate(read_json(req))
    if cover := change.get("cover"):
        change["cover"] = _name_of(service, path, cover)
    with service.images.editing(location) as tree:
        stored = about.edit(tree, location.folder, change)
    send_json(resp, stored)


def _name_of(service: Service, folder: Path, name: str) -> str:
    """Returns the name of an image as it is written; `Invalid` if the folder has none."""
    try:
        if "/" in name or not paths.usable_segment(name):
            raise NotFound(name)
        path = service.library.locator.written(folder.child(name))
        return service.images.find(path, fresh=True).path.name
    except NotFound as error:
        service.check_root()  # while it is away, the image may still exist
        raise Invalid("cover", "must be the name of an image in the folder") from error
