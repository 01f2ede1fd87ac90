"""Settings that are missing, unknown or of a wrong kind are refused before any work, and named."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException

from mlic.command_help import help_text
from mlic.config import compose
from mlic.errors import InputError
from mlic.settings import check_choices, check_options, check_settings
from mlic.train import train

PLACES = ("data.annotations=labels", "data.images=photos")
COMMANDS = {
    "train": [], "extract": [], "tune": [], "verify": ["data=demo"], "compare": ["runs=x"],
    "evaluate": ["run=x"], "predict": ["run=x", "images=x"], "export": [],
}  # fmt: skip
CSV = ["data=csv", "data.annotations=labels.csv", "data.images=photos"]
WEBDATASET = ["data=webdataset", "data.images=[a.tar,b.tar]"]
PREDICT = ["run=x", "images=y"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_of_each_command_are_accepted(command: str, tmp_path: Path):
    check_settings(compose(*COMMANDS[command], output=tmp_path, config_name=command), command)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=ensemble"], ["model=timm", "model.backbone.name=resnet50"], ["model=nasnetlarge"], ["head=csra"],
        ["head=attention"], ["loss=focal"], ["loss=asymmetric", "scheduler=cosine"], ["experiment=best"],
        ["experiment=report"], ["callbacks=early_stopping"], ["features=augmented"], ["logger=csv"], CSV, WEBDATASET,
        ["trainer=ddp", "trainer.num_nodes=1"], ["trainer.devices=[0,1]", "trainer.precision=16"],
        ["+trainer.gradient_clip_val=0.9"], ["model.backbone.unfreeze=all", "optimizer.lr=1"],
        ["data.min_images_per_class=22", "loss.pos_weight=[1,2]"], ["packages=mine"],
        ["data.class_weights.scale={dog: 0.5}"],
    ],
)  # fmt: skip
def test_choices_and_values_of_all_kinds_are_accepted(overrides: list[str], tmp_path: Path):
    config = compose(*overrides, output=tmp_path)
    check_settings(config, "train")
    check_options(config)


@pytest.mark.parametrize(
    ("command", "added", "meant"),
    [
        ("train", "+lr=0.1", "'lr' is not a setting of mlic.train. Did you mean 'optimizer.lr'?"),
        ("train", "+model.dropout=0.1", "'model.dropout' is not a setting .* Did you mean .*'head.dropout'"),
        ("train", "+xyzzy=1", r"mlic\.train\. --help lists all"),
        ("predict", "+model.recipe.batch_size=3", "is not a setting of mlic.predict"),
        ("tune", "+tune.trails=3", "is not a setting of mlic.tune. Did you mean 'tune.trials'"),
    ],
)
def test_unknown_names_are_refused(command: str, added: str, meant: str, tmp_path: Path):
    config = compose(*COMMANDS[command], added, output=tmp_path, config_name=command)
    with pytest.raises(InputError, match=meant):
        check_settings(config, command)


def test_a_value_that_others_refer_to_may_have_any_name(tmp_path: Path):
    overrides = ["+shared=3", "data.batch_size=${shared}"]
    check_settings(compose(*overrides, output=tmp_path), "train")
    with pytest.raises(InputError, match="'shared' is not a setting"):
        check_settings(compose(overrides[0], output=tmp_path), "train")


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("predict", [], "^run and images must be given"),
        ("train", ["~head"], "^head must be given"),
        ("train", ["seed=${nope}"], "Interpolation key 'nope' not found"),
        ("train", ["seed=abc"], "^seed: must be int, got abc"),
        ("train", ["data.split=null"], "^data.split: must be dict, got null"),
        ("train", ["data.split.test=abc"], "^data.split.test: must be float"),
        ("train", ["data.batch_size=null"], "^data.batch_size: must be int, got null"),
        ("train", ["head.hidden=abc"], "^head.hidden: must be list"),
        ("train", ["optimizer.lr=abc"], "^optimizer.lr: must be float"),
        ("train", ["trainer.max_epochs=true"], "^trainer.max_epochs: must be int"),
        ("train", ["data.num_images=abc"], "^data.num_images: must be null or int, got abc"),
        ("train", ["data.min_images_per_class=abc"], "^data.min_images_per_class: must be float or int"),
        (
            "train",
            ["data=labelstudio", *PLACES, "data.reader.controls=kind"],
            "^data.reader.controls: must be null or list",
        ),
        (
            "train",
            ["data=openimages", *PLACES, "data.reader.confidence=high"],
            "confidence: must be null or float",
        ),
        ("predict", ["run=x", "images=x", "top_k=abc"], "^top_k: must be null or int"),
        ("compare", ["runs=x", "classes=null"], "^classes: must be list, got null"),
    ],
)
def test_missing_values_and_wrong_types_are_named(
    command: str, overrides: list[str], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        check_settings(compose(*overrides, output=tmp_path, config_name=command), command)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optimizer.rate=2"], "optimizer: torch.optim.Adam got an unexpected keyword argument 'rate'"),
        (["+loss.gamma=2"], "loss: mlic.models.WeightedBCE got an unexpected keyword argument 'gamma'"),
        (["+trainer.gradient_clip_val=abc"], "gradient_clip_val"),
    ],
)
def test_options_are_refused_before_any_work(overrides: list[str], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        train(compose(*overrides, output=tmp_path / "run"))
    seconds = json.loads((tmp_path / "run" / "status.json").read_text())["seconds"]
    assert not seconds, "no work was done"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_its_help(command: str):
    """An example, the groups of this command, and every setting in effect with the comment in conf/."""
    shown = help_text(command, ["--help"])
    assert f"\n  python -m mlic.{command} " in shown.partition("Settings")[0]
    assert ("\n  data: " in shown) == (command not in ("compare", "predict")) and " _base" not in shown
    assert re.search(r"\n  output: .*", shown) and shown.count(" # ") > 5


def test_help_shows_the_settings_of_the_choices_of_the_command_line(tmp_path: Path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: mine.Loss\ngamma: 3\n")
    options = ["data=csv", "head=ridge", "loss=mine", "seed=5", "--config-dir", str(tmp_path)]
    shown = help_text("train", [*options, "-h"])
    assert re.search(r"head: .* ridge\*\s", shown) and re.search(r"loss: .* mine\*\s", shown)
    assert re.search("\n    power: 0.5 +# features become sign", shown)  # beside its key
    assert re.search(
        r"\n  on_error: continue +# of a sweep: .*\n +# .* not found do not", shown
    )  # above its key
    assert "\n    gamma: 3" in shown and "\n  seed: 5" in shown
    with pytest.raises(HydraException, match="Could not find 'data/cvs'"):
        help_text("train", ["--help", "data=cvs"])


def test_an_unknown_network_leads_to_those_of_timm():
    with pytest.raises(
        InputError, match=r"model=timm model\.backbone\.name=resnet50\.a1_in1k\nSimilar ones: .*, "
    ):
        check_choices(["seed=1", "model=vgg16,resnet50"])
    check_choices(["model=vgg16,timm", "model=choice(a,b)", "head=resnet50"])
    check_choices(["model=mine", "--config-dir=myconf"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("+bogus=5", "'bogus' is not a setting of mlic."), ("data=null", "data=null: data is a config group")],
)
def test_each_command_refuses_a_wrong_setting_before_any_work(
    wrong: str, message: str, run_server: Any, tmp_path: Path
):
    """Without a traceback; Hydra's own would follow `data=null`."""
    for command, options in COMMANDS.items():
        arguments = (*options, f"output={tmp_path / command}", wrong)
        assert run_server.run(*arguments, folder=tmp_path, command=command, log=f"{command}.log") != 0
        shown = (tmp_path / f"{command}.log").read_text()
        assert message in shown and "Traceback" not in shown, (command, shown)
        assert not list((tmp_path / command).glob("*.json")), command
