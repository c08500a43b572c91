"""The timeline of 500,000 photos over twenty years, with 50 folders that have changed since.

There are no images: what search reads is written here, and no index process runs. One day has
`--day` photos; with `--words`, all have keywords and cameras, and every tenth a caption, as files
from Lightroom do.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import pathlib
import random
import time
import urllib.parse

import common

from lenslet.library.manifest import Item, Manifest, write
from lenslet.paths import Path, folder_key
from lenslet.search.rollup import Rollup
from lenslet.storage.local import LocalTree

PORT, FOLDERS, CHANGED, TURNS = 7176, 500, 50, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=500_000)
    parser.add_argument("--day", type=int, default=0)
    parser.add_argument("--words", action="store_true")
    options = parser.parse_args()
    common.machine()
    with common.workplace() as place:
        fill(place / "photos", options.photos, options.day, words=options.words)
        quiet = {"WORKER_THREADS": "0", "SCAN_SECONDS": "0", "WEB_CONCURRENCY": "1"}
        with common.serving(place / "photos", PORT, **quiet) as service:
            service.started("/timeline")
            before = common.private_megabytes(service.pids()[0])
            columns = ("", "p50 ms", "p95 ms", "bytes")
            common.table(f"{options.photos:,} photos", columns, list(measured(options.words)))
            after = common.private_megabytes(service.pids()[0])
            print(f"\nA request process: {before:.1f} MB private, then {after:.1f} MB")


def measured(words: bool) -> list[list[object]]:
    """Asks each route many times over one connection."""
    month = "/search?q=date:2009-07&sort=date&order=desc&limit=1000"
    routes = {
        "/timeline": "/timeline",
        "a year's folder": "/timeline?path=2009",
        "of a word": "/timeline?q=beach",
        "of every photo, by a search": "/timeline?q=img",
        "a month of 2,000, its first 1,000": month,
        "the same, the next 1,000": f"{month}&offset=1000",
        "its first 100": month.replace("1000", "100"),
        "a month of one folder": f"{month}&path=2009/{urllib.parse.quote('05')}",
        "search: a common word": "/search?q=beach",
        "a rare one": "/search?q=img_0004125",
        "an absent one": "/search?q=zeppelin",
        "two common words": "/search?q=castle+wedding",
        "a tag that a few have": "/search?q=tag:changed",
        "the same with a word": "/search?q=tag:changed+img",
    }
    if words:
        routes |= {
            "a keyword": "/search?q=tag:keyword07",
            "a camera": "/search?q=camera:x-t5",
            "a camera and a lens": "/search?q=camera:x-t5+lens:35mm",
            "cameras with counts": "/search/suggest?kind=camera",
        }
    client, rows = http.client.HTTPConnection("127.0.0.1", PORT), []
    for name, route in routes.items():
        times, size = list[float](), 0
        for _ in range(TURNS if "every" not in name else 8):
            begun = time.perf_counter()
            client.request("GET", route)
            size = len(client.getresponse().read())
            times.append(1000 * (time.perf_counter() - begun))
        p50, p95, _ = common.percentiles(times[1:])
        rows.append([name, p50, p95, size])
    return rows


def fill(root: pathlib.Path, photos: int, day: int, *, words: bool = False) -> None:
    """Writes a rollup, and the manifests of the folders that have changed since."""
    tree = LocalTree(str(root))
    (root / "any").mkdir(parents=True)
    cache = LocalTree(str(root.with_name("made")), private=True)
    folders = sorted(
        (Path(f"{2000 + n // 25}/{n % 25:02d}") for n in range(FOLDERS)), key=folder_key
    )
    each = photos // FOLDERS

    def manifest(folder: Path) -> Manifest:
        number, chance = folders.index(folder), random.Random(folder)  # the same each time
        items = [photo(folder, number * each + n, chance, day) for n in range(each)]
        for n, item in enumerate(items if words else ()):
            item.update(written(number * each + n))
        return Manifest(folder, items, [], "2026-01-01T00:00:00Z")

    rollup = Rollup(tree, cache)
    rollup.compact(folders, manifest)
    generations = {}
    for folder in folders[:: FOLDERS // CHANGED]:
        changed = manifest(folder)
        changed.items[3]["tags"] = ["changed"]
        del changed.items[7]
        changed.generated_at = generations[folder] = "2026-01-02T00:00:00Z"
        (root / folder).mkdir(parents=True)
        write(tree, changed, 5000, old=Manifest(folder))
    rollup.name(generations, 0)


def photo(folder: Path, number: int, chance: random.Random, day: int) -> Item:
    """A photo of its folder's year; each hundredth has no date, each seventh stands upright."""
    moment = dt.datetime(int(folder[:4]), 1, 1) + dt.timedelta(minutes=chance.randrange(525_600))
    if number < day:
        moment = moment.replace(year=2009, month=7, day=8)
    name = f"IMG_{number:07d}-{common.WORDS[number % 20]}.jpg"
    size = (3000, 4000) if number % 7 == 0 else (4000, 3000)
    taken = {} if number % 100 == 0 else {"takenAt": moment.isoformat()}
    return {"path": folder.child(name), "name": name, "type": "image/jpeg", "w": size[0], "h": size[1],
            "size": 4_000_000, "rev": f"18eaab85da14{number:04x}-{number:x}", "hasThumb": True, "hasMeta": False,
            "hash": f"blake3:{number:064x}", "thumb": f"{number:012x}", "facts": 2, **taken}  # fmt: skip


def written(number: int) -> Item:
    """What programs have written into a photo."""
    camera = common.CAMERAS[number % 7 % len(common.CAMERAS)]
    found: Item = {
        "keywords": [f"keyword{number * step % 40:02d}" for step in (1, 7, 13)],
        **camera,
    }
    if number % 10 == 0:
        found["caption"] = f"The {common.WORDS[number % 20]} on our way home, number {number}"
    return found


if __name__ == "__main__":
    main()
