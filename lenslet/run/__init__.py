"""The processes: `serving` is gunicorn, `worker` the index process, `cli` the command line,
`embed` for other programs.

Here is what all of them use: the settings of a process, its log and its library.
"""

import contextlib
import json
import logging
import os
import sys
from importlib import metadata
from typing import Any

from lenslet import config, library, times
from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.library import Library
from lenslet.storage import check_settings, root_name, state_folder

log = logging.getLogger("lenslet")

FRESH_SECONDS = 2.0  # how long a request process uses a bucket's manifest without checking it


def log_start(settings: Settings, verb: str, at: str = "") -> None:
    """Logs what is served or indexed, and where Lenslet's own files are."""
    own = settings.state_dir or "beside the images"
    if own == state_folder(settings):
        own += ", because the root could not be written"
    log.info("Lenslet %s %s%s (its own files: %s)", verb, root_name(settings), at, own)


class JsonFormatter(logging.Formatter):
    """Formats each event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": times.of_ns(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
        }
        if request := getattr(record, "request", ""):
            event["request"] = request
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


def check_namesake() -> None:
    """Raises `SettingError` if another program called `lenslet` is installed in the same place."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        found = metadata.distribution("lenslet")
        if not any(each.value == "lenslet.run.cli:main" for each in found.entry_points):
            raise SettingError(
                f"the package lenslet {found.version} is another program with the same modules: "
                "pip uninstall lenslet, and install lenslet-backend again"
            )


def load_settings(env_file: str = "", *, writes: bool = True) -> Settings:
    """Returns the settings of the environment, and of `env_file` what that leaves unset.

    Prints which names look like settings. Raises `SettingError`; see also `check_settings`.
    """
    check_namesake()
    if not env_file and os.path.isfile(".env"):
        print("lenslet: the file .env here is not read without --env-file .env", file=sys.stderr)
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
