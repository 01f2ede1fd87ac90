"""Each command of README and docs runs, on smaller data where it would take long; links and pictures exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mlic.command_line import quote_paths
from mlic.config import compose
from mlic.settings import check_options, check_settings
from mlic.training.devices import with_processes

ROOT = Path(__file__).parent.parent
NAMES = (
    "getting_started", "data", "models", "heads", "evaluation", "tuning", "sweeps", "deployment", "run_folders",
    "report", "faq", "architecture", "index",
)  # fmt: skip
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES)]
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in PAGES}
TEXT = "\n".join(TEXTS.values())
# each once, in the order of the pages
COMMANDS = dict.fromkeys(re.findall(r"^    \.venv/bin/python -m (mlic\.\S+)(.*)$", TEXT, flags=re.MULTILINE))
# what makes a command quick; the command itself stays as it stands
SMALLER = {
    "mlic.train": ["trainer.max_epochs=1", "data.split.val=0.2"],
    "mlic.train -m": ["trainer.max_epochs=1", "data.num_images=60", "data.split.on_missing=warn"],
    "mlic.tune": ["trainer.max_epochs=2", "data.split.val=0.2", "tune.trials=3"],
}
# tested elsewhere: weights of the hub, help, launchers
ELSEWHERE = ("experiment=report", "nasnetlarge", "--help", "experiment=small", "hydra/launcher=")


@pytest.mark.long
@pytest.mark.slow
def test_commands_run_one_after_the_other(run_server: Any, tmp_path: Path, tiny_csv: tuple[Path, Path]):
    annotations, images = tiny_csv
    for table, folder in (("labels.csv", "photos"), ("new.csv", "new")):
        (tmp_path / table).symlink_to(annotations)
        (tmp_path / folder).symlink_to(images)
    (tmp_path / "unlabelled").symlink_to(images)
    ran = set()
    for number, (module, rest) in enumerate(COMMANDS):
        if any(word in rest for word in ELSEWHERE):
            continue
        arguments = shlex.split(rest, comments=True)
        arguments += SMALLER.get(f"{module} -m" if "-m" in arguments else module, [])
        command, log = module.removeprefix("mlic."), f"{number}.log"
        status = run_server.run(*arguments, folder=tmp_path, command=command, log=log)
        assert status == 0, f"{module} {arguments}\n{(tmp_path / log).read_text()}"
        ran.add(command)
    assert ran >= {"train", "predict", "evaluate", "compare", "extract", "tune", "verify", "features"}
    assert (tmp_path / "outputs" / "compare" / "index.html").stat().st_size > 100_000
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 61
    assert len(list((tmp_path / "outputs" / "sweeps").glob("lite/*/metrics.json"))) == 3


@pytest.mark.slow
def test_python_examples_run(tmp_path: Path, tiny_csv: tuple[Path, Path], monkeypatch: Any, capsys: Any):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(tiny_csv[1])
    text = TEXTS["README"] + TEXTS["getting_started"]
    use_block, train_block = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    smaller = '"trainer.max_epochs=1", "data.num_images=100", "data.split.on_missing=warn"'
    assert '"trainer.max_epochs=5"' in train_block
    exec(train_block.replace('"trainer.max_epochs=5"', smaller), {})
    assert 0.1 < float(capsys.readouterr().out.splitlines()[-1]) <= 1
    (tmp_path / "outputs" / "first").symlink_to(tmp_path / "outputs" / "from_python")
    names: dict[str, Any] = {}
    exec(use_block, names)
    assert len(names["table"]) == 60


OPTION_TABLES = ("`data=`", "option", "`model=`", "group")  # by the first cell of the header
PLACES = ["data.annotations=labels", "data.images=photos"]
NEEDED = {"timm": ["model.backbone.name=resnet50.a1_in1k"], "data=": PLACES}


def documented_options() -> Iterator[list[str]]:
    """Overrides for each option of the tables, with each of its values; a key alone where no value is given."""
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE):
        header, _, *rows = (re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines())
        if header[0].strip() in OPTION_TABLES:
            for row in rows:
                yield from documented_in(header[0].strip(" `"), row)


def documented_in(of_table: str, row: list[str]) -> Iterator[list[str]]:
    group = of_table if of_table.endswith("=") else ""
    words = [span.replace("\\|", "|") for cell in row for span in re.findall("`(.+?)`", cell)]
    context = [f"{group}{words[0]}", *NEEDED.get(group, []), *NEEDED.get(words[0], [])] if group else []
    if context:
        yield context
    last = ""
    for word in words:
        if not group and word.startswith("."):
            word = last.rpartition(".")[0] + word
        key, _, value = word.partition("=")
        if re.fullmatch(r"[a-z_]+", word) and last and not group:  # a value by itself
            yield [f"{last}={word}"]
        elif re.fullmatch(r"(data|head|optimizer|trainer|model|loss)\.[a-z_.]+", word):
            yield [*context, word]
        elif re.fullmatch(r"[a-z_.]+=.+", word):
            values = [value] if "'" in value else value.split("|")
            yield from ([*context, *re.split(r" (?=[a-z_.]+=)", f"{key}={one}")] for one in values)
        if re.fullmatch(r"[a-z_.]+(=.*)?", word) and ("." in key or "=" in word):
            last = key


@pytest.mark.slow
def test_options_of_the_tables_are_taken_as_they_stand_there(tmp_path: Path):
    options = [*documented_options(), ["data.reader.classes=[a,b]", "data=csv", *PLACES]]
    options.append(["data.reader.classes=[a,b]", "data=voc", *PLACES])
    assert len(options) > 60
    for wanted in (
        ["data.class_weights.scale={person: 0.5}"], ["data.split.on_missing=warn"], ["head=csra"], ["data.split.val"],
        ["features=augmented", "model.backbone.unfreeze=1"], ["data.class_weights.scheme=inverse"],
        ["data=coco", *PLACES, "data.reader.crowd=drop"],
    ):  # fmt: skip
        assert wanted in options
    for overrides in options:
        keys = [item for item in overrides if "=" not in item]
        config = compose(*quote_paths([item for item in overrides if "=" in item]), output=tmp_path)
        check_settings(config, "train")
        check_options(with_processes(config))  # trainer=ddp: as many nodes as were started
        for key in keys:
            parent, _, name = key.rpartition(".")
            assert name in set(OmegaConf.select(config, parent)), key


def test_make_targets_pictures_and_links_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", TEXT, flags=re.MULTILINE))
    assert {"demo", "test", "help", "sweep", "docs"} <= named <= targets
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == set(NAMES)
    for path in PAGES:  # links between pages of docs/, with their anchors: make docs
        for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", TEXTS[path.stem]):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Average precision" in (tmp_path / "evaluation" / "index.html").read_text(encoding="utf-8")
