"""`/`: what this service is; and how to speak to it."""

import falcon
import orjson

from lenslet import __version__
from lenslet.images import SCREEN, preview, rendering
from lenslet.paths import SUFFIXES
from lenslet.web.access import check_known
from lenslet.web.answers import JSON, send, send_json, url
from lenslet.web.openapi import document
from lenslet.web.service import Resource


class Root(Resource):
    """`GET /`: name and version"""

    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_known(req, self.service.settings)
        about = {
            "name": "lenslet",
            "version": __version__,
            "previews": rendering(**preview(SCREEN)),
            "suffixes": SUFFIXES,
            "openapi": url(req, "/openapi.json"),
        }
        send_json(resp, about)


class OpenApi(Resource):
    """`GET /openapi.json`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        packages = ("lenslet.web", *(part.package for part in self.service.parts))
        send(resp, orjson.dumps(document(packages)), JSON)
