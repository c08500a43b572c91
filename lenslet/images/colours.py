"""Converts colours to sRGB, by an image's ICC profile or by what a PNG says of its colours."""

import io
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_PROFILE_BYTES = 4 << 20  # of an ICC profile
_MOST_GAMMA = 10  # larger numbers are those of damaged chunks
_SRGB_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# The white of ICC profiles in XYZ, and Bradford's matrix, which adapts colours to it (ICC.1, E.3).
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def srgb(image: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """Converts to RGB or RGBA in sRGB; a profile that cannot be used is ignored.

    `info` is what Pillow has read from the file.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    profile = info.get("icc_profile") or b""
    transform = _to_srgb(profile, colours.mode) if 0 < len(profile) <= _PROFILE_BYTES else None
    if not transform and (made := _png_profile(info)):
        colours = colours.convert("RGB")
        transform = _to_srgb(made, "RGB")
    colours = (transform.apply(colours) if transform else colours).convert("RGB")
    if alpha:
        colours.putalpha(alpha)
    return colours


@lru_cache(maxsize=4)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _png_profile(info: Mapping[str, Any]) -> bytes:
    """Makes an ICC profile of a PNG's gAMA and cHRM; empty if its colours are sRGB.

    As in Chromium, cHRM alone does not count, and a gAMA of about 1/2.2 alone means sRGB. Values
    that make no sense are ignored.
    """
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity")
    is_srgb = "srgb" in info or (gamma and not chromaticity and abs(gamma * 2.2 - 1) < 0.05)
    if is_srgb or not gamma or gamma > _MOST_GAMMA:
        return b""
    try:
        return _profile(1 / gamma, chromaticity or _SRGB_CHROMATICITY)
    except (ArithmeticError, struct.error):
        return b""


def _profile(power: float, chromaticity: Sequence[float]) -> bytes:
    """Makes an ICC profile (ICC.1) from x and y of white, red, green and blue."""
    white, *primaries = (
        (x / y, 1.0, (1 - x - y) / y)
        for x, y in zip(chromaticity[::2], chromaticity[1::2], strict=True)
    )
    adapt = [
        to / of for to, of in zip(_times(_BRADFORD, _D50), _times(_BRADFORD, white), strict=True)
    ]
    shares = _solve(list(zip(*primaries, strict=True)), white)
    curve = struct.pack(">4s4xHxxi", b"para", 0, round(power * 65536))
    tags = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve) | {b"wtpt": _xyz(_D50)}
    for name, primary, share in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, shares, strict=True):
        cone = _times(_BRADFORD, primary)
        adapted = _solve(_BRADFORD, [share * by * c for by, c in zip(adapt, cone, strict=True)])
        tags[name] = _xyz(adapted)
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, at + len(data), len(value))
        data += value
    head = struct.pack(">I4xI12s12x4s28x", at + len(data), 0x04000000, b"mntrRGB XYZ ", b"acsp")
    return head + _xyz(_D50)[8:] + bytes(48) + table + data


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _solve(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    """Returns what `matrix` turns into `vector` (Cramer's rule)."""
    columns = list(zip(*matrix, strict=True))
    whole = _determinant(columns)
    parts = ([*columns[:i], vector, *columns[i + 1 :]] for i in range(3))
    return [_determinant(part) / whole for part in parts]


def _determinant(rows: Sequence[Sequence[float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
