"""Reads and writes times as RFC 3339 in UTC with `Z`."""

import datetime as dt
import re
import time

UTC = dt.UTC
LONG_AGO = "1970-01-01T00:00:00Z"
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII
)


class Clock:
    """The clock of a process. Calling it gives monotonic seconds, for what is due."""

    def __call__(self) -> float:
        return time.monotonic()

    def wall_ns(self) -> int:
        """Returns nanoseconds since 1970, to compare with the times of files."""
        return time.time_ns()


def now() -> dt.datetime:
    """Returns the current time, to the second."""
    return dt.datetime.now(UTC).replace(microsecond=0)


def text(when: dt.datetime) -> str:
    """Returns `when` as `2025-02-16T23:12:55Z`, with a fraction only if it has one."""
    moment = when.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat() + "Z"


def parse(value: str) -> dt.datetime:
    """Returns an RFC 3339 date-time (section 5.6) in UTC; raises `ValueError` for other text."""
    if not _RFC3339.fullmatch(value):
        raise ValueError(f"{value!r} is not an RFC 3339 time such as 2025-02-16T23:12:55Z")
    try:
        return dt.datetime.fromisoformat(value.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value!r} is out of range") from error


def of_ns(nanoseconds: int) -> str:
    """Returns a file's time as text, to the second; times outside the calendar become 1970."""
    try:
        return text(dt.datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC))
    except (OverflowError, ValueError, OSError):
        return LONG_AGO
