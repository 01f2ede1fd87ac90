"""Score a run on a labelled set.

python -m mlic.evaluate run=<run> data=csv data.annotations=... data.images=... output=<folder>
python -m mlic.evaluate run=<run> precision=0.9 recall=0.9     thresholds with a guarantee, from its own scores
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.runs.folder import EVALUATION_FILE, GUARANTEES_FILE, refuse_foreign_folder
from mlic.runs.system_errors import translated_errors
from mlic.settings import check_settings

logger = logging.getLogger(__name__)


@translated_errors()
def evaluate(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Score a run on a labelled set, and write metrics.json, predictions.parquet and evaluation.json.

    Args:
        config: composed from `conf/evaluate.yaml`.

    Returns:
        The content of metrics.json; of guarantees.json if only stored scores of the run are used.

    Raises:
        InputError: the run, labels, images or settings cannot be used.
    """
    check_settings(config, "evaluate")
    guaranteed = {key: config[key] for key in ("precision", "recall", "confidence", "per_class")}
    wanted = config.precision is not None or config.recall is not None
    if wanted and config.get("data") is None and config.part is None:
        return _guarantee_stored(config, guaranteed)
    if config.output is None:
        raise InputError("output must be given, such as output=outputs/results.", key="output")
    output = Path(config.output)
    refuse_foreign_folder(
        output, mark=EVALUATION_FILE, text='"images_in_run"', kind="folder of an evaluation"
    )
    # torch and timm take seconds to import, so check the command line first
    from mlic.inference.classifier import Classifier
    from mlic.inference.evaluating import evaluate_run
    from mlic.inference.guarantees import guarantee, write_guarantees
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
    (output / GUARANTEES_FILE).unlink(missing_ok=True)  # of an earlier evaluation
    if wanted:
        chosen = _why_estimate(evaluated.in_run)
        source = config.part or f"the set {labelled.source.get('annotations', '')}"
        checkpoint = classifier.saved.checkpoint
        content = guarantee(evaluated.predictions, checkpoint, source, chosen, **guaranteed)
        write_guarantees(output, content)
    if config.report:
        from mlic.report.report import ReportOptions, write_report

        logger.info("page: %s", write_report(ReportOptions(str(output), output / "report")))
    return evaluated.metrics


def _why_estimate(in_run: Mapping[str, int] | None) -> str:
    """Return why guarantees from a labelled set are only estimates; empty if they are promises."""
    if in_run is None:
        return "it is unknown whether the images chose the weights"
    return "some of the images chose the weights" if in_run["train"] + in_run["val"] else ""


def _guarantee_stored(config: DictConfig, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Guarantee from the stored scores of a run, and write guarantees.json beside them and to `output`."""
    from mlic.inference.checkpoint import find_checkpoint
    from mlic.inference.guarantees import guarantee_stored, write_guarantees

    run, checkpoint = Path(config.run), find_checkpoint(Path(config.run))
    if not run.is_dir():
        raise InputError(f"run: '{run}' is a checkpoint without a run folder; set part= or data=.", key="run")
    output = Path(config.output or run)
    if output != run:
        refuse_foreign_folder(output, mark=GUARANTEES_FILE, text='"checkpoint"', kind="folder of guarantees")
    content = guarantee_stored(run, checkpoint, **options)
    for folder in {run, output}:
        write_guarantees(folder, content)
    return content


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="evaluate")
@ending_in_order()
def main(config: DictConfig) -> None:
    """Hydra entry point."""
    evaluate(config)


if __name__ == "__main__":
    run_command(main)
