"""Which of several hosts reads the new images of a folder. The folder's manifest says so."""

import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from blake3 import blake3

from lenslet import times
from lenslet.config import Settings
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

    def __init__(self, settings: Settings, share: Callable[[Look], bool]) -> None:
        name = f"{socket.gethostname()} {settings.cache_dir}"  # stays when it is started again
        self.name = blake3(os.fsencode(name)).hexdigest()[:16]
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
        """True if another host reads the images, and has written the manifest lately."""
        if not note or note["host"] == self.name:
            return False
        age = (times.now() - times.parse(note["at"])).total_seconds()
        return abs(age) < CLAIM_SECONDS
