"""Each kind of finding, row by row."""

import json
import os
import signal
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic.errors import InputError
from mlic.escaping import restore_cell
from mlic.verification import report
from mlic.verification.checking import class_table
from mlic.verification.findings import find_in_classes


def test_statistics_of_labels_and_notes_of_a_clean_set(data_set, verify_set, tmp_path, problems):
    data_set.add_many(2, "")
    data_set.add_many(4, "dog|cat|bird")
    assert verify_set(data_set, "data.split.val=0").problems().empty and problems() == []
    classes = pd.read_csv(tmp_path / "out" / "classes.csv")
    rows = classes[["class", "images", "alone"]].values.tolist()
    assert rows == [["cat", 20, 8], ["dog", 20, 8], ["bird", 4, 0]]
    assert classes["share"].tolist() == pytest.approx([20 / 30, 20 / 30, 4 / 30], rel=1e-5)
    assert classes[["train", "test"]].sum(axis=1).tolist() == [20, 20, 4]
    pairs = pd.read_csv(tmp_path / "out" / "class_pairs.csv")
    rows = pairs[["first", "second", "images"]].values.tolist()
    assert rows == [["cat", "dog", 12], ["bird", "cat", 4], ["bird", "dog", 4]]
    assert pairs["lift"].tolist() == pytest.approx([30 * 12 / 400, 30 * 4 / 80, 30 * 4 / 80], rel=1e-5)
    summary = json.loads((tmp_path / "out" / "verification.json").read_text())
    notes = [(note["kind"], note["class"]) for note in summary.pop("notes")]
    assert notes == [("few_test_images", name) for name in ("bird", "cat", "dog")]
    assert summary == {
        "problems": {}, "images": 30, "classes": 3, "labels": 44, "labels_per_image": 44 / 30, "check": "full",
        "unlabelled_images": 2, "images_by_labels": {"0": 2, "1": 16, "2": 8, "3": 4},
    }  # fmt: skip


def test_bad_images_are_named_with_reasons(data_set, verify_set, problems):
    cut, damaged, folder = (data_set.add(f"{name}.png", "cat") for name in ("cut", "damaged", "folder"))
    content = bytearray(damaged.read_bytes())
    content[60:80] = bytes(20)  # in the pixels; header and end stay
    damaged.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:150])
    folder.unlink()
    folder.mkdir()
    data_set.add("empty.png", "cat").write_bytes(b"")
    reasons = {
        "cut.png": "truncated or damaged",
        "damaged.png": "truncated or damaged",
        "empty.png": "the file is empty (0 bytes)",
        "folder.png": "not a regular file",
    }
    verify_set(data_set)
    for (kind, name, reason), (expected, start) in zip(problems(), reasons.items(), strict=True):
        assert (kind, name) == ("bad_image", expected) and reason.startswith(start)
    verify_set(data_set, "check=quick")
    assert [row[1] for row in problems()] == ["cut.png", "empty.png", "folder.png"], "pixels are not decoded"


def test_sixteen_bits_that_are_not_used_are_reported_with_the_setting(data_set, verify_set, problems):
    for name, largest in (("deep.png", 4095), ("dark.png", 900)):
        pixels = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(pixels).save(data_set.add(name, "cat"))
    verify_set(data_set)
    ((kind, detail),) = problems()
    used = "2 16-bit greyscale images use 12 of 16 bits (largest value 4095): data.bits_stored=12 "
    assert kind == "unused_bits" and detail.startswith(used)
    assert verify_set(data_set, "data.bits_stored=12").problems().empty
    verify_set(data_set, "data.bits_stored=10")
    too_bright = "its largest value, 4095, exceeds data.bits_stored=10"
    assert problems() == [("bad_image", "deep.png", too_bright)]


def test_images_in_tar_shards_are_opened_like_files(data_set, verify_set, pack, tmp_path, problems):
    members = {}
    for name, labels in data_set.labels.items():
        members |= {name: (data_set.images / name).read_bytes(), name.replace(".png", ".txt"): labels}
    shard = tmp_path / "a.tar"
    shard.write_bytes(pack(members))
    for images, check in ((f"[{shard}]", "quick"), (f"'file://{shard}'", "full")):
        found = verify_set(None, "data=webdataset", f"data.images={images}", f"check={check}")
        assert len(found.table) == 24 and found.problems().empty
    first, again = "n000.png", members["n001.png"]
    members |= {first: members[first][:150], "same.png": again, "same.txt": members["n001.txt"]}
    shard.write_bytes(pack(members))
    verify_set(None, "data=webdataset", f"data.images={shard}")
    bad, copy = problems()
    assert bad[:2] == ("bad_image", f"a.tar/{first}") and bad[2].startswith("truncated or damaged")
    assert copy[:2] == ("duplicate", "a.tar/same.png")


def test_duplicates_with_other_labels_come_first_and_are_on_the_page(
    data_set, verify_set, tmp_path, problems
):
    for name, labels, seed in (
        ("a1.png", "cat", 1), ("a2.png", "cat", 1), ("sub/a3.png", "dog|cat", 1), ("z1.png", "cat", 2),
        ("z2.png", "dog", 2),
    ):  # fmt: skip
        data_set.add(name, labels, seed=seed)
    data_set.add("broken1.png", "cat").write_bytes(b"same")
    data_set.add("broken2.png", "dog").write_bytes(b"same")  # of no use to training: named once, as bad
    verify_set(data_set)
    assert [row[:4] for row in problems() if row[0] != "bad_image"] == [
        ("conflicting_duplicate", "sub/a3.png", "a1.png", "only here: dog"),
        ("conflicting_duplicate", "z2.png", "z1.png", "only here: dog; only there: cat"),
        ("duplicate", "a2.png", "a1.png", "same labels"),
    ]
    assert [row[1] for row in problems() if row[0] == "bad_image"] == ["broken1.png", "broken2.png"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('<div class="pair">') == 3 and page.count("data:image/webp") >= 6


def test_images_and_annotations_without_each_other(data_set, verify_set, problems):
    composed, decomposed = (normalize(form, "für.png") for form in ("NFC", "NFD"))
    files = {"gone.png": None, "Case.PNG": "case.png", "moved/a.png": "elsewhere/a.png", composed: decomposed}
    for name, other in files.items():
        data_set.add(name, "cat").unlink()
        if other:
            data_set.image(other, seed=len(other))
    for number, name in enumerate(("new.png", ".hidden.png", ".thumbnails/a.png")):
        data_set.image(name, seed=50 + number)
    (data_set.images / "notes.txt").write_text("no image")
    verify_set(data_set)
    cause, *found = problems()
    assert cause[1].startswith("3 of 4 missing names differ from files")
    assert found == [
        ("missing_image", "Case.PNG", "no such file; did you mean 'case.png'?"),
        ("missing_image", composed, f"no such file; did you mean '{decomposed}'?"),
        ("missing_image", "gone.png", "no such file"),
        ("missing_image", "moved/a.png", "no such file; did you mean 'elsewhere/a.png'?"),
        *(("unannotated_image", name) for name in ("case.png", "elsewhere/a.png", decomposed, "new.png")),
    ]
    for file in data_set.images.rglob("*.png"):
        file.rename(file.with_suffix(".jpg"))
    kinds = verify_set(data_set).problems()["kind"].tolist()
    assert problems()[0][1].endswith("Set data.reader.extension=.jpg.") and "split" in kinds


def test_classes_too_rare_for_the_split(data_set, verify_set, tmp_path, problems):
    def kinds(*overrides: str) -> list[str]:
        return verify_set(data_set, *overrides).problems()["kind"].tolist()

    data_set.add_many(2, "owl|cat")
    data_set.add("bad.png", "owl").write_bytes(b"")  # it would have been the third
    assert kinds() == ["bad_image", "rare_class"]
    rare = "2 usable images, none of them in val and test; data.min_images_per_class=3 is sufficient"
    assert problems()[-1] == ("rare_class", "owl", rare)
    classes = pd.read_csv(tmp_path / "out" / "classes.csv").set_index("class")
    assert classes.loc["owl", ["images", "train", "val", "test"]].tolist() == [3, 2, 0, 0]
    # it is no problem where curation drops it, nor where no such part is asked for
    assert kinds("data.min_images_per_class=3") == ["bad_image"]
    assert pd.read_csv(tmp_path / "out" / "classes.csv")["train"].isna().tolist() == [False, False, True]
    assert kinds("data.split.val=0", "data.split.test=0.5") == ["bad_image"]


def test_odd_names_survive_the_csv(data_set, verify_set, problems):
    names = ["ä, ö.png", 'say "no".png', "line\nbreak.png", "carriage\rreturn.png", "日本 🙂.png", "'.png"]
    for name in names:
        data_set.add(name, "cat").write_bytes(b"")
    latin = os.fsdecode(b"latin-\xe4.png")
    (data_set.images / latin).write_bytes(b"")
    verify_set(data_set)
    assert [restore_cell(row[1]) for row in problems()] == [*sorted(names), latin]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.annotations=absent.csv", r"absent\.csv: no such file"),
        ("data.images=absent", r"absent: no such folder. data.images must be"),
        ("data.split.test=1.5", r"data.split.test=1.5: expected a share"),
        ("data.num_images=99", r"data.num_images=99: expected from 1 to 24"),
        ("check=deep", r"check: must be one of full, quick, got 'deep'"),
        ("seed=-1", r"seed=-1: expected a whole number from 0 to 4294967295"),
        ("labels=all", r"labels: must be one of suspect, got 'all'"),
        ("suspects.folds=1", "at least 2 folds"),
    ],
)
def test_settings_that_cannot_be_used(data_set, verify_set, monkeypatch, override: str, message: str):
    monkeypatch.setattr("mlic.verification.checking.inspect_images", None)  # refused before the long work
    with pytest.raises(InputError, match=message):
        verify_set(data_set, override)


def test_annotations_that_cannot_be_read_or_ask_a_question(data_set, verify_set):
    for row, name in enumerate(data_set.labels):
        data_set.labels[name] = ("dining table", "cat", "cat dining table", "dog cat", "dog")[row % 5]
    with pytest.raises(InputError, match="'dining' and 'table' occur only together"):
        verify_set(data_set)
    arguments = data_set.arguments()
    lines = data_set.annotations.read_text().splitlines()
    data_set.annotations.write_text("\n".join([*lines[:3], "n.png,cat,dog,cow", *lines[3:]]))
    with pytest.raises(InputError, match=r"labels\.csv, line 4: 4 fields, but the header has 2"):
        verify_set(None, *arguments)


@pytest.mark.parametrize("name", ["verification.json", "classes.csv"])
def test_an_output_that_holds_something_else(name, data_set, verify_set, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mlic.verification.checking.inspect_images", None)  # refused before the long work
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / name
    file.write_text("mine")
    with pytest.raises(InputError, match=r"is not a folder of a check and not empty"):
        verify_set(data_set)
    assert file.read_text() == "mine"


def test_an_earlier_check_stays_whole_until_the_new_one_is(
    data_set, verify_set, contents, interrupt, held_by_another, tmp_path: Path
):
    verify_set(data_set)
    before = contents(tmp_path / "out")
    data_set.add("new.png", "cat")
    interrupt(verify_set, data_set, report, "write_table", signal.SIGINT)
    with held_by_another(tmp_path / "out"), pytest.raises(InputError, match="in use by another process"):
        verify_set(data_set)
    assert contents(tmp_path / "out") == before
    verify_set(data_set)
    after = contents(tmp_path / "out")
    changed = {path.name for path in before if after[path] != before[path]}
    assert changed == {"class_pairs.csv", "classes.csv", "index.html", "verification.json"}


def test_the_share_of_unknown_labels_is_noted(make_table):
    table = make_table(np.array([[1, -1], [0, -1], [1, 0], [0, 1]]), ["cat", "dog"])
    (note,) = find_in_classes(table, class_table(table))
    assert note.detail.startswith("25.0% of the labels are unknown, most of 'dog' (50.0%)")
