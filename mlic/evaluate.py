"""Score a run on a labelled set.

python -m mlic.evaluate run=<run> data=csv data.annotations=... data.images=... output=<folder>
python -m mlic.evaluate run=<run> precision=0.9 recall=0.9     thresholds with a guarantee, from its own scores
"""

import logging
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from mlic.command_line import ending_in_order, run_command
from mlic.config import CONFIG_DIR
from mlic.errors import InputError
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
        The content of metrics.json; of guarantees.json if only stored scores of the run are used.

    Raises:
        InputError: the run, labels, images or settings cannot be used.
    """
    check_settings(config, "evaluate")
    promised = {key: config[key] for key in ("precision", "recall", "confidence", "per_class")}
    output = config.output and Path(config.output)
    has_levels, data = config.precision is not None or config.recall is not None, config.get("data")
    if has_levels and data is None and config.part is None:
        from mlic.inference.guarantees import guarantee_stored

        return guarantee_stored(Path(config.run), output, **promised)
    if not output:
        raise InputError("output must be given, such as output=outputs/results.", key="output")
    kind = "folder of an evaluation"
    refuse_foreign_folder(output, mark=EVALUATION_FILE, text='"images_in_run"', kind=kind)
    # torch and timm take seconds to import, so check the command line first
    from mlic.inference.classifier import Classifier
    from mlic.inference.evaluating import evaluate_run, write_evaluation
    from mlic.inference.guarantees import write_guarantees
    from mlic.inference.labelled import read_labelled_set

    # keep messages that the user cannot act on out of the log
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    options = {"device": config.device, "packages": config.packages, **config.model.backbone}
    classifier, part = Classifier.load(config.run, **options), config.part
    matching = {"missing_classes": config.missing_classes, "class_map": config.class_map}
    labelled = read_labelled_set(classifier.saved, data, part, **matching)
    options = {"features_dir": config.features.dir, "num_workers": config.num_workers}
    on_bad_image = data.on_bad_image if data else "error"
    evaluated = evaluate_run(classifier, labelled, name=part or "all", on_bad_image=on_bad_image, **options)
    write_evaluation(output, classifier, labelled, evaluated, part)
    if has_levels:
        source = part or f"the set {labelled.source.get('annotations', '')}"
        scores = (evaluated.predictions, classifier.saved.checkpoint, source, evaluated.selection)
        write_guarantees({output}, *scores, **promised)
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
