"""Which of several hosts reads the new images of a folder. The folder's manifest says so."""

import os
import secrets
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from blake3 import blake3

from lenslet import times
from lenslet.index.compare import Plan
from lenslet.index.folders import Claim, Host, Task
from lenslet.index.messages import Look
from lenslet.paths import Path

CLAIM_SECONDS = 120.0  # a host that has not written the manifest for so long does not read it
_MANY_IMAGES = 25  # a folder with more new images may be indexed by any host


class BucketHost(Host):
    """An index process with a bucket, as other hosts know it.

    `share` sends a request to any host, and says whether that was possible. The manifest of a
    folder says who reads its images: `{"host": …, "at": …}`. It is written only over the one that
    was read, so of several hosts one has a claim.
    """

    def __init__(self, share: Callable[[Look], bool]) -> None:
        machine = blake3(socket.gethostname().encode()).hexdigest()[:12]
        self.name = f"{machine}-{os.getpid()}-{secrets.token_hex(4)}"
        self._share = share
        self._lock = threading.Lock()
        self._held = defaultdict[Path, list[Callable[[], None]]](list)

    def claim(self, task: Task, plan: Plan, new: int) -> Claim:
        """Decides who reads the `new` images of a folder. `anew` takes them from another host.

        The manifest says so at once if they are many: other hosts then leave them.
        """
        note = plan.stored.reader
        if self._leaves(note) and not task.anew:
            plan.manifest.reader = note
            return Claim(reads=False, again=CLAIM_SECONDS)
        is_large = new > _MANY_IMAGES
        may_share = is_large and not task.busy and task.path not in self._held
        if may_share and self._share(Look(task.path, anew=task.anew)):
            return Claim(reads=False)
        plan.manifest.reader = {"host": self.name, "at": times.text(times.now())}
        plan.changed |= is_large and note.get("host") != self.name
        return Claim()

    def hold(self, path: Path, ended: Callable[[], None]) -> None:
        """Calls a function when the work at a folder or an image has ended."""
        with self._lock:
            self._held[path].append(ended)

    def ended(self, path: Path) -> None:
        """Calls the functions of all who hold it, also if one has just begun to."""
        with self._lock:
            held = self._held.pop(path, ())
        for ended in held:
            ended()

    def _leaves(self, note: Mapping[str, str]) -> bool:
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
