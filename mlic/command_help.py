"""The text of `--help`: examples, config groups, and the settings with the comments of `conf/`."""

import re
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
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
ENTRY = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?=\s|$)[^#]*(?P<comment>#.*)?")


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
    lines = [_header(Path(CONFIG_DIR, f"{command}.yaml").read_text()), ""]
    if groups := sorted({group for group, _ in config_files(command)} - {""}):
        lines += ["Choices (group=choice), with * if in effect:"]
        for group in groups:
            names = {path.stem for folder in folders for path in Path(folder, group).glob("[!_]*.yaml")}
            marked = (f"{name}*" if name == choices.get(group) else name for name in sorted(names))
            lines += _beside(f"  {group}:", CHOICES_COLUMN, " ".join(marked))
        lines += [""]
    lines += ["Settings (key=value), with their defaults (??? must be given):"]
    lines += _settings(plain, _comments(command, choices))
    return "\n".join([*lines, "", END])


def _header(text: str) -> str:
    """Return the comment at the start of a file."""
    lines = text[: len(text) - len(_without_header(text))].splitlines()
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if "@package" not in line)


def _without_header(text: str) -> str:
    return re.sub(r"\A(#.*\n)*", "", text)


def _comments(command: str, choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the comment of each setting in effect, and for each group the first line of its choice's header."""
    found: dict[str, str] = {}
    for group, path in config_files(command):
        if path is None or (group and path.stem not in (choices.get(group), "_base")):
            continue
        text = path.read_text()
        is_global = text.startswith("# @package _global_")
        found |= _comments_of_file(text, group if not is_global else "")
        if group and path.stem == choices.get(group):
            found[group] = f"{path.stem}: {_header(text).partition(chr(10))[0]}".removesuffix(": ")
    return found


def _comments_of_file(text: str, group: str) -> dict[str, str]:
    """Return the comments of a YAML file by full name of the setting: those above its line, and beside it."""
    found, parents, above = {}, [(-1, group)], []
    for line in _without_header(text).splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip(" #"))
        if entry := ENTRY.match(line):
            indent = len(entry["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent]
            name = f"{parents[-1][1]}.{entry['key']}".lstrip(".")
            parents.append((indent, name))
            comment = " ".join([*above, (entry["comment"] or "").strip("# ")]).strip()
            if comment:
                found[name] = comment
            above = []
    return found


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
    lines = textwrap.wrap(text, max(WIDTH - column - len(mark), 40), break_on_hyphens=False)
    first, *others = [f"{mark}{line}" for line in lines] or [""]
    return [f"{left:<{column}}{first}".rstrip(), *(" " * column + line for line in others)]
