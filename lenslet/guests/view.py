"""Decides what a guest, who comes with a link, may request, and strips the answers.

A route that is not in the table here is closed to guests. Resources find images and search through
`Service.image` and `Service.search_of`, which keep to what was decided here. What is
not at or below the link's path is refused, whether or not it exists.
"""

import contextlib
import html
from collections.abc import Callable
from enum import Enum
from typing import Any
from urllib.parse import quote

import falcon
import orjson

from lenslet.errors import LensletError, NotFound, Overtaken
from lenslet.guests.links import Link, link_cookie, links_of
from lenslet.guests.selection import Narrowed, Selection, is_certain
from lenslet.library import manifest
from lenslet.library.item import KEYS
from lenslet.paths import MANIFEST, Path
from lenslet.search.query import WORDLESS, parse
from lenslet.web.access import bearer, remove_cookie
from lenslet.web.answers import JSON, send, send_error
from lenslet.web.parameters import parse_path, path_param
from lenslet.web.service import Resource, Service


class Shows(Enum):
    """What of the library a route shows."""

    FOLDER = 1  # the folder of `path`
    PHOTO = 2  # the photo of `path`
    ORIGINAL = 3  # its file
    SEARCH = 4  # what `q` finds below `path`
    ORIGINALS = 5  # the files of that


# The keys that every link shows: of an item, a manifest beside its items, a subfolder, EXIF.
_ITEM = {name for name, key in KEYS.items() if key.open}
_MANIFEST = {"v", "path", "generatedAt", "page", "pageCount", "itemCount", "starts", "dirs",
             "title", "description", "cover", "order"}  # fmt: skip
_DIR = {"name", "kind", "label", "cover", "coverRev", "coverThumb"}
_EXIF = {"width", "height", "takenAt", "createdAt", "Make", "Model", "LensModel", "FNumber",
         "ExposureTime", "ISOSpeedRatings", "FocalLength"}  # fmt: skip
_POSITION = {"GPSLatitude", "GPSLongitude"}
_WORDS = {name for name, key in KEYS.items() if key.words}
_NOT_SHOWN = "This link does not show that."
_CLEAR = (400, 416, 422, 500)  # errors that say nothing but of the request and the photo


class Guests:
    """Middleware that lets clients whom nothing else lets in see what their link shows."""

    def __init__(self, service: Service) -> None:
        self._cookie = link_cookie(service.settings)
        self._links = links_of(service.tree)
        self._service = service

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: Resource, params: dict[str, Any]
    ) -> None:
        """Raises Falcon's errors unless a link shows what a request asks for."""
        context, link = req.context, None
        if context.access == "none":
            try:
                link = self._link(req)
            except (falcon.HTTPUnauthorized, LensletError) as error:
                if not resource.public:
                    raise
                if isinstance(error, falcon.HTTPUnauthorized) and req.path == "/":
                    context.access = "ended"  # once: a proxy may ask for a password then
                    remove_cookie(req, resp, self._cookie)
        if link:
            context.access = "link"
            resp.append_header("Vary", "Cookie")
            if not resource.public:
                context.link = link
                context.search = self._search_of(link)
                try:
                    self._check(req, params, link)
                except falcon.HTTPError:  # which says nothing of the library
                    context.link = None
                    raise
        if req.path == "/":
            links = self._service.settings.is_guarded
            context.page = {"link": _shown(link, links), "preview": self._preview(req)}

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        """Strips what a link hides of an answer, and what an error says of the library."""
        link, status = getattr(req.context, "link", None), resp.status_code
        if not link:
            return
        if not succeeded:
            if status == 503:
                text = "This cannot be read right now: try again in a moment."
                send_error(resp, falcon.HTTP_503, text)
            elif status not in _CLEAR:
                send_error(resp, falcon.HTTP_404, _NOT_SHOWN)
            return
        _, strip = _ROUTES[req.uri_template or ""]
        if status == 200 and strip:
            document = orjson.loads(resp.data or b"")
            if strip is _manifest and "pageCount" in document:
                resp.delete_header("ETag")
                document = self._cut_anew(link, document)
            document = strip(link, document)
            send(resp, orjson.dumps(document), JSON)  # its ETag tells of nothing that is hidden
        resp.cache_control = ["private", "no-cache"]  # a link can be taken back

    def _cut_anew(self, link: Link, page: dict[str, Any]) -> dict[str, Any]:
        """Returns a page of a manifest, cut by what a guest sees; 404 if there is no such page.

        Stored pages are cut by bytes too, which tells where long notes are.
        """
        tree, size = self._service.tree, self._service.settings.page_size
        path, number = Path(page["path"].removesuffix("/")), page["page"]
        starts = manifest.starts(tree, path)
        if starts == list(range(0, page["itemCount"], max([size, *starts[1:2]]))):
            return page
        whole = manifest.load(tree, path)
        if not whole.generated_at:
            raise Overtaken(f"{path} has changed: try again in a moment.")
        whole.items = [_item(link, each) for each in whole.items]
        files = manifest.encode(whole, size, "")
        files.setdefault(manifest.page_name(0), files[MANIFEST])
        if manifest.page_name(number) not in files:
            raise falcon.HTTPNotFound(description=_NOT_SHOWN)
        found: dict[str, Any] = orjson.loads(files[manifest.page_name(number)])
        return found

    def _link(self, req: falcon.Request) -> Link | None:
        """Returns the link whose secret a client sends; 401 if it shows nothing any more.

        None if no file says so: the browser keeps its cookie, because the file may come back.
        """
        sent = req.get_cookie_values(self._cookie) or []
        for secret in filter(None, (bearer(req), *sent)):
            with contextlib.suppress(NotFound):
                return self._links.opened_by(secret)
        if sent and self._links.exist:
            raise falcon.HTTPUnauthorized(description="This link has ended, or was taken back.")
        return None

    def _check(self, req: falcon.Request, params: dict[str, Any], link: Link) -> None:
        route = req.uri_template or ""
        if route not in _ROUTES or req.method not in ("GET", "HEAD"):
            raise falcon.HTTPForbidden(description="A link only shows photos.")
        kind, _ = _ROUTES[route]
        if kind in (Shows.ORIGINAL, Shows.ORIGINALS) and not link.download:
            raise falcon.HTTPForbidden(description="This link does not give the files of photos.")
        path = parse_path(req, params["rest"]) if "rest" in params else path_param(req)
        is_shown = link.path.holds(path)
        if kind in (Shows.SEARCH, Shows.ORIGINALS):
            terms = parse(req.get_param("q", default=""))
            if not link.words and any(term.field not in WORDLESS for term in terms):
                raise falcon.HTTPForbidden(description="This link does not show tags and notes.")
        elif is_shown and (chosen := req.context.search):
            # From here on only this version counts: a photo that replaces it is not sent.
            item = None if kind is Shows.FOLDER else chosen.item(path)
            is_shown, req.context.rev = item is not None, item["rev"] if item else ""
        if not is_shown:
            raise falcon.HTTPNotFound(description=_NOT_SHOWN)

    def _search_of(self, link: Link) -> Narrowed | Selection | None:
        """Returns the photos of a link that shows no whole folder."""
        tree, terms = self._service.tree, parse(link.query)
        if link.photos:
            return Selection(tree, link.photos)
        if link.query and not is_certain(terms):  # somebody has changed the file of links
            raise falcon.HTTPNotFound(description=_NOT_SHOWN)
        return Narrowed(tree, self._service.search, terms) if terms else None

    def _preview(self, req: falcon.Request) -> str:
        """What messengers show of a link (the Open Graph protocol), if the link says so."""
        link = None
        if asked := req.get_param("link"):
            with contextlib.suppress(LensletError):
                link = self._links.get(asked)
        if not (link and link.preview):
            return ""
        cover = f"{req.scheme}://{req.netloc}{quote(req.root_path)}/links/{link.id}/cover"
        shown = {"title": link.label or "Lenslet", "image": cover}
        line = '<meta property="og:{}" content="{}">'
        return "\n".join(line.format(name, html.escape(text)) for name, text in shown.items())


def _shown(link: Link | None, can_be_made: bool) -> str:
    """Returns what the page must know of a guest's link, as the value of an attribute.

    Without one: whether links can be made.
    """
    if not link:
        return html.escape(orjson.dumps({"links": can_be_made}).decode())
    known = {
        "path": link.path,
        "isList": bool(link.query or link.photos),
        "isSingle": link.path in link.photos,  # a folder may be named like a photo
        "label": link.label,
        "download": link.download,
    }
    return html.escape(orjson.dumps(known).decode())


def _item(link: Link, item: dict[str, Any]) -> dict[str, Any]:
    return _only(_ITEM | _WORDS if link.words else _ITEM, item)


def _manifest(link: Link, page: dict[str, Any]) -> dict[str, Any]:
    found = _only(_MANIFEST, page)
    found["items"] = [_item(link, each) for each in page.get("items", ())]
    if "dirs" in page:  # on its first page
        found["dirs"] = [_only(_DIR, each) for each in page["dirs"]]
    return found


def _found(link: Link, answer: dict[str, Any]) -> dict[str, Any]:
    """Leaves out `generatedAt`: it shows that something has changed elsewhere in the library."""
    items = [_item(link, each) for each in answer["items"]]
    return {"items": items, "total": answer["total"], "more": answer["more"]}


def _sidecar(link: Link, document: dict[str, Any]) -> dict[str, Any]:
    exif = _only(_EXIF | _POSITION if link.position else _EXIF, document["exif"])
    words = _only({"tags", "notes"}, document) if link.words else {}
    return {"v": 1, "tags": [], "notes": "", **words, "exif": exif}


def _only(known: set[str], values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in known}


_ROUTES: dict[str, tuple[Shows, Callable[[Link, dict[str, Any]], dict[str, Any]] | None]] = {
    "/folders": (Shows.FOLDER, _manifest),
    "/search/counts": (Shows.FOLDER, None),
    "/item": (Shows.PHOTO, _sidecar),
    "/thumb": (Shows.PHOTO, None),
    "/preview": (Shows.PHOTO, None),
    "/file": (Shows.ORIGINAL, None),
    "/files/{rest:path}": (Shows.ORIGINAL, None),
    "/search": (Shows.SEARCH, _found),
    "/timeline": (Shows.SEARCH, None),
    "/feed": (Shows.SEARCH, None),
    "/zip": (Shows.ORIGINALS, None),
}
