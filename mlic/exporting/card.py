"""The model card of a run in the form of Hugging Face, and the upload of an export to its hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import CommitOperationAdd, EvalResult, HfApi, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from mlic.errors import InputError
from mlic.evaluation.bootstrap import Bootstrap
from mlic.evaluation.metrics import evaluate_scores
from mlic.evaluation.predictions import Predictions
from mlic.inference.checkpoint import SavedRun
from mlic.runs.folder import DATASET_FILE
from mlic.runs.reading import read_record

CARD = "README.md"
METRICS = {"map": "mAP", "auc_macro": "AUC (macro)", "f1_macro": "F1 (macro)", "f1_micro": "F1 (micro)"}
FEW, WEAK = 10, 5  # test images below which an AP is too uncertain; number of classes that are named as weak


def write_card(saved: SavedRun, info: Mapping[str, Any], file: Path) -> Path:
    """Write README.md beside an exported model, from the template card.md.

    Args:
        saved: the run, with its folder.
        info: the report of the export.
        file: exported model.

    Raises:
        InputError: the predictions of the run are missing.
    """
    folder = saved.folder or saved.checkpoint.parent
    dataset, limits = read_record(folder, DATASET_FILE)[0], np.array(info["thresholds"])
    test = Predictions.read_parquet(folder / "predictions" / "test.parquet")
    bootstrap = Bootstrap(test, limits, names=list(METRICS))
    intervals = {label: found for name, label in METRICS.items() if (found := bootstrap.interval(name))}
    per_class = evaluate_scores(test.scores, test.targets, test.classes, limits)["per_class"]
    trained, title = dataset.get("counts", {}).get("train", {}), folder.resolve().name
    rows = [
        {"name": name, "train": trained.get(name), "threshold": limit, **own}
        for (name, own), limit in zip(per_class.items(), limits, strict=True)
    ]
    results = [
        EvalResult("image-classification", "custom", "test images", label, round(found.estimate, 4))
        for label, found in intervals.items()
    ]
    data = ModelCardData(
        license=info["weights_license"], library_name="mlic", pipeline_tag="image-classification",
        tags=["multi-label"], model_name=title, eval_results=results,
    )  # fmt: skip
    content = ModelCard.from_template(
        data, template_path=str(Path(__file__).with_name("card.md")), title=title, info=info, rows=rows,
        head=str(saved.config["head"].get("_target_")).rpartition(".")[2], images=dataset.get("images", {}),
        weak=sorted((row for row in rows if row["support"] >= FEW), key=lambda row: row["ap"])[:WEAK],
        intervals=intervals, few=FEW, file=file.name, checkpoint=saved.checkpoint.name,
    )  # fmt: skip
    content.save(path := file.with_name(CARD))
    return path


def check_repository(repository: str) -> None:
    """Check the name of a repository of the Hugging Face hub, without a request.

    Raises:
        InputError: it is not a valid name.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(
            f"push: expected <user>/<name>, got '{repository}' ({error}).", key="push"
        ) from error


def push_files(repository: str, files: Sequence[Path]) -> None:
    """Upload files to a repository of the Hugging Face hub, which is created as a private one if it does not exist.

    Raises:
        InputError: the hub refuses it, for example because nobody is logged in.
    """
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        operations = [CommitOperationAdd(file.name, file) for file in files]
        api.create_commit(repository, operations, commit_message="Upload by mlic.export")
    except Exception as error:  # of the hub, of its client and of the network
        raise InputError(
            f"push={repository}: not uploaded ({error}). Log in with 'hf auth login'; the files are in "
            f"'{files[0].parent}'.",
            key="push",
        ) from error
