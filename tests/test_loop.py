"""The loop of the index process: it gets messages and a clock, and is looked at for what it asks."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import pathlib
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable

import pytest
from conftest import Gallery, jpeg, put, wait_for

from lenslet.index.folders import Outcome
from lenslet.index.messages import Look, Render
from lenslet.index.scan import Scan
from lenslet.paths import Path
from lenslet.run.worker import Mailbox

Make = Callable[..., Gallery]
SMALL = jpeg(8, 6)


def handle_all(gallery: Gallery) -> None:
    """The loop handles every message that has come, and no one does what it asks for."""
    while gallery.loop.step():
        pass


def tasks(gallery: Gallery) -> list[Callable[[], object]]:
    """Takes what the loop has asked others to do."""
    found = []
    while True:
        try:
            found.append(gallery.loop.work.tasks.get_nowait())
        except queue.Empty:
            return found


def do(gallery: Gallery) -> list[object]:
    """Does what the loop has asked for; the messages that say how it ended."""
    ended = [task() for task in tasks(gallery)]
    for message in ended:
        gallery.loop.work.inbox.put(message)
    handle_all(gallery)
    return ended


def looked_at(gallery: Gallery) -> list[str]:
    return [each.task.path for each in do(gallery) if isinstance(each, Outcome)]


def looks_of(gallery: Gallery, seconds: int) -> list[str]:
    """The folders that are looked at within some seconds."""
    looks = []
    for _ in range(4 * seconds):
        gallery.clock.now += 0.25
        handle_all(gallery)
        looks += looked_at(gallery)
    return looks


@pytest.fixture
def gallery(make_gallery: Make, root: pathlib.Path) -> Gallery:
    put(root / "a/x.jpg")
    put(root / "b/y.jpg", jpeg(40, 30))
    return make_gallery(WORKER_THREADS="2")


def test_a_folder_is_never_looked_at_twice_at_once(gallery: Gallery) -> None:
    for _ in range(3):
        gallery.loop.send(Look(Path("a")))
    handle_all(gallery)
    (first,) = tasks(gallery)
    gallery.loop.send(Look(Path("a"), anew=True))
    gallery.clock.now += 60
    handle_all(gallery)
    assert tasks(gallery) == []
    gallery.loop.work.inbox.put(first())
    handle_all(gallery)
    gallery.clock.now += 60
    handle_all(gallery)
    assert looked_at(gallery).count("a") == 1


def test_no_more_folders_are_looked_at_at_once_than_there_are_threads(
    gallery: Gallery, root: pathlib.Path
) -> None:
    for number in range(5):
        put(root / f"d{number}/x.jpg")
        gallery.loop.send(Look(Path(f"d{number}")))
    handle_all(gallery)
    assert [len(tasks(gallery)), len(tasks(gallery))] == [2, 0]


def test_a_folder_that_somebody_looks_at_comes_before_others(
    gallery: Gallery, root: pathlib.Path
) -> None:
    for number in range(5):
        put(root / f"d{number}/x.jpg")
        gallery.loop.send(Look(Path(f"d{number}"), asked=number == 4))
    handle_all(gallery)
    assert looked_at(gallery) == ["d0", "d1"]  # which were begun before it was asked for
    assert "d4" in looked_at(gallery)


def test_an_image_that_a_client_waits_for_is_taken_before_those_of_folders(
    gallery: Gallery,
) -> None:
    gallery.loop.send(Look(Path("a")))
    handle_all(gallery)
    do(gallery)
    gallery.loop.send(Render(Path("b/y.jpg")))
    handle_all(gallery)
    images = gallery.loop.work.images
    taken = [images.take(), images.take(), images.take()]
    assert [wanted and wanted.path for wanted in taken] == ["b/y.jpg", "a/x.jpg", None]


def test_scans_come_at_a_quarter_of_scan_seconds(gallery: Gallery) -> None:
    gallery.loop.work.later(Scan(), 0.0)
    gallery.settle(1)
    times = []
    for _ in range(4 * 60):
        gallery.clock.now += 0.25
        handle_all(gallery)
        if any(type(each).__name__ == "Scanned" for each in do(gallery)):
            times.append(gallery.clock.now)
    assert {round(later - before, 2) for before, later in itertools.pairwise(times)} == {7.5}
    assert len(times) >= 7


def test_the_log_says_every_ten_seconds_how_far_the_first_index_is(
    make_gallery: Make, root: pathlib.Path, caplog
) -> None:
    for number in range(9):
        put(root / f"{number % 3}/{number}.jpg", SMALL)
    gallery = make_gallery()
    gallery.loop.work.later(Scan(full=True), 0.0)
    with caplog.at_level("INFO", "lenslet"):
        for second in range(120):
            gallery.clock.now += 1
            gallery.loop.work.inbox.put(gallery.loop.read_next() if second % 5 == 4 else None)
            handle_all(gallery)
            do(gallery)
            gallery.loop.beat()
    lines = [text for text in caplog.messages if re.match("index(ing|ed): ", text)]
    assert 4 <= len(lines) <= 8
    how_far = r"indexing: \d folders, [1-8] of 9 photos, \d\.\d a second, \d+ s left"
    assert any(re.fullmatch(how_far, line) for line in lines), lines
    assert re.fullmatch(r"indexed: 4 folders, 9 of 9 photos, in \d+ s", lines[-1])
    assert not any(line.startswith("indexed") for line in lines[:-1])


def test_while_storage_is_away_it_is_tried_again_every_three_seconds(
    gallery: Gallery, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    gallery.index()
    root.rename(tmp_path / "away")
    gallery.loop.send(Look(Path("a"), anew=True))
    handle_all(gallery)
    for _ in range(3):
        (away,) = (each for each in do(gallery) if isinstance(each, Outcome))
        assert away.outage
        gallery.clock.now += 2.9
        handle_all(gallery)
        assert looked_at(gallery) == []
        gallery.clock.now += 0.1
        handle_all(gallery)
    (tmp_path / "away").rename(root)
    assert looked_at(gallery) == ["a"]


def test_a_folder_that_is_gone_with_sidecars_below_is_not_looked_at_again_and_again(
    make_gallery: Make, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    put(root / "x.jpg")
    put(root / "a/b/y.jpg")
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    for name in ("a/one.jpg.json", "a/b/y.jpg.json"):
        put(
            tmp_path / "state" / name,
            b'{"v": 1, "tags": ["t"], "updatedAt": "2024-01-01T00:00:00Z"}',
        )
    shutil.rmtree(root / "a")
    gallery.loop.send(Look(Path("a")))
    looks = looks_of(gallery, 15)
    assert len(looks) < 10, looks
    assert gallery.loop.report()["counts"]["orphanSidecars"] == 2


def test_with_once_the_loop_ends_although_storage_goes_away(
    gallery: Gallery, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """It says why."""
    gallery.restart(real=True)
    root.rename(tmp_path / "away")
    gallery.loop.run(threading.Event(), once=True)
    assert "not there" in gallery.loop.outage


def test_a_message_that_is_not_understood_is_left_out(gallery: Gallery) -> None:
    """As of a request process of another version."""
    for name, fields in (
        ("Unknown", ["path"]),
        ("Look", ["path", *"abcde"]),
        ("Rebuild", ["path"]),
    ):
        kind = collections.namedtuple(name, fields)
        gallery.channel.send(kind(*fields))
        assert gallery.channel.receive(1) is None
    gallery.channel.send(Look(Path("a")))
    assert gallery.channel.receive(1) == Look(Path("a"))


def test_a_worker_that_is_busy_for_a_moment_takes_all_that_a_page_asks_for(
    tmp_path: pathlib.Path,
) -> None:
    """The kernel keeps eleven datagrams of a socket with a name."""
    address = str(tmp_path / "jobs")
    with contextlib.closing(Mailbox(address, receives=True)) as here:
        sender = threading.Thread(
            target=lambda: [Mailbox(address).send(Render(Path(f"{n}.jpg"))) for n in range(60)]
        )
        sender.start()
        time.sleep(0.3)
        assert [here.receive(5) for _ in range(60)] == [Render(Path(f"{n}.jpg")) for n in range(60)]
        sender.join()


def held(gallery: Gallery, path: str) -> Callable[[], object]:
    """A look that the loop has asked for, and that has not been done."""
    gallery.settle(60)
    gallery.loop.send(Look(Path(path), anew=True))
    handle_all(gallery)
    (task,) = tasks(gallery)
    return task


def test_an_ignored_folder_is_not_shown_whatever_look_ends_first(
    gallery: Gallery, root: pathlib.Path
) -> None:
    gallery.index()
    put(root / "a/private/y.jpg")
    put(root / "a/private/.nomedia", b"")
    child, parent = held(gallery, "a/private"), held(gallery, "a")
    found = child()
    gallery.loop.work.inbox.put(parent())
    gallery.loop.work.inbox.put(found)
    gallery.settle()
    assert gallery.folder("a")["dirs"] == []


def test_what_is_below_a_pointer_that_breaks_meanwhile_is_not_found(
    gallery: Gallery, root: pathlib.Path
) -> None:
    put(root / "a/s/t/deep.jpg")
    gallery.index()
    assert gallery.found("deep")
    put(root / "a/s/t/other.jpg")
    below = held(gallery, "a/s/t")()
    target = {"type": "local", "path": "nowhere"}
    put(
        root / "a/.lenslet.folder.json",
        json.dumps({"version": 1, "kind": "pointer", "target": target}).encode(),
    )
    wait_for(lambda: not gallery.ask("a") and "deep.jpg" not in gallery.found("deep"))
    gallery.loop.send(Look(Path("a/s")))
    gallery.settle(3)
    gallery.loop.work.inbox.put(below)
    gallery.settle(60)
    assert gallery.found("deep") == []


def test_a_folder_that_cannot_be_removed_from_state_dir_is_left_in_peace(
    make_gallery: Make, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    put(root / "x.jpg")
    put(root / "old/y.jpg")
    gallery = make_gallery(STATE_DIR=str(tmp_path / "state"))
    gallery.index()
    put(tmp_path / "state/old/readme.txt", b"mine")
    shutil.rmtree(root / "old")
    gallery.index()
    gallery.settle(30)
    assert looks_of(gallery, 60) == []
    assert (tmp_path / "state/old/readme.txt").exists()


def test_reading_stale_images_again_costs_few_looks_and_new_ones_come_first(
    make_gallery: Make, root: pathlib.Path
) -> None:
    for folder in range(8):
        for number in range(300):
            put(root / f"d{folder}/{number}.jpg", SMALL)
    make_gallery().index()
    gallery = make_gallery(THUMB_QUALITY="50", WORKER_THREADS="1")
    looks, read = 0, list[str]()
    gallery.loop.send(Look(Path(""), deep=True))
    while len(read) < 2300:
        handle_all(gallery)
        looks += len(looked_at(gallery))
        if len(read) == 500:
            put(root / "new/z.jpg", SMALL)
            gallery.loop.send(Look(Path("")))
        if found := gallery.loop.read_next():
            read.append(found.wanted.path)
            gallery.loop.work.inbox.put(found)
        gallery.clock.now += 0.02
    assert looks < 400
    assert "new/z.jpg" in read[500:560]


def test_new_images_for_which_there_was_no_room_come_before_stale_ones(
    make_gallery: Make, root: pathlib.Path
) -> None:
    """Also if their folder has stale ones as well."""
    for folder in ("a", "both"):
        put(root / folder / "old.jpg", SMALL)
    make_gallery().index()
    put(root / "both/new.jpg", SMALL)
    gallery = make_gallery(THUMB_QUALITY="50", WORKER_THREADS="1", SCAN_SECONDS="0")
    images = gallery.loop.work.images
    for number in range(20_000):  # which clients wait for
        gallery.loop.send(Render(Path(f"elsewhere/{number}.jpg")))
    gallery.loop.send(Look(Path(""), deep=True))
    looks_of(gallery, 5)
    assert len(images) == 20_000
    while images.take():
        images.done()
    assert next(filter(None, looks_of(gallery, 1))) == "both"
