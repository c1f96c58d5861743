"""Which AO blocks are kept in memory and how precisely: float64, float32 where provable, or not."""

import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deeph_zero.ks.parallel.room import may_keep
from deeph_zero.ks.protocol import AOBlock

ENERGY_ERROR = 1e-9
"""Bound on the change of the energy by all float32 columns together, Eh."""

_UNIT_ROUNDOFF = 2.0**-24
"""Largest relative error of a number rounded to float32."""

Precision = Literal["double", "mixed"]


def choose_precision(needed_bytes: int, limit_bytes: int) -> Precision:
    """Float64 for everything when everything fits, else float32 for the columns that allow it.

    Args:
        needed_bytes: Size of all blocks in float64.
        limit_bytes: Memory for kept blocks.

    Returns:
        How blocks are kept; those that do not fit are evaluated again at every call.
    """
    return "double" if needed_bytes <= limit_bytes else "mixed"


@dataclasses.dataclass(frozen=True)
class RoundingBound:
    """How much the energy can change when columns of a block are rounded to float32.

    A density of orbitals with occupations up to 2 obeys P <= 2 S⁻¹, so |P_mn| <= q_m q_n with
    q_m = √(2 (S⁻¹)_mm), and |(Pφ)_m| <= q_m r with r = Σ_n q_n |φ_n|; likewise t_x = Σ_n q_n |∂_x
    φ_n|. Rounding column m (relative error u per number) then changes the energy by at most

        2u Σ_g |w_g| q_m [ v |φ_m| r + Σ_x (|φ_m| t_x + |∂_x φ_m| r) ]

    where v = 1 + 3 ρ^⅓ with ρ <= r² bounds |∂f/∂ρ| and 1 bounds |∂f/∂(∂_x ρ)|, which the usual LDA
    and GGA functionals obey. Columns are taken from the smallest bound on, until their sum
    reaches the block's share.

    Attributes:
        q: √(2 (S⁻¹)_mm) of every AO.
        share: Energy change allowed per block, Eh.
    """

    q: Float[Tensor, " nao"]
    share: float

    def of_columns(self, block: AOBlock) -> Float[Tensor, " nloc"]:
        """The bound of each column of a block, Eh."""
        q = self.q if block.index is None else self.q[block.index]
        scaled = block.ao.abs() * q
        total = scaled.sum(2)
        w, r = block.weights.abs(), total[0]  # some quadrature weights are negative
        bound = (w * (1.0 + 3.0 * r.pow(2.0 / 3.0)) * r) @ scaled[0]
        for x in range(1, len(block.ao)):
            bound += (w * total[x]) @ scaled[0] + (w * r) @ scaled[x]
        return 2.0 * _UNIT_ROUNDOFF * bound

    def single(self, block: AOBlock) -> Bool[Tensor, " nloc"]:
        """Columns that may be kept in float32."""
        bound, order = self.of_columns(block).sort()
        out = torch.zeros(len(bound), dtype=torch.bool, device=bound.device)
        out[order] = bound.cumsum(0) <= self.share
        return out


def rounding_bound(ovlp: Float[Tensor, "nao nao"], lindep: float, n_blocks: int) -> RoundingBound:
    """The bound for a basis; every block gets the same share of :data:`ENERGY_ERROR`.

    Args:
        ovlp: Overlap of the AOs.
        lindep: Eigenvectors of S below it carry no density.
        n_blocks: Number of blocks.

    Returns:
        Bound per column, on the device of ``ovlp``.
    """
    values, vectors = torch.linalg.eigh(ovlp)
    kept = values > lindep
    diagonal = (vectors[:, kept].square() / values[kept]).sum(1)
    return RoundingBound(torch.sqrt(2.0 * diagonal), ENERGY_ERROR / max(n_blocks, 1))


@dataclasses.dataclass(frozen=True)
class _MixedBlock:
    """A block with some columns in float32, behind the others."""

    double: Float[Tensor, "ncomp ndouble npoints"]
    single: Float[Tensor, "ncomp nsingle npoints"]
    index: Int[Tensor, " nloc"]
    weights: Float[Tensor, " npoints"]

    def block(self) -> AOBlock:
        """All columns in float64, the rounded ones last."""
        ndouble = self.double.shape[1]
        rows = self.double.new_empty(len(self.double), len(self.index), self.double.shape[2])
        rows[:, :ndouble] = self.double
        rows[:, ndouble:] = self.single
        return AOBlock(ao=rows.mT, index=self.index, weights=self.weights)


class AOStore:
    """Keeps AO blocks up to a limit; what it gives for a block never changes between calls."""

    def __init__(self, limit_bytes: int, bound: RoundingBound | None = None) -> None:
        """An empty store.

        Args:
            limit_bytes: Memory for AO values.
            bound: Says which columns may be rounded to float32; None keeps all in float64.
        """
        self._limit = limit_bytes
        self._bound = bound
        self._kept: dict[int, AOBlock | _MixedBlock] = {}
        self._single: dict[int, AOBlock] = {}
        self._refused: set[int] = set()
        self.used_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a store is empty: blocks are evaluated again."""
        return vars(self) | {"_kept": {}, "_single": {}, "_refused": set(), "used_bytes": 0}

    def find(self, k: int) -> AOBlock | None:
        """Block ``k`` if it is kept."""
        kept = self._kept.get(k)
        return kept.block() if isinstance(kept, _MixedBlock) else kept

    def find_single(self, k: int) -> AOBlock | None:
        """Block ``k`` in float32, if it is kept in any precision."""
        exact = self.find(k)
        return self._single.get(k) if exact is None else _rounded(exact)

    def offer_single(self, k: int, block: AOBlock, taken: int = 0) -> AOBlock:
        """Keep a block in float32 if it fits; it is forgotten when the exact one is kept.

        Args:
            k: Its number.
            block: Freshly evaluated.
            taken: Bytes of the limit that others have.

        Returns:
            The block in float32.
        """
        single = _rounded(block)
        nbytes = _bytes(single.ao)
        if self.used_bytes + nbytes <= self._limit - taken and may_keep(nbytes, block.ao.device):
            single = dataclasses.replace(single, kept=True)
            self._single[k] = single
            self.used_bytes += nbytes
        return single

    def offer(self, k: int, block: AOBlock, taken: int = 0) -> AOBlock:
        """Keep a block if it fits, and leaves room on a card for others.

        Args:
            k: Its number.
            block: Freshly evaluated.
            taken: Bytes of the limit that others have.

        Returns:
            The block as :meth:`find` will give it, or ``block`` itself when it does not fit.
        """
        if k in self._refused:
            return block
        kept = self._packed(block)
        parts = (kept.double, kept.single) if isinstance(kept, _MixedBlock) else (kept.ao,)
        nbytes = sum(_bytes(part) for part in parts)
        if k in self._single:
            nbytes -= _bytes(self._single[k].ao)
        full = self.used_bytes + nbytes > self._limit - taken
        if full or not may_keep(nbytes, block.ao.device):
            self._refused.add(k)
            return block
        self.used_bytes += nbytes
        self._kept[k] = kept
        self._single.pop(k, None)
        return kept.block() if isinstance(kept, _MixedBlock) else kept

    def _packed(self, block: AOBlock) -> AOBlock | _MixedBlock:
        if self._bound is None:
            return dataclasses.replace(block, kept=True)
        single = self._bound.single(block)
        if not bool(single.any()):
            return dataclasses.replace(block, kept=True)
        first, last = (~single).nonzero()[:, 0], single.nonzero()[:, 0]
        order = torch.cat([first, last])
        return _MixedBlock(
            double=block.rows[:, first],
            single=block.rows[:, last].float(),
            index=order if block.index is None else block.index[order],
            weights=block.weights,
        )


def _rounded(block: AOBlock) -> AOBlock:
    """The block in float32, held by nobody."""
    return dataclasses.replace(block, ao=block.rows.float().mT, kept=False)


def _bytes(values: Tensor) -> int:
    return values.numel() * values.element_size()
