"""Pointer folders over local storage: what they show, allow and refuse."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Gallery, jpeg, put, tree

Make = Callable[..., Gallery]


def point(folder: pathlib.Path, path: str, name: str = ".lenslet.folder.json", **more: Any) -> None:
    pointer = {"version": 1, "kind": "pointer", "target": {"type": "local", "path": path}, **more}
    put(folder / name, json.dumps(pointer).encode())


@pytest.mark.parametrize("name", [".lenslet.folder.json", ".lenscat.folder.json"])
@pytest.mark.parametrize("target", ["art/2024", "/art/2024/"])
def test_a_pointer_shows_its_targets_images_under_its_own_path(
    indexed: Make, root, tmp_path, name, target
) -> None:
    put(root / "art/2024/one.jpg")
    put(root / "art/2024/deep/two.jpg")
    point(root / "C", target.strip("/"), name, label="Characters 2024")
    gallery = indexed()
    shown = {"name": "C", "kind": "leaf-pointer", "label": "Characters 2024"}
    assert gallery.folder()["dirs"] == [
        {"name": "art", "kind": "branch", **gallery.cover("art/2024/one.jpg")},
        {**shown, **gallery.cover("C/one.jpg")},
    ]
    item = gallery.items("C")["one.jpg"]
    assert (item["path"], item["hasThumb"], item["w"]) == ("C/one.jpg", True, 400)
    assert gallery.items("C/deep")["two.jpg"]["path"] == "C/deep/two.jpg"
    assert gallery.app.get("/thumb?path=C/deep/two.jpg").content_type == "image/webp"
    assert gallery.app.get("/file?path=C/one.jpg").body == (root / "art/2024/one.jpg").read_bytes()
    assert {"C/_index.json", "C/one.jpg.thumbnail", "C/deep/two.jpg.thumbnail"} <= set(tree(root))
    gallery.settle(400)
    assert sorted(gallery.found("two")) == ["C/deep/two.jpg", "art/2024/deep/two.jpg"]


def test_what_is_ignored_by_its_path_is_not_shown_through_a_pointer_either(
    indexed: Make, root
) -> None:
    put(root / "art/one.jpg")
    put(root / "art/private/two.jpg")
    put(root / "art/hidden.jpg")
    point(root / "C", "art")
    gallery = indexed(IGNORE="art/private, art/hidden*")
    assert list(gallery.items("C")) == ["one.jpg"] and gallery.folder("C")["dirs"] == []
    for route in (
        "/folders?path=C/private",
        "/item?path=C/private/two.jpg",
        "/file?path=C/hidden.jpg",
    ):
        gallery.app.get(route, status=404)
    gallery.settle(400)
    assert gallery.found("jpg") == ["art/one.jpg", "C/one.jpg"]


def test_an_edit_through_a_pointer_is_kept_with_the_target(indexed: Make, root) -> None:
    put(root / "art/one.jpg")
    point(root / "C", "art")
    gallery = indexed()
    gallery.app.put("/item?path=C/one.jpg", b'{"tags": ["shared"]}')
    gallery.settle()
    assert (root / "art/one.jpg.json").exists()
    assert not (root / "C/one.jpg.json").exists()
    assert gallery.app.get("/item?path=art/one.jpg").json["tags"] == ["shared"]
    assert sorted(gallery.found("tag:shared")) == ["C/one.jpg", "art/one.jpg"]


def test_a_change_of_the_target_is_found(indexed: Make, root) -> None:
    put(root / "art/one.jpg")
    point(root / "C", "art")
    gallery = indexed()
    put(root / "art/new.jpg")
    gallery.index()
    assert set(gallery.items("C")) == {"one.jpg", "new.jpg"}
    put(root / "other/x.jpg")
    point(root / "C", "other")
    gallery.index()
    assert set(gallery.items("C")) == {"x.jpg"}
    (root / "C/.lenslet.folder.json").unlink()
    gallery.index()
    assert gallery.items("C") == {}
    assert {"name": "C", "kind": "branch"} in gallery.folder()["dirs"]


def test_a_readonly_pointer_refuses_edits_and_nothing_else(indexed: Make, root) -> None:
    put(root / "art/one.jpg")
    put(root / "art/one.jpg.json", b'{"v": 1, "tags": ["x"], "updatedAt": "2024-01-01T00:00:00Z"}')
    point(root / "C", "art", readonly=True)
    gallery = indexed()
    shown = gallery.app.get("/item?path=C/one.jpg")
    assert (shown.json["tags"], shown.headers["Allow"]) == (["x"], "GET, HEAD")
    assert "Allow" not in gallery.app.get("/item?path=art/one.jpg").headers
    gallery.app.put("/item?path=C/one.jpg", b"{}", status=403)
    gallery.app.delete("/item?path=C/one.jpg", status=403)
    gallery.app.put("/item?path=art/one.jpg", b"{}", status=200)


def test_an_absolute_target_must_lie_under_a_pointer_root(indexed: Make, root, tmp_path) -> None:
    put(root / "a.jpg")
    put(tmp_path / "allowed/sub/one.jpg")
    put(tmp_path / "secret/two.jpg")
    point(root / "good", str(tmp_path / "allowed/sub"))
    point(root / "bad", str(tmp_path / "secret"))
    (tmp_path / "allowed/link").symlink_to(tmp_path / "secret")
    point(root / "sly", str(tmp_path / "allowed/link"))
    point(root / "sly2", str(tmp_path / "allowed/../secret"))
    gallery = indexed(POINTER_ROOTS=str(tmp_path / "allowed"))
    assert list(gallery.items("good")) == ["one.jpg"]
    gallery.app.put("/item?path=good/one.jpg", b'{"notes": "n"}')
    assert (tmp_path / "allowed/sub/one.jpg.json").exists()
    for name in ("bad", "sly", "sly2"):
        answer = gallery.app.get(f"/folders?path={name}", status=403)
        assert str(tmp_path) not in answer.text
        gallery.app.get(f"/file?path={name}/two.jpg", status=403)
    assert len(gallery.folder()["dirs"]) == 4
    assert set(tree(tmp_path / "secret")) == {"two.jpg"}


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"version": 2, "kind": "pointer", "target": {"type": "local", "path": "a"}}',
     b'{"version": 1, "kind": "pointer", "target": {"type": "local", "path": "nowhere"}}',
     b'{"version": 1, "kind": "pointer", "target": {"type": "s3", "bucket": "b"}}'],
)  # fmt: skip
def test_a_broken_pointer_answers_403_for_its_own_folder_only(indexed, root, content) -> None:
    put(root / "fine/a.jpg")
    put(root / "C/.lenslet.folder.json", content)
    gallery = indexed()
    assert [entry["name"] for entry in gallery.folder()["dirs"]] == ["C", "fine"]
    assert gallery.app.get("/folders?path=C", status=403).json["description"]
    gallery.app.get("/thumb?path=C/a.jpg", status=403)
    assert list(gallery.items("fine")) == ["a.jpg"]
    library = gallery.app.get("/health").json["library"]
    assert [problem["path"] for problem in library["problems"]["brokenPointers"]] == ["C"]


@pytest.mark.parametrize(
    ("pointers", "asked", "chain"),
    [
        ({"a": "b", "b": "a"}, "a", ["a", "b", "a"]),
        ({"a": "a"}, "a", ["a", "a"]),
        ({"a": ""}, "a", ["a", "/"]),
        ({"a": "."}, "a", ["a", "/"]),
        ({"x/y/z": "x"}, "x/y/z", ["x/y/z", "x"]),
        ({"x/p": "y", "y/q": "x"}, "x/p/q", ["x/p", "y/q", "x"]),
        ({"a": "b", "b": "c", "c": "b"}, "a", ["a", "b", "c", "b"]),
    ],
)
def test_pointers_that_lead_back_answer_508_with_the_chain(
    indexed, root, pointers, asked, chain
) -> None:
    put(root / "fine.jpg")
    for name, target in pointers.items():
        point(root / name, target)
    gallery = indexed()
    answer = gallery.app.get(f"/folders?path={asked}", status=508).json
    assert answer["chain"] == chain
    assert "title" in answer
    gallery.app.get(f"/file?path={asked}/fine.jpg", status=508)
    assert list(gallery.items()) == ["fine.jpg"]


def test_sixteen_pointers_in_a_row_are_followed_and_seventeen_are_not(indexed, root) -> None:
    put(root / "p0/a.jpg", jpeg(8, 6))
    for number in range(1, 18):
        point(root / f"p{number}", f"p{number - 1}")
    gallery = indexed()
    assert list(gallery.items("p16")) == ["a.jpg"]
    gallery.app.get("/folders?path=p17", status=508)


def test_a_root_that_is_never_written_keeps_edits_through_pointers_in_the_state_folder(
    indexed: Make, root, tmp_path
) -> None:
    put(root / "art/one.jpg")
    put(tmp_path / "far/two.jpg")
    point(root / "C", "art")
    point(root / "D", str(tmp_path / "far"))
    before, far = tree(root), tree(tmp_path / "far")
    gallery = indexed(STATE_DIR=str(tmp_path / "state"), POINTER_ROOTS=str(tmp_path / "far"))
    for path in ("C/one.jpg", "D/two.jpg"):
        gallery.app.put(f"/item?path={path}", b'{"tags": ["kept"]}')
    gallery.settle()
    assert (tree(root), tree(tmp_path / "far")) == (before, far)
    assert gallery.app.get("/item?path=art/one.jpg").json["tags"] == ["kept"]
    assert sorted(gallery.found("tag:kept")) == ["C/one.jpg", "D/two.jpg", "art/one.jpg"]
