"""How many modules the work passes through, traced: the four ways of `docs/architecture.md`."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ROOT, Gallery, put
from test_design import BASE
from test_hosts import Queues

from lenslet.hosts import Consumer
from lenslet.index.queue import Job, Kind
from lenslet.storage.client import Client

PACKAGE = f"{ROOT / 'lenslet'}/"
MOST = 16
EVERYWHERE = {"web.access", "web.requests", "index.status"}  # who may, and counts


@contextlib.contextmanager
def traced() -> Iterator[set[str]]:
    """The modules above the base of which a function is called."""
    found: set[str] = set()

    def called(frame: Any, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name[0] != "<":
            name = code.co_filename[len(PACKAGE) : -3].replace("/", ".")
            found.add(name.removesuffix(".__init__"))

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield found
    finally:
        sys.setprofile(before)
        found -= {*BASE, *EVERYWHERE}


def work(gallery: Gallery, done: Callable[[], bool]) -> None:
    """Do jobs until `done`, which itself is not traced."""
    for _ in range(1000):
        tracer = sys.getprofile()
        sys.setprofile(None)
        ended = done()
        sys.setprofile(tracer)
        if ended:
            return
        if not gallery.step():
            gallery.clock.now += 0.25
    raise AssertionError("never")


@pytest.fixture
def gallery(make_gallery, root: pathlib.Path) -> Gallery:
    put(root / "a/old.jpg")
    gallery = make_gallery(SCAN_SECONDS="3600")
    gallery.index()
    gallery.settle(400)
    gallery.found("old")
    gallery.clock.now += 100
    return gallery


def documented(way: str) -> set[str]:
    """The modules that the table of `docs/architecture.md` names for one way."""
    (row,) = re.findall(rf"^\| {way}.*$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    found = set()
    for layer, names in re.findall(r"`(\w+)\.?([\w ]*)`", row.split("|")[2]):
        found |= {f"{layer}.{name}" for name in names.split()} or {layer}
    return found


def test_a_thumbnail_that_nobody_has_made(gallery: Gallery, root) -> None:
    put(root / "a/new.jpg")
    with traced() as modules:
        gallery.app.get("/thumb?path=a/new.jpg", status=202)
        gallery.step()
        gallery.app.get("/thumb?path=a/new.jpg", status=200)
    assert modules == documented("`GET /thumb`")
    assert len(modules) <= MOST


def test_an_edit_until_search_finds_it(gallery: Gallery) -> None:
    with traced() as modules:
        gallery.app.put("/item?path=a/old.jpg", b'{"tags": ["novel"]}')
        work(gallery, lambda: gallery.found("tag:novel") == ["a/old.jpg"])
        gallery.found("tag:novel")
    assert modules == documented("`PUT /item`")
    assert len(modules) <= MOST


def test_a_file_that_is_dropped_into_a_folder_until_it_is_listed(gallery: Gallery, root) -> None:
    put(root / "a/new.jpg")
    with traced() as modules:
        gallery.queue.put(Job(Kind.SCAN))
        work(gallery, lambda: b"new.jpg" in (root / "a/_index.json").read_bytes())
    assert modules == documented("a file is dropped")
    assert len(modules) <= MOST


def test_an_event_of_a_bucket_until_the_object_is_listed(make, ours) -> None:
    queues = Queues(ours.service, ours.bucket)
    put(ours / "a/old.jpg")
    gallery = make(ours, SCAN_SECONDS="3600", **queues.settings)
    gallery.index()
    gallery.settle(400)
    consumer = Consumer(Client(gallery.settings), gallery.settings, gallery.queue)
    queues.announce(ours)
    put(ours / "a/new.jpg")
    with traced() as modules:
        consumer.receive(queues.normal, 10)
        work(gallery, lambda: b"new.jpg" in (ours / "a/_index.json").read_bytes())
    assert modules == documented("an event of a bucket")
    assert len(modules) <= MOST
