"""What is to be computed of a crystal: keywords, a cell, or a PySCF object, made one."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from pyscf.pbc import df, gto, scf
from pyscf.pbc.dft import gen_grid

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.libxc import XCSpec, describe
from deeph_zero.integrals.periodic.checks import (
    EXXDIV,
    check_cell,
    check_mean_field,
    has_functional,
    is_fitted,
    supported_functional,
)
from deeph_zero.integrals.periodic.exchange import fractions
from deeph_zero.integrals.periodic.fitted import Fitting, make_fitting
from deeph_zero.integrals.periodic.kpoints import KPoints, listed_kpoints, make_kpoints
from deeph_zero.integrals.supported import smearing_of
from deeph_zero.method import CrystalMethod, Method

MOST_POLARISED = 0.8
"""Part of an atom's electrons that may start in one spin beyond the other: the potential of a spin
that is nearly absent has no meaning where another atom's orbitals reach (1.8 Eh off, hydrogen)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalCalculation:
    """One calculation of a crystal.

    Attributes:
        cell: The built cell.
        spec: The functional.
        kpoints: k-points and their weights.
        mesh: Points of the uniform grid along the lattice vectors.
        unrestricted: Two spins.
        nelec: Electrons (alpha, beta) per cell.
        smearing: Width (Eh) of Fermi occupations; 0 fills levels in order.
        fix_spin: A chemical potential for each spin, so that the moment stays; one for both
            otherwise.
        moments: Initial magnetic moment of every atom (electrons), or None: the cell's spin evenly.
        exxdiv: How exact exchange is treated where its kernel diverges, by PySCF's names.
        probe_apart: Add the correction "ewald" by S P S in place of an element of the kernel, which
            on a coarse mesh differs: PySCF does so for objects of one k-point.
        fitting: Gaussian density fitting in place of a uniform grid.
        shifted: Whether the mesh of k-points is Monkhorst and Pack's.
        two_grids: Whether SCFs may iterate on a coarse mesh.
        asked: The method that was asked for; None where keywords or an object were given.
    """

    cell: gto.Cell
    spec: XCSpec
    kpoints: KPoints
    mesh: tuple[int, int, int]
    unrestricted: bool
    nelec: tuple[float, float]
    smearing: float = 0.0
    fix_spin: bool = False
    moments: tuple[float, ...] | None = None
    exxdiv: str | None = "ewald"
    probe_apart: bool = False
    fitting: Fitting | None = None
    shifted: bool = False
    two_grids: bool = True
    asked: Method | None = None

    @property
    def method(self) -> Method:
        """What is solved, resolved; of a cell that was given its own mesh holds."""
        cell = self.cell
        if self.asked is not None:
            return dataclasses.replace(self.asked, unrestricted=self.unrestricted)
        pseudo = None
        if cell.pseudo:
            pseudo = cell.pseudo if isinstance(cell.pseudo, str) else "custom"
        return Method(
            xc=self.spec.name,
            basis=cell.basis if isinstance(cell.basis, str) else "custom",
            density_fit=self.fitting is not None,
            two_grids=self.two_grids,
            unrestricted=self.unrestricted,
            smearing=self.smearing,
            crystal=CrystalMethod(
                kmesh=self.kpoints.mesh,
                pseudo=pseudo,
                ke_cutoff=None if cell.ke_cutoff is None else float(cell.ke_cutoff),
                shifted=self.shifted,
                fix_spin=self.fix_spin,
            ),
        )

    def spin_shares(self) -> Float[np.ndarray, "nspin natm"]:
        """Part of every free atom's density that starts in each spin channel."""
        natm = self.cell.natm
        if not self.unrestricted:
            return np.ones((1, natm))
        total = sum(self.nelec)
        if self.moments is None:
            return np.array([np.full(natm, n / total) for n in self.nelec])
        valence = np.maximum(self.cell.atom_charges(), 1)
        polarisation = np.clip(np.array(self.moments) / valence, -MOST_POLARISED, MOST_POLARISED)
        return 0.5 * np.array([1 + polarisation, 1 - polarisation])


def crystal_calculation(
    cell_or_mf: Any,
    *,
    xc: str | None = None,
    kmesh: Sequence[int] | None = None,
    shifted: bool = False,
    unrestricted: bool | None = None,
    smearing: int | float | None = None,
    fix_spin: bool = False,
    moments: Sequence[int | float] | None = None,
    exxdiv: str | None = "ewald",
    density_fit: bool = False,
) -> CrystalCalculation:
    """A calculation from a cell and keywords, or from a KRKS, KUKS, RKS or UKS object.

    Args:
        cell_or_mf: A built ``pbc.gto.Cell`` (its ``spin`` is that of one cell), or a mean-field
            object, which decides functional, k-points, smearing and spin itself.
        xc: A functional, any string PySCF parses, hybrids included; "pbe" where nothing is said.
        kmesh: k-points along the reciprocal vectors, one of k and -k kept; Γ where nothing is said.
        shifted: Monkhorst and Pack's mesh in place of the Γ-centred one.
        unrestricted: Two spins; None: if the cell has unpaired electrons or moments.
        smearing: Width (Eh) of Fermi occupations.
        fix_spin: With smearing, keep the number of electrons of each spin.
        moments: Initial magnetic moments per atom (electrons); None: ``cell.magmom``, if set.
        exxdiv: How exact exchange is treated where its kernel diverges, by PySCF's names: "ewald",
            "vcut_sph", "vcut_ws" or None.
        density_fit: Gaussian density fitting and atom-centred points in place of a uniform grid,
            for all-electron bases.

    Returns:
        The calculation.

    Raises:
        InputError: If something is not supported, or a keyword contradicts the object.
    """
    if isinstance(cell_or_mf, gto.Cell):
        spec = supported_functional(describe("pbe" if xc is None else xc))
        return _from_cell(
            cell_or_mf,
            spec=spec,
            kmesh=(1, 1, 1) if kmesh is None else kmesh,
            shifted=shifted,
            unrestricted=unrestricted,
            smearing=_width(smearing),
            fix_spin=fix_spin,
            moments=moments,
            exxdiv=_checked_exxdiv(exxdiv, spec),
            density_fit=density_fit,
        )
    given = {
        "xc": xc, "kmesh": kmesh, "unrestricted": unrestricted, "smearing": smearing,
        "shifted": shifted or None, "fix_spin": fix_spin or None,
        "exxdiv": None if exxdiv == "ewald" else repr(exxdiv), "density_fit": density_fit or None,
    }  # fmt: skip
    said = [name for name, value in given.items() if value is not None]
    if said:
        raise InputError(
            f"expected {' and '.join(said)} from the mean-field object, got a keyword beside it; "
            "leave it out, or give mf.cell"
        )
    return _from_mean_field(cell_or_mf, moments)


def crystal_calculation_of(
    cell: gto.Cell, method: Method, moments: Sequence[float] | None = None
) -> CrystalCalculation:
    """A method applied to a crystal.

    Args:
        cell: A built cell; its basis, pseudopotentials and mesh hold, whatever the method says.
        method: What is solved.
        moments: Initial magnetic moments per atom (electrons).

    Returns:
        The calculation.

    Raises:
        InputError: If something is not supported, or the method is a molecule's.
    """
    crystal = method.crystal
    if crystal is None:
        raise InputError(
            "expected a crystal's method, got a molecule's; give it crystal=CrystalMethod(...)"
        )
    found = crystal_calculation(
        cell,
        xc=method.xc,
        kmesh=crystal.kmesh,
        shifted=crystal.shifted,
        unrestricted=method.unrestricted,
        smearing=method.smearing,
        fix_spin=crystal.fix_spin,
        moments=moments,
    )
    return dataclasses.replace(found, two_grids=method.two_grids, asked=method)


def _from_cell(
    cell: gto.Cell,
    *,
    spec: XCSpec,
    kmesh: Sequence[int],
    shifted: bool,
    unrestricted: bool | None,
    smearing: float,
    fix_spin: bool,
    moments: Sequence[int | float] | None,
    exxdiv: str | None,
    density_fit: bool,
) -> CrystalCalculation:
    check_cell(cell)
    own = _moments(cell, moments, one_spin=unrestricted is False)
    if unrestricted is None:
        unrestricted = bool(cell.spin) or own is not None
    electrons, spin = int(cell.tot_electrons()), int(cell.spin or 0)
    free = smearing > 0 and not fix_spin
    if (electrons - spin) % 2 and not free:
        raise InputError(
            f"expected an even number of electrons for spin {spin}, got {electrons} per cell; set "
            f"cell.spin (of one cell), or use smearing, for example {argument('smearing', 0.005)}"
        )
    if not unrestricted and spin:
        raise InputError(
            f"expected unpaired electrons (cell.spin {spin}) with two spins, got "
            "unrestricted=False; leave it out"
        )
    nelec = ((electrons + spin) / 2, (electrons - spin) / 2)
    kpoints = make_kpoints(kmesh, shifted=shifted, dimension=cell.dimension)
    return CrystalCalculation(
        cell=cell,
        spec=spec,
        kpoints=kpoints,
        mesh=_mesh(cell.mesh),
        unrestricted=unrestricted,
        nelec=nelec,
        smearing=smearing,
        fix_spin=fix_spin,
        moments=own,
        exxdiv=exxdiv,
        fitting=make_fitting(cell, kpoints) if density_fit else None,
        shifted=shifted,
    )


def _from_mean_field(mf: Any, moments: Sequence[int | float] | None) -> CrystalCalculation:
    check_mean_field(mf)
    cell = mf.cell
    check_cell(cell)
    unrestricted = isinstance(mf, scf.uhf.UHF | scf.kuhf.KUHF)
    many = isinstance(mf, scf.khf.KSCF)
    kpoints = listed_kpoints(cell, mf.kpts if many else mf.kpt)
    # to the last digit: it decides where PySCF puts the edge of an even mesh
    kpoints = dataclasses.replace(kpoints, scaled=np.array(mf.with_df._kpts))  # noqa: SLF001
    nk = len(kpoints.scaled)
    smearing = smearing_of(mf)
    if unrestricted:
        nelec = (mf.nelec[0] / nk, mf.nelec[1] / nk)
    else:
        total = cell.tot_electrons(nk)
        if total % 2:  # with smearing PySCF fills one orbital too many
            raise InputError(
                f"expected an even number of electrons, got {total} over the k-points of a "
                "closed-shell object; use KUKS, or give its cell and kmesh"
            )
        nelec = (total / nk / 2, total / nk / 2)
    spec = supported_functional(describe(mf.xc if has_functional(mf) else "hf"))
    if isinstance(mf.with_df, df.RSGDF) and any(omega for omega, _ in fractions(spec)):
        raise InputError(
            f"expected GDF for the range-separated exchange of xc {spec.name!r}, got RSGDF, which "
            "has none; use density_fit()"
        )
    return CrystalCalculation(
        cell=cell,
        spec=spec,
        kpoints=kpoints,
        mesh=_mesh(cell.mesh if is_fitted(mf) else mf.with_df.mesh),
        unrestricted=unrestricted,
        nelec=nelec,
        smearing=smearing,
        fix_spin=bool(smearing and mf.fix_spin),
        moments=_moments(cell, moments, one_spin=not unrestricted),
        exxdiv=_checked_exxdiv(mf.exxdiv, spec),
        probe_apart=not many and mf.exxdiv == "ewald" and _in_memory(mf),
        fitting=_fitting(mf) if is_fitted(mf) else None,
    )


def _fitting(mf: Any) -> Fitting:
    """The object's own integrals and points, neither of which is changed."""
    grids = mf.grids if has_functional(mf) else gen_grid.BeckeGrids(mf.cell)
    return Fitting(with_df=mf.with_df, grids=grids)


def _in_memory(mf: Any) -> bool:
    """Whether PySCF keeps all integrals of an object with one k-point."""
    kept = mf._eri is not None or mf.cell.incore_anyway  # noqa: SLF001
    return bool(kept or mf._is_mem_enough())  # noqa: SLF001


def _checked_exxdiv(exxdiv: str | None, spec: XCSpec) -> str | None:
    if exxdiv not in EXXDIV:
        raise InputError(f"exxdiv expected 'ewald', 'vcut_sph', 'vcut_ws' or None, got {exxdiv!r}")
    if exxdiv in ("vcut_sph", "vcut_ws") and any(omega < 0 for omega, _ in fractions(spec)):
        raise InputError(
            f"exxdiv expected 'ewald' or None for the short-range exchange of xc {spec.name!r}, "
            f"got {exxdiv!r}; its kernel does not diverge"
        )
    return exxdiv


def _moments(
    cell: gto.Cell, given: Sequence[int | float] | None, *, one_spin: bool
) -> tuple[float, ...] | None:
    """Moments of the keyword, else the cell's own where any is set; none of one spin."""
    own = getattr(cell, "magmom", None)
    chosen = given if given is not None else own
    if chosen is None or (given is None and not any(chosen)):
        return None
    try:
        values = tuple(float(m) for m in chosen)
    except (TypeError, ValueError):
        values = ()
    if len(values) != cell.natm or not np.isfinite(values).all():
        shown = list(chosen) if isinstance(chosen, Sequence | np.ndarray) else chosen
        raise InputError(
            f"moments expected one number for each of the {cell.natm} atoms, got {shown!r}; "
            "correct them or leave them out"
        )
    if one_spin and given is not None and any(values):
        raise InputError(
            "moments expected two spins, got one (unrestricted=False, or a closed-shell object); "
            "leave one of them out"
        )
    if one_spin:
        return None
    return values


def _width(smearing: int | float | None) -> float:
    try:
        width = 0.0 if smearing is None else float(smearing)
    except (TypeError, ValueError):
        width = np.nan
    if not np.isfinite(width) or width < 0:
        raise InputError(
            f"smearing expected a width of 0 or more (Eh), got {smearing!r}; give for example 0.005"
        )
    return width


def _mesh(mesh: Any) -> tuple[int, int, int]:
    n1, n2, n3 = (int(n) for n in mesh)
    return n1, n2, n3
