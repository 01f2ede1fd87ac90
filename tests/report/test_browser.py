"""The page in Chromium: it sorts, it filters, it runs no script from a name, and nothing is cut."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("report")]

COLUMN = "return [...document.querySelectorAll('#table-test tbody tr')].map(row => row.children[%d].innerText.trim())"
CARDS = "return [...document.querySelectorAll('#error-list .card')].map(card => card.innerText)"
CHOOSE = """const select = document.querySelector(arguments[0]); select.value = arguments[1];
select.dispatchEvent(new Event('change'));"""


@pytest.fixture
def page(report: Path) -> Path:
    return report / "index.html"


def test_a_click_sorts_a_table_and_a_second_turns_it_round(page: Path, browser: Any):
    browser.open(page, 1280)
    assert browser.run(COLUMN % 0)[:2] == ["two", "<b>one</b>"]
    heading = "#table-test thead tr:last-child th:nth-child({}) button"
    browser.click(heading.format(1))
    assert browser.run(COLUMN % 0)[:2] == ["<b>one</b>", "two"]
    for falls in (True, False):
        browser.click(heading.format(2))
        values = [float(text.split()[0].rstrip("*")) for text in browser.run(COLUMN % 1)[:2]]
        assert values == sorted(values, reverse=falls) and len(set(values)) == 2
    sort = "return document.querySelector('#table-test th[aria-sort]').getAttribute('aria-sort')"
    assert browser.run(sort) == "ascending"
    # the class without a value in that column stays last both ways
    for _ in range(2):
        browser.click("#table-classes thead tr:last-child th:nth-child(4) button")
        last = "return document.querySelector('#table-classes tbody tr:last-child td').innerText"
        assert browser.run(last) == "never"


def test_a_filter_shows_the_errors_of_a_class(page: Path, browser: Any, odd_classes: tuple[str, ...]):
    browser.open(page, 1280)
    browser.run(CHOOSE, "#error-run", "")
    for name in odd_classes[:3]:
        browser.run(CHOOSE, "#error-class", name)
        cards = browser.run(CARDS)
        assert cards and all(f"✗ {name}" in card or f"✗ missed: {name}" in card for card in cards)
    browser.run(CHOOSE, "#error-run", "1")
    chosen = browser.run(CARDS)
    assert 0 < len(chosen) < len(cards)
    assert all(card.endswith("· <b>one</b>") for card in chosen)


def test_names_are_text_and_no_script_but_the_pages_own_runs(page: Path, browser: Any):
    browser.messages()
    browser.open(page, 1280)
    assert browser.messages() == []
    assert browser.run("return document.scripts.length") == 2
    options = "return [...document.querySelectorAll('#error-class option')].map(item => item.value)"
    assert "<script>alert(1)</script>" in browser.run(options)
    assert browser.run("return document.querySelectorAll('main i').length") == 0
    # an injected handler would not run either
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    assert browser.run("return new Promise(done => setTimeout(() => done(window.hit === undefined), 200))")
    assert any("Content Security Policy" in message for message in browser.messages())


def test_nothing_is_cut_or_too_small_to_read(page: Path, browser: Any):
    inside = "return [...document.querySelectorAll('.panels img')].every(item => item.naturalWidth > 0)"
    small = """return [...document.querySelectorAll('p, td, th, li, figcaption')].filter(
        item => item.innerText && parseFloat(getComputedStyle(item).fontSize) < 11).length"""
    for width in (1280, 390):
        browser.open(page, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run(inside)
        assert browser.run(small) == 0
