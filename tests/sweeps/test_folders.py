import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from mlic.config import CONFIG_DIR, folder_name
from mlic.sweeps.folders import SWEEP_FILE, FolderNames

FIXED = ("data.num_images=100", "data.split.val=0.2", "+trainer.gradient_clip_val=0.9")


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """A function (overrides, of jobs) -> names of the jobs' folders, as Hydra's launchers find them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FolderNames, "sweep", None)

    def find(overrides: tuple[str, ...], *jobs: tuple[str, ...]) -> list[str]:
        with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
            loader: Any = GlobalHydra.instance().config_loader()
            config = loader.load_configuration("train", ["sweep=a", *overrides], run_mode=RunMode.MULTIRUN)
            FolderNames().on_multirun_start(config)
            (tmp_path / "outputs" / "sweeps" / "a").mkdir(parents=True, exist_ok=True)
            OmegaConf.save(config, tmp_path / "outputs" / "sweeps" / "a" / SWEEP_FILE)
            made = [loader.load_sweep_config(config, ["sweep=a", *own]) for own in jobs]
        return [folder_name(one.hydra.job.override_dirname) for one in made]

    return find


SHORTENED = {
    "data.annotations='/a long/way/labels.csv',optimizer.lr=0.1": "data.annotations='labels.csv',optimizer.lr=0.1",
    "data.images=[/photos/a,s3://b/c],data=csv": "data.images=[a,s3:__b_c],data=csv",
    "data.images=../photos/,seed=1": "data.images=photos_,seed=1",
    "group/part=a/b,seed=1": "group_part=b,seed=1",
    "data.images=/": "data.images=_",
}


def test_every_name_is_one_short_folder():
    for plain in ("model=vgg16,seed=1", "a", "data.images='Fotos (März)'", "head.hidden=[8,4]"):
        assert folder_name(plain) == plain
    for overrides, name in SHORTENED.items():
        assert re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", folder_name(overrides))
    for overrides in ("data.images=../../elsewhere", "/", "..", ".", "", " ", "x" * 201, "é" * 150):
        name = folder_name(overrides)
        assert name and "/" not in name and name not in (".", "..") and name == name.strip()
        assert len(name.encode()) <= 255
    different = ["a=b/c", "a=d/c", "a=c", "a=b_c", "a=b//c", "x" * 300, "x" * 301, "", "defaults", "/", "_"]
    assert len({folder_name(item) for item in different}) == len(different)


def test_folders_are_named_by_what_a_sweep_varies(folders: Callable[..., list[str]]):
    swept = ("seed=0,1", "model=vgg16,timm", *FIXED)
    jobs = [("seed=0", "model=vgg16", *FIXED), ("seed=1", "model=vgg16", *FIXED)]
    assert folders(swept, *jobs) == ["model=vgg16,seed=0", "model=vgg16,seed=1"]
    job = ("optimizer.lr=0.01", "head.dropout=0.3", "loss=focal", *FIXED)
    varied = ("loss=weighted_bce,focal", "optimizer.lr=0.1,0.01", "head.dropout=0.3", "resume=auto", *FIXED)
    assert folders(varied, job) == ["loss=focal,optimizer.lr=0.01"]
    assert folders(("seed=3", "resume=auto"), ("seed=3", "resume=auto")) == ["seed=3"]


def test_no_two_jobs_share_a_folder(folders: Callable[..., list[str]]):
    """Also where what varies is otherwise left out of the names, or given before as one value."""
    jobs = [("seed=0", f"on_error={name}") for name in ("continue", "stop")]
    assert len(set(folders(("seed=0", "on_error=continue,stop", "resume=auto"), *jobs))) == 2
    assert folders(("seed=5", "seed=0,1", "resume=auto"), ("seed=0",), ("seed=1",)) == ["seed=0", "seed=1"]


def test_another_sweep_of_the_same_name_is_refused_before_it_replaces_runs(
    folders: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
):
    folders(("seed=0,1", "optimizer.lr=0.1"))
    folders(("seed=0,1,2", "optimizer.lr=0.1", "on_error=stop"))
    folders(("seed=0,1", "optimizer.lr=0.1,0.3"))  # its folders are named by both
    folders(("seed=0,1", "optimizer.lr=0.1"))
    with pytest.raises(SystemExit, match="1"):
        folders(("seed=0,1", "optimizer.lr=0.2"))
    shown = capsys.readouterr().err
    assert "sweep: 'outputs/sweeps/a' has a sweep with other settings (optimizer.lr)" in shown
    folders(("seed=0,1", "optimizer.lr=0.2", "resume=auto"))  # each job compares its settings itself
