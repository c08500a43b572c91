"""The index process, also alone as `lenslet worker`, and how request processes reach that one.

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
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.index.loop import BEAT_SECONDS, Loop
from lenslet.index.messages import Channel, Request, Sender, post, unreachable
from lenslet.index.status import QUEUE, ROWS, Status
from lenslet.run import JsonFormatter, OneLine, load_settings, log_start, open_library
from lenslet.storage import cache_folder

_NICENESS = 10  # on a busy processor, about a tenth of the time of a request process
_DRAIN_SECONDS = 1.0
_SEND_SECONDS = 0.5  # the kernel keeps some ten messages until they are received

log = logging.getLogger("lenslet")

Target = Callable[[threading.Event], None]


def index(
    settings: Settings,
    status: Status,
    channel: Channel,
    signals: Iterable[int],
    goes_on: Callable[[], bool] = lambda: True,
) -> int:
    """Indexes until one of the signals comes; returns the exit status.

    Ends also if a thread fails, or if `goes_on`, which is called each second, says no. Lowers the
    priority of this process below those that answer requests.
    """
    stop = threading.Event()
    for number in signals:
        signal.signal(number, lambda *_: stop.set())
    os.nice(_NICENESS)
    loop, targets = _open(settings, status, channel)
    targets = [loop.run, partial(_receive, channel, loop), *targets]
    threads = [threading.Thread(target=each, args=(stop,)) for each in targets]
    for thread in threads:
        thread.start()
    while all(t.is_alive() for t in threads) and goes_on() and not stop.wait(BEAT_SECONDS):
        pass
    failed = not stop.is_set()
    stop.set()
    loop.wake()
    threads[0].join(_DRAIN_SECONDS)  # what the others still do is done again
    return int(failed)


def _open(settings: Settings, status: Status, own: Sender) -> tuple[Loop, list[Target]]:
    """Returns the loop, and what receives the messages of other hosts, if there is a queue."""
    library = open_library(settings, patient=True)
    if not settings.jobs_queue_url:
        return Loop(library, status), []
    from lenslet.cluster.host import BucketHost
    from lenslet.cluster.sqs import Consumer, SharedQueue
    from lenslet.storage.s3_client import Client

    client = Client(settings, patient=True)
    host = BucketHost(settings, SharedQueue(client, settings, own).post)
    loop = Loop(library, status, host=host)
    report = partial(status.set_problem, QUEUE)
    report("")  # the memory may be that of a process before this one
    urls = {settings.jobs_urgent_queue_url, settings.jobs_queue_url} - {""}
    consumers = (Consumer(client, url, settings, loop, host) for url in urls)
    return loop, [partial(each.run, report) for each in consumers]


def _receive(channel: Channel, loop: Loop, stop: threading.Event) -> None:
    """Hands requests to the loop."""
    while not stop.is_set():
        if (request := channel.receive(BEAT_SECONDS / 2)) is not None:
            loop.send(request)


# Alone


class Mailbox(Channel):
    """Requests for a worker."""

    def __init__(self, address: str, *, receives: bool = False) -> None:
        self._address = address
        if receives:
            self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            self._receiver.bind(address)

    def send(self, request: Request) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_SECONDS)
            try:
                sender.connect(self._address)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise unreachable(request) from error
            post(sender, request)

    def close(self) -> None:
        self._receiver.close()


def reach(settings: Settings) -> tuple[Sender, Status]:
    """Returns how to send requests to a worker of this host, and where it reports, now or later."""
    status, address = _meet(settings)
    status.row = os.getpid() % (ROWS - 1)
    return Mailbox(address), status


def _meet(settings: Settings) -> tuple[Status, str]:
    """Returns where workers of this library and cache report, and the address of their socket."""
    own = settings.state_dir and os.path.realpath(settings.state_dir)
    library = f"{os.path.realpath(cache_folder(settings, 'worker'))} {own}"
    digest = hashlib.sha256(os.fsencode(library)).hexdigest()[:16]
    folder = f"/dev/shm/lenslet-{os.getuid()}-{digest}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.lstat(folder).st_uid != os.getuid():
            raise PermissionError(f"another user has made {folder!r}")
        return Status(f"{folder}/status"), f"{folder}/jobs"
    except OSError as error:
        raise SettingError(f"processes cannot meet in /dev/shm: {error}") from error


def claim(settings: Settings) -> socket.socket:
    """Returns a socket that is held as long as this service indexes, one for each folder.

    Warns if another service of this host has it. A bucket may be indexed by many.
    """
    own = os.path.realpath(settings.state_dir or settings.root_path)
    digest = hashlib.sha256(os.fsencode(own)).hexdigest()[:16]
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if not settings.s3_bucket:
            held.bind(f"\0lenslet-{digest}")
    except OSError:
        log.warning(
            "Another service indexes this library too, so all is done twice: stop it, or set "
            "WORKER_THREADS=0 for one of them."
        )
    return held


def work(env_file: str) -> int:
    """Indexes until SIGTERM or SIGINT. `WORKER_THREADS=0` is meant for the request processes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].addFilter(OneLine())
    settings = load_settings(env_file)
    if settings.log_format == "json":
        logging.getLogger().handlers[0].setFormatter(JsonFormatter())
    settings = replace(settings, worker_threads=settings.worker_threads or os.cpu_count() or 1)
    status, address = _meet(settings)
    beat = status.heartbeat()
    if beat.age < 2 * BEAT_SECONDS and os.path.exists(f"/proc/{beat.pid or 'none'}"):
        raise SettingError(f"process {beat.pid} indexes this library already")
    status.row = ROWS - 1
    channel = Mailbox(address, receives=True)
    log_start(settings, "indexes")
    with claim(settings):
        ended = index(settings, status, channel, (signal.SIGTERM, signal.SIGINT))
    status.end()
    return ended
