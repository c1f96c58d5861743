"""One calculation: what is to be computed, from keywords or read off a mean-field object."""

import dataclasses
from typing import Any

import numpy as np
from pyscf import df, dft, gto, scf
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.corrections import Corrections, corrections_in
from deeph_zero.integrals.grids import GridPoints, build_grid
from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.mole import (
    AuxiliaryBasis,
    BasisInput,
    auxbasis_label,
    auxiliary_basis,
)
from deeph_zero.integrals.orbitals import charge_of, check_orbitals
from deeph_zero.integrals.supported import check_molecule, check_supported, energy_object

_GRID_RESULTS = frozenset(
    {
        "mol", "stdout", "verbose", "symmetry", "atom_grid", "level", "non0tab", "screen_index",
        "coords", "weights", "atm_idx", "quadrature_weights", "alignment", "cutoff",
    }
)  # fmt: skip
"""What every grid has of its own; all else lives on PySCF's class until a user changes it."""


@dataclasses.dataclass(kw_only=True)
class Calculation:
    """One calculation, from keywords or read off a mean-field object."""

    mol: gto.Mole
    xc: str
    unrestricted: bool
    fit_coulomb: bool
    fit_exchange: bool
    auxbasis: BasisInput = None
    grids: gen_grid.Grids | None = None
    grid_level: int | None = None
    with_df: df.DF | None = None
    ovlp: np.ndarray | None = None
    hcore: np.ndarray | None = None
    e_nuc: float | None = None
    corrections: Corrections | None = None
    nlcgrids: gen_grid.Grids | None = None
    nlc_grid_level: int = 3
    disp: str | None = None


def calculation(
    mol_or_mf: Any,
    *,
    xc: str | None = None,
    density_fit: bool | None = None,
    auxbasis: BasisInput = None,
    grid_level: int | None = None,
    unrestricted: bool | None = None,
    nlc_grid_level: int | None = None,
) -> Calculation:
    """Of a molecule and keywords, or of a mean-field object.

    Args:
        mol_or_mf: Built PySCF molecule or mean-field object, which decides every keyword; one that
            says something else is refused.
        xc: Functional, PySCF's syntax; None: pbe.
        density_fit: Fitted or exact two-electron integrals; None: fitted.
        auxbasis: Fitting set; None: PySCF's choice.
        grid_level: PySCF's; None: 3.
        unrestricted: None: unrestricted if and only if ``mol.spin`` is not 0.
        nlc_grid_level: Level of the grid for VV10; None: 3.

    Returns:
        What is to be computed.

    Raises:
        InputError: Unsupported object, functional, fitting set or spin, a keyword that contradicts
            the object, or more electrons than orbitals.
    """
    if isinstance(mol_or_mf, gto.Mole):
        found = _from_mole(
            mol_or_mf,
            xc="pbe" if xc is None else xc,
            density_fit=density_fit is not False,
            auxbasis=auxbasis,
            grid_level=3 if grid_level is None else grid_level,
            nlc_grid_level=3 if nlc_grid_level is None else nlc_grid_level,
            unrestricted=unrestricted,
        )
    else:
        found = _from_mean_field(mol_or_mf)
        asked = {"xc": xc, "density_fit": density_fit, "auxbasis": auxbasis}
        asked |= {"grid_level": grid_level, "nlc_grid_level": nlc_grid_level}
        _check_keywords(found, asked | {"unrestricted": unrestricted})
    if not found.unrestricted and found.mol.spin != 0:
        raise InputError(
            f"expected spin 0 for a restricted calculation, got spin {found.mol.spin}; "
            f"use {argument('unrestricted', True)}"
        )
    mol = found.mol
    check_orbitals(mol.nelec, int(mol.nao_nr()), charge=charge_of(mol))
    return found


def _from_mole(
    mol: gto.Mole,
    *,
    xc: str,
    density_fit: bool,
    auxbasis: BasisInput,
    grid_level: int,
    nlc_grid_level: int,
    unrestricted: bool | None,
) -> Calculation:
    check_molecule(mol)
    if not isinstance(xc, str):
        raise InputError(f"expected xc as text, got {xc!r}; use for example 'pbe'")
    for name, level in ((argument("grid_level"), grid_level), ("nlc_grid_level", nlc_grid_level)):
        if not isinstance(level, int | np.integer) or not 0 <= level <= 9:
            raise InputError(f"expected {name} 0 to 9, got {level!r}; 3 is the default")
    return Calculation(
        mol=mol,
        xc=xc,
        unrestricted=mol.spin != 0 if unrestricted is None else unrestricted,
        fit_coulomb=density_fit,
        fit_exchange=density_fit,
        auxbasis=auxbasis,
        grid_level=grid_level,
        nlc_grid_level=nlc_grid_level,
    )


def _from_mean_field(mf: Any) -> Calculation:
    check_supported(mf)
    mf = energy_object(mf)
    check_molecule(mf.mol)
    kohn_sham = isinstance(mf, dft.rks.KohnShamDFT)
    with_df = getattr(mf, "with_df", None)
    corrections = corrections_in(mf)
    return Calculation(
        mol=mf.mol,
        xc=mf.xc if kohn_sham else "hf",
        unrestricted=isinstance(mf, scf.uhf.UHF),
        fit_coulomb=bool(with_df),
        fit_exchange=bool(with_df) and not mf.only_dfj,
        with_df=with_df or None,
        grids=mf.grids if kohn_sham else None,
        ovlp=one_electron_matrix(mf, "get_ovlp"),
        hcore=one_electron_matrix(mf, "get_hcore"),
        e_nuc=float(mf.energy_nuc()),
        corrections=corrections,
        nlcgrids=mf.nlcgrids if kohn_sham else None,
        disp=mf.disp if corrections.dispersion else None,
    )


def one_electron_matrix(mf: Any, name: str) -> np.ndarray:
    """What a mean-field object gives for one of its one-electron matrices.

    Args:
        mf: The object.
        name: ``get_ovlp`` or ``get_hcore``.

    Returns:
        [nao, nao], float64.

    Raises:
        InputError: If it is no real symmetric matrix of that size.
    """
    found, nao = np.asarray(getattr(mf, name)(mf.mol)), int(mf.mol.nao_nr())
    fault = ""
    if found.shape != (nao, nao):
        fault = f"shape {found.shape}"
    elif np.iscomplexobj(found):
        fault = "complex numbers"
    elif not np.isfinite(found).all():
        fault = "NaN or infinity"
    elif not np.allclose(found, found.T, rtol=0, atol=1e-8):
        fault = "an asymmetric matrix"
    if fault:
        raise InputError(
            f"expected mf.{name} to return a real symmetric matrix [{nao}, {nao}], got {fault}; "
            "only one for both spins is supported"
        )
    return found


def _check_keywords(found: Calculation, asked: dict[str, Any]) -> None:
    """Refuse a keyword that says something else than the mean-field object it stands beside."""
    nlc = found.nlcgrids
    has: dict[str, Any] = {
        "xc": found.xc,
        "density_fit": found.fit_coulomb,
        "auxbasis": fitting_set(found).name if found.fit_coulomb else None,
        "grid_level": standard_level(found),
        "nlc_grid_level": None if nlc is None else level_of(nlc),
        "unrestricted": found.unrestricted,
    }
    for name, given in asked.items():
        if given is None or _same_value(name, given, has[name], found):
            continue
        raise InputError(
            f"expected {name} from the mean-field object, which has {has[name]!r}, got "
            f"{name}={given!r} beside it; leave it out, or give mf.mol and every keyword"
        )


def _same_value(name: str, given: Any, has: Any, found: Calculation) -> bool:
    if name == "xc":
        return same_functional(str(given), None, found.xc, found.corrections)
    if name == "auxbasis" and has is not None:
        return auxiliary_basis(found.mol, found.xc, given).name.casefold() == has.casefold()
    return given == has


def same_functional(
    one: str, ones: Corrections | None, other: str, others: Corrections | None
) -> bool:
    """Whether two spellings, with what is added to them, are one functional.

    Args:
        one: An xc string.
        ones: Its corrections, where something else decides them.
        other: Another xc string.
        others: The same for this.

    Returns:
        True if every part is equal.

    Raises:
        InputError: If one of them is not supported.
    """
    parts = (describe(one, ones), describe(other, others))
    return dataclasses.replace(parts[0], name="") == dataclasses.replace(parts[1], name="")


def grid_points(settings: Calculation) -> GridPoints:
    """The mean-field object's own grid, built if it is not yet, or a new one.

    Args:
        settings: The calculation.

    Returns:
        Its points.
    """
    grids = settings.grids
    if grids is None:
        grids = build_grid(settings.mol, settings.grid_level or 0)
    elif grids.coords is None:
        grids.build()
    coords, weights = np.asarray(grids.coords), np.asarray(grids.weights)
    return GridPoints(coords=coords, weights=weights)


def fitting_set(settings: Calculation) -> AuxiliaryBasis:
    """The fitting functions of a calculation that fits its Coulomb integrals.

    Args:
        settings: The calculation.

    Returns:
        Their name and molecule.
    """
    with_df = settings.with_df
    # an auxmol without a tensor is made anew by PySCF, whoever set it
    if with_df is not None and with_df.auxmol is not None and with_df._cderi is not None:  # noqa: SLF001
        given = with_df.auxmol.basis if with_df.auxbasis is None else with_df.auxbasis
        return AuxiliaryBasis(auxbasis_label(settings.mol, given), with_df.auxmol)
    if with_df is None or with_df.auxbasis is None:
        # a DF object without a basis resolves it for exact exchange, whatever the functional
        xc = settings.xc if with_df is None else "hf"
        return auxiliary_basis(settings.mol, xc, settings.auxbasis)
    return auxiliary_basis(settings.mol, settings.xc, with_df.auxbasis)


def standard_level(settings: Calculation) -> int | None:
    """PySCF's level when the grid is otherwise PySCF's default, None for anything custom.

    Args:
        settings: The calculation.

    Returns:
        0 to 9, or None.
    """
    return settings.grid_level if settings.grids is None else level_of(settings.grids)


def level_of(grids: Any) -> int | None:
    """The same of a grid alone.

    Args:
        grids: PySCF's grid, built or not.

    Returns:
        0 to 9, or None where anything else than the level was chosen.
    """
    own_points = grids.coords is not None and grids.atm_idx is None
    changed = set(vars(grids)) - _GRID_RESULTS
    if type(grids) is not gen_grid.Grids or grids.atom_grid or changed or own_points:
        return None
    return int(grids.level)
