"""Whether a trained network is better than its base alone, where that can be known without a build.

The measure is the energy of the density above the converged one, to second order in the
difference from the converged Fock matrix. Structures that were kept out of training tell; where
there are none, those trained on.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from deeph_zero.host.reporting import Reporter
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.nn.inputs import collate
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.single import Prediction
from deeph_zero.settings.loss_terms import Term
from deeph_zero.train.calibrate import TOGETHER
from deeph_zero.train.losses import (
    GAP,
    LossMix,
    MatchWeights,
    Point,
    fixed_point_loss,
    supervised_loss,
)
from deeph_zero.train.losses_together import values_together
from deeph_zero.train.taught import Absent, Problem
from deeph_zero.types import AOMatrix

MANY = 100
"""Structures looked at, at most."""

_TAUGHT, _LABELLED = "fixed-point", "supervised"

NOTHING = 1e-9
"""Mean energy error (Eh) below which a network is as good as one can tell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worth:
    """A network beside its base.

    Attributes:
        structures: Which they are: "validation", "calibration" or "training".
        own: Energy errors of the network's densities, to second order, Eh.
        base: Those of the base alone.
    """

    structures: str
    own: tuple[float, ...]
    base: tuple[float, ...]

    @property
    def worse(self) -> bool:
        """Whether the mean is above the base's, and above rounding."""
        return not sum(self.own) <= max(sum(self.base), NOTHING * len(self.own))

    def to_dict(self) -> dict[str, Any]:
        """``against_base`` of the summary; means, Eh."""
        n = len(self.own)
        return {
            "structures": self.structures,
            "n_structures": n,
            "energy_error": sum(self.own) / n,
            "base_energy_error": sum(self.base) / n,
            "worse_for": sum(not a <= b for a, b in zip(self.own, self.base, strict=True)),
            "worse": self.worse,
        }

    def tell(self, reporter: Reporter) -> None:
        """One line if the network is worse.

        Args:
            reporter: Where people read.
        """
        if not self.worse:
            return
        facts, kept_out = self.to_dict(), self.structures != "training"
        where = "structures it was not trained on" if kept_out else "of its training structures"
        reporter.warning(
            f"the model is worse than its base alone on {facts['n_structures']} {where}: energies "
            f"of densities {1e3 * facts['energy_error']:.3g} mEh too high, without the network "
            f"{1e3 * facts['base_energy_error']:.3g}; train it on more structures like these, or "
            "longer"
        )


def worth(
    network: FockNetwork,
    trained_on: Iterable[Problem | Absent],
    validators: Sequence[Problem],
    kept_out: Iterable[Prediction],
) -> Worth | None:
    """Compare a network with its base; no build is made.

    Args:
        network: Trained.
        trained_on: Geometries of the training.
        validators: Converged structures that were not trained on.
        kept_out: Refined predictions of structures that were not trained on.

    Returns:
        The comparison at the first of: validators, refined predictions, training; None where
        nothing is known.
    """
    pairs = _of_problems(network, validators[:MANY])
    if pairs:
        return _worth("validation", pairs)
    pairs = [_of_prediction(p) for p in kept_out if p.refined is not None and p.refined.converged]
    if pairs:
        return _worth("calibration", pairs)
    taught = [
        p
        for p in trained_on
        if isinstance(p, Problem) and (p.teacher.started or p.label is not None)
    ]
    some = taught[:: -(-len(taught) // MANY) or 1]
    return _worth("training", _of_problems(network, some)) if some else None


def _worth(structures: str, pairs: Sequence[tuple[float, float]]) -> Worth:
    own, base = zip(*pairs, strict=True)
    return Worth(structures=structures, own=own, base=base)


@torch.no_grad()
def _of_problems(network: FockNetwork, problems: Sequence[Problem]) -> list[tuple[float, float]]:
    """:func:`_of_problem` of each; on a device of several in one go."""
    if not problems or not gains_together(problems[0].fock0.device):
        return [_of_problem(network, p) for p in problems]
    found: dict[int, tuple[float, float]] = {}
    for name in (_TAUGHT, _LABELLED):
        keys = [k for k, p in enumerate(problems) if p.teacher.started is (name == _TAUGHT)]
        for start in range(0, len(keys), TOGETHER):
            some = keys[start : start + TOGETHER]
            found |= zip(some, _of_several(network, [problems[k] for k in some], name), strict=True)
    return [found[k] for k in range(len(problems))]


def _of_several(
    network: FockNetwork, problems: Sequence[Problem], name: str
) -> list[tuple[float, float]]:
    """Errors of H and of H₀ of geometries that one loss tells of."""
    inputs = collate([p.inputs for p in problems]).to(problems[0].fock0.device)
    outputs, seen = network.eval()(inputs), network.scales.seen_corrections
    focks = [p.predicted(one, seen) for p, one in zip(problems, outputs, strict=True)]
    mix, rows = LossMix((Term(name),)), []
    for matrices in (focks, [p.fock0 for p in problems]):
        values = values_together(mix, problems, matrices)
        assert values is not None
        rows.append(torch.stack([torch.as_tensor(one.energy_error) for one in values]))
    return [(own, base) for own, base in torch.stack(rows, -1).tolist()]


@torch.no_grad()
def _of_problem(network: FockNetwork, problem: Problem) -> tuple[float, float]:
    """Errors of H and of H₀ against the teacher's target, or the label where nothing was taught."""
    (output,) = network.eval()(problem.inputs)
    fock = problem.predicted(output, network.scales.seen_corrections)
    loss = fixed_point_loss if problem.teacher.started else supervised_loss
    own, base = (
        float(loss(Point(problem, matrix), MatchWeights()).energy_error)
        for matrix in (fock, problem.fock0)
    )
    return own, base


def _of_prediction(prediction: Prediction) -> tuple[float, float]:
    """Errors of H and of H₀ against the refined matrix."""
    assert prediction.base is not None
    own, base = (second_order(prediction, m) for m in (prediction.fock, prediction.base))
    return own, base


def second_order(prediction: Prediction, matrix: AOMatrix) -> float:
    """Σ (f_i - f_a) |M - F|²_ia / (ε_a - ε_i) in the orbitals of the refined F.

    Args:
        prediction: Refined.
        matrix: M, Eh.

    Returns:
        Energy of the density of M above the converged one, Eh.
    """
    done = prediction.refined
    assert done is not None
    mixed = done.mo_coeff.mT @ (matrix - done.fock) @ done.mo_coeff
    filled = done.mo_occ.unsqueeze(-1) - done.mo_occ.unsqueeze(-2)
    levels = done.mo_energy.unsqueeze(-2) - done.mo_energy.unsqueeze(-1)
    each = filled.clamp_min(0) * mixed.square() / levels.clamp_min(GAP)
    return float(each.sum())


def compare(
    network: FockNetwork,
    trained_on: Iterable[Problem | Absent],
    validators: Sequence[Problem],
    kept_out: Mapping[int, Prediction],
    reporter: Reporter,
) -> dict[str, Any] | None:
    """:func:`worth` for the summary, with a line where the network is worse.

    Args:
        network: As for :func:`worth`.
        trained_on: As for :func:`worth`.
        validators: As for :func:`worth`.
        kept_out: As for :func:`worth`, by position.
        reporter: Where people read.

    Returns:
        ``against_base``; None where nothing is known.
    """
    found = worth(network, trained_on, validators, kept_out.values())
    if found is None:
        return None
    found.tell(reporter)
    return found.to_dict()
