"""`/search`: items by words, suggestions, and the request to rebuild the rollup."""

import datetime as dt

import falcon
import orjson

from lenslet import times
from lenslet.errors import BadRequest
from lenslet.index.messages import Rebuild
from lenslet.paths import ROOT
from lenslet.search.query import Page, matching_lines, typed_terms
from lenslet.web.answers import JSON, send, send_json, send_pending, url
from lenslet.web.parameters import choice_param, path_param
from lenslet.web.service import Resource

MAX_QUERY_CHARACTERS = 1000
LAST_ITEM = 500_000


class SearchItems(Resource):
    """`GET /search?q=&path=&limit=&offset=&sort=&order=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query, path = query_param(req), path_param(req)
        page = Page(
            limit=req.get_param_as_int("limit", min_value=1, max_value=1000, default=100),
            offset=req.get_param_as_int("offset", min_value=0, max_value=LAST_ITEM, default=0),
            sort=choice_param(req, "sort", ("folder", "name", "date", "added")),
            descending=choice_param(req, "order", ("asc", "desc")) == "desc",
        )
        if page.limit + page.offset > LAST_ITEM:
            raise BadRequest("offset", f"offset and limit together are more than {LAST_ITEM}")
        below = path if req.get_param("path") else None  # `/` is the root
        found = self.service.search_of(req).find(query, below, page)
        rest = {"total": found.total, "more": found.more, "generatedAt": found.generated_at}
        said = {"terms": list(typed_terms(query)), "matches": matching_lines(found.items, query)}
        send_json(resp, {"items": list(map(orjson.Fragment, found.items)), **rest, **said})


class Timeline(Resource):
    """`GET /timeline?path=&q=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = query_param(req)
        found = self.service.search_of(req).timeline(query, path_param(req))
        tomorrow = (times.now() + dt.timedelta(days=1, hours=14)).strftime("%Y%m").encode()
        months = sorted(filter(None, +found.counts), reverse=True)
        future = [month for month in months if month > tomorrow]

        def sums(*chosen: bytes) -> dict[str, float]:
            count, shapes = (sum(each[m] for m in chosen) for each in (found.counts, found.shapes))
            return {"count": count, "shapes": shapes / 100}

        document = {
            "months": [
                {"month": f"{month[:4].decode()}-{month[4:].decode()}", **sums(month)}
                for month in months[len(future) :]
            ],
            "future": sums(*future),
            "undated": sums(b""),
            "terms": list(typed_terms(query)),
        }
        send(resp, orjson.dumps(document), JSON)


class Counts(Resource):
    """`GET /search/counts?path=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send_json(resp, {"folders": self.service.search.count_below(path_param(req))})


class Suggest(Resource):
    """`GET /search/suggest?q=&limit=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit = req.get_param_as_int("limit", min_value=1, max_value=1000, default=10)
        send_json(resp, {"suggestions": self.service.search.suggest(query_param(req), limit)})


class Facets(Resource):
    """`GET /search/facets?q=&path=&limit=`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit = req.get_param_as_int("limit", min_value=1, max_value=1000, default=100)
        found = self.service.search.facets(query_param(req), path_param(req), limit)
        send_json(resp, {"facets": found})


class RebuildIndex(Resource):
    """`POST /search/rebuild-index`"""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.service.jobs.send(Rebuild())
        send_pending(req, resp, ROOT, url(req, "/health"))


def query_param(req: falcon.Request) -> str:
    """Parses `?q=`."""
    query = req.get_param("q", default="")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise BadRequest("q", f"longer than {MAX_QUERY_CHARACTERS} characters")
    return query
