"""A folder of 200 new photos opened as a page does, and the other requests meanwhile.

The page asks for the folder, then for its thumbnails on six connections; on 202 it asks again after
`Retry-After`. The folder is moved into the library when the service runs and is idle. Another client
asks for `/folders` all the while. The rate of `lenslet index`, by turns, is that of the same photos,
less what a second run over nothing takes.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import shutil
import statistics
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import common

PORT, CONNECTIONS, PHOTOS = 7174, 6, 200
SETS = {"JPEG 400×300": ((400, 300), ".jpg"), "JPEG 12 MP": ((4000, 3000), ".jpg")}


def main() -> None:
    options = common.options(__doc__, rounds=3)
    rows: list[list[object]] = []
    with common.workplace() as place:
        for name, (size, suffix) in SETS.items():
            common.pictures(place / name, PHOTOS, size, suffix)
            common.settle()
            found = []
            for number in range(options.rounds):
                alone, nothing = (common.index(place / name) for _ in range(2))
                common.forget(place / name)
                rate = PHOTOS / (alone.seconds - nothing.seconds)
                found.append([rate, *measure(place, place / name, number)])
            index, *times = map(statistics.median, zip(*found, strict=True))
            rate = PHOTOS / times[2]
            rows.append([name, *times, rate, index, rate / index])
    columns = ("photos", "first s", "half s", "all s", "/folders p50 ms", "p95 ms", "p99 ms")
    common.table("Opening a folder", (*columns, "photos/s", "lenslet index/s", "×"), rows)


def measure(place: pathlib.Path, photos: pathlib.Path, number: int) -> list[float]:
    """Seconds to the first, half and all thumbnails; p50, p95, p99 of `/folders` in ms."""
    root = place / f"root-{photos.name}-{number}"
    common.pictures(root / "old", 1000, (64, 48), ".jpg")
    common.index(root)
    shutil.copytree(photos, place / "new", copy_function=shutil.copyfile)
    common.settle()
    with common.serving(root, PORT) as service:
        service.started("/folders?path=old")
        common.settle()
        (place / "new").rename(root / "new")
        ended, others = threading.Event(), list[float]()
        asker = threading.Thread(target=ask_folders, args=(ended, others))
        asker.start()
        begun = time.monotonic()
        times = [at - begun for at in sorted(open_folder())]
        ended.set()
        asker.join()
    slowness = [1000 * value for value in common.percentiles(others)]
    return [times[0], times[len(times) // 2], times[-1], *slowness]


def open_folder() -> list[float]:
    """When each thumbnail was there, asked for as a page's images are."""
    client = http.client.HTTPConnection("127.0.0.1", PORT)
    status, folder = 202, b""
    while status == 202:
        status, after, folder = get(client, "/folders?path=new")
        time.sleep(after)
    paths = [item["path"] for item in json.loads(folder)["items"]]
    assert len(paths) == PHOTOS
    mine = threading.local()

    def thumbnail(path: str) -> float:
        if not hasattr(mine, "client"):
            mine.client = http.client.HTTPConnection("127.0.0.1", PORT)
        status = 202
        while status == 202:
            status, after, _ = get(mine.client, f"/thumb?{urllib.parse.urlencode({'path': path})}")
            time.sleep(after)
        assert status == 200, (status, path)
        return time.monotonic()

    with ThreadPoolExecutor(CONNECTIONS) as connections:
        return list(connections.map(thumbnail, paths))


def get(client: http.client.HTTPConnection, route: str) -> tuple[int, float, bytes]:
    client.request("GET", route)
    answer = client.getresponse()
    return answer.status, float(answer.headers.get("Retry-After", 0)), answer.read()


def ask_folders(ended: threading.Event, takes: list[float]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", PORT)
    while not ended.wait(0.01):
        begun = time.monotonic()
        status, *_ = get(client, "/folders?path=old")
        assert status == 200
        takes.append(time.monotonic() - begun)


if __name__ == "__main__":
    main()
