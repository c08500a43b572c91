"""What the index process writes about the whole library: the rollup, its delta, the report."""

from typing import Any

from lenslet import times
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.records import Records
from lenslet.library import Library, health, manifest
from lenslet.library.manifest import is_later
from lenslet.paths import Path, folder_key
from lenslet.search.rollup import Rollup
from lenslet.times import Clock

COMPACT_SECONDS, COMPACT_SECONDS_LEAST = 300.0, 60.0
COMPACT_ITEMS = 20_000  # with more changed items the rollup is written sooner
_COMPACT_SHARE = 20  # writing the rollup takes at most a twentieth of the time


class Summary:
    """Keeps search and the health report up to date with the records of the folders.

    Of the hosts that share a bucket, only the one that scans is the leader, which writes the rollup
    and the report. Every host names the folders that it has indexed in the delta.
    """

    def __init__(self, library: Library, queue: Queue, records: Records, clock: Clock) -> None:
        self._tree = library.tree
        self._queue = queue
        self._records = records
        self._clock = clock
        self._leads = library.settings.scan_seconds > 0
        self._rollup = Rollup(library.tree, library.cache)
        self._compacted = clock(), 0.0  # when, and how long it took
        self._passes: dict[str, dict[str, Any]] = {}
        self._reported: tuple[Any, Any] = None, None  # the records' version, and what was said

    def write(self, job: Job) -> None:
        """Writes what has changed. `force` writes the rollup anew."""
        self._tree.check()
        self._flush()
        if not self._leads:
            return
        if self._records.complete:
            if job.force or self._is_due():
                self._compact()
            self._report()
        if self._rollup.delta:
            self._queue.put(Job(Kind.SUMMARY), COMPACT_SECONDS_LEAST)

    def _flush(self) -> None:
        """Names the folders in the delta that are not in the rollup as they are now."""
        rollup, complete = self._rollup, self._records.complete
        rollup.refresh()
        if self._leads and not (complete or rollup.exists):
            return  # the first rollup will have everything
        now = {path: each.generation for path, each in self._records.all() if each.generation}
        changed = dict.fromkeys(self._records.take_gone(), "")
        if self._leads and complete:
            changed |= dict.fromkeys(rollup.generations.keys() - now.keys(), "") | now
            for path in rollup.delta.keys() - changed.keys():
                self._queue.put(Job(Kind.FOLDER, path))  # another host has found it
        else:  # another host may have written later manifests than this one remembers
            in_rollup = rollup.generations
            changed |= {p: g for p, g in now.items() if is_later(g, in_rollup.get(p, ""))}
        rollup.flush(changed)

    def _is_due(self) -> bool:
        if not self._rollup.exists:
            return True
        records = map(self._records.get, self._rollup.delta)
        items = sum(record.health.counts["items"] for record in records)
        apart = COMPACT_SECONDS_LEAST if items > COMPACT_ITEMS else COMPACT_SECONDS
        when, took = self._compacted
        apart = max(apart, _COMPACT_SHARE * took)
        return bool(self._rollup.delta) and self._clock() - when >= apart

    def _compact(self) -> None:
        begun = self._clock()
        folders = [path for path, record in self._records.all() if record.generation]
        count = self._rollup.compact(folders, self._load)
        self._compacted = self._clock(), self._clock() - begun
        self.passed("rollup", begun, items=count)
        self._flush()

    def _load(self, folder: Path) -> manifest.Manifest:
        found = manifest.load(self._tree, folder)
        if not found.generated_at:
            self._queue.put(Job(Kind.FOLDER, folder))
        return found

    def finish(self) -> None:
        """Writes everything now, and the rollup if it is out of date."""
        self.write(Job(Kind.SUMMARY))
        if self._rollup.delta:
            self.write(Job(Kind.SUMMARY, force=True))

    def passed(self, name: str, begun: float, **more: int) -> None:
        """Notes that a pass has ended; the report says when, and how many seconds it took."""
        seconds = round(self._clock() - begun, 3)
        self._passes[name] = {"at": times.text(times.now()), "seconds": seconds, **more}

    def _report(self) -> None:
        """Writes the report, unless it says what it said before."""
        passes = {name: each for name, each in self._passes.items() if name != "scan"}
        version, reported = self._reported
        missing = health.load(self._tree) is None
        if (self._records.version, passes) == version and not missing:
            return
        found = self.report()
        news = {**found, "passes": passes}
        if news != reported or missing:
            health.write(self._tree, found)
        self._reported = (self._records.version, passes), news

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        records = sorted(self._records.all(), key=lambda entry: folder_key(entry[0]))
        return health.report((record.health for _, record in records), self._passes)
