"""Which of several hosts reads the new images of a folder. The folder's manifest says so."""

import enum
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from blake3 import blake3

from lenslet import times
from lenslet.index.queue import Job

CLAIM_SECONDS = 120.0  # a host that has not written the manifest for so long does not read it
_MANY_IMAGES = 25  # a folder with more new images may be indexed by any host


class Reader(enum.Enum):
    """Which host reads the new images of a folder: this one, any, or another one already."""

    HERE, ANYWHERE, ELSEWHERE = range(3)


class Claim(NamedTuple):
    """Which host reads, and what the manifest says of it: `{"host": …, "at": …}`, or nothing.

    The manifest is written only over the one that was read, so of several hosts one has a claim.
    `at_once`: it is written although nothing else has changed.
    """

    reader: Reader
    note: Mapping[str, str] = {}
    at_once: bool = False


class Host:
    """An index process, as other hosts know it.

    `share` sends a job to any host; None if there is only this one.
    """

    def __init__(self) -> None:
        machine = blake3(socket.gethostname().encode()).hexdigest()[:12]
        self.name = f"{machine}-{os.getpid()}-{secrets.token_hex(4)}"
        self.share: Callable[[Job], None] | None = None

    def claim(self, before: dict[str, str], new: int, *, is_busy: bool, force: bool) -> Claim:
        """Decides who reads the unread images of a folder; `new` of them are read by nobody yet.

        `before` is what the manifest says. `is_busy`: this host works at the folder already, or
        somebody waits for it. `force` takes the work from another host.
        """
        if not self.share:
            return Claim(Reader.HERE)
        if self._leaves(before) and not force:
            return Claim(Reader.ELSEWHERE, before)
        is_large = new > _MANY_IMAGES
        if is_large and not is_busy:
            return Claim(Reader.ANYWHERE)
        note = {"host": self.name, "at": times.text(times.now())}
        return Claim(Reader.HERE, note, at_once=is_large and before.get("host") != self.name)

    def _leaves(self, note: dict[str, str]) -> bool:
        """True if another host, which is not known to have died, reads the images."""
        if not note or note["host"] == self.name:
            return False
        age = (times.now() - times.parse(note["at"])).total_seconds()
        return abs(age) < CLAIM_SECONDS and not self._has_died(note["host"])

    def _has_died(self, name: str) -> bool:
        """True if it was a process of this machine that has ended."""
        machine, _, process = name.partition("-")
        pid = process.partition("-")[0]
        here, _, own = self.name.partition("-")
        if machine != here or not pid.isdecimal():
            return False
        return pid == own.partition("-")[0] or not os.path.exists(f"/proc/{pid}")
