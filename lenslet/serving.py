"""Gunicorn's settings, worker class and application: request processes and the index process.

One arbiter keeps `WEB_CONCURRENCY` request processes and one index process. All are forked from
it as workers of one class; `pre_fork` gives the index role to the first that finds it free. The
channel and the board are made before any fork, so they outlive every worker.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from lenslet.app import WSGIApp, create_app
from lenslet.jobs import Channel, Queue
from lenslet.jobs.sqs import SharedJobs
from lenslet.processes import (
    PULSE_SECONDS,
    latest,
    load_settings,
    quiet_pillow,
    reload_settings,
    search_cache,
    shared,
    store_of,
    threads_of,
)
from lenslet.storage import open_storage, root_name

log = logging.getLogger("lenslet")

_FRESH_SECONDS = 2.0  # for so long a request takes what it knows of a bucket's folder as it is
_DRAIN_SECONDS = 20


def build() -> WSGIApp:
    """The WSGI application of a request process."""
    settings = latest[0] if latest else load_settings()
    channel, board = shared()
    storage = open_storage(settings, board.count, fresh_seconds=_FRESH_SECONDS)
    jobs = channel if not settings.jobs_queue_url else SharedJobs(store_of(storage), settings)
    return create_app(settings, storage, search_cache(settings), jobs, board)


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

    def accept(self, listener: Any) -> None:
        """Let another process that was woken as well be first, unless this one has none.

        Else one process takes all of a browser's connections in every third case, and its threads
        fight for the interpreter: 2,500 requests a second, 8,000 where two processes share them.
        """
        if self.nr_conns:
            os.sched_yield()
        super().accept(listener)

    def handle_quit(self, sig: int, frame: Any) -> None:
        if not self.indexes:
            super().handle_quit(sig, frame)
        self.alive = False

    def _index(self) -> None:
        """Run the loop, and tell the arbiter so while it makes progress."""
        channel, board = shared()
        queue, stop = Queue(), threading.Event()
        indexer, threads = threads_of(latest[0], queue, board, stop)
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
        if select.select([self.PIPE[0]], [], [], PULSE_SECONDS)[0]:
            os.read(self.PIPE[0], 4096)


def receive(channel: Channel, queue: Queue, stop: threading.Event) -> None:
    """Put what request processes want in the queue until `stop` is set, then leave it to others."""
    while not stop.is_set():
        job = channel.receive(PULSE_SECONDS / 2)
        if job is not None and stop.is_set():
            channel.send(job)
        elif job is not None:
            queue.put(job)


def gunicorn_settings() -> dict[str, Any]:
    """Gunicorn's settings, so that `gunicorn` in a checkout and `lenslet serve` are the same."""
    settings = reload_settings() if latest else load_settings()
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
    settings = latest[0]
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
    return 1 + bool(latest[0].worker_threads)


def _has_indexer(server: Any, cfg: Any) -> bool:
    return not latest[0].worker_threads or any(
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
