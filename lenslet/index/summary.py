"""Keeps search and the health report up to date with the records of the folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from lenslet import times
from lenslet.errors import LensletError, one_line
from lenslet.index.moves import Moves
from lenslet.index.record import Records
from lenslet.library import Library, health, manifest
from lenslet.paths import Path, folder_key
from lenslet.search.writer import Rollup
from lenslet.times import Clock

log = logging.getLogger("lenslet")

COMPACT_SECONDS = 300.0  # at least, between two rollups
_REST = 10  # times what a rollup took that failed, until it is tried again
_MOVES_SECONDS = 1.0  # between two steps of moving sidecars


class Known(NamedTuple):
    """What the loop knows of the library, as it is when a summary is made.

    `gone` are folders that search must learn are gone; `text` counts the bytes of changed items.
    `leads`: this host scans, and has looked at every folder. `passes` say when each pass ended, and
    how long it took.
    """

    records: Records
    gone: frozenset[Path] = frozenset()
    text: int = 0
    leads: bool = False
    passes: Mapping[str, Mapping[str, Any]] = {}


@dataclass(slots=True)
class Summarized:
    """What a summary asks for.

    `looks` are the folders to look at, `look_all`: all of them. `again` is in how many seconds the
    next summary is due. `named` are the gone folders that search has learned of. `waits`: a sidecar
    is about to be moved. `problem` says what could not be written.
    """

    looks: set[Path] = field(default_factory=set)
    look_all: bool = False
    again: float | None = None
    named: frozenset[Path] = frozenset()
    waits: bool = False
    problem: str = ""


class Summary:
    """Updates, in this order, the delta, the rollup, sidecars without their photo and the report.

    Of the hosts that share a bucket, the one that leads writes the rollup and the report. Every
    host adds the folders that it has indexed to the delta. Used by one thread at a time.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._tree = library.tree
        self._clock = clock
        self._scans = library.settings.scan_seconds > 0
        self._rollup = Rollup(library.tree, library.cache)
        self._moves = Moves(library, clock)
        self._named: dict[Path, str] = {}  # generations that this host has named in the delta
        self._text = 0  # of `Known`, that the rollup knows
        self._compacted = clock()  # when the rollup was written last
        self._rebuild = False
        # Until when a rollup rests that could not be written, and why it could not.
        self._failed: tuple[float, str] | None = None
        self._passes: dict[str, Mapping[str, Any]] = {}
        self._written: tuple[Any, ...] | None = None  # what the last report was made of

    def write(self, known: Known, rebuild: bool, at_once: bool) -> Summarized:
        """Writes what has changed.

        `rebuild`: the rollup too, in any case; `at_once`: if it is out of date, however little.
        """
        if rebuild:
            self._rebuild, self._failed = True, None
        done, problems = Summarized(), []
        for part in (partial(self._search, at_once=at_once), self._care):
            try:  # whatever is in the way of search
                self._tree.check()
                part(known, done)
            except LensletError as error:
                problems.append(one_line(error))
            except Exception as error:  # the outermost frame: the next summary may end well
                log.exception("a summary failed")
                problems.append(f"an error in Lenslet: {type(error).__name__}")
        done.problem = "; ".join(dict.fromkeys(problems))
        return done

    # Search

    def _search(self, known: Known, done: Summarized, *, at_once: bool) -> None:
        """Updates the delta and, if that is due, the rollup."""
        rollup = self._rollup
        rollup.refresh()
        if self._scans and not (known.leads or rollup.exists):
            return  # the first rollup will have everything
        self._name_changes(known, done)
        if known.leads and self._is_due(at_once):
            self._compact(known, done)
            self._name_changes(known, done)
        if known.leads and rollup.delta:
            done.again = COMPACT_SECONDS

    def _name_changes(self, known: Known, done: Summarized) -> None:
        """Names in the delta the folders whose manifest is not the one in the rollup."""
        rollup = self._rollup
        now = {path: each.generation for path, each in known.records.items() if each.generation}
        delta = rollup.delta
        listed = {**rollup.generations, **delta} if known.leads else self._named
        changed = {path: each for path, each in now.items() if each != listed.get(path)}
        changed |= dict.fromkeys(known.gone - now.keys(), "")
        if known.leads:  # what is not among the records is not there
            changed |= dict.fromkeys(rollup.generations.keys() - now.keys(), "")
            # Another host has found these, or they are not served since this process has started.
            others = {path for path, each in delta.items() if each} - now.keys() - changed.keys()
            looked = {path for path, record in known.records.items() if record.is_known}
            changed |= dict.fromkeys(others & looked, "")
            done.looks |= others
        rollup.name(changed, known.text - self._text)
        self._text = known.text
        self._named |= changed
        done.named = known.gone

    def _is_due(self, at_once: bool) -> bool:
        """True if the rollup is due; while it rests after a failure, raises the reason of that."""
        rollup = self._rollup
        if self._failed and self._clock() < self._failed[0] and not at_once:
            raise LensletError(self._failed[1])
        has_rested = self._clock() - self._compacted >= COMPACT_SECONDS
        is_wanted = at_once and bool(rollup.delta)
        is_missing = self._rebuild or rollup.is_old or not rollup.exists
        return is_missing or is_wanted or (has_rested and rollup.is_due)

    def _compact(self, known: Known, done: Summarized) -> None:
        """Writes the rollup. A folder whose manifest is missing is looked at."""
        began = self._clock()

        def load(folder: Path) -> manifest.Manifest:
            found = manifest.load(self._tree, folder)
            if not found.generated_at:
                done.looks.add(folder)
            return found

        folders = [path for path, record in known.records.items() if record.generation]
        try:
            count = self._rollup.compact(folders, load)
        except LensletError as error:
            self._failed = self._clock() + _REST * (self._clock() - began), one_line(error)
            raise
        self._compacted, self._failed, self._rebuild = self._clock(), None, False
        self._passes["rollup"] = passed(self._compacted - began, items=count)

    # Sidecars and health

    def _care(self, known: Known, done: Summarized) -> None:
        """Moves sidecars after their photos, and writes the report."""
        if not known.leads:
            return
        step = self._moves.step(known.records)
        done.looks |= step.looks
        done.look_all, done.waits = step.look_all, step.waits
        if step.waits:
            done.again = _MOVES_SECONDS
        self._report(known)

    def report(self, known: Known) -> dict[str, Any]:
        """Returns the report as of now."""
        records = sorted(known.records.items(), key=lambda entry: folder_key(entry[0]))
        folders = (*(record.health for _, record in records), self._moves.health)
        return health.report(folders, {**known.passes, **self._passes})

    def _report(self, known: Known) -> None:
        """Writes the report, unless it says what it said before."""
        if self._written is None:
            log.info("%s", health.summary(self.report(known)))
        shown = {path: record.health for path, record in known.records.items()}
        news = shown, self._moves.health, dict(self._passes)
        if news != self._written or health.load(self._tree) is None:
            self._written = ()  # if that fails
            health.write(self._tree, self.report(known))
            self._written = news


def passed(seconds: float, **more: int) -> Mapping[str, Any]:
    """Returns what the report says of a pass that has ended now."""
    return {"at": times.text(times.now()), "seconds": round(seconds, 3), **more}
