"""Everything the Kohn-Sham layer needs of one molecule: integrals, grids, functional, start."""

import dataclasses
from numbers import Real
from typing import Any, get_args

import torch

from deeph_zero.errors import InputError
from deeph_zero.integrals import grids as ao_grids
from deeph_zero.integrals.ao_engine import AOEngineName
from deeph_zero.integrals.calculation import Calculation, fitting_set, grid_points
from deeph_zero.integrals.coarse import CoarseSource
from deeph_zero.integrals.corrections import dispersion_energy, nonlocal_correlation
from deeph_zero.integrals.guess import density_guess
from deeph_zero.integrals.info import KSInfo, ks_info
from deeph_zero.integrals.libxc import Engine, XCSpec, make_functional
from deeph_zero.integrals.one_electron import OneElectron, lindep_threshold, one_electron
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.two_electron import (
    TwoElectronPart,
    exchange_terms,
    two_electron_operators,
)
from deeph_zero.ks.parallel.room import memory_mb
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.two_electron import FittedTensor
from deeph_zero.types import AOMatrix


def ks_data(
    found: Calculation,
    *,
    device: torch.device | str = "cpu",
    ao_memory_mb: float | None = None,
    ao_engine: AOEngineName = "auto",
    max_memory_mb: float | None = None,
    engine: Engine = "auto",
    dm_guess: AOMatrix | None = None,
    jk_dtype: torch.dtype = torch.float64,
    portable: Portable | None = None,
) -> tuple[KSData, KSInfo]:
    """Integrals, grid, functional and starting density of one molecule.

    Args:
        found: What is computed, see :mod:`deeph_zero.integrals.calculation`.
        device: Where every tensor goes.
        ao_memory_mb: Memory for kept AO values on the grid, MB; None: 1000 on a processor, a
            quarter of what is free on a CUDA device.
        ao_engine: "auto" (libcint for the CPU, torch for other devices), "libcint" or "torch".
        max_memory_mb: Limit for all two-electron tensors together; None: 80 % of what is free.
        engine: Functional engine, see ``integrals.libxc.make_functional``.
        dm_guess: The starting density, where it is known already.
        jk_dtype: Fitted two-electron tensors are kept in; everything is computed in float64.
        portable: What :func:`portable_part` gave for the same calculation, perhaps elsewhere.

    Returns:
        The layer's data, float64 on ``device``, and its description.

    Raises:
        InputError: Unsupported fitting set, unknown engine, or a limit that is no memory.
        ComputationError: The two-electron tensors do not fit the memory.
    """
    _check_limits(ao_memory_mb, max_memory_mb, engine, ao_engine)
    functional = make_functional(found.spec, unrestricted=found.unrestricted, engine=engine)
    if portable is None:
        portable = portable_part(
            found, max_memory_mb=max_memory_mb, dm_guess=dm_guess, jk_dtype=jk_dtype
        )
    made = portable.to(device)
    if ao_memory_mb is None:
        ao_memory_mb = memory_mb(device, ao_grids.AO_MEMORY_MB)
    at: dict[str, Any] = {"device": device, "ao_memory_mb": ao_memory_mb, "ao_engine": ao_engine}
    bare = static_data(found, made.one, made.two, made.dm_guess)
    grid = None if made.points is None else _grid(found, made.points, **at)
    coarse = _coarse(found, grid, **at) if found.method.two_grids and grid else None
    whole = dataclasses.replace(bare, functional=functional, grid=grid, coarse=coarse)
    data = _with_corrections(whole, found, **at)
    return data, _info(found, data, made)


def _check_limits(ao_memory_mb: Any, max_memory_mb: Any, engine: Any, ao_engine: Any) -> None:
    """Refuse what no engine is called, and a memory that is none."""
    for name, given, known in (
        ("engine", engine, get_args(Engine)),
        ("ao_engine", ao_engine, get_args(AOEngineName)),
    ):
        if given not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}, got {given!r}")
    for name, given in (("ao_memory_mb", ao_memory_mb), ("max_memory_mb", max_memory_mb)):
        if given is not None and not (isinstance(given, Real) and float(given) >= 0):
            raise InputError(f"{name}: expected a number of megabytes from 0 up, got {given!r}")


def portable_part(
    found: Calculation,
    *,
    max_memory_mb: float | None = None,
    dm_guess: AOMatrix | None = None,
    jk_dtype: torch.dtype = torch.float64,
) -> Portable:
    """Integrals, grid points and starting density, on the CPU, for :func:`ks_data` elsewhere.

    Args:
        found: What is computed.
        max_memory_mb: Limit for all two-electron tensors together; None: 80 % of what is free.
        dm_guess: The starting density, where it is known already.
        jk_dtype: Fitted two-electron tensors are kept in.

    Returns:
        What can be sent to another process.

    Raises:
        InputError: Unsupported fitting set.
        ComputationError: The two-electron tensors do not fit the memory.
    """
    mol, method, spins = found.mol, found.method, found.unrestricted
    has_grid = make_functional(found.spec, unrestricted=spins) is not None
    points = grid_points(found) if has_grid else None
    aux = fitting_set(found) if method.density_fit else None
    two = two_electron_operators(
        mol,
        exchange_terms(found.spec),
        aux,
        fit_exchange=found.fit_exchange,
        max_memory_mb=max_memory_mb,
        with_df=found.with_df,
        jk_dtype=jk_dtype,
    )
    if dm_guess is None:
        dm_guess = density_guess(mol, unrestricted=spins, break_symmetry=method.break_symmetry)
    one = one_electron(mol, ovlp=found.ovlp, hcore=found.hcore, e_nuc=found.e_nuc)
    return Portable(
        one=one, two=two, points=points, dm_guess=dm_guess, auxbasis=aux.name if aux else None
    )


def _grid(found: Calculation, points: ao_grids.GridPoints, **at: Any) -> ao_grids.AOGrid:
    """AO values, or ways to them, on a grid for a functional."""
    spec, lindep = found.spec, _lindep(found)
    precise = spec.kind == "MGGA"
    return ao_grids.AOGrid(
        found.mol, points, deriv=_deriv(spec), allow_float32=not precise, lindep=lindep, **at
    )


def _coarse(found: Calculation, target: ao_grids.AOGrid, **at: Any) -> CoarseSource:
    """The coarse grids of the same functional."""
    spec = found.spec
    nlc = spec.corrections.nlc or ()
    return CoarseSource(found.mol, deriv=_deriv(spec), target=target, nlc=nlc, **at)


def _deriv(spec: XCSpec) -> int:
    """Derivatives of AO values that a functional needs."""
    return 0 if spec.kind == "LDA" else 1


def _lindep(found: Calculation) -> float:
    """Eigenvalues of S below it are dropped."""
    own = found.method.lindep_threshold
    return lindep_threshold() if own is None else own


def _with_corrections(
    data: KSData,
    found: Calculation,
    *,
    device: torch.device | str,
    ao_memory_mb: float,
    ao_engine: AOEngineName,
) -> KSData:
    """Add non-local correlation and the dispersion energy, where the functional has them."""
    nlc, e_disp, corrections = None, 0.0, found.spec.corrections
    if corrections.nlc:
        nlc = nonlocal_correlation(
            found.mol,
            corrections.nlc,
            found.nlcgrids,
            data.grid,
            level=found.method.nlc_grid_level or 0,
            device=device,
            ao_memory_mb=ao_memory_mb,
            ao_engine=ao_engine,
        )
    if corrections.dispersion is not None:
        e_disp = dispersion_energy(found.mol, found.method.xc, found.disp)
    return dataclasses.replace(data, nlc=nlc, e_disp=e_disp)


def static_data(
    found: Calculation, one: OneElectron, two: TwoElectronPart, dm_guess: AOMatrix
) -> KSData:
    """Everything but functional and grid: integrals, electron numbers, starting density.

    Args:
        found: What is computed.
        one: Its one-electron integrals.
        two: Its two-electron operators.
        dm_guess: Starting density, on the integrals' device.

    Returns:
        The data of Hartree-Fock without exchange, unless ``two`` holds some.
    """
    n_alpha, n_beta = found.mol.nelec
    return KSData(
        ovlp=one.ovlp,
        hcore=one.hcore,
        dipole=one.dipole,
        nuclear_dipole=one.nuclear_dipole,
        e_nuc=one.e_nuc,
        nelec=(int(n_alpha), int(n_beta)),
        unrestricted=found.unrestricted,
        coulomb=two.coulomb,
        exchange=two.exchange,
        functional=None,
        grid=None,
        dm_guess=dm_guess,
        lindep_threshold=_lindep(found),
    )


def _info(found: Calculation, data: KSData, made: Portable) -> KSInfo:
    grid, nlc, coulomb = data.grid, data.nlc, made.two.coulomb
    grids = [grid] if nlc is None or nlc.grid is grid else [grid, nlc.grid]
    return ks_info(
        found,
        auxbasis=made.auxbasis,
        ngrids=grid.ngrids if grid else 0,
        naux=coulomb.cderi.shape[0] if isinstance(coulomb, FittedTensor) else 0,
        e_disp=data.e_disp,
        memory_bytes=made.two.memory_bytes
        + sum(g.memory_bytes for g in grids if isinstance(g, ao_grids.AOGrid)),
    )
