"""Warm requests against a bare Falcon resource that reads and sends the same file.

Both run under gunicorn with two processes of eight threads, access log off, loaded by turns by
`wrk -t1 -c8`. Of the eight connections one process may take more than the other, by chance, so the
loads are many and short, and their mean is shown; with `WEB_CONCURRENCY=1` chance has no part in
it. The bare resource knows no paths, no ETag and no 304. The peer of `/item` sends the
sidecar's file, that of `/zip` the archive.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import urllib.parse
import urllib.request

import common

PORT, PEER_PORT = 7171, 7172


def main() -> None:
    options = common.options(__doc__, seconds=2, rounds=8)
    with common.workplace() as place:
        root = place / "photos"
        common.pictures(root, 1000, (400, 300), ".jpg")
        common.index(root)
        with common.serving(root, PORT) as service:
            service.started("/folders")
            edit(service.url)
            urllib.request.urlretrieve(f"{service.url}/zip?path=", root / "all.zip")
            rows = [measure(service, root, case, options) for case in CASES]
            takes = ("p50 ms", "p95 ms", "p99 ms", "CPU ms", "bare p99", "bare CPU")
            columns = ("request", "of", "a second", "bare", "× bare", *takes)
            common.table("Requests", columns, rows)
            memory = [common.private_megabytes(pid) for pid in service.pids()]
            common.table("Memory", ("process", "MB private"), enumerate(memory))


Case = tuple[str, str, str, str, str, bool]
CASES: tuple[Case, ...] = (
    ("GET /thumb", "/thumb", "img00500.jpg", "img00500.jpg.thumbnail", "image/webp", False),
    ("GET /thumb, 304", "/thumb", "img00500.jpg", "img00500.jpg.thumbnail", "image/webp", True),
    ("GET /folders", "/folders", "", "_index.json", "application/json", False),
    ("GET /folders, 304", "/folders", "", "_index.json", "application/json", True),
    ("GET /item", "/item", "img00500.jpg", "img00500.jpg.json", "application/json", False),
    ("GET /item, 304", "/item", "img00500.jpg", "img00500.jpg.json", "application/json", True),
    ("GET /zip of 1,000", "/zip", "", "all.zip", "application/zip", False),
)


def edit(url: str) -> None:
    body = json.dumps({"tags": ["beach", "summer"], "notes": "Final pick for the cover."})
    request = urllib.request.Request(f"{url}/item?path=img00500.jpg", body.encode(), method="PUT")
    urllib.request.urlopen(request).close()


def measure(
    service: common.Service, root: pathlib.Path, case: Case, options: argparse.Namespace
) -> list[object]:
    """One row: the mean rate of some rounds, of Lenslet and of the bare resource by turns."""
    label, route, path, file, kind, known = case
    asked = f"{route}?{urllib.parse.urlencode({'path': path})}"
    more = ["-c4"] if route == "/zip" else []  # a process sends four archives at a time
    if known:
        with urllib.request.urlopen(service.url + asked) as answer:
            more = ["-H", f"If-None-Match: {answer.headers['ETag']}"]
    ours, theirs = list[common.Load](), list[common.Load]()
    with common.bare(root / file, PEER_PORT, kind) as peer:
        peer.started("/bare")
        for _ in range(options.rounds):
            ours.append(common.load(service, asked, options.seconds, *more))
            theirs.append(common.load(peer, "/bare", options.seconds, *more))
    mean = common.Load(*map(statistics.mean, zip(*ours, strict=True)))
    bare = common.Load(*map(statistics.mean, zip(*theirs, strict=True)))
    size = f"{(root / file).stat().st_size / 1000:.1f} KB"
    ratio = f"{mean.rate / bare.rate:.2f}"
    return [label, size, mean.rate, bare.rate, ratio, *mean[1:], bare.p99, bare.cpu]


if __name__ == "__main__":
    main()
