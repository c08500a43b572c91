"""What people wrote into images: keywords, titles, captions, cameras and lenses, read and found."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from bombs import after_start, chunk, segment
from conftest import Gallery, draw, encode, put
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from written import UTF_8, alt, app13, bag, iim, packet

from lenslet.images.metadata import Written


def read(xmp: bytes, iptc: bytes = b"") -> dict[str, Any]:
    """What an image says in words that holds these."""
    return Written.of(SimpleNamespace(info={"xmp": xmp, "photoshop": {0x0404: iptc}})).words()


def said(
    keywords: list[str] | None = None, title: str = "", caption: str = "", lens: str = ""
) -> dict[str, Any]:
    found = {"keywords": keywords, "title": title, "caption": caption, "lens": lens}
    return {key: value for key, value in found.items() if value}


PACKETS = [
    (packet(bag("dc:subject", "beach", " Ko\u0308ln ", "", "beach")), said(["beach", "Köln"])),
    (packet(bag("dc:subject", "Berlin") + bag("lr:hierarchicalSubject", "Places|Germany|Berlin")),
     said(["Berlin", "Places", "Germany"])),
    (packet(alt("dc:title", de="Strand", x_default="Beach")), said(None, "Beach")),
    (packet(alt("dc:title", de="Strand", fr="Plage")), said(None, "Strand")),
    (packet(alt("dc:description", x_default="Two\r\nlines &amp; &#8364;")), said(None, "", "Two\nlines & €")),
    (packet("", 'dc:title="Short" dc:description="Also"'), said(None, "Short", "Also")),
    (packet("<dc:title>Plain</dc:title>"), said(None, "Plain")),
    (packet(alt("dc:description", x_default="OLYMPUS DIGITAL CAMERA         ")), said()),
    (packet(bag("dc:subject", "kept") + "<dc:title><rdf:Alt><rdf:li>cut"), said()),
    (packet(bag("dc:subject", "kept") + alt("dc:title", x="&unknown;")), said()),
    (b'<!DOCTYPE x [<!ENTITY e "no">]>' + packet(bag("dc:subject", "&e;", "yes")), said(["no", "yes"])),
    (packet("<a>" * 30 + bag("dc:subject", "deep") + "</a>" * 30), said()),
    (packet(bag("dc:subject", *map(str, range(600)))), said(list(map(str, range(500))))),
    (packet(bag("dc:subject", "k" * 300) + alt("dc:title", a="t" * 600) + alt("dc:description", a="c" * 5000)),
     said(["k" * 200], "t" * 500, "c" * 4000)),
    (packet(bag("dc:subject", "large") + " " * (1 << 20)), said()),
    *((packet(bag("dc:subject", "x")).decode().encode(code), said(["x"])) for code in ("utf-16", "utf-16-be")),
    (packet(bag("dc:subject", "A|B", "C/D")), said(["A|B", "C/D"])),
    (packet(bag("digiKam:TagsList", "Places/Berlin") + bag("MicrosoftPhoto:LastKeywordXMP", "Anna", "Places/Rome")),
     said(["Places", "Berlin", "Anna", "Rome"])),
    (packet("", 'aux:Lens="18.0-70.0 mm f/3.5-4.5"'), said(lens="18.0-70.0 mm f/3.5-4.5")),
    (packet("<aux:Lens>EF50mm</aux:Lens>"), said(lens="EF50mm")),
    (packet(bag("dc:subject", "x")) + b"</rdf:Bag></x:xmpmeta>", said(["x"])),
    (b"", said()),
]  # fmt: skip


@pytest.mark.parametrize(("xmp", "wanted"), PACKETS)
def test_what_a_packet_of_xmp_says(xmp: bytes, wanted: dict[str, Any]) -> None:
    assert read(xmp, b"") == wanted


RECORDS = [
    (iim(UTF_8, (2, 5, "Käse".encode()), (2, 25, b"a"), (2, 25, b"b\0"), (2, 120, b"One\rtwo")),
     said(["a", "b"], "Käse", "One\ntwo")),
    (iim((2, 25, "Käse".encode()), (2, 25, "Öl".encode("latin-1"))), said(["Käse", "Öl"])),
    (iim((2, 5, "Œuvre – 10 €".encode("cp1252"))), said(title="Œuvre – 10 €")),
    (iim((2, 5, b"\x81\xd6l")), said(title="Öl")),  # nothing in Windows-1252
    (iim(UTF_8, (2, 25, "Kä".encode()[:-1])), said(["K"])),  # cut in the middle of a letter
    (iim((2, 25, b"kept"), (2, 25, b"cut off"))[:-3], said(["kept"])),
    (iim((2, 25, b"kept")) + b"\x1c\x02\x19\xff\xff" + b"x" * 99, said(["kept"])),
    (b"nonsense" + iim((2, 25, b"x")), said()),
]  # fmt: skip


@pytest.mark.parametrize(("iptc", "wanted"), RECORDS)
def test_what_records_of_iptc_say(iptc: bytes, wanted: dict[str, Any]) -> None:
    assert read(b"", iptc) == wanted


def test_keywords_of_both_are_joined_and_the_title_of_xmp_counts() -> None:
    xmp = packet(bag("dc:subject", "a", "b") + alt("dc:title", x_default="X"))
    iptc = iim((2, 5, b"I"), (2, 25, b"b"), (2, 25, b"c"), (2, 120, b"Caption"))
    assert read(xmp, iptc) == said(["a", "b", "c"], "X", "Caption")


GUID = "0123456789ABCDEF" * 2


def extended(*parts: tuple[int, bytes], guid: str = GUID, size: int = 0) -> bytes:
    """A JPEG with the rest of its XMP in segments of their own, each with its place."""
    total = (size or sum(len(part) for _, part in parts)).to_bytes(4, "big")
    start = b"http://ns.adobe.com/xmp/extension/\0" + guid.encode() + total
    more = (segment(0xE1, start + at.to_bytes(4, "big") + part) for at, part in parts)
    main = packet(bag("dc:subject", "main"), f'xmpNote:HasExtendedXMP="{GUID}"')
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main)
    return after_start(encode(draw(40, 30)), main, *more)


def test_extended_xmp_is_put_together_within_limits() -> None:
    def keywords(data: bytes) -> list[str]:
        return list(Written.of(Image.open(io.BytesIO(data))).words()["keywords"])

    rest = packet(bag("dc:subject", "more"))
    assert keywords(extended((100, rest[100:]), (0, rest[:100]))) == ["main", "more"]
    assert keywords(extended((0, rest[:100]))) == ["main"]
    assert keywords(extended((0, rest), guid="F" * 32)) == ["main"]
    large = [(n * 60_000, (rest[:-20] + b" " * 60_000)[:60_000]) for n in range(20)]
    assert keywords(extended(*large)) == ["main"]


def test_a_png_may_hold_iptc_and_xmp_as_text() -> None:
    def read_png(kind: str, profile: bytes) -> dict[str, Any]:
        text = f"\n{kind}\n{len(profile):8}\n{profile.hex()}\n"
        info = {f"Raw profile type {kind}": text}
        return Written.of(SimpleNamespace(info=info)).words()

    record = iim((2, 25, b"Raw"))
    resource = b"8BIM\x04\x04\0\0" + len(record).to_bytes(4, "big") + record
    before = b"8BIM\x04\x0c\x03abc\0\0\0\x01x\0"
    for data in (record, resource, before + resource):
        assert read_png("iptc", data) == said(["Raw"])
    assert read_png("xmp", packet(bag("dc:subject", "x"))) == said(["x"])
    for data in (b"8BIM", before * 50_000, before[:9], b""):
        assert read_png("iptc", data) == {}
    nonsense = SimpleNamespace(info={"Raw profile type iptc": "no\nhex"})
    assert Written.of(nonsense).words() == {}


@given(st.binary(), st.binary())
def test_nothing_raises_an_error(xmp: bytes, iptc: bytes) -> None:
    inner = packet(bag("dc:subject", "a"))
    for found in (read(inner[:200] + xmp + inner[200:], iptc), read(xmp, iptc)):
        assert all(0 < len(each) <= 200 for each in found.get("keywords", ()))


# In items and in search


def camera(make: str | bytes, model: str | bytes, lens: str = "") -> bytes:
    data = Image.Exif()
    data[0x010F], data[0x0110], data.get_ifd(0x8769)[0xA434] = make, model, lens
    return data.tobytes()


CAMERAS = [
    ("NIKON CORPORATION", "NIKON D750", "NIKON D750"), ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
    ("FUJIFILM", "X-T5", "FUJIFILM X-T5"), ("", "X-T5\0junk", "X-T5"), ("Apple", "", "Apple"),
    ("  ", "---", None), ("小米".encode(), "手机".encode(), "小米 手机"), ("Café".encode("latin-1"), "M", "Café M"), ("A" * 300, "b", "A" * 100), ("A\nB", "c", "A B c"),
]  # fmt: skip


def test_cameras_are_named_as_people_do(
    indexed: Callable[..., Gallery], root: pathlib.Path
) -> None:
    for number, (make, model, _) in enumerate(CAMERAS):
        put(root / f"{number}.jpg", encode(draw(), exif=camera(make, model)))
    items = indexed().items()
    found = [items[f"{number}.jpg"].get("camera") for number in range(len(CAMERAS))]
    assert found == [wanted for *_, wanted in CAMERAS]


WRITTEN = packet(
    bag("dc:subject", "Sea", "Málaga")
    + alt("dc:title", x_default="The pier")
    + alt("dc:description", x_default="At low tide")
)


@pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
def test_what_is_written_in_an_image_is_shown_found_and_suggested(indexed, root) -> None:
    """In each format; also after the rollup was written, and for those that have changed since."""
    exif = camera("FUJIFILM", "X-T5", "XF35mmF1.4 R")
    put(root / "a.jpg", encode(draw(), exif=exif, xmp=WRITTEN))
    put(root / "b.webp", encode(draw(), "WEBP", exif=exif, xmp=WRITTEN))
    png = encode(draw(), "PNG", exif=exif)
    at = png.index(b"IDAT") - 4
    put(root / "c.png", png[:at] + itxt(WRITTEN) + png[at:])
    put(root / "d.jpg", after_start(encode(draw()), app13(iim((2, 25, b"Sea")))))
    put(root / "none.jpg")
    gallery = indexed()
    wanted = {"keywords": ["Sea", "Málaga"], "title": "The pier", "caption": "At low tide",
              "camera": "FUJIFILM X-T5", "lens": "XF35mmF1.4 R"}  # fmt: skip
    three, items = ["a.jpg", "b.webp", "c.png"], gallery.items()
    for name in three:
        assert items[name].items() >= wanted.items()
    assert not items["none.jpg"].keys() & wanted.keys()
    gallery.app.put_json("/item?path=a.jpg", {"tags": ["Sea", "mine"]})
    for _ in range(2):
        gallery.settle()
        for query in ("tag:malaga", "notes:pier", 'notes:"low tide"', 'camera:"x-t5"', "lens:xf35",
                      "fujifilm pier", '-name:d.jpg tag:sea', "-tag:nothing camera:fuji"):  # fmt: skip
            assert gallery.found(query) == three, query
        for query in ("notes:x-t5", "lens:fuji", "camera:pier", "tag:pier", 'notes:"pier at"'):
            assert gallery.found(query) == []
        assert gallery.found("tag:sea") == [*three, "d.jpg"]
        found = gallery.app.get("/search?q=tag:mine").json["items"][0]
        assert found.items() >= {**wanted, "tags": ["Sea", "mine"]}.items()
        assert suggested(gallery, "sea") == [("Sea", 4, "tag")]
        assert suggested(gallery, "t5") == [("FUJIFILM X-T5", 3, "camera")]
        assert suggested(gallery, "35mm") == [("XF35mmF1.4 R", 3, "lens")]
        facets = gallery.app.get("/search/facets?q=sea").json["facets"]
        assert [(each["text"], each["kind"]) for each in facets if each["kind"] != "tag"] == [
            ("FUJIFILM X-T5", "camera"), ("XF35mmF1.4 R", "lens")]  # fmt: skip
        gallery.app.post("/search/rebuild-index", status=202)


def itxt(xmp: bytes) -> bytes:
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)


def suggested(gallery: Gallery, text: str) -> list[tuple[str, int, str]]:
    answer = gallery.app.get("/search/suggest", {"q": text}, status=200).json
    return [(each["text"], each["count"], each["kind"]) for each in answer["suggestions"]]
