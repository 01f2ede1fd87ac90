"""Settings in configs of earlier versions that no longer exist."""

from collections.abc import Mapping
from typing import Any

from mlic.errors import InputError

# names and neutral values
REMOVED: dict[str, Any] = {
    "data.class_weights.normalize": False,
    "features.views": 1,
    "loss.alpha": None,
    "mixup": 0,
    "model.backbone.compile": False,
    "model.backbone.layer_decay": 1.0,
    "model.backbone.train_batch_norm": False,
}
# settings that affect the reading of a trained run; the others affected only training
NEEDED = ("features.views", "loss.alpha", "model.backbone.train_batch_norm")


def drop_removed(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Drop settings that no longer exist, so that a run of an earlier version can be read.

    Args:
        settings: one section of the config of a run, without nested sections.
        section: name of the section, such as `model.backbone`.

    Returns:
        The remaining settings.

    Raises:
        InputError: a dropped setting has a value that affects the reading of the run.
    """
    for key, value in settings.items():
        name = f"{section}.{key}"
        if name in NEEDED and value != REMOVED[name]:
            raise InputError(
                f"the run was made with {name}={value} by an earlier version of mlic; this setting no longer exists. "
                "Use that version, or train the run again."
            )
    return {key: value for key, value in settings.items() if f"{section}.{key}" not in REMOVED}
