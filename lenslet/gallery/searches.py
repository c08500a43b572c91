"""`/searches`: names for searches, in `_searches.json`. The page shows them above the folders."""

import functools
from dataclasses import asdict, dataclass

import falcon

from lenslet.bounds import clean_line
from lenslet.errors import BadRequest, Conflict, NotFound
from lenslet.library.userfile import UserFile, entry
from lenslet.paths import SEARCHES, Path
from lenslet.search.query import parse
from lenslet.storage.tree import Tree
from lenslet.web.answers import send_json
from lenslet.web.parameters import path_param
from lenslet.web.search import query_param
from lenslet.web.service import Resource

_MOST, _LONGEST_NAME = 100, 100  # searches; characters


@dataclass(frozen=True, slots=True)
class Saved:
    """A name for what the query `q` finds at and below `path`."""

    name: str
    q: str
    path: Path


@functools.lru_cache(maxsize=8)
def saved_in(tree: Tree) -> UserFile[Saved]:
    """Returns the saved searches of a library, the same object each time."""
    return UserFile(tree, SEARCHES, "searches", functools.partial(entry, Saved))


class Searches(Resource):
    """`GET /searches`, `PUT /searches?name=&q=&path=`, `DELETE /searches?name=`

    Each answers what is saved now. A `PUT` adds one search, and replaces none: so two people who
    save at once lose nothing.
    """

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        saved = saved_in(self.service.tree).entries()
        send_json(resp, {"searches": [asdict(each) for each in saved]})

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        new = Saved(_name_param(req), query_param(req).strip(), path_param(req))
        if not parse(new.q):
            raise BadRequest("q", "must have a search term")
        saved_in(self.service.tree).change(functools.partial(_add, new))
        self.on_get(req, resp)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        saved_in(self.service.tree).change(functools.partial(_remove, _name_param(req)))
        self.on_get(req, resp)


def _name_param(req: falcon.Request) -> str:
    name = clean_line(req.get_param("name", default=""), _LONGEST_NAME + 1)
    if not 0 < len(name) <= _LONGEST_NAME:
        raise BadRequest("name", f"must have 1 to {_LONGEST_NAME} characters")
    return name


def _add(new: Saved, saved: list[Saved]) -> list[Saved]:
    if new in saved:
        return saved
    if any(each.name == new.name for each in saved):
        raise Conflict(f"{new.name} is another search: choose another name, or remove that first.")
    if len(saved) >= _MOST:
        raise BadRequest("name", f"there are {_MOST} saved searches: remove one first")
    return [*saved, new]


def _remove(name: str, saved: list[Saved]) -> list[Saved]:
    left = [each for each in saved if each.name != name]
    if len(left) == len(saved):
        raise NotFound(f"No saved search is called {name}.")
    return left
