"""The metrics of a run as a short text, for the log."""

from typing import Any

import pandas as pd

SHOWN_METRICS = (
    "loss", "map", "auc_micro", "auc_macro", "precision_micro", "recall_micro", "f1_micro",
    "precision_macro", "recall_macro", "cf1", "of1",
)  # fmt: skip


def metrics_table(results: dict[str, dict[str, Any]]) -> str:
    """One column a part, one row a metric, at threshold 0.5 or the calibrated ones."""
    frame = pd.DataFrame(
        {part: {name: values.get(name) for name in SHOWN_METRICS} for part, values in results.items()}
    )
    title = "metrics of the selected weights, at threshold 0.5 (calibrated: at the tuned thresholds of each class)"
    return f"{title}\n{frame.astype(float).to_string(float_format='%.4f', na_rep='-')}"
