"""A folder of 200 new photos opened as a page does, and the other requests meanwhile.

The page asks for the folder, then for its thumbnails on six connections; on 202 it asks again after
`Retry-After`. The folder is moved into the library when the service runs and is idle. Another client asks for
`/folders` all the while. The rate of `lenslet index`, by turns, is that of the same photos, less what
a second run over nothing takes. The page and the requests run on the same cores, so indexing can only
have what they leave: "× index of that" compares with the index rate on so much of the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pathlib
import shutil
import statistics
import threading
import time
import urllib.parse

import common

PORT, CONNECTIONS, PHOTOS = 7174, 6, 200
SETS = {"JPEG 400×300": ((400, 300), ".jpg"), "JPEG 12 MP": ((4000, 3000), ".jpg")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    common.machine()
    speed, cost = [], []
    with common.workplace() as place:
        for name, (size, suffix) in SETS.items():
            common.pictures(place / name, PHOTOS, size, suffix)
            common.settle()
            opened = []
            for number in range(options.rounds):
                alone, nothing = (common.lenslet("index", place / name) for _ in range(2))
                common.forget(place / name)
                rate = PHOTOS / (alone.seconds - nothing.seconds)
                opened.append([rate, *measure(place, place / name, number)])
            index, *times, indexing, answering, page, memory, most = (
                statistics.median(values) for values in zip(*opened, strict=True)
            )
            rate, others = PHOTOS / times[2], answering + page
            speed.append([name, *times, rate, index, rate / index])
            left = 1 - others
            shares = [indexing, answering, page, left]
            cost.append([name, *shares, rate / (left * index), memory, most])
    columns = ("photos", "first s", "half s", "all s", "/folders p50 ms", "p95 ms", "p99 ms")
    common.table("Opening a folder", (*columns, "photos/s", "lenslet index/s", "×"), speed)
    columns = ("photos", "indexing", "requests", "page", "left for indexing", "× index of that")
    common.table("Shares of the cores", (*columns, "index process MB", "request process MB"), cost)


def measure(place: pathlib.Path, photos: pathlib.Path, number: int) -> list[float]:
    """Seconds to the first, half and all thumbnails; p50, p95, p99 of `/folders` in ms.

    Then the shares of all cores' time that the index process, the others and the page (with the
    client that asks for `/folders`) had, and MB of the index and of the larger request process.
    """
    root = place / f"root-{photos.name}-{number}"
    common.pictures(root / "old", 1000, (64, 48), ".jpg")
    common.lenslet("index", root)
    shutil.copytree(photos, place / "new", copy_function=shutil.copyfile)
    common.settle()
    with common.serving(root, PORT) as service:
        service.started("/folders?path=old")
        common.settle()
        (place / "new").rename(root / "new")
        ended = threading.Event()
        others: list[float] = []
        asker = threading.Thread(target=ask_folders, args=(ended, others))
        index = max(service.pids(), key=lambda pid: os.getpriority(os.PRIO_PROCESS, pid))
        before = common.cpu_seconds(index), service.cpu(), time.process_time()
        asker.start()
        begun = time.monotonic()
        done = open_folder()
        ended.set()
        asker.join()
        after = common.cpu_seconds(index), service.cpu(), time.process_time()
        cores = (time.monotonic() - begun) * (os.cpu_count() or 1)
        indexing, whole, page = (now - then for now, then in zip(after, before, strict=True))
        times = sorted(at - begun for at in done)
        slowness = [1000 * value for value in common.percentiles(others)]
        shares = [indexing / cores, (whole - indexing) / cores, page / cores]
        most = max(common.private_megabytes(pid) for pid in service.pids() if pid != index)
        memory = [common.private_megabytes(index), most]
        return [times[0], times[len(times) // 2], times[-1], *slowness, *shares, *memory]


def open_folder() -> list[float]:
    """When each thumbnail was there, asked for as a page's images are."""
    client = http.client.HTTPConnection("127.0.0.1", PORT)
    status, folder = 202, b""
    while status == 202:
        status, after, folder = get(client, "/folders?path=new")
        time.sleep(after)
    waiting = [item["path"] for item in reversed(json.loads(folder)["items"])]
    assert len(waiting) == PHOTOS
    done: list[float] = []
    lock = threading.Lock()

    def connection() -> None:
        client = http.client.HTTPConnection("127.0.0.1", PORT)
        while True:
            with lock:
                if not waiting:
                    return
                path = waiting.pop()
            while True:
                status, after, _ = get(client, f"/thumb?{urllib.parse.urlencode({'path': path})}")
                if status == 200:
                    break
                assert status == 202, (status, path)
                time.sleep(after)
            done.append(time.monotonic())

    threads = [threading.Thread(target=connection) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


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
