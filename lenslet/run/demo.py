"""Draws a small sample gallery for a first look. Besides `images`, the only importer of Pillow."""

from __future__ import annotations

import colorsys
import math
import os
import random
from pathlib import Path as FilePath

from PIL import Image, ImageDraw, ImageFilter

from lenslet.errors import SettingError
from lenslet.library import sidecar
from lenslet.paths import Path
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Tree

_FOLDERS = {
    "Seaside": ("beach", "summer"),
    "Seaside/Harbour": ("boats",),
    "Mountains": ("hiking", "summer"),
    "Mountains/Winter": ("snow",),
    "City at night": ("lights",),
}
_NOTES = ("First light.", "Final pick for the cover.", "Zoë's favourite.", "Crop a little tighter.")
_EACH = 8


def make(folder: str) -> int:
    """Draws the sample gallery in a new folder; returns the number of photos.

    0 if it is there already. Raises `SettingError` if something else is.
    """
    root = FilePath(folder)
    if root.exists() and any(root.iterdir()):
        if (root / "Seaside").is_dir():
            return 0
        raise SettingError(f"{folder!r} is not empty: choose another folder for the demo")
    root.mkdir(parents=True, exist_ok=True)
    tree = LocalTree(os.fspath(root))
    number = 0
    for name, tags in _FOLDERS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(_EACH):
            number += 1
            _photo(root / name, number)
            if number % 2:
                _tag(tree, Path(f"{name}/{_name(number)}"), number, tags)
    return number


def _name(number: int) -> str:
    return f"IMG_{number:04d}.{('jpg', 'jpg', 'png', 'webp')[number % 4]}"


def _photo(folder: FilePath, number: int) -> None:
    chance = random.Random(number)
    upright = number % 5 == 0
    image = _landscape(chance, 900 if upright else 1200, 1200 if upright else 900)
    exif = Image.Exif()
    exif[0x0132] = f"2024:{1 + number % 12:02d}:{1 + number % 28:02d} {number % 24:02d}:30:00"
    if number % 5 == 0:  # stored lying on its side, as cameras do
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(folder / _name(number), exif=exif.tobytes(), quality=88)


def _landscape(chance: random.Random, width: int, height: int) -> Image.Image:
    """Draws sky, sun and a few ridges."""
    hue = chance.randrange(360)
    sky = [_colour(hue + 40 * y / height, 70, 35 + 45 * y / height) for y in range(height)]
    image = Image.new("RGB", (1, height))
    image.putdata(sky)
    image = image.resize((width, height))
    draw = ImageDraw.Draw(image)
    x, y, radius = chance.randrange(width), chance.randrange(height // 2), height // 12
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(hue + 60, 90, 85))
    image = image.filter(ImageFilter.GaussianBlur(3))
    draw = ImageDraw.Draw(image)
    for ridge in range(1, 5):
        phase, steep = chance.random() * 9, chance.uniform(1.5, 4)
        base, rise = height * (0.35 + 0.14 * ridge), height * 0.09
        line = [
            (x, base + rise * math.sin(phase + steep * x / width) + rise * 0.2 * math.sin(x / 23))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon(
            [(0, height), *line, (width, height)], fill=_colour(hue + 180, 45, 46 - 9 * ridge)
        )
    return image


def _colour(hue: float, saturation: float, lightness: float) -> tuple[int, int, int]:
    parts = colorsys.hls_to_rgb(hue % 360 / 360, lightness / 100, saturation / 100)
    return int(parts[0] * 255), int(parts[1] * 255), int(parts[2] * 255)


def _tag(tree: Tree, item: Path, number: int, tags: tuple[str, ...]) -> None:
    edit = {"tags": list(tags), "updatedBy": "demo"}
    if number % 3 == 0:
        edit["notes"] = _NOTES[number % len(_NOTES)]
    sidecar.edit(tree, item, lambda _: sidecar.merge(None, edit))
