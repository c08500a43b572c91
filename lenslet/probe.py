"""One image read in a process of its own, to learn whether that is what ends processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path as FilePath
from typing import BinaryIO

from lenslet import images
from lenslet.config import Settings
from lenslet.errors import UnreadableImage

SECONDS = 40  # after which an image counts as one that never returns


def ends_its_process(file: BinaryIO, settings: Settings) -> str:
    """How a process ends that reads the image, in words; nothing when it lives.

    A process that is killed from outside proves nothing about what it was reading. One that was
    started for this image alone, and dies while the one that waits for it lives, does.
    """
    numbers = (settings.thumb_long_edge, settings.thumb_quality, settings.max_pixels)
    command = [sys.executable, "-m", "lenslet.probe", *map(str, numbers)]
    environ = {**os.environ, "PYTHONPATH": str(FilePath(__file__).parent.parent)}
    ended = subprocess.run(command, stdin=file, env=environ, check=False)
    if ended.returncode >= 0:
        return ""
    if ended.returncode == -signal.SIGALRM:
        return f"takes over {SECONDS} s"
    return f"ends its process ({signal.Signals(-ended.returncode).name})"


def main(arguments: list[str]) -> int:
    """Read the image on standard input; 1 when it cannot be decoded."""
    signal.alarm(SECONDS)
    warnings.simplefilter("ignore")
    long_edge, quality, max_pixels = map(int, arguments)
    try:
        images.render(sys.stdin.buffer, long_edge=long_edge, quality=quality, max_pixels=max_pixels)
    except UnreadableImage:
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
