"""Starts the processes that decode, and limits the memory and time of each image.

An image that needs more than an ordinary share of memory or time, that takes long while somebody
waits, or that ends its process is *slow*: it is read again with the full limits, by one process
that does only this.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import orjson

from lenslet.errors import Overloaded, StorageUnavailable
from lenslet.images import Facts

_SLOW_SHARE = 0.75  # of the memory is for a slow image, the rest for all others together
_LEAST_BYTES = 60 << 20  # for each other image: a PNG of 2 megapixels
_ORDINARY_TIME = 1 / 8  # of the seconds of processor time that a slow image may take
_DETAILS_SECONDS = 0.5
_TURN_SECONDS = 1.5  # after which an image gives way to what somebody waits for
_PATIENCE, _PATIENCE_LEAST = 4, 10.0  # the wall time of an image: a multiple of its time, and more
_LOOK_MS, _END_SECONDS = 250, 5.0
# -I, so that no module in the working directory, which may be served, is imported.
_COMMAND = [sys.executable, "-I", "-W", "ignore", os.path.abspath(f"{__file__}/../decoder.py")]
# glibc keeps an image's buffers for the next one (mallopt(3); 32 MB is the most that it allows).
# Measured: a WebP of 1 megapixel takes 14 ms of processor time instead of 22.
KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": f"{64 << 20}", "MALLOC_MMAP_THRESHOLD_": f"{32 << 20}"}
_Answer = tuple[dict[str, Any], bytes]


class Slow(Exception):
    """The image must be read as a slow one."""


class Killed(Exception):
    """Reading the image ends its process; the message says how, `limit` by which setting."""

    def __init__(self, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class Stopped(Exception):
    """The decoders have been closed."""


class Decoders:
    """Processes that read images: at most `count`, fewer if they had too little memory each.

    One more is for a slow image. All together may take `memory` bytes, and each image `seconds` of
    processor time. `somebody_waits` says whether others wait for an image to give way.
    """

    def __init__(self, count: int, memory: int, seconds: float) -> None:
        most = int(memory * (1 - _SLOW_SHARE))
        count = max(1, min(count, most // _LEAST_BYTES))
        self._count, self._seconds, self._limit = count, seconds, f"INDEX_MEMORY={memory}"
        # By whether the image is slow.
        self._memory = most // count, int(memory * _SLOW_SHARE)
        self._places = threading.Semaphore(count), threading.Semaphore(1)
        self._idle: list[_Decoder] = []
        self._is_closed = False
        self.somebody_waits: Callable[[], bool] = lambda: False

    def start(self) -> None:
        """Starts the processes: each takes 0.1 s, and the first images need not wait for them."""
        with contextlib.suppress(Overloaded):  # tried again with each image
            for _ in range(self._count):
                self._idle.append(_Decoder())

    def read(self, *files: int, slow: bool, **how: Any) -> tuple[Facts, bytes]:
        """Returns an image's facts and its thumbnail.

        `files` are descriptors: of the image, and of its companions, which `how` names with the
        other parameters of `decoder.read`. Raises `Slow`, or
        `Killed` for a slow image; `StorageUnavailable` if the file cannot be read now;
        `Overloaded` if no process can be started; `Stopped`.
        """
        seconds = self._seconds * (1 if slow else _ORDINARY_TIME)
        how["quickly"] = not slow and self.somebody_waits()
        answer, data = self._ask(files, slow, seconds, how)
        facts = Facts(**answer["facts"])
        if answer["slow"] and not slow:
            raise Slow
        if answer["slow"] and facts.error:
            facts = replace(facts, limit=self._limit)
        return facts, data

    def details(self, file: int) -> dict[str, Any]:
        """Returns what `pixels.details` finds in a file; nothing if that takes too much."""
        try:
            return self._ask((file,), False, _DETAILS_SECONDS, {"details": True})[0]
        except Slow:
            return {}

    def _ask(
        self, files: Sequence[int], slow: bool, seconds: float, how: dict[str, Any]
    ) -> _Answer:
        request = orjson.dumps({**how, "memory": self._memory[slow], "seconds": seconds})

        def must_end(waited: float) -> bool:
            gives_way = not slow and waited > _TURN_SECONDS and self.somebody_waits()
            takes_long = waited > _PATIENCE_LEAST + _PATIENCE * seconds
            return gives_way or takes_long or self._is_closed

        with self._places[slow]:
            process = self._take()
            try:
                answer, data = process.ask(files, request, must_end)
            except EOFError as error:
                raise self._reason(process.end(), slow=slow) from error
            self._idle.append(process)
        if self._is_closed:
            self.close()
        if "failed" in answer:
            raise StorageUnavailable(f"The image cannot be read: {answer['failed']}")
        return answer, data

    def _reason(self, status: int, *, slow: bool) -> Exception:
        """Returns why an image was not read, from the status of its process."""
        if self._is_closed:
            return Stopped()
        if not slow:
            return Slow()
        if status == -signal.SIGKILL:  # not its fault: the disk is slow, or memory ran out
            return StorageUnavailable("Its reader waited too long or was killed.")
        if status == -signal.SIGPROF:
            limit = f"DECODE_SECONDS={self._seconds:g}"
            reason = f"takes more than {self._seconds:g} s of processor time (DECODE_SECONDS)"
            return Killed(reason, limit)
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Killed(f"ends its process ({ended})")

    def _take(self) -> "_Decoder":
        if self._is_closed:
            raise Stopped
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return _Decoder()

    def close(self) -> None:
        """Ends all processes; those that read an image end within `_LOOK_MS`."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().end()


@contextlib.contextmanager
def descriptor(file: BinaryIO) -> Iterator[int]:
    """Yields a descriptor of a file or, if it cannot be read twice, of a copy."""
    if file.seekable():
        yield file.fileno()
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.fileno()


class _Decoder:
    """A process, and the socket to it."""

    def __init__(self) -> None:
        environ = {**os.environ, **KEEPS_MEMORY}
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:  # in a group of its own: a terminal sends Ctrl-C to all processes of a group
                self._process = subprocess.Popen(
                    _COMMAND, stdin=theirs.fileno(), env=environ, process_group=0
                )
            except OSError as error:
                self._socket.close()
                reason = "No process can be started to read images (a limit of tasks?)"
                raise Overloaded(f"{reason}: {error.strerror}.") from error
        self._answers = self._socket.makefile("rb")
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def ask(
        self, files: Sequence[int], request: bytes, must_end: Callable[[float], bool]
    ) -> _Answer:
        """Sends a request and waits for the answer.

        Raises `EOFError` if the process ends, as it does if `must_end`, called four times a second
        with the seconds that have passed, returns True.
        """
        begun = time.monotonic()
        try:
            socket.send_fds(self._socket, [request], files)
            while not self._poll.poll(_LOOK_MS):
                if must_end(time.monotonic() - begun):
                    self._process.kill()
                    raise EOFError
            size, answer = orjson.loads(self._answers.readline())
            data = self._answers.read(size)
        except (ConnectionError, orjson.JSONDecodeError) as error:
            raise EOFError from error
        if len(data) < size:
            raise EOFError
        return answer, data

    def end(self) -> int:
        """Ends a process that is idle or was killed; returns its status, negative for a signal."""
        self._answers.close()
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()  # if it waits for a disk
        return self._process.returncode or -signal.SIGKILL
