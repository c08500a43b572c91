"""Draws a small sample gallery for a first look. Besides `images`, the only importer of Pillow."""

import math
import os
import random
from pathlib import Path as FilePath

from PIL import Image, ImageDraw, ImageOps

from lenslet.errors import SettingError
from lenslet.library import sidecar
from lenslet.paths import Path
from lenslet.storage.local import LocalTree

_FOLDERS = {
    "Seaside": ["beach", "summer"],
    "Seaside/Harbour": ["boats"],
    "Mountains": ["hiking", "summer"],
    "Mountains/Winter": ["snow"],
    "City at night": ["lights"],
}
_NOTES = ("First light.", "Final pick for the cover.", "Zoë's favourite.", "Crop a little tighter.")
_EACH = 8


def make(folder: str) -> int:
    """Draws the sample gallery in a new folder; returns the number of photos.

    0 if it is there already. Raises `SettingError` if the folder has other files.
    """
    root = FilePath(folder)
    if root.exists() and any(root.iterdir()):
        if (root / "Seaside").is_dir():
            return 0
        raise SettingError(f"{folder!r} is not empty: choose another folder for the demo")
    names = [name for name in _FOLDERS for _ in range(_EACH)]
    for number, name in enumerate(names, 1):
        path = Path(f"{name}/IMG_{number:04d}.{('jpg', 'jpg', 'png', 'webp')[number % 4]}")
        (root / name).mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0132] = f"2024:{1 + number % 12:02d}:{1 + number % 28:02d} {number % 24:02d}:30:00"
        _landscape(number).save(root / path, exif=exif.tobytes(), quality=88)
        if number % 2:
            edit = {"tags": _FOLDERS[name], "notes": _NOTES[number % 4], "updatedBy": "demo"}
            tree = LocalTree(os.fspath(root))
            sidecar.edit(tree, path, lambda _: sidecar.merge(None, edit))  # noqa: B023
    return len(names)


def _landscape(number: int) -> Image.Image:
    """Draws sky, sun and a few ridges; every fifth picture is upright."""
    chance = random.Random(number)
    width, height = (1200, 900) if number % 5 else (900, 1200)
    hue = chance.randrange(360)
    sky = Image.linear_gradient("L").resize((width, height))
    image = ImageOps.colorize(sky, f"hsl({hue}, 70%, 35%)", f"hsl({hue + 40}, 70%, 80%)")
    draw = ImageDraw.Draw(image)
    sun = chance.randrange(width), chance.randrange(height // 2)
    draw.circle(sun, height // 12, fill=f"hsl({hue + 60}, 90%, 85%)")
    for ridge in range(1, 5):
        phase, steep = chance.random() * 9, chance.uniform(1.5, 4)
        base, rise = height * (0.35 + 0.14 * ridge), height * 0.09
        line = [
            (x, base + rise * (math.sin(phase + steep * x / width) + math.sin(x / 23) / 5))
            for x in range(0, width + 8, 8)
        ]
        colour = f"hsl({hue + 180}, 45%, {46 - 9 * ridge}%)"
        draw.polygon([(0, height), *line, (width, height)], fill=colour)
    return image
