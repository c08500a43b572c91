"""Files of other programs beside photos: XMP sidecars, and the JSON of Google Takeout."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from conftest import Gallery, draw, encode, exif, jpeg, put
from written import alt, bag, packet

from lenslet.library import companions

TAKEOUT = [
    ("a.jpg", "a.jpg.json"), ("a.jpg", "a.jpg.supplemental-metadata.json"), ("a.jpg", "a.jpg.supp.json"),
    ("a.jpg", "a.jpg.s.json"), ("a.jpg", "a.jpg..json"), ("a.jpg", "a.json"), ("a(1).jpg", "a.jpg(1).json"),
    ("a(1).jpg", "a(1).jpg.json"), ("a(12).jpg", "a.jpg.supplemental-metadata(12).json"),
    ("a(1).jpg", "a.jpg.supplemen(1).json"), ("a-edited.jpg", "a.jpg.json"), ("a-bearbeitet.jpg", "a.jpg.supp.json"),
    ("a-edited(2).jpg", "a.jpg(2).json"), ("_DSC1.jpg", "_DSC1.jpg.supplemental-metadata.json"), (f"{'x' * 50}.jpg", f"{'x' * 46}.json"),
    (f"{'x' * 40}.jpg", f"{'x' * 40}.jpg.s.json"), (f"{'x' * 44}.jpg", f"{'x' * 44}.j.json"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "note"), TAKEOUT)
def test_a_note_of_takeout_is_that_of_its_photo(image: str, note: str) -> None:
    assert companions.find({image, "other.jpg"}, [image, note, "other.jpg"]) == {image: [note]}


@pytest.mark.parametrize(
    ("image", "file"),
    [("a(1).jpg", "a.jpg.json"), ("a.jpg", "a.jpg(1).json"), ("a.jpg", "a.jpg.lenslet.json"), ("a.jpg", "a.png.json"),
     ("a.jpg", "a.jpg.sup2.json"), ("a.jpg", "a.jp.json"), ("_index.jpg", "_index.json"), ("a.jpg", "b.xmp"),
     ("a.jpg", "a.jpg.xmp.txt")],
)  # fmt: skip
def test_a_file_of_another_photo_is_not_taken(image: str, file: str) -> None:
    assert not companions.find({image}, [image, file])


def test_of_two_packets_the_one_that_names_the_whole_file_counts() -> None:
    files = ["a.jpg", "a.png", "a.XMP", "a.jpg.xmp", "a.jpg.json"]
    found = companions.find({"a.jpg", "a.png"}, files)
    assert found == {"a.jpg": ["a.jpg.xmp", "a.jpg.json"], "a.png": ["a.XMP"]}


def said(item: dict[str, Any]) -> dict[str, Any]:
    return {k: item[k] for k in ("keywords", "title", "caption", "takenAt") if k in item}


@pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
def test_what_an_xmp_sidecar_says_wins_follows_it_and_goes_with_it(indexed, root) -> None:
    inside = packet(bag("dc:subject", "inside") + alt("dc:title", x_default="Inside"))
    data = encode(draw(), xmp=inside, exif=exif(DateTimeOriginal="2020:01:01 00:00:00"))
    put(root / "a.jpg", data)
    beside = packet(bag("dc:subject", "beside", "two"), 'exif:DateTimeOriginal="1932-07"')
    put(root / "a.xmp", beside)
    gallery: Gallery = indexed()
    first = gallery.items()["a.jpg"]
    wanted = {"keywords": ["beside", "two"], "title": "Inside", "takenAt": "1932-07"}
    assert said(first) == wanted
    assert first["hasThumb"]
    assert gallery.found("tag:beside date:1932") == ["a.jpg"]
    assert not gallery.app.get("/folders").json.get("unsupported")
    gallery.told.clear()
    gallery.ask()
    assert gallery.told == []  # it is not read again
    put(root / "a.jpg.xmp", packet(bag("dc:subject", "new")))
    gallery.ask()
    assert said(gallery.items()["a.jpg"])["keywords"] == ["new"]
    assert gallery.found("tag:new") == ["a.jpg"]
    assert gallery.items()["a.jpg"]["thumb"] == first["thumb"]
    for name in ("a.xmp", "a.jpg.xmp"):
        (root / name).unlink()
    gallery.ask()
    assert said(gallery.items()["a.jpg"])["keywords"] == ["inside"]
    assert said(gallery.items()["a.jpg"])["takenAt"] == "2020-01-01T00:00:00"


NONSENSE = [
    b"",
    b"<",
    b"\xff" * 100,
    packet("<a>" * 5000),
    b"{" * 5000,
    b"[]",
    b'{"description": 1}',
]


def test_nonsense_beside_a_photo_says_nothing(indexed, root: pathlib.Path) -> None:
    for number, data in enumerate(NONSENSE):
        for end in ("xmp", "json"):
            put(root / f"{number}{end}.jpg")
            put(root / f"{number}{end}.{end}", data)
    put(root / "large.jpg")
    put(root / "large.xmp", packet(bag("dc:subject", "x") + " " * (1 << 20)))
    put(root / "folder.jpg")
    (root / "folder.xmp").mkdir()
    gallery: Gallery = indexed()
    assert all(item["hasThumb"] and not said(item) for item in gallery.items().values())
    gallery.told.clear()
    gallery.index()
    assert gallery.told == []


@pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
def test_a_note_of_takeout_is_the_caption_and_the_date_of_a_photo_without_one(
    indexed, root
) -> None:
    """It follows the file, whose bytes stay; what the photo itself says comes first."""
    own = packet(alt("dc:description", x_default="Own"), 'xmp:CreateDate="2001"')
    put(root / "own.jpg", encode(draw(), xmp=own))
    put(root / "plain.jpg")
    gallery: Gallery = indexed()
    taken = {"timestamp": "1458375918", "formatted": "19 Mar 2016"}
    for text, caption in (("Same", "Same"), ("x" * 5000, "x" * 4000), ("", None), (["no"], None)):
        data = json.dumps({"title": "x", "description": text, "photoTakenTime": taken}).encode()
        for name in ("own", "plain"):
            put(root / f"{name}.jpg.json", data)
        gallery.ask()
        assert (root / "plain.jpg.json").read_bytes() == data
        items = gallery.items()
        assert said(items["own.jpg"]) == {"caption": "Own", "takenAt": "2001"}
        dated = {"takenAt": "2016-03-19T08:25:18+00:00"}
        assert said(items["plain.jpg"]) == ({"caption": caption} if caption else {}) | dated
        if caption:
            assert gallery.found(f"notes:{caption[:100]}") == ["plain.jpg"]
            gallery.app.put_json("/item?path=plain.jpg", {"tags": ["mine"]})
            gallery.ask()
            assert gallery.items()["plain.jpg"]["tags"] == ["mine"]


def test_an_edit_of_a_sidecar_reads_no_image_again(indexed, root) -> None:
    put(root / "a.jpg", jpeg())
    put(root / "a.json", b'{"description": "From Takeout"}')
    gallery: Gallery = indexed()
    gallery.told.clear()
    gallery.app.put_json("/item?path=a.jpg", {"tags": ["mine"]})
    gallery.ask()
    assert gallery.told == []
    assert gallery.items()["a.jpg"]["caption"] == "From Takeout"


def test_a_thumbnail_that_a_client_asks_for_keeps_what_is_beside_the_photo(indexed, root) -> None:
    put(root / "a.jpg")
    put(root / "a.xmp", packet(bag("dc:subject", "beside")))
    gallery: Gallery = indexed()
    gallery.told.clear()
    (root / "a.jpg.thumbnail").unlink()
    gallery.app.get("/thumb?path=a.jpg", status=202)
    gallery.settle()
    assert gallery.items()["a.jpg"]["keywords"] == ["beside"]
    assert gallery.items()["a.jpg"]["hasThumb"]
    assert len(gallery.told) == 1


def test_an_image_that_is_refused_now_is_not_read_again_and_again(make_gallery, root) -> None:
    put(root / "a.jpg", jpeg(400, 300))
    make_gallery().index()
    put(root / "a.xmp", packet(bag("dc:subject", "beside")))
    gallery: Gallery = make_gallery(MAX_FILE_BYTES="1000")
    for _ in range(3):
        gallery.index()
    assert len(gallery.told) == 1
    assert "error" not in gallery.items()["a.jpg"]


@pytest.mark.parametrize("root", ["bucket"], indirect=True)
def test_no_edit_is_lost_when_a_note_of_takeout_comes_or_goes(indexed, root) -> None:
    put(root / "a.jpg")
    put(root / "a.jpg.json", b'{"description": "x"}')
    put(root / "b.jpg")
    gallery: Gallery = indexed()
    gallery.app.put_json("/item?path=a.jpg", {"notes": "first"})
    assert gallery.app.get("/item?path=a.jpg").json["notes"] == "first"
    (root / "a.jpg.json").unlink()
    put(root / "b.jpg.json", b'{"description": "x"}')
    gallery.app.put_json("/item?path=b.jpg", {"notes": "first"})
    for name in ("a", "b"):
        gallery.app.put_json(f"/item?path={name}.jpg", {"tags": ["two"]})
    gallery.index()
    for name in ("a", "b"):
        found = gallery.app.get(f"/item?path={name}.jpg").json
        assert (found["notes"], found["tags"]) == ("first", ["two"]), name
