"""A library whose root is not written: `STATE_DIR`, and read-only mounts."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import Gallery, jpeg, put, read_only, tree
from test_cli import lenslet

from lenslet.errors import SettingError

Make = Callable[..., Gallery]


@pytest.fixture
def readonly(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """A root with two photos, one of them edited, mounted read-only."""
    put(root / "a/one.jpg")
    put(root / "a/one.jpg.json", b'{"v": 1, "tags": ["old"], "updatedAt": "2024-01-01T00:00:00Z"}')
    put(root / "two.jpg")
    with read_only(root):
        yield root


def test_a_readonly_root_has_its_files_in_a_folder_of_this_user_and_photos_can_be_tagged(
    indexed, readonly, tmp_path
) -> None:
    before = tree(readonly)
    gallery = indexed()
    assert gallery.items("a")["one.jpg"]["hasThumb"] is True
    assert gallery.app.get("/item?path=a/one.jpg").json["tags"] == ["old"]
    gallery.app.put("/item?path=a/one.jpg", b'{"tags": ["new"]}')
    gallery.settle()
    assert gallery.found("tag:new") == ["a/one.jpg"]
    assert gallery.app.get("/health").json["reasons"] == []
    (state,) = (tmp_path / "cache-state/lenslet").iterdir()
    assert {"a/_index.json", "a/one.jpg.json", "two.jpg.thumbnail"} <= tree(state).keys()
    assert tree(readonly) == before
    gallery.told.clear()
    gallery.restart()
    gallery.index()
    assert gallery.told == []


def test_what_people_wrote_while_the_root_could_not_be_written_is_shown_when_it_can(
    make_gallery: Make, indexed, root
) -> None:
    """The folder of the user stays in use for as long as it is there."""
    put(root / "one.jpg")
    with read_only(root):
        gallery = indexed()
        gallery.app.put("/item?path=one.jpg", b'{"tags": ["meanwhile"]}')
    before, again = tree(root), make_gallery()
    again.index()
    assert again.app.get("/item?path=one.jpg").json["tags"] == ["meanwhile"]
    assert tree(root) == before
    state = pathlib.Path(again.settings.state_dir)
    shutil.copy2(state / "one.jpg.json", root)
    shutil.rmtree(state)
    beside = indexed()
    assert beside.app.get("/item?path=one.jpg").json["tags"] == ["meanwhile"]
    assert "_index.json" in tree(root)


def test_a_readonly_root_that_is_mounted_elsewhere_has_its_tags(serve, root, tmp_path) -> None:
    put(root / "a/one.jpg")
    put(root / "two.jpg")
    with read_only(root):
        server = serve(root)
        assert server.thumbnail("a/one.jpg")[0] == server.thumbnail("two.jpg")[0] == 200
        assert server.request("PUT", "/item?path=a/one.jpg", {"tags": ["mine"]})[0] == 200
        server.stop()
    root.rename(tmp_path / "elsewhere")
    with read_only(tmp_path / "elsewhere") as elsewhere:
        homes = {"XDG_STATE_HOME": str(tmp_path / "cache-state")}
        assert "missingManifest" not in lenslet(tmp_path, "check", elsewhere, **homes).stdout
        server = serve(elsewhere)
        assert server.json("/item?path=a/one.jpg")["tags"] == ["mine"]
        server.stop()
    os.utime(put(root / "a/one.jpg", jpeg(seed=7)), (1, 1))
    with read_only(root):  # another library, where that one was
        server = serve(root)
        assert server.json("/item?path=a/one.jpg")["tags"] == []
        server.stop()


def test_an_empty_readonly_root_is_an_unmounted_disk(make_gallery, root, tmp_path) -> None:
    """It gets no folder of its own, which would stay in use when the disk is there."""
    with read_only(root):
        assert make_gallery().app.get("/health", status=503)
    assert not (tmp_path / "cache-state").exists()


def test_a_start_is_refused_if_neither_the_root_nor_a_folder_of_the_user_can_be_written(
    make_gallery: Make, readonly, tmp_path
) -> None:
    put(tmp_path / "cache-state", b"a file")
    with pytest.raises(SettingError) as caught:
        make_gallery()
    assert re.fullmatch(
        f"neither '{readonly}' nor '{tmp_path}/cache-state/lenslet/photos-[0-9a-f]+' can be "
        "written: let Lenslet write in one of them, or set STATE_DIR",
        str(caught.value),
    )


def test_the_start_line_names_the_folder_of_a_readonly_root(serve, readonly, tmp_path) -> None:
    server = serve(readonly)
    assert server.request("PUT", "/item?path=two.jpg", {"tags": ["x"]})[0] == 200
    (state,) = (tmp_path / "cache-state/lenslet").iterdir()
    shown = f"(its own files: {state}, because the root could not be written)"
    assert shown in server.log.read_text()
    server.stop()  # before its root is unmounted


def test_a_check_of_a_readonly_root_creates_nothing(readonly, tmp_path) -> None:
    names = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CACHE", "STATE")}
    command = [sys.executable, "-m", "lenslet", "check", str(readonly)]
    done = subprocess.run(command, env={**os.environ, **names}, capture_output=True, text=True)
    assert "missingManifest: a: the folder has not been indexed" in done.stdout
    assert (done.stderr, done.returncode) == ("", 1)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("root", ["folder", "bucket"], indirect=True)
def test_a_root_with_state_dir_is_never_written_and_can_be_edited(indexed, root, tmp_path) -> None:
    put(root / "d/a.jpg")
    put(root / "d/a.jpg.json", b'{"v": 1, "tags": ["old"], "updatedAt": "2024-01-01T00:00:00Z"}')
    before = tree(root)
    gallery = indexed(STATE_DIR=str(tmp_path / "state"))
    gallery.app.put("/item?path=d/a.jpg", b'{"notes": "n"}')
    gallery.settle(30)
    document = gallery.app.get("/item?path=d/a.jpg").json
    assert (document["tags"], document["notes"]) == (["old"], "n")
    assert gallery.app.get("/thumb?path=d/a.jpg").body[:4] == b"RIFF"
    assert gallery.found("tag:old") == ["d/a.jpg"]
    assert {"d/_index.json", "d/a.jpg.json", "d/a.jpg.thumbnail", "_rollup.json"} <= set(
        tree(tmp_path / "state")
    )
    assert gallery.app.get("/health").json["status"] == "ok"
    gallery.app.delete("/item?path=d/a.jpg", status=403)
    gallery.told.clear()
    gallery.restart()
    gallery.index()
    assert gallery.told == []
    assert tree(root) == before


def test_a_state_dir_belongs_to_one_library_and_follows_it_where_it_moves(
    serve, root, tmp_path
) -> None:
    put(root / "2024/a.jpg")
    os.utime(put(tmp_path / "other/2024/a.jpg", jpeg(seed=7)), (1, 1))
    state, settings = tmp_path / "state", {"STATE_DIR": str(tmp_path / "state")}

    def index(folder: str) -> str:
        done = lenslet(tmp_path, "index", tmp_path / folder, **settings)
        return done.stdout if done.returncode == 0 else done.stderr

    refused = (
        f"lenslet: STATE_DIR='{state}' belongs to the library '{root}': choose another for "
        f"'{tmp_path}/other'; or if that library has moved here, empty the file "
        f"'{state}/.lenslet-state'\n"
    )
    server = serve(root, **settings)
    assert server.thumbnail("2024/a.jpg")[0] == 200
    assert server.request("PUT", "/item?path=2024/a.jpg", {"notes": "mine"})[0] == 200
    assert index("other") == refused
    server.stop()
    root.rename(tmp_path / "moved")
    assert index("other") == refused
    assert "1 image in 2 folders" in (said := index("moved"))
    assert "0 read" in said
    moved = serve(tmp_path / "moved", **settings)
    assert moved.json("/item?path=2024/a.jpg")["notes"] == "mine"
    moved.stop()
    (tmp_path / "moved").rename(tmp_path / "restored")
    os.utime(photo := tmp_path / "restored/2024/a.jpg", (int(photo.stat().st_mtime),) * 2)  # by tar
    assert "1 read" in index("restored")
    (state / ".lenslet-state").write_bytes(b"")
    assert "1 read" in index("other")


def test_of_two_sidecars_the_newer_is_shown_and_the_roots_stays(indexed, root, tmp_path) -> None:
    put(root / "x.jpg")
    gallery = indexed(STATE_DIR=str(tmp_path / "state"))
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


def test_a_state_folder_inside_the_root_is_not_part_of_the_library(indexed, root) -> None:
    put(root / "x.jpg", jpeg())
    gallery = indexed(STATE_DIR=str(root / ".lenslet"))
    assert gallery.folder()["dirs"] == []
    assert set(tree(root)) == {"x.jpg"} | {f".lenslet/{name}" for name in (
        ".lenslet-state", "_index.json", "_rollup.json", "_rollup_delta.json", "_health.json", "x.jpg.thumbnail",
    )}  # fmt: skip


def test_one_folder_that_cannot_be_written_says_so_and_the_others_are_served(indexed, root) -> None:
    put(root / "open/a.jpg")
    put(root / "locked/b.jpg")
    with read_only(root / "locked"):
        gallery = indexed()
        for path in ("/folders?path=locked", "/thumb?path=locked/b.jpg"):
            answer = gallery.app.get(path, status=403).json
            assert answer["description"] == "locked cannot be written: allow it, or set STATE_DIR"
        assert gallery.app.get("/file?path=locked/b.jpg", status=200)
        gallery.app.put("/item?path=locked/b.jpg", b"{}", status=403)
        gallery.app.put("/item?path=open/a.jpg", b"{}", status=200)
        assert gallery.found("jpg") == ["open/a.jpg"]
        library = gallery.app.get("/health").json["library"]
        (problem,) = library["problems"]["unreadableFolders"]
        assert problem["path"] == "locked"
    gallery.index()
    assert gallery.items("locked")["b.jpg"]["hasThumb"] is True
    assert gallery.app.get("/health").json["reasons"] == []
