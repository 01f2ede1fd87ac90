"""One job of Hydra: logging of its error, and release of its memory."""

import gc
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from mlic.errors import NO_WEIGHTS_KEY, InputError, check_choice
from mlic.process_settings import configure_process

logger = logging.getLogger(__name__)

ON_ERROR = ("continue", "stop", "skip")


@contextmanager
def reported_job(config: DictConfig) -> Iterator[None]:
    """Write the traceback of a failed job to its train.log; Hydra shows it only at the end of the sweep.

    A single run raises its error. With `on_error=stop`, an
    error ends the sweep with exit status 1 on Hydra's basic launcher; other launchers run jobs elsewhere. With
    `on_error=skip`, a job whose weights are not found ends without an error.
    """
    configure_process()  # a launcher may have started this process
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        check_choice("on_error", config.on_error, ON_ERROR)
        yield
    except Exception as error:
        _log_traceback(error)
        if in_sweep:
            skipped = config.on_error == "skip" and getattr(error, "key", None) == NO_WEIGHTS_KEY
            if skipped:
                logger.warning("skipped: %s", error)
            else:
                logger.error("failed: %s", error)
            _forget_frames(error)
            if skipped:
                return
            if config.on_error == "stop" and HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
                raise SystemExit(1) from None
        if in_sweep and isinstance(error, InputError):  # without a traceback
            raise CompactHydraException(f"\n{error}") from error
        raise
    except SystemExit:
        logger.warning("interrupted")
        raise
    finally:
        if in_sweep:
            _release_memory()


def _log_traceback(error: Exception) -> None:
    """Log only to files; Hydra shows the error on the terminal."""
    trace = (type(error), error, error.__traceback__)
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "the run failed", (), trace)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _forget_frames(error: BaseException | None) -> None:
    # Hydra keeps each error until the end of the sweep, and its frames keep all variables, such as the network
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _release_memory() -> None:
    """Collect trainer and module, which refer to each other, and release GPU memory."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()
