"""Score new photographs.

python -m mlic.predict run=<run> images=<folder, files, pattern or list> output=<folder or .csv file>
"""

import logging
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.runs.folder import GUARANTEES_FILE
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

if TYPE_CHECKING:  # it imports torch
    from mlic.inference.classifier import Classifier

logger = logging.getLogger(__name__)

ERRORS_SHOWN = 5


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
    from mlic.inference.listing import list_images
    from mlic.inference.prediction_table import (
        open_predictions,
        output_files,
        prediction_rows,
        refuse_other_file,
    )
    from mlic.inference.prelabels import PreLabels

    plain: Any = OmegaConf.to_container(config)
    table_file, page_file = output_files(config.output)
    refuse_other_file(table_file)
    if config.page:
        from mlic.report.prediction_page import open_pages, refuse_other_page

        refuse_other_page(page_file)
    paths, names = list_images(plain["images"])
    prelabels = config.write and PreLabels(config.write, table_file.parent, names)
    # torch and timm take seconds to import, so find the images first
    from tqdm import tqdm

    from mlic.inference.classifier import Classifier

    options = {"device": config.device, "packages": config.packages, **config.model.backbone}
    classifier = Classifier.load(config.run, **options)
    upper, lower = _thresholds(classifier, config.run, plain["thresholds"], ask=config.ask)
    bad: dict[str, str] = {}
    counts: Counter[str] = Counter()
    start, done = time.perf_counter(), 0
    with ExitStack() as stack:
        file = stack.enter_context(open_predictions(table_file))
        pages = config.page and stack.enter_context(
            open_pages(
                page_file,
                title=f"Predictions of {classifier.backbone.name}",
                classes=classifier.classes,
                upper=upper,
                lower=lower,
                total=len(paths),
                table=table_file.name,
                bits_stored=classifier.bits_stored,
            )
        )
        bar = stack.enter_context(tqdm(total=len(paths), unit="image", disable=None, dynamic_ncols=True))
        for batch in classifier.stream(paths, batch_size=config.batch_size, num_workers=config.num_workers):
            own = names[done : done + len(batch.paths)]
            rows = prediction_rows(own, batch, classifier.classes, upper, config.top_k, lower)
            file.append(rows)
            if pages:
                pages.append(own, paths[done : done + len(own)], batch.scores, batch.errors)
            bad |= {name: error for name, error in zip(own, batch.errors, strict=True) if error}
            counts["none"] += int(np.sum((rows["labels"] == "") & (rows["error"] == "")))
            counts["labels"] += int((batch.scores > upper).sum())
            if prelabels:
                prelabels.append(own, batch.scores, upper, classifier.classes)
            if lower is not None:
                asked = (batch.scores > lower) & (batch.scores <= upper)
                counts["asked"] += int(asked.sum())
                counts["open"] += int(asked.any(axis=1).sum())
            done += len(own)
            bar.update(len(own))
    scored = len(paths) - len(bad)
    logger.info(
        "%d images scored in %.1f s: %.2f labels an image, %d images without a label; written to %s%s",
        *(scored, time.perf_counter() - start, counts["labels"] / max(1, scored), counts["none"]),
        *(table_file, f" and {page_file}" if config.page else ""),
    )
    if prelabels:
        logger.info("predicted labels for other programs written to %s", prelabels.write())
    if config.ask and scored:
        decisions = scored * len(classifier.classes)
        logger.info(
            "to ask: %d of %d labels (%.1f %%), in %d of %d images",
            *(counts["asked"], decisions, 100 * counts["asked"] / decisions, counts["open"], scored),
        )
    _log_errors(bad, len(paths))
    return bad


def _thresholds(
    classifier: "Classifier", run: str, setting: Any, *, ask: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the thresholds above which labels are predicted and, with `ask`, those up to which they are absent."""
    from mlic.inference.guarantees import answer_thresholds

    if not ask:
        return classifier.choose_thresholds(setting), None
    file = Path(run) / GUARANTEES_FILE if setting == "calibrated" else Path(str(setting))
    return answer_thresholds(file, classifier.classes, classifier.saved.checkpoint)


def _log_errors(bad: dict[str, str], total: int) -> None:
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
