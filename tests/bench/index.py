"""Indexing against pyvips thumbnails alone, on the same files, by turns in one run.

`lenslet index` hashes, reads EXIF, makes thumbnails, manifests and the rollup; the peer only makes
thumbnails (WebP, quality 70, effort 2, as many threads).
"""

from __future__ import annotations

import io
import pathlib
import shutil
import statistics
import sys
from collections.abc import Iterator

import common
import numpy as np
from PIL import Image, ImageCms, ImageOps
from skimage.metrics import structural_similarity

from lenslet.images import pixels
from lenslet.images.decoders import KEEPS_MEMORY

WAYS = {
    "lenslet index": ("-m", "lenslet", "index"),
    "pyvips, thumbnails alone": (str(common.HERE / "peers.py"),),
}
PATHS = {"VIPS_CONCURRENCY": "1", "PYTHONPATH": str(common.CHECKOUT)}
PHOTOS = ("cameras", "exif")  # of cameras, and of the web
PEER = "pyvips, thumbnails alone"


def main() -> None:
    options = common.options(__doc__, count=5000, rounds=3)
    with common.workplace() as place:
        common.pictures(place / "JPEG 400×300", options.count, (400, 300), ".jpg")
        common.pictures(place / "PNG 1 MP", options.count // 16, (1200, 900), ".png")
        drawings(place / "PNG 1 MP, drawn", options.count // 8)
        common.pictures(place / "WebP 1 MP", options.count // 12, (1200, 900), ".webp")
        cameras(place / "cameras", options.count // 500)
        folders = [each for each in sorted(place.iterdir()) if any(each.iterdir())]
        rows = [row for folder in folders for row in measure(folder, options.rounds)]
        columns = ("files", "way", "items/s", "× pyvips", "CPU ms/item", "MB", "range")
        common.table("Indexing", columns, rows)
    photos = {name: list(filter(is_large_jpeg, common.corpus(name))) for name in PHOTOS}
    rows = [[name, len(paths), *quality(paths)] for name, paths in photos.items() if paths]
    common.table("Quality", ("photos", "count", "SSIM", "KB", "KB of LANCZOS"), rows)


def drawings(folder: pathlib.Path, count: int) -> None:
    """PNGs of 1 megapixel as programs draw them: large areas of one colour, and their edges."""
    folder.mkdir()
    for number in range(count):
        image = common.picture(60, 45, number).quantize(24).convert("RGB")
        image.resize((1200, 900), Image.Resampling.NEAREST).save(folder / f"img{number:03d}.png")


def is_large_jpeg(path: pathlib.Path) -> bool:
    if path.stat().st_size < 10_000:  # one of the corpus has a header and nothing more
        return False
    try:
        with Image.open(path) as image:
            image.load()
            return image.format == "JPEG" and max(image.size) > 256
    except (OSError, SyntaxError):
        return False


def cameras(folder: pathlib.Path, times: int) -> None:
    """Photos of real cameras, some times over; none without `LENSLET_CORPUS`."""
    folder.mkdir()
    for path in filter(is_large_jpeg, common.corpus("cameras")):
        for time in range(times):
            shutil.copyfile(path, folder / f"{time}-{path.name}")


def measure(folder: pathlib.Path, rounds: int) -> list[list[object]]:
    """Items a second in each way: the median of some rounds, and the slowest and fastest."""
    count = len(list(folder.iterdir()))
    common.settle()
    found: dict[str, list[common.Cost]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, command in WAYS.items():
            more = {} if way == PEER else KEEPS_MEMORY
            cost = common.Cost([sys.executable, *command, str(folder)], **PATHS, **more)
            found[way].append(cost)
            common.forget(folder)
    rates = {way: [count / cost.seconds for cost in costs] for way, costs in found.items()}
    peer = statistics.median(rates[PEER])
    return [
        [
            folder.name,
            way,
            rate := statistics.median(rates[way]),
            f"{rate / peer:.2f}",
            1000 * statistics.median(cost.cpu for cost in costs) / count,
            max(cost.megabytes for cost in costs),
            f"{min(rates[way]):.0f}–{max(rates[way]):.0f}",
        ]
        for way, costs in found.items()
    ]


def quality(paths: list[pathlib.Path]) -> Iterator[float]:
    """Mean SSIM in colour, mean size in KB, and that of the reference.

    The reference decodes the whole image, scales it with LANCZOS and encodes it alike.
    """
    alike, sizes, references = [], [], []
    for path in paths:
        with path.open("rb") as file:
            _, data = pixels.render(file, long_edge=256, quality=70, max_pixels=150_000_000)
        ours = decoded(data)
        with Image.open(path) as image:
            whole = ImageOps.exif_transpose(image).convert("RGB")
            if profile := image.info.get("icc_profile"):
                colours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                whole = ImageCms.profileToProfile(whole, colours, ImageCms.createProfile("sRGB"))
        reference = io.BytesIO()
        whole = whole.resize((ours.shape[1], ours.shape[0]), Image.Resampling.LANCZOS)
        whole.save(reference, "WEBP", quality=70, method=2)
        sizes.append(len(data) / 1000)
        references.append(len(reference.getvalue()) / 1000)
        wanted = decoded(reference.getvalue())
        alike.append(structural_similarity(ours, wanted, channel_axis=-1))
    return map(statistics.mean, (alike, sizes, references))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


if __name__ == "__main__":
    main()
