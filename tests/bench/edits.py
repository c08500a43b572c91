"""Durable edits by eight clients beside a bare Falcon resource, by turns in one run.

The peer writes what is put to a file, fsyncs it, renames it over the old one and fsyncs its folder,
and does nothing else. Both touch items at random, of one folder and of forty.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time

import common

PORT, PEER_PORT = 7173, 7176
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
    options = common.options(__doc__, seconds=20, rounds=3)
    with common.workplace() as place:
        rows = [row for folders in (1, 40) for row in measure(place, folders, options)]
        takes = ("p50 ms", "p95 ms", "p99 ms", "CPU ms", "range")
        common.table("Edits", ("folders", "way", "a second", "× bare", *takes), rows)


def measure(place: pathlib.Path, folders: int, options: argparse.Namespace) -> list[list[object]]:
    """Edits a second, of Lenslet and of the bare resource: the median of some rounds."""
    root, bare = place / f"{folders}-folders", place / f"{folders}-bare"
    paths = common.links(root, 4000, folders)
    common.links(bare, 4000, folders)
    common.index(root)
    (place / "paths").write_text("\n".join(paths))
    script = SCRIPT % (place / "paths")
    ours, theirs = list[common.Load](), list[common.Load]()
    with common.serving(root, PORT) as service, common.bare(bare / "any", PEER_PORT) as peer:
        service.started("/folders")
        time.sleep(1)
        for _ in range(options.rounds):
            ours.append(common.load(service, "", options.seconds, script=script))
            theirs.append(common.load(peer, "", options.seconds, script=script))
    base = statistics.median(load.rate for load in theirs)
    return [
        [
            folders,
            way,
            rate := statistics.median(load.rate for load in loads),
            f"{rate / base:.2f}",
            *map(statistics.median, list(zip(*loads, strict=True))[1:]),
            f"{min(loads).rate:.0f}–{max(loads).rate:.0f}",
        ]
        for way, loads in (("PUT /item", ours), ("bare Falcon", theirs))
    ]


if __name__ == "__main__":
    main()
