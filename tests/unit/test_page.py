"""The report's page in a browser: Chromium, without any network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeline.report import markdown, page
from tests import needs
from tests.unit.made_runs import compared, viewed

pytestmark = pytest.mark.needs("chromium")

WIDTHS = (390, 820, 1440)
NAME = "<script>document.title = 'owned'</script>"
RED = f"A red square </noscript>{NAME}<img src=x onerror=alert(1)>"
SORTED = markdown.table("""
| name | difference | size | time | p |
| b | +0.48 (-0.10 to +0.90) | 1.15 M | 12.5 min | 0.012 |
| a | - | 11.4 k | 47 s | < 0.0001 |
| item 10 | -1.30 (-2.00 to 0.00) | 999 | 3.1 h | 1.00 |
| item 9 | 0.00 (-1.00 to +1.00) | 1,147,914 | 0.8 s | 0.30 |
| **all** | **1** | **1** | **1** | **1** |
""")
WIDE = markdown.table(
    "\n".join(
        f"| {' | '.join(cells)} |"
        for cells in ([f"a wide column {k}" for k in range(30)], ["0.123456789"] * 30)
    )
)
TEXT = f"""# `a` against `b` on digits

**Does it pay? Undecided:** some words.

- **A doubt** that overturns it, with {markdown.escape(NAME)}.

## Comparison

{SORTED}

{WIDE}

{"`" + "an_endless_name" * 30 + "`"}

## Figures

![A wide figure](wide.png)

### Below

{"Words of a paragraph. " * 400}

[The numbers](numbers.csv)

{markdown.folded(f"behind {markdown.image(RED, 'square.png')}", "Folded")}

### Last

{markdown.fenced("key: " + "value " * 100, "yaml")}

{"More words. " * 400}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=needs.find("chromium"), args=["--no-sandbox"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a page with a report."""
    folder = tmp_path_factory.mktemp("page")
    Image.new("RGB", (2100, 600), "red").save(folder / "wide.png")
    Image.new("RGB", (210, 210), "red").save(folder / "square.png")
    (folder / "numbers.csv").write_text("a\n1\n")
    made = page.page(TEXT, folder, viewed(compared({NAME: None, "a": NAME}), "a"))
    (folder / "report.html").write_text(made, encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(params=WIDTHS)
def opened(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """Return the page in a window; it may ask for nothing and complain of nothing meanwhile."""
    context = browser.new_context(
        viewport={"width": request.param, "height": 900}, color_scheme="light"
    )
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(address)
    yield page
    context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} <= {address}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: Literal["light", "dark"], opened: Page) -> None:
    """Contrast, names, roles and the order of headings: the rules of WCAG 2.2 and good practice."""
    opened.emulate_media(color_scheme=scheme)
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(opened, options={"runOnly": rules})
    assert found.response["passes"]
    assert found.response["violations"] == []


def column(page: Page, number: int) -> list[str]:
    return [
        text.strip()
        for text in page.locator("table")
        .first.locator(f"tbody td:nth-child({number})")
        .all_inner_texts()
    ]


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_nothing_is_wider_than_the_window(opened: Page):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = opened.locator(".scroll").nth(1)
    assert wide.evaluate("element => element.scrollWidth > element.clientWidth")


def test_letters_of_figures_stay_legible(opened: Page):
    """matplotlib's 11 points are 15 pixels, and three quarters of them 11."""
    shown = opened.locator("figure img[alt='A wide figure']").bounding_box()["width"]
    assert shown >= 0.75 * 1344


def test_names_stay_text(opened: Page):
    assert opened.title() == "a against b on digits"
    assert NAME in opened.locator(".answer").inner_text()
    assert NAME in opened.locator(".card").nth(1).inner_text()


ASCENDING = {
    1: ["a", "b", "item 9", "item 10", "all"],
    2: ["item 10", "item 9", "b", "a", "all"],  # what is missing comes last
    3: ["item 10", "a", "item 9", "b", "all"],
    4: ["item 9", "a", "b", "item 10", "all"],
    5: ["a", "b", "item 9", "item 10", "all"],
}


def test_tables_are_sorted_by_what_the_numbers_mean(opened: Page):
    headings = opened.locator("table").first.locator("th")
    for number, ascending in ASCENDING.items():
        heading = headings.nth(number - 1)
        assert heading.get_attribute("aria-sort") is None
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert column(opened, 1) == ascending

        heading.get_by_role("button").focus()
        opened.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "descending"
        missing = ["a"] if number == 2 else []
        there = [name for name in ascending[:-1] if name not in missing]
        assert column(opened, 1) == [*reversed(there), *missing, "all"]
        assert opened.locator("table").first.locator("th[aria-sort]").count() == 1


def test_theme_follows_the_system_until_it_is_chosen(opened: Page):
    light = background(opened)
    opened.emulate_media(color_scheme="dark")
    dark = background(opened)
    assert dark != light
    button = opened.locator(".theme")
    expect(button).to_have_text("Light")  # the browser tells the page of it a little later
    button.click()
    page = opened.locator("html")
    expect(page).to_have_css("background-color", light)
    expect(button).to_have_text("Dark")
    opened.reload()
    expect(page).to_have_css("background-color", light)  # remembered
    opened.locator(".theme").click()
    opened.emulate_media(color_scheme="light")
    expect(page).to_have_css("background-color", dark)


def test_contents_lead_to_their_headings(opened: Page):
    opened.emulate_media(reduced_motion="reduce")  # else the scrolling is smooth
    contents = opened.locator(".contents")
    folded = opened.viewport_size["width"] < 1088  # the width in page.css, 68 rem
    assert (contents.get_attribute("open") is None) == folded
    for name in ("Comparison", "Figures", "Below", "Last"):
        if folded:
            contents.locator("summary").click()
        contents.get_by_role("link", name=name, exact=True).click()
        heading = opened.get_by_role("heading", name=name, exact=True)
        expect(heading).to_be_in_viewport()
        assert 0 < heading.bounding_box()["y"] < 900
        if folded:
            assert contents.get_attribute("open") is None


def test_figures_open_large_by_mouse_and_keyboard(opened: Page):
    viewer = opened.locator(".viewer")
    figure = opened.get_by_role("button", name="Enlarge: A wide figure")
    figure.click()
    assert viewer.is_visible()
    assert viewer.locator("img").get_attribute("alt") == "A wide figure"
    # as large as in the page, where there is room for it: the file beside it has 2100
    assert viewer.locator("img").bounding_box()["width"] == 1344
    opened.keyboard.press("Escape")
    assert not viewer.is_visible()
    figure.focus()
    opened.keyboard.press("Enter")
    assert viewer.is_visible()
    opened.keyboard.press("Enter")  # the first thing in it closes it
    assert not viewer.is_visible()


def test_tables_are_saved_by_their_link(opened: Page):
    with opened.expect_download() as saved:
        opened.get_by_role("link", name="The numbers").click()
    assert saved.value.suggested_filename == "numbers.csv"
    assert Path(saved.value.path()).read_text() == "a\n1\n"


def is_drawn(page: Page) -> bool:
    """Tell whether the picture in the fold is there."""
    return page.evaluate("document.querySelector('details img')?.naturalWidth > 0")


def test_a_picture_in_a_fold_is_read_when_the_fold_is_opened(opened: Page):
    assert not is_drawn(opened)
    opened.get_by_text("Folded").click()
    expect(opened.get_by_alt_text(RED, exact=True)).to_be_visible()
    assert is_drawn(opened)
    assert opened.title() == "a against b on digits"  # a name in a fold is no HTML either
    opened.get_by_role("button", name="Enlarge: A red square").click()
    expect(opened.locator(".viewer")).to_be_visible()


def test_without_scripts_all_pictures_are_there(browser: Browser, address: str):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_text("Folded").click()
        expect(page.get_by_alt_text("A red square")).to_be_visible()


def test_printing_unfolds_everything_and_is_light(opened: Page):
    opened.emulate_media(color_scheme="dark", media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.get_by_text("behind").is_visible()
    assert is_drawn(opened)
    assert background(opened) == "rgb(255, 255, 255)"
    assert not opened.locator(".bar").is_visible()
