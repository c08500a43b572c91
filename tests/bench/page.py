"""The page in Chromium: first grid, second visit, 100,000 photos scrolled, a large photo.

    python tests/bench/page.py [--items 100000]

Run it alone on the machine.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import large
from conftest import CHROMIUM, Server

# Scrolls from top to end in so many steps, one a frame, and returns the milliseconds of each frame.
SCROLL = """async (frames) => {
    const main = document.querySelector("main");
    const times = [];
    let last = performance.now();
    for (let frame = 1; frame <= frames; frame++) {
        main.scrollTop = (main.scrollHeight - main.clientHeight) * frame / frames;
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - last);
        last = performance.now();
    }
    return times;
}"""
# Milliseconds from the start of the navigation until every tile on the screen shows its picture.
FIRST_GRID = """() => new Promise((done) => {
    const look = () => {
        const tiles = [...document.querySelectorAll(".tile")].filter((each) => each.getBoundingClientRect().top < innerHeight);
        if (tiles.length && tiles.every((each) => each.classList.contains("shown"))) done(performance.now());
        else requestAnimationFrame(look);
    };
    look();
})"""


def first_grid(page: Page, base: str, folder: str) -> float:
    page.goto("about:blank")
    page.goto(f"{base}#/{folder}/")
    return float(page.evaluate(FIRST_GRID))


def answered(server: Server) -> int:
    found = re.findall(
        r'requests_total\{route="(.*)",.*\} (\d+)', server.get("/metrics")[1].decode()
    )
    return sum(int(count) for route, count in found if route not in ("/metrics", "/health"))


def memory(page: Page) -> dict[str, float]:
    """Megabytes: the heap of scripts, and what the process of the page holds for itself."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    largest = 0.0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" not in (process / "cmdline").read_bytes():
                continue
            rollup = (process / "smaps_rollup").read_text()
        except OSError:
            continue
        private = sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))
        largest = max(largest, private / 1024)
    return {"heap": round(heap / 1e6, 1), "private": round(largest, 1)}


@contextlib.contextmanager
def visit(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def shares(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {f"p{share}": round(times[len(times) * share // 100], 1) for share in (50, 95, 99)}


def bench(browser: Browser, home: pathlib.Path, items: int) -> dict[str, Any]:
    root = home / "photos"
    large.make(root, "some", 1000)
    large.make(root, "many", items)
    noise = Image.effect_noise((1500, 1000), 10).convert("RGB").resize((6000, 4000))
    (root / "one").mkdir()
    for number in range(5):
        noise.rotate(number).save(root / f"one/{number}.jpg", quality=90)
        os.utime(root / f"one/{number}.jpg", (1, 1))
    server = Server(root, home)
    server.until(lambda: (server.json("/health").get("library") or {}).get("counts", {}).get("items") == items + 1005, 300)  # fmt: skip
    server.until(lambda: server.json("/health")["workers"]["backlog"] == 0, 300)
    base = f"http://127.0.0.1:{server.port}/"
    found: dict[str, Any] = {}
    cold, warm = [], []
    for _ in range(5):
        with visit(browser) as page:
            cold.append(first_grid(page, base, "some"))
            warm += [first_grid(page, base, "some") for _ in range(3)]
    found["first grid of 1,000, ms"] = {
        "cold": round(statistics.median(cold)),
        "warm": round(statistics.median(warm)),
    }
    with visit(browser) as page:
        first_grid(page, base, "some")
        page.wait_for_timeout(1000)
        before = answered(server)
        first_grid(page, base, "some")
        page.wait_for_timeout(8000)
        found["requests of a second visit"] = answered(server) - before
    with visit(browser) as page:
        found["memory before, MB"] = memory(page)
        found[f"first grid of {items:,}, ms"] = round(first_grid(page, base, "many"))
        times = page.evaluate(SCROLL, 1200)
        page.get_by_role("link", name=f"p{items - 1:06d}.jpg").wait_for()
        found[f"frames while {items:,} are scrolled, ms"] = shares(times)
        page.wait_for_timeout(1000)
        found["memory after, MB"] = memory(page)
        page.evaluate("document.querySelector('main').scrollTop = 0")
        page.wait_for_timeout(500)
        whole = "(main.scrollHeight - main.clientHeight) * frame / frames"
        steady = page.evaluate(SCROLL.replace(whole, "frame * 40"), 600)
        found["frames at 40 pixels a frame, ms"] = shares(steady)
    with visit(browser) as page:
        first_grid(page, base, "one")
        line = page.context.new_cdp_session(page)
        speed = {"downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
        slow = {"offline": False, "latency": 20, **speed}
        line.send("Network.emulateNetworkConditions", slow)
        sharp = []
        for number in (0, 2, 4):
            begun = time.perf_counter()
            page.get_by_role("link", name=f"{number}.jpg", exact=True).click()
            page.locator(".stage img.large").wait_for()
            page.locator(".stage img").nth(1).wait_for(state="detached")
            sharp.append(1000 * (time.perf_counter() - begun))
            page.keyboard.press("Escape")
            page.wait_for_timeout(2000)
        found["24 MP sharp at 10 Mbit/s, ms"] = [round(each) for each in sharp]
        size = len(server.get("/preview?path=one/0.jpg", Accept="image/*")[1])
        found["its preview, bytes"] = size
    server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        print(json.dumps(bench(browser, pathlib.Path(home), items), indent=2))
        browser.close()


if __name__ == "__main__":
    main()
