"""Decodes images: `render` makes thumbnails, `details` reads EXIF."""

import contextlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from PIL import (
    ExifTags,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.Image import Resampling, Transpose

from lenslet.bounds import MAX_NAME, clean_line
from lenslet.errors import UnreadableImage, one_line
from lenslet.images import NEEDS_MEMORY, Facts, colours, dates, metadata
from lenslet.images.metadata import Written, plain_text
from lenslet.paths import FORMATS

# Imported here: otherwise Pillow imports all its plugins for the first thumbnail (40 ms).
_PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
_NAMES = [each.name for each in FORMATS]
_JPEG = JpegImagePlugin.JpegImageFile  # also one that holds several pictures: `format` is MPO then
_SHOWN = f"a {', '.join(_NAMES[:-1])} or {_NAMES[-1]} image"
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS decides instead, before anything is decoded

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ORIENTATION, _EXIF_IFD, _GPS_IFD = 0x0112, 0x8769, 0x8825
# EXIF by which browsers turn an image: its orientation is one SHORT. Measured: Chromium, Firefox.
_TURNED = re.compile(
    rb"Exif\0\0(II.*\x12\x01\x03\0\x01\0\0\0|MM.*\x01\x12\0\x03\0\0\0\x01)", re.DOTALL
)
_MAKE, _MODEL, _LENS_MODEL = 0x010F, 0x0110, 0xA434
_LEFT_OUT = {"ExifOffset", "GPSInfo", "JPEGInterchangeFormat", "JPEGInterchangeFormatLength"}
_OTHERS = (  # how files of other formats begin
    (rb"GIF8[79]a", "a GIF"),
    (rb"BM.{4}\0{4}", "a BMP"),
    (rb"II\*\0|MM\0\*", "a TIFF or a raw"),
    (rb".{4}ftypavi[fs]", "an AVIF"),
    (rb".{4}ftyp(hei|hev|mif1|msf1)", "a HEIC"),
    (rb"\0\0\x01\0", "an ICO"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL"),
    (rb"\s*<(\?xml|svg)", "an SVG"),
)
# How many pixels may be gone over quickly, which takes 0.2 to 0.5 s: each scan of a JPEG goes over
# all of them. Other formats cannot be decoded at a smaller size, and take as long as 100 scans.
_QUICK_PIXELS, _PASSES = 2 * 10**9, 100
_SCAN = b"\xff\xda"  # begins a scan of a JPEG (ITU-T T.81, B.1.1.3)
_CHUNK_BYTES = 8 << 20
# A JPEG with a longer edge is decoded at half its size or less, also for the largest thumbnail. All
# coefficients of a progressive one are in memory, which INDEX_MEMORY limits.
_HALVED_EDGE = 10_240
_SMALL_PIXELS = 16_384  # 64 KB as RGBA
_WEBP_BYTES_PER_PIXEL = 12  # libwebp holds two pictures of an animation, Pillow one
_EXIF_BYTES = 1 << 20  # more is not EXIF

Companions = Sequence[tuple[str, bytes]]


class TakesLong(Exception):
    """The header of an image says that decoding it takes long."""


def render(source: BinaryIO, **how: Any) -> tuple[Facts, bytes]:
    """Returns an image's facts and its WebP thumbnail; `how` are the parameters of `_render`.

    A damaged image is read once more, as far as that goes, and the facts have a `warning`. If it
    cannot be decoded at all, they have an `error`, and there is no thumbnail.
    """
    facts, data = _render(source, **how)
    if not facts.error or facts.limit or facts.error.startswith(NEEDS_MEMORY):
        return facts, data
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        again, data = _render(source, **how)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    if again.error:
        return facts, b""
    return replace(again, warning="truncated" if "truncated" in facts.error else "damaged"), data


def _render(
    source: BinaryIO,
    *,
    long_edge: int,
    quality: int,
    max_pixels: int,
    name: str = "",
    companions: Companions = (),
    memory: int = 2**62,
    thumbnail: bool = True,
    quickly: bool = False,
) -> tuple[Facts, bytes]:
    """Reads an image in one go; the thumbnail is empty unless `thumbnail`.

    It is upright, in sRGB, without metadata, its long edge at most `long_edge` pixels and never
    enlarged. `name` is that of the file; `companions` are the names and the content of those that
    say something of it. `memory` is how many bytes this process may take. Errors of reading
    `source` are raised and, if it must be done `quickly`, `TakesLong`.
    """
    webp_size = _webp_size(_head(source))
    facts = Facts(*webp_size)
    try:
        # Pillow reserves the memory of a WebP's picture while it opens it.
        _check_size(facts, max_pixels, most=memory // _WEBP_BYTES_PER_PIXEL)
        with Image.open(source, formats=_NAMES) as image:
            size, is_png = image.size, image.format == "PNG"
            facts = Facts(*size)
            # What browsers turn an image by: not a WebP, nor a PNG that has it after its pixels.
            exif = b"" if image.format == "WEBP" else image.info.get("exif", b"")
            if quickly and size[0] * size[1] * _passes(image, source) > _QUICK_PIXELS:
                raise TakesLong
            if is_png:
                _scale_key(image)
            if not is_png or exif:
                orientation, facts = _facts(image, name, companions, exif)
            is_halved = isinstance(image, _JPEG) and max(size) > _HALVED_EDGE
            _check_size(facts, max_pixels, share=4 if is_halved else 1)
            target = _fit(*size, long_edge)
            # Decodes a JPEG at 1/2, 1/4 or 1/8, but at least at 1.25 times the thumbnail.
            draft = thumbnail and image.draft(None, (target[0] * 5 // 4, target[1] * 5 // 4))
            box = draft[1] if draft else (0.0, 0.0, float(size[0]), float(size[1]))
            if thumbnail or is_png:
                image.load()
                if ImageFile.LOAD_TRUNCATED_IMAGES and not image.getbbox(alpha_only=False):
                    raise ValueError("nothing of it can be read")
            if is_png:
                orientation, facts = _facts(image, name, companions, exif)
            if not thumbnail:
                return facts, b""
            return facts, _thumbnail(image, size, target, box, orientation, quality)
    except UnidentifiedImageError:
        return replace(facts, error=_other_format(_head(source))), b""
    except UnreadableImage as error:
        return replace(facts, error=str(error), limit=f"MAX_PIXELS={max_pixels}"), b""
    except MemoryError:
        return replace(facts, error=f"{NEEDS_MEMORY} ({memory >> 20} MB)"), b""
    except Exception as error:  # Pillow raises almost anything for damaged images
        storage_failed = isinstance(error, OSError) and error.errno is not None
        if storage_failed or isinstance(error, TakesLong):
            raise
        if any(webp_size):
            return replace(facts, error="the WebP is cut off or damaged"), b""
        text = re.sub(r"<[^>]*>|'/[^']*'", "the image", one_line(error, 150)) or "it is damaged"
        return replace(facts, error=f"cannot be decoded: {text}"), b""


def _passes(image: Image.Image, source: BinaryIO) -> int:
    """Returns how often decoding goes over all pixels: once for each scan of a JPEG."""
    if not isinstance(image, _JPEG):
        return _PASSES
    if "progressive" not in image.info:
        return 1
    position = source.tell()
    source.seek(0)
    count = sum(chunk.count(_SCAN) for chunk in iter(partial(source.read, _CHUNK_BYTES), b""))
    source.seek(position)
    return count


def _check_size(facts: Facts, max_pixels: int, *, most: int = 2**62, share: int = 1) -> None:
    """Raises `UnreadableImage`, or `MemoryError` for an image of more than `most` pixels."""
    pixels = facts.width * facts.height
    if pixels > max_pixels * share:
        size = f"{facts.width}×{facts.height}"
        times = f"{share} × " if share > 1 else ""
        raise UnreadableImage(f"{size} pixels are more than {times}MAX_PIXELS ({max_pixels})")
    if pixels > most:
        raise MemoryError


def _head(source: BinaryIO) -> bytes:
    source.seek(0)
    return source.read(100)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Returns the size in the header of a WebP (RFC 9649, 2.5 to 2.7); 0 × 0 for others.

    Pillow opens no WebP that is cut off.
    """
    if len(head) < 30 or head[:4] != b"RIFF":
        return 0, 0
    kind, bits = head[12:16], int.from_bytes(head[20:30], "little")
    if kind == b"VP8X":
        return 1 + (bits >> 32 & 0xFFFFFF), 1 + (bits >> 56 & 0xFFFFFF)
    if kind == b"VP8L":
        return 1 + (bits >> 8 & 0x3FFF), 1 + (bits >> 22 & 0x3FFF)
    return (bits >> 48 & 0x3FFF, bits >> 64 & 0x3FFF) if kind == b"VP8 " else (0, 0)


def _other_format(head: bytes) -> str:
    """Returns what a file is that Pillow cannot open, from how it begins."""
    if not head:
        return "the file is empty"
    for pattern, name in _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            return f"this is {name} file, not {_SHOWN}"
    return f"not {_SHOWN}, or its header is damaged"


def _fit(width: int, height: int, long_edge: int) -> tuple[int, int]:
    longest = max(width, height, long_edge)  # nothing is enlarged
    return (
        max(1, (width * long_edge + longest // 2) // longest),
        max(1, (height * long_edge + longest // 2) // longest),
    )


def _thumbnail(
    image: Image.Image,
    size: tuple[int, int],
    target: tuple[int, int],
    box: tuple[float, float, float, float],
    orientation: int,
    quality: int,
) -> bytes:
    """Scales with HAMMING if the image is less than twice as large as its thumbnail, else BICUBIC.

    Measured: likeness to LANCZOS on the whole image (SSIM), and CPU time. JPEG of 400×300: HAMMING
    0.954, 3.2 ms; BICUBIC 0.959, 3.7 ms. Cameras: BICUBIC 0.948, 22.4 ms; HAMMING 0.932, 20.8 ms.
    """
    small = _eight_bit(image)
    if small.size != target:
        near = max(size) < 2 * max(target)
        resampling = Resampling.HAMMING if near else Resampling.BICUBIC
        small = small.resize(target, resampling, box=box, reducing_gap=1.5)
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    small = colours.srgb(small, image.info)
    if small.mode == "RGBA" and small.getchannel("A").getextrema() == (255, 255):
        small = small.convert("RGB")
    # Icons and pixel art would be blurred.
    lossless = image.format != "JPEG" and size == target and size[0] * size[1] <= _SMALL_PIXELS
    # At 100, plain pictures end with many NUL bytes, as files do that a crash has torn.
    how: dict[str, Any] = {"lossless": True} if lossless else {"quality": min(quality, 99)}
    out = io.BytesIO()
    small.save(out, "WEBP", method=2, exif=b"", xmp=b"", icc_profile=None, **how)
    return out.getvalue()


def _scale_key(image: ImageFile.ImageFile) -> None:
    """Scales the transparent colour of a PNG as Pillow scales the samples."""
    key = image.info.get("transparency")
    samples = image.tile[0].args if image.tile else ""
    if key is not None and samples in ("L;2", "L;4"):
        most = 3 if samples == "L;2" else 15
        image.info["transparency"] = (key & most) * 255 // most
    elif key and samples == "RGB;16B":  # only the high bytes are left
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Converts the image to a mode that can be scaled: L, LA, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):  # 16-bit grey: keep the high byte; Pillow would clip
        deep = image.convert("I")
        grey = deep.point(lambda value: value / 256).convert("L")
        if (key := image.info.get("transparency")) is None:
            return grey
        alpha = deep.point([255] * key + [0] + [255] * (0xFFFF - key), "L")
        return Image.merge("LA", (grey, alpha))
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        return image.convert("RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _facts(image: Image.Image, name: str, companions: Companions, seen: bytes) -> tuple[int, Facts]:
    """Reads the orientation (1–8) and the facts; what cannot be read is ignored.

    `seen` is the EXIF that browsers see.
    """
    tags: dict[int, Any] = {}
    with contextlib.suppress(Exception):  # Pillow raises almost anything for damaged EXIF
        if len(image.info.get("exif") or b"") <= _EXIF_BYTES:
            exif = image.getexif()
            tags = {**exif, **exif.get_ifd(_EXIF_IFD)}
            tags[_GPS_IFD] = exif.get_ifd(_GPS_IFD) if _GPS_IFD in exif else {}
    orientation = tags.get(_ORIENTATION, 1)
    if not (isinstance(orientation, int) and 1 <= orientation <= 8):
        orientation = 1
    width, height = image.size[::-1] if orientation >= 5 else image.size
    written, (beside, note) = Written.of(image), metadata.beside(companions)
    named = {
        "camera": _camera(_text(tags.get(_MAKE)), _text(tags.get(_MODEL))),
        "lens": _text(tags.get(_LENS_MODEL)),
    }
    words = note.words() | written.words() | beside.words()
    words |= {key: text for key, text in named.items() if text}
    if orientation > 1 and not _TURNED.match(seen):
        words["turn"] = orientation
    taken = dates.taken(tags, written, beside, name) or note.creation_time or None
    return orientation, Facts(width, height, dates.created(tags), taken, words)


def _text(value: object) -> str:
    """Returns a name in EXIF; empty for none, also if it is only dashes."""
    name = clean_line(plain_text(value), MAX_NAME)
    return name if any(map(str.isalnum, name)) else ""


def _camera(make: str, model: str) -> str:
    """Names a camera as people do: by its model, after its make unless the model begins with it."""
    has_make = make and model.lower().startswith(make.split()[0].lower())
    return (model if has_make else f"{make} {model}".strip())[:MAX_NAME]


def details(file: BinaryIO) -> dict[str, Any]:
    """Returns the EXIF values that JSON can have, by EXIF's own names; none if EXIF is unreadable.

    `file` is an image, or at least its head. Positions are in degrees, negative in the south and
    the west; texts are cut at 1,000 characters; binary values are left out.
    """
    try:
        with Image.open(file, formats=_NAMES) as image:
            raw = image.info.get("exif")
        exif = Image.Exif()
        exif.load(raw or b"")
        names = {**exif, **exif.get_ifd(_EXIF_IFD)}
        found = {ExifTags.TAGS[tag]: value for tag, value in names.items() if tag in ExifTags.TAGS}
        gps = exif.get_ifd(_GPS_IFD)
    except Exception:  # Pillow raises almost anything for damaged EXIF
        return {}
    found["GPSLatitude"] = _degrees(gps.get(2), gps.get(1))
    found["GPSLongitude"] = _degrees(gps.get(4), gps.get(3))
    values = {name: _plain(value) for name, value in found.items() if name not in _LEFT_OUT}
    return {name: value for name, value in sorted(values.items()) if value is not None}


def _degrees(parts: Any, side: Any) -> Any:
    """Returns degrees, minutes and seconds as degrees; the last one or two may be missing."""
    parts = parts if isinstance(parts, tuple) else (parts,)
    sign = -1 if plain_text(side).strip()[:1].upper() in ("S", "W") else 1
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        first, *rest = map(float, parts[:3])
        rest = [0.0 if math.isnan(part) else part for part in rest]
        return _plain(sign * sum(part / 60**power for power, part in enumerate((first, *rest))))
    return None


def _plain(value: Any) -> Any:
    """Returns an EXIF value as JSON has it; None for others."""
    if isinstance(value, str):
        return plain_text(value).strip()[:1000] or None
    if isinstance(value, tuple):
        parts = [_plain(each) for each in value[:100]]
        return None if None in parts else parts
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, bytes):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return round(number, 7) if math.isfinite(number) else None
