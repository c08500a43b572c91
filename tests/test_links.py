"""Links: what a guest sees, and that nothing else exists for one."""

from __future__ import annotations

import datetime as dt
import io
import json
import pathlib
import random
import unicodedata
import urllib.parse
import zipfile
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from buckets import BucketPath
from conftest import DESCRIPTION, Gallery, draw, encode, exif, jpeg, put, read_only
from test_pointers import point
from webtest import TestApp

from lenslet.errors import NotFound
from lenslet.gallery.page import load
from lenslet.guests.links import Link, Links
from lenslet.index.scan import Scan
from lenslet.library.manifest import load as load_manifest
from lenslet.paths import Path
from lenslet.run.parts import PARTS
from lenslet.times import Clock
from lenslet.web.app import create_app
from lenslet.web.service import Part, Resource

FULL, READING = "full-token-1234", "read-token-1234"
WRITER = {"Authorization": f"Bearer {FULL}"}
METHODS = ("get", "head", "post", "put", "delete")
# What there is outside of what is shared: none of it may ever be in an answer.
OUTSIDE = ("zebra", "walrus", "2024/wed/", "wedding2", "Cover-of-all")
EXAMPLES = {"{version}": load().version, "{name}": "app.js", "{part}": "workers", "{link}": "0123456789ab"}  # fmt: skip


def position() -> bytes:
    camera = draw().getexif()
    camera.get_ifd(0x8769)[0x9003] = "2024:06:01 10:00:00"
    camera.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (9.0, 0.0, 0.0)})
    return encode(draw(seed=5), exif=camera.tobytes())


def fill(root: pathlib.Path) -> None:
    put(root / "2024/wedding/in.jpg", position())
    put(root / "2024/wedding/party/dance.jpg", jpeg(seed=2, exif=exif(DateTimeOriginal="2024:06:01 12:00:00")))  # fmt: skip
    put(root / "2024/wedding/in.jpg.json", b'{"v": 1, "tags": ["walrus", "family"], "notes": "our zebra"}')  # fmt: skip
    put(root / "2024/wed/zebra.jpg", jpeg(seed=3))
    put(root / "2024/wedding2/zebra.jpg", jpeg(seed=4))
    put(root / "2024/zebra.jpg", jpeg(seed=6))
    put(root / "zebra/walrus.jpg", jpeg(seed=7))
    put(root / "zebra/walrus.jpg.json", b'{"v": 1, "tags": ["family"], "notes": "walrus"}')


@pytest.fixture
def shared(indexed: Callable[..., Gallery], root: pathlib.Path) -> Gallery:
    fill(root)
    gallery = indexed(API_TOKEN=FULL, READ_TOKEN=READING)
    gallery.settle(400)
    return gallery


def make_link(app: TestApp, path: str = "2024/wedding", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = app.post_json("/links", {"path": path, **more}, headers=WRITER, status=201).json  # fmt: skip
    return found


def secret_of(link: dict[str, Any]) -> str:
    return str(urllib.parse.urlsplit(link["url"]).fragment.removeprefix("secret="))


def guest(app: TestApp, link: dict[str, Any]) -> dict[str, str]:
    """Opens a link as the page does; returns the headers that a browser then sends."""
    answer = app.post_json("/session", {"link": secret_of(link)}, status=204)
    app.reset()
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def ask(app: TestApp, method: str, route: str, **headers: str) -> Any:
    body = b'{"notes": "n", "paths": ["2024/wedding/in.jpg"], "token": "x"}'
    app.reset()
    return app.request(
        route, method=method.upper(), headers=headers, expect_errors=True,
        body=body if method in ("post", "put") else b"",
    )  # fmt: skip


def routes(path: str) -> list[tuple[str, str, str]]:
    """Every route of the document with every method: the template, and an address for `path`."""
    found = []
    for template in DESCRIPTION["paths"]:
        route = template
        for name, value in EXAMPLES.items():
            route = route.replace(name, value)
        route = route.replace("{path}", urllib.parse.quote(path))
        query = f"?path={urllib.parse.quote(path)}" if "{path}" not in template else ""
        found += [(template, method, route + query) for method in METHODS]
    return found


@pytest.mark.parametrize(("written", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_links_and_guests_find_a_path_in_the_other_form_of_unicode(
    indexed, root, written, asked
) -> None:
    path, other = (unicodedata.normalize(form, "été/Ångström.jpg") for form in (written, asked))
    put(root / path)
    gallery = indexed(API_TOKEN=FULL)
    app, quoted = gallery.app, urllib.parse.quote(other)
    folder = other.split("/")[0]
    for what in (
        {"path": folder},
        {"path": other},
        {"paths": [other]},
        {"q": "jpg", "path": folder},
    ):
        link = make_link(app, **{"path": "", **what, "download": True})
        headers = guest(app, link)
        for route in ("item", "thumb", "preview", "file"):
            app.get(f"/{route}?path={quoted}", headers=headers, status=[200, 202])
        if what.get("path") == folder and "q" not in what:
            for route in ("folders", "search", "timeline", "zip"):
                app.get(f"/{route}", {"path": folder}, headers=headers, status=200)


# Who may do what: every route and method

PUBLIC = {"/health/live", "/session", "/page/{version}/{name}", "/links/{link}/cover"}
FOLDERS = {"/folders", "/search/counts", "/search", "/timeline", "/feed"}
PHOTOS = {"/item", "/thumb", "/preview"}


@pytest.mark.parametrize("who", ["nobody", "reader", "writer", "guest", "ended"])
def test_every_route_and_method_answers_whom_it_is_for(shared: Gallery, who: str) -> None:
    app = shared.app
    link = make_link(app)
    headers = {"reader": {"Authorization": f"Bearer {READING}"}, "writer": WRITER}.get(who, {})
    if who in ("guest", "ended"):
        headers = guest(app, link)
    if who == "ended":
        app.delete(f"/links/{link['id']}", headers=WRITER, status=204)
    for template, method, route in routes("2024/wedding/in.jpg"):
        if template in FOLDERS:
            route = route.replace("%2Fin.jpg", "").replace("/in.jpg", "")
        if who == "writer" and method == "delete":
            continue
        answer = ask(app, method, route, **headers)
        status = answer.status_int
        defined = ("get" if method == "head" else method) in DESCRIPTION["paths"][template]
        about = (who, method, route, status, answer.body[:200])
        reads = method in ("get", "head")
        if status == 405:
            assert not defined, about
        elif template in PUBLIC:
            assert status != 403 or not reads, about
        elif who in ("nobody", "ended"):
            assert status == 401, about
        elif who == "reader" and (method, template) == ("post", "/zip"):
            assert status == 200, about
        elif who == "reader":
            assert status == 403 if not reads else status in (200, 202, 404), about  # fmt: skip
        elif who == "writer":
            assert status not in (401, 403), about
        elif template == "/":
            assert status == 200, about
        elif template in FOLDERS | PHOTOS and reads:
            assert status in (200, 202), about
        else:
            assert status == 403, about
        assert status != 500, about
        assert defined or status in (401, 403, 404, 405), about


def test_a_write_of_another_site_is_refused_with_a_link_too(shared: Gallery) -> None:
    headers = guest(shared.app, make_link(shared.app))
    for _, method, route in routes("2024/wedding/in.jpg"):
        if method in ("post", "put", "delete"):
            answer = ask(shared.app, method, route, **headers, **{"Sec-Fetch-Site": "cross-site"})
            assert answer.status_int in (403, 405), (method, route)


class Forgotten(Resource):
    """A resource that says nothing of guests."""

    def on_get(self, req: Any, resp: Any, **_: str) -> None:
        resp.media = [
            item["path"] for item in load_manifest(self.service.tree, Path("zebra")).items
        ]

    on_post = on_put = on_delete = on_get


@pytest.mark.parametrize("route", ["/forgotten", "/thumb/{name}", "/health/live/{name}"])
def test_a_resource_that_is_added_without_a_word_about_guests_is_closed(
    shared: Gallery, route: str
) -> None:
    part = Part("lenslet.guests", {route: Forgotten})
    app = TestApp(create_app(shared.library, shared.channel, shared.status, (*PARTS, part)))
    headers = guest(app, make_link(app, words=True, position=True, download=True))
    address = route.replace("{name}", "in.jpg") + "?path=2024/wedding/in.jpg"
    for method in METHODS:
        assert ask(app, method, address).status_int == 401
        answer = ask(app, method, address, **headers)
        assert (answer.status_int, b"walrus" in answer.body) == (403, False)
        assert ask(app, method, address, **WRITER).status_int == 200


# What a guest sees


def everything_below(path: str) -> list[str]:
    """Addresses of all that shows photos, for a path and for ways of writing it."""
    quoted = urllib.parse.quote(path)
    names = [quoted, f"/{quoted}", f"{quoted}/", quoted.replace("/", "%2F"), quoted.replace("e", "%65", 1)]  # fmt: skip
    return [
        f"{route}{sign}{name}{more}"
        for name in names
        for route, sign, more in [
            ("/folders", "?path=", ""), ("/folders", "?path=", "&page=0"), ("/search", "?path=", ""),
            ("/search", "?q=zebra&path=", ""), ("/search", "?path=", "&q=tag:walrus"), ("/timeline", "?path=", ""),
            ("/search/counts", "?path=", ""), ("/thumb", "?path=", ""), ("/preview", "?path=", ""),
            ("/item", "?path=", ""), ("/item", "?path=", "&exif=full"), ("/file", "?path=", ""),
            ("/files/", "", ""), ("/zip", "?path=", ""), ("/feed", "?path=", ""), ("/zip", "?path=", "&recursive=true"), ("/api/thumb", "?path=", ""), ("/api/folders", "?path=", ""),
        ]
    ]  # fmt: skip


def is_empty(answer: Any) -> bool:
    """True if a search, a feed or counts have found nothing."""
    if answer.content_type == "application/atom+xml":
        return b"<entry>" not in answer.body
    return not any(answer.json.get(key) for key in ("items", "months", "folders", "path"))


BESIDE = ["2024", "", "2024/wed", "2024/wedding2", "2024/wed/zebra.jpg", "2024/zebra.jpg", "zebra", "zebra/walrus.jpg",
          "2024/wedding/../wed", "2024/wedding/..", "2024/wedding/../zebra.jpg", "2024//wedding", "2024/Wedding",
          "2024/wedding/../../zebra/walrus.jpg", "2024/wedding\\..\\zebra.jpg", "./2024/wed", "none/at/all.jpg"]  # fmt: skip


@pytest.mark.parametrize("download", [False, True])
def test_what_lies_beside_a_shared_folder_does_not_exist(shared: Gallery, download: bool) -> None:
    link = make_link(shared.app, words=True, download=download)
    headers = guest(shared.app, link)
    refused = {}
    for path in BESIDE:
        for route in everything_below(path):
            answer = ask(shared.app, "get", route, **headers)
            about = (route, answer.status_int, answer.body[:300])
            if path.startswith("none/"):
                refused[route.partition("none")[0]] = answer.body
            assert answer.status_int in (400, 403, 404), about
            assert not any(word.encode() in answer.body for word in OUTSIDE if word not in path), about  # fmt: skip
            assert "ETag" not in answer.headers, about
    for route, body in refused.items():  # and it is refused alike whether it exists
        assert ask(shared.app, "get", f"{route}zebra/walrus.jpg", **headers).body == body


def test_a_guest_sees_the_folder_and_all_below(shared: Gallery) -> None:
    link = make_link(shared.app, days=3, label="Wedding")
    headers = guest(shared.app, link)
    get = shared.app.get
    assert [each["name"] for each in get("/folders?path=2024/wedding", headers=headers).json["items"]] == ["in.jpg"]  # fmt: skip
    below = get("/folders?path=2024/wedding/party", headers=headers).json
    assert [each["name"] for each in below["items"]] == ["dance.jpg"]
    found = get("/search?path=2024/wedding&q=date:2024&sort=date", headers=headers).json["items"]
    assert [each["name"] for each in found] == ["in.jpg", "dance.jpg"]
    for query in ("camera:nikon", "-lens:35mm"):  # every item shows them
        get("/search", {"path": "2024/wedding", "q": query}, headers=headers, status=200)
    months = get("/timeline?path=2024/wedding", headers=headers).json["months"]
    assert [(each["month"], each["count"]) for each in months] == [("2024-06", 2)]
    assert get("/search/counts?path=2024/wedding", headers=headers).json == {"folders": {"party": 1}}  # fmt: skip
    assert get("/thumb?path=2024/wedding/in.jpg", headers=headers).content_type == "image/webp"


def test_a_pointer_below_a_shared_folder_is_a_part_of_it_and_leads_no_further(
    indexed: Callable[..., Gallery], root: pathlib.Path
) -> None:
    fill(root)
    put(root / "zebra/hidden/walrus.jpg", jpeg(seed=8))
    point(root / "2024/wedding/guests", "zebra")
    point(root / "2024/wedding/up", "2024")
    gallery = indexed(API_TOKEN=FULL, IGNORE="zebra/hidden")
    gallery.settle(400)
    headers = guest(gallery.app, make_link(gallery.app))
    gallery.app.get("/thumb?path=2024/wedding/guests/walrus.jpg", headers=headers, status=200)
    folders = ("guests/hidden", "guests/../../wed", "guests/..", "up", "up/wed", "up/up/zebra")
    for path in (*folders, "guests/hidden/walrus.jpg", "guests/../zebra.jpg", "up/zebra.jpg"):
        for route in everything_below(f"2024/wedding/{path}"):
            answer = ask(gallery.app, "get", route, **headers)
            about = (route, answer.status_int, answer.body[:300])
            assert answer.status_int in (400, 403, 404) or is_empty(answer), about
    for route in everything_below("zebra/walrus.jpg"):  # where the photo really is
        assert ask(gallery.app, "get", route, **headers).status_int in (403, 404), route
    point(root / "2024/wedding/broken", "zebra/gone")
    put(root / "zebra/kept/.nomedia", b"")
    point(root / "2024/wedding/kept", "zebra/kept")
    for path in ("broken", "up", "kept"):  # whose errors would name where they lead
        route = f"/folders?path=2024/wedding/{path}"
        said = gallery.app.get(route, headers=headers, status=404).text
        assert "zebra" not in said and "chain" not in said


def test_a_link_to_a_whole_bucket_shows_what_is_below_its_prefix_and_asks_for_nothing_else(
    make: Callable[..., Gallery], ours: BucketPath
) -> None:
    put(ours / "photos/wedding/in.jpg", jpeg(seed=1))
    put(ours / "photos-private/zebra.jpg", jpeg(seed=3))
    gallery = make(ours / "photos", API_TOKEN=FULL)
    gallery.index()
    whole = guest(gallery.app, make_link(gallery.app, "", download=True))
    gallery.app.get("/file?path=wedding/in.jpg", headers=whole, status=200)
    for route in everything_below("../photos-private/zebra.jpg"):
        assert ask(gallery.app, "get", route, **whole).status_int in (400, 403, 404), route
    folder = guest(gallery.app, make_link(gallery.app, "wedding", download=True))
    gallery.app.get("/file?path=wedding/in.jpg", headers=folder, status=200)
    ours.service.reset()
    for path in ("wed/zebra.jpg", "none"):  # so they take equally long
        for route in everything_below(path):
            assert ask(gallery.app, "get", route, **folder).status_int in (403, 404), route
    # Whether the link holds still, it asks each second.
    assert {*ours.service.control("paths")} <= {f"GET /{ours.bucket}/photos/_links.json"}


def test_tags_notes_and_position_are_shown_only_if_the_link_says_so(shared: Gallery) -> None:
    routes = ["/folders?path=2024/wedding", "/search?path=2024/wedding", "/item?path=2024/wedding/in.jpg&exif=full"]  # fmt: skip
    plain = guest(shared.app, make_link(shared.app))
    for route in routes:
        text = shared.app.get(route, headers=plain).text
        assert not any(word in text for word in ("walrus", "zebra", "GPS", "user")), text
    for query in ("walrus", "tag:family", "-zebra", "notes:our"):  # nor can they be guessed
        shared.app.get("/search", {"path": "2024/wedding", "q": query}, headers=plain, status=403)
        shared.app.get("/timeline", {"path": "2024/wedding", "q": query}, headers=plain, status=403)
    words = guest(shared.app, make_link(shared.app, words=True))
    for route in routes:
        text = shared.app.get(route, headers=words).text
        assert "walrus" in text and "our zebra" in text and "GPS" not in text
    assert shared.app.get("/search?path=2024/wedding&q=walrus", headers=words).json["total"] == 1
    secret = guest(shared.app, make_link(shared.app, q="walrus"))  # nor is the link's own query
    for route in ("/search?path=2024/wedding&q=name:in", "/timeline?path=2024/wedding&q=name:in"):
        assert b"walrus" not in shared.app.get(route, headers=secret, status=200).body
    place = guest(shared.app, make_link(shared.app, position=True))
    assert shared.app.get(routes[2], headers=place).json["exif"]["GPSLatitude"] == 48.5


def test_a_sidecar_that_cannot_be_read_is_not_told(shared: Gallery, root: pathlib.Path) -> None:
    headers = guest(shared.app, make_link(shared.app))
    put(root / "2024/wedding/in.jpg.json", b'{"v": 1, "tags')
    said = shared.app.get("/item?path=2024/wedding/in.jpg", headers=headers, status=404).json
    assert said["description"] == "This link does not show that."


def test_an_answer_does_not_tell_that_hidden_notes_have_changed(shared: Gallery) -> None:
    headers = guest(shared.app, make_link(shared.app))
    route = "/item?path=2024/wedding/in.jpg"
    before = shared.app.get(route, headers=headers).headers["ETag"]
    shared.app.put_json(route, {"notes": "secret"}, headers=WRITER)
    assert shared.app.get(route, headers=headers).headers["ETag"] == before


def test_pages_do_not_tell_where_long_hidden_notes_are(indexed, root) -> None:
    """Stored pages have at most 8 MB, so they end early where long notes are."""
    words = {"notes": "zebra " * 10_000, "tags": [f"{n} {'斑' * 190}" for n in range(500)]}
    for number in range(60):
        put(root / f"all/{number}.jpg", jpeg(8, 6))
        sidecar = {"v": 1, **(words if number >= 5 else {"notes": ""})}
        put(root / f"all/{number}.jpg.json", json.dumps(sidecar).encode())
    gallery = indexed(API_TOKEN=FULL, PAGE_SIZE="50")
    stored = gallery.app.get("/folders?path=all", headers=WRITER).json
    assert stored["pageCount"] == 3
    headers, seen = guest(gallery.app, make_link(gallery.app, "all")), []
    for page in range(2):
        answer = gallery.app.get(f"/folders?path=all&page={page}", headers=headers)
        assert b"zebra" not in answer.body
        assert answer.json.get("starts", [0, 50]) == [0, 50]
        assert (answer.json["pageCount"], answer.json["itemCount"]) == (2, 60)
        seen += [item["name"] for item in answer.json["items"]]
    assert seen == [f"{number}.jpg" for number in range(60)]
    for page in (2, 3):
        answer = gallery.app.get(f"/folders?path=all&page={page}", headers=headers, status=404)
        assert "ETag" not in answer.headers and b"page" not in answer.body


def test_files_are_given_only_if_the_link_says_so(shared: Gallery) -> None:
    headers = guest(shared.app, make_link(shared.app))
    shared.app.get("/file?path=2024/wedding/in.jpg", headers=headers, status=403)
    headers = guest(shared.app, make_link(shared.app, download=True))
    assert shared.app.get("/file?path=2024/wedding/in.jpg", headers=headers).body == position()
    assert shared.app.get("/files/2024/wedding/in.jpg", headers=headers).body == position()
    archive = shared.app.get("/zip?path=2024/wedding&recursive=true", headers=headers).body
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert names == ["wedding/in.jpg", "wedding/party/dance.jpg"]
    for path in ("2024", "", "2024/wed", "zebra"):
        shared.app.get(f"/zip?path={path}&recursive=true", headers=headers, status=404)
    shared.app.post_json("/zip", {"paths": ["2024/wedding/in.jpg"]}, headers=headers, status=403)


def test_one_photo_can_be_shared(shared: Gallery) -> None:
    headers = guest(shared.app, make_link(shared.app, "2024/wedding/in.jpg"))
    assert shared.app.get("/thumb?path=2024/wedding/in.jpg", headers=headers).status_int == 200
    assert shared.app.get("/item?path=2024/wedding/in.jpg", headers=headers).status_int == 200
    for route in ("/folders?path=2024/wedding", "/thumb?path=2024/wedding/party/dance.jpg", "/search?path=2024/wedding"):  # fmt: skip
        shared.app.get(route, headers=headers, status=404)


def test_a_link_to_one_photo_shows_no_other_that_takes_its_name(shared: Gallery, root) -> None:
    headers = guest(shared.app, make_link(shared.app, "2024/wedding/in.jpg", download=True))
    route = "/file?path=2024/wedding/in.jpg"
    assert shared.app.get(route, headers=headers).body == position()
    swap(root / "2024/wedding/in.jpg", root / "2024/zebra.jpg")
    for _ in range(2):  # before it is indexed, and after
        for shown in (route, "/thumb?path=2024/wedding/in.jpg", "/item?path=2024/wedding/in.jpg"):
            shared.app.get(shown, headers=headers, status=404)
        shared.index()
    swap(root / "2024/wedding/in.jpg", root / "2024/zebra.jpg")
    shared.index()
    assert shared.app.get(route, headers=headers).body == position()


def test_a_link_to_a_search_gives_no_file_that_took_the_place_of_what_it_found(
    shared: Gallery, root: pathlib.Path
) -> None:
    headers = guest(shared.app, make_link(shared.app, "", q="tag:family", download=True))
    swap(root / "2024/wedding/in.jpg", root / "2024/zebra.jpg")
    for route in ("/file?path=", "/files/", "/thumb?path=", "/item?path=", "/preview?path="):
        shared.app.get(f"{route}2024/wedding/in.jpg", headers=headers, status=404)


@pytest.mark.parametrize(
    "what", [{"q": "tag:family name:in"}, {"paths": ["2024/wedding/in.jpg"]}], ids=str
)
def test_a_cover_is_no_photo_that_took_the_place_of_what_a_link_shows(
    shared: Gallery, root: pathlib.Path, what: dict[str, Any]
) -> None:
    body = {**what, "preview": True}
    link = shared.app.post_json("/links", body, headers=WRITER, status=201).json
    route = f"/links/{link['id']}/cover"
    shared.app.get(route, status=200)
    swap(root / "2024/wedding/in.jpg", root / "2024/zebra.jpg")
    swap(root / "2024/wedding/in.jpg.thumbnail", root / "2024/zebra.jpg.thumbnail")
    shared.app.get(route, status=404)


def swap(one: pathlib.Path, other: pathlib.Path) -> None:
    aside = one.with_name("aside.tmp")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_a_selection_is_shared_as_a_list_and_changes_no_photo(shared: Gallery, root) -> None:
    chosen = ["2024/zebra.jpg", "2024/wedding/in.jpg"]
    before = sorted(path.name for path in (root / "2024").rglob("*.json"))
    body = {"paths": chosen, "label": "Two", "download": True}
    link = shared.app.post_json("/links", body, headers=WRITER, status=201).json
    assert (link["path"], link["photos"], link["q"]) == ("2024", 2, "")
    assert sorted(path.name for path in (root / "2024").rglob("*.json")) == before
    headers, get = guest(shared.app, link), shared.app.get
    for route in ("/search?path=2024", "/search?path=2024&sort=date", "/search?path=2024&q=date:2020..2100"):  # fmt: skip
        found = get(route, headers=headers).json
        assert {each["path"] for each in found["items"]} <= {*chosen} and not found["more"]
    assert get("/search?path=2024", headers=headers).json["total"] == 2
    assert get("/search?path=2024/wedding", headers=headers).json["total"] == 1
    assert get("/search?path=2024&q=name:zebra", headers=headers).json["total"] == 1
    counted = get("/timeline?path=2024", headers=headers).json
    assert (counted["months"][0]["month"], counted["undated"]["count"]) == ("2024-06", 1)
    for route in ("/zip?path=2024&recursive=true", "/zip?path=2024"):
        archive = zipfile.ZipFile(io.BytesIO(get(route, headers=headers).body))
        assert sorted(archive.namelist()) == ["2024/wedding/in.jpg", "2024/zebra.jpg"]
    for path in chosen:
        for route in ("/thumb?path=", "/item?path=", "/file?path="):
            get(route + path, headers=headers, status=200)
    for route in ("/folders?path=2024", "/thumb?path=2024/wedding/party/dance.jpg", "/search?path=",
                  "/file?path=2024/wed/zebra.jpg", "/search/counts?path=2024"):  # fmt: skip
        get(route, headers=headers, status=404)
    swap(root / chosen[0], root / "2024/wedding/party/dance.jpg")
    get(f"/file?path={chosen[0]}", headers=headers, status=404)
    shared.index()
    assert get("/search?path=2024", headers=headers).json["total"] == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"paths": ["2024/zebra.jpg"], "path": "2024"}, "paths"),
        ({"paths": ["2024/zebra.jpg"], "q": "tag:x"}, "paths"),
        ({"paths": [f"{n}.jpg" for n in range(501)]}, "paths"),
        ({"paths": [1]}, "paths"),
        ({"paths": "2024/zebra.jpg"}, "paths"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(shared: Gallery, body, named: str) -> None:
    said = shared.app.post_json("/links", body, headers=WRITER, status=422)
    assert said.json["description"].startswith(f"{named}: ")
    shared.app.post_json("/links", {"paths": ["2024/no.jpg"]}, headers=WRITER, status=404)


def test_a_search_below_a_folder_can_be_shared(shared: Gallery) -> None:
    headers = guest(shared.app, make_link(shared.app, "2024", q="tag:family"))
    get = shared.app.get
    for query in ("", "&q=date:2024", "&q=name:in&sort=date&order=desc"):
        found = get(f"/search?path=2024{query}", headers=headers).json
        assert [each["path"] for each in found["items"]] == ["2024/wedding/in.jpg"]
    assert get("/search?path=2024&q=name:dance", headers=headers).json["items"] == []
    assert get("/timeline?path=2024", headers=headers).json["months"][0]["count"] == 1
    get("/thumb?path=2024/wedding/in.jpg", headers=headers, status=200)
    for route in ("/search?path=", "/timeline?path=", "/folders?path=2024", "/search/counts?path=2024",
                  "/thumb?path=2024/wedding/party/dance.jpg", "/thumb?path=2024/zebra.jpg",
                  "/thumb?path=zebra/walrus.jpg"):  # fmt: skip
        get(route, headers=headers, status=404)
    get("/search?path=2024&q=tag:walrus", headers=headers, status=403)
    get("/zip?path=2024", headers=headers, status=403)
    headers = guest(shared.app, make_link(shared.app, "2024", q="tag:family", download=True))
    for query in ("path=2024", "path=2024&recursive=true", "path=2024&q=date:2024"):
        archive = zipfile.ZipFile(io.BytesIO(get(f"/zip?{query}", headers=headers).body))
        assert [name.rpartition("/")[2] for name in archive.namelist()] == ["in.jpg"]
    get("/zip?path=", headers=headers, status=404)


def test_a_search_for_the_title_of_a_folder_can_be_shared(shared: Gallery) -> None:
    body = {"title": "Jubilee", "description": "Secret"}
    shared.app.put_json("/folders/2024/wedding", body, headers=WRITER)
    shared.settle(100)
    headers = guest(shared.app, make_link(shared.app, q="jubilee 2024", words=True))
    found = shared.app.get("/search?path=2024/wedding", headers=headers)
    assert [each["path"] for each in found.json["items"]] == ["2024/wedding/in.jpg"]
    assert "Secret" not in found.text
    assert make_link(shared.app)["label"] == "Jubilee"
    assert make_link(shared.app, q="camera:canon")["label"] == "wedding"


def test_the_query_of_a_link_is_not_told_to_guests(shared: Gallery) -> None:
    link = make_link(shared.app, "2024", q="tag:family", preview=True)
    assert link["label"] == "2024"  # not the words that guests may not see
    page = shared.app.get("/", headers={**guest(shared.app, link), "Accept": "text/html"}).text
    assert "family" not in page and "family" not in shared.app.get(f"/?link={link['id']}").text
    assert make_link(shared.app, "2024", q="tag:family", words=True)["label"] == "tag:family"


@pytest.mark.parametrize("query", ["-tag:private", "name:in -walrus", "date:2024 -notes:secret"])
def test_a_link_cannot_leave_out_words_that_may_not_be_known_yet(shared: Gallery, query) -> None:
    body = {"path": "2024", "q": query}
    said = shared.app.post_json("/links", body, headers=WRITER, status=422).json
    assert said["description"].startswith("q: must not leave out words")
    make_link(shared.app, "2024", q="tag:family -date:2023 -name:zebra")


def test_a_photo_that_takes_the_place_of_a_tagged_one_is_not_in_its_search(
    shared: Gallery, root: pathlib.Path
) -> None:
    shared.app.put_json("/item?path=2024/wedding/in.jpg", {"tags": ["mine"]}, headers=WRITER)
    shared.settle(100)
    headers = guest(shared.app, make_link(shared.app, "", q="tag:mine", download=True))

    def listed() -> list[str]:
        found = shared.app.get("/search?path=/&sort=date", headers=headers).json["items"]
        return [f"{each['path']} {each['rev']}" for each in found]

    before = listed()
    assert len(before) == 1
    swap(root / "2024/wedding/in.jpg", root / "2024/wedding/party/dance.jpg")
    shared.loop.work.later(Scan(), 0.0)
    until = shared.clock.now + 60
    while shared.clock.now < until:  # both are read, and the sidecar follows
        assert listed() in (before, [], [before[0].replace("/in.jpg", "/party/dance.jpg")])
        shared.app.get("/file?path=2024/wedding/in.jpg", headers=headers, status=404)
        if not shared.step():
            shared.clock.now += 0.25
    assert listed() != before


def test_a_photo_that_leaves_a_shared_search_is_not_shown_any_more(shared: Gallery) -> None:
    """Nor counted: also while search does not know it yet."""
    headers = guest(shared.app, make_link(shared.app, "", q="tag:family"))
    route = "/thumb?path=2024/wedding/in.jpg"
    shared.app.get(route, headers=headers, status=200)
    shared.app.put_json("/item?path=2024/wedding/in.jpg", {"tags": []}, headers=WRITER)
    shared.settle(1)
    assert shared.app.get("/search?q=tag:family", headers=WRITER).json["total"] == 2
    shared.app.get(route, headers=headers, status=404)
    assert shared.app.get("/search?path=", headers=headers).json["total"] == 1
    months = shared.app.get("/timeline?path=", headers=headers).json
    assert (months["months"], months["undated"]["count"]) == ([], 1)


def test_an_error_of_the_store_tells_a_guest_of_a_search_nothing(
    make: Callable[..., Gallery], ours: BucketPath
) -> None:
    put(ours / "photos/wedding/in.jpg", jpeg(seed=1))
    gallery = make(ours / "photos", API_TOKEN=FULL)
    gallery.index()
    headers = guest(gallery.app, make_link(gallery.app, "wedding", q="name:in"))
    ours.service.fault("GET", "_index.json", 503, "SlowDown")
    said = ask(gallery.app, "get", "/thumb?path=wedding/in.jpg", **headers)
    ours.service.reset()
    assert said.status_int == 503 and said.headers["Retry-After"]
    assert said.json["description"] == "This cannot be read right now: try again in a moment."


# Links as they are made, listed and taken back


def test_who_may_write_makes_lists_and_takes_back_links(shared: Gallery, root) -> None:
    link = make_link(shared.app, label="Wedding", days=2)
    assert link["url"].startswith(f"http://localhost:80/?link={link['id']}#secret=")
    shown = shared.app.get("/links", headers=WRITER).json["links"]
    assert [(each["id"], each["path"], each["label"]) for each in shown] == [
        (link["id"], "2024/wedding", "Wedding")
    ]
    left = dt.datetime.fromisoformat(link["ends"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=1.9) < left <= dt.timedelta(days=2)
    guest(shared.app, link)
    stored = (root / "_links.json").read_text()
    assert secret_of(link) not in stored and '"path": "2024/wedding"' in stored
    assert secret_of(link) not in shared.app.get("/links", headers=WRITER).text
    shared.app.delete(f"/links/{link['id']}", headers=WRITER, status=204)
    shared.app.delete(f"/links/{link['id']}", headers=WRITER, status=404)
    assert shared.app.get("/links", headers=WRITER).json == {"links": []}


def test_a_link_that_was_taken_back_shows_nothing_any_more(shared: Gallery) -> None:
    link = make_link(shared.app, download=True)
    headers = guest(shared.app, link)
    route = "/thumb?path=2024/wedding/in.jpg"
    version = shared.app.get("/folders?path=2024/wedding", headers=headers).json["items"][0][
        "thumb"
    ]
    first = shared.app.get(f"{route}&v={version}", headers=headers)
    assert first.headers["Cache-Control"] == "private, no-cache"  # or a browser would keep it
    assert "immutable" in shared.app.get(f"{route}&v={version}", headers=WRITER).headers["Cache-Control"]  # fmt: skip
    shared.app.delete(f"/links/{link['id']}", headers=WRITER, status=204)
    for where in (route, f"{route}&v={version}", "/file?path=2024/wedding/in.jpg"):
        said = shared.app.get(where, headers={**headers, "If-None-Match": first.headers["ETag"]}, status=401)  # fmt: skip
        assert said.json["description"] == "This link has ended, or was taken back."
    shared.app.post_json("/session", {"link": secret_of(link)}, status=401)


def test_a_link_that_was_taken_back_ends_in_all_processes(shared: Gallery, make_gallery) -> None:
    other = make_gallery(API_TOKEN=FULL)
    link = make_link(shared.app, download=True)
    headers = guest(other.app, link)  # it knows the link at once
    route = "/zip?path=2024/wedding&recursive=true"
    other.app.get(route, headers=headers, status=200)
    shared.app.delete(f"/links/{link['id']}", headers=WRITER, status=204)
    other.app.get(route, headers=headers, status=401)


def test_a_link_is_not_said_to_have_ended_while_the_disk_is_away(
    shared: Gallery, root: pathlib.Path
) -> None:
    headers = guest(shared.app, make_link(shared.app))
    root.rename(root.with_name("away"))
    shared.app.get("/folders?path=2024/wedding", headers=headers, status=503)
    shared.app.get("/links", headers=WRITER, status=503)
    root.with_name("away").rename(root)
    shared.app.get("/folders?path=2024/wedding", headers=headers, status=200)


@pytest.mark.parametrize("query", ["name:in", "-name:in", "path:party", "camera:x date:2024", "date:2024", "date:*-06-01", ""])  # fmt: skip
def test_what_guests_find_without_words_is_what_others_find(shared: Gallery, query: str) -> None:
    params = {"path": "2024/wedding", "q": query}
    found = shared.app.get("/search", params, headers=guest(shared.app, make_link(shared.app))).json
    for more in (WRITER, guest(shared.app, make_link(shared.app, words=True))):
        others = shared.app.get("/search", params, headers=more).json
        assert [each["path"] for each in found["items"]] == [each["path"] for each in others["items"]]  # fmt: skip
    assert "generatedAt" not in found


def test_a_link_ends_by_itself(shared: Gallery, root) -> None:
    link = make_link(shared.app, days=1)
    headers = guest(shared.app, link)
    stored = json.loads((root / "_links.json").read_text())
    stored["links"][0]["ends"] = "2020-01-01T00:00:00Z"
    put(root / "_links.json", json.dumps(stored).encode())
    shared.restart()
    shared.app.get("/folders?path=2024/wedding", headers=headers, status=401)
    assert shared.app.get("/links", headers=WRITER).json == {"links": []}
    make_link(shared.app)
    assert link["id"] in (root / "_links.json").read_text()  # the clock may be wrong


class Moved(Clock):
    """A clock for a number of days, which is some days ahead."""

    days = ahead = 0

    def __call__(self) -> float:
        return self.days * 86_400.0

    def wall_ns(self) -> int:
        return (20_000 + self.days + self.ahead) * 86_400 * 10**9


def test_what_has_ended_stays_ended_but_not_by_a_clock_that_was_just_set(shared: Gallery) -> None:
    clock = Moved()
    links = Links(shared.library.tree, clock)
    asked = Link("", Path("2024"), "", "")
    _, first = links.add(asked, 30)
    clock.ahead = 400
    with pytest.raises(NotFound):
        links.opened_by(first)
    _, second = links.add(asked, 1)
    clock.ahead = 0
    assert links.opened_by(first).path == "2024"
    clock.days = 31
    with pytest.raises(NotFound):
        links.opened_by(first)
    clock.ahead = -31
    with pytest.raises(NotFound):
        links.opened_by(first)
    assert links.opened_by(second).path == "2024"


BAD = [("q", " ".join(map(str, range(32)))), ("q", '""'), ("days", 0), ("days", 4000), ("days", "3"), ("days", True), ("path", 3), ("path", None), ("label", "x" * 201),
       ("q", "x" * 1001), ("words", 1), ("words", "yes"), ("secret", "x")]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_link_that_makes_no_sense_is_refused(shared: Gallery, name: str, value: Any) -> None:
    body = {"path": "2024/wedding", name: value}
    said = shared.app.post_json("/links", body, headers=WRITER, status=422).json
    assert said["description"].startswith(f"{name}:")


def test_a_folder_with_the_name_of_a_photo_can_be_shared(shared: Gallery, root) -> None:
    put(root / "2024/img.jpg/in.jpg", jpeg(seed=11))
    shared.index()
    link = make_link(shared.app, "2024/img.jpg")
    assert (link["path"], link["photos"]) == ("2024/img.jpg", 0)
    headers = guest(shared.app, link)
    found = shared.app.get("/folders?path=2024/img.jpg", headers=headers).json["items"]
    assert [each["name"] for each in found] == ["in.jpg"]


def test_only_what_exists_is_shared(shared: Gallery) -> None:
    for path in ("none", "2024/wedding/none.jpg", "2024/wedding/in.jpg/x"):
        shared.app.post_json("/links", {"path": path}, headers=WRITER, status=404)


def test_an_open_service_says_why_it_has_no_links(make_gallery, root) -> None:
    put(root / "a.jpg")
    said = make_gallery().app.post_json("/links", {"path": ""}, status=403).json["description"]
    assert "API_TOKEN" in said and "everybody" in said


def test_somebody_elses_file_in_the_place_of_the_links_is_not_changed(
    shared: Gallery, root
) -> None:
    make_link(shared.app)
    (whole,) = json.loads((root / "_links.json").read_text())["links"]
    parts = [{key: value for key, value in whole.items() if key != left} for left in ("query", "path", "ends", "hash")]  # fmt: skip
    parts += [{**whole, "query": None}, {**whole, "path": "a/../.."}, {**whole, "ends": "later"}]
    torn = [json.dumps({"v": 1, "links": [part]}).encode() for part in parts]  # would show more
    for text in (*torn, b'{"mine": true}', b"[1", b'{"v": 2, "links": []}', b'{"v": 1, "links": [{"hash": 3}]}'):  # fmt: skip
        put(root / "_links.json", text)
        shared.restart()
        shared.app.post_json("/links", {"path": "2024"}, headers=WRITER, status=409)
        shared.app.get("/folders?path=2024", headers={"Cookie": "lenslet_link_7070=x"}, status=503)
        page = {"Cookie": "lenslet_link_7070=x", "Accept": "text/html"}
        answer = shared.app.get("/", headers=page, status=200)
        assert (
            'data-access="none"' in answer and "Set-Cookie" not in answer.headers
        )  # it may be back
        assert (root / "_links.json").read_bytes() == text


@pytest.mark.parametrize("damage", ["empty", "blank", "torn", "folder", "symlink"])
def test_a_file_of_links_that_is_damaged_is_named_and_made_again_if_it_is_blank(
    shared: Gallery, root: pathlib.Path, damage: str
) -> None:
    headers = guest(shared.app, make_link(shared.app))
    file = root / "_links.json"
    data = {"empty": b"", "blank": bytes(4096), "torn": file.read_bytes()[:-40]}
    file.rename(root / "away.json")
    if damage == "folder":
        file.mkdir()
    elif damage == "symlink":
        file.symlink_to(root / "away.json")
    else:
        file.write_bytes(data[damage])
    lost = damage in ("empty", "blank")
    (reason,) = shared.app.get("/health", headers=WRITER).json["reasons"]
    assert reason.startswith("_links.json is blank" if lost else "_links.json is not Lenslet's own")
    for _ in range(2):
        shared.app.get("/folders?path=2024/wedding", headers=headers, status=401 if lost else 503)
        page = shared.app.get("/", headers={**headers, "Accept": "text/html"})
        assert "Set-Cookie" not in page.headers  # it may be back
    shared.app.get("/links", headers=WRITER, status=200 if lost else 409)
    shared.app.post_json("/links", {"path": "2024"}, headers=WRITER, status=201 if lost else 409)
    assert shared.app.get("/health", headers=WRITER).json["status"] == (
        "ok" if lost else "degraded"
    )


def test_who_may_only_write_among_the_photos_makes_no_links(indexed, root, tmp_path) -> None:
    """With `STATE_DIR` the file is there, and one among the photos does not count."""
    fill(root)
    gallery = indexed(API_TOKEN=FULL, STATE_DIR=str(tmp_path / "state"))
    link = make_link(gallery.app)
    stored = (tmp_path / "state/_links.json").read_bytes()
    (tmp_path / "state/_links.json").unlink()
    put(root / "_links.json", stored)
    gallery.restart()
    gallery.app.post_json("/session", {"link": secret_of(link)}, status=404)
    cookie = {"Cookie": f"lenslet_link_7070={secret_of(link)}", "Accept": "text/html"}
    assert "Set-Cookie" not in gallery.app.get("/", headers=cookie).headers
    (reason,) = gallery.app.get("/health", headers=WRITER).json["reasons"]
    assert (
        reason
        == "_links.json at the root is not read: copy it to STATE_DIR (the start line names it), or remove it"
    )


def test_links_go_along_when_the_root_cannot_be_written_any_more(serve, root) -> None:
    put(root / "a.jpg")
    server = serve(root, API_TOKEN=FULL)
    link = json.loads(server.request("POST", "/links", {"path": ""}, **WRITER)[1])
    guests = {"Authorization": f"Bearer {secret_of(link)}"}
    server.stop()
    with read_only(root):
        server = serve(root, API_TOKEN=FULL)
        assert server.get("/search?path=", **guests)[0] == 200
        server.stop()
    server = serve(root, API_TOKEN=FULL)
    assert server.get("/search?path=", **guests)[0] == 200
    assert server.request("DELETE", f"/links/{link['id']}", **WRITER)[0] == 204
    assert server.get("/search?path=", **guests)[0] == 401


def test_two_processes_lose_no_link_and_see_each_others(shared: Gallery, make_gallery) -> None:
    other = make_gallery(API_TOKEN=FULL)
    links = [make_link(app) for app in (shared.app, other.app) for _ in range(3)]
    assert len(shared.app.get("/links", headers=WRITER).json["links"]) == len(links)
    for link in links:
        for app in (shared.app, other.app):
            app.get("/folders?path=2024/wedding", headers=guest(app, link), status=200)


def test_a_messenger_shows_name_and_cover_if_the_link_says_so(shared: Gallery) -> None:
    for more, shows in (({}, False), ({"preview": True, "label": 'A "big" <day>'}, True)):
        link = make_link(shared.app, **more)
        page = shared.app.get(f"/?link={link['id']}", headers={"Accept": "*/*"})
        assert page.content_type == "text/html" and ("og:title" in page) == shows
        cover = shared.app.get(f"/links/{link['id']}/cover", status=200 if shows else 404)
        if shows:
            assert page.html.find(property="og:title")["content"] == 'A "big" <day>'
            assert page.html.find(property="og:image")["content"].endswith(f"/links/{link['id']}/cover")  # fmt: skip
            assert cover.content_type == "image/webp"
            shared.app.put_json("/folders/2024/wedding", {"cover": "in.jpg"}, headers=WRITER)
        shared.app.get("/folders?path=2024/wedding", status=401)  # the address alone opens nothing
        shared.app.delete(f"/links/{link['id']}", headers=WRITER)
        shared.app.get(f"/links/{link['id']}/cover", status=404)
    assert "og:" not in shared.app.get("/?link=none", headers={"Accept": "text/html"})


def test_a_cover_is_a_photo_that_can_be_shown_and_that_the_link_shows(
    shared: Gallery, root: pathlib.Path
) -> None:
    put(root / "2024/wedding/aaa.jpg", b"no image")
    shared.index()
    shared.settle(400)
    link = make_link(shared.app, preview=True)
    route = f"/links/{link['id']}/cover"
    before = shared.app.get(route, status=200).body
    file = root / "2024/wedding/_index.json"
    forged = file.read_bytes().rstrip().removesuffix(b"}") + b',"cover":"zebra/walrus.jpg"}\n'
    file.write_bytes(forged)
    assert shared.app.get(route, status=200).body == before
    shared.app.delete("/links/cover", status=401)


def test_a_feed_has_what_was_added_last(shared: Gallery, root) -> None:
    atom = "{http://www.w3.org/2005/Atom}"

    def names(route: str, headers: dict[str, str]) -> list[str]:
        answer = shared.app.get(route, headers=headers)
        assert answer.content_type == "application/atom+xml"
        feed = ElementTree.fromstring(answer.body)
        assert all(entry.find(f"{atom}{key}") is not None for entry in feed.iter(f"{atom}entry") for key in ("id", "updated", "link"))  # fmt: skip
        return [str(entry.findtext(f"{atom}title")) for entry in feed.iter(f"{atom}entry")]

    assert len(names("/feed", WRITER)) == 6
    headers = guest(shared.app, make_link(shared.app))
    assert sorted(names("/feed?path=2024/wedding", headers)) == ["dance.jpg", "in.jpg"]
    put(root / "2024/wedding/<late> & \u00e9.jpg", jpeg(seed=9))
    shared.index()
    shared.settle()
    assert names("/feed?path=2024/wedding&q=late", WRITER) == ["<late> & \u00e9.jpg"]
    put(root / "2024/odd\uffff.jpg", jpeg(seed=10))  # XML has no such character
    shared.index()
    shared.settle()
    assert names("/feed?path=2024&q=odd", WRITER) == ["odd\ufffd.jpg"]


# Random requests


@pytest.mark.slow
def test_ten_thousand_random_requests_with_a_link_leak_nothing(shared: Gallery) -> None:
    drawn = random.Random(20261124)
    headers = guest(shared.app, make_link(shared.app, download=True))
    names = ["2024", "wedding", "wed", "wedding2", "zebra", "walrus.jpg", "zebra.jpg", "in.jpg", "party", "..", ".", "",
             "%2e%2e", "%2F", "%5c", "%00", "_links.json", "_rollup.json", "in.jpg.json", "\u00e9", "Wedding"]  # fmt: skip
    others = ["/api/folders", "/api/search", "//folders", "/folders/", "/files/x"]
    templates = [*DESCRIPTION["paths"], *others]
    queries = ["q=zebra", "q=tag:family", "q=", "q=date:2024", "recursive=true", "exif=full", "v=1", "page=0", "limit=1000",
               "path=2024%2Fwedding", "path=", "sort=added", "order=desc", "q=-nothing", "q=path:zebra", "kind=tag"]  # fmt: skip
    for _ in range(10_000):
        path = "/".join(drawn.choices(names, k=drawn.randrange(5)))
        route = drawn.choice(templates).replace("{path}", path)
        for name, value in EXAMPLES.items():
            route = route.replace(name, value)
        more = drawn.sample(queries, drawn.randrange(4))
        drawn.shuffle(more := [*more, f"path={path}"])
        method = drawn.choices(METHODS, (20, 2, 2, 1, 1))[0]
        address = f"{route}?{'&'.join(more)}".replace("\u00e9", "%C3%A9")
        answer = ask(shared.app, method, address, **headers)
        about = (method, address, answer.status_int, answer.body[:300])
        assert answer.status_int < 500, about
        asked = urllib.parse.unquote(address)
        for word in (*OUTSIDE, "lenslet_", "our zebra"):
            assert word in asked or word.encode() not in answer.body, about
        if answer.content_type == "image/jpeg":
            assert answer.body in (position(), (shared.root / "2024/wedding/party/dance.jpg").read_bytes()), about  # fmt: skip
