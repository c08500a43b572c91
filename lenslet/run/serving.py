"""Gunicorn's settings, worker class and application: request processes and the index process.

One arbiter keeps `WEB_CONCURRENCY` request processes and one index process. All are forked as
workers of one class; `pre_fork` gives the index role to the first that finds it free. The channel
and the status are made before any fork, so they outlive every worker.
"""

import logging
import os
import select
import threading
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from lenslet.index.queue import Channel, NoSender, Queue, Sender
from lenslet.library import open_library
from lenslet.run import BEAT_SECONDS, index_process, latest, load_settings, quiet_pillow, shared
from lenslet.storage import root_name
from lenslet.web.app import WSGIApp, create_app

log = logging.getLogger("lenslet")

_FRESH_SECONDS = 2.0  # how long a bucket's manifest is used without checking it
_DRAIN_SECONDS = 20
_NO_INDEX = (
    "WORKER_THREADS=0 and no JOBS_QUEUE_URL: nothing is indexed here. The host that indexes finds "
    "edits and new images within its SCAN_SECONDS; set JOBS_QUEUE_URL to tell it at once."
)


def build() -> WSGIApp:
    """Returns the WSGI application of a request process."""
    settings = latest[0] if latest else load_settings()
    channel, status = shared()
    library = open_library(settings, fresh_seconds=_FRESH_SECONDS)
    jobs: Sender = channel if settings.worker_threads else NoSender()
    if settings.jobs_queue_url:
        from lenslet.hosts import SharedJobs

        jobs = SharedJobs(library.client, settings)
    return create_app(library, jobs, status)


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
        """If this process already has connections, lets another accept first.

        Otherwise one process often accepts all connections of a browser, and its threads compete
        for the interpreter: 2,500 requests a second instead of 8,000.
        """
        if self.nr_conns:
            os.sched_yield()
        super().accept(listener)

    def handle_quit(self, sig: int, frame: Any) -> None:
        if not self.indexes:
            super().handle_quit(sig, frame)
        self.alive = False

    def _index(self) -> None:
        """Runs the loop, and notifies the arbiter while it makes progress."""
        channel, status = shared()
        queue, stop = Queue(), threading.Event()
        indexer, threads = index_process(latest[0], queue, status, stop)
        receiver = threading.Thread(target=receive, args=(channel, queue, stop), name="receiver")
        threads.append(receiver)
        for thread in threads:
            thread.start()
        try:
            while self.alive and self.is_parent_alive() and all(t.is_alive() for t in threads):
                if indexer.beat():
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
        """Sleeps until the next beat, or until a signal comes through the wake-up pipe."""
        if select.select([self.PIPE[0]], [], [], BEAT_SECONDS)[0]:
            os.read(self.PIPE[0], 4096)


def receive(channel: Channel, queue: Queue, stop: threading.Event) -> None:
    """Puts jobs of requests in the queue. One that comes after `stop` goes to the next process."""
    while not stop.is_set():
        job = channel.receive(BEAT_SECONDS / 2)
        if job is not None and stop.is_set():
            channel.send(job)
        elif job is not None:
            queue.put(job)


def gunicorn_settings() -> dict[str, Any]:
    """Returns gunicorn's settings, the same for `gunicorn` in a checkout and `lenslet serve`."""
    settings = load_settings()
    shared()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "wsgi_app": "lenslet.run.serving:build()",
        "worker_class": "lenslet.run.serving.Worker",
        "bind": [f"{host}:{settings.port}"],
        "workers": settings.web_concurrency + bool(settings.worker_threads),
        "threads": settings.web_threads,
        "limit_request_line": 8190,  # the most that gunicorn allows; encoded paths are long
        "timeout": 30,
        "graceful_timeout": 20,
        "keepalive": 15,
        "proc_name": "lenslet",
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
        "control_socket_disable": True,
        "on_starting": on_starting,
        "pre_fork": pre_fork,
        "nworkers_changed": nworkers_changed,
    }


def on_starting(server: Any) -> None:
    """Says what is served, once, before anything is forked."""
    settings = latest[0]
    fewest = _fewest()
    if server.cfg.workers < fewest:
        raise SystemExit(f"lenslet: workers={server.cfg.workers}: must be {fewest} or more")
    root = root_name(settings)
    if not (settings.worker_threads or settings.jobs_queue_url):
        server.log.warning("%s", _NO_INDEX)
    server.log.info("Lenslet serves %s at http://%s:%s/", root, settings.host, settings.port)


def pre_fork(server: Any, worker: Worker) -> None:
    """Gives a new worker the index role if no live worker since the last HUP has it."""
    worker.indexes = not _has_indexer(server, worker.cfg)


def _fewest() -> int:
    """Returns the smallest number of workers: one for requests and, if there is one, the index."""
    return 1 + bool(latest[0].worker_threads)


def _has_indexer(server: Any, cfg: Any) -> bool:
    return not latest[0].worker_threads or any(
        worker.indexes and worker.cfg is cfg for worker in server.WORKERS.values()
    )


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Restores the configured number of workers after TTIN or TTOU.

    TTOU ends the oldest worker, often the index process.
    """
    if old is not None and new != server.cfg.workers:
        server.log.warning("The number of workers is set by WEB_CONCURRENCY.")
        server.num_workers = server.cfg.workers


class Server(BaseApplication):
    """`lenslet serve`: gunicorn without a configuration file."""

    def load_config(self) -> None:
        for name, value in gunicorn_settings().items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApp:
        return build()
