"""What every tree of files promises, and what a library makes of two or three of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import put, tree

from lenslet import config
from lenslet.errors import (
    Conflict,
    Denied,
    Foreign,
    NotFound,
    SettingError,
    StorageUnavailable,
)
from lenslet.paths import LONGEST_PATH, ROOT, Path
from lenslet.storage import check_settings, open_tree
from lenslet.storage.local import LocalTree
from lenslet.storage.overlay import Overlay
from lenslet.storage.s3 import S3Buckets, S3Tree
from lenslet.storage.s3_client import Client
from lenslet.storage.text import find, map_file
from lenslet.storage.tree import Copy, DocumentCache, Tree, is_ours


@pytest.fixture
def local(root: pathlib.Path) -> LocalTree:
    """A local tree with one file."""
    put(root / "a/one.txt", b"one")
    return LocalTree(str(root))


@pytest.fixture(params=["local", "s3", "s3 below a prefix", "state", "state over s3", "cached"])
def files(request, root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch) -> Tree:
    """Any tree with one file."""
    kind, above = request.param, LocalTree(str(tmp_path / "above"), private=True)
    if "s3" not in kind:
        put(root / "a/one.txt", b"one")
        below: Tree = LocalTree(str(root))
    else:
        bucket = request.getfixturevalue("bucket")
        prefix = "a/pre fix+%/" if "prefix" in kind else ""
        put(bucket / f"{prefix}a/one.txt", b"one")
        client = Client(bucket.service.settings(bucket.bucket))
        below = S3Tree(client, bucket.bucket, prefix)
    if kind == "cached":
        below.cache = DocumentCache(1000)
    if kind.startswith("state"):
        return Overlay(above, below)
    return below


def replace(files: Tree, path: str, change: Callable[[bytes], bytes | None]) -> None:
    """Replace a document by what `change` makes of it; empty where there is none."""

    def apply(documents: list[Copy]) -> tuple[Path, bytes | None]:
        return Path(path), change((documents[0].data or b"") if documents else b"")

    files.update([Path(path)], apply)


def test_what_is_written_is_read_and_listed(files: Tree) -> None:
    image = files.stat(Path("a/one.txt"))
    files.write(Path("a/two.txt"), b"two", image=image)
    data, stat = files.read(Path("a/two.txt"))
    assert (data, stat.size, stat.made_from(image)) == (b"two", 3, True)
    assert files.stat(Path("a/two.txt")) == stat
    listing = files.listing(Path("a"))
    assert set(listing.files) == {"one.txt", "two.txt"}
    assert listing.files["two.txt"] == stat._replace(source="")  # no listing tells it
    assert files.head(Path("a/two.txt"), 2) == (b"tw", stat)
    file, whole = files.open(Path("a/two.txt"), 1, 1)
    with file:
        assert (file.read(1), whole) == (b"w", stat)
    assert files.names(Path("a"), ["one.txt", "three.txt"]) == {"one.txt"}
    assert files.stamp(Path("a")) == files.stamp(Path("a"))
    for ask in (files.stamp, files.listing, lambda folder: files.names(folder, ["one.txt"])):
        with pytest.raises(NotFound):
            ask(Path("nope"))
    assert files.listing(ROOT).folders == ["a"]
    with files.open(Path("a/one.txt"))[0] as file:
        assert file.read() == b"one"


def test_a_file_of_many_pieces_is_written_whole(files: Tree) -> None:
    files.write(Path("a/big"), lambda: (b"%d," % n for n in range(1000)))
    assert files.read(Path("a/big"))[0].startswith(b"0,1,2,")

    def failing():
        yield b"half"
        raise StorageUnavailable("gone")

    with pytest.raises(StorageUnavailable):
        files.write(Path("a/big"), failing)
    assert files.read(Path("a/big"))[0].endswith(b"999,")
    assert files.listing(Path("a")).leftovers == []


def test_what_is_not_there_is_not_found(files: Tree) -> None:
    for path in ("nope", "nope/x", "a", "a/one.txt/x", "a/nope"):
        for ask in (files.stat, files.read, files.open):
            with pytest.raises(NotFound) as caught:
                ask(Path(path))
            assert files.name not in str(caught.value)
        with pytest.raises((NotFound, Denied)):  # a folder may say that it is not a file
            files.delete(Path(path))


def test_links_and_pipes_are_not_files(local: LocalTree, root: pathlib.Path) -> None:
    (root / "link.txt").symlink_to(root / "a/one.txt")
    (root / "linked").symlink_to(root / "a")
    os.mkfifo(root / "pipe")
    for path in ("link.txt", "linked/one.txt", "pipe"):
        for ask in (local.stat, local.read, local.open):
            with pytest.raises(NotFound):
                ask(Path(path))
    with pytest.raises(NotFound):
        local.write(Path("linked/new.txt"), b"x")
    with pytest.raises(NotFound):
        replace(local, "linked/new.txt", lambda old: b"x")
    assert set(tree(root / "a")) == {"one.txt"}
    assert local.listing(ROOT).files.keys() == set()


WEBP = b"RIFF\x1a\0\0\0WEBPVP8 " + b"\0" * 14
OWN = b'{"v":1,"path":"a/","generatedAt":"2024-01-01T00:00:00Z","items":[],"dirs":[]}\n'


@pytest.mark.parametrize(
    ("name", "head", "ours"),
    [
        ("_index.json", OWN, True),
        ("_health.json", b'{\n  "v": 1,\n  "generatedAt": "2024-01-01T00:00:00Z"\n}\n', True),
        ("_index_0.json", b'{"generatedAt": "2024-01-01T00:00:00Z", "v": 1}', False),
        ("_index.json", b"", True),  # what a crash of the machine leaves
        ("_index_3.json", b"\0" * 100, True),
        ("_index_0.json", b'{"mine": 1}', False),
        ("_index_12345.json", b"[]", False),
        ("_rollup.json", b'{"v": 1}', False),
        ("_rollup_delta.json", b"not json", False),
        ("x.jpg.thumbnail", WEBP, True),
        ("x.jpg.thumbnail", b"\0" * 100, True),
        ("x.jpg.thumbnail", b"a note of mine", False),
        ("x.jpg.thumbnail", b"\xff\xd8\xff\xe0JFIF", False),
        ("x.jpg.thumbnail", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + b"\0" * 9, False),  # EXIF
    ],
)
def test_a_file_is_ours_if_its_content_says_so(name: str, head: bytes, ours: bool) -> None:
    assert is_ours(name, head) is ours


DERIVED = ("_index.json", "_index_7.json", "x.jpg.thumbnail", "_health.json")
DERIVED += ("_rollup.json", "_rollup_delta.json")
FOREIGN = [
    *((name, b"mine") for name in DERIVED),
    *((name, b"\0" * (80 << 10) + b"mine") for name in DERIVED),
    ("_health.json", b" " * (3 << 20) + b"mine"),
    ("x.jpg.thumbnail", b"\r\n" * (80 << 10) + b"mine"),
]


def test_a_file_that_is_not_ours_is_not_replaced_or_removed(files: Tree, root) -> None:
    """However much of its start is blank, in either of two trees."""
    lowest = files.lower if isinstance(files, Overlay) else files
    foreign = LocalTree(str(root), private=True) if isinstance(lowest, LocalTree) else lowest
    for number, (name, content) in enumerate(FOREIGN):
        path = Path(f"{number}/{name}")
        for each in (foreign, *([files.upper] if isinstance(files, Overlay) else [])):
            each.make_folder(path.parent)
            each.update([path], lambda _, new=(path, content): new)
            for act in (
                lambda each=each, path=path: each.write(path, OWN),
                lambda each=each, path=path: each.delete(path),
                lambda each=each, path=path: each.write(path, OWN, over=""),
            ):
                with pytest.raises(Denied):
                    act()
            assert each.read(path, len(content))[0] == content
        with contextlib.suppress(Denied):
            files.write(path, OWN)
        with contextlib.suppress(Denied):
            files.delete(path)
        assert foreign.read(path, len(content))[0] == content


@pytest.mark.parametrize("name", DERIVED)
def test_a_file_that_is_blank_to_its_end_is_made_again(local: LocalTree, name: str) -> None:
    """A crash of the machine has left it."""
    path = Path(f"a/{name}")
    put(pathlib.Path(local.root, path), b"\0" * (3 << 20))
    local.write(path, OWN)
    assert local.read(path)[0] == OWN
    put(pathlib.Path(local.root, path), b"\0" * (3 << 20))
    local.delete(path)
    assert not local.names(Path("a"), [name])


def test_a_file_larger_than_the_limit_is_not_read(files: Tree) -> None:
    with pytest.raises(Conflict, match="3 bytes"):
        files.read(Path("a/one.txt"), limit=2)


def test_an_update_sees_what_is_there_and_replaces_it(files: Tree) -> None:
    seen = []

    def change(old: bytes) -> bytes:
        seen.append(old)
        return old + b"!"

    for _ in range(2):
        replace(files, "a/new.txt", change)
    assert files.read(Path("a/new.txt"))[0] == b"!!"
    assert seen == [b"", b"!"]
    replace(files, "a/new.txt", lambda old: None)
    assert files.copies([Path("a/new.txt")]) == []
    with pytest.raises(NotFound):
        files.read(Path("a/new.txt"))
    replace(files, "a/new.txt", change)
    assert files.read(Path("a/new.txt"))[0] == b"!"


def test_an_update_that_raises_leaves_everything_as_it_is(files: Tree) -> None:
    def refuse(old: bytes) -> bytes:
        raise Denied("no")

    with pytest.raises(Denied):
        replace(files, "a/one.txt", refuse)
    assert files.read(Path("a/one.txt"))[0] == b"one"
    assert files.listing(Path("a")).leftovers == []


def test_updates_at_once_lose_nothing(files: Tree) -> None:
    def add(number: int) -> None:
        for _ in range(10):
            replace(files, "a/sum", lambda old: old + b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    data = files.read(Path("a/sum"))[0]
    assert bytes(sorted(data)) == b"".join(b"%d" % number * 10 for number in range(8))


def test_the_users_tree_is_not_written_when_it_is_empty(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    files = LocalTree(str(tmp_path / "empty"))
    for path in ("x", "a/b/x"):
        with pytest.raises(StorageUnavailable, match="empty"):
            files.make_folder(Path(path).parent)
            files.write(Path(path), b"x")
    assert list((tmp_path / "empty").iterdir()) == []
    private = LocalTree(str(tmp_path / "state"), private=True)
    private.write(Path("a/b/x"), b"x")
    assert set(tree(tmp_path / "state")) == {"a/b/x"}


def test_a_path_as_long_as_one_may_be_is_reached_wherever_the_root_is(tmp_path) -> None:
    """Also if both together are longer than what the system takes at once."""
    top = tmp_path / "/".join(["r" * 250] * 4)
    top.mkdir(parents=True)
    files, folder = LocalTree(str(top), private=True), Path("/".join(["f" * 249] * 15))
    assert len(folder) > LONGEST_PATH - 100 and len(f"{top}/{folder}") > 4096
    files.write(folder.child("_health.json"), OWN)
    assert files.read(folder.child("_health.json"))[0] == OWN
    assert list(files.listing(folder).files) == ["_health.json"]


def test_new_files_follow_the_umask(local: LocalTree, root: pathlib.Path) -> None:
    old = os.umask(0o027)
    try:
        local.write(Path("a/x"), b"")
        replace(local, "a/y", lambda old: b"y")
    finally:
        os.umask(old)
    assert {(root / "a" / name).stat().st_mode & 0o777 for name in "xy"} == {0o640}


@pytest.fixture
def open_library_tree(root: pathlib.Path, tmp_path: pathlib.Path) -> Callable[..., Tree]:
    put(root / "a/x.jpg")

    def make(**settings: str) -> Tree:
        homes = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CACHE", "STATE")}
        environ = {"ROOT_PATH": str(root), **homes, **settings}
        found = check_settings(config.settings(environ))
        return open_tree(found, S3Buckets(found))

    return make


@pytest.mark.parametrize("state", [False, True], ids=["beside", "STATE_DIR"])
def test_a_file_of_another_program_is_in_the_way_unless_there_is_a_state_folder(
    open_library_tree, root, tmp_path, state
) -> None:
    files = open_library_tree(**({"STATE_DIR": str(tmp_path / "state")} if state else {}))
    path, foreign = Path("a/_index.json"), put(root / "a/_index.json", b"foreign")
    for act in (lambda: files.write(path, OWN), lambda: files.check_write(path)):
        with contextlib.nullcontext() if state else pytest.raises(Foreign, match="STATE_DIR"):
            act()
    assert foreign.read_bytes() == b"foreign"


def test_a_used_state_folder_that_is_empty_is_an_unmounted_disk(
    open_library_tree, root, tmp_path
) -> None:
    """Also after a restart, and until its own marker is back."""
    state = tmp_path / "state"
    files = open_library_tree(STATE_DIR=str(state))
    replace(files, "a/x.jpg.json", lambda old: b"{}")
    state.rename(tmp_path / "away")
    state.mkdir()
    for each in (files, open_library_tree(STATE_DIR=str(state))):
        with pytest.raises(StorageUnavailable, match="STATE_DIR"):
            replace(each, "a/x.jpg.json", lambda old: b"lost")
        with pytest.raises(StorageUnavailable, match="STATE_DIR"):
            each.check()
    assert list(state.iterdir()) == []
    state.rmdir()
    (tmp_path / "away").rename(state)
    replace(files, "a/x.jpg.json", lambda old: old + b"!")
    assert (state / "a/x.jpg.json").read_bytes() == b"{}!"


def test_a_sidecar_on_a_root_that_has_gone_is_not_taken_for_missing(
    open_library_tree, root, tmp_path
) -> None:
    """An edit in `STATE_DIR` would hide the tags that the sidecar in the root has."""
    put(root / "a/x.jpg.json", b"{}")
    files, document = open_library_tree(STATE_DIR=str(tmp_path / "state")), Path("a/x.jpg.json")
    assert [each.data for each in files.copies([document])] == [b"{}"]
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(StorageUnavailable, match="root"):
        files.copies([document])
    with pytest.raises(StorageUnavailable, match="root"):
        replace(files, document, lambda old: b"lost")
    assert not (tmp_path / "state/a").exists()


@pytest.mark.parametrize("name", ["STATE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("folder", ["photos", "photos/state", "."])
def test_a_folder_of_its_own_among_the_photos_is_refused(
    open_library_tree, tmp_path, folder, name
) -> None:
    if (folder, name) != (".", "XDG_CACHE_HOME"):  # it is in a folder `lenslet` there
        with pytest.raises(SettingError, match=f"{name}=.*{tmp_path}.* must be separate"):
            open_library_tree(**{name: str(tmp_path / folder)})
    open_library_tree(**{name: str(tmp_path / "photos/.hidden")})


def test_a_root_that_does_not_exist_is_refused(open_library_tree, tmp_path) -> None:
    with pytest.raises(SettingError, match="nope' is not a folder"):
        open_library_tree(ROOT_PATH=str(tmp_path / "nope"))


@pytest.mark.parametrize("size", [1, 2, 7, 5000])
def test_a_text_is_found_where_it_comes_next_in_a_range(tmp_path: pathlib.Path, size: int) -> None:
    wanted = b"a" + b"b" * (size - 1)
    for before in (0, 1, 50, *range(4080, 4110), 20_000):
        data = b"\n" * before + wanted + b"b" * 9000 + wanted
        (tmp_path / "text").write_bytes(data)
        with (tmp_path / "text").open("rb") as file:
            mapped = map_file(file.fileno())
        (tmp_path / "text").unlink()
        ends = before + size, before + size - 1, len(data), len(data) - 1, len(data) + 9000
        for start, end in itertools.product((0, before, before + 1, len(data) + 1), ends):
            there = data.find(wanted, start, end)
            assert find(mapped, wanted, start, end) == find(data, wanted, start, end) == there
