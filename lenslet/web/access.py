"""Who may send a request: tokens, sessions, a proxy's user names, and which sites may write."""

import contextlib
import functools
import hmac
import ipaddress
import time
from typing import Any
from urllib.parse import quote

import falcon

from lenslet.bounds import SESSION_BYTES
from lenslet.config import IPNetwork, Settings
from lenslet.errors import BadRequest, one_line
from lenslet.web.parameters import read_json
from lenslet.web.service import Resource

SESSION_SECONDS = 30 * 24 * 3600
_SAFE = ("GET", "HEAD")
_LIVE = "/health/live"  # for everyone, under any name
# Of every answer. Files of the library are never run as pages or scripts, nor shown by other sites.
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Access:
    """Says what a client may do, refuses the rest, and adds the headers of every answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = frozenset((settings.host.lower(), *settings.allowed_hosts))
        self._has_tokens = bool(settings.api_token or settings.read_token)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raises Falcon's errors: 403, or 421 for a host name that is not allowed."""
        resp.set_headers(_HEADERS)
        if self._settings.cors_origins:  # a cache must not give one site's answer to another
            resp.append_header("Vary", "Origin")
        context = req.context
        context.user, context.access, context.has_session = "", "write", False
        context.page = {}
        context.rev, context.search = "", None  # see `Service.image` and `Service.search_of`
        if req.method == "OPTIONS" or req.path == _LIVE:  # a preflight has no token
            return
        # If only a token gives access, any name will do: a page of another site has no token.
        if not self._has_tokens or self._settings.auth_header:
            self._check_host(req)
        token = bearer(req)
        if req.method not in _SAFE and not _fits(token, self._settings.api_token):
            self._check_site(req)
        if self._settings.is_guarded:
            context.access = "write" if self._user(req) else self._access(req, token)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: Resource, params: dict[str, Any]
    ) -> None:
        """Raises 401 or 403 unless a client may use a resource."""
        if resource.public:
            return
        check_known(req, self._settings)
        if req.context.access == "read" and req.method not in _SAFE and not resource.only_reads:
            raise falcon.HTTPForbidden(description="This token allows reading only.")

    def _check_host(self, req: falcon.Request) -> None:
        """Refuses a name that may lead here without our knowledge (DNS rebinding)."""
        host = req.env.get("HTTP_HOST", "")
        if not is_own_host(host, self._hosts):
            name = one_line(host.rpartition(":")[0] or host)
            raise falcon.HTTPError(
                falcon.HTTP_421,
                description=f"The host {name!r} is not known: add it to ALLOWED_HOSTS.",
            )

    def _check_site(self, req: falcon.Request) -> None:
        """Refuses a write that another site made a browser send (Fetch Metadata, or `Origin`)."""
        site, origin = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
        if origin is not None and origin in self._settings.cors_origins:
            return
        if site is not None:
            same = site in ("same-origin", "none")
        else:
            host = req.env.get("HTTP_HOST", "").lower()
            same = origin is None or (host != "" and origin.lower().partition("://")[2] == host)
        if not same:
            raise falcon.HTTPForbidden(description="Another site must not write here.")

    def _access(self, req: falcon.Request, token: str) -> str:
        """Returns what a token allows, or a session that began with it."""
        settings = self._settings
        sessions = req.get_cookie_values(_cookie(settings)) or []
        for access, known in (("write", settings.api_token), ("read", settings.read_token)):
            if _fits(token, known):
                return access
            if known and any(is_session(each, known, time.time()) for each in sessions):
                req.context.has_session = True
                return access
        return "none"

    def _user(self, req: falcon.Request) -> str:
        """Returns and remembers the user that a trusted proxy names; empty if there is none."""
        header, proxies = self._settings.auth_header, self._settings.trusted_proxies
        if header and is_within(req.remote_addr, proxies):
            name = req.get_header(header) or ""
            with contextlib.suppress(UnicodeError):  # a program around this may set text itself
                name = name.encode("latin-1").decode()
            req.context.user = name.strip()
        return str(req.context.user)


class Session(Resource):
    """`POST /session`, `DELETE /session`: a cookie, because an `<img>` cannot send a token."""

    public = True

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        # Anybody may send this: nothing else is parsed before it is known who a client is.
        body = read_json(req, SESSION_BYTES)
        self.open(req, resp, body if isinstance(body, dict) else {})

    def open(self, req: falcon.Request, resp: falcon.Response, body: dict[str, Any]) -> None:
        """Sets the cookie of a session; 401 unless a valid token is sent."""
        sent, settings = body.get("token"), self.service.settings
        if not isinstance(sent, str):
            raise BadRequest("token", "must be a string")
        for token in (settings.api_token, settings.read_token):
            if _fits(sent, token):
                value = session(token, time.time())
                set_cookie(req, resp, _cookie(settings), value, max_age=SESSION_SECONDS)
                return
        raise falcon.HTTPUnauthorized(
            description="This password is not valid.", challenges=["Bearer"]
        )

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Removes this browser's cookie; a copy of one would be valid until its end."""
        remove_cookie(req, resp, _cookie(self.service.settings))
        _done(resp)


def check_known(req: falcon.Request, settings: Settings) -> None:
    """Raises 401 for strangers."""
    if req.context.access in ("none", "ended"):
        reason = only_proxy(settings) or "A valid token is needed."
        raise falcon.HTTPUnauthorized(description=reason, challenges=["Bearer"])


def only_proxy(settings: Settings) -> str:
    """Returns why nobody is known if only a proxy can name users; empty if there are tokens."""
    if settings.api_token or settings.read_token or not settings.auth_header:
        return ""
    return f"No trusted proxy has named a user in the header {settings.auth_header}."


def remove_cookie(req: falcon.Request, resp: falcon.Response, name: str) -> None:
    resp.unset_cookie(name, path=quote(req.root_path) or "/")


def set_cookie(
    req: falcon.Request, resp: falcon.Response, name: str, value: str, **until: Any
) -> None:
    path, secure = quote(req.root_path) or "/", req.scheme == "https"
    resp.set_cookie(name, value, path=path, secure=secure, same_site="Lax", **until)
    _done(resp)


def _done(resp: falcon.Response) -> None:
    resp.status = falcon.HTTP_204
    resp.cache_control = ["no-store"]


def _cookie(settings: Settings) -> str:
    """The name of the cookie. Browsers send it to every port of a host."""
    return f"lenslet-{settings.port}"


def bearer(req: falcon.Request) -> str:
    scheme, _, token = (req.auth or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _fits(sent: str, token: str) -> bool:
    """Compares in constant time."""
    return bool(token) and hmac.compare_digest(sent.encode(), token.encode())


def session(token: str, now: float) -> str:
    """Returns what a cookie holds: when the session ends, and a signature made with the token."""
    ends = f"{int(now) + SESSION_SECONDS:x}"
    return f"{ends}.{_signature(ends, token)}"


def is_session(value: str, token: str, now: float) -> bool:
    """True if a cookie was signed with this token, and has not ended."""
    ends, _, signature = value.partition(".")
    return _fits(signature, _signature(ends, token)) and int(ends, 16) > now


def _signature(ends: str, token: str) -> str:
    return hmac.new(token.encode(), f"lenslet session {ends}".encode(), "sha256").hexdigest()


@functools.lru_cache(maxsize=1000)
def is_own_host(header: str, allowed: frozenset[str]) -> bool:
    """True if a `Host` header names this machine for certain: no other site can have this name.

    Those are IP addresses, names that always mean this machine (RFC 6761, 6.3), and `allowed` ones.
    """
    try:
        name = falcon.uri.parse_host(header.lower())[0].rstrip(".")
    except ValueError:
        return False
    if name in ("", "localhost") or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=1000)
def is_within(address: str, networks: tuple[IPNetwork, ...]) -> bool:
    """True if an IP address is in one of the networks."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)
