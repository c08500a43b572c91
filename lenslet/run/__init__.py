"""The processes: `serving` is gunicorn, `worker` the index process alone, `cli` the command line,
`embed` for other programs. `master` is what the processes of `serving` share.

Here is what all of them use: the settings of a process, and an index process.
"""

import json
import logging
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from lenslet import config, library, times
from lenslet.config import Settings
from lenslet.index.loop import Loop
from lenslet.index.status import QUEUE, Status
from lenslet.library import Library
from lenslet.storage import check_settings, root_name, state_folder

log = logging.getLogger("lenslet")

FRESH_SECONDS = 2.0  # how long a request process uses a bucket's manifest without checking it
NICENESS = 10  # on a busy processor, about a tenth of the time of a request process


def log_start(settings: Settings, verb: str, at: str = "") -> None:
    """Logs what is served or indexed, where Lenslet's own files are, and how to check them."""
    own = settings.state_dir or "beside the images"
    if own == state_folder(settings):
        own += ", because the root could not be written"
    log.info("Lenslet %s %s%s (its own files: %s)", verb, root_name(settings), at, own)
    named = {"STATE_DIR": settings.state_dir, "S3_ENDPOINT": settings.s3_endpoint}
    words = [f"{name}={shlex.quote(value)}" for name, value in named.items() if value]
    beside = os.path.join(os.path.dirname(sys.executable), "lenslet")
    program = "lenslet" if shutil.which("lenslet") else shlex.quote(beside)
    check = " ".join([*words, program, "check", shlex.quote(root_name(settings))])
    log.info("To check the library, run: %s", check)


class JsonFormatter(logging.Formatter):
    """Formats each event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": times.of_ns(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["trace"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False)


class OneLine(logging.Filter):
    """Keeps each message on one line, whatever names and requests it shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if not message.isprintable():
            shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
            record.msg, record.args = "".join(shown), ()
        return True


def load_settings(env_file: str = "", *, writes: bool = True) -> Settings:
    """Returns the settings of the environment, and of `env_file` what that leaves unset.

    Prints which names look like settings. Raises `SettingError`; see also `check_settings`.
    """
    filed = config.read_env_file(env_file) if env_file else {}
    variables = config.merged(os.environ, filed)
    settings = config.settings(variables)
    for sentence in config.misspelt(variables, settings):
        print(f"lenslet: {sentence}", file=sys.stderr)
    for name, value in filed.items():
        if name.startswith("AWS_"):  # for boto3
            os.environ.setdefault(name, value)
    return check_settings(settings, writes=writes)


def open_library(settings: Settings, **how: Any) -> Library:
    """Opens the library that the settings name; see `library.open_library`.

    What buckets need is imported only if there are any.
    """
    buckets = None
    if settings.buckets:
        from lenslet.storage.s3 import S3Buckets

        buckets = S3Buckets(settings, patient=how.get("patient", False))
    return library.open_library(settings, buckets, **how)


def index_process(
    settings: Settings, status: Status, stop: threading.Event
) -> tuple[Loop, list[threading.Thread]]:
    """Returns the loop of an index process, and its threads, which end when `stop` is set.

    Lowers the priority of this process below those that answer requests.
    """
    os.nice(NICENESS)
    opened = open_library(settings, patient=True)
    targets: list[Callable[[threading.Event], None]] = []
    if not settings.buckets:
        loop = Loop(opened, status)
    else:
        from lenslet.cluster.host import BucketHost

        share = None
        if settings.jobs_queue_url:
            from lenslet.cluster.sqs import Consumer, SharedQueue
            from lenslet.storage.s3_client import Client

            share = SharedQueue(Client(settings), settings).send
        host = BucketHost(share)
        loop = Loop(opened, status, host=host)
        if settings.jobs_queue_url:
            client, report = Client(settings, patient=True), partial(status.set_problem, QUEUE)
            targets.append(Consumer(client, settings, loop, host, report).run)
    targets.append(loop.run)
    threads = [threading.Thread(target=each, args=(stop,), name=each.__name__) for each in targets]
    return loop, threads
