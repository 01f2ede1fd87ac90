"""Whole training runs with features computed once, compared with a backbone that runs in every epoch."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from statistics import mean
from typing import Any

import torch

from benchmarks import bare
from benchmarks.rows import Row
from benchmarks.runs import FinishedRun, Interludes, make_backbone, real_run, store_in
from benchmarks.setting import Setting, cores
from benchmarks.timing import measured
from mlic.models import FrozenBackbone

# All images are in train or val, so that each epoch of live training processes all of them, like extraction.
PARTS = ("data.split.test=0", "data.split.val=0.1")
AGREEMENT_EPOCHS = 5
# phases besides reading labels and weights, including descriptions and results
COUNTED_PHASES = ("features", "records", "fit")


def cached_against_live(setting: Setting) -> list[Row]:
    """Measure 40 epochs with averaged features, and a second run on the same images."""
    return _compare(setting, "avg", "live / (extraction + cached), averaged features", interludes=4)


def cached_against_live_flattened(setting: Setting) -> list[Row]:
    """Measure flattened features, which have a large head."""
    return _compare(setting, "flatten", "the same with flattened features", interludes=2)


def agreement(setting: Setting) -> list[Row]:
    """Measure the largest difference of any test metric between cached and live training.

    With few images, one decision that changes at the threshold can change a mean by more than the scores do.
    """
    epochs = setting.choose(AGREEMENT_EPOCHS, 2)
    few = f"trainer.max_epochs={epochs}"
    store = store_in(setting.work / "agreement")
    cached = real_run(
        setting, "cached", few, store, "features.dtype=float32"
    )  # a live backbone rounds nothing
    live = real_run(setting, "live", few, "features=live")
    difference, name = _largest_difference(cached.results["test"], live.results["test"])
    return [
        Row(
            "cached in float32 against live: largest difference of a test metric",
            difference,
            target="<= 0.001",
            detail=f"{name}; {len(setting.photographs())} images, {epochs} epochs, "
            f"mAP {cached.results['test']['map']:.4f} and {live.results['test']['map']:.4f}",
        )
    ]


class _CachedSide:
    """Cached training: a whole run with a new store, its parts alone, and a second run."""

    def __init__(self, setting: Setting, pool: str, options: tuple[str, ...], epochs: int) -> None:
        self.setting, self.pool, self.options, self.epochs = setting, pool, options, epochs
        self.backbone = make_backbone(setting, f"model.backbone.pool={pool}")
        self.paths = setting.photographs()
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def measure(self) -> None:
        """Measure everything once more."""
        store = self.setting.work / f"store_{self.pool}"
        shutil.rmtree(store, ignore_errors=True)
        self.seconds["E"].append(_seconds_of_a_pass(self.backbone, self.paths))
        cached = real_run(self.setting, f"cached_{self.pool}", *self.options, store_in(store))
        for phase in COUNTED_PHASES:
            self.seconds[phase].append(cached.seconds[phase])
        self.seconds["H"].append(
            _seconds_of_head(cached, self.backbone, self.epochs, torch.get_num_threads())
        )
        if self.pool == "avg":  # runs train such a head on one thread
            self.seconds["H alone"].append(_seconds_of_head(cached, self.backbone, self.epochs, 1))
        one = "trainer.max_epochs=1"
        again = real_run(self.setting, f"again_{self.pool}", *self.options, one, store_in(store))
        self.seconds["again"].append(again.seconds["features"])


def _compare(setting: Setting, pool: str, name: str, *, interludes: int) -> list[Row]:
    epochs = _affordable_epochs(setting, pool)
    options = (*PARTS, f"trainer.max_epochs={epochs}", f"model.backbone.pool={pool}")
    other = _CachedSide(setting, pool, options, epochs)
    number = setting.choose(interludes, 1)
    between = Interludes(other.measure, {int((place + 0.5) / number * epochs) for place in range(number)})
    live = real_run(setting, f"live_{pool}", *options, "features=live", interludes=between)
    live_seconds = sum(live.seconds[phase] for phase in COUNTED_PHASES)
    seconds = {key: mean(values) for key, values in other.seconds.items()}
    cached_seconds = sum(seconds[phase] for phase in COUNTED_PHASES)
    one_pass, head = seconds["E"], seconds["H"]
    ratio, ideal = live_seconds / cached_seconds, (epochs * one_pass + head) / (one_pass + head)
    passes = ", ".join(f"{value:.1f}" for value in other.seconds["E"])
    alone = f"; on one {seconds['H alone']:.1f} s" if "H alone" in seconds else ""
    return [
        Row(
            f"{name}: share of the ideal",
            ratio / ideal,
            target=">= 0.85",
            detail=f"ratio {ratio:.1f}, ideal ({epochs} E + H) / (E + H) = {ideal:.1f}; {len(other.paths)} images, "
            f"{epochs} epochs; live {live_seconds:.1f} s; means of {len(other.seconds['E'])} measurements among its "
            f"epochs: extraction {seconds['features']:.1f} s + cached {seconds['fit']:.1f} s + records "
            f"{seconds['records']:.1f} s (phases {', '.join(COUNTED_PHASES)} of status.json, on both sides); E "
            f"{one_pass:.1f} s ({passes}), H {head:.1f} s (bare loop on torch's own number of threads{alone})",
        ),
        Row(
            f"second run on the same images, {pool}: share of the first one's time for features",
            seconds["again"] / seconds["features"],
            target="< 0.02",
            detail=f"{seconds['again']:.3f} s of {seconds['features']:.1f} s",
        ),
    ]


def _affordable_epochs(setting: Setting, pool: str) -> int:
    """Estimate the number of epochs that a live run can do in the allowed time."""
    paths = setting.photographs()
    sample = paths[: setting.choose(128, 16)]
    backbone = make_backbone(setting, f"model.backbone.pool={pool}")
    _seconds_of_a_pass(backbone, sample[:32])
    seconds = _seconds_of_a_pass(backbone, sample)
    head = bare.made_training(64, backbone.feature_shape, 50, num_train=64)
    head.epoch()
    with measured() as clock:
        head.epoch()
    seconds_an_image = seconds / len(sample) + clock.wall / 64
    affordable = int(60 * setting.live_minutes / seconds_an_image / len(paths))
    return min(setting.epochs, max(2, affordable))


def _seconds_of_a_pass(backbone: FrozenBackbone, paths: list[Any]) -> float:
    with measured() as clock:
        bare.extract(paths, backbone, cores())
    return clock.wall


def _seconds_of_head(run: FinishedRun, backbone: FrozenBackbone, epochs: int, threads: int) -> float:
    """Measure H, all epochs of the head in a bare loop with the sizes of a run."""
    images = run.read("dataset.json")["images"]
    classes = run.read("dataset.json")["classes"]
    loop = bare.made_training(
        images["train"] + images["val"], backbone.feature_shape, len(classes), num_train=images["train"]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    loop.epoch()
    torch.manual_seed(0)
    with measured() as clock:
        for _ in range(epochs):
            loop.epoch()
    torch.set_num_threads(before)
    return clock.wall


def _largest_difference(cached: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[float, str]:
    """Return the largest difference of all averaged metrics, and its name."""
    differences = {
        name: abs(value - live[name]) for name, value in cached.items() if isinstance(value, float)
    }
    name = max(differences, key=differences.__getitem__)
    return differences[name], name
