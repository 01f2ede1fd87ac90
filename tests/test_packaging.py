"""What leaves this folder: the wheel, the lock, and the files in git."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text().splitlines()


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command; its errors when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and the dependencies, but not this source tree.

    The dependencies come by a .pth line. Python does not follow the .pth files in a folder added so, and the
    editable installation there stays out of sight.
    """
    environment = tmp_path_factory.mktemp("environment") / "clean"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=ROOT)
    python = environment / "bin/python"
    install = ("uv", "pip", "install", "--offline", "--no-deps", "--python", python, wheel)
    run(sys.executable, "-m", *install, cwd=ROOT)
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = run(python, "-c", program, cwd=environment).strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.mark.slow
def test_wheel_holds_the_package_and_every_config(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"mlic/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "mlic/conf/train.yaml" in configs and configs <= packed
    # hydra_plugins is the only place that Hydra looks for launchers
    folders = {"mlic", "hydra_plugins", f"mlic-{PROJECT['version']}.dist-info"}
    assert {name.split("/")[0] for name in packed} == folders
    assert any(name.endswith("licenses/LICENSE") for name in packed)


@pytest.mark.slow
def test_installed_wheel_runs_from_another_folder(clean_python: Path, tmp_path: Path) -> None:
    program = "import mlic, mlic.config as c; print(mlic.__file__, c.CONFIG_DIR)"
    for place in run(clean_python, "-c", program, cwd=tmp_path).split():
        assert Path(place).is_relative_to(clean_python.parents[1]), f"{place} is not in the clean environment"
    mlic = clean_python.with_name("mlic")
    shown = run(mlic, "train", "--help", cwd=tmp_path)
    assert run(clean_python, "-m", "mlic.train", "--help", cwd=tmp_path) == shown
    assert "efficientnet_lite0*" in shown and "nasnetlarge" in shown
    assert "\n  predict " in run(mlic, cwd=tmp_path)
    assert subprocess.run([mlic, "trian"], capture_output=True, check=False).returncode == 2
    # a class in the working folder is found, as with `python -m`
    (tmp_path / "mine.py").write_text("def read(**options):\n    raise SystemExit(7)\n")
    own = [mlic, "verify", "data=csv", "data.annotations=a", "data.images=b", "output=o"]
    own.append("data.reader._target_=mine.read")
    done = subprocess.run(own, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 7, done.stdout + done.stderr


def test_lock_holds_an_exact_version_of_each_dependency() -> None:
    assert [
        line for line in LOCK if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][A-Za-z0-9.+]*", line)
    ] == []
    locked = dict(line.split("==") for line in LOCK)
    assert list(locked) == sorted(locked) and len(locked) == len(LOCK), "sorted, each once"
    optional = PROJECT["optional-dependencies"]
    extras = Requirement(optional["dev"][0]).extras
    developed = optional["dev"][1:] + [text for extra in extras for text in optional[extra]]
    for requirement in map(Requirement, PROJECT["dependencies"] + developed):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements.lock: make lock"
        assert requirement.specifier and version in requirement.specifier, (
            f"{requirement}: {version} is locked"
        )


def test_no_module_is_too_long() -> None:
    folders = ("mlic", "tests", "benchmarks", "hydra_plugins")
    lengths = {
        path: len(path.read_text().splitlines()) for name in folders for path in (ROOT / name).rglob("*.py")
    }
    assert lengths and {path: lines for path, lines in lengths.items() if lines > 400} == {}
