"""Keeps signals as they were while Lightning trains."""

import signal
import threading
from typing import Any

import lightning as L

from mlic.runs.signals import exit_if_signalled


class OwnSignals(L.Callback):
    """Restores the handler of SIGTERM that was set when the trainer was made.

    Lightning's own tells the other processes by a collective call, from wherever the signal found it: if that is inside
    another collective call, all wait for each other, and nothing is left of the time that Slurm gives.
    """

    def __init__(self) -> None:
        """Look at the present handler."""
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has set its handler by now; at the end it restores the one before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    on_test_start = on_predict_start = on_train_start

    def on_train_batch_start(self, *arguments: Any) -> None:
        """End after a signal whose SystemExit was ignored, as in the destructor of a DataLoader's iterator."""
        exit_if_signalled()
