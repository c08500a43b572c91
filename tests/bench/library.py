"""Libraries of 5,000, 50,000 and 500,000 items: indexing, looking again, starting, memory, changes.

The images are tiny and hard links of a hundred, in 500 folders, so that what is measured is
everything but their pixels. The largest library is also searched, beside `grep` on the same text.
One library more has all its items in one folder.
"""

from __future__ import annotations

import argparse
import glob
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import common

from lenslet.search.format import fold

PORT, FOLDERS = 7175, 500
C = {**os.environ, "LC_ALL": "C"}
QUERIES = {
    "rare": "IMG_0004125",
    "common": "beach",
    "absent": "zeppelin",
    "two words": "harbour 0499",
    "two common words": "castle wedding",
    "three words": "2019 wedding dog",
    "a tag": "tag:keeper",
    "not ASCII": "žluťoučký",
    "excluding": "-beach img_0004",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[5000, 50_000, 500_000])
    parser.add_argument("--folder", type=int, default=100_000, help="items of the one folder")
    parser.add_argument("--idle", type=int, default=90, help="seconds of watching an idle service")
    options = parser.parse_args()
    common.machine()
    with common.workplace() as place:
        libraries = [(options.folder, 1), *((size, FOLDERS) for size in options.sizes)]
        found = [
            Library(place / f"{count}-{folders}", count, folders, options.idle)
            for count, folders in libraries
        ]
        for title, names in TABLES.items():
            columns = [f"{count:,} in {folders:,}" for count, folders in libraries]
            rows = [(name, *(library.seen[name] for library in found)) for name in names]
            common.table(title, ("", *columns), rows)
        columns = ("query", "p50 ms", "p95 ms", "grep ms", "× grep of the longest word", "hits")
        common.table("Search", columns, found[-1].searches)


TABLES = {
    "Indexing": (
        "first index, s",
        "items/s",
        "MB private, most",
        "again, every file looked at, s",
        "a cheap pass, CPU s",
    ),
    "Service": (
        "start to first answer, s",
        "MB private, index process",
        "MB private, request process, most",
        "CPU when idle, % of a core",
    ),
    "Changes": (
        "new file, asked: /folders, s",
        "new file, asked: /search, s",
        "new file, unasked: /search, s",
        "edit: /folders, s",
        "edit: /search, s",
        "edit: bytes written",
        "a thumbnail while searched, p99 ms",
    ),
}


class Library:
    """One library and what was seen of it."""

    def __init__(self, root: pathlib.Path, count: int, folders: int, idle: int) -> None:
        self.root, self.count = root, count
        self.paths = common.links(root, count, folders)
        common.settle()
        first, again = common.lenslet("index", root), common.lenslet("index", root)
        self.seen: dict[str, object] = {
            "first index, s": first.seconds,
            "items/s": count / first.seconds,
            "MB private, most": first.megabytes,
            "again, every file looked at, s": again.seconds,
        }
        self.searches: list[list[object]] = []
        self._watch_passes()
        with common.serving(root, PORT) as self.service:
            self._watch_service(idle)
            self._change()
            self._search()
            pids = self._pids()
            most = max(map(common.private_megabytes, pids[1:]))
            self.seen["MB private, request process, most"] = most
            self.seen["MB private, index process"] = common.private_megabytes(pids[0])

    def _watch_passes(self) -> None:
        """CPU time of the index process for each cheap pass, by having many."""
        with common.serving(self.root, PORT, SCAN_SECONDS="1") as self.service:
            self.service.started("/folders")
            self._rest()
            index = self._pids()[0]
            before, begun = common.cpu_seconds(index), time.monotonic()
            time.sleep(20)
            passes = time.monotonic() - begun
            self.seen["a cheap pass, CPU s"] = (common.cpu_seconds(index) - before) / passes

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
        common.until(lambda: "0-aardvark.jpg" in self._names(folder), pause=0.1)
        self.seen["new file, asked: /folders, s"] = time.monotonic() - begun
        common.until(lambda: self._hits("aardvark"), pause=0.05)
        self.seen["new file, asked: /search, s"] = time.monotonic() - begun
        common.until(lambda: self._hits("zebra"), pause=0.1)
        self.seen["new file, unasked: /search, s"] = time.monotonic() - begun
        self._rest()
        self._edit(self.paths[7])

    def _edit(self, path: str) -> None:
        before = self._written()
        url = f"{self.service.url}/item?path={urllib.parse.quote(path)}"
        request = urllib.request.Request(url, b'{"tags": ["keeper"]}', method="PUT")
        urllib.request.urlopen(request).close()
        begun = time.monotonic()
        common.until(lambda: self._hits("tag:keeper"), pause=0.02)
        self.seen["edit: /search, s"] = time.monotonic() - begun
        common.until(lambda: b'"keeper"' in self._get(f"/folders?path={os.path.dirname(path)}"))
        self.seen["edit: /folders, s"] = time.monotonic() - begun
        self._rest()
        self.seen["edit: bytes written"] = f"{self._written() - before:,}"

    def _search(self) -> None:
        """Each query forty times while a thumbnail is asked for again and again."""
        lines = glob.glob(f"{os.environ['XDG_CACHE_HOME']}/**/*.lines", recursive=True)
        text = max(lines, key=os.path.getsize)
        ended, takes = threading.Event(), []
        asker = threading.Thread(target=self._ask_thumbnail, args=(ended, takes))
        asker.start()
        for name, query in QUERIES.items():
            ours, peer = [], []
            for _ in range(40):
                begun = time.monotonic()
                hits = self._hits(query)
                ours.append(1000 * (time.monotonic() - begun))
                begun = time.monotonic()
                # Printed to a pipe: to /dev/null it would end at the first hit.
                grep = ["grep", "-ac", _longest(query), text]
                subprocess.run(grep, stdout=subprocess.PIPE, env=C)
                peer.append(1000 * (time.monotonic() - begun))
            middle, slow, _ = common.percentiles(ours)
            other, *_ = common.percentiles(peer)
            self.searches.append([f"{name}: `{query}`", middle, slow, other, middle / other, hits])
        ended.set()
        asker.join()
        self.seen["a thumbnail while searched, p99 ms"] = common.percentiles(takes)[2]

    def _ask_thumbnail(self, ended: threading.Event, takes: list[float]) -> None:
        client = http.client.HTTPConnection("127.0.0.1", PORT)
        while not ended.wait(0.005):
            begun = time.monotonic()
            client.request("GET", f"/thumb?path={urllib.parse.quote(self.paths[-1])}")
            client.getresponse().read()
            takes.append(1000 * (time.monotonic() - begun))

    def _rest(self) -> None:
        """Wait until the index process has nothing to do for some seconds."""
        common.until(lambda: self._json("/health/workers").get("alive"))
        quiet = 0
        while quiet < 4:
            time.sleep(1)
            quiet = 0 if self._json("/health/workers")["backlog"] else quiet + 1

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

    def _written(self) -> int:
        """Bytes that the index process has written to whatever file: all but the sidecar."""
        lines = pathlib.Path(f"/proc/{self._pids()[0]}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["wchar"])


def _longest(query: str) -> str:
    words = (word.rpartition(":")[2] for word in query.split() if not word.startswith("-"))
    return fold(max(words, key=len))


if __name__ == "__main__":
    main()
