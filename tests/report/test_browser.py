"""The page in Chromium: it sorts, it filters, it runs no script from a name, and nothing is cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlic.report.report import ReportOptions, write_report

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("report")]

COLUMN = "return [...document.querySelectorAll('#table-test tbody tr')].map(row => row.children[%d].innerText.trim())"
CARDS = "return [...document.querySelectorAll('#error-list .card')].map(card => card.innerText)"
CHOOSE = """const select = document.querySelector(arguments[0]); select.value = arguments[1];
select.dispatchEvent(new Event('change')); return select.value;"""


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun, made: Made, odd_classes: tuple[str, ...]
) -> Path:
    """Three runs on the same images, the last class without a positive."""
    folder = tmp_path_factory.mktemp("runs")
    targets = np.hstack([made(0, 40, 3)[1], np.zeros((40, 1), dtype=np.uint8)])
    for number, name in enumerate(("b <i>run</i>", "c", "a")):
        random = np.random.default_rng(number)
        noise = random.normal(size=targets.shape) * (1 + number)
        scores = (1 / (1 + np.exp(-(3 * targets - 1.5 + noise)))).astype(np.float32)
        limits = dict.fromkeys(odd_classes, 0.4)
        write_run(folder / str(number), scores, targets, odd_classes, name=name, thresholds=limits)
    return write_report(ReportOptions(str(folder), folder / "report", resamples=20))


def test_a_click_sorts_a_table_and_a_second_turns_it_round(page: Path, browser: Any):
    browser.open(page, 1280)
    assert browser.run(COLUMN % 0) == ["b <i>run</i>", "c", "a"]
    heading = "#table-test thead tr:last-child th:nth-child({}) button"
    browser.click(heading.format(1))
    assert browser.run(COLUMN % 0) == ["a", "b <i>run</i>", "c"]
    browser.click(heading.format(2))
    values = [float(text.split()[0].rstrip("*")) for text in browser.run(COLUMN % 1)]
    assert values == sorted(values, reverse=True) and len(set(values)) == 3
    browser.click(heading.format(2))
    assert [float(text.split()[0].rstrip("*")) for text in browser.run(COLUMN % 1)] == sorted(values)
    sort = "return document.querySelector('#table-test th[aria-sort]').getAttribute('aria-sort')"
    assert browser.run(sort) == "ascending"
    # the column without a value in the last class: it stays last both ways
    cell = "#table-classes thead tr:last-child th:nth-child(4) button"
    last = "return document.querySelector('#table-classes tbody tr:last-child td').innerText"
    for _ in range(2):
        browser.click(cell)
        assert browser.run(last) == "never"


def test_a_filter_shows_the_errors_of_a_class(page: Path, browser: Any, odd_classes: tuple[str, ...]):
    browser.open(page, 1280)
    assert browser.run(CHOOSE, "#error-run", "") == ""
    for name in odd_classes[:3]:
        assert browser.run(CHOOSE, "#error-class", name) == name
        cards = browser.run(CARDS)
        assert cards and all(f"✗ {name}" in card or f"✗ missed: {name}" in card for card in cards)
    everything = len(browser.run(CARDS))
    browser.run(CHOOSE, "#error-run", "1")
    chosen = browser.run(CARDS)
    assert 0 < len(chosen) < everything
    assert all(card.endswith("· c") for card in chosen)


def test_names_are_text_and_no_script_but_the_pages_own_runs(page: Path, browser: Any):
    browser.messages()
    browser.open(page, 1280)
    assert browser.messages() == []
    assert browser.run("return document.scripts.length") == 2
    options = browser.run(
        "return [...document.querySelectorAll('#error-class option')].map(item => item.value)"
    )
    assert "<script>alert(1)</script>" in options
    assert browser.run("return document.querySelectorAll('main i').length") == 0
    # an injected handler would not run either
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    assert browser.run("return new Promise(done => setTimeout(() => done(window.hit === undefined), 200))")
    assert any("Content Security Policy" in message for message in browser.messages())


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page: Path, browser: Any, width: int):
    browser.open(page, width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    inside = "return [...document.querySelectorAll('.panels img')].every(item => item.naturalWidth > 0)"
    assert browser.run(inside)
    small = """return [...document.querySelectorAll('p, td, th, li, figcaption')].filter(
        item => item.innerText && parseFloat(getComputedStyle(item).fontSize) < 11).length"""
    assert browser.run(small) == 0
    assert len(browser.screenshot()) > 10_000
