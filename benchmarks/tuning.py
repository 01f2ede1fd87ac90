"""Time of a search, compared with a sweep of as many runs, as whole commands."""

import numpy as np

from benchmarks.processes import seconds_of
from benchmarks.rows import Row
from benchmarks.setting import Setting

TRIALS = 16


def tuning(setting: Setting) -> list[Row]:
    """Compare `mlic.tune` with `mlic.train -m` over learning rates, and time a search over heads in closed form.

    All read cached features. The search stops bad trials, and trains and tests two of them as ordinary runs at its end.
    """
    number = setting.choose(TRIALS, 3)
    rates = ",".join(f"{rate:.6f}" for rate in np.geomspace(0.0002, 0.005, number))
    space = ["~tune.space.loss", "~tune.space.optimizer", "~tune.space.head"]
    space.append("+tune.space.optimizer={lr: {log_uniform: [0.0002, 0.005]}}")
    _seconds(setting, "mlic.extract", "extracted")
    runs = _seconds(setting, "mlic.train", "runs", "-m", f"optimizer.lr={rates}", key="hydra.sweep.dir")
    trials = _seconds(setting, "mlic.tune", "tuned", *space, f"tune.trials={number}")
    ridge = _seconds(setting, "mlic.tune", "tuned_ridge", "head=ridge")
    rate = 60 * number / trials
    return [
        Row(
            f"mlic.tune, {number} trials / a sweep of {number} runs",
            trials / runs,
            target="<= 0.8",
            detail=f"{trials:.1f} s against {runs:.1f} s; {rate:.1f} trials a minute, two runs at the end included",
        ),
        Row("mlic.tune head=ridge", ridge, "s", target="<= 30", detail="five powers, by leave-one-out"),
    ]


def _seconds(setting: Setting, module: str, name: str, *overrides: str, key: str = "output") -> float:
    store = f"features.dir='{setting.work / 'tuning_store'}'"
    # -m before all other arguments
    own = [*overrides, *setting.overrides(store), f"{key}='{setting.work / name}'"]
    return seconds_of(setting, module, *own)
