"""Draws a small sample gallery for a first look. Besides `images`, the only importer of Pillow."""

import math
import os
import random
import tempfile
from pathlib import Path as FilePath

from PIL import Image, ImageColor, ImageDraw, ImageOps

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
_PALETTES = (  # the top of the sky, the horizon, and what is near
    ("#27476e", "#f6c89f", "#14213d"),
    ("#6fa8c9", "#f3ead8", "#1f4e4a"),
    ("#3a2a5e", "#f29a83", "#1c1230"),
    ("#9fd0d6", "#fbf3e0", "#264653"),
    ("#12284b", "#7d9cbd", "#07111f"),
    ("#d99a55", "#fbe9c9", "#5a3a28"),
    ("#aebbc2", "#eef1f2", "#37474f"),
)
_RIDGES = 6


def make(folder: str) -> int:
    """Draws the sample gallery in a new folder; returns the number of photos.

    0 if it is there already. Raises `SettingError` if the folder has other files.
    """
    root = FilePath(folder)
    if root.exists() and any(root.iterdir()):
        if (root / "Seaside").is_dir():
            return 0
        raise SettingError(f"{folder!r} is not empty: choose another folder for the demo")
    root.parent.mkdir(parents=True, exist_ok=True)
    # Until all is drawn.
    part = FilePath(tempfile.mkdtemp(prefix=".lenslet-demo-", dir=root.parent))
    part.chmod(0o755)
    names = [name for name in _FOLDERS for _ in range(_EACH)]
    for number, name in enumerate(names, 1):
        path = Path(f"{name}/IMG_{number:04d}.{('jpg', 'jpg', 'png', 'webp')[number % 4]}")
        (part / name).mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        trip, photo = divmod(number - 1, _EACH)
        day = 4 + photo // (_EACH // 2)
        exif[0x0132] = f"{2024 - trip}:{12 - 2 * trip:02d}:{day:02d} {8 + photo:02d}:30:00"
        _landscape(number).save(part / path, exif=exif.tobytes(), quality=88)
        if number % 2:
            edit = {"tags": _FOLDERS[name], "notes": _NOTES[number % 4], "updatedBy": "demo"}
            tree = LocalTree(os.fspath(part))
            sidecar.edit(tree, path, lambda _: sidecar.merge(None, edit))  # noqa: B023
    part.rename(root)
    return len(names)


def _landscape(number: int) -> Image.Image:
    """Draws a sky, a sun, and ridges in the haze; every fifth picture is upright."""
    chance = random.Random(number)
    width, height = (1600, 1067) if number % 5 else (1067, 1600)
    top, horizon, near = map(ImageColor.getrgb, _PALETTES[number % len(_PALETTES)])
    sky = Image.linear_gradient("L").resize((width, height))
    image = ImageOps.colorize(sky, top, horizon)
    draw = ImageDraw.Draw(image)
    sun = chance.uniform(0.15, 0.85) * width, chance.uniform(0.2, 0.45) * height
    draw.circle(sun, height / 28, fill=(255, 252, 242))
    for ridge in range(1, _RIDGES + 1):
        base, phase = height * (0.42 + 0.09 * ridge), chance.uniform(0, 7)
        line = [
            (x, base + height * (math.sin(phase + x / 200) + math.sin(2 * phase + x / 90)) / 30)
            for x in range(0, width + 4, 4)
        ]
        hue = zip(horizon, near, strict=True)
        colour = tuple(far + (close - far) * ridge // _RIDGES for far, close in hue)
        draw.polygon([(0, height), *line, (width, height)], fill=colour)
    return image
