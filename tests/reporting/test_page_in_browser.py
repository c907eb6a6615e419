"""The page as a reader has it: in a real browser, by keyboard, in the dark, on paper, without scripts."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from PIL import Image

from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .browser import CHROMIUM, DRIVER, chromium
from .fake_runs import fake_run

pytest.importorskip("selenium", reason="selenium, of the extra 'test', drives the browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver on the PATH"),
]

STRATEGIES, RATES = ("head_only", "last_block", "full"), (1e-1, 1e-3, 1e-4)
ESCAPE, ENTER, RIGHT = "\ue00c", "\ue007", "\ue014"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    images = folder / "images"
    images.mkdir()
    for i in range(1, 151):
        Image.new("RGB", (60, 80), (i, 90, 120)).save(images / f"{i:06d}.jpg")
    runs = [
        fake_run(folder / "runs", strategy=s, lr=lr, path=str(images), epochs=3, val_accuracy=0.8 + i / 100,
                 confusion=((90 - 9 * i, 10 + 9 * i), (5, 45)), name=f"run{i}")
        for i, (s, lr) in enumerate((s, lr) for s in STRATEGIES for lr in RATES)
    ]  # fmt: skip
    runs.append(fake_run(folder / "runs", strategy="scratch", name="bad", error="it went wrong there"))
    write_report(build_report(load_records(runs)), folder / "out", "embed")
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def reader(browser, page):
    """A browser that has the page open; whatever it complains about fails the test."""
    browser.scripts(on=True)
    browser.prefer("light")
    browser.open(page)
    browser.js("localStorage.clear()")
    yield browser
    assert browser.noise() == []


SUMMARY = "document.querySelector('section[aria-labelledby=summary] table')"


def column(reader, number):
    """The shown texts of one column of the summary's table, from the top."""
    rows = f"[...{SUMMARY}.tBodies[0].rows].filter(row => !row.hidden)"
    texts = reader.js(f"return {rows}.map(row => row.cells[arguments[0]].innerText)", number)
    return [text.strip() for text in texts]


def sort_by(reader, number):
    head = f"{SUMMARY}.tHead.rows[0].cells[arguments[0]]"
    reader.js(f"{head}.querySelector('button').focus()", number)
    reader.press(ENTER)
    return reader.js(f"return {head}.getAttribute('aria-sort')", number)


def first_number(text):
    return float(re.match(r"[\d.]+", text)[0])


def test_a_column_of_numbers_is_sorted_by_value_and_back(reader):
    before = column(reader, 0)
    assert [sort_by(reader, 1) for _ in range(2)] == ["ascending", "descending"]
    values = [first_number(text) for text in column(reader, 1)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 9
    assert sort_by(reader, 1) is None
    assert column(reader, 0) == before


def test_what_begins_with_a_number_is_sorted_by_it(reader):
    """Not as words: then 10 would come before 9."""
    code = "const body = arguments[0].tBodies[0]; body.append(...[...body.rows].reverse())"
    reader.js(code.replace("arguments[0]", SUMMARY))
    sort_by(reader, 0)
    assert [int(first_number(text.replace(":", ""))) for text in column(reader, 0)] == list(range(1, 10))


def test_only_one_column_says_that_it_is_sorted(reader):
    sort_by(reader, 1)
    assert sort_by(reader, 2) == "ascending"
    assert reader.js(f"return {SUMMARY}.querySelectorAll('[aria-sort]').length") == 1
    assert "ascending" in reader.js("return document.querySelector('[role=status]').textContent")


def test_the_filter_keeps_rows_with_every_word(reader):
    reader.js("document.querySelector('section[aria-labelledby=summary] input').focus()")
    reader.press("LAST_block ", "1e-3")
    assert column(reader, 0) == ["5: last_block, lr 1e-3"]
    assert "1 of 9" in reader.js("return document.querySelector('.filter').innerText")
    reader.js("document.activeElement.select()")
    reader.press("\ue017")
    assert len(column(reader, 0)) == 9


def test_cells_are_folded_filtered_and_unfolded_by_a_link(reader):
    cells = "[...document.querySelectorAll('details.cell')]"
    assert reader.js(f"return {cells}.filter(c => c.open).length") == 1
    reader.js("document.querySelector('section[aria-labelledby$=cells] input').focus()")
    reader.press("full")
    assert reader.js(f"return {cells}.filter(c => !c.hidden).map(c => c.id)") == ["c7", "c8", "c9"]
    reader.js("document.querySelector('nav a[href=\"#c8\"]').click()")
    assert reader.js("return document.getElementById('c8').open")


def test_the_lightbox_opens_turns_and_closes_by_keyboard(reader):
    dialog = "document.querySelector('dialog')"
    reader.js("document.querySelector('.shots .zoom').focus()")
    reader.press(ENTER)
    assert reader.js(f"return {dialog}.open && {dialog}.contains(document.activeElement)")
    first = reader.js(f"return {dialog}.querySelector('figcaption').innerText")
    reader.press(RIGHT)
    second = reader.js(f"return {dialog}.querySelector('figcaption').innerText")
    assert first != second
    assert reader.js(f"return {dialog}.querySelector('img').getBoundingClientRect().height") > 300
    assert reader.js(
        "return new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    ) == reader.js("return document.querySelectorAll('[id]').length")
    reader.press(ESCAPE)
    assert not reader.js(f"return {dialog}.open")
    # The focus comes back to the picture that was seen last.
    assert reader.wait(
        "return document.activeElement.closest('figure')?.innerText.trim() === arguments[0].trim()", second
    )


def page_colour(reader):
    return reader.js("return getComputedStyle(document.body).backgroundColor")


def test_dark_follows_the_system_until_the_switch_is_used(reader, page):
    assert page_colour(reader) == "rgb(255, 255, 255)"
    reader.prefer("dark")
    dark = page_colour(reader)
    assert dark == "rgb(20, 23, 27)"
    reader.js("document.getElementById('theme').focus()")
    reader.press(ENTER)
    assert page_colour(reader) == "rgb(255, 255, 255)"
    assert reader.js("return document.getElementById('theme').getAttribute('aria-pressed')") == "false"
    reader.open(page)
    assert page_colour(reader) == "rgb(255, 255, 255)"
    reader.press(ENTER)
    reader.js("document.getElementById('theme').click()")
    assert page_colour(reader) == dark
    assert reader.js("return localStorage.length") == 0


def test_the_way_by_keyboard_begins_with_a_link_past_the_contents(reader):
    reader.driver.find_element("tag name", "body").send_keys("\ue004")
    assert reader.js("return document.activeElement.className") == "skip"
    assert reader.js("return document.activeElement.getBoundingClientRect().left") >= 0
    reader.press(ENTER)
    assert reader.js("return document.activeElement.id") == "main"


@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_window(reader, page, width):
    reader.command(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
    )
    reader.js("for (const part of document.querySelectorAll('details')) part.open = true")
    assert reader.js("return document.documentElement.scrollWidth") <= width
    reader.command("Emulation.clearDeviceMetricsOverride")


def test_a_table_that_fits_has_no_scroll_bar(reader):
    moves = reader.js(
        "return [...document.querySelectorAll('.scroll')].filter(box => {"
        "  const table = box.querySelector('table'), room = box.parentElement.clientWidth;"
        "  const shown = table && table.checkVisibility({contentVisibilityAuto: true});"
        "  return shown && table.offsetWidth + 20 < room && box.scrollWidth > box.clientWidth;"
        "}).map(box => box.innerText.slice(0, 60))"
    )
    assert moves == []


def words(text):
    return set(re.findall(r"\w[\w.]+", text))


@pytest.mark.parametrize("scripts", [pytest.param(True, marks=pytest.mark.slow), False])
def test_on_paper_all_is_unfolded(reader, page, scripts):
    pypdf = pytest.importorskip("pypdf")
    reader.scripts(on=scripts)
    reader.open(page)
    pdf = pypdf.PdfReader(io.BytesIO(reader.pdf()))
    text = unicodedata.normalize("NFKC", " ".join(sheet.extract_text() for sheet in pdf.pages))
    text = re.sub(r"\s+", " ", text)
    for part in ("Summary", "Introduction and methods", "Cells", "Misclassified examples", "Discussion",
                 "Comparisons and uncertainty", "Data and responsible use", "Failed runs", "Reproduce",
                 "it went wrong there", "How to read these figures"):  # fmt: skip
        assert part in text
    # In every cell, folded on the screen.
    assert text.count("Parameters trained") == text.count("Confusion matrix") == 9
    assert "Skip to the content" not in text


def test_without_scripts_all_is_there_and_opens(reader, page):
    reader.js("for (const part of document.querySelectorAll('details')) part.open = true")
    with_scripts = words(reader.driver.find_element("tag name", "main").text)
    reader.scripts(on=False)
    reader.open(page)
    assert not reader.driver.find_element("id", "tools").is_displayed()
    for fold in reader.driver.find_elements("css selector", "main details:not([open]) > summary"):
        fold.click()
    without = words(reader.driver.find_element("tag name", "main").text)
    assert with_scripts - without == {"Dark", "Filter", "Unfold"}
    assert len(without) > 200
