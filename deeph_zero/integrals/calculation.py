"""One calculation: what is to be computed, from keywords or read off a mean-field object."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from pyscf import df, dft, gto, scf
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError, argument, refuse_unknown
from deeph_zero.integrals.corrections import corrections_in
from deeph_zero.integrals.grids import GridPoints, build_grid
from deeph_zero.integrals.libxc import XCSpec, describe
from deeph_zero.integrals.mole import (
    AuxiliaryBasis,
    auxbasis_label,
    auxiliary_basis,
    basis_name,
)
from deeph_zero.integrals.orbitals import charge_of, check_orbitals
from deeph_zero.integrals.supported import (
    check_molecule,
    check_supported,
    energy_object,
    smearing_of,
)
from deeph_zero.method import Method

_log = logging.getLogger("deeph_zero")

_GRID_RESULTS = frozenset(
    {
        "mol", "stdout", "verbose", "symmetry", "atom_grid", "level", "non0tab", "screen_index",
        "coords", "weights", "atm_idx", "quadrature_weights", "alignment", "cutoff",
    }
)  # fmt: skip
"""What every grid has of its own; all else lives on PySCF's class until a user changes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calculation:
    """A molecule and a method, and what a mean-field object has of its own in their place.

    Attributes:
        mol: The built molecule.
        method: What is solved; its fitting set as asked for.
        spec: The functional, resolved.
        fit_exchange: Whether exchange is fitted where J is.
        grids: The object's grid, like all that follows; None makes one.
        with_df: Its fitting.
        ovlp: Its S, [nao, nao].
        hcore: Its h, [nao, nao], Eh.
        e_nuc: Its nuclear repulsion, Eh.
        nlcgrids: Its grid for VV10.
        disp: Its dispersion correction, where ``xc`` does not name it.
    """

    mol: gto.Mole
    method: Method
    spec: XCSpec
    fit_exchange: bool
    grids: gen_grid.Grids | None = None
    with_df: df.DF | None = None
    ovlp: np.ndarray | None = None
    hcore: np.ndarray | None = None
    e_nuc: float | None = None
    nlcgrids: gen_grid.Grids | None = None
    disp: str | None = None

    @property
    def unrestricted(self) -> bool:
        """Whether matrices carry a spin axis."""
        return self.method.is_unrestricted(int(self.mol.spin))


STATED = {f.name for f in dataclasses.fields(Method)} - {"basis", "crystal"}
"""Keywords of :func:`calculation`: the molecule has its basis already."""
_BESIDE = {"two_grids", "break_symmetry", "lindep_threshold"}
"""What a mean-field object says nothing of."""


def calculation(mol_or_mf: Any, **stated: Any) -> Calculation:
    """From a molecule and keywords, or from a mean-field object.

    Args:
        mol_or_mf: Built PySCF molecule or mean-field object, which decides every keyword; one that
            says something else is refused.
        **stated: Fields of :class:`~deeph_zero.method.Method`; None leaves the choice open.

    Returns:
        What is to be computed.

    Raises:
        InputError: Unsupported object, functional, fitting set or spin, a keyword that is unknown
            or contradicts the object, or more electrons than orbitals.
    """
    refuse_unknown("from_pyscf", stated, STATED)
    given = {name: value for name, value in stated.items() if value is not None}
    if given.get("density_fit") is False and "auxbasis" in given:
        _warn_of_unused("auxbasis", argument("density_fit", False))
    if isinstance(mol_or_mf, gto.Mole):
        check_molecule(mol_or_mf)
        asked = calculation_of(mol_or_mf, Method(basis=basis_name(mol_or_mf), **given))
        if "nlc_grid_level" in given and not asked.spec.corrections.nlc:
            _warn_of_unused("nlc_grid_level", f"{asked.method.xc}, which has no VV10")
        return asked
    found = _from_mean_field(mol_or_mf)
    beside = {name: given.pop(name) for name in _BESIDE & given.keys()}
    if not found.method.smearing:
        beside["smearing"] = given.pop("smearing", 0.0)
    _check_keywords(found, given)
    method = dataclasses.replace(found.method, **beside)
    return _checked(dataclasses.replace(found, method=method))


def _warn_of_unused(name: str, beside: str) -> None:
    _log.warning("%s has no effect with %s; leave one of them out", argument(name), beside)


def calculation_of(mol: gto.Mole, method: Method) -> Calculation:
    """A method applied to a molecule.

    Args:
        mol: Built PySCF molecule; its basis holds, whatever the method says.
        method: What is solved.

    Returns:
        What is to be computed.

    Raises:
        InputError: Unsupported molecule, functional or spin, or more electrons than orbitals.
    """
    check_molecule(mol)
    if method.crystal is not None:
        raise InputError("expected a molecule's method, got a crystal's; leave crystal out of it")
    spec = describe(method.xc)
    return _checked(Calculation(mol=mol, method=method, spec=spec, fit_exchange=method.density_fit))


def _checked(found: Calculation) -> Calculation:
    mol = found.mol
    if not found.unrestricted and mol.spin != 0:
        raise InputError(
            f"expected spin 0 for a restricted calculation, got spin {mol.spin}; "
            f"use {argument('unrestricted', True)}"
        )
    check_orbitals(mol.nelec, int(mol.nao_nr()), charge=charge_of(mol))
    return found


def _from_mean_field(mf: Any) -> Calculation:
    smearing = smearing_of(mf)
    check_supported(mf)
    mf = energy_object(mf)
    check_molecule(mf.mol)
    kohn_sham = isinstance(mf, dft.rks.KohnShamDFT)
    with_df = getattr(mf, "with_df", None)
    corrections = corrections_in(mf)
    xc = mf.xc if kohn_sham else "hf"
    method = Method(
        xc=xc,
        basis=basis_name(mf.mol),
        density_fit=bool(with_df),
        grid_level=level_of(mf.grids) if kohn_sham else None,
        nlc_grid_level=level_of(mf.nlcgrids) if kohn_sham else None,
        unrestricted=isinstance(mf, scf.uhf.UHF),
        smearing=smearing,
    )
    return Calculation(
        mol=mf.mol,
        method=method,
        spec=describe(xc, corrections),
        fit_exchange=bool(with_df) and not mf.only_dfj,
        with_df=with_df or None,
        grids=mf.grids if kohn_sham else None,
        ovlp=one_electron_matrix(mf, "get_ovlp"),
        hcore=one_electron_matrix(mf, "get_hcore"),
        e_nuc=float(mf.energy_nuc()),
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


def _check_keywords(found: Calculation, stated: Mapping[str, Any]) -> None:
    """Refuse a keyword that says something else than the mean-field object it stands beside."""
    method = found.method
    if method.density_fit and "auxbasis" in stated:
        method = method.fitted_with(fitting_set(found).name)
    for name, given in stated.items():
        has = getattr(method, name)
        if _same_value(name, given, has, found):
            continue
        if name == "smearing":
            raise InputError(
                f"expected smearing from the mean-field object, which has {has:g}, got "
                f"smearing={given!r} beside it; leave it out, or give mf.mol"
            )
        raise InputError(
            f"expected {name} from the mean-field object, which has {has!r}, got "
            f"{name}={given!r} beside it; leave it out, or give mf.mol and every keyword"
        )


def _same_value(name: str, given: Any, has: Any, found: Calculation) -> bool:
    if name == "xc":
        return same_functional(describe(str(given)), found.spec)
    if name == "auxbasis" and has is not None:
        fitting = auxiliary_basis(found.mol, found.method.xc, given)
        return fitting.name.casefold() == has.casefold()
    return given == has


def same_functional(one: XCSpec, other: XCSpec) -> bool:
    """Whether two functionals, with what is added to them, are one, however they are spelt.

    Args:
        one: A functional.
        other: Another.

    Returns:
        True if every part is equal.
    """
    return dataclasses.replace(one, name="") == dataclasses.replace(other, name="")


def grid_points(settings: Calculation) -> GridPoints:
    """The mean-field object's own grid, built if it is not yet, or a new one.

    Args:
        settings: The calculation.

    Returns:
        Its points.
    """
    grids = settings.grids
    if grids is None:
        grids = build_grid(settings.mol, settings.method.grid_level or 0)
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
        xc = settings.method.xc if with_df is None else "hf"
        return auxiliary_basis(settings.mol, xc, settings.method.auxbasis)
    return auxiliary_basis(settings.mol, settings.method.xc, with_df.auxbasis)


def level_of(grids: Any) -> int | None:
    """PySCF's level when a grid is otherwise PySCF's default, None for anything custom.

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
