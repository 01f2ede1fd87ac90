"""The settings of a split, `data.split` in the config."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from mlic.errors import InputError, check_choice, setting_error
from mlic.seeds import check_seed

PARTS = ("train", "val", "test", "calibration")
GROUPINGS = ("column", "folder", "name", "duplicates")


@dataclass(frozen=True)
class GroupSettings:
    """Images that must stay in one part, `data.split.groups`.

    Attributes:
        by: `column` (a column of the annotations), `folder`, `name` (a regular expression), `duplicates` (near
            duplicates); None for files of identical bytes only.
        value: name of the column; number of leading folders (None: the folder of the file); or regular expression,
            whose first group, or else the whole match, identifies the group.
        on_divided: `error` or `warn` if given parts divide a group.
        threshold: least similarity of near duplicates, a cosine of whitened features.
    """

    by: str | None = None
    value: str | int | None = None
    on_divided: str = "error"
    threshold: float = 0.6


@dataclass(frozen=True)
class SplitSettings:
    """Settings of `stratified_split`.

    Attributes:
        test: share of all images; 0 leaves the part empty. Ignored if the test part is given.
        val: as `test`; all shares together must be below 1.
        calibration: as `test`; images that choose nothing, for thresholds with a guarantee.
        seed: seed of the shuffle and of ties.
        on_missing: `error` or `warn` if a part has no image of a class.
        folds: number of folds for cross-validation, one of which is the test part in place of the share `test`.
        fold: number of the test fold, from 0 to `folds` - 1; with `column`, its value in the column. In a config it
            may be null: `mlic.train` then runs all folds (`mlic.training.folds`), and other commands take fold 0.
        column: column of the annotations with the part of each image or, with `folds`, the number of its fold.
        values: maps values of the column to `train`, `val` or `test`; None recognises the usual names.
        files: maps parts to files that list their images, or one file with the part of each image.
        unlisted: `error`, `train` or `drop`: images without a part, if only some images have one.
        official: `use` or `ignore` the parts that the annotations bring.
        keep: run folder or `split.csv` of an earlier split, whose images keep their parts.
        groups: images that must stay in one part.
    """

    test: float = 0.2
    val: float = 0.1
    calibration: float = 0.0
    seed: int = 0
    on_missing: str = "error"
    folds: int | None = None
    fold: int = 0
    column: str | None = None
    values: Mapping[Any, str] | None = None
    files: Mapping[str, str] | str | None = None
    unlisted: str = "error"
    official: str = "use"
    keep: str | None = None
    groups: GroupSettings = field(default_factory=GroupSettings)

    @classmethod
    def of(cls, options: "Mapping[str, Any] | SplitSettings") -> Self:
        """Create settings from a mapping such as `config.data.split`, and check what does not depend on the data.

        Raises:
            InputError: a setting is unknown or out of range, or settings contradict each other.
        """
        if isinstance(options, cls):
            return options
        given = _plain(options)
        if isinstance(given, dict) and given.get("fold", 0) is None:
            del given["fold"]
        try:
            settings = cls(**{**given, "groups": GroupSettings(**(given.get("groups") or {}))})
        except (AttributeError, TypeError) as error:  # not a mapping, or an unknown name
            raise InputError(f"data.split: {error}.", key="data.split") from error
        settings._check()
        return settings

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        return asdict(self)

    def _check(self) -> None:
        check_seed("data.split.seed", self.seed)
        for part in PARTS[1:]:
            if not 0 <= getattr(self, part) < 1:
                raise InputError(
                    f"data.split.{part}={getattr(self, part)}: expected a share, from 0 to below 1."
                )
        check_choice("data.split.on_missing", self.on_missing, ("error", "warn"))
        check_choice("data.split.unlisted", self.unlisted, ("error", "train", "drop"))
        check_choice("data.split.official", self.official, ("use", "ignore"))
        check_choice("data.split.groups.on_divided", self.groups.on_divided, ("error", "warn"))
        if self.groups.by is not None:
            check_choice("data.split.groups.by", self.groups.by, GROUPINGS)
        for part in (self.values or {}).values():
            check_choice("data.split.values", part, PARTS)
        for part in self.files if isinstance(self.files, Mapping) else ():
            check_choice("data.split.files", part, PARTS)
        for one, other in (("column", "files"), ("keep", "folds")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise setting_error(
                    f"data.split.{other}", f"data.split.{one} is set, too; set only one of them"
                )


def _plain(value: Any) -> Any:
    """Convert nested mappings, also those of OmegaConf, to dicts."""
    return {key: _plain(value[key]) for key in value} if isinstance(value, Mapping) else value
