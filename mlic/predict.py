"""Score new photographs.

python -m mlic.predict run=<run> images=<folder, files, pattern or list> output=<folder or .csv file>
"""

from functools import partial
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings


@translated_errors()
def predict(config: DictConfig) -> dict[str, str]:
    """Score images, and write a CSV file and a page with the photographs, batch by batch.

    Args:
        config: composed from `conf/predict.yaml`.

    Returns:
        Names of the images that could not be used and the reasons; they are rows of the file, too.

    Raises:
        InputError: the run, images or settings cannot be used.
    """
    check_settings(config, "predict")
    from mlic.inference.predicting import predict_images
    from mlic.inference.prediction_table import output_files
    from mlic.report.prediction_page import open_pages, refuse_other_page

    settings: Any = OmegaConf.to_container(config)
    table, page = output_files(config.output)
    if config.page:
        refuse_other_page(page)
    return predict_images(settings, table, partial(open_pages, page) if config.page else None)


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="predict")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point; exits with status 1 if an image could not be used."""
    if predict(config):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
