"""Durable edits by eight clients against what the disk allows, by turns in one run.

The peer is eight threads that write a file of the same size, fsync it, rename it over the old one
and fsync its folder. A bare Falcon resource does the same with what is put, and nothing else: the
most that HTTP leaves of it. All touch items at random, of one folder and of forty.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import statistics
import subprocess
import sys
import threading
import time

import common
import peers

PORT, PEER_PORT, CLIENTS = 7173, 7176, 8
SCRIPT = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
local number = 0
request = function()
  number = number + 1
  local body = '{"tags": ["beach", "edit ' .. number .. '"], "notes": "Number ' .. number .. '."}'
  return wrk.format("PUT", "/item?path=" .. paths[math.random(#paths)], nil, body)
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="how long each load takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.disk:
        disk(pathlib.Path(options.disk).read_text().split("\n"), options.seconds)
        return
    common.machine()
    with common.workplace() as place:
        rows = [row for folders in (1, 40) for row in measure(place, folders, options)]
        takes = ("p50 ms", "p95 ms", "p99 ms", "CPU ms", "range")
        columns = ("folders", "way", "edits", "a second", "× disk", *takes)
        common.table("Edits", columns, rows)


def measure(place: pathlib.Path, folders: int, options: argparse.Namespace) -> list[list[object]]:
    """Edits a second, of Lenslet and of the disk: the median of some rounds."""
    root, bare = place / f"{folders}-folders", place / f"{folders}-bare"
    paths = common.links(root, 4000, folders)
    common.links(bare, 4000, folders)
    common.lenslet("index", root)
    (place / "paths").write_text("\n".join(paths))
    (place / "files").write_text("\n".join(f"{bare / path}.json" for path in paths))
    ours, plain, disks = (list[common.Load]() for _ in range(3))
    script = SCRIPT % (place / "paths")
    command = [sys.executable, __file__, "--disk", str(place / "files")]
    with common.serving(root, PORT) as service, common.bare(bare / "any", PEER_PORT) as peer:
        service.started("/folders")
        time.sleep(1)
        for _ in range(options.rounds):
            ours.append(common.load(service, "", options.seconds, script=script))
            plain.append(common.load(peer, "", options.seconds, script=script))
            told = subprocess.check_output([*command, "--seconds", str(options.seconds)], text=True)
            disks.append(common.Load(*map(float, told.split())))
    base = statistics.median(load.rate for load in disks)
    return [
        [
            folders,
            way,
            int(sum(load.rate for load in loads) * options.seconds),
            rate := statistics.median(load.rate for load in loads),
            f"{rate / base:.2f}",
            *map(statistics.median, list(zip(*loads, strict=True))[1:]),
            f"{min(loads).rate:.0f}–{max(loads).rate:.0f}",
        ]
        for way, loads in (("PUT /item", ours), ("bare Falcon", plain), ("the disk", disks))
    ]


def disk(names: list[str], seconds: int) -> None:
    """Print how many files a second eight threads replace durably, and what each takes."""
    ended = time.monotonic() + seconds
    takes: list[float] = []

    def replace(seed: int) -> None:
        chance, data = random.Random(seed), b"x" * 400
        while True:
            begun = time.monotonic()
            if begun > ended:
                return
            name = chance.choice(names)
            peers.replace(name, data)
            takes.append(1000 * (time.monotonic() - begun))

    threads = [threading.Thread(target=replace, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(takes) / seconds, *common.percentiles(takes))


if __name__ == "__main__":
    main()
