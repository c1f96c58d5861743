"""Exact exchange of a crystal by FFT of products of orbitals with atomic orbitals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from deeph_zero.ks.periodic.grid import BlochGrid, columns
from deeph_zero.ks.periodic.types import BlochMatrix, BlochOperator

_AXES = (-3, -2, -1)

CHUNK = 4_000_000
"""Products (times points) that are transformed at once."""


ExchangeMatrix: TypeAlias = Inexact[Tensor, "nspin nwanted nao nao"]
"""Matrices at the k-points where they are wanted."""


class Origin(NamedTuple):
    """One k-point of the whole mesh: where its orbitals come from.

    Attributes:
        kept: Index of the k-point of the layer.
        conjugate: It is that point's -k, so that everything of it is the complex conjugate.
    """

    kept: int
    conjugate: bool


class Pair(NamedTuple):
    """What belongs to a pair of k-points.

    Attributes:
        kernel: Coulomb kernel at G + q times the functional's fraction, [n1, n2, n3].
        phase: exp(-iq·r) on the points, [ngrids]; None for q = 0.
    """

    kernel: Float[Tensor, "n1 n2 n3"]
    phase: Complex[Tensor, " ngrids"] | None


@runtime_checkable
class Exchange(Protocol):
    """Exact exchange as a linear map of density matrices."""

    def __call__(self, dm: BlochMatrix) -> ExchangeMatrix:
        """The fraction of K[dm] that the functional has, of every spin."""
        ...


@final
class FourierExchange:
    """K_k = Σ_k' over the whole mesh, orbitals at k' times AOs at k; implements ``Exchange``."""

    def __init__(
        self,
        target: BlochGrid,
        source: BlochGrid,
        whole: Sequence[Origin],
        pair: Callable[[int, int], Pair],
        weight: float,
    ) -> None:
        """Keep what is needed.

        Args:
            target: AO values where matrices are wanted.
            source: AO values of the density matrices' k-points.
            whole: The whole mesh of k-points.
            pair: By index of the target and of the whole mesh.
            weight: Quadrature weight of every point, bohr³.
        """
        self.target = target
        self.source = source
        self.whole = tuple(whole)
        self.pair = pair
        self.weight = weight / len(self.whole)

    def __call__(self, dm: BlochMatrix) -> ExchangeMatrix:
        """The fraction of K[dm]."""
        factors = columns(dm)
        mine = _values(self.target)
        theirs = mine if self.source is self.target else _values(self.source)
        shape = (dm.shape[0], len(mine), self.target.nao, self.target.nao)
        out = torch.zeros(shape, dtype=torch.complex128, device=dm.device)
        for other, (kept, conjugate) in enumerate(self.whole):
            for s in range(len(dm)):
                used = factors.sign[s, kept] != 0
                if not bool(used.any()):
                    continue  # no electrons of this spin here
                orbitals = factors.c[s, kept][:, used].mT.to(torch.complex128) @ theirs[kept]
                orbitals = orbitals.conj().resolve_conj() if conjugate else orbitals
                for k, ao in enumerate(mine):
                    signed = orbitals.conj() * factors.sign[s, kept][used].unsqueeze(-1)
                    out[s, k] += self._share(ao, orbitals, signed, self.pair(k, other))
        out = 0.5 * self.weight * (out + out.mH)
        return out if dm.is_complex() or self.source is not self.target else out.real.contiguous()

    def _share(self, ao: Tensor, orbitals: Tensor, signed: Tensor, pair: Pair) -> Tensor:
        """What orbitals at one k-point give at another."""
        left = ao.conj() if pair.phase is None else ao.conj() * pair.phase
        rows = torch.empty_like(ao)
        step = max(1, CHUNK // max(1, orbitals.numel()))
        for start in range(0, len(ao), step):
            products = left[start : start + step, None] * orbitals
            waves = torch.fft.fftn(products.unflatten(-1, pair.kernel.shape), dim=_AXES)
            potential = torch.fft.ifftn(waves * pair.kernel, dim=_AXES).flatten(-3)
            rows[start : start + step] = (potential * signed).sum(1)
        rows = rows if pair.phase is None else rows * pair.phase.conj()
        return rows @ ao.mT


@final
class WithProbeCharge:
    """Exchange without its kernel's G + q = 0, for which c S P S is added."""

    def __init__(self, exchange: Exchange, constant: float, ovlp: BlochOperator) -> None:
        """Keep both.

        Args:
            exchange: Makes K without that element.
            constant: c, the functional's fraction of Madelung's constant, Eh.
            ovlp: S.
        """
        self.exchange = exchange
        self.constant = constant
        self.ovlp = ovlp

    def __call__(self, dm: BlochMatrix) -> ExchangeMatrix:
        """The fraction of K[dm]."""
        return self.exchange(dm) + self.constant * (self.ovlp @ dm @ self.ovlp)


def _values(grid: BlochGrid) -> list[Tensor]:
    """AO values alone on all points, complex, by k-point: [nao, ngrids] each."""
    shape = (grid.nao, grid.ngrids)
    out: list[Tensor] = [torch.empty(0)] * grid.nk
    for b in range(grid.n_blocks):
        block = grid.block(b)
        for group in block.groups:
            for at, k in enumerate(group.index.tolist()):
                if b == 0:
                    out[k] = torch.empty(shape, dtype=torch.complex128, device=group.ao.device)
                out[k][:, block.points] = group.ao[at, 0]
    return out
