"""The command line, run as a user runs it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
from conftest import BROKEN_JPEG, MOST_SECONDS, ROOT, jpeg, put, tree


def start(
    tmp_path: pathlib.Path, *arguments: object, cwd: pathlib.Path | None = None, **settings: str
) -> subprocess.Popen[str]:
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **settings}
    command = [sys.executable, "-m", "lenslet", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environ, cwd=cwd or tmp_path, text=True, **pipes)


def lenslet(*arguments: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    with start(*arguments, **how) as command:
        try:
            printed = command.communicate(timeout=MOST_SECONDS)
        finally:
            command.kill()
    return subprocess.CompletedProcess(command.args, command.returncode, *printed)


def test_the_version_names_the_commit_of_a_checkout(tmp_path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "lenslet", checkout / "lenslet")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(checkout)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    found = lenslet(tmp_path, "--version", cwd=checkout, PYTHONPATH=str(checkout))
    assert found.stdout == f"lenslet 0.2.0+g{head.stdout[:12]}\n"


def test_another_program_of_that_name_stops_the_start(tmp_path) -> None:
    info = tmp_path / "site/lenslet-0.4.dist-info"
    put(info / "METADATA", b"Metadata-Version: 2.1\nName: lenslet\nVersion: 0.4\n")
    put(info / "entry_points.txt", b"[console_scripts]\nlenslet = lenslet.cli:main\n")
    path = os.pathsep.join((str(tmp_path / "site"), str(ROOT)))
    found = lenslet(tmp_path, "index", tmp_path, PYTHONPATH=path)
    assert found.returncode == 1
    assert "the package lenslet 0.4 is another program" in found.stderr
    assert found.stderr.count("\n") == 1


def old(path: pathlib.Path) -> pathlib.Path:
    os.utime(path, (1, 1))
    return path


def test_index_makes_everything_and_says_what_it_did(root, tmp_path) -> None:
    for number in range(5):
        old(put(root / f"a/{number}.jpg"))
    ended = lenslet(tmp_path, "index", root)
    assert ended.returncode == 0, ended.stderr
    assert "5 images in 2 folders" in ended.stdout
    assert "5 have thumbnails" in ended.stdout
    made = {"_index.json", "a/_index.json", "_rollup.json", "_health.json", "a/4.jpg.thumbnail"}
    assert made <= set(tree(root))
    again = lenslet(tmp_path, "index", root)
    assert again.returncode == 0
    assert "0 read" in again.stdout


def test_check_names_the_files_of_others_that_are_in_the_place_of_its_own(root, tmp_path) -> None:
    old(put(root / "a/1.jpg"))
    files = ("a/_index.json", "_health.json", "_rollup.json", "_rollup_delta.json")
    for file in files:
        put(root / file, b"[1, 2]")
    lenslet(tmp_path, "index", root)
    ended = lenslet(tmp_path, "check", root)
    assert ended.returncode == 1
    assert [file for file in files if f"{file} is not Lenslet's own" not in ended.stdout] == []
    assert "missingManifest: a:" not in ended.stdout
    assert all((root / file).read_bytes() == b"[1, 2]" for file in files)


def test_index_names_what_could_not_be_read_and_exits_1(root, tmp_path) -> None:
    old(put(root / "good.jpg"))
    old(put(root / "bad.jpg", BROKEN_JPEG))
    for _ in range(2):
        ended = lenslet(tmp_path, "index", root)
        assert ended.returncode == 1
        assert "bad.jpg: cannot be decoded" in ended.stdout
        assert "1 unreadableImages (replace the image, or remove it)" in ended.stdout
    assert (root / "good.jpg.thumbnail").exists()


def test_index_and_check_of_a_bucket_say_what_they_did(bucket, tmp_path) -> None:
    put(bucket / "pre/a/1.jpg")
    put(bucket / "pre/a/bad.jpg", BROKEN_JPEG)
    endpoint = {"S3_ENDPOINT": bucket.service.endpoint, "AWS_REGION": "us-east-1"}
    where = f"s3://{bucket.bucket}/pre"
    before = lenslet(tmp_path, "check", where, **endpoint)
    assert before.returncode == 1 and "missingManifest: a:" in before.stdout
    ended = lenslet(tmp_path, "index", where, **endpoint)
    assert ended.returncode == 1, ended.stderr
    assert "2 images in 2 folders" in ended.stdout and "a/bad.jpg: cannot" in ended.stdout
    (bucket / "pre/a/bad.jpg").unlink()
    lenslet(tmp_path, "index", where, **endpoint)
    after = lenslet(tmp_path, "check", where, **endpoint)
    assert (after.returncode, after.stderr) == (0, ""), after.stdout
    assert "pre/_rollup.json" in bucket.all_keys()


def test_a_bucket_that_cannot_be_used_is_told_in_one_line(bucket, tmp_path) -> None:
    endpoint = {"S3_ENDPOINT": bucket.service.endpoint, "AWS_REGION": "us-east-1"}
    for command in ("index", "check"):
        ended = lenslet(tmp_path, command, "s3://no-such-bucket-here", **endpoint)
        assert ended.returncode == 1
        told = ended.stdout + ended.stderr
        assert "no such bucket" in told and "Traceback" not in told


def test_keys_to_a_bucket_may_stand_in_the_env_file(bucket, tmp_path, monkeypatch) -> None:
    put(bucket / "a.jpg")
    lines = {**bucket.service.environ, "S3_ENDPOINT": bucket.service.endpoint}
    lines |= {"S3_BUCKET": bucket.bucket, "AWS_REGION": "us-east-1"}
    file = tmp_path / "lenslet.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    for name in bucket.service.environ:
        monkeypatch.delenv(name)
    ended = lenslet(tmp_path, "index", "--env-file", file)
    assert "1 image in 1 folder" in ended.stdout, ended.stderr


@pytest.mark.parametrize("command", ["serve", "worker", "index", "check"])
def test_every_command_reads_the_env_file_that_is_named_and_no_other(
    root, tmp_path, command
) -> None:
    (tmp_path / ".env").write_text("PORT=none\n")
    (tmp_path / "other").write_text("PAGE_SIZE=none\n")
    ended = lenslet(tmp_path, command, tmp_path / "new", "--env-file", "other")
    wrong = "lenslet: PAGE_SIZE='none': must be a whole number from 1 to 100000\n"
    assert (ended.returncode, ended.stderr) == (1, wrong)


def test_an_env_file_in_the_working_directory_is_not_read_and_that_is_said(root, tmp_path) -> None:
    """Who made a folder that is served must not say what else is served, and to whom."""
    old(put(root / "a.jpg"))
    (root / ".env").write_text("PAGE_SIZE=none\n")
    ended = lenslet(tmp_path, "index", ".", cwd=root)
    said = "lenslet: the file .env here is not read without --env-file .env\n"
    assert (ended.returncode, ended.stderr) == (0, said)


def test_an_env_file_that_is_missing_is_told_in_one_line(root, tmp_path) -> None:
    ended = lenslet(tmp_path, "index", root, "--env-file", "none")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("lenslet: 'none' cannot be read: ")


def test_index_of_an_empty_or_missing_folder_writes_nothing_and_exits_1(root, tmp_path) -> None:
    assert lenslet(tmp_path, "index", root).returncode == 1
    assert list(root.iterdir()) == []
    missing = lenslet(tmp_path, "index", tmp_path / "nope")
    assert missing.returncode == 1
    assert f"'{tmp_path / 'nope'}' is not a folder" in missing.stderr


TO_BACK_UP = (
    "to back up with the photos: photo.jpg.json, photo.jpg.lenslet.json, .lenslet.folder.json, "
    "_links.json and _searches.json"
)


@pytest.mark.parametrize("has_state", [False, True])
def test_clean_lists_and_removes_what_can_be_made_again_and_nothing_of_the_users(
    root, tmp_path, has_state
) -> None:
    own = {"STATE_DIR": str(tmp_path / "state")} if has_state else {}
    for name in ("a/one.jpg", "b/two.jpg", f"b/{'x' * 250}.jpg"):
        old(put(root / name))
    sidecar = b'{"v": 1, "tags": ["mine"], "updatedAt": "2024-01-01T00:00:00Z"}'
    put(root / "a/one.jpg.json", sidecar)
    for name in ("clip.thumbnail", "_index_mysite.json", "a/two.jpg.thumbnail", "c/_index.json"):
        put(root / name, b"mine")
    before = tree(root)
    lenslet(tmp_path, "index", root, **own)
    indexed = tree(tmp_path)
    listed = lenslet(tmp_path, "clean", root, **own)
    assert tree(tmp_path) == indexed
    assert {"a/one.jpg.thumbnail", "a/_index.json", "_rollup.json"} < {*listed.stdout.splitlines()}
    removed = lenslet(tmp_path, "clean", root, "--remove", **own)
    assert removed.stdout.startswith(f"{len(listed.stdout.splitlines()) - 2} files were removed\n")
    assert tree(root) == before
    if has_state:
        assert [*tree(tmp_path / "state")] == [".lenslet-state"]
    assert "\n0 files" in "\n" + lenslet(tmp_path, "clean", root, **own).stdout


def test_check_tells_what_is_wrong_and_changes_nothing(root, tmp_path) -> None:
    for name in ("a/one.jpg", "a/two.jpg", "b/three.jpg", "private/x.jpg", "private/.nomedia"):
        old(put(root / name))
    assert lenslet(tmp_path, "index", root).returncode == 0
    clean = lenslet(tmp_path, "check", root)
    assert "private" not in (root / "_index.json").read_text()
    nothing = (
        f"3 images in 3 folders\n{TO_BACK_UP}\nnothing is missing, stale, orphaned or broken\n"
    )
    assert (clean.returncode, clean.stdout) == (0, nothing)
    (root / "a/one.jpg").unlink()
    (root / "b/three.jpg.thumbnail").unlink()
    old(put(root / "a/two.jpg", jpeg(99, 88)))
    old(put(root / "c/new.jpg"))
    put(root / "b/gone.jpg.json", b'{"v": 1, "tags": [], "updatedAt": "2024-01-01T00:00:00Z"}')
    put(root / "b/three.jpg.json", b'{"title": "takeout"}')
    put(root / "p/.lenslet.folder.json", b"{")
    before = tree(root)
    found = lenslet(tmp_path, "check", root)
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert [tuple(line.split(": ")[:2]) for line in lines[10:]] == [
        ("brokenPointers", "p"),
        ("orphanSidecars", "b/gone.jpg.json"),
        ("missingManifest", "c"),
        ("staleManifest", "a"), ("staleManifest", "b"),
        ("missingThumbnail", "b/three.jpg"), ("missingThumbnail", "c/new.jpg"),
        ("staleThumbnail", "a/two.jpg"),
    ]  # fmt: skip
    assert [line.split(" (")[0].split() for line in (lines[0], *lines[2:10])] == [
        ["3", "images", "in", "5", "folders"],
        ["1", "brokenPointers"], ["1", "orphanSidecars"], ["1", "missingManifest"],
        ["2", "staleManifest"], ["2", "missingThumbnail"], ["1", "staleThumbnail"],
        ["1", "orphanThumbnails"], ["1", "foreignJson"],
    ]  # fmt: skip
    assert tree(root) == before


@pytest.mark.slow
def test_index_on_a_disk_without_room_ends_and_says_why(tmp_path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True)
    try:
        for number in range(9):
            put(root / f"{number}.jpg", jpeg(seed=number))
        with contextlib.suppress(OSError), (root / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        found = lenslet(tmp_path, "index", root)
    finally:
        subprocess.run(["umount", "-l", root], check=True)
    assert found.returncode == 1
    assert "No space left on device" in found.stdout


def test_check_leaves_a_state_dir_and_the_cache_as_they_are(root, tmp_path) -> None:
    """Also one that was never used: it may be a disk that is not mounted."""
    old(put(root / "a/one.jpg"))
    (tmp_path / "state").mkdir()
    (tmp_path / "cache").mkdir()
    assert lenslet(tmp_path, "check", root, STATE_DIR=str(tmp_path / "state")).returncode == 1
    assert [*(tmp_path / "state").iterdir(), *(tmp_path / "cache").iterdir()] == []


def test_help_names_every_command_and_where_settings_come_from(tmp_path) -> None:
    told = lenslet(tmp_path, "--help").stdout
    for word in ("serve", "index", "check", "environment variable"):
        assert word in told
    assert "PATH" in lenslet(tmp_path, "serve", "--help").stdout


def test_a_name_that_looks_like_a_setting_is_pointed_out(root, tmp_path) -> None:
    put(root / "a.jpg")
    (tmp_path / "env").write_text("SCAN_SECOND=9\nPUID=1000\n")
    ended = lenslet(tmp_path, "index", root, "--env-file", "env", THUMB_QUALTIY="80")
    assert ended.stderr.splitlines()[:2] == [
        "lenslet: SCAN_SECOND is not a setting: do you mean SCAN_SECONDS?",
        "lenslet: THUMB_QUALTIY is not a setting: do you mean THUMB_QUALITY?",
    ]


def test_a_tilde_is_the_home_of_the_user(tmp_path) -> None:
    put(tmp_path / "home/photos/a.jpg")
    names = {"HOME": str(tmp_path / "home"), "ROOT_PATH": "~/photos", "STATE_DIR": "~/state"}
    assert lenslet(tmp_path, "index", **names).returncode == 0
    assert (tmp_path / "home/state/_index.json").exists()
    assert not (tmp_path / "~").exists()
