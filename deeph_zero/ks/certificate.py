"""What one Fock build says about a density: orbital gradient and an estimate of its energy error.

The estimates come from an SCF on a coarse grid, corrected by the one build on the target grid (see
:mod:`.scf.two_grids`): energy, levels and dipole of its end. Where there is no coarse grid they
come from the quadratic model of :mod:`.response.quadratic`: the energy by the lowering at its
minimum, the levels by F with the response to the step there, the dipole by the density there. The
cheap estimate, Σ (f_p - f_q) F_pq² / (e_q - e_p), leaves the response out.
"""

import dataclasses
from typing import Any

import torch

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.occupation import frontier
from deeph_zero.ks.response.quadratic import QuadraticModel, Step
from deeph_zero.ks.scf.solve import Solution, coarse_solution
from deeph_zero.types import SpinMatrix

PerSpin = float | list[float | None] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """How wrong a prediction is, in Hartree.

    Attributes:
        energy: E[P̂] at the predicted density.
        energy_error_estimate: Estimate of E[P̂] - E_SCF, >= 0.
        energy_estimate: ``energy`` minus the estimate; not variational.
        orbital_gradient_rms: Root mean square of the occupied-virtual block of F over all its
            elements and spins.
        homo: Highest occupied level of the rebuilt Fock; [alpha, beta] for UKS, None if none.
        lumo: Lowest empty one.
        gap: lumo - homo.
        coupled: The estimate includes the response build.
        stable: The energy curves upwards along the first rotation, x_pq = -F_pq / (e_q - e_p).
        degenerate: The frontier level is degenerate.
        aufbau: No emptier semicanonical level of F lies below a fuller one.
        homo_estimate: Estimate of the converged level, from F with the response to the estimated
            step; None without the response build.
        lumo_estimate: Likewise the lowest empty level.
        gap_estimate: Their difference.
        dipole_change: Estimate of the converged dipole minus the present one, debye,
            [3]; None without the response build.
    """

    energy: float
    energy_error_estimate: float
    energy_estimate: float
    orbital_gradient_rms: float
    homo: PerSpin
    lumo: PerSpin
    gap: PerSpin
    coupled: bool
    stable: bool
    degenerate: bool
    aufbau: bool = True
    homo_estimate: PerSpin = None
    lumo_estimate: PerSpin = None
    gap_estimate: PerSpin = None
    dipole_change: tuple[float, float, float] | None = None


def _frontier(layer: KohnShamLayer, fock: SpinMatrix) -> tuple[PerSpin, PerSpin, PerSpin, bool]:
    orbitals = layer.orbitals(fock)
    found = frontier(orbitals.mo_energy, layer.nelec)
    homo, lumo, gap = [f.homo for f in found], [f.lumo for f in found], [f.gap for f in found]
    if layer.unrestricted:
        return homo, lumo, gap, orbitals.degenerate  # pyright: ignore
    return homo[0], lumo[0], gap[0], orbitals.degenerate


def certify(
    layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix, energy: float, *, coupled: bool = True
) -> Certificate:
    """Certificate of a density from the Fock build made there.

    Args:
        layer: The molecule.
        dm: Predicted density matrix P̂.
        fock: F[P̂].
        energy: E[P̂], Eh.
        coupled: Spend one response build for the coupled estimate.

    Returns:
        The certificate; the sign of its estimate is that of a lowering, >= 0.
    """
    with torch.no_grad():
        model = QuadraticModel(layer, dm, fock)
        if not coupled:
            return certificate_of(layer, fock, energy, model)
        step = model.step()
        # the quadratic model is for where there is no coarse grid, or it leads astray
        solved = None if step is None else coarse_solution(layer, dm, fock)
        end = None if step is None else end_of(dm, fock, step, solved)
        return certificate_of(layer, fock, energy, model, dm=dm, end=end, coupled=True)


@dataclasses.dataclass(frozen=True)
class End:
    """Where an SCF from a density is estimated to end.

    Attributes:
        lowering: By how much the energy falls, Eh.
        dm: The density there.
        fock: F there, Eh.
    """

    lowering: float
    dm: SpinMatrix
    fock: SpinMatrix


def end_of(dm: SpinMatrix, fock: SpinMatrix, step: Step, solved: Solution | None) -> End:
    """The better of two estimates.

    Args:
        dm: The density matrix.
        fock: F[dm], Eh.
        step: That of the quadratic model.
        solved: That of the coarse grid, where there is one.

    Returns:
        The coarse grid's where its energy is lower; all on one device.
    """
    if solved is not None and solved.change <= 0:
        return End(-solved.change, solved.dm, solved.fock)
    return End(step.lowering, dm + step.ddm, fock + step.dfock)


def certificate_of(
    layer: KohnShamLayer,
    fock: SpinMatrix,
    energy: float,
    model: QuadraticModel,
    *,
    dm: SpinMatrix | None = None,
    end: End | None = None,
    coupled: bool = False,
) -> Certificate:
    """The certificate, estimates given.

    Args:
        layer: The molecule; needs no integrals for builds.
        fock: F[P̂], Eh.
        energy: E[P̂], Eh.
        model: The quadratic model there.
        dm: P̂, where ``end`` is given.
        end: Where the SCF is estimated to end; None without the coupled estimate, or where the
            energy curves downwards.
        coupled: Whether the estimate was asked for.

    Returns:
        The certificate.
    """
    homo, lumo, gap, degenerate = _frontier(layer, fock)
    estimate, corrected = model.cheap, {}
    if end is not None:
        assert dm is not None
        estimate, corrected = end.lowering, _corrected(layer, dm, end.dm, end.fock)
    return Certificate(
        energy=energy,
        energy_error_estimate=estimate,
        energy_estimate=energy - estimate,
        orbital_gradient_rms=model.gradient_rms,
        homo=homo,
        lumo=lumo,
        gap=gap,
        coupled=end is not None,
        stable=end is not None or not coupled,
        degenerate=degenerate,
        aufbau=model.aufbau,
        **corrected,
    )


def _corrected(
    layer: KohnShamLayer, dm: SpinMatrix, solved_dm: SpinMatrix, solved_fock: SpinMatrix
) -> dict[str, Any]:
    """Estimates of the converged levels and dipole."""
    homo, lumo, gap, _ = _frontier(layer, solved_fock)
    change = layer.dipole(solved_dm) - layer.dipole(dm)
    return {
        "homo_estimate": homo,
        "lumo_estimate": lumo,
        "gap_estimate": gap,
        "dipole_change": tuple(change.tolist()),
    }
