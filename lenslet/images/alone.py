"""Reads one suspect image in a process of its own, to learn whether it kills its reader."""

import os
import signal
import subprocess
import sys
import warnings
from typing import BinaryIO

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = 40  # then the image counts as one that is never finished


def ends_its_process(file: BinaryIO, *, long_edge: int, quality: int, max_pixels: int) -> str:
    """Says in words how a process that reads the image dies; empty if it does not.

    A process killed from outside proves nothing about the image that it was reading. If a process
    that only reads this image dies, the image is the likely cause.
    """
    # -I, so that no module in the working directory, which may be served, is imported.
    command = [sys.executable, "-I", os.path.abspath(__file__)]
    numbers = map(str, (long_edge, quality, max_pixels))
    ended = subprocess.run([*command, *numbers], stdin=file, check=False)
    if ended.returncode >= 0:
        return ""
    if ended.returncode == -signal.SIGALRM:
        return f"takes more than {SECONDS} s"
    return f"ends its process ({signal.Signals(-ended.returncode).name})"


def main(arguments: list[str]) -> int:
    """Reads the image on standard input."""
    signal.alarm(SECONDS)
    warnings.simplefilter("ignore")
    sys.path.append(_PACKAGES)
    from lenslet.images import render

    long_edge, quality, max_pixels = map(int, arguments)
    render(sys.stdin.buffer, long_edge=long_edge, quality=quality, max_pixels=max_pixels)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
