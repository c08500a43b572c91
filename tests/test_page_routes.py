"""The gallery page as the service sends it: to whom, with which headers, below which path."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from urllib.parse import urljoin

import pytest
from buckets import BucketPath
from conftest import MOST_SECONDS, ROOT, Gallery, Server, put, read_only
from webtest import TestApp, TestRequest, TestResponse

Make = Callable[..., Gallery]
FULL, READING = "full-token-1234", "read-token-1234"
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
FOREVER = "private, max-age=31536000, immutable"


def page(app: TestApp, route: str = "/", status: int = 200, **headers: str) -> TestResponse:
    """What a browser gets that opens an address."""
    return app.get(route, headers={**HTML, **headers}, status=status)


def addresses(html: str) -> list[str]:
    """The URLs of files that the page names, as they stand in it."""
    return re.findall(r'(?:src|href)="(page/[^"]*)"', html)


def access(answer: TestResponse) -> tuple[str, str]:
    """What the page says its reader may do, and whether that comes from a session."""
    ((may, session),) = re.findall(r'<body data-access="(\w*)" data-session="(\w*)" ', answer.text)
    return may, session


def directives(answer: TestResponse) -> dict[str, list[str]]:
    """The Content Security Policy."""
    found = [each.split() for each in answer.headers["Content-Security-Policy"].split(";")]
    return {name: values for name, *values in found}


# Pages for browsers, JSON for programs


@pytest.mark.parametrize("route", ["/", "/api/"])
@pytest.mark.parametrize(
    ("accept", "kind"),
    [(HTML["Accept"], "text/html"), ("text/html", "text/html"), ("application/json, text/html", "text/html"),
     (None, "application/json"), ("", "application/json"), ("*/*", "application/json"),
     ("application/json", "application/json"), ("text/plain", "application/json"), ("image/*", "application/json")],
)  # fmt: skip
def test_a_browser_gets_the_page_and_a_program_json(make_app, route, accept, kind) -> None:
    app = make_app()
    headers = {} if accept is None else {"Accept": accept}
    for method in ("GET", "HEAD"):
        answer = app.request(route, method=method, headers=headers, status=200)
        assert answer.content_type == kind
        assert "Accept" in answer.headers["Vary"]
    got = app.get(route, headers=headers)
    if kind == "text/html":
        assert got.text.startswith("<!doctype html>")
        assert got.charset.lower() == "utf-8"
    else:
        assert (got.json["name"], got.headers["Cache-Control"]) == ("lenslet", "no-store")


def test_the_page_and_programs_are_told_which_files_are_photos(make_app) -> None:
    app = make_app()
    suffixes = app.get("/").json["suffixes"]
    assert ".jpg" in suffixes
    assert re.findall(r'data-suffixes="([^"]*)"', page(app).text) == [" ".join(suffixes)]


def test_caches_tell_the_page_from_json_also_for_other_sites(make_app) -> None:
    app = make_app(CORS_ORIGINS="https://friend.example")
    vary = re.split(r"\s*,\s*", page(app).headers["Vary"])
    assert {"Accept", "Origin"} <= set(vary)


def test_a_page_that_the_browser_has_is_not_sent_again(make_app) -> None:
    app = make_app(API_TOKEN=FULL)
    closed = page(app)
    assert closed.headers["Cache-Control"] == "private, no-cache"
    tag = closed.headers["ETag"]
    again = page(app, status=304, **{"If-None-Match": tag})
    assert (again.body, again.headers["ETag"]) == (b"", tag)
    assert "Content-Security-Policy" in again.headers
    head = app.head("/", headers=HTML)
    assert (head.headers["ETag"], head.body) == (tag, b"")
    assert head.headers["Content-Length"] == str(len(closed.body))
    opened = page(app, Authorization=f"Bearer {FULL}", **{"If-None-Match": tag})
    assert opened.headers["ETag"] != tag


# The policy


def test_the_page_loads_from_its_own_origin_and_runs_nothing_inline(make_app) -> None:
    app = make_app()
    policy = directives(page(app))
    assert policy == {
        "default-src": ["'none'"], "script-src": ["'self'"], "style-src": ["'self'"], "img-src": ["'self'"],
        "connect-src": ["'self'"], "base-uri": ["'none'"], "form-action": ["'self'"],
        "frame-ancestors": ["'none'"], "require-trusted-types-for": ["'script'"], "trusted-types": ["'none'"],
    }  # fmt: skip
    assert "unsafe" not in page(app).headers["Content-Security-Policy"]
    html = page(app).text
    assert not re.search(r"<style|style=|<script>|\son\w+=|javascript:|<iframe|<base", html)


def test_originals_may_come_from_the_bucket_that_they_are_in(
    make, bucket: BucketPath, make_app, tmp_path
) -> None:
    put(bucket / "a.jpg")
    endpoint = bucket.service.endpoint
    sources = {
        "bucket": make(bucket, PRESIGN_SECONDS="900").app,
        "passed on": make(bucket).app,
        "pointers": make_app(POINTER_BUCKETS="photos"),
        "folder": make_app(PRESIGN_SECONDS="900"),
        "path": make(bucket, PRESIGN_SECONDS="900", S3_ENDPOINT="https://s3.example:81/x").app,
    }
    found = {name: directives(page(app))["img-src"] for name, app in sources.items()}
    assert found == {
        "bucket": ["'self'", endpoint],
        "passed on": ["'self'"],
        "pointers": ["'self'", "https://*.amazonaws.com"],
        "folder": ["'self'"],
        "path": ["'self'", "https://s3.example:81"],
    }


# The files of the page


def test_every_file_that_the_page_names_is_there_and_may_be_kept_for_ever(make_app) -> None:
    app = make_app()
    html = page(app).text
    assert not re.search(r"\{\w+\}", html)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    named = addresses(html)
    for address in named:
        assert re.fullmatch(r"page/[0-9a-f]{16}/[\w-]+\.(js|css|svg)", address)
        answer = app.get(f"/{address}", status=200)
        assert answer.content_type == kinds[address.rpartition(".")[2]]
        assert answer.headers["Cache-Control"] == FOREVER
        tag = {"If-None-Match": answer.headers["ETag"]}
        known = app.get(f"/{address}", headers=tag, status=304)
        assert (known.body, known.headers["Cache-Control"]) == (b"", FOREVER)
        head = app.head(f"/{address}", status=200)
        assert head.headers["Content-Length"] == str(len(answer.body))
    assert sorted(address.rpartition(".")[2] for address in named) == sorted(kinds)


def test_the_page_starts_with_few_bytes_in_few_requests(make_app) -> None:
    """Over a slow line, each file that names another costs a round trip."""
    app = make_app()
    html = page(app).text
    accepts = {"Accept-Encoding": "gzip"}
    asked = [TestRequest.blank(f"/{name}", headers=accepts) for name in addresses(html)]
    assert sum(len(each.get_response(app.app).body) for each in asked) < 48_000
    script = next(app.get(f"/{name}").text for name in addresses(html) if name.endswith("app.js"))
    assert re.findall(r"(?m)^\s*(?:import|export)\b.*|import\(.*", script) == []
    for module in (ROOT / "lenslet/gallery/files").glob("*.js"):
        assert script.count(f"\n${module.stem} = {{") == 1, module.name
    assert re.findall(r"(?m)^\s*//.*", script) == []
    assert '<link rel="preload" as="fetch" href="timeline" crossorigin>' in html
    assert "timeline" not in page(make_app(API_TOKEN=FULL)).text


def test_the_files_of_the_page_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in (ROOT / "lenslet/gallery/files").iterdir()}
    assert sum(sizes.values()) < 150_000, sizes


OTHER_FILES = ["{v}/none.js", "{v}/__init__.py", "{v}/APP.JS", "{v}/app.js.map", "{v}/app.js/x", "{v}/", "{v}", "", "app.js",
               "x/app.js", "{v}0/app.js", "{{version}}/app.js", "{v}/../app.js", "{v}/..%2f..%2fopenapi.json",
               "{v}/%2e%2e/%2e%2e/openapi.json", "%2e%2e/app.js", "{v}/..", "{v}/.", "{v}//app.js", "/{v}/app.js",
               "{v}/%2fetc%2fpasswd", "{v}/app.js%00", "{v}/..%5capp.js", "{v}/page%2fapp.js"]  # fmt: skip


@pytest.mark.parametrize("file", OTHER_FILES)
def test_there_are_no_other_files_and_versions(make_app, file) -> None:
    app = make_app(API_TOKEN=FULL)
    version = addresses(page(app).text)[0].split("/")[1]
    for prefix in ("", "/api"):
        route = f"{prefix}/page/{file.format(v=version)}"
        answer = app.get(route, expect_errors=True)
        assert answer.status_int in (401, 404)
        assert set(answer.json) == {"title", "description"}
        bearer = {"Authorization": f"Bearer {FULL}"}
        assert app.get(route, headers=bearer, status=404).headers["Cache-Control"] == "no-store"


def test_without_the_page_browsers_get_json_too(make_app) -> None:
    shown, hidden = make_app(), make_app(PAGE="off")
    for route in ("/", "/api/"):
        answer = page(hidden, route)
        assert (answer.content_type, answer.json["name"]) == ("application/json", "lenslet")
        for address in addresses(page(shown).text):
            hidden.get(urljoin(route, address), status=404)
    closed = make_app(PAGE="off", API_TOKEN=FULL)
    page(closed, status=401)
    closed.get("/" + addresses(page(shown).text)[0], headers=HTML, status=404)


# Below a path


def ask(server: Server, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and text, without following a redirect."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=MOST_SECONDS)
    connection.request("GET", path, headers={**HTML, **headers})
    with connection.getresponse() as answer:
        found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


def test_the_page_works_below_the_path_that_a_proxy_names(
    serve: Callable[..., Server], root
) -> None:
    put(root / "a.jpg")
    server = serve(root)
    for prefix in ("", "/photos", "/a/b"):
        proxy = {"SCRIPT_NAME": prefix} if prefix else {}
        for start in (f"{prefix}/", f"{prefix}/api/"):
            status, headers, html = ask(server, start, **proxy)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            for address in addresses(html):
                assert ask(server, urljoin(start, address), **proxy)[0] == 200
        for address in (prefix, f"{prefix}/api"):
            if not address:
                continue
            status, headers, _ = ask(server, address, **proxy)
            assert (status, headers["Location"]) == (302, f"{address}/")
            assert "Accept" in headers["Vary"]
            status, _, body = ask(server, address, **proxy, Accept="*/*")
            assert (status, json.loads(body)["name"]) == (200, "lenslet")


# Who may do what


def test_with_a_token_everyone_gets_the_page_and_nothing_of_the_library(make_app) -> None:
    app = make_app(API_TOKEN=FULL, READ_TOKEN=READING)
    answer = page(app)
    assert access(answer) == ("none", "no")
    assert "a.jpg" not in answer.text
    for address in addresses(answer.text):
        app.get(f"/{address}", status=200)
    for route in ("/folders", "/search?q=a", "/thumb?path=a.jpg", "/preview?path=a.jpg", "/health",
                  "/openapi.json", "/api/folders", "/page/../folders", "/page/%2e%2e/folders"):  # fmt: skip
        page(app, route, status=401 if "page" not in route else 404)
    app.get("/", status=401)  # JSON as before
    wrong = page(app, Authorization="Bearer wrong-token-123")
    assert access(wrong) == ("none", "no")


BOTH, ONE = {"API_TOKEN": FULL, "READ_TOKEN": READING}, {"READ_TOKEN": READING}


@pytest.mark.parametrize(
    ("tokens", "token", "may"),
    [(BOTH, FULL, "write"), (BOTH, READING, "read"), (ONE, READING, "read")],
)
@pytest.mark.parametrize("route", ["/", "/api/"])
def test_the_page_says_what_a_session_allows(make_app, tokens, token, may, route) -> None:
    app = make_app(**tokens)
    assert access(page(app, route, Authorization=f"Bearer {token}")) == (may, "no")
    app.post_json("/session", {"token": token}, status=204)
    assert access(page(app, route)) == (may, "yes")
    page(app, "/folders", status=200)
    app.put_json("/item?path=a.jpg", {"notes": "n"}, status=200 if may == "write" else 403)
    app.delete("/session", status=204)
    assert access(page(app, route)) == ("none", "no")


def test_where_nothing_can_be_written_the_page_reads(make_app, root, tmp_path) -> None:
    app, apart = make_app(), make_app(STATE_DIR=str(tmp_path / "state"))
    with read_only(root):
        assert access(page(app)) == ("read", "no")
        assert access(page(apart)) == ("write", "no")
    assert access(page(app)) == ("write", "no")


def test_while_the_root_is_away_the_page_is_there(make_app, root, tmp_path) -> None:
    app = make_app()
    root.rename(tmp_path / "away")
    assert access(page(app)) == ("write", "no")
