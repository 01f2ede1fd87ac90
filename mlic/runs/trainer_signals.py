"""Keeps signals as they were while Lightning trains."""

import signal
import threading

import lightning as L


class OwnSignals(L.Callback):
    """Puts back the handler of SIGTERM that was there when the trainer was made.

    Lightning's own tells the other processes by a collective call, from wherever the signal found it: if that is inside
    another collective call, all wait for each other, and nothing is left of the time that Slurm gives.
    """

    def __init__(self) -> None:
        """Look at the present handler."""
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has set its handler by now; at the end it puts back the one before."""
        self._put_back()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As in training."""
        self._put_back()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As in training."""
        self._put_back()

    def _put_back(self) -> None:
        if threading.current_thread() is threading.main_thread() and self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
