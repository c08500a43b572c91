"""What a browser shows of a file itself, and what Lenslet shows of it, are the same."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from typing import Any

import pytest
from bombs import chunk
from conftest import draw, encode, exif
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Page, expect
from test_images import render, with_chunks
from test_page import go, old, shown, wait_until_indexed

pytestmark = pytest.mark.slow
GREEN = (0, 255, 0)
LINEAR, GAMMA, ABOUT_SRGB = (
    chunk(b"gAMA", struct.pack(">I", n)) for n in (100_000, 55_556, 46_000)
)
ADOBE, SAME = (
    chunk(b"cHRM", struct.pack(">8I", *numbers))
    for numbers in ((31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000), (30000,) * 8)
)
SRGB = chunk(b"sRGB", b"\0")


def png(
    depth: int, kind: int, samples: list[int], *chunks: bytes, key: tuple[int, ...] = ()
) -> bytes:
    """A PNG of 40 × 40 with a stripe for each quarter of the samples."""
    pixels = [samples[i : i + len(samples) // 4] for i in range(0, len(samples), len(samples) // 4)]
    bits = "".join(f"{each:0{depth}b}" for pixel in pixels for each in pixel * 10)
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, depth, kind, 0, 0, 0))
    secret = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    data = chunk(b"IDAT", zlib.compress(row * 40))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + secret + data + chunk(b"IEND")


COLOURS = [200, 40, 40, 10, 20, 5, 0, 255, 90, 128, 128, 128]
PNGS = {
    "linear": png(8, 2, COLOURS, LINEAR),
    "Adobe RGB": png(8, 2, COLOURS, GAMMA, ADOBE),
    "deep": png(16, 2, [each * 257 for each in COLOURS], LINEAR, ADOBE),
    "grey": png(8, 0, [0, 40, 128, 255], LINEAR, ADOBE),
    "alpha": png(8, 6, [200, 40, 40, 255, 10, 20, 5, 128, 0, 255, 90, 20, 9, 9, 9, 0], LINEAR),
    "sRGB says more": png(8, 2, COLOURS, LINEAR, ADOBE, SRGB),
    "about 1/2.2": png(8, 2, COLOURS, ABOUT_SRGB),
    "no gamma": png(8, 2, COLOURS, ADOBE),
    "nonsense": png(8, 2, COLOURS, LINEAR, SAME),
    "1 bit": png(1, 0, [0, 1, 0, 1], key=(1,)),
    "2 bits": png(2, 0, [0, 1, 2, 3], key=(2,)),
    "4 bits": png(4, 0, [0, 7, 8, 15], key=(0x107,)),
    "8 bits": png(8, 0, [0, 7, 8, 255], LINEAR, key=(7,)),
    "16 bits": png(16, 0, [0, 30_000, 30_001, 65_535], key=(30_000,)),
    "colours of 16 bits": png(
        16, 2, [0, 0, 0, 30_000, 9, 9, 9, 30_000, 9, 1, 1, 1], key=(30_000, 9, 9)
    ),
}


@pytest.mark.parametrize("name", PNGS)
def test_colours_of_a_png_are_those_that_a_browser_shows(browser, name: str) -> None:
    page = browser.new_page(viewport={"width": 40, "height": 40})
    address = "data:image/png;base64," + base64.b64encode(PNGS[name]).decode()
    page.set_content(f"<body style='margin: 0; background: lime'><img src='{address}'>")
    page.wait_for_function("document.images[0].complete")
    wanted = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    _, thumbnail = render(PNGS[name])
    found = Image.new("RGBA", (40, 40), GREEN)
    found.alpha_composite(thumbnail.convert("RGBA"))
    largest = ImageChops.difference(wanted, found.convert("RGB")).getextrema()
    assert max(most for _, most in largest) <= 2


def turned(orientation: int, where: str) -> bytes:
    """A photo of 2400 × 1600 that is stored turned, and says so somewhere."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = draw(2400, 1600).transpose(Image.Transpose(undo))
    data = exif(Orientation=orientation)
    kind, _, how = where.partition(" ")
    xmp = b"""<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description
        xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></r:RDF>"""
    options: dict[str, Any] = {"exif": data} if how == "EXIF" else {}
    if how == "XMP" and kind != "PNG":
        options = {"xmp": xmp % orientation}
    plain = encode(stored, kind, **options)
    if how == "long":  # a number of four bytes
        entry = b"MM\0\x2a\0\0\0\x08\0\1\1\x12\0\4\0\0\0\1" + struct.pack(">II", orientation, 0)
        return encode(stored, kind, exif=b"Exif\0\0" + entry)
    if how == "late":
        return with_chunks(plain, b"IEND", chunk(b"eXIf", data.removeprefix(b"Exif\0\0")))
    if how == "raw":
        text = f"Raw profile type exif\0\nexif\n{len(data):8}\n{data.hex()}\n".encode()
        return with_chunks(plain, b"IDAT", chunk(b"tEXt", text))
    if how == "XMP" and kind == "PNG":
        text = b"XML:com.adobe.xmp" + bytes(5) + xmp % orientation
        return with_chunks(plain, b"IDAT", chunk(b"iTXt", text))
    return plain


TURNED = {
    "JPEG EXIF": 6, "JPEG XMP": 8, "JPEG long": 3, "PNG EXIF": 5, "PNG late": 7, "PNG raw": 2,
    "PNG XMP": 4, "WEBP EXIF": 6, "WEBP XMP": 5,
}  # fmt: skip


def test_a_photo_is_the_same_way_round_when_it_is_zoomed(serve, open_page, tmp_path) -> None:
    for where, orientation in TURNED.items():
        name = f"{where}.{where.split()[0].lower()}"
        old(tmp_path / "photos" / name, turned(orientation, where))
    server = serve(tmp_path / "photos")
    wait_until_indexed(server)
    page = open_page(server)
    for item in server.json("/folders?path=")["items"]:
        assert (item["name"], item["w"], item["h"]) == (item["name"], 2400, 1600)
        go(page, f"#/{item['name']}")
        shown(page)
        preview = seen(page)
        page.keyboard.press("+")
        source = re.compile("preview[?]" if "turn" in item else "file[?]")
        expect(page.locator(".stage img.large")).to_have_attribute("src", source)
        page.keyboard.press("0")
        differs = ImageStat.Stat(ImageChops.difference(preview, seen(page))).mean
        assert (item["name"], max(differs) < 3) == (item["name"], True)


def seen(page: Page) -> Image.Image:
    """The photo as it is on the screen, small."""
    data = page.locator(".stage").screenshot()
    return Image.open(io.BytesIO(data)).convert("RGB").resize((60, 40))
