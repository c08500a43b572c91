"""Sends the gallery page and its files, which are in `gallery/files`."""

import functools
import importlib.resources
import re
from typing import NamedTuple

import falcon
from blake3 import blake3

from lenslet.config import Settings
from lenslet.errors import Denied
from lenslet.gallery.modules import join
from lenslet.images import SCREEN, preview, rendering
from lenslet.paths import SUFFIXES
from lenslet.web.access import only_proxy
from lenslet.web.answers import FOREVER, send, url
from lenslet.web.root import Root
from lenslet.web.service import Resource, Service

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{buckets}; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "trusted-types 'none'; require-trusted-types-for 'script'"
)
_MARK = re.compile(b"{(access|session|unnamed|link|preview|early)}")  # in `index.html`
# What the page asks for first, if its address says nothing else.
_EARLY = '<link rel="preload" as="fetch" href="timeline" crossorigin>'
_AWS = "https://*.amazonaws.com"


class Bundle(NamedTuple):
    """The files by name, and a version that changes with any of them: part of their URLs."""

    version: str
    files: dict[str, bytes]


@functools.cache
def load() -> Bundle:
    """Reads the files of the page, joins its modules, and writes its version into `index.html`."""
    folder = importlib.resources.files("lenslet").joinpath("gallery/files")
    names = [each for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES]
    found = {each.name: each.read_text("utf-8") for each in names}
    modules = {name: found.pop(name) for name in list(found) if name.endswith(".js")}
    found["app.js"] = join(modules, "app.js")
    text = found["index.html"].replace("{previews}", rendering(**preview(SCREEN)))
    found["index.html"] = text.replace("{suffixes}", " ".join(SUFFIXES))
    version = blake3("".join(found[name] for name in sorted(found)).encode()).hexdigest()[:16]
    found["index.html"] = found["index.html"].replace("{version}", version)
    return Bundle(version, {name: text.encode() for name, text in found.items()})


def send_page(req: falcon.Request, resp: falcon.Response, service: Service) -> None:
    """Sends `index.html`, which says what this client may do and whether it has a session.

    Its URLs are relative, so its address must end with a slash.
    """
    if not req.env.get("PATH_INFO", "").endswith("/"):
        resp.status = falcon.HTTP_302
        resp.location = url(req, "/")
        return
    page = load()
    access = req.context.access
    if access == "write" and isinstance(service.tree.obstacle(), Denied):
        access = "read"
    session = "yes" if req.context.has_session else "no"
    early = _EARLY if access in ("write", "read") else ""
    values = {"access": access, "session": session, "link": "{}", "preview": "", "early": early}
    values["unnamed"] = only_proxy(service.settings)
    values |= req.context.page
    # All at once: a value may hold the mark of another.
    data = _MARK.sub(lambda mark: values[mark[1].decode()].encode(), page.files["index.html"])
    policy = _POLICY.format(buckets=_buckets(service.settings))
    resp.set_header("Content-Security-Policy", policy)
    send(resp, data, _TYPES["html"])
    resp.cache_control = ["private", "no-cache"]


def _buckets(settings: Settings) -> str:
    """Returns where `/file` redirects to, for the policy; empty if it does not."""
    if not (settings.buckets and settings.presign_seconds):
        return ""
    return " " + ("/".join(settings.s3_endpoint.split("/")[:3]) or _AWS)


class PageFile(Resource):
    """`GET /page/<version>/<name>`"""

    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response, version: str, name: str) -> None:
        page = load()
        known = version == page.version and name in page.files and name != "index.html"
        if not (self.service.settings.page and known):
            raise falcon.HTTPNotFound(description=f"The page has no file {name} of this version.")
        send(resp, page.files[name], _TYPES[name.rpartition(".")[2]], version)
        resp.cache_control = FOREVER


class Index(Root):
    """`GET /`: the gallery page or, for programs, name and version"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.append_header("Vary", "Accept")
        # A browser, or for a link a messenger, opens an address; programs get JSON.
        wants_page = req.get_param("link") or "text/html" in req.accept
        if self.service.settings.page and wants_page:
            send_page(req, resp, self.service)
        else:
            super().on_get(req, resp)
