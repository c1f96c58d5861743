"""Live curves for TensorBoard: what ``metrics.csv`` has, as event files, where it is installed."""

import importlib.util
import logging
import pathlib
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

_log = logging.getLogger("deeph_zero")

FOLDER = "tensorboard"
"""In the run folder."""


def live_curves(run: pathlib.Path) -> list[Callback]:
    """The callback that writes event files, where ``deeph-zero[tensorboard]`` is installed.

    Args:
        run: Run folder.

    Returns:
        One callback or none.
    """
    return [TensorBoardCurves(run / FOLDER)] if _installed() else []


def _installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardCurves(Callback):
    """One point per epoch and metric. Curves are for looking at: a full disk does not end a run."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Nothing is written before training starts.

        Args:
            folder: Where the event files go.
        """
        self._folder = folder
        self._writer: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the files; points that a resumed run will write again are hidden.

        Args:
            trainer: The trainer, already restored.
            pl_module: Not used.
        """
        del pl_module
        if not trainer.is_global_zero:
            return
        from torch.utils.tensorboard import SummaryWriter

        step = trainer.global_step
        try:
            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)
        except OSError as error:
            self._give_up(error)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the points of an epoch.

        Args:
            trainer: Holds step and metrics.
            pl_module: Not used.
        """
        del pl_module
        if self._writer is None:
            return
        try:
            for name, value in trainer.callback_metrics.items():
                self._writer.add_scalar(name, float(value), trainer.global_step)
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the files, however training ended."""
        del trainer, pl_module, stage
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _give_up(self, error: OSError) -> None:
        _log.warning("curves for TensorBoard end here (%s)", error.strerror or error)
        self._writer = None
