"""J and K of one two-electron operator, from fitted three-centre or exact four-centre integrals."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.grid.maps import panels
from deeph_zero.ks.linalg.factor import Factor, spectral_factor
from deeph_zero.ks.linalg.packed import pair_index
from deeph_zero.ks.parallel.sharing import available_threads, share, threads_per_operation
from deeph_zero.types import AOMatrix, PackedFit

_CHUNK = 64
"""Fitting functions per step of K: their half-transformed integrals stay in the cache."""
_ROWS = 128
"""Fitting functions of a piece of K that one thread works on."""
_STEP_J_MB = 1.0
"""Integrals per step of J: they stay in a core's cache, and are read once for both products."""
_STEP_MB = 8.0
"""The same on another device; and integrals unpacked per step of K."""
_SHARED_J = 2**22
_SHARED_K = 2**24
"""Products from which threads share J and K: the work of milliseconds."""

DEFAULT_MEMORY_MB = 1000.0


def pack_density(dm: AOMatrix) -> Float[Tensor, "*spin nao_pair"]:
    """Lower triangle of a symmetric matrix, off-diagonal elements doubled."""
    rows, cols, times = packing(dm.shape[-1], dm.device)
    return dm[..., rows, cols] * times.to(dm.dtype)


@functools.lru_cache(maxsize=8)
def packing(nao: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of a packed lower triangle, and how often each element counts."""
    rows, cols = torch.tril_indices(nao, nao, device=device)
    return rows, cols, torch.where(rows == cols, 1.0, 2.0).double()


class FittedTensor:
    """Density-fitted operator: (mn|ls) ~ Σ_L B[L,mn] B[L,ls].

    J = Σ_L B_L (Σ_ls B_L,ls P_ls); K = Σ_L B_L P B_L, with P = Σ_i s_i v_i v_iᵀ so that K costs
    naux nao² rank(P). Only the packed tensor is always held; its unpacked form is made once if it
    fits ``memory_mb`` and in small pieces, again at every call, otherwise.

    A tensor in single precision is turned to double block by block, so that only the rounding of B
    itself is felt: energy and Fock matrix are those of one slightly different operator, still
    exact derivatives of each other.

    References:
        F. Weigend, Phys. Chem. Chem. Phys. 4, 4285 (2002), eqs. 2-9.
    """

    def __init__(self, cderi: PackedFit, nao: int, memory_mb: float = DEFAULT_MEMORY_MB) -> None:
        """Wrap the packed tensor.

        Args:
            cderi: B, packed lower triangle; double precision, or single to save memory.
            nao: Number of atomic orbitals.
            memory_mb: Upper limit for unpacked integrals that are kept.
        """
        self.cderi = cderi
        self.rounded = cderi.dtype == torch.float32
        self.nao = nao
        self._keep = not self.rounded and 8 * nao * nao * cderi.shape[0] <= memory_mb * 1e6
        self._full: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What is made again when needed is not copied."""
        return vars(self) | {"_full": None}

    @functools.cached_property
    def _index(self) -> Int[Tensor, "nao nao"]:
        """Made where it is used: stacks of molecules have one of their own."""
        return pair_index(self.nao, self.cderi.device)

    @property
    def unpacked_bytes(self) -> int:
        """What K keeps beside the packed tensor once it was asked for."""
        return 8 * self.nao**2 * self.cderi.shape[0] if self._keep else 0

    def coulomb(self, dm: AOMatrix) -> AOMatrix:
        """J[dm], Eh; linear, any leading axes."""
        lead = dm.shape[:-2]
        packed = pack_density(dm).reshape(-1, self.cderi.shape[1])
        vj = torch.zeros_like(packed)
        naux = self.cderi.shape[0]
        on_cpu = self.cderi.device.type == "cpu"
        size = _STEP_J_MB if on_cpu else _STEP_MB
        step = max(1, int(size * 1e6 / (8 * max(packed.shape[1], 1))))

        def work(rows: Tensor) -> Tensor:
            out = torch.zeros_like(packed)
            for some in rows.split(step):  # read once, for both products
                exact = some.double()
                out.addmm_(packed @ exact.mT, exact)
            return out

        if on_cpu and self.cderi.numel() >= _SHARED_J:
            share(work, iter(self.cderi.split(-(-naux // available_threads()))), vj.add_)
        elif self.rounded:
            vj = work(self.cderi)
        else:
            vj = (packed @ self.cderi.mT) @ self.cderi
        return vj.reshape(*lead, -1)[..., self._index]

    def exchange(self, dm: AOMatrix, factors: Sequence[Factor] | None = None) -> AOMatrix:
        """K[dm], Eh; linear, any leading axes.

        Args:
            dm: Symmetric matrices.
            factors: The ``spectral_factor`` of each, where they are known.

        Returns:
            Shape of ``dm``.
        """
        if factors is None:
            factors = [spectral_factor(one) for one in dm.reshape(-1, self.nao, self.nao)]
        return torch.stack([self._exchange_one(*one) for one in factors]).reshape(dm.shape)

    def _exchange_one(
        self, columns: Float[Tensor, "nao rank"], signs: Float[Tensor, " rank"]
    ) -> Float[Tensor, "nao nao"]:
        """K = Σ_i s_i Σ_L (B_L c_i)(B_L c_i)ᵀ; only its lower triangle is multiplied."""
        by_sign = [(s, columns[:, signs == s].mT.contiguous()) for s in (1.0, -1.0)]
        by_sign = [(s, orbitals) for s, orbitals in by_sign if len(orbitals)]
        vk = columns.new_zeros(self.nao, self.nao)
        self._unpack_all()

        def work(start: int) -> Tensor:
            out = torch.zeros_like(vk)
            for part in self._unpacked(start, start + _ROWS):
                for sign, orbitals in by_sign:
                    half = (orbitals @ part).reshape(-1, self.nao)  # [L and i, n]
                    for first, stop in panels(self.nao):
                        left, right = half[:, first:stop].mT, half[:, :stop]
                        out[first:stop, :stop].addmm_(left, right, alpha=sign)
            return out

        starts = iter(range(0, self.cderi.shape[0], _ROWS))
        products = self.cderi.shape[0] * self.nao**2 * columns.shape[1]
        if products < _SHARED_K or vk.device.type != "cpu":
            for start in starts:
                vk += work(start)
        else:
            share(work, starts, vk.add_)
        lower = vk.tril(-1)
        return vk.tril() + lower.mT

    def _unpack_all(self) -> None:
        if self._keep and self._full is None:
            self._full = self.cderi[:, self._index]

    def _unpacked(self, start: int, stop: int) -> Iterator[Float[Tensor, "rows nao nao"]]:
        """Some fitting functions, a few at a time; each overwrites the one before if not kept."""
        if self._full is not None:
            yield from self._full[start:stop].split(_CHUNK)
            return
        rows = self.cderi[start:stop]
        if rows.device.type != "cpu":
            yield from (some.double()[:, self._index] for some in rows.split(_CHUNK))
            return
        step = max(1, min(_CHUNK, int(_STEP_MB * 1e6 / (8 * self.nao**2))))
        room = rows.new_empty(min(step, len(rows)), self.nao**2, dtype=torch.float64)
        flat = self._index.reshape(-1)
        for some in rows.split(step):
            for row, one in zip(some, room, strict=False):  # faster than all rows in one call
                torch.index_select(row.double(), 0, flat, out=one)
            yield room[: len(some)].reshape(-1, self.nao, self.nao)


class FourCentre:
    """Exact operator from packed four-centre integrals (mn|ls), both pairs packed.

    J_mn = Σ_ls (mn|ls) P_ls and K_mn = Σ_ls (ml|ns) P_ls.
    """

    def __init__(
        self,
        eri: Float[Tensor, "nao_pair nao_pair"],
        nao: int,
        memory_mb: float = DEFAULT_MEMORY_MB,
    ) -> None:
        """Wrap the packed integrals.

        Args:
            eri: (mn|ls), [nao_pair, nao_pair], Eh.
            nao: Number of atomic orbitals.
            memory_mb: Upper limit for temporary unpacked integrals.
        """
        self.eri = eri
        self.nao = nao
        self._index = pair_index(nao, eri.device)
        self._rows = max(1, min(nao, int(memory_mb * 1e6 / (8 * nao**3))))

    def coulomb(self, dm: AOMatrix) -> AOMatrix:
        """J[dm], Eh; linear, any leading axes."""
        lead = dm.shape[:-2]
        packed = pack_density(dm).reshape(-1, self.eri.shape[0])
        with threads_per_operation():
            return (packed @ self.eri).reshape(*lead, -1)[..., self._index]

    def exchange(self, dm: AOMatrix, factors: Sequence[Factor] | None = None) -> AOMatrix:
        """K[dm], Eh; linear, any leading axes.

        Args:
            dm: Symmetric matrices.
            factors: Not used.

        Returns:
            Shape of ``dm``.
        """
        del factors
        lead = dm.shape[:-2]
        flat = dm.reshape(-1, self.nao, self.nao)
        vk = torch.zeros_like(flat)
        for start in range(0, self.nao, self._rows):
            rows = self._index[start : start + self._rows]  # [m, l]
            eri = self.eri[rows][..., self._index]  # [m, l, n, s]
            with threads_per_operation():
                vk[:, start : start + self._rows] = torch.einsum("mlns,xls->xmn", eri, flat)
        return vk.reshape(*lead, *dm.shape[-2:])
