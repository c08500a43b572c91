"""The rollup and the health report, kept up to date with what the looks into folders find."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from lenslet import health, manifest, paths, times
from lenslet.config import Settings
from lenslet.errors import NotFound
from lenslet.health import FolderHealth
from lenslet.jobs import Job, Kind, Queue
from lenslet.known import Memory
from lenslet.manifest import Item, Manifest, Problem
from lenslet.paths import ROOT, Path
from lenslet.rollup import Rollup
from lenslet.storage import Storage, Tree

COMPACT_SECONDS, COMPACT_SECONDS_LEAST = 300.0, 60.0
_COMPACT_SHARE = 20  # of the time, at most a twentieth goes to compacting
COMPACT_BACKLOG = 20_000  # so many changed items are compacted sooner
REPORT_SECONDS = 2.0
FAR = 4  # so many times longer where telling costs requests
_SOON, _FLUSH_SECONDS, _FLUSH_SECONDS_MOST = 0.5, 1.0, 3.0


class Books:
    """Puts its own jobs: flush soon after a change, compact now and then, report in between."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        cache: Tree,
        queue: Queue,
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of several index processes on a bucket, one keeps the rollup and the report.

        Each that has a share of the folders keeps its part of the report.
        """
        self._share = settings.shard
        self._keeps = settings.shard[0] == 1 and settings.scan_seconds > 0
        self._shared = settings.shard[1] > 1 or bool(settings.jobs_queue_url)
        self.dead: Callable[[], list[Problem]] = list  # jobs that ended with the dead letters
        self._storage = storage
        self._queue = queue
        self._memory = memory
        self._clock = clock
        self._rollup = Rollup(storage, cache)
        self._far = storage.state.remote
        self._stale = not self._rollup.built
        self._compacted, self._took = float("-inf"), 0.0
        self._passes: dict[str, dict[str, Any]] = {}
        self._reported: dict[str, Any] = {}
        self.complete = False  # every folder has been seen, so the rollup may be made anew

    def note(self, old: Manifest, items: list[Item], *, new: bool) -> None:
        """A folder's items are these now; with `new`, the rollup cannot know the folder."""
        if not self.complete:
            self._stale |= old.kept_ns >= self._rollup.written_ns
        self._rollup.note(old.path, [] if new else old.items, items)
        self._flush_later()

    def note_item(self, item: Item) -> None:
        """An item is this now, whether or not anybody has noted it before."""
        self._rollup.note_item(item)
        self._flush_later()

    def note_lost(self, path: Path) -> None:
        """An item is no more, whether or not anybody has noted it before."""
        self._rollup.note_lost(path)
        self._flush_later()

    def note_foreign(self, known: str | None, now: str) -> bool:
        """Whether a manifest is another than this process has kept, and search is to be told.

        Of a bucket's, the host that wrote it tells; should it have ended before, the rollup is made
        anew from the manifests.
        """
        foreign = known not in (None, now)
        if foreign and self._far:
            self._stale = True
            if self.complete and self._keeps:
                self._compact_later()
        return foreign and not self._far

    @property
    def unflushed(self) -> bool:
        """Whether search does not know yet of all that was noted here."""
        return self._rollup.built and self._rollup.unflushed

    def note_gone(self, path: Path) -> None:
        """A folder is gone, and all below it."""
        self._rollup.note_gone(path)
        self._flush_later()

    def _flush_later(self) -> None:
        if self._rollup.unflushed:
            # In a bucket a folder's parent tells of it before the rollup does.
            self._queue.put(Job(Kind.ROLLUP), _SOON * 2 * FAR if self._far else _SOON)
        elif self.complete and self._keeps and self._rollup.behind:
            self._compact_later()
        self._queue.put(Job(Kind.HEALTH), REPORT_SECONDS)

    def all_seen(self) -> None:
        """A walk has seen every folder."""
        self.complete = True
        if self.behind and self._keeps:
            self._compact_later()
        self._queue.put(Job(Kind.HEALTH), _SOON)

    @property
    def behind(self) -> bool:
        """Whether the rollup does not know everything yet."""
        return self._stale or self._rollup.behind

    def check(self) -> None:
        """Make what is gone of the two files again, and take over what another process wrote."""
        if not self.complete:
            return
        if self._rollup.is_there():
            self._rollup.catch_up(self._items)
            self._flush_later()
        elif self._keeps:
            self._queue.put(Job(Kind.COMPACT), _SOON)

    def flush(self, job: Job) -> None:
        """Make what was noted visible to search."""
        begun = self._clock()
        self._rollup.catch_up(self._items)
        if self._rollup.unflushed:
            self._rollup.flush()
        if self.complete and self._keeps and self._rollup.behind:
            self._compact_later()
        if self._rollup.unflushed:
            wait = 10 * (self._clock() - begun)
            wait = min(max(wait, _FLUSH_SECONDS), _FLUSH_SECONDS_MOST)
            self._queue.put(job, wait * (FAR if self._far else 1))
        elif self._shared and self._keeps:
            self._queue.put(job, COMPACT_SECONDS_LEAST)  # the others' changes are compacted here

    def _compact_later(self) -> None:
        many = self._rollup.backlog > COMPACT_BACKLOG or (self._far and self._stale)
        least = max(COMPACT_SECONDS_LEAST, _COMPACT_SHARE * self._took)
        apart = least if many else max(least, COMPACT_SECONDS)
        wait = self._compacted + apart - self._clock()
        self._queue.put(Job(Kind.COMPACT), max(_SOON, wait))

    def compact(self, job: Job) -> None:
        """Make the rollup anew from all manifests, once every folder has been seen."""
        if not self.complete and not (self._storage.state.remote and self._rollup.built):
            self._stale = True
            return
        begun = self._compacted = self._clock()  # what is noted from now on waits for the next
        count = self._rollup.compact(self._manifests)
        self._compacted, self._stale = self._clock(), False
        self._took = self._compacted - begun
        self.passed("rollup", begun, items=count)
        self._queue.put(Job(Kind.HEALTH), _SOON)

    def _manifests(self) -> Iterator[tuple[Path, list[Item]]]:
        """The items of all folders, in order: of those that are known or, in a bucket, where other
        hosts have found some that are not known here, of those that the manifests tell of.
        """
        if not self._storage.state.remote:
            known = [path for path, _ in self._memory.all()]
            yield from ((path, self._items(path)) for path in sorted(known, key=paths.folder_key))
            return
        waiting = [ROOT]
        while waiting:
            folder = waiting.pop()
            found = manifest.load(self._storage, folder)
            if (found is None and not folder) or (found and not found.generated_at):
                raise NotFound(f"There is no whole manifest of {folder or '/'}.")
            if found:
                yield folder, found.items
                shown = {entry["name"] for entry in found.dirs}
                if record := self._memory.get(folder):
                    shown |= {name for name, entry in dict(record.told).items() if entry}
                names = sorted(shown, key=paths.natural_key, reverse=True)
                waiting += [folder.child(name) for name in names]

    def _items(self, folder: Path) -> list[Item]:
        """The items of a folder's manifest; one that is not there may be a disk that goes away."""
        found, known = manifest.load(self._storage, folder), self._memory.get(folder)
        if found is None and not (known and known.place):
            return []  # it could never be looked into
        if found is None or not found.generated_at:
            self._queue.put(Job(Kind.LOOK, folder))
            raise NotFound(f"There is no manifest of {folder or '/'}.")
        return found.items

    def passed(self, name: str, begun: float, **more: int) -> None:
        """A pass has ended; health tells when, and how many seconds it took."""
        seconds = round(self._clock() - begun, 3)
        self._passes[name] = {"at": times.text(times.now()), "seconds": seconds, **more}

    def report(self, job: Job) -> None:
        """Keep the health report, unless it says what it said before."""
        if not (self._keeps or self._share[1] > 1):
            return
        found = self.health()
        telling = {**found, "passes": {k: v for k, v in self._passes.items() if k != "scan"}}
        if telling != self._reported or health.load(self._storage) is None:
            health.keep(self._storage, found, self._share)
            self._reported = telling

    def health(self) -> dict[str, Any]:
        """The library's health as of now."""
        folders = sorted(self._memory.all(), key=lambda entry: paths.folder_key(entry[0]))
        shares = [known.health for _, known in folders]
        dead = FolderHealth.of([], self.dead())
        dead.counts["folders"] = 0
        return health.report([*shares, dead], dict(self._passes))
