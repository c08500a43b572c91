"""Every endpoint over a real library, through WSGI."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import BROKEN_JPEG, Gallery, exif, is_bucket, jpeg, put, tree
from webtest import TestApp, TestRequest

from lenslet import errors, times
from lenslet.web.answers import STATUSES, status_of

Make = Callable[..., Gallery]
TAKEOUT = b'{"title": "IMG_1.jpg", "description": "", "photoTakenTime": {"timestamp": "1"}}'


# For what depends on where files are: beside the images, in a bucket, or in a `STATE_DIR`.
everywhere = pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)


@pytest.fixture
def gallery(indexed: Make, root: pathlib.Path) -> Gallery:
    """`a.jpg` at the root, `sub/b.png`, and `sub/broken.jpg`, all indexed."""
    put(root / "a.jpg", jpeg(400, 300, exif=exif(DateTimeOriginal="2025:02:15 12:32:00")))
    put(root / "sub/b.png")
    put(root / "sub/broken.jpg", BROKEN_JPEG)
    return indexed()


@pytest.fixture
def app(gallery: Gallery) -> TestApp:
    return gallery.app


def edit(app: TestApp, body: Any, path: str = "a.jpg", status: int = 200, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return app.put(f"/item?path={path}", data, headers=headers, status=status)


def send(app: TestApp, route: str, headers: dict[str, str], method: str = "GET") -> Any:
    """The answer as it is sent: `TestApp` decompresses it."""
    return TestRequest.blank(route, headers=headers, method=method).get_response(app.app)


# Paths

OTHERS = ["link.jpg", "linked/secret.jpg", "linked", "pipe.jpg", "sub.jpg", "a.jpg/x.jpg", "etc/passwd",
          "_index.json", "a.jpg.thumbnail", "a.jpg.json", ".env.jpg", "%252e%252e/x.jpg", "%ff.jpg"]  # fmt: skip
HOSTILE = ["..", "../x.jpg", "%2e%2e/x.jpg", "a/../../x.jpg", "%00", "a%00.jpg", "a%0a.jpg", "a\\b.jpg",
           "//etc/passwd.jpg", "a//b.jpg", "x" * 256 + ".jpg", "a%7f.jpg", "./a.jpg", "%c2%85.jpg"]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", "/folders"), ("GET", "/item"), ("PUT", "/item"), ("DELETE", "/item"), ("GET", "/thumb"),
     ("POST", "/thumb"), ("DELETE", "/thumb"), ("GET", "/preview"), ("GET", "/file"), ("GET", "/search"),
     ("GET", "/zip")],
)  # fmt: skip
def test_a_hostile_path_answers_400_naming_the_parameter(app, root, method, route) -> None:
    before = tree(root)
    for path in HOSTILE:
        answer = app.request(f"{route}?path={path}", method=method, body=b"{}", status=400)
        assert answer.json["description"].startswith("path:"), path
        assert answer.headers["Cache-Control"] == "no-store", path
    assert tree(root) == before


def test_a_hostile_path_in_a_route_answers_400(app: TestApp) -> None:
    for path in ("..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd.jpg", "a%00.jpg"):
        app.get(f"/files/{path}", status=400)
        app.post(f"/folders/{path}/reindex", status=400)


@pytest.mark.parametrize("route", ["/folders", "/item", "/thumb", "/preview", "/file", "/zip"])
def test_what_is_not_of_the_library_answers_404(app, root, tmp_path, route) -> None:
    put(tmp_path / "outside/secret.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside/secret.jpg")
    (root / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "pipe.jpg")
    (root / "sub.jpg").mkdir()
    put(root / ".env.jpg")
    for path in OTHERS:
        if route not in ("/folders", "/zip") or path != "sub.jpg":
            answer = app.get(f"{route}?path={path}", status=404)
            assert str(root) not in answer.text, path
    assert set(tree(tmp_path / "outside")) == {"secret.jpg"}


ODD = ["a b.jpg", "a+b.jpg", "a#b.jpg", "a%b.jpg", "a?b&c=d.jpg", "it's \"q\".jpg", "😀.jpg", "é.jpg", "e\u0301.jpg",
       "%41.jpg", "a;b,c.jpg", "[x](y).jpg", "~$x.jpg", "a=b.jpg"]  # fmt: skip


@everywhere
def test_every_odd_character_of_a_name_is_kept(indexed: Make, root: pathlib.Path) -> None:
    for name in ODD:
        put(root / "d+ #%" / name, jpeg(60, 40, seed=len(name)))
    gallery = indexed()
    assert set(gallery.items("d+ #%")) == set(ODD)
    for name in ODD:
        path = f"d+ #%/{name}"
        query, quoted = {"path": path}, urllib.parse.quote(path)
        for route in (f"/file?path={urllib.parse.quote_plus(path)}", f"/files/{quoted}"):
            assert gallery.app.get(route).body == (root / path).read_bytes()
        assert gallery.app.get("/thumb", query).content_type == "image/webp"
        edit(gallery.app, {"notes": "n"}, quoted)
        assert (root / f"{path}.json").exists()
        assert gallery.app.get("/item", query).json["notes"] == "n"


def test_while_the_root_is_away_nothing_is_called_missing(gallery, root, tmp_path) -> None:
    """A client must not take its photos for deleted."""
    root.rename(tmp_path / "away")
    for _ in range(2):  # unreachable, and then an empty mount point
        for route in ("/thumb", "/preview", "/item", "/file", "/folders"):
            path = "sub" if route == "/folders" else "a.jpg"
            answer = gallery.app.get(route, {"path": path}, status=503)
            assert answer.headers["Retry-After"]
            assert str(tmp_path) not in answer.text
        edit(gallery.app, {"notes": "n"}, status=503)
        root.mkdir(exist_ok=True)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("suffix", [".json", ".lenslet.json"])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_in_place_of_a_sidecar_answers_409(
    app, root, tmp_path, suffix, kind
) -> None:
    place, target = root / f"a.jpg{suffix}", put(tmp_path / "t", b'{"v": 1, "tags": ["no"]}')
    {
        "folder": place.mkdir,
        "link": lambda: place.symlink_to(target),
        "pipe": lambda: os.mkfifo(place),
    }[kind]()
    app.get("/item?path=a.jpg", status=409)
    edit(app, {"tags": ["x"]}, status=409)
    assert target.read_bytes() == b'{"v": 1, "tags": ["no"]}'


@everywhere
def test_a_foreign_file_of_our_own_other_name_is_never_changed(app, root) -> None:
    put(root / "a.jpg.lenslet.json", b'{"hello": 1}')
    edit(app, {"tags": ["x"]})
    assert (root / "a.jpg.lenslet.json").read_bytes() == b'{"hello": 1}'
    assert app.get("/item?path=a.jpg").json["tags"] == ["x"]
    assert json.loads((root / "a.jpg.json").read_bytes())["tags"] == ["x"]


# Folders


@everywhere
def test_a_manifest_is_sent_as_it_is_kept(app: TestApp, root: pathlib.Path) -> None:
    answer = app.get("/folders?path=/sub/")
    assert answer.body == (root / "sub/_index.json").read_bytes()
    assert answer.json["path"] == "sub/"
    assert app.get("/folders").json["path"] == ""
    item = app.get("/folders").json["items"][0]
    when = ["modifiedAt"] if is_bucket(root) else []
    assert list(item) == ["path", "name", "type", "w", "h", "size", "hasThumb", "hasMeta", "hash",
                          "createdAt", "takenAt", "facts", "thumb", "rev", *when, "addedAt"]  # fmt: skip
    assert item["createdAt"] == "2025-02-15T12:32:00Z"


def test_a_manifest_that_the_client_has_is_not_sent_again(app: TestApp) -> None:
    tag = app.get("/folders").headers["ETag"]
    for header in (tag, f'"other", W/{tag}', "*"):
        answer = app.get("/folders", headers={"If-None-Match": header}, status=304)
        assert (answer.body, answer.headers["ETag"]) == (b"", tag)
    app.get("/folders", headers={"If-None-Match": '"other"'}, status=200)


@pytest.mark.parametrize(
    ("accepted", "packs"),
    [("gzip, deflate, br", True), ("br;q=1.0, gzip;q=0.8", True), ("gzip;q=0, br", False), ("identity", False), ("", False)],
)  # fmt: skip
def test_what_is_long_is_compressed_for_those_who_accept_it(indexed, root, accepted, packs) -> None:
    for number in range(10):
        put(root / f"photo{number}.jpg")
    app = indexed().app
    edit(app, {"notes": "a note " * 200}, path="photo1.jpg")
    headers = {"Accept-Encoding": accepted}
    for route in ("/folders", "/search?q=photo", "/item?path=photo1.jpg"):
        plain, answer = app.get(route), send(app, route, headers)
        body = gzip.decompress(answer.body) if packs else answer.body
        assert (body, answer.content_encoding) == (plain.body, "gzip" if packs else None)
        assert {plain.headers["Vary"], answer.headers["Vary"]} == {"Accept-Encoding"}
        assert send(app, route, headers, "HEAD").content_length == len(answer.body)
        for tag in filter(None, (plain.headers.get("ETag"), answer.headers.get("ETag"))):
            known = send(app, route, {**headers, "If-None-Match": tag})
            assert (known.status_code, known.headers["ETag"]) == (304, answer.headers["ETag"])
            assert "Content-Encoding" not in known.headers
    for status in (200, 412):  # the last was an item
        edit(app, {"notes": "n"}, "photo1.jpg", status, **{"If-Match": answer.headers["ETag"]})
    short = send(app, "/health/live", headers)
    assert "Vary" not in short.headers
    assert short.content_encoding is None


def test_a_manifest_that_nobody_builds_answers_202_and_where_to_ask(make_gallery, root) -> None:
    put(root / "deep/a.jpg")
    gallery = make_gallery()
    answer = gallery.app.get("/folders?path=deep", status=202)
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["status"] == "pending"
    assert answer.headers["Location"].endswith(answer.json["poll"])
    gallery.index()
    gallery.app.get(answer.json["poll"], status=200)


@everywhere
def test_a_torn_manifest_counts_as_missing_and_is_made_again(gallery, root) -> None:
    whole = (root / "sub/_index.json").read_bytes()
    for torn in (whole[:-40], b"\0" * 100, b""):
        (root / "sub/_index.json").write_bytes(torn)
        gallery.app.get("/folders?path=sub", status=202)
        gallery.settle()
        assert gallery.app.get("/folders?path=sub", status=200).json["items"]


def test_reindexing_answers_where_to_poll(gallery: Gallery, root: pathlib.Path) -> None:
    put(root / "sub/deep/new.jpg")
    answer = gallery.app.post("/folders/sub/reindex?recursive=true", status=202)
    assert answer.json["poll"] == "/folders?path=sub"
    gallery.settle()
    assert gallery.items("sub/deep")["new.jpg"]["hasThumb"]
    gallery.app.post("/folders/nope/reindex", status=404)
    gallery.app.post("/folders/sub", status=404)
    gallery.app.post("/folders/sub/reindex?recursive=perhaps", status=400)


# Thumbnails


@everywhere
def test_a_thumbnail_is_sent_with_its_tag_and_for_ever_when_named_by_what_it_is(
    gallery, app
) -> None:
    answer = app.get("/thumb?path=a.jpg")
    assert (answer.content_type, answer.headers["Cache-Control"]) == ("image/webp", "no-cache")
    item = gallery.items()["a.jpg"]
    cached = app.get("/thumb", {"path": "a.jpg", "v": item["thumb"]})
    assert cached.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    for other in ("old", item["rev"], item["thumb"][:11], f"-{item['thumb']}"):
        answer = app.get("/thumb", {"path": "a.jpg", "v": other})
        assert answer.headers["Cache-Control"] == "no-cache"
    app.get("/thumb?path=a.jpg", headers={"If-None-Match": answer.headers["ETag"]}, status=304)
    head = app.head("/thumb?path=a.jpg")
    assert head.headers["Content-Length"] == str(len(answer.body))
    assert head.headers["ETag"] == answer.headers["ETag"]


def test_a_missing_thumbnail_is_made_while_the_client_waits(make_gallery, root) -> None:
    put(root / "a.jpg")
    os.utime(root / "a.jpg", (1, 1))
    gallery = make_gallery(THUMB_WAIT="20")
    with gallery.running():
        assert gallery.app.get("/thumb?path=a.jpg", status=200).body[:4] == b"RIFF"
        gallery.app.delete("/thumb?path=a.jpg", status=204)
        assert gallery.app.post("/thumb?path=a.jpg", status=200).json["status"] == "ready"
        before = (root / "a.jpg.thumbnail").stat().st_ctime_ns
        assert gallery.app.post("/thumb?path=a.jpg&force=1", status=200)
    assert (root / "a.jpg.thumbnail").stat().st_ctime_ns > before


def test_a_thumbnail_that_takes_longer_answers_202(make_gallery, root) -> None:
    put(root / "é.jpg")
    gallery = make_gallery()
    answer = gallery.app.get("/thumb", {"path": "é.jpg"}, status=202)
    asked = {"path": "é.jpg", "poll": "/thumb?path=%C3%A9.jpg"}
    assert answer.json == {"status": "pending", "retryAfter": 1, **asked}
    assert answer.headers["Retry-After"] == "1"
    gallery.settle()
    gallery.app.get(answer.json["poll"], status=200)


@pytest.mark.parametrize("change", ["another image", "torn"])
def test_a_thumbnail_that_is_torn_or_of_another_image_counts_as_missing(
    gallery, root, change
) -> None:
    file = root / "a.jpg.thumbnail"
    stat, whole = file.stat(), file.read_bytes()
    if change == "torn":
        file.write_bytes(whole[:-10])
        os.utime(file, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    else:
        (root / "a.jpg").write_bytes(jpeg(30, 20))
    gallery.app.get("/thumb?path=a.jpg", status=202)
    gallery.settle()
    made = gallery.app.get("/thumb?path=a.jpg", status=200).body
    assert (made == whole) == (change == "torn")


def test_an_image_that_cannot_be_decoded_answers_422_with_the_reason(app: TestApp) -> None:
    answer = app.get("/thumb?path=sub/broken.jpg", status=422)
    assert "cannot be decoded" in answer.json["description"]
    assert answer.headers["Cache-Control"] == "no-store"


@everywhere
def test_a_thumbnail_can_be_removed_once(gallery: Gallery) -> None:
    gallery.app.delete("/thumb?path=a.jpg", status=204)
    gallery.app.delete("/thumb?path=a.jpg", status=404)
    gallery.index()
    gallery.app.get("/thumb?path=a.jpg", status=200)


# Items


@everywhere
def test_an_item_without_a_sidecar_has_empty_tags_and_the_images_time(app, root) -> None:
    answer = app.get("/item?path=a.jpg")
    dates = {"createdAt": "2025-02-15T12:32:00Z", "takenAt": "2025-02-15T12:32:00"}
    assert answer.json["exif"] == {"width": 400, "height": 300, **dates}
    assert (answer.json["tags"], answer.json["notes"], answer.json["updatedBy"]) == ([], "", "")
    assert answer.json["updatedAt"] == times.of_ns((root / "a.jpg").stat().st_mtime_ns)
    assert answer.headers["ETag"].startswith('"0.')


@everywhere
def test_an_edit_creates_a_sidecar_that_people_can_read_and_diff(app, root) -> None:
    answer = edit(app, {"tags": ["b", "a"], "notes": "Zoë", "updatedBy": "u", "mine": {"x": [1]}})
    text = (root / "a.jpg.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert text == json.dumps(stored, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert {
        key: value for key, value in stored.items() if key not in ("exif", "hash", "updatedAt")
    } == {"v": 1, "tags": ["b", "a"], "notes": "Zoë", "updatedBy": "u", "mine": {"x": [1]}}
    assert stored["exif"]["width"] == 400
    assert stored["hash"].startswith("blake3:")
    assert answer.json == stored
    got = app.get("/item?path=a.jpg")
    assert (got.json, got.headers["ETag"]) == (stored, answer.headers["ETag"])
    app.get("/item?path=a.jpg", headers={"If-None-Match": answer.headers["ETag"]}, status=304)


def test_the_name_beside_a_time_is_that_of_who_edited_then(app, root) -> None:
    """An edit that names nobody does not leave the former user's name beside its own time."""
    mine = {"tags": ["x"], "updatedAt": "2024-01-01T00:00:00Z", "updatedBy": "me"}
    before = edit(app, mine).json
    older = edit(app, {"tags": ["old"], "updatedAt": "2023-01-01T00:00:00Z"}).json
    assert older == {**before, "tags": ["x", "old"]}
    written = (root / "a.jpg.json").stat().st_mtime_ns
    for add, by in (["x"], "me"), (["y"], ""):  # a tag that is there already is no edit
        app.post_json("/items/tags", {"paths": ["a.jpg"], "add": add}, status=200)
        assert app.get("/item?path=a.jpg").json["updatedBy"] == by
        assert ((root / "a.jpg.json").stat().st_mtime_ns == written) == (by == "me")


def test_an_older_sidecar_is_read_and_its_names_become_todays(app, root) -> None:
    """Keys that Lenslet does not know are kept."""
    old = {"v": 1, "tags": ["t"], "updated_at": "2020-01-01T00:00:00Z", "updated_by": "w",
           "exif": {"created_at": "2019-01-01T00:00:00Z", "camera": "Nikon"}, "keep": 1}  # fmt: skip
    put(root / "a.jpg.json", json.dumps(old).encode())
    shown = app.get("/item?path=a.jpg").json
    assert (shown["updatedAt"], shown["updatedBy"]) == ("2020-01-01T00:00:00Z", "w")
    whole = edit(app, {"notes": "n"}).json
    stored = json.loads((root / "a.jpg.json").read_text())
    assert stored["keep"] == 1
    assert (stored["exif"]["width"], stored["exif"]["camera"]) == (400, "Nikon")
    assert not {"updated_at", "updated_by", "created_at"} & (stored.keys() | stored["exif"].keys())
    again = edit(app, {**whole, "exif": {"width": 1}, "hash": "blake3:no"}).json  # sent back whole
    assert (again["exif"], again["hash"]) == (whole["exif"], whole["hash"])


def test_the_mode_of_a_sidecar_is_kept(app: TestApp, root: pathlib.Path) -> None:
    edit(app, {"notes": "1"})
    (root / "a.jpg.json").chmod(0o640)
    edit(app, {"notes": "2"})
    assert (root / "a.jpg.json").stat().st_mode & 0o777 == 0o640


BAD_BODIES = [
        (b"", 400, "body"), (b"{", 400, "body"), (b"\xff", 400, "body"), (b'{"a": NaN}', 400, "body"),
        (b'{"a": 1e999}', 400, "body"), (b'{"a": "\\ud800"}', 400, "body"),
        (b"[" * 100_000, 400, "body"), (b"[]", 422, "body"), (b'"x"', 422, "body"),
        ({"v": 2}, 422, "v"), ({"v": True}, 422, "v"), ({"v": "1"}, 422, "v"),
        ({"tags": "x"}, 422, "tags"), ({"tags": [1]}, 422, "tags"), ({"tags": None}, 422, "tags"),
        ({"tags": [""]}, 422, "tags"), ({"tags": ["x" * 201]}, 422, "tags"), ({"tags": ["a\nb"]}, 422, "tags"),
        ({"tags": [str(n) for n in range(501)]}, 422, "tags"), ({"notes": 1}, 422, "notes"),
        ({"notes": "x" * 65537}, 422, "notes"), ({"updatedBy": 1}, 422, "updatedBy"),
        ({"updatedAt": "yesterday"}, 422, "updatedAt"), ({"updatedAt": 1}, 422, "updatedAt"),
        ({"updatedAt": "2999-01-01T00:00:00Z"}, 422, "updatedAt"), ({"x": "y" * 300_000}, 413, ""),
]  # fmt: skip


def test_a_bad_body_is_refused_naming_the_field(app, root) -> None:
    for body, status, field in BAD_BODIES:
        answer = edit(app, body, status=status)
        assert answer.json["description"].startswith(field), body
    assert not (root / "a.jpg.json").exists()


def test_tags_and_notes_of_the_full_size_are_taken(app: TestApp) -> None:
    body = {"tags": [f"{n:03d}" + "x" * 197 for n in range(500)], "notes": "é" * 32768}
    edit(app, json.dumps(body, ensure_ascii=False).encode())


def test_the_last_writer_wins_and_an_older_one_only_adds_its_tags(app: TestApp) -> None:
    """What an edit does not name stays."""
    first = {"tags": ["a"], "notes": "new", "big": 2**60, "updatedAt": "2024-05-01T00:00:00Z"}
    edit(app, first)
    edit(app, {"tags": ["b"], "notes": "old", "updatedAt": "2024-04-01T00:00:00Z", "key": 1})
    document = app.get("/item?path=a.jpg").json
    assert (document["tags"], document["notes"]) == (["a", "b"], "new")
    assert document["updatedAt"] == "2024-05-01T00:00:00Z"
    assert "key" not in document
    edit(app, {"tags": ["c"], "updatedAt": "2024-05-01T02:00:00+02:00"})
    document = app.get("/item?path=a.jpg").json
    assert (document["tags"], document["notes"], document["big"]) == (["c"], "new", 2**60)
    many = [str(n) for n in range(500)]
    edit(app, {"tags": many, "updatedAt": "2024-04-01T00:00:00Z"}, status=422)


def test_an_edit_with_a_slow_clock_wins_if_its_client_has_seen_what_is_stored(app) -> None:
    edit(app, {"tags": ["a"], "notes": "new", "updatedAt": "2024-05-01T00:00:00Z"})
    seen = app.get("/item?path=a.jpg").headers["ETag"]
    slow = {"tags": ["b"], "notes": "newer", "updatedAt": "2024-04-01T00:00:00Z", "key": 1}
    document = edit(app, slow, **{"If-Match": seen}).json
    assert (document["tags"], document["notes"], document["key"]) == (["b"], "newer", 1)
    assert document["updatedAt"] == "2024-05-01T00:00:00Z"  # times never go back
    edit(app, {"notes": "late", "updatedAt": "2024-04-01T00:00:00Z"}, **{"If-Match": "*"})
    assert app.get("/item?path=a.jpg").json["notes"] == "newer"


@everywhere
def test_preconditions_compare_the_sidecar_alone(app, gallery, root) -> None:
    first = app.get("/item?path=a.jpg").headers["ETag"]
    created = edit(app, {"notes": "1"}, **{"If-Match": first}).headers["ETag"]
    stale = edit(app, {"notes": "2"}, status=412, **{"If-Match": first})
    assert stale.json["notes"] == "1"
    assert stale.json["title"] == "412 Precondition Failed"
    edit(app, {"notes": "2"}, status=412, **{"If-None-Match": "*"})
    (root / "a.jpg").write_bytes(jpeg(50, 40))  # the rest of the tag changes, the sidecar does not
    gallery.ask()
    assert app.get("/item?path=a.jpg").headers["ETag"] != created
    edit(app, {"notes": "3"}, **{"If-Match": created})
    app.delete("/item?path=a.jpg", headers={"If-Match": created}, status=412)
    app.delete("/item?path=a.jpg", headers={"If-Match": "*"}, status=204)
    edit(app, {"notes": "4"}, status=412, **{"If-Match": "*"})
    edit(app, {"notes": "4"}, **{"If-None-Match": "*"})


def test_preconditions_go_by_every_form_of_tag(app, root) -> None:
    """Lists, `*`, and weak tags, as a proxy that compresses makes them; only one part counts."""
    edit(app, {"notes": "1"})
    for header, value, status in (
        ("If-Match", '"t", "PART.q"', 200), ("If-Match", 'W/"PART.x"', 200), ("If-Match", "*", 200),
        ("If-Match", 'W/"t.x"', 412), ("If-None-Match", 'W/"PART.x"', 412),
        ("If-Match", "abc, def", 412), ("If-Match", ",", 412), ("If-Match", '"*"', 412),
        ("If-Match", '"0.x"', 412), ("If-None-Match", '"PART.x"', 412), ("If-None-Match", '"t.x"', 200),
    ):  # fmt: skip
        part = app.get("/item?path=a.jpg").headers["ETag"].strip('"').partition(".")[0]
        edit(app, {}, status=status, **{header: value.replace("PART", part)})
    app.delete("/item?path=a.jpg")
    edit(app, {"notes": "2"}, status=412, **{"If-Match": "*"})
    edit(app, {"notes": "2"}, **{"If-Match": '"0.x"'})


@everywhere
def test_a_sidecar_is_removed_only_by_its_users_request(app, gallery, root) -> None:
    app.delete("/item?path=a.jpg", status=404)
    edit(app, {"tags": ["x"]})
    photo = (root / "a.jpg").read_bytes()
    (root / "a.jpg").unlink()
    gallery.index()
    assert (root / "a.jpg.json").exists()
    report = gallery.app.get("/health").json
    found = report["library"]["problems"]["orphanSidecars"]
    assert [p["path"] for p in found] == ["a.jpg.json"]
    advice = {problem["kind"]: problem["advice"] for problem in report["problems"]}
    assert (report["reasons"], "delete its .json" in advice["orphanSidecars"]) == ([], True)
    here = "'STATE_DIR=… lenslet check'" in advice["orphanSidecars"]
    assert here == bool(gallery.settings.state_dir)
    app.get("/item?path=a.jpg", status=404)
    put(root / "a.jpg", photo)
    assert app.get("/item?path=a.jpg").json["tags"] == ["x"]
    app.delete("/item?path=a.jpg", status=204)
    assert not (root / "a.jpg.json").exists()


@everywhere
def test_a_takeout_file_is_never_changed(app, gallery, root) -> None:
    put(root / "a.jpg.json", TAKEOUT)
    gallery.index()
    assert app.get("/item?path=a.jpg").json["tags"] == []
    edit(app, {"tags": ["x"]})
    edit(app, {"notes": "n"})
    assert (root / "a.jpg.json").read_bytes() == TAKEOUT
    assert json.loads((root / "a.jpg.lenslet.json").read_text())["tags"] == ["x"]
    gallery.index()
    assert gallery.items()["a.jpg"]["hasMeta"] is True
    app.delete("/item?path=a.jpg", status=204)
    assert (root / "a.jpg.json").read_bytes() == TAKEOUT
    assert gallery.app.get("/health").json["library"]["counts"]["foreignJson"] == 1


UNREADABLE = [b"{", b"", b'{"v": 2, "tags": []}', b'{"v": 1, "tags": "x"}', b'{"v": 1, "tags": [], "x": NaN}']  # fmt: skip


@everywhere
def test_a_sidecar_that_cannot_be_understood_is_left_alone(app, gallery, root) -> None:
    images = [f"u{number}.jpg" for number in range(len(UNREADABLE))]
    for image, content in zip(images, UNREADABLE, strict=True):
        put(root / image)
        put(root / f"{image}.json", content)
    gallery.index()
    for image, content in zip(images, UNREADABLE, strict=True):
        assert f"{image}.json" in app.get(f"/item?path={image}", status=409).json["description"]
        edit(app, {"tags": ["x"]}, image, status=409)
        app.delete(f"/item?path={image}", status=409)
        assert (root / f"{image}.json").read_bytes() == content
        assert not (root / f"{image}.lenslet.json").exists()
    library = gallery.app.get("/health").json["library"]
    assert [p["path"] for p in library["problems"]["unreadableSidecars"]] == images


def test_writers_at_once_lose_nothing_that_was_answered(gallery: Gallery) -> None:
    """Eight threads add their tags with an older time, which only adds."""
    edit(gallery.app, {"updatedAt": "2024-01-01T00:00:00Z"})

    def write(tag: str) -> None:
        edit(gallery.app, {"tags": [tag], "updatedAt": "2023-01-01T00:00:00Z"})

    tags = [f"tag{number}" for number in range(96)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write, tags))
    assert sorted(gallery.app.get("/item?path=a.jpg").json["tags"]) == sorted(tags)


# Names in both forms of Unicode


@everywhere
@pytest.mark.parametrize(("written", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_path_is_found_in_the_other_form_of_unicode(indexed, root, written, asked) -> None:
    path, other = (unicodedata.normalize(form, "été/Ångström.jpg") for form in (written, asked))
    put(root / path)
    gallery = indexed()
    app, quoted = gallery.app, urllib.parse.quote(other)
    folder, name = other.split("/")
    for route in ("item", "thumb", "preview", "file"):
        app.get(f"/{route}?path={quoted}", status=[200, 202])
    app.get(f"/files/{quoted}", status=200)
    assert app.put_json(f"/item?path={quoted}", {"tags": ["sea"]}).json["tags"] == ["sea"]
    tagged = app.post_json("/items/tags", {"paths": [other], "add": ["sun"]}).json["results"]
    assert tagged[0]["tags"] == ["sea", "sun"]
    cover = app.put_json(f"/folders/{urllib.parse.quote(folder)}", {"cover": name}).json["cover"]
    assert f"/{cover}" == path[-len(cover) - 1 :]
    gallery.index()
    assert gallery.items(folder)[path.rpartition("/")[2]]["tags"] == ["sea", "sun"]
    assert gallery.found("", path=folder) == gallery.found("sun", path=folder) == [path]
    app.get("/zip", {"path": folder}, status=200)
    app.post_json("/zip", {"paths": [other]}, status=200)
    app.get(f"/feed?path={urllib.parse.quote(folder)}", status=200)
    app.post(f"/folders/{urllib.parse.quote(folder)}/reindex", status=202)
    app.delete(f"/item?path={quoted}", status=204)
    app.delete(f"/thumb?path={quoted}", status=204)


def test_of_two_forms_of_a_name_the_exact_one_is_sent(indexed: Make, root) -> None:
    forms = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    for seed, name in enumerate(forms):
        put(root / name, jpeg(seed=seed))
    app = indexed().app
    for name in forms:
        assert app.get("/file", {"path": name}).body == (root / name).read_bytes()


# Originals


@everywhere
def test_an_original_is_sent_whole_or_in_part(app, root) -> None:
    data = (root / "a.jpg").read_bytes()
    for route in ("/file?path=a.jpg", "/files/a.jpg", "/files/a.jpg/"):
        whole = app.get(route, status=200)
        assert (whole.body, whole.content_type) == (data, "image/jpeg")
        assert whole.headers["Accept-Ranges"] == "bytes"
        part = app.get(route, headers={"Range": "bytes=10-19"}, status=206)
        assert part.body == data[10:20]
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
        app.get(route, headers={"Range": "bytes=999999-"}, status=416)
        head = app.head(route)
        assert (head.headers["Content-Length"], head.body) == (str(len(data)), b"")
        tag = whole.headers["ETag"]
        app.get(route, headers={"If-None-Match": tag}, status=304)
        ranged = {"Range": "bytes=0-1"}
        assert app.get(route, headers={**ranged, "If-Range": tag}, status=206)
        assert app.get(route, headers={**ranged, "If-Range": '"other"'}, status=200).body == data


@pytest.mark.parametrize(
    ("header", "fits", "fails"),
    [
        ("If-Modified-Since", 304, 200),
        ("If-Unmodified-Since", 200, 412),
    ],
)
def test_an_original_is_asked_for_by_its_date(make_app, root, header, fits, fails) -> None:
    """In each form of RFC 9110, 5.6.7. A later date fits too; what is no date does not count."""
    app = make_app()
    os.utime(root / "a.jpg", (784111777.9,) * 2)

    def status(date: str, **more: str) -> int:
        headers = {header: date, **{key.replace("_", "-"): tag for key, tag in more.items()}}
        return int(app.get("/file?path=a.jpg", headers=headers, status="*").status_int)

    for date in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                 "Sun Nov  6 08:49:37 1994", "Tue, 01 Jan 2036 00:00:00 GMT"):  # fmt: skip
        assert status(date) == fits
    assert status("Sun, 06 Nov 1994 08:49:36 GMT") == fails
    assert status("yesterday") == 200
    date, tag = "Sun, 06 Nov 1994 08:49:36 GMT", app.get("/file?path=a.jpg").headers["ETag"]
    assert status(date, If_None_Match=tag) == (412 if fails == 412 else 304)
    assert status(date, If_Match=tag) == 200


@everywhere
def test_if_match_sends_the_version_that_a_client_knows_and_no_other(app, root) -> None:
    tag = app.get("/file?path=a.jpg").headers["ETag"]
    for known in (tag, f'"x", {tag}', "*"):
        headers = {"If-Match": known, "Range": "bytes=0-1"}
        app.get("/file?path=a.jpg", headers=headers, status=206)
    for other in ('"x"', f"W/{tag}"):
        app.get("/files/a.jpg", headers={"If-Match": other}, status=412)


RANGES = [("bytes=0-0", 0, 0), ("bytes=0-", 0, -1), ("bytes=-3", -3, -1), ("bytes=4-999999", 4, -1),
          ("bytes=-999999", 0, -1)]  # fmt: skip
NO_RANGES = ["bytes=0-1,3-4", "items=0-1", "bytes=-", "bytes=x-1", "bytes=5-2", "bytes", "",
             "bytes=--1", "bytes=-0", f"bytes={'9' * 5000}-"]  # fmt: skip


def test_a_single_range_is_understood_and_others_are_passed_over(app, root) -> None:
    data = (root / "a.jpg").read_bytes()
    for header, first, last in RANGES:
        first, last = first % len(data), last % len(data)
        part = app.get("/file?path=a.jpg", headers={"Range": header}, status=206)
        assert part.body == data[first : last + 1], header
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    for header in NO_RANGES:
        headers = {"Range": header.encode().decode("latin-1")}
        assert app.get("/file?path=a.jpg", headers=headers, status=200).body == data, header


@everywhere
def test_a_range_beyond_the_end_is_refused_and_an_empty_file_is_sent_whole(gallery, root) -> None:
    put(root / "empty.jpg", b"")
    gallery.index()
    size = len((root / "a.jpg").read_bytes())
    for header in (f"bytes={size}-", f"bytes={size}-{size + 5}"):
        answer = gallery.app.get("/file?path=a.jpg", headers={"Range": header}, status=416)
        assert answer.headers["Content-Range"] == f"bytes */{size}", header
    for header in ("bytes=-1", "bytes=-999", "bytes=0-", "bytes=0-1,2-3", "bytes=5-2"):
        answer = gallery.app.get("/file?path=empty.jpg", headers={"Range": header}, status=200)
        assert (answer.body, answer.headers.get("Content-Range")) == (b"", None)


# Search


def test_every_term_must_match_somewhere_whatever_the_case_and_accents(gallery, root) -> None:
    put(root / "Été à Paris/Tour.jpg")
    put(root / "Été à Paris/Seine.png")
    gallery.index()
    tour, seine = "Été à Paris/Tour.jpg", "Été à Paris/Seine.png"
    body = {"tags": ["Night Sky", "CAFÉ"], "notes": "two words\nStraße"}
    edit(gallery.app, body, urllib.parse.quote(tour))
    gallery.settle()
    for query, wanted in {
        "tour": [tour], "ete PARIS": [seine, tour], "our": [tour], "cafe": [tour], "STRASSE": [tour],
        '"two words"': [tour], '"words two"': [], "words two": [tour], "words strasse": [tour],
        "tag:cafe": [tour], "tag:caf": [], 'tag:"night sky"': [tour], "tag:night": [],
        "name:tour": [tour], "name:paris": [], "path:paris": [seine, tour], "notes:straße": [tour],
        "notes:tour": [], "paris -tour": [seine], "paris -tag:café": [seine], "-paris": ["a.jpg", "sub/b.png", "sub/broken.jpg"],
        "": [], "nothing": [], '""': [], "  ": [], "1": [],
        'tag:""': [], "é": gallery.found("e"),
    }.items():  # fmt: skip
        assert sorted(gallery.found(query)) == sorted(wanted), query


def test_search_below_a_folder_and_in_pages(indexed: Make, root: pathlib.Path) -> None:
    paths = [*(f"s/n{number}.jpg" for number in range(12)), "s/t/y.jpg"]
    for path in (*paths, "s2/x.jpg"):
        put(root / path, jpeg(8, 6))
    gallery = indexed()
    for _ in range(2):  # once from the delta, once from the rollup
        assert gallery.found("jpg", path="s/t") == ["s/t/y.jpg"]
        assert gallery.found("jpg", path="s2") == ["s2/x.jpg"]
        pages = (gallery.found("jpg", path="s", limit=5, offset=start) for start in (0, 5, 10, 15))
        assert [path for page in pages for path in page] == paths
        answer = gallery.app.get("/search?q=jpg&limit=1").json
        assert (answer["total"], answer["more"], len(answer["items"])) == (14, False, 1)
        gallery.settle(400)
    keys = "path name type w h size rev tags notes addedAt thumb"
    assert list(answer["items"][0]) == keys.split()


def test_more_than_a_thousand_hits_are_not_counted(indexed: Make, root: pathlib.Path) -> None:
    data = jpeg(4, 3)
    for number in range(1003):
        put(root / f"n{number}.jpg", data)
    gallery = indexed()
    answer = gallery.app.get("/search?q=jpg&limit=3").json
    assert (answer["total"], answer["more"]) == (1000, True)
    assert gallery.found("jpg", limit=10, offset=1000) == [f"n{n}.jpg" for n in (1000, 1001, 1002)]


BAD_PARAMETERS = [
    ("/folders", "page", ["-1", "x", "1.0", "", "99999999999999"]),
    ("/search?q=x", "limit", ["0", "1001", "0000000000059999", "x"]),
    ("/search?q=x", "offset", ["-1", "x"]),
    ("/search?q=x", "sort", ["size"]),
    ("/search?q=x", "order", ["up"]),
    ("/search/facets?q=x", "limit", ["0", "1001"]),
    ("/search", "q", ["x" * 1001, "date:x", "date:24", "date:2024-7", "date:..", "date:2024...",
                      "date:..x", "date:2024-07-01T10", "date:2024-13", "date:2024-02-32"]),
    ("/item?path=a.jpg", "exif", ["some"]),
]  # fmt: skip


def test_a_bad_parameter_answers_400_naming_it(app: TestApp) -> None:
    for route, name, values in BAD_PARAMETERS:
        for value in values:
            said = app.get(route, {name: value}, status=400).json["description"]
            assert said.startswith(f"{name}:") or f'"{name}"' in said, (name, value)


def test_suggestions_are_tags_and_then_words_most_frequent_first(gallery, root) -> None:
    for number, tags in enumerate((["Sunset"], ["Sunset", "Sunday"], ["sunny"])):
        put(root / f"sun_{number}.jpg")
        edit(gallery.app, {"tags": tags}, f"sun_{number}.jpg")

    def suggested(more: str = "") -> list[tuple[str, int, str]]:
        found = gallery.app.get(f"/search/suggest?q=SUN{more}").json["suggestions"]
        return [(each["text"], each["count"], each["kind"]) for each in found]

    wanted = [("Sunset", 2, "tag"), ("Sunday", 1, "tag"), ("sunny", 1, "tag"), ("sun", 3, "name")]
    for _ in range(2):  # once from the delta, once from the rollup
        gallery.index()
        assert suggested() == wanted
        gallery.settle(400)
    assert suggested("&limit=1") == wanted[:1]
    edit(gallery.app, {"tags": ["other"]}, "sun_0.jpg")
    gallery.settle()
    assert ("Sunset", 1, "tag") in suggested()


def test_tags_are_counted_in_what_a_search_shows(gallery, root) -> None:
    """Without case and accents, as search does; each as most photos have it."""
    for name, tags in {
        "a": ["Sea", "Łódź"],
        "b": ["Sea"],
        "x/c": ["sea", "Dog"],
        "x/d": ["Dog"],
    }.items():
        put(root / f"{name}.jpg")
        edit(gallery.app, {"tags": tags}, f"{name}.jpg")

    def counts(**asked: str) -> list[tuple[str, int]]:
        found = gallery.app.get("/search/facets", asked, status=200).json["facets"]
        assert {each["kind"] for each in found} <= {"tag"}
        return [(each["text"], each["count"]) for each in found]

    for _ in range(2):  # once from the delta, once from the rollup
        gallery.index()
        assert counts() == [("Sea", 3), ("Dog", 2), ("Łódź", 1)]
        assert counts(path="x") == [("Dog", 2), ("Sea", 1)]
        assert counts(q="tag:SEA") == [("Sea", 3), ("Dog", 1), ("Łódź", 1)]
        assert counts(q="sea -tag:lodz", path="/", limit="1") == [("Sea", 2)]
        assert counts(q="none") == counts(path="sub") == []
        gallery.settle(400)


STROKES, QUOTES = "Łódź Ærø København Đà Nẵng Straße.jpg", "Þór’s 12” dœuvre Sığınak 1–2 a‑b.jpg"
# fmt: off
PLAIN = {
    "lodz": STROKES, "aero": STROKES, "KOBENHAVN": STROKES, '"da nang"': STROKES, "strasse": STROKES,
    "Łódź": STROKES, "tag:smorrebrod": STROKES, "thor's": QUOTES, "þór’s": QUOTES, '12"': QUOTES,
    "oeuvre": QUOTES, "siginak": QUOTES, "1-2": QUOTES, "1–2": QUOTES, "a-b": QUOTES,
}
# fmt: on


def test_words_are_found_as_people_type_them(indexed: Make, root) -> None:
    for name in (STROKES, QUOTES):
        put(root / name)
    gallery = indexed()
    gallery.app.put_json("/item?path=" + urllib.parse.quote(STROKES), {"tags": ["Smørrebrød"]})
    gallery.index()
    assert {query: gallery.found(query) for query in PLAIN} == {q: [n] for q, n in PLAIN.items()}
    suggested = gallery.app.get("/search/suggest?q=smorreb").json["suggestions"]
    assert [each["text"] for each in suggested] == ["Smørrebrød"]


def test_a_search_says_what_it_understood_and_which_line_has_it(indexed: Make, root) -> None:
    """The page shows both, and has no grammar of its own."""
    for name in ("a.jpg", "b.jpg"):
        put(root / name)
    gallery = indexed()
    edit(gallery.app, {"notes": "At sea.\nNear Łódź’s harbour.", "tags": ["two words"]})
    gallery.index()
    query = 'lodz\'s -nope Tag:"two words" date:..9999 lodz’s foo:x ""'
    both = {"q": query.replace("foo:x", "").replace("date:..9999", "")}
    found = gallery.app.get("/search", both).json
    assert found["matches"] == {"a.jpg": "Near Łódź’s harbour."}
    for words in ("notes:sea", "-lodz sea", '"lodz\'s harbour"', "a.jpg", "tag:two", "-sea"):
        matches = gallery.app.get("/search", {"q": words}).json["matches"]
        assert list(matches) == (["a.jpg"] if words in ("notes:sea", '"lodz\'s harbour"') else [])
    for route in ("/search", "/timeline"):
        terms = gallery.app.get(route, {"q": query}).json["terms"]
        assert [tuple(each.values()) for each in terms] == [
            ("lodz's", "", "lodz's", False), ("-nope", "", "nope", True),
            ('Tag:"two words"', "tag", "two words", False), ("date:..9999", "date", "..9999", False),
            ("lodz’s", "", "lodz’s", False), ("foo:x", "", "foo:x", False),
        ]  # fmt: skip


@everywhere
def test_the_search_index_can_be_rebuilt(gallery: Gallery, root: pathlib.Path) -> None:
    generation = json.loads((root / "_rollup.json").read_text())["id"]
    answer = gallery.app.post("/search/rebuild-index", status=202)
    assert answer.json["poll"] == "/health"
    gallery.settle()
    rollup = json.loads((root / "_rollup.json").read_text())
    assert rollup["id"] != generation
    assert [item["path"] for item in rollup["items"]] == ["a.jpg", "sub/b.png", "sub/broken.jpg"]


# Health and the rest


@everywhere
def test_health_is_ok_with_an_index_process_and_degraded_without(make_gallery, root) -> None:
    put(root / "a.jpg")
    gallery = make_gallery()
    before = gallery.app.get("/health", status=200).json
    assert (before["status"], before["reasons"]) == ("degraded", ["no index process"])
    gallery.index()
    after = gallery.app.get("/health", status=200).json
    assert (after["status"], after["reasons"]) == ("ok", [])
    assert after["backend"] == ("s3" if is_bucket(root) else "local")
    assert after["library"]["counts"]["items"] == 1
    assert gallery.app.get("/health/live").json == {"status": "ok"}
    assert gallery.app.get("/health/workers").json["alive"] is True
    assert gallery.app.get("/health/storage").json["readable"] is True
    gallery.app.get("/health/other", status=404)


def test_every_route_is_also_under_api_and_under_a_sub_path(app: TestApp, root) -> None:
    assert app.get("/api/").json["name"] == "lenslet"
    assert app.get("/api/folders?path=sub").json == app.get("/folders?path=sub").json
    app.get("/api", status=200)
    app.get("/apifolders", status=404)
    prefix = {"SCRIPT_NAME": "/my photos"}
    poll = app.post("/api/folders/sub/reindex", extra_environ=prefix, status=202).json["poll"]
    assert poll == "/my%20photos/api/folders?path=sub"


@pytest.mark.parametrize(
    ("method", "route", "allowed"),
    [("POST", "/item", "DELETE, GET, HEAD, PUT, OPTIONS"), ("PUT", "/thumb", "DELETE, GET, HEAD, POST, OPTIONS"),
     ("POST", "/folders", "GET, HEAD, PUT, OPTIONS"), ("DELETE", "/", "GET, HEAD, OPTIONS")],
)  # fmt: skip
def test_another_method_answers_405_with_what_is_allowed(app, method, route, allowed) -> None:
    answer = app.request(route, method=method, status=405)
    assert answer.headers["Allow"] == allowed
    assert set(answer.json) == {"title", "description"}


ROUTES = ["/", "/folders", "/item?path=a.jpg", "/thumb?path=a.jpg", "/file?path=a.jpg", "/search?q=a",
          "/search/suggest?q=a", "/search/facets", "/health", "/health/live", "/health/storage", "/health/workers"]  # fmt: skip


@everywhere
def test_every_get_has_a_head_with_the_same_headers(app: TestApp) -> None:
    for route in ROUTES:
        got, head = app.get(route), app.head(route)
        assert head.body == b"", route
        assert set(head.headers) == set(got.headers), route


def test_an_unknown_route_answers_404_in_the_same_shape(app: TestApp) -> None:
    answer = app.get("/nothing", headers={"Accept": "application/xml"}, status=404)
    assert set(answer.json) == {"title", "description"}


def all_errors(kind: type[errors.LensletError] = errors.LensletError) -> set[type]:
    return {sub for each in kind.__subclasses__() for sub in {each, *all_errors(each)}}


def test_every_error_or_what_it_is_derived_from_has_a_row_in_the_table() -> None:
    assert all(set(each.__mro__) & set(STATUSES) for each in all_errors())
    assert status_of(errors.BrokenPointer("x")).startswith("403")


# Tags of many images, sorted and dated search, all of EXIF


@everywhere
def test_tags_of_many_images_are_edited_each_with_its_own_result(app, root) -> None:
    edit(app, {"tags": ["old", "draft"], "notes": "n"}, "a.jpg")
    paths = ["a.jpg", "sub/b.png", "sub/none.jpg", "../x.jpg", "a.jpg"]
    body = {"paths": paths, "add": ["new ", "old"], "remove": ["draft"]}
    results = app.post_json("/items/tags", body, status=200).json["results"]
    keys = ("path", "status", "tags", "added", "removed")
    assert [tuple(map(each.get, keys)) for each in results] == [
        ("a.jpg", 200, ["old", "new"], ["new"], ["draft"]), ("sub/b.png", 200, ["new", "old"], ["new", "old"], []),
        ("sub/none.jpg", 404, None, None, None), ("../x.jpg", 400, None, None, None),
    ]  # fmt: skip
    assert results[3]["description"].startswith("paths:")
    assert app.get("/item?path=a.jpg").json["notes"] == "n"
    stored = (root / "a.jpg.json").read_bytes()
    app.post_json("/items/tags", body)
    assert (root / "a.jpg.json").read_bytes() == stored
    app.post_json("/items/tags", {"paths": ["sub/broken.jpg"], "remove": ["x"]})
    assert not (root / "sub/broken.jpg.json").exists()


@everywhere
def test_each_of_many_images_gets_notes_of_its_own(app, root) -> None:
    edit(app, {"tags": ["old"], "notes": "n"}, "a.jpg")
    body = {
        "paths": ["a.jpg"],
        "add": ["new"],
        "notes": {"a.jpg": "A", "sub/b.png": "B", "x.jpg": "X"},
    }
    results = app.post_json("/items/tags", body, status=200).json["results"]
    assert [(each["status"], each.get("tags")) for each in results] == [
        (200, ["old", "new"]), (200, []), (404, None),
    ]  # fmt: skip
    assert [app.get(f"/item?path={path}").json["notes"] for path in ("a.jpg", "sub/b.png")] == [
        "A",
        "B",
    ]
    app.post_json("/items/tags", {"notes": {"a.jpg": ""}})
    assert app.get("/item?path=a.jpg").json["notes"] == ""


WRONG = [([], "body"), ({"paths": "a.jpg"}, "paths"),
         ({"paths": ["a.jpg"] * 501}, "paths"), ({"paths": [1]}, "paths"),
         ({"paths": ["a.jpg"], "add": [""]}, "tags"), ({"paths": ["a.jpg"], "add": "x"}, "add"),
         ({"paths": ["a.jpg"], "remove": [None]}, "remove"),
         ({"notes": ["a.jpg"]}, "notes"), ({"notes": {"a.jpg": 1}}, "notes"),
         ({"notes": {"a.jpg": "x", "b.jpg": "x" * 70_000}}, "notes"),
         ({"paths": ["a.jpg"], "add": ["y"], "adds": ["x"]}, "adds: is not known")]  # fmt: skip


def test_a_wrong_edit_of_many_is_refused_whole(app, root) -> None:
    for body, field in WRONG:
        answer = app.post_json("/items/tags", body, status=422)
        assert answer.json["description"].startswith(field), body
    assert not (root / "a.jpg.json").exists()


DATES = {"2024/one.jpg": "2024:07:01 10:00:00", "2024/two.jpg": "2024:07:15 23:59:59",
         "2023/three.jpg": "2023:12:31 10:00:00", "img10.jpg": "2024:08:01 00:00:00"}  # fmt: skip


@pytest.fixture
def dated(indexed: Make, root) -> Gallery:
    for name, date in DATES.items():
        put(root / name, jpeg(exif=exif(DateTimeOriginal=date)))
    put(root / "img2.jpg")
    gallery = indexed()
    gallery.settle(400)
    return gallery


BY_DATE = [
        ("date:2024", {"one", "two", "img10"}), ("date:2024-07", {"one", "two"}), ("date:2024-07-15", {"two"}),
        ("date:2024-07-01..2024-07-14", {"one"}), ("date:2023..2024-07", {"one", "two", "three"}),
        ("date:2023-12-31..2024", {"one", "two", "three", "img10"}), ("jpg -date:2024", {"three", "img2"}),
        ("date:2025", set()), ("date:2024 tw", {"two"}), ("Date:2024 NAME:tw", {"two"}), ("20240701", set()), ("date:2024-07-16..2024-07-14", set()),
        ("date:2024-07-15..", {"two", "img10"}), ("date:..2024-07", {"one", "two", "three"}), ("date:2025..", set()),
        ("-date:2024..", {"three", "img2"}), ("date:*-07-01", {"one"}), ("date:*-12-31", {"three"}), ("date:*-01-01", set()),
        ("jpg -date:*-07-01", {"two", "three", "img10", "img2"}),
        ("2024", {"one", "two", "img10"}), ("2024 im", {"img10"}), ("jpg -2024", {"three", "img2"}), ("2024-08", {"img10"}),
        ("2023-12-31", {"three"}), ("2024-07-15 2024", {"two"}), ('"2024"', {"one", "two"}), ("2024 2023", set()), ("202 img10", set()),
]  # fmt: skip


def test_dates_are_searched(dated: Gallery) -> None:
    for query, wanted in BY_DATE:
        found = dated.found(query)
        assert {path.rpartition("/")[2].removesuffix(".jpg") for path in found} == wanted, query


def test_hits_are_sorted_by_folder_name_or_date(dated: Gallery) -> None:
    by_folder = ["img2.jpg", "img10.jpg", "2023/three.jpg", "2024/one.jpg", "2024/two.jpg"]
    by_date = ["2023/three.jpg", "2024/one.jpg", "2024/two.jpg", "img10.jpg", "img2.jpg"]
    by_name = ["img2.jpg", "img10.jpg", "2024/one.jpg", "2023/three.jpg", "2024/two.jpg"]
    assert dated.found("jpg") == dated.found("", path="/") == by_folder
    assert dated.found("jpg", order="desc") == by_folder[::-1]
    assert dated.found("jpg", sort="date") == by_date
    assert dated.found("jpg", sort="date", order="desc") == [*by_date[3::-1], "img2.jpg"]
    assert dated.found("jpg", sort="name") == by_name
    assert dated.found("jpg", sort="date", limit=2, offset=1) == by_date[1:3]


def test_what_was_added_last_is_found_first(make_gallery, root) -> None:
    """An image stays where it is when it is edited."""
    for name in ("a", "b", "c"):
        put(root / f"{name}.jpg")
    make_gallery().index()
    manifest = (root / "_index.json").read_text()
    for year in (2003, 2001, 2002):
        added = f'"addedAt":"{year}-02-03T04:05:06Z"'
        manifest = re.sub('"addedAt":"20[^0].{17}"', added, manifest, count=1)
    (root / "_index.json").write_text(manifest)
    put(root / "b.jpg", jpeg(seed=7))
    (root / "_rollup.json").unlink()
    other = make_gallery()
    other.index()
    assert other.items()["b.jpg"]["addedAt"].startswith("2001")
    assert other.found("jpg", sort="added", order="desc") == ["a.jpg", "c.jpg", "b.jpg"]
    assert other.found("jpg", sort="added", limit=2) == ["b.jpg", "c.jpg"]


def test_months_are_counted_with_the_shapes_of_their_photos(dated: Gallery) -> None:
    """Of everything, of a folder and all below, and of what a search finds."""
    put(dated.root / "2024/new.jpg", jpeg(exif=exif(DateTimeOriginal="2222:02:02 00:00:00")))
    dated.index()

    def timeline(query: str = "") -> list[tuple[str, int, float]]:
        found = dated.app.get(f"/timeline?{query}").json
        each = [(month["month"], month["count"], month["shapes"]) for month in found["months"]]
        apart = [(name, *found[name].values()) for name in ("future", "undated")]
        return [*each, *(sums for sums in apart if sums[1])]

    one, two = 1.33, 2.66
    every = [("2024-08", 1, one), ("2024-07", 2, two), ("2023-12", 1, one), ("future", 1, one),
             ("undated", 1, one)]  # fmt: skip
    assert timeline() == timeline("path=/") == timeline("q=jpg") == every
    assert timeline("q=date:2024-07") == every[1:2]
    assert timeline("q=jpg&path=2023") == every[2:3]
    assert timeline("path=nowhere") == []
    answer = dated.app.get("/timeline")
    dated.app.get("/timeline", headers={"If-None-Match": answer.headers["ETag"]}, status=304)
    for wrong in ("never", "*-13-01", "*", "*-07"):
        dated.app.get(f"/timeline?q=date:{wrong}", status=400)


def test_a_date_in_a_name_counts_where_the_image_has_none(dated: Gallery) -> None:
    put(dated.root / "IMG_20240702_120501.jpg")
    put(dated.root / "20190101.jpg", jpeg(exif=exif(DateTimeOriginal="2024:07:04 10:00:00")))
    dated.index()
    found = dated.found("date:2024-07", sort="date")
    assert found[1:3] == ["IMG_20240702_120501.jpg", "20190101.jpg"]
    taken = dated.app.get("/search?q=img_2024").json["items"][0]["takenAt"]
    assert taken == "2024-07-02T12:05:01"


def test_an_empty_query_lists_what_is_below_a_folder(dated: Gallery) -> None:
    assert dated.found("", path="2024") == ["2024/one.jpg", "2024/two.jpg"]
    assert dated.found("") == []
    items = dated.app.get("/search", {"q": "", "path": "2024"}).json["items"]
    assert items[0]["takenAt"] == "2024-07-01T10:00:00"
    assert items[0]["createdAt"] == "2024-07-01T10:00:00Z"
    assert "takenAt" not in dated.app.get("/search", {"q": "img2"}).json["items"][0]


@everywhere
def test_all_of_exif_is_read_when_asked_for(app) -> None:
    full = app.get("/item?path=a.jpg&exif=full").json["exif"]
    assert full["DateTimeOriginal"] == "2025:02:15 12:32:00"
    assert (full["width"], full["createdAt"]) == (400, "2025-02-15T12:32:00Z")
    assert "DateTimeOriginal" not in app.get("/item?path=a.jpg").json["exif"]
    app.get("/item?path=sub/broken.jpg&exif=full", status=200)
