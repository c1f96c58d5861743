"""What the Kohn-Sham layer needs of one crystal, from outside."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.step_coulomb import StepCoulomb
from deeph_zero.ks.periodic.terms.exchange import ExchangeTerm
from deeph_zero.ks.periodic.terms.fixed_operator import FixedOperator
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.types import BlochMatrix, BlochOperator, KWeights, MeshRows
from deeph_zero.ks.terms.term import Term
from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """One-electron matrices and AO values at k-points that are not the SCF's.

    Attributes:
        ovlp: Overlap S.
        fixed: Kinetic energy and non-local pseudopotentials, Eh.
        mesh_term: Makes matrices of potentials on the grid.
        exchange: Exact exchange of density matrices at the SCF's k-points; None without.
    """

    ovlp: BlochOperator
    fixed: BlochOperator
    mesh_term: MeshTerm
    exchange: ExchangeTerm | None = None


@runtime_checkable
class AtKPoints(Protocol):
    """Makes :class:`Elsewhere`."""

    def __call__(self, scaled: Sequence[Sequence[float]]) -> Elsewhere:
        """At fractions of the reciprocal vectors, [nk, 3]."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CrystalData(Brief):
    """Everything the layer knows of one crystal, basis, grid and functional.

    Attributes:
        ovlp: Overlap S at every k.
        weights: w_k, sum 1.
        fixed: Kinetic energy and non-local pseudopotentials.
        constant: Energy of the cores.
        mesh: The uniform grid; None where points are others.
        mesh_term: Local pseudopotential, Coulomb, exchange and correlation.
        further: Energies that are no functionals of the density on the grid: exact exchange,
            Coulomb by density fitting.
        start_term: Where the energy is not all on the grid: what stands for it at the start.
        nelec: Electrons (alpha, beta) per cell; need not be whole over several k.
        unrestricted: Two spins.
        lindep_threshold: Eigenvectors of S(k) with a smaller eigenvalue are dropped at that k.
        rho_guess: Superposed free atoms on the grid; its first row alone matters for the electron
            number.
        dm_guess: A starting density matrix, where there is no ``rho_guess``.
        step_coulomb: Makes Coulomb matrices of changes of the density, good enough to guide an SCF.
        coarse: Makes the same on a coarse mesh, for all that only guides.
        coarse_mesh: Points of that mesh.
        at: One-electron matrices and AO values at other k-points; None where that is not offered.
        exxdiv: How the divergence of exact exchange at G + q = 0 is treated, by PySCF's names;
            None without exchange, or where it is left out.
    """

    ovlp: BlochOperator
    weights: KWeights
    fixed: FixedOperator
    constant: Term
    mesh: Mesh | None
    mesh_term: MeshTerm
    nelec: tuple[float, float]
    unrestricted: bool
    lindep_threshold: float
    rho_guess: Callable[[], MeshRows] | None
    step_coulomb: Callable[[], StepCoulomb]
    coarse: Callable[[], "CrystalData"] | None
    coarse_mesh: tuple[int, int, int]
    at: AtKPoints | None
    further: tuple[Term, ...] = ()
    start_term: MeshTerm | None = None
    dm_guess: Callable[[], BlochMatrix] | None = None
    exxdiv: str | None = None

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms of the energy."""
        return (self.fixed, self.mesh_term, *self.further, self.constant)
