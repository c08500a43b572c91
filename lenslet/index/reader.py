"""Which of several hosts reads the new images of a folder. The folder's manifest says so."""

import os
import secrets
import socket
from collections.abc import Callable

from blake3 import blake3

from lenslet import times
from lenslet.index.queue import Job

READER_SECONDS = 120.0  # a host that has not written the manifest for so long does not read it


class Host:
    """An index process, as other hosts know it.

    `share` sends a job to any host; None if there is only this one.
    """

    def __init__(self) -> None:
        machine = blake3(socket.gethostname().encode()).hexdigest()[:12]
        self.name = f"{machine}-{os.getpid()}-{secrets.token_hex(4)}"
        self.share: Callable[[Job], None] | None = None

    def claim(self) -> dict[str, str]:
        """Returns what a manifest says while this host reads its images."""
        return {"host": self.name, "at": times.text(times.now())}

    def leaves(self, reader: dict[str, str]) -> bool:
        """True if another host, which is not known to have died, reads the images."""
        if not reader or reader["host"] == self.name:
            return False
        age = (times.now() - times.parse(reader["at"])).total_seconds()
        return abs(age) < READER_SECONDS and not self._has_died(reader["host"])

    def _has_died(self, name: str) -> bool:
        """True if it was a process of this machine that has ended."""
        machine, _, process = name.partition("-")
        pid = process.partition("-")[0]
        here, _, own = self.name.partition("-")
        if machine != here or not pid.isdecimal():
            return False
        return pid == own.partition("-")[0] or not os.path.exists(f"/proc/{pid}")
