"""What has changed since the rollup: which of its lines are out of date, and what replaces them.

A folder of the delta has few items that differ from the rollup's. Only these are folded. Each
process keeps them in a log of its own: a file without a name in the host's cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from lenslet.paths import Path
from lenslet.search.rollup import Months, Terms, folded_line, position_of
from lenslet.storage.local import Scratch
from lenslet.storage.text import Text

_MOST_SPLICES = 100  # of one folder
_GARBAGE_BYTES = 4 << 20  # of a log; that much may always be there
Order = list[tuple[list[str | int], str]]
Line = tuple[int, bytes]  # where a folded line starts in the rollup's copy, and the item's JSON


class Splice(NamedTuple):
    """The rollup's lines from `start` to `end`, replaced by those from `first` to `last`."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A folder of the delta. Its lines in the rollup are those from `start` to `end`.

    The log has its text at `base`: the items that differ, their folded lines, and from `terms` on
    the counts of terms to be added to the rollup's. Positions in it are counted from `base`.
    `months` are those of these terms.
    """

    folder: Path
    order: Order
    generation: str
    start: int
    end: int
    splices: tuple[Splice, ...]
    base: int
    terms: int
    size: int
    months: Months

    def lines(self) -> Iterator[Splice]:
        """Yields the splices that have lines, with where these are in the log."""
        for start, end, first, last in self.splices:
            if first < last:
                yield Splice(start, end, self.base + first, self.base + last)

    def item(self, log: Text, line: bytes) -> bytes:
        """Returns the JSON of the item that one of its folded lines stands for."""
        start = self.base + position_of(line)
        return log[start : log.find(b"\n", start)]

    def terms_of(self, log: Text) -> bytes:
        """Returns the counts of terms to be added to the rollup's."""
        return log[self.base + self.terms : self.base + self.size]


def fold_changes(
    old: Sequence[Line], end: int, new: Sequence[bytes]
) -> tuple[bytes, tuple[Splice, ...], int, Months]:
    """Compares the `new` items of a folder with the `old` lines of the rollup, which end at `end`.

    Returns what `Changed` describes: the text, the splices, where the terms start, and the months.
    """
    starts = [*(start for start, _ in old), end]
    json, lines, terms = bytearray(), bytearray(), Terms()
    found: list[Splice] = []
    for gone, until, added in differences([text for _, text in old], new):
        for _, text in old[gone:until]:
            terms.remove(orjson.loads(text))
        first = len(lines)
        for text in added:
            item = orjson.loads(text)
            terms.add(item)
            lines += folded_line(item, len(json))
            json += text + b"\n"
        found.append(Splice(starts[gone], starts[until], first, len(lines)))
    size = len(json)
    splices = tuple(Splice(a, b, size + first, size + last) for a, b, first, last in found)
    return bytes(json + lines) + terms.encode(), splices, size + len(lines), terms.months


def differences(
    old: Sequence[bytes], new: Sequence[bytes]
) -> list[tuple[int, int, Sequence[bytes]]]:
    """Returns what to do with `old` to get `new`: replace each range of indexes by these texts.

    If there are too many ranges, everything is replaced.
    """
    known = {text: index for index, text in enumerate(old)}
    found: list[tuple[int, int, Sequence[bytes]]] = []
    added: list[bytes] = []
    at = 0
    for text in new:
        index = known.get(text, -1)
        if index < at:
            added.append(text)
            continue
        if index > at or added:
            found.append((at, index, added))
            added = []
        at = index + 1
    if added or at < len(old):
        found.append((at, len(old), added))
    return found if len(found) <= _MOST_SPLICES else [(0, len(old), new)]


def without_garbage(log: Scratch, changed: list[Changed]) -> tuple[Scratch, list[Changed]]:
    """Returns a new log if most of this one belongs to folders that have changed again."""
    if log.size <= 2 * sum(each.size for each in changed) + _GARBAGE_BYTES:
        return log, changed
    text, new = log.text(), log.another()
    return new, [
        replace(each, base=new.append(text[each.base : each.base + each.size])) for each in changed
    ]
