"""HTTP's conditions and ranges (RFC 9110, sections 13 and 14) on plain strings."""

from __future__ import annotations

import re

from lenslet.errors import RangeNotSatisfiable

_TAG = re.compile(r'(?:^|,)\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?=,|$)')
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)


def _tags(header: str) -> list[tuple[bool, str]]:
    """The entity tags of a list, each with whether it is weak; what is malformed is passed over."""
    return [(bool(weak), tag) for weak, tag in _TAG.findall(header)]


def not_modified(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has what `tag` (opaque, without quotes) names: weak comparison."""
    if if_none_match is None:
        return False
    if if_none_match == f'"{tag}"':  # as nearly always
        return True
    return if_none_match.strip() == "*" or any(each == tag for _, each in _tags(if_none_match))


def sidecar_part(tag: str) -> str:
    """The part of an item's tag that names its sidecar alone."""
    return tag.partition(".")[0]


def write_allowed(if_match: str | None, if_none_match: str | None, sidecar: str) -> bool:
    """Whether both preconditions of a write hold for a sidecar's tag; `0` names none.

    `If-Match` compares strongly, `*` stands for any sidecar.
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
    """First byte and length of a single range of `size` bytes; None to send everything.

    Several ranges and other units are passed over, as RFC 9110, 14.2 allows.
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
    """Whether a range may be answered: `If-Range` is absent or names what is here, strongly."""
    return if_range is None or if_range.strip() in (f'"{tag}"', last_modified)
