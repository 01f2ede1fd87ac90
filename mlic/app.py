"""Try a run on a local page in the browser.

python -m mlic.app run=<run>
"""

import logging
import os
from importlib.util import find_spec
from pathlib import Path

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings


@translated_errors()
def app(config: DictConfig) -> None:
    """Serve the page until the process is interrupted.

    Args:
        config: composed from `conf/app.yaml`.

    Raises:
        InputError: Gradio is not installed, or the run or settings cannot be used.
    """
    check_settings(config, "app")
    if find_spec("gradio") is None:
        raise InputError("mlic.app requires Gradio, in an environment of its own: pip install 'mlic[app]'")
    from mlic.inference.corrections import read_corrections

    read_corrections(Path(config.output))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    from mlic.inference.app import serve
    from mlic.inference.classifier import Classifier
    from mlic.inference.labelling import PhotographLabeller

    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks its own server whether it is ready
    options = {"device": config.device, "packages": config.packages, **config.model.backbone}
    classifier = Classifier.load(config.run, **options)
    labeller = PhotographLabeller(classifier, config.thresholds, config.features.dir)
    served = {key: config[key] for key in ("host", "port", "max_megabytes")}
    serve(labeller, Path(config.output), **served)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="app")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    app(config)


if __name__ == "__main__":
    run_command(main)
