"""Sharing in the page: links, archives, what people say of a folder, and what is in the files."""

from __future__ import annotations

import json
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server, draw, encode, exif, in_both_browsers, jpeg, put
from playwright.sync_api import Page, expect
from test_page import faults, menu, old, wait_until_indexed
from written import bag, packet

pytestmark = pytest.mark.slow
FULL = "full-token-1234"
NO_LINK = "This link has ended or was taken back, or only a part of its address is here."
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


def fill(root: pathlib.Path) -> None:
    for number in range(6):
        day = exif(DateTimeOriginal=f"2024:06:0{6 - number} 12:00:00")
        old(root / f"2024/wedding/img{number}.jpg", jpeg(800, 600, seed=number, exif=day))
    old(root / "2024/wedding/party/dance.jpg", jpeg(seed=7))
    old(root / "2024/zebra.jpg", jpeg(seed=8))
    keywords = packet(bag("dc:subject", "Harbour"))
    camera = draw().getexif()
    camera[0x010F], camera[0x0110] = "NIKON CORPORATION", "NIKON D750"
    image = encode(draw(seed=9), xmp=keywords, exif=camera.tobytes())
    old(root / "files/from-lightroom.jpg", image)
    old(root / "files/as.jpg/of-ann.jpg", jpeg(seed=10))  # a folder's name


@pytest.fixture
def shared(serve: Callable[..., Server], root: pathlib.Path) -> Server:
    fill(root)
    server = serve(root)
    wait_until_indexed(server)
    server.stop()
    return serve(root, API_TOKEN=FULL)


def open_link(open_page, address: str, **options: Any) -> Page:
    """What somebody sees who gets the address of a link."""
    base, _, rest = address.partition("?")
    page: Page = open_page(base, f"?{rest}", **options)
    return page


def sign_in(page: Page) -> None:
    page.get_by_label("Password").fill(FULL)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".title h1")).to_be_visible()


def is_alone(page: Page, title: str) -> None:
    """A page says this, and shows no gallery."""
    expect(page.get_by_role("heading")).to_have_text([title])
    page.keyboard.press("?")
    expect(page.locator("header, dialog, .tiles")).to_have_count(0)


def make_link(page: Page, **marks: bool) -> str:
    menu(page, "Share")
    for text, wanted in marks.items():
        page.get_by_label(re.compile(text)).set_checked(wanted)
    page.get_by_role("button", name="Make a link").click()
    return str(page.get_by_label("Link", exact=True).input_value())


@in_both_browsers
def test_a_link_that_is_made_in_the_page_opens_on_a_phone_until_it_is_taken_back(
    shared: Server, open_page
) -> None:
    owner = open_page(shared, "#/2024/wedding/")
    sign_in(owner)
    address = make_link(owner)
    guest = open_link(open_page, address, **PHONE)
    expect(guest).to_have_url(re.compile(r"/#/2024/wedding/$"))
    expect(guest.get_by_role("heading", name="wedding")).to_be_visible()
    expect(guest.locator(".tile.shown")).to_have_count(6)
    assert "secret" not in guest.evaluate("performance.getEntries().map(each => each.name).join()")
    for hidden in ("Search photos", "Filters"):
        expect(guest.get_by_label(hidden)).to_have_count(0)
    guest.keyboard.press("?")
    expect(guest.get_by_role("dialog")).to_contain_text("Move between photos")
    expect(guest.get_by_role("dialog")).not_to_contain_text(
        re.compile("Search|Undo|Favourite|Select")
    )
    guest.keyboard.press("Escape")
    guest.get_by_role("link", name="party").click()
    expect(guest.locator(".tile.shown")).to_have_count(1)
    expect(guest.get_by_label("Path").get_by_role("link")).to_have_text(["wedding"])
    guest.get_by_role("link", name="Photos", exact=True).click()
    expect(guest.locator(".tile.shown")).to_have_count(7)  # one without a date may come first
    guest.locator(".tile a").first.click()
    expect(guest.locator(".stage img.large")).to_have_js_property("complete", True)
    expect(guest.get_by_role("dialog", name="Photo")).to_contain_text("1 of 7")
    guest.keyboard.press("Escape")
    with guest.expect_download() as download:
        guest.locator("header").get_by_role("button", name="Download").click()
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert len(names) == 7 and "wedding/party/dance.jpg" in names
    owner.keyboard.press("Escape")
    menu(owner, "Links")
    back = owner.get_by_role("button", name="Take back: wedding")
    owner.route("**/links/*", lambda route: route.fulfill(status=507, json={"description": "Full"}))
    back.click()
    expect(owner.get_by_role("dialog")).to_contain_text("Full")
    owner.unroute("**/links/*")
    back.click()
    expect(back).to_have_count(0)
    guest.get_by_role("link", name="Folders", exact=True).click()
    is_alone(guest, NO_LINK)
    guest.get_by_role("button", name="Sign in").click()  # for who has also a password
    sign_in(guest)
    guest.goto(f"http://127.0.0.1:{shared.port}/#/2024/")
    expect(guest.get_by_role("heading", name="2024")).to_be_visible()


def test_the_secret_stays_in_the_address_until_the_service_can_tell_whether_it_counts(
    shared: Server, open_page, root: pathlib.Path
) -> None:
    owner = open_page(shared, "#/2024/wedding/")
    sign_in(owner)
    address = make_link(owner)
    file = root / "_links.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    guest = open_link(open_page, address)
    is_alone(guest, "Links cannot be read right now.")
    file.write_bytes(whole)
    guest.get_by_role("button", name="Try again").click()
    expect(guest.locator(".tile.shown")).to_have_count(6)
    expect(guest).not_to_have_url(re.compile("secret"))


def test_an_owner_a_part_of_an_address_and_an_open_service_say_what_is_missing(
    shared: Server, serve, open_page, root: pathlib.Path
) -> None:
    owner = open_page(shared, "#/2024/wedding/")
    sign_in(owner)
    address = make_link(owner)
    cut = open_link(open_page, "about:blank")
    cut.route("**/session", lambda route: route.abort())
    cut.goto(address)
    expect(cut.get_by_role("button", name="Try again")).to_be_visible()
    expect(cut.get_by_role("combobox")).to_have_count(0)  # nothing of the page is there yet
    cut = open_link(open_page, address[:-3])  # as a messenger does
    is_alone(cut, NO_LINK)
    owner.goto(address)
    expect(owner.get_by_text("You are signed in, so you see everything.")).to_be_visible()
    expect(owner.get_by_label("Search photos")).to_be_visible()
    part = open_link(open_page, address.partition("#")[0])
    is_alone(part, NO_LINK)
    shared.stop()
    page = open_page(serve(root), "#/2024/wedding/")
    menu(page, "Share")
    expect(page.get_by_text("Only people in the same network can open it.")).to_be_visible()
    expect(page.get_by_label("Link", exact=True)).to_have_value(page.url)
    page.get_by_role("button", name="Copy the address").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    expect(page.get_by_role("button", name="Make a link")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Menu").click()
    expect(page.locator(".menu").get_by_text("Links")).to_have_count(0)


def test_a_link_is_sent_by_what_the_system_has_for_that(shared: Server, open_page) -> None:
    page = open_page(shared, "#/2024/wedding/")
    page.add_init_script("navigator.share = async (what) => (window.sent = what.url)")
    page.reload()
    sign_in(page)
    address = make_link(page)
    expect(page.get_by_role("button", name="Take back")).to_have_count(0)  # which "Links" does
    page.get_by_role("dialog").get_by_role("button", name="Share").click()
    assert page.evaluate("sent") == address


def test_nothing_but_the_sign_in_is_shown_until_one_has_signed_in(shared, open_page) -> None:
    page = open_page(shared, "#/2024/wedding/")
    is_alone(page, "Sign in")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_role("alert")).to_be_empty()
    page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    assert page.locator("body").inner_text().split() == ["Sign", "in", "Password", "Sign", "in"]
    assert faults(page) == []
    sign_in(page)
    expect(page.locator(".tile.shown")).to_have_count(6)


@pytest.fixture
def titled(serve: Callable[..., Server], root: pathlib.Path) -> Server:
    """Folders that have titles, and one that has a number for a name."""
    for number, (folder, title) in enumerate(
        {"fon": "Phone", "fon/2026": "", "fon/x1/hut": "At the hut"}.items()
    ):
        day = exif(DateTimeOriginal=f"2026:09:1{number} 12:00:00")
        old(root / folder / "a.jpg", jpeg(800, 600, seed=number, exif=day))
        about = {"version": 1, "kind": "folder", "title": title, "description": "Wet.\nCold."}
        put(root / folder / ".lenslet.folder.json", json.dumps(about).encode())
    server = serve(root)
    wait_until_indexed(server)
    server.stop()
    return serve(root, API_TOKEN=FULL)


def test_folders_have_the_names_that_people_gave_them_everywhere(titled, open_page) -> None:
    page = open_page(titled, "#/photos")
    sign_in(page)
    expect(page.locator(".day a")).to_have_text(["At the hut", "Phone / 2026", "Phone"])
    page.get_by_role("link", name="At the hut").click()
    expect(page).to_have_title("At the hut")
    expect(page.get_by_label("Search photos")).to_have_attribute(
        "placeholder", "Search in At the hut"
    )
    expect(page.locator(".crumbs a")).to_have_text(["Folders", "Phone", "x1"])
    page.evaluate("location.hash = '#/photos?in=' + location.hash.slice(2, -1)")
    expect(page.get_by_role("heading", name="At the hut")).to_be_visible()
    page.get_by_label("Search photos").fill("wet")
    page.keyboard.press("Enter")
    expect(page.locator(".chips .term")).to_have_text(["wet", "Folder: At the hut"])
    expect(page).to_have_title("At the hut")


def test_a_guest_sees_title_and_count_of_the_folder(titled: Server, open_page) -> None:
    owner = open_page(titled, "#/fon/x1/hut/")
    sign_in(owner)
    menu(owner, "Share")
    expect(owner.get_by_label("Name that guests see")).to_have_value("At the hut")
    owner.keyboard.press("Escape")
    headers = {"Authorization": f"Bearer {FULL}", "Content-Type": "application/json"}
    _, answer = titled.request("POST", "/links", {"path": "fon/x1/hut"}, **headers)
    guest = open_link(open_page, json.loads(answer)["url"], **PHONE)
    expect(guest).to_have_title("At the hut")
    title, count = guest.get_by_role("heading", name="At the hut"), guest.get_by_text("1 photo")
    assert title.bounding_box()["y"] < count.bounding_box()["y"] < title.bounding_box()["y"] + 20
    expect(guest.locator("header").get_by_role("button", name="Download")).to_have_count(0)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_a_photo_has_the_day_that_its_camera_showed_wherever_one_is(
    serve, open_page, root: pathlib.Path, zone: str
) -> None:
    moments = {"west": ("2019:06:27 23:45:00", "-05:30"), "east": ("2019:06:27 00:15:00", "+14:00"),
               "none": ("2019:06:27 12:00:00", None), "old": ("1965:06:27 23:45:00", "-05:30"), "late": ("2039:06:27 00:15:00", "+09:00")}  # fmt: skip
    for number, (name, (moment, offset)) in enumerate(moments.items()):
        data = exif(DateTimeOriginal=moment, **({"OffsetTimeOriginal": offset} if offset else {}))
        old(root / f"{name}.jpg", jpeg(seed=number, exif=data))
    server = serve(root)
    wait_until_indexed(server)
    months = {each["month"] for each in server.json("/timeline")["months"]}
    assert months == {"2019-06", "1965-06"}  # 2039 is to come
    page = open_page(server, "#/photos", timezone_id=zone)
    expect(page.locator(".day h3")).to_have_text(["Mon, Jun 27", "Thu, Jun 27", "Sun, Jun 27"])
    for name, (moment, _) in moments.items():
        day = f"{moment[:4]}-06-27"
        found = server.json(f"/search?q=date:{day}+name:{name}")["items"]
        assert [each["name"] for each in found] == [f"{name}.jpg"]
        page.goto(f"http://127.0.0.1:{server.port}/#/{name}.jpg")
        if page.get_by_label("Details", exact=True).is_hidden():
            page.keyboard.press("i")
        hour = {"23": "11:45 PM", "00": "12:15 AM", "12": "12:00 PM"}[moment[11:13]]
        details = page.get_by_label("Details", exact=True)
        expect(details).to_contain_text(f"June 27, {moment[:4]} at {hour}")


def test_a_guest_sees_no_more_of_a_photo_than_the_link_says(shared: Server, open_page) -> None:
    owner = open_page(shared, "#/files/")
    sign_in(owner)
    for marks, words in (({"download": False}, False), ({"download": False, "tags": True}, True)):
        address = make_link(owner, **marks)
        owner.keyboard.press("Escape")
        guest = open_link(open_page, address)
        guest.get_by_role("link", name="from-lightroom.jpg").click()
        details = guest.get_by_label("Details", exact=True)
        expect(details).to_contain_text("NIKON D750")
        assert ("Harbour" in details.inner_text()) == words
        expect(guest.get_by_role("button", name="Download")).to_have_count(0)


def test_one_photo_and_a_selection_can_be_downloaded_and_shared(shared: Server, open_page) -> None:
    owner = open_page(shared, "#/2024/wedding/")
    sign_in(owner)
    for name in ("img0.jpg", "img1.jpg"):
        owner.get_by_role("checkbox", name=f"Select {name}").check(force=True)
    with owner.expect_download() as download:
        owner.locator(".bulk").get_by_role("button", name="Download").click()
    assert zipfile.ZipFile(download.value.path()).namelist() == ["img0.jpg", "img1.jpg"]
    owner.locator(".bulk").get_by_role("button", name="Share").click()
    owner.get_by_role("button", name="Make a link").click()
    address = owner.get_by_label("Link", exact=True).input_value()
    assert "shared" not in owner.evaluate(
        "fetch('item?path=2024/wedding/img0.jpg').then((a) => a.text())"
    )
    guest = open_link(open_page, address)
    expect(guest.locator(".tile.shown")).to_have_count(2)
    expect(guest.get_by_role("heading", name="wedding")).to_be_visible()
    for outside in ("#/photos", "#/2024/wedding/", "#health"):
        guest.evaluate(f"location.hash = '{outside}'")
        expect(guest.get_by_role("heading", name="wedding")).to_be_visible()
        expect(guest.locator(".tile.shown")).to_have_count(2)
    owner.goto(f"http://127.0.0.1:{shared.port}/#/2024/zebra.jpg")
    owner.reload()
    owner.get_by_role("dialog", name="Photo").get_by_role("button", name="Share").click()
    owner.get_by_role("button", name="Make a link").click()
    address = owner.get_by_label("Link", exact=True).input_value()
    guest = open_link(open_page, address)
    expect(guest.locator(".stage img.large")).to_have_js_property("complete", True)
    guest.keyboard.press("Escape")
    expect(guest.get_by_role("heading", name="zebra.jpg")).to_be_visible()
    guest.locator(".tile.shown a").click()
    expect(guest.get_by_role("dialog", name="Photo")).to_contain_text("1 of 1")


@pytest.mark.parametrize(
    "where", ["#/2024/zebra.jpg", "#/photos?q=img", "#/2024/wedding/", "#/files/as.jpg/"]
)
def test_a_guest_gets_no_bar_without_a_button_and_asks_for_nothing_that_is_not_there(
    shared: Server, open_page, where: str
) -> None:
    owner = open_page(shared, where)
    owner.get_by_label("Password").fill(FULL)
    owner.get_by_role("button", name="Sign in").click()
    if where.endswith(".jpg"):
        owner.get_by_role("dialog").get_by_role("button", name="Share").click()
        owner.get_by_role("button", name="Make a link").click()
        address = owner.get_by_label("Link", exact=True).input_value()
    else:
        address = make_link(owner)
    answers: list[Any] = []
    for options in (PHONE, {}):
        guest = open_link(open_page, "about:blank", **options)
        guest.on("response", lambda it: answers.append(it))
        guest.goto(address)
        expect(guest.locator(".tile.shown")).not_to_have_count(0)
        if "zebra" not in where:
            guest.locator(".tile a").first.click()
        guest.reload()
        shown = guest.locator(".stage img.large")
        expect(shown).to_have_js_property("complete", True)
        if "zebra" in where:
            guest.evaluate("location.hash += '?by=date'")
        guest.keyboard.press("Escape")
        expect(guest.locator(".tile.shown")).not_to_have_count(0)
        has_folders = int(where.endswith("/"))
        expect(guest.locator(".tabs:visible")).to_have_count(has_folders)
        tree = guest.get_by_role("button", name="Folder tree")
        expect(tree).to_have_count(has_folders if options is not PHONE else 0)
        below = int("wedding" in where)
        expect(guest.get_by_role("link", name="All below, by date")).to_have_count(below)
        assert [it.url for it in answers if it.status >= 400] == []


def test_a_folder_gets_a_title_a_description_an_order_and_a_cover(
    shared: Server, open_page, root: pathlib.Path
) -> None:
    page = open_page(shared, "#/2024/wedding/")
    sign_in(page)
    menu(page, "Title and order")
    page.get_by_label("Title", exact=True).fill("Our <b>Wedding</b>")
    page.get_by_label("Description").fill("Two days.\nIn June.")
    page.get_by_label("Order of photos").select_option("date")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Our <b>Wedding</b>")).to_be_visible()
    expect(page.get_by_text("Two days.")).to_be_visible()
    expect(page.locator(".tile a").first).to_have_attribute("title", "img5.jpg")
    stored = json.loads((root / "2024/wedding/.lenslet.folder.json").read_text())
    assert (stored["kind"], stored["order"]) == ("folder", "date")
    menu(page, "Title and order")
    expect(page.get_by_label("Description")).to_have_value("Two days.\nIn June.")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="img3.jpg").click()
    page.get_by_role("button", name="Use as the cover").click()
    expect(page.get_by_text("Saved").last).to_be_visible()
    page.goto(f"http://127.0.0.1:{shared.port}/#/2024/")
    expect(page.locator(".folders img").first).to_have_attribute("src", re.compile("img3"))


def test_keywords_and_cameras_of_the_files_are_found(shared: Server, open_page) -> None:
    page = open_page(shared, "#/photos")
    sign_in(page)
    page.get_by_role("button", name="Filters").click()
    filters = page.locator(".filters")
    filters.get_by_role("link", name=re.compile("NIKON D750")).click()
    expect(page.locator(".tile.shown")).to_have_count(1)
    filters.get_by_role("link", name=re.compile("Harbour")).click()
    expect(page).to_have_url(re.compile("camera.*Harbour"))
    page.keyboard.press("Escape")
    page.locator(".tile a").first.click()
    details = page.get_by_label("Details", exact=True)
    expect(details).to_contain_text("Harbour")
    expect(details).to_contain_text("NIKON D750")


def test_what_is_for_sharing_has_no_faults_of_accessibility(shared: Server, open_page) -> None:
    page = open_page(shared, "#/2024/wedding/")
    sign_in(page)
    make_link(page)
    assert faults(page) == []
    page.keyboard.press("Escape")
    menu(page, "Title and order")
    assert faults(page) == []
