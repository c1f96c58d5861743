"""What an SCF is asked for, and what it gives."""

import dataclasses

from deeph_zero.types import AOMatrix, Brief, OrbitalEnergies
from deeph_zero.types import Orbitals as OrbitalMatrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCFSettings:
    """How to iterate; names and defaults are PySCF's where it has them.

    Attributes:
        conv_tol: Energy change between iterations, Eh.
        conv_tol_grad: Norm of the orbital gradient (PySCF's ``get_grad``), Eh; None means
            sqrt(conv_tol).
        max_cycle: Largest number of iterations (Fock builds after the first, on either grid),
            those of the second-order fallback included; its response builds are not iterations.
        diis_space: Number of builds DIIS remembers.
        damp: Fraction of the previous Fock matrix mixed in before DIIS starts.
        diis_start: Iteration at which DIIS starts.
        level_shift: Raises the virtual orbitals by this much (Eh) while iterating.
        dielectric: Move every extrapolated matrix on by the Coulomb response, see
            :mod:`..response.dielectric`, as long as it helps: fewer builds. False iterates as
            PySCF does.
        degeneracy_tol: Frontier levels closer than this are filled evenly; 0, PySCF's behaviour,
            keeps integer occupations.
        init_guess: Where to start without a density: "minao" (superposed atoms) or "core"
            (orbitals of the core Hamiltonian).
        retry: Where DIIS oscillates or stalls, help it: ADIIS far from convergence, then
            second-order steps.
        leave_saddles: Check the internal stability of the converged density and go down from a
            saddle point (some 20 response builds per check).
        hint: Log a line where an unrestricted solution lies below a converged closed shell, see
            :mod:`..response.open_shell`; costs response builds only where that is likely.
        two_grids: Iterate on a coarse grid, and come to the target grid only to correct it and
            to confirm, see :mod:`.two_grids`. The answer is the target grid's either way.
    """

    conv_tol: float = 1e-9
    conv_tol_grad: float | None = None
    max_cycle: int = 100
    diis_space: int = 8
    damp: float = 0.0
    diis_start: int = 1
    level_shift: float = 0.0
    dielectric: bool = True
    degeneracy_tol: float = 0.0
    init_guess: str = "minao"
    retry: bool = True
    leave_saddles: bool = False
    hint: bool = True
    two_grids: bool = True

    @property
    def gradient_tolerance(self) -> float:
        """The gradient norm asked for, Eh."""
        return self.conv_tol**0.5 if self.conv_tol_grad is None else self.conv_tol_grad


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SCFResult(Brief):
    """The last SCF iterate.

    Attributes:
        energy: Total energy at ``dm``, Eh.
        fock: F[dm], Eh.
        dm: Density matrix.
        mo_energy: Eigenvalues of ``fock``, Eh.
        mo_coeff: Its orbitals.
        mo_occ: Their occupations; aufbau, unless the second-order fallback found a determinant
            that is lower in energy than its own aufbau one.
        converged: Both tolerances were met.
        iterations: SCF cycles on either grid, counted as PySCF does (the build at the start is
            not one).
        fock_builds: Fock builds spent on the target grid, responses and the first one included
            (not one that was given).
        gradient_norm: Norm of the orbital gradient at the end, Eh.
        degenerate: The frontier level of ``fock`` is degenerate.
        second_order_steps: How many of the iterations were second-order steps.
        entropy_energy: T S, Eh, with smearing: the iteration minimises ``energy`` minus this.
        coarse_builds: Builds spent on the coarse grid.
        n_electrons: Density integrated on the target grid; None after second-order steps.
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
    second_order_steps: int = 0
    entropy_energy: float = 0.0
    coarse_builds: int = 0
    n_electrons: float | None = None

    @property
    def free_energy(self) -> float:
        """E - T S, Eh; the energy itself without smearing."""
        return self.energy - self.entropy_energy
