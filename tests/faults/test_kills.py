"""Processes are killed while writers edit, and many of them work on one root at once."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from conftest import ROOT, Server, draw, encode, environ_of, put
from PIL import Image
from processes import children, family
from scale import LONG, record, scale

pytestmark = pytest.mark.slow
SEED = 20250713
FOLDERS = ["all", "all/deep/er", "all/wide"]
MOST_SHARED_TAGS = 50  # of one writer on one image: an image may have 500
PATIENCE = 60.0  # seconds in which an edit that is sent again and again must be answered

Edit = tuple[list[str], str] | None  # the tags and notes that are stored; None: no sidecar
Ask = Callable[[str, str, Any], tuple[int, bytes, int]]  # gives status, body, how often it was sent


def at(route: str, **query: str | int) -> str:
    return f"{route}?{urllib.parse.urlencode(query)}"


# Writers, and what they were told


class Writer(threading.Thread):
    """Edits images of its own, and adds tags to images that all writers share.

    `stored` is what was acknowledged of its own images and `added` of the shared ones. An edit that
    gets no answer is sent again.
    """

    def __init__(self, number: int, ask: Ask, own: list[str], shared: list[str]) -> None:
        super().__init__()
        self.stored: dict[str, Edit] = dict.fromkeys(own)
        self.added: dict[str, list[str]] = {path: [] for path in shared}
        self.edits = 0
        self.number = number
        self._ask = ask
        self._random, self._numbers = random.Random(SEED + number), itertools.count()
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        steps = (self._put, self._put, self._tag, self._delete, self._share)
        try:
            while not self._stopped.is_set():
                self._random.choice(steps)()
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        if self._error:
            raise AssertionError(f"writer {self.number}, seed {SEED}") from self._error

    def end(self) -> None:
        self._stopped.set()
        self.join()
        self.check()

    def _new_tag(self) -> str:
        return f"w{self.number}n{next(self._numbers)}"

    def _pick(self, count: int) -> list[str]:
        return self._random.sample(list(self.stored), count)

    def _tags(self, path: str) -> list[str]:
        return (self.stored[path] or ([], ""))[0]

    def _put(self) -> None:
        (path,), tag = self._pick(1), self._new_tag()
        tags, notes = [*self._tags(path)[-3:], tag], f"notes of {tag}"
        body = {"tags": tags, "notes": notes}
        status, answer, _ = self._ask("PUT", at("/item", path=path), body)
        assert status == 200, (status, answer)
        self.stored[path] = tags, notes
        self.edits += 1

    def _tag(self) -> None:
        paths, tag = self._pick(2), self._new_tag()
        remove = [tag for path in paths for tag in self._tags(path)[:1]]
        for path, result in zip(paths, self._post(paths, [tag], remove), strict=True):
            tags = [each for each in [*self._tags(path), tag] if each not in remove]
            assert result["tags"] == tags, path
            self.stored[path] = tags, (self.stored[path] or ([], ""))[1]
        self.edits += 1

    def _delete(self) -> None:
        (path,) = self._pick(1)
        exists = self.stored[path] is not None
        status, answer, sent = self._ask("DELETE", at("/item", path=path), None)
        assert status == (204 if exists else 404) or (status == 404 and sent > 1), (status, answer)
        self.stored[path] = None
        self.edits += exists

    def _share(self) -> None:
        path, tag = self._random.choice(list(self.added)), self._new_tag()
        if len(self.added[path]) < MOST_SHARED_TAGS:
            (result,) = self._post([path], [tag], [])
            assert tag in result["tags"]
            self.added[path].append(tag)
            self.edits += 1

    def _post(self, paths: list[str], add: list[str], remove: list[str]) -> list[dict[str, Any]]:
        body = {"paths": paths, "add": add, "remove": remove}
        while True:
            status, answer, _ = self._ask("POST", "/items/tags", body)
            assert status == 200, (status, answer)
            results: list[dict[str, Any]] = json.loads(answer)["results"]
            statuses = {result["status"] for result in results}
            if statuses == {200}:
                return results
            assert statuses <= {200, 502, 503}, results


class Writers:
    """Writers who share the first photos and own the others."""

    def __init__(self, count: int, ask: Ask, names: list[str], shared: int) -> None:
        own = names[shared:]
        self.all = [Writer(n, ask, own[n::count], names[:shared]) for n in range(count)]

    @property
    def edits(self) -> int:
        """The number of edits that were acknowledged."""
        for writer in self.all:
            writer.check()
        return sum(writer.edits for writer in self.all)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        for writer in self.all:
            writer.start()
        try:
            yield
        finally:
            for writer in self.all:
                writer.end()

    def expected(self) -> dict[str, Edit]:
        """What each image has to have, tags in alphabetical order."""
        found: dict[str, Edit] = {}
        for writer in self.all:
            found |= {
                path: edit and (sorted(edit[0]), edit[1]) for path, edit in writer.stored.items()
            }
            for path, tags in writer.added.items():
                old = found.get(path) or ([], "")
                found[path] = (sorted([*old[0], *tags]), "") if old[0] or tags else None
        return found


def make_photos(root: pathlib.Path, count: int, first: int = 0) -> list[str]:
    """Photos of different shapes, in turn in each folder, which were there a while ago."""
    numbers = range(first, first + count)
    names = {number: f"{FOLDERS[number % len(FOLDERS)]}/photo{number}.jpg" for number in numbers}
    for number, name in names.items():
        os.utime(put(root / name, photo(width_of(name), number)), (1, 1_000_000 + number))
    return list(names.values())


def photo(width: int, seed: int) -> bytes:
    """A photo with noise, so that its thumbnail has several blocks of a disk."""
    noise = Image.frombytes("L", (width, 200), random.Random(seed).randbytes(200 * width))
    return encode(Image.blend(draw(width, 200, seed=seed), noise.convert("RGB"), 0.3))


def width_of(name: str) -> int:
    """A photo's name says its width, so that no thumbnail of another passes for its own."""
    return 300 + 3 * int("".join(filter(str.isdigit, name))) % 900


# What must be true after it


def stored_in(folder: pathlib.Path, path: str) -> Edit:
    """What the sidecar of an image says."""
    file = folder / f"{path}.json"
    return edit_of(json.loads(file.read_bytes())) if file.exists() else None


def edit_of(document: dict[str, Any]) -> Edit:
    return sorted(document["tags"]), document["notes"]


def torn_files(root: pathlib.Path) -> list[str]:
    """JSON that does not parse, and thumbnails that cannot be decoded."""
    torn = []
    for file in root.rglob("*"):
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix == ".thumbnail":
                Image.open(io.BytesIO(file.read_bytes())).load()
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            torn.append(f"{file}: {error}")
    return torn


def searched(server: Server, path: str = "all") -> dict[str, Edit]:
    """All that a search lists below a folder."""
    found: list[dict[str, Any]] = []
    while True:
        page = server.json(at("/search", path=path, limit=1000, offset=len(found)))
        found += page.get("items", [])
        if not page.get("more"):
            return {item["path"]: edit_of(item) for item in found}


def listed(server: Server, folder: str = "") -> dict[str, dict[str, Any]]:
    """The items of a folder and of all folders below it, as the folders' answers list them."""
    answer = server.json(at("/folders", path=folder))
    more = (at("/folders", path=folder, page=n) for n in range(1, answer.get("pageCount", 1)))
    pages = (answer, *map(server.json, more))
    items = {item["path"]: item for page in pages for item in page.get("items", [])}
    for entry in answer.get("dirs", []):
        items |= listed(server, f"{folder}/{entry['name']}".strip("/"))
    return items


def check_disk(sidecars: pathlib.Path, edits: dict[str, Edit]) -> None:
    """Nothing that was acknowledged is lost, and nothing else is there."""
    stored = {path: stored_in(sidecars, path) for path in edits}
    assert stored == edits, f"seed {SEED}"


def check_service(server: Server, names: Iterable[str], edits: dict[str, Edit]) -> None:
    """Everything is answered and found, and the service is well, without any help."""
    names = list(names)
    wanted = {name: edits.get(name) or ([], "") for name in names}
    server.until(lambda: searched(server) == wanted, PATIENCE)
    for name in edits:
        assert edit_of(server.json(at("/item", path=name))) == wanted[name], name
    for name in names:
        check_thumbnail(server, name)
    server.until(lambda: is_complete(listed(server), names), PATIENCE)
    server.until(lambda: server.json("/health").get("status") == "ok", PATIENCE)


def is_complete(items: dict[str, dict[str, Any]], names: list[str]) -> bool:
    """True if exactly these are listed, with their size and a thumbnail."""
    sizes = {path: (item["w"], item["h"], item["hasThumb"]) for path, item in items.items()}
    return sizes == {name: (width_of(name), 200, True) for name in names}


def check_thumbnail(server: Server, name: str) -> None:
    status, data = server.thumbnail(name)
    assert status == 200, (name, status, data)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.width == 256, name
    assert abs(image.height - 200 * 256 / width_of(name)) <= 1, name
    corner = (image.width - 20, image.height - 20, image.width, image.height)
    red, _, blue = (
        image.convert("RGB").resize((1, 1), Image.Resampling.BOX, corner).getpixel((0, 0))
    )
    assert blue > 150 > red, f"{name} does not end as the photo does"


# Killing


class Killer:
    """Kills processes of a service, and starts it again when the master is gone."""

    def __init__(self, start: Callable[[], Server]) -> None:
        self._start = start
        self.server = start()
        self.kills: Counter[str] = Counter()
        self._random = random.Random(SEED)
        self._seen: set[tuple[int, str]] = set()

    def ask(self, method: str, route: str, body: Any) -> tuple[int, bytes, int]:
        """Sends a request until it is answered."""
        pause, deadline = threading.Event(), time.monotonic() + PATIENCE
        for sent in itertools.count(1):
            status, answer = self.server.request(method, route, body)
            if status not in (0, 503):
                return status, answer, sent
            assert time.monotonic() < deadline, (method, route, answer)
            pause.wait(0.05)
        raise AssertionError

    def kill(self, kind: str) -> None:
        """Kills one process of a kind, or all of them."""
        master = self.server.process.pid
        self._seen |= {(pid, started(pid)) for pid in family(master)}
        index = next(filter(is_index, children(master)), 0)
        targets = {
            "master": [master],
            "everything": family(master),
            "index": [index] if index else [],
            "child of index": children(index) if index else [],
            "request": [pid for pid in children(master) if pid != index],
        }[kind]
        if not targets:  # it has just been killed, or there is none
            return
        chosen = targets if kind == "everything" else [self._random.choice(targets)]
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills[kind] += 1
        if kind in ("everything", "master"):
            self.server.process.wait()
            self.server = self._start()

    def left_over(self) -> list[int]:
        """Processes of the killed masters that are still there."""
        now = set(family(self.server.process.pid))
        return [
            pid for pid, begun in self._seen if begun and pid not in now and started(pid) == begun
        ]


def started(pid: int) -> str:
    """When a process began, which tells it from a later one with its number; "" if it ended."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def is_index(pid: int) -> bool:
    """The index process is the one that runs at a lower priority."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    return False


KILLS = ["request"] * 9 + ["index"] * 5 + ["child of index"] * 3 + ["everything", "master"]
FEW_KILLS = ["index", "request", "child of index", "everything", "request", "index", "master"]


def test_nothing_acknowledged_is_lost_when_any_process_is_killed_under_eight_writers(
    serve: Callable[..., Server], root: pathlib.Path
) -> None:
    """Photos are added meanwhile, so that the index process dies in the middle of them, too."""
    names = make_photos(root, scale(36, 72))
    killer = Killer(lambda: serve(root))
    writers = Writers(8, killer.ask, names, shared=scale(4, 16))
    chance, pause = random.Random(SEED), threading.Event()
    least_kills, least_edits = scale(6, 200), scale(200, 10_000)
    with writers.writing():
        kinds = itertools.cycle(KILLS if LONG else FEW_KILLS)
        while killer.kills.total() < least_kills or writers.edits < least_edits:
            pause.wait(chance.uniform(0.1, scale(4, 30) / 10))
            if len(names) < scale(60, 1000):
                names += make_photos(root, 4, first=len(names))
            killer.kill(next(kinds))
            assert torn_files(root / FOLDERS[chance.randrange(3)]) == []
    edits = writers.expected()
    check_disk(root, edits)
    check_service(killer.server, names, edits)
    check_tags(killer.server, edits)
    killer.server.until(lambda: not killer.left_over())
    assert torn_files(root) == []
    check_disk(root, edits)
    kills = {f"killed {kind}": count for kind, count in killer.kills.items()}
    record("kill -9", edits=writers.edits, images=len(names), **kills)


def check_tags(server: Server, edits: dict[str, Edit]) -> None:
    """Search finds each tag, and only where it is; a sample of them in the long form."""
    tags = sorted({tag for edit in edits.values() if edit for tag in edit[0]})
    for tag in random.Random(SEED).sample(tags, min(len(tags), scale(100, 1000))):
        wanted = {path for path, edit in edits.items() if edit and tag in edit[0]}
        server.until(lambda tag=tag, wanted=wanted: found(server, f"tag:{tag}") == wanted, 5)


def found(server: Server, query: str) -> set[str]:
    return {item["path"] for item in server.json(at("/search", q=query)).get("items", [])}


# Many at once


def test_two_services_and_a_worker_on_one_root_lose_nothing_and_agree(
    root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Writers use both services, and photos are added meanwhile."""
    names, chance = make_photos(root, scale(27, 54)), random.Random(SEED)
    with crowd(root, tmp_path) as servers:

        def ask(method: str, route: str, body: Any) -> tuple[int, bytes, int]:
            return *chance.choice(servers).request(method, route, body), 1

        writers = Writers(6, ask, names, shared=3)
        with writers.writing():
            for _ in range(scale(4, 120)):
                names += make_photos(root, 2, first=len(names))
                threading.Event().wait(1)
        edits = writers.expected()
        check_disk(root, edits)
        for server in servers:
            check_service(server, names, edits)
            check_tags(server, edits)
        one, other = map(listed, servers)
        assert one == other
    assert torn_files(root) == []
    record("two services", edits=writers.edits, images=len(names))


@contextlib.contextmanager
def crowd(root: pathlib.Path, home: pathlib.Path) -> Iterator[list[Server]]:
    """Two services, and `worker.py` that shares a cache with one of them."""
    environ = {**os.environ, **environ_of(root), "SCAN_SECONDS": "3"}
    environ["XDG_CACHE_HOME"] = str(home / "1/cache")
    with contextlib.ExitStack() as stack:
        servers = []
        for number in "01":
            (home / number).mkdir()
            servers.append(Server(root, home / number, SCAN_SECONDS="3"))
            stack.callback(servers[-1].stop)
        worker = subprocess.Popen(
            [sys.executable, "worker.py"], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL
        )
        stack.callback(worker.wait, 30)
        stack.callback(worker.terminate)
        yield servers
