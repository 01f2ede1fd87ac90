"""Settings that nothing reads are refused, and what was meant is named."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from mlic.config import compose
from mlic.errors import InputError
from mlic.settings import refuse_unknown, unknown_names, unknown_options
from mlic.train import train

COMMANDS = {
    "train": [], "extract": [], "tune": [], "verify": ["data=demo"], "compare": ["runs=x"],
    "evaluate": ["run=x"], "predict": ["run=x", "images=x"],
}  # fmt: skip
CHOICES = [
    "model=ensemble", "model=timm", "model=nasnetlarge", "head=csra", "loss=focal", "scheduler=cosine",
    "experiment=best", "experiment=report", "callbacks=early_stopping", "features=live", "trainer=ddp", "logger=csv",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_is_made_of_is_known(command: str, tmp_path: Path):
    config = compose(*COMMANDS[command], output=tmp_path, config_name=command)
    assert unknown_names(config, command) == []


@pytest.mark.parametrize("choice", CHOICES)
def test_so_are_all_choices(choice: str, tmp_path: Path):
    assert unknown_names(compose(choice, output=tmp_path), "train") == []


@pytest.mark.parametrize(
    ("added", "meant"),
    [
        ("+lr=0.1", "'lr' is no setting .* Did you mean 'optimizer.lr'?"),
        ("+max_epochs=3", "Did you mean 'trainer.max_epochs'?"),
        ("+sed=1", "Did you mean 'seed'"),
        ("+model.dropout=0.1", "'model.dropout' is no setting .* Did you mean .*'head.dropout'"),
        ("+model.recipe.batchsize=4", "'model.recipe.batchsize' is no setting .*'data.batch_size'"),
        ("+dropout=0.1", "'dropout' is no setting .* Did you mean .*'head.dropout'"),
        ("+features.dtyp=float32", "'features.dtyp' is no setting .* Did you mean 'features.dtype'"),
        ("+data.split.vall=0.2", "Did you mean 'data.split.val'"),
        ("+data.class_weights.schema=none", "Did you mean 'data.class_weights.scheme'"),
        ("+backbone=resnet50", "'backbone' is no setting"),
        ("+xyzzy=1", r"nothing would read it\. --help lists all"),
    ],
)
def test_what_was_meant_is_named(added: str, meant: str, tmp_path: Path):
    with pytest.raises(InputError, match=meant):
        refuse_unknown(compose(added, output=tmp_path), "train")


def test_options_without_a_place_in_the_configs_stay(tmp_path: Path):
    assert unknown_names(compose("+trainer.gradient_clip_val=0.9", output=tmp_path), "train") == []


@pytest.mark.parametrize(
    ("command", "added"),
    [
        ("predict", "+model.recipe.batch_size=3"),
        ("evaluate", "+features.views=2"),
        ("tune", "+tune.head=3"),
        ("tune", "+tune.halving.frist=3"),
        ("verify", "+suspects.row=3"),
    ],
)
def test_options_of_other_commands_too(command: str, added: str, tmp_path: Path):
    config = compose(*COMMANDS[command], added, output=tmp_path, config_name=command)
    with pytest.raises(InputError, match=rf"' is no setting of mlic\.{command}"):
        refuse_unknown(config, command)


@pytest.mark.parametrize("reference", ["${shared}", "${..shared}", "${oc.select:shared}"])
def test_a_value_that_others_take_over_may_have_any_name(reference: str, tmp_path: Path):
    config = compose(output=tmp_path)
    with open_dict(config):
        config.shared = 3
        assert unknown_names(config, "train") == ["shared"]
        OmegaConf.update(config, "data.batch_size", reference)
    assert unknown_names(config, "train") == []


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("+head.bogus=3", r"'head.bogus': mlic.models.DenseHead takes no such option. Set here: .*dropout"),
        ("+loss.gama=2", r"'loss.gama': mlic.models.WeightedBCE takes no such option"),
        (
            "+optimizer.rate=2",
            r"'optimizer.rate': torch.optim.Adam takes no such option. Set here: lr, fused",
        ),
        (
            "+data.reader.bogus=1",
            r"'data.reader.bogus': mlic.data.read_demo takes no such option. Set here: none",
        ),
    ],
)
def test_options_of_what_is_made_late_are_refused_early(added: str, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        train(compose(added, output=tmp_path / "run"))
    seconds = json.loads((tmp_path / "run" / "status.json").read_text())["seconds"]
    assert not seconds, "no work was done"


@pytest.mark.parametrize("choice", CHOICES)
def test_options_of_all_choices_are_taken(choice: str, tmp_path: Path):
    assert unknown_options(compose(choice, output=tmp_path)) == []


CSV = ["data=csv", "data.annotations=labels.csv", "data.images=photos"]


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("predict", [], r"^run and images must be given, such as run=outputs/first images=photos\.$"),
        ("evaluate", [], "^run must be given, such as run=outputs/first"),
        (
            "evaluate",
            ["run=x", "data=csv"],
            "^data.annotations and data.images must be given, such as data.annotations=",
        ),
        ("verify", [], "^data must be given, such as data=csv"),
        ("verify", ["data=csv", "data.images=x"], "^data.annotations must be given"),
        ("verify", [*CSV, "data.annotations=null"], "^data.annotations must be given"),
        ("compare", [], "^runs must be given, such as runs=outputs"),
        ("train", ["head.hidden=abc"], "^head.hidden: must be a list of widths"),
        ("train", ["loss=focal", "loss.gamma=abc"], "^loss.gamma: must be a number, got abc"),
        ("train", ["scheduler=cosine", "scheduler.warmup=abc"], "^scheduler.warmup: must be a number"),
        ("tune", ["tune.heads=abc"], "^tune.heads: must be a whole number"),
        ("verify", [*CSV, "suspects.folds=abc"], "^suspects.folds: must be a whole number"),
        ("train", ["data=csv"], "^data.annotations and data.images must be given"),
        ("tune", ["model=timm"], "^model.backbone.name must be given, such as model.backbone.name=resnet50"),
        (
            "predict",
            ["run=x", "images=y", "thresholds={person: 0.9}"],
            "^thresholds: must be 'calibrated' or a number",
        ),
        ("predict", ["run=x", "images=y", "thresholds=null"], "'calibrated' or a number, got null"),
        ("predict", ["run=[a,b]", "images=y"], "^run: must be a path, got "),
        ("predict", ["run=x", "images=3"], "^images: must be a path or a list of paths, got 3"),
        ("predict", ["run=x", "images=y", "top_k=true"], "^top_k: must be a whole number, got True"),
        (
            "predict",
            ["run=x", "images=y", "batch_size=many"],
            "^batch_size: must be a whole number, got many",
        ),
        ("predict", ["run=x", "images=y", "device=null"], "^device: must be a text, got null"),
        ("evaluate", ["run=x", "num_workers=[1]"], "^num_workers: must be a whole number"),
        ("compare", ["runs=x", "resamples=many"], "^resamples: must be a whole number, got many"),
        ("compare", ["runs=x", "classes=null"], "^classes: must be a list of class names, got null"),
        ("train", [*CSV, "data.annotations=[a.json,b.json]"], "^data.annotations: must be a path, got "),
        ("extract", [*CSV, "data.images=[photos]"], "^data.images: must be a path, got "),
        ("verify", [*CSV, "data.images=[photos]"], "^data.images: must be a path, got "),
        ("evaluate", ["run=x", *CSV, "data.images=[photos]"], "^data.images: must be a path, got "),
        ("tune", ["resume={a: 1}"], "^resume: must be a path, got "),
        ("train", ["seed=${nope}"], "Interpolation key 'nope' not found"),
        (
            "train",
            ["data.class_weights.scale=0.5"],
            "^data.class_weights.scale: must be a factor for each class",
        ),
        ("train", ["model.backbone.name=[a,b]"], "^model.backbone.name: must be a text, got "),
        ("train", ["data.batch_size=null"], "^data.batch_size: must be a number, got null"),
    ],
)
def test_what_is_missing_or_of_a_wrong_kind_is_named(
    command: str, overrides: list[str], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        refuse_unknown(compose(*overrides, output=tmp_path, config_name=command), command)


@pytest.mark.parametrize("images", ["[a.tar,b.tar]", "'train-{000..099}.tar'"])
def test_tar_shards_may_be_a_list(images: str, tmp_path: Path):
    refuse_unknown(compose("data=webdataset", f"data.images={images}", output=tmp_path), "train")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_its_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # Hydra sets it for the whole process
    monkeypatch.setattr(sys, "argv", [f"mlic.{command}", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        import_module(f"mlic.{command}").main()
    shown = capsys.readouterr()
    assert "output: " in shown.out and "Traceback" not in shown.err


def test_each_command_refuses_an_unknown_name_before_any_work(tmp_path: Path):
    for command, options in COMMANDS.items():
        output = [f"output={tmp_path / command}"]
        done = subprocess.run(
            [sys.executable, "-m", f"mlic.{command}", *options, *output, "+bogus=5"],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode != 0, command
        assert f"\n'bogus' is no setting of mlic.{command}, nothing" in done.stderr, (command, done.stderr)
        assert "Traceback" not in done.stderr, command
        assert not list((tmp_path / command).glob("*.json")), command
