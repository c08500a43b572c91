"""The processes that decode: what they may take, and what becomes of images that take more."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import bombs
import pytest
from conftest import Gallery, close_idle_decoders, draw, encode, jpeg, put, wait_for
from PIL import Image

from lenslet.errors import StorageUnavailable
from lenslet.images.decoders import Decoders, Killed, Slow, Stopped

HOW = {"long_edge": 256, "quality": 70, "max_pixels": 150_000_000}
MB = 1 << 20


@pytest.fixture
def make() -> Iterator[Callable[..., Decoders]]:
    """Makes decoders; their processes, the only ones, end with the test."""
    close_idle_decoders()
    made: list[Decoders] = []

    def make(count: int = 1, memory: int = 2048 * MB, seconds: float = 40.0) -> Decoders:
        made.append(Decoders(count, memory, seconds))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def large(tmp_path: pathlib.Path) -> Iterator[int]:
    """A PNG of 144 megapixels, 144 MB when decoded, which takes 0.2 s of processor time."""
    image = Image.new("L", (16_000, 9_000))
    image.putpixel((1, 1), 9)
    with put(tmp_path / "large.png", encode(image, "PNG", compress_level=1)).open("rb") as file:
        yield file.fileno()


def children() -> set[int]:
    """The decoders of this process."""
    found = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return {
        pid for pid in found if b"decoder.py" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def test_an_image_is_read_in_a_process_that_stays(make, tmp_path: pathlib.Path) -> None:
    decoders = make()
    with put(tmp_path / "x.jpg", jpeg(400, 300)).open("rb") as file:
        facts, thumbnail = decoders.read(file.fileno(), slow=False, **HOW)
        first = children()
        again = decoders.read(file.fileno(), slow=False, **HOW)
    assert (facts.width, facts.height, facts.error) == (400, 300, None)
    assert str(facts.hash).startswith("blake3:") and thumbnail[8:12] == b"WEBP"
    assert again == (facts, thumbnail)
    assert len(first) == 1 and children() == first


def test_an_image_that_needs_more_than_its_share_is_left_for_later(make, large: int) -> None:
    decoders = make(memory=512 * MB)
    with pytest.raises(Slow):
        decoders.read(large, slow=False, **HOW)
    facts, thumbnail = decoders.read(large, slow=True, **HOW)
    assert (facts.error, facts.warning) == (None, None) and thumbnail


@pytest.mark.parametrize(
    ("memory", "progressive", "limit"),
    [(256, False, None), (2048, True, None), (256, True, f"INDEX_MEMORY={256 * MB}")],
)
def test_a_photo_of_200_megapixels_is_shown_if_the_memory_for_it_is_there(
    make, tmp_path: pathlib.Path, memory: int, progressive: bool, limit: str | None
) -> None:
    data = bombs.jpeg(16_320, 12_240, "\1\2\3", progressive=progressive)
    with put(tmp_path / "x.jpg", data).open("rb") as file:
        facts, thumbnail = make(memory=memory * MB).read(file.fileno(), slow=True, **HOW)
    assert (facts.width, facts.height, facts.limit) == (16_320, 12_240, limit)
    assert bool(thumbnail) == (not limit)


def test_an_image_that_takes_too_long_ends_its_process_and_nothing_else(
    make, large, tmp_path
) -> None:
    decoders = make(seconds=0.05)
    with pytest.raises(Slow):
        decoders.read(large, slow=False, **HOW)
    with pytest.raises(
        Killed, match=r"more than 0.05 s of processor time \(DECODE_SECONDS\)"
    ) as end:
        decoders.read(large, slow=True, **HOW)
    assert end.value.limit == "DECODE_SECONDS=0.05"
    with put(tmp_path / "x.jpg").open("rb") as file:
        assert decoders.read(file.fileno(), slow=True, **HOW)[1]


@pytest.mark.parametrize(
    ("number", "outcome"), [(signal.SIGKILL, StorageUnavailable), (signal.SIGSEGV, Killed)]
)
def test_an_image_whose_process_ends_twice_is_to_blame_unless_it_was_killed_from_outside(
    make, large, number, outcome
) -> None:
    decoders = make()
    for is_slow, expected in ((False, Slow), (True, outcome)):
        before = children()
        killer = threading.Thread(target=end_a_decoder, args=(before, number))
        killer.start()
        with pytest.raises(expected):
            decoders.read(large, slow=is_slow, **HOW)
        killer.join()


def end_a_decoder(before: set[int], number: int) -> None:
    """Sends a signal to a new decoder or, if none comes, to one that was there."""
    os.kill(wait_for(lambda: children() - before or children()).pop(), number)


@pytest.fixture
def slow(tmp_path: pathlib.Path) -> Iterator[int]:
    """A JPEG that takes some seconds."""
    with put(tmp_path / "slow.jpg", bombs.many_scans(1200)).open("rb") as file:
        yield file.fileno()


def test_an_image_that_takes_long_gives_way_if_somebody_waits_and_only_then(make, slow) -> None:
    decoders = make(memory=8192 * MB, seconds=240.0)
    assert decoders.read(slow, slow=False, **HOW)[1]
    began, asked = time.monotonic(), list[float]()

    def somebody_waits() -> bool:
        """Nobody does when the image is begun."""
        asked.append(time.monotonic() - began)
        return len(asked) > 1

    decoders.somebody_waits = somebody_waits
    with pytest.raises(Slow):
        decoders.read(slow, slow=False, **HOW)
    assert asked[0] < 1 < asked[-1]
    assert decoders.read(slow, slow=True, **HOW)[1]


@pytest.mark.parametrize(
    ("image", "is_quick"),
    [
        (("JPEG", 3000, 2000, {}), True),
        (("JPEG", 3000, 2000, {"progressive": True}), True),
        (("PNG", 300, 200, {"compress_level": 1}), True),
        (("PNG", 5001, 4000, {"compress_level": 1}), False),
        (("WEBP", 5001, 4000, {"lossless": True, "method": 0}), False),
    ],
    ids=["jpeg", "progressive", "png", "large-png", "large-webp"],
)
def test_an_image_whose_header_tells_that_it_takes_long_gives_way_at_once(
    make, tmp_path, image, is_quick
) -> None:
    kind, width, height, options = image
    data = encode(Image.new("RGB", (width, height)), kind, **options)
    decoders = make()
    with put(tmp_path / "small.jpg", jpeg()).open("rb") as file:
        decoders.read(file.fileno(), slow=False, **HOW)  # so that the process has started
    decoders.somebody_waits = lambda: True
    with put(tmp_path / "image.jpg", data).open("rb") as file:
        if is_quick:
            assert decoders.read(file.fileno(), slow=False, **HOW)[1]
            return
        began, before = time.monotonic(), children()
        with pytest.raises(Slow):
            decoders.read(file.fileno(), slow=False, **HOW)
        assert time.monotonic() - began < 0.3
        assert children() == before  # no process was ended


def test_closing_ends_everything_also_in_the_middle_of_an_image(make, large) -> None:
    decoders = make()
    threading.Timer(0.3, decoders.close).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        for _ in range(100):
            decoders.read(large, slow=True, **HOW)
    assert time.monotonic() - began < 5
    wait_for(lambda: not children())


def test_what_cannot_be_read_at_all_is_an_error_of_the_disk(make, tmp_path: pathlib.Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(StorageUnavailable, match="directory"):
        make().read(folder, slow=False, **HOW)
    os.close(folder)


def test_a_large_image_is_read_after_the_others_and_loses_nothing(indexed, root) -> None:
    put(root / "a.png", encode(draw(9000, 6000), "PNG"))
    for number in range(5):
        put(root / f"b{number}.jpg")
    gallery: Gallery = indexed(INDEX_MEMORY="512M", WORKER_THREADS="4")
    assert [name for name, _ in gallery.told][-1] == "a.png"
    assert all(item["hasThumb"] for item in gallery.items().values())
    assert gallery.items()["a.png"]["w"] == 9000


def test_many_cores_and_little_memory_read_ordinary_photos_as_ordinary(make, tmp_path) -> None:
    """As in a container of 2 GB on a machine with 16 processors."""
    decoders = make(count=16, memory=512 * MB)
    for name, kind in (("x.jpg", "JPEG"), ("x.png", "PNG")):
        image = encode(draw(4000, 3000) if kind == "JPEG" else draw(1700, 1200), kind)
        with put(tmp_path / name, image).open("rb") as file:
            facts, thumbnail = decoders.read(file.fileno(), slow=False, **HOW)
        assert facts.error is None and thumbnail
