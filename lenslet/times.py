"""Reads and writes times as RFC 3339 in UTC with `Z`."""

from __future__ import annotations

import datetime as dt
import re
import time

UTC = dt.timezone.utc
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


class Clock:
    """The clock of the index process. Calling it gives monotonic seconds, for what is due."""

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
    match = _RFC3339.fullmatch(value)
    if not match:
        raise ValueError(f"{value!r} is not an RFC 3339 time such as 2025-02-16T23:12:55Z")
    *fields, fraction, sign, hours, minutes = match.groups()
    moment = dt.datetime(*map(int, fields), tzinfo=UTC)  # type: ignore[arg-type, misc]
    moment += dt.timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))
    if sign:
        offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
        try:
            moment += -offset if sign == "+" else offset
        except OverflowError as error:
            raise ValueError(f"{value!r} is out of range") from error
    return moment


def of_ns(nanoseconds: int) -> str:
    """Returns a file's time as text, to the second; times outside the calendar become 1970."""
    try:
        return text(dt.datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC))
    except (OverflowError, ValueError, OSError):
        return "1970-01-01T00:00:00Z"
