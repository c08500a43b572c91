"""Indexing against pyvips thumbnails alone, on the same files, by turns in one run.

`lenslet index` hashes, reads EXIF, makes thumbnails, manifests and the rollup; the peer only makes
thumbnails (WebP, quality 70, effort 2, as many threads). "pixels alone" is our own decoding, scaling
and encoding without anything around it: what Pillow can do at most.
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import shutil
import statistics
import sys
from typing import Any

import common
import numpy as np
from PIL import Image, ImageCms, ImageOps
from skimage.metrics import structural_similarity

from lenslet.images import pixels
from lenslet.images.decoders import KEEPS_MEMORY

WAYS = {
    "lenslet index": ("-m", "lenslet.run.cli", "index"),
    "pyvips, thumbnails alone": (str(common.HERE / "peers.py"), "vips"),
    "pixels alone": (str(common.HERE / "peers.py"), "pixels"),
}
PATHS = {"VIPS_CONCURRENCY": "1", "PYTHONPATH": str(common.CHECKOUT)}
PHOTOS = ("cameras", "exif")  # of cameras, and of the web
LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": (".jpg", {"quality": 85}),
    "PNG": (".png", {}),
    "WebP": (".webp", {"quality": 85}),
    "WebP with alpha": (".webp", {"quality": 85}),
    "WebP, lossless": (".webp", {"lossless": True, "method": 0}),
}
PEER = "pyvips, thumbnails alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="how many JPEGs of 400×300")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    common.machine()
    with common.workplace() as place:
        common.pictures(place / "JPEG 400×300", options.count, (400, 300), ".jpg")
        common.pictures(place / "PNG 1 MP", 300, (1200, 900), ".png")
        drawings(place / "PNG 1 MP, drawn", 600)
        common.pictures(place / "WebP 1 MP", 400, (1200, 900), ".webp")
        cameras(place / "cameras", 10)
        folders = sorted(place.iterdir())
        rows = [row for folder in folders for row in measure(folder, options.rounds)]
        columns = ("files", "way", "items/s", "× pyvips", "CPU ms/item", "MB private", "range")
        common.table("Indexing", columns, rows)
        found = [row for folder in folders for row in scaling(folder, options.rounds)]
        common.table("Threads", ("files", "threads", "items/s", "× one"), found)
        found = [[kind, memory(place / kind, *how)] for kind, how in LARGE.items()]
        common.table("Memory for one image of 24 MP", ("image", "MB"), found)
    photos = {name: list(filter(is_large_jpeg, common.corpus(name))) for name in PHOTOS}
    rows = [[name, len(paths), *quality(paths)] for name, paths in photos.items() if paths]
    common.table(
        "Quality", ("photos", "count", "SSIM", "SSIM of luma", "KB", "KB of LANCZOS"), rows
    )


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
    """Photos of real cameras, or drawn ones of their size, some times over."""
    folder.mkdir()
    real = list(filter(is_large_jpeg, common.corpus("cameras")))
    for seed in range(0 if real else 8):
        real.append(folder / f"camera{seed}.jpg")
        common.picture(3008, 2000, seed).save(real[-1], quality=92)
    for time in range(times):
        for path in real:
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
            if cost.status:
                raise SystemExit(f"{way} failed on {folder.name}")
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


def memory(folder: pathlib.Path, suffix: str, options: dict[str, Any]) -> float:
    """The most private memory of `lenslet index` for one image."""
    folder.mkdir()
    picture = common.picture(6000, 4000, 1)
    if "alpha" in folder.name:
        picture.putalpha(picture.getchannel("R"))
    picture.save(folder / f"large{suffix}", **options)
    common.settle()
    return common.lenslet("index", folder).megabytes


def scaling(folder: pathlib.Path, rounds: int) -> list[list[object]]:
    """Items a second by threads."""
    count = len(list(folder.iterdir()))
    found: dict[int, list[float]] = {n: [] for n in sorted({1, 2, os.cpu_count() or 1})}
    for _ in range(rounds):
        for threads, rates in found.items():
            cost = common.lenslet("index", folder, WORKER_THREADS=str(threads))
            rates.append(count / cost.seconds)
            common.forget(folder)
    medians = {threads: statistics.median(rates) for threads, rates in found.items()}
    return [[folder.name, n, rate, f"{rate / medians[1]:.2f}"] for n, rate in medians.items()]


def quality(paths: list[pathlib.Path]) -> tuple[float, float, float, float]:
    """Mean SSIM in colour and of luma, mean size in KB, and that of the reference.

    The reference decodes the whole image, scales it with LANCZOS and encodes it alike.
    """
    colour, luma, sizes, references = [], [], [], []
    for path in paths:
        with path.open("rb") as file:
            _, data = pixels.render(file, long_edge=256, quality=70, max_pixels=150_000_000)
        ours = common.decoded(data)
        with Image.open(path) as image:
            whole = ImageOps.exif_transpose(image).convert("RGB")
            if profile := image.info.get("icc_profile"):
                colours = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                whole = ImageCms.profileToProfile(whole, colours, ImageCms.createProfile("sRGB"))
        reference = common.webp(whole.resize(ours.size, Image.Resampling.LANCZOS), 70)
        sizes.append(len(data) / 1000)
        references.append(len(reference) / 1000)
        pair = ours, common.decoded(reference)
        colour.append(structural_similarity(*map(np.asarray, pair), channel_axis=-1))
        luma.append(structural_similarity(*(np.asarray(each.convert("L")) for each in pair)))
    means = map(statistics.mean, (colour, luma, sizes, references))
    return next(means), next(means), next(means), next(means)


if __name__ == "__main__":
    main()
