"""Losses of one geometry and their mixes, all in mEh.

Matrix losses are root mean squares per geometry, so that easy and distorted geometries pull with
comparable strength and gradients keep their size as the error falls.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.occupation import smallest_gap
from deeph_zero.settings.loss_terms import Term
from deeph_zero.train.taught import MatchOrbitals, Problem
from deeph_zero.train.teacher import gradient_rms
from deeph_zero.types import AOMatrix, Scalar

MILLI = 1e3
GAP = 1e-3
"""Smallest orbital energy difference in an estimate, Eh, as in the certificate."""
FLOOR = 1e-9
"""RMS below which a loss turns flat, Eh."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchWeights:
    """What is added to the plain RMS of H - F* when H is matched to a given matrix F*.

    Attributes:
        occ_occ: Weight of the RMS of the occupied-occupied block, in orbitals of F*.
        occ_virt: Weight of the occupied-virtual block, which alone moves the density.
        virt_virt: Weight of the virtual-virtual block.
        orbital_energy: Weight of the RMS of the orbital energies, occupied and as many empty ones.
    """

    occ_occ: float = 0.0
    occ_virt: float = 0.3
    virt_virt: float = 0.0
    orbital_energy: float = 0.0


@dataclasses.dataclass(frozen=True)
class LossValue:
    """A loss and what it learned on the way.

    Attributes:
        loss: Scalar with gradient.
        residual: RMS of H - F in the orthonormal basis, Eh (F the target, or F[P(H)]).
        gradient: Orbital-gradient rms at P(H), Eh; estimated from the target where no build was
            made there.
        built: A Fock build was made at P(H).
        gap: Smallest gap between occupied and empty levels that the gradient divided by, Eh.
        energy_error: Second-order estimate of E[P(H)] - E_SCF without response, Eh; where no build
            was made, from the target, as if that were self-consistent.

    Where no build was made residual, gradient and error are tensors on the device until
    :func:`settled` reads them.
    """

    loss: Tensor
    residual: float | Tensor
    gradient: float | Tensor
    built: bool = False
    gap: float = math.inf
    energy_error: float | Tensor = 0.0


def settled(loss: Tensor, values: Sequence[LossValue]) -> tuple[float, list[LossValue]]:
    """Loss and values with all numbers on the host: a device is waited for once, not for each.

    Args:
        loss: Their mean.
        values: What losses gave.

    Returns:
        The mean, and the values in order; losses keep their gradients.
    """
    given = [loss.detach(), *(getattr(value, name) for value in values for name in NUMBERS)]
    read = iter(torch.stack([one for one in given if isinstance(one, Tensor)]).tolist())
    first, *rest = [next(read) if isinstance(one, Tensor) else one for one in given]
    numbers = iter(rest)
    return first, [
        dataclasses.replace(value, **{name: next(numbers) for name in NUMBERS}) for value in values
    ]


NUMBERS = ("residual", "gradient", "energy_error")

Matched = tuple[Tensor, ...]
"""Losses of several geometries, with gradient, mEh, and :data:`NUMBERS` of :class:`LossValue`."""


class Point:
    """H of one geometry with everything that losses share: at most one build, whatever the mix."""

    def __init__(self, problem: Problem, hamiltonian: AOMatrix) -> None:
        """Bind; nothing is computed yet.

        Args:
            problem: The geometry.
            hamiltonian: H, Eh, with gradient.
        """
        self.problem = problem
        self.hamiltonian = hamiltonian
        self.built = False

    @functools.cached_property
    def dm(self) -> AOMatrix:
        """P(H)."""
        return self.problem.ks.density(self.hamiltonian)

    @functools.cached_property
    def state(self) -> tuple[Scalar, AOMatrix]:
        """(E, F) of P(H); one Fock build."""
        self.built = True
        return self.problem.ks(self.dm)

    @functools.cached_property
    def gradient(self) -> float:
        """Orbital-gradient rms at P(H), Eh."""
        return float(gradient_rms(self.problem.ks, self.state[1].detach(), self.dm.detach()))

    def gap(self) -> float:
        """Smallest gap between occupied and empty levels of H, Eh."""
        ks = self.problem.ks
        levels = ks.layer.orbitals(ks.to_layer(self.hamiltonian.detach())).mo_energy
        return smallest_gap(levels, ks.nelec)

    def value(self, loss: Tensor) -> LossValue:
        """A loss that made the build."""
        with torch.no_grad():
            off = orthonormal(self.problem, self.hamiltonian - self.state[1])
            residual = float(off.square().mean().sqrt())
        return LossValue(
            loss, residual, self.gradient, built=True, energy_error=self.energy_error()
        )

    def energy_error(self) -> float:
        """The certificate's cheap estimate of E[P(H)] - E_SCF, Eh; no response build."""
        energy, fock = (x.detach() for x in self.state)
        ks, dm = self.problem.ks, self.dm.detach()
        return ks.certificate(dm, fock, float(energy), coupled=False).energy_error_estimate


def orthonormal(problem: Problem, matrix: AOMatrix) -> Tensor:
    """Xᵀ M X with Xᵀ S X = 1."""
    return problem.ks.x.mT @ matrix @ problem.ks.x


def energy_loss(point: Point, weights: MatchWeights) -> LossValue:
    """E[P(H)] (the free energy with smearing) in mEh: one build, no response.

    References:
        Y. Li et al., Phys. Rev. Lett. 133, 076401 (2024).
    """
    del weights
    energy = point.state[0] - point.problem.ks.entropy_energy(point.hamiltonian)
    # the constant keeps the number readable and changes no gradient
    return point.value(MILLI * (energy - energy.detach().round()))


def self_consistency_loss(point: Point, weights: MatchWeights) -> LossValue:
    """RMS of H - F[P(H)], differentiated through density and rebuild; one build, one response.

    References:
        H. Zhang et al., ICML 2024, arXiv:2403.09560.
    """
    del weights
    delta = orthonormal(point.problem, point.hamiltonian - point.state[1])
    return point.value(MILLI * _root(delta.square().mean()))


def commutator_loss(point: Point, weights: MatchWeights) -> LossValue:
    """Orbital-gradient rms at P(H), from FPS - SPF with F = F[P(H)]; one build, one response.

    The orbital energy differences cancel between dP/dH and dF_ov/dP, so that every occupied-virtual
    element of H pulls with the same strength up to the response of F.

    References:
        P. Pulay, J. Comput. Chem. 3, 556 (1982), eq. 4, as an error vector.
    """
    del weights
    rms = gradient_rms(point.problem.ks, point.state[1], point.dm, floor=FLOOR)
    return point.value(MILLI * rms)


def fixed_point_loss(point: Point, weights: MatchWeights) -> LossValue:
    """RMS of H - F* with the teacher's target F* held constant; no build of its own."""
    del weights  # they are for labels: the target's own weights are part of the method
    problem = point.problem
    return _match(point, problem.teacher.target, problem.target_orbitals(), MatchWeights())


def fixed_point_losses(
    problems: Sequence[Problem], hamiltonians: Sequence[AOMatrix], weights: MatchWeights
) -> Matched:
    """:func:`fixed_point_loss` of geometries whose matrices have one shape, in one go.

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
    """:func:`supervised_loss` of geometries whose matrices have one shape, in one go.

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
            raise _no_label(problem)
    at = [problem.label_orbitals() for problem in problems]
    return _matched(problems, hamiltonians, at, weights)


def _matched(
    problems: Sequence[Problem],
    hamiltonians: Sequence[AOMatrix],
    at: Sequence[MatchOrbitals],
    weights: MatchWeights,
) -> Matched:
    """:func:`_match` of several geometries."""
    stacked = {
        field.name: torch.stack([getattr(one, field.name) for one in at])
        for field in dataclasses.fields(MatchOrbitals)
    }
    targets, matrices = MatchOrbitals(**stacked), torch.stack(list(hamiltonians))
    delta = matrices - targets.target
    wide = [1] * (delta.ndim - 3)  # the spins

    def each(matrices: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(matrices)).reshape(len(at), *wide, *matrices[0].shape)

    x, outputs = each([problem.ks.x for problem in problems]), delta
    balances = [one.balance for one in problems if one.balance is not None]
    if balances:
        inverse = each([one.inverse for one in balances])
        outputs = inverse @ delta @ inverse
    ks = problems[0].ks
    loss, *numbers = _compared(
        delta, x.mT @ delta @ x, outputs, targets, weights,
        unrestricted=ks.unrestricted, lead=1,
    )  # fmt: skip
    if weights.orbital_energy > 0:
        off = _levels_off(x.mT @ matrices @ x, targets, max(ks.nelec))
        mean = off.square().flatten(1).mean(-1)
        loss = loss + weights.orbital_energy * _root(mean)
    return MILLI * loss, *numbers


def _levels_off(inner: Tensor, at: MatchOrbitals, filled: int) -> Tensor:
    """Orbital energies of H minus those of F*, the occupied and as many empty ones."""
    keep = slice(2 * filled)
    return torch.linalg.eigvalsh(inner)[..., keep] - at.mo_energy[..., keep]


def supervised_loss(point: Point, weights: MatchWeights) -> LossValue:
    """RMS of H - F of the label, with weights on blocks and orbital energies; no build."""
    problem = point.problem
    if problem.label is None:
        raise _no_label(problem)
    fock = problem.label.fock.to(problem.fock0)
    return _match(point, fock, problem.label_orbitals(), weights)


def _no_label(problem: Problem) -> InputError:
    return InputError(
        f"{problem.molecule.where}expected a label for the supervised loss, got none; give "
        "labels (deeph-zero label writes them) or use --loss fixed-point"
    )


def _match(point: Point, target: AOMatrix, at: MatchOrbitals, weights: MatchWeights) -> LossValue:
    """What :func:`_compared` says of one geometry, with the orbital energies where they count."""
    problem, delta = point.problem, point.hamiltonian - target
    loss, *numbers = _compared(
        delta, orthonormal(problem, delta), problem.as_output(delta), at, weights,
        unrestricted=problem.ks.unrestricted,
    )  # fmt: skip
    if weights.orbital_energy > 0:
        off = _levels_off(orthonormal(problem, point.hamiltonian), at, max(problem.ks.nelec))
        loss = loss + weights.orbital_energy * _root(off.square().mean())
    off, ov, error = (_number(one) for one in numbers)
    return LossValue(MILLI * loss, off, ov, energy_error=error)


def _compared(
    delta: Tensor,
    inner: Tensor,
    outputs: Tensor,
    at: MatchOrbitals,
    weights: MatchWeights,
    *,
    unrestricted: bool,
    lead: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RMS of H - F* plus the weighted RMS of its blocks in orbitals of F*.

    ``delta`` is H - F*, ``inner`` the same in the orthonormal basis, ``outputs`` as the network
    predicts it; ``lead`` leading axes are of geometries. What comes is the loss and, without
    gradient, RMS, that of the occupied-virtual block, and the estimate of the energy error, Eh.
    """
    axes = tuple(range(lead, delta.ndim))
    mixed = at.vectors.mT @ inner @ at.vectors
    # of what the network predicts: so no direction of the orbitals' space is out of sight
    loss = _root(outputs.square().mean(axes))
    pairs = at.occ_virt
    ov = _block(mixed, pairs, axes)
    loss = loss + weights.occ_virt * ov
    if weights.occ_occ > 0:
        loss = loss + weights.occ_occ * _block(mixed, at.occ_occ, axes)
    if weights.virt_virt > 0:
        loss = loss + weights.virt_virt * _block(mixed, at.virt_virt, axes)
    with torch.no_grad():
        # 2 Σ F_ia² / Δ_ia for a closed shell; the sum over all pairs has each of them twice
        levels = at.mo_energy.unsqueeze(-1) - at.mo_energy.unsqueeze(-2)
        each = pairs * mixed.square() / levels.abs().clamp_min(GAP)
        error = each.sum(axes) * (0.5 if unrestricted else 1.0)
        return loss, _root(delta.square().mean(axes)), ov.detach(), error


def _number(value: Tensor) -> float | Tensor:
    """The number; on a device the tensor, which waits to be read with others."""
    return float(value) if value.device.type == "cpu" else value


def _block(mixed: Tensor, pairs: Tensor, axes: tuple[int, ...]) -> Tensor:
    return _root((mixed.square() * pairs).sum(axes) / pairs.sum(axes).clamp_min(1.0))


def _root(square: Tensor) -> Tensor:
    """Square root with a finite slope at zero."""
    return (square + FLOOR**2).sqrt()


FUNCTIONS: dict[str, Callable[[Point, MatchWeights], LossValue]] = {
    "energy": energy_loss,
    "self-consistency": self_consistency_loss,
    "commutator": commutator_loss,
    "fixed-point": fixed_point_loss,
    "supervised": supervised_loss,
}
"""By name; the names are :data:`deeph_zero.settings.loss_terms.LOSSES`."""

SEVERAL: dict[str, Callable[[Sequence[Problem], Sequence[AOMatrix], MatchWeights], Matched]] = {
    "fixed-point": fixed_point_losses,
    "supervised": supervised_losses,
}
"""Those of several geometries in one go: losses without a build."""


@dataclasses.dataclass(frozen=True)
class LossMix:
    """A weighted sum of losses whose weights depend on how far the training is.

    Attributes:
        terms: What is mixed.
        weights: Weights of blocks and orbital energies in the supervised term.
    """

    terms: tuple[Term, ...]
    weights: MatchWeights = MatchWeights()

    def active(self, progress: float) -> dict[str, float]:
        """Names and weights of the losses that are on."""
        factors = {term.name: term.factor(progress) for term in self.terms}
        return {name: factor for name, factor in factors.items() if factor > 0}

    def together(
        self, problems: Sequence[Problem], hamiltonians: Sequence[AOMatrix], progress: float
    ) -> list[LossValue] | None:
        """The mix of several geometries, those of one shape in one go: fewer launches on a device.

        Args:
            problems: The geometries.
            hamiltonians: H of each, Eh, with gradient.
            progress: Fraction of the training that is done.

        Returns:
            The losses, in order; None where terms are on that make builds.

        Raises:
            InputError: If only a label could teach a geometry and it has none.
        """
        active = self.active(progress)
        if not set(active) <= set(SEVERAL):
            return None
        levels = "supervised" in active and self.weights.orbital_energy > 0
        kinds: dict[Any, list[int]] = {}
        for k, (problem, matrix) in enumerate(zip(problems, hamiltonians, strict=True)):
            electrons = max(problem.ks.nelec) if levels else 0
            kind = (matrix.shape, problem.ks.x.shape, problem.balance is None, electrons)
            kinds.setdefault((kind, tuple(self._terms(problem, active))), []).append(k)
        out: dict[int, LossValue] = {}
        for (_, names), members in kinds.items():
            some = [problems[k] for k in members], [hamiltonians[k] for k in members]
            found = [SEVERAL[name](*some, self.weights) for name in names]
            shares = [
                one[0] if active[name] == 1 else active[name] * one[0]
                for name, one in zip(names, found, strict=True)
            ]
            columns = sum(shares[1:], start=shares[0]), *found[0][1:]
            each = zip(*(column.unbind() for column in columns), strict=True)
            for k, (loss, off, ov, error) in zip(members, each, strict=True):
                out[k] = LossValue(loss, off, ov, energy_error=error)
        return [out[k] for k in range(len(problems))]

    @staticmethod
    def _terms(problem: Problem, active: Mapping[str, float]) -> dict[str, float]:
        """What teaches a geometry: a mix goes on without labels where there is none."""
        if problem.label is not None or len(active) == 1:
            return dict(active)
        return {name: weight for name, weight in active.items() if name != "supervised"}

    def diagonalises(self, progress: float) -> bool:
        """Whether H itself is diagonalised, which takes finite elements.

        Args:
            progress: Fraction of the training that is done.

        Returns:
            False where H is only compared with given matrices.
        """
        active = self.active(progress).keys()
        levels = "supervised" in active and self.weights.orbital_energy > 0
        return levels or not active <= {"fixed-point", "supervised"}

    def check(self, problem: Problem) -> None:
        """Make sure that a geometry can be taught at every time.

        Args:
            problem: The geometry.

        Raises:
            InputError: If only a label could teach it at some time and it has none.
        """
        marks = {t.start for t in self.terms} | {t.end for t in self.terms}
        alone = any(list(self.active(mark)) == ["supervised"] for mark in marks)
        if alone and problem.label is None:
            raise _no_label(problem)

    def __call__(self, problem: Problem, hamiltonian: AOMatrix, progress: float = 0.0) -> LossValue:
        """The mix at one H.

        Builds at P(H) are shared by the terms and offered to the teacher. Where some geometries
        have labels and others do not, the supervised term of a mix is left out of the latter.

        Args:
            problem: The geometry.
            hamiltonian: H, Eh, with gradient.
            progress: Fraction of the training that is done.

        Returns:
            Sum of the losses; residual and gradient from a term that made a build, if one did.

        Raises:
            InputError: If only a label could teach this geometry and it has none.
        """
        active = self._terms(problem, self.active(progress))
        point = Point(problem, hamiltonian)
        values = [(w, FUNCTIONS[name](point, self.weights)) for name, w in active.items()]
        if point.built and "fixed-point" in active:
            energy, fock = (x.detach() for x in point.state)
            problem.teacher.offer(point.dm.detach(), fock, float(energy))
        loss = torch.stack([w * value.loss for w, value in values]).sum()
        best = max((value for _, value in values), key=lambda value: value.built)
        gap = point.gap() if point.built else math.inf
        return dataclasses.replace(best, loss=loss, gap=gap)
