"""Starts the processes that decode, and limits the memory and time of each image."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, BinaryIO

import orjson

from lenslet.errors import Overloaded, StorageUnavailable
from lenslet.images import NEEDS_MEMORY, Facts, decoder

_LARGE_SHARE = 0.75  # of the memory is for one slow image, the rest for all others together
_QUICKLY = 1 / 8  # of the seconds that an image may take at its first try
_TURN_SECONDS = 0.4  # of processor time, after which an image gives way to what somebody waits for
_LOOK_SECONDS = 0.25
_DETAILS_SECONDS = 0.5
_PATIENCE, _PATIENCE_LEAST = 4, 10.0  # the wall time of an image: a multiple of its time, and more
_ANSWER_BYTES, _HEAD = 256 << 10, decoder.HEAD_BYTES
_EXIT_SECONDS, _END_SECONDS = 0.2, 5.0


class Slow(Exception):
    """The image must be tried as a slow one."""


class Killed(Exception):
    """Reading the image ends its process; the message says how, `limit` by which setting."""

    def __init__(self, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class Stopped(Exception):
    """The decoders have been closed."""


class Decoders:
    """Processes that read images: at most `count`, and one more for a slow image.

    All together may take `memory` bytes, and each image `seconds` of processor time. An image that
    fails in its share of the memory, that takes an eighth of the time, or that ends its process, is
    to be tried again as a slow one. While `somebody_waits` for other work, so is one that takes
    a fraction of a second, or whose header says that it will. So it never keeps the others waiting.
    """

    def __init__(self, count: int, memory: int, seconds: float) -> None:
        self._count, self._slots = count, threading.BoundedSemaphore(count)
        self._limit = f"INDEX_MEMORY={memory}"
        self._memory = int(memory * (1 - _LARGE_SHARE) / count), int(memory * _LARGE_SHARE)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._is_closed = False
        self.somebody_waits: Callable[[], bool] = lambda: False

    def start(self) -> None:
        """Starts the processes: each takes 0.1 s, and the first images need not wait for them."""
        with contextlib.suppress(OSError):  # tried again with each image
            for _ in range(self._count):
                self._idle.append(_Decoder())

    def read(self, file: int, *, slow: bool, **how: Any) -> tuple[Facts, bytes]:
        """Returns an image's facts and its thumbnail.

        `file` is a descriptor; `how` are the parameters of `decoder.read`. Only one thread at a
        time may read a `slow` image. Raises `Slow`, or `Killed` for a slow image;
        `StorageUnavailable` if the file cannot be read now; `Stopped`.
        """
        seconds = self._seconds * (1 if slow else _QUICKLY)
        quickly = not slow and self.somebody_waits()
        answer, data = self._ask(file, slow, seconds, how | {"quickly": quickly})
        needs_more = answer["needs_more"]
        if needs_more and not slow:
            raise Slow
        facts = Facts(**answer["facts"])
        if needs_more and facts.error:
            is_sure = facts.error.startswith(NEEDS_MEMORY)
            error = facts.error if is_sure else f"{facts.error}; or {NEEDS_MEMORY}"
            facts = replace(facts, error=error, limit=self._limit)
        return facts, data

    def details(self, file: int) -> dict[str, Any]:
        """Returns what `pixels.details` finds in a file; nothing if that takes too much."""
        try:
            return self._ask(file, False, _DETAILS_SECONDS, {"details": True})[0]
        except Slow:
            return {}

    def _ask(
        self, file: int, slow: bool, seconds: float, how: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        how |= {"memory": self._memory[slow], "seconds": seconds}
        with nullcontext() if slow else self._slots:
            process = self._take()
            begun, used = time.monotonic(), process.seconds

            def must_end() -> bool:
                waited, works = time.monotonic() - begun, process.seconds - used
                if waited > _PATIENCE_LEAST + _PATIENCE * seconds:
                    return True
                long = works > _TURN_SECONDS or waited > _PATIENCE * _TURN_SECONDS
                return not slow and long and self.somebody_waits()

            try:
                answer, data = process.ask(file, orjson.dumps(how), must_end)
            except (EOFError, TimeoutError) as error:
                if isinstance(error, TimeoutError):
                    process.kill()
                raise self._reason(self._end(process), slow=slow) from error
            self._put_back(process)
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
        with self._lock:
            if self._is_closed:
                raise Stopped
            try:
                process = self._idle.pop() if self._idle else _Decoder()
            except OSError as error:
                reason = "No process can be started to read images (a limit of tasks?)"
                raise Overloaded(f"{reason}: {error.strerror}.") from error
            self._busy.add(process)
            return process

    def _put_back(self, process: "_Decoder") -> None:
        with self._lock:
            if not self._is_closed:
                self._busy.discard(process)
                self._idle.append(process)
                return
        self._end(process)

    def _end(self, process: "_Decoder") -> int:
        with self._lock:
            self._busy.discard(process)
        return process.end()

    def close(self) -> None:
        """Ends all processes, also in the middle of an image."""
        with self._lock:
            self._is_closed = True
            for process in (*self._busy, *self._idle):
                process.kill()  # the thread that waits for an answer ends it
            while self._idle:
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
    """One process, and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        # -I, so that no module in the working directory, which may be served, is imported. A
        # process group of its own, because a terminal sends Ctrl-C to all of a group.
        command = [sys.executable, "-I", os.path.abspath(decoder.__file__)]
        try:
            with theirs:
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), process_group=0)
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(_LOOK_SECONDS)

    def ask(
        self, file: int, request: bytes, must_end: Callable[[], bool]
    ) -> tuple[dict[str, Any], bytes]:
        """Sends a request and waits for the answer. Calls `must_end` four times a second.

        `EOFError` if the process has ended, `TimeoutError` if `must_end` returns True: the process
        takes long, waits for a disk, or other programs take its processor.
        """
        data, size, first = b"", _HEAD, 0
        try:
            socket.send_fds(self._socket, [request], [file])
            while len(data) < size:
                try:
                    part = self._socket.recv(_ANSWER_BYTES)
                except TimeoutError:
                    if must_end():
                        raise
                    continue
                if not part:
                    raise EOFError
                data += part
                if len(data) >= _HEAD:
                    first, second = (
                        int.from_bytes(each, "big") for each in (data[:4], data[4:_HEAD])
                    )
                    size = _HEAD + first + second
        except ConnectionError as error:
            raise EOFError from error
        return orjson.loads(data[_HEAD : _HEAD + first]), data[_HEAD + first :]

    @property
    def seconds(self) -> float:
        """How much processor time it has taken."""
        clock = ~self._process.pid << 3 | 2  # see clock_getcpuclockid(3)
        with contextlib.suppress(OSError):  # it has ended
            return time.clock_gettime(clock)
        return 0.0

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Ends the process, if it has not ended; returns its status, negative for a signal."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)  # if it is about to say how it ended
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk
            self._process.wait(_END_SECONDS)
        self._socket.close()
        return self._process.returncode or -signal.SIGKILL
