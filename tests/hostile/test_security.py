"""What a user may have been sent: nothing in it runs code, leaves its folder, or takes anything from here along."""

import pickle
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig

import mlic
from mlic.config import compose
from mlic.data import coco_val2017
from mlic.data.download import RemoteFile, unpack
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.features.store import FeatureStore
from mlic.predict import predict
from mlic.report.discovery import find_runs
from mlic.report.reading import read_run
from mlic.report.report import ReportOptions, write_report
from mlic.runs.reading import load_plain_yaml
from mlic.train import train

MakeConfig = Callable[..., DictConfig]


@pytest.mark.usefixtures("without_figures")
def test_a_pickle_in_every_file_of_a_run_is_refused(
    run: Path, tiny_config: MakeConfig, tiny_images: Path, trap: Any, tmp_path: Path
):
    """By everything that reads it: init_from, predict, evaluate, compare. `trap` fails the test if one ran."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    refused = r"best\.ckpt' (contains more than tensors|cannot be read as a checkpoint)"
    for legacy in (None, False, True):
        checkpoint.write_bytes(pickle.dumps(trap))
        if legacy is not None:
            torch.save({"mlic": trap}, checkpoint, _use_new_zipfile_serialization=not legacy)
        for name, command, option in (
            ("predict", predict, f"images={tiny_images}"),
            ("evaluate", evaluate, "part=test"),
        ):
            with pytest.raises(InputError, match=refused):
                command(compose(f"run='{run}'", option, output=tmp_path / "out", config_name=name))
        with pytest.raises(InputError, match=refused):
            train(tiny_config(f"init_from={run}", output=tmp_path / "second"))
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "status.json"]
    assert len(files) >= 10
    for path in files:
        path.write_bytes(pickle.dumps(trap))
    page = write_report(ReportOptions(runs=str(run), output=tmp_path / "report", resamples=2)).read_text()
    assert "dataset.json cannot be read" in page or "metrics.json cannot be read" in page
    (run / "status.json").write_bytes(pickle.dumps(trap))
    assert read_run(run).state == "unknown"


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_pickle_for_weights_is_refused(ending: str, tiny_config: MakeConfig, trap: Any, tmp_path: Path):
    file = tmp_path / f"weights.{ending}"
    file.write_bytes(pickle.dumps(trap))
    with pytest.raises(InputError, match=r"model\.backbone\.weights: '.*weights\.\w+'"):
        train(tiny_config("model.backbone.pretrained=true", f"model.backbone.weights={file}"))


def test_a_pickle_for_a_shard_is_set_aside(tiny_config: MakeConfig, trap: Any, tmp_path: Path):
    train(tiny_config("trainer.max_epochs=1"))
    shard = next((tmp_path / "store").glob("*/*.safetensors"))
    shard.write_bytes(pickle.dumps(trap))
    (shard.parent / "store.json").write_bytes(pickle.dumps(trap))
    with pytest.raises(InputError, match="is not a feature store"):
        FeatureStore.at(shard.parent)
    train(tiny_config("trainer.max_epochs=1", output=tmp_path / "again"))
    assert (shard.parent / "shard.damaged").is_file()


@pytest.mark.usefixtures("without_figures")
def test_yaml_makes_no_objects_and_takes_nothing_from_here(
    run: Path, trap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = run / "config.yaml"
    file.write_text(f"!!python/object/apply:os.mkdir ['{trap.folder}']\n")
    assert "config.yaml cannot be read" in " ".join(read_run(run).notes)
    monkeypatch.setenv("MLIC_SECRET", "the-password")
    file.write_text("seed: ${oc.env:MLIC_SECRET}\n")
    page = write_report(ReportOptions(runs=str(run), output=tmp_path / "report", resamples=2)).read_text()
    assert "the-password" not in page
    assert read_run(run).settings == {"seed": "${oc.env:MLIC_SECRET}"}


def test_yaml_that_stands_for_billions_of_values_is_refused():
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    for text, message in (("\n".join(lines), "it has aliases"), ("[" * 1_000_000, "nested too deep")):
        with pytest.raises(ValueError, match=message):
            load_plain_yaml(text)


def test_a_sweep_of_a_billion_jobs_does_not_hang_the_report(run: Path):
    task = ["seed=range(0,1000000000)", "model=a,b"]
    record = {"hydra": {"sweeper": {"_target_": "hydra._internal.BasicSweeper"}, "overrides": {"task": task}}}
    (run.parent / "multirun.yaml").write_text(yaml.safe_dump(record))
    found, missing = find_runs(str(run.parent))
    assert run in found
    assert "multirun.yaml cannot be read, so jobs may be missing (more than 100000 jobs)" in missing[0].reason


def test_links_in_an_archive_lead_nowhere(tmp_path: Path):
    def make_zip(*entries: tuple[str, bytes, int]) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content, mode in entries:
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16
                archive.writestr(info, content)
        return path

    link, set_user = stat.S_IFLNK | 0o777, stat.S_IFREG | 0o4777
    archive = make_zip(("photos/out", b"/etc", link), ("photos/a.jpg", b"1", set_user))
    folder = unpack(archive, "photos", tmp_path / "photos")
    assert not (folder / "out").is_symlink() and (folder / "out").read_bytes() == b"/etc"
    assert not (folder / "a.jpg").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)
    through = make_zip(("photos/out", b"/tmp", link), ("photos/out/evil", b"1", 0))
    upward = make_zip(("photos/../../evil", b"1", 0))
    for archive, member in ((through, "photos"), (upward, "photos/../../evil")):
        with pytest.raises(OSError, match="evil"):
            unpack(archive, member, tmp_path / "again" / "evil")
    assert not list(tmp_path.rglob("evil"))


def test_the_sources_run_no_shell_unpickle_nothing_and_open_addresses_in_one_file():
    forbidden = (
        r"shell\s*=\s*True", r"\bos\.(system|popen)\(", r"\bpickle\.loads?\b", r"weights_only\s*=\s*False",
        r"\byaml\.(unsafe_|full_)?load\(", r"allow_pickle\s*=\s*True", r"(?<![\w.])(eval|exec)\(", r"\bread_pickle\b",
        r"\bextractall\b", r"verify\s*=\s*False",
    )  # fmt: skip
    texts = {path.name: path.read_text() for path in sorted(Path(mlic.__file__).parent.rglob("*.py"))}
    assert len(texts) > 60
    assert [(name, word) for name, text in texts.items() for word in forbidden if re.search(word, text)] == []
    loads = [call for text in texts.values() for call in re.findall(r"torch\.load\([^)]*\)", text)]
    assert loads and all("weights_only=True" in call for call in loads)
    opens = r"urllib(?!\.parse)|import requests|http\.client"
    assert [name for name, text in texts.items() if re.search(opens, text)] == ["download.py"]
    remotes = [value for value in vars(coco_val2017).values() if isinstance(value, RemoteFile)]
    assert len(remotes) == 2 and all(re.fullmatch(r"[0-9a-f]{32}", remote.md5) for remote in remotes)
