"""The gallery page in a real browser, on a real service."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import axe_playwright_python
import large
import pytest
from conftest import (
    BROKEN_JPEG,
    CORPUS,
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
from PIL import Image
from playwright.sync_api import Locator, Page, Request, expect

pytestmark = pytest.mark.slow
PAGE = ROOT / "lenslet" / "page"
AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
HOSTILE = ["<img src=x onerror=alert(1)>.jpg", "'\"><script>alert(1)<script>.jpg", "a&amp;b#?%41.jpg"]  # fmt: skip


def old(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Writes a file that nobody is writing to any more."""
    os.utime(put(path, data), (1_700_000_000, 1_700_000_000))
    return path


def photo(seed: int, width: int = 800, height: int = 600, **tags: Any) -> bytes:
    return jpeg(width, height, seed=seed, exif=exif(**tags) if tags else b"")


def taken(day: int) -> dict[str, str]:
    return {"DateTimeOriginal": f"2024:05:{day:02d} 12:30:00"}


def fill(root: pathlib.Path) -> None:
    """A library: art/2025 with 30 photos of ten days, a big folder, odd names, broken files."""
    for number in range(30):
        width, height = [(800, 600), (600, 800), (1200, 500)][number % 3]
        day = taken(1 + number // 3) if number < 27 else {}
        old(root / f"art/2025/img{number}.jpg", photo(number, width, height, **day))
    camera = Image.Exif()
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
    pointer = {"version": 1, "kind": "pointer", "target": {"type": "local", "path": "art/camera"}}
    put(
        root / "linked/.lenslet.folder.json",
        json.dumps({**pointer, "label": "Characters 2024", "readonly": True}).encode(),
    )
    if CORPUS:
        for path in sorted(pathlib.Path(CORPUS, "cameras").glob("*.jpg"))[:8]:
            old(root / "real" / path.name, path.read_bytes())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over the library, which has been indexed. Tests do not change what they share."""
    home = tmp_path_factory.mktemp("page")
    fill(home / "photos")
    server = Server(home / "photos", home, PAGE_SIZE="50", POINTER_ROOTS=str(home))
    wait_until_indexed(server)
    yield server
    server.stop()


@pytest.fixture
def indexed(serve: Callable[..., Server], root: pathlib.Path) -> Callable[..., Server]:
    """Starts a service over the root, and waits until it has indexed what is there."""

    def start(**settings: str) -> Server:
        server = serve(root, **settings)
        wait_until_indexed(server)
        return server

    return start


def wait_until_indexed(server: Server) -> None:
    def is_done() -> bool:
        health = server.json("/health")
        counts = (health.get("library") or {}).get("counts")
        return bool(counts) and not (health["workers"]["backlog"] or counts["thumbnailsMissing"])

    server.until(is_done, 60)


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


def choose(field: Locator, value: str) -> None:
    """Does what Chromium does when somebody chooses from the list below a field."""
    field.evaluate(
        "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


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


def test_the_browser_understands_every_rule_of_the_style_sheet(library, open_page) -> None:
    page = open_page(library)
    count = """() => {
        const all = (rules) => [...rules].flatMap((rule) => [rule, ...all(rule.cssRules ?? [])]);
        return [...document.styleSheets].map(({ cssRules }) => all(cssRules).length);
    }"""
    assert page.evaluate(count) == [(PAGE / "style.css").read_text().count("{")]


@in_both_browsers
def test_folders_have_names_counts_covers_and_a_place_in_the_tree(library, open_page) -> None:
    page = open_page(library, "#/")
    expect(page.get_by_role("navigation", name="Folders").get_by_role("link")).to_contain_text(
        ["Folders", "art", "big", "empty", "Characters 2024", "odd"]
    )
    tiles = page.locator(".folders a")
    expect(tiles.filter(has_text="art")).to_contain_text("31 photos")
    expect(tiles.filter(has_text="empty")).not_to_contain_text("photo")
    tops = {tile.bounding_box()["y"] for tile in tiles.all()}
    assert len(tops) < tiles.count()  # side by side
    expect(tiles.filter(has_text="big").locator("img")).to_have_js_property("naturalWidth", 40)
    expect(tiles.filter(has_text="Characters 2024").get_by_role("img")).to_have_attribute(
        "title", "Shows the photos of another place"
    )
    tiles.filter(has_text="art").click()
    expect(tiles.filter(has_text="2025")).to_contain_text("30 photos")
    tiles.filter(has_text="2025").click()
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))
    expect(page.locator(".crumbs a")).to_have_text(["Folders", "art"])
    expect(page.locator(".title")).to_have_text("202530 photosAll below, by date")
    expect(page.locator(".tree [aria-current]")).to_have_text("2025")
    page.locator(".crumbs a").filter(has_text="art").click()
    expect(page.locator(".folders .name")).to_have_text(["2025", "camera"])


def test_a_folder_with_pages_of_several_sizes_is_shown_in_order(indexed, open_page, root) -> None:
    """The first photos have so many tags that a page of them has 20, and another 30."""
    for number in range(60):
        old(root / f"uneven/u{number}.png", encode(draw(40, 30, seed=number), "PNG"))
        if number < 25:
            tags = [f"{each:03}" + "\U0001f600" * 197 for each in range(500)]
            text = json.dumps({"v": 1, "tags": tags}, ensure_ascii=False)
            old(root / f"uneven/u{number}.png.json", text.encode())
    server = indexed(PAGE_SIZE="30")
    assert server.json("/folders?path=uneven")["starts"] == [0, 20, 50]
    page = open_page(server, "#/uneven/u59.png")
    expect(viewer(page)).to_contain_text("60 of 60")
    for number in range(58, 47, -1):
        page.keyboard.press("ArrowLeft")
        at(page, f"u{number}.png")
    page.keyboard.press("Escape")
    expect(link(page, "u48.png")).to_be_focused()


@pytest.mark.parametrize(
    ("where", "title", "then"),
    [
        ("#/nope/", "This folder does not exist", "Folders"),
        ("#/empty/", "No photos here yet", ".jpg, .jpeg, .png, or .webp appear here"),
        ("#/?q=xyzzy", "Nothing found", "No photo here has every word"),
        ("#/art/?q=xyzzy", "Nothing found", "Everywhere"),
        ("#/photos?q=tgg:foo", "Nothing found", "“tgg:” is not known: tag:, name:, notes:"),
    ],
)
def test_nothing_to_show_says_what_to_do(library, open_page, where, title, then) -> None:
    page = open_page(library, where)
    expect(page.locator(".hint h2")).to_have_text(title)
    expect(page.locator(".hint")).to_contain_text(then)


# The grid


@in_both_browsers
def test_rows_are_justified_and_keep_the_shape_of_photos(library, open_page) -> None:
    page = open_page(library, "#/art/2025/")
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


def test_only_what_is_near_the_screen_is_in_the_page_and_asked_for(library, open_page) -> None:
    page = open_page(library)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{page.url.split('#')[0]}#/big/")
    expect(link(page, "b0.png")).to_be_visible()
    page.wait_for_timeout(500)
    assert page.locator(".tile").count() < 60
    assert not any("page=2" in url for url in asked)
    link(page, "b0.png").focus()
    page.keyboard.press("End")
    expect(link(page, "b119.png")).to_be_focused()
    expect(link(page, "b0.png")).to_have_count(0)
    expect(tile(page, "b119.png").locator("img")).to_have_js_property("naturalWidth", 40)
    assert any("page=2" in url for url in asked)
    assert page.locator(".tile").count() < 60
    page.goto(f"{page.url.split('#')[0]}#/?q=path:big")
    expect(page.get_by_text("120 photos")).to_be_visible()
    page.locator(".photo").first.focus()
    page.keyboard.press("End")
    expect(link(page, "b119.png")).to_be_focused()


def test_what_cannot_be_shown_is_a_quiet_tile_with_the_reason(library, open_page) -> None:
    page = open_page(library)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{page.url.split('#')[0]}#/odd/")
    expect(page.locator(".reason")).to_contain_text("broken.jpg cannot be decoded")
    expect(tile(page, "cut.jpg, The end of the file is missing").locator("img")).to_have_js_property("naturalWidth", 256)  # fmt: skip
    assert not any("thumb?path=odd%2Fbroken.jpg" in url for url in asked)
    page.locator(".reason").click()
    expect(viewer(page)).to_contain_text("This photo cannot be shown")


def test_a_second_visit_asks_for_three_things_at_most(library, open_page) -> None:
    page = open_page(library, "#/art/2025/")
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    page.wait_for_load_state("networkidle")
    before = requests_of(library)
    page.goto("about:blank")
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/")
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    page.wait_for_timeout(7000)
    assert requests_of(library) - before <= 3


def requests_of(server: Server, *but: str) -> int:
    """What the service has answered, without this question and some routes."""
    found = re.findall(
        r'requests_total\{route="([^"]*)",.*\} (\d+)', server.get("/metrics")[1].decode()
    )
    return sum(int(count) for route, count in found if route not in ("/metrics", "/health", *but))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service over one folder of 100,000 photos."""
    home = tmp_path_factory.mktemp("many")
    large.make(home / "photos", "many", 100_000)
    server = Server(home / "photos", home)

    def is_known() -> bool:
        months = server.json("/timeline").get("months", ())
        return sum(month["count"] for month in months) == 100_000

    server.until(lambda: all(is_known() for _ in range(8)), 120)  # to both request processes
    yield server
    server.stop()


@pytest.mark.timing
@in_both_browsers
def test_a_hundred_thousand_photos_scroll_to_the_end(many, open_page) -> None:
    page = open_page(many, "#/many/")
    expect(link(page, "p000000.jpg")).to_be_visible()
    expect(page.locator(".title")).to_contain_text("100,000 photos")
    times = sorted(
        page.evaluate(
            """async () => {
                const [main, times] = [document.querySelector("main"), []];
                let last = performance.now();
                for (let frame = 1; frame <= 400; frame++) {
                    main.scrollTop = (main.scrollHeight - main.clientHeight) * frame / 400;
                    await new Promise(requestAnimationFrame);
                    times.push(performance.now() - last);
                    last = performance.now();
                }
                return times;
            }"""
        )
    )
    expect(link(page, "p099999.jpg")).to_be_visible()
    expect(tile(page, "p099999.jpg").locator("img")).to_have_js_property("naturalWidth", 200)
    assert page.locator(".tile").count() < 200
    assert times[200] < 100
    link(page, "p099999.jpg").click()
    expect(viewer(page)).to_contain_text("100,000 of 100,000")


@in_both_browsers
def test_any_number_of_photos_by_date_is_reached(many, open_page) -> None:
    """More pixels than a box that scrolls may have, by wheel, End, scale and address."""
    page = open_page(many)
    now, first = page.locator(".month.now"), page.locator(".photo").first
    expect(first).to_have_attribute("href", re.compile("#/many/p0.*by=date"))
    newest, oldest = first.get_attribute("title"), "p099960.jpg"  # of its second
    page.mouse.move(600, 400)
    page.mouse.wheel(0, 30_000)
    expect(now).to_have_text(re.compile(" 2023$"))
    page.keyboard.press("End")
    expect(now).to_have_text("January 2000")
    expect(link(page, oldest)).to_be_in_viewport()
    scale = page.locator(".scale").bounding_box()
    assert scale
    page.mouse.move(scale["x"] + 20, scale["y"] + 10)
    page.mouse.down()
    page.mouse.move(scale["x"] + 20, scale["y"] + scale["height"] / 2, steps=5)
    expect(page.locator(".bubble")).to_have_text(re.compile("20(10|11|12)$"))
    page.mouse.up()
    expect(now).to_have_text(re.compile("20(10|11|12)$"))
    page.get_by_role("slider", name="Timeline").press("ArrowDown")
    expect(page).to_have_url(re.compile(r"#/photos/20(10|11|12)-\d\d$"))
    expect(page.locator(".tile:not(.shown)")).to_have_count(0)
    tops = "Object.fromEntries([...document.querySelectorAll('.tile')].map(t => [t.querySelector('a').title, Math.round(t.getBoundingClientRect().top)]))"
    page.wait_for_timeout(500)  # the place is kept once nothing moves
    before = page.evaluate(tops)
    page.reload()

    def is_there() -> bool:
        now = page.evaluate(tops)
        return bool(now) and all(abs(now.get(name, -999) - before[name]) < 3 for name in before)

    wait_for(is_there)
    for address, month in (
        ("2005-06", "June 2005"),
        ("2004-05", "May 2004"),
        ("2003-04", "April 2003"),
    ):
        page.evaluate("where => (location.hash = where)", f"#/photos/{address}")
        expect(now).to_have_text(month)
        page.wait_for_timeout(1000)  # what loads before it moves it
        expect(now).to_have_text(month)
        page.go_back()
    expect(now).to_have_text(re.compile("20(10|11|12)$"))
    page.keyboard.press("Home")
    expect(link(page, str(newest))).to_be_in_viewport()


def test_a_month_whose_photos_are_gone_once_it_is_loaded_is_no_error(many, open_page) -> None:
    page = open_page(many)
    gone = {"items": [], "total": 0, "more": False}
    page.route(re.compile(r"/search\?.*2010-11"), lambda route: route.fulfill(json=gone))
    with page.expect_response(re.compile(r"/search\?.*2010-11")):
        page.evaluate("location.hash = '#/photos/2010-11'")
    expect(page.locator(".month.now")).to_have_text(re.compile(" 2010$"))
    page.set_viewport_size({"width": 900, "height": 800})
    expect(page.locator(".tile.shown").first).to_be_visible()


def test_what_has_been_scrolled_past_is_let_go(many, open_page) -> None:
    page = open_page(many)
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    session = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 100, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", slow)  # pictures still load when they are left
    page.evaluate(
        """async () => {
            for (let step = 0; step < 150; step++) {
                document.querySelector("main").scrollTop += 900;
                await new Promise((done) => setTimeout(done, 80));
            }
        }"""
    )
    expect(page.locator(".tile:not(.shown)")).to_have_count(0)
    assert memory(page)[0] < 1200


def test_a_library_without_dates_begins_with_its_folders(indexed, open_page, root) -> None:
    old(root / "a/one.jpg", photo(1))
    server = indexed()
    page = open_page(server)
    expect(page.locator(".folders .name")).to_have_text(["a"])
    expect(page).to_have_url(re.compile("#/$"))
    page.go_back()  # it was replaced, so this leads out
    assert "#" not in page.url


def test_new_photos_are_announced_and_nothing_moves(indexed, open_page, root) -> None:
    for number in range(30):
        old(root / f"a/{number}.jpg", photo(number, **taken(1 + number // 3)))
    server = indexed(SCAN_SECONDS="1")
    page = open_page(server)
    first = page.locator(".photo").first
    expect(first).to_have_attribute("title", "27.jpg")
    old(root / "a/new.jpg", photo(1, **taken(28)))
    page.get_by_role("button", name="1 new").click(timeout=30_000)
    expect(first).to_have_attribute("title", "new.jpg")
    expect(page.locator(".title")).to_contain_text("31 photos")
    expect(page.locator(".fresh")).to_be_hidden()


def memory(page: Page) -> tuple[int, float]:
    """The nodes that the browser holds, also those in no page any more, and MB of scripts."""
    session = page.context.new_cdp_session(page)
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    return int(session.send("Memory.getDOMCounters")["nodes"]), heap / 1e6


@in_both_browsers
def test_photos_are_shown_by_date_with_their_days_and_folders(library, open_page) -> None:
    """All of them where the page begins, the newest first; or those of a folder and below."""
    page = open_page(library)
    expect(page).to_have_url(re.compile("#/photos$"))
    expect(page.locator("h1")).to_have_text("Photos")
    page.evaluate("location.hash = '#/art/'")
    page.get_by_role("link", name="By date").click()
    expect(page).to_have_url(re.compile(r"#/photos\?in=art$"))
    expect(page.locator(".title")).to_contain_text("31 photos · 2024")
    expect(page.locator("h2.month:not(.now)")).to_have_text(["June 2024", "May 2024"])
    days = ["Sat, Jun 1", *(f"{day}, May {9 - n}" for n, day in enumerate(DAYS))]
    expect(page.locator(".day h3").first).to_have_text(days[0])
    page.keyboard.press("End")
    expect(page.locator("h2.month:not(.now)").last).to_have_text("No date")
    expect(page).to_have_url(re.compile(r"#/photos/2024-05\?in=art$"))
    expect(page.locator(".day h3").last).to_have_text(days[-1])
    page.keyboard.press("Home")
    expect(page.locator(".day a").nth(1)).to_have_attribute("href", "#/art/2025/")
    expect(page.locator(".photo").first).to_have_attribute("title", "nikon.jpg")
    expect(page.locator(".photo").nth(1)).to_have_attribute("title", "img24.jpg")
    page.locator(".day", has_text="May 9").hover()
    page.locator(".day", has_text="May 9").get_by_role("button").click()
    expect(page.locator(".bulk")).to_contain_text("3 selected")
    page.keyboard.press("Escape")
    link(page, "img25.jpg").click()
    expect(viewer(page)).to_contain_text("3 of 31")
    page.reload()
    expect(viewer(page)).to_contain_text("3 of 31")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/photos(/2024-06)?\?in=art$"))
    page.get_by_role("link", name="As folders").click()
    expect(page.locator(".folders .name")).to_have_text(["2025", "camera"])


DAYS = ("Thu", "Wed", "Tue", "Mon", "Sun", "Sat", "Fri", "Thu", "Wed")


def test_a_new_library_shows_every_picture_without_a_reload(serve, open_page, root) -> None:
    for number in range(40):
        old(root / f"n/{number}.jpg", photo(number, 1600, 1200))
    page = open_page(serve(root, THUMB_WAIT="0"), "#/n/")
    for number in (0, 20, 39):
        expect(page.locator(".tile").first).to_be_attached()
        page.locator("main:visible").evaluate(
            "(main, share) => main.scrollTo(0, share * main.scrollHeight)", number / 39
        )
        expect(link(page, f"{number}.jpg")).to_be_visible()
        expect(page.locator(".tile:not(.shown)")).to_have_count(0)
    box = "({clientWidth, clientHeight}) => clientWidth / clientHeight"
    wait_for(lambda: abs(link(page, "39.jpg").evaluate(box) - 4 / 3) < 0.05)


def test_thumbnails_that_are_made_again_appear_by_themselves_and_are_kept(
    indexed, open_page, root, tmp_path
) -> None:
    """In the grid, as the cover of a folder, and among the results of a search."""
    old(root / "sub/a.jpg", photo(1))
    shutil.copy(ROOT / "gunicorn.conf.py", tmp_path)  # beside which it reads .env
    server = indexed(cwd=str(tmp_path))
    page = open_page(server, "#/sub/")
    image = tile(page, "a.jpg").locator("img")
    expect(image).to_have_js_property("naturalWidth", 256)
    first = image.evaluate("image => image.src")
    (tmp_path / ".env").write_text("THUMB_LONG_EDGE=64\n")
    server.process.send_signal(signal.SIGHUP)
    expect(image).to_have_js_property("naturalWidth", 64, timeout=60_000)
    second = image.evaluate("image => image.src")
    assert second != first
    answers: dict[str, str] = {}
    page.on("response", lambda found: answers.update({found.url: found.headers["cache-control"]}))
    page.reload()
    page.goto(f"http://127.0.0.1:{server.port}/")
    cover = page.locator(".cover img")
    expect(cover).to_have_js_property("naturalWidth", 64)
    assert cover.evaluate("image => image.src") == second
    page.goto(f"http://127.0.0.1:{server.port}/#/?q=a.jpg")
    expect(image).to_have_js_property("naturalWidth", 64)
    wait_for(lambda: image.evaluate("image => image.src") == second)
    link(page, "a.jpg").click()
    shown(page)
    sent = {url: how for url, how in answers.items() if "/thumb?" in url or "/preview?" in url}
    kept = {how for url, how in sent.items() if "&v=" in url}
    assert kept == {"private, max-age=31536000, immutable"}
    assert any("/preview?" in url for url in sent)


# The viewer


@in_both_browsers
def test_back_leaves_the_photo_and_then_the_folder(library, open_page) -> None:
    page = open_page(library, "#/")
    page.locator(".folders a").filter(has_text="big").click()
    for name in ("b3.png", "b4.png"):
        link(page, name).click()
        expect(viewer(page)).to_be_visible()
        page.keyboard.press("Escape")
        expect(viewer(page)).to_be_hidden()
        expect(link(page, name)).to_be_focused()
    link(page, "b2.png").click()
    expect(viewer(page)).to_be_visible()
    page.go_back()
    expect(viewer(page)).to_be_hidden()
    expect(link(page, "b2.png")).to_be_focused()
    page.go_forward()
    page.keyboard.press("ArrowRight")
    at(page, "b3.png")
    page.reload()
    expect(viewer(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/big/$"))
    page.go_back()
    expect(page.locator(".folders .name").first).to_have_text("art")


def test_escape_leads_to_the_list_of_a_photo_that_was_not_opened_from_it(
    library, open_page
) -> None:
    page = open_page(library, "#/big/")
    link(page, "b3.png").click()
    expect(viewer(page)).to_be_visible()
    page.evaluate("location.hash = '#/art/2025/img4.jpg'")
    at(page, "img4.jpg")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))
    page.go_back()
    at(page, "b3.png")


@in_both_browsers
def test_a_photo_shows_its_preview_and_zoomed_in_the_file(library, open_page) -> None:
    page = open_page(library, "#/art/camera/nikon.jpg")
    shown(page)
    large = page.locator(".stage img.large")
    expect(large).to_have_js_property("naturalWidth", 1600)
    assert "/preview?" in large.evaluate("image => image.src")
    area = page.locator(".stage").bounding_box()
    page.keyboard.press("+")
    expect(large).to_have_js_property("naturalWidth", 3000)
    assert page.locator(".stage").bounding_box()["width"] == pytest.approx(1.6 * area["width"], 0.02)  # fmt: skip
    before = page.locator(".stage").bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    assert page.locator(".stage").bounding_box()["x"] < before
    box = page.locator(".area").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = page.locator(".stage").bounding_box()["x"]
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1], steps=4)
    page.mouse.up()
    assert page.locator(".stage").bounding_box()["x"] > before
    page.keyboard.press("0")
    assert page.locator(".stage").bounding_box()["width"] == pytest.approx(area["width"], 0.01)
    page.mouse.wheel(0, -400)
    expect(page.locator(".area.zoomed")).to_have_count(1)


@in_both_browsers
def test_keys_and_buttons_go_to_the_neighbours(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img10.jpg")
    shown(page)
    name = viewer(page).locator("header b")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("img11.jpg")
    page.get_by_role("button", name="Previous photo").click()
    expect(name).to_have_text("img10.jpg")
    page.get_by_role("button", name="Next photo").click()
    expect(name).to_have_text("img11.jpg")
    expect(page).to_have_url(re.compile(r"#/art/2025/img11\.jpg$"))
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/img28.jpg")
    shown(page)
    page.get_by_role("button", name="Next photo").click()
    expect(page.get_by_role("button", name="Next photo")).to_be_disabled()  # it had the focus
    press(page, "ArrowRight", "ArrowLeft")
    at(page, "img28.jpg")


def test_a_photo_is_asked_for_once_its_neighbours_ahead_and_in_passing_none(
    library, open_page
) -> None:
    page, asked = open_page(library, "#/empty/"), list[str]()
    page.on("request", lambda request: asked.append(request.url.partition(f":{library.port}")[2]))
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/img12.jpg")
    shown(page)
    path = "path=art%2F2025%2Fimg"
    counts = {
        each: count_of(asked, each) for each in ("/item?", f"/thumb?{path}12", f"/preview?{path}12")
    }
    assert set(counts.values()) == {1}, asked
    for near in (f"/preview?{path}11.jpg", f"/preview?{path}13.jpg"):  # loaded ahead
        wait_for(lambda near=near: page.wait_for_timeout(50) or count_of(asked, near))
    asked.clear()
    page.evaluate("""async () => {
        for (let press = 0; press < 10; press++) {
            document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
            await new Promise((done) => setTimeout(done, 40));
        }
    }""")
    at(page, "img22.jpg")
    shown(page)
    assert count_of(asked, "/item?") + count_of(asked, "/preview?") <= 6, asked


def count_of(asked: list[str], start: str) -> int:
    return sum(each.startswith(start) for each in asked)


def test_what_stands_around_a_photo_fades_and_comes_back(library, open_page) -> None:
    """In full screen too. Details are closed at first, and then as they were left."""
    page = open_page(library, "#/art/2025/img1.jpg", details=False)
    shown(page)
    details, close = (
        page.get_by_role("complementary"),
        page.get_by_role("button", name=re.compile("Close")),
    )
    expect(details).to_be_hidden()
    page.keyboard.press("s")
    wait_for(lambda: page.evaluate("document.fullscreenElement !== null"))
    header = viewer(page).locator("header")
    expect(header).to_have_css("opacity", "0")
    page.mouse.move(300, 300)
    expect(header).to_have_css("opacity", "1")
    expect(close.first).to_be_in_viewport()
    page.keyboard.press("f")
    expect(page.get_by_text("Favourite", exact=True).last).to_be_visible()
    page.keyboard.press("f")
    expect(page.get_by_text("No favourite any more")).to_be_visible()
    page.keyboard.press("i")
    expect(details).to_be_visible()
    expect(details.get_by_text("Saved", exact=True)).to_be_visible()
    page.reload()
    expect(details).to_be_visible()


PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def swipe(page: Page, *points: tuple[float, float], hold: int = 0) -> None:
    touch = page.context.new_cdp_session(page)
    for number, (x, y) in enumerate(points):
        kind = "touchMove" if number else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    page.wait_for_timeout(hold)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_swipe_goes_to_the_next_photo_or_closes(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img1.jpg", details=False, **PHONE)
    shown(page)
    swipe(page, (300, 400), (250, 400), (200, 400), (120, 400))
    expect(page).to_have_url(re.compile(r"img2\.jpg$"))
    swipe(page, (100, 400), (150, 400), (250, 400), (330, 400))
    expect(page).to_have_url(re.compile(r"img1\.jpg$"))
    swipe(page, (200, 300), (205, 350), (205, 420), (210, 500))
    expect(viewer(page)).to_be_hidden()
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))


def test_on_a_phone_a_long_press_selects_and_a_tap_beside_the_tree_closes_it(
    library, open_page
) -> None:
    page = open_page(library, "#/art/2025/", **PHONE)
    expect(link(page, "img0.jpg")).to_be_visible()
    expect(page.get_by_role("navigation", name="Views")).to_be_in_viewport()
    expect(page.get_by_role("checkbox").first).to_be_hidden()
    place = link(page, "img0.jpg").bounding_box()
    assert place
    swipe(page, (place["x"] + 30, place["y"] + 30), hold=900)
    expect(page.get_by_text("1 selected")).to_be_visible()
    link(page, "img1.jpg").tap()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.get_by_role("button", name="Clear the selection").click()
    page.get_by_role("button", name="Folder tree").tap()
    expect(page.locator(".tree")).to_be_visible()
    page.touchscreen.tap(330, 400)
    expect(page.locator(".tree")).to_be_hidden()
    expect(viewer(page)).to_have_count(0)


@in_both_browsers
def test_on_a_narrow_screen_nothing_is_cut_off_or_hidden(library, open_page) -> None:
    page = open_page(library, "#/photos?in=art", details=False, viewport=PHONE["viewport"])
    search = page.get_by_role("combobox", name="Search photos")
    expect(page.locator(".tile.shown")).not_to_have_count(0)
    tabs = page.get_by_role("navigation", name="Views")
    expect(tabs).to_be_in_viewport(ratio=1)
    ink = page.evaluate("getComputedStyle(document.body).color")
    scroll_to(page, 900)
    expect(search).not_to_be_in_viewport()
    expect(page.locator(".month.now")).to_have_css("color", ink)
    expect(tabs).to_be_in_viewport(ratio=1)
    scroll_to(page, 700)
    expect(search).to_be_in_viewport()
    menu = page.get_by_role("button", name="Folder tree")
    menu.click()
    first = page.get_by_role("navigation", name="Folders").get_by_role("link").first
    expect(first).to_be_visible()
    assert below(first, menu)
    menu.click()
    expect(first).to_be_hidden()
    page.locator(".photo").first.click()
    shown(page)
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("#/photos"))
    wide = "[...document.querySelectorAll('html, main')].filter((each) => each.scrollWidth > each.clientWidth).length"
    for where, ready in {
        "#/": ".cover img",
        "#/photos?q=img2": ".caption",
        "#health": "dd",
    }.items():
        page.evaluate("where => { location.hash = where; }", where)
        page.locator(ready).first.wait_for()
        assert page.evaluate(wide) == 0, where
    assert below(page.get_by_role("heading", level=1), menu)
    expect(page.locator(".scale")).to_be_hidden()


def scroll_to(page: Page, top: int) -> None:
    page.locator("main:visible").evaluate("(main, top) => main.scrollTo(0, top)", top)


def below(lower: Locator, upper: Locator) -> bool:
    top, bottom = (
        each.evaluate(f"each => each.getBoundingClientRect().{side}")
        for each, side in ((lower, "top"), (upper, "bottom"))
    )
    return bool(top >= bottom)


@in_both_browsers
def test_slideshow_full_screen_and_download(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img1.jpg")
    shown(page)
    with page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.suggested_filename == "img1.jpg"
    original = library.get("/files/art/2025/img1.jpg")[1]
    assert pathlib.Path(download.value.path()).read_bytes() == original
    page.get_by_role("button", name=re.compile("Full screen")).click()
    wait_for(lambda: page.evaluate("document.fullscreenElement !== null"))
    page.keyboard.press("p")
    expect(page).to_have_url(re.compile(r"img2\.jpg$"))
    page.keyboard.press("p")
    expect(page.get_by_role("button", name=re.compile("Slideshow"))).to_have_attribute("aria-pressed", "false")  # fmt: skip


# Details


def test_details_tell_what_is_known_of_a_photo_and_if_it_can_be_edited(library, open_page) -> None:
    page = open_page(library, "#/art/camera/nikon.jpg")
    details = page.get_by_role("complementary", name="Details")
    expect(details.get_by_text("art/camera/nikon.jpg")).to_be_hidden()
    details.get_by_text("More").click()
    expect(details.get_by_text("art/camera/nikon.jpg")).to_be_visible()
    for text in ("3000 × 2000", "June 1, 2024 at 10:00 AM", "Nikon D750", "48.5, 9", " kB", "blake3:"):  # fmt: skip
        expect(details).to_contain_text(text)
    expect(page.get_by_role("button", name="Favourite (f)")).to_be_visible()
    page.goto(f"http://127.0.0.1:{library.port}/#/linked/nikon.jpg")  # below a readonly pointer
    expect(page.get_by_text("Tags and notes cannot be changed here.")).to_be_visible()
    expect(page.get_by_role("button", name="Favourite (f)")).to_be_hidden()


@in_both_browsers
def test_tags_and_notes_are_saved_when_the_field_is_left(library, open_page) -> None:
    edit(library, "art/2025/img20.jpg", tags=[], notes="")
    page = open_page(library, "#/art/2025/img20.jpg")
    sent: list[Request] = []
    page.on("request", lambda request: request.method == "PUT" and sent.append(request))
    field = page.get_by_role("complementary").get_by_label("Add a tag")
    enter(field, "portrait")
    field.press_sequentially("pink, hair")
    field.press("Tab")
    expect(page.locator(".tokens a")).to_have_text(["portrait", "pink", "hair"])
    notes = page.get_by_label("Notes")
    notes.fill("Final pick.")
    notes.blur()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    wait_for(lambda: item(library, "art/2025/img20.jpg")["notes"] == "Final pick.")
    assert item(library, "art/2025/img20.jpg")["tags"] == ["portrait", "pink", "hair"]
    assert sent and all("if-match" in request.headers for request in sent)
    page.get_by_role("button", name="Remove the tag pink").click()
    wait_for(lambda: item(library, "art/2025/img20.jpg")["tags"] == ["portrait", "hair"])


def test_known_tags_are_suggested(library, open_page) -> None:
    edit(library, "art/2025/img21.jpg", tags=["lighthouse"])
    library.until(lambda: library.json("/search?q=tag:lighthouse").get("total"))
    page = open_page(library, "#/art/2025/img22.jpg")
    field = page.get_by_role("complementary").get_by_label("Add a tag")
    field.press_sequentially("light")
    expect(page.locator("aside datalist option")).to_have_attribute("value", "lighthouse")
    choose(field, "lighthouse")
    expect(page.locator(".tokens a")).to_have_text(["lighthouse"])


def test_a_star_that_is_given_before_the_tags_are_known_is_kept(library, open_page) -> None:
    page, requests = open_page(library, "#/art/2025/"), []
    page.route(re.compile(r"/item\?"), lambda route: requests.append(route), times=1)
    link(page, "img13.jpg").click()
    expect(page.locator(".stage img").first).to_be_visible()
    page.keyboard.press("f")
    requests[0].continue_()
    expect(page.get_by_role("button", name="Favourite (f)")).to_have_attribute(
        "aria-pressed", "true"
    )
    wait_for(lambda: item(library, "art/2025/img13.jpg")["tags"] == ["favourite"])


def test_a_star_is_the_tag_favourite(library, open_page) -> None:
    page = open_page(library, "#/art/2025/img23.jpg")
    star = page.get_by_role("button", name="Favourite (f)")
    expect(star).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("f")
    expect(star).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: item(library, "art/2025/img23.jpg")["tags"] == ["favourite"])
    page.keyboard.press("Escape")
    expect(link(page, "img23.jpg, Favourite")).to_be_focused()
    page.keyboard.press("Enter")
    star.click()
    wait_for(lambda: item(library, "art/2025/img23.jpg")["tags"] == [])


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
    assert item(library, path)["notes"] == "Theirs."
    conflict.get_by_role("button", name="Keep both").click()
    wait_for(lambda: item(library, path)["notes"] == "Theirs.\n\nMine.")
    assert item(library, path)["tags"] == ["base", "theirs", "mine"]


def test_tags_of_two_clients_are_merged_without_a_question(library, open_page) -> None:
    path = "art/2025/img25.jpg"
    page = open_page(library, f"#/{path}")
    field = page.get_by_role("complementary").get_by_label("Add a tag")
    expect(field).to_be_visible()
    edit(library, path, tags=["theirs"], notes="Theirs.")
    enter(field, "mine")
    wait_for(lambda: item(library, path)["tags"] == ["theirs", "mine"])
    expect(page.get_by_label("Notes")).to_have_value("Theirs.")


def test_what_cannot_be_saved_is_kept_until_the_service_is_back(
    serve, indexed, open_page, root, monkeypatch
) -> None:
    for number in range(3):
        old(root / f"{number}.jpg", photo(number))
    server = indexed()
    page = open_page(server, "#/0.jpg")
    notes = page.get_by_label("Notes")
    expect(notes).to_be_editable()
    os.killpg(server.process.pid, signal.SIGKILL)
    notes.fill("Must not get lost.")
    notes.blur()
    expect(page.get_by_role("alert").filter(has_text="Not saved")).to_be_visible()
    expect(notes).to_have_value("Must not get lost.")
    page.get_by_role("button", name="Next photo").click()
    expect(page.get_by_text("Lenslet does not answer")).to_be_attached()
    page.get_by_role("button", name="Previous photo").click()
    expect(notes).to_have_value("Must not get lost.")
    monkeypatch.setattr("conftest.free_port", lambda: server.port)
    server = serve(root)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    assert item(server, "0.jpg")["notes"] == "Must not get lost."
    page.get_by_role("button", name="Next photo").click()
    shown(page)
    expect(page.locator(".offline")).to_be_hidden()


def test_an_empty_root_shows_what_the_service_says_until_photos_come(
    serve, open_page, root
) -> None:
    root.mkdir(exist_ok=True)
    server = serve(root, SCAN_SECONDS="1")
    page = open_page(server)
    expect(page.locator(".offline")).to_contain_text("The root is empty: an unmounted disk?")
    for name in ("0.jpg", "1.jpg"):
        old(root / name, photo(0))
        expect(link(page, name)).to_be_visible(timeout=30_000)
    expect(page.locator(".offline")).to_be_hidden()


@pytest.mark.parametrize("seen", [False, True])
def test_a_conflict_in_a_photo_that_was_left_is_told(library, open_page, seen) -> None:
    path = f"art/2025/img{16 + seen}.jpg"
    page = open_page(library, f"#/{path}")
    notes = page.get_by_label("Notes")
    expect(notes).to_be_editable()
    notes.fill("Mine.")
    edit(library, path, notes="Theirs.")
    if seen:
        notes.blur()
        expect(page.locator(".conflict")).to_contain_text("Mine.")
    page.get_by_role("button", name="Next photo").click()
    expect(page.get_by_text(f"Not saved: {path}: The notes have changed")).to_be_visible()
    page.get_by_role("button", name="Previous photo").click()
    expect(page.locator(".conflict")).to_contain_text("Mine.")
    page.get_by_role("button", name="Keep theirs").click()
    expect(page.locator(".conflict")).to_have_count(0)


# Several photos


@in_both_browsers
def test_photos_are_selected_by_click_and_shift_and_tagged_with_one_request(
    library, open_page
) -> None:
    for number in range(8):
        edit(library, f"big/b{number}.png", tags=[])
    page = open_page(library, "#/big/")
    posts: list[Request] = []
    page.on("request", lambda r: r.method == "POST" and posts.append(r))
    bulk = page.get_by_role("region", name="Tags")
    expect(bulk).to_be_hidden()
    tile(page, "b0.png").hover()
    tile(page, "b0.png").get_by_role("checkbox").click()
    link(page, "b3.png").click(modifiers=["Shift"])
    expect(bulk).to_contain_text("4 selected")
    link(page, "b1.png").click()
    expect(bulk).to_contain_text("3 selected")
    bulk.get_by_role("button", name="Clear the selection").click()
    for number in (5, 6):
        link(page, f"b{number}.png").click(modifiers=["Control"])
    expect(bulk).to_contain_text("2 selected")
    assert page.url.endswith("#/big/")
    enter(bulk.get_by_label("Add a tag"), "both")
    expect(page.get_by_text("2 photos changed")).to_be_visible()
    assert len(posts) == 1
    tags = [item(library, f"big/b{number}.png")["tags"] for number in range(8)]
    assert tags == [["both"] if number in (5, 6) else [] for number in range(8)]
    bulk.get_by_role("button", name="Favourite").click()
    expect(tile(page, "b5.png, Favourite")).to_be_visible()
    enter(bulk.get_by_label("Remove a tag"), "both")
    wait_for(lambda: item(library, "big/b5.png")["tags"] == ["favourite"])
    link(page, "b7.png").click()  # one more, which never had it
    enter(bulk.get_by_label("Add a tag"), "favourite")
    wait_for(lambda: item(library, "big/b7.png")["tags"] == ["favourite"])
    page.get_by_role("button", name="Undo").click()
    wait_for(lambda: item(library, "big/b7.png")["tags"] == [])
    assert item(library, "big/b5.png")["tags"] == ["favourite"]
    link(page, "b7.png").click()
    bulk.get_by_role("button", name="Favourite").click()  # both have it: nothing to undo
    enter(bulk.get_by_label("Remove a tag"), "favourite")
    wait_for(lambda: item(library, "big/b5.png")["tags"] == [])
    page.get_by_role("button", name="Menu").click()
    page.keyboard.press("Escape")  # closes the menu alone
    expect(page.locator(".menu")).to_be_hidden()
    expect(bulk).to_be_visible()
    bulk.get_by_label("Remove a tag").press("Control+z")
    wait_for(lambda: item(library, "big/b5.png")["tags"] == ["favourite"])
    bulk.get_by_role("button", name="Clear the selection").click()
    expect(bulk).to_be_hidden()


def test_more_photos_than_a_request_may_have_are_tagged_in_parts(serve, open_page, root) -> None:
    large.make(root, "many", 700)
    server = serve(root)
    page = open_page(server, "#/many/")
    posts: list[int] = []
    page.on(
        "request", lambda r: r.method == "POST" and posts.append(len(r.post_data_json["paths"]))
    )
    link(page, "p000000.jpg").focus()
    page.keyboard.press("Control+a")
    bulk = page.get_by_role("region", name="Tags")
    expect(bulk).to_contain_text("700 selected")
    field = bulk.get_by_label("Add a tag")
    field.press("Backspace")
    field.fill("half")
    page.get_by_role("button", name="Menu").focus()
    assert posts == []
    enter(field, "all")
    expect(page.get_by_text("700 photos changed")).to_be_visible()
    assert posts == [500, 200]


def test_a_folder_that_was_seen_is_shown_again_while_the_service_is_away(
    serve, tmp_path, open_page
) -> None:
    for name in ("x/a", "x/b", "y/c"):
        old(tmp_path / f"photos/{name}.jpg", photo(1))
    server = serve(tmp_path / "photos")
    page = open_page(server, "#/x/")
    expect(page.locator(".shown")).to_have_count(2)
    page.goto(f"http://127.0.0.1:{server.port}/#/y/")
    expect(page.locator(".shown")).to_have_count(1)
    server.stop()
    page.go_back()
    expect(page.locator(".shown")).to_have_count(2)
    expect(page.locator(".title")).to_contain_text("2 photos")


def test_a_folder_is_printed_as_it_is_seen(library, open_page) -> None:
    page = open_page(library, "#/art/2025/")
    expect(page.locator(".shown").first).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator("header.top, .tree, .tabs").first).to_be_hidden()
    tiles = [tile.bounding_box() for tile in page.locator(".tile").all()]
    rows = {tile["y"] for tile in tiles}
    assert len(tiles) > 15 and len(rows) > 2
    assert page.evaluate("document.body.scrollHeight") > max(rows)


# Search


@in_both_browsers
def test_results_are_a_grid_that_says_what_matched(library, open_page) -> None:
    edit(library, "art/2025/img26.jpg", tags=["Größe"], notes="A Zoë near the lighthouse wall.")
    library.until(lambda: library.json("/search?q=zoe").get("total"))
    page = open_page(library, "#/art/")
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name="Search photos")
    expect(box).to_be_focused()
    enter(box, "zoe img26")
    caption = tile(page, "img26.jpg").locator(".caption")
    expect(caption.locator("span")).to_have_text("img26.jpg")
    expect(caption.locator("small")).to_have_text("A Zoë near the lighthouse wall.")
    expect(page.locator(".title")).to_contain_text("1 photo")
    assert page.url.endswith("#/photos?in=art&q=zoe+img26")
    page.reload()
    expect(tile(page, "img26.jpg")).to_be_visible()
    link(page, "img26.jpg").click()
    expect(viewer(page)).to_contain_text("1 of 1")
    page.reload()
    expect(viewer(page)).to_contain_text("1 of 1")
    page.keyboard.press("Escape")
    expect(tile(page, "img26.jpg")).to_be_visible()


def test_what_was_found_is_counted_again_after_an_edit(library, open_page) -> None:
    for number in range(3):
        edit(library, f"big/b{100 + number}.png", tags=["counted"])
    library.until(lambda: library.json("/search?q=tag:counted").get("total") == 3)
    page = open_page(library, "#/photos?q=tag:counted")
    expect(page.locator(".title")).to_contain_text("3 photos")
    tile(page, "b101.png").hover()
    tile(page, "b101.png").get_by_role("checkbox").click()
    enter(page.locator(".bulk").get_by_label("Remove a tag"), "counted")
    expect(page.locator(".title")).to_contain_text("2 photos")
    expect(link(page, "b101.png")).to_have_count(0)


def test_a_place_that_is_kept_does_not_undo_the_next_address(library, open_page) -> None:
    """A list keeps its place also between a new address and the event that tells of it."""
    page = open_page(library, "#/photos?q=img2")
    expect(page.locator(".title")).to_contain_text("11 photos")
    expect(page.locator(".photo").first).to_be_visible()
    page.evaluate(
        """() => {
            location.hash = "#/photos?q=img24";
            document.addEventListener("click", (event) => event.preventDefault(), { once: true });
            document.querySelector(".photo").click(); // has the place kept
        }"""
    )
    expect(page.locator(".title")).to_contain_text("1 photo · 2024")


def test_search_is_in_this_folder_until_one_says_everywhere_and_by_dates(
    library, open_page
) -> None:
    page = open_page(library, "#/art/camera/")
    box = page.get_by_role("combobox", name="Search photos")
    enter(box, "img2")
    expect(page.locator(".hint h2")).to_have_text("Nothing found")
    page.locator(".chips:visible a").filter(has_text="Folder: camera").click()
    expect(page.get_by_text("11 photos")).to_be_visible()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Taken from").fill("2024-05-07")
    expect(box).to_have_value("img2 date:2024-05-07..")
    page.get_by_label("Taken until").fill("2024-05-08")
    expect(box).to_have_value("img2 date:2024-05-07..2024-05-08")
    expect(page.get_by_text("4 photos")).to_be_visible()


def test_closing_a_photo_shows_it_in_its_list_not_where_the_first_was_opened(
    library, open_page
) -> None:
    page = open_page(library, "#/big/")
    expect(page.locator(".shown").first).to_be_visible()
    page.locator("main").first.evaluate("main => (main.scrollTop = 300)")
    page.wait_for_timeout(500)  # the place is kept
    page.locator(".photo").first.click()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    name = viewer(page).locator("header b").inner_text()
    page.keyboard.press("Escape")
    expect(viewer(page)).to_have_count(0)
    page.wait_for_timeout(500)
    expect(link(page, name)).to_be_focused()
    expect(link(page, name)).to_be_in_viewport()


def test_two_fingers_enlarge_the_photo_and_not_the_page(library, open_page) -> None:
    page = open_page(library, "#/art/camera/nikon.jpg", details=False, **PHONE)
    shown(page)
    line = page.context.new_cdp_session(page)
    for step in range(12):
        fingers = [
            {"x": 180 - 10 * step, "y": 400, "id": 0},
            {"x": 210 + 10 * step, "y": 400, "id": 1},
        ]
        kind = "touchMove" if step else "touchStart"
        line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    line.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for(lambda: page.locator(".stage").bounding_box()["width"] > 1000)
    assert page.evaluate("visualViewport.scale") == 1
    assert viewer(page).is_visible()


def test_each_term_of_a_search_can_be_taken_away(library, open_page) -> None:
    page = open_page(library, "#/photos?q=img2+date:2024+-nope&in=art")
    terms = page.locator(".chips a")
    expect(terms).to_have_text(["img2", "Taken: 2024", "Without nope", "Folder: art"])
    terms.filter(has_text="Taken").click()
    expect(page).to_have_url(re.compile(r"q=img2\+-nope$"))
    terms.filter(has_text="Folder: art").click()
    expect(terms).to_have_text(["img2", "Without nope"])
    terms.first.click()
    terms.first.click()
    expect(page).to_have_url(re.compile(r"#/photos$"))
    page.go_back()
    page.go_back()
    expect(page.locator(".title")).to_contain_text("11 photos")


def test_tags_can_be_browsed_and_add_to_a_search(indexed, tmp_path, open_page) -> None:
    root = tmp_path / "photos"
    for name, tags in {"a": ["sea", "two words"], "b": ["sea"]}.items():
        old(root / f"{name}.jpg", photo(1))
        put(root / f"{name}.jpg.json", json.dumps({"v": 1, "tags": tags}).encode())
    server = indexed()
    page = open_page(server, "#/photos?q=jpg")
    page.get_by_role("button", name="Filters").click()
    tags = page.locator(".filters").get_by_role("link").filter(has_text=re.compile(r"\d$"))
    expect(tags).to_have_text(["sea2", "two words1"])
    tags.last.click()
    terms = page.locator(".title .chips a")
    expect(terms).to_have_text(["jpg", "Tag: two words"])
    expect(page.locator(".title")).to_contain_text("1 photo")
    page.get_by_label("Taken from").fill("2020-01-01")
    expect(terms).to_have_text(["jpg", "Tag: two words", "Taken: 2020-01-01.."])
    tags.first.click()
    expect(terms).to_have_count(4)
    expect(tags.first).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="This year").click()
    expect(terms).to_have_count(5)
    page.get_by_role("link", name="This year").click()  # once more takes it away
    tags.first.click()
    expect(terms).to_have_text(["jpg", "Tag: two words", "Taken: 2020-01-01.."])


def test_a_list_is_shown_the_other_way_round_and_its_address_says_so(library, open_page) -> None:
    page = open_page(library, "#/")
    names = page.locator(".folders .name")
    expect(names.first).to_have_text("art")
    menu(page, "From Z to A")
    expect(page).to_have_url(re.compile(r"#/\?order=reverse$"))
    expect(names.last).to_have_text("art")
    page.goto(f"http://127.0.0.1:{library.port}/#/big/?order=reverse")
    expect(page.locator(".photo").first).to_have_attribute("title", "b119.png")
    page.locator(".photo").first.click()
    expect(viewer(page)).to_contain_text("1 of 120")
    page.keyboard.press("ArrowRight")
    at(page, "b118.png")
    page.keyboard.press("Escape")
    expect(link(page, "b118.png")).to_be_focused()
    page.goto(f"http://127.0.0.1:{library.port}/#/photos?in=art")
    newest = page.locator(".photo").first
    expect(newest).to_be_visible()
    name = newest.get_attribute("title")
    menu(page, "Oldest first")
    expect(newest).not_to_have_attribute("title", name)
    page.reload()
    expect(newest).not_to_have_attribute("title", name)


def test_what_was_added_last_is_a_list_of_its_own(serve, indexed, tmp_path, open_page) -> None:
    root = tmp_path / "photos"
    for name in ("new", "older"):
        old(root / f"{name}.jpg", photo(1))
    server = indexed()
    manifest = (root / "_index.json").read_text()
    until = manifest.rindex('"addedAt":"')
    (root / "_index.json").write_text(manifest[:until] + '"addedAt":"2001' + manifest[until + 15 :])
    (root / "_rollup.json").unlink()
    server.stop()
    page = open_page(serve(root))
    menu(page, "Recently added")
    expect(page.get_by_role("heading", level=1)).to_have_text("Recently added")
    expect(page.locator(".photo")).to_have_count(2)
    expect(page.locator(".photo").first).to_have_attribute("title", "new.jpg")
    link(page, "older.jpg").click()
    expect(viewer(page)).to_contain_text("2 of 2")
    page.reload()
    expect(viewer(page)).to_contain_text("2 of 2")


def test_search_suggests_words_while_one_types(library, open_page) -> None:
    page = open_page(library, "#/?q=nikon")
    box = page.get_by_role("combobox", name="Search photos")
    option = page.locator("form datalist option")
    box.fill("")
    box.press_sequentially("-nik")
    expect(option.first).to_have_attribute("value", "-nikon")
    box.fill("")
    box.press_sequentially("-nope nik")
    expect(option.first).to_have_attribute("value", "-nope nikon")
    choose(box, "-nope nikon")
    expect(link(page, "nikon.jpg")).to_have_count(2)


def test_the_address_of_a_result_far_down_is_found_or_given_up(library, open_page) -> None:
    page = open_page(library, "#/big/nope.png?q=png&in=big")
    expect(viewer(page)).to_contain_text("There is no")
    page.goto(f"http://127.0.0.1:{library.port}/#/nope/nope.jpg")
    expect(page.locator(".hint h2")).to_have_text("This folder does not exist")
    expect(viewer(page)).to_contain_text("There is no")
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/")
    expect(link(page, "img0.jpg")).to_be_visible()
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/img1.jpg?q=img1")
    shown(page)
    page.goto(f"http://127.0.0.1:{library.port}/#x{'/' * 100_000}x")
    expect(page.locator(".tile, .folders, .hint").first).to_be_visible()


# Health


def test_health_shows_counts_progress_and_what_to_do(library, open_page) -> None:
    """It never says that all is well beside photos that cannot be shown."""
    page = open_page(library)
    menu(page, "Health")
    main = page.get_by_role("main")
    expect(main.get_by_role("heading", level=1)).to_have_text("Lenslet works; some files need a look")  # fmt: skip
    expect(main).to_contain_text("Nothing to do")
    items = library.json("/health")["library"]["counts"]["items"]
    expect(main.locator("dd").nth(1)).to_have_text(str(items))
    expect(main).to_contain_text(f"Thumbnails: {items - 1} of {items}; 1 photo cannot be shown")
    expect(main).to_contain_text("Photos that cannot be decoded: 1")
    main.get_by_role("link", name="odd/broken.jpg").click()
    expect(viewer(page)).to_contain_text("This photo cannot be shown")


def test_health_shows_every_kind_of_problem_in_the_words_of_the_service(
    serve, open_page, root
) -> None:
    """Also one that the page has never heard of, and never the name that programs use for it."""
    old(root / "a.jpg", photo(1))
    gone = {"v": 1, "tags": ["x"], "notes": "", "hash": f"blake3:{64 * '0'}"}
    old(root / "gone.jpg.json", json.dumps(gone).encode())
    old(root / "bad\n.jpg", photo(2))
    old(root / "b.heic", photo(2))
    server = serve(root)
    server.until(lambda: len(server.json("/health")["problems"]) == 2)
    found = server.json("/health")
    found["problems"].append(
        {"kind": "newKind", "title": "Novelties", "advice": "look", "count": 3}
    )
    page = open_page(server)
    page.route(re.compile("/health$"), lambda route: route.fulfill(json=found))
    menu(page, "Health")
    main = page.get_by_role("main")
    expect(main.get_by_role("heading", level=1)).to_have_text("Something needs attention")
    expect(main.get_by_role("heading", level=3)).to_have_text(
        [f"{each['title']}: {each['count']}" for each in found["problems"]]
    )
    expect(main.locator(".advice")).to_have_text([each["advice"] for each in found["problems"]])
    expect(main).to_contain_text("delete its .json")
    expect(main).to_contain_text("Not shown: 1 .heic")
    for each in found["problems"]:
        expect(main).not_to_contain_text(each["kind"])


def test_health_shows_how_far_indexing_is(serve, open_page, root) -> None:
    first = old(root / "0.jpg", encode(Image.effect_noise((4000, 3000), 60), quality=90))
    for number in range(1, 40):
        os.link(first, root / f"{number}.jpg")
    page = open_page(serve(root), "#health")
    expect(page.get_by_text(re.compile(r"\d+ to do, \d+ a second"))).to_be_visible()
    expect(page.get_by_text("Nothing to do")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Thumbnails: 40 of 40", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()


# Who may


def test_with_a_token_one_signs_in_and_out(serve, open_page, root) -> None:
    old(root / "a.jpg", photo(1))
    server = serve(root, API_TOKEN="secret-of-the-house", READ_TOKEN="only-to-look-at")
    page = open_page(server)
    token = page.get_by_label("Password")
    token.fill("something-else")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This password is not valid.")).to_be_visible()
    enter(token, "secret-of-the-house")
    link(page, "a.jpg").click()
    shown(page)
    expect(page.get_by_label("Notes")).to_be_editable()
    page.keyboard.press("Escape")
    menu(page, "Sign out")
    enter(token, "only-to-look-at")
    link(page, "a.jpg").click()
    shown(page)
    expect(page.get_by_label("Notes")).not_to_be_editable()
    expect(page.get_by_text("Tags and notes cannot be changed here.")).to_be_visible()
    expect(page.locator("[role=checkbox], .bulk:visible, aside input")).to_have_count(0)


# For everyone


def test_the_tree_is_one_stop_for_tab_and_arrows_lead_through_it(library, open_page) -> None:
    page = open_page(library, "#/art/")
    tree = page.get_by_role("navigation", name="Folders")
    expect(tree.get_by_role("link", name="camera")).to_be_visible()
    page.get_by_role("button", name="Menu").focus()
    page.keyboard.press("Tab")
    expect(tree.get_by_role("link", name="art")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tree.get_by_role("link", name="2025")).to_be_focused()
    press(page, "ArrowLeft", "ArrowLeft")
    expect(tree.get_by_role("link", name="2025")).to_have_count(0)
    page.keyboard.press("ArrowUp")
    expect(tree.get_by_role("link", name="Folders")).to_be_focused()
    page.keyboard.press("Tab")
    assert not tree.evaluate("tree => tree.contains(document.activeElement)")
    art = tree.get_by_role("button", name="Subfolders of art")
    for opened in (1, 0):
        art.click()
        expect(tree.get_by_role("link", name="camera")).to_have_count(opened)
        expect(art).to_be_focused()
    tree.get_by_role("link", name="big").click()
    expect(page.get_by_role("heading", name="big", level=1)).to_be_visible()
    page.get_by_role("button", name="Folder tree").click()
    expect(tree).to_be_hidden()


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
    outline = link(page, "img0.jpg").evaluate("element => getComputedStyle(element).outlineWidth")
    assert float(outline.removesuffix("px")) >= 3
    page.keyboard.press("ArrowRight")
    expect(link(page, "img1.jpg")).to_be_focused()
    press(page, "ArrowDown", "ArrowUp", "Home")
    expect(link(page, "img0.jpg")).to_be_focused()
    press(page, "Space", "ArrowRight", "Shift+Space")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("Control+a")
    expect(page.get_by_text("30 selected")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("selected")).to_be_hidden()
    page.keyboard.press("Enter")
    at(page, "img1.jpg")
    press(page, "i", "Escape")
    expect(link(page, "img1.jpg")).to_be_focused()
    page.keyboard.press("Escape")  # with nothing open, it does nothing
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))


def test_a_key_that_comes_while_a_dialog_closes_is_neither_lost_nor_taken_twice(
    library, open_page
) -> None:
    """A browser moves the focus, and the address back, a moment after the dialog is gone."""
    page = open_page(library, "#/art/2025/")
    expect(link(page, "img0.jpg")).to_be_visible()
    press = "(target, key) => target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}))"
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").evaluate(
        f"dialog => {{ const button = dialog.querySelector('button'); dialog.close(); ({press})(button, 'ArrowDown'); }}"
    )
    expect(link(page, "img0.jpg")).to_be_focused()
    page.keyboard.press("Enter")
    viewer(page).evaluate(
        f"dialog => {{ dialog.addEventListener('close', () => ({press})(document.activeElement, 'Escape'), {{once: true}}); }}"
    )
    page.keyboard.press("Escape")
    expect(viewer(page)).to_have_count(0)
    page.wait_for_timeout(500)
    expect(page).to_have_url(re.compile(r"#/art/2025/$"))


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_view_has_faults_of_accessibility(library, open_page, width) -> None:
    edit(library, "art/2025/img27.jpg", tags=["axe"], notes="Axe.")
    page = open_page(library, viewport={"width": width, "height": 800})
    views = {
        "#/": ".folders img",
        "#/photos": ".day h3",
        "#/photos?by=added": ".tile.shown",
        "#/art/2025/": ".tile.shown",
        "#/odd/": ".reason",
        "#/?q=img2": ".caption",
        "#/nope/": ".hint",
        "#health": ".health dd",
        "#/art/2025/img27.jpg": ".stage img.large",
    }
    for where, ready in views.items():
        page.goto(f"http://127.0.0.1:{library.port}/{where}")
        page.locator(ready).first.wait_for()
        if "img27" in where and width < 500:
            page.keyboard.press("i")
        page.wait_for_timeout(300)  # what fades in
        assert faults(page) == [], where
    press(page, "Escape", "?")
    assert faults(page) == [], "keys"
    page.keyboard.press("Escape")
    page.goto(f"http://127.0.0.1:{library.port}/#/art/2025/")
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


def test_markup_in_names_tags_and_notes_is_text(library, open_page) -> None:
    markup = "<b onmouseover=alert(2)>bold</b><script>alert(3)</script>"
    for name in HOSTILE:
        edit(library, f"odd/{name}", tags=[markup], notes=markup)
    library.until(lambda: library.json("/search?q=onmouseover").get("total") == len(HOSTILE))
    page = open_page(library, "#/odd/")
    for name in HOSTILE:
        expect(tile(page, name).locator("img")).to_have_js_property("naturalWidth", 256)
    link(page, HOSTILE[0]).click()
    shown(page)
    expect(page.locator(".tokens a")).to_have_text(markup)
    expect(page.get_by_label("Notes")).to_have_value(markup)
    page.reload()
    shown(page)
    page.goto(f"http://127.0.0.1:{library.port}/#/?q=onmouseover")
    expect(page.locator(".caption small").first).to_have_text(markup)
    assert page.locator("main b, main script, [onerror], [onmouseover]").count() == 0


def test_motion_is_reduced_for_who_wants_that(library, open_page) -> None:
    page = open_page(library, "#/art/2025/", reduced_motion="reduce")
    image = page.locator(".photo img").first
    duration = image.evaluate("image => getComputedStyle(image).transitionDuration")
    assert duration == "0s"


def test_all_texts_are_in_the_file_of_strings() -> None:
    """Every text that is used exists, every text is used, and no other file has English in it."""
    scripts = {path.name: path.read_text() for path in PAGE.glob("*.js")}
    strings = scripts.pop("strings.js")
    used = {name for text in scripts.values() for name in re.findall(r"\bT\.(\w+)", text)}
    assert used == set(re.findall(r"(?m)^\t(\w+): ?", strings))
    for name, text in scripts.items():
        code = re.sub(r"(?m)//.*$", "", text)
        sentences = re.findall(r'"[A-Z][a-z]+ [a-z]+[^"]*"', code)
        assert sentences == [], name
