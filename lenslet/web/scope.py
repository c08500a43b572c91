"""What a link shows: the one place where that is decided, before any resource.

Guests, who come with a link, reach only resources that set `guests`, and there only what is at or
below the link's path. Anything else is refused, whether or not it exists.
"""

from typing import Any

import falcon

from lenslet import paths
from lenslet.errors import (
    BadRequest,
    Invalid,
    LensletError,
    NotFound,
    Overtaken,
    RangeNotSatisfiable,
    StorageUnavailable,
    UnreadableImage,
)
from lenslet.library.links import Link
from lenslet.search.query import WORDLESS, Search, parse
from lenslet.web.parameters import path_param
from lenslet.web.service import Guests, Resource

# The keys that every link shows: of an item, of a manifest beside its items, and of EXIF.
_ITEM = {"path", "name", "type", "w", "h", "size", "rev", "thumb", "hasThumb", "takenAt",
         "createdAt", "addedAt", "camera", "lens", "warning", "error"}  # fmt: skip
_MANIFEST = {"v", "path", "generatedAt", "page", "pageCount", "itemCount", "starts", "dirs",
             "title", "description", "cover", "order"}  # fmt: skip
_EXIF = {"width", "height", "takenAt", "createdAt", "Make", "Model", "LensModel", "FNumber",
         "ExposureTime", "ISOSpeedRatings", "FocalLength"}  # fmt: skip
_POSITION = {"GPSLatitude", "GPSLongitude"}
_NOT_SHOWN = "This link does not show that."
# The errors that say nothing but of the request and the photo.
_OPEN = (BadRequest, Invalid, RangeNotSatisfiable, UnreadableImage)
_WORDS = {"tags", "notes", "keywords", "title", "caption"}


def check(
    req: falcon.Request, resource: Resource, params: dict[str, Any], link: Link, search: Search
) -> None:
    """Raises Falcon's errors unless a link shows what a request asks for."""
    kind = resource.guests
    if kind is Guests.PAGE:
        return
    if kind is Guests.NOTHING or req.method not in ("GET", "HEAD"):
        raise falcon.HTTPForbidden(description="A link only shows photos.")
    if kind in (Guests.ORIGINAL, Guests.ORIGINALS) and not link.download:
        raise falcon.HTTPForbidden(description="This link does not give the files of photos.")
    wanted = parse(link.query)
    if link.query and not wanted:  # somebody has changed the file of links
        raise falcon.HTTPNotFound(description=_NOT_SHOWN)
    path = paths.parse(params["rest"]) if "rest" in params else path_param(req)
    is_shown = link.path.holds(path)
    if kind in (Guests.SEARCH, Guests.ORIGINALS):
        terms = parse(req.get_param("q", default=""))
        is_shown = is_shown and set(wanted) <= set(terms)
        others = [term for term in terms if term not in wanted]
        if not link.words and any(term.field not in WORDLESS for term in others):
            raise falcon.HTTPForbidden(description="This link does not show tags and notes.")
    elif is_shown and link.query:
        is_shown = kind is not Guests.FOLDER and search.finds(link.query, path)
    if not is_shown:
        raise falcon.HTTPNotFound(description=_NOT_SHOWN)


def shown_error(error: LensletError) -> LensletError:
    """Returns the error that a guest sees: most name files, or folders that pointers lead to."""
    if isinstance(error, _OPEN):
        return error
    if isinstance(error, (StorageUnavailable, Overtaken)):
        return StorageUnavailable("This cannot be read right now: try again in a moment.")
    return NotFound(_NOT_SHOWN)


def hides_words(req: falcon.Request) -> bool:
    """True if a client must not know what people write about photos."""
    link: Link | None = req.context.link
    return link is not None and not link.words


def shown_item(link: Link, item: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of an item."""
    known = _ITEM | _WORDS if link.words else _ITEM
    return {key: value for key, value in item.items() if key in known}


def shown_folder(link: Link, manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of a page of a manifest."""
    found = {key: value for key, value in manifest.items() if key in _MANIFEST}
    return found | {"items": [shown_item(link, item) for item in manifest.get("items", ())]}


def shown_sidecar(link: Link, document: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of the answer of `/item`."""
    known = _EXIF | _POSITION if link.position else _EXIF
    exif = {key: value for key, value in document["exif"].items() if key in known}
    words = {"tags": document["tags"], "notes": document["notes"]} if link.words else {}
    return {"v": 1, "tags": [], "notes": "", **words, "exif": exif}
