"""The page in Chromium: a folder, all photos by date, and a large photo over a slow line.

    python tests/bench/page.py [--items 100000]

Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Iterator

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import common
import large
from conftest import Server
from test_page import memory, requests_of

# Sets the place that `where` gives for each of so many frames; returns the milliseconds of each.
SCROLL = """async ([frames, where]) => {
    const main = document.querySelector("main"), times = [];
    let last = performance.now();
    for (let frame = 1; frame <= frames; frame++) {
        main.scrollTop = where ? frame * where : (main.scrollHeight - main.clientHeight) * frame / frames;
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - last);
        last = performance.now();
    }
    return times;
}"""
# Milliseconds from the start of the navigation until every tile on the screen shows its picture.
SHOWN = """() => new Promise((done) => {
    const look = () => {
        const tiles = [...document.querySelectorAll(".tile")].filter((each) => each.getBoundingClientRect().top < innerHeight);
        if (tiles.length && tiles.every((each) => each.classList.contains("shown"))) done(performance.now());
        else requestAnimationFrame(look);
    };
    look();
})"""
# Drags the thumb of the scale to a share of it; milliseconds until a thumbnail is on the screen.
SCRUB = """async (share) => {
    const scale = document.querySelector(".scale"), { left, top, height } = scale.getBoundingClientRect();
    const drag = (name, y) => scale.dispatchEvent(new PointerEvent(name, { pointerId: 1, clientX: left + 20, clientY: y }));
    scale.setPointerCapture = () => {};
    drag("pointerdown", top + 5);
    for (let step = 1; step <= 5; step++) {
        drag("pointermove", top + height * share * step / 5);
        await new Promise(requestAnimationFrame);
    }
    const begun = performance.now();
    drag("pointerup", top + height * share);
    const isSeen = (tile) => tile.getBoundingClientRect().bottom > 60 && tile.getBoundingClientRect().top < innerHeight;
    while (![...document.querySelectorAll(".tile.shown")].some(isSeen)) await new Promise((done) => setTimeout(done, 4));
    return performance.now() - begun;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    common.machine()
    with common.workplace() as place, sync_playwright() as playwright:
        server = serve(place, options.items)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        base = f"http://127.0.0.1:{server.port}/"
        rows = [
            list_of(browser, server, base + where) for where in ("#/some/", "#/many/", "#/photos")
        ]
        columns = (
            "first screen, cold",
            "warm",
            "frames to the end",
            "at 40 pixels",
            "requests again, but for pictures",
        )
        common.table(
            "Lists, ms: median; p50, p95, p99", ("", *columns, "nodes; MB of scripts"), rows
        )
        common.table(
            "A month on the scale, until a thumbnail, ms",
            ("seven times",),
            [[scrubbed(browser, base)]],
        )
        common.table("24 MP sharp at 10 Mbit/s, ms", ("three times",), [[sharp(browser, base)]])
        browser.close()
        server.stop()


def serve(place: pathlib.Path, items: int) -> Server:
    """A folder of 1,000 photos, one of many over 24 years, and one of 24 megapixels each."""
    root = place / "photos"
    large.make(root, "some", 1000)
    large.make(root, "many", items)
    noise = Image.effect_noise((1500, 1000), 10).convert("RGB").resize((6000, 4000))
    (root / "one").mkdir()
    for number in range(5):
        noise.rotate(number).save(root / f"one/{number}.jpg", quality=90)
        os.utime(root / f"one/{number}.jpg", (1, 1))
    server = Server(root, place)

    def is_done() -> bool:
        health = server.json("/health")
        counts = (health.get("library") or {}).get("counts", {})
        return counts.get("items") == items + 1005 and not health["workers"]["backlog"]

    server.until(is_done, 300)
    return server


@contextlib.contextmanager
def visit(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def opened(page: Page, address: str) -> float:
    page.goto("about:blank")
    page.goto(address)
    return float(page.evaluate(SHOWN))


def list_of(browser: Browser, server: Server, address: str) -> list[str]:
    """One row: how soon a list is shown, how smoothly it scrolls, and what it leaves behind."""
    cold, warm = list[float](), list[float]()
    for _ in range(5):
        with visit(browser) as page:
            cold.append(opened(page, address))
            warm += [opened(page, address) for _ in range(3)]
    with visit(browser) as page:
        opened(page, address)
        page.wait_for_timeout(1000)
        before = requests_of(server, "/thumb")
        opened(page, address)
        page.wait_for_timeout(8000)
        asked = requests_of(server, "/thumb") - before
        frames = [
            shares(page.evaluate(SCROLL, [1200, 0])),
            shares(page.evaluate(SCROLL, [600, 40])),
        ]
        page.wait_for_timeout(1000)
        nodes, megabytes = memory(page)
    medians = [f"{statistics.median(each):.0f}" for each in (cold, warm)]
    return [address.partition("#")[2], *medians, *frames, str(asked), f"{nodes}; {megabytes:.1f}"]


def shares(times: list[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in common.percentiles(times))


def scrubbed(browser: Browser, base: str) -> str:
    with visit(browser) as page:
        opened(page, f"{base}#/photos")
        found = []
        for share in (0.5, 0.2, 0.8, 0.35, 0.65, 0.9, 0.1):
            page.wait_for_timeout(700)
            found.append(page.evaluate(SCRUB, share))
    return ", ".join(f"{each:.0f}" for each in sorted(found))


def sharp(browser: Browser, base: str) -> str:
    """Opens large photos one after the other."""
    with visit(browser) as page:
        opened(page, f"{base}#/one/")
        line, bits = page.context.new_cdp_session(page), 10e6 / 8
        slow = {
            "offline": False,
            "latency": 20,
            "downloadThroughput": bits,
            "uploadThroughput": bits,
        }
        line.send("Network.emulateNetworkConditions", slow)
        found = []
        for number in (0, 2, 4):  # the next one is loaded ahead
            begun = time.perf_counter()
            page.get_by_role("link", name=f"{number}.jpg", exact=True).click()
            page.locator(".stage img.large").wait_for()
            page.locator(".stage img").nth(1).wait_for(state="detached")
            found.append(1000 * (time.perf_counter() - begun))
            page.keyboard.press("Escape")
            page.wait_for_timeout(2000)
    return ", ".join(f"{each:.0f}" for each in found)


if __name__ == "__main__":
    main()
