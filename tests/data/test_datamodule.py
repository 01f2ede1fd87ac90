from pathlib import Path

import pytest
from hydra.utils import instantiate

from mlic.config import compose
from mlic.errors import InputError


@pytest.mark.parametrize(
    ("data", "given", "missing"),
    [
        ("csv", "images", "data.annotations must"),
        ("coco", "annotations", "data.images must"),
        ("voc", None, "data.annotations and data.images must"),
    ],
)
def test_places_that_are_not_given_are_named(tmp_path: Path, data: str, given: str | None, missing: str):
    overrides = [f"data={data}", *([f"data.{given}={tmp_path}"] if given else [])]
    config = compose(*overrides, output=tmp_path / "run")
    with pytest.raises(InputError, match=missing):
        instantiate(config.data).read()
