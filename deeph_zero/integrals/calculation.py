"""One calculation: what is to be computed, from keywords or read off a mean-field object."""

import dataclasses
from typing import Any

import numpy as np
from pyscf import df, dft, gto, scf
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError
from deeph_zero.integrals.corrections import Corrections, corrections_in
from deeph_zero.integrals.grids import GridPoints, build_grid
from deeph_zero.integrals.mole import AuxiliaryBasis, BasisInput, auxbasis_label, auxiliary_basis
from deeph_zero.integrals.supported import check_supported

# ruff: noqa: SLF001  PySCF keeps _built private

_GRID_CHOICES = {"radi_method", "becke_scheme", "prune", "radii_adjust", "atomic_radii"}
"""Settings that live on PySCF's class until a user changes them."""


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
    corrections: Corrections | None = None
    nlcgrids: gen_grid.Grids | None = None
    nlc_grid_level: int = 3
    disp: str | None = None


def calculation(
    mol_or_mf: object,
    *,
    xc: str,
    density_fit: bool,
    auxbasis: BasisInput,
    grid_level: int,
    unrestricted: bool | None,
    nlc_grid_level: int = 3,
) -> Calculation:
    """Of a molecule and keywords, or of a mean-field object alone.

    Args:
        mol_or_mf: Built PySCF molecule or mean-field object.
        xc: Functional, PySCF's syntax.
        density_fit: Fitted or exact two-electron integrals.
        auxbasis: Fitting set; None: PySCF's choice.
        grid_level: PySCF's.
        unrestricted: None: unrestricted if and only if ``mol.spin`` is not 0.
        nlc_grid_level: Level of the grid for VV10.

    Returns:
        What is to be computed.

    Raises:
        InputError: Unsupported object, functional, fitting set or spin.
    """
    if isinstance(mol_or_mf, gto.Mole):
        fit: dict[str, Any] = {"density_fit": density_fit, "auxbasis": auxbasis}
        levels = {"grid_level": grid_level, "nlc_grid_level": nlc_grid_level}
        found = _from_mole(mol_or_mf, xc=xc, unrestricted=unrestricted, **levels, **fit)
    else:
        found = _from_mean_field(mol_or_mf)
    if not found.unrestricted and found.mol.spin != 0:
        raise InputError(
            f"expected spin 0 for a restricted calculation, got spin {found.mol.spin}; "
            "use --unrestricted (unrestricted=True)"
        )
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
    if not mol._built:
        raise InputError("expected a built molecule, got an unbuilt gto.Mole; call mol.build()")
    for name, level in (("--grid-level", grid_level), ("nlc_grid_level", nlc_grid_level)):
        if not 0 <= level <= 9:
            raise InputError(f"expected {name} 0 to 9, got {level}; 3 is the default")
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
        ovlp=mf.get_ovlp(),
        hcore=mf.get_hcore(),
        corrections=corrections,
        nlcgrids=mf.nlcgrids if kohn_sham else None,
        disp=mf.disp if corrections.dispersion else None,
    )


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
    if with_df is None or with_df.auxbasis is None:
        # a DF object without a basis resolves it for exact exchange, whatever the functional
        xc = settings.xc if with_df is None else "hf"
        return auxiliary_basis(settings.mol, xc, settings.auxbasis)
    if with_df.auxmol is not None:
        return AuxiliaryBasis(auxbasis_label(settings.mol, with_df.auxbasis), with_df.auxmol)
    return auxiliary_basis(settings.mol, settings.xc, with_df.auxbasis)


def standard_level(settings: Calculation) -> int | None:
    """PySCF's level when the grid is otherwise PySCF's default, None for anything custom.

    Args:
        settings: The calculation.

    Returns:
        0 to 9, or None.
    """
    grids = settings.grids
    if grids is None:
        return settings.grid_level
    if grids.atom_grid or set(vars(grids)) & _GRID_CHOICES:
        return None
    return int(grids.level)
