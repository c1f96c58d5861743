"""Which cells and periodic PySCF objects are computed as PySCF does; the others are refused."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from pyscf.data.elements import charge
from pyscf.pbc import df, dft, gto, scf
from pyscf.pbc.dft import gen_grid, numint
from pyscf.pbc.gto import pseudo
from pyscf.pbc.lib.kpts import KPoints as SymmetricKPoints
from pyscf.scf import hf

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals import supported
from deeph_zero.integrals.libxc import XCSpec

# ruff: noqa: SLF001  PySCF keeps _built, _basis, _numint and others private

_KNOWN = (
    dft.krks.KRKS, dft.kuks.KUKS, dft.rks.RKS, dft.uks.UKS,
    scf.khf.KRHF, scf.kuhf.KUHF, scf.hf.RHF, scf.uhf.UHF,
)  # fmt: skip

_FITTINGS = (df.GDF, df.RSGDF)

EXXDIV = (None, "ewald", "vcut_sph", "vcut_ws")

_VALENCE_ALONE = ("gth", "molopt", "ccecp", "bfd", "uzh", "pseudo")
"""Words in the names of basis sets that are made for pseudopotentials, or may be."""

_CHARGE = re.compile(r"-q(\d+)", re.IGNORECASE)


def supported_functional(spec: XCSpec) -> XCSpec:
    """Refuse functionals that crystals do not have.

    Args:
        spec: Any functional.

    Returns:
        The functional, unchanged.

    Raises:
        InputError: If it has VV10 or dispersion.
    """
    if spec.corrections.nlc:
        what = "non-local correlation (VV10)"
    elif spec.corrections.dispersion:
        what = f"a dispersion correction ({spec.corrections.dispersion})"
    else:
        return spec
    raise InputError(
        f"xc {spec.name!r} has {what}, which crystals do not support; use a functional "
        "without, such as pbe, r2scan or hse06"
    )


def check_cell(cell: Any) -> None:
    """Refuse cells that cannot be computed right.

    Args:
        cell: Any object; a supported one is a built ``pbc.gto.Cell``.

    Raises:
        InputError: If it is something else, is not built, has no atoms, is periodic in fewer than
            two directions, has Cartesian functions, or basis and pseudopotential are made for
            different numbers of electrons.
    """
    if not isinstance(cell, gto.Cell):
        raise InputError(f"expected a built pbc.gto.Cell, got {type(cell).__name__}; give mf.cell")
    if not cell._built:
        raise InputError("expected a built cell, got an unbuilt gto.Cell; call cell.build()")
    for what, cure in _peculiarities(cell):
        raise InputError(f"expected a plain crystal, got {what}, which is not supported; {cure}")
    for a in range(cell.natm):
        _check_charges(cell, a)


def _peculiarities(cell: gto.Cell) -> Iterator[tuple[str, str]]:
    if not cell.natm:
        yield "a cell without atoms", "give cell.atom and call build()"
    if cell.dimension not in (2, 3):
        yield f"dimension {cell.dimension}", "use 2 (slabs) or 3 with enough vacuum"
    if cell.dimension == 2 and cell.low_dim_ft_type == "inf_vacuum":
        yield "low_dim_ft_type 'inf_vacuum'", "leave it unset"
    if cell.cart:
        yield "Cartesian functions", "set cell.cart to False"
    if cell.omega:
        yield f"cell.omega {cell.omega:g}", "set it to 0"


def _check_charges(cell: gto.Cell, atom: int) -> None:
    """Basis sets and pseudopotentials of the GTH family are made for each other, by valence."""
    if not cell.atom_charge(atom):
        return
    symbol = cell.atom_symbol(atom)
    basis = _name(cell.basis, symbol)
    parameters = cell._pseudo.get(symbol)
    if parameters is None:
        if basis and "gth" in basis.lower():
            raise InputError(
                f"expected a pseudopotential for {symbol} with basis {basis!r}, which has no core "
                f"functions, got none; give {argument('pseudo', 'gth-pbe')}"
            )
        return
    valence = int(sum(parameters[0]))
    check_family(basis, symbol, valence)
    made_for = valence_of_basis(basis, symbol)
    if made_for is not None and made_for != valence:
        raise InputError(
            f"expected basis and pseudopotential of {symbol} for the same number of electrons, got "
            f"basis {basis!r} for {made_for} and a pseudopotential for {valence}; "
            f"{_matching(_name(cell.pseudo, symbol), symbol, made_for)}"
        )


def _matching(name: str | None, symbol: str, valence: int) -> str:
    """What to give in place of a pseudopotential for another number of electrons."""
    family = _CHARGE.sub("", name or "gth-pbe").lower()
    try:
        found = sum(pseudo.load(f"{family}-q{valence}", _element(symbol))[0]) == valence
    except (KeyError, RuntimeError, ValueError, OSError):
        found = False
    if found:
        return f"give {argument('pseudo', f'{family}-q{valence}')}"
    return "choose another basis or another pseudopotential"


def check_family(basis: str | None, symbol: str, valence: int) -> None:
    """Refuse basis sets with core functions beside a pseudopotential in place of the core.

    Args:
        basis: Its name, or None.
        symbol: Element of the atom.
        valence: Electrons that the pseudopotential leaves.

    Raises:
        InputError: If the basis is one for all electrons.
    """
    if basis is None or any(word in basis.lower() for word in _VALENCE_ALONE):
        return
    if valence < charge(_element(symbol)):
        raise InputError(
            f"expected a basis for pseudopotentials, got {argument('basis', basis)}, which is for "
            f"all electrons of {symbol}, and a pseudopotential for {valence} of them; use for "
            "example gth-dzvp-molopt-sr, or no pseudopotential"
        )


def valence_of_basis(basis: str | None, symbol: str) -> int | None:
    """Electrons that a GTH basis is made for.

    Args:
        basis: Its name, or None.
        symbol: Element of the atom.

    Returns:
        Their number; None where the name does not tell.
    """
    if basis is None or "gth" not in basis.lower():
        return None
    named = _CHARGE.search(basis)
    if named:
        return int(named.group(1))
    try:  # without a number PySCF takes entries of both files that belong together
        return int(sum(pseudo.load("gth-pbe", _element(symbol))[0]))
    except (KeyError, RuntimeError, ValueError, OSError):
        return None


def _element(symbol: str) -> str:
    return re.sub(r"[^A-Za-z]", "", symbol)


def _name(given: Any, symbol: str) -> str | None:
    """The name of the basis of an element, where one was given."""
    if isinstance(given, dict):
        found = {str(key).lower(): value for key, value in given.items()}
        keys = (symbol.lower(), _element(symbol).lower(), "default")
        given = next((found[key] for key in keys if key in found), None)
    return given if isinstance(given, str) and "\n" not in given else None


def check_mean_field(mf: Any) -> None:
    """Refuse mean-field objects whose energy would be another one here.

    Args:
        mf: Any object; supported are KRKS, KUKS, RKS and UKS of ``pyscf.pbc.dft``, also smeared.

    Raises:
        InputError: If it is anything else, or has methods, grids or integrals of its own.
    """
    kind = type(mf)
    plain = kind in _KNOWN or (
        issubclass(kind, supported.SMEARED) and any(base in _KNOWN for base in kind.__mro__[1:4])
    )
    if not plain:
        raise InputError(
            "expected a cell, or a KRKS, KUKS, RKS, UKS or Hartree-Fock object of pyscf.pbc, got "
            f"{kind.__name__}; give its cell and kmesh"
        )
    for what, cure in _of_mean_field(mf):
        raise InputError(f"expected a plain {kind.__name__}, got {what}; {cure}")


def is_fitted(mf: Any) -> bool:
    """Whether a mean-field object has Gaussian density fitting."""
    return type(mf.with_df) in _FITTINGS


def has_functional(mf: Any) -> bool:
    """Whether a mean-field object is one of Kohn-Sham theory."""
    return hasattr(mf, "xc")


def _of_mean_field(mf: Any) -> Iterator[tuple[str, str]]:
    if isinstance(getattr(mf, "kpts", None), SymmetricKPoints):
        yield "k-points reduced by symmetry", "give mf.cell and kmesh"
    if type(mf.with_df) is not df.FFTDF and not is_fitted(mf):
        yield f"integrals by {type(mf.with_df).__name__}", "use FFTDF, PySCF's default, or GDF"
    if getattr(mf, "rsjk", None) is not None:
        yield "integrals by RSJK", "use FFTDF, PySCF's default, or GDF"
    if mf.exxdiv not in EXXDIV:
        yield f"exxdiv {mf.exxdiv!r}", "use 'ewald', 'vcut_sph', 'vcut_ws' or None"
    if has_functional(mf):
        yield from _of_kohn_sham(mf)
    yield from _of_smearing(mf)
    yield from _of_kept_integrals(mf)
    for name, part in (("mf", mf), ("mf.with_df", mf.with_df), ("cell", mf.cell)):
        for found in supported.shadows(part, name):
            yield found.what, found.cure
    for name in ("with_df", "grids"):
        part = getattr(mf, name, None)
        if part is not None and not _same_cell(part.cell, mf.cell):
            yield f"mf.{name} of another cell", "call mf.reset(mf.cell), or give it mf.cell"


def _of_kept_integrals(mf: Any) -> Iterator[tuple[str, str]]:
    """What a run with one k-point keeps, the next one takes again, whatever was changed between."""
    if isinstance(mf, scf.khf.KSCF) or mf._eri is None:
        return
    nao, kept = int(mf.cell.nao), np.asarray(mf._eri)
    pairs = nao * (nao + 1) // 2
    fits = kept.size in (pairs * (pairs + 1) // 2, pairs**2, nao**4)
    if not fits or not _gives_coulomb(mf, kept):
        yield "integrals in mf._eri that are not those of mf.with_df", "set mf._eri to None"


def _gives_coulomb(mf: Any, kept: np.ndarray) -> bool:
    """Whether integrals give the Coulomb matrix of some density as the object makes it."""
    some = np.random.default_rng(0).normal(size=(mf.cell.nao,) * 2)
    some = some + some.T
    found, _ = hf.dot_eri_dm(kept, some, hermi=1, with_j=True, with_k=False)
    found = 0.5 * (found + found.conj().T)  # an even mesh: not Hermitian where k is not 0
    try:
        wanted, _ = mf.with_df.get_jk(some, hermi=1, kpts=mf.kpt, with_k=False)
    except RuntimeError:  # fitted integrals of another k-point
        return False
    return bool(np.abs(found - wanted).max() < 1e-8 * max(1.0, np.abs(wanted).max()))


def _same_cell(one: gto.Cell, other: gto.Cell) -> bool:
    """Whether lattice, atoms and functions are the same, to the last digit."""
    if one is other:
        return True
    pairs = [(one.lattice_vectors(), other.lattice_vectors())]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("_atm", "_bas", "_env")]
    return all(np.array_equal(a, b) for a, b in pairs)


def _of_kohn_sham(mf: Any) -> Iterator[tuple[str, str]]:
    if type(mf._numint) not in (numint.KNumInt, numint.NumInt):
        yield f"quadrature by {type(mf._numint).__name__}", "leave mf._numint alone"
    elif getattr(mf._numint, "omega", None) is not None:
        yield f"an omega of its own ({mf._numint.omega:g})", "name the functional with it in xc"
    elif "eval_xc" in vars(mf._numint):
        yield "a custom functional (define_xc_)", "use a libxc name"
    elif own := sorted(set(vars(mf._numint)) - {"omega", "kpts"}):
        yield f"mf._numint.{own[0]} of its own", "leave mf._numint alone"
    yield from _of_grids(mf)
    if mf.do_nlc():
        yield "non-local correlation (VV10)", "use a functional without"
    if getattr(mf, "disp", None):
        yield f"a dispersion correction ({mf.disp})", "set mf.disp to None"


def _of_grids(mf: Any) -> Iterator[tuple[str, str]]:
    wanted = gen_grid.BeckeGrids if is_fitted(mf) else gen_grid.UniformGrids
    if type(mf.grids) is not wanted:
        yield f"grids of the kind {type(mf.grids).__name__}", f"use {wanted.__name__}"
    elif not is_fitted(mf) and not np.array_equal(mf.grids.mesh, mf.with_df.mesh):
        yield "two different meshes (mf.grids and mf.with_df)", "give both the same mesh"
    elif not is_fitted(mf) and (mf.grids._coords is not None or mf.grids._weights is not None):
        yield "a uniform grid with points or weights of its own", "call mf.grids.reset()"
    if is_fitted(mf) and mf.small_rho_cutoff > 1e-20 and mf.grids.coords is None:
        yield f"small_rho_cutoff {mf.small_rho_cutoff:g}", "set it to 0"


def _of_smearing(mf: Any) -> Iterator[tuple[str, str]]:
    if not supported.smearing_of(mf):
        return
    if mf.smearing_method.lower() != "fermi":
        yield f"{mf.smearing_method} smearing", "use method='fermi'"
    if mf.mu0 is not None:
        yield "a chemical potential of its own (mf.mu0)", "leave mu0 out"
