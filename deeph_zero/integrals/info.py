"""What was computed, in names and numbers, recorded beside every result."""

import dataclasses

from deeph_zero.integrals.calculation import Calculation
from deeph_zero.integrals.mole import basis_name
from deeph_zero.integrals.orbitals import charge_of
from deeph_zero.ks.protocol import XCKind
from deeph_zero.method import Method


@dataclasses.dataclass(frozen=True, kw_only=True)
class KSInfo:
    """What was computed, resolved to names and numbers; recorded beside every result.

    Attributes:
        method: What was solved, resolved: ``auxbasis`` is the name of the fitting set,
            ``unrestricted`` a yes or no, ``grid_level`` None for a custom grid.
        kind: "HF", "LDA", "GGA" or "MGGA".
        xc_components: [libxc name, coefficient] of every semilocal part.
        hyb: Short-range (or global) fraction of exact exchange.
        alpha: Long-range fraction.
        omega: Range-separation parameter, 1/bohr; 0 without.
        basis: Basis set name, or "custom".
        ngrids: Quadrature points of non-zero weight.
        nao: Atomic orbitals.
        naux: Fitting functions; 0 without fitting.
        cart: Cartesian functions.
        charge: Total charge.
        spin: 2S.
        nlc: [b, C, coefficient] of every VV10 term.
        dispersion: PySCF's name of the dispersion correction; None without.
        e_disp: Its energy, Eh.
        memory_bytes: Two-electron tensors plus the most that kept AO values take (without the
            bounded working memory of one build).
        ao_atoms: Atom of each AO.
        atom_charges: Nuclear charges in the Hamiltonian (reduced by ECP cores, 0 for ghosts).
    """

    method: Method
    kind: XCKind
    xc_components: list[list[str | float]]
    hyb: float
    alpha: float
    omega: float
    basis: str
    ngrids: int
    nao: int
    naux: int
    cart: bool
    charge: int
    spin: int
    nlc: list[list[float]]
    dispersion: str | None
    e_disp: float
    memory_bytes: int
    ao_atoms: tuple[int, ...]
    atom_charges: tuple[int, ...]

    @property
    def xc(self) -> str:
        """Functional as given."""
        return self.method.xc

    @property
    def density_fit(self) -> bool:
        """Whether J (and K) are fitted."""
        return self.method.density_fit

    @property
    def auxbasis(self) -> str | None:
        """Resolved name of the fitting set; None without fitting."""
        return self.method.fitting_set

    @property
    def grid_level(self) -> int | None:
        """PySCF's level; None for a custom grid or none at all."""
        return self.method.grid_level if self.ngrids else None


def ks_info(
    found: Calculation,
    *,
    auxbasis: str | None,
    ngrids: int = 0,
    naux: int = 0,
    e_disp: float = 0.0,
    memory_bytes: int = 0,
) -> KSInfo:
    """Facts of a molecule and its method; sizes of what is absent are zero.

    Args:
        found: The calculation.
        auxbasis: Resolved name of the fitting set; None without fitting.
        ngrids: Quadrature points.
        naux: Fitting functions.
        e_disp: Dispersion energy, Eh.
        memory_bytes: Memory of tensors and AO values.

    Returns:
        The description.
    """
    mol, spec = found.mol, found.spec
    method = dataclasses.replace(found.method, unrestricted=found.unrestricted)
    return KSInfo(
        method=method.fitted_with(auxbasis),
        kind=spec.kind,
        xc_components=[[name, float(factor)] for name, factor in spec.components],
        hyb=float(spec.hyb),
        alpha=float(spec.alpha),
        omega=float(spec.omega),
        basis=basis_name(mol),
        ngrids=ngrids,
        nao=int(mol.nao_nr()),
        naux=int(naux),
        cart=bool(mol.cart),
        charge=charge_of(mol),
        spin=int(mol.spin),
        nlc=[[term.b, term.c, term.coefficient] for term in spec.corrections.nlc],
        dispersion=spec.corrections.dispersion,
        e_disp=e_disp,
        memory_bytes=memory_bytes,
        ao_atoms=tuple(
            a
            for a, (*_, start, stop) in enumerate(mol.aoslice_by_atom())
            for _ in range(start, stop)
        ),
        atom_charges=tuple(int(z) for z in mol.atom_charges()),
    )
