"""Early stopping that a resumed run keeps to."""

from typing import Any

import lightning as L
from lightning.pytorch import callbacks
from lightning.pytorch.trainer.states import TrainerFn

STATE_KEY = "stopped"


class EarlyStopping(callbacks.EarlyStopping):
    """Equivalent to its parent, but a run that had stopped does not train one more epoch when it is resumed."""

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note whether training ends with this epoch; checkpoint callbacks run after this one."""
        checkpoint[STATE_KEY] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop at once if the run had."""
        if trainer.state.fn == TrainerFn.FITTING:
            trainer.should_stop = checkpoint.get(STATE_KEY, False)
