"""The processes: gunicorn's settings and worker class, and the index process alone.

One arbiter keeps `WEB_CONCURRENCY` request processes and one index process. All are forked from
it as workers of one class; `pre_fork` gives the index role to the first that finds it free. The
channel and the board are made before any fork, so they outlive every worker.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import logging
import os
import select
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from lenslet import config
from lenslet.app import WSGIApp, create_app
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

FRESH_SECONDS = 2.0  # for so long a request takes what it knows of a bucket's folder as it is
_PULSE_SECONDS = 1.0
_DRAIN_SECONDS = 20


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


_latest: list[Settings] = []  # what the last good reading gave, in the master before a fork


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
    _latest[:] = [settings]
    return settings


def reload_settings() -> Settings:
    """The settings after a HUP; those from before when the new ones cannot be used."""
    try:
        settings = config.load(os.environ)
    except SettingError as error:
        log.error("the settings stay as they were: %s", error)
        return _latest[0]
    _latest[:] = [settings]
    return settings


def build() -> WSGIApp:
    """The WSGI application of a request process."""
    settings = _latest[0] if _latest else load_settings()
    channel, board = shared()
    storage = open_storage(settings, board.count, fresh_seconds=FRESH_SECONDS)
    jobs = channel if not settings.jobs_queue_url else SharedJobs(store_of(storage), settings)
    return create_app(settings, storage, search_cache(settings), jobs, board)


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
    """An index process's loop and the threads that it takes, which end when `stop` is set."""
    indexer = build_indexer(settings, queue, board)
    targets: list[Callable[[threading.Event], None]] = [indexer.run]
    if settings.jobs_queue_url:
        store = Store(settings, board.count)
        deliveries = Deliveries(store, settings, queue, indexer.state)
        indexer.dead = lambda: deliveries.dead
        if settings.scan_seconds:
            indexer.share_images(SharedJobs(store, settings).send_images)
        targets.append(deliveries.run)
    names = ("indexer", "deliveries")
    threads = [
        threading.Thread(target=target, args=(stop,), name=name)
        for target, name in zip(targets, names, strict=False)
    ]
    return indexer, threads


# Under gunicorn


class Worker(ThreadWorker):
    """A request process or, with the index role, the index process."""

    indexes = False

    def init_process(self) -> None:
        log.handlers, log.propagate = logging.getLogger("gunicorn.error").handlers, False
        log.setLevel(logging.INFO)
        quiet_pillow()
        super().init_process()

    def load_wsgi(self) -> None:
        if not self.indexes:
            super().load_wsgi()

    def run(self) -> None:
        if self.indexes:
            self._index()
        else:
            super().run()

    def handle_quit(self, sig: int, frame: Any) -> None:
        if not self.indexes:
            super().handle_quit(sig, frame)
        self.alive = False

    def _index(self) -> None:
        """Run the loop, and tell the arbiter so while it makes progress."""
        channel, board = shared()
        queue, stop = Queue(), threading.Event()
        indexer, threads = threads_of(_latest[0], queue, board, stop)
        receiver = threading.Thread(target=receive, args=(channel, queue, stop), name="receiver")
        threads.append(receiver)
        for thread in threads:
            thread.start()
        try:
            while self.alive and self.is_parent_alive() and all(t.is_alive() for t in threads):
                if indexer.pulse():
                    self.notify()
                self._sleep()
        finally:
            stop.set()
            queue.wake()
        if self.alive and self.is_parent_alive():
            raise RuntimeError("a thread of the index process has ended")
        for thread in threads:
            thread.join(_DRAIN_SECONDS)

    def _sleep(self) -> None:
        """Until the next pulse or, through the wake-up pipe, until a signal comes."""
        if select.select([self.PIPE[0]], [], [], _PULSE_SECONDS)[0]:
            os.read(self.PIPE[0], 4096)


def receive(channel: Channel, queue: Queue, stop: threading.Event) -> None:
    """Put what request processes want in the queue until `stop` is set, then leave it to others."""
    while not stop.is_set():
        job = channel.receive(_PULSE_SECONDS / 2)
        if job is not None and stop.is_set():
            channel.send(job)
        elif job is not None:
            queue.put(job)


def gunicorn_settings() -> dict[str, Any]:
    """Gunicorn's settings, so that `gunicorn` in a checkout and `lenslet serve` are the same."""
    settings = reload_settings() if _latest else load_settings()
    shared()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "wsgi_app": "lenslet.serving:build()",
        "worker_class": "lenslet.serving.Worker",
        "bind": [f"{host}:{settings.port}"],
        "workers": settings.web_concurrency + bool(settings.worker_threads),
        "threads": settings.web_threads,
        "limit_request_line": 8190,  # gunicorn's most: a path may need three times its bytes
        "timeout": 30,
        "graceful_timeout": 20,
        "keepalive": 15,
        "proc_name": "lenslet",
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
        "control_socket_disable": True,
        "on_starting": on_starting,
        "pre_fork": pre_fork,
        "child_exit": child_exit,
        "nworkers_changed": nworkers_changed,
    }


def on_starting(server: Any) -> None:
    """Tell what is served, once, before anything is forked."""
    settings = _latest[0]
    fewest = _fewest()
    if server.cfg.workers < fewest:
        raise SystemExit(
            f"lenslet: workers={server.cfg.workers} cannot be used: it takes {fewest} or more"
        )
    root = root_name(settings)
    server.log.info("Lenslet serves %s at http://%s:%s/", root, settings.host, settings.port)


def pre_fork(server: Any, worker: Worker) -> None:
    """Give a new worker the index role when no live worker of its configuration has it."""
    worker.indexes = not _has_indexer(server, worker.cfg)


def _fewest() -> int:
    """One that answers requests and, unless `WORKER_THREADS` is 0, one that indexes."""
    return 1 + bool(_latest[0].worker_threads)


def _has_indexer(server: Any, cfg: Any) -> bool:
    return not _latest[0].worker_threads or any(
        worker.indexes and worker.cfg is cfg for worker in server.WORKERS.values()
    )


def child_exit(server: Any, worker: Worker) -> None:
    """Mend what TTOU may do: end the oldest worker, the index process, and replace it by none."""
    if not worker.indexes or worker.cfg is not server.cfg or _has_indexer(server, server.cfg):
        return
    if len(server.WORKERS) >= server.num_workers:
        server.kill_worker(min(server.WORKERS, key=lambda p: server.WORKERS[p].age), signal.SIGTERM)


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Refuse to go below one request process and the index process."""
    fewest = _fewest()
    if new == fewest - 1 and old is not None:
        server.log.warning("%d workers are the fewest.", fewest)
        server.num_workers = fewest


class Server(BaseApplication):
    """`lenslet serve`: gunicorn without a configuration file."""

    def load_config(self) -> None:
        for name, value in gunicorn_settings().items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApp:
        return build()


# Alone


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
    while all(t.is_alive() for t in threads) and not stop.wait(_PULSE_SECONDS):
        indexer.pulse()
    failed = not stop.is_set()
    stop.set()
    queue.wake()
    for thread in threads:
        thread.join()
    return int(failed)
