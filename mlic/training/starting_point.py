"""Starting a run from the trained weights of another run."""

import logging
from pathlib import Path

import numpy as np

from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.inference.checkpoint import SavedRun, SeenImages, fingerprints
from mlic.models import Backbone, MultiLabelClassifier

logger = logging.getLogger(__name__)


def refuse_own_output(key: str, run: str | Path | None, output: str | Path) -> None:
    """Refuse a setting that names a run which this run would remove at its beginning.

    Raises:
        InputError: `run` is in `output`.
    """
    if run is not None and Path(output).resolve() in (Path(run).resolve(), *Path(run).resolve().parents):
        raise InputError(
            f"{key}: '{run}' is in output, which is cleared when a run begins. Choose another output."
        )


def start_from(
    saved: SavedRun,
    model: MultiLabelClassifier,
    backbone: Backbone,
    datamodule: MultiLabelDataModule,
) -> SeenImages | None:
    """Load the head of a run, and the trained part of its backbone, into a model.

    Args:
        saved: the run to start from.
        model: model whose weights are set.
        backbone: backbone of the new run.
        datamodule: data module of the new run with digests, after `setup`.

    Returns:
        The images that the weights have seen; None if the run did not record them.

    Raises:
        InputError: classes, backbone or head differ from those of the run, or the run has seen images on which the new
            run is evaluated.
    """
    _check(saved, model, backbone)
    seen = _check_images(saved, datamodule)
    try:
        model.head.load_state_dict(saved.head_state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"init_from: the head of '{saved.checkpoint}' is different ({reason}). Set head and its options, and "
            "model.backbone.pool, as in that run."
        ) from error
    backbone.load_state_dict(saved.backbone_state, strict=False)
    return seen


def _check_images(saved: SavedRun, datamodule: MultiLabelDataModule) -> SeenImages | None:
    """Check that the run has not seen images of val and test (by their bytes); return the seen images."""
    seen = saved.seen
    if saved.split_hash == datamodule.split_hash:
        return seen
    if seen is None or not seen.is_whole:
        logger.warning(
            "init_from: '%s', or a run that it started from, did not record its training images. Scores of val and "
            "test are meaningless for images that it has seen.",
            saved.checkpoint,
        )
    if seen is None:
        return None
    own = fingerprints(datamodule.digests)
    unseen = (("test", ("train", "val")), ("calibration", ("train", "val")), ("val", ("train",)))
    for part, others in unseen:
        rows = getattr(datamodule.split, part)
        found = rows[np.isin(own[rows], np.concatenate([getattr(seen, other) for other in others]))]
        if len(found):
            example = datamodule.table.file_names[found[0]]
            raise InputError(
                f"init_from: {len(found)} of the {len(rows)} {part} images of this run, such as {example}, are among "
                f"the {' and '.join(others)} images of '{saved.checkpoint}' or of a run that it started from: their "
                "scores would be meaningless. Set data and data.split as in that run."
            )
    return seen


def _check(saved: SavedRun, model: MultiLabelClassifier, backbone: Backbone) -> None:
    if saved.classes != model.classes:
        differ = sorted(set(saved.classes) ^ set(model.classes))
        raise InputError(
            f"init_from: '{saved.checkpoint}' has {len(saved.classes)} classes, this run has {len(model.classes)}; "
            f"in only one of them: {', '.join(differ[:10])}. Use the same labels and curation."
        )
    if saved.weights_digest != backbone.weights_digest:
        raise InputError(
            f"init_from: '{saved.checkpoint}' was trained on weights {saved.weights_digest[:12]}..., those of this run "
            f"are {backbone.weights_digest[:12]}... (sha256). Choose the model of that run."
        )
    if not set(saved.backbone_state) <= backbone.trained_names:
        raise InputError(
            f"init_from: '{saved.checkpoint}' trained more of its backbone than this run does. Set features=live and "
            "model.backbone.unfreeze at least as in that run."
        )
