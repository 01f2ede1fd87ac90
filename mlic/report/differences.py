"""The settings in which runs differ, and runs that differ in their seed alone."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mlic.config import WITHOUT_EFFECT
from mlic.report.comparison import HALF, Comparison
from mlic.report.reading import ReportedRun
from mlic.report.run_tables import class_name
from mlic.report.tables import Column, Table

# here the data count, which a resumed run checks by their digests
IGNORED = tuple(name for name in WITHOUT_EFFECT if name not in ("data.annotations", "data.images"))
UNSET = "not set"


def differing_settings(runs: Sequence[ReportedRun]) -> dict[str, list[str]]:
    """Return the settings in which runs differ, with their values as text in the order of the runs.

    Settings that change no result are left out. Of several settings that have the same last word and the same values,
    such as `seed` and `data.seed`, only the first counts, because one is usually taken from the other.
    """
    known = [run.settings for run in runs]
    found: dict[tuple[str, ...], str] = {}
    for name in sorted({name for own in known for name in own}, key=lambda name: (name.count("."), name)):
        if any(name == ignored or name.startswith(f"{ignored}.") for ignored in IGNORED):
            continue
        values = tuple(_text(name, own.get(name, UNSET)) for own in known)
        if len({*values}) > 1:
            found.setdefault((name.rpartition(".")[2], *values), name)
    return {name: list(values) for (_, *values), name in sorted(found.items(), key=lambda item: item[1])}


def _text(name: str, value: Any) -> str:
    if name.endswith("_target_"):
        return class_name(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def difference_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of exactly the settings in which the runs differ, one row per setting."""
    runs = [run for run in runs if run.settings]
    found = differing_settings(runs) if len(runs) > 1 else {}
    columns = {
        "setting": Column("setting"),
        **{f"run:{run.name}": Column(run.name, "message") for run in runs},
    }
    rows = [
        dict(zip(columns, (name.removesuffix("._target_"), *values), strict=True))
        for name, values in found.items()
    ]
    return Table("differences", "What differs", columns, pd.DataFrame(rows))


def seed_notes(comparison: Comparison) -> list[str]:
    """Describe the spread of the mAP of runs on the same test images that differ in their seed alone."""
    notes = []
    for group in comparison.groups:
        sets: dict[str, list[str]] = {}
        for name in group:
            own = comparison.runs[name].settings
            same = {
                key: value
                for key, value in own.items()
                if key.rpartition(".")[2] != "seed"
                and not any(f"{key}.".startswith(f"{word}.") for word in IGNORED)
            }
            sets.setdefault(str(sorted(same.items())) if own else name, []).append(name)
        for names in sets.values():
            found = [comparison.interval(name, HALF, "map") for name in names]
            values = pd.Series([item.estimate for item in found if item is not None])
            if len(values) > 1:
                notes.append(
                    f"{', '.join(names)} differ in the seed alone: their mAP is {values.min():.3f} to "
                    f"{values.max():.3f}, mean {values.mean():.3f}, standard deviation {values.std():.3f}."
                )
    return notes
