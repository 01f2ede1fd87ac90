"""Annotations, images, stores, checkpoints and run folders changed at random: refused, or read soundly."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlic.data import (
    LabelTable,
    read_coco,
    read_csv,
    read_imagefolder,
    read_imagesets,
    read_labelstudio,
    read_openimages,
    read_voc,
    split_hash,
)
from mlic.data.images import BadImageError, full_check, open_image, quick_check
from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.features.hashing import DIGEST_DTYPE, hash_files
from mlic.features.store import FeatureStore
from mlic.inference.checkpoint import read_saved_run, read_split
from mlic.inference.classifier import Classifier
from mlic.report.report import ReportOptions, write_report

FUZZ = settings.get_profile("fuzz")
ROWS = 5
DIGESTS = np.array([f"{number:064x}" for number in range(ROWS)], dtype=DIGEST_DTYPE)
FEATURES = torch.randn(ROWS, 16, 16, generator=torch.Generator().manual_seed(0)).half()
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


# what a text file of annotations or overrides may hold at the wrong place
WORDS = st.sampled_from(
    ["file_name", "labels", ",", "\n", "\r\n", "\r", "|", '"', '""', "a.jpg", "./a.jpg", "cat", "0", "1.0", " ", "\0",
     "\ufeff", "..", "/", "\\", "K\u00e4", "Ka\u0308", "\x1b", "file_name,cat\n", "<annotation>", "</annotation>",
     "<filename>", "</filename>", "<object>", "</object>", "<name>", "</name>", "<difficult>1</difficult>", "&amp;",
     "&x;", "<!DOCTYPE a [<!ENTITY x 'y'>]>", "<?xml version='1.0'?>", *"-:{}[]&*!>'\t#%?"]
)  # fmt: skip


class Change(NamedTuple):
    """A random change of a file: pieces of bytes, another value at one of its places, or words at one."""

    pieces: list[tuple[int, bytes]]
    place: int
    value: Any
    words: str


CHANGES = st.builds(
    Change,
    st.lists(st.tuples(st.integers(0, 2**24), st.binary(max_size=8)), min_size=1, max_size=5),
    st.integers(0, 10_000),
    JSON | st.sampled_from([0, 1, 0.0, 60.0, -1, 2**53, 2**70, True, [0.0, 60.0], [0, 60, 1], "../a.jpg", "./a.jpg"]),
    st.lists(WORDS, max_size=20).map("".join) | st.text(max_size=20),
)  # fmt: skip


def change_bytes(content: bytes, change: Change) -> bytes:
    """Put pieces over what was there; an empty piece cuts."""
    result = bytearray(content)
    for place, piece in change.pieces:
        start = place % (len(result) + 1)
        if piece:
            result[start : start + len(piece)] = piece
        else:
            del result[start:]
    return bytes(result)


def change_text(content: bytes, change: Change) -> bytes:
    """Put words in."""
    place = change.place % (len(content) + 1)
    return content[:place] + change.words.encode(errors="surrogatepass") + content[place:]


def paths_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(path for key, item in items for path in paths_of(item, (*place, key)))]


def change_value(content: Any, change: Change) -> Any:
    """Put another value at one of the places of the content."""
    places = paths_of(content)
    place = places[change.place % len(places)]
    if not place:
        return change.value
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = change.value
    return content


def change_json(content: bytes, change: Change) -> bytes:
    return json.dumps(change_value(json.loads(content), change)).encode()


def change_header(content: bytes, change: Change) -> bytes:
    """Change the JSON header of a safetensors file, and its length with it."""
    length = int.from_bytes(content[:8], "little")
    header = change_json(content[8 : 8 + length], change)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def change_checkpoint(content: bytes, change: Change) -> bytes:
    file = Path("changed.ckpt")  # in the folder of the test
    file.write_bytes(content)
    loaded = torch.load(file, weights_only=True)
    part = ("mlic", "hyper_parameters", "state_dict", "")[change.place % 4]
    if part:
        loaded[part] = change_value(dict(loaded[part]), change)
    torch.save(loaded if part else change_value(loaded, change), file)
    return file.read_bytes()


def check_tables(read: Callable[..., LabelTable], path: Path, **options: Any) -> None:
    """Read annotations and check what every table must be."""
    try:
        table = read(path, path.parent, **options)
    except InputError:
        return
    assert len(set(table.file_names)) == len(table) and list(table.file_names) == sorted(table.file_names)
    assert len({str(path) for path in table.paths()}) == len(table), "two names of one file"
    assert table.labels.shape == (len(table), len(table.classes)) and table.labels.max(initial=0) <= 1
    for image in table.paths():
        assert path.parent.resolve() in (path.parent / str(image)).resolve().parents, image
    split_hash(table, test=0.1, val=0.1, seed=0)
    json.dumps([*table.classes, *table.file_names], ensure_ascii=False).encode()


def check_image(file: Path) -> None:
    try:
        image = open_image(file)
    except BadImageError as error:
        assert full_check(file) == error.reason
    else:
        assert image.mode == "RGB" and image.width and image.height and np.asarray(image).dtype == np.uint8
        assert quick_check(file) is None


def check_store(file: Path) -> None:
    """The rows that were written, or none; a row whose name was changed belongs to no image."""
    store = FeatureStore.at(file.parent)
    present = ~store.is_missing(DIGESTS)
    assert torch.equal(store.load(DIGESTS[present]), FEATURES[torch.from_numpy(present)])


def check_index(file: Path) -> None:
    paths = sorted((file.parent / "files").iterdir())
    found = hash_files(paths, file)
    assert len(found.digests) == len(paths) and not found.bad


def check_predictions(file: Path) -> None:
    found = Predictions.read_parquet(file)
    assert np.isfinite(found.scores).all() and set(np.unique(found.targets)) <= {0, 1}


def check_split(file: Path) -> None:
    split = read_split(read_saved_run(file.parent / "checkpoints" / "best.ckpt"))
    assert split is not None and {"file_name", "split"} <= set(split)


def check_report(file: Path) -> None:
    write_report(ReportOptions(runs=str(file.parent), output=file.parents[1] / "report", resamples=2))


READERS: dict[str, Callable[..., LabelTable]] = {
    "labels.csv": read_csv, "instances.json": read_coco, "project.json": read_labelstudio,
    "metadata.jsonl": lambda file, images: read_imagefolder(images, file),
    "train-labels.csv": read_openimages,
    "class-descriptions.csv": lambda file, images: read_openimages(file.with_name("train-labels.csv"), images),
    "cat_train.txt": lambda file, images: read_imagesets(file.parent, images),
    "a.xml": lambda file, images: read_voc(file.parent, images),
}  # fmt: skip
CASES: dict[str, tuple[str, Callable[[bytes, Change], bytes], Callable[[Path], object]]] = {
    f"{change.__name__} {name}": (f"labels/{name}", change, partial(check_tables, read))
    for name, read in READERS.items()
    for change in (change_json if "json" in name else change_text, change_bytes)
}
CASES |= {
    "bytes of an image": ("images/*", change_bytes, check_image),
    "bytes of a shard": ("store/*/*.safetensors", change_bytes, check_store),
    "header of a shard": ("store/*/*.safetensors", change_header, check_store),
    "values of a description": ("store/*/store.json", change_json, check_store),
    "bytes of an index": ("index/hashes.sqlite", change_bytes, check_index),
    "bytes of a checkpoint": ("run/checkpoints/best.ckpt", change_bytes, read_saved_run),
    "values of a checkpoint": ("run/checkpoints/best.ckpt", change_checkpoint, Classifier.load),
    "bytes of a split": ("run/split.csv", change_bytes, check_split),
    "bytes of predictions": ("run/predictions/test.parquet", change_bytes, check_predictions),
    "values of a run": ("run/*.json", change_json, check_report),
}
COCO = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, "3")],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"image_id": image, "category_id": category, "iscrowd": 0}
        for image, category in ((1, 1), (1, 2), (2, 2), ("3", 1))
    ],
}
TASKS = [
    {"annotations": [{"result": [{"type": "choices", "from_name": "c", "value": {"choices": ["cat"]}}]}],
     "data": {"image": f"/data/upload/1/{name}.jpg"}, "id": 1}
    for name in "ab"
]  # fmt: skip
LABELS = {
    "project.json": json.dumps([*TASKS, {"image": "c.jpg", "choice": {"choices": ["cat", "dog"]}, "id": 3}]),
    "metadata.jsonl": json.dumps({"file_name": "a.jpg", "labels": ["cat", "dog"], "camera": 3}),
    "train-labels.csv": "ImageID,Source,LabelName,Confidence\na,verification,/m/cat,1\na,verification,/m/dog,0\n",
    "class-descriptions.csv": "/m/cat,Cat\n/m/dog,Dog\n",
    "cat_train.txt": "a  1\nb -1\n",
    "dog_train.txt": "a  0\nb  1\n",
    "labels.csv": "file_name,labels\na.jpg,cat|dog\nb.jpg,dog\nc.jpg,\n",
    "instances.json": json.dumps(COCO),
    "a.xml": "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>",
}
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA", "PCX", "ICO")


@pytest.fixture(scope="module")
def originals(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations, images, a store, an index of hashes and a run."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "labels").mkdir()
    for name, text in LABELS.items():
        (folder / "labels" / name).write_text(text)
    (folder / "images").mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    for kind in FORMATS:
        noise.save(folder / "images" / kind, kind)
    noise.save(folder / "images" / "progressive", "JPEG", progressive=True)
    noise.save(folder / "images" / "lzw", "TIFF", compression="tiff_lzw")
    store = FeatureStore(folder / "store", {"network": "n", "pool": "avg"}, feature_shape=(16, 16))
    with store.lock():
        writer = store.writer()
        writer.add(DIGESTS, FEATURES)
        writer.flush()
    (folder / "index" / "files").mkdir(parents=True)
    for number in range(20):
        (folder / "index" / "files" / str(number)).write_text(str(number))
    hash_files(sorted((folder / "index" / "files").iterdir()), folder / "index" / "hashes.sqlite")
    shutil.copytree(tiny_run, folder / "run")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("name", CASES)
@settings(FUZZ)
@example(change=Change([(0, b"")], 40, None, ","))  # a field more than the header has
@example(change=Change([(3947, bytes(7) + b"\x80")], 0, None, ""))  # a message of SQLite's that is not UTF-8
@given(change=CHANGES)
def test_changed_files_are_refused_or_as_they_were(
    name: str, change: Change, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pattern, make, check = CASES[name]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / pattern.partition("/")[0]
    for used in (folder, tmp_path / "report"):
        shutil.rmtree(used, ignore_errors=True)
    shutil.copytree(originals / folder.name, folder)
    files = sorted(tmp_path.glob(pattern))
    file = files[change.place % len(files)]
    file.write_bytes(make(file.read_bytes(), change))
    try:
        check(file)
    except InputError as error:
        assert str(error)
