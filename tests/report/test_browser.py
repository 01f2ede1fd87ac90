"""The page in Chromium: it sorts, it filters, it runs no script from a name, and nothing is cut."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("report")]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
)
# what a user does: click a heading, choose an option; and what is seen then
USE = """
const column = (table, place) =>
  [...document.querySelectorAll(`#table-${table} tbody tr`)].map(row => row.children[place].innerText.trim());
const click = (table, place) =>
  document.querySelector(`#table-${table} thead tr:last-child th:nth-child(${place + 1}) button`).click();
const choose = (id, value) => {
  const select = document.getElementById(id);
  select.value = value;
  select.dispatchEvent(new Event('change'));
};
const cards = () => [...document.querySelectorAll('#error-list .card')].map(card => card.innerText);
const all = selector => [...document.querySelectorAll(selector)];
"""


def dump(page: Path, width: int = 1280) -> tuple[str, str]:
    """The document after its scripts have run, and what the browser logged."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no chromium")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [chromium, *FLAGS, profile, f"--window-size={width},900", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.fixture
def page(report: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copy(report / "index.html", tmp_path / "index.html"))


def use(page: Path, script: str, width: int = 1280) -> Any:
    """The value that a script returns; the policy of the page allows this script besides its own."""
    # in a block, because the page has constants of its own
    script = f"{{{USE}\nconst used = () => {{ {script} }};\ndocument.body.dataset.found = JSON.stringify(used());}}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8").replace("script-src '", f"script-src 'sha256-{digest}' '")
    page.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    (found,) = re.findall(r'data-found="(.*?)"', dump(page, width)[0])
    return json.loads(unescape(found))


def test_a_click_sorts_a_table_and_a_second_turns_it_round(page: Path):
    found = use(page, """
      const names = [column('test', 0)], scores = [];
      click('test', 0); names.push(column('test', 0));
      for (const _ of [1, 2]) { click('test', 1); scores.push(column('test', 1)); }
      const last = [];
      for (const _ of [1, 2]) { click('classes', 3); last.push(column('classes', 0).at(-1)); }
      return [names, scores, last, document.querySelector('#table-test th[aria-sort]').getAttribute('aria-sort')];
    """)  # fmt: skip
    names, scores, last, direction = found
    assert {*names[0][:2]} == {"two", "<b>one"} and names[1][:2] == ["<b>one", "two"]
    falling, rising = ([float(text.split()[0].rstrip("*")) for text in own[:2]] for own in scores)
    assert falling[0] > falling[1] and rising == falling[::-1] and direction == "ascending"
    assert last == ["never"] * 2, "the class without a value stays last both ways"


def test_the_photographs_of_a_class_follow_run_rule_and_slider(page: Path, odd_classes: tuple[str, ...]):
    names = json.dumps(odd_classes[:3]).replace("<", "\\u003c")  # the script is part of a page
    opened, every, of_one, rules, slid, number = use(page, f"""
      const measured = () => document.querySelector('#error-list .measured').innerText;
      const chosen = id => document.getElementById(id).value;
      const opened = chosen('error-class');
      const every = {names}.map(name => {{ choose('error-class', name); return [cards(), measured()]; }});
      choose('error-run', '1');
      const of_one = [chosen('error-class'), all('#error-list img.photo').length, cards().length];
      const rules = ['own', 'common', 'half'].map(rule => {{
        const select = document.querySelector('select[data-rule]');
        select.value = rule;
        select.dispatchEvent(new Event('change'));
        return measured();
      }});
      const slider = document.getElementById('threshold');
      const slid = [1, 99].map(value => {{
        slider.value = value;
        slider.dispatchEvent(new Event('input'));
        return measured();
      }});
      document.querySelector('#table-classes tbody a.number').click();
      return [opened, every, of_one, rules, slid, [chosen('error-class'), chosen('threshold')]];
    """)  # fmt: skip
    assert opened in odd_classes[:3]
    for name, (cards, measured) in zip(odd_classes, every, strict=False):
        assert cards and all(name in card for card in cards) and measured.startswith("precision ")
    assert of_one[0] == odd_classes[2] and of_one[1] == of_one[2] > 0, "the class stays"
    assert len({*rules}) > 1
    low, high = slid
    assert "recall 0.875" in low, "all but the image with inverted scores"
    assert "recall 0." in high and low != high
    assert number[0] in odd_classes


def test_names_are_text_and_no_script_but_the_pages_own_runs(page: Path, tmp_path: Path):
    shown, log = dump(page)
    assert "CONSOLE" not in log
    assert "&lt;script&gt;alert(1)" in shown and "<i>no such file" not in shown
    # an injected handler would run without the policy alone
    text = page.read_text(encoding="utf-8").replace(
        "</body>", "<img src=x onerror=\"document.body.dataset.hit = 'it'\"></body>"
    )
    for policy, runs in (("Content-Security-Policy", False), ("X-Nothing", True)):
        page.write_text(text.replace("Content-Security-Policy", policy), encoding="utf-8")
        shown, log = dump(page)
        assert ('data-hit="it"' in shown) == runs and ("Content Security Policy" in log) != runs


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_is_cut_or_too_small_to_read(width: int, page: Path):
    found = use(page, """
      return [
        innerWidth, document.documentElement.scrollWidth,
        all('.panels svg').filter(item => item.getBoundingClientRect().width < 200).length,
        all('p, td, th, li, figcaption').filter(
          item => item.innerText && parseFloat(getComputedStyle(item).fontSize) < 11).length,
      ];
    """, width)  # fmt: skip
    assert found == [width, min(found[1], width), 0, 0]


def test_figures_show_the_values_under_the_pointer_and_by_arrow_keys(page: Path):
    seen, keys = use(page, """
      const tip = () => document.querySelector('.tip').textContent;
      const seen = [];
      for (const mark of document.querySelectorAll('[data-series] use, [data-note] use')) {
        const svg = mark.ownerSVGElement;
        const place = new DOMPoint(mark.getAttribute('x'), mark.getAttribute('y')).matrixTransform(svg.getScreenCTM());
        svg.dispatchEvent(new PointerEvent('pointermove', {clientX: place.x, clientY: place.y}));
        seen.push([svg.getAttribute('aria-label'), tip()]);
      }
      const keys = [];
      const svg = document.querySelector('#training svg.plot');
      for (const key of ['ArrowRight', 'ArrowRight', 'ArrowLeft']) {
        svg.dispatchEvent(new KeyboardEvent('keydown', {key}));
        keys.push(tip());
      }
      return [seen, keys];
    """)  # fmt: skip
    assert any(text.startswith(("two: 0.", "<b>one: 0.")) for _, text in seen), "the forest plot"
    assert any("\nbär $x^2$" in text for figure, text in seen if figure == "Average precision by class")
    assert [key.split("\n", 1)[1] for key in keys] == ["epoch 1\n0.2", "epoch 2\n0.5", "epoch 1\n0.2"]
