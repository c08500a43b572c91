"""A library whose root is not written: `STATE_DIR`, and read-only mounts."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest
from conftest import Gallery, jpeg, put, read_only, tree

from lenslet.index.queue import Job, Kind

Make = Callable[..., Gallery]


@pytest.fixture
def readonly(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """A root with two photos, one of them edited, mounted read-only."""
    put(root / "a/one.jpg")
    put(root / "a/one.jpg.json", b'{"v": 1, "tags": ["old"], "updatedAt": "2024-01-01T00:00:00Z"}')
    put(root / "two.jpg")
    with read_only(root):
        yield root


def test_a_readonly_root_is_served_from_the_cache_and_says_what_it_cannot_do(
    make_gallery: Make, readonly, tmp_path
) -> None:
    before = tree(readonly)
    gallery = make_gallery()
    gallery.index()
    assert gallery.items("a")["one.jpg"]["hasThumb"] is True
    assert gallery.app.get("/thumb?path=two.jpg").content_type == "image/webp"
    assert gallery.app.get("/item?path=a/one.jpg").json["tags"] == ["old"]
    assert gallery.found("tag:old") == ["a/one.jpg"]
    answer = gallery.app.put("/item?path=a/one.jpg", b'{"tags": ["new"]}', status=403)
    assert str(readonly) not in answer.text
    gallery.app.delete("/item?path=a/one.jpg", status=403)
    health = gallery.app.get("/health").json
    assert health["storage"]["writable"] is False
    assert "cannot be written" in " ".join(health["reasons"])
    gallery.told.clear()
    gallery.restart()
    gallery.index()
    assert gallery.told == []
    assert tree(readonly) == before


def test_a_readonly_root_with_a_state_folder_can_be_edited(
    make_gallery, readonly, tmp_path
) -> None:
    before = tree(readonly)
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    gallery.app.put("/item?path=a/one.jpg", b'{"notes": "n"}')
    gallery.settle()
    document = gallery.app.get("/item?path=a/one.jpg").json
    assert (document["tags"], document["notes"]) == (["old"], "n")
    assert gallery.found("old") == ["a/one.jpg"]
    assert {"a/_index.json", "a/one.jpg.json", "a/one.jpg.thumbnail", "_rollup.json"} <= set(
        tree(tmp_path / "state")
    )
    assert gallery.app.get("/health").json["status"] == "ok"
    assert tree(readonly) == before


def test_of_two_sidecars_the_newer_is_shown_and_that_of_the_root_is_not_removed(
    make_gallery: Make, root, tmp_path
) -> None:
    put(root / "x.jpg")
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    gallery.app.put("/item?path=x.jpg", b'{"tags": ["mine"], "updatedAt": "2024-02-01T00:00:00Z"}')
    assert gallery.app.get("/item?path=x.jpg").json["tags"] == ["mine"]
    newer = {"v": 1, "tags": ["synced"], "updatedAt": "2024-03-01T00:00:00Z"}
    put(root / "x.jpg.json", json.dumps(newer).encode())
    assert gallery.app.get("/item?path=x.jpg").json["tags"] == ["synced"]
    gallery.index()
    assert gallery.found("synced") == ["x.jpg"]
    gallery.app.delete("/item?path=x.jpg", status=403)
    gallery.app.put("/item?path=x.jpg", b'{"tags": ["again"]}')
    assert gallery.app.get("/item?path=x.jpg").json["tags"] == ["again"]
    assert json.loads((root / "x.jpg.json").read_text()) == newer
    (root / "x.jpg.json").unlink()
    gallery.app.delete("/item?path=x.jpg", status=204)
    assert gallery.app.get("/item?path=x.jpg").json["tags"] == []


def test_a_takeout_file_in_the_root_moves_the_sidecar_aside_in_the_state_folder(
    make_gallery: Make, root, tmp_path
) -> None:
    put(root / "x.jpg")
    put(root / "x.jpg.json", b'{"title": "x.jpg"}')
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    gallery.app.put("/item?path=x.jpg", b'{"tags": ["mine"]}')
    assert "x.jpg.lenslet.json" in tree(tmp_path / "state")
    assert gallery.app.get("/item?path=x.jpg").json["tags"] == ["mine"]


def test_a_state_folder_inside_the_root_is_not_part_of_the_library(make_gallery, root) -> None:
    put(root / "x.jpg", jpeg())
    gallery = make_gallery(STATE_DIR=str(root / ".lenslet"))
    gallery.index()
    assert gallery.folder()["dirs"] == []
    assert set(tree(root)) == {"x.jpg"} | {f".lenslet/{name}" for name in (
        ".lenslet-state", "_index.json", "_rollup.json", "_rollup_delta.json", "_health.json", "x.jpg.thumbnail",
    )}  # fmt: skip


def test_an_empty_root_is_not_written_for_a_state_folder_inside_it(make_gallery, root) -> None:
    gallery = make_gallery(STATE_DIR=str(root / ".lenslet"))
    gallery.index()
    assert list(root.iterdir()) == []
    assert gallery.app.get("/health", status=503).json["status"] == "down"
    put(root / "x.jpg", jpeg())
    gallery.index()
    assert gallery.items()["x.jpg"]["hasThumb"] is True
    (root / "x.jpg").unlink()
    before = tree(root)
    gallery.settle(400)
    assert tree(root) == before
    assert "empty" in " ".join(gallery.app.get("/health", status=503).json["reasons"])


def test_a_readonly_root_that_others_change_is_followed(make_gallery: Make, root) -> None:
    """As a volume mounted read-only: its images are replaced and removed elsewhere."""
    for number in range(5):
        put(root / f"p/{number}.jpg", jpeg(8 + number, 6))
    gallery = make_gallery(PAGE_SIZE="2")
    with read_only(root):
        gallery.index()
        assert gallery.folder("p")["pageCount"] == 3
    photo = root / "p/4.jpg"
    modified = photo.stat().st_mtime_ns
    photo.write_bytes(jpeg(90, 60))
    os.utime(photo, ns=(modified, modified))
    for number in range(3):
        (root / f"p/{number}.jpg").unlink()
    with read_only(root):
        gallery.ask("p")
        items = gallery.items("p")
        assert list(items) == ["3.jpg", "4.jpg"]
        assert (items["4.jpg"]["w"], items["4.jpg"]["hasThumb"]) == (90, True)
        gallery.app.delete("/thumb?path=p/3.jpg", status=204)
        gallery.app.delete("/thumb?path=p/3.jpg", status=404)
    assert set(tree(root)) == {"p/3.jpg", "p/4.jpg"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a file immutable")
def test_a_rollup_that_cannot_be_replaced_is_kept_whole_in_the_cache(make_gallery, root) -> None:
    put(root / "x.jpg", jpeg())
    gallery = make_gallery()
    gallery.index()
    subprocess.run(["chattr", "+i", root / "_rollup.json"], check=True)
    try:
        put(root / "y.jpg", jpeg(90, 60))
        gallery.index()
        gallery.queue.put(Job(Kind.SUMMARY, force=True))
        gallery.settle(400)
        assert sorted(gallery.found("jpg")) == ["x.jpg", "y.jpg"]
    finally:
        subprocess.run(["chattr", "-i", root / "_rollup.json"], check=True)


def test_one_folder_that_cannot_be_written_is_kept_in_the_cache(make_gallery, root) -> None:
    put(root / "open/a.jpg")
    put(root / "locked/b.jpg")
    with read_only(root / "locked"):
        gallery = make_gallery()
        gallery.index()
        assert gallery.items("locked")["b.jpg"]["hasThumb"] is True
        assert gallery.app.get("/thumb?path=locked/b.jpg", status=200)
        gallery.app.put("/item?path=locked/b.jpg", b"{}", status=403)
        gallery.app.put("/item?path=open/a.jpg", b"{}", status=200)
        assert set(tree(root / "locked")) == {"b.jpg"}
        library = gallery.app.get("/health").json["library"]
        assert [problem["path"] for problem in library["problems"]["notKept"]] == ["locked"]


@pytest.mark.parametrize("older", [False, True], ids=["first", "older"])
@pytest.mark.parametrize("locked", ["", "p"], ids=["root", "folder"])
def test_what_is_only_in_the_cache_is_moved_as_soon_as_its_place_can_be_written(
    make_gallery: Make, root, older, locked
) -> None:
    """Whether or not an older file of Lenslet's own is there."""
    put(root / "p/1.jpg")
    put(root / "q/1.jpg")
    gallery = make_gallery()
    if older:
        gallery.index()
        put(root / "p/2.jpg")
    with read_only(root / locked):
        gallery.index()
        library = gallery.app.get("/health").json["library"]
        assert "p" in [problem["path"] for problem in library["problems"]["notKept"]]
    gallery.index()
    gallery.settle(10)
    health = gallery.app.get("/health").json
    assert (health["status"], health["reasons"]) == ("ok", [])
    for name in ["p/_index.json", "_index.json", "_rollup.json", "_health.json"]:
        assert (root / name).is_file()
    items = json.loads((root / "p/_index.json").read_bytes())["items"]
    assert [item["name"] for item in items] == ["1.jpg", "2.jpg"][: 1 + older]


def test_a_folder_with_the_name_of_a_manifest_comes_to_rest_and_is_in_health(
    make_gallery: Make, root, tmp_path
) -> None:
    """In `STATE_DIR` its own files would be where the manifest of the folder above is."""
    put(root / "a/one.jpg")
    put(root / "a/_index.json/two.jpg")
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    gallery.settle(60)
    assert gallery.queue.waiting(Kind.FOLDER) == 0
    (problem,) = gallery.app.get("/health").json["library"]["problems"]["unreadableFolders"]
    assert problem["path"] == "a/_index.json"
    assert "same name is in the way" in problem["reason"]
    assert gallery.items("a")["one.jpg"]["hasThumb"] is True


def test_a_rollup_that_cannot_be_written_leaves_nothing_in_the_cache(
    make_gallery: Make, root, tmp_path
) -> None:
    put(root / "a.jpg")
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    put(tmp_path / "state/_rollup.json", b'{"mine": true}')
    gallery.index()
    gallery.settle(300)
    gallery.app.post("/search/rebuild-index", status=202)
    gallery.settle(60)
    assert [path.name for path in (tmp_path / "cache").rglob("*.lines")] == []
    reasons = gallery.app.get("/health").json["reasons"]
    assert any("_rollup.json is not Lenslet's own" in reason for reason in reasons)
    (tmp_path / "state/_rollup.json").unlink()
    gallery.settle(60)
    assert gallery.found("a.jpg") == ["a.jpg"]
    assert gallery.app.get("/health").json["reasons"] == []


def test_a_request_for_a_new_rollup_is_done_once_whatever_health_has_to_say(
    make_gallery: Make, root
) -> None:
    """Here because of another program's file, which is said again and again."""
    put(root / "a.jpg")
    put(root / "_health.json", b'{"mine": true}')
    gallery = make_gallery()
    gallery.index()
    gallery.app.post("/search/rebuild-index", status=202)
    written = {
        (gallery.settle(3), (root / "_rollup.json").stat().st_mtime_ns)[1] for _ in range(20)
    }
    assert len(written) == 1
    assert "_health.json" in " ".join(gallery.app.get("/health").json["reasons"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_disk_that_does_not_say_how_large_it_is_is_not_full(make_gallery: Make, root) -> None:
    """A tmpfs without a limit, or a file system of FUSE, says 0 of 0 bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=0", "tmpfs", root], check=True)
    try:
        put(root / "a.jpg")
        gallery = make_gallery()
        gallery.index()
        assert gallery.app.get("/health").json["reasons"] == []
    finally:
        subprocess.run(["umount", "-l", root], check=True)
