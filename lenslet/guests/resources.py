"""`/links`: makes, lists and takes back what is shown to guests. `view` decides what that is."""

import contextlib
import os
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import quote

import falcon
import orjson

from lenslet import times
from lenslet.config import Settings
from lenslet.errors import Invalid, LensletError, NotFound
from lenslet.guests.links import Link, link_cookie, links_of
from lenslet.guests.selection import Narrowed, Selection, is_certain
from lenslet.library import manifest
from lenslet.paths import Path, is_item, parse
from lenslet.search.query import MOST_TERMS, Page
from lenslet.search.query import parse as parse_query
from lenslet.storage.tree import read_thumbnail
from lenslet.web import access
from lenslet.web.access import remove_cookie, set_cookie
from lenslet.web.answers import send, send_json
from lenslet.web.parameters import parse_image, parse_path, read_json, strings
from lenslet.web.search import MAX_QUERY_CHARACTERS
from lenslet.web.service import Resource, Searchable
from lenslet.web.thumb import WEBP

_MOST_DAYS = 3650
_MOST_LABEL = 200
_MOST_PHOTOS = 500  # of one link
_LOOKED_AT = 20  # photos, for one that can be a cover
_KINDS = {str: "a string", int: "a whole number", bool: "true or false", list: "a list"}
_SHOWN = ("words", "position", "download", "preview")
_DEFAULTS = {
    "path": "",
    "paths": [],
    "q": "",
    "label": "",
    "days": 30,
    **dict.fromkeys(_SHOWN, False),
}


class AllLinks(Resource):
    """`GET /links`, `POST /links`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _check(self.service.settings)
        send_json(resp, {"links": [_answer(link) for link in links_of(self.service.tree).all()]})

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        _check(self.service.settings)
        body = read_json(req)
        if not isinstance(body, dict):
            raise Invalid("body", "must be a JSON object")
        link, days = _parse(req, body)
        if not link.photos:
            link = self._of_path(link)
        label = (link.label or link.path.name)[:_MOST_LABEL]
        if link.photos:
            link = replace(link, photos={path: self._hash(Path(path)) for path in link.photos})
        link = replace(link, label=label, by=req.context.user)
        stored, secret = links_of(self.service.tree).add(link, days)
        page = f"{req.scheme}://{req.netloc}{quote(req.root_path)}/"
        send_json(resp, _answer(stored) | {"url": f"{page}?link={stored.id}#secret={secret}"})
        resp.status = falcon.HTTP_201

    def _of_path(self, link: Link) -> Link:
        """Returns a link to what its path is: a photo, or a folder, which may be named like one."""
        if is_item(link.path.name) and not link.query:
            with contextlib.suppress(NotFound):
                self.service.images.find(link.path)
                return replace(link, photos={str(link.path): ""})
        location = self.service.library.locator.folder(link.path)
        location.tree.stamp(location.folder)  # `NotFound` if there is none
        title = "" if link.query else manifest.about_of(self.service.tree, link.path).get("title")
        return replace(link, label=link.label or title or "")

    def _hash(self, path: Path) -> str:
        """Returns the hash of a photo, by which a link knows it."""
        item = self.service.images.item(self.service.images.find(path))
        if not (item and "hash" in item):
            raise Invalid("paths", f"{path} was not read yet: try again in a moment")
        return str(item["hash"])


class OneLink(Resource):
    """`DELETE /links/<id>`"""

    def on_delete(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        links_of(self.service.tree).remove(link)
        resp.status = falcon.HTTP_204


class Cover(Resource):
    """`GET /links/<id>/cover`: a photo for whoever has the address, if the link says so."""

    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        try:
            known = links_of(self.service.tree).get(link)
            if not known.preview:
                raise NotFound(link)
            path, rev = self._photo(known)
            image = self.service.images.find(path)
            if rev not in ("", image.stat.rev):  # another photo has taken its place
                raise NotFound(link)
            data, _ = read_thumbnail(self.service.tree, image.path, image.stat)
        except LensletError as error:  # which may name what the link does not show
            raise NotFound("This link shows no cover.") from error
        send(resp, data, WEBP)

    def _photo(self, link: Link) -> tuple[Path, str]:
        """Returns the cover of the folder, or the first photo that can be shown, with its rev."""
        tree, search = self.service.tree, self.service.search
        photos: Searchable = search
        if link.photos:
            photos = Selection(tree, link.photos)
        elif link.query:
            photos = Narrowed(tree, search, parse_query(link.query))
        else:
            chosen = parse(manifest.load(tree, link.path).about.get("cover", ""))
            if chosen and link.path.holds(chosen):
                return chosen, ""
        found = photos.find("", link.path, Page(limit=_LOOKED_AT)).items
        shown = (item for item in map(orjson.loads, found) if "thumb" in item)
        first = next(shown, {"path": "", "rev": ""})
        return parse(first["path"]), first["rev"]


class GuestSession(access.Session):
    """`POST /session`, `DELETE /session`: also a cookie with the secret of a link.

    So no address has it any more.
    """

    def open(self, req: falcon.Request, resp: falcon.Response, body: dict[str, Any]) -> None:
        """Sets the cookie of a link, if its secret is sent."""
        secret = body.get("link")
        if not isinstance(secret, str):
            super().open(req, resp, body)
            return
        links = links_of(self.service.tree)
        try:
            link = links.opened_by(secret)
        except NotFound as error:
            if not links.exist:
                raise NotFound("There are no links right now.") from error
            raise falcon.HTTPUnauthorized(description=str(error)) from error
        name = link_cookie(self.service.settings)
        set_cookie(req, resp, name, secret, expires=times.parse(link.ends))

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        remove_cookie(req, resp, link_cookie(self.service.settings))
        super().on_delete(req, resp)


def _check(settings: Settings) -> None:
    """Raises 403 if nobody needs a link."""
    if not (settings.api_token or settings.auth_header):
        raise falcon.HTTPForbidden(
            description="Links need API_TOKEN or AUTH_HEADER: without them, everybody who "
            "reaches this service sees everything."
        )


def _parse(req: falcon.Request, body: dict[str, Any]) -> tuple[Link, int]:
    """Parses what a link is to show, and for how many days; `Invalid` names a wrong field."""
    for name, value in body.items():
        if name not in _DEFAULTS:
            raise Invalid(name, f"is not known: {', '.join(_DEFAULTS)} are")
        if type(value) is not type(_DEFAULTS[name]):
            raise Invalid(name, f"must be {_KINDS[type(_DEFAULTS[name])]}")
    asked: dict[str, Any] = {**_DEFAULTS, **body}
    if not 0 < asked["days"] <= _MOST_DAYS:
        raise Invalid("days", f"must be 1 to {_MOST_DAYS}")
    path, query, label = parse_path(req, asked["path"]), asked["q"].strip(), asked["label"].strip()
    photos = [parse_image(req, text, "paths") for text in strings(body, "paths")]
    if photos and (path or query):
        raise Invalid("paths", "must not be together with 'path' or 'q'")
    if len(photos) > _MOST_PHOTOS:
        raise Invalid("paths", f"must be at most {_MOST_PHOTOS} paths of images")
    if photos:
        path = Path(os.path.commonpath(photos))  # of one photo, itself
    for name, text, most in (("q", query, MAX_QUERY_CHARACTERS), ("label", label, _MOST_LABEL)):
        if len(text) > most:
            raise Invalid(name, f"has more than {most} characters")
    if query and not 0 < len(parse_query(query)) < MOST_TERMS:  # the page adds a date
        raise Invalid("q", f"must have 1 to {MOST_TERMS - 1} search terms")
    if query and not is_certain(parse_query(query)):
        reason = "must not leave out words (-tag:…): photos are shown before their tags are known"
        raise Invalid("q", reason)
    shown = {name: asked[name] for name in _SHOWN}
    label = label or (query[:_MOST_LABEL] if asked["words"] else "")
    listed = dict.fromkeys(map(str, photos), "")
    return Link("", path, query, times.LONG_AGO, label, listed, **shown), asked["days"]


def _answer(link: Link) -> dict[str, Any]:
    """Returns what clients may know of a link. None of it gives access."""
    found = asdict(link)
    del found["hash"]
    more = {"q": found.pop("query"), "photos": len(found.pop("photos"))}
    return {"id": link.id, **found, **more}
