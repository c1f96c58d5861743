"""Structures that only measure: errors of the model while it trains, and its best weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from deeph_zero.errors import ComputationError
from deeph_zero.nn.inputs import collate
from deeph_zero.nn.network import FockNetwork
from deeph_zero.settings.loss_terms import Term
from deeph_zero.train.budget import Budget, Lessons
from deeph_zero.train.losses import LossMix, MatchWeights, Point, fixed_point_loss
from deeph_zero.train.losses_together import values_together
from deeph_zero.train.module import FitModule
from deeph_zero.train.taught import Problem
from deeph_zero.types import AOMatrix

NUMBERS = ("loss", "residual", "gradient", "energy_error")
"""What is measured, as means over structures."""
_FIXED_POINT = LossMix((Term("fixed-point"),))
_TIMES = 100
"""Measurements over a training, about."""
_BATCH = 10


def check_positions(fraction: float, count: int, taken: Sequence[int]) -> tuple[int, ...]:
    """Frames that are kept out for validation, spread evenly over those that are left.

    Args:
        fraction: Share of all frames.
        count: All frames.
        taken: Positions that are kept out for something else.

    Returns:
        Positions, ascending; at least one.
    """
    free = sorted(set(range(count)) - set(taken))
    wanted = min(max(1, round(fraction * count)), len(free) - 1)
    return tuple(free[int((k + 0.5) * len(free) / wanted)] for k in range(wanted))


def converge(problem: Problem) -> None:
    """Solve a structure with its own teacher, without the network.

    Args:
        problem: The structure.

    Raises:
        ComputationError: If it does not converge.
    """
    while not problem.teacher.finished:
        problem.teacher.advance()
    if not problem.teacher.converged:
        raise ComputationError("expected a converged SCF to measure with; leave the structure out")


def advance_together(problems: Sequence[Problem]) -> None:
    """Solve structures with their own teachers, builds and coarse SCFs of all in one call.

    Args:
        problems: Structures whose integrals are in memory together. One at which something fails
            stays as it is: :func:`converge` says why.
    """
    lessons = Lessons(problems, Budget())
    lessons.together = True
    open_ = [k for k, problem in enumerate(problems) if not problem.teacher.finished]
    while open_:
        lessons.advance(open_)
        open_ = [k for k in open_ if not (problems[k].teacher.finished or lessons.failed(k))]


@torch.no_grad()
def errors(network: FockNetwork, problems: Sequence[Problem]) -> dict[str, float]:
    """Errors of H against the converged Fock matrices; costs no build.

    Args:
        network: With the weights to measure.
        problems: Converged structures.

    Returns:
        Means: ``loss`` (that of fixed-point training, mEh), ``residual`` (rms of H - F, Eh),
        ``gradient`` (occupied-virtual rms, Eh), ``energy_error`` (second-order estimate, Eh).
    """
    sums: dict[str, float] = dict.fromkeys(NUMBERS, 0.0)
    for start in range(0, len(problems), _BATCH):
        some = problems[start : start + _BATCH]
        corrections = network(collate([p.inputs for p in some]))
        if not bool(torch.isfinite(torch.cat([c.values.reshape(-1) for c in corrections])).all()):
            return dict.fromkeys(sums, float("inf"))
        pairs = zip(some, corrections, strict=True)
        for row in _measured(some, [problem.hamiltonian(c) for problem, c in pairs]):
            for name, value in zip(NUMBERS, row, strict=True):
                sums[name] += value / len(problems)
    return sums


def _measured(problems: Sequence[Problem], matrices: Sequence[AOMatrix]) -> list[list[float]]:
    """:data:`NUMBERS` of each; on a device of all in one go, read at once."""
    if matrices[0].is_cuda:
        found = values_together(_FIXED_POINT, problems, matrices)
        assert found is not None
        rows = [torch.stack([getattr(one, name) for one in found]) for name in NUMBERS]
        return torch.stack(rows, -1).tolist()
    values = [
        fixed_point_loss(Point(problem, matrix), MatchWeights())
        for problem, matrix in zip(problems, matrices, strict=True)
    ]
    return [[float(getattr(one, name)) for name in NUMBERS] for one in values]


@dataclasses.dataclass
class Best:
    """The best weights seen.

    Attributes:
        epoch: When.
        numbers: Their errors.
        weights: All parameters.
    """

    epoch: int
    numbers: dict[str, float]
    weights: list[Tensor]


class ValidationCheck(Callback):
    """Measures between epochs, with the averaged weights, and remembers the best ones."""

    def __init__(self, problems: Sequence[Problem], epochs: int) -> None:
        """Bind.

        Args:
            problems: Converged structures that are not trained on.
            epochs: Epochs of the training.
        """
        self.problems = tuple(problems)
        self.best: Best | None = None
        self._every = max(1, epochs // _TIMES)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, and log ``val_loss`` and the others.

        Args:
            trainer: Knows the epoch.
            pl_module: The :class:`~deeph_zero.train.module.FitModule`.
        """
        assert isinstance(pl_module, FitModule)
        epoch = trainer.current_epoch
        if (epoch + 1) % self._every:
            return
        with pl_module.average.applied():
            found = errors(pl_module.network, self.problems)
            if self.best is None or found["loss"] < self.best.numbers["loss"]:
                weights = [w.detach().clone() for w in pl_module.network.parameters()]
                self.best = Best(epoch, found, weights)
        for name, value in found.items():
            pl_module.log(f"val_{name}", torch.tensor(value, dtype=torch.float64))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {} if self.best is None else dict(vars(self.best))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        self.best = Best(**state_dict) if state_dict else None

    @torch.no_grad()
    def choose(self, network: FockNetwork) -> dict[str, Any]:
        """Go back to the best weights if those at the end are worse.

        Args:
            network: With the weights at the end.

        Returns:
            Errors of the weights that the network has then; ``epoch`` is null for those at the end.
        """
        found: dict[str, Any] = errors(network, self.problems) | {"epoch": None}
        best = self.best
        if best is not None and best.numbers["loss"] < found["loss"]:
            for weight, value in zip(network.parameters(), best.weights, strict=True):
                weight.copy_(value)
            found = best.numbers | {"epoch": best.epoch}
        return found | {"n_structures": len(self.problems)}
