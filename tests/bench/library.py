"""Libraries of 5,000, 50,000 and 500,000 items: indexing, looking again, starting, memory, changes.

The images are tiny and hard links of a hundred, in 500 folders, so that what is measured is
everything but their pixels. The largest library is also searched, beside `grep` on the same text.
One library more has all its items in one folder.
"""

from __future__ import annotations

import glob
import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable

import common

from lenslet.search.format import fold

PORT, FOLDERS = 7175, 500
C = {**os.environ, "LC_ALL": "C"}
QUERIES = {
    "rare": "_004125",
    "common": "beach",
    "absent": "zeppelin",
    "two words": "harbour 0499",
    "two common words": "castle wedding",
    "three words": "2019 wedding dog",
    "a tag": "tag:keeper",
    "not ASCII": "žluťoučký",
    "excluding": "-beach _0004",
}
ROUTES = {
    "/timeline": "/timeline",
    "a year's folder": "/timeline?path=2009",
    "of a word": "/timeline?q=beach",
    "filters of a word": "/search/facets?q=beach",
    "a month, its first 1,000": "/search?q=date:2009-07&sort=date&order=desc&limit=1000",
}


def main() -> None:
    options = common.options(__doc__, most=500_000, folder=100_000, idle=90)
    with common.workplace() as place:
        sizes = [options.most // 100, options.most // 10, options.most]
        libraries = [(options.folder, 1), *((size, FOLDERS) for size in sizes)]
        found = [
            Library(place / f"{count}-{folders}", count, folders, options.idle)
            for count, folders in libraries
        ]
        columns = [f"{count:,} in {folders:,}" for count, folders in libraries]
        rows = [(name, *(library.seen[name] for library in found)) for name in found[0].seen]
        common.table("Libraries", ("", *columns), rows)
        columns = ["query", "p50 ms", "p95 ms", "grep ms", "× grep of the longest word", "hits"]
        common.table("Search", columns, found[-1].searches)


class Library:
    """One library and what was seen of it."""

    def __init__(self, root: pathlib.Path, count: int, folders: int, idle: int) -> None:
        self.root, self.count = root, count
        self.paths = common.links(root, count, folders)
        common.settle()
        first, again = common.index(root), common.index(root)
        self.seen: dict[str, object] = {
            "first index, s": first.seconds,
            "items/s": count / first.seconds,
            "indexing, MB": first.megabytes,
            "again, every file looked at, s": again.seconds,
        }
        self.searches: list[list[object]] = []
        with common.serving(root, PORT) as self.service:
            self._watch_service(idle)
            self._change()
            self._search()
            pids = self._pids()
            most = max(map(common.private_megabytes, pids[1:]))
            self.seen["MB private, request process, most"] = most
            self.seen["MB private, index process"] = common.private_megabytes(pids[0])

    def _watch_service(self, idle: int) -> None:
        first = urllib.parse.quote(os.path.dirname(self.paths[-1]))
        self.seen["start to first answer, s"] = self.service.started(f"/folders?path={first}")
        self._rest()
        before = self.service.cpu()
        time.sleep(idle)
        self.seen["CPU when idle, % of a core"] = 100 * (self.service.cpu() - before) / idle

    def _change(self) -> None:
        """Add a file whose folder is asked for and one whose folder is not, and edit an item."""
        folder, far = (os.path.dirname(self.paths[at]) for at in (0, self.count // 2))
        image = self.root / self.paths[0]
        for path in (f"{folder}/0-aardvark.jpg", f"{far}/0-zebra.jpg"):  # of the first page
            shutil.copyfile(image, self.root / path)  # as a copy is, so not settled at first
        begun = time.monotonic()
        asked = common.until(lambda: "0-aardvark.jpg" in self._names(folder), pause=0.1)
        self.seen["new file, asked: /folders, s"] = asked
        common.until(lambda: self._hits("zebra"), pause=0.1)
        self.seen["new file, unasked: /search, s"] = time.monotonic() - begun
        self._rest()
        url = f"{self.service.url}/item?path={urllib.parse.quote(self.paths[7])}"
        request = urllib.request.Request(url, b'{"tags": ["keeper"]}', method="PUT")
        urllib.request.urlopen(request).close()
        self.seen["edit: /search, s"] = common.until(lambda: self._hits("tag:keeper"))

    def _search(self) -> None:
        """Each query forty times, by turns with `grep`."""
        lines = glob.glob(f"{os.environ['XDG_CACHE_HOME']}/**/*.lines", recursive=True)
        text = max(lines, key=os.path.getsize)
        for name, query in QUERIES.items():
            middle, slow, _ = timed(lambda query=query: self._hits(query))
            # Printed to a pipe: to /dev/null it would end at the first hit.
            grep = ["grep", "-ac", _longest(query), text]
            other, *_ = timed(lambda grep=grep: subprocess.run(grep, stdout=subprocess.PIPE, env=C))
            row = [f"{name}: `{query}`", middle, slow, other, middle / other, self._hits(query)]
            self.searches.append(row)
        for name, route in ROUTES.items():
            middle, slow, _ = timed(lambda route=route: self._get(route))
            self.searches.append([name, middle, slow, "", "", ""])

    def _rest(self) -> None:
        """Wait until the index process has nothing to do for some seconds."""
        quiet = 0
        while quiet < 4:
            time.sleep(1)
            workers = self._json("/health/workers")
            quiet = quiet + 1 if workers["alive"] and not workers["backlog"] else 0

    def _get(self, route: str) -> bytes:
        with urllib.request.urlopen(f"{self.service.url}{route}") as answer:
            data: bytes = answer.read()
        return data

    def _json(self, route: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self._get(route))
        return found

    def _names(self, folder: str) -> list[str]:
        found = json.loads(self._get(f"/folders?path={urllib.parse.quote(folder)}"))
        return [item["name"] for item in found["items"]]

    def _hits(self, query: str) -> int:
        found = json.loads(self._get(f"/search?q={urllib.parse.quote(query)}"))
        return int(found["total"])

    def _pids(self) -> list[int]:
        """The index process first."""
        index = self._json("/health/workers")["pid"]
        return sorted(self.service.pids(), key=lambda pid: pid != index)


def timed(what: Callable[[], object]) -> tuple[float, float, float]:
    """p50, p95 and p99 of forty times, in milliseconds."""
    takes = []
    for _ in range(40):
        begun = time.monotonic()
        what()
        takes.append(1000 * (time.monotonic() - begun))
    return common.percentiles(takes)


def _longest(query: str) -> str:
    words = (word.rpartition(":")[2] for word in query.split() if not word.startswith("-"))
    return fold(max(words, key=len))


if __name__ == "__main__":
    main()
