"""What a link shows: the one place where that is decided, before any resource.

Guests, who come with a link, reach only resources that set `guests`, and there only what is at or
below the link's path. Anything else is refused, whether or not it exists.
"""

from enum import Enum
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

# The keys that every link shows: of an item, a manifest beside its items, a subfolder, EXIF.
_ITEM = {"path", "name", "type", "w", "h", "size", "rev", "thumb", "hasThumb", "takenAt",
         "createdAt", "addedAt", "camera", "lens", "warning", "error"}  # fmt: skip
_MANIFEST = {"v", "path", "generatedAt", "page", "pageCount", "itemCount", "starts", "dirs",
             "title", "description", "cover", "order"}  # fmt: skip
_DIR = {"name", "kind", "label", "cover", "coverRev", "coverThumb"}
_EXIF = {"width", "height", "takenAt", "createdAt", "Make", "Model", "LensModel", "FNumber",
         "ExposureTime", "ISOSpeedRatings", "FocalLength"}  # fmt: skip
_POSITION = {"GPSLatitude", "GPSLongitude"}
_NOT_SHOWN = "This link does not show that."
# The errors that say nothing but of the request and the photo.
_OPEN = (BadRequest, Invalid, RangeNotSatisfiable, UnreadableImage)
_WORDS = {"tags", "notes", "keywords", "title", "caption"}


class Guests(Enum):
    """What of an endpoint guests may use. One that says nothing is not for them."""

    NOTHING = 0
    PAGE = 1  # it shows nothing of the library, or asks the link itself (`/links/<id>/cover`)
    FOLDER = 2  # the folder of `path`
    PHOTO = 3  # the photo of `path`
    ORIGINAL = 4  # its file
    SEARCH = 5  # what `q` finds below `path`
    ORIGINALS = 6  # the files of that


def check(
    req: falcon.Request, kind: Guests, params: dict[str, Any], link: Link, search: Search
) -> None:
    """Raises Falcon's errors unless a link shows what a request asks for."""
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


def shown_item(link: Link, item: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of an item."""
    return _only(_ITEM | _WORDS if link.words else _ITEM, item)


def shown_folder(link: Link, manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of a page of a manifest."""
    found = _only(_MANIFEST, manifest)
    found["items"] = [shown_item(link, each) for each in manifest.get("items", ())]
    if "dirs" in manifest:  # on its first page
        found["dirs"] = [_only(_DIR, each) for each in manifest["dirs"]]
    return found


def shown_sidecar(link: Link, document: dict[str, Any]) -> dict[str, Any]:
    """Returns what a link shows of the answer of `/item`."""
    exif = _only(_EXIF | _POSITION if link.position else _EXIF, document["exif"])
    words = _only({"tags", "notes"}, document) if link.words else {}
    return {"v": 1, "tags": [], "notes": "", **words, "exif": exif}


def _only(known: set[str], values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in known}
