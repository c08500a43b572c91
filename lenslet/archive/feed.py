"""`/feed`: what was added last, for programs that read feeds (Atom, RFC 4287)."""

import re
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import falcon
import orjson

from lenslet import times
from lenslet.paths import Path
from lenslet.search.query import Page
from lenslet.web.answers import send
from lenslet.web.parameters import path_param
from lenslet.web.search import query_param
from lenslet.web.service import Resource

_ENTRIES = 50
# Characters that XML 1.0 does not allow (2.2).
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATOM = "http://www.w3.org/2005/Atom"


class Feed(Resource):
    """`GET /feed?path=&q=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        path, query = path_param(req), query_param(req)
        page = Page(limit=_ENTRIES, sort="added", descending=True)
        found = self.service.search_of(req).find(query, path, page)
        items = list(map(orjson.loads, found.items))
        root = f"{req.scheme}://{req.netloc}{quote(req.root_path)}/"
        feed = ElementTree.Element("feed", xmlns=_ATOM)
        _add(feed, "title", path.name or "Lenslet")
        here = f"{root}#/photos?{urlencode({'by': 'added', 'in': path, 'q': query})}"
        _add(feed, "id", here)
        _add(feed, "updated", max((_added(item) for item in items), default=times.LONG_AGO))
        ElementTree.SubElement(feed, "link", href=here)
        for item in items:
            entry = ElementTree.SubElement(feed, "entry")
            address = f"{root}#/{quote(item['path'])}"
            _add(entry, "title", item["name"])
            _add(entry, "id", address)
            _add(entry, "updated", _added(item))
            author = ElementTree.SubElement(entry, "author")
            _add(author, "name", str(Path(item["path"]).parent) or "Lenslet")
            ElementTree.SubElement(entry, "link", href=address)
            thumb = f"{root}thumb?path={quote(item['path'])}&v={item.get('thumb', '')}"
            _add(entry, "content", f'<img src="{thumb.replace("&", "&amp;")}">').set("type", "html")
        data = ElementTree.tostring(feed, "utf-8", xml_declaration=True)
        send(resp, data, "application/atom+xml")


def _add(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name)
    child.text = _NOT_XML.sub("\ufffd", text)
    return child


def _added(item: dict[str, str]) -> str:
    return item.get("addedAt", times.LONG_AGO)
