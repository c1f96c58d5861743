"""Settings of a crystal's SCF and what it ends with."""

import dataclasses

from torch import Tensor

from deeph_zero.ks.periodic.layer import CrystalBuild
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix
from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalSCFSettings:
    """How to iterate.

    Attributes:
        conv_tol: Change of the (free) energy between iterations, Eh per cell.
        conv_tol_grad: Norm of the orbital gradient, √Σ_k w_k |g_k|², Eh; None: sqrt(conv_tol).
        max_cycle: Iterations at most, one Fock build each, on either mesh.
        diis_space: Builds that DIIS remembers.
        dielectric: Move every extrapolated matrix on by the Coulomb response, as long as it helps.
        degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly; 0 fills them one
            after the other.
        two_grids: Iterate on a coarse mesh, where the target mesh has enough points for that to
            pay, and correct it by the target mesh; the answer is the target mesh's.
    """

    conv_tol: float = 1e-9
    conv_tol_grad: float | None = None
    max_cycle: int = 100
    diis_space: int = 8
    dielectric: bool = True
    degeneracy_tol: float = 0.0
    two_grids: bool = True

    @property
    def gradient_tolerance(self) -> float:
        """The gradient norm asked for, Eh."""
        return self.conv_tol**0.5 if self.conv_tol_grad is None else self.conv_tol_grad


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class CrystalSCFResult(Brief):
    """The last SCF iterate.

    Attributes:
        energy: Total energy at ``dm``, Eh per cell.
        entropy_energy: T S with smearing; ``free_energy`` is what the iteration minimises.
        parts: Parts of the energy by name, Eh per cell.
        fock: F[dm], Eh.
        dm: Density matrix.
        mo_energy: Eigenvalues of ``fock``, Eh; +inf for combinations that were left out.
        mo_coeff: Its orbitals.
        mo_occ: Their occupations.
        fermi: Fermi level of each spin, Eh.
        gap: Lowest empty minus highest filled level, Eh; with smearing, of those on both sides of
            the Fermi level.
        converged: Both tolerances were met.
        iterations: SCF cycles, on either mesh.
        fock_builds: Fock builds on the mesh asked for.
        coarse_builds: Those on the coarse mesh.
        gradient_norm: Norm of the orbital gradient, Eh.
        n_electrons: Density integrated on the grid, per cell.
        grid_error: E_xc by gradients of the density minus that by gradients of AOs, Eh per cell: a
            test of the grid's cutoff.
        exxdiv: How exact exchange was treated where its kernel diverges, by PySCF's names; None
            also without exact exchange.
        build: The last build.
    """

    energy: float
    entropy_energy: float
    parts: dict[str, float]
    fock: BlochMatrix
    dm: BlochMatrix
    mo_energy: BandEnergies
    mo_coeff: Tensor
    mo_occ: BandEnergies
    fermi: tuple[float, ...]
    gap: float
    converged: bool
    iterations: int
    fock_builds: int
    coarse_builds: int
    gradient_norm: float
    n_electrons: float
    grid_error: float
    exxdiv: str | None
    build: CrystalBuild

    @property
    def free_energy(self) -> float:
        """E - T S, Eh per cell; the energy itself without smearing."""
        return self.energy - self.entropy_energy
