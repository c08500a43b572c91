"""The process that decodes: reads one image after another, within limits of the kernel.

Whatever a file does to its decoder, it does to this process alone. `decoders` starts it and sends
requests over the socket on standard input: an open file, its companions, and a JSON object on how
to read them. An answer is a line of JSON, `[size, answer]`, and then a thumbnail of that size in
bytes.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import sys
from dataclasses import replace
from typing import Any, BinaryIO

import orjson

sys.path.append(os.path.abspath(f"{__file__}/../../.."))  # it is started by its path
from lenslet.bounds import DOCUMENT_BYTES
from lenslet.images import MOST_FILES, NEEDS_MEMORY, Facts, hash_of, pixels

# How much decoding may take, for each pixel and each byte of the file, and for Python.
_BYTES_PER_PIXEL, _BYTES_PER_BYTE, _BYTES_OF_PROCESS = 16, 3, 40_000_000
_REST_SECONDS = 5.0  # after which an idle process gives memory back


def read(file: BinaryIO, *, memory: int, **how: Any) -> tuple[dict[str, Any], bytes]:
    """Returns an image's `facts` and its thumbnail, or that it is `slow`.

    An image is slow if it may need more than `memory` bytes. If it must be read `quickly`, it is
    also slow if its header says that it takes long. Raises errors of reading the file.
    """
    file.seek(0)  # it may have been read before
    digest = hash_of(file)
    try:
        facts, data = pixels.render(file, memory=memory, **how)
    except pixels.TakesLong:
        return {"facts": Facts(), "slow": True}, b""
    size = os.fstat(file.fileno()).st_size
    most = facts.width * facts.height * _BYTES_PER_PIXEL + size * _BYTES_PER_BYTE
    wrong = facts.error or facts.warning or ""
    refused = wrong.startswith(NEEDS_MEMORY)
    slow = refused or bool(wrong and not facts.limit and most + _BYTES_OF_PROCESS > memory)
    if slow and facts.error and not refused:
        facts = replace(facts, error=f"{facts.error}; or {NEEDS_MEMORY}")
    return {"facts": replace(facts, hash=digest), "slow": slow}, data


def main() -> None:
    """Answers requests until the other end of the socket is closed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc has it
    # If the machine runs out of memory, this process should be the one to end.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as parent:
        while True:
            if not select.select([parent], [], [], _REST_SECONDS)[0]:
                trim(0)
            request, files, _, _ = socket.recv_fds(parent, 4096, MOST_FILES)
            if not files:
                break
            how = orjson.loads(request)
            # The processor time after which the kernel ends this process.
            signal.setitimer(signal.ITIMER_PROF, how.pop("seconds"))
            memory = how["memory"] if hard == resource.RLIM_INFINITY else min(how["memory"], hard)
            resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
            try:
                with contextlib.ExitStack() as stack:
                    file, *others = [stack.enter_context(open(each, "rb")) for each in files]
                    if how.pop("details", False):
                        answer, data = pixels.details(file), b""
                    else:
                        for each in others:
                            each.seek(0)
                        texts = [each.read(DOCUMENT_BYTES) for each in others]
                        names = how.pop("companions", ())
                        how["companions"] = list(zip(names, texts, strict=True))
                        answer, data = read(file, **how)
            except OSError as error:
                answer, data = {"failed": str(error)}, b""
            parent.sendall(orjson.dumps((len(data), answer)) + b"\n" + data)


if __name__ == "__main__":
    main()
