"""Score new photographs.

python -m mlic.predict run=<run> images=<folder, files or pattern> output=predictions.csv
"""

import logging
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

logger = logging.getLogger(__name__)

ERRORS_SHOWN = 5


@translated_errors()
def predict(config: DictConfig) -> dict[str, str]:
    """Score images and write a CSV file, batch by batch.

    Args:
        config: composed from `conf/predict.yaml`.

    Returns:
        Names of the images that could not be used and the reasons; they are rows of the file, too.

    Raises:
        InputError: the run, images or settings cannot be used.
    """
    check_settings(config, "predict")
    from mlic.inference.listing import list_images
    from mlic.inference.prediction_table import open_predictions, prediction_rows, refuse_other_file

    output = Path(config.output)
    refuse_other_file(output)
    images = OmegaConf.to_container(config.images) if OmegaConf.is_list(config.images) else config.images
    paths, names = list_images(images)  # pyright: ignore[reportArgumentType]
    # torch and timm take seconds to import, so find the images first
    from tqdm import tqdm

    from mlic.inference.classifier import Classifier

    options = {"device": config.device, "packages": config.packages, **config.model.backbone}
    classifier = Classifier.load(config.run, **options)
    thresholds = classifier.choose_thresholds(config.thresholds)
    bad: dict[str, str] = {}
    start, done = time.perf_counter(), 0
    batches = classifier.stream(paths, batch_size=config.batch_size, num_workers=config.num_workers)
    with (
        open_predictions(output) as file,
        tqdm(total=len(paths), unit="image", disable=None, dynamic_ncols=True) as bar,
    ):
        for batch in batches:
            batch_names = names[done : done + len(batch.paths)]
            file.append(prediction_rows(batch_names, batch, classifier.classes, thresholds, config.top_k))
            bad |= {name: error for name, error in zip(batch_names, batch.errors, strict=True) if error}
            done += len(batch_names)
            bar.update(len(batch_names))
    seconds = time.perf_counter() - start
    logger.info("%d images scored in %.1f s, written to %s", len(paths) - len(bad), seconds, config.output)
    _tell(bad, len(paths))
    return bad


def _tell(bad: dict[str, str], total: int) -> None:
    if bad:
        shown = [f"  {name}: {reason}" for name, reason in list(bad.items())[:ERRORS_SHOWN]]
        shown += [f"  and {len(bad) - ERRORS_SHOWN} more"] if len(bad) > ERRORS_SHOWN else []
        listing = "\n".join(shown)
        logger.error(
            "%d of %d images could not be used; see the column 'error':\n%s", len(bad), total, listing
        )


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="predict")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point; exits with status 1 if an image could not be used."""
    if predict(config):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
