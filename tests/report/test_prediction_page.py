"""The page of predictions: what it holds, and in Chromium that it filters and sorts, and runs no script from a name."""

import re
from pathlib import Path

import numpy as np
import pytest

from mlic.report import prediction_page
from mlic.report.prediction_page import open_pages
from tests.report.test_browser import use  # pyright: ignore[reportMissingImports]

HOSTILE = "</script><img src=x onerror=\"document.title='run'\">&\u202e"
CLASSES = ("cat", HOSTILE, "dog")
SCORES = np.array([[0.9, 0.6, 0.1], [0.2, 0.95, 0.1], [0.45, 0.1, 0.1], [np.nan] * 3], dtype=np.float32)


def write_page(folder: Path, images: Path, *, copies: int = 1, lower: np.ndarray | None = None) -> Path:
    names = [f"{HOSTILE}.jpg", "b.jpg", "c.jpg", "broken.jpg"] * copies
    references = [*sorted(images.iterdir())[:3], Path("broken.jpg")] * copies
    errors = ["", "", "", f"cannot be read {HOSTILE}"] * copies
    options = {"title": HOSTILE, "classes": CLASSES, "upper": np.full(3, 0.5), "lower": lower}
    with open_pages(folder / "index.html", table="predictions.csv", **options) as pages:
        for start in range(0, len(names), 3):
            part = slice(start, start + 3)
            pages.append(names[part], references[part], np.tile(SCORES, (copies, 1))[part], errors[part])
    return folder / "index.html"


def test_names_are_text(tiny_images: Path, tmp_path: Path):
    page = write_page(tmp_path, tiny_images).read_text()
    assert page.count("<script") == 2 and "<img src=x" not in page and "\u202e" not in page
    assert len(re.findall(r'<img class="photo" src="data:image/webp;base64,', page)) == 3
    assert not re.findall(r"(?:src|href)=.https?:", page)


def test_more_photographs_than_a_page_holds(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prediction_page, "PER_PAGE", 5)
    (tmp_path / "index_old.html").write_text("mine")
    pages = [tmp_path / f"index{ending}.html" for ending in ("", "_2", "_3")]
    write_page(tmp_path, tiny_images, copies=3)
    before = [page.read_text() for page in pages]
    assert [text.count("<figure") for text in before] == [5, 5, 2] and 'href="index_3.html"' in before[0]
    rendered = {"index.html": "first"}
    with monkeypatch.context() as patch:
        patch.setattr(prediction_page, "render_page", lambda content, *_: rendered[content["page"]])
        with pytest.raises(KeyError):
            write_page(tmp_path, tiny_images, copies=3)
    assert [page.read_text() for page in pages] == before
    write_page(tmp_path, tiny_images)
    assert {path.name for path in tmp_path.glob("*.html")} == {"index.html", "index_old.html"}


@pytest.mark.browser
@pytest.mark.slow
def test_it_filters_and_sorts(tiny_images: Path, tmp_path: Path):
    page = write_page(tmp_path, tiny_images, lower=np.full(3, 0.15))
    found = use(
        page,
        """
        const names = () => all('#cards .name').map(item => item.innerText.slice(0, 9));
        const seen = {title: document.title, options: [...label.options].map(item => item.innerText), given: names()};
        choose('order', 'doubt'); seen.doubt = names();
        choose('label', '0'); choose('order', 'score'); seen.cat = names();
        choose('label', '1'); seen.hostile = names();
        return seen;
        """,
    )
    assert (
        found["title"] != "run" and found["options"][:2] == ["all", "cat (1)"] and len(found["options"]) == 3
    )
    assert found["given"][1:] == ["b.jpg", "c.jpg", "broken.jp"] and len(found["given"]) == 4
    assert found["doubt"][0] == "c.jpg" and found["doubt"][-1] == "broken.jp"
    assert found["cat"][0] == found["given"][0] and found["cat"][1:] == ["c.jpg", "b.jpg"]
    assert found["hostile"] == ["b.jpg", found["given"][0]]
