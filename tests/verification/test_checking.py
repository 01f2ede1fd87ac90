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

from mlic.command_line import ending_in_order
from mlic.config import compose
from mlic.errors import InputError
from mlic.escaping import restore_cell
from mlic.verification.report import write_table
from mlic.verify import verify


def test_a_clean_set_has_no_findings(data_set, verify_set, tmp_path, problems):
    assert verify_set(data_set).findings == []
    assert problems(tmp_path / "out") == []
    header = (tmp_path / "out" / "problems.csv").read_text().splitlines()
    assert header == ['"kind","file_name","class","same_as","detail"']
    summary = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert summary.pop("seconds") > 0 and summary.pop("images_per_second") > 0
    assert summary == {
        "problems": {}, "images": 24, "classes": 2, "labels": 32, "labels_per_image": 32 / 24,
        "unlabelled_images": 0, "images_by_labels": {"1": 16, "2": 8}, "check": "full",
    }  # fmt: skip


def test_bad_images_are_named_with_reasons(data_set, verify_set, tmp_path, problems):
    cut = data_set.add("cut.png", "cat")
    cut.write_bytes(cut.read_bytes()[:150])
    data_set.add("empty.png", "cat").write_bytes(b"")
    data_set.add("text.png", "cat").write_text("no picture")
    folder = data_set.add("folder.png", "cat")
    folder.unlink()
    folder.mkdir()
    verify_set(data_set)
    found = problems(tmp_path / "out")
    assert [row[:2] for row in found] == [
        ("bad_image", "cut.png"), ("bad_image", "empty.png"), ("bad_image", "folder.png"), ("bad_image", "text.png"),
    ]  # fmt: skip
    assert found[0][2].startswith("truncated or damaged")
    assert found[1][2] == "the file is empty (0 bytes)"
    assert found[2][2] == "not a regular file"
    assert found[3][2].startswith("not an image in a supported format")


def test_sixteen_bits_that_are_not_used_are_told_with_the_setting(data_set, verify_set, tmp_path, problems):
    for name, largest in (("deep.png", 4095), ("dark.png", 900)):
        pixels = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(pixels).save(data_set.add(name, "cat"))
    verify_set(data_set)
    ((kind, detail),) = problems(tmp_path / "out")
    assert kind == "unused_bits"
    assert detail.startswith(
        "2 16-bit greyscale images use 12 of 16 bits (largest value 4095): data.bits_stored=12 "
    )
    assert verify_set(data_set, "data.bits_stored=12").findings == []
    verify_set(data_set, "data.bits_stored=10")
    too_bright = "its largest value, 4095, exceeds data.bits_stored=10"
    assert problems(tmp_path / "out") == [("bad_image", "deep.png", too_bright)]
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(data_set.add("full.png", "cat"))
    assert verify_set(data_set).findings == []


def test_images_in_tar_shards_are_opened_like_files(data_set, pack, tmp_path, problems):
    members = {}
    for name, labels in data_set.labels.items():
        members |= {name: (data_set.images / name).read_bytes(), name.replace(".png", ".txt"): labels}
    (tmp_path / "shards").mkdir()
    shard = tmp_path / "shards" / "a.tar"

    def found(content, *overrides):
        shard.write_bytes(pack(content))
        places = ("data=webdataset", "data.num_workers=2", *overrides)
        verified = verify(compose(*places, output=tmp_path / "out", config_name="verify"))
        return len(verified.table), problems(tmp_path / "out")

    for images in (f"data.images={shard}", f"data.images=[{shard}]", f"data.images='file://{shard}'"):
        assert found(members, images) == (24, [])
    assert found(members, f"data.images={shard}", "check=quick") == (24, [])
    first = next(iter(members))
    broken = {
        **members,
        first: members[first][:150],
        "same.png": members["n001.png"],
        "same.txt": members["n001.txt"],
    }
    number, rows = found(broken, f"data.images={shard}")
    assert number == 25
    assert [row[:2] for row in rows] == [("bad_image", f"a.tar/{first}"), ("duplicate", "a.tar/same.png")]
    assert rows[0][2].startswith("truncated or damaged")


def test_quick_check_does_not_decode(data_set, verify_set):
    damaged = data_set.add("damaged.png", "cat")
    content = bytearray(damaged.read_bytes())
    content[60:80] = bytes(20)  # in the pixels; header and end stay
    damaged.write_bytes(content)
    assert [finding.kind for finding in verify_set(data_set, "check=full").findings] == ["bad_image"]
    assert verify_set(data_set, "check=quick").findings == []


def test_duplicates_with_other_labels_come_first(data_set, verify_set, tmp_path, problems):
    data_set.add("a1.png", "cat", seed=1)
    data_set.add("a2.png", "cat", seed=1)
    data_set.add("sub/a3.png", "dog|cat", seed=1)
    data_set.add("z1.png", "cat", seed=2)
    data_set.add("z2.png", "dog", seed=2)
    data_set.add("broken1.png", "cat").write_bytes(b"same")
    data_set.add("broken2.png", "dog").write_bytes(b"same")  # of no use to training: named once, as bad
    verify_set(data_set)
    found = problems(tmp_path / "out")
    assert [row for row in found if row[0] != "bad_image"] == [
        ("conflicting_duplicate", "sub/a3.png", "a1.png", "only here: dog"),
        ("conflicting_duplicate", "z2.png", "z1.png", "only here: dog; only there: cat"),
        ("duplicate", "a2.png", "a1.png", "same labels"),
    ]
    assert [row[1] for row in found if row[0] == "bad_image"] == ["broken1.png", "broken2.png"]


def test_images_and_annotations_without_each_other(data_set, verify_set, make_png, tmp_path, problems):
    for name, there in [
        ("gone.png", None),
        ("Case.PNG", "case.png"),
        ("moved/a.png", "elsewhere/a.png"),
        (normalize("NFC", "für.png"), normalize("NFD", "für.png")),
    ]:
        data_set.add(name, "cat").unlink()
        if there:
            make_png(data_set.images / there, seed=len(there))
    make_png(data_set.images / "new.png", seed=50)
    make_png(data_set.images / ".hidden.png", seed=51)
    make_png(data_set.images / ".thumbnails" / "a.png", seed=52)
    (data_set.images / "notes.txt").write_text("no image")
    verify_set(data_set)
    decomposed = normalize("NFD", "für.png")
    assert problems(tmp_path / "out") == [
        ("missing_image", "Case.PNG", "no such file; did you mean 'case.png'?"),
        ("missing_image", normalize("NFC", "für.png"), f"no such file; did you mean '{decomposed}'?"),
        ("missing_image", "gone.png", "no such file"),
        ("missing_image", "moved/a.png", "no such file; did you mean 'elsewhere/a.png'?"),
        ("unannotated_image", "case.png"),
        ("unannotated_image", "elsewhere/a.png"),
        ("unannotated_image", decomposed),
        ("unannotated_image", "new.png"),
    ]


def test_classes_too_rare_for_the_split(data_set, verify_set, tmp_path, problems):
    data_set.add_many(2, "owl|cat")
    data_set.add("bad.png", "owl").write_bytes(b"")  # it would have been the third
    verify_set(data_set)
    assert problems(tmp_path / "out")[-1] == (
        "rare_class",
        "owl",
        "2 usable images, none of them in val and test; data.min_images_per_class=3 is sufficient",
    )
    classes = pd.read_csv(tmp_path / "out" / "classes.csv").set_index("class")
    assert classes.loc["owl", ["images", "train", "val", "test"]].tolist() == [3, 2, 0, 0]
    # it is no problem where curation drops it, nor where no such part is asked for
    assert [finding.kind for finding in verify_set(data_set, "data.min_images_per_class=3").findings] == [
        "bad_image"
    ]
    assert pd.read_csv(tmp_path / "out" / "classes.csv")["train"].isna().tolist() == [False, False, True]
    halves = verify_set(data_set, "data.split.val=0", "data.split.test=0.5")
    assert [finding.kind for finding in halves.findings] == ["bad_image"]


def test_statistics_of_labels(data_set, verify_set, tmp_path):
    data_set.add_many(2, "")
    data_set.add_many(4, "dog|cat|bird")
    verify_set(data_set)
    classes = pd.read_csv(tmp_path / "out" / "classes.csv")
    assert classes[["class", "images", "alone"]].values.tolist() == [
        ["cat", 20, 8],
        ["dog", 20, 8],
        ["bird", 4, 0],
    ]
    assert classes["share"].tolist() == pytest.approx([20 / 30, 20 / 30, 4 / 30], rel=1e-5)
    assert classes[["train", "val", "test"]].sum(axis=1).tolist() == [20, 20, 4]
    pairs = pd.read_csv(tmp_path / "out" / "class_pairs.csv")
    assert pairs[["first", "second", "images"]].values.tolist() == [
        ["cat", "dog", 12], ["bird", "cat", 4], ["bird", "dog", 4],
    ]  # fmt: skip
    assert pairs["lift"].tolist() == pytest.approx([30 * 12 / 400, 30 * 4 / 80, 30 * 4 / 80], rel=1e-5)
    summary = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert summary["images_by_labels"] == {"0": 2, "1": 16, "2": 8, "3": 4}
    assert summary["unlabelled_images"] == 2


def test_odd_names_survive_the_csv(data_set, verify_set, tmp_path, problems):
    names = [
        "ä, ö.png",
        'say "no".png',
        "line\nbreak.png",
        "carriage\rreturn.png",
        "tab\t;.png",
        "日本 🙂.png",
        "'.png",
    ]
    for name in names:
        data_set.add(name, "cat").write_bytes(b"")
    (data_set.images / os.fsdecode(b"latin-\xe4.png")).write_bytes(b"")
    verify_set(data_set)
    found = problems(tmp_path / "out")
    assert [restore_cell(row[1]) for row in found] == [*sorted(names), os.fsdecode(b"latin-\xe4.png")]
    assert b"latin-\xe4.png" in (tmp_path / "out" / "problems.csv").read_bytes()


def test_annotations_that_cannot_be_read_are_one_finding(data_set, verify_set, make_png, tmp_path, problems):
    make_png(data_set.images / "copy.png", seed=1)  # the bytes of the first image
    data_set.add("bad.png", "cat").write_bytes(b"")
    data_set.write()
    lines = data_set.annotations.read_text().splitlines()
    data_set.annotations.write_text("\n".join([*lines[:3], "n.png,cat,dog,cow", *lines[3:]]))
    config = compose(*data_set.arguments(), output=tmp_path / "out", config_name="verify")
    assert len(verify(config).findings) == 3
    found = problems(tmp_path / "out")
    assert found[0][:2] == ("annotations", str(data_set.annotations))
    assert "labels.csv, line 4: 4 fields, but the header has 2" in found[0][2]
    assert found[1:] == [
        ("bad_image", "bad.png", "the file is empty (0 bytes)"),
        ("duplicate", "n000.png", "copy.png", "same labels"),
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.annotations=absent.csv", r"absent\.csv: no such file"),
        ("data.images=absent", r"absent: no such folder. data.images must be"),
        ("data.split.test=1.5", r"data.split.test=1.5: expected a share"),
        ("data.num_images=99", r"data.num_images=99, but there are only 24 images"),
        ("data.reader.separator=''", r"data.reader.separator is empty"),
        ("check=deep", r"check: must be one of full, quick, got 'deep'"),
        ("seed=-1", r"seed=-1: expected a whole number from 0 to 4294967295"),
        ("labels=all", r"labels: must be one of suspect, got 'all'"),
    ],
)
def test_settings_that_cannot_be_used(data_set, verify_set, monkeypatch, override: str, message: str):
    monkeypatch.setattr("mlic.verification.checking.inspect_images", None)  # refused before the long work
    with pytest.raises(InputError, match=message):
        verify_set(data_set, override)


def test_the_annotations_are_not_overwritten(data_set, verify_set, tmp_path: Path):
    data_set.annotations = tmp_path / "out" / "classes.csv"
    data_set.annotations.parent.mkdir()
    with pytest.raises(InputError, match=r"output: '.*classes.csv' is the annotation file"):
        verify_set(data_set)
    assert data_set.annotations.read_text().startswith("file_name,labels")


@pytest.mark.parametrize("name", ["verification.json", "problems.csv"])
def test_an_output_that_holds_something_else(data_set, verify_set, tmp_path: Path, monkeypatch, name: str):
    monkeypatch.setattr("mlic.verification.checking.inspect_images", None)  # refused before the long work
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=rf"is not a folder of a check and not empty \({name}\)"):
        verify_set(data_set)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_an_earlier_check_stays_whole_until_the_new_one_is(data_set, verify_set, tmp_path: Path, monkeypatch):
    verify_set(data_set)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def interrupted(path: Path, table: pd.DataFrame) -> None:
        write_table(path, table)
        signal.raise_signal(signal.SIGINT)

    data_set.add("new.png", "cat")
    with monkeypatch.context() as patch:
        patch.setattr("mlic.verification.report.write_table", interrupted)
        with pytest.raises(SystemExit) as ended:
            ending_in_order()(verify_set)(data_set)
    assert ended.value.code == 130
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    verify_set(data_set)
    assert {path for path in before if path.read_bytes() != before[path]} == {
        tmp_path / "out" / name for name in ("class_pairs.csv", "classes.csv", "verification.json")
    }


def test_two_checks_do_not_mix(data_set, verify_set, held_by_another, tmp_path: Path):
    with held_by_another(tmp_path / "out"), pytest.raises(InputError, match="in use by another process"):
        verify_set(data_set)
    assert not (tmp_path / "out" / "problems.csv").exists()
    assert not verify_set(data_set).findings


def test_one_cause_of_many_missing_files_is_named(data_set, verify_set, tmp_path, problems):
    for file in data_set.images.iterdir():
        file.rename(file.with_suffix(".jpg"))
    verify_set(data_set)
    found = problems(tmp_path / "out")
    assert found[0] == (
        "file_names",
        "With the extension '.jpg' instead of theirs, 24 of 24 exist. Correct the names in the annotations.",
    )
    assert ("split", "no usable images") in found


def test_label_combinations_are_a_finding(data_set, verify_set):
    for row, name in enumerate(data_set.labels):
        data_set.labels[name] = ("cat, dog", "dog, owl", "cat, owl", "cat", "cat, dog, owl")[row % 5]
    (finding,) = verify_set(data_set).findings
    assert finding.kind == "annotations"
    assert "4 of 5 class names are combinations of others" in finding.detail
