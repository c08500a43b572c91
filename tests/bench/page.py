"""The page in Chromium: a folder of 1,000 photos, one of many, and all of them by date.

Run it alone on the machine.
"""

from __future__ import annotations

import pathlib
import shutil
import statistics
import sys

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import common
import large
from conftest import Server

VIEWPORT = {"width": 1280, "height": 800}
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


def main() -> None:
    options = common.options(__doc__, items=100_000)
    with common.workplace() as place, sync_playwright() as playwright:
        large.make(place / "photos", "some", 1000)
        large.make(place / "photos", "many", options.items)
        server = Server(place / "photos", place)
        server.until(lambda: counted(server) == options.items + 1000, 300)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        base = f"http://127.0.0.1:{server.port}/"
        rows = [row(browser, base, where) for where in ("#/some/", "#/many/", "#/photos")]
        columns = ("", "first screen, cold", "warm", "frames to the end", "at 40 pixels", "nodes")
        common.table("Lists, ms: median; p50, p95, p99", columns, rows)
        browser.close()
        server.stop()


def counted(server: Server) -> int:
    """The photos of a library that is indexed; 0 before."""
    health = server.json("/health")
    counts = (health.get("library") or {}).get("counts", {})
    return 0 if not counts or health["workers"]["backlog"] else int(counts["items"])


def opened(page: Page, address: str) -> float:
    page.goto("about:blank")
    page.goto(address)
    return float(page.evaluate(SHOWN))


def row(browser: Browser, base: str, where: str) -> list[object]:
    """How soon a list is shown, how smoothly it scrolls, and what it leaves behind."""
    cold, warm = list[float](), list[float]()
    for _ in range(5):
        with browser.new_page(viewport=VIEWPORT) as page:
            cold.append(opened(page, base + where))
            warm += [opened(page, base + where) for _ in range(3)]
    with browser.new_page(viewport=VIEWPORT) as page:
        opened(page, base + where)
        page.wait_for_timeout(8000)
        frames = [page.evaluate(SCROLL, how) for how in ([1200, 0], [600, 40])]
        shares = [", ".join(f"{each:.1f}" for each in common.percentiles(f)) for f in frames]
        page.wait_for_timeout(1000)
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        nodes = session.send("Memory.getDOMCounters")["nodes"]
    return [where, *map(statistics.median, (cold, warm)), *shares, nodes]


if __name__ == "__main__":
    main()
