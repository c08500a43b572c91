"""When a photo was taken: one date, from all that its file says and is called.

Sources are asked by what they mean, as the Metadata Working Group's guidance has it (version 2.0,
"Date/Time"): when the picture was *taken*, else when it was *digitized*, else when the file was
made. So a scan of 2023 that says 1932 in XMP is from 1932. Unlike there, XMP counts before IPTC,
which has no zone and is often a copy, and a date in the name before EXIF's DateTime, which programs
set when they write a file.

A date is ISO 8601, as precise as it is known: `1932`, `1932-07`, `1932-07-14`,
`1932-07-14T14:32:00` or, with an offset, `1932-07-14T14:32:00+02:00`.
"""

import contextlib
import datetime as dt
import email.utils
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lenslet import times
from lenslet.images.metadata import Written, plain_text

_TAKEN, _DIGITIZED, _CHANGED = (0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010)  # Exif 2.32
_GPS, _GPS_DATE, _GPS_TIME = 0x8825, 29, 7
_EXIF, _XMP = "{http://ns.adobe.com/exif/1.0/}", "{http://ns.adobe.com/xap/1.0/}"
_XMP_TAKEN = (
    _EXIF + "DateTimeOriginal",
    "{http://ns.adobe.com/photoshop/1.0/}DateCreated",
    "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}DateCreated",
)
_XMP_DIGITIZED = _EXIF + "DateTimeDigitized", _XMP + "CreateDate"
_IPTC_TAKEN, _IPTC_DIGITIZED = ((2, 55), (2, 60)), ((2, 62), (2, 63))

_MOST_CHARACTERS = 100  # of a date
_HALF = r"(?<![a-z])(?:[ap]\.?\s?m\b\.?|上午|下午|午前|午後|오전|오후)"  # of a day
_AFTERNOON = "p", "下", "午後", "오후"
_DATE = re.compile(r"\s*(\d{4})(?:[-:/. ]\s?(\d\d?)(?:[-:/. ]\s?(\d\d?))?)?(?!\d)")
_TIME = re.compile(
    rf"[ T]*({_HALF})?\s*(\d\d?)(?:[:.]\s?(\d\d?))(?:[:.]\s?(\d\d?))?(?:\.\d+)?(?!\d)"
    rf"\s*({_HALF})?\s*(Z|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)
# As cameras, phones and people name files: IMG_20200131_120501, 2015_1007_074507, 2018-7-4.
_NAMED = re.compile(
    r"(?<!\d)((?:19|20)\d\d)(?:([-_.]?)(\d\d)\2(\d\d)|_(\d\d)(\d\d)|-(\d\d?)-(\d\d?))"
)
_CHINESE = str.maketrans("年月日时時分", "-- :::", "秒")
# The time after it: 12.05.01, at 10.11.12 PM, um 12.05.01, 下午1.05.01; or 120501123.
_NAMED_TIMES = (
    re.compile(
        rf"\D{{0,20}}?({_HALF})?\s?(\d\d?)(?:[-.:](\d\d))[-.:](\d\d)(?!\d)\s?({_HALF})?",
        re.IGNORECASE,
    ),
    re.compile(r"[ _T-]?()(\d\d)(\d\d)(\d\d)()(?:\d{3})?(?!\d)"),
)


def taken(exif: Mapping[int, Any], written: Written, beside: Written, name: str) -> str | None:
    """Returns when a photo was taken, as its camera's clock showed it; None if nothing says so.

    `exif` are its tags, and those of GPS below their own; `written` is what else is in it, `beside`
    in its XMP sidecar, which counts first; `name` is that of its file.
    """
    return next(filter(None, _sources(exif, written, beside, name)), None)


def _sources(
    exif: Mapping[int, Any], written: Written, beside: Written, name: str
) -> Iterator[str]:
    yield from _of_xmp(beside, _XMP_TAKEN)
    yield _of_exif(exif, *_TAKEN)
    yield from _of_xmp(written, _XMP_TAKEN)
    yield _of_iptc(written, *_IPTC_TAKEN)
    yield from _of_xmp(beside, _XMP_DIGITIZED)
    yield _of_exif(exif, *_DIGITIZED)
    yield from _of_xmp(written, _XMP_DIGITIZED)
    yield _of_iptc(written, *_IPTC_DIGITIZED)
    yield parse(written.creation_time) or _of_mail(written.creation_time)
    yield named(name)
    yield _of_exif(exif, *_CHANGED)
    yield _of_gps(exif.get(_GPS) or {})


def created(exif: Mapping[int, Any]) -> str | None:
    """Returns the first date of EXIF that has a day, in UTC, as which it counts without offset."""
    for tags in (_TAKEN, _DIGITIZED, _CHANGED):
        with contextlib.suppress(ValueError, OverflowError):
            moment = dt.datetime.fromisoformat(_of_exif(exif, *tags))
            return times.text(moment.replace(tzinfo=moment.tzinfo or times.UTC))
    return None


def parse(text: str, offset: str = "") -> str:
    """Returns the date in a text, as precisely as it can be read; empty if there is none.

    A month or a day of 00 is not known, and neither is what cannot be: of `2012:05:03 99:00:00` the
    day is left. The offset in the text counts before the other one.
    """
    text = text[:_MOST_CHARACTERS]
    if not (found := _DATE.match(text)):
        return ""
    year, month, day = (int(part or 0) for part in found.groups())
    if not year:
        return ""
    try:
        date = dt.date(year, month, day)
    except ValueError:
        return f"{year:04}-{month:02}" if 1 <= month <= 12 else f"{year:04}"
    if not (clock := _TIME.match(text, found.end())):
        return date.isoformat()
    before, hour, minute, second, after, inline = clock.groups()
    return _at(date, before, hour, minute, second, after, inline or offset)


def named(name: str) -> str:
    """Returns the date that a file's name has, with its time if it has one; empty if none."""
    name = name.translate(_CHINESE)
    for found in _NAMED.finditer(name):
        year, _, *rest = found.groups()
        clocks = filter(None, (each.match(name, found.end()) for each in _NAMED_TIMES))
        clock = next(clocks, None)
        if clock or not name[found.end() : found.end() + 1].isdigit():
            with contextlib.suppress(ValueError):
                date = dt.date(int(year), *map(int, filter(None, rest)))
                return _at(date, *clock.groups()) if clock else date.isoformat()
    return ""


def _at(
    date: dt.date, before: str, hour: str, minute: str, second: str, after: str, offset: str = ""
) -> str:
    """Returns a date with the time of a clock, or alone if that cannot be.

    `before` and `after` may say which half of the day it is. 24:00:00 is the midnight after it, but
    24:15 is what some phones show for 0:15. Second 60 is the next minute.
    """
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if (half := (before or after or "").lower()) and 1 <= hours <= 12:
        hours = hours % 12 + 12 * half.startswith(_AFTERNOON)
    if hours == 24 and (minutes or seconds):
        hours = 0
    if hours > 24 or minutes > 59 or seconds > 60:
        return date.isoformat()
    with contextlib.suppress(OverflowError):
        midnight = dt.datetime.combine(date, dt.time(), _zone(offset))
        return (midnight + dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)).isoformat()
    return date.isoformat()


def _zone(offset: str) -> dt.tzinfo | None:
    with contextlib.suppress(ValueError):
        return dt.datetime.strptime(offset.strip()[:6], "%z").tzinfo
    return None


def _of_exif(exif: Mapping[int, Any], date: int, offset: int) -> str:
    return parse(plain_text(exif.get(date)), plain_text(exif.get(offset)))


def _of_xmp(written: Written, names: Iterable[str]) -> Iterator[str]:
    return (parse(text) for name in names for text in written.xmp[name])


def _of_iptc(written: Written, date: tuple[int, int], time: tuple[int, int]) -> str:
    """A date is `19320714`, with zeros for what is not known; a time `140500+0100` (IIM 4.2)."""
    day, clock = (next(iter(written.iptc[key]), "") for key in (date, time))
    day = re.sub(r"^(\d{4})(\d\d)(\d\d)", r"\1-\2-\3 ", day.strip())
    return parse(day + re.sub(r"^(\d\d)(\d\d)(\d\d)", r"\1:\2:\3", clock.strip()))


def _of_mail(text: str) -> str:
    """The form that PNG proposes for `Creation Time`: that of RFC 1123."""
    with contextlib.suppress(ValueError, OverflowError):
        return email.utils.parsedate_to_datetime(text[:_MOST_CHARACTERS]).isoformat()
    return ""


def _of_gps(gps: Mapping[int, Any]) -> str:
    """The date and the time of the satellites, which are in UTC."""
    date = plain_text(gps.get(_GPS_DATE))
    with contextlib.suppress(Exception):  # parts may be of any type, and divided by 0
        hour, minute, second = map(int, gps[_GPS_TIME])
        return parse(f"{date} {hour}:{minute}:{second}", "Z")
    return parse(date)
