"""Export a run to one file that contains preprocessing, backbone, head and a proof.

python -m mlic.export run=<run> output=model.onnx
"""

from typing import Any

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import InputError, check_choice
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

CHOICES = {"format": ("onnx", "torch"), "precision": ("float32", "int8"), "resize": ("graph", "outside")}


@translated_errors()
def export(config: DictConfig) -> dict[str, Any]:
    """Export a run, or check an exported model.

    Args:
        config: composed from `conf/export.yaml`.

    Returns:
        The figures of the proof, and of an export the content of the report.

    Raises:
        InputError: settings, the run or the model cannot be used, or scores differ from those of the run.
    """
    check_settings(config, "export")
    for key, choices in CHOICES.items():
        check_choice(key, config[key], choices)
    needed = ("check", "images") if config.check else ("run", "output")
    if absent := [key for key in needed if config[key] is None]:
        raise InputError(
            f"{absent[0]} is missing. Expected run=<run> output=model.onnx, or check=model.onnx images=<folder>.",
            key=absent[0],
        )
    # onnx and torch take seconds to import, so check the command line first
    from mlic.exporting.run import check_file, check_settings_of_export, export_run

    check_settings_of_export(config)
    return check_file(config) if config.check else export_run(config)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="export")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    export(config)


if __name__ == "__main__":
    run_command(main)
