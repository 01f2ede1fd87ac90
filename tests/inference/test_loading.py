"""What a checkpoint may name, and what it may not."""

from typing import Any

import pytest
import torch
from torch import nn

from mlic.data import read_csv
from mlic.errors import InputError
from mlic.inference.labelled import find_reader
from mlic.inference.loading import build, find_module_class
from mlic.models import DenseHead, WeightedBCE

HEAD = "mlic.models.DenseHead"


def test_builds_as_hydra_would():
    head = build({"_target_": HEAD, "_partial_": True, "hidden": [4], "dropout": 0.1}, (6,), 3)
    assert isinstance(head, DenseHead) and head(torch.zeros(2, 6)).shape == (2, 3)
    loss = build({"_target_": "mlic.models.losses.WeightedBCE", "pos_weight": 2}, [1.0, 1.0])
    assert isinstance(loss, WeightedBCE)


# Hydra's own lookup goes through imported modules
REFUSED = (
    "os.system", "torch.nn.Linear", "mlic.modelsx.Head", "mlic.models.weights.logging.os.system",
    "mlic.models.backbone.nn.Linear", "mlic.models.weights.load_network", "mlic.models", "", None, ["os.system"],
    {"_target_": "os.system"},
)  # fmt: skip


def test_refuses_all_but_networks_of_the_package():
    for target in REFUSED:
        with pytest.raises(
            InputError, match=r"uses '.*' in its network, which is refused.* of mlic\.models "
        ):
            build({"_target_": target})
    bad = {"_target_": "os.getcwd"}
    for nested in (bad, [bad], {"deep": bad}):
        with pytest.raises(InputError, match=r"uses 'os\.getcwd'"):
            build({"_target_": HEAD, "hidden": nested}, (6,), 3)
    for settings in ({"hidden": [4]}, HEAD):
        with pytest.raises(InputError, match="uses 'None'"):
            build(settings, (6,), 3)


def test_packages_of_ones_own_are_allowed_by_name():
    assert find_module_class("torch.nn.Linear", ["mlic.models", "torch.nn"]) is nn.Linear
    with pytest.raises(InputError, match=r"classes of mlic\.models, torch\.nn "):
        find_module_class("torch.load", ["mlic.models", "torch.nn"])


def test_readers_are_those_of_the_package():
    reader: Any = find_reader({"_target_": "mlic.data.read_csv", "_partial_": True, "separator": ";"})
    assert reader.func is read_csv and reader.keywords == {"separator": ";"}
    for target in (
        "os.system",
        "mlic.data.curate",
        "mlic.data.demo.read_demo",
        "mlic.data.read_pickle",
        None,
    ):
        with pytest.raises(InputError, match=r"not one of mlic\.data\.read_\*.*data\.annotations"):
            find_reader({"_target_": target})
