"""Gradient steps on crystals, from the closed-form fit on: the loss is that of H(k).

The weights that end up in the network are the best ones at crystals that were kept out (of the
training ones where none were): steps cannot make a model worse than the closed form was.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from deeph_zero.errors import ComputationError
from deeph_zero.nn.network import FockNetwork
from deeph_zero.train.crystal_readout import refine_readout
from deeph_zero.train.crystals import RIDGE, Lesson, fit_crystals

LEARNING_RATE = 3e-5
EPOCHS = 30
CLIP = 1.0
"""Largest norm of a gradient, of the loss relative to that of the closed form."""
RIDGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Tried in closed form where crystals are kept out to choose among them."""
SMOOTHER = 4.0
"""Factor on the least loss at kept-out crystals up to which a larger ridge is taken: cells that are
larger than those of training have neighbours that move apart, which a small ridge magnifies."""
_OFTEN = 10
"""Measurements of a run of steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """How many steps are made, and how large they are.

    Attributes:
        epochs: Passes over the crystals.
        most: Steps at most; None: as many as the passes have.
        learning_rate: At the peak.
        batch_size: Crystals per step.
    """

    epochs: int = EPOCHS
    most: int | None = None
    learning_rate: float = LEARNING_RATE
    batch_size: int = 1


COLUMNS = ("step", "epoch", "loss", "val_loss")
"""Those of ``metrics.csv``."""
Row = dict[str, Any]
"""One line of it."""


def train_crystals(
    network: FockNetwork,
    lessons: Sequence[Lesson],
    checks: Sequence[Lesson],
    steps: Steps,
    *,
    seed: int,
    note: Callable[[Row], None],
    stop: Callable[[], bool],
) -> bool:
    """Fit in closed form, then step downhill; the best weights stay.

    Args:
        network: Its scales are set here unless it was trained before.
        lessons: What to learn.
        checks: Crystals that only measure; may be empty.
        steps: How far.
        seed: Seed of the order of crystals.
        note: Takes a row of metrics after every pass.
        stop: Whether to end early.

    Returns:
        False if ``stop`` ended it.

    Raises:
        ComputationError: If the loss is not finite.
    """
    best = _Best(network, checks or lessons)
    _readout(network, lessons, checks, stop)
    best.keep()
    scale = max(_mean_loss(network, lessons), 1e-16)
    note({"step": 0, "epoch": 0, "loss": scale, "val_loss": best.value})
    total = steps.epochs * math.ceil(len(lessons) / steps.batch_size)
    total = total if steps.most is None else min(total, steps.most)
    optimizer = torch.optim.Adam(network.parameters(), lr=steps.learning_rate)
    # torch divides by the length of the rise, which of ten steps would be 0.1 * 10 - 1
    rise = 0.11 if total == 10 else 0.1
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, steps.learning_rate, total_steps=max(2, total), pct_start=rise
    )
    order = torch.Generator().manual_seed(seed)
    done = epoch = 0
    next_look = total // _OFTEN
    while done < total:
        epoch += 1
        sums = 0.0
        for part in torch.randperm(len(lessons), generator=order).split(steps.batch_size):
            if done >= total:
                break
            if stop():
                best.restore()
                return False
            loss = _step(network, optimizer, [lessons[k] for k in part.tolist()], scale)
            rates.step()
            done, sums = done + 1, sums + loss * len(part)
        row: Row = {"step": done, "epoch": epoch, "loss": sums / len(lessons)}
        if done >= min(total, next_look):
            next_look = done + max(1, total // _OFTEN)
            row["val_loss"] = best.keep()
        note(row)
    # of the features that steps made, and once more from the best there is
    for _ in range(2):
        _readout(network, lessons, checks, stop)
        best.keep()
        best.restore()
    return True


def _step(
    network: FockNetwork, optimizer: torch.optim.Optimizer, some: list[Lesson], scale: float
) -> float:
    """One step; the mean loss before it, Eh²."""
    optimizer.zero_grad()
    losses = []
    for lesson in some:
        (correction,) = network(lesson.inputs)
        loss = lesson.loss(correction) / len(some)
        (loss / scale).backward()
        losses.append(float(loss.detach()))
    if not math.isfinite(sum(losses)):
        raise ComputationError(
            "expected a finite loss, got NaN or infinity; lower training.learning_rate"
        )
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    return sum(losses)


def _readout(
    network: FockNetwork,
    lessons: Sequence[Lesson],
    checks: Sequence[Lesson],
    stop: Callable[[], bool],
) -> None:
    """The readout in closed form; with kept-out crystals it goes on in the loss's own metric."""
    if not checks:
        fit_crystals(network, lessons, ridge=RIDGE)
        return
    ridge = _closed_form(network, lessons, checks)
    refine_readout(
        network, lessons, ridge=ridge, measure=lambda: _mean_loss(network, checks), stop=stop
    )


def _closed_form(
    network: FockNetwork, lessons: Sequence[Lesson], checks: Sequence[Lesson]
) -> float:
    """The smoothest readout in closed form that serves kept-out crystals well; its ridge."""
    before = copy.deepcopy(network.state_dict())
    tried: list[tuple[float, float, dict[str, torch.Tensor]]] = []
    for ridge in RIDGES:
        network.load_state_dict(before)
        fit_crystals(network, lessons, ridge=ridge)
        tried.append((_mean_loss(network, checks), ridge, copy.deepcopy(network.state_dict())))
    least = min(loss for loss, _, _ in tried)
    _, ridge, state = next(one for one in reversed(tried) if one[0] <= SMOOTHER * least)
    network.load_state_dict(state)
    return ridge


@torch.no_grad()
def _mean_loss(network: FockNetwork, lessons: Sequence[Lesson]) -> float:
    values = [float(lesson.loss(network(lesson.inputs)[0])) for lesson in lessons]
    return sum(values) / len(values)


class _Best:
    """The weights with the least loss so far."""

    def __init__(self, network: FockNetwork, lessons: Sequence[Lesson]) -> None:
        self._network, self._lessons = network, lessons
        self._state = copy.deepcopy(network.state_dict())
        self.value = math.inf

    def keep(self) -> float:
        """Measure the present weights, and keep them if they are the best."""
        found = _mean_loss(self._network, self._lessons)
        if found < self.value:
            self.value, self._state = found, copy.deepcopy(self._network.state_dict())
        return found

    def restore(self) -> None:
        """Put the best weights back."""
        self._network.load_state_dict(self._state)
