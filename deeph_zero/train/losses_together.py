"""Losses of several geometries in one go, each as :class:`~.losses.LossMix` gives it alone.

A device is bound by launches. Losses without a build take the geometries of one shape together;
those with a build go through padded stacks of unlike molecules, with one build and one response of
all of them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.rebuilt import Rebuilt, rebuilt
from deeph_zero.train.losses import (
    MILLI,
    LossMix,
    LossValue,
    MatchWeights,
    compared,
    levels_off,
    no_label,
    root,
)
from deeph_zero.train.taught import MatchOrbitals, Problem
from deeph_zero.types import AOMatrix

Matched = tuple[Tensor, ...]
"""Losses of several geometries, with gradient, mEh, and residual, gradient and energy error."""


def values_together(
    mix: LossMix,
    problems: Sequence[Problem],
    hamiltonians: Sequence[AOMatrix],
    progress: float = 0.0,
    *,
    builds: bool = True,
) -> list[LossValue] | None:
    """A mix at several geometries; teachers are offered nothing.

    Args:
        mix: What is mixed.
        problems: The geometries.
        hamiltonians: H of each, Eh, with gradient.
        progress: Fraction of the training that is done.
        builds: Whether their integrals are in memory together.

    Returns:
        The losses, in order, with numbers on the device. None where terms are on whose builds
        cannot be made together.

    Raises:
        InputError: If only a label could teach a geometry and it has none.
        ComputationError: If the eigen-solver fails.
    """
    active = mix.active(progress)
    own = [mix.taught_by(problem, active) for problem in problems]
    made: dict[int, LossValue] = {}
    some = {name: weight for name, weight in active.items() if name in OF_BUILDS}
    if some:
        layers = [problem.ks for problem in problems]
        batch = KohnShamBatch(layers) if builds else None
        if batch is None or not batch.batch.stackable:
            return None
        made = _with_builds(batch, hamiltonians, some, offers="fixed-point" in active)
    matched = _without_builds(mix, problems, hamiltonians, own)
    for k, value in made.items():
        if k in matched:
            # the numbers of a build are the ones to tell
            made[k] = dataclasses.replace(value, loss=value.loss + matched[k].loss)
    return [(matched | made)[k] for k in range(len(problems))]


def energies(at: Rebuilt) -> Tensor:
    """:func:`~.losses.energy_loss` of a stack, [n], mEh."""
    return MILLI * (at.energy - at.energy.detach().round())


def self_consistencies(at: Rebuilt) -> Tensor:
    """:func:`~.losses.self_consistency_loss` of a stack, [n], mEh."""
    return MILLI * root(at.residual)


def commutators(at: Rebuilt) -> Tensor:
    """:func:`~.losses.commutator_loss` of a stack, [n], mEh."""
    return MILLI * root(at.commutator)


OF_BUILDS: dict[str, Callable[[Rebuilt], Tensor]] = {
    "energy": energies,
    "self-consistency": self_consistencies,
    "commutator": commutators,
}
"""Losses of one build at P(H)."""


def _with_builds(
    batch: KohnShamBatch,
    hamiltonians: Sequence[AOMatrix],
    active: Mapping[str, float],
    *,
    offers: bool,
) -> dict[int, LossValue]:
    """The terms that make a build; with what teachers may be offered."""
    out: dict[int, LossValue] = {}
    for stack in rebuilt(batch.batch, batch.to_layers(hamiltonians)):
        loss = _sum(active, [OF_BUILDS[name](stack) for name in active])
        # neither the number nor a slope of one that failed reaches the others
        loss = loss.masked_fill(stack.sound != 1, 0.0)
        off, commutator = (x.detach().sqrt() for x in (stack.residual, stack.commutator))
        rows = loss, off, commutator, stack.estimate, stack.gap, stack.sound, stack.energy.detach()
        each = zip(stack.members, stack.at, *(row.unbind() for row in rows), strict=True)
        for k, at, one, residual, gradient, error, gap, sound, energy in each:
            dm, fock = (batch.layers[k].from_layer(matrix) for matrix in at)
            out[k] = LossValue(
                one, residual, gradient, built=True, gap=gap, energy_error=error, sound=sound,
                at=(dm, fock, energy) if offers else None,
            )  # fmt: skip
    return out


def _sum(weights: Mapping[str, float], losses: Sequence[Tensor]) -> Tensor:
    """Losses times their weights."""
    shares = [
        one if weight == 1 else weight * one
        for weight, one in zip(weights.values(), losses, strict=True)
    ]
    return functools.reduce(torch.add, shares)


def fixed_point_losses(
    problems: Sequence[Problem], hamiltonians: Sequence[AOMatrix], weights: MatchWeights
) -> Matched:
    """:func:`~.losses.fixed_point_loss` of geometries whose matrices have one shape.

    Args:
        problems: The geometries.
        hamiltonians: H of each, Eh, with gradient.
        weights: Not used.

    Returns:
        Losses and numbers, [n] each.
    """
    del weights
    at = [problem.target_orbitals() for problem in problems]
    return _matched(problems, hamiltonians, at, MatchWeights())


def supervised_losses(
    problems: Sequence[Problem], hamiltonians: Sequence[AOMatrix], weights: MatchWeights
) -> Matched:
    """:func:`~.losses.supervised_loss` of geometries whose matrices have one shape.

    Args:
        problems: The geometries; with orbital energies of as many electrons in the fuller spin.
        hamiltonians: H of each, Eh, with gradient.
        weights: Weights of blocks and orbital energies.

    Returns:
        Losses and numbers, [n] each.

    Raises:
        InputError: If one of them has no label.
    """
    for problem in problems:
        if problem.label is None:
            raise no_label(problem)
    at = [problem.label_orbitals() for problem in problems]
    return _matched(problems, hamiltonians, at, weights)


SEVERAL: dict[str, Callable[[Sequence[Problem], Sequence[AOMatrix], MatchWeights], Matched]] = {
    "fixed-point": fixed_point_losses,
    "supervised": supervised_losses,
}
"""Losses without a build."""


def _without_builds(
    mix: LossMix,
    problems: Sequence[Problem],
    hamiltonians: Sequence[AOMatrix],
    own: Sequence[Mapping[str, float]],
) -> dict[int, LossValue]:
    """The terms that compare H with given matrices, where a geometry has one."""
    kinds: dict[Any, list[int]] = {}
    for k, (problem, matrix) in enumerate(zip(problems, hamiltonians, strict=True)):
        active = {name: weight for name, weight in own[k].items() if name in SEVERAL}
        if not active:
            continue
        levels = "supervised" in active and mix.weights.orbital_energy > 0
        electrons = max(problem.ks.nelec) if levels else 0
        kind = (matrix.shape, problem.ks.x.shape, problem.balance is None, electrons)
        kinds.setdefault((kind, tuple(active.items())), []).append(k)
    out: dict[int, LossValue] = {}
    for (_, active), members in kinds.items():
        some = [problems[k] for k in members], [hamiltonians[k] for k in members]
        found = [SEVERAL[name](*some, mix.weights) for name, _ in active]
        columns = _sum(dict(active), [one[0] for one in found]), *found[0][1:]
        each = zip(*(column.unbind() for column in columns), strict=True)
        for k, (loss, off, ov, error) in zip(members, each, strict=True):
            out[k] = LossValue(loss, off, ov, energy_error=error)
    return out


def _matched(
    problems: Sequence[Problem],
    hamiltonians: Sequence[AOMatrix],
    at: Sequence[MatchOrbitals],
    weights: MatchWeights,
) -> Matched:
    """What :func:`~.losses.compared` says of several geometries."""
    stacked = {
        field.name: torch.stack([getattr(one, field.name) for one in at])
        for field in dataclasses.fields(MatchOrbitals)
    }
    targets, matrices = MatchOrbitals(**stacked), torch.stack(list(hamiltonians))
    delta = matrices - targets.target
    wide = [1] * (delta.ndim - 3)  # the spins

    def each(matrices: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(matrices)).reshape(len(at), *wide, *matrices[0].shape)

    outputs = delta
    balances = [one.balance for one in problems if one.balance is not None]
    if balances:
        inverse = each([one.inverse for one in balances])
        outputs = inverse @ delta @ inverse
    ks = problems[0].ks
    loss, *numbers = compared(
        delta, outputs, targets, weights, unrestricted=ks.unrestricted, lead=1
    )
    if weights.orbital_energy > 0:
        x = each([problem.ks.x for problem in problems])
        off = levels_off(x.mT @ matrices @ x, targets, max(ks.nelec))
        mean = off.square().flatten(1).mean(-1)
        loss = loss + weights.orbital_energy * root(mean)
    return MILLI * loss, *numbers
