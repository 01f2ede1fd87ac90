from pathlib import Path

import pytest

from mlic.errors import InputError
from mlic.inference.listing import list_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt", ".hidden.jpg", ".thumbs/d.jpg", "odd[1].jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_gives_its_images_with_names_relative_to_it(photos: Path):
    paths, names = list_images(photos)
    assert names == ["a.png", "b.JPG", "deep/c.webp", "odd[1].jpg"]
    assert paths == [photos / name for name in names]
    # a photograph of a kind that cannot be read is not passed over; what is no photograph is
    for ending in ("HEIC", "avif", "cr2", "DNG", "jxl", "nef", "json", "xmp", "mp4"):
        (photos / f"p.{ending}").write_bytes(b"x")
    found = [Path(name).suffix[1:] for name in list_images(photos)[1] if name.startswith("p.")]
    assert found == ["DNG", "HEIC", "avif", "cr2", "jxl", "nef"]


def test_patterns_and_files_come_in_the_order_given(photos: Path):
    assert list_images(f"{photos}/**/*.??g")[1] == ["a.png", "odd[1].jpg"]
    assert list_images(f"{photos}/*.JPG")[0] == [photos / "b.JPG"]
    paths, _ = list_images([photos / "b.JPG", str(photos / "a.png"), str(photos / "odd[1].jpg")])
    assert [path.name for path in paths] == ["b.JPG", "a.png", "odd[1].jpg"]
    assert list_images(str(photos / ".hidden.jpg"))[0] == [photos / ".hidden.jpg"]


def test_names_are_relative_to_the_common_folder_however_they_are_given(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = ["a.png", "b.JPG", "deep/c.webp"]
    files = [photos / name for name in expected]
    listed = photos / "list.txt"
    listed.write_text("a.png\n\nb.JPG\ndeep/c.webp\n")
    (photos / "table.csv").write_text('file_name,labels\na.png,"x, y"\nb.JPG,\ndeep/c.webp,z\n')
    absolute = photos / "absolute.TXT"
    absolute.write_text("\n".join(map(str, files)))
    monkeypatch.chdir(photos)
    for given in (files, ["a.png", "./b.JPG", "deep"], listed, "list.txt", photos / "table.csv", absolute):
        paths, names = list_images(given)
        assert names == expected
        assert [path.resolve() for path in paths if isinstance(path, Path)] == files
    (photos / "deep" / "working.txt").write_text("a.png\n")
    assert list_images("deep/working.txt")[1] == ["a.png"]


def test_what_is_not_there_is_named(photos: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    for given, message in (
        (tmp_path / "absent.jpg", r"'.*absent\.jpg' does not exist.*Expected a folder"),
        ("a.jpg,b.jpg", r"files as \[first\.jpg,second\.jpg\]"),
        ("", "images: '' does not exist"),
        (f"{photos}/*.tiff", r"no file matches"),
        (photos / "notes.txt", r"1 of 1 images in '.*notes\.txt' are not in .*: x"),
        (tmp_path / "empty", "empty' has no file with the extension of an image"),
    ):
        with pytest.raises(InputError, match=message):
            list_images(given)
