"""Everything the Kohn-Sham layer needs of one molecule, from a PySCF Mole or mean-field object."""

import dataclasses
from typing import Any

import numpy as np
import torch
from pyscf import df, dft, gto, scf
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError
from deeph_zero.integrals import grids as ao_grids
from deeph_zero.integrals.ao_engine import AOEngineName
from deeph_zero.integrals.corrections import (
    Corrections,
    corrections_in,
    dispersion_energy,
    nonlocal_correlation,
)
from deeph_zero.integrals.guess import density_guess
from deeph_zero.integrals.info import KSInfo, ks_info
from deeph_zero.integrals.libxc import Engine, XCSpec, describe, make_functional
from deeph_zero.integrals.mole import (
    AuxiliaryBasis,
    BasisInput,
    auxbasis_label,
    auxiliary_basis,
)
from deeph_zero.integrals.one_electron import OneElectron, lindep_threshold, one_electron
from deeph_zero.integrals.supported import check_supported
from deeph_zero.integrals.two_electron import (
    TwoElectronPart,
    exchange_terms,
    two_electron_operators,
)
from deeph_zero.ks.coulomb import FittedTensor
from deeph_zero.ks.protocol import KSData, XCKind
from deeph_zero.types import AOMatrix

# ruff: noqa: SLF001  PySCF keeps _built private

_GRID_CHOICES = {"radi_method", "becke_scheme", "prune", "radii_adjust", "atomic_radii"}
"""Settings that live on PySCF's class until a user changes them."""


@dataclasses.dataclass(kw_only=True)
class _Settings:
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


def ks_data(
    mol_or_mf: object,
    *,
    xc: str = "pbe",
    density_fit: bool = True,
    auxbasis: BasisInput = None,
    grid_level: int = 3,
    unrestricted: bool | None = None,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = ao_grids.AO_MEMORY_MB,
    ao_engine: AOEngineName = "auto",
    max_memory_mb: float | None = None,
    engine: Engine = "auto",
    break_symmetry: bool = False,
    dm_guess: AOMatrix | None = None,
    jk_dtype: torch.dtype = torch.float64,
    nlc_grid_level: int = 3,
) -> tuple[KSData, KSInfo]:
    """Integrals, grid, functional and starting density of one molecule.

    A ``gto.Mole`` uses the keywords. A mean-field object (RKS, UKS, RHF, UHF, fitted or not) sets
    xc, fitting, grids, corrections, spin treatment; keywords for these are then ignored.

    Args:
        mol_or_mf: Built PySCF molecule or mean-field object.
        xc: Functional, PySCF's syntax.
        density_fit: Fitted (default) or exact two-electron integrals.
        auxbasis: Fitting set; None: PySCF's choice for this basis and functional.
        grid_level: PySCF's grid level, 0 to 9.
        unrestricted: None: unrestricted if and only if ``mol.spin`` is not 0.
        device: Where every tensor goes.
        ao_memory_mb: Memory for kept AO values on the grid, MB.
        ao_engine: "auto" (libcint for the CPU, torch for other devices), "libcint" or "torch".
        max_memory_mb: Limit for all two-electron tensors together; None: 80 % of what is free.
        engine: Functional engine, see ``integrals.libxc.make_functional``.
        break_symmetry: Break spin and spatial symmetry of the starting density (unrestricted).
        dm_guess: The starting density, where it is known already.
        jk_dtype: Fitted two-electron tensors are kept in; everything is computed in float64.
        nlc_grid_level: Level of the grid for VV10, as PySCF's ``mf.nlcgrids.level``.

    Returns:
        The layer's data, float64 on ``device``, and its description.

    Raises:
        InputError: Unsupported object, functional, fitting set or spin.
        ComputationError: The two-electron tensors do not fit the memory.
    """
    if isinstance(mol_or_mf, gto.Mole):
        fit: dict[str, Any] = {"density_fit": density_fit, "auxbasis": auxbasis}
        levels = {"grid_level": grid_level, "nlc_grid_level": nlc_grid_level}
        settings = _from_mole(mol_or_mf, xc=xc, unrestricted=unrestricted, **levels, **fit)
    else:
        settings = _from_mean_field(mol_or_mf)
    _check_spin(settings)
    spec = describe(settings.xc, settings.corrections)
    functional = make_functional(spec, unrestricted=settings.unrestricted, engine=engine)
    grid = None
    if functional is not None:
        grid = _grid(settings, spec.kind, device, ao_memory_mb, ao_engine)
    aux = _auxiliary(settings) if settings.fit_coulomb else None
    two = two_electron_operators(
        settings.mol,
        exchange_terms(spec),
        aux,
        fit_exchange=settings.fit_exchange,
        max_memory_mb=max_memory_mb,
        device=device,
        with_df=settings.with_df,
        jk_dtype=jk_dtype,
    )
    bare = _without_xc(settings, two, device, break_symmetry=break_symmetry, dm_guess=dm_guess)
    place: dict[str, Any] = {"device": device, "ao_memory_mb": ao_memory_mb}
    data = dataclasses.replace(bare, functional=functional, grid=grid)
    data = _with_corrections(data, settings, spec, ao_engine=ao_engine, **place)
    return data, _info(settings, spec, data, two, aux)


def _with_corrections(
    data: KSData,
    settings: _Settings,
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


def _check_spin(settings: _Settings) -> None:
    spin = settings.mol.spin
    if not settings.unrestricted and spin != 0:
        msg = (
            f"expected spin 0 for a restricted calculation, got spin {spin}; "
            "use --unrestricted (unrestricted=True)"
        )
        raise InputError(msg)


def _without_xc(
    settings: _Settings,
    two: TwoElectronPart,
    device: torch.device | str,
    *,
    break_symmetry: bool,
    dm_guess: AOMatrix | None,
) -> KSData:
    mol, spins = settings.mol, settings.unrestricted
    one = one_electron(mol, ovlp=settings.ovlp, hcore=settings.hcore, device=device)
    if dm_guess is None:
        dm_guess = density_guess(mol, unrestricted=spins, break_symmetry=break_symmetry)
    return static_data(mol, one, two, dm_guess.to(device), unrestricted=spins)


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


def _from_mole(
    mol: gto.Mole,
    *,
    xc: str,
    density_fit: bool,
    auxbasis: BasisInput,
    grid_level: int,
    nlc_grid_level: int,
    unrestricted: bool | None,
) -> _Settings:
    if not mol._built:
        raise InputError("expected a built molecule, got an unbuilt gto.Mole; call mol.build()")
    for name, level in (("--grid-level", grid_level), ("nlc_grid_level", nlc_grid_level)):
        if not 0 <= level <= 9:
            raise InputError(f"expected {name} 0 to 9, got {level}; 3 is the default")
    return _Settings(
        mol=mol,
        xc=xc,
        unrestricted=mol.spin != 0 if unrestricted is None else unrestricted,
        fit_coulomb=density_fit,
        fit_exchange=density_fit,
        auxbasis=auxbasis,
        grid_level=grid_level,
        nlc_grid_level=nlc_grid_level,
    )


def _from_mean_field(mf: Any) -> _Settings:
    check_supported(mf)
    kohn_sham = isinstance(mf, dft.rks.KohnShamDFT)
    with_df = getattr(mf, "with_df", None)
    corrections = corrections_in(mf)
    return _Settings(
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


def _grid(
    settings: _Settings,
    kind: XCKind,
    device: torch.device | str,
    ao_memory_mb: float,
    ao_engine: AOEngineName,
) -> ao_grids.AOGrid:
    """The mean-field object's own grid, built if it is not yet, or a new one."""
    grids = settings.grids
    if grids is None:
        grids = ao_grids.build_grid(settings.mol, settings.grid_level or 0)
    elif grids.coords is None:
        grids.build()
    deriv = 0 if kind == "LDA" else 1
    return ao_grids.AOGrid(
        settings.mol,
        grids,
        deriv=deriv,
        device=device,
        ao_memory_mb=ao_memory_mb,
        ao_engine=ao_engine,
        allow_float32=kind != "MGGA",
    )


def _auxiliary(settings: _Settings) -> AuxiliaryBasis:
    with_df = settings.with_df
    if with_df is None or with_df.auxbasis is None:
        # a DF object without a basis resolves it for exact exchange, whatever the functional
        xc = settings.xc if with_df is None else "hf"
        return auxiliary_basis(settings.mol, xc, settings.auxbasis)
    if with_df.auxmol is not None:
        return AuxiliaryBasis(auxbasis_label(settings.mol, with_df.auxbasis), with_df.auxmol)
    return auxiliary_basis(settings.mol, settings.xc, with_df.auxbasis)


def _info(
    settings: _Settings,
    spec: XCSpec,
    data: KSData,
    two: TwoElectronPart,
    aux: AuxiliaryBasis | None,
) -> KSInfo:
    grid, nlc = data.grid, data.nlc
    own = {id(g): g for g in (grid, nlc.grid if nlc else None) if isinstance(g, ao_grids.AOGrid)}
    return ks_info(
        settings.mol,
        spec,
        settings.xc,
        auxbasis=aux.name if aux else None,
        grid_level=None if grid is None else _grid_level(settings),
        ngrids=grid.ngrids if grid else 0,
        naux=two.coulomb.cderi.shape[0] if isinstance(two.coulomb, FittedTensor) else 0,
        e_disp=data.e_disp,
        memory_bytes=two.memory_bytes + sum(g.memory_bytes for g in own.values()),
    )


def _grid_level(settings: _Settings) -> int | None:
    """PySCF's level when the grid is otherwise PySCF's default, None for anything custom."""
    grids = settings.grids
    if grids is None:
        return settings.grid_level
    if grids.atom_grid or set(vars(grids)) & _GRID_CHOICES:
        return None
    return int(grids.level)
