"""What an hour of tagging writes: one photo every ten seconds, of a library of 500,000.

The photos are picked at random. The edits come faster than that, because what is written follows
from their number; only "rollups" also depends on the time. Searches go on meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import threading
import time
import urllib.parse
import urllib.request

import common

PORT, FOLDERS = 7177, 500
QUERIES = {
    "a rare word": "/search?q=IMG_0004125",
    "a common word": "/search?q=beach",
    "an absent word": "/search?q=zeppelin",
    "`tag:`, few hits": "/search?q=tag:tag7",
    "`tag:`, of every edit": "/search?q=tag:keeper",
    "`date:`": "/search?q=date:2019",
    "below a folder": "/search?q=castle&path={folder}",
    "a suggestion": "/search/suggest?q=ke",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=500_000)
    parser.add_argument("--edits", type=int, default=360)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two edits")
    parser.add_argument("--root", type=pathlib.Path, help="a library that is there already")
    options = parser.parse_args()
    common.machine()
    with common.workplace() as place:
        root = options.root or place / "photos"
        if not options.root:
            common.links(root, options.size, FOLDERS)
            common.settle()
        common.lenslet("index", root)  # the delta is empty, and the cache has its copy
        tag(root, options.edits, options.pause)


def tag(root: pathlib.Path, edits: int, pause: float) -> None:
    """Tags photos, and prints what was written and how long searches took."""
    chance = random.Random()  # the same edits again would change nothing
    folders = sorted(folder for folder in root.glob("2*/*") if folder.is_dir())
    with common.serving(root, PORT) as service:
        service.started("/search?q=x")
        common.until(lambda: get(service, "/health/workers").get("alive"))
        time.sleep(10)  # it looks at every folder once
        common.until(lambda: not get(service, "/health/workers")["backlog"])
        before, sizes, writes = processes(service), {}, {}
        asked = str(folders[3].relative_to(root))
        waits = [("before", ask(service, asked))]
        ended, during = threading.Event(), dict[str, list[float]]()
        asker = threading.Thread(target=keep_asking, args=(service, ended, during))
        asker.start()
        watch(root, sizes, writes, folders)
        seen = 0
        folder = folders[0]
        for number in range(edits):
            begun = time.monotonic()
            before_it, folder = folder, chance.choice(folders)
            image = chance.choice([each for each in os.listdir(folder) if each.endswith(".jpg")])
            path = str((folder / image).relative_to(root))
            body = json.dumps({"tags": ["keeper", f"tag{number % 10}"]}).encode()
            url = f"{service.url}/item?path={urllib.parse.quote(path)}"
            urllib.request.urlopen(urllib.request.Request(url, body, method="PUT")).close()
            while time.monotonic() < begun + pause:
                watch(root, sizes, writes, [before_it, folder])
                time.sleep(0.01)
            seen = max(seen, cache_bytes())
            if number + 1 in (100, edits):
                waits.append((f"after {number + 1}", ask(service, asked)))
        time.sleep(5)
        ended.set()
        asker.join()
        after = processes(service)
        rows = [[name, f"{number:,}"] for name, number in sorted(writes.items())]
        for name, (written, megabytes) in after.items():
            rows.append([f"all that the {name} wrote", f"{written - before[name][0]:,}"])
            rows.append([f"private memory, the {name}, MB", megabytes])
        rows += [["the cache, most", f"{seen:,}"]]
        common.table(f"{edits} edits", ("", "bytes"), rows)
        names = [name for name, _ in waits]
        rows = [
            [query, *(shown(each[query]) for _, each in waits), shown(during.get(query, []))]
            for query in QUERIES
        ]
        common.table("Search, p50 and p95 in ms", ("", *names, "meanwhile"), rows)


def get(service: common.Service, route: str) -> dict[str, object]:
    with urllib.request.urlopen(service.url + route) as answer:
        found: dict[str, object] = json.loads(answer.read())
    return found


def ask(service: common.Service, folder: str) -> dict[str, list[float]]:
    """Each query forty times; the first answer is not counted."""
    takes: dict[str, list[float]] = {}
    for name, route in QUERIES.items():
        for number in range(41):
            begun = time.monotonic()
            get(service, route.format(folder=folder))
            if number:
                takes.setdefault(name, []).append(1000 * (time.monotonic() - begun))
    return takes


def keep_asking(
    service: common.Service, ended: threading.Event, takes: dict[str, list[float]]
) -> None:
    """Ask each query in turn, ten a second."""
    while not ended.is_set():
        for name, route in QUERIES.items():
            begun = time.monotonic()
            get(service, route.format(folder="2000"))
            takes.setdefault(name, []).append(1000 * (time.monotonic() - begun))
            ended.wait(0.1)


def watch(
    root: pathlib.Path,
    sizes: dict[str, tuple[int, int]],
    writes: dict[str, int],
    folders: list[pathlib.Path],
) -> None:
    """Adds the size of each file that was replaced since the last look."""
    names = {"rollup": root / "_rollup.json", "delta": root / "_rollup_delta.json"}
    names |= {"report": root / "_health.json"}
    names |= {f"manifest {folder}": folder / "_index.json" for folder in folders}
    for name, path in names.items():
        info = path.stat()
        now = info.st_ino, info.st_mtime_ns
        kind = name.split()[0]
        if sizes.setdefault(name, now) != now:
            writes[kind] = writes.get(kind, 0) + info.st_size
            writes[f"{kind}, times"] = writes.get(f"{kind}, times", 0) + 1
            sizes[name] = now


def processes(service: common.Service) -> dict[str, tuple[int, float]]:
    """Bytes written and private MB of the index process and of the request processes."""
    index = get(service, "/health/workers")["pid"]
    found: dict[str, tuple[int, float]] = {}
    for pid in service.pids():
        name = "index process" if pid == index else "request processes"
        lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
        written = int(dict(line.split(": ") for line in lines)["wchar"])
        before = found.get(name, (0, 0.0))
        found[name] = before[0] + written, max(before[1], common.private_megabytes(pid))
    return found


def cache_bytes() -> int:
    top = pathlib.Path(os.environ["XDG_CACHE_HOME"])
    total = 0
    for path in top.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def shown(takes: list[float]) -> str:
    if not takes:
        return ""
    middle, slow, _ = common.percentiles(takes)
    return f"{middle:.1f}, {slow:.1f}"


if __name__ == "__main__":
    main()
