"""The losses of one training step: of all geometries together on a device, one by one elsewhere."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.train.budget import Lessons
from deeph_zero.train.losses import LossMix, LossValue, settled
from deeph_zero.train.losses_together import values_together
from deeph_zero.train.taught import Problem
from deeph_zero.types import AOMatrix

Loss = Callable[[Problem, AOMatrix, float], LossValue]

_ALONE = ComputationError, torch.linalg.LinAlgError, torch.OutOfMemoryError
"""Whose fault such a failure of several is shows where each is done alone."""


@dataclasses.dataclass(frozen=True)
class Read:
    """What a step found, on the host.

    Attributes:
        mean: Mean loss, mEh.
        values: By position, of those that did not fail.
        others: Numbers that were read with it.
    """

    mean: float
    values: Mapping[int, LossValue]
    others: Sequence[float]


class Step:
    """Losses by position, numbers of which may still be on a device."""

    def __init__(self, found: Mapping[int, LossValue], lessons: Lessons) -> None:
        """Take the mean.

        Args:
            found: At least one.
            lessons: Teachers, and who failed how often.
        """
        self._found = found
        self._lessons = lessons
        self.loss = _mean(list(found.values()))

    def read(self, *others: Tensor) -> Read | None:
        """Wait for a device once, for everything: failures are counted, teachers offered builds.

        Args:
            *others: Further numbers to read.

        Returns:
            The numbers; None where the loss, or H of a geometry, is not finite.
        """
        (mean, *rest), values = settled([self.loss, *others], list(self._found.values()))
        if not math.isfinite(mean) or any(math.isnan(value.sound) for value in values):
            return None
        guard = self._lessons.guard
        good = {
            k: value
            for k, value in zip(self._found, values, strict=True)
            if guard(k, functools.partial(_check_sound, value))
        }
        self._lessons.offer(good)
        return Read(mean, good, rest) if good else None


def step(
    batch: Sequence[int],
    corrections: Sequence[BlockMatrix],
    problems: Sequence[Problem],
    *,
    mix: LossMix,
    loss: Loss,
    lessons: Lessons,
    progress: float,
) -> Step | None:
    """Losses of a batch.

    Args:
        batch: Positions of the geometries.
        corrections: The network's ΔH of each.
        problems: The geometries.
        mix: What is mixed.
        loss: What is called for each alone.
        lessons: Teachers, and who failed how often.
        progress: Fraction of the training that is done.

    Returns:
        The losses of those that did not fail; None where nobody is left, or where a loss that
        diagonalises H meets one that is not finite.
    """
    each = list(zip(batch, problems, corrections, strict=True))
    if loss is mix and gains_together(corrections[0].values.device):
        with contextlib.suppress(*_ALONE):
            focks = [p.hamiltonian(c) for _, p, c in each]
            found = values_together(mix, problems, focks, progress, builds=lessons.together)
            if found is not None:
                return Step(dict(zip(batch, found, strict=True)), lessons)
    if mix.diagonalises(progress):
        predicted = torch.cat([c.values.detach().reshape(-1) for c in corrections])
        if not bool(torch.isfinite(predicted).all()):
            return None  # such a loss would stop at it
    out: dict[int, LossValue] = {}
    for k, problem, c in each:
        value = lessons.guard(k, lambda p=problem, c=c: loss(p, p.hamiltonian(c), progress))
        if value is not None:
            out[k] = value
    return Step(out, lessons) if out else None


def _mean(values: Sequence[LossValue]) -> Tensor:
    """Mean loss of those that are sound."""
    losses = torch.stack([value.loss for value in values])
    known = [value.sound for value in values if isinstance(value.sound, Tensor)]
    if len(known) < len(values):
        return losses.mean()
    sound = torch.stack(known)
    return losses.masked_fill(sound != 1, 0.0).sum() / sound.sum().clamp_min(1)


def _check_sound(value: LossValue) -> bool:
    if value.sound != 1:
        raise ComputationError(
            "energy or Fock matrix at the network's density are not finite; check the geometry"
        )
    return True
