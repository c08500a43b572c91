"""Previews: what `/preview` sends, when it is made, and how many this host keeps."""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import (
    BROKEN_JPEG,
    Gallery,
    Server,
    draw,
    encode,
    exif,
    is_bucket,
    jpeg,
    put,
    read_only,
    tree,
)
from PIL import Image
from test_images import swapped_profile
from test_pointers import point

Make = Callable[..., Gallery]
MEGABYTE = 1024**2
PENDING = {"status": "pending", "path": "a.jpg", "poll": "/preview?path=a.jpg", "retryAfter": 1}
everywhere = pytest.mark.parametrize("root", ["folder", "bucket"], indirect=True)


def preview(gallery: Gallery, path: str = "a.jpg", **more: str) -> Any:
    """The preview of an image, asked for as a client does: again after a 202."""
    gallery.app.get("/preview", {"path": path, **more}, status="*")
    gallery.settle()
    return gallery.app.get("/preview", {"path": path, **more}, status=200)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def kept(folder: pathlib.Path) -> dict[str, int]:
    """The previews in the caches below a folder, and their sizes."""
    return {file.name: file.stat().st_size for file in folder.rglob("previews/*.webp")}


# What is sent


@everywhere
def test_a_tile_gets_640_pixels_after_all_that_others_wait_for(
    make_gallery, root, tmp_path
) -> None:
    for name in ("a", "b"):
        put(root / f"{name}.jpg", jpeg(2000, 1500))
    gallery = make_gallery()
    tile = {"path": "a.jpg", "size": "640"}
    pending = gallery.app.get("/preview", tile, status=202).json
    assert pending["poll"] == "/preview?path=a.jpg&size=640"
    gallery.app.get("/preview?path=b.jpg", status=202)
    while not kept(tmp_path) and gallery.step():
        pass
    gallery.app.get("/preview?path=b.jpg", status=200)
    gallery.app.get("/preview", tile, status=202)
    assert opened(preview(gallery, size="640").body).size == (640, 480)
    assert opened(preview(gallery).body).size == (1600, 1200)
    gallery.index()
    rev, how = gallery.folder("")["items"][0]["rev"], gallery.app.get("/").json["previews"]
    version = f"{rev}-{how.replace('1600', '640')}"
    kept_for_ever = gallery.app.get("/preview", {**tile, "v": version}).headers["Cache-Control"]
    assert "immutable" in kept_for_ever
    other = gallery.app.get("/preview", {**tile, "v": f"{rev}-{how}"}).headers["Cache-Control"]
    assert "immutable" not in other
    gallery.app.get("/preview?path=a.jpg&size=700", status=400)


def test_a_large_photo_gets_an_upright_webp_of_1600_pixels_without_metadata(
    make_gallery, root
) -> None:
    metadata = exif(Orientation=6, DateTimeOriginal="2025:02:15 12:32:00")
    put(root / "a.jpg", jpeg(2400, 1200, exif=metadata, icc_profile=swapped_profile()))
    answer = preview(make_gallery())
    image = opened(answer.body)
    assert (answer.content_type, image.format, image.size) == ("image/webp", "WEBP", (800, 1600))
    assert not {"exif", "icc_profile", "xmp"} & image.info.keys()
    red, _, blue = image.convert("RGB").getpixel((780, 20))
    assert blue > 150 > 100 > red  # converted to sRGB


@pytest.mark.parametrize("size", [(400, 300), (3, 1600)])
def test_a_smaller_image_is_not_enlarged(make_gallery, root, size) -> None:
    put(root / "a.png", encode(draw(*size), "PNG"))
    assert opened(preview(make_gallery(), "a.png").body).size == size


def test_a_client_that_has_the_preview_does_not_get_it_again(indexed, root) -> None:
    put(root / "a.jpg", jpeg(1800, 1200))
    gallery = indexed()
    answer, rev = preview(gallery), gallery.items()["a.jpg"]["rev"]
    tag = {"If-None-Match": answer.headers["ETag"]}
    made = f"{rev}-{gallery.app.get('/').json['previews']}"
    forever = "private, max-age=31536000, immutable"
    for version, how in (("old", "no-cache"), (rev, "no-cache"), (made, forever)):
        where = f"/preview?path=a.jpg&v={version}"
        whole, known = gallery.app.get(where), gallery.app.get(where, headers=tag, status=304)
        head = gallery.app.head(where, status=200)
        assert (whole.body, known.body, head.body) == (answer.body, b"", b"")
        assert head.headers["Content-Length"] == str(len(answer.body))
        for each in (whole, known, head):
            assert each.headers["ETag"] == answer.headers["ETag"]
            assert each.headers["Cache-Control"] == how


# What cannot be sent


@everywhere
def test_a_preview_that_takes_longer_answers_202_and_where_to_ask(make_gallery, root) -> None:
    put(root / "a.jpg")
    gallery = make_gallery()
    for method in ("GET", "HEAD"):
        answer = gallery.app.request("/preview?path=a.jpg", method=method, status=202)
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Location"].endswith("/preview?path=a.jpg")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.body == b"" if method == "HEAD" else answer.json == PENDING
    under = gallery.app.get("/api/preview?path=a.jpg", extra_environ={"SCRIPT_NAME": "/p"})
    assert under.json["poll"] == "/p/api/preview?path=a.jpg"
    gallery.settle()
    gallery.app.get(answer.headers["Location"], status=200)


@everywhere
def test_without_an_image_there_is_no_preview(indexed, root) -> None:
    put(root / "sub/a.jpg")
    gallery = indexed()
    for path in ("none.jpg", "sub", "sub/none.jpg", "none/a.jpg", "sub/a.jpg.thumbnail"):
        answer = gallery.app.get(f"/preview?path={path}", status=404)
        assert set(answer.json) == {"title", "description"}
    gallery.app.get("/preview?path=../a.jpg", status=400)
    for method in ("POST", "PUT", "DELETE"):
        refused = gallery.app.request("/preview?path=sub/a.jpg", method=method, status=405)
        assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("is_indexed", [True, False])
def test_an_image_that_cannot_be_decoded_answers_422_and_why(
    make_gallery, root, is_indexed
) -> None:
    put(root / "a.jpg", BROKEN_JPEG)
    put(root / "gif.jpg", b"GIF89a" + bytes(100))
    put(root / "large.png", encode(draw(300, 200), "PNG"))
    put(root / "long.jpg", jpeg(60, 40) + bytes(100_000))
    gallery = make_gallery(THUMB_WAIT="20", MAX_PIXELS="50000", MAX_FILE_BYTES="99999")
    if is_indexed:
        gallery.index()
    reasons = {"a.jpg": "cannot be decoded", "gif.jpg": "this is a GIF file", "large.png": "MAX_PIXELS",
               "long.jpg": "MAX_FILE_BYTES"}  # fmt: skip
    with gallery.running():
        for name, reason in reasons.items():
            answer = gallery.app.get(f"/preview?path={name}", status=422)
            assert reason in answer.json["description"]
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_preview_that_takes_too_much_memory_answers_503_and_why(make_gallery, root) -> None:
    """Its thumbnail, for which a JPEG is decoded at an eighth, takes less."""
    put(root / "a.jpg", jpeg(6000, 6000))
    gallery = make_gallery(INDEX_MEMORY=str(64 * MEGABYTE), WORKER_THREADS="1")
    gallery.index()
    gallery.app.get("/thumb?path=a.jpg", status=200)
    gallery.app.get("/preview?path=a.jpg", status="*")
    gallery.settle(3)
    answer = gallery.app.get("/preview?path=a.jpg", status=503)
    assert "INDEX_MEMORY" in answer.json["description"]


def test_a_cache_that_cannot_be_written_answers_503_and_why(make_gallery, root, tmp_path) -> None:
    put(root / "a.jpg")
    put(root / "b.jpg")
    gallery = make_gallery()
    preview(gallery)
    (folder,) = (tmp_path / "cache").rglob("previews")
    with read_only(folder):
        gallery.app.get("/preview?path=b.jpg", status=202)
        gallery.settle(1)
        answer = gallery.app.get("/preview?path=b.jpg", status=503)
        assert "No images can be read" in answer.json["description"]
        gallery.app.get("/preview?path=a.jpg", status=200)
    preview(gallery, "b.jpg")
    assert gallery.app.get("/health/workers").json["problems"] == []


# When it is made


@pytest.mark.parametrize(
    "header", [{"Accept": "image/avif,image/webp,*/*"}, {"Sec-Fetch-Dest": "image"}]
)
@pytest.mark.parametrize("settled", [10, 0])
def test_an_img_waits_longer_also_for_a_new_file(make_gallery, root, header, settled) -> None:
    gallery = make_gallery(IMG_WAIT="60")
    gallery.clock.settling_seconds = settled
    put(root / "a.jpg")
    gallery.app.get("/preview?path=a.jpg", status=202)
    with gallery.running():
        gallery.app.get("/preview?path=a.jpg", headers=header, status=200)


@pytest.mark.timing
def test_an_img_does_not_wait_longer_than_img_wait(make_gallery, root) -> None:
    put(root / "a.jpg")
    gallery = make_gallery(IMG_WAIT="0.3")
    begun = time.monotonic()
    gallery.app.get("/preview?path=a.jpg", headers={"Accept": "image/*"}, status=503)
    assert 0.2 < time.monotonic() - begun < 5


def test_two_requests_at_once_get_one_preview(make_gallery, root, tmp_path) -> None:
    put(root / "a.jpg", jpeg(3000, 2000))
    gallery = make_gallery(THUMB_WAIT="30")

    def ask(_: int) -> bytes:
        return gallery.app.get("/preview?path=a.jpg", status=200).body

    with gallery.running(), ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(ask, range(4)))
    assert len(set(bodies)) == 1
    assert len(kept(tmp_path)) == 1


@everywhere
def test_a_replaced_image_gets_another_preview(indexed, root) -> None:
    put(root / "a.jpg", jpeg(1800, 1200))
    gallery = indexed()
    old, rev = preview(gallery), gallery.items()["a.jpg"]["rev"]
    put(root / "a.jpg", jpeg(1000, 1500))
    if not is_bucket(root):  # in a bucket the manifest tells
        gallery.app.get("/preview?path=a.jpg", status=202)
    gallery.index()
    new = preview(gallery, v=rev)
    assert opened(new.body).size == (1000, 1500)
    assert new.headers["ETag"] != old.headers["ETag"]
    assert new.headers["Cache-Control"] == "no-cache"  # `v` is the rev of the old image


# Pointers


def test_an_image_below_a_pointer_has_a_preview(make_gallery, indexed, root) -> None:
    put(root / "art/one.jpg", jpeg(1800, 1200))
    point(root / "C", "art", readonly=True)
    assert opened(preview(indexed(), "C/one.jpg").body).size == (1600, 1067)
    for target, status in (("C", 508), ("nowhere", 403)):
        point(root / "C", target)
        make_gallery().app.get("/preview?path=C/one.jpg", status=status)


# Where previews are kept


@everywhere
def test_previews_are_in_the_cache_of_the_host_and_nowhere_else(indexed, root, tmp_path) -> None:
    put(root / "deep/a.jpg", jpeg(1800, 1200))
    gallery = indexed()
    gallery.settle(400)
    before = tree(root)
    answer = preview(gallery, "deep/a.jpg")
    gallery.settle(400)
    assert tree(root) == before
    assert list(kept(tmp_path / "cache").values()) == [len(answer.body)]
    found = gallery.items("deep")["a.jpg"]
    assert not {"hasPreview", "preview"} & found.keys()


def test_the_previews_of_two_libraries_do_not_meet(tmp_path) -> None:
    galleries = []
    for name, size in (("one", (300, 200)), ("two", (200, 300))):
        put(tmp_path / name / "a.jpg", jpeg(*size))
        os.utime(tmp_path / name / "a.jpg", (1, 1))
        galleries.append(Gallery(tmp_path / name, tmp_path / "cache"))
    sizes = [opened(preview(gallery).body).size for gallery in galleries]
    assert sizes == [(300, 200), (200, 300)]
    for gallery in galleries:
        gallery.close()


def test_a_cache_that_is_deleted_under_a_service_is_filled_again(
    serve: Callable[..., Server], root, tmp_path
) -> None:
    put(root / "a.jpg", jpeg(1800, 1200))
    server = serve(root, THUMB_WAIT="10")
    first = server.until(lambda: server.get("/preview?path=a.jpg")[1])
    for gone in (*(tmp_path / "cache").rglob("previews"), tmp_path / "cache"):
        shutil.rmtree(gone)
        assert server.get("/preview?path=a.jpg") == (200, first)
        assert len(kept(tmp_path / "cache")) == 1


def test_a_torn_preview_counts_as_missing(make_gallery, root, tmp_path) -> None:
    put(root / "a.jpg", jpeg(1800, 1200))
    gallery = make_gallery()
    whole = preview(gallery).body
    (file,) = (tmp_path / "cache").rglob("previews/*.webp")
    for torn in (b"", whole[:500], whole[:500] + bytes(len(whole) - 501)):
        file.write_bytes(torn)
        gallery.app.get("/preview?path=a.jpg", status=202)
        gallery.settle()
        assert gallery.app.get("/preview?path=a.jpg", status=200).body == whole


def test_a_cache_too_large_gives_room_to_what_is_looked_at(make_gallery, root, tmp_path) -> None:
    put(root / "a.jpg", jpeg(1800, 1200))
    put(root / "b.jpg", jpeg(1600, 1200))
    gallery = make_gallery(PREVIEW_BYTES=str(16 * MEGABYTE))
    first = preview(gallery).body
    (file,) = (tmp_path / "cache").rglob("previews/*.webp")
    for number in range(20):
        old = file.with_name(f"{number:040x}.webp")
        old.write_bytes(bytes(MEGABYTE))
        os.utime(old, (1e9 + number, 1e9 + number))
    gallery.restart()  # like a process that starts with a full cache
    second = preview(gallery, "b.jpg").body
    left = kept(tmp_path / "cache")
    assert 13 * MEGABYTE < sum(left.values()) <= 16 * MEGABYTE
    assert f"{0:040x}.webp" not in left
    assert f"{19:040x}.webp" in left
    assert {len(first), len(second)} <= set(left.values())
