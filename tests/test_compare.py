"""`compare`, which decides what a manifest should say: a table of cases, and rules for any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenslet import paths, times
from lenslet.images import Facts
from lenslet.index.compare import Plan, Rules, Snapshot, compare
from lenslet.library.item import Item
from lenslet.library.manifest import Manifest
from lenslet.paths import Path
from lenslet.storage.tree import Stat

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
STAT = Stat(100, NOW - 60 * SECOND, NOW - 60 * SECOND)
OTHER = Stat(100, NOW - 90 * SECOND, NOW - 60 * SECOND)
SIDECAR = {"x.jpg": "1"}
SAME = Rules("256-70-1", {"MAX_PIXELS": 100})
LARGER = Rules("512-80-1", {"MAX_PIXELS": 101})
READ = Facts(40, 30, hash="blake3:00", rev=STAT.rev)
BROKEN = Facts(rev=STAT.rev, hash="blake3:00", error="cannot be decoded")


def run(old: Manifest, images: dict[str, Stat], facts=None, metas=None, **more) -> Plan:
    anew = more.pop("anew", False)
    rules = more.pop("rules", Rules("256-70-1"))
    snapshot = Snapshot(images, NOW, **more)
    return compare(old, snapshot, facts or {}, metas or {}, rules, anew=anew)


def kept(*facts: Facts, thumbnail: Stat | None = STAT) -> Manifest:
    """The manifest of a folder in which `x.jpg` has been read."""
    thumbnails = {"x.jpg": thumbnail} if thumbnail else {}
    return run(
        Manifest(Path("a")), {"x.jpg": STAT}, {"x.jpg": facts[0]}, thumbnails=thumbnails
    ).manifest


@pytest.mark.parametrize(
    ("old", "images", "more", "todo", "changed"),
    [
        (Manifest(Path("a")), {}, {}, {}, True),  # never indexed
        (Manifest(Path("a")), {"x.jpg": STAT}, {}, {"x.jpg": True}, True),
        (Manifest(Path("a")), {"x.jpg": STAT}, {"thumbnails": {"x.jpg": STAT}}, {"x.jpg": False}, True),
        (kept(READ), {"x.jpg": STAT}, {"thumbnails": {"x.jpg": STAT}}, {}, False),
        (kept(READ), {"x.jpg": STAT}, {}, {"x.jpg": True}, True),  # its thumbnail was removed
        (kept(READ), {"x.jpg": STAT}, {"thumbnails": {"x.jpg": STAT._replace(size=0)}}, {"x.jpg": True}, True),
        (kept(READ), {"x.jpg": OTHER}, {"thumbnails": {"x.jpg": STAT}}, {"x.jpg": True}, True),  # replaced
        (kept(READ), {}, {}, {}, True),  # removed
        (run(kept(READ), {}).manifest, {"x.jpg": STAT}, {"thumbnails": {"x.jpg": STAT}}, {"x.jpg": True}, True),  # and back
        (kept(BROKEN, thumbnail=None), {"x.jpg": STAT}, {}, {}, False),
        (kept(BROKEN, thumbnail=None), {"x.jpg": STAT}, {"anew": True}, {"x.jpg": True}, True),
        (kept(READ), {"x.jpg": STAT, "y.jpg": STAT}, {"thumbnails": {"x.jpg": STAT}}, {"y.jpg": True}, True),
    ],
)  # fmt: skip
def test_what_is_to_be_read_and_whether_the_manifest_changes(
    old, images, more, todo, changed
) -> None:
    plan = run(old, images, **more)
    assert (plan.todo, plan.changed) == (todo, changed)
    assert [item["name"] for item in plan.manifest.items] == list(images)


MADE = Facts(40, 30, hash="blake3:00", rev=STAT.rev, thumb="0123456789ab-256-70-1")


@pytest.mark.parametrize(
    ("item", "rules", "old"),
    [
        ({}, SAME, None),
        ({"facts": None}, SAME, False),  # by a release that did not say
        ({"facts": 1}, SAME, False),
        ({"facts": 1}, LARGER, True),  # also its thumbnail, at once
        ({"facts": 99, "lens": "50 mm"}, LARGER, None),  # by a later release
        ({}, LARGER, True),
        ({"thumb": "0123456789ab-512-80-1"}, LARGER, None),
        ({"thumb": "0123456789ab-512-80-1"}, SAME, True),
        ({"thumb": None}, SAME, None),
        ({"thumb": None}, LARGER, None),
        ({"error": "x", "hasThumb": False, "limit": "MAX_PIXELS=100"}, SAME, None),
        ({"error": "x", "hasThumb": False, "limit": "MAX_PIXELS=100"}, LARGER, True),
        ({"error": "quarantined: SIGSEGV", "hasThumb": False}, LARGER, None),
        ({"error": "x", "hasThumb": False, "facts": 1}, SAME, True),
        ({"limit": "MAX_PIXELS=100"}, LARGER, True),  # it was refused after it was shown
        ({"limit": "MAX_PIXELS=101"}, LARGER, None),
    ],
)
def test_what_another_version_has_read_is_read_again_and_stays_as_it_is(item, rules, old) -> None:
    before = kept(MADE)
    changed = {**before.items[0], **item}
    before.items = [{key: value for key, value in changed.items() if value is not None}]
    thumbnails = {"x.jpg": STAT} if changed["hasThumb"] else {}
    plan = run(before, {"x.jpg": STAT}, thumbnails=thumbnails, rules=rules)
    assert (plan.stale, plan.todo) == ({} if old is None else {"x.jpg": old}, {})
    assert (plan.changed, plan.manifest.items) == (False, before.items)


def test_an_image_that_is_shown_stays_so_if_a_lower_limit_refuses_it() -> None:
    refused = Facts(40, 30, rev=STAT.rev, error="more than MAX_PIXELS", limit="MAX_PIXELS=9")
    images, thumbnails = {"x.jpg": STAT}, {"x.jpg": STAT}
    rules = Rules("256-70-1", {"MAX_PIXELS": 9})
    plan = run(kept(MADE), images, {"x.jpg": refused}, thumbnails=thumbnails, rules=rules)
    assert plan.manifest.items == [{**kept(MADE).items[0], "limit": "MAX_PIXELS=9"}]
    assert (plan.stale, plan.todo) == ({}, {})
    again = run(plan.manifest, images, {"x.jpg": MADE}, thumbnails=thumbnails)
    assert again.manifest.items == kept(MADE).items
    new = run(Manifest(Path("a")), images, {"x.jpg": refused}).manifest.items[0]
    assert (new["error"], new["limit"]) == ("more than MAX_PIXELS", "MAX_PIXELS=9")


def test_an_item_of_a_later_version_keeps_its_keys_when_its_sidecar_changes() -> None:
    before = kept(MADE)
    later = {"facts": 99, "lens": "50 mm", "thumb": "ab-1-1-7"}
    before.items = [{**before.items[0], **later}]
    images, thumbnails = {"x.jpg": STAT}, {"x.jpg": STAT}
    meta: Item = {"hasMeta": True, "tags": ["sea"]}
    plan = run(before, images, {}, {"x.jpg": meta}, thumbnails=thumbnails, sidecars=SIDECAR)
    assert plan.manifest.items == [{**before.items[0], **meta, "metaRev": "1"}]


def test_how_a_thumbnail_was_made_is_remembered_as_long_as_it_is_there() -> None:
    images = {"x.jpg": STAT}
    plan = run(kept(MADE), images, thumbnails={"x.jpg": STAT})
    assert plan.manifest.items[0]["thumb"] == MADE.thumb
    assert "thumb" not in run(plan.manifest, images).manifest.items[0]


def test_what_was_read_of_an_earlier_file_does_not_count() -> None:
    plan = run(kept(READ), {"x.jpg": OTHER}, {"x.jpg": READ})
    assert (plan.manifest.items[0]["w"], plan.manifest.items[0]["rev"]) == (0, OTHER.rev)


def test_a_thumbnail_of_an_earlier_file_with_the_same_time_is_replaced() -> None:
    larger = STAT._replace(size=200)
    plan = run(kept(READ), {"x.jpg": larger}, thumbnails={"x.jpg": STAT})
    assert (plan.replaced, plan.todo) == (["x.jpg"], {"x.jpg": True})


def test_a_sidecar_stays_described_until_it_changes() -> None:
    meta: Item = {"hasMeta": True, "tags": ["sea"]}
    images, thumbnails = {"x.jpg": STAT}, {"x.jpg": STAT}
    first = run(kept(READ), images, {}, {"x.jpg": meta}, thumbnails=thumbnails, sidecars=SIDECAR)
    assert (first.changed, first.manifest.items[0]["tags"]) == (True, ["sea"])
    again = run(first.manifest, images, thumbnails=thumbnails, sidecars=SIDECAR)
    assert (again.changed, again.manifest.items) == (False, first.manifest.items)
    gone = run(first.manifest, images, thumbnails=thumbnails)
    assert (gone.manifest.items[0]["hasMeta"], "tags" in gone.manifest.items[0]) == (False, False)


def test_every_change_of_the_content_gets_a_later_generation() -> None:
    """Also if the clock went back."""
    old = kept(READ)
    ahead = run(Manifest(Path("a"), generated_at="2023-11-14T23:00:00Z"), {"x.jpg": STAT})
    assert ahead.manifest.generated_at == "2023-11-14T23:00:00.000001Z"
    new = run(old, {}).manifest
    assert times.parse(new.generated_at) > times.parse(old.generated_at)


NAMES = st.sampled_from(["a.jpg", "B.jpg", "img2.png", "img10.png", "ä.webp"])
STATS = st.builds(
    lambda size, age: Stat(size, NOW - age * SECOND, 0), st.integers(1, 3), st.integers(0, 9)
)
FOLDERS = st.dictionaries(NAMES, STATS)


@given(FOLDERS, FOLDERS, st.dictionaries(NAMES, STATS), st.booleans())
def test_comparing_again_changes_nothing_and_repeats_what_is_left_to_do(
    before, images, thumbnails, reads
) -> None:
    """Whatever was there before: the plan's manifest is that of its snapshot alone."""
    old = run(Manifest(Path("a")), before).manifest
    facts = {
        name: Facts(4, 3, hash="blake3:00", rev=stat.rev) for name, stat in images.items() if reads
    }
    plan = run(old, images, facts, thumbnails=thumbnails)
    assert [i["name"] for i in plan.manifest.items] == sorted(images, key=paths.natural_key)
    assert {i["name"]: i["rev"] for i in plan.manifest.items} == {
        n: s.rev for n, s in images.items()
    }
    assert plan.todo.keys() <= images.keys()
    left = {name: stat for name, stat in thumbnails.items() if name not in plan.replaced}
    again = run(plan.manifest, images, thumbnails=left)
    assert (again.changed, again.todo, again.replaced) == (False, plan.todo, [])
