"""What a process of Lenslet is put together from: its settings and its index loop.

Also `worker.py`, the index process alone.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from lenslet import config
from lenslet.board import Board
from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.indexer import Indexer
from lenslet.jobs import Channel, Queue
from lenslet.jobs.sqs import Deliveries, SharedJobs
from lenslet.pointers import Resolver
from lenslet.storage import (
    LocalTree,
    Storage,
    cache_folder,
    check_storage,
    open_storage,
    root_name,
)
from lenslet.storage.store import Store

log = logging.getLogger("lenslet")

PULSE_SECONDS = 1.0
NICENESS = 10  # a tenth of a request process's share of a busy processor


@functools.lru_cache(maxsize=1)
def shared() -> tuple[Channel, Board]:
    """What the processes of one master share; first called in the master, before any fork."""
    return Channel(), Board()


def quiet_pillow() -> None:
    """What Pillow warns of stands in the item's `error` where it matters."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def search_cache(settings: Settings) -> LocalTree:
    """Where this host keeps the folded copies that search reads."""
    return LocalTree(cache_folder(settings, "search"), private=True)


latest: list[Settings] = []  # what the last good reading gave, in the master before a fork


def load_settings() -> Settings:
    """The settings of a process that starts; a bad one ends it with one line."""
    try:
        settings = config.load(os.environ)
        for name, value in config.credentials().items():
            os.environ.setdefault(name, value)
        check_storage(settings)
        socket.getaddrinfo(settings.host, settings.port)
    except SettingError as error:
        raise SystemExit(f"lenslet: {error}") from error
    except (OSError, UnicodeError) as error:
        told = f"HOST={settings.host!r} cannot be used: it takes an address of this host"
        raise SystemExit(f"lenslet: {told}") from error
    latest[:] = [settings]
    return settings


def reload_settings() -> Settings:
    """The settings after a HUP; those from before when the new ones cannot be used."""
    try:
        settings = config.load(os.environ)
    except SettingError as error:
        log.error("the settings stay as they were: %s", error)
        return latest[0]
    latest[:] = [settings]
    return settings


def store_of(storage: Storage) -> Store:
    assert storage.store is not None  # `open_storage` always makes one
    return storage.store


def build_indexer(settings: Settings, queue: Queue, board: Board, **more: Any) -> Indexer:
    """The loop of an index process."""
    storage = open_storage(settings, board.count)
    resolver = Resolver(storage, settings)
    return Indexer(storage, settings, resolver, search_cache(settings), queue, board, **more)


def threads_of(
    settings: Settings, queue: Queue, board: Board, stop: threading.Event
) -> tuple[Indexer, list[threading.Thread]]:
    """An index process's loop and the threads that it takes, which end when `stop` is set.

    The process lets those that answer requests pass it from now on.
    """
    os.nice(NICENESS)
    indexer = build_indexer(settings, queue, board)
    targets: list[Callable[[threading.Event], None]] = [indexer.run]
    if settings.jobs_queue_url:
        store = Store(settings, board.count)
        deliveries = Deliveries(store, settings, queue, indexer.state)
        indexer.tell_dead_letters(lambda: deliveries.dead)
        if settings.scan_seconds:
            indexer.share_images(SharedJobs(store, settings).send_images)
        targets.append(deliveries.run)
    names = ("indexer", "deliveries")
    threads = [
        threading.Thread(target=target, args=(stop,), name=name)
        for target, name in zip(targets, names, strict=False)
    ]
    return indexer, threads


# The index process alone


def own_board(settings: Settings) -> Board:
    """A board in a file, which a crash leaves to the next process; not shared while one has it."""
    name = os.path.join(cache_folder(settings, "worker"), "board")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return Board()
    return Board(fd)  # the descriptor, and with it the lock, is kept to the end of the process


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _worker_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="worker.py",
        description="Index, and answer no requests. Settings are those of the environment.",
    )
    parser.add_argument("--shard", help="this process's share of the folders, such as 2/3 (SHARD)")
    parser.add_argument(
        "--no-scan",
        action="store_true",
        help="look for nothing, only do the jobs of the queue (SCAN_SECONDS=0)",
    )
    return parser.parse_args(arguments)


def work(arguments: list[str] | None = None) -> int:
    """`python worker.py`: the index process alone, until SIGTERM or SIGINT."""
    options = _worker_options(arguments)
    if options.shard:
        os.environ["SHARD"] = options.shard
    if options.no_scan:
        os.environ["SCAN_SECONDS"] = "0"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    quiet_pillow()
    settings = load_settings()
    stop, queue = stop_on_signals(), Queue()
    indexer, threads = threads_of(settings, queue, own_board(settings), stop)
    for thread in threads:
        thread.start()
    log.info("indexing %s", root_name(settings))
    while all(t.is_alive() for t in threads) and not stop.wait(PULSE_SECONDS):
        indexer.pulse()
    failed = not stop.is_set()
    stop.set()
    queue.wake()
    for thread in threads:
        thread.join()
    return int(failed)
