"""Paths, times and settings: rules on plain text."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenslet import config, paths, times
from lenslet.errors import BadRequest, SettingError
from lenslet.paths import Ignore, Path

HOSTILE = [
    "..", "../etc/passwd", "a/../b", "a/..", "./a", "a/./b", "a//b", "//etc/passwd", "a//",
    "a\0b", "a\nb", "a\x7fb", "a\x85b", "a\\b", "..\\..\\x", "\udcff.jpg", "x" * 256,
    "é" * 128, "/".join(["x" * 200] * 20), "///",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_path_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        paths.parse(text)
    assert caught.value.parameter == "path"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""), ("/", ""), ("a", "a"), ("/a/b/", "a/b"), ("a b+c#d%e?f&g'h\"i", "a b+c#d%e?f&g'h\"i"),
        ("😀/é", "😀/é"), ("...", "..."), ("a/..b", "a/..b"), ("%2e%2e", "%2e%2e"), ("x" * 255, "x" * 255),
    ],
)  # fmt: skip
def test_one_slash_at_each_end_is_dropped_and_nothing_else_changes(text: str, path: str) -> None:
    assert paths.parse(text) == path


@given(st.text())
def test_what_parses_is_safe_and_parses_to_itself(text: str) -> None:
    try:
        path = paths.parse(text)
    except BadRequest:
        return
    assert paths.parse(path) == path
    assert all(part not in ("", ".", "..") for part in path.segments)
    assert "\0" not in path
    assert all(map(paths.usable, path.segments))


@given(st.lists(st.text(alphabet="aB1.0²é"), max_size=8))
def test_natural_order_is_the_same_whatever_the_order_before(names: list[str]) -> None:
    other = names[::-1]
    assert sorted(other, key=paths.natural_key) == sorted(names, key=paths.natural_key)


def test_natural_order_counts_and_forgets_case() -> None:
    names = ["img10.jpg", "IMG2.jpg", "img1.jpg", "b.jpg", "A.jpg", "img02.jpg"]
    wanted = ["A.jpg", "b.jpg", "img1.jpg", "IMG2.jpg", "img02.jpg", "img10.jpg"]
    assert sorted(names, key=paths.natural_key) == wanted


@pytest.mark.parametrize(
    ("name", "item"),
    [("a.jpg", True), ("a.JPEG", True), ("a.Png", True), ("a.webp", True), ("a.gif", False),
     ("jpg", False), (".jpg", False), ("a.jpg.json", False), ("a.", False), ("a.jpg ", False)],
)  # fmt: skip
def test_an_item_is_told_by_its_suffix_in_any_case(name: str, item: bool) -> None:
    assert paths.is_item(name) is item


def test_globs_match_names_and_those_with_a_slash_match_paths() -> None:
    ignore = Ignore(("raw_*", "a/b"))
    assert ignore.path(Path("x/raw_1.jpg"))
    assert ignore.path(Path("a/b"))
    assert not ignore.path(Path("c/b"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2025-02-16T23:12:55Z", "2025-02-16T23:12:55Z"),
        ("2025-02-16t23:12:55z", "2025-02-16T23:12:55Z"),
        ("2025-02-16 23:12:55+02:00", "2025-02-16T21:12:55Z"),
        ("2025-02-16T23:12:55.25-01:30", "2025-02-17T00:42:55.250000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(text: str, wanted: str) -> None:
    assert times.text(times.parse(text)) == wanted


@pytest.mark.parametrize(
    "text", ["", "2025-02-16", "2025-02-16T23:12:55", "2025-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00",
             "2025-02-16T23:12:55Zx", "2025-02-16T24:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        times.parse(text)


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_a_time_comes_back_from_its_text(moment: dt.datetime) -> None:
    assert times.parse(times.text(moment)) == moment


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "0"), ("PORT", "http"), ("PORT", "70000"), ("WEB_CONCURRENCY", "0"), ("THUMB_WAIT", "-1"),
     ("THUMB_WAIT", "nan"), ("THUMB_QUALITY", "101"), ("THUMB_LONG_EDGE", "1.5"), ("PAGE_SIZE", "0"),
     ("POINTER_ROOTS", "relative"), ("MAX_PIXELS", "many"), ("SCAN_SECONDS", "0.5"), ("S3_BUCKET", "s3://b"), ("S3_PREFIX", "a//b"),
     ("S3_ENDPOINT", "minio:9000"), ("POINTER_BUCKETS", "a/b"), ("JOBS_QUEUE_URL", "lenslet"), ("ROOT_PATH", " "),
     ("API_TOKEN", "secret"), ("S3_BUCKET", "b")],
)  # fmt: skip
def test_a_bad_setting_is_told_on_one_line_with_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name) as caught:
        config.settings({name: value})
    assert "\n" not in str(caught.value)


def test_a_secret_is_not_told() -> None:
    with pytest.raises(SettingError) as caught:
        config.settings({"API_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_environment_wins_over_the_env_file(tmp_path) -> None:
    file = tmp_path / ".env"
    file.write_text("# ours\nexport PORT=8000 # here\nIGNORE='a b, c'\nHOST=::1\nS3_BUCKET=bkt\n")
    environ = {"PORT": "9000", "HOST": "", "ROOT_PATH": "photos"}
    found = config.settings(config.merged(environ, config.read_env_file(str(file))))
    assert (found.port, found.host, found.ignore) == (9000, "::1", ("a b", "c"))
    assert (found.root_path, found.s3_bucket) == ("photos", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [("x", "x"), (" x y ", "x y"), ("x # mine", "x"), ("x#y", "x#y"), ("'x' # mine", "x"), ('"x" # mine', "x"),
     ("'x'\t#mine", "x"), ("'a # b' # it's \"mine\"", "a # b"), ('"it\'s"', "it's"), ("''", ""), ("'' # none", ""),
     ("'  x '  ", "  x "), ("it's", "it's"), ("a'b' # c", "a'b'")],
)  # fmt: skip
def test_a_value_of_an_env_file_may_have_quotes_and_a_comment(
    tmp_path, text: str, value: str
) -> None:
    (tmp_path / "env").write_text(f"A=1\nAPI_TOKEN={text}\nB=2")
    found = config.read_env_file(str(tmp_path / "env"))
    assert found == {"A": "1", "API_TOKEN": value, "B": "2"}


@pytest.mark.parametrize(
    "line", ["nonsense", "API TOKEN=x", "T='s3cret", "T='s3cret' more", "T='s3cret'#x", "T='s3'cret'", "T=\"s3cret'", "T=s3\0cret"]
)  # fmt: skip
def test_a_broken_env_file_is_told_by_its_line(tmp_path, line: str) -> None:
    (tmp_path / ".env").write_text(f"PORT=8000\n{line}\n")
    with pytest.raises(SettingError, match="line 2") as caught:
        config.read_env_file(str(tmp_path / ".env"))
    assert "cret" not in str(caught.value)
