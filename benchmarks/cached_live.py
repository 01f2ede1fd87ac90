"""Whole training runs with features computed once, compared with a backbone that runs in every epoch."""

from benchmarks.rows import Row
from benchmarks.runs import real_run, store_in
from benchmarks.setting import Setting

# All images are in train or val, so that each epoch of live training processes all of them, like extraction.
PARTS = ("data.split.test=0", "data.split.val=0.1")


def cached_against_live(setting: Setting) -> list[Row]:
    """Measure 40 epochs on stored features, a second run on the same images, and a few live epochs."""
    few, store = setting.choose(3, 1), store_in(setting.work / "store")
    live = real_run(setting, "live", *PARTS, f"trainer.max_epochs={few}", "features=live").seconds
    cached = real_run(setting, "cached", *PARTS, store).seconds
    again = real_run(setting, "again", *PARTS, store, "trainer.max_epochs=1").seconds
    epoch, whole = live["fit"] / few, cached["features"] + cached["fit"]
    return [
        Row(
            f"{setting.epochs} live epochs / extraction and {setting.epochs} epochs on stored features",
            setting.epochs * epoch / whole,
            detail=f"{len(setting.photographs())} images; {epoch:.1f} s a live epoch, mean of {few}; extraction "
            f"{cached['features']:.1f} s, head {cached['fit']:.1f} s",
        ),
        Row(
            "second run on the same images: share of the first one's time for features",
            again["features"] / cached["features"],
            target="< 0.02",
            detail=f"{again['features']:.3f} s of {cached['features']:.1f} s",
        ),
    ]
