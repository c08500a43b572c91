"""`/`: the gallery page or, for programs, name and version. `/openapi.json`: all routes."""

import importlib.resources

import falcon
from blake3 import blake3

from lenslet import __version__
from lenslet.images import PREVIEW_RENDERING
from lenslet.web.answers import JSON, send, send_json, url
from lenslet.web.page import send_page, wants_page
from lenslet.web.service import Resource, Service


class Index(Resource):
    """`GET /`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.append_header("Vary", "Accept")
        if self.service.settings.page and wants_page(req):
            send_page(req, resp, self.service)
        else:
            about = {"name": "lenslet", "version": __version__, "previews": PREVIEW_RENDERING}
            send_json(resp, {**about, "openapi": url(req, "/openapi.json")})


class OpenApi(Resource):
    """`GET /openapi.json`"""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._data = importlib.resources.files("lenslet").joinpath("openapi.json").read_bytes()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send(req, resp, self._data, JSON, blake3(self._data).hexdigest()[:20])
