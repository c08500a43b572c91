"""The gallery page in a real browser, on a real service."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import urllib.parse
from collections.abc import Iterator
from typing import Any

import axe_playwright_python
import large
import pytest
from conftest import (
    BROKEN_JPEG,
    ROOT,
    Server,
    draw,
    encode,
    exif,
    in_both_browsers,
    jpeg,
    put,
    wait_for,
)
from playwright.sync_api import Locator, Page, Route, expect

pytestmark = pytest.mark.slow
PAGE = ROOT / "lenslet/gallery/files"
AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
PINCH = """document.querySelector(".area").dispatchEvent(
    new WheelEvent("wheel", {deltaY: -100, ctrlKey: true, clientX: 500, clientY: 400}))"""  # of a trackpad
HOSTILE = ["<img src=x onerror=alert(1)>.jpg", "'\"><script>alert(1)<script>.jpg", "a&amp;b#?%41.jpg"]  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def old(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Writes a file that nobody is writing to any more."""
    os.utime(put(path, data), (1_700_000_000, 1_700_000_000))
    return path


def photo(seed: int, width: int = 800, height: int = 600, *, day: int = 0) -> bytes:
    """A photo, of a day of May 2024."""
    taken = exif(DateTimeOriginal=f"2024:05:{day:02d} 12:30:00") if day else b""
    return jpeg(width, height, seed=seed, exif=taken)


def fill(root: pathlib.Path) -> None:
    """A library: art/2025 with 30 photos of ten days, a big folder, odd names, broken files."""
    for number in range(30):
        size = [(800, 600), (600, 800), (1200, 500)][number % 3]
        day = 1 + number // 3 if number < 27 else 0
        old(root / f"art/2025/img{number}.jpg", photo(number, *size, day=day))
    camera = draw(3000, 2000).getexif()
    camera[0x010F], camera[0x0110] = "Nikon", "D750"
    camera.get_ifd(0x8769)[0x9003] = "2024:06:01 10:00:00"
    camera.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (9.0, 0.0, 0.0)})
    old(root / "art/camera/nikon.jpg", encode(draw(3000, 2000), exif=camera.tobytes()))
    for number in range(120):
        old(root / f"big/b{number}.png", encode(draw(40, 30, seed=number), "PNG"))
    for name in HOSTILE:
        old(root / "odd" / name, photo(len(name)))
    old(root / "odd/broken.jpg", BROKEN_JPEG)
    old(root / "odd/cut.jpg", photo(3)[:-4000])
    (root / "empty").mkdir()
    target = {"type": "local", "path": "art/camera"}
    linked = {"version": 1, "kind": "pointer", "label": "Characters 2024", "readonly": True}
    put(root / "linked/.lenslet.folder.json", json.dumps({**linked, "target": target}).encode())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over the library, which has been indexed. Tests do not change what they share."""
    home = tmp_path_factory.mktemp("page")
    fill(home / "photos")
    server = Server(home / "photos", home, PAGE_SIZE="50", POINTER_ROOTS=str(home))
    wait_until_indexed(server)
    yield server
    server.stop()


def wait_until_indexed(server: Server) -> None:
    def is_done() -> bool:
        health = server.json("/health")
        counts = (health.get("library") or {}).get("counts")
        return bool(counts) and not (health["workers"]["backlog"] or counts["thumbnailsMissing"])

    server.until(is_done)


def go(page: Page, where: str) -> None:
    """Opens another address of the page, as a link of somebody else does."""
    page.goto(page.url.partition("#")[0] + where)


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile", has=page.get_by_role("link", name=name, exact=True))


def link(page: Page, name: str) -> Locator:
    return page.locator("main").get_by_role("link", name=name, exact=True)


def viewer(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Photo")


def at(page: Page, name: str) -> None:
    """Waits until the viewer shows a photo."""
    expect(viewer(page).locator("header b")).to_have_text(name)


def shown(page: Page) -> None:
    """Waits until the viewer shows more than the thumbnail."""
    expect(page.locator(".stage img.large")).to_have_js_property("complete", True)
    expect(page.locator(".stage img")).to_have_count(1)


def menu(page: Page, entry: str) -> None:
    page.get_by_role("button", name="Menu").click()
    page.locator(".menu").get_by_text(entry).click()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def enter(field: Locator, text: str) -> None:
    field.fill(text)
    field.press("Enter")


def item(server: Server, path: str) -> Any:
    return server.json("/item?" + urllib.parse.urlencode({"path": path}))


def edit(server: Server, path: str, **body: Any) -> None:
    """Another client's edit."""
    route = "/item?" + urllib.parse.urlencode({"path": path})
    status, _ = server.request("PUT", route, body, **{"Content-Type": "application/json"})
    assert status == 200


# Folders and addresses


@in_both_browsers
def test_folders_have_names_counts_covers_and_a_place_in_the_tree(library, open_page) -> None:
    page = open_page(library, "#/")
    tree = page.get_by_role("navigation", name="Folders").get_by_role("link")
    expect(tree).to_contain_text(["Folders", "art", "big", "empty", "Characters 2024", "odd"])
    tiles = page.locator(".folders a")
    expect(tiles.filter(has_text="art")).to_contain_text("31 photos")
    expect(tiles.filter(has_text="big").locator("img")).to_have_js_property("naturalWidth", 40)
    tiles.filter(has_text="art").click()
    tiles.filter(has_text="2025").click()
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))
    expect(page.locator(".title")).to_have_text("202530 photos")  # which are all below
    expect(page.locator(".tree [aria-current]")).to_have_text("2025")
    expect(page.locator(".crumbs a")).to_have_text(["Folders", "art"])


@pytest.mark.parametrize(
    ("where", "title", "then"),
    [
        ("#/nope/nope.jpg", "This folder does not exist", "Folders"),
        ("#/empty/", "No photos here yet", ".jpg, .jpeg, .png, or .webp appear here"),
        ("#/art/?q=xyzzy", "Nothing found", "Everywhere"),
    ],
)
def test_nothing_to_show_says_what_to_do(library, open_page, where, title, then) -> None:
    page = open_page(library, where)
    expect(page.locator(".hint h2")).to_have_text(title)
    expect(page.locator(".hint")).to_contain_text(then)


@in_both_browsers
def test_back_leaves_the_photo_and_then_the_folder(library, open_page) -> None:
    page = open_page(library, "#/")
    page.locator(".folders a").filter(has_text="big").click()
    link(page, "b2.png").click()
    expect(viewer(page)).to_be_visible()
    page.go_back()
    expect(viewer(page)).to_be_hidden()
    expect(link(page, "b2.png")).to_be_focused()
    page.go_forward()
    at(page, "b2.png")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/big/$"))
    page.go_back()
    expect(page.locator(".folders .name").first).to_have_text("art")


# The grid


@pytest.mark.parametrize("width", [360, 390, 430, 1280])
def test_rows_are_justified_and_keep_the_shape_of_photos(library, open_page, width) -> None:
    page = open_page(library, "#/art/2025/", viewport={"width": width, "height": 800})
    expect(tile(page, "img0.jpg").locator("img")).to_have_js_property("naturalWidth", 256)
    found = page.evaluate(
        """() => {
            const list = document.querySelector(".tiles").getBoundingClientRect();
            return [...document.querySelectorAll(".row")].map((row) => ({
                full: Math.abs(row.lastChild.getBoundingClientRect().right - list.right) < 1,
                shapes: [...row.querySelectorAll(".photo")].map((each) => each.clientWidth / each.clientHeight),
            }));
        }"""
    )
    assert len(found) > 1 and all(row["full"] for row in found)
    shapes = [shape for row in found for shape in row["shapes"]]
    wanted = [800 / 600, 600 / 800, 1200 / 500]
    assert shapes == pytest.approx([wanted[n % 3] for n in range(len(shapes))], abs=0.05)


def test_the_scale_does_not_come_and_go_by_the_room_that_it_takes(serve, open_page, root) -> None:
    for number in range(45):
        old(root / f"{number:02}.jpg", photo(number, 160, 120))
    server = serve(root)
    wait_until_indexed(server)
    page = open_page(server, "#/", viewport={"width": 820, "height": 1180})
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    widths = """async (width) => {
        const seen = new Set();
        for (let frame = 0; frame < 20; frame++) {
            await new Promise(requestAnimationFrame);
            seen.add(document.querySelector(".tiles").clientWidth);
        }
        return seen.size;
    }"""
    for height in range(1180, 1300, 10):
        page.set_viewport_size({"width": 820, "height": height})
        page.wait_for_timeout(100)
        assert page.evaluate(widths) == 1, height


def test_only_what_is_near_the_screen_is_in_the_page_and_asked_for(library, open_page) -> None:
    page, asked = open_page(library), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    go(page, "#/big/")
    link(page, "b0.png").focus()
    page.wait_for_timeout(500)
    assert page.locator(".tile").count() < 60
    assert not any("page=2" in url for url in asked)
    page.keyboard.press("End")
    expect(link(page, "b119.png")).to_be_focused()
    expect(tile(page, "b119.png").locator("img")).to_have_js_property("naturalWidth", 40)
    assert any("page=2" in url for url in asked)
    assert page.locator(".tile").count() < 60


def test_damaged_files_are_tiles_with_the_reason_and_markup_in_names_is_text(
    library, open_page
) -> None:
    markup = "<b onmouseover=alert(2)>bold</b><script>alert(3)</script>"
    edit(library, f"odd/{HOSTILE[0]}", tags=[markup], notes=markup)
    library.until(lambda: library.json("/search?q=onmouseover").get("total"))
    page = open_page(library, "#/odd/")
    for name in (*HOSTILE, "cut.jpg, The end of the file is missing"):
        expect(tile(page, name).locator("img")).to_have_js_property("naturalWidth", 256)
    expect(page.locator(".reason")).to_contain_text("broken.jpg cannot be decoded")
    page.locator(".reason").click()
    expect(viewer(page)).to_contain_text("This photo cannot be shown")
    page.keyboard.press("Escape")
    link(page, HOSTILE[0]).click()
    expect(page.locator(".tokens a")).to_have_text(markup)
    expect(page.get_by_label("Notes")).to_have_value(markup)
    go(page, "#/?q=onmouseover")
    expect(page.locator(".caption small").first).to_have_text(markup)
    assert page.locator("main b, main script, [onerror], [onmouseover]").count() == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over one folder of 100,000 photos."""
    home = tmp_path_factory.mktemp("many")
    large.make(home / "photos", "many", 100_000)
    server = Server(home / "photos", home)

    def is_known() -> bool:
        months = server.json("/timeline").get("months", ())
        return sum(month["count"] for month in months) == 100_000

    server.until(lambda: all(is_known() for _ in range(8)))  # to both request processes
    yield server
    server.stop()


@in_both_browsers
def test_any_number_of_photos_by_date_is_reached(many, open_page) -> None:
    """More pixels than a box that scrolls may have, by wheel, End, scale and address."""
    page = open_page(many)
    now = page.locator(".month.now")
    assert page.locator(".tile").count() < 200
    expect(page.locator(".photo").first).to_be_visible()
    page.mouse.move(600, 400)
    page.mouse.wheel(0, 30_000)
    expect(now).to_have_text(re.compile(" 2023$"))
    page.keyboard.press("End")
    expect(now).to_have_text("January 2000")
    scale = page.locator(".scale").bounding_box()
    page.mouse.move(scale["x"] + 20, scale["y"] + 10)
    page.mouse.down()
    page.mouse.move(scale["x"] + 20, scale["y"] + scale["height"] / 2, steps=5)
    page.mouse.up()
    expect(now).to_have_text(re.compile("20(10|11|12)$"))
    expect(page).to_have_url(re.compile(r"#/photos/20(10|11|12)-\d\d$"))
    expect(page.locator(".tile:not(.shown)")).to_have_count(0)
    page.wait_for_timeout(500)  # the place is kept once nothing moves
    seen = page.locator(".photo").nth(5).get_attribute("title")
    page.reload()
    expect(link(page, str(seen))).to_be_visible()
    page.evaluate("location.hash = '#/photos/2005-06'")
    expect(now).to_have_text("June 2005")


def test_the_first_visit_says_how_far_the_index_is_and_opens_what_later_ones_open(
    serve, open_page, root
) -> None:
    one = jpeg(4000, 3000, exif=exif(DateTimeOriginal="2024:05:01 12:30:00"))
    for number in range(120):
        old(root / f"holiday/{number}.jpg", one)
    old(root / "holiday/clip.mp4", b"x")
    server = serve(root, WORKER_THREADS="1")
    pid = server.index_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        page = open_page(server)
        main = page.get_by_role("main")
        expect(main).to_contain_text("Indexing: ")
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(main).to_contain_text(
        re.compile(r"Indexing: \d folders, \d+ of 120 photos, [0-9.]+ a second, \d+ s left")
    )
    expect(page.get_by_role("heading", name="May 2024")).to_be_visible()
    expect(main).not_to_contain_text("Indexing")
    expect(page.get_by_role("link", name="Photos", exact=True)).to_have_attribute(
        "aria-current", "page"
    )
    go(page, "#/holiday/")
    expect(main).to_contain_text("Not shown: 1 .mp4")


def test_new_photos_are_announced_and_nothing_moves(serve, open_page, root) -> None:
    for number in range(30):
        old(root / f"a/{number}.jpg", photo(number, day=1 + number // 3))
    wait_until_indexed(server := serve(root, SCAN_SECONDS="1"))
    page = open_page(server)
    first = page.locator(".photo").first
    expect(first).to_have_attribute("title", "27.jpg")
    old(root / "a/new.jpg", photo(1, day=28))
    new = page.get_by_role("button", name="1 new")
    expect(new).to_be_visible()
    expect(first).to_have_attribute("title", "27.jpg")
    new.click()
    expect(first).to_have_attribute("title", "new.jpg")


@in_both_browsers
def test_photos_are_shown_by_date_with_their_days_and_folders(library, open_page) -> None:
    """All of them where the page begins, the newest first; or those of a folder and below."""
    page = open_page(library)
    expect(page).to_have_url(re.compile("#/photos$"))
    page.evaluate("location.hash = '#/art/'")
    page.get_by_role("link", name="By date").click()
    expect(page).to_have_url(re.compile(r"#/photos\?in=art$"))
    expect(page.locator(".title")).to_contain_text("31 photos · 2024")
    expect(page.locator("h2.month:not(.now)")).to_have_text(["June 2024", "May 2024"])
    expect(page.locator(".day h3").first).to_have_text("Sat, Jun 1")
    page.keyboard.press("End")
    expect(page.locator("h2.month:not(.now)").last).to_have_text("No date")
    page.keyboard.press("Home")
    expect(page.locator(".day a").nth(1)).to_have_attribute("href", "#/art/2025/")
    page.locator(".day", has_text="May 9").hover()
    page.locator(".day", has_text="May 9").get_by_role("button").click()
    expect(page.locator(".bulk")).to_contain_text("3 selected")
    page.keyboard.press("Escape")
    link(page, "img25.jpg").click()
    page.reload()
    expect(viewer(page)).to_contain_text("3 of 31")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="As folders").click()
    expect(page.locator(".folders .name")).to_have_text(["2025", "camera"])


def test_a_new_library_shows_every_picture_without_a_reload(serve, open_page, root) -> None:
    for number in range(40):
        old(root / f"n/{number}.jpg", photo(number, 1600, 1200))
    page = open_page(serve(root, THUMB_WAIT="0"), "#/n/")
    for number in (0, 39):
        expect(page.locator(".tile").first).to_be_attached()
        page.locator("main:visible").evaluate(
            "(main, share) => main.scrollTo(0, share * main.scrollHeight)", number / 39
        )
        expect(link(page, f"{number}.jpg")).to_be_visible()
        expect(page.locator(".tile:not(.shown)")).to_have_count(0)


# The viewer


# How many pixels of the screen each pixel of the pictures on it has, in order.
STRETCH = """() => [...document.querySelectorAll('.tile.shown img, .folders img')]
  .filter((each) => { const { top, bottom } = each.getBoundingClientRect(); return bottom > 0 && top < innerHeight })
  .map((each) => Math.max(each.width / each.naturalWidth, each.height / each.naturalHeight) * devicePixelRatio)
  .sort((a, b) => a - b)"""


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_pictures_are_sharp_once_the_list_rests(serve, root, open_page, ratio: int) -> None:
    for number in range(12):
        put(root / f"sea/{number:02}.jpg", jpeg(1200, 900))
    put(root / "sea/00wide.jpg", jpeg(3600, 1200))
    server = serve(root)
    wait_until_indexed(server)
    size = PHONE if ratio == 3 else {"viewport": {"width": 1000, "height": 700}}
    page = open_page(server, "#/sea/", **size, device_scale_factor=ratio)
    page.wait_for_function(
        f"() => {{ const all = ({STRETCH})(); return all.length > 3 && all[all.length >> 1] <= 1.1 && all.at(-1) <= 1.3 }}"
    )
    go(page, "#/")
    page.wait_for_function(f"() => ({STRETCH})()[0] <= 1.1")
    go(page, "#/sea/")
    data_saver = "Object.defineProperty(navigator, 'connection', {value: {saveData: true}})"
    page.context.add_init_script(data_saver)
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('.tile.shown').length > 3")
    page.wait_for_timeout(1500)
    assert (
        page.evaluate(
            "() => performance.getEntriesByType('resource').filter((each) => each.name.includes('size=640')).length"
        )
        == 0
    )


@in_both_browsers
def test_a_photo_shows_its_preview_and_zoomed_in_the_file(library, open_page) -> None:
    page = open_page(library, "#/art/camera/nikon.jpg")
    shown(page)
    large, stage = page.locator(".stage img.large"), page.locator(".stage")
    expect(large).to_have_js_property("naturalWidth", 1600)
    width = stage.bounding_box()["width"]
    page.keyboard.press("+")
    expect(large).to_have_js_property("naturalWidth", 3000)
    assert stage.bounding_box()["width"] == pytest.approx(1.6 * width, 0.02)
    before = stage.bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    wait_for(lambda: stage.bounding_box()["x"] < before)
    page.keyboard.press("0")
    page.mouse.move(500, 400)
    page.mouse.wheel(0, -400)
    expect(page.locator(".area.zoomed")).to_have_count(1)
    page.keyboard.press("1")
    expect(page.get_by_text("100 %", exact=True)).to_be_visible()
    assert stage.bounding_box()["width"] == pytest.approx(3000, 0.01)
    page.locator(".area").dispatch_event("dblclick")
    expect(page.locator(".area.zoomed")).to_have_count(0)
    page.evaluate(PINCH)
    assert stage.bounding_box()["width"] == pytest.approx(width * 2.718, 0.02)


@in_both_browsers
def test_keys_and_buttons_go_to_the_neighbours_and_download(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img27.jpg")
    shown(page)
    page.keyboard.press("ArrowRight")
    at(page, "img28.jpg")
    page.get_by_role("button", name="Previous photo").click()
    at(page, "img27.jpg")
    with page.expect_download() as download:
        page.keyboard.press("d")
    original = library.get("/files/art/2025/img27.jpg")[1]
    assert pathlib.Path(download.value.path()).read_bytes() == original
    press(page, "ArrowRight", "ArrowRight")
    expect(page.get_by_role("button", name="Next photo")).to_be_disabled()
    expect(page).to_have_url(re.compile(r"#/art/2025/img29\.jpg$"))


def test_in_a_slideshow_nothing_stands_around_a_photo_until_one_clicks(library, open_page) -> None:
    """Details are closed at first, and then as they were left."""
    page = open_page(library, "#/art/2025/img1.jpg", details=False)
    shown(page)
    details, header = page.get_by_role("complementary"), viewer(page).locator("header")
    expect(details).to_be_hidden()
    page.keyboard.press("s")
    wait_for(lambda: page.evaluate("document.fullscreenElement !== null"))
    page.keyboard.press("p")
    expect(page).to_have_url(re.compile(r"img2\.jpg$"))
    expect(header).to_have_css("opacity", "0")
    page.mouse.click(300, 300)
    expect(header).to_have_css("opacity", "1")
    page.keyboard.press("i")
    expect(details).to_be_visible()
    page.reload()
    expect(details).to_be_visible()


def touch(
    page: Page,
    *moves: list[tuple[float, float]],
    stay: int = 0,
    hold: int = 0,
    sees: Locator | None = None,
) -> None:
    """Moves some fingers over the screen, where something is seen before they leave it.

    They `stay` where they are put down, and `hold` where they are in the end, for milliseconds.
    """
    session = page.context.new_cdp_session(page)
    for number, points in enumerate(moves):
        kind = "touchMove" if number else "touchStart"
        fingers = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
        page.wait_for_timeout(0 if number else stay)
    page.wait_for_timeout(hold)
    if sees:
        expect(sees).to_be_in_viewport()
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_fingers_go_to_the_next_photo_enlarge_it_or_close_it(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img1.jpg", details=False, **PHONE)
    shown(page)
    expect(page.locator("dialog header .quiet")).to_have_text("2 of 30")
    for name in ("Favourite", "Share", "Download", "Details"):  # where a thumb is
        assert page.get_by_role("button", name=name).bounding_box()["y"] > 700
    neighbour = page.locator(".beside.after")
    expect(neighbour).not_to_be_in_viewport()
    touch(page, *([(x, 400)] for x in (300, 250, 200, 120)), sees=neighbour)
    expect(page).to_have_url(re.compile(r"img2\.jpg$"))
    touch(page, *([(200, y)] for y in (300, 350, 420, 500)))
    expect(viewer(page)).to_be_hidden()
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))  # the step back has been made
    go(page, "#/art/camera/nikon.jpg")
    shown(page)
    touch(page, *([(180 - step, 400), (210 + step, 400)] for step in range(0, 120, 10)))
    wait_for(lambda: page.locator(".stage").bounding_box()["width"] > 1000)
    assert page.evaluate("visualViewport.scale") == 1


SHIFTS = """new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries())
        if (!hadRecentInput) (window.shifts ??= []).push([value, ...sources.map(({ node }) => node?.className ?? node?.data)]);
}).observe({ type: "layout-shift" })"""


@pytest.mark.parametrize("size", [(1280, 800), (390, 800), (820, 1180)])
def test_photos_of_other_shapes_follow_and_nothing_shifts(library, open_page, size) -> None:
    viewport = {"width": size[0], "height": size[1]}
    page = open_page(library, "#/art/2025/img8.jpg", **{**PHONE, "viewport": viewport})
    shown(page)
    page.evaluate(SHIFTS)
    for number in (9, 10, 11, 12):
        go(page, f"#/art/2025/img{number}.jpg")
        expect(page.locator(".details h2")).to_have_text(f"img{number}.jpg")
        expect(page.get_by_label("Notes")).to_be_visible()
        shown(page)
        page.wait_for_timeout(100)
    assert page.evaluate("window.shifts ?? []") == []


def test_on_a_phone_a_slideshow_hides_buttons_and_a_photo_leaves_nothing_on_the_next(
    library, open_page
) -> None:
    page = open_page(library, "#/art/2025/img1.jpg", details=False, **PHONE)
    shown(page)
    star, bars = page.get_by_role("button", name="Favourite"), page.locator(".actions")
    box = star.bounding_box()
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_role("button", name="Slideshow").tap()
    expect(bars).to_have_css("opacity", "0")
    page.touchscreen.tap(*place)
    expect(bars).to_have_css("opacity", "1")
    expect(star).to_have_attribute("aria-pressed", "false")
    page.touchscreen.tap(*place)
    expect(page.locator(".toast")).to_have_text("Favourite")
    page.touchscreen.tap(*place)
    expect(page.locator(".toast")).to_have_text("No favourite any more")
    background = "star => getComputedStyle(star).backgroundColor"
    assert star.evaluate(background) == "rgba(0, 0, 0, 0)"
    page.touchscreen.tap(*place)
    expect(page.locator(".toast")).to_have_text("Favourite")
    touch(page, *([(x, 400)] for x in (300, 250, 200, 120)))
    expect(page).to_have_url(re.compile(r"img2\.jpg$"))
    expect(page.locator(".toast")).to_have_count(0, timeout=1000)
    assert star.evaluate(background) == "rgba(0, 0, 0, 0)"
    edit(library, "art/2025/img1.jpg", tags=[])


def test_on_a_phone_a_long_press_selects_and_a_tap_beside_the_menu_closes_it(
    library, open_page
) -> None:
    page = open_page(library, "#/art/2025/", **PHONE)
    expect(page.get_by_role("navigation", name="Views")).to_be_in_viewport()
    place = link(page, "img0.jpg").bounding_box()
    touch(page, [(place["x"] + 30, place["y"] + 30)], hold=900)
    bar = page.get_by_role("region", name="Tags")
    expect(bar).to_contain_text("1 selected")
    expect(page.get_by_role("navigation", name="Views")).to_be_hidden()  # which stood there
    assert bar.bounding_box()["height"] == 56
    bar.get_by_role("button", name="Favourite").tap()
    undo = page.get_by_role("button", name="Undo")
    undo.tap()
    expect(page.get_by_text("1 photo as before")).to_be_visible()
    bar.get_by_role("button", name="All").tap()
    expect(bar).to_contain_text("30 selected")
    bar.get_by_role("button", name="Tags").tap()
    expect(page.get_by_label("Add a tag")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear the selection").tap()
    expect(page.get_by_role("navigation", name="Folders")).to_be_hidden()  # there is no room
    menu = page.get_by_role("button", name="Menu")
    menu.tap()
    expect(page.locator(".menu")).to_be_visible()
    page.touchscreen.tap(place["x"] + 30, place["y"] + 200)  # which only closes it
    expect(page.locator(".menu")).to_be_hidden()
    expect(viewer(page)).to_have_count(0)


def test_on_a_phone_a_finger_that_stays_and_moves_selects_what_it_passes(
    library, open_page
) -> None:
    page = open_page(library, "#/big/", **PHONE)
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    count = page.get_by_role("region", name="Tags").get_by_role("status")

    def middle(number: int) -> list[tuple[float, float]]:
        box = link(page, f"b{number}.png").bounding_box()
        return [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)]

    main = page.locator("main:visible")
    touch(page, middle(1), middle(2), middle(5), middle(8), stay=700)
    expect(count).to_have_text("8 selected")
    assert main.evaluate("main => main.scrollTop") == 0
    touch(page, middle(3), middle(4), middle(7), middle(5), stay=700)  # selected: it takes away
    expect(count).to_have_text("5 selected")
    selected = page.locator(".tile.selected")
    expect(selected).to_have_count(5)
    page.get_by_role("button", name="Clear the selection").tap()
    all_but_one = page.get_by_text("119 selected")  # the list moves below a finger at its edge
    touch(page, middle(1), middle(2), [(200, 790)], stay=700, sees=all_but_one)
    page.get_by_role("button", name="Clear the selection").tap()
    main.evaluate("main => main.scrollTo(0, 0)")
    before = main.evaluate("main => main.scrollTop")
    touch(page, [(200, 500)], [(200, 450)], [(200, 300)])  # one that moves at once scrolls
    wait_for(lambda: main.evaluate("main => main.scrollTop") > before + 50)
    expect(selected).to_have_count(0)


def test_on_a_phone_the_header_hides_nothing_and_the_month_changes_as_its_heading_passes(
    library, open_page
) -> None:
    page = open_page(library, "#/photos?in=art", **PHONE)
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    assert page.locator(".fresh").is_hidden()  # there is nothing new
    main = page.locator("main:visible")
    page.evaluate("document.documentElement.style.fontSize = '30px'")  # text of 200 %
    header = page.locator("header.top").bounding_box()["height"]
    wait_for(lambda: page.locator("h1").bounding_box()["y"] >= header)
    assert page.locator(".scale").evaluate("it => it.offsetTop") >= header
    page.evaluate("document.documentElement.style.fontSize = ''")
    for top in (*range(60, 700, 80), *range(620, 0, -80)):  # down, and up, where the header is
        main.evaluate("(main, top) => main.scrollTo(0, top)", top)
        page.wait_for_timeout(100)
        months = page.evaluate(
            """() => [...document.querySelectorAll("h2.month")].map(
                (each) => [each.textContent, Math.round(each.getBoundingClientRect().top)])"""
        )
        (shown, line), *headings = months
        passed = [text for text, at in headings if at <= line]
        if page.locator(".month.now").is_visible() and passed:
            assert shown == passed[-1], (top, months)


@in_both_browsers
def test_on_a_narrow_screen_nothing_is_cut_off_or_hidden(library, open_page) -> None:
    page = open_page(library, "#/photos?in=art", details=False, viewport=PHONE["viewport"])
    search, tabs = page.get_by_role("combobox"), page.get_by_role("navigation", name="Views")
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    for top, is_seen in ((900, False), (700, True)):  # the header makes room for what one reads
        page.locator("main:visible").evaluate("(main, top) => main.scrollTo(0, top)", top)
        expect(search).to_be_in_viewport() if is_seen else expect(search).not_to_be_in_viewport()
        expect(tabs).to_be_in_viewport(ratio=1)
    wide = "[...document.querySelectorAll('html, main')].filter((each) => each.scrollWidth > each.clientWidth).length"
    for where, ready in {"#/": ".cover img", "#/photos?q=img2": ".tile.shown", "#health": "dd"}.items():  # fmt: skip
        page.evaluate("where => { location.hash = where; }", where)
        page.locator(ready).first.wait_for()
        assert page.evaluate(wide) == 0, where


# Details


def test_details_tell_what_is_known_of_a_photo_and_if_it_can_be_edited(library, open_page) -> None:
    page = open_page(library, "#/art/camera/nikon.jpg")
    details = page.get_by_role("complementary", name="Details")
    details.get_by_text("More").click()
    for text in ("art/camera/nikon.jpg", "3000 × 2000", "June 1, 2024 at 10:00 AM", "Nikon D750",
                 "48.5, 9", " kB"):  # fmt: skip
        expect(details).to_contain_text(text)
    expect(page.get_by_role("button", name="Favourite (f)")).to_be_visible()

    def odd(route: Route) -> None:
        """Answers as for a file whose focal length is no number."""
        answer = route.fetch()
        body = answer.json()
        body["exif"] |= {"FNumber": 4, "FocalLength": "50mm"}
        route.fulfill(response=answer, json=body)

    page.route(re.compile(r"/item\?"), odd)
    go(page, "#/linked/nikon.jpg")  # below a readonly pointer
    expect(details).to_contain_text("ƒ/4")
    expect(details).not_to_contain_text("NaN")
    expect(page.get_by_text("Tags and notes cannot be changed here.")).to_be_visible()
    expect(page.get_by_role("button", name="Favourite (f)")).to_be_hidden()


@in_both_browsers
def test_tags_and_notes_are_saved_when_the_field_is_left(library, open_page) -> None:
    path = "art/2025/img20.jpg"
    edit(library, path, tags=[], notes="")
    page = open_page(library, f"#/{path}")
    field = page.get_by_role("complementary").get_by_label("Add a tag")
    enter(field, "portrait")
    field.press_sequentially("pink, hair")
    field.press("Tab")
    expect(page.locator(".tokens a")).to_have_text(["portrait", "pink", "hair"])
    notes = page.get_by_label("Notes")
    notes.fill("Final pick.")
    notes.blur()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    wait_for(lambda: item(library, path)["notes"] == "Final pick.")
    page.get_by_role("button", name="Remove the tag pink").click()
    wait_for(lambda: item(library, path)["tags"] == ["portrait", "hair"])


def test_a_star_is_the_tag_favourite_also_before_the_tags_are_known(library, open_page) -> None:
    page, requests = open_page(library, "#/art/2025/"), []
    page.route(re.compile(r"/item\?"), lambda route: requests.append(route), times=1)
    link(page, "img13.jpg").click()
    expect(page.locator(".stage img").first).to_be_visible()
    page.keyboard.press("f")
    requests[0].continue_()
    star = page.get_by_role("button", name="Favourite (f)")
    expect(star).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: item(library, "art/2025/img13.jpg")["tags"] == ["favourite"])
    page.keyboard.press("Escape")
    link(page, "img13.jpg, Favourite").click()
    star.click()
    wait_for(lambda: item(library, "art/2025/img13.jpg")["tags"] == [])


def test_a_conflict_shows_both_notes_and_merges_tags(library, open_page) -> None:
    path = "art/2025/img24.jpg"
    edit(library, path, tags=["base", "gone"], notes="Before.")
    page = open_page(library, f"#/{path}")
    notes = page.get_by_label("Notes")
    expect(notes).to_have_value("Before.")
    edit(library, path, tags=["base", "theirs"], notes="Theirs.")
    notes.fill("Mine.")
    enter(page.get_by_role("complementary").get_by_label("Add a tag"), "mine")
    conflict = page.locator(".conflict")
    expect(conflict).to_contain_text("Mine.")
    expect(conflict).to_contain_text("Theirs.")
    expect(page.locator(".tokens a")).to_have_text(["base", "theirs", "mine"])
    page.get_by_role("button", name="Next photo").click()  # and what was left is told
    expect(page.get_by_text(f"Not saved: {path}: The notes have changed")).to_be_visible()
    page.get_by_role("button", name="Previous photo").click()
    assert item(library, path)["notes"] == "Theirs."
    conflict.get_by_role("button", name="Keep both").click()
    wait_for(lambda: item(library, path)["notes"] == "Theirs.\n\nMine.")
    assert item(library, path)["tags"] == ["base", "theirs", "mine"]


def test_what_cannot_be_saved_is_kept_until_the_service_is_back(
    serve, open_page, root, monkeypatch
) -> None:
    for number in range(2):
        old(root / f"{number}.jpg", photo(number))
    wait_until_indexed(server := serve(root))
    page = open_page(server, "#/0.jpg")
    notes = page.get_by_label("Notes")
    expect(notes).to_be_editable()
    os.killpg(server.process.pid, signal.SIGKILL)
    notes.fill("Must not get lost.")
    notes.blur()
    expect(page.get_by_role("complementary")).to_contain_text("A change is not saved yet")
    page.get_by_role("button", name="Next photo").click()
    page.keyboard.press("f")  # which is not done later
    expect(page.locator(".stage img").first).to_be_visible()
    expect(page.get_by_text("Lenslet does not answer")).to_contain_text("not saved yet")
    with page.expect_event("dialog") as asked:
        page.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()
    page.get_by_role("button", name="Previous photo").click()
    expect(notes).to_have_value("Must not get lost.")
    monkeypatch.setattr("conftest.free_port", lambda: server.port)
    server = serve(root)
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    assert item(server, "0.jpg")["notes"] == "Must not get lost."
    assert item(server, "1.jpg")["tags"] == []


def test_a_request_on_a_dead_connection_ends_and_what_it_had_to_save_is_sent_again(
    library, open_page
) -> None:
    page, requests = open_page(library, "#/art/2025/img11.jpg"), []
    notes = page.get_by_label("Notes")
    expect(notes).to_be_editable()
    page.evaluate(
        "() => { const whole = AbortSignal.timeout; AbortSignal.timeout = (ms) => whole.call(AbortSignal, ms / 60); }"
    )
    page.route(
        re.compile(r"/item\?"), lambda route: requests.append(route), times=1
    )  # and no answer
    notes.fill("Sent twice.")
    notes.blur()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    assert len(requests) == 1 and item(library, "art/2025/img11.jpg")["notes"] == "Sent twice."


# Several photos


@pytest.mark.parametrize("forced", ["none", "active"])
def test_the_focus_and_the_selection_have_marks_of_their_own(library, open_page, forced) -> None:
    page = open_page(library, "#/photos?in=art", forced_colors=forced)
    day = page.locator(".check").nth(1)
    expect(day).to_have_attribute("aria-pressed", "false")
    link(page, "img24.jpg").click(modifiers=["Control"])
    expect(day).to_have_attribute("aria-pressed", "false")  # not all are
    day.click()
    expect(day).to_have_attribute("aria-pressed", "true")

    def looks(name: str) -> list[bytes]:
        """How a photo looks right of its check mark: within, and with what is around it."""
        box = link(page, name).bounding_box()
        left, bottom = box["x"] + 50, box["y"] + box["height"]
        clips = [
            {"x": left, "y": bottom - 20, "width": box["width"] - 50 + more, "height": 20 + more}
            for more in (-2, 3)
        ]
        return [page.screenshot(clip=clip) for clip in clips]

    page.mouse.move(5, 5)
    link(page, "img26.jpg").focus()
    page.wait_for_timeout(500)  # then its picture is as fine as it becomes
    page.keyboard.press("ArrowLeft")
    selected = looks("img26.jpg")
    page.keyboard.press("ArrowRight")
    expect(link(page, "img26.jpg")).to_be_focused()
    both = looks("img26.jpg")
    assert both[0] == selected[0] and both[1] != selected[1]
    page.keyboard.press("Escape")
    expect(day).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Enter")
    expect(page.locator(".area")).to_have_css("outline-style", "solid")
    if forced == "active":
        go(page, "#/photos?q=img2")
        expect(page.locator(".term")).to_have_css("border-style", "solid")


@pytest.mark.parametrize(("width", "text"), [(390, 32), (195, 16), (320, 16), (820, 32)])
def test_with_text_of_twice_the_size_nothing_is_cut(library, open_page, width, text) -> None:
    page = open_page(library, "#/photos?in=art", **{**PHONE, "viewport": {"width": width, "height": 600}})  # fmt: skip
    sizes = {"fontSizes": {"standard": text, "fixed": text}}  # what one asks of the browser
    page.context.new_cdp_session(page).send("Page.setFontSizes", sizes)
    page.reload()
    expect(page.locator("html")).to_have_css("font-size", f"{text * 0.9375:g}px")
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    assert page.locator("header.top").bounding_box()["height"] < 60 + text
    page.locator(".tile button").first.dispatch_event("click")
    bar = page.get_by_role("region", name="Tags")
    expect(bar.get_by_role("button", name="Download")).to_be_in_viewport(ratio=1)
    for part in bar.locator("> b, > button:visible").all():
        box, lines = part.bounding_box(), part.evaluate("it => it.getClientRects().length")
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and lines == 1
        assert part.evaluate("it => it.scrollWidth <= it.clientWidth + 1")
    count = bar.get_by_role("status").bounding_box()
    assert count["height"] < 2 * text
    if width < 600 or text > 16:
        bar.get_by_role("button", name="Tags").tap()
        expect(page.locator(".fields")).to_be_in_viewport(ratio=1)


@in_both_browsers
def test_photos_are_selected_by_click_and_shift_tagged_and_that_is_undone(
    library, open_page
) -> None:
    for number in range(8):
        edit(library, f"big/b{number}.png", tags=[])
    page = open_page(library, "#/big/")
    bulk = page.get_by_role("region", name="Tags")
    tile(page, "b0.png").hover()
    tile(page, "b0.png").get_by_role("checkbox").click()
    link(page, "b3.png").click(modifiers=["Shift"])
    expect(bulk).to_contain_text("4 selected")
    bulk.get_by_role("button", name="Clear the selection").click()
    for number in (5, 6):
        link(page, f"b{number}.png").click(modifiers=["Control"])
    enter(bulk.get_by_label("Add a tag"), "both")
    expect(page.get_by_text("2 photos changed")).to_be_visible()
    assert [item(library, f"big/b{n}.png")["tags"] for n in (4, 5, 6)] == [[], ["both"], ["both"]]
    link(page, "b7.png").click()  # one more, which does not have it
    enter(bulk.get_by_label("Add a tag"), "both")
    wait_for(lambda: item(library, "big/b7.png")["tags"] == ["both"])
    page.get_by_role("button", name="Undo").click()
    wait_for(lambda: item(library, "big/b7.png")["tags"] == [])
    assert item(library, "big/b5.png")["tags"] == ["both"]
    with page.expect_response(re.compile("/items/tags$")):
        enter(bulk.get_by_label("Remove a tag"), "both")
    wait_for(lambda: item(library, "big/b5.png")["tags"] == [])
    page.wait_for_timeout(300)  # the page has the answer, and so something to undo
    bulk.get_by_label("Remove a tag").press("Control+z")
    wait_for(lambda: item(library, "big/b5.png")["tags"] == ["both"])
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_a_range_is_selected_whole_also_where_it_has_not_been_loaded(
    serve, open_page, root
) -> None:
    for number in range(100):
        old(root / f"{number:02}.png", encode(draw(40, 30, seed=number), "PNG"))
    wait_until_indexed(server := serve(root, PAGE_SIZE="10"))
    page, asked = open_page(server, viewport={"width": 800, "height": 200}), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    go(page, "#/")
    link(page, "00.png").click(modifiers=["Control"])
    page.keyboard.press("End")
    expect(link(page, "99.png")).to_be_focused()
    assert not any("page=5" in url for url in asked)
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("selected")).to_have_text("100 selected")
    assert any("page=5" in url for url in asked)


def test_a_tag_is_renamed_everywhere_and_that_is_one_thing_to_undo(library, open_page) -> None:
    paths = [f"art/2025/img{number}.jpg" for number in (14, 15)]
    for path, tags in zip(paths, (["misspelt"], ["misspelt", "correct"]), strict=True):
        edit(library, path, tags=tags)
    library.until(lambda: library.json("/search?q=tag:misspelt").get("total") == 2)
    page = open_page(library, "#/photos?q=tag:misspelt")
    expect(page.locator(".tile")).to_have_count(2)
    menu(page, "Rename the tag “misspelt”")
    enter(page.get_by_label("New name"), "correct")
    expect(page.get_by_text("2 photos changed")).to_be_visible()
    assert [item(library, path)["tags"] for path in paths] == [["correct"], ["correct"]]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 photos as before")).to_be_visible()
    assert [sorted(item(library, path)["tags"]) for path in paths] == [
        ["misspelt"],
        ["correct", "misspelt"],
    ]


def test_a_folder_that_was_seen_is_shown_again_while_the_service_is_away(
    serve, root, open_page
) -> None:
    for name in ("x/a", "x/b", "y/c"):
        old(root / f"{name}.jpg", photo(1))
    server = serve(root)
    page = open_page(server, "#/x/")
    expect(page.locator(".shown")).to_have_count(2)
    go(page, "#/y/")
    expect(page.locator(".shown")).to_have_count(1)
    server.stop()
    page.go_back()
    expect(page.locator(".shown")).to_have_count(2)
    page.evaluate("location.hash = '#/never-seen/'")
    expect(page.locator(".hint h2")).to_have_text("Waiting for Lenslet")


# Search


@in_both_browsers
def test_search_suggests_words_and_results_say_what_matched(library, open_page) -> None:
    edit(library, "art/2025/img26.jpg", notes="A Zoë near Łódź’s lighthouse.")
    library.until(lambda: library.json("/search?q=zoe").get("total"))
    page = open_page(library, "#/art/")
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name="Search photos")
    box.press_sequentially("-nope nik")
    expect(page.locator("form datalist option").first).to_have_attribute("value", "-nope nikon")
    enter(box, "lodz's img26")
    caption = tile(page, "img26.jpg").locator(".caption")
    expect(caption.locator("small")).to_have_text("A Zoë near Łódź’s lighthouse.")
    assert page.url.endswith("#/photos?in=art&q=lodz%27s+img26")
    enter(box, "img26")
    expect(caption).to_have_count(0)  # its name is no news
    link(page, "img26.jpg").click()
    page.reload()
    expect(viewer(page)).to_contain_text("1 of 1")


def test_each_term_of_a_search_can_be_added_and_taken_away(library, open_page) -> None:
    edit(library, "art/2025/img2.jpg", tags=["two words"])
    library.until(lambda: library.json("/search?q=tag:two").get("total") is not None)
    page = open_page(library, "#/photos?q=img2+-nope&in=art")
    box, terms = page.get_by_role("combobox"), page.locator(".title .term")
    expect(terms).to_have_text(["img2", "Without nope", "Folder: art"])
    terms.last.get_by_role("link").click()
    terms.last.get_by_role("link").last.click()
    terms.get_by_role("link", name="img2", exact=True).click()
    expect(box).to_have_value("-img2")
    terms.get_by_role("link", name="Without img2", exact=True).click()
    page.get_by_role("button", name="Filters").click()
    page.locator(".filters").get_by_role("link", name="2024").click()
    tag = page.locator(".filters").get_by_role("link", name="two words")
    tag.click()
    expect(terms).to_have_text(["img2", "Taken: 2024", "Tag: two words"])
    expect(page.locator(".title")).to_contain_text("1 photo")
    tag.click()  # once more takes it away
    expect(terms).to_have_count(2)


@pytest.mark.parametrize(
    ("typed", "searched", "shown"),
    [("Art May 2024 ", "Art date:2024-05", ["Art", "Taken: May 2024"]),
     ("img 2024", "img 2024", ["img", "2024"]),
     ("-Last Summer", "-date:2025-06..2025-08", ["Without Taken: 2025-06..2025-08"]),
     ("yesterday last month", "date:2026-02-28 date:2026-02", ["Taken: February 28, 2026", "Taken: February 2026"]),
     ('"last summer" tag:may 2024', '"last summer" tag:may 2024', ["last summer", "Tag: may", "2024"]),
     ("Tag:Beach", "Tag:Beach", ["Tag: Beach"])],
)  # fmt: skip
def test_times_are_searched_as_people_type_them(library, open_page, typed, searched, shown) -> None:
    page = open_page(library, "#/photos")
    page.clock.set_fixed_time("2026-03-01T12:00:00")
    box = page.get_by_role("combobox")
    expect(box).to_have_attribute("autocapitalize", "none")
    enter(box, typed)
    expect(page.locator(".title .term")).to_have_text(shown)
    expect(box).to_have_value(searched)


def test_favourites_and_what_was_added_last_stand_above_the_folders(library, open_page) -> None:
    page = open_page(library, "#/")
    links = page.locator(".above .chips a")
    expect(links).to_have_text(["Favourites", "Recently added"])
    links.last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recently added")
    expect(links).to_have_count(0)
    go(page, "#/art/")
    expect(links).to_have_count(0)


@in_both_browsers
def test_a_search_is_saved_stands_above_the_folders_and_is_forgotten(library, open_page) -> None:
    page = open_page(library, "#/photos?q=img2+-nope&in=art")
    for name, refusal in (("Best & <b>two</b>", ""), ("Best & <b>two</b>", "choose another name"), ("Other", "")):  # fmt: skip
        page.get_by_role("button", name="Save this search").click()
        page.get_by_label("Name above the folders").fill(name)
        page.get_by_role("button", name="Save", exact=True).click()
        if refusal:
            expect(page.get_by_text(refusal)).to_be_visible()
            page.keyboard.press("Escape")
        else:
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
        go(page, "#/photos?q=img1")
    other = open_page(library, "#/")
    chips = other.locator(".above .chips a")
    expect(chips).to_have_text(["Favourites", "Recently added", "Best & <b>two</b>", "Other"])
    go(page, "#/photos?q=img1")
    page.get_by_role("button", name="Forget this search").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Search")
    chips.nth(2).click()
    expect(other).to_have_url(re.compile(r"#/photos\?in=art&q=img2\+-nope$"))
    assert faults(other) == []
    other.get_by_role("button", name="Forget this search").click()
    other.go_back()
    expect(chips).to_have_text(["Favourites", "Recently added"])


def test_filters_stand_at_their_button_and_count_what_is_shown(library, open_page) -> None:
    page = open_page(library, "#/photos?q=img&in=art")
    button, panel = page.get_by_role("button", name="Filters"), page.locator(".filters")
    button.click()
    at, box = button.bounding_box(), panel.bounding_box()
    assert at and box and 0 <= box["y"] - at["y"] - at["height"] < 10
    assert abs(box["x"] + box["width"] - at["x"] - at["width"]) < 10
    year = panel.get_by_role("link", name="2024 27")
    held = list[Route]()
    page.route(re.compile("facets.*2024"), lambda route: held.append(route))
    with page.expect_request(re.compile("facets.*2024")):
        year.click()
    expect(panel.locator("[aria-busy=true]")).to_have_count(
        1
    )  # what stands there would forget the year
    held[0].continue_()
    expect(panel.locator("[aria-busy=true]")).to_have_count(0)
    expect(page).to_have_url(re.compile("date%3A2024"))
    expect(page.locator(".title")).to_contain_text("27 photos")
    expect(year).to_have_attribute("aria-current", "true")
    go(page, "#/art/")
    panel.get_by_role("link", name="Nikon D750 1").click()
    expect(page.locator(".title")).to_contain_text("1 photo")
    go(page, "#/photos?q=b1&in=big")
    expect(year).to_have_count(0)
    expect(panel.get_by_role("link", name="Nikon D750")).to_have_count(0)
    assert faults(page) == []


def test_a_list_is_shown_the_other_way_round_and_its_address_says_so(library, open_page) -> None:
    page = open_page(library, "#/big/")
    first = page.locator(".photo").first
    menu(page, "From Z to A")
    expect(page).to_have_url(re.compile(r"#/big/\?order=reverse$"))
    expect(first).to_have_attribute("title", "b119.png")
    first.click()
    page.keyboard.press("ArrowRight")
    at(page, "b118.png")


# Health


@in_both_browsers
def test_health_shows_counts_and_every_kind_of_problem_in_the_words_of_the_service(
    serve, open_page, root
) -> None:
    """Also one that the page has never heard of, and never the name that programs use for it."""
    old(root / "a.jpg", photo(1))
    gone = {"v": 1, "tags": ["x"], "notes": "", "hash": f"blake3:{64 * '0'}"}
    old(root / "gone.jpg.json", json.dumps(gone).encode())
    old(root / "broken.jpg", BROKEN_JPEG)
    old(root / "b.heic", photo(2))
    server = serve(root)
    server.until(lambda: len(server.json("/health")["problems"]) == 2)
    found = server.json("/health")
    new = {"kind": "newKind", "title": "Novelties", "advice": "look", "count": 3}
    found["problems"].append(new)
    page = open_page(server)
    page.route(re.compile("/health$"), lambda route: route.fulfill(json=found))
    menu(page, "Health")
    main, problems = page.get_by_role("main"), found["problems"]
    expect(main.get_by_role("heading", level=1)).to_have_text(
        "Lenslet works; some files need a look"
    )
    titles = [f"{each['title']}: {each['count']}" for each in problems]
    expect(main.get_by_role("heading", level=3)).to_have_text(titles)
    expect(main.locator(".advice")).to_have_text([each["advice"] for each in problems])
    expect(main).to_contain_text("Not shown: 1 .heic")
    expect(main).to_contain_text("Thumbnails: 1 of 2; 1 photo cannot be shown")
    for each in problems:
        expect(main).not_to_contain_text(each["kind"])
    main.get_by_role("link", name="broken.jpg").click()
    expect(viewer(page)).to_contain_text("This photo cannot be shown")


# Who may


def test_with_a_token_one_signs_in_and_out(serve, open_page, root) -> None:
    old(root / "a.jpg", photo(1))
    page = open_page(serve(root, API_TOKEN="secret-of-the-house", READ_TOKEN="only-to-look-at"))
    token, notes = page.get_by_label("Password"), page.get_by_label("Notes")
    enter(token, "something-else")
    expect(page.get_by_text("This password is not valid.")).to_be_visible()
    enter(token, "secret-of-the-house")
    link(page, "a.jpg").click()
    expect(notes).to_be_editable()
    page.keyboard.press("Escape")
    menu(page, "Sign out")
    enter(token, "only-to-look-at")
    link(page, "a.jpg").click()
    shown(page)
    expect(page.get_by_text("Tags and notes cannot be changed here.")).to_be_visible()
    expect(page.locator("[role=checkbox], .bulk:visible, aside input, textarea")).to_have_count(0)


def test_where_only_a_proxy_names_users_nobody_is_asked_for_a_password(
    serve, open_page, root
) -> None:
    page = open_page(serve(root, AUTH_HEADER="Remote-User"))
    reason = "No trusted proxy has named a user in the header Remote-User."
    expect(page.get_by_role("main")).to_contain_text(reason)
    expect(page.get_by_label("Password")).to_have_count(0)
    page.set_extra_http_headers({"Remote-User": "ann"})
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Menu")).to_be_visible()


# For everyone


def test_tab_leads_through_the_tree_and_past_it(library, open_page) -> None:
    page = open_page(library, "#/art/")
    tree = page.get_by_role("navigation", name="Folders")
    expect(tree.get_by_role("link", name="camera")).to_be_visible()
    tree.get_by_role("link", name="art").focus()
    press(page, "Tab", "Tab", "Enter")
    expect(page.locator("h1")).to_have_text("2025")
    expect(tree.get_by_role("link", name="2025")).to_be_focused()
    page.get_by_role("button", name="To the photos").focus()
    page.keyboard.press("Enter")
    expect(link(page, "img0.jpg")).to_be_focused()


@in_both_browsers
def test_everything_can_be_done_with_keys(library, open_page) -> None:
    page = open_page(library, "#/art/2025/")
    expect(link(page, "img0.jpg")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Move between photos")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    expect(link(page, "img0.jpg")).to_be_focused()
    press(page, "Space", "ArrowRight", "Shift+Space")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("Control+a")
    expect(page.get_by_text("30 selected")).to_be_visible()
    press(page, "Escape", "Enter")
    at(page, "img1.jpg")
    press(page, "Escape", "Escape")  # which is one step back
    expect(link(page, "img1.jpg")).to_be_focused()


def focused(page: Page) -> str:
    """What has the focus: its label, text or tag."""
    return str(
        page.evaluate("""() => {
        const it = document.activeElement;
        const name = it.matches("main, body") ? it.tagName : it.ariaLabel || it.title || it.innerText;
        return it.checkVisibility() && (name || it.tagName);
    }""")
    )


def has_focus(page: Page, what: str) -> None:
    for _ in range(30):
        if re.match(what, focused(page)):
            return
        page.wait_for_timeout(100)
    assert focused(page) == what


@in_both_browsers
def test_another_list_has_the_focus(library, open_page) -> None:
    page = open_page(library, "#/")
    for name, heading in (("art.*", "art"), ("2025.*", "2025")):
        page.locator(".folders").get_by_role("link", name=re.compile(name)).focus()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(heading)
        has_focus(page, "MAIN")


@in_both_browsers
def test_what_has_the_focus_leaves_it_to_what_takes_its_place(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img1.jpg")
    enter(page.get_by_role("complementary").get_by_label("Add a tag"), "one,two")
    page.get_by_role("button", name="Remove the tag one").press("Enter")
    has_focus(page, "Remove the tag two")
    page.keyboard.press("Enter")
    has_focus(page, "DIV")  # the photo
    page.keyboard.press("Escape")
    has_focus(page, "img1.jpg")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Clear the selection").press("Enter")
    has_focus(page, "MAIN")
    menu = page.get_by_role("button", name="Menu")
    menu.press("Enter")
    press(page, "Tab", "Escape")
    has_focus(page, "Menu")
    menu.press("Enter")
    page.locator(".menu").get_by_role("button", name="Keys").press("Enter")
    has_focus(page, "Close")
    page.keyboard.press("Escape")
    has_focus(page, "Menu")
    page.get_by_role("combobox").press("Escape")
    has_focus(page, "MAIN")
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Folders").press("Enter")
    expect(page.locator("h1")).to_have_text("Folders")
    has_focus(page, "Folders")
    page.get_by_role("button", name="To the photos").press("Enter")
    has_focus(page, "MAIN")


def test_the_photos_are_one_stop_of_tab(library, open_page) -> None:
    page = open_page(library, "#/photos", viewport={"width": 800, "height": 500})
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    page.locator("main:visible").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    stops = []
    while "Add a tag" not in stops and len(stops) < 10:
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert stops == ["Timeline", "Clear the selection", "All", "Favourite", "Add a tag"]


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_view_has_faults_of_accessibility(library, open_page, width) -> None:
    page = open_page(library, viewport={"width": width, "height": 800})
    views = {"#/": ".folders img", "#/photos": ".day h3", "#/photos?by=added": ".tile.shown", "#/odd/": ".reason",
             "#/?q=img2": ".tile.shown", "#/nope/": ".hint", "#health": ".health dd", "#/art/2025/img27.jpg": ".stage img.large"}  # fmt: skip
    for where, ready in views.items():
        go(page, where)
        page.locator(ready).first.wait_for()
        page.wait_for_timeout(300)  # what fades in
        assert faults(page) == [], where
    press(page, "Escape", "?")
    assert faults(page) == [], "keys"
    page.keyboard.press("Escape")
    go(page, "#/art/2025/")
    for opens in ("Menu", "Filters"):
        page.get_by_role("button", name=opens).click()
        assert faults(page) == [], opens
        page.keyboard.press("Escape")
    link(page, "img0.jpg").focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("1 selected")).to_be_visible()
    assert faults(page) == [], "selection"


def faults(page: Page) -> list[str]:
    """What axe finds in light and, of colours, in dark: nothing else depends on it."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)  # what fades
    found += page.evaluate("axe.run(document, {runOnly: 'color-contrast'})")["violations"]
    page.emulate_media(color_scheme="light")
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@pytest.mark.timing
def test_over_a_slow_line_the_first_photo_is_shown_within_two_seconds(library, open_page) -> None:
    """A line of 1.6 Mbit/s, on which an answer begins after 300 ms."""
    slow = {"offline": False, "latency": 300, "downloadThroughput": 200_000, "uploadThroughput": 200_000}  # fmt: skip
    times = []
    for _ in range(3):
        page = open_page("about:blank")
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", slow)
        page.goto(f"http://127.0.0.1:{library.port}/", wait_until="commit")
        page.locator(".tile.shown").first.wait_for()
        found = page.evaluate("""() => [
            performance.getEntriesByName("first-contentful-paint")[0].startTime,
            performance.getEntriesByType("resource").find(({ name }) => name.includes("thumb?")).responseEnd,
        ]""")
        times.append(found)
    assert min(paint for paint, _ in times) < 1200, times
    assert min(photo for _, photo in times) < 2000, times


def test_all_texts_are_in_the_file_of_strings() -> None:
    """Every text that is used exists, every text is used, and no other file has English in it."""
    scripts = {path.name: path.read_text() for path in PAGE.glob("*.js")}
    strings = scripts.pop("strings.js")
    used = {name for text in scripts.values() for name in re.findall(r"\bT\.(\w+)", text)}
    assert used == set(re.findall(r"(?m)^\t(\w+): ?", strings))
    for name, text in scripts.items():
        code = re.sub(r"(?m)//.*$", "", text)
        assert re.findall(r'"[A-Z][a-z]+ [a-z]+[^"]*"', code) == [], name
