"""J and K of one two-electron operator, from fitted three-centre or exact four-centre integrals."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.factor import Factor, spectral_factor
from deeph_zero.ks.grid_maps import panels
from deeph_zero.types import AOMatrix, PackedFit

_CHUNK = 64
"""Fitting functions per step of K: their half-transformed integrals stay in the cache."""

DEFAULT_MEMORY_MB = 1000.0
_ROUNDED_MB = 32.0
"""Of a tensor in single precision, so much is turned to double at a time."""


def pair_index(nao: int, device: torch.device) -> Int[Tensor, "nao nao"]:
    """Position of the element (m, n) in a packed lower triangle, symmetric in m and n."""
    m = torch.arange(nao, device=device)
    high = torch.maximum(m.unsqueeze(1), m.unsqueeze(0))
    low = torch.minimum(m.unsqueeze(1), m.unsqueeze(0))
    return high * (high + 1) // 2 + low


def pack_density(dm: AOMatrix) -> Float[Tensor, "*spin nao_pair"]:
    """Lower triangle of a symmetric matrix, off-diagonal elements doubled."""
    rows, cols = torch.tril_indices(dm.shape[-1], dm.shape[-1], device=dm.device)
    return dm[..., rows, cols] * torch.where(rows == cols, 1.0, 2.0).to(dm.dtype)


class FittedTensor:
    """Density-fitted operator: (mn|ls) ~ Σ_L B[L,mn] B[L,ls].

    J = Σ_L B_L (Σ_ls B_L,ls P_ls); K = Σ_L B_L P B_L, with P = Σ_i s_i v_i v_iᵀ so that K costs
    naux nao² rank(P). Only the packed tensor is always held; its unpacked form is made once if it
    fits ``memory_mb`` and block by block otherwise.

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
            memory_mb: Upper limit for temporary unpacked integrals.
        """
        self.cderi = cderi
        self.rounded = cderi.dtype == torch.float32
        memory_mb = min(memory_mb, _ROUNDED_MB) if self.rounded else memory_mb
        self.nao = nao
        self._index = pair_index(nao, cderi.device)
        row_mb = 8 * nao * nao / 1e6
        # Two arrays of the block's size live at once: the unpacked block and its half transform.
        self._block = max(1, min(cderi.shape[0], int(memory_mb / (2 * row_mb))))
        self._full: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What is made again when needed is not copied."""
        return vars(self) | {"_full": None}

    @property
    def unpacked_bytes(self) -> int:
        """What K keeps beside the packed tensor once it was asked for."""
        kept = self._block >= self.cderi.shape[0] and not self.rounded
        return 8 * self.nao**2 * self.cderi.shape[0] if kept else 0

    def coulomb(self, dm: AOMatrix) -> AOMatrix:
        """J[dm], Eh; linear, any leading axes."""
        lead = dm.shape[:-2]
        packed = pack_density(dm).reshape(-1, self.cderi.shape[1])
        vj = torch.zeros_like(packed)
        for block in self.cderi.split(self._block) if self.rounded else (self.cderi,):
            exact = block.double()
            vj += (packed @ exact.mT) @ exact
        return vj.reshape(*lead, -1)[..., self._index]

    def exchange(self, dm: AOMatrix) -> AOMatrix:
        """K[dm], Eh; linear, any leading axes; ``dm`` symmetric."""
        flat = dm.reshape(-1, self.nao, self.nao)
        return self.factored_exchange([spectral_factor(one) for one in flat]).reshape(dm.shape)

    def factored_exchange(self, factors: Sequence[Factor]) -> Float[Tensor, "n nao nao"]:
        """K, Eh, of matrices whose factors are known.

        Args:
            factors: One pair of ``spectral_factor`` per matrix.

        Returns:
            One K per factor.
        """
        return torch.stack([self._exchange_one(columns, signs) for columns, signs in factors])

    def _exchange_one(
        self, columns: Float[Tensor, "nao rank"], signs: Float[Tensor, " rank"]
    ) -> Float[Tensor, "nao nao"]:
        """K = Σ_i s_i Σ_L (B_L c_i)(B_L c_i)ᵀ; only its lower triangle is multiplied."""
        vk = columns.new_zeros(self.nao, self.nao)
        for sign in (1.0, -1.0):
            orbitals = columns[:, signs == sign].mT.contiguous()
            if len(orbitals) == 0:
                continue
            for block in self._unpacked():
                for part in block.split(_CHUNK):
                    half = (orbitals @ part).reshape(-1, self.nao)  # [L and i, n]
                    for start, stop in panels(self.nao):
                        left, right = half[:, start:stop].mT, half[:, :stop]
                        vk[start:stop, :stop].addmm_(left, right, alpha=sign)
        lower = vk.tril(-1)
        return vk.tril() + lower.mT

    def _unpacked(self) -> "list[Tensor] | _Blocks":
        if self._block >= self.cderi.shape[0] and not self.rounded:
            if self._full is None:
                self._full = self.cderi[:, self._index]
            return [self._full]
        return _Blocks(self.cderi, self._index, self._block)


class _Blocks:
    """Iterates over unpacked blocks of the fitted tensor without keeping them."""

    def __init__(self, cderi: Tensor, index: Tensor, block: int) -> None:
        self._cderi, self._index, self._block = cderi, index, block

    def __iter__(self):  # noqa: ANN204
        for start in range(0, self._cderi.shape[0], self._block):
            yield self._cderi[start : start + self._block].double()[:, self._index]


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
        return (packed @ self.eri).reshape(*lead, -1)[..., self._index]

    def exchange(self, dm: AOMatrix) -> AOMatrix:
        """K[dm], Eh; linear, any leading axes; ``dm`` symmetric."""
        lead = dm.shape[:-2]
        flat = dm.reshape(-1, self.nao, self.nao)
        vk = torch.zeros_like(flat)
        for start in range(0, self.nao, self._rows):
            rows = self._index[start : start + self._rows]  # [m, l]
            eri = self.eri[rows][..., self._index]  # [m, l, n, s]
            vk[:, start : start + self._rows] = torch.einsum("mlns,xls->xmn", eri, flat)
        return vk.reshape(*lead, *dm.shape[-2:])
