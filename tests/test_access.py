"""Who may: tokens, sessions, a proxy's users, hosts and other sites, on every route."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ALL_ROUTES, MOST_SECONDS, Gallery
from webtest import TestApp

from lenslet import config
from lenslet.config import settings
from lenslet.errors import SettingError
from lenslet.gallery.page import load
from lenslet.web.access import is_session, session

Make = Callable[..., Gallery]
FULL, READING = "full-token-1234", "read-token-1234"
EXAMPLES = {"/folders/{rest:path}": "/folders/sub/reindex", "/files/{rest:path}": "/files/a.jpg",
            "/health/{part}": "/health/workers",
            "/page/{version}/{name}": f"/page/{load().version}/app.js"}  # fmt: skip
ROUTES = [
    (method.removeprefix("on_").upper(), EXAMPLES.get(route, route))
    for route, resource in ALL_ROUTES.items()
    for method in ("on_get", "on_head", "on_post", "on_put", "on_delete")
    if hasattr(resource, method) and route not in ("/health/live", "/links/{link}/cover")
]
WRITES = [(method, route) for method, route in ROUTES if method not in ("GET", "HEAD")]
READS = [(method, route) for method, route in ROUTES if method in ("GET", "HEAD")]
READING_POSTS = [("POST", "/zip")]  # which change nothing
NAMES = [route for route in ROUTES if not route[1].startswith(("/session", "/page/"))]


def ask(app: TestApp, method: str, route: str, address: str = "127.0.0.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    target = route if "?" in route else f"{route}?path=a.jpg"
    body = b'{"notes": "n", "paths": ["a.jpg"], "token": "x"}' if method in ("PUT", "POST") else b""
    return app.request(
        target, method=method, body=body, headers=named, expect_errors=True,
        environ={"REMOTE_ADDR": address},
    )  # fmt: skip


# Hosts

STRANGE_HOSTS = ["evil.example", "evil.example:7070", "localhost.evil.example", "127.0.0.1.evil.example",
                 "1.2.3.4.5", "localhost:x", "0x7f000001.evil", "photos.example.org.evil"]  # fmt: skip
OWN_HOSTS = ["localhost", "localhost:7070", "LOCALHOST", "app.localhost", "127.0.0.1:7070", "127.0.0.1",
             "[::1]:7070", "192.168.1.5:7070", "photos.example.org", "Photos.Example.Org:8080", "nas"]  # fmt: skip


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_name_that_another_site_points_here_is_refused(make_app, root, method, route) -> None:
    """DNS rebinding: the browser believes that a page of `evil.example` comes from here."""
    app = make_app(ALLOWED_HOSTS="photos.example.org")
    for prefix, kind in (("", "text/html"), ("/api", "text/html"), ("", "*/*"), ("/api", "*/*")):
        answer = ask(app, method, prefix + route, Host="evil.example:7070", Accept=kind)
        assert answer.status_int == 421
        if method != "HEAD":
            assert "ALLOWED_HOSTS" in answer.json["description"]
    assert not (root / "a.jpg.json").exists()


@pytest.mark.parametrize("host", STRANGE_HOSTS)
def test_strange_hosts_are_refused_unless_a_token_is_asked_for(make_app, host) -> None:
    app = make_app(ALLOWED_HOSTS="photos.example.org")
    assert ask(app, "GET", "/folders?path=", Host=host).status_int == 421
    bearer = {"Authorization": f"Bearer {FULL}", "Host": host}  # a stranger has no token
    assert ask(make_app(API_TOKEN=FULL), "GET", "/folders?path=", **bearer).status_int == 200


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_own_names_and_addresses_are_answered(make_app, host) -> None:
    app = make_app(ALLOWED_HOSTS="photos.example.org", HOST="nas")
    assert ask(app, "GET", "/folders?path=", Host=host).status_int == 200


# Other sites

FOREIGN = [{"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "https://evil.example"},
           {"Origin": "null"}, {"Origin": "http://localhost:81"}, {"Origin": ""}, {"Sec_Fetch_Site": "x"},
           {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost:80"}]  # fmt: skip


@pytest.mark.parametrize(("method", "route"), WRITES)
def test_a_write_that_another_site_makes_a_browser_send_is_refused(
    make_app, root, method, route
) -> None:
    app = make_app()
    for headers in FOREIGN:
        answer = ask(app, method, route, Host="localhost:80", **headers)
        assert answer.status_int == 403, headers
    assert not (root / "a.jpg.json").exists()


@pytest.mark.parametrize("headers", [{}, {"Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"},
                                     {"Origin": "http://localhost:80"}, {"Origin": "https://friend.example"},
                                     {"Origin": "https://friend.example", "Sec_Fetch_Site": "cross-site"}])  # fmt: skip
def test_own_pages_named_sites_and_programs_may_write(make_app, headers) -> None:
    app = make_app(CORS_ORIGINS="https://friend.example")
    assert ask(app, "PUT", "/item", Host="localhost:80", **headers).status_int == 200


JUNK = {"Authorization": "Bearer anything"}


def test_a_wrong_token_does_not_let_another_site_write(make_app, root) -> None:
    """Every site may add this header where `CORS_ORIGINS=*`."""
    app = make_app(CORS_ORIGINS="*")
    site = {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site", **JUNK}
    assert ask(app, "PUT", "/item", **site).status_int == 403
    assert ask(app, "PUT", "/item", Origin="null", Host="", **JUNK).status_int == 403
    behind = make_app(AUTH_HEADER="Remote-User")
    assert ask(behind, "PUT", "/item", Remote_User="ann", **site).status_int == 403
    assert not (root / "a.jpg.json").exists()


# Tokens

GUESSES = ["", "Bearer", "Bearer ", f"Bearer {FULL}x", f"Bearer {FULL[:-1]}", f"Basic {FULL}", FULL,
           f"Bearer {FULL.upper()}", f"Bearer x {FULL}", "Bearer \xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9"]  # fmt: skip


@pytest.mark.parametrize(("method", "route"), NAMES)
def test_without_a_token_nothing_is_answered_and_the_reading_one_reads_only(
    make_app, root, method, route
) -> None:
    app = make_app(API_TOKEN=FULL, READ_TOKEN=READING)
    for guess in GUESSES:
        answer = ask(app, method, route, Authorization=guess, Remote_User="admin")
        assert answer.status_int == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert FULL not in answer.text
    assert not (root / "a.jpg.json").exists()
    reading = ask(app, method, route, Authorization=f"Bearer {READING}")
    writes = (method, route) in WRITES and (method, route) not in READING_POSTS
    assert (reading.status_int == 403) == writes
    assert not (root / "a.jpg.json").exists()
    allowed = ask(app, method, route, Authorization=f"Bearer {FULL}")
    assert allowed.status_int not in (401, 403, 421)


def test_liveness_needs_no_token_and_no_name(make_app) -> None:
    app = make_app(API_TOKEN=FULL)
    assert ask(app, "GET", "/health/live", Host="whatever").status_int == 200


@pytest.mark.parametrize("token", [FULL, READING])
def test_a_session_lets_a_browser_show_pictures(make_app, token) -> None:
    app = make_app(API_TOKEN=FULL, READ_TOKEN=READING)
    refused = app.post_json("/session", {"token": "wrong-token"}, status=401)
    assert "Set-Cookie" not in refused.headers
    app.post_json("/session", {"token": 1}, status=400)
    cookie = app.post_json("/session", {"token": token}, status=204).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert token not in cookie
    app.get("/file?path=a.jpg", status=200)
    app.put("/item?path=a.jpg", b"{}", status=200 if token == FULL else 403)
    app.delete("/session", status=204)
    app.get("/file?path=a.jpg", status=401)


def test_the_cookie_is_for_the_path_and_scheme_of_the_client(make_app) -> None:
    app = make_app(API_TOKEN=FULL)
    environ = {"SCRIPT_NAME": "/photos", "wsgi.url_scheme": "https"}
    answer = app.post_json("/session", {"token": FULL}, status=204, extra_environ=environ)
    odd = {**environ, "SCRIPT_NAME": "/x;Domain=evil.example"}
    cookie = app.post_json("/session", {"token": FULL}, status=204, extra_environ=odd)
    assert "Domain=" not in cookie.headers["Set-Cookie"]
    assert "Path=/photos" in answer.headers["Set-Cookie"]
    assert "Secure" in answer.headers["Set-Cookie"]


def test_a_session_ends_and_cannot_be_forged() -> None:
    now = time.time()
    value = session(FULL, now)
    assert is_session(value, FULL, now)
    assert not is_session(value, FULL, now + 31 * 24 * 3600)
    ends, _, signature = value.partition(".")
    later = f"{int(ends, 16) + 1:x}"
    for forged in ("", ".", value + "0", f"{later}.{signature}", f"x.{signature}", signature, ends):
        assert not is_session(forged, FULL, now)
    assert not is_session(value, READING, now)


# A proxy's users


def test_the_user_whom_a_trusted_proxy_names_is_noted(make_app) -> None:
    app = make_app(AUTH_HEADER="Remote-User", TRUSTED_PROXIES="10.0.0.0/8")
    name = "Zoë".encode().decode("latin-1")
    answer = ask(app, "PUT", "/item", "10.1.2.3", Remote_User=name)
    assert answer.json["updatedBy"] == "Zoë"
    for text in ("Łucja", "Zoë"):  # as a program that has this one inside may set it
        environ = {"REMOTE_ADDR": "10.1.2.3", "HTTP_REMOTE_USER": text}
        answer = app.put("/item?path=a.jpg", b"{}", extra_environ=environ, status=200)
        assert answer.json["updatedBy"] == text
    assert ask(app, "PUT", "/item", "::ffff:10.1.2.3", Remote_User="ann").status_int == 200
    body = json.dumps({"paths": ["a.jpg"], "add": ["t"]}).encode()
    headers, environ = {"Remote-User": "bob"}, {"REMOTE_ADDR": "10.1.2.3"}
    app.post("/items/tags", body, headers=headers, extra_environ=environ, status=200)
    assert ask(app, "GET", "/item", "10.1.2.3", Remote_User="x").json["updatedBy"] == "bob"


@pytest.mark.parametrize(("method", "route"), NAMES)
def test_a_forged_user_is_not_believed(make_app, method, route) -> None:
    app = make_app(AUTH_HEADER="Remote-User", TRUSTED_PROXIES="10.0.0.0/8")
    headers = {"Remote_User": "admin", "X_Forwarded_For": "10.1.2.3", "Forwarded": "for=10.1.2.3"}
    for address in ("127.0.0.1", "11.0.0.1", "", "::1", "evil"):
        assert ask(app, method, route, address, **headers).status_int == 401, address
    assert ask(app, method, route, "10.1.2.3").status_int == 401


def test_a_proxys_user_needs_a_known_host_also_beside_a_token(make_app) -> None:
    """A page may add any header to a request to its own, rebound, name."""
    app = make_app(AUTH_HEADER="Remote-User", API_TOKEN=FULL)
    assert ask(app, "GET", "/folders", Host="evil.example", Remote_User="x").status_int == 421
    assert ask(app, "GET", "/", Host="evil.example", Accept="text/html").status_int == 421


# Headers and other sites that may read


@pytest.mark.parametrize(
    ("method", "route"), [*READS, ("GET", "/nothing"), ("PATCH", "/item"), ("GET", "/item?path=..")]
)
def test_every_answer_has_the_headers_of_safety(make_app, method, route) -> None:
    answer = ask(make_app(), method, route)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_named_site_may_ask_and_read(make_app) -> None:
    app = make_app(CORS_ORIGINS="https://friend.example", API_TOKEN=FULL)
    headers = {"Origin": "https://friend.example", "Access-Control-Request-Method": "PUT",
               "Access-Control-Request-Headers": "authorization,if-match"}  # fmt: skip
    answer = app.options("/item", headers=headers, status=200)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert "Origin" in answer.headers["Vary"]
    refused = ask(app, "GET", "/item", Origin="https://friend.example")
    assert refused.status_int == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert "ETag" in refused.headers["Access-Control-Expose-Headers"]
    other = app.options("/item", headers={**headers, "Origin": "https://evil.example"}, status=200)
    assert "Access-Control-Allow-Origin" not in other.headers


def test_every_site_may_read_without_credentials(make_app) -> None:
    app = make_app(CORS_ORIGINS="*")
    answer = ask(app, "GET", "/item", Origin="https://any.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert ask(app, "PUT", "/item", Origin="https://any.example").status_int == 403


# Settings


@pytest.mark.parametrize(("name", "value"), [("API_TOKEN", "short"), ("READ_TOKEN", "with space"),
    ("CORS_ORIGINS", "example.org"), ("CORS_ORIGINS", "*, https://a.example"), ("TRUSTED_PROXIES", "nginx"),
    ("ALLOWED_HOSTS", "a.example:80"), ("AUTH_HEADER", "Remote User"), ("TRUSTED_PROXIES", "10.0.0.1/8")])  # fmt: skip
def test_a_bad_setting_is_named_and_no_token_is_shown(name, value) -> None:
    with pytest.raises(SettingError) as caught:
        settings({name: value})
    assert str(caught.value).startswith(name)
    assert (value in str(caught.value)) == ("TOKEN" not in name)
    assert FULL not in repr(settings({"API_TOKEN": FULL}))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("APITOKEN", "API_TOKEN"), ("READTOKEN", "READ_TOKEN"), ("api_token", "API_TOKEN"),
     ("LENSLET_API_TOKEN", "API_TOKEN"), ("API_TOKENS", "API_TOKEN"), ("API_TOKN", "API_TOKEN"),
     ("READ_TOKENS", "READ_TOKEN"), ("AUTHHEADER", "AUTH_HEADER"), ("AUTH_HEADERS", "AUTH_HEADER")],
)  # fmt: skip
def test_a_slip_in_a_name_that_gives_access_is_pointed_out(name, meant) -> None:
    """It starts no service that everyone has access to, or that writes beside the photos."""
    sentence = f"{name} is not a setting: do you mean {meant}?"
    with pytest.raises(SettingError, match=re.escape(sentence)):
        config.misspelt([name], settings({}))
    guarded = settings({"READ_TOKEN": FULL, "STATE_DIR": "/tmp/x"})
    assert config.misspelt([name], guarded) == [sentence]


def test_such_a_slip_opens_no_service(root, tmp_path) -> None:
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "APITOKEN": FULL}
    command = [sys.executable, "-m", "lenslet", "serve", str(root)]
    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=MOST_SECONDS
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("lenslet: APITOKEN is not a setting: do you mean API_TOKEN?")
    assert (ended.stderr.count("\n"), FULL in ended.stderr) == (1, False)


OTHERS = """
PATH HOME LANG TERM SHELL USER _ PWD OLDPWD SHLVL LS_COLORS SSH_TTY XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS TZ
PUID PGID HOSTNAME PORTS PAGER LESS_PAGER DB_HOST DB_PORT REDIS_HOST PGHOST PGPORT MYSQL_PORT SMTP_HOST WEB_PORT
AWS_PROFILE AWS_DEFAULT_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ROLE_ARN AWS_CA_BUNDLE
AWS_WEB_IDENTITY_TOKEN_FILE AWS_ENDPOINT_URL AWS_MAX_ATTEMPTS KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT
GITHUB_TOKEN GH_TOKEN NPM_TOKEN HF_TOKEN CF_API_TOKEN CLOUDFLARE_API_TOKEN GITHUB_API_TOKEN API_KEY API_URL BOT_TOKEN
AUTH_TOKEN ACCESS_TOKEN REFRESH_TOKEN PIP_INDEX_URL LOG_LEVEL INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS
XDG_CACHE_HOME XDG_STATE_HOME XDG_DATA_HOME XDG_CONFIG_HOME XDG_DATA_DIRS GUNICORN_CMD_ARGS PYTHONUNBUFFERED
LENSLET_CORPUS APP_TOKEN THREAD_TOKEN
"""


def test_variables_of_other_programs_are_no_slips() -> None:
    assert config.misspelt(OTHERS.split(), settings({})) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("LENSLET_PORT", "PORT"), ("STATEDIR", "STATE_DIR"), ("ROOTPATH", "ROOT_PATH"), ("port", "PORT"), ("ALLOWED_HOST", "ALLOWED_HOSTS"),
     ("THUMB_QUALTIY", "THUMB_QUALITY"), ("LENSLET_ROOTPATH", "ROOT_PATH")],
)  # fmt: skip
def test_a_name_that_looks_like_a_setting_names_the_one_that_may_be_meant(name, meant) -> None:
    assert config.misspelt([name], settings({})) == [
        f"{name} is not a setting: do you mean {meant}?"
    ]
