"""Score a run on a labelled set.

python -m mlic.evaluate run=<run> data=csv data.annotations=... data.images=... output=<folder>
"""

import logging
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.runs.folder import EVALUATION_FILE, refuse_foreign_folder
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

logger = logging.getLogger(__name__)


@translated_errors()
def evaluate(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Score a run on a labelled set, and write metrics.json, predictions.parquet and evaluation.json.

    Args:
        config: composed from `conf/evaluate.yaml`.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: the run, labels, images or settings cannot be used.
    """
    check_settings(config, "evaluate")
    output = Path(config.output)
    refuse_foreign_folder(
        output, mark=EVALUATION_FILE, text='"images_in_run"', kind="folder of an evaluation"
    )
    # torch and timm take seconds to import, so check the command line first
    from mlic.inference.classifier import Classifier
    from mlic.inference.evaluating import evaluate_run
    from mlic.inference.labelled import read_labelled_set
    from mlic.inference.report import describe, log_evaluation, write

    # keep messages that the user cannot act on out of the log
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    options = {"device": config.device, "packages": config.packages, **config.model.backbone}
    classifier = Classifier.load(config.run, **options)
    labelled = read_labelled_set(
        classifier.saved,
        config.get("data"),
        config.part,
        missing_classes=config.missing_classes,
        class_map=config.class_map,
    )
    evaluated = evaluate_run(
        classifier,
        labelled,
        name=config.part or "all",
        on_bad_image=config.data.on_bad_image if config.get("data") else "error",
        features_dir=config.features.dir,
        num_workers=config.num_workers,
    )
    write(output, evaluated, describe(classifier, labelled, evaluated, config.part))
    log_evaluation(output, evaluated)
    if config.report:
        from mlic.report.report import ReportOptions, write_report

        logger.info("page: %s", write_report(ReportOptions(str(output), output / "report")))
    return evaluated.metrics


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="evaluate")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    evaluate(config)


if __name__ == "__main__":
    run_command(main)
