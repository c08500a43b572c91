"""What people say of a folder: `.lenslet.folder.json`, and `PUT /folders/<path>`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import BROKEN_JPEG, Gallery, jpeg, put, tree
from webtest import TestApp

from lenslet.index.scan import Scan

Make = Callable[..., Gallery]
everywhere = pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)

FILE = ".lenslet.folder.json"
KEYS = ("title", "description", "cover", "order")
FOLDER = {"version": 1, "kind": "folder"}
ALL = {
    "title": "Sea & sand",
    "description": "Two weeks.\nRain.",
    "cover": "b.jpg",
    "order": "-date",
}


@pytest.fixture
def gallery(indexed: Make, root) -> Gallery:
    """`sea/a.jpg` and `sea/b.jpg`, indexed."""
    put(root / "sea/a.jpg")
    put(root / "sea/b.jpg", jpeg(80, 60))
    return indexed()


def edit(app: TestApp, body: Any, path: str = "sea", status: int = 200) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return app.put(f"/folders/{path}", data, status=status).json


def write(folder: Any, document: Any) -> None:
    put(folder / FILE, json.dumps(document).encode())


def point(folder: Any, path: str, **more: Any) -> None:
    target = {"type": "local", "path": path}
    write(folder, {"version": 1, "kind": "pointer", "target": target, **more})


def said(gallery: Gallery, path: str = "sea") -> dict[str, str]:
    """What a folder's manifest says of it."""
    return {key: value for key, value in gallery.folder(path).items() if key in KEYS}


@everywhere
def test_a_folder_is_described_and_its_manifest_and_its_parent_show_it(gallery, root) -> None:
    assert edit(gallery.app, ALL) == {**FOLDER, **ALL}
    assert json.loads((root / f"sea/{FILE}").read_bytes()) == {**FOLDER, **ALL}
    gallery.settle(5)
    assert said(gallery) == {**ALL, "cover": "sea/b.jpg"}
    assert list(gallery.items("sea")) == ["a.jpg", "b.jpg"]
    shown = {"name": "sea", "kind": "leaf-real", "label": "Sea & sand"}
    assert gallery.folder()["dirs"] == [{**shown, **gallery.cover("sea/b.jpg")}]
    assert gallery.found("path:sand") == [] and gallery.found("path:sea") == [
        "sea/a.jpg",
        "sea/b.jpg",
    ]
    assert gallery.app.get("/health").json["status"] == "ok"


@everywhere
def test_what_is_not_sent_stays_and_null_or_nothing_removes(gallery, root) -> None:
    write(root / "sea", {**FOLDER, **ALL, "mine": [2**60]})
    left = {**FOLDER, "title": "Sea", "order": "-date", "mine": [2**60]}
    assert edit(gallery.app, {"title": " Sea ", "description": None, "cover": ""}) == left
    gallery.index()
    assert said(gallery) == {"title": "Sea", "order": "-date"}
    assert edit(gallery.app, {}) == left
    assert edit(gallery.app, dict.fromkeys(KEYS)) == {**FOLDER, "mine": [2**60]}
    gallery.settle(5)
    assert said(gallery) == {}
    assert gallery.folder()["dirs"] == [
        {"name": "sea", "kind": "leaf-real", **gallery.cover("sea/a.jpg")}
    ]


def test_photos_are_found_by_the_title_and_the_description_of_their_folder(gallery, root) -> None:
    both = ["sea/a.jpg", "sea/b.jpg"]
    for title in ("Wädding", "Anna's day"):
        edit(gallery.app, {"title": title, "description": f"{title[::-1]}\nAt the lighthouse"})
        for _ in range(2):  # once from the delta, once from the rollup
            gallery.index()
            assert gallery.found(title[:5]) == gallery.found("LIGHTHOUSE -name:c") == both
            assert gallery.found(title[:5], path="nowhere") == gallery.found("notes:light") == []
            gallery.settle(400)
    assert gallery.found("wadding") == []
    put(root / "sea/a.jpg.json", b'{"v": 1, "tags": ["new"]}')
    gallery.settle(5)
    assert gallery.found("lighthouse tag:new") == both[:1]


def test_a_file_is_written_as_people_like_to_read_it_and_only_if_there_is_something_to_say(
    gallery, root
) -> None:
    assert edit(gallery.app, {"title": None}) == FOLDER
    assert not (root / f"sea/{FILE}").exists()
    edit(gallery.app, {"title": "Sea"})
    text = '{\n  "kind": "folder",\n  "title": "Sea",\n  "version": 1\n}\n'
    assert (root / f"sea/{FILE}").read_text() == text


@pytest.mark.parametrize("route", ["/folders/", "/folders", "/api/folders?path="])
def test_the_root_has_a_title_too(gallery: Gallery, root, route: str) -> None:
    gallery.app.put_json(route, {"title": "Ours"})
    gallery.settle(5)
    assert said(gallery, "") == {"title": "Ours"}


@pytest.mark.parametrize(
    ("body", "field"),
    [([], "body"), ("x", "body"), ({"label": "x"}, "label"), ({"version": 1}, "version"),
     ({"title": 0}, "title"), ({"title": []}, "title"), ({"title": "x" * 201}, "title"), ({"title": "a\nb"}, "title"),
     ({"description": "x" * 10_001}, "description"), ({"description": False}, "description"),
     ({"order": "size"}, "order"), ({"order": "-name"}, "order"), ({"order": {}}, "order"),
     ({"cover": "none.jpg"}, "cover"), ({"cover": "sea/a.jpg"}, "cover"), ({"cover": "../sea/a.jpg"}, "cover"),
     ({"cover": "deep/c.jpg"}, "cover"), ({"cover": "notes.txt"}, "cover"), ({"cover": ".."}, "cover"),
     ({"cover": "a\0.jpg"}, "cover"), ({"cover": "x" * 5000 + ".jpg"}, "cover"), ({"cover": ["a.jpg"]}, "cover"),
     ({"title": "good", "order": "bad"}, "order")],
)  # fmt: skip
def test_a_wrong_value_answers_422_naming_its_field_and_nothing_is_written(
    gallery, root, body, field
) -> None:
    put(root / "sea/notes.txt", b"")
    put(root / "sea/deep/c.jpg")
    assert edit(gallery.app, body, status=422)["description"].startswith(f"{field}:")
    assert not (root / f"sea/{FILE}").exists()


def test_the_longest_title_and_description_fit_whatever_their_characters(
    gallery: Gallery, root
) -> None:
    longest = {"title": "😀" * 200, "description": "\1" * 10_000}
    edit(gallery.app, longest)
    gallery.settle(5)
    assert said(gallery) == longest
    write(root / "sea", {**FOLDER, "mine": "x" * 60_000})
    assert edit(gallery.app, longest, status=422)["description"].startswith("body:")


def test_a_request_that_cannot_be_understood_or_is_about_nothing_is_refused(gallery, root) -> None:
    before = tree(root)
    edit(gallery.app, b"{", status=400)
    edit(gallery.app, b" " * 300_000, status=413)
    edit(gallery.app, {"title": "x"}, "none", status=404)
    edit(gallery.app, {"title": "x"}, "sea/a.jpg", status=404)
    edit(gallery.app, {"title": "x"}, ".hidden", status=404)
    edit(gallery.app, {"title": "x"}, "a%00b", status=400)
    edit(gallery.app, {"title": "x"}, "..%2f..%2fetc", status=400)
    put(root / "sea/.nomedia", b"")
    edit(gallery.app, {"title": "x"}, status=404)
    assert tree(root) == {**before, "sea/.nomedia": b""}


@everywhere
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "is not valid"), (b"[]", "is not valid"), (b'{"kind": "album"}', "is not valid"),
     (b'{"version": 2, "kind": "folder"}', "its version is not 1"),
     (b'{"version": 1, "kind": "pointer", "target": {"type": "local", "path": "none"}}', "does not exist"),
     (b'{"version": 1, "kind": "pointer", "target": {"type": "local", "path": "sea"}}', "is a pointer")],
)  # fmt: skip
def test_a_file_that_is_no_description_answers_409_with_the_reason_and_stays(
    gallery, root, content, reason
) -> None:
    put(root / "other/c.jpg")
    put(root / f"other/{FILE}", content)
    assert reason in edit(gallery.app, {"title": "x"}, "other", status=409)["description"]
    assert (root / f"other/{FILE}").read_bytes() == content


@everywhere
def test_a_file_that_people_write_shows_and_a_bad_value_counts_as_absent(gallery, root) -> None:
    bad = {"title": 7, "order": "up", "description": "x" * 10_001, "cover": "../sea/a.jpg"}
    write(root / "sea", {**FOLDER, **bad})
    write(root, {**FOLDER, "title": " ", "description": ""})
    gallery.index()
    assert said(gallery) == said(gallery, "") == {}
    write(root / "sea", {**FOLDER, **bad, "title": "Sea"})
    gallery.ask("sea")
    assert said(gallery) == {"title": "Sea"}
    kept = {**FOLDER, **bad, "title": "Sea"}
    assert edit(gallery.app, {"order": "date"}) == {**kept, "order": "date"}
    assert gallery.app.get("/health").json["status"] == "ok"


def test_a_cover_that_cannot_be_shown_leaves_the_first_image(gallery: Gallery, root) -> None:
    edit(gallery.app, {"cover": "b.jpg"})
    photo = (root / "sea/b.jpg").read_bytes()
    for data, cover in ((None, "a"), (BROKEN_JPEG, "a"), (photo, "b")):
        if data is None:
            (root / "sea/b.jpg").unlink()
        else:
            put(root / "sea/b.jpg", data)
        gallery.ask("sea")
        gallery.index()
        assert gallery.folder()["dirs"][0]["cover"] == f"sea/{cover}.jpg"


@everywhere
def test_writers_at_the_same_time_lose_nothing(gallery: Gallery, make_gallery: Make) -> None:
    apps = [gallery.app, make_gallery().app]
    values = {"title": "t", "description": "d", "order": "date", "cover": "a.jpg"}
    for _ in range(3):
        edit(gallery.app, dict.fromkeys(KEYS))
        with ThreadPoolExecutor(len(values)) as pool:
            for number, (key, value) in enumerate(values.items()):
                pool.submit(edit, apps[number % 2], {key: value})
        assert edit(gallery.app, {}) == {**FOLDER, **values}


# STATE_DIR


@pytest.mark.parametrize("root", ["folder+state", "bucket+state"], indirect=True)
def test_a_root_that_is_never_written_keeps_what_people_say_in_the_state_folder(
    gallery, root
) -> None:
    write(root.below / "sea", {**FOLDER, "title": "Old", "order": "date"})
    before = tree(root.below)
    gallery.index()
    assert said(gallery) == {"title": "Old", "order": "date"}
    assert edit(gallery.app, {"title": None}) == {**FOLDER, "order": "date"}
    gallery.settle(30)
    assert said(gallery) == {"order": "date"}
    assert tree(root.below) == before
    edit(gallery.app, {"order": None})
    gallery.settle(30)
    assert said(gallery) == {}
    time.sleep(1.1)  # a bucket's times have no fractions
    write(root.below / "sea", {**FOLDER, "title": "Newer"})
    gallery.ask("sea")
    assert said(gallery) == {"title": "Newer"}
    time.sleep(1.1)
    assert edit(gallery.app, {"order": "name"}) == {**FOLDER, "title": "Newer", "order": "name"}
    gallery.settle(30)
    assert said(gallery) == {"title": "Newer", "order": "name"}


@pytest.mark.parametrize("root", ["folder+state", "bucket+state"], indirect=True)
def test_a_pointer_of_the_root_is_followed_whatever_the_state_folder_says(gallery, root) -> None:
    put(root.below / "new/c.jpg")
    gallery.index()
    edit(gallery.app, {"title": "Mine"}, "new")
    gallery.settle(30)
    assert gallery.folder()["dirs"][0] == {
        "name": "new", "kind": "leaf-real", "label": "Mine", **gallery.cover("new/c.jpg"),
    }  # fmt: skip
    point(root.below / "new", "sea")
    gallery.ask("new")
    assert list(gallery.items("new")) == ["a.jpg", "b.jpg"]
    assert said(gallery, "new") == {}
    edit(gallery.app, {"title": "x"}, "new", status=409)


# Pointers


def test_a_pointer_shows_what_its_target_says_and_its_own_label(gallery: Gallery, root) -> None:
    point(root / "one", "sea")
    point(root / "two", "sea", label="Two")
    edit(gallery.app, {"title": "Sea", "cover": "b.jpg"})
    gallery.index()
    for name, title in (("one", "Sea"), ("two", "Two")):
        assert said(gallery, name) == {"title": title, "cover": f"{name}/b.jpg"}
        (entry,) = [each for each in gallery.folder()["dirs"] if each["name"] == name]
        shown = {"name": name, "kind": "leaf-pointer", "label": title}
        assert entry == {**shown, **gallery.cover(f"{name}/b.jpg")}


def test_a_folder_below_a_pointer_is_described_with_its_target(
    indexed: Make, root, tmp_path
) -> None:
    put(tmp_path / "far/deep/c.jpg")
    put(root / "sea/deep/c.jpg")
    point(root / "one", "sea")
    point(root / "shut", "sea", readonly=True)
    point(root / "far", str(tmp_path / "far"))
    gallery = indexed(POINTER_ROOTS=str(tmp_path / "far"))
    edit(gallery.app, {"title": "Deep", "cover": "c.jpg"}, "one/deep")
    edit(gallery.app, {"title": "Far"}, "far/deep")
    edit(gallery.app, {"title": "x"}, "shut/deep", status=403)
    gallery.settle(5)
    assert said(gallery, "one/deep") == {"title": "Deep", "cover": "one/deep/c.jpg"}
    assert said(gallery, "sea/deep") == {"title": "Deep", "cover": "sea/deep/c.jpg"}
    assert said(gallery, "far/deep") == {"title": "Far"}
    assert (root / f"sea/deep/{FILE}").exists() and (tmp_path / f"far/deep/{FILE}").exists()


def test_a_restart_writes_no_manifest_and_shows_no_ignored_folder(indexed, root) -> None:
    put(root / "a/x.jpg")
    put(root / "private/y.jpg")
    put(root / "private/.nomedia", b"")
    gallery = indexed()
    before = gallery.folder()
    assert [each["name"] for each in before["dirs"]] == ["a"]
    gallery.restart()
    gallery.loop.work.later(Scan(full=True), 0.0)
    while gallery.step():
        assert gallery.folder() == before
