"""Lightning callbacks of a run: metrics file, progress, stopping, checkpoints, and its silence."""

import contextlib
import csv
import io
import logging
import pathlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import Callback, Checkpoint

from deeph_zero.host.documents import read_document
from deeph_zero.host.files import append_csv, cannot_write, write_csv
from deeph_zero.host.reporting import Reporter, Task
from deeph_zero.host.signals import Interrupt, interruptible
from deeph_zero.train.lightning_io import SafeCheckpointIO
from deeph_zero.train.reserve import Deadline, TrainingDeadline

StoppedBy = Literal["max_time", "interrupt"]

_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning", "lightning.pytorch")
SAVING = 50
"""Least time between two checkpoints, as a multiple of what writing one takes."""
_FIRST_COLUMNS = ("step", "epoch", "seconds")


class MetricsFile(Callback):
    """Writes ``metrics.csv``: one row per epoch, continued without duplicates after a resume.

    The columns are ``step``, ``epoch``, ``seconds`` (wall time of training, over all resumes) and
    every metric the module gives (``trainer.callback_metrics``). A metric that
    appears later adds a column; earlier rows leave it empty. In the epoch that a run resumed from
    its middle, means are over the batches done since.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Nothing is opened until training starts.

        Args:
            path: The CSV file.
        """
        self._path = path
        self._columns: list[str] = []
        self._before = 0.0
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows that a resumed run will write again.

        Args:
            trainer: The trainer, already restored.
            pl_module: Not used.
        """
        del pl_module
        self._started = time.monotonic()
        if not trainer.is_global_zero:
            return
        step, epoch = trainer.global_step, trainer.current_epoch
        # the epoch, too: a run stopped in mid-epoch has a row for the part it did
        rows = [r for r in self._read() if _count(r, "step") <= step and _count(r, "epoch") < epoch]
        self._before = float(rows[-1].get("seconds") or 0.0) if rows else 0.0
        if rows or self._path.exists():
            self._rewrite(rows)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append one row.

        Args:
            trainer: Holds step, epoch and metrics.
            pl_module: Not used.

        Raises:
            ComputationError: If the disk refuses.
        """
        del pl_module
        if not trainer.is_global_zero:
            return
        row: dict[str, Any] = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "seconds": f"{self._before + time.monotonic() - self._started:.3f}",
        }
        # full precision: the file is data, not a display
        row |= {name: repr(float(value)) for name, value in trainer.callback_metrics.items()}
        new = [name for name in row if name not in self._columns]
        try:
            if new or not self._path.exists():
                rows = self._read()
                self._columns += new
                self._rewrite([*rows, row])
                return
            append_csv(self._path, self._columns, row)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _read(self) -> list[dict[str, str]]:
        """Complete rows only: a killed run can leave half a line at the end."""
        try:
            text = read_document(self._path).decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(complete, newline=""))
        try:
            self._columns = list(reader.fieldnames or [])
            return [row for row in reader if _count(row, "step") >= 0]
        except csv.Error:  # damaged: curves, which nothing is computed from
            self._columns = []
            return []

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(self._path, self._columns or list(_FIRST_COLUMNS), rows)


def _count(row: Mapping[str, str], name: str) -> int:
    try:
        return int(row[name])
    except (KeyError, TypeError, ValueError):
        return -1


class ProgressReport(Callback):
    """Shows progress through our own reporter, one count per epoch or per step."""

    def __init__(
        self,
        reporter: Reporter,
        description: str,
        *,
        unit: Literal["epoch", "step"] = "epoch",
        shown: tuple[str, ...] = (),
    ) -> None:
        """Say what is shown.

        Args:
            reporter: Where to show it.
            description: Text before the bar.
            unit: What one count is; the total is the trainer's ``max_epochs`` or ``max_steps``.
            shown: Names of logged metrics shown beside the bar.
        """
        self._reporter = reporter
        self._description = description
        self._unit = unit
        self._shown = shown
        self._task: Task | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar, already advanced by what a resumed run has behind it."""
        del pl_module
        limit = trainer.max_epochs if self._unit == "epoch" else trainer.max_steps
        done = trainer.current_epoch if self._unit == "epoch" else trainer.global_step
        total = limit if limit is not None and limit > 0 else None
        if not trainer.is_global_zero:
            return
        self._task = self._reporter.task(self._description, total)
        self._task.__enter__()
        if done:
            self._task.skip(done)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Count a step."""
        del pl_module, outputs, batch, batch_idx
        if self._unit == "step":
            self._advance(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count an epoch."""
        del pl_module
        if self._unit == "epoch":
            self._advance(trainer)

    def _advance(self, trainer: pl.Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._task is not None:
            fields = {name: float(metrics[name]) for name in self._shown if name in metrics}
            self._task.advance(1, **fields)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that an error message starts on its own line."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._task is not None:
            self._task.__exit__(None, None, None)
            self._task = None


class Checkpoints(Checkpoint):
    """Keeps the latest checkpoint: after epochs, at most every few seconds, and at every end.

    Ctrl-C and the deadline act here, after a step: the checkpoint is written in the middle of the
    epoch (so that a resumed run does the rest of that epoch, given a loader that can continue, such
    as :class:`~deeph_zero.train.batches.ResumableBatches`), then training stops. Learning-rate
    schedulers have to step per step: Lightning advances per-epoch schedulers only after the
    end-of-epoch hooks, too late for the checkpoint. It is Lightning's kind of checkpoint callback,
    whose hook runs after the module's own at the end of an epoch: what that changes is saved.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        deadline: Deadline | TrainingDeadline | None = None,
        every_seconds: float = 5.0,
        on_save: Callable[[], None] | None = None,
    ) -> None:
        """Say where and how often.

        Args:
            path: The checkpoint folder (see :data:`deeph_zero.train.lightning_io.KEEP`).
            deadline: When to stop; none means never.
            every_seconds: Least wall time between two checkpoints within a run; more where writing
                one takes more than a fiftieth of it. 0 saves after every epoch.
            on_save: Called after each checkpoint, e.g. to write the model file.
        """
        self.stopped_by: StoppedBy | None = None
        self.killed = False
        self.interrupt = Interrupt()
        self._path = path
        self._deadline = deadline or Deadline()
        self._every = every_seconds
        self._on_save = on_save
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._unsaved = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the schedulers and start the clock.

        Args:
            trainer: The trainer.
            pl_module: Not used.

        Raises:
            ValueError: If a learning-rate scheduler advances per epoch.
        """
        del pl_module
        for config in trainer.lr_scheduler_configs:
            if config.interval != "step":
                raise ValueError(
                    f"lr_scheduler interval must be 'step', got {config.interval!r}; a checkpoint "
                    "would miss its last advance"
                )
        self._saved_at = time.monotonic()
        self.interrupt.listen()  # Lightning took SIGTERM, and would end with exit code 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """After each step: act on Ctrl-C, on the deadline and on the last step of the run."""
        del pl_module, outputs, batch, batch_idx
        self._unsaved = True
        agree = trainer.strategy.reduce_boolean_decision  # one process is enough to stop them all
        if agree(self.interrupt.requested, all=False):
            self.stopped_by = "interrupt"
        elif agree(self._deadline.expired(), all=False):
            self.stopped_by = "max_time"
        if self.stopped_by is not None:
            trainer.should_stop = True
        last = 0 < trainer.max_steps <= trainer.global_step
        if (last or self.stopped_by is not None) and not trainer.is_last_batch:
            self._save(trainer)  # before Lightning counts the epoch as done

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, unless the last checkpoint is young or was written in the middle of this epoch."""
        del pl_module
        # a stop in mid-epoch passes here too, with Lightning believing that the epoch is complete
        agree = trainer.strategy.reduce_boolean_decision
        pause = max(self._every, SAVING * self._cost) if self._every else 0.0
        old = agree(time.monotonic() - self._saved_at >= pause, all=False)
        if self._unsaved and (old or self.stopped_by is not None):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end state, unless it is saved already."""
        del pl_module
        if self._unsaved:
            self._save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Remember that Lightning was left by KeyboardInterrupt, which it hides from the caller."""
        del trainer, pl_module
        self.killed = isinstance(exception, KeyboardInterrupt)

    def _save(self, trainer: pl.Trainer) -> None:
        begin = time.monotonic()
        trainer.save_checkpoint(self._path)
        self._unsaved = False
        if self._on_save is not None and trainer.is_global_zero:
            self._on_save()
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - begin


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning inside the block: no banners, tips, hardware lines or warnings."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in (r"pytorch_lightning", r"lightning_fabric", r"lightning"):
                warnings.filterwarnings("ignore", module=module + r"\b.*")
            # raised at our call, not in Lightning's file, where a module filter does not see them
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def quiet_trainer(callbacks: list[Callback], **settings: Any) -> pl.Trainer:
    """A trainer that prints nothing, writes nothing of its own and checkpoints without pickle.

    Args:
        callbacks: Ours.
        **settings: Anything else ``pytorch_lightning.Trainer`` takes.

    Returns:
        The trainer; run it with :func:`run_trainer`.
    """
    with quiet_lightning():
        return pl.Trainer(
            # a row lost by a crash cannot be written again, one too many is dropped on resume:
            # so everything else comes before the checkpoint
            callbacks=sorted(callbacks, key=lambda item: isinstance(item, Checkpoints)),
            plugins=[SafeCheckpointIO(), LightningEnvironment()],  # SLURM's has own signals
            logger=False,
            enable_checkpointing=any(isinstance(item, Checkpoints) for item in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )


def run_trainer(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    batches: Any,
    checkpoints: Checkpoints,
    *,
    resume_from: pathlib.Path | None = None,
    say: Callable[[str], None] | None = None,
) -> StoppedBy | None:
    """``trainer.fit``, quiet, and with Ctrl-C finishing the current step and saving.

    Lightning exits with 1 on Ctrl-C and with 0 on SIGTERM; here ``checkpoints`` acts on a first
    signal after the step, and a second one stops at once, keeping the last checkpoint.

    Args:
        trainer: From :func:`quiet_trainer`.
        module: What to train.
        batches: Training loader.
        checkpoints: The callback that is in the trainer.
        resume_from: Checkpoint folder to continue from.
        say: Told at once of a first signal, in one line.

    Returns:
        Why it stopped early: "max_time", or None when it ended by itself.

    Raises:
        Stopped: After Ctrl-C, SIGTERM or SIGHUP, with the checkpoint written.
        SystemExit: If something else asked for it.
    """
    with interruptible(say) as interrupt, quiet_lightning():
        checkpoints.interrupt = interrupt
        try:
            trainer.fit(module, batches, ckpt_path=resume_from)
        except SystemExit:
            interrupt.check()
            if checkpoints.killed:
                raise KeyboardInterrupt from None
            raise
    return checkpoints.stopped_by
