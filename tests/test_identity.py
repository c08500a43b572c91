"""A photo is what it shows: its tags and notes follow it, and are never shown for another photo."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import threading
from typing import Any

import pytest
from conftest import Gallery, draw, encode, exif, put, tree
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lenslet.errors import Conflict
from lenslet.index.messages import Look
from lenslet.index.moves import Move, Place, decide
from lenslet.index.scan import Scan
from lenslet.library.orphans import CHANGED, Orphan
from lenslet.library.sidecar import Photo, examine
from lenslet.paths import Path
from lenslet.storage.tree import Copy

DATE, LATER = "2024-05-01T10:00:00Z", "2025-06-01T11:00:00Z"


def photo(number: int, taken: str | None = None) -> bytes:
    """A picture that no other number has; `taken` as EXIF has it."""
    image = draw(40, 30, seed=number)
    image.putpixel((20, 15), (number % 251, number // 251 % 251, 7))
    if taken is None:
        return encode(image, "PNG")
    return encode(image, "JPEG", quality=95, exif=exif(DateTimeOriginal=taken))


def old(path: pathlib.Path) -> pathlib.Path:
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def note(gallery: Gallery, path: str, text: str, **more: Any) -> None:
    gallery.app.put_json(f"/item?path={path}", {"notes": text, **more}, status=200)


def shown(gallery: Gallery, path: str) -> str:
    return str(gallery.app.get("/item", {"path": path}, status=200).json["notes"])


def rest(gallery: Gallery, rounds: int = 3) -> None:
    """Lets the index process do all that it does within a minute or so."""
    for _ in range(rounds):
        gallery.index()
        gallery.settle(8)


def settled_note(gallery: Gallery, path: str, text: str) -> None:
    """A note on a photo of a library that is indexed, and is so again afterwards."""
    rest(gallery)
    note(gallery, path, text)
    rest(gallery)


def orphans(gallery: Gallery) -> dict[str, str]:
    library = gallery.app.get("/health").json["library"]
    found = {p["path"]: p["reason"] for p in library["problems"].get("orphanSidecars", [])}
    assert library["counts"]["orphanSidecars"] == len(found)
    return found


# Decisions


@pytest.mark.parametrize(
    ("document", "image", "is_shown"),
    [
        ({}, Photo("blake3:a"), True),  # made by another program
        ({"hash": "blake3:a"}, Photo("blake3:a"), True),
        ({"hash": "blake3:a"}, Photo(), True),  # not read yet, or it never can be
        ({"hash": "blake3:a", "exif": {"createdAt": DATE}}, Photo("blake3:a", LATER), True),
        ({"hash": "blake3:a", "exif": {"createdAt": DATE}}, Photo("blake3:b", DATE), True),
        ({"hash": "blake3:a", "exif": {"createdAt": "2024-05-01T12:00:00+02:00"}}, Photo("blake3:b", DATE), True),
        ({"hash": "blake3:a", "exif": {"createdAt": DATE}}, Photo("blake3:b", LATER), False),
        ({"hash": "blake3:a", "exif": {"createdAt": DATE}}, Photo("blake3:b"), True),
        ({"hash": "blake3:a", "exif": {"createdAt": "last year"}}, Photo("blake3:b", DATE), True),
        ({"hash": "blake3:a", "exif": []}, Photo("blake3:b", DATE), True),
        ({"hash": "blake3:a"}, Photo("blake3:b", DATE), True),
        ({"hash": ["blake3:a"]}, Photo("blake3:b"), True),
    ],
)  # fmt: skip
def test_a_sidecar_is_shown_for_the_image_beside_it_unless_their_dates_differ(
    document, image, is_shown
) -> None:
    raw = json.dumps({"v": 1, "tags": ["sea"], **document}).encode()
    found = examine(Path("a.jpg"), [Copy(Path("a.jpg.json"), raw, "1")], image)
    assert (len(found.ours), len(found.strays)) == ((1, 0) if is_shown else (0, 1))


ASIDE, USUAL = "a.jpg.lenslet.json", "a.jpg.json"


@pytest.mark.parametrize(
    ("files", "ours", "strays", "target"),
    [
        ({ASIDE: "a", USUAL: "a"}, [ASIDE], [USUAL], ASIDE),  # one hides the other
        ({ASIDE: "b", USUAL: "a"}, [USUAL], [ASIDE], USUAL),  # whatever their suffixes
        ({ASIDE: "b", USUAL: ""}, [USUAL], [ASIDE], USUAL),
        ({ASIDE: "b", USUAL: "b"}, [ASIDE], [USUAL], ASIDE),
        ({ASIDE: "b", USUAL: "c"}, [ASIDE], [USUAL], ASIDE),
        ({ASIDE: "b", "root/" + USUAL: "c"}, [ASIDE], [USUAL], ASIDE),
        ({USUAL: "b", "root/" + ASIDE: "c"}, [USUAL], [ASIDE], USUAL),
        ({ASIDE: "a", USUAL: None}, [ASIDE], [], ASIDE),
        ({ASIDE: "b", USUAL: None, "root/" + USUAL: "a"}, [USUAL], [ASIDE], ""),
        ({ASIDE: None, USUAL: "a"}, [USUAL], [], ""),  # the other one may come first
    ],
)  # fmt: skip
def test_of_several_sidecars_one_is_shown_and_none_of_another_photo_is_written_to(
    files, ours, strays, target
) -> None:
    """Those below `root/` are in a tree that is only read; the hash None is a torn file."""
    copies = []
    for name, digest in files.items():
        document = {"v": 1, "tags": [], **({"hash": f"blake3:{digest}"} if digest else {})}
        raw = b"{" if digest is None else json.dumps(document).encode()
        editable = not name.startswith("root/")
        copies.append(Copy(Path(name.removeprefix("root/")), raw, "1", editable=editable))
    found = examine(Path("a.jpg"), copies, Photo("blake3:a"))
    sorted_into = [[each.path for each in one] for one in (found.ours, found.strays)]
    assert sorted_into == [ours, strays]
    with contextlib.nullcontext() if target else pytest.raises(Conflict):
        assert found.target(Path("a.jpg")) == target


def orphan(name: str, **more: Any) -> Orphan:
    return Orphan(Path(name), None, Path(name), "blake3:a", **more)  # type: ignore[arg-type]


A, B = orphan("a.jpg.json", updated=DATE), orphan("b.jpg.json", updated=LATER)
SHOWN, FIXED = orphan("d.jpg.json", reason=CHANGED), orphan("r.jpg.json", editable=False)
HERE = Place("blake3:a", Path("x/here.jpg"), "root/x/here.jpg")
LINK = Place("blake3:a", Path("a/link.jpg"), "root/x/here.jpg")
THERE = Place("blake3:a", Path("x/there.jpg"), "root/x/there.jpg")


@pytest.mark.parametrize(
    ("strays", "places", "decision"),
    [
        ([A], [], ""),
        ([A], [HERE], Move(A, HERE)),
        ([SHOWN], [HERE], Move(SHOWN, HERE)),
        ([A], [HERE, LINK], Move(A, LINK)),  # one file, and a pointer to it
        ([A, B], [HERE], Move(B, HERE)),  # the newest
        ([A], [HERE, THERE], "2 images have the content of its photo: x/here.jpg and x/there.jpg"),
        ([FIXED], [HERE], "its photo is x/here.jpg, but one of the two folders is read-only"),
        ([A], [HERE._replace(readonly=True)], "its photo is x/here.jpg, but one of the two folders is read-only"),
    ],
)  # fmt: skip
def test_a_sidecar_goes_where_one_image_is_its_photo(strays, places, decision) -> None:
    assert {decide(each, places) for each in itertools.permutations(strays)} == {decision}


# One host


@pytest.fixture
def state(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state"


@pytest.mark.parametrize("apart", [True, False])
def test_notes_follow_a_folder_that_is_renamed(make_gallery, root, state, apart) -> None:
    for number in range(3):
        put(root / f"2024/{number}.png", photo(number))
        put(root / f"2024/below/{number}.jpg", photo(number, "2024:01:01 10:00:00"))
    gallery = make_gallery(**({"STATE_DIR": str(state)} if apart else {}))
    gallery.index()
    for path in ("2024/0.png", "2024/1.png", "2024/below/0.jpg"):
        note(gallery, path, f"note of {path}")
    rest(gallery)
    (root / "2024").rename(root / "Summer 2024")
    rest(gallery)
    assert shown(gallery, "Summer 2024/0.png") == "note of 2024/0.png"
    assert shown(gallery, "Summer 2024/below/0.jpg") == "note of 2024/below/0.jpg"
    assert gallery.found("note") == [
        "Summer 2024/0.png", "Summer 2024/1.png", "Summer 2024/below/0.jpg",
    ]  # fmt: skip
    assert orphans(gallery) == {}
    assert not (state / "2024").exists()
    assert gallery.app.get("/folders", {"path": "2024"}, status=404)


def test_another_photo_of_the_same_name_can_have_its_own_note(make_gallery, root, state) -> None:
    """As with a camera that begins at IMG_0001 again."""
    put(root / "100CANON/IMG_0001.jpg", photo(1, "2023:01:01 10:00:00"))
    put(root / "other.png", photo(9))
    gallery = make_gallery(STATE_DIR=str(state))
    gallery.index()
    note(gallery, "100CANON/IMG_0001.jpg", "our wedding")
    rest(gallery)
    shutil.rmtree(root / "100CANON")
    rest(gallery)
    sidecar = "100CANON/IMG_0001.jpg.json"
    assert orphans(gallery) == {sidecar: "its image is gone"}
    assert [each.name for each in (state / "100CANON").iterdir()] == ["IMG_0001.jpg.json"]
    put(root / "100CANON/IMG_0001.jpg", photo(2, "2024:02:02 10:00:00"))
    assert shown(gallery, "100CANON/IMG_0001.jpg") == ""
    rest(gallery)
    assert shown(gallery, "100CANON/IMG_0001.jpg") == ""
    assert gallery.items("100CANON")["IMG_0001.jpg"]["hasMeta"] is False
    assert gallery.found("wedding") == []
    assert orphans(gallery) == {sidecar: "it belongs to another photo than the one beside it"}
    note(gallery, "100CANON/IMG_0001.jpg", "holiday")
    rest(gallery)
    assert shown(gallery, "100CANON/IMG_0001.jpg") == "holiday"
    assert gallery.found("holiday") == ["100CANON/IMG_0001.jpg"]
    put(root / "found again.jpg", photo(1, "2023:01:01 10:00:00"))
    rest(gallery)
    assert shown(gallery, "found again.jpg") == "our wedding"
    assert shown(gallery, "100CANON/IMG_0001.jpg") == "holiday"
    assert orphans(gallery) == {}


@pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
@pytest.mark.parametrize("taken", [None, "2024:01:01 10:00:00"])
def test_a_photo_that_was_edited_keeps_its_notes(make_gallery, root, taken) -> None:
    name = "x.png" if taken is None else "x.jpg"
    put(root / name, photo(1, taken))
    gallery = make_gallery()
    gallery.index()
    note(gallery, name, "mine", tags=["kept"])
    before = (root / f"{name}.json").read_bytes()
    rest(gallery)
    put(root / name, photo(2, taken))
    gallery.ask()  # writing into a file changes no folder: somebody looks
    rest(gallery)
    assert shown(gallery, name) == "mine"
    assert gallery.found("tag:kept") == [name]
    assert orphans(gallery) == {}
    assert (root / f"{name}.json").read_bytes() == before
    gallery.restart()
    rest(gallery)
    assert gallery.found("tag:kept") == [name]
    note(gallery, name, "still mine")
    assert json.loads((root / f"{name}.json").read_bytes())["hash"] != json.loads(before)["hash"]


def test_a_sidecar_moves_when_nothing_has_changed_for_five_seconds(make_gallery, root) -> None:
    put(root / "x.jpg", photo(1))
    gallery = make_gallery()
    settled_note(gallery, "x.jpg", "mine")
    (root / "x.jpg").rename(root / "y.jpg")
    gallery.clock.now += 60
    gallery.loop.work.later(Scan(), 0.0)
    gallery.settle(5)
    assert old(root / "x.jpg.json").exists()
    gallery.settle(10)
    assert [*root.glob("*.jpg.json")] == [root / "y.jpg.json"]


def test_photos_that_change_places_take_their_notes_along(make_gallery, root) -> None:
    """Without dates, so that nothing but their content tells them apart."""
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        put(root / name, photo(number))
    gallery = make_gallery()
    gallery.index()
    note(gallery, "a.png", "of a")
    note(gallery, "b.png", "of b")
    rest(gallery)
    for old_name, new_name in ("at", "ba", "cb", "tc"):
        (root / f"{old_name}.png").rename(root / f"{new_name}.png")
    rest(gallery, 4)
    assert [shown(gallery, f"{name}.png") for name in "abc"] == ["of b", "", "of a"]
    assert gallery.found('"of a"') == ["c.png"]
    assert orphans(gallery) == {}


def test_a_copy_that_is_edited_keeps_the_notes_that_were_copied_along(make_gallery, root) -> None:
    """Although the photo that has their hash shows equal ones: these are shown, so they stay."""
    put(root / "x.jpg", photo(1, "2024:01:01 10:00:00"))
    gallery = make_gallery()
    settled_note(gallery, "x.jpg", "mine")
    put(root / "copy.jpg.json", (root / "x.jpg.json").read_bytes())
    put(root / "copy.jpg", photo(2, "2024:01:01 10:00:00"))
    rest(gallery)
    assert [shown(gallery, path) for path in ("x.jpg", "copy.jpg")] == ["mine", "mine"]


def test_an_edit_of_a_photo_that_has_just_come_is_not_another_photos(make_gallery, root) -> None:
    """It is read at once: nothing has been looked at since."""
    put(root / "x.jpg", photo(1, "2023:01:01 10:00:00"))
    gallery = make_gallery()
    settled_note(gallery, "x.jpg", "of photo 1")
    before = (root / "x.jpg.json").read_bytes()
    put(root / "x.jpg", photo(2, "2024:01:01 10:00:00"))
    gallery.app.delete("/item?path=x.jpg", status=404)
    note(gallery, "x.jpg", "of photo 2")
    assert (root / "x.jpg.json").read_bytes() == before
    written = json.loads((root / "x.jpg.lenslet.json").read_bytes())
    rest(gallery)
    item = gallery.items()["x.jpg"]
    exif = {"width": 40, "height": 30, "createdAt": item["createdAt"], "takenAt": item["takenAt"]}
    assert (written["hash"], written["exif"]) == (item["hash"], exif)


def test_nothing_is_moved_to_a_file_that_is_not_what_its_manifest_says(make_gallery, root) -> None:
    put(root / "x.png", photo(1))
    gallery = make_gallery()
    gallery.index()
    note(gallery, "x.png", "of the red one")
    (root / "x.png").rename(root / "y.png")
    gallery.loop.send(Look(Path("")))
    gallery.settle(3)  # it is read, but the sidecar rests
    assert "hash" in gallery.items()["y.png"] and (root / "x.png.json").exists()
    stat = (root / "y.png").stat()
    other = photo(2)
    other += b"\0" * (stat.st_size - len(other))
    (root / "y.png").write_bytes(other[: stat.st_size])
    os.utime(root / "y.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    rest(gallery)
    assert (root / "x.png.json").exists() and not (root / "y.png.json").exists()


def test_a_sidecar_that_names_no_photo_stays_as_it_is_until_it_is_edited(
    make_gallery, root
) -> None:
    """It is shown, and follows its photo from the first edit on."""
    put(root / "x.jpg", photo(1, "2024:01:01 10:00:00"))
    document = {"v": 1, "tags": ["by hand"], "notes": "", "updatedAt": DATE, "own": [1]}
    raw = put(root / "x.jpg.json", json.dumps(document).encode()).read_bytes()
    gallery = make_gallery()
    rest(gallery)
    assert (root / "x.jpg.json").read_bytes() == raw
    assert gallery.found('tag:"by hand"') == ["x.jpg"]
    note(gallery, "x.jpg", "seen")
    assert json.loads((root / "x.jpg.json").read_bytes())["own"] == [1]
    rest(gallery)
    (root / "x.jpg").rename(root / "y.jpg")
    rest(gallery)
    assert gallery.found('tag:"by hand"') == ["y.jpg"]


def test_an_edit_before_the_image_was_read_belongs_to_that_image(make_gallery, root) -> None:
    put(root / "x.jpg", photo(1, "2024:01:01 10:00:00"))
    gallery = make_gallery()
    note(gallery, "x.jpg", "early")
    put(root / "y.jpg", (root / "x.jpg").read_bytes())
    put(root / "x.jpg", photo(2, "2025:01:01 10:00:00"))
    assert shown(gallery, "x.jpg") == ""
    rest(gallery)
    assert [shown(gallery, path) for path in ("x.jpg", "y.jpg")] == ["", "early"]


def test_derived_files_of_what_is_gone_leave_state_dir(make_gallery, root, state) -> None:
    """And from nowhere else; tags and notes stay, and a file of somebody else too."""
    put(root / "stays.png", photo(0))
    for path in ("gone/deep/x.png", "gone/y.png", "half/z.png", "half/w.png"):
        put(root / path, photo(ord(path[-5])))
    gallery = make_gallery(STATE_DIR=str(state))
    gallery.index()
    note(gallery, "gone/y.png", "mine")
    put(state / "gone/deep/letter.txt", b"not ours")
    shutil.rmtree(root / "gone")
    (root / "half/z.png").unlink()
    rest(gallery)
    left = {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}
    assert left == {
        ".lenslet-state", "_index.json", "_rollup.json", "_rollup_delta.json", "_health.json",
        "stays.png.thumbnail", "gone/y.png.json", "gone/deep/letter.txt",
        "half/_index.json", "half/w.png.thumbnail",
    }  # fmt: skip
    assert orphans(gallery) == {"gone/y.png.json": "its image is gone"}


# Where two mechanisms meet


def look_at(gallery: Gallery, folder: str, seconds: float) -> None:
    """Somebody opens one folder; no scan comes meanwhile."""
    gallery.loop.send(Look(Path(folder), asked=True))
    gallery.settle(seconds)


@pytest.fixture
def outside(tmp_path: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """A folder beside the root, to which the folder `p` of the root points."""
    put(root / "first.png", photo(0))
    put(tmp_path / "outside/stays.png", photo(90))
    point(root / "p", tmp_path / "outside")
    return tmp_path / "outside"


def point(folder: pathlib.Path, to: pathlib.Path, **more: Any) -> None:
    pointer = {"version": 1, "kind": "pointer", "target": {"type": "local", "path": str(to)}}
    put(folder / ".lenslet.folder.json", json.dumps(pointer | more).encode())


def test_a_folder_behind_a_pointer_that_goes_and_comes_back_has_its_notes(
    make_gallery, root, state, outside, tmp_path
) -> None:
    put(outside / "sub/x.png", photo(1))
    gallery = make_gallery(STATE_DIR=str(state), POINTER_ROOTS=str(tmp_path))
    settled_note(gallery, "p/sub/x.png", "mine")
    (outside / "sub").rename(tmp_path / "trash")
    rest(gallery)
    assert list(orphans(gallery).values()) == ["its image is gone"]
    (tmp_path / "trash").rename(outside / "sub")
    rest(gallery)
    assert (shown(gallery, "p/sub/x.png"), orphans(gallery)) == ("mine", {})
    put(tmp_path / "other/o.png", photo(3))
    point(root / "p", tmp_path / "other")
    rest(gallery)
    point(root / "p", outside)
    rest(gallery)
    assert (shown(gallery, "p/sub/x.png"), orphans(gallery)) == ("mine", {})


def test_a_photo_that_is_back_at_its_place_keeps_its_notes(make_gallery, root, tmp_path) -> None:
    """Although another place has its content."""
    put(root / "a/x.png", photo(1))
    put(root / "b/y.png", photo(1))
    gallery = make_gallery(SCAN_SECONDS="60")
    settled_note(gallery, "a/x.png", "mine")
    (root / "a/x.png").rename(tmp_path / "x.png")
    look_at(gallery, "a", 3)
    (tmp_path / "x.png").rename(root / "a/x.png")
    gallery.settle(8)
    rest(gallery)
    assert (shown(gallery, "a/x.png"), shown(gallery, "b/y.png")) == ("mine", "")


def test_without_dates_another_photo_shows_the_notes_of_one_that_is_gone(
    make_gallery, root
) -> None:
    """This is given up on purpose; health names the sidecar, and does not degrade."""
    put(root / "x.png", photo(1))
    put(root / "y.png", photo(9))
    gallery = make_gallery()
    settled_note(gallery, "x.png", "of photo 1")
    put(root / "x.png", photo(2))
    rest(gallery, 4)
    assert shown(gallery, "x.png") == "of photo 1"
    report = gallery.app.get("/health").json
    problems = report["library"]["problems"]["changedPhotos"]
    assert [each["path"] for each in problems] == ["x.png.json"]
    assert report["status"] == "ok"
    put(root / "found.png", photo(1))
    rest(gallery, 4)
    assert (shown(gallery, "x.png"), shown(gallery, "found.png")) == ("", "of photo 1")


def test_thumbnails_of_what_is_behind_a_pointer_stay_while_its_disk_is_away(
    make_gallery, root, state, outside, tmp_path
) -> None:
    put(outside / "sub/x.png", photo(1))
    gallery = make_gallery(STATE_DIR=str(state), POINTER_ROOTS=str(tmp_path))
    rest(gallery)
    outside.rename(tmp_path / "away")
    outside.mkdir()
    rest(gallery)
    assert (state / "p/sub/x.png.thumbnail").exists()


def test_a_disk_for_state_dir_may_have_folders_of_others(make_gallery, root, state) -> None:
    """Search works although one cannot be read, and none is removed."""
    (state / "lost+found").mkdir(parents=True)
    put(root / "x.png", photo(1))
    gallery = make_gallery(STATE_DIR=str(state))
    settled_note(gallery, "x.png", "mine")
    assert gallery.found("mine") == ["x.png"]
    assert (state / "lost+found").is_dir()


# Other programs


def test_a_file_that_another_program_creates_is_never_replaced(make_gallery, root) -> None:
    """Also between the moment that Lenslet finds no sidecar, and the one that it writes it."""
    put(root / "x.png", photo(1))
    gallery, path = make_gallery(), root / "x.png.json"
    gallery.index()
    made = 0
    for number in range(200):
        for left in root.glob("*.json"):
            left.unlink()
        theirs = json.dumps({"title": number})

        def create(text: str = theirs, wait: float = number % 40 / 10_000) -> None:
            threading.Event().wait(wait)
            with contextlib.suppress(FileExistsError), path.open("x") as file:
                file.write(text)
                nonlocal made
                made += 1

        before, other = made, threading.Thread(target=create)
        other.start()
        gallery.app.put_json("/item?path=x.png", {"notes": "n"}, status=[200, 409])
        other.join()
        assert made == before or path.read_text() == theirs
    assert made > 10


# Any order of things that people do


class Library(RuleBasedStateMachine):
    """People move, copy, remove, replace, swap and edit photos and folders that have notes.

    Each note begins with the number of its photo. So it is plain for which photo it was written.
    """

    shown_below = ""
    dated = True
    build: Any
    places = ("a/1", "a/2", "b/1", "b/2", "c/d/1")

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)
        self.alive: set[str] = set()
        self.photos: dict[str, int] = {}  # by path: which photo is there

    @initialize()
    def begin(self) -> None:
        self.root, self.gallery, self.sidecars = type(self).build()
        for place in ("a/1", "b/2"):
            self.add(place)

    def file(self, place: str) -> str:
        return f"{place}.jpg" if self.dated else f"{place}.png"

    def path(self, place: str) -> str:
        """Where a client finds the photo."""
        return self.shown_below + self.file(place)

    @rule(place=st.sampled_from(places))
    def add(self, place: str) -> None:
        """Adds a new photo, or replaces one."""
        number = next(self.numbers)
        taken = f"20{number // 300 + 10:02}:01:{number % 28 + 1:02} {number % 23:02}:00:00"
        put(self.root / self.file(place), photo(number, taken if self.dated else None))
        self.photos[place] = number

    @rule(place=st.sampled_from(places), text=st.sampled_from("xyz"))
    def edit(self, place: str, text: str) -> None:
        if place not in self.photos:
            return
        path = self.path(place)
        if not shown(self.gallery, path):
            # As who looks at it does. Then the new sidecar says when the photo was taken.
            self.gallery.ask(path.rpartition("/")[0])
        before = shown(self.gallery, path)
        mine = f"{self.photos[place]}: {text}{next(self.numbers)}"
        answer = self.gallery.app.put_json(
            f"/item?path={path}", {"notes": mine}, expect_errors=True
        )
        assert answer.status_int in (200, 409)
        if answer.status_int == 200:
            self.alive -= {before}
            self.alive |= {mine}

    @rule(source=st.sampled_from(places), to=st.sampled_from(places))
    def move(self, source: str, to: str) -> None:
        if source in self.photos and source != to:
            data = (self.root / self.file(source)).read_bytes()
            put(self.root / self.file(to), data)
            (self.root / self.file(source)).unlink()
            self.photos[to] = self.photos.pop(source)

    @rule(one=st.sampled_from(places), two=st.sampled_from(places))
    def swap(self, one: str, two: str) -> None:
        if one in self.photos and two in self.photos:
            first, second = (self.root / self.file(each) for each in (one, two))
            data = first.read_bytes(), second.read_bytes()
            put(first, data[1])
            put(second, data[0])
            self.photos[one], self.photos[two] = self.photos[two], self.photos[one]

    @rule(source=st.sampled_from(places), to=st.sampled_from(places))
    def copy(self, source: str, to: str) -> None:
        if source in self.photos:
            put(self.root / self.file(to), (self.root / self.file(source)).read_bytes())
            self.photos[to] = self.photos[source]

    @rule(place=st.sampled_from(places))
    def remove(self, place: str) -> None:
        if place in self.photos and len(self.photos) > 1:
            (self.root / self.file(place)).unlink()
            del self.photos[place]

    @rule()
    def index(self) -> None:
        self.gallery.index()

    @rule()
    def restart(self) -> None:
        """As after a crash."""
        self.gallery.restart()
        self.gallery.index()

    @rule()
    def wait(self) -> None:
        # A photo that was written over another changes no name in its folder, so it is found when
        # all files are looked at, which is once an hour.
        self.gallery.clock.now += 3600
        rest(self.gallery, 4)
        self.no_note_of_one_photo_of_the_library_is_shown_for_another()
        self.everything_that_is_certain_is_shown()

    @invariant()
    def no_note_is_shown_for_another_photo(self) -> None:
        for place, number in self.photos.items() if self.dated else ():
            found = shown(self.gallery, self.path(place))
            assert found == "" or found.startswith(f"{number}: "), (place, number, found)

    def no_note_of_one_photo_of_the_library_is_shown_for_another(self) -> None:
        """Without dates, the notes of a photo may be shown for another that has taken its place.

        So it is if the old one is gone for good, is there twice, or has notes of its own elsewhere.
        """
        numbers = list(self.photos.values())
        notes = [text.partition(":")[0] for text in self.stored().values()]
        for place, number in self.photos.items():
            found = shown(self.gallery, self.path(place)).partition(":")[0]
            certain = found and numbers.count(int(found)) == notes.count(found) == 1
            assert not certain or found == str(number), (place, found)

    @invariant()
    def no_note_is_lost(self) -> None:
        assert self.alive <= set(self.stored().values())

    def stored(self) -> dict[str, str]:
        """The notes in all sidecars, by the path of the file."""
        found = {}
        for name, data in self.sidecars().items():
            if name.endswith((".jpg.json", ".png.json", ".lenslet.json")):
                found[name] = json.loads(data.strip() or b"{}").get("notes", "")  # or a mark
        return found

    def everything_that_is_certain_is_shown(self) -> None:
        texts = list(self.stored().values())
        for place, number in self.photos.items():
            mine = [text for text in texts if text.startswith(f"{number}: ")]
            if list(self.photos.values()).count(number) == 1 and len(mine) == 1:
                assert shown(self.gallery, self.path(place)) == mine[0], place
                assert self.path(place) in self.gallery.found(f'"{mine[0]}"')

    def teardown(self) -> None:
        if hasattr(self, "gallery"):
            self.gallery.close()


EXAMPLES = 300 if os.environ.get("FAULTS") == "long" else 4


@pytest.mark.parametrize(
    "kind",
    ["folder", "undated", "state", "pointer", pytest.param("bucket", marks=pytest.mark.slow)],
)
def test_no_note_is_lost_or_shown_for_another_photo(kind, tmp_path, request, service) -> None:
    numbers = itertools.count()

    def build() -> tuple[Any, Gallery, Any]:
        home = tmp_path / str(next(numbers))
        root: Any = home / "photos"
        where, more, state = root, {}, home / "state"
        if kind == "bucket":
            root = where = service.bucket()
        else:
            put(root / "first.png", photo(0))
        if kind in ("state", "pointer"):
            more["STATE_DIR"] = str(state)
        if kind == "pointer":
            where = home / "outside"
            where.mkdir()
            for name in ("p", "q"):
                point(root / name, where)
            more["POINTER_ROOTS"] = str(home)
        sidecars = state if "STATE_DIR" in more else where
        gallery = Gallery(root, home / "cache", **more)
        return where, gallery, lambda: tree(sidecars)

    if kind == "bucket":
        for name, value in service.environ.items():
            request.getfixturevalue("monkeypatch").setenv(name, value)
    machine = type("Machine", (Library,), {"build": staticmethod(build)})
    machine.shown_below = "p/" if kind == "pointer" else ""
    machine.dated = kind != "undated"
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            phases=(Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
