"""`/zip` of 1,000 photos beside `/file` for one after the other, by turns, in MB a second."""

from __future__ import annotations

import argparse
import http.client
import os
import pathlib
import statistics
import time
import urllib.parse

import common

PORT = 7178


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[25_000, 400_000, 3_000_000])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    common.machine()
    columns = ("bytes of a photo", "/zip MB/s", "/file MB/s", "ratio, median", "least", "most")
    with common.workplace() as place:
        rows = [measured(place / str(size), options.photos, size, options.rounds) for size in options.sizes]  # fmt: skip
        common.table(f"{options.photos:,} photos", columns, rows)


def measured(root: pathlib.Path, photos: int, size: int, rounds: int) -> list[object]:
    """The photos are links to twenty files, so that reading them does not measure the disk."""
    common.pictures(root / "a", 20, (160, 120), ".jpg")
    for path in (root / "a").iterdir():
        with path.open("r+b") as file:
            file.truncate(size)
    names = [path.name for path in (root / "a").iterdir()]
    (root / "many").mkdir()
    for number in range(photos):
        os.link(root / "a" / names[number % 20], root / f"many/{number:04d}.jpg")
    common.settle()
    common.lenslet("index", root)
    whole = ["/zip?path=many"]
    single = [f"/file?{urllib.parse.urlencode({'path': f'many/{n:04d}.jpg'})}" for n in range(photos)]  # fmt: skip
    found: dict[str, list[float]] = {"zip": [], "file": []}
    with common.serving(root, PORT, WEB_CONCURRENCY="1", SCAN_SECONDS="3600") as service:
        service.started(whole[0])
        for _ in range(rounds):
            found["zip"].append(rate(whole))
            found["file"].append(rate(single))
    ratios = sorted(a / b for a, b in zip(*found.values(), strict=True))
    medians = [statistics.median(each) for each in (*found.values(), ratios)]
    return [size, *medians, ratios[0], ratios[-1]]


def rate(routes: list[str]) -> float:
    """MB a second of some answers over one connection."""
    client, buffer, size = http.client.HTTPConnection("127.0.0.1", PORT), bytearray(1 << 18), 0
    begun = time.perf_counter()
    for route in routes:
        client.request("GET", route)
        answer = client.getresponse()
        assert answer.status == 200
        while count := answer.readinto(buffer):
            size += count
    client.close()
    return size / 1e6 / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
