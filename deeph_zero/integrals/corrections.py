"""What an xc string adds to its functional: VV10 non-local correlation and dispersion energies."""

import dataclasses
import logging
import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from pyscf import dft, gto
from pyscf.dft import gen_grid, libxc
from pyscf.scf.dispersion import DISP_VERSIONS, check_disp, get_dispersion, parse_dft, parse_disp

from deeph_zero.errors import InputError
from deeph_zero.integrals.ao_engine import AOEngineName
from deeph_zero.integrals.grids import AOGrid, GridPoints, build_grid
from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.ks.protocol import Grid, NonlocalCorrelation, Points, VV10Parameters

_log = logging.getLogger("deeph_zero")


@dataclasses.dataclass(frozen=True)
class Corrections:
    """Additions to a semilocal or hybrid functional.

    Attributes:
        nlc: VV10 terms.
        dispersion: PySCF's ``disp``, such as "d3bj" or "d4:wb97x"; None without.
    """

    nlc: tuple[VV10Parameters, ...]
    dispersion: str | None


def corrections_of(xc: str) -> Corrections:
    """What PySCF adds for an xc string alone.

    Args:
        xc: A string libxc can parse, perhaps with a dispersion suffix.

    Returns:
        VV10 terms and dispersion version.

    Raises:
        InputError: If the dispersion correction is unknown or its program is not installed.
    """
    _, nlc, disp = split(xc)
    terms = () if nlc is False else vv10_terms(xc)
    if disp is not None:
        check_dispersion(xc, None)
    return Corrections(terms, disp)


def corrections_in(mf: Any) -> Corrections:
    """What a mean-field object adds; ``mf.nlc`` and ``mf.disp`` overrule its xc string.

    Args:
        mf: RKS, UKS, RHF or UHF object.

    Returns:
        VV10 terms and dispersion version.

    Raises:
        InputError: If the dispersion correction is unknown or its program is not installed.
    """
    xc = getattr(mf, "xc", "hf")
    split(xc)
    terms: tuple[VV10Parameters, ...] = ()
    try:
        if isinstance(mf, dft.rks.KohnShamDFT) and mf.do_nlc():
            terms = vv10_terms(mf.xc if libxc.is_nlc(mf.xc) else mf.nlc)
    except (NotImplementedError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"mf.xc {xc!r} with mf.nlc {mf.nlc!r} is not supported by PySCF ({reason}); choose "
            "another name"
        ) from error
    given = getattr(mf, "disp", None)
    if given is False or given == 0:
        return Corrections(terms, None)
    if not isinstance(given, str | None):
        raise InputError(
            f"mf.disp expected a name such as 'd3bj', got {given!r}; use None or False"
        )
    disp = split(xc)[2] if given is None else given
    if disp is not None:
        check_dispersion(xc, given)
    return Corrections(terms, disp)


def vv10_terms(xc: str) -> tuple[VV10Parameters, ...]:
    """Parameters of every VV10 term libxc names in a functional."""
    if not libxc.is_nlc(xc):
        return ()
    found = libxc.nlc_coeff(xc)
    return tuple(VV10Parameters(float(b), float(c), float(factor)) for (b, c), factor in found)


def check_dispersion(xc: str, disp: str | None) -> None:
    """Refuse a dispersion correction that cannot be computed.

    Args:
        xc: Functional, perhaps with a suffix.
        disp: PySCF's ``mf.disp``; None leaves it to ``xc``.

    Raises:
        InputError: If the program is missing, or has no such version or functional.
    """
    what = f"xc {xc!r}" if disp is None else f"disp {disp!r} with xc {xc!r}"
    try:
        version = parse_disp(xc, disp)[1]
    except ValueError:
        version = disp
    if version not in DISP_VERSIONS:
        raise InputError(
            f"{what} asks for the dispersion correction {version!r}; expected one of "
            f"{', '.join(DISP_VERSIONS)}"
        )
    if find_spec("pyscf.dispersion") is None:
        raise InputError(
            f"{what} needs a dispersion correction; install it with"
            " pip install 'deeph-zero[dispersion]'"
        )
    try:
        _energy_of_helium(xc, disp)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{what} has no {version} parameters ({reason}); choose another functional or version"
        ) from error


def dispersion_energy(mol: gto.Mole, xc: str, disp: str | None) -> float:
    """Dispersion energy of a geometry, as PySCF adds it.

    Args:
        mol: Built molecule.
        xc: Functional, perhaps with a suffix.
        disp: PySCF's ``mf.disp``; None leaves it to ``xc``.

    Returns:
        Eh; no density enters.

    Raises:
        InputError: If the atoms have no parameters.
    """
    mf = _carrier(mol, xc, disp)
    if not check_disp(mf):
        return 0.0
    try:
        return float(np.asarray(get_dispersion(mf)))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"dispersion correction of xc {xc!r}: {reason}; drop it") from error


def nonlocal_correlation(
    mol: gto.Mole,
    terms: tuple[VV10Parameters, ...],
    grids: gen_grid.Grids | GridPoints | None,
    semilocal: Grid | None,
    *,
    level: int = 3,
    device: torch.device | str,
    ao_memory_mb: float,
    ao_engine: AOEngineName = "auto",
) -> NonlocalCorrelation:
    """VV10 terms on their grid.

    Args:
        mol: Built molecule.
        terms: Parameters.
        grids: ``mf.nlcgrids``, or its points; None makes one.
        semilocal: Grid of the semilocal functional, taken over where it is the same one.
        level: Level of the grid to make; PySCF's default is 3 whatever the other grid is.
        device: Where the tensors go.
        ao_memory_mb: Memory for kept AO values, MB.
        ao_engine: Who evaluates them, see ``integrals.grids.AOGrid``.

    Returns:
        What the Kohn-Sham layer needs.
    """
    if grids is None:
        grids = build_grid(mol, level)
    elif isinstance(grids, gen_grid.Grids) and grids.coords is None:
        grids.build()
    ao = AOGrid(
        mol,
        grids,
        deriv=1,
        device=device,
        ao_memory_mb=ao_memory_mb,
        ao_engine=ao_engine,
        allow_float32=False,
    )
    if isinstance(semilocal, AOGrid) and semilocal.deriv == 1 and _same(ao, semilocal):
        ao = semilocal
    points = Points(as_tensor(ao.coords, device), as_tensor(ao.weights, device))
    return NonlocalCorrelation(grid=ao, points=points, terms=terms)


def _same(one: AOGrid, other: AOGrid) -> bool:
    return np.array_equal(one.coords, other.coords) and np.array_equal(one.weights, other.weights)


def _without(xc: str) -> str:
    """Libxc's name of the functional alone, which its matrices are of, where there is one."""
    for kind in ("gga", "mgga"):
        name = f"hyb_{kind}_xc_{xc.strip().lower().replace('-', '_')}"
        if name.upper() in libxc.XC_CODES:
            return f", or {name!r}, the functional alone"
    return ""


@lru_cache(maxsize=64)
def split(xc: str) -> tuple[str, str | bool, str | None]:
    """Split an xc string as PySCF does.

    Args:
        xc: Functional, perhaps with a suffix.

    Returns:
        Functional, False where VV10 is switched off, and dispersion version or None. A string that
        other programs read differently is logged.

    Raises:
        InputError: If PySCF does not know the correction.
    """
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        try:
            parts = parse_dft(xc)
        except NotImplementedError:
            parts = None
    if parts is None or xc.lower().endswith("-3c"):  # PySCF lists one that it cannot evaluate
        raise InputError(
            f"xc {xc!r} names a dispersion correction or a composite method that PySCF does not"
            f" have; write for example 'b3lyp-d3bj' or 'pbe-d4'{_without(xc)}"
        )
    if notes:
        _log.warning("xc %r is read as PySCF reads it: %s with %s", xc, parts[0], parts[2])
    return parts


@lru_cache(maxsize=64)
def _energy_of_helium(xc: str, disp: str | None) -> float:
    """Finds out whether there are parameters for a functional; the value means nothing."""
    atom = gto.M(atom="He 0 0 0", basis="sto-3g", verbose=0)
    return float(np.asarray(get_dispersion(_carrier(atom, xc, disp))))


def _carrier(mol: gto.Mole, xc: str, disp: str | None) -> Any:
    """The least PySCF object that knows molecule, functional and dispersion."""
    mf = dft.UKS(mol, xc=xc)
    mf.disp = disp
    return mf
