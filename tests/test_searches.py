"""Saved searches: names for searches, in a file of the user's."""

from __future__ import annotations

import pathlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from conftest import put, read_only
from test_app import everywhere
from test_cli import lenslet
from test_links import FULL, READING, WRITER, guest, make_link
from webtest import TestApp

BEACH = {"name": "At the beach", "q": "tag:beach -draft", "path": "2024"}


def save(app: TestApp, status: int = 200, **search: str) -> str:
    """Saves a search; returns what the service says if it refuses."""
    answer = app.put(f"/searches?{urlencode(BEACH | search)}", headers=WRITER, status=status)
    return str(answer.json.get("description", ""))


def saved(app: TestApp) -> list[dict[str, str]]:
    found: list[dict[str, str]] = app.get("/searches", headers=WRITER, status=200).json["searches"]
    return found


@everywhere
def test_a_search_is_saved_under_a_name_and_removed(make_gallery, root) -> None:
    put(root / "a.jpg")
    gallery = make_gallery()
    assert saved(gallery.app) == []
    for _ in range(2):  # once more changes nothing
        save(gallery.app)
    save(gallery.app, name="  Łódź /\n 100 % ", q="łódź", path="")
    odd = {"name": "Łódź / 100 %", "q": "łódź", "path": ""}
    gallery.restart()
    assert saved(gallery.app) == [BEACH, odd]
    assert gallery.app.delete("/searches?" + urlencode({"name": BEACH["name"]})).json == {"searches": [odd]}  # fmt: skip
    gallery.app.delete("/searches?name=none", status=404)
    assert saved(gallery.app) == [odd]
    gallery.index()
    assert gallery.folder()["dirs"] == []
    assert gallery.app.get("/health").json["library"]["unsupported"] == {}


def test_what_cannot_be_saved_is_refused_with_the_reason(make_gallery, root) -> None:
    put(root / "a.jpg")
    app = make_gallery().app
    cases = [{"name": " "}, {"name": 101 * "x"}, {"q": " "}, {"q": 1001 * "x"}, {"q": "date:24"}, {"path": "../x"}]  # fmt: skip
    for wrong in cases:
        assert save(app, 400, **wrong).startswith(f"{next(iter(wrong))}: "), wrong
    save(app)
    assert "another name" in save(app, 409, q="other")
    for number in range(99):
        save(app, name=f"{number}")
    assert "100" in save(app, 400, name="one more")
    assert len(saved(app)) == 100


def test_of_two_browsers_that_save_at_once_none_loses_a_search(make_gallery, root) -> None:
    put(root / "a.jpg")
    apps = [make_gallery().app, make_gallery().app]
    names = [f"{number}" for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: save(apps[int(name) % 2], name=name), names))
    for app in apps:
        assert sorted(each["name"] for each in saved(app)) == sorted(names)


def test_who_may_read_sees_saved_searches_and_guests_never_do(indexed, root) -> None:
    put(root / "2024/a.jpg")
    app = indexed(API_TOKEN=FULL, READ_TOKEN=READING).app
    save(app)
    reader = {"Authorization": f"Bearer {READING}"}
    assert app.get("/searches", headers=reader).json == {"searches": [BEACH]}
    for headers in (reader, guest(app, make_link(app, "2024", words=True))):
        app.put(f"/searches?{urlencode(BEACH)}", headers=headers, status=403)
        app.delete("/searches?name=At+the+beach", headers=headers, status=403)
    said = app.get("/searches", headers=headers, status=403)
    assert b"beach" not in said.body
    app.get("/searches", status=401)


@pytest.mark.parametrize("text", [b'{"mine": 1}', b"[1", bytes(64), b'{"v": 1, "searches": [{"name": "x", "q": 1, "path": ""}]}'])  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_and_never_replaced(
    make_gallery, root: pathlib.Path, text: bytes
) -> None:
    put(root / "_searches.json", text)
    put(root / "a.jpg")
    app = make_gallery().app
    assert any("_searches.json is" in each for each in app.get("/health").json["reasons"])
    if text.strip(b"\0"):
        assert "_searches.json" in save(app, 409)
        app.get("/searches", status=409)
        assert (root / "_searches.json").read_bytes() == text
    else:
        save(app)
        assert saved(app) == [BEACH]


def test_saved_searches_are_the_users_and_go_along_with_a_root_that_is_read_only(
    serve, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    put(root / "a.jpg")
    server = serve(root)
    assert server.request("PUT", f"/searches?{urlencode(BEACH)}")[0] == 200
    server.stop()
    stored = (root / "_searches.json").read_bytes()
    assert "_searches.json" in lenslet(tmp_path, "clean", root, "--remove").stdout
    assert (root / "_searches.json").read_bytes() == stored
    with read_only(root):
        server = serve(root)
        assert server.json("/searches") == {"searches": [BEACH]}
        reasons = server.json("/health")["reasons"]
        server.stop()
    assert "_searches.json" not in str(reasons)
