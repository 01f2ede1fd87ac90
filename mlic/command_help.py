"""The text of `--help`: examples, config groups, and the settings with the comments of `conf/`."""

import re
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mlic.config import CONFIG_DIR
from mlic.settings import config_files

WIDTH = 120  # columns
CHOICES_COLUMN, COMMENT_COLUMN = 15, 42
HIDDEN = {"_target_", "_partial_"}  # classes, which `--cfg job` shows
END = "--cfg job prints the settings as YAML, --hydra-help the options of Hydra."


def help_text(command: str, arguments: Sequence[str]) -> str:
    """Return the help of a command for the choices on its command line, without importing torch.

    Args:
        command: name of the file in `conf/`, without extension.
        arguments: arguments of the command, such as `["--help", "data=csv"]`.

    Raises:
        hydra.errors.HydraException: a choice or setting does not exist.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    options, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if not argument.startswith("-")]
    folders = [CONFIG_DIR]
    if options.config_dir:
        folders.append(str(Path(options.config_dir).resolve()))
        overrides.append(f"hydra.searchpath=['file://{folders[1]}']")
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose(command, overrides=overrides, return_hydra_config=True)
    choices = config.hydra.runtime.choices
    plain: Any = OmegaConf.to_container(config, resolve=False)
    del plain["hydra"]
    lines = [_header((Path(CONFIG_DIR) / f"{command}.yaml").read_text()), ""]
    if groups := sorted({group for group, _ in config_files(command)} - {""}):
        lines += ["Choices (group=choice), with * if in effect:"]
        for group in groups:
            files = (path for folder in folders for path in (Path(folder) / group).glob("[!_]*.yaml"))
            names = (
                f"{name}*" if name == choices.get(group) else name for name in sorted({f.stem for f in files})
            )
            lines += _beside(f"  {group}:", CHOICES_COLUMN, " ".join(names))
        lines += [""]
    lines += ["Settings (key=value), with their defaults (??? must be given):"]
    lines += _settings(plain, _comments_of(command, choices))
    return "\n".join([*lines, "", END])


def _header(text: str) -> str:
    """Return the comment at the start of a file."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(re.sub("^# ?", "", line))
    return "\n".join(line for line in lines if not line.startswith("@package"))


def _comments_of(command: str, choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the comments of all settings in effect, and for each group the first line of its choice's header."""
    found: dict[str, str] = {}
    for group, path in config_files(command):
        if path is None or (group and path.stem not in (choices.get(group), "_base")):
            continue
        text = path.read_text()
        prefix = f"{group}." if group and "# @package _global_" not in text else ""
        comments = _comments(text)
        found |= {prefix + name: comment for name, comment in comments.items()}
        if group and path.stem == choices.get(group):
            found[group] = f"{path.stem}: {_header(text).partition(chr(10))[0]}".removesuffix(": ")
    return found


def _comments(text: str) -> dict[str, str]:
    """Return the comments of a YAML file by the full name of the setting: those above its line, and beside it."""
    lines = text.splitlines()
    found = {}
    for name, start, row, column in _positions(yaml.compose(text), ""):
        above, number = [], start - 1
        while number >= 0 and lines[number].lstrip().startswith("#"):
            above.insert(0, lines[number].strip(" #"))
            number -= 1
        if number < 0:  # the header of the file
            above = []
        beside = re.search(r"\s#\s*(.+)", lines[row][column:])
        comment = " ".join([*above, *([beside[1]] if beside else [])])
        if comment:
            found[name] = comment
    return found


def _positions(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, line of the key, and line and column from which a comment may follow, of each setting."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        mark = key.end_mark if is_block else value.end_mark
        yield prefix + key.value, key.start_mark.line, mark.line, mark.column
        yield from _positions(value, f"{prefix}{key.value}.")


def _settings(node: Mapping[str, Any], comments: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        left, is_section = f"{'  ' * (prefix.count('.') + 1)}{key}:", isinstance(value, dict) and value
        if key in HIDDEN or (is_section and not value.keys() - HIDDEN):
            continue
        comment = comments.get(f"{prefix}{key}", "")
        yield from _beside(left if is_section else f"{left} {_value(value)}", COMMENT_COLUMN, comment, "# ")
        if is_section:
            yield from _settings(value, comments, f"{prefix}{key}.")


def _value(value: Any) -> str:
    if isinstance(value, str):  # YAML would quote `${...}`
        return value or "''"
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _beside(left: str, column: int, text: str, mark: str = "") -> list[str]:
    """Return lines with a text to the right of a name, continued in the same column."""
    column = max(column, len(left) + 2)
    found = textwrap.wrap(text, max(WIDTH - column - len(mark), 40), break_on_hyphens=False)
    if not found:
        return [left]
    return [f"{name:<{column}}{mark}{line}" for name, line in zip_longest([left], found, fillvalue="")]
