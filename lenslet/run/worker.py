"""The index process alone, `lenslet worker`, and how request processes of its host reach it.

They meet in a folder in shared memory: a socket for requests, and a file for reports.
"""

import contextlib
import hashlib
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace

from lenslet.config import Settings
from lenslet.index.loop import BEAT_SECONDS, Loop
from lenslet.index.messages import Channel, Request, Sender, post, unreachable
from lenslet.index.status import ROWS, Status
from lenslet.run import JsonFormatter, OneLine, index_process, load_settings, log_start
from lenslet.storage import cache_folder

log = logging.getLogger("lenslet")


_SEND_SECONDS = 0.5  # the kernel keeps some ten messages until they are received


class Mailbox(Channel):
    """Requests for a worker."""

    def __init__(self, address: str, *, receives: bool = False) -> None:
        self._address = address
        if receives:
            self._receiver = _datagrams()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            self._receiver.bind(address)

    def send(self, request: Request) -> None:
        with _datagrams() as sender:
            sender.settimeout(_SEND_SECONDS)
            try:
                sender.connect(self._address)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise unreachable(request) from error
            post(sender, request)

    def close(self) -> None:
        self._receiver.close()


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def reach(settings: Settings) -> tuple[Sender, Status]:
    """Returns how to send requests to a worker of this host, and where it reports, now or later."""
    try:
        status, address = _meet(settings)
    except OSError:  # a system without such memory
        return Mailbox(os.devnull), Status()  # nobody reads that
    status.row = os.getpid() % (ROWS - 1)
    return Mailbox(address), status


def _meet(settings: Settings) -> tuple[Status, str]:
    """Returns where workers of this library and cache report, and the address of their socket."""
    own = settings.state_dir and os.path.realpath(settings.state_dir)
    library = f"{os.path.realpath(cache_folder(settings, 'worker'))} {own}"
    digest = hashlib.sha256(os.fsencode(library)).hexdigest()[:16]
    folder = f"/dev/shm/lenslet-{os.getuid()}-{digest}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.lstat(folder).st_uid != os.getuid():
        raise PermissionError(folder)
    return Status(f"{folder}/status"), f"{folder}/jobs"


def receive(channel: Channel, loop: Loop, stop: threading.Event) -> None:
    """Hands requests to the loop. One that comes after `stop` goes to the next process."""
    while not stop.is_set():
        request = channel.receive(BEAT_SECONDS / 2)
        if request is not None and stop.is_set():
            channel.send(request)
        elif request is not None:
            loop.send(request)


def stop_on_signals(*numbers: int) -> threading.Event:
    """Returns an event that each of these signals sets."""
    stop = threading.Event()
    for number in numbers:
        signal.signal(number, lambda *_: stop.set())
    return stop


def work(env_file: str = "") -> int:
    """Indexes until SIGTERM or SIGINT. `WORKER_THREADS=0` is meant for the request processes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].addFilter(OneLine())
    settings = load_settings(env_file)
    if settings.log_format == "json":
        logging.getLogger().handlers[0].setFormatter(JsonFormatter())
    settings = replace(settings, worker_threads=settings.worker_threads or os.cpu_count() or 1)
    stop, status, mailbox = stop_on_signals(signal.SIGTERM, signal.SIGINT), Status(), None
    with contextlib.suppress(OSError):
        status, address = _meet(settings)
        beat = status.heartbeat()
        if beat.age < 2 * BEAT_SECONDS and os.path.exists(f"/proc/{beat.pid or 'none'}"):
            raise SystemExit(f"lenslet: process {beat.pid} indexes this library already")
        status.row = ROWS - 1
        mailbox = Mailbox(address, receives=True)
    loop, threads = index_process(settings, status, stop)
    if mailbox:
        threads.append(threading.Thread(target=receive, args=(mailbox, loop, stop)))
    for thread in threads:
        thread.start()
    log_start(settings, "indexes")
    while all(t.is_alive() for t in threads) and not stop.wait(BEAT_SECONDS):
        pass
    failed = not stop.is_set()
    stop.set()
    loop.wake()
    for thread in threads:
        thread.join()
    status.end()
    return int(failed)
