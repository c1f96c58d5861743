"""What was computed of a crystal, in names and numbers, recorded beside its results."""

import dataclasses

import numpy as np
from jaxtyping import Float

from deeph_zero.integrals.periodic.calculation import CrystalCalculation
from deeph_zero.integrals.periodic.exchange import has_exchange
from deeph_zero.ks.protocol import XCKind
from deeph_zero.method import Method
from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CrystalInfo(Brief):
    """What was computed, resolved to names and numbers.

    Attributes:
        method: What was solved, resolved: ``unrestricted`` is a yes or no.
        kind: "LDA", "GGA" or "MGGA".
        basis: Basis set name, or "custom".
        lattice: Rows are the lattice vectors, bohr.
        pbc: Periodic directions.
        kmesh: k-points along the reciprocal vectors; None for a list of points.
        kpts: Fractions of the reciprocal vectors, [nk, 3].
        kweights: [nk], sum 1.
        fft_mesh: Points of the uniform grid.
        nao: Atomic orbitals per cell.
        nelec: Electrons (alpha, beta) per cell.
        charge: Per cell.
        integrals: "FFTDF" (uniform grid), or the kind of density fitting.
        exxdiv: How exact exchange is treated where its kernel diverges, by PySCF's names; None
            also without exact exchange.
        gauge: "lattice": phases are exp(ik·R) of lattice vectors R, none of atoms.
    """

    method: Method
    kind: XCKind
    basis: str
    lattice: Float[np.ndarray, "3 3"]
    pbc: tuple[bool, bool, bool]
    kmesh: tuple[int, int, int] | None
    kpts: Float[np.ndarray, "nk 3"]
    kweights: Float[np.ndarray, " nk"]
    fft_mesh: tuple[int, int, int]
    nao: int
    nelec: tuple[float, float]
    charge: int
    integrals: str = "FFTDF"
    exxdiv: str | None = None
    gauge: str = "lattice"

    @property
    def xc(self) -> str:
        """Functional as given."""
        return self.method.xc

    @property
    def pseudo(self) -> str | None:
        """Name of the pseudopotentials, "custom", or None for all electrons."""
        return None if self.method.crystal is None else self.method.crystal.pseudo

    @property
    def unrestricted(self) -> bool:
        """Two spins."""
        return bool(self.method.unrestricted)

    @property
    def smearing(self) -> float:
        """Width of Fermi occupations, Eh; 0 without."""
        return self.method.smearing


def crystal_info(settings: CrystalCalculation) -> CrystalInfo:
    """The description of a calculation.

    Args:
        settings: What is computed.

    Returns:
        The description.
    """
    cell, fitting = settings.cell, settings.fitting
    return CrystalInfo(
        method=settings.method,
        kind=settings.spec.kind,
        basis=cell.basis if isinstance(cell.basis, str) else "custom",
        lattice=np.asarray(cell.lattice_vectors()),
        pbc=(True, True, cell.dimension == 3),
        kmesh=settings.kpoints.mesh,
        kpts=settings.kpoints.scaled,
        kweights=settings.kpoints.weights,
        fft_mesh=settings.mesh,
        nao=int(cell.nao),
        nelec=settings.nelec,
        charge=int(cell.charge),
        integrals="FFTDF" if fitting is None else type(fitting.with_df).__name__,
        exxdiv=settings.exxdiv if has_exchange(settings.spec) else None,
    )
