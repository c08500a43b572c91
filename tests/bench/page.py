"""The page in Chromium: folders, a large photo, and half a million photos by date.

    python tests/bench/page.py [--items 100000] [--photos 500000] [--minutes 1] [--only folders|dates]

Run it alone on the machine.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import common
import large
import timeline
from conftest import Server, free_port

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
    """Megabytes of the heap of scripts and of the page's process, and how many nodes it holds."""
    session = page.context.new_cdp_session(page)
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    nodes = session.send("Memory.getDOMCounters")["nodes"]
    return {"heap": round(heap / 1e6, 1), "private": largest_page(), "nodes": nodes}


def largest_page(profile: str = "") -> float:
    """Megabytes that the largest process of a page holds for itself."""
    largest = 0.0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"--type=renderer" not in command or profile.encode() not in command:
                continue
            rollup = (process / "smaps_rollup").read_text()
        except OSError:
            continue
        private = sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", rollup))
        largest = max(largest, private / 1024)
    return round(largest, 1)


@contextlib.contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
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


# Drags the thumb of the scale to a share of it; returns the milliseconds until a thumbnail is on the screen.
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
LAST = """() => {
    const seen = [...document.querySelectorAll(".tile")].filter((tile) => tile.getBoundingClientRect().top < innerHeight);
    return seen.some((tile) => tile.ariaPosInSet === tile.ariaSetSize);
}"""


# Scrolls by itself, for ever: a browser that is driven keeps what it has loaded.
DRIVE = "setTimeout(() => setInterval(() => { document.querySelector(`main`).scrollTop += 900; }, 33), 3000);"
# nginx answers thumbnails, because the service has no images, and hands on all else.
SITE = """
daemon off; master_process off; pid {home}/pid; error_log /dev/null;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
    server {{
        listen 127.0.0.1:{port};
        location /thumb {{
            try_files /thumb.webp =404; root {home}; types {{ image/webp webp; }} etag off;
            add_header Cache-Control "private, max-age=31536000, immutable";
        }}
        location = /drive.js {{ default_type text/javascript; return 200 "{drive}"; }}
        location = /bare {{ default_type text/html; return 200 "<body></body>"; }}
        location / {{
            proxy_pass http://127.0.0.1:{service}; proxy_set_header Accept-Encoding "";
            proxy_http_version 1.1; proxy_set_header Connection "";
            set $script ""; if ($args = drive) {{ set $script "<script src=drive.js></script>"; }}
            sub_filter "</body>" "$script</body>";
        }}
    }}
}}
"""
# The least that shows as many pictures while one scrolls: rows near the screen, and nothing else.
BARE = """(base) => {
    document.body.innerHTML = "<style>body { margin: 0 } main { height: 100vh; overflow: auto } main > div { position: relative; height: 400000px } "
        + "p { position: absolute; margin: 0; height: 196px } img { width: 250px; height: 196px; margin-right: 4px }</style><main><div></div></main>";
    const main = document.querySelector("main"), box = main.firstChild, rows = new Map();
    const draw = () => {
        const first = Math.max(0, Math.floor(main.scrollTop / 200) - 4), wanted = new Set([...Array(12).keys()].map((each) => first + each));
        for (const [row, element] of rows) if (!wanted.has(row)) { element.remove(); rows.delete(row); }
        for (const row of wanted) {
            if (rows.has(row)) continue;
            const element = document.createElement("p");
            element.style.top = `${row * 200}px`;
            for (let each = 0; each < 5; each++) element.append(Object.assign(new Image(), { decoding: "async", src: `${base}thumb?path=${row}-${each}` }));
            box.append(element);
            rows.set(row, element);
        }
    };
    main.onscroll = () => requestAnimationFrame(draw);
    draw();
}"""


@contextlib.contextmanager
def with_thumbnails(service: int) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        pathlib.Path(home).chmod(0o755)
        common.picture(256, 192, 1).save(f"{home}/thumb.webp", "WEBP", quality=70)
        site = SITE.format(home=home, port=port, service=service, drive=DRIVE)
        (pathlib.Path(home) / "site.conf").write_text(site)
        nginx = subprocess.Popen(["nginx", "-c", f"{home}/site.conf"], stderr=subprocess.DEVNULL)
        try:
            common.until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), 10)
            yield f"http://127.0.0.1:{port}/"
        finally:
            nginx.terminate()
            nginx.wait()


def by_date(browser: Browser, home: pathlib.Path, photos: int, minutes: float) -> dict[str, Any]:
    timeline.fill(home / "photos", photos, 0)
    server = Server(home / "photos", home, WORKER_THREADS="0", SCAN_SECONDS="0", WEB_CONCURRENCY="1")  # fmt: skip
    server.until(lambda: server.json("/timeline")["months"], 120)
    found: dict[str, Any] = {}
    with with_thumbnails(server.port) as base:
        cold, warm, asked = [], [], 0
        for _ in range(5):
            with visit(browser) as page:
                for times in (cold, warm, warm, warm):
                    page.goto("about:blank")
                    before = answered(server)
                    page.goto(f"{base}#/photos")
                    times.append(page.evaluate(FIRST_GRID))
                    asked = answered(server) - before
        found["first screen, ms"] = {
            "cold": [round(each) for each in sorted(cold)],
            "warm": [round(each) for each in sorted(warm)],
        }
        found["requests of a second visit, without pictures"] = asked
        with visit(browser) as page:
            page.goto(f"{base}#/photos")
            page.evaluate(FIRST_GRID)
            shares_of = (0.5, 0.2, 0.8, 0.35, 0.65, 0.9, 0.1)
            found["scrub to the first thumbnail, ms"] = sorted(
                round(page.evaluate(SCRUB, share)) for share in shares_of if not page.wait_for_timeout(700)
            )  # fmt: skip
            page.keyboard.press("Home")
            page.wait_for_timeout(1000)
            whole = "(main.scrollHeight - main.clientHeight) * frame / frames"
            frames = SCROLL.replace(whole, "frame * 40")
            found["frames at 40 pixels a frame, ms"] = shares(page.evaluate(frames, 1500))
            for _ in range(1000):
                page.mouse.move(600, 400)
                page.mouse.wheel(0, 900)
                page.wait_for_timeout(30)
            page.wait_for_timeout(1000)
            held = memory(page)
            found["nodes after 1,000 screens"] = held["nodes"]
            found["memory of scripts then, MB"] = held["heap"]
        found[f"the page's process after {minutes} minutes of scrolling, MB"] = alone(base, minutes)
        with visit(browser) as page:
            page.goto(f"{base}bare")
            page.evaluate(BARE, base)
            page.wait_for_timeout(1000)
            found["frames of rows of pictures and nothing else, ms"] = shares(
                page.evaluate(frames, 1500)
            )
        with visit(browser) as page:
            empty = "<style>body{margin:0} main{height:100vh; overflow:auto} div{height:400000px}</style><main><div>"
            page.set_content(empty)
            found["frames of an empty page, ms"] = shares(page.evaluate(frames, 1500))
        for ratio in (1, 2, 3):
            reached = {}
            with visit(browser, device_scale_factor=ratio) as page:
                page.goto(f"{base}#/photos")
                page.evaluate(FIRST_GRID)
                page.keyboard.press("End")
                reached["End"] = reaches(page)
                page.keyboard.press("Home")
                page.evaluate(SCRUB, 1)
                reached["scale"] = reaches(page)
                page.mouse.move(600, 400)
                page.mouse.wheel(0, -200_000)
                page.wait_for_timeout(500)
                assert not page.evaluate(LAST)
                for _ in range(300):
                    page.mouse.wheel(0, 900)
                    page.wait_for_timeout(10)
                reached["wheel"] = reaches(page)
            found[f"the last is reached at ratio {ratio}"] = reached
    server.stop()
    return found


def alone(base: str, minutes: float) -> float:
    """Megabytes of a page that scrolls by itself, in a browser that nobody looks into."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,800",
                   "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]  # fmt: skip
        address = f"{base}?drive#/photos"
        browser = subprocess.Popen([str(shutil.which("chromium")), *options, address], stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(60 * minutes)
        found = largest_page(profile)
        browser.terminate()
        browser.wait()
    return found


def reaches(page: Page) -> bool:
    page.wait_for_timeout(1500)
    return bool(page.evaluate(LAST))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=500_000)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--only", choices=("folders", "dates"))
    options = parser.parse_args()
    parts = {
        "folders": functools.partial(bench, items=options.items),
        "dates": functools.partial(by_date, photos=options.photos, minutes=options.minutes),
    }
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for name, measure in parts.items():
            if options.only in (None, name):
                with tempfile.TemporaryDirectory() as home:
                    print(json.dumps(measure(browser, pathlib.Path(home)), indent=2))
        browser.close()


if __name__ == "__main__":
    main()
