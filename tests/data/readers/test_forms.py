"""Real photographs in the forms of public data sets, each read as it is by the settings of a command."""

import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from hydra.utils import instantiate

from mlic.config import compose
from mlic.data import stratified_split
from mlic.data.table import UNKNOWN

# {} is the folder of the form
FORMS: dict[str, list[str]] = {
    "planet": ["data=csv", "data.annotations={}/train_v2.csv", "data.images={}/train-jpg"],
    "chestxray14": [
        "data=csv", "data.annotations={}/Data_Entry_2017.csv", "data.images='{}/images_*/images'",
        "data.reader.no_label='No Finding'",
        "data.split.files={train: {}/train_val_list.txt, test: {}/test_list.txt}",
        "data.split.groups.by=column", "data.split.groups.value='Patient ID'",
    ],
    "chexpert": [
        "data=csv", "data.annotations={}/train.csv", "data.images={}",
        "data.reader.unknown={-1: ignore, blank: zero}",
        "data.split.groups.by=name", r"data.split.groups.value='patient\d+'",
    ],
    "celeba": [
        "data=csv", "data.annotations={}/list_attr_celeba.txt", "data.images={}/img_align_celeba",
        "data.split.files={}/list_eval_partition.txt",
    ],
    "roboflow": ["data=csv", "data.annotations='{}/*/_classes.csv'", "data.images={}"],
    "openimages": [
        "data=openimages", "data.annotations={}/train-annotations-human-imagelabels.csv", "data.images={}/train",
    ],
    "fastai": ["data=csv", "data.annotations={}/train.csv", "data.images={}/train", "data.split.column=is_valid"],
    "labelstudio": ["data=labelstudio", "data.annotations={}/project.json", "data.images={}/images"],
    "imagefolder": ["data=imagefolder", "data.images={}/train"],
    "coco2017": ["data=coco", "data.annotations='{}/annotations/*.json'", "data.images={}"],
}  # fmt: skip


@pytest.fixture(scope="module")
def forms(coco_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 63 photographs in each form; skips where the program that makes them is absent."""
    program = coco_data.parent / "formats" / "make.py"
    if not program.is_file():
        pytest.skip(f"no {program}")
    folder = tmp_path_factory.mktemp("forms")
    subprocess.run([sys.executable, program, folder], check=True)
    return folder


def sets_of(names: Iterable[str], values: Iterable[object]) -> set[frozenset[str]]:
    """Names with equal values together."""
    sets = defaultdict(set)
    for name, value in zip(names, values, strict=True):
        sets[value].add(name)
    return {frozenset(names) for names in sets.values()}


@pytest.mark.parametrize("form", FORMS)
def test_labels_parts_and_groups_are_the_true_ones(form: str, forms: Path, tmp_path: Path):
    overrides = [text.replace("{}", str(forms / form)) for text in FORMS[form]]
    config = compose(*overrides, "data.split.on_missing=warn", output=tmp_path)
    datamodule = instantiate(config.data)
    datamodule.read_labels()
    table, names = datamodule.table, datamodule.table.file_names.tolist()
    with (forms / form / "truth.csv").open(newline="") as file:
        truth = {row["path"]: row for row in csv.DictReader(file)}
    assert names == sorted(truth) and all(Path(str(path)).is_file() for path in table.paths())
    for row, name in enumerate(names):
        for key, value in (("labels", 1), ("unknown", UNKNOWN)):
            found = {
                label for label, cell in zip(table.classes, table.labels[row], strict=True) if cell == value
            }
            assert found == {*truth[name][key].split("|")} - {""}, (name, key)
        assert ("" if table.parts is None else table.parts[row]) == truth[name]["part"], name
    groups = [truth[name]["group"] for name in names]
    if any(groups):
        assert sets_of(names, table.groups.tolist()) == sets_of(names, groups)
    split = stratified_split(table, datamodule.split_settings).names()
    # parts that are not given are taken from train
    assert all(part == truth[name]["part"] or truth[name]["part"] in ("", "train")
               for name, part in zip(names, split, strict=True))  # fmt: skip
    if any(groups):
        assert len(set(zip(groups, split, strict=True))) == len(set(groups)), "a group is divided"
