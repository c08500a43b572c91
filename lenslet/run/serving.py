"""Gunicorn's settings, worker class and application: request processes and the index process.

One arbiter keeps `WEB_CONCURRENCY` request processes and one index process. All are forked as
workers of one class; `pre_fork` gives the index role to the first that finds it free. The channel
and the status are made before any fork, so they outlive every worker.
"""

import contextlib
import functools
import gc
import json
import logging
import os
import signal
import socket
from typing import Any

import gunicorn.glogging
from gunicorn.app.base import BaseApplication
from gunicorn.http import errors as http_errors
from gunicorn.workers import gthread

from lenslet.config import Settings
from lenslet.errors import LensletError
from lenslet.index.messages import Channel, Sender
from lenslet.index.status import ROWS, Status
from lenslet.run import (
    FRESH_SECONDS,
    JsonFormatter,
    OneLine,
    load_settings,
    log_start,
    open_library,
)
from lenslet.run.parts import PARTS
from lenslet.run.worker import claim, index, reach
from lenslet.web.app import WSGIApp, create_app

log = logging.getLogger("lenslet")

# How long a request process uses what it read of a bucket while it knows of no change: if this
# host alone indexes (times the number of request processes), and if others do too.
_TRUSTED_SECONDS, _TRUSTED_SECONDS_SHARED = 300.0, 30.0
_STUCK_SECONDS = 5.0
_ANSWER_SECONDS = 3600  # that an old process stays for what it sends, after a HUP
_ORPHAN_SECONDS = 20  # and if the master was killed
_CONNECTIONS = 400  # of a process, which may usually open 1,024 files
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NO_TOKEN = (
    "Everyone who reaches this port may read all photos and edit tags and notes: "
    "set API_TOKEN, or HOST=127.0.0.1."
)


class Master:
    """What is made in the master, so that every process that is forked from it has it too."""

    settings: Settings  # there after the first `load`
    claim: socket.socket  # and this once it serves

    def __init__(self) -> None:
        self.channel = Channel()
        self.status = Status()

    def load(self, env_file: str) -> Settings:
        """Loads the settings at the start: they stay the same until the service is started anew."""
        if not hasattr(self, "settings"):
            try:
                self.settings = load_settings(env_file)
            except LensletError as error:
                raise SystemExit(f"lenslet: {error}") from error
        return self.settings


@functools.cache
def master() -> Master:
    """Returns the one of this master: it is made by the first call, before any fork."""
    return Master()


def build() -> WSGIApp:
    """Returns the WSGI application of a request process."""
    here = master()
    settings, status, channel = here.settings, here.status, here.channel
    alone = settings.worker_threads and settings.scan_seconds and not settings.jobs_queue_url
    most = _TRUSTED_SECONDS * settings.web_concurrency if alone else _TRUSTED_SECONDS_SHARED
    most *= bool(settings.worker_threads)  # only an index process reports changes
    trusts = functools.partial(status.is_current, most=most)
    library = open_library(settings, fresh_seconds=FRESH_SECONDS, trusts=trusts)
    jobs: Sender = channel
    if not settings.worker_threads:
        jobs, status = reach(settings)
    if settings.jobs_queue_url:
        from lenslet.cluster.sqs import SharedQueue
        from lenslet.storage.s3_client import Client

        soon = functools.partial(status.changed, _TRUSTED_SECONDS_SHARED)
        jobs = SharedQueue(Client(settings), settings, jobs, soon)
    return create_app(library, jobs, status, PARTS)


class Logger(gunicorn.glogging.Logger):
    """Gunicorn's log, which Lenslet uses too, as text or as JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.addFilter(OneLine())
            if master().settings.log_format == "json":
                handler.setFormatter(JsonFormatter())


class Worker(gthread.ThreadWorker):
    """A request process or, with the index role, the index process."""

    indexes = False

    def init_signals(self) -> None:
        """Leaves SIGINT to the master: a terminal sends it to every process."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        if not self.indexes:
            super().load_wsgi()

    def is_parent_alive(self) -> bool:
        """Says whether the master lives. An orphan ends soon, as it holds the port."""
        is_alive = bool(super().is_parent_alive())
        if not is_alive:
            self.cfg.set("graceful_timeout", _ORPHAN_SECONDS)
        return is_alive

    def run(self) -> None:
        if not self.indexes:
            super().run()
            return
        self.notify()  # the first one starts the clock of the arbiter
        here, signals = master(), (signal.SIGTERM, signal.SIGQUIT)
        os._exit(index(here.settings, here.status, here.channel, signals, self._goes_on))

    def _goes_on(self) -> bool:
        """Notifies the arbiter while the loop makes progress; false if the arbiter has ended."""
        if master().status.heartbeat().age < _STUCK_SECONDS:
            self.notify()
        return bool(self.ppid == os.getppid())

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answers what gunicorn refuses in the same shape as all other errors.

        The log does not have the request: it may hold a token.
        """
        if type(exc).__module__ == http_errors.__name__:
            is_long = isinstance(exc, http_errors.LimitRequestLine)
            status = "414 URI Too Long" if is_long else "400 Bad Request"
            description = f"The request is malformed ({type(exc).__name__})."
            log.warning("refused a request of %s: %s", addr[0] if addr else "", type(exc).__name__)
        else:
            status, description = "500 Internal Server Error", "An error in Lenslet; see the log."
            log.error("a request failed", exc_info=exc)
        _refuse(client, status, description)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Ends at once. Nothing is lost: what was not answered was not promised."""
        os._exit(0)


def _refuse(client: socket.socket, status: str, description: str) -> None:
    """Answers a client without waiting for it."""
    body = json.dumps({"title": status, "description": description}).encode()
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    head += f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    client.setblocking(False)
    with contextlib.suppress(OSError):
        client.sendall(head.encode() + body)


def gunicorn_settings(env_file: str = "") -> dict[str, Any]:
    """Returns gunicorn's settings, the same for `gunicorn` in a checkout and `lenslet serve`.

    `env_file` has the settings that the environment leaves unset.
    """
    settings = master().load(env_file)
    return {
        "wsgi_app": "lenslet.run.serving:build()",
        "worker_class": "lenslet.run.serving.Worker",
        "bind": [f"[{settings.host}]:{settings.port}"],  # an IPv6 address needs the brackets
        "workers": settings.web_concurrency + bool(settings.worker_threads),
        "threads": settings.web_threads,
        "worker_connections": _CONNECTIONS,
        "limit_request_line": 8190,  # the most that gunicorn allows; encoded paths are long
        "timeout": 30,
        "graceful_timeout": 20,
        "keepalive": 15,
        "forwarded_allow_ips": ",".join(map(str, settings.trusted_proxies)),
        "loglevel": "warning",
        "logger_class": Logger,
        "proc_name": "lenslet",
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
        "control_socket_disable": True,
        "on_starting": on_starting,
        "when_ready": when_ready,
        "pre_fork": pre_fork,
        "post_fork": post_fork,
    }


def on_starting(server: Any) -> None:
    """Checks once, before anything is forked, what would fail later."""
    log.handlers, log.propagate = server.log.error_log.handlers, False
    log.setLevel(logging.INFO)
    fewest = 1 + bool(master().settings.worker_threads)
    if server.cfg.workers < fewest:
        raise SystemExit(f"lenslet: workers={server.cfg.workers}: must be {fewest} or more")


def when_ready(server: Any) -> None:
    """Says what is served, and where. The sockets are open now."""
    settings, urls = master().settings, list(map(_url, server.LISTENERS))
    log_start(settings, "serves", f" at {' and '.join(urls)}")
    if settings.worker_threads:
        master().claim = claim(settings)
    if not (settings.is_guarded or settings.host in _LOOPBACK):
        log.warning("%s", _NO_TOKEN)


def _url(listener: Any) -> str:
    """Returns what to open; the socket may be systemd's, or of gunicorn's own settings."""
    bound = str(listener)
    opened = bound.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    more = "" if opened == bound else " (and at every address of this host)"
    return f"{opened}/{more}" if "//" in bound else bound


def pre_fork(server: Any, worker: Worker) -> None:
    """Gives a new worker the index role if no live worker since the last HUP has it."""
    others = (each.indexes and each.cfg is worker.cfg for each in server.WORKERS.values())
    worker.indexes = bool(master().settings.worker_threads) and not any(others)
    gc.freeze()  # a collection, and the end of a process, would copy all that forks share


def post_fork(server: Any, worker: Worker) -> None:
    """Gives a process a row for its counts, and time to send what it sends when it is replaced.

    It has its own copy of the settings: when the service ends, that of the master counts.
    """
    master().status.row = worker.age % ROWS  # workers are numbered
    worker.cfg.set("graceful_timeout", _ANSWER_SECONDS)


class Server(BaseApplication):
    """`lenslet serve`: gunicorn without a configuration file."""

    def __init__(self, env_file: str) -> None:
        self._env_file = env_file
        super().__init__(prog="lenslet")

    def load_config(self) -> None:
        for name, value in gunicorn_settings(self._env_file).items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApp:
        return build()
