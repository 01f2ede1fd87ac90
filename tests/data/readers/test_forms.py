"""Real photographs in the forms of public data sets, each read as it is."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate

from mlic.config import compose
from mlic.data import (
    LabelTable,
    read_coco,
    read_imagefolder,
    read_labelstudio,
    read_openimages,
    stratified_split,
)
from mlic.data.table import UNKNOWN

FORMS: dict[str, Callable[[Path], LabelTable]] = {
    "coco2017": lambda folder: read_coco(str(folder / "annotations" / "*.json"), folder),
    "imagefolder": lambda folder: read_imagefolder(folder / "train"),
    "labelstudio": lambda folder: read_labelstudio(folder / "project.json", folder / "images"),
    "openimages": lambda folder: read_openimages(
        folder / "train-annotations-human-imagelabels.csv", folder / "train"
    ),
}


@pytest.fixture(scope="module")
def forms(coco_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 63 photographs in each form; skips where the program that makes them is absent."""
    program = coco_data.parent / "formats" / "make.py"
    if not program.is_file():
        pytest.skip(f"no {program}")
    folder = tmp_path_factory.mktemp("forms")
    subprocess.run([sys.executable, program, folder], check=True)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_labels_unknown_labels_and_parts_are_the_true_ones(form: str, forms: Path):
    table = FORMS[form](forms / form)
    with (forms / form / "truth.csv").open(newline="") as file:
        truth = {
            row["path"]: (row["part"], *({*row[key].split("|")} - {""} for key in ("labels", "unknown")))
            for row in csv.DictReader(file)
        }
    found = {}
    for row, name in enumerate(table.file_names):
        sets = [
            {name for name, label in zip(table.classes, table.labels[row], strict=True) if label == wanted}
            for wanted in (1, UNKNOWN)
        ]
        found[name] = ("" if table.parts is None else table.parts[row], *sets)
    assert found == truth
    assert all(Path(str(path)).is_file() for path in table.paths())


SPLITS: dict[str, list[str]] = {
    "chestxray14": [
        "data.annotations={}/Data_Entry_2017.csv", "data.images='{}/images_*/images'",
        "data.reader.no_label='No Finding'",
        "data.split.files={train: {}/train_val_list.txt, test: {}/test_list.txt}",
        "data.split.groups.by=column", "data.split.groups.value='Patient ID'",
    ],
    "celeba": [
        "data.annotations={}/list_attr_celeba.txt", "data.images={}/img_align_celeba",
        "data.split.files={}/list_eval_partition.txt",
    ],
    "fastai": ["data.annotations={}/train.csv", "data.images={}/train", "data.split.column=is_valid"],
    "chexpert": [
        "data.annotations={}/train.csv", "data.images={}", "data.reader.unknown={-1: ignore, blank: zero}",
        "data.reader.ignore_columns=[Sex,Age,Frontal/Lateral,AP/PA]",
        "data.split.groups.by=name", r"data.split.groups.value='patient\d+'",
    ],
    "roboflow": ["data.annotations='{}/*/_classes.csv'", "data.images={}"],
}  # fmt: skip


@pytest.mark.parametrize("form", SPLITS)
def test_splits_have_the_true_parts_and_divide_no_true_group(form: str, forms: Path, tmp_path: Path):
    folder = forms / form
    overrides = [text.replace("{}", str(folder)) for text in SPLITS[form]]
    config = compose("data=csv", *overrides, "data.split.on_missing=warn", output=tmp_path)
    datamodule = instantiate(config.data)
    datamodule.read_labels()
    split = stratified_split(datamodule.table, datamodule.split_settings).names()
    with (folder / "truth.csv").open(newline="") as file:
        truth = {row["path"]: row for row in csv.DictReader(file)}
    names = datamodule.table.file_names.tolist()
    parts: dict[str, set[str]] = {}
    for name, part in zip(names, split, strict=True):
        assert part == truth[name]["part"] or truth[name]["part"] in (
            "",
            "train",
        )  # others are taken from train
        parts.setdefault(truth[name]["group"] or name, set()).add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert len(names) == len(truth) == 63
