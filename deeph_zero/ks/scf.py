"""Self-consistent field: DIIS with damping and level shift; non-convergence is a result."""

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deeph_zero.ks.diis import DIIS
from deeph_zero.types import AOMatrix, OrbitalEnergies
from deeph_zero.types import Orbitals as OrbitalMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.layer import KohnShamLayer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCFSettings:
    """How to iterate; names and defaults are PySCF's where it has them.

    Attributes:
        conv_tol: Energy change between iterations, Eh.
        conv_tol_grad: Norm of the orbital gradient (PySCF's ``get_grad``), Eh; None means
            sqrt(conv_tol).
        max_cycle: Largest number of iterations (Fock builds after the first).
        diis_space: Number of builds DIIS remembers.
        damp: Fraction of the previous Fock matrix mixed in before DIIS starts.
        diis_start: Iteration at which DIIS starts.
        level_shift: Raises the virtual orbitals by this much (Eh) while iterating.
        degeneracy_tol: Frontier levels closer than this are filled evenly; 0, PySCF's behaviour,
            keeps integer occupations.
        retry: When the plain iteration fails, go on with damping and a level shift.
    """

    conv_tol: float = 1e-9
    conv_tol_grad: float | None = None
    max_cycle: int = 100
    diis_space: int = 8
    damp: float = 0.0
    diis_start: int = 1
    level_shift: float = 0.0
    degeneracy_tol: float = 0.0
    retry: bool = True

    @property
    def gradient_tolerance(self) -> float:
        """The gradient norm asked for, Eh."""
        return self.conv_tol**0.5 if self.conv_tol_grad is None else self.conv_tol_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCFResult:
    """The last SCF iterate.

    Attributes:
        energy: Total energy at ``dm``, Eh.
        fock: F[dm], Eh.
        dm: Density matrix.
        mo_energy: Eigenvalues of ``fock``, Eh.
        mo_coeff: Its orbitals.
        mo_occ: Their occupations.
        converged: Both tolerances were met.
        iterations: SCF cycles, counted as PySCF does (the build at the start is not one).
        fock_builds: Fock builds spent, the first included.
        gradient_norm: Norm of the orbital gradient at the end, Eh.
        degenerate: The frontier level of ``fock`` is degenerate.
    """

    energy: float
    fock: AOMatrix
    dm: AOMatrix
    mo_energy: OrbitalEnergies
    mo_coeff: OrbitalMatrix
    mo_occ: OrbitalEnergies
    converged: bool
    iterations: int
    fock_builds: int
    gradient_norm: float
    degenerate: bool


def gradient_norm(commutator: Tensor) -> float:
    """PySCF's ``norm(get_grad)`` from the commutator in an orthonormal basis, Eh.

    [F', P'] has elements (f_q - f_p) F_pq between orbitals, so its Frobenius norm is √2 times the
    norm of the occupied-virtual block times the occupation: 2 F_ai (closed shell), F_ai (UKS).
    """
    return float(torch.linalg.vector_norm(commutator)) / 2**0.5


def shifted(fock: AOMatrix, dm: AOMatrix, ovlp: Tensor, shift: float) -> AOMatrix:
    """F with the virtual space of ``dm`` raised by ``shift``: F + shift (S - S P S / f)."""
    if shift == 0:
        return fock
    per_orbital = 2.0 if dm.ndim == 2 else 1.0
    return fock + shift * (ovlp - ovlp @ dm @ ovlp / per_orbital)


def solve_scf(layer: "KohnShamLayer", dm0: AOMatrix, settings: SCFSettings) -> SCFResult:
    """Iterate to self-consistency.

    Args:
        layer: The molecule.
        dm0: Starting density matrix.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The last iterate. Where the plain DIIS iteration runs out of cycles and ``retry`` is set,
        it goes on from there with damping and a level shift for as many cycles again.
    """
    before = layer.fock_builds
    result, iterations = _iterate(layer, dm0, settings)
    if not result.converged and settings.retry and settings.max_cycle > 0:
        careful = dataclasses.replace(
            settings,
            damp=max(settings.damp, 0.3),
            level_shift=max(settings.level_shift, 0.3),
            diis_start=max(settings.diis_start, 8),
            retry=False,
        )
        result, more = _iterate(layer, result.dm, careful)
        iterations += more
    return dataclasses.replace(
        result, iterations=iterations, fock_builds=layer.fock_builds - before
    )


def _iterate(layer: "KohnShamLayer", dm0: AOMatrix, settings: SCFSettings) -> tuple[SCFResult, int]:
    tol = settings.degeneracy_tol
    diis = DIIS(settings.diis_space)
    dm = dm0
    built = layer.build(dm)
    energy, fock = float(built.energy), built.fock
    mixed = fock
    converged, cycle, norm = False, 0, float("inf")
    while not converged and cycle < settings.max_cycle:
        cycle += 1
        orbitals = layer.orbitals(shifted(mixed, dm, layer.data.ovlp, settings.level_shift), tol)
        dm = (orbitals.mo_coeff * orbitals.mo_occ.unsqueeze(-2)) @ orbitals.mo_coeff.mT
        built = layer.build(dm)
        last, previous = energy, fock
        energy, fock = float(built.energy), built.fock
        error = layer.commutator(fock, dm)
        norm = gradient_norm(error)
        converged = abs(energy - last) < settings.conv_tol and norm < settings.gradient_tolerance
        diis.add(fock, error)
        if cycle >= settings.diis_start:
            mixed = diis.extrapolate()
        else:
            mixed = (1 - settings.damp) * fock + settings.damp * previous
    orbitals = layer.orbitals(fock, tol)
    degenerate = layer.orbitals(fock).degenerate
    result = SCFResult(
        energy=energy,
        fock=fock,
        dm=dm,
        mo_energy=orbitals.mo_energy,
        mo_coeff=orbitals.mo_coeff,
        mo_occ=orbitals.mo_occ,
        converged=converged,
        iterations=cycle,
        fock_builds=0,
        gradient_norm=norm,
        degenerate=degenerate,
    )
    return result, cycle
