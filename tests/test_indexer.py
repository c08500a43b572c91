"""The index loop over real folders: what it finds, keeps and leaves alone."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from conftest import BROKEN_JPEG, Gallery, encode, jpeg, put, tree
from PIL import Image

from lenslet.images import FACTS_VERSION, rendering
from lenslet.images.decoders import Decoders
from lenslet.index.images import ImageQueue, Urgency, Wanted
from lenslet.index.messages import Look, Rebuild
from lenslet.index.record import Retry
from lenslet.index.scan import Scan
from lenslet.library import manifest
from lenslet.paths import HEALTH, Path

Make = Callable[..., Gallery]


def rest(gallery: Gallery) -> None:
    """Lets it do all that it does within some minutes."""
    gallery.index()
    gallery.settle(400)


def test_a_new_library_gets_manifests_thumbnails_rollup_and_health(indexed, root) -> None:
    put(root / "b.jpg")
    put(root / "2025/img10.jpg", jpeg(40, 30))
    put(root / "2025/img2.png")
    put(root / "2025/broken.webp", BROKEN_JPEG)
    indexed()
    assert set(tree(root)) == {
        "b.jpg", "b.jpg.thumbnail", "_index.json", "_rollup.json", "_rollup_delta.json",
        "_health.json", "2025/img10.jpg", "2025/img10.jpg.thumbnail", "2025/img2.png",
        "2025/img2.png.thumbnail", "2025/broken.webp", "2025/_index.json",
    }  # fmt: skip
    manifest = json.loads((root / "2025/_index.json").read_text())
    assert [item["name"] for item in manifest["items"]] == ["broken.webp", "img2.png", "img10.jpg"]
    broken, _, small = manifest["items"]
    assert (small["w"], small["h"], small["size"]) == (40, 30, len(jpeg(40, 30)))
    assert small["hasThumb"] and not small["hasMeta"] and small["hash"].startswith("blake3:")
    assert broken["error"] and not broken["hasThumb"]
    counts = json.loads((root / "_health.json").read_text())["counts"]
    assert (counts["folders"], counts["items"], counts["unreadableImages"]) == (2, 3 + 1, 1)


def test_a_second_pass_over_an_unchanged_library_writes_nothing(indexed, root) -> None:
    put(root / "a/b/c.jpg")
    put(root / "a/d.png", BROKEN_JPEG)
    gallery = indexed()
    before = times(root)
    gallery.told.clear()
    gallery.restart()
    gallery.index()
    assert times(root) == before
    assert gallery.told == []


def times(root: pathlib.Path) -> dict[str, int]:
    """When each file was written, but for the report that tells of the pass itself."""
    files = (path for path in root.rglob("*") if path.name != "_health.json")
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("time", [10**18, 2 * 10**18], ids=["older", "the same"])
@pytest.mark.parametrize("is_removed", [False, True])
def test_a_replaced_image_gets_a_new_thumbnail_whatever_its_time(
    indexed, root, time, is_removed
) -> None:
    """Older or the same, also if the folder was indexed without the image."""
    put(root / "other.jpg")
    photo = put(root / "a.jpg", jpeg(400, 300))
    os.utime(photo, ns=(2 * 10**18, 2 * 10**18))
    gallery = indexed()
    first, before = gallery.items()["a.jpg"], gallery.app.get("/thumb?path=a.jpg").body
    if is_removed:
        photo.unlink()
        gallery.index()
    photo.write_bytes(jpeg(300, 400, seed=9))
    os.utime(photo, ns=(time, time))
    gallery.ask()
    second, after = gallery.items()["a.jpg"], gallery.app.get("/thumb?path=a.jpg").body
    assert (second["w"], second["h"]) == (300, 400)
    assert second["rev"] != first["rev"] and second["hash"] != first["hash"]
    assert after != before and Image.open(io.BytesIO(after)).size == (192, 256)
    assert (root / "a.jpg.thumbnail").stat().st_mtime_ns == time


def test_a_bad_image_is_tried_again_when_it_changes_or_is_asked_for(make_gallery, root) -> None:
    photo = put(root / "a/x.jpg", BROKEN_JPEG)
    gallery = make_gallery()
    for _ in range(2):
        gallery.index()
        assert [path for path, _ in gallery.told] == ["a/x.jpg"]
    gallery.app.post("/folders/a/reindex", status=202)
    gallery.settle()
    assert [path for path, _ in gallery.told] == ["a/x.jpg"] * 2
    photo.write_bytes(jpeg())
    gallery.ask("a")
    assert "error" not in gallery.items("a")["x.jpg"]


def test_a_new_file_is_shown_at_once_if_it_is_whole_and_else_when_it_is(make_gallery, root) -> None:
    """One that is not is broken only once it has not changed for two seconds."""
    copied, photo = put(root / "copied.jpg", jpeg()[:-200]), put(root / "whole.jpg")
    gallery = make_gallery()
    gallery.clock.settling_seconds = 0
    gallery.index()
    assert gallery.told == [("whole.jpg", None)]
    items = gallery.items()
    assert items["whole.jpg"]["hasThumb"]
    assert items["copied.jpg"].keys().isdisjoint({"error", "warning", "hash"})
    gallery.clock.settling_seconds = 10
    gallery.settle()
    assert gallery.items()["copied.jpg"]["warning"] == "truncated"
    copied.write_bytes(photo.read_bytes())
    gallery.ask()
    assert gallery.items()["copied.jpg"]["hash"] == items["whole.jpg"]["hash"]


@pytest.mark.parametrize("gone", ["a", ""], ids=["emptied", "vanished"])
def test_an_unmounted_root_changes_nothing_and_comes_back(indexed, root, tmp_path, gone) -> None:
    put(root / "a/one.jpg")
    gallery = indexed(STATE_DIR=str(tmp_path / "state"))
    edit(gallery, "a/one.jpg", notes="mine")
    rest(gallery)
    state = tree(tmp_path / "state")
    (root / gone).rename(tmp_path / "away")
    rest(gallery)
    assert list(root.parent.glob("photos*/*")) == [] and root.exists() == bool(gone)
    assert tree(tmp_path / "state") == state
    assert gallery.app.get("/health", status=503).json["status"] == "down"
    (tmp_path / "away").rename(root / gone)
    gallery.settle(6)  # sooner than the next scan would be
    assert gallery.app.get("/health").json["storage"]["readable"] is True
    gallery.index()
    after = tree(tmp_path / "state")
    assert {**after, HEALTH: b""} == {**state, HEALTH: b""}  # a pass has ended
    assert gallery.found("mine") == ["a/one.jpg"]


def test_a_sidecar_that_is_no_file_is_reported_with_the_reason(indexed, root) -> None:
    put(root / "x.jpg")
    (root / "x.jpg.json").mkdir()
    gallery = indexed()
    report = gallery.app.get("/health").json
    (problem,) = report["library"]["problems"]["unreadableSidecars"]
    assert (problem["path"], problem["reason"]) == ("x.jpg.json", "not a file")
    assert report["reasons"][0].startswith(
        "Tags and notes that cannot be read: 1 (repair or rename"
    )


def test_leftovers_of_a_killed_writer_are_removed_after_an_hour(make_gallery: Make, root) -> None:
    put(root / "a.jpg")
    dead, alive = (put(root / f".lenslet-tmp-{each * 16}", b"x") for each in "da")
    for file, minutes in ((dead, 61), (alive, 59)):
        os.utime(file, (time.time() - 60 * minutes,) * 2)
    make_gallery().index()
    assert not dead.exists()
    assert alive.exists()


def test_ignored_names_and_globs_are_not_part_of_the_library(indexed, root) -> None:
    for name in ("@eaDir/a.jpg", ".hidden/a.jpg", "lost+found/a.jpg", "x/.b.jpg", "x/raw_1.jpg",
                 "x/ok.jpg", "y/drafts/no.jpg", "@Recycle/a.jpg", "@Recently-Snapshot/b.jpg",
                 "x/#snapshot/c.jpg", ".@__thumb/ok.jpg", "$Recycle.Bin/d.jpg"):  # fmt: skip
        put(root / name)
    gallery = indexed(IGNORE="raw_*, y/drafts")
    assert gallery.found("jpg") == ["x/ok.jpg"]
    gallery.app.get("/thumb?path=x/raw_1.jpg", status=404)
    gallery.app.get("/file?path=y/drafts/no.jpg", status=404)


def test_the_cover_of_a_folder_is_its_first_image_that_can_be_shown(indexed, root) -> None:
    put(root / "a/b/c/2.jpg")
    put(root / "a/b/c/1.jpg", BROKEN_JPEG)
    put(root / "empty/other.txt", b"")
    gallery = indexed()
    covers = {entry["name"]: entry.get("cover") for entry in gallery.folder()["dirs"]}
    assert covers == {"a": "a/b/c/2.jpg", "empty": None}
    put(root / "a/b/0.jpg")
    gallery.index()
    assert gallery.folder()["dirs"][0]["cover"] == "a/b/0.jpg"
    (root / "a/b/0.jpg").unlink()
    (root / "a/b/c/2.jpg").unlink()
    gallery.index()
    assert "cover" not in gallery.folder()["dirs"][0]
    assert "coverRev" not in gallery.folder()["dirs"][0]


def test_the_rev_of_a_cover_follows_the_image_up_to_the_root(indexed, root) -> None:
    put(root / "a/b/c/1.jpg")
    gallery = indexed()
    before = gallery.folder()["dirs"][0]["coverRev"]
    put(root / "a/b/c/1.jpg", jpeg(44, 33))
    gallery.ask("a/b/c")
    for folder in ("a/b", "a", ""):
        (entry,) = gallery.folder(folder)["dirs"]
        shown = {key: entry[key] for key in ("cover", "coverRev", "coverThumb")}
        assert shown == gallery.cover("a/b/c/1.jpg")
    assert entry["coverRev"] != before


def test_a_new_folder_that_is_asked_for_before_its_parent_shows_there(indexed, root) -> None:
    put(root / "a.jpg")
    gallery = indexed()
    put(root / "new/b.jpg")
    gallery.ask("new")
    gallery.index()
    shown = {"name": "new", "kind": "leaf-real", **gallery.cover("new/b.jpg")}
    assert gallery.folder()["dirs"] == [shown]


def test_a_folder_larger_than_a_page_is_served_in_pages_of_one_generation(indexed, root) -> None:
    for number in range(11):
        put(root / f"p/img{number}.jpg", jpeg(8, 6, seed=number))
    gallery = indexed(PAGE_SIZE="4")
    pages = [gallery.app.get(f"/folders?path=p&page={page}").json for page in range(3)]
    assert [item["name"] for page in pages for item in page["items"]] == [
        f"img{number}.jpg" for number in range(11)
    ]
    assert {page["generatedAt"] for page in pages} == {pages[0]["generatedAt"]}
    assert [(p["page"], p["pageCount"], p["itemCount"]) for p in pages] == [
        (0, 3, 11), (1, 3, 11), (2, 3, 11),
    ]  # fmt: skip
    assert "dirs" in pages[0] and "dirs" not in pages[1]
    assert "items" not in json.loads((root / "p/_index.json").read_text())
    gallery.app.get("/folders?path=p&page=3", status=404)
    assert gallery.app.get("/item?path=p/img9.jpg").json["exif"]["width"] == 8
    stale = json.loads((root / "p/_index_1.json").read_text()) | {
        "generatedAt": "2020-01-01T00:00:00Z"
    }
    (root / "p/_index_1.json").write_text(json.dumps(stale) + "\n")
    gallery.app.get("/folders?path=p&page=1", status=202)
    for number in range(9):
        (root / f"p/img{number}.jpg").unlink()
    gallery.index()
    assert not list((root / "p").glob("_index_*.json"))
    assert list(gallery.items("p")) == ["img9.jpg", "img10.jpg"]


def test_names_that_cannot_be_a_path_are_counted_and_shown_escaped(indexed, root) -> None:
    put(root / "ok.jpg")
    for name in (b"bad\xff.jpg", b"new\nline.jpg", b"back\\slash.jpg"):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(jpeg())
    gallery = indexed()
    assert list(gallery.items()) == ["ok.jpg"]
    library = gallery.app.get("/health").json["library"]
    assert sorted(problem["path"] for problem in library["problems"]["unusableNames"]) == [
        "back\\x5cslash.jpg", "bad\\xff.jpg", "new\\x0aline.jpg",
    ]  # fmt: skip


def taken(images: ImageQueue, *, slow: bool = False) -> list[str]:
    """The order in which all images that wait are taken."""
    return [str(wanted.path) for wanted in iter(lambda: images.take(slow=slow), None)]


def test_what_clients_wait_for_comes_before_everything_else() -> None:
    images = ImageQueue()
    for urgency in reversed(Urgency):
        images.put(Wanted(Path(f"{urgency.name}.jpg")), urgency)
    assert images.somebody_waits
    images.put(Wanted(Path("FOLDER.jpg")), Urgency.NOBODY)  # it stays as urgent as it was
    assert taken(images) == ["CLIENT.jpg", "FOLDER.jpg", "NOBODY.jpg", "STALE.jpg"]
    assert not images.somebody_waits


def test_of_thumbnails_the_oldest_and_the_newest_come_in_turn() -> None:
    """A new one does not wait for all that were asked for before, and none waits for ever."""
    images, order = ImageQueue(), []
    for number in range(6):
        images.put(Wanted(Path(f"{number}.jpg")))
    while wanted := images.take():
        order.append(wanted.path)
        if wanted.path == "0.jpg":
            images.put(Wanted(Path("later.jpg"), slow=True))
            images.put(Wanted(Path("new.jpg")))
    assert order == [f"{name}.jpg" for name in (5, 0, "new", 1, 4, 2, 3)]
    assert taken(images, slow=True) == ["later.jpg"]


def test_nothing_waits_for_ever_however_many_clients_wait() -> None:
    """Each eighth turn begins with what nobody waits for."""
    images, done = ImageQueue(), []
    for number in range(20):
        images.put(Wanted(Path(f"nobody{number}")), Urgency.NOBODY)
    for number in range(64):
        for each in range(2):  # more than can be done
            images.put(Wanted(Path(f"{number}-{each}.jpg")))
        done.append(images.take().path)
    assert sum(path.startswith("nobody") for path in done) == 8


def test_a_root_that_goes_away_during_the_walk_is_walked_again(indexed, root, tmp_path) -> None:
    """What was not seen is not forgotten: neither manifests nor the rollup shrink."""
    for number in range(6):
        put(root / f"d{number}/x{number}.jpg", jpeg(8, 6, seed=number))
    gallery = indexed()
    gallery.settle(400)
    before = json.loads((root / "_rollup.json").read_text())["items"]
    gallery.restart()
    gallery.loop.work.later(Scan(), 0.0)
    for _ in range(3):
        gallery.step()
    root.rename(tmp_path / "away")
    (root).mkdir()
    gallery.settle(700)
    assert list(root.iterdir()) == []
    root.rmdir()
    (tmp_path / "away").rename(root)
    put(root / "d5/new.jpg")
    gallery.settle(700)
    after = json.loads((root / "_rollup.json").read_text())["items"]
    assert [item["path"] for item in after] == ["d0/x0.jpg", "d1/x1.jpg", "d2/x2.jpg", "d3/x3.jpg",
                                                "d4/x4.jpg", "d5/new.jpg", "d5/x5.jpg"]  # fmt: skip
    assert after[0] == before[0]


def test_an_image_overwritten_in_place_is_found_in_an_hour_or_when_viewed(indexed, root) -> None:
    """That does not change the time of its folder."""
    photo = put(root / "a/x.jpg", jpeg(600, 400))
    gallery = indexed()
    gallery.settle(100)
    folder = (root / "a").stat().st_mtime_ns
    photo.write_bytes(jpeg(300, 500, seed=7))
    assert (root / "a").stat().st_mtime_ns == folder
    gallery.ask("a")
    assert gallery.items("a")["x.jpg"]["w"] == 300
    photo.write_bytes(jpeg(200, 100, seed=8))
    gallery.settle(3660)
    assert gallery.items("a")["x.jpg"]["w"] == 200


NEEDS = {"_index.json": "/folders", "x.jpg.thumbnail": "/thumb", "_rollup_delta.json": "/search"}


@pytest.mark.parametrize("name", [*NEEDS, "_rollup.json", "_health.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
def test_what_is_not_ours_in_place_of_a_derived_file_is_left_and_named(
    make_gallery: Make, root, tmp_path, name, kind
) -> None:
    """What needs the file answers 409, and all else works."""
    put(root / "x.jpg")
    target, place = put(tmp_path / "target", b'{"made by": "another program"}'), root / name
    {
        "file": lambda: shutil.copy(target, place),
        "folder": place.mkdir,
        "link": lambda: place.symlink_to(target),
        "pipe": lambda: os.mkfifo(place),
    }[kind]()
    gallery = make_gallery()
    for _ in range(2):
        rest(gallery)
    for route, query in (("/folders", ""), ("/thumb", "path=x.jpg"), ("/search", "q=x")):
        asks = NEEDS.get(name) != route
        answer = gallery.app.get(f"{route}?{query}", status=[200, 202] if asks else 409)
        assert asks or answer.json["description"].startswith(f"{name} is not Lenslet's own")
    if name in ("_rollup.json", "_health.json"):
        assert gallery.found("x") == ["x.jpg"]
    assert f"{name} is not Lenslet's own" in gallery.app.get("/health").text
    assert target.read_bytes() == b'{"made by": "another program"}'
    if kind == "file":
        assert place.read_bytes() == target.read_bytes()
    else:
        assert not place.is_file() or place.is_symlink()
    shutil.rmtree(place) if kind == "folder" else place.unlink()
    rest(gallery)
    assert gallery.items()["x.jpg"]["hasThumb"] is True
    assert gallery.found("x") == ["x.jpg"]
    assert gallery.app.get("/health").json["reasons"] == []


def test_leftovers_in_state_dir_and_in_the_search_cache_are_removed(
    indexed, root, tmp_path
) -> None:
    put(root / "a/x.jpg")
    gallery = indexed(STATE_DIR=str(tmp_path / "state"))
    cache = pathlib.Path(gallery.library.cache.name)
    left = [put(folder / f".lenslet-tmp-{'1' * 16}") for folder in (tmp_path / "state/a", cache)]
    for path in left:
        os.utime(path, (1, 1))
    put(root / "a/y.jpg")
    gallery.restart()
    rest(gallery)
    assert not [path for path in left if path.exists()]


def test_a_job_that_cannot_be_sent_answers_503(make_gallery: Make, root) -> None:
    """Nobody is told to wait for work that nobody will do."""
    put(root / "a/x.jpg")
    gallery = make_gallery()
    for _ in range(10_000):
        answer = gallery.app.post("/folders/a/reindex", expect_errors=True)
        if answer.status_int != 202:
            break
    assert answer.status_int == 503 and answer.headers["Retry-After"]
    gallery.app.post("/search/rebuild-index", status=503)
    gallery.app.get("/thumb?path=a/x.jpg", status=503)
    gallery.app.put("/item?path=a/x.jpg", b"{}", status=200)


def test_an_image_is_read_without_modules_of_the_working_directory(tmp_path, monkeypatch) -> None:
    """A file `blake3.py` in a folder that is served from inside it is not executed."""
    for name in ("blake3", "orjson", "PIL", "re", "lenslet"):
        put(tmp_path / f"{name}.py", b"open('executed', 'w')")
    put(tmp_path / "x.jpg")
    monkeypatch.chdir(tmp_path)
    decoders = Decoders(1, 1 << 30, 40)
    how = {"long_edge": 256, "quality": 70, "max_pixels": 10**8}
    with (tmp_path / "x.jpg").open("rb") as file:
        facts, _ = decoders.read(file.fileno(), slow=False, **how)
    decoders.close()
    assert facts.error is None
    assert not (tmp_path / "executed").exists()


def test_images_that_fail_are_tried_again_later_and_later() -> None:
    """From the start if something has changed, and no more when all are good."""
    now, waits, retry = 1000.0, [], Retry()
    for _ in range(8):
        retry = retry.after(now, {"x.jpg": "I/O error"}, changed=False)
        waits.append(retry.due - now)
        now = retry.due
    assert waits == [3, 6, 12, 24, 48, 96, 192, 384]
    last = retry
    for _ in range(2000):  # three months, every hour
        last = last.after(last.due, {"x.jpg": "I/O error"}, changed=False)
    assert last.after(last.due, {"x.jpg": ""}, changed=False).due == last.due + 3600
    early = retry.after(now - 1, {"x.jpg": "other"}, changed=False)
    assert early == Retry({"x.jpg": "other"}, retry.due, 384)
    new = retry.after(now - 1, {"y.jpg": "new"}, changed=False)
    assert new == Retry({"y.jpg": "new"}, now + 2, 3)
    assert retry.after(now, {}, changed=True) == Retry()


def test_search_follows_a_manifest_that_goes_back_in_time(indexed, root) -> None:
    """As after a restore from a backup, or with a clock that was ahead."""
    put(root / "a/x.jpg")
    gallery = indexed()
    backup = tree(root / "a")
    put(root / "a/x.jpg.json", b'{"v": 1, "tags": ["later"], "updatedAt": "2024-01-01T00:00:00Z"}')
    rest(gallery)
    assert gallery.found("tag:later") == ["a/x.jpg"]
    (root / "a/x.jpg.json").unlink()
    put(root / "a/_index.json", backup["_index.json"])
    for _ in range(2):
        gallery.index()
    assert gallery.found("tag:later") == []


@pytest.mark.parametrize("kind", ["json", "lines", "terms"])
@pytest.mark.parametrize("how", ["removed", "torn"])
def test_search_survives_a_cache_that_lost_files(make_gallery, indexed, root, kind, how) -> None:
    """A power cut leaves torn files, which are older than the start of the machine."""
    put(root / "a/x.jpg")
    gallery = indexed()
    for file in pathlib.Path(gallery.library.cache.name).glob(f"*.{kind}"):
        file.unlink()
        if how == "torn":
            os.utime(put(file, b"x"), (1, 1))
    for asked in (gallery, make_gallery()):
        assert asked.found("x") == ["a/x.jpg"]


LONG = ("字" * 82 + ".jpg", "x" * 251 + ".jpg", "é" * 119 + "z.webp")  # 250, 255 and 244 bytes


@pytest.mark.parametrize("root", ["folder", "folder+state", "bucket"], indirect=True)
def test_an_image_with_a_long_name_is_shown_and_tagged(make_gallery: Make, root) -> None:
    """What does not fit beside it is named as docs/files.md says."""
    for name in (*LONG, "x" * 250 + "y.jpg"):
        put(root / "a" / name)
    gallery = make_gallery()
    gallery.index()
    for name in LONG:
        asked = "/item?path=a/" + quote(name)
        assert gallery.app.put_json(asked, {"notes": name[:5]}, status=200)
    gallery.index()
    for name in LONG:
        item = gallery.items("a")[name]
        assert (item["hasThumb"], item.get("error"), item["notes"]) == (True, None, name[:5])
        gallery.app.get("/thumb?path=a/" + quote(name), status=200)
    made = {path.rpartition("/")[2] for path in tree(getattr(root, "above", root))}
    raw = LONG[1].encode()
    short = f"{LONG[1][:200]}~{hashlib.sha256(raw).hexdigest()[:16]}.jpg"
    assert {
        f"{short}.thumbnail",
        f"{short}.json",
        f"{LONG[0]}.json",
        f"{LONG[2]}.thumbnail",
    } <= made
    counts = gallery.app.get("/health").json["library"]["counts"]
    assert (counts["orphanSidecars"], counts["orphanThumbnails"]) == (0, 0)
    for name in LONG:
        gallery.app.delete("/item?path=a/" + quote(name), status=204)


@pytest.mark.parametrize("root", ["folder", "folder+state"], indirect=True)
def test_tags_follow_a_photo_whose_long_name_is_changed(make_gallery: Make, root) -> None:
    images = getattr(root, "below", root)
    put(images / LONG[1])
    put(images / "other.jpg", jpeg(seed=7))
    gallery = make_gallery()
    gallery.index()
    gallery.app.put_json(f"/item?path={LONG[1]}", {"tags": ["sea"]})
    gallery.index()
    renamed = "y" * 251 + ".jpg"
    (images / LONG[1]).rename(images / renamed)
    for _ in range(3):
        gallery.index()
    assert gallery.items()[renamed]["tags"] == ["sea"]
    left = {file[-10:] for file in tree(getattr(root, "above", root)) if file.startswith("xx")}
    assert left == (set() if images != root else {".thumbnail"})


def test_a_name_for_which_a_path_has_no_room_is_counted_and_not_listed(indexed, root) -> None:
    folder = "/".join(["f" * 249] * 15)
    path = root / folder
    os.makedirs(path)
    for name in ("x.jpg", "x" * 100 + ".jpg"):
        put(path / name)
    gallery = indexed()
    assert list(gallery.items(folder)) == ["x.jpg"]
    problems = gallery.app.get("/health").json["library"]["problems"]
    assert [each["path"] for each in problems["unusableNames"]] == [f"{folder}/{'x' * 100}.jpg"]


def test_indexing_once_leaves_a_rollup_that_is_right_as_it_is(make_gallery: Make, root) -> None:
    put(root / "a/x.jpg")
    generations = set()
    for _ in range(2):
        gallery = make_gallery()
        gallery.restart(real=True)
        gallery.loop.run(threading.Event(), once=True)
        generations.add(json.loads((root / "_rollup.json").read_text())["id"])
    assert len(generations) == 1
    assert gallery.found("x") == ["a/x.jpg"]


def test_a_page_that_comes_with_the_next_image_is_looked_for(indexed, root) -> None:
    """Asking for a page that is not there has the folder looked at."""
    put(root / "a/1.jpg")
    put(root / "a/2.jpg")
    gallery = indexed(PAGE_SIZE="2")
    put(root / "a/3.jpg")
    gallery.app.get("/folders?path=a&page=1", status=404)
    gallery.clock.now += 60
    gallery.settle()
    page = gallery.app.get("/folders?path=a&page=1").json
    assert [item["name"] for item in page["items"]] == ["3.jpg"]


def edit(gallery: Gallery, path: str, **what: Any) -> None:
    body = json.dumps(what).encode()
    gallery.app.put("/item?" + urlencode({"path": path}), body, status=200)


def put_with_notes(root: pathlib.Path, folders: int, images: int, characters: int) -> list[str]:
    """Photos whose notes make the rollup large."""
    paths = [f"{folder:02d}/{number}.jpg" for folder in range(folders) for number in range(images)]
    for path in paths:
        put(root / path, jpeg(8, 6))
        sidecar = {"v": 1, "notes": "n" * characters, "updatedAt": "2024-01-01T00:00:00Z"}
        put(root / f"{path}.json", json.dumps(sidecar).encode())
    return paths


class Written:
    """The bytes of each new version of a file, and how many there were."""

    def __init__(self, file: pathlib.Path) -> None:
        self.file = file
        self.known = file.stat().st_mtime_ns
        self.bytes = self.versions = 0

    def look(self) -> None:
        info = self.file.stat()
        if info.st_mtime_ns != self.known:
            self.known = info.st_mtime_ns
            self.bytes += info.st_size
            self.versions += 1


def test_an_hour_of_tagging_does_not_write_the_rollup_again_and_again(indexed, root) -> None:
    """What is written for search is at most twice what the delta takes, and every edit is found."""
    paths = put_with_notes(root, 20, 5, 20_000)  # 2 MB
    gallery = indexed()
    gallery.settle(400)
    rollup, delta = Written(root / "_rollup.json"), Written(root / "_rollup_delta.json")
    for number in range(40):
        edit(gallery, paths[number * 37 % len(paths)], tags=[f"t{number}"])
        for _ in range(3):
            gallery.settle(10)
            rollup.look()
            delta.look()
        assert gallery.found(f"tag:t{number}") == [paths[number * 37 % len(paths)]]
    assert delta.versions >= 40
    assert delta.bytes < 170_000
    assert rollup.versions == 0


def test_photos_with_long_texts_are_in_the_rollup_soon(indexed, root) -> None:
    """Until then, each search after an edit among them would fold all of their texts."""
    put_with_notes(root, 1, 10, 60_000)
    gallery = indexed()
    gallery.settle(400)
    new = put_with_notes(root, 2, 10, 60_000)[10:]
    gallery.index()
    gallery.settle(400)
    rollup = json.loads((root / "_rollup.json").read_text())
    assert set(new) <= {item["path"] for item in rollup["items"]}
    assert json.loads((root / "_rollup_delta.json").read_text())["folders"] == {}


def cache_bytes(gallery: Gallery) -> int:
    """What the folded text takes, with the files that have no name any more."""
    folder = pathlib.Path(gallery.library.cache.name)
    found = {file.stat().st_ino: file.stat().st_size for file in folder.iterdir()}
    for fd in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(fd).startswith(f"{folder}/"):
                found[os.stat(fd).st_ino] = os.stat(fd).st_size
    return sum(found.values())


def test_edits_do_not_fill_the_cache(indexed, root) -> None:
    """Each takes 100 KB of text that search keeps until the next."""
    put_with_notes(root, 1, 3, 50_000)
    put(root / "00/x.jpg")
    gallery = indexed()
    gallery.settle(400)
    most = 0
    for number in range(120):
        edit(gallery, "00/1.jpg", tags=[f"t{number}"])
        gallery.settle(2)
        assert gallery.found(f"tag:t{number}") == ["00/1.jpg"]
        most = max(most, cache_bytes(gallery))
    assert most < 8_000_000
    assert [item["name"] for item in gallery.app.get("/search?q=n&path=00").json["items"]] == [
        "0.jpg", "1.jpg", "2.jpg",
    ]  # fmt: skip


def test_only_the_newest_rollup_stays_in_a_cache(make_gallery: Make, root, tmp_path) -> None:
    """Also on a host that nobody asks for anything, while another one writes the rollup."""
    put(root / "a/x.jpg")
    gallery = make_gallery()
    quiet = Gallery(root, tmp_path / "another cache")
    try:
        for _ in range(4):
            gallery.loop.send(Rebuild())
            gallery.index()
            quiet.index()
            assert gallery.found("x") == ["a/x.jpg"]
        for each in (gallery, quiet):
            files = pathlib.Path(each.library.cache.name).iterdir()
            assert sorted(file.suffix for file in files) == [".json", ".lines", ".terms"]
    finally:
        quiet.close()


# Another version


EVERYWHERE = pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
NEW_KEYS = ("facts", "thumb", "limit")


def edit_items(gallery: Gallery, folder: str, edit: Callable[[dict], dict]) -> None:
    """Changes a manifest, as another release would have written it."""
    tree = gallery.library.tree
    found = manifest.load(tree, Path(folder))
    found.items = [edit(item) for item in found.items]
    manifest.write(tree, found, gallery.settings.page_size, old=found)


def as_before(item: dict) -> dict:
    """An item as the releases wrote it that did not say what had made it."""
    return {key: value for key, value in item.items() if key not in NEW_KEYS}


@EVERYWHERE
def test_images_that_an_older_release_has_read_are_served_and_read_again(indexed, root) -> None:
    """Thumbnails stay, and nothing is rendered."""
    for number in range(3):
        put(root / f"a/{number}.jpg", jpeg(seed=number))
    put(root / "a/broken.jpg", BROKEN_JPEG)
    gallery = indexed()
    items, thumbnail = gallery.items("a"), gallery.app.get("/thumb?path=a/1.jpg", status=200)
    assert {item["facts"] for item in items.values()} == {FACTS_VERSION}
    before = {name: as_before(item) for name, item in items.items()}
    edit_items(gallery, "a", as_before)
    gallery.restart()
    gallery.told.clear()
    gallery.loop.work.later(Scan(), 0.0)
    while not gallery.told:
        gallery.step()
        assert gallery.items("a") == before
        assert gallery.app.get("/thumb?path=a/1.jpg", status=200).body == thumbnail.body
    gallery.settle()
    assert {path for path, _ in gallery.told} == {f"a/{name}" for name in items}
    assert len(gallery.told) == 4
    assert gallery.app.get("/thumb?path=a/1.jpg", status=200).body == thumbnail.body
    assert gallery.items("a") == items
    address = {"path": "a/1.jpg", "v": items["1.jpg"]["thumb"]}
    assert "immutable" in gallery.app.get("/thumb", address).headers["Cache-Control"]
    gallery.restart()
    gallery.told.clear()
    gallery.index()
    assert gallery.told == []


def test_new_photos_come_before_those_to_read_again(indexed, root) -> None:
    for folder in "abc":
        for number in range(3):
            put(root / folder / f"{number}.jpg", jpeg(seed=number))
    gallery = indexed()
    for folder in "abc":
        edit_items(gallery, folder, as_before)
    gallery.restart()
    gallery.told.clear()
    gallery.loop.work.later(Scan(), 0.0)
    while not gallery.told:
        assert gallery.step()
    for number in range(3):
        put(root / f"new/{number}.jpg", jpeg(seed=number))
    gallery.loop.send(Look(Path("")))
    gallery.settle()
    told = "".join(path[0] for path, _ in gallery.told)
    assert told.rindex("n") < 6 and sorted(told) == sorted("aaabbbcccnnn")


def test_items_of_a_later_release_are_left_alone_and_served(indexed, root) -> None:
    put(root / "a.jpg")
    put(root / "sub/b.jpg")
    gallery = indexed()
    later = {"facts": 99, "aperture": {"value": 1.4}, "thumb": "0123456789ab-1024-90-9"}
    edit_items(gallery, "", lambda item: {**item, **later})
    other = indexed(THUMB_LONG_EDGE="64")
    assert [path for path, _ in other.told] == ["sub/b.jpg"]
    gallery.app.put("/item?path=a.jpg", b'{"tags": ["sea"]}')
    other.settle()
    assert other.items()["a.jpg"].items() >= {**later, "tags": ["sea"]}.items()
    assert other.found("tag:sea") == ["a.jpg"]
    other.app.get("/thumb?path=a.jpg", status=200)


@EVERYWHERE
def test_thumbnails_are_made_again_with_other_settings(make_gallery, indexed, root) -> None:
    for number in range(2):
        put(root / f"a/{number}.jpg", jpeg(seed=number))
    gallery = indexed()
    before, address = gallery.items("a"), "/thumb?path=a/1.jpg"
    first = gallery.app.get(address, status=200)
    other = make_gallery(THUMB_LONG_EDGE="128", THUMB_QUALITY="90")
    other.loop.work.later(Scan(), 0.0)
    while not other.told:
        assert other.items("a") == before
        assert other.app.get(address, status=200).body == first.body
        other.step()
    other.settle()
    now = other.items("a")
    small = other.app.get(address, status=200)
    assert max(Image.open(io.BytesIO(small.body)).size) == 128
    made = rendering(long_edge=128, quality=90)
    assert [item["thumb"].partition("-")[2] for item in now.values()] == [made] * 2
    new, old = now["1.jpg"]["thumb"], before["1.jpg"]["thumb"]
    assert {**now["1.jpg"], "thumb": old} == before["1.jpg"]
    assert "immutable" in other.app.get(f"{address}&v={new}").headers["Cache-Control"]
    assert other.app.get(f"{address}&v={old}").headers["Cache-Control"] == "no-cache"
    assert other.folder()["dirs"][0]["coverThumb"] == now["0.jpg"]["thumb"]
    other.index()
    found = other.app.get("/search?q=1.jpg", status=200).json["items"]
    assert [item["thumb"] for item in found] == [new]
    other.restart()
    other.told.clear()
    other.index()
    assert other.told == []


def test_a_thumbnail_that_is_made_again_gets_another_address_if_it_differs(indexed, root) -> None:
    photo = put(root / "a.jpg", jpeg(seed=1))
    gallery = indexed()
    item = gallery.items()["a.jpg"]
    gallery.app.post("/thumb?path=a.jpg&force=true", status=202)
    gallery.settle()
    assert gallery.items()["a.jpg"] == item
    stat, other = photo.stat(), jpeg(300, 400, quality=50)
    photo.write_bytes(other + bytes(stat.st_size - len(other)))
    os.utime(photo, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    gallery.app.post("/thumb?path=a.jpg&force=true", status=202)
    gallery.settle()
    new = gallery.items()["a.jpg"]
    assert (new["rev"], new["w"]) == (item["rev"], 300)
    assert new["thumb"] != item["thumb"]


def plain(width: int, height: int) -> bytes:
    """A large image that is quick to encode."""
    return encode(Image.new("RGB", (width, height)), "WEBP", method=0)


@pytest.mark.parametrize(
    ("low", "name", "data"),
    [
        ({"MAX_PIXELS": "50000"}, "a.jpg", jpeg),
        ({"MAX_FILE_BYTES": "9000"}, "a.jpg", lambda: jpeg() + bytes(9000)),
        ({"INDEX_MEMORY": "256M"}, "a.webp", lambda: plain(9000, 6000)),
    ],
)
def test_what_a_limit_refused_is_tried_again_when_it_is_raised(
    indexed, root, low, name, data
) -> None:
    put(root / name, data())
    put(root / "broken.jpg", BROKEN_JPEG)
    gallery = indexed(**low)
    (setting,) = low
    assert setting in gallery.items()[name]["error"]
    assert gallery.items()[name]["limit"].startswith(f"{setting}=")
    same = indexed(**low)
    assert same.told == []
    raised = indexed()
    assert [path for path, _ in raised.told] == [name]
    item = raised.items()[name]
    assert item["hasThumb"] and not {"error", "limit"} & item.keys()
    lowered = indexed(**low)
    assert lowered.told == []
    edit_items(lowered, "", as_before)
    lowered.restart()
    lowered.index()
    kept = lowered.items()[name]
    assert as_before(kept) == as_before(item)
    assert kept["limit"].startswith(f"{setting}=")
    lowered.app.get(f"/thumb?path={name}", status=200)


def test_a_rollup_of_an_older_release_is_searched_and_rewritten(
    make_gallery: Make, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Also one whose items lack keys. A host's copies of another release are not read."""
    put(root / "a/photo.jpg")
    put(root / "b/photo.jpg")
    gallery = make_gallery()
    gallery.app.put("/item?path=a/photo.jpg", b'{"tags": ["sea"], "notes": "Final pick."}')
    gallery.index()
    rollup = root / "_rollup.json"
    head, *lines, last = rollup.read_text().splitlines()
    old = json.loads(head + "]}")
    form = old.pop("form")
    short = [json.loads(line.rstrip(",")) for line in lines]
    for item in short:
        del item["thumb"], item["notes"]
    text = ",\n".join(json.dumps(item, separators=(",", ":")) for item in short)
    rollup.write_text(f"{json.dumps(old)[:-2]}\n{text}\n{last}\n")
    caches = tmp_path / "cache/lenslet"
    (copies,) = caches.rglob(f"{old['id']}.*.lines")
    shutil.rmtree(copies.parent)
    for kind in ("json", "lines", "terms"):
        put(copies.parent / f"{old['id']}.{kind}", b"of another form\n")
    other = make_gallery()
    assert other.found("photo") == ["a/photo.jpg", "b/photo.jpg"]
    assert other.found("tag:sea") == ["a/photo.jpg"]
    assert other.app.get("/search/suggest?q=sea").json["suggestions"]
    other.index()
    assert json.loads(rollup.read_text())["form"] == form
    items = other.app.get("/search?q=photo").json["items"]
    assert all(item["thumb"] for item in items) and items[0]["notes"] == "Final pick."


def test_a_rollup_of_a_later_release_is_searched_and_kept(make_gallery, indexed, root) -> None:
    put(root / "a.jpg")
    indexed()
    rollup = root / "_rollup.json"
    later = re.sub('"form":[0-9]+', '"form":99', rollup.read_text())
    later = later.replace('"tags":', '"lens":{"a":[1]},"tags":')
    rollup.write_text(later)
    other = make_gallery()
    assert other.found("a.jpg") == ["a.jpg"]
    other.index()
    assert rollup.read_text() == later


def test_files_that_are_not_shown_are_counted_by_suffix(make_gallery: Make, root, caplog) -> None:
    put(root / "a/shown.jpg")
    for name in ("a/1.HEIC", "a/2.heic", "b/clip.mp4", "b/_MG_1.CR2", "b/.hidden.heic",
                 "b/metadata.json"):  # fmt: skip
        put(root / name, b"x")
    put(root / ".git/3.heic", b"x")
    gallery = make_gallery()
    with caplog.at_level("INFO", "lenslet"):
        gallery.index()
    report = gallery.app.get("/health").json
    assert report["library"]["unsupported"] == {".heic": 2, ".mp4": 1, ".cr2": 1}
    assert gallery.folder("b")["unsupported"] == {".cr2": 1, ".mp4": 1}
    assert report["status"] == "ok"
    assert "1 image in 3 folders; not shown: 2 .heic, 1 .cr2, 1 .mp4" in caplog.text
