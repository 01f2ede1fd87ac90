"""Start a run from the trained weights of another."""

from pathlib import Path

from mlic.errors import InputError
from mlic.inference.checkpoint import SavedRun, read_run
from mlic.models import Backbone, MultiLabelClassifier


def start_from(run: str | Path, model: MultiLabelClassifier, backbone: Backbone) -> None:
    """Give a model the head of a run, and what the run trained of its backbone.

    Args:
        run: folder (its chosen checkpoint) or checkpoint file.
        model: whose weights are set.
        backbone: of the new run.

    Raises:
        InputError: other classes, another backbone or another head than the run's.
    """
    saved = read_run(run)
    _check(saved, model, backbone)
    try:
        model.head.load_state_dict(saved.head_state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"init_from: the head of '{saved.checkpoint}' is another one ({reason}). Set head and its options, and "
            "model.backbone.pool, as in that run."
        ) from error
    backbone.load_state_dict(saved.backbone_state, strict=False)


def _check(saved: SavedRun, model: MultiLabelClassifier, backbone: Backbone) -> None:
    if saved.classes != model.classes:
        differ = sorted(set(saved.classes) ^ set(model.classes))
        raise InputError(
            f"init_from: '{saved.checkpoint}' knows {len(saved.classes)} classes, this run has {len(model.classes)}; "
            f"in one of them only: {', '.join(differ[:10])}. Use the same labels and curation."
        )
    if saved.weights_digest != backbone.weights_digest:
        raise InputError(
            f"init_from: '{saved.checkpoint}' was trained on weights {saved.weights_digest[:12]}..., this run's are "
            f"{backbone.weights_digest[:12]}... (sha256). Choose the model of that run."
        )
    if not set(saved.backbone_state) <= backbone.trained_names:
        raise InputError(
            f"init_from: '{saved.checkpoint}' trained more of its backbone than this run does. Set features=live and "
            "model.backbone.unfreeze at least as in that run."
        )
