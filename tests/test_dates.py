"""When photos were taken: what their files and their names say, put in order."""

from __future__ import annotations

import io
from typing import Any

import pytest
from bombs import after_start, chunk
from conftest import Gallery, draw, encode, exif, jpeg, put
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from written import app13, iim, packet

from lenslet.images import Facts, dates, pixels


def read(data: bytes, name: str = "") -> Facts:
    how: dict[str, Any] = {"long_edge": 256, "quality": 70, "max_pixels": 10**6, "name": name}
    return pixels.render(io.BytesIO(data), **how)[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2012:05:03 04:05:06", "2012-05-03T04:05:06"), ("2012-05-03T04:05:06", "2012-05-03T04:05:06"),
        ("2012:05:03 04:05", "2012-05-03T04:05:00"), (" 2012/5/3 4:05:06.25\0\0", "2012-05-03T04:05:06"),
        ("2012: 5: 3 04: 5: 6", "2012-05-03T04:05:06"), ("2021-08-19 18:48:53.1234", "2021-08-19T18:48:53"),
        ("2012:05:03 24:00:00", "2012-05-04T00:00:00"), ("2012:12:31 24:00:00", "2013-01-01T00:00:00"),
        ("2012:05:03 24:15:00", "2012-05-03T00:15:00"), ("2012:05:03 23:59:60", "2012-05-04T00:00:00"),
        ("2012:05:03 03:05:12 PM", "2012-05-03T15:05:12"), ("2012:05:03 12:05:12 a.m.", "2012-05-03T00:05:12"),
        ("2012:05:03 下午03:05:12", "2012-05-03T15:05:12"), ("2012:05:03 上午12:05:12", "2012-05-03T00:05:12"),
        ("2012:05:03 15:05:12 PM", "2012-05-03T15:05:12"), ("2012:05:03 오후 3:05:12", "2012-05-03T15:05:12"),
        ("2012:05:03 04:05:06+05:30", "2012-05-03T04:05:06+05:30"), ("2012-05-03T04:05Z", "2012-05-03T04:05:00+00:00"),
        ("2012:05:03 04:05:06 -0800", "2012-05-03T04:05:06-08:00"), ("2012:05:03 04:05:06+99:00", "2012-05-03T04:05:06"),
        ("2012:05:03", "2012-05-03"), ("2012:05:03   :  :  ", "2012-05-03"), ("2012:05:03 99:00:00", "2012-05-03"),
        ("2012:05:03 04:75:00", "2012-05-03"), ("2012:05:03 noon", "2012-05-03"), ("2012-05-03T04", "2012-05-03"),
        ("2012-05", "2012-05"), ("1993:07:00 00:00:00", "1993-07"), ("2012:02:30 04:05:06", "2012-02"),
        ("1993", "1993"), ("1993:00:00 00:00:00", "1993"), ("1993:  :     :  :  ", "1993"), ("1993:13:45", "1993"),
        ("0000:00:00 00:00:00", ""), ("    :  :     :  :  ", ""), ("yesterday", ""), ("", ""),
        ("12345", ""),
        ("9999:12:31 24:00:00", "9999-12-31"),
    ],
)  # fmt: skip
def test_of_a_date_that_is_partly_wrong_the_rest_counts(text: str, wanted: str) -> None:
    assert dates.parse(text.split("\0")[0]) == wanted
    assert read(jpeg(exif=exif(DateTimeOriginal=text.encode()))).taken_at == (wanted or None)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("IMG_20200131_120501.jpg", "2020-01-31T12:05:01"), ("PXL_20200131_120501123.jpg", "2020-01-31T12:05:01"),
        ("2020-01-31 12.05.01.png", "2020-01-31T12:05:01"), ("20200131120501.jpg", "2020-01-31T12:05:01"),
        ("Screenshot_2020-01-31-12-05-01.png", "2020-01-31T12:05:01"), ("2020-01-31T12:05:01.jpg", "2020-01-31T12:05:01"),
        ("WhatsApp Image 2020-01-31 at 12.05.01.jpeg", "2020-01-31T12:05:01"),
        ("WhatsApp Image 2023-05-01 at 10.11.12 PM.jpeg", "2023-05-01T22:11:12"),
        ("Screenshot 2023-05-01 at 9.11.12\u202fAM.png", "2023-05-01T09:11:12"),
        ("Bildschirmfoto 2020-01-31 um 12.05.01.png", "2020-01-31T12:05:01"),
        ("Capture d’écran 2020-01-31 à 12.05.01 (2).png", "2020-01-31T12:05:01"),
        ("Captura de pantalla 2020-01-31 a las 12.05.01.png", "2020-01-31T12:05:01"),
        ("Skärmavbild 2020-01-31 kl. 12.05.01.png", "2020-01-31T12:05:01"),
        ("截屏2020-01-31 下午1.05.01.png", "2020-01-31T13:05:01"), ("2015_1007_074507_001.jpg", "2015-10-07T07:45:07"),
        ("2018年07月04日.jpg", "2018-07-04"), ("2018年7月4日 14时05分06秒.jpg", "2018-07-04T14:05:06"),
        ("IMG-20200131-WA0001.jpg", "2020-01-31"), ("2020-01-31 Anna (2).jpg", "2020-01-31"), ("2018-7-4.jpg", "2018-07-04"),
        ("2020-01-31 Anna 123456.jpg", "2020-01-31"), ("IMG_20200131_999999.jpg", "2020-01-31"),
        ("20190101-20190201.jpg", "2019-01-01"), ("20201331.jpg", ""), ("IMG_20200230.jpg", ""), ("IMG_120200131.jpg", ""), ("2020-0131.jpg", ""), ("img2020.jpg", ""),
    ],
)  # fmt: skip
def test_a_name_may_have_the_date_that_a_clock_showed(name: str, wanted: str) -> None:
    assert dates.named(name) == wanted


def xmp(name: str, text: str) -> dict[str, Any]:
    return {"xmp": packet("", f'{name}="{text}"')}


def gps(date: str, *time: float) -> bytes:
    data = Image.Exif()
    data.get_ifd(0x8825).update({29: date, 7: time} if time else {29: date})
    return data.tobytes()


NAME = "IMG_20040404_040404.jpg"
EXIF = {name: f"200{at}:01:01 00:00:00" for at, name in enumerate(
    ["DateTimeOriginal", "DateTimeDigitized", "DateTime"], 1)}  # fmt: skip
IPTC = iim((2, 55, b"19320714"), (2, 60, b"140500+0100"))


@pytest.mark.parametrize(
    ("tags", "more", "iptc", "name", "wanted"),
    [
        (EXIF, xmp("exif:DateTimeOriginal", "1932"), IPTC, NAME, "2001-01-01T00:00:00"),
        ({**EXIF, "DateTimeOriginal": ""}, xmp("exif:DateTimeOriginal", "1931"), IPTC, NAME, "1931"),
        ({**EXIF, "DateTimeOriginal": ""}, xmp("photoshop:DateCreated", "1932-07"), b"", NAME, "1932-07"),
        ({"DateTimeDigitized": "2023:03:03 09:00:00"}, {}, IPTC, NAME, "1932-07-14T14:05:00+01:00"),
        ({}, {}, iim((2, 55, b"19320000")), "", "1932"),
        ({}, {}, iim((2, 55, b"19320714")), NAME, "1932-07-14"),
        ({"DateTimeDigitized": "2001:02:03 04:05:06"}, xmp("xmp:CreateDate", "2009"), b"", NAME, "2001-02-03T04:05:06"),
        ({}, xmp("xap:CreateDate", "2006-06-03T17:02:22+02:00"), b"", NAME, "2006-06-03T17:02:22+02:00"),
        ({}, xmp("xmp:ModifyDate", "2006"), b"", "", None),
        ({"DateTime": "2012:01:01 00:00:00"}, {}, b"", NAME, "2004-04-04T04:04:04"),
        ({"DateTime": "2012:01:01 00:00:00", "OffsetTime": "+01:00"}, {}, b"", "a.jpg", "2012-01-01T00:00:00+01:00"),
        ({}, {"exif": gps("2012:05:03", 14, 5, 6)}, b"", "a.jpg", "2012-05-03T14:05:06+00:00"),
        ({}, {"exif": gps("2012:05:03")}, b"", "a.jpg", "2012-05-03"),
        ({}, {"exif": gps("2012:05:03", 14, 5, 6)}, b"", NAME, "2004-04-04T04:04:04"),
        ({}, {}, b"", "a.jpg", None),
    ],
)  # fmt: skip
def test_taken_counts_before_digitized_and_that_before_written(
    tags, more, iptc, name, wanted
) -> None:
    photo = jpeg(**{"exif": exif(**tags), **more})
    assert read(after_start(photo, app13(iptc)), name).taken_at == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Sun, 01 Jan 2012 12:00:00 +0100", "2012-01-01T12:00:00+01:00"), ("2012:01:01 12:00:00", "2012-01-01T12:00:00"),
     ("long ago", None), ("1 Jan " + "9" * 50 + " 00:00:00 GMT", None), ("2012:01:01" + " " * 9999 + "x", "2012-01-01")],
)  # fmt: skip
def test_a_png_may_say_when_it_was_made(text: str, wanted: str | None) -> None:
    png = encode(draw(30, 20), "PNG")
    said = chunk(b"tEXt", b"Creation Time\0" + text.encode())
    assert read(png[:33] + said + png[33:]).taken_at == wanted
    said = chunk(b"tEXt", b"CreationTime\0" + text.encode())  # ImageMagick's, after the pixels
    assert read(png[:-12] + said + png[-12:], "x.png").taken_at == wanted


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"DateTimeOriginal": "2025:02:15 12:32:00"}, "2025-02-15T12:32:00Z"),
        ({"DateTimeOriginal": "2025:02:15 12:32:00", "OffsetTimeOriginal": "+02:00"}, "2025-02-15T10:32:00Z"),
        ({"DateTimeOriginal": "2025:02:15 12:32:00", "OffsetTimeOriginal": "-05:30"}, "2025-02-15T18:02:00Z"),
        ({"DateTimeOriginal": "2025:02:15 12:32:00", "OffsetTimeOriginal": "nonsense"}, "2025-02-15T12:32:00Z"),
        ({"DateTimeOriginal": "0000:00:00 00:00:00", "DateTimeDigitized": "2001:02:03 04:05:06"}, "2001-02-03T04:05:06Z"),
        ({"DateTimeOriginal": "2025:02:30 12:00:00", "DateTime": "2001:02:03 04:05:06"}, "2001-02-03T04:05:06Z"),
        ({"DateTime": "2001:02:03 04:05:06", "DateTimeDigitized": "2002:02:03 04:05:06"}, "2002-02-03T04:05:06Z"),
        ({"DateTime": "2001:02:03 04:05:06", "OffsetTime": "+01:00"}, "2001-02-03T03:05:06Z"),
        ({"DateTime": "2001-02-03T04:05:06"}, "2001-02-03T04:05:06Z"),
        ({"DateTime": "2001:02:03 04:05"}, "2001-02-03T04:05:00Z"),
        ({"DateTime": "2001:02:03 04:05:06\0\0"}, "2001-02-03T04:05:06Z"),
        ({"DateTime": "yesterday"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_date_is_read_in_its_order_with_its_offset(tags, wanted) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert read(encode(draw(30, 20), kind, exif=exif(**tags))).created_at == wanted


@given(st.text(), st.text())
def test_nothing_raises_an_error(text: str, more: str) -> None:
    for each in (text, f"2012:05:03 {text}", f"2012{text}"):
        dates.parse(each, more)
        dates.named(each)


def test_a_year_alone_is_found_and_stands_before_its_months(indexed, root) -> None:
    def dated(name: str, text: str) -> None:
        put(root / name, jpeg(**xmp("photoshop:DateCreated", text)))

    dated("year.jpg", "1932")
    dated("month.jpg", "1932-01")
    dated("day.jpg", "1932-01-02")
    dated("time.jpg", "1932-01-02T03:04:05")
    gallery: Gallery = indexed()
    found = gallery.found("date:1932", sort="date")
    assert found == ["year.jpg", "month.jpg", "day.jpg", "time.jpg"]
    assert gallery.found("date:1932-01", sort="date") == found[1:]
    assert gallery.found("date:1932-01-02", sort="date") == found[2:]
    assert gallery.found("date:*-01-02", sort="date") == found[2:]
    months = gallery.app.get("/timeline").json["months"]
    assert [(each["month"], each["count"]) for each in months] == [("1932-01", 3), ("1932-00", 1)]
    assert gallery.found("date:1932-00") == ["year.jpg"]
