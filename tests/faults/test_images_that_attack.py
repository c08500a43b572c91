"""Damaged images, bombs and slow images: the service goes on, within its memory and its time."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pathlib
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bombs import (
    SHOWN,
    TIME,
    Bomb,
    bombs,
    chunk_of,
    fractions,
    riff,
    slow,
    vp8x,
    webp,
)
from conftest import Server, draw, encode, jpeg, put, tree
from mutate import mutated
from PIL import Image
from processes import family, memory_bytes, processor_seconds
from scale import LONG, record, scale

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]

SEED = 13
FEW_SECONDS = 10.0  # the longest wait for a thumbnail while attacks go on
MOST_BYTES = 600_000_000  # of any process, with INDEX_MEMORY=512M
OURS = re.compile(r".+\.thumbnail|_(index|rollup|health)\w*\.\w+")  # files beside the images
UNCLEAR = re.compile(r"Traceback|\b\w+(Error|Exception|Warning)\b|<.*>|\b0x|[^ -~×–’…]")
# In the short form, bombs of every kind that are over soon.
QUICK = [
    *("area-cut.jpg", "area-lossy-cut.webp", "area-progressive-cut.jpg", "area-too-large.webp"),
    *("exif-large.webp", "exif-loop.jpg", "file-chunk.webp", "file.jpg", "frames-canvas.webp"),
    *("palette-missing.png", "profile-padded.webp", "rows-cut.png", "scans.jpg"),
    *("text-late.png", "text-many.png"),
]


class Watch:
    """Looks at all processes of a service again and again."""

    def __init__(self, leader: int):
        self.peaks: dict[int, int] = {}
        self.seconds: dict[int, float] = {}  # also of processes that have ended
        self.together = 0  # the most memory of all at one time
        self._leader = leader
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            found = {pid: memory_bytes(pid) for pid in family(self._leader)}
            self.together = max(self.together, sum(now for now, _ in found.values()))
            for pid, (_, most) in found.items():
                self.peaks[pid] = max(most, self.peaks.get(pid, 0))
                with contextlib.suppress(OSError):  # it has ended
                    self.seconds[pid] = processor_seconds(pid)


def memory_of(leader: int) -> int:
    return sum(memory_bytes(pid)[0] for pid in family(leader))


def route(kind: str, path: str, **more: str) -> str:
    return f"/{kind}?" + urllib.parse.urlencode({"path": path, **more})


def items(server: Server, folder: str) -> list[dict[str, Any]]:
    return server.json(route("folders", folder)).get("items", [])


def settled(server: Server, folder: str, count: int) -> list[dict[str, Any]]:
    """The items of a folder once each of them has ended; nothing before."""
    found = items(server, folder)
    ended = [item for item in found if (item["hasThumb"] and item["w"]) or "error" in item]
    return found if len(ended) == count else []


def reading(server: Server) -> list[str]:
    """The images of a service that its decoders have open."""
    found: list[str] = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"images/decoder.py" in (process / "cmdline").read_bytes():
                found += map(os.readlink, (process / "fd").iterdir())
    top = f"{server.log.parent}/"
    found = [path for path in found if path.startswith(top) and not path.endswith(".log")]
    assert len(set(found)) == len(found), "one image is read by two processes"
    return found


def good(folder: pathlib.Path, count: int) -> list[str]:
    """Photos that come last in the order of names."""
    names = [f"zz-good-{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        os.utime(put(folder / name, jpeg(seed=number)), (1, 1))
    return names


def check_ended(server: Server, root: pathlib.Path, item: dict[str, Any]) -> None:
    """An item has a size and a thumbnail that fits, or an error that is answered."""
    path = item["path"]
    status, body = server.thumbnail(path, 60)
    if "error" in item:
        assert status == 422, (path, item["error"], status)
        assert json.loads(body)["description"] == item["error"], (path, body)
        assert not (root / f"{path}.thumbnail").exists(), path
        return
    assert status == 200, (path, status, body)
    check_picture(body, item, 256)
    times = [os.stat(root / name).st_mtime_ns for name in (path, f"{path}.thumbnail")]
    assert times[0] == times[1], path


def unclear(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Images whose error is not one line that a person understands."""
    errors = [(item["path"], item["error"]) for item in found if "error" in item]
    return [each for each in errors if not 5 < len(each[1]) <= 300 or UNCLEAR.search(each[1])]


def check_picture(body: bytes, item: dict[str, Any], most: int) -> None:
    """A WebP that decodes, of the right size for its image."""
    with Image.open(io.BytesIO(body)) as image:
        image.load()
    long, short = max(item["w"], item["h"]), min(item["w"], item["h"])
    edge = min(long, most)
    wanted = max(1.0, short * edge / long)
    assert image.format == "WEBP" and max(image.size) == edge, (item, image.size)
    assert abs(min(image.size) - wanted) <= 0.5, (item, image.size)
    assert (image.width > image.height) <= (item["w"] > item["h"]), (item, image.size)


def check_beside(root: pathlib.Path, written: dict[str, bytes], temporary: pathlib.Path) -> None:
    """Images are as they were written, with nothing but Lenslet's own files beside them."""
    found = tree(root)
    assert {name: found.get(name) for name in written} == written
    others = {name for name in found if name not in written}
    assert [name for name in others if not OURS.fullmatch(name.rpartition("/")[2])] == []
    made = [name.removesuffix(".thumbnail") for name in others if name.endswith(".thumbnail")]
    assert set(made) <= set(written)
    assert list(temporary.iterdir()) == []


def test_damaged_images_end_as_items_and_stop_nothing(serve: Serve, root, tmp_path) -> None:
    """A thumbnail or an error for each, and the same index process all the time."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    count, folders = scale(150, 10_000), scale(1, 20)  # a page of a manifest has 1,000
    for number, (name, data) in enumerate(mutated(count, SEED)):
        put(root / f"damaged-{number % folders}" / name, data)
    for number in range(folders):
        good(root / f"damaged-{number}", 10)
    for path in root.rglob("*.*"):
        os.utime(path, (1, 1))
    written = tree(root)
    server = serve(root, TMPDIR=str(temporary))
    pid, shown, refused = server.index_pid(), 0, 0
    for folder in (f"damaged-{number}" for number in range(folders)):
        each = count // folders + 10
        ended = functools.partial(settled, server, folder, each)
        found = server.until(ended, scale(60, 600))
        for item in found:
            check_ended(server, root, item)
        errors = [item for item in found if "error" in item]
        assert not [item for item in errors if item["name"].startswith("zz-good")], f"seed {SEED}"
        assert not [item for item in errors if "quarantined" in item["error"]], f"seed {SEED}"
        assert unclear(errors) == [], f"seed {SEED}"
        shown, refused = shown + len(found) - len(errors), refused + len(errors)
    assert server.index_pid() == pid
    server.until(lambda: counts(server).get("unreadableImages") == refused)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    check_beside(root, written, temporary)
    assert shown > count // 10 < refused, f"seed {SEED}: {shown} are shown, {refused} refused"
    record("mutated images", images=count, shown=shown, refused=refused, seed=SEED)


SETTINGS = {"INDEX_MEMORY": "512M", "WORKER_THREADS": "2", "SCAN_SECONDS": "1"}


@pytest.mark.parametrize("turn", range(scale(1, 3)))
def test_bombs_of_every_kind_cost_bounded_memory_and_time(
    serve: Serve, root, tmp_path, turn: int
) -> None:
    """Good images go on meanwhile, and only the bombs are listed by health."""
    seconds = scale(3, 5)
    thrown = [bomb for bomb in bombs() if LONG or bomb.name in QUICK]
    for bomb in thrown:
        bomb.write(tmp_path / "mixed")
    names = good(tmp_path / "mixed", 20)
    good(root / "before", 3)
    server = serve(root, DECODE_SECONDS=str(seconds), **SETTINGS)
    server.until(lambda: settled(server, "before", 3))
    pid, before = server.index_pid(), memory_of(server.process.pid)
    with Watch(server.process.pid) as watch:
        (tmp_path / "mixed").rename(root / "mixed")
        waits, meanwhile = ask_between(server, names, scale(15, 60) / 100)
        total, most = len(thrown) + len(names), len(thrown) * (seconds + 4)
        found = server.until(lambda: settled(server, "mixed", total), most)
        ended = {item["name"]: item for item in found}
        for item in found:
            check_ended(server, root, item)
        asked = {bomb.name: ask_for_all(server, ended[bomb.name]) for bomb in thrown}
    assert max(waits) <= FEW_SECONDS, waits
    assert meanwhile > 0, "no bomb was being read while others were asked for"
    assert not [name for name in names if "error" in ended[name]]
    assert server.index_pid() == pid
    largest = max(watch.peaks.values())
    slow_exif = {name: took for name, took in asked.items() if took > FEW_SECONDS}
    assert (slow_exif, largest <= MOST_BYTES) == ({}, True), f"{largest} bytes in one process"
    assert watch.together <= before + MOST_BYTES, f"{watch.together} bytes in all, {before} before"
    guilty = sorted(f"mixed/{bomb.name}" for bomb in thrown if "error" in ended[bomb.name])
    server.until(lambda: listed(server) == guilty)
    server.until(lambda: memory_of(server.process.pid) <= before + 100_000_000, 20)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    assert (wrong_outcomes(thrown, ended), unclear(found)) == ([], [])
    wait = round(max(waits), 2)
    record("bombs", images=len(thrown), largest_process_bytes=largest, longest_wait_seconds=wait)


def ask_between(server: Server, names: list[str], pause: float) -> tuple[list[float], int]:
    """Asks for thumbnails one after another while others are read.

    Returns how long each took, and how often something else was being read.
    """
    server.until(lambda: any("good" not in path for path in reading(server)), 10)
    waits, meanwhile = list[float](), 0
    for name in names:
        meanwhile += any("good" not in path for path in reading(server))
        began = time.monotonic()
        assert server.thumbnail(f"mixed/{name}", 60)[0] == 200
        waits.append(time.monotonic() - began)
        threading.Event().wait(pause)
    return waits, meanwhile


def ask_for_all(server: Server, item: dict[str, Any]) -> float:
    """Asks for the preview and all EXIF of an image; how many seconds EXIF took."""
    answers: list[tuple[int, bytes]] = []

    def ask() -> bool:
        answers.append(server.get(route("preview", item["path"])))
        return answers[-1][0] != 202

    server.until(ask, 60)
    status, body = answers[-1]
    assert status in ((422,) if "error" in item else (200, 422)), (item, status, body)
    if status == 200:
        check_picture(body, item, 1600)
    began = time.monotonic()
    status, body = server.get(route("item", item["path"], exif="full"))
    assert status == 200, (item, status, body)
    return time.monotonic() - began


def wrong_outcomes(thrown: list[Bomb], ended: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The bombs that did not become what they must, with what they became."""
    found = []
    for bomb in thrown:
        error = ended[bomb.name].get("error", SHOWN)
        if bomb.outcome not in error or (error.startswith("quarantined") and bomb.outcome != TIME):
            found.append((bomb.name, bomb.outcome, error))
    return found


def counts(server: Server) -> dict[str, int]:
    """How many there are of each kind, as health says once it knows."""
    return dict((server.json("/health").get("library") or {}).get("counts", {}))


def listed(server: Server) -> list[str]:
    """The paths of all images that health says something of."""
    problems = (server.json("/health").get("library") or {}).get("problems", {})
    return sorted(problem["path"] for kind in problems.values() for problem in kind)


def test_slow_images_stop_no_others_and_take_no_more_than_their_time(serve: Serve, root) -> None:
    """As many as threads and more; each takes one thread and `DECODE_SECONDS`, once."""
    seconds, count = scale(3, 10), scale(2, 6)
    good(root / "before", 1)
    server = serve(root, DECODE_SECONDS=str(seconds), WORKER_THREADS="2", SCAN_SECONDS="1")
    server.until(lambda: settled(server, "before", 1))
    requests = server.workers() - {server.index_pid()}
    begun = sum(map(processor_seconds, {*family(server.process.pid)} - requests))
    with Watch(server.process.pid) as watch:
        for number in range(count):
            slow(f"slow-{number}.jpg").write(root / "mixed")
        names = good(root / "mixed", 10)
        server.until(lambda: len([path for path in reading(server) if "slow" in path]) >= 1, 20)
        waits, _ = ask_between(server, names, 0.1)
        found = server.until(
            lambda: settled(server, "mixed", count + len(names)), 60 + 3 * seconds * count
        )
    took = sum(watch.seconds[pid] for pid in watch.seconds if pid not in requests) - begun
    errors = [item["error"] for item in found if "slow" in item["name"]]
    assert len(errors) == count and all(TIME in error for error in errors), errors
    assert max(waits) <= FEW_SECONDS, waits
    assert took <= count * (seconds + 2) + 2, f"{took} s of processor time"
    assert not [item for item in found if "good" in item["name"] and "error" in item]


def test_all_of_exif_that_takes_long_keeps_no_other_request_waiting(serve: Serve, root) -> None:
    """Nor does it take more than a fraction of a second of processor time."""
    exif = vp8x(400, 300, flags=0x08), riff(b"EXIF", fractions(8 << 20))
    os.utime(put(root / "slow.webp", webp(*exif, chunk_of(encode(draw(), "WEBP")))), (1, 1))
    server = serve(root, SCAN_SECONDS="0", WEB_CONCURRENCY="1", WEB_THREADS="16")
    with ThreadPoolExecutor(6) as many:
        began = time.monotonic()
        asked = [many.submit(server.get, route("item", "slow.webp", exif="full")) for _ in range(6)]
        waits = []
        while not all(each.done() for each in asked):
            before = time.monotonic()
            assert server.get("/health/live")[0] == 200
            waits.append(time.monotonic() - before)
    took = time.monotonic() - began
    assert [each.result()[0] for each in asked] == [200] * 6
    assert len(waits) > 10 and max(waits) < 1, waits
    assert took < 15, took
