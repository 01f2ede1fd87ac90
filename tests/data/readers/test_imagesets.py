from pathlib import Path

import pytest

from mlic.data import read_imagesets
from mlic.errors import InputError

FILES = {
    "cat_train.txt": "a  1\nb -1\n", "cat_val.txt": "c  0\n", "cat_trainval.txt": "a  1\nb -1\nc  0\n",
    "dog_train.txt": "a -1\nb  1\n", "dog_val.txt": "\n", "train.txt": "a\nb\n",
}  # fmt: skip


@pytest.fixture
def main(tmp_path: Path) -> Path:
    folder = tmp_path / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


def test_labels_and_parts(main: Path, tmp_path: Path):
    table = read_imagesets(main, tmp_path)
    assert table.classes == ("cat", "dog") and table.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.labels.tolist() == [[1, 0], [0, 1], [-1, -1]]
    assert table.parts is not None and table.parts.tolist() == ["train", "train", "val"]
    for difficult, label in (("keep", 1), ("drop", 0)):
        table = read_imagesets(main, tmp_path, difficult=difficult, extension=".png")
        assert table.labels[2].tolist() == [label, -1] and table.file_names[2] == "c.png"


def test_trainval_alone_is_the_training_part(main: Path, tmp_path: Path):
    for name in FILES:
        (main / name).rename(main / name.replace("_val", "_test").replace("_train.", "_other."))
    (main / "dog_trainval.txt").write_text("a 1\nb 1\nc 1\n")
    with pytest.raises(InputError, match=r"'c' has another part above"):
        read_imagesets(main, tmp_path)
    (main / "cat_test.txt").write_text("d 1\n")
    table = read_imagesets(main, tmp_path)
    assert table.parts is not None and table.parts.tolist() == ["train", "train", "train", "test"]
    assert table.labels.tolist() == [[1, 1], [0, 1], [-1, 1], [1, -1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 2\n", r"cat_train.txt, line 1: 'a 2'; expected"),
        ("\na\n", r"cat_train.txt, line 2: 'a'; expected"),
        ("a 1\na -1\n", r"line 2: 'a' has another label above"),
        ("c 0\n", r"'c' has another part above"),
        ("../a 1\n", r"leaves the image folder"),
    ],
)
def test_malformed_files(content: str, message: str, main: Path, tmp_path: Path):
    (main / "cat_train.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_imagesets(main, tmp_path)
    with pytest.raises(InputError, match=r"no files such as cat_train.txt"):
        read_imagesets(tmp_path, tmp_path)
