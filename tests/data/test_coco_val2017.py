import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlic.data import coco_val2017, read_coco_val2017
from mlic.data.download import RemoteFile
from mlic.errors import InputError

IMAGES, ANNOTATIONS = "zips/val2017.zip", "annotations/annotations_trainval2017.zip"


def archive_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def small_coco(file_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with two archives of COCO's form and 3 images; the published digests are theirs."""
    picture = io.BytesIO()
    Image.effect_noise((160, 120), 50).save(picture, "JPEG")
    instances = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (5, 7, 9)],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [
            {"image_id": 5, "category_id": 1, "iscrowd": 0},
            {"image_id": 7, "category_id": 90, "iscrowd": 1},
        ],
    }
    images = {f"val2017/{i:012d}.jpg": picture.getvalue() for i in (5, 7, 9)}
    annotations = {"annotations/instances_val2017.json": json.dumps(instances).encode()}
    for name, path, files in (("IMAGES", IMAGES, images), ("ANNOTATIONS", ANNOTATIONS, annotations)):
        content = file_server.files[f"/{path}"] = archive_of(files)
        monkeypatch.setattr(coco_val2017, name, RemoteFile(path, hashlib.md5(content).hexdigest()))
    return file_server


def test_it_is_downloaded_on_first_use_alone(small_coco: Any, tmp_path: Path):
    table = read_coco_val2017(tmp_path, base_url=small_coco.url)
    assert table.classes == ("person", "toothbrush")
    assert table.labels.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert all(Path(str(path)).is_file() for path in table.paths())
    requests = len(small_coco.requests)
    again = read_coco_val2017(tmp_path, base_url=small_coco.url, crowd="drop", unannotated="drop")
    assert again.labels.tolist() == [[1, 0]]
    assert len(small_coco.requests) == requests


def test_without_network_the_error_says_where_to_put_the_archives(small_coco: Any, tmp_path: Path):
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(InputError, match="cannot be downloaded") as refusal:
        read_coco_val2017(tmp_path, base_url=nowhere)
    for expected in (f"{nowhere}/{IMAGES}", f"{nowhere}/{ANNOTATIONS}", f"put both archives into {tmp_path}"):
        assert expected in str(refusal.value)
    for path in (IMAGES, ANNOTATIONS):
        (tmp_path / Path(path).name).write_bytes(small_coco.files[f"/{path}"])
    assert len(read_coco_val2017(tmp_path, base_url=nowhere)) == 3


def test_a_wrong_archive_is_refused_and_nothing_unpacked(small_coco: Any, tmp_path: Path):
    (tmp_path / "val2017.zip").write_bytes(b"another")
    with pytest.raises(InputError, match=r"val2017.zip: the MD5 digest is not .*\n.*put both archives into"):
        read_coco_val2017(tmp_path, base_url=small_coco.url)
    assert not (tmp_path / "val2017").exists()
    assert (tmp_path / "val2017.zip").read_bytes() == b"another"
