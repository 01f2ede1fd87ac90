"""Trials of whole runs, for settings that heads cannot share, such as the backbone."""

from pathlib import Path

from omegaconf import DictConfig
from optuna import Trial

from mlic.errors import InputError
from mlic.training.closed_form import LEFT_OUT
from mlic.training.run import run
from mlic.tuning.trials import trains_in_epochs

TRIALS = "trials"  # folder of the runs
FOLDER = "folder"  # attribute of trials


class RunTrials:
    """Trains and tests a trial as an ordinary run in `<output>/trials/<number>`; only its val metrics are used."""

    def __init__(self, config: DictConfig) -> None:
        """Create the function for `Search` from the given config."""
        self.metric, self.folder = config.tune.metric, Path(config.output).resolve() / TRIALS

    def __call__(self, config: DictConfig, trial: Trial) -> float:
        """Return the metric of a trial on val or, for a head in closed form without val, of its leave-one-out."""
        config.output = str(self.folder / str(trial.number))
        trial.set_user_attr(FOLDER, config.output)
        del config.tune
        results = run(config)
        # leave-one-out scores may be those of a part of the head
        left_out = {} if trains_in_epochs(config) else results.get(LEFT_OUT, {})
        value = results.get("val", left_out).get(self.metric)
        if value is None:
            raise InputError(
                f"tune.metric={self.metric}: the run has no such metric on val. Set data.split.val above 0.",
                key="tune.metric",
            )
        return value
