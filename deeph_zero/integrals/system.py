"""Everything the Kohn-Sham layer needs of one molecule, from a PySCF Mole or mean-field object."""

import dataclasses
from typing import Any

import torch
from pyscf import gto

from deeph_zero.integrals import grids as ao_grids
from deeph_zero.integrals.ao_engine import AOEngineName
from deeph_zero.integrals.calculation import (
    Calculation,
    calculation,
    fitting_set,
    grid_points,
    standard_level,
)
from deeph_zero.integrals.coarse import CoarseSource
from deeph_zero.integrals.corrections import dispersion_energy, nonlocal_correlation
from deeph_zero.integrals.guess import density_guess
from deeph_zero.integrals.info import KSInfo, ks_info
from deeph_zero.integrals.libxc import Engine, XCSpec, describe, make_functional
from deeph_zero.integrals.mole import BasisInput
from deeph_zero.integrals.one_electron import OneElectron, lindep_threshold, one_electron
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.two_electron import (
    TwoElectronPart,
    exchange_terms,
    two_electron_operators,
)
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.two_electron import FittedTensor
from deeph_zero.types import AOMatrix


def ks_data(
    mol_or_mf: object,
    *,
    xc: str | None = None,
    density_fit: bool | None = None,
    auxbasis: BasisInput = None,
    grid_level: int | None = None,
    unrestricted: bool | None = None,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = ao_grids.AO_MEMORY_MB,
    ao_engine: AOEngineName = "auto",
    max_memory_mb: float | None = None,
    engine: Engine = "auto",
    break_symmetry: bool = False,
    dm_guess: AOMatrix | None = None,
    jk_dtype: torch.dtype = torch.float64,
    nlc_grid_level: int | None = None,
    portable: Portable | None = None,
    two_grids: bool = True,
) -> tuple[KSData, KSInfo]:
    """Integrals, grid, functional and starting density of one molecule.

    A ``gto.Mole`` uses the keywords. A mean-field object (RKS, UKS, RHF, UHF, fitted or not) sets
    xc, fitting, grids, corrections, spin treatment; a keyword that contradicts it is refused.

    Args:
        mol_or_mf: Built PySCF molecule or mean-field object.
        xc: Functional, PySCF's syntax; None: pbe.
        density_fit: Fitted or exact two-electron integrals; None: fitted.
        auxbasis: Fitting set; None: PySCF's choice for this basis and functional.
        grid_level: PySCF's grid level, 0 to 9; None: 3.
        unrestricted: None: unrestricted if and only if ``mol.spin`` is not 0.
        device: Where every tensor goes.
        ao_memory_mb: Memory for kept AO values on the grid, MB.
        ao_engine: "auto" (libcint for the CPU, torch for other devices), "libcint" or "torch".
        max_memory_mb: Limit for all two-electron tensors together; None: 80 % of what is free.
        engine: Functional engine, see ``integrals.libxc.make_functional``.
        break_symmetry: Break spin and spatial symmetry of the starting density (unrestricted).
        dm_guess: The starting density, where it is known already.
        jk_dtype: Fitted two-electron tensors are kept in; everything is computed in float64.
        nlc_grid_level: Level of the grid for VV10, as PySCF's ``mf.nlcgrids.level``; None: 3.
        portable: What :func:`portable_part` gave for the same settings, perhaps elsewhere.
        two_grids: Have a coarse grid at hand for SCFs.

    Returns:
        The layer's data, float64 on ``device``, and its description.

    Raises:
        InputError: Unsupported object, functional, fitting set or spin.
        ComputationError: The two-electron tensors do not fit the memory.
    """
    settings = calculation(
        mol_or_mf,
        xc=xc,
        density_fit=density_fit,
        auxbasis=auxbasis,
        grid_level=grid_level,
        unrestricted=unrestricted,
        nlc_grid_level=nlc_grid_level,
    )
    spec, spins = describe(settings.xc, settings.corrections), settings.unrestricted
    functional = make_functional(spec, unrestricted=spins, engine=engine)
    if portable is None:
        portable = _portable(
            settings,
            spec,
            has_grid=functional is not None,
            max_memory_mb=max_memory_mb,
            break_symmetry=break_symmetry,
            dm_guess=dm_guess,
            jk_dtype=jk_dtype,
        )
    made = portable.to(device)
    at: dict[str, Any] = {"device": device, "ao_memory_mb": ao_memory_mb, "ao_engine": ao_engine}
    bare = static_data(settings.mol, made.one, made.two, made.dm_guess, unrestricted=spins)
    grid = None if made.points is None else _grid(settings.mol, made.points, spec, **at)
    coarse = _coarse(settings.mol, spec, grid, **at) if two_grids and grid else None
    whole = dataclasses.replace(bare, functional=functional, grid=grid, coarse=coarse)
    data = _with_corrections(whole, settings, spec, **at)
    return data, _info(settings, spec, data, made)


def portable_part(
    mol: gto.Mole,
    *,
    xc: str = "pbe",
    density_fit: bool = True,
    auxbasis: BasisInput = None,
    grid_level: int = 3,
    unrestricted: bool | None = None,
    break_symmetry: bool = False,
    dm_guess: AOMatrix | None = None,
    jk_dtype: torch.dtype = torch.float64,
) -> Portable:
    """Integrals, grid points and starting density, on the CPU, for :func:`ks_data` elsewhere.

    Args:
        mol: Built molecule.
        xc: As in :func:`ks_data`, like everything that follows.
        density_fit: Fitted or exact two-electron integrals.
        auxbasis: Fitting set.
        grid_level: PySCF's.
        unrestricted: None: unrestricted if and only if ``mol.spin`` is not 0.
        break_symmetry: Of the starting density.
        dm_guess: The starting density, where it is known already.
        jk_dtype: Fitted two-electron tensors are kept in.

    Returns:
        What can be sent to another process.

    Raises:
        InputError: Unsupported functional, fitting set or spin.
        ComputationError: The two-electron tensors do not fit the memory.
    """
    settings = calculation(
        mol,
        xc=xc,
        density_fit=density_fit,
        auxbasis=auxbasis,
        grid_level=grid_level,
        unrestricted=unrestricted,
    )
    spec = describe(settings.xc, settings.corrections)
    return _portable(
        settings,
        spec,
        has_grid=make_functional(spec, unrestricted=settings.unrestricted) is not None,
        break_symmetry=break_symmetry,
        dm_guess=dm_guess,
        jk_dtype=jk_dtype,
    )


def _portable(
    settings: Calculation,
    spec: XCSpec,
    *,
    has_grid: bool,
    max_memory_mb: float | None = None,
    break_symmetry: bool,
    dm_guess: AOMatrix | None,
    jk_dtype: torch.dtype,
) -> Portable:
    mol, spins = settings.mol, settings.unrestricted
    points = grid_points(settings) if has_grid else None
    aux = fitting_set(settings) if settings.fit_coulomb else None
    two = two_electron_operators(
        mol,
        exchange_terms(spec),
        aux,
        fit_exchange=settings.fit_exchange,
        max_memory_mb=max_memory_mb,
        with_df=settings.with_df,
        jk_dtype=jk_dtype,
    )
    if dm_guess is None:
        dm_guess = density_guess(mol, unrestricted=spins, break_symmetry=break_symmetry)
    one = one_electron(mol, ovlp=settings.ovlp, hcore=settings.hcore, e_nuc=settings.e_nuc)
    return Portable(
        one=one, two=two, points=points, dm_guess=dm_guess, auxbasis=aux.name if aux else None
    )


def _grid(mol: gto.Mole, points: ao_grids.GridPoints, spec: XCSpec, **at: Any) -> ao_grids.AOGrid:
    """AO values, or ways to them, on a grid for a functional."""
    precise = spec.kind == "MGGA"
    return ao_grids.AOGrid(mol, points, deriv=_deriv(spec), allow_float32=not precise, **at)


def _coarse(mol: gto.Mole, spec: XCSpec, target: ao_grids.AOGrid, **at: Any) -> CoarseSource:
    """The coarse grids of the same functional."""
    nlc = spec.corrections.nlc or ()
    return CoarseSource(mol, deriv=_deriv(spec), target=target, nlc=nlc, **at)


def _deriv(spec: XCSpec) -> int:
    """Derivatives of AO values that a functional needs."""
    return 0 if spec.kind == "LDA" else 1


def _with_corrections(
    data: KSData,
    settings: Calculation,
    spec: XCSpec,
    *,
    device: torch.device | str,
    ao_memory_mb: float,
    ao_engine: AOEngineName,
) -> KSData:
    """Add non-local correlation and the dispersion energy, where the functional has them."""
    nlc, e_disp = None, 0.0
    if spec.corrections.nlc:
        nlc = nonlocal_correlation(
            settings.mol,
            spec.corrections.nlc,
            settings.nlcgrids,
            data.grid,
            level=settings.nlc_grid_level,
            device=device,
            ao_memory_mb=ao_memory_mb,
            ao_engine=ao_engine,
        )
    if spec.corrections.dispersion is not None:
        e_disp = dispersion_energy(settings.mol, settings.xc, settings.disp)
    return dataclasses.replace(data, nlc=nlc, e_disp=e_disp)


def static_data(
    mol: gto.Mole,
    one: OneElectron,
    two: TwoElectronPart,
    dm_guess: AOMatrix,
    *,
    unrestricted: bool,
) -> KSData:
    """Everything but functional and grid: integrals, electron numbers, starting density.

    Args:
        mol: Built molecule.
        one: Its one-electron integrals.
        two: Its two-electron operators.
        dm_guess: Starting density, on the integrals' device.
        unrestricted: Whether matrices carry a spin axis.

    Returns:
        The data of Hartree-Fock without exchange, unless ``two`` holds some.
    """
    return KSData(
        ovlp=one.ovlp,
        hcore=one.hcore,
        dipole=one.dipole,
        nuclear_dipole=one.nuclear_dipole,
        e_nuc=one.e_nuc,
        nelec=(int(mol.nelec[0]), int(mol.nelec[1])),
        unrestricted=unrestricted,
        coulomb=two.coulomb,
        exchange=two.exchange,
        functional=None,
        grid=None,
        dm_guess=dm_guess,
        lindep_threshold=lindep_threshold(),
    )


def _info(settings: Calculation, spec: XCSpec, data: KSData, made: Portable) -> KSInfo:
    grid, nlc, coulomb = data.grid, data.nlc, made.two.coulomb
    own = {id(g): g for g in (grid, nlc.grid if nlc else None) if isinstance(g, ao_grids.AOGrid)}
    return ks_info(
        settings.mol,
        spec,
        settings.xc,
        auxbasis=made.auxbasis,
        grid_level=None if grid is None else standard_level(settings),
        ngrids=grid.ngrids if grid else 0,
        naux=coulomb.cderi.shape[0] if isinstance(coulomb, FittedTensor) else 0,
        e_disp=data.e_disp,
        memory_bytes=made.two.memory_bytes + sum(g.memory_bytes for g in own.values()),
    )
