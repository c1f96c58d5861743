"""Losses of one geometry and their mixes, all in mEh.

Matrix losses are root mean squares per geometry, so that easy and distorted geometries pull with
comparable strength and gradients keep their size as the error falls.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

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


NUMBERS = ("residual", "gradient", "energy_error", "gap", "sound")
"""Fields of :class:`LossValue` that may be tensors."""


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
        sound: 1; 0 where energy or Fock matrix are not finite and the loss is 0 instead; NaN where
            H itself is not finite.
        at: P(H), F and E there, for the teacher to consider; None where that was done, or not
            asked for.

    Numbers of several geometries are tensors on the device until :func:`settled` reads them.
    """

    loss: Tensor
    residual: float | Tensor
    gradient: float | Tensor
    built: bool = False
    gap: float | Tensor = math.inf
    energy_error: float | Tensor = 0.0
    sound: float | Tensor = 1.0
    at: tuple[AOMatrix, AOMatrix, Scalar] | None = None


def settled(
    others: Sequence[Tensor], values: Sequence[LossValue]
) -> tuple[list[float], list[LossValue]]:
    """Losses with all numbers on the host: a device is waited for once, not for each.

    Args:
        others: Other numbers to read.
        values: What losses gave.

    Returns:
        Those numbers, and the values in order; losses keep their gradients.
    """
    given = [getattr(value, name) for value in values for name in NUMBERS]
    asked = [*others, *(one for one in given if isinstance(one, Tensor))]
    read = iter(torch.stack([one.detach() for one in asked]).tolist())
    found = [next(read) for _ in others]
    numbers = iter([next(read) if isinstance(one, Tensor) else one for one in given])
    return found, [
        dataclasses.replace(value, **{name: next(numbers) for name in NUMBERS}) for value in values
    ]


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
    return point.value(MILLI * root(delta.square().mean()))


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


def levels_off(inner: Tensor, at: MatchOrbitals, filled: int) -> Tensor:
    """Orbital energies of H minus those of F*, the occupied and as many empty ones.

    Args:
        inner: H in the orthonormal basis, Eh.
        at: Orbitals of F*.
        filled: Occupied levels of the fuller spin.

    Returns:
        Differences, Eh.
    """
    keep = slice(2 * filled)
    return torch.linalg.eigvalsh(inner)[..., keep] - at.mo_energy[..., keep]


def supervised_loss(point: Point, weights: MatchWeights) -> LossValue:
    """RMS of H - F of the label, with weights on blocks and orbital energies; no build."""
    problem = point.problem
    if problem.label is None:
        raise no_label(problem)
    fock = problem.label.fock.to(problem.fock0)
    return _match(point, fock, problem.label_orbitals(), weights)


def no_label(problem: Problem) -> InputError:
    """What is said where only a label could teach a geometry."""
    return InputError(
        f"{problem.molecule.where}expected a label for the supervised loss, got none; give "
        "labels (deeph-zero label writes them) or use --loss fixed-point"
    )


def _match(point: Point, target: AOMatrix, at: MatchOrbitals, weights: MatchWeights) -> LossValue:
    """What :func:`compared` says of one geometry, with the orbital energies where they count."""
    problem, delta = point.problem, point.hamiltonian - target
    loss, *numbers = compared(
        delta, problem.as_output(delta), at, weights, unrestricted=problem.ks.unrestricted
    )
    if weights.orbital_energy > 0:
        off = levels_off(orthonormal(problem, point.hamiltonian), at, max(problem.ks.nelec))
        loss = loss + weights.orbital_energy * root(off.square().mean())
    off, ov, error = (_number(one) for one in numbers)
    return LossValue(MILLI * loss, off, ov, energy_error=error)


def compared(
    delta: Tensor,
    outputs: Tensor,
    at: MatchOrbitals,
    weights: MatchWeights,
    *,
    unrestricted: bool,
    lead: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RMS of H - F* plus the weighted RMS of its blocks in orbitals of F*.

    Args:
        delta: H - F*, Eh.
        outputs: The same as the network predicts it.
        at: Orbitals of F*.
        weights: Weights of the blocks.
        unrestricted: Whether alpha and beta are apart.
        lead: Leading axes that are of geometries.

    Returns:
        The loss and, without gradient, RMS, that of the occupied-virtual block, and the estimate
        of the energy error, Eh.
    """
    axes = tuple(range(lead, delta.ndim))
    # straight from the AOs: two matrix products, and two in the backward pass
    mixed = at.mo_coeff.mT @ delta @ at.mo_coeff
    # of what the network predicts: so no direction of the orbitals' space is out of sight
    loss = root(outputs.square().mean(axes))
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
        return loss, root(delta.square().mean(axes)), ov.detach(), error


def _number(value: Tensor) -> float | Tensor:
    """The number; on a device the tensor, which waits to be read with others."""
    return float(value) if value.device.type == "cpu" else value


def _block(mixed: Tensor, pairs: Tensor, axes: tuple[int, ...]) -> Tensor:
    return root((mixed.square() * pairs).sum(axes) / pairs.sum(axes).clamp_min(1.0))


def root(square: Tensor) -> Tensor:
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

    @staticmethod
    def taught_by(problem: Problem, active: Mapping[str, float]) -> dict[str, float]:
        """What teaches a geometry: a mix goes on without labels where there is none.

        Args:
            problem: The geometry.
            active: Names and weights of the losses that are on.

        Returns:
            Those of them that it can be taught by.
        """
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
            raise no_label(problem)

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
        active = self.taught_by(problem, self.active(progress))
        point = Point(problem, hamiltonian)
        values = [(w, FUNCTIONS[name](point, self.weights)) for name, w in active.items()]
        if point.built and "fixed-point" in active:
            energy, fock = (x.detach() for x in point.state)
            problem.teacher.offer(point.dm.detach(), fock, float(energy))
        loss = torch.stack([w * value.loss for w, value in values]).sum()
        best = max((value for _, value in values), key=lambda value: value.built)
        gap = point.gap() if point.built else math.inf
        return dataclasses.replace(best, loss=loss, gap=gap)
