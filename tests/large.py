"""A folder of many photos, made in seconds: hard links to a few, with thumbnails and manifest."""

import os
import pathlib

from PIL import Image

from lenslet.images import FACTS_VERSION
from lenslet.library import manifest
from lenslet.library.manifest import Manifest
from lenslet.paths import Path
from lenslet.storage.local import LocalTree

DIFFERENT = 200
TIME_NS = 1_700_000_000_000_000_000


def make(root: pathlib.Path, folder: str, count: int, page_size: int = 1000) -> None:
    """Makes `root/folder` with `count` photos as they are after indexing."""
    here = root / folder
    here.mkdir(parents=True)
    sources = [_photo(here, number) for number in range(min(DIFFERENT, count))]
    items = []
    for number in range(count):
        source, width, height, size = sources[number % DIFFERENT]
        name = f"p{number:06d}.jpg"
        os.link(source, here / name)
        os.link(f"{source}.webp", here / f"{name}.thumbnail")
        day = f"{2000 + number % 24}-{1 + number % 12:02d}-{1 + number % 28:02d}"
        items.append(
            {
                "path": f"{folder}/{name}",
                "name": name,
                "type": "image/jpeg",
                "w": width,
                "h": height,
                "size": size,
                "hasThumb": True,
                "hasMeta": False,
                "facts": FACTS_VERSION,
                "addedAt": "2024-01-01T00:00:00Z",
                "hash": f"blake3:{number:064x}",
                "createdAt": f"{day}T12:00:00Z",
                "takenAt": f"{day}T12:00:00",
                "rev": f"{TIME_NS:x}-{size:x}",
            }
        )
    for source, *_ in sources:
        source.unlink()
        pathlib.Path(f"{source}.webp").unlink()
    found = Manifest(Path(folder), items, [], "2024-01-01T00:00:00.000000Z")
    manifest.write(LocalTree(str(root)), found, page_size, old=Manifest(Path(folder)))


def _photo(folder: pathlib.Path, number: int) -> tuple[pathlib.Path, int, int, int]:
    """Draws a photo and its thumbnail under names that are not served."""
    width, height = [(240, 180), (180, 240), (256, 144), (200, 200)][number % 4]
    image = Image.effect_mandelbrot((width, height), (-2.0, -1.5, 1.0, 1.5), 8 + number % 90)
    image = Image.merge("RGB", (image, image.rotate(number), image.point(lambda v: 255 - v)))
    path = folder / f".source{number}"
    image.save(path, "JPEG", quality=80)
    image.save(f"{path}.webp", "WEBP", quality=70)
    for file in (path, f"{path}.webp"):
        os.utime(file, ns=(TIME_NS, TIME_NS))
    return path, width, height, path.stat().st_size
