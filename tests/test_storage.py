"""What every tree of files promises, and what a library makes of two or three of them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from conftest import environ_of, put, tree, wait_for

from lenslet import config
from lenslet.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    SettingError,
    StorageFull,
    StorageUnavailable,
)
from lenslet.paths import ROOT, Path
from lenslet.storage import LocalTree, S3Tree, Storage, Tree, check_storage, open_storage
from lenslet.storage import local as local_module
from lenslet.storage.opening import open_in_one, open_in_steps
from lenslet.storage.store import Store

WAYS = {"openat2": open_in_one, "steps": open_in_steps}


@pytest.fixture(params=WAYS)
def local(request, root: pathlib.Path, monkeypatch) -> LocalTree:
    """A local tree with one file, opened in each of the two ways."""
    monkeypatch.setattr(local_module, "open_below", WAYS[request.param])
    put(root / "a/one.txt", b"one")
    return LocalTree(str(root))


@pytest.fixture(params=[*WAYS, "s3", "s3 below a prefix"])
def files(request, root: pathlib.Path, monkeypatch) -> Tree:
    """Any tree with one file."""
    if request.param in WAYS:
        monkeypatch.setattr(local_module, "open_below", WAYS[request.param])
        put(root / "a/one.txt", b"one")
        return LocalTree(str(root))
    bucket = request.getfixturevalue("bucket")
    prefix = "a/pre fix+%/" if "prefix" in request.param else ""
    put(bucket / f"{prefix}a/one.txt", b"one")
    return S3Tree(Store(bucket.service.settings(bucket.bucket)), bucket.bucket, prefix)


def test_what_is_written_is_read_and_listed(files: Tree) -> None:
    image = files.stat(Path("a/one.txt"))
    files.write(Path("a/two.txt"), b"two", image=image)
    data, stat = files.read(Path("a/two.txt"))
    assert (data, stat.size, stat.is_made_from(image)) == (b"two", 3, True)
    assert files.stat(Path("a/two.txt")) == stat
    listing = files.listing(Path("a"))
    assert set(listing.files) == {"one.txt", "two.txt"}
    assert listing.files["two.txt"] == stat._replace(source="")  # no listing tells it
    assert files.head(Path("a/two.txt"), 2) == (b"tw", stat)
    assert files.which(Path("a"), ["one.txt", "three.txt"]) == {"one.txt"}
    assert (files.has_folder(Path("a")), files.has_folder(Path("nope"))) == (True, False)
    assert files.listing(ROOT).folders == ["a"]
    with files.open(Path("a/one.txt"))[0] as file:
        assert file.read() == b"one"


def test_a_file_of_many_pieces_is_written_whole(files: Tree) -> None:
    files.write(Path("a/big"), (b"%d," % n for n in range(1000)))
    assert files.read(Path("a/big"))[0].startswith(b"0,1,2,")

    def failing():
        yield b"half"
        raise StorageUnavailable("gone")

    with pytest.raises(StorageUnavailable):
        files.write(Path("a/big"), failing())
    assert files.read(Path("a/big"))[0].endswith(b"999,")
    assert files.listing(Path("a")).temporary == []


@pytest.mark.parametrize("path", ["nope", "nope/x", "a", "a/one.txt/x", "a/nope"])
def test_what_is_not_there_is_not_found(files: Tree, path: str) -> None:
    for ask in (files.stat, files.read, files.open):
        with pytest.raises(NotFound) as caught:
            ask(Path(path))
        assert files.name not in str(caught.value)
    with pytest.raises(NotFound):
        files.delete(Path(path))


@pytest.mark.parametrize("path", ["link.txt", "linked/one.txt", "pipe"])
def test_links_and_pipes_are_not_files(local: LocalTree, root: pathlib.Path, path: str) -> None:
    (root / "link.txt").symlink_to(root / "a/one.txt")
    (root / "linked").symlink_to(root / "a")
    os.mkfifo(root / "pipe")
    for ask in (local.stat, local.read, local.open):
        with pytest.raises(NotFound):
            ask(Path(path))
    with pytest.raises(NotFound):
        local.write(Path("linked/new.txt"), b"x")
    with pytest.raises(NotFound):
        local.update(Path("linked/new.txt"), lambda old: b"x")
    assert set(tree(root / "a")) == {"one.txt"}
    assert local.listing(ROOT).files.keys() == set()


def test_a_link_in_place_of_a_derived_file_is_replaced_and_its_target_is_not(local, root) -> None:
    (root / "a/link").symlink_to(root / "a/one.txt")
    local.write(Path("a/link"), b"new")
    assert (root / "a/one.txt").read_bytes() == b"one"
    assert local.read(Path("a/link"))[0] == b"new"


def test_a_file_larger_than_the_limit_is_not_read(files: Tree) -> None:
    with pytest.raises(Conflict, match="3 bytes"):
        files.read(Path("a/one.txt"), limit=2)


def test_a_manifest_held_in_memory_is_what_its_file_is_now(root: pathlib.Path) -> None:
    files, path = LocalTree(str(root), holds=1000), Path("a/_index.json")
    for number, data in enumerate((b"first", b"other", b"longer")):
        put(root / path, data)
        os.utime(root / path, (number, number))
        wait_for(lambda: files.stat(path).settled(time.time_ns()))
        assert [files.read(path)[0] for _ in range(2)] == [data, data]
    assert files.read(path)[0] is files.read(path)[0]
    (root / path).unlink()
    with pytest.raises(NotFound):
        files.read(path)


def test_a_manifest_just_written_is_not_held_for_it_may_change_unseen(root: pathlib.Path) -> None:
    files, path = LocalTree(str(root), holds=1000), Path("_index.json")
    put(root / path, b"first")
    assert files.read(path)[0] is not files.read(path)[0]


def test_an_update_sees_what_is_there_and_replaces_it(files: Tree) -> None:
    seen = []

    def change(old: bytes | None) -> bytes:
        seen.append(old)
        return (old or b"") + b"!"

    path = Path("a/new.txt")
    assert files.update(path, change) == b"!"
    assert files.update(path, change) == b"!!"
    assert seen == [None, b"!"]
    assert files.update(path, lambda old: None) is None
    with pytest.raises(NotFound):
        files.read(path)


def test_an_update_that_raises_leaves_everything_as_it_is(files: Tree) -> None:
    def refuse(old: bytes | None) -> bytes:
        raise Denied("no")

    with pytest.raises(Denied):
        files.update(Path("a/one.txt"), refuse)
    assert files.read(Path("a/one.txt"))[0] == b"one"
    assert files.listing(Path("a")).temporary == []


def test_updates_at_once_lose_nothing(files: Tree) -> None:
    def add(number: int) -> None:
        for _ in range(10):
            files.update(Path("a/sum"), lambda old: (old or b"") + b"%d" % number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = files.read(Path("a/sum"))[0]
    assert bytes(sorted(data)) == b"".join(b"%d" % number * 10 for number in range(8))


def test_deleting_twice_is_not_found(files: Tree) -> None:
    files.delete(Path("a/one.txt"))
    with pytest.raises(NotFound):
        files.delete(Path("a/one.txt"))


def test_the_users_tree_is_not_written_when_it_is_empty(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    files = LocalTree(str(tmp_path / "empty"))
    for path in ("x", "a/b/x"):
        with pytest.raises(StorageUnavailable, match="empty"):
            files.write(Path(path), b"x", make=True)
    assert list((tmp_path / "empty").iterdir()) == []
    private = LocalTree(str(tmp_path / "state"), private=True)
    private.write(Path("a/b/x"), b"x")
    assert set(tree(tmp_path / "state")) == {"a/b/x"}


def test_a_name_too_long_to_write_is_invalid(local: LocalTree) -> None:
    with pytest.raises(Invalid, match="too long"):
        local.write(Path("a/" + "x" * 256), b"")


def test_new_files_follow_the_umask(local: LocalTree, root: pathlib.Path) -> None:
    old = os.umask(0o027)
    try:
        local.write(Path("a/x"), b"")
        local.update(Path("a/y"), lambda old: b"")
    finally:
        os.umask(old)
    assert {(root / "a" / name).stat().st_mode & 0o777 for name in "xy"} == {0o640}


def test_a_disk_that_is_full_says_so_and_keeps_what_was_there(full_disk: pathlib.Path) -> None:
    files = LocalTree(str(full_disk))
    before = tree(full_disk)
    with pytest.raises(StorageFull):
        files.update(Path("keep.json"), lambda old: b"x" * 10_000_000)
    with pytest.raises(StorageFull):
        files.write(Path("keep.json"), b"x" * 10_000_000)
    assert tree(full_disk) == before


@pytest.fixture
def full_disk(tmp_path: pathlib.Path):
    """A disk of one megabyte, with one file on it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    put(folder / "keep.json", b"{}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def make_storage(root: pathlib.Path, tmp_path: pathlib.Path) -> Callable[..., Storage]:
    put(root / "a/x.jpg")

    def make(**settings: str) -> Storage:
        environ = {"ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path / "cache"), **settings}
        found = config.settings(environ)
        check_storage(found)
        return open_storage(found)

    return make


def test_derived_files_of_an_overlay_stand_in_the_state_folder(
    make_storage, root, tmp_path
) -> None:
    before = tree(root)
    storage = make_storage(STATE_DIR=str(tmp_path / "state"))
    assert storage.keep(Path("a/_index.json"), b"{}") is True
    assert storage.derived(Path("a/_index.json"), lambda data, stat: True)[0] == b"{}"
    assert tree(root) == before
    assert set(tree(tmp_path / "state")) == {"a/_index.json"}


@pytest.mark.parametrize(
    "root", ["folder", "bucket", "folder+state", "bucket+state"], indirect=True
)
def test_derived_files_and_edits_have_one_place_wherever_the_root_is(root, tmp_path) -> None:
    put(root / "a/x.jpg")
    environ = {**environ_of(root), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    storage, path = open_storage(config.settings(environ)), Path("a/x.jpg.thumbnail")
    image = storage.root.stat(Path("a/x.jpg"))
    assert storage.keep(path, b"small", image=image) is True
    data, stat = storage.derived(path, lambda data, stat: stat.is_made_from(image))
    assert data == b"small"
    file, opened = storage.open_derived(path)
    with file:
        assert (file.read(), opened) == (b"small", stat)
    assert storage.head_derived(path, 2) == (b"sm", stat)
    assert storage.state.update(Path("a/x.jpg.json"), lambda old: b"{}") == b"{}"
    assert storage.state.update(Path("a/x.jpg.json"), lambda old: (old or b"") + b"!") == b"{}!"
    beside = {"x.jpg.thumbnail", "x.jpg.json"} <= set(storage.root.listing(Path("a")).files)
    assert beside is not storage.overlaid
    storage.drop(path)
    with pytest.raises(NotFound):
        storage.derived(path, lambda data, stat: True)
    assert storage.edits_allowed()


def test_what_cannot_stand_in_its_place_stands_in_the_cache_until_it_can(
    make_storage, root
) -> None:
    def ours(data: bytes, stat: object) -> bool:
        return data.startswith(b"ours")

    storage, path = make_storage(), Path("a/_index.json")
    put(root / "a/_index.json", b"foreign")
    assert storage.keep(path, b"ours 1", ours=ours) is False
    assert storage.derived(path, ours)[0] == b"ours 1"
    assert (root / "a/_index.json").read_bytes() == b"foreign"
    (root / "a/_index.json").unlink()
    assert storage.keep(path, b"ours 2", ours=ours) is True
    assert storage.derived(path, ours)[0] == b"ours 2"
    storage.drop(path)
    with pytest.raises(NotFound):
        storage.drop(path)


@pytest.mark.parametrize("state", ["photos", "photos/state", "."])
def test_a_state_folder_that_would_mix_with_the_photos_is_refused(
    make_storage, tmp_path, state
) -> None:
    with pytest.raises(SettingError, match="STATE_DIR"):
        make_storage(STATE_DIR=str(tmp_path / state))


def test_a_state_folder_of_an_ignored_name_may_lie_in_the_root(make_storage, tmp_path) -> None:
    assert make_storage(STATE_DIR=str(tmp_path / "photos/.lenslet")).overlaid


def test_a_root_that_does_not_exist_is_refused(make_storage, tmp_path) -> None:
    with pytest.raises(SettingError, match="ROOT_PATH"):
        make_storage(ROOT_PATH=str(tmp_path / "nope"))


def test_the_first_file_that_another_process_spills_is_seen(tmp_path: pathlib.Path) -> None:
    """That nothing is there is remembered for a second only."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.jpg").touch()
    one, other = (
        Storage(
            tree := LocalTree(str(root)), tree, LocalTree(str(tmp_path / "spill"), private=True)
        )
        for _ in range(2)
    )
    path = Path("a.jpg.thumbnail")
    with pytest.raises(NotFound):
        one.stat_derived(path)
    assert other.spill
    other.spill.write(path, b"data")
    assert other.derived(path, lambda data, stat: True)[0] == b"data"

    def seen() -> bool:
        with contextlib.suppress(NotFound):
            return one.stat_derived(path).size == 4
        return False

    wait_for(seen, 3.0)
