"""Two-electron integrals from PySCF: fitted or exact, one operator at a time, within a limit.

The size of a tensor is known, and checked, before it is allocated.
"""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.linalg
import torch
from pyscf import df, gto
from pyscf.df import incore

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.allocator import kept_mb
from deeph_zero.host.runtime import address_space_left_mb
from deeph_zero.integrals.mole import AuxiliaryBasis
from deeph_zero.ks.protocol import TwoElectron
from deeph_zero.ks.terms.two_electron import FittedTensor, FourCentre

_log = logging.getLogger("deeph_zero")

FIT_BUFFER_MB = 1000.0
"""Working memory of the fitting itself, on top of the tensor, where the metric is singular."""

_SOLVED_MB = 8.0
"""Columns of the tensor that are solved for at a time."""

SHARE_OF_AVAILABLE = 0.8


def _cure() -> str:
    sets = f"{argument('basis')} or {argument('auxbasis')}"
    return f"use a smaller {sets}, a larger memory limit or a bigger machine"


@runtime_checkable
class RangeSeparation(Protocol):
    """The part of ``integrals.libxc.XCSpec`` that decides exact exchange."""

    @property
    def hyb(self) -> float:
        """Short-range (or global) fraction."""
        ...

    @property
    def alpha(self) -> float:
        """Long-range fraction."""
        ...

    @property
    def omega(self) -> float:
        """Range-separation parameter, 1/bohr."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoElectronPart:
    """Operators of one molecule.

    Attributes:
        coulomb: Operator of J.
        exchange: ((coefficient, operator), ...) of c_x K.
        memory_bytes: Size of their tensors.
    """

    coulomb: TwoElectron
    exchange: tuple[tuple[float, TwoElectron], ...]
    memory_bytes: int


def available_memory_mb() -> float:
    """Memory this process may still take, MB: the kernel's estimate, or less under a limit."""
    return min(_free_mb(), address_space_left_mb()) + kept_mb()


def _free_mb() -> float:
    """The kernel's estimate, or what a container leaves."""
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = float(rows["MemAvailable"].split()[0]) / 1e3
    except (OSError, KeyError, ValueError):  # macOS: half of the physical memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2e6
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text())
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return max(min(free, (limit - used) / 1e6), 0.0)


def fitted_tensor_bytes(mol: gto.Mole, auxmol: gto.Mole) -> int:
    """Bytes of one packed fitted tensor; an upper bound where a singular metric loses functions."""
    return int(auxmol.nao_nr()) * _nao_pair(mol) * 8


def four_centre_bytes(mol: gto.Mole) -> int:
    """Bytes of the exact packed tensor (nao_pair squared)."""
    return _nao_pair(mol) ** 2 * 8


def fitted_tensor(
    mol: gto.Mole,
    auxmol: gto.Mole,
    *,
    omega: float = 0.0,
    max_memory_mb: float | None = None,
    with_df: df.DF | None = None,
    dtype: torch.dtype = torch.float64,
) -> FittedTensor:
    """Fitted tensor B with (mn|ls) ~ sum_L B[L,mn] B[L,ls] of one operator, by PySCF.

    ``omega`` follows PySCF: 0 is 1/r12, positive erf(omega r12)/r12 (long range), negative
    erfc(|omega| r12)/r12 (short range). The metric is decomposed as PySCF does it
    (``df.incore.cholesky_eri``): Cholesky, or eigenvectors above 1e-7 where it is singular, as
    the long-range one can be; naux is then smaller than the auxiliary basis.

    Args:
        mol: Built molecule.
        auxmol: Fitting functions.
        omega: Range-separation parameter, 1/bohr.
        max_memory_mb: Limit for the tensor; None: 80 % of the available memory.
        with_df: A user's DF object whose finished tensor is taken over when it has one.
        dtype: The tensor is kept in; made in double precision.

    Returns:
        J and K of this operator.

    Raises:
        ComputationError: The tensor does not fit the limit.
        InputError: The finished tensor is of another molecule.

    Cost:
        Peak memory: the tensor, its auxiliary metric and at most ``FIT_BUFFER_MB`` of buffers.
    """
    nbytes = fitted_tensor_bytes(mol, auxmol)
    shape = f"{auxmol.nao_nr()} fitting functions x {_nao_pair(mol)} orbital pairs"
    _check_memory(nbytes, "the fitted two-electron tensor", shape, _cure(), max_memory_mb)
    finished = with_df._cderi if omega == 0 and with_df is not None else None  # noqa: SLF001
    if with_df is not None and finished is not None:
        in_memory = isinstance(finished, np.ndarray)
        cderi = finished.copy() if in_memory else np.concatenate(list(with_df.loop()))
        if cderi.ndim != 2 or cderi.shape[1] != _nao_pair(mol):
            raise InputError(
                f"expected mf.with_df._cderi of shape [naux, {_nao_pair(mol)}], got "
                f"{list(cderi.shape)}; call mf.reset(mol), or leave it to PySCF"
            )
    else:
        cderi = _decomposed(mol, auxmol, omega, nbytes)
    if cderi.shape[0] < auxmol.nao_nr():
        _log.debug("metric is singular: %d of %d functions kept", len(cderi), auxmol.nao_nr())
    packed = torch.from_numpy(np.ascontiguousarray(cderi)).to(dtype)
    return FittedTensor(packed, int(mol.nao_nr()))


def four_centre(
    mol: gto.Mole,
    *,
    omega: float = 0.0,
    max_memory_mb: float | None = None,
) -> FourCentre:
    """Exact integrals (mn|ls) of one operator, packed to pairs on both sides.

    Args:
        mol: Built molecule.
        omega: As in :func:`fitted_tensor`.
        max_memory_mb: Limit for the tensor; None: 80 % of the available memory.

    Returns:
        J and K of this operator.

    Raises:
        ComputationError: The tensor does not fit the limit.
    """
    shape = f"{_nao_pair(mol)} x {_nao_pair(mol)} orbital pairs"
    cure = f"use density fitting, a smaller {argument('basis')} or a larger memory limit"
    nbytes = four_centre_bytes(mol)
    _check_memory(nbytes, "the exact two-electron tensor", shape, cure, max_memory_mb)
    with mol.with_range_coulomb(omega):
        eri = mol.intor("int2e", aosym="s4")
    packed = torch.from_numpy(eri.reshape(_nao_pair(mol), _nao_pair(mol)))
    return FourCentre(packed, int(mol.nao_nr()))


def two_electron_operators(
    mol: gto.Mole,
    terms: tuple[tuple[float, float], ...],
    aux: AuxiliaryBasis | None,
    *,
    fit_exchange: bool = True,
    max_memory_mb: float | None = None,
    with_df: df.DF | None = None,
    jk_dtype: torch.dtype = torch.float64,
) -> TwoElectronPart:
    """J's operator and those of c_x K, their total size checked before the first is made.

    Args:
        mol: Built molecule.
        terms: ((coefficient, omega), ...) from :func:`exchange_terms`.
        aux: Fitting set of J; None: exact integrals throughout.
        fit_exchange: False: K from exact integrals although J is fitted (PySCF's ``only_dfj``).
        max_memory_mb: Limit for all tensors together; None: 80 % of the available memory.
        with_df: A user's DF object whose finished tensor is taken over when it has one.
        jk_dtype: Fitted tensors are kept in.

    Returns:
        Operators and their size. An operator that both J and K need exists once.

    Raises:
        ComputationError: The tensors do not fit the limit.
    """
    fit_exchange = fit_exchange and aux is not None
    wanted = dict.fromkeys([(0.0, aux is not None), *((w, fit_exchange) for _, w in terms)])
    nbytes = sum(_operator_bytes(mol, aux if fit else None) for _, fit in wanted)
    n_fit = sum(fit for _, fit in wanted)
    shape = f"{n_fit} fitted and {len(wanted) - n_fit} exact, nao {mol.nao_nr()}"
    _check_memory(nbytes, "the two-electron tensors", shape, _cure(), max_memory_mb)
    made: dict[tuple[float, bool], TwoElectron] = {}
    for omega, fit in wanted:
        limits: dict[str, Any] = {"omega": omega, "max_memory_mb": max_memory_mb}
        if fit and aux is not None:
            made[omega, fit] = fitted_tensor(
                mol, aux.mole, with_df=with_df, dtype=jk_dtype, **limits
            )
        else:
            made[omega, fit] = four_centre(mol, **limits)
    return TwoElectronPart(
        coulomb=made[0.0, aux is not None],
        exchange=tuple((c, made[w, fit_exchange]) for c, w in terms),
        memory_bytes=sum(
            _operator_bytes(mol, aux if fit else None) * (jk_dtype.itemsize if fit else 8) // 8
            for _, fit in wanted
        ),
    )


def exchange_terms(spec: RangeSeparation) -> tuple[tuple[float, float], ...]:
    """((coefficient, omega), ...) of c_x K, with the branches of PySCF's ``rks.get_veff``.

    Args:
        spec: Functional: hyb (short-range fraction, or the fraction of a global hybrid), alpha
            (long-range fraction), omega.

    Returns:
        Empty for a pure functional, two entries for a genuinely range-separated one. omega has
        PySCF's sign: 0 full, negative short-range, positive long-range operator.

    References:
        ``pyscf.dft.rks.get_veff``, PySCF 2.14.
    """
    hyb, alpha, omega = float(spec.hyb), float(spec.alpha), abs(float(spec.omega))
    if hyb == 0 and (alpha == 0 or omega == 0):
        return ()
    if omega == 0:
        return ((hyb, 0.0),)
    if alpha == 0:  # no long-range exchange: erfc operator only
        return ((hyb, -omega),)
    if hyb == 0:  # no short-range exchange: erf operator only
        return ((alpha, omega),)
    if alpha == hyb:
        return ((hyb, 0.0),)
    return ((hyb, 0.0), (alpha - hyb, omega))


def _decomposed(mol: gto.Mole, auxmol: gto.Mole, omega: float, nbytes: int) -> np.ndarray:
    """The packed tensor of one operator."""
    if omega == 0:
        return _cholesky_eri(mol, auxmol, nbytes)
    ranged = df.DF(mol, auxmol.basis)
    ranged.auxmol = auxmol
    with ranged.range_coulomb(omega):
        return _cholesky_eri(mol, auxmol, nbytes)


def _cholesky_eri(mol: gto.Mole, auxmol: gto.Mole, nbytes: int) -> np.ndarray:
    """L⁻¹ (L|mn) with the metric LLᵀ, as PySCF's ``df.incore.cholesky_eri``.

    torch's triangular solve takes a third of SciPy's time, which for twenty atoms is as long as
    that of the integrals, and it is done in place. A singular metric is left to PySCF.
    """
    try:
        lower = torch.from_numpy(
            scipy.linalg.cholesky(auxmol.intor("int2c2e", hermi=1), lower=True)
        )
    except scipy.linalg.LinAlgError:
        budget_mb = nbytes / 1e6 + auxmol.nao_nr() ** 2 * 8 / 1e6 + FIT_BUFFER_MB
        return incore.cholesky_eri(mol, auxmol=auxmol, max_memory=budget_mb, verbose=0)
    cderi = incore.aux_e2(mol, auxmol, aosym="s2ij").T
    columns = max(1, int(_SOLVED_MB * 1e6 / (8 * cderi.shape[0])))
    for part in torch.from_numpy(cderi).split(columns, dim=1):
        part.copy_(torch.linalg.solve_triangular(lower, part, upper=False))
    return cderi


def _operator_bytes(mol: gto.Mole, aux: AuxiliaryBasis | None) -> int:
    return four_centre_bytes(mol) if aux is None else fitted_tensor_bytes(mol, aux.mole)


def _check_memory(nbytes: int, what: str, shape: str, cure: str, limit_mb: float | None) -> None:
    if limit_mb is None:
        limit_mb = SHARE_OF_AVAILABLE * available_memory_mb()
    if nbytes / 1e6 > limit_mb:
        msg = (
            f"expected {what} within {limit_mb:.0f} MB, it takes {nbytes / 1e6:.0f} MB "
            f"({shape}); {cure}"
        )
        raise ComputationError(msg)


def _nao_pair(mol: gto.Mole) -> int:
    nao = int(mol.nao_nr())
    return nao * (nao + 1) // 2
