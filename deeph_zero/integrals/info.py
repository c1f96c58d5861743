"""What was computed, in names and numbers, recorded beside every result."""

import dataclasses

from pyscf import gto

from deeph_zero.integrals.libxc import XCSpec
from deeph_zero.integrals.orbitals import charge_of
from deeph_zero.ks.protocol import XCKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class KSInfo:
    """What was computed, resolved to names and numbers; recorded beside every result.

    Attributes:
        xc: Functional as given.
        kind: "HF", "LDA", "GGA" or "MGGA".
        xc_components: [libxc name, coefficient] of every semilocal part.
        hyb: Short-range (or global) fraction of exact exchange.
        alpha: Long-range fraction.
        omega: Range-separation parameter, 1/bohr; 0 without.
        basis: Basis set name, or "custom".
        auxbasis: Resolved name of the fitting set; None without fitting.
        density_fit: Whether J (and K) are fitted.
        grid_level: PySCF's level; None for a custom grid or none at all.
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

    xc: str
    kind: XCKind
    xc_components: list[list[str | float]]
    hyb: float
    alpha: float
    omega: float
    basis: str
    auxbasis: str | None
    density_fit: bool
    grid_level: int | None
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


def ks_info(
    mol: gto.Mole,
    spec: XCSpec,
    xc: str,
    *,
    auxbasis: str | None,
    grid_level: int | None = None,
    ngrids: int = 0,
    naux: int = 0,
    e_disp: float = 0.0,
    memory_bytes: int = 0,
) -> KSInfo:
    """Facts of a molecule and its method; sizes of what is absent are zero.

    Args:
        mol: Built molecule.
        spec: What the functional consists of.
        xc: Functional as given.
        auxbasis: Resolved name of the fitting set; None without fitting.
        grid_level: As in :class:`KSInfo`, like all that follow.
        ngrids: Quadrature points.
        naux: Fitting functions.
        e_disp: Dispersion energy, Eh.
        memory_bytes: Memory of tensors and AO values.

    Returns:
        The description.
    """
    return KSInfo(
        xc=xc,
        kind=spec.kind,
        xc_components=[[name, float(factor)] for name, factor in spec.components],
        hyb=float(spec.hyb),
        alpha=float(spec.alpha),
        omega=float(spec.omega),
        basis=_basis_name(mol),
        auxbasis=auxbasis,
        density_fit=auxbasis is not None,
        grid_level=grid_level,
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


def _basis_name(mol: gto.Mole) -> str:
    """The one name all atoms share, else "custom"."""
    given = set(map(str, mol.basis.values())) if isinstance(mol.basis, dict) else {str(mol.basis)}
    name = next(iter(given)) if len(given) == 1 else "custom"
    return name if isinstance(mol.basis, str | dict) and "[" not in name else "custom"
