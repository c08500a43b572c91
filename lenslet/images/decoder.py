"""The process that decodes: reads one image after another, within limits of the kernel.

Whatever a file does to its decoder, it does to this process alone. `decoders` starts it and sends
requests over the socket on standard input: an open file, and a JSON object on how to read it.
"""

import contextlib
import ctypes
import io
import os
import resource
import select
import signal
import socket
import sys
import warnings
from dataclasses import replace
from typing import Any, BinaryIO

PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAD_BYTES = 8  # of an answer: the length of its JSON, and of the thumbnail that follows
_IN_MEMORY_BYTES = 32 * 1024 * 1024  # a larger file is not held in memory
# How much decoding may take, for each pixel and each byte of the file, and for Python.
_BYTES_PER_PIXEL, _BYTES_PER_BYTE, _BYTES_OF_PROCESS = 16, 3, 40_000_000
_REST_SECONDS = 5.0
# Left alone, glibc gives an image's buffers back to the kernel and takes them again for the next
# one. Measured: a WebP of 1 megapixel then takes 22 ms of CPU time instead of 14.
_libc = ctypes.CDLL(None)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 64 << 20
_LARGEST_BYTES = 32 << 20  # the most that glibc allows


def keep_memory() -> None:
    """Has the C library keep freed memory for the next image."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
        _libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def read(file: BinaryIO, *, hashed: bool, memory: int, **how: Any) -> tuple[dict[str, Any], bytes]:
    """Returns what an image showed, with its `facts`, and its thumbnail.

    It `needs_more` if it may do better with more than `memory` bytes or, if it must be read
    `quickly`, if its header says that it takes long. The hash is only made if `hashed`. Errors of
    reading the file are raised.
    """
    from blake3 import blake3

    from lenslet.images import NEEDS_MEMORY, Facts, pixels

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    fits = size <= min(_IN_MEMORY_BYTES, memory // 8)
    source: BinaryIO = io.BytesIO(file.read()) if fits else file
    hasher = blake3()
    for chunk in pixels.chunks(source) if hashed else ():
        hasher.update(chunk)
    digest = f"blake3:{hasher.hexdigest()}" if hashed else None
    try:
        facts, data = pixels.render(source, memory=memory, **how)
    except pixels.TakesLong:
        return {"facts": Facts(), "needs_more": True}, b""
    most = facts.width * facts.height * _BYTES_PER_PIXEL + size * _BYTES_PER_BYTE
    refused = (facts.error or "").startswith(NEEDS_MEMORY)
    failed = bool(facts.error or facts.warning) and "MAX_PIXELS" not in (facts.error or "")
    needs_more = refused or (failed and most + _BYTES_OF_PROCESS > memory)
    return {"facts": replace(facts, hash=digest), "needs_more": needs_more}, data


def main() -> int:
    """Answers requests until the other end of the socket is closed."""
    import orjson

    from lenslet.images import pixels

    warnings.simplefilter("ignore")
    keep_memory()
    # If the machine runs out of memory, this process should be the one to end.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as parent:
        while True:
            rests = not select.select([parent], [], [], _REST_SECONDS)[0]
            if rests and hasattr(_libc, "malloc_trim"):
                _libc.malloc_trim(0)
            request, files, _, _ = socket.recv_fds(parent, 4096, 1)
            if not files:
                break
            how = orjson.loads(request)
            # The processor time after which the kernel ends this process.
            signal.setitimer(signal.ITIMER_PROF, how.pop("seconds"))
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            memory = how["memory"] if hard == resource.RLIM_INFINITY else min(how["memory"], hard)
            resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
            try:
                with open(files[0], "rb") as file:
                    if how.pop("details", False):
                        answer, data = pixels.details(file), b""
                    else:
                        answer, data = read(file, **how)
            except OSError as error:
                answer, data = {"failed": str(error)}, b""
            text = orjson.dumps(answer)
            lengths = (len(text).to_bytes(4, "big"), len(data).to_bytes(4, "big"))
            signal.setitimer(signal.ITIMER_PROF, 0)
            parent.sendall(b"".join((*lengths, text, data)))
    return 0


if __name__ == "__main__":
    sys.path.append(PACKAGES)
    raise SystemExit(main())
