"""A short description of the data set of a run for the log."""

from typing import Any

import pandas as pd

from mlic.data import MultiLabelDataModule
from mlic.data.split_settings import PARTS

SHOWN_CLASSES = 12


def dataset_table(datamodule: MultiLabelDataModule) -> str:
    """Format the images per part and, for each class (most frequent first), images per part and class weight."""
    table, split = datamodule.table, datamodule.split
    columns: dict[str, Any] = {
        part: table.labels[getattr(split, part)].sum(axis=0, dtype=int) for part in datamodule.parts
    }
    frame = pd.DataFrame({**columns, "weight": datamodule.class_weights}, index=list(table.classes))
    frame = frame.sort_values("train", ascending=False, kind="stable")
    parts = ", ".join(f"{len(getattr(split, part))} {part}" for part in PARTS)
    dropped = len(datamodule.full_table.classes) - len(table.classes)
    lines = [f"{len(table)} images ({parts}), {len(table.classes)} classes ({dropped} dropped as too rare)"]
    if len(frame) > SHOWN_CLASSES:
        half = SHOWN_CLASSES // 2
        head, tail = frame.iloc[:half], frame.iloc[-half:]
        text = pd.concat([head, tail]).to_string(float_format="%.3f").splitlines()
        text.insert(half + 1, f"... {len(frame) - SHOWN_CLASSES} more in dataset.json")
    else:
        text = frame.to_string(float_format="%.3f").splitlines()
    return "\n".join(lines + text)
