"""Time of a search over many heads at once, compared with consecutive runs, as whole commands."""

from benchmarks.processes import seconds_of
from benchmarks.rows import Row
from benchmarks.setting import Setting
from mlic.config import compose_with_choices
from mlic.tuning.results import write_experiment
from mlic.tuning.trials import make_trials

HEADS, MEASURED = 64, 8


def tuning(setting: Setting) -> list[Row]:
    """Compare `mlic.tune` with 64 heads and `mlic.train -m` on some of the same settings, with cached features."""
    heads, measured = setting.choose(HEADS, 4), setting.choose(MEASURED, 2)
    store = [f"features.dir='{setting.work / 'tuning_store'}'"]
    base = [*setting.overrides(*store), f"tune.heads={heads}"]
    _seconds(setting, "mlic.extract", [*setting.overrides(*store)], "tuning_features")
    names = _write_settings(setting, base, measured)
    sweep = ["-m", f"--config-dir={setting.work / 'settings'}", f"hydra.sweep.dir={setting.work / 'sweep'}"]
    one, all_measured = (
        _seconds(setting, "mlic.train", [*sweep, *setting.overrides(*store), f"experiment={','.join(own)}"])
        for own in (names[:1], names)
    )
    a_run = (all_measured - one) / (measured - 1)
    scaled = one + (heads - 1) * a_run
    together = _seconds(setting, "mlic.tune", [*base, "tune.halving=null"], "tuned")
    halving = _seconds(setting, "mlic.tune", base, "tuned_halving")
    runs = (
        f"{heads} such runs {scaled:.0f} s: {measured} were run in {all_measured:.1f} s, one in {one:.1f} s: "
        f"{a_run:.2f} s each, the others scaled by count; all whole commands, features cached before"
    )
    return [
        Row(
            f"mlic.tune, {heads} heads, all to the end / a sweep of mlic.train over the same settings",
            together / scaled,
            target="<= 0.25",
            detail=f"{together:.1f} s; {runs}",
        ),
        Row(
            "the same with successive halving",
            halving / scaled,
            target="<= 0.125",
            detail=f"{halving:.1f} s, the winner's own run and test included in both",
        ),
    ]


def _write_settings(setting: Setting, base: list[str], number: int) -> list[str]:
    """Write experiment files of evenly spaced trials and return their names."""
    config, choices = compose_with_choices(*base, output=setting.work / "unused", config_name="tune")
    trials, _ = make_trials(config, choices)
    chosen = trials[:: max(1, len(trials) // number)][:number]
    for trial in chosen:
        own = {**choices, **{key: value for key, value in trial.settings.items() if "." not in key}}
        write_experiment(setting.work / "settings", trial.config, own, trial, name=f"trial_{trial.number}")
    return [f"trial_{trial.number}" for trial in chosen]


def _seconds(setting: Setting, module: str, arguments: list[str], output: str | None = None) -> float:
    """Return the seconds of a whole command with its results in the folder of the benchmark."""
    place = [f"output='{setting.work / output}'"] if output else []
    return seconds_of(setting, module, *arguments, *place)
