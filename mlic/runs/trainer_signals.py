"""A callback that keeps our signal handlers while Lightning trains."""

import signal
import threading
from typing import Any

import lightning as L

from mlic.runs.signals import exit_if_signalled


class OwnSignals(L.Callback):
    """Restores the handler of SIGTERM that was set when the trainer was created.

    Lightning's handler notifies the other processes by a collective call. If the signal arrives inside another
    collective call, all processes wait for each other until the grace period of Slurm has passed.
    """

    def __init__(self) -> None:
        """Store the current handler."""
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore our handler after Lightning has set its own; Lightning restores it at the end of training."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    on_test_start = on_predict_start = on_train_start

    def on_train_batch_start(self, *arguments: Any) -> None:
        """Exit after a signal whose SystemExit was ignored, as in the destructor of a DataLoader iterator."""
        exit_if_signalled()
