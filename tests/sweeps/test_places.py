import re

import pytest

from mlic.sweeps.places import folder_name


@pytest.mark.parametrize(
    "overrides", ["model=vgg16,seed=1", "a", "data.images='Fotos (März)'", "head.hidden=[8,4]"]
)
def test_a_plain_name_stays(overrides: str):
    assert folder_name(overrides) == overrides


@pytest.mark.parametrize(
    "overrides",
    [
        "data.images=../../elsewhere",
        "/",
        "..",
        ".",
        "",
        " ",
        "x" * 201,
        "é" * 150,
        "data.images=/photos,seed=1",
    ],
)
def test_every_name_is_one_short_folder(overrides: str):
    name = folder_name(overrides)
    assert name and "/" not in name and name not in (".", "..") and name == name.strip()
    assert len(name.encode()) <= 255
    assert folder_name(overrides) == name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (
            "data.annotations='/a long/way/labels.csv',optimizer.lr=0.1",
            "data.annotations='labels.csv',optimizer.lr=0.1",
        ),
        ("data.images=[/photos/a,s3://b/c],data=csv", "data.images=[a,s3:__b_c],data=csv"),
        ("data.images=../photos/,seed=1", "data.images=photos_,seed=1"),
        ("group/part=a/b,seed=1", "group_part=b,seed=1"),
        ("data.images=/", "data.images=_"),
    ],
)
def test_of_a_path_the_last_part_is_shown(overrides: str, name: str):
    assert re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", folder_name(overrides))


def test_different_overrides_have_different_names():
    overrides = ["a=b/c", "a=d/c", "a=c", "a=b_c", "a=b//c", "x" * 300, "x" * 301, "", "defaults", "/", "_"]
    assert len({folder_name(item) for item in overrides}) == len(overrides)
