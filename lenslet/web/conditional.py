"""HTTP's preconditions and ranges (RFC 9110, sections 13 and 14) on plain strings."""

from __future__ import annotations

import re

from lenslet.errors import RangeNotSatisfiable

_TAG = re.compile(r'(?:^|,)\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?=,|$)')
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)


def _tags(header: str) -> list[tuple[bool, str]]:
    """Parses a list of entity tags, each with whether it is weak; malformed ones are ignored."""
    return [(bool(weak), tag) for weak, tag in _TAG.findall(header)]


def not_modified(if_none_match: str | None, tag: str) -> bool:
    """True if the client has the version with this tag (without quotes); compares weakly."""
    if if_none_match is None:
        return False
    if if_none_match == f'"{tag}"':  # the usual case
        return True
    return if_none_match.strip() == "*" or any(each == tag for _, each in _tags(if_none_match))


def sidecar_part(tag: str) -> str:
    """Returns the part of an item's tag that depends on its sidecar only."""
    return tag.partition(".")[0]


def write_allowed(if_match: str | None, if_none_match: str | None, sidecar: str) -> bool:
    """True if both preconditions hold. `sidecar` is the stored one's tag, `0` if none is stored.

    `If-Match` compares strongly, and `*` means any sidecar.
    """
    exists = sidecar != "0"
    if if_match is not None:
        wanted = [sidecar_part(tag) for weak, tag in _tags(if_match) if not weak]
        if not (exists if if_match.strip() == "*" else sidecar in wanted):
            return False
    if if_none_match is not None:
        if if_none_match.strip() == "*":
            return not exists
        return sidecar not in [sidecar_part(tag) for _, tag in _tags(if_none_match)]
    return True


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Returns first byte and length of a single range of `size` bytes; None to send everything.

    Several ranges and other units are ignored, as RFC 9110, 14.2 allows. Raises
    `RangeNotSatisfiable` for one that begins beyond the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise RangeNotSatisfiable(size)
        return size - length, length
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable(size)
    return first, last - first + 1


def range_applies(if_range: str | None, tag: str, last_modified: str) -> bool:
    """True if a range may be sent: `If-Range` is absent or names this file, strongly."""
    return if_range is None or if_range.strip() in (f'"{tag}"', last_modified)
