"""Thumbnails and facts of images that were drawn, and of every file of the corpus."""

from __future__ import annotations

import io
import pathlib
import zlib

import pytest
from conftest import CORPUS, draw, encode, exif
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from lenslet.images import Facts, pixels
from lenslet.paths import FORMATS

TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


_WEBP = encode(draw(600, 400), "WEBP")
BROKEN_WEBP = _WEBP[: len(_WEBP) // 2].ljust(len(_WEBP), b"\0")


def render(data: bytes, **options: int) -> tuple[Facts, Image.Image]:
    settings = {"long_edge": 256, "quality": 70, "max_pixels": 150_000_000, **options}
    facts, thumbnail = pixels.render(io.BytesIO(data), **settings)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(thumbnail))
    image.load()
    assert image.format == "WEBP"
    assert not {"exif", "icc_profile", "xmp"} & image.info.keys()
    return facts, image


def near(pixel: object, wanted: tuple[int, ...], by: int = 40) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", [each.name for each in FORMATS])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    """The red corner is at the top left and the size is that of the upright image."""
    image, turn = draw(600, 400), TURNED[orientation]
    stored = image.transpose(turn) if turn is not None else image
    facts, thumbnail = render(encode(stored, kind, exif=exif(Orientation=orientation)))
    assert (facts.width, facts.height) == (600, 400)
    assert thumbnail.size == (256, 171)
    assert near(thumbnail.getpixel((20, 20)), (220, 30, 30))
    assert near(thumbnail.getpixel((240, 160)), (30, 30, 220))


@pytest.mark.parametrize("kind", [each.name for each in FORMATS])
def test_an_item_says_if_browsers_do_not_turn_the_file_itself(kind: str) -> None:
    for orientation, turn in ((6, 6 if kind == "WebP" else None), (1, None)):
        facts, _ = render(encode(draw(60, 40), kind, exif=exif(Orientation=orientation)))
        assert facts.written.get("turn") == turn


SIZES = {(400, 300): (256, 192), (300, 400): (192, 256), (256, 256): (256, 256),
         (100, 40): (100, 40), (1, 1): (1, 1), (4000, 1): (256, 1),
         (3000, 1999): (256, 171)}  # fmt: skip


@pytest.mark.parametrize(("size", "wanted"), SIZES.items())
def test_the_long_edge_is_at_most_256_and_nothing_is_enlarged(size, wanted) -> None:
    facts, thumbnail = render(encode(draw(*size)))
    assert (facts.width, facts.height) == size
    assert thumbnail.size == wanted


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_pngs_of_every_mode_that_hide_nothing_become_opaque(mode: str) -> None:
    _, thumbnail = render(encode(draw(300, 200, mode=mode), "PNG"))
    assert thumbnail.mode == "RGB"


def test_a_palette_keeps_its_transparency() -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (32, 0, 64, 64))
    _, thumbnail = render(encode(image, "PNG", transparency=0))
    assert thumbnail.mode == "RGBA"
    assert thumbnail.getpixel((5, 30))[3] == 0
    assert thumbnail.getpixel((60, 30))[3] == 255


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_kept(mode: str, kind: str) -> None:
    image = draw(300, 200).convert(mode)
    image.putalpha(Image.linear_gradient("L").resize((300, 200)))
    _, thumbnail = render(encode(image, kind))
    assert thumbnail.mode == "RGBA"
    assert thumbnail.getpixel((100, 2))[3] < 10
    assert thumbnail.getpixel((100, 168))[3] > 245


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    image = Image.new("I;16", (64, 64))
    image.putdata([(x % 64) * 1024 for x in range(64 * 64)])
    _, thumbnail = render(encode(image, "PNG"))
    assert near(thumbnail.getpixel((2, 30)), (8, 8, 8), 10)
    assert near(thumbnail.getpixel((32, 30)), (128, 128, 128), 10)
    assert near(thumbnail.getpixel((61, 30)), (244, 244, 244), 12)


def test_a_colour_of_a_grey_png_is_transparent() -> None:
    image = Image.new("I;16", (64, 64), 1000)
    image.paste(1001, (32, 0, 64, 64))
    _, thumbnail = render(encode(image, "PNG", transparency=1000))
    assert [thumbnail.getpixel((x, 30))[3] for x in (5, 60)] == [0, 255]


def test_colours_of_a_png_follow_its_gamma() -> None:
    """As Chromium shows it."""
    gamma = chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    data = encode(Image.new("RGB", (64, 64), (200, 40, 40)), "PNG")
    _, thumbnail = render(with_chunks(data, b"IDAT", gamma))
    assert near(thumbnail.getpixel((5, 5)), (229, 110, 110), 1)


def test_cmyk_becomes_rgb() -> None:
    _, thumbnail = render(encode(draw(300, 200, mode="CMYK")))
    assert near(thumbnail.getpixel((20, 20)), (220, 30, 30))


def test_colours_are_converted_by_the_embedded_profile() -> None:
    """A profile with red and blue swapped: what it calls red is blue in sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    _, thumbnail = render(encode(draw(300, 200), icc_profile=profile))
    assert near(thumbnail.getpixel((20, 20)), (220, 30, 30))  # one that does not fit is passed over
    swapped = swapped_profile()
    _, thumbnail = render(encode(Image.new("RGB", (50, 50), (220, 30, 30)), icc_profile=swapped))
    red, _, blue = thumbnail.getpixel((20, 20))
    assert blue > red + 80


def swapped_profile() -> bytes:
    """sRGB's own profile with the tags of its red and blue primaries exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    for start in range(132, 132 + 12 * count, 12):
        name = bytes(data[start : start + 4])
        data[start : start + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(data)


def test_the_first_frame_of_an_animation_is_shown() -> None:
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("red", "green", "blue")]
    for kind in ("WEBP", "PNG"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        _, thumbnail = render(data)
        assert near(thumbnail.getpixel((40, 30)), (255, 0, 0))


def error_of(data: bytes, **options: int) -> Facts:
    """The facts of an image without a thumbnail: what is wrong with it, and what its head says."""
    settings = {"long_edge": 256, "quality": 70, "max_pixels": 150_000_000, **options}
    facts, thumbnail = pixels.render(io.BytesIO(data), **settings)  # type: ignore[arg-type]
    assert facts.error
    assert not thumbnail
    assert "\n" not in facts.error
    assert "0x" not in facts.error
    return facts


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a" + b"\0" * 40, "this is a GIF file"),
        (encode(draw(300, 200), "GIF"), "this is a GIF file"),
        (encode(draw(300, 200), "BMP"), "this is a BMP file"),
        (encode(draw(300, 200), "TIFF"), "this is a TIFF or a raw file"),
        (encode(draw(300, 200), "AVIF"), "this is an AVIF file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "this is a HEIC file"),
        (b"<?xml version='1.0'?><svg/>", "this is an SVG file"),
        (b"just text", "not a JPEG, PNG or WebP image"),
        (BROKEN_WEBP, "the WebP is cut off or damaged"),
    ],
)
def test_what_cannot_be_decoded_says_what_it_is(data: bytes, reason: str) -> None:
    assert reason in str(error_of(data).error)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    facts = error_of(encode(Image.new("1", (4000, 3000)), "PNG"), max_pixels=11_999_999)
    assert facts.error == "4000×3000 pixels are more than MAX_PIXELS (11999999)"
    assert (facts.width, facts.height) == (4000, 3000)


TAKEN = exif(DateTimeOriginal="2025:02:15 12:32:00", Orientation=6)
NOISE = Image.effect_noise((600, 400), 60).convert("RGB")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_was_cut_off_is_shown_as_far_as_it_goes(options) -> None:
    data = encode(NOISE, "JPEG", exif=TAKEN, **options)
    facts, thumbnail = render(data[: len(data) * 2 // 3])
    assert (facts.width, facts.height, facts.warning) == (400, 600, "truncated")
    assert facts.created_at == "2025-02-15T12:32:00Z"
    assert thumbnail.size == (171, 256)
    for end in (-1, -2):
        assert render(data[:end])[0].warning == "truncated"
    assert render(data + b"\0" * 100)[0].warning is None


def test_a_large_jpeg_of_several_pictures_is_read_as_quickly_as_any_other() -> None:
    """Phones add a second picture, and Pillow then calls the format MPO."""
    large = Image.new("L", (6000, 4000), 90)
    data = encode(large, "MPO", save_all=True, append_images=[Image.new("L", (60, 40))])
    assert render(data, quickly=True)[0].width == 6000
    noise = encode(NOISE, "MPO", save_all=True, append_images=[NOISE])
    assert render(noise[: len(noise) // 3])[0].warning == "truncated"


def test_a_png_that_was_cut_off_is_shown_as_far_as_it_goes() -> None:
    data = encode(NOISE, "PNG")
    whole = render(data)[1]
    for end in (-4, -12, -20):
        _, thumbnail = render(data[:end])
        assert near(thumbnail.getpixel((200, 100)), whole.getpixel((200, 100)))
    facts, thumbnail = render(data[: len(data) // 2])
    assert (facts.width, facts.height, facts.warning) == (600, 400, "truncated")
    assert near(thumbnail.getpixel((100, 20)), whole.getpixel((100, 20)))


def chunk(kind: bytes, data: bytes, *, good: bool = True) -> bytes:
    checksum = zlib.crc32(kind + data) ^ (not good)
    return len(data).to_bytes(4, "big") + kind + data + checksum.to_bytes(4, "big")


def with_chunks(data: bytes, before: bytes, *added: bytes) -> bytes:
    """A PNG with more chunks before its first one of the name `before`."""
    start = data.index(before) - 4
    return data[:start] + b"".join(added) + data[start:]


ANCILLARY = [b"tEXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD", b"tIME", b"hIST",
             b"acTL", b"eXIf", b"prVt"]  # fmt: skip


@pytest.mark.parametrize("kind", ANCILLARY)
def test_a_png_with_a_damaged_chunk_that_its_picture_does_not_need_is_shown(kind: bytes) -> None:
    """As browsers do: a wrong checksum, cut short, nonsense, and before and after the pixels."""
    picture = encode(draw(300, 200), "PNG")
    whole = render(picture)[1].tobytes()
    bomb = b"k\0\0" + zlib.compress(bytes(2 << 20))
    for content in (b"", b"\0", b"k\0\1more", b"\0\0\0\0" * 8, b"\xff" * 40, bomb):
        for good in (True, False):
            for before in (b"IDAT", b"IEND"):
                damaged = with_chunks(picture, before, chunk(kind, content, good=good))
                facts, thumbnail = render(damaged)
                assert (facts.width, facts.height) == (300, 200)
                assert thumbnail.tobytes() == whole


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_a_png_with_a_chunk_whose_checksum_is_wrong_is_shown_with_a_warning(kind: bytes) -> None:
    content = b"k\0\0" + zlib.compress(b"text")
    facts, _ = render(with_chunks(encode(draw(), "PNG"), b"IDAT", chunk(kind, content, good=False)))
    assert facts.warning == "damaged"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_png_with_a_damaged_chunk_that_its_picture_needs_says_so(kind: bytes) -> None:
    data = encode(draw(300, 200, mode="P"), "PNG")
    at = data.index(kind) + 5
    assert "damaged" in str(error_of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).error)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_ends_after_its_head_keeps_its_size_and_date(kind) -> None:
    data = encode(NOISE, kind, exif=exif(DateTimeOriginal="2025:02:15 12:32:00"))
    start = data.index(b"\xff\xda") + 20 if kind == "JPEG" else data.index(b"IDAT") + 6
    found, _ = pixels.render(io.BytesIO(data[:start]), long_edge=256, quality=70, max_pixels=10**8)
    assert (found.width, found.height) == (600, 400)
    assert found.taken_at == "2025-02-15T12:32:00"
    assert found.error or found.warning == "truncated"


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": TAKEN}])
def test_a_webp_that_was_cut_off_keeps_its_size(options) -> None:
    data = encode(NOISE, "WEBP", **options)
    facts = error_of(data[: len(data) // 2])
    assert (facts.width, facts.height) == (600, 400)
    assert facts.error == "the WebP is cut off or damaged"
    assert error_of(data[:20]).width == 0


def test_small_drawings_are_kept_as_they_are() -> None:
    image = Image.effect_noise((64, 48), 100).convert("RGB")
    _, thumbnail = render(encode(image, "PNG"))
    assert thumbnail.convert("RGB").tobytes() == image.tobytes()
    _, thumbnail = render(encode(Image.effect_noise((200, 200), 100).convert("RGB"), "PNG"))
    assert thumbnail.convert("RGB").tobytes() != image.tobytes()


def test_details_are_told_by_the_names_of_exif() -> None:
    data = Image.Exif()
    data[0x010F], data[0x0110] = "Maker\0", "Model 1"
    inner = data.get_ifd(0x8769)
    inner[0x829A], inner[0x8827], inner[0x920A], inner[0x927C] = (1 / 250), 400, 35.0, b"secret"
    data.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 3: "W", 4: (11.0, 34.0, 30.0)})
    for kind in ("JPEG", "PNG", "WEBP"):
        found = pixels.details(io.BytesIO(encode(draw(30, 20), kind, exif=data.tobytes())))
        assert (found["Make"], found["Model"]) == ("Maker", "Model 1")
        assert (found["ExposureTime"], found["FocalLength"]) == (0.004, 35)
        assert found["ISOSpeedRatings"] == 400
        assert (found["GPSLatitude"], found["GPSLongitude"]) == (48.1375, -11.575)
        assert "MakerNote" not in found
    for broken in (b"", b"nonsense", encode(draw(30, 20)), b"\xff\xd8\xff\xe1\0\x10Exif\0\0MM"):
        assert pixels.details(io.BytesIO(broken)) == {}


NAN = IFDRational(0, 0)


@pytest.mark.parametrize(
    ("side", "parts", "wanted"),
    [("S", (48.0, 8.0, 15.0), -48.1375), ("s", (48.0,), -48.0), ("South", (48.0, 30.0), -48.5), ("S ", (1.0, 0.0, 0.0), -1.0),
     ("N", (0.0, 0.0, 0.0), 0.0), ("S", (0.0, 30.0, NAN), -0.5), ("", (48.0, 8.0, 15.0), 48.1375), ("N", (NAN, 8.0, 1.0), None),
     ("N", (), None)],
)  # fmt: skip
def test_a_position_is_read_as_programs_write_it(side, parts, wanted) -> None:
    data = Image.Exif()
    data.get_ifd(0x8825).update({1: side, 2: parts})
    found = pixels.details(io.BytesIO(encode(draw(30, 20), exif=data.tobytes())))
    assert found.get("GPSLatitude") == wanted


def test_texts_of_exif_are_utf_8_or_else_latin_1() -> None:
    data = Image.Exif()
    data[0x010F], data[0x0110] = "Größe".encode(), "Größe".encode("latin-1")
    found = pixels.details(io.BytesIO(encode(draw(30, 20), exif=data.tobytes())))
    assert (found["Make"], found["Model"]) == ("Größe", "Größe")


def corpus(folder: str) -> list[pathlib.Path]:
    return sorted(pathlib.Path(CORPUS, folder).iterdir()) if CORPUS else []


@pytest.mark.parametrize(
    "file",
    [f for folder in ("cameras", "exif", "formats", "orientation") for f in corpus(folder)],
    ids=lambda file: file.name,
)
def test_every_good_file_of_the_corpus_has_a_thumbnail(file: pathlib.Path) -> None:
    facts, thumbnail = render(file.read_bytes())
    assert facts.warning is None
    upright = facts.width / facts.height
    assert max(thumbnail.size) == min(256, max(facts.width, facts.height))
    assert abs(thumbnail.width - thumbnail.height * upright) <= max(1.0, upright)


OTHERS = {  # Pillow reads no such profile, and no such text, although the picture is whole
    "9483a7_e76546768d4a8f2f4c39339345c7614c.png": "damaged",
    "d8d646_png_decompression_dos.png": "cannot be decoded: Decompressed data too large for "
    "PngImagePlugin.MAX_TEXT_CHUNK",
}


@pytest.mark.parametrize("file", corpus("broken"), ids=lambda file: file.name)
def test_every_broken_file_of_the_corpus_is_shown_in_part_or_says_why(file: pathlib.Path) -> None:
    source = io.BytesIO(file.read_bytes())
    facts, thumbnail = pixels.render(source, long_edge=256, quality=70, max_pixels=10**8)
    assert bool(facts.error) != bool(thumbnail)
    what = str(facts.error or facts.warning or "shown whole")
    assert what == OTHERS.get(file.name, what) and what != "shown whole"
