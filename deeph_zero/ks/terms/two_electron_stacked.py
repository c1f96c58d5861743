"""J and K of one two-electron operator for a padded stack of molecules: few large products."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.ks.linalg.factor import Factor
from deeph_zero.ks.linalg.packed import pair_index
from deeph_zero.ks.parallel.room import check_stack
from deeph_zero.ks.protocol import TwoElectron
from deeph_zero.ks.terms.padding import Padding, padded
from deeph_zero.ks.terms.two_electron import FittedTensor, pack_density
from deeph_zero.types import SpinMatrix

CHUNK_MB = 256.0
"""Half-transformed integrals of one step of K."""


def stacked_operator(parts: Sequence[TwoElectron], padding: Padding) -> "StackedOperator":
    """The operator of some molecules; J and K share one where theirs are the same.

    Args:
        parts: Each molecule's own.
        padding: Their sizes.

    Returns:
        One per set of ``parts``.
    """
    key = tuple(parts)
    if key not in padding.shared:
        padding.shared[key] = StackedOperator(parts, padding)
    return padding.shared[key]


class StackedOperator:
    """J and K of one operator for all molecules of a stack."""

    def __init__(self, parts: Sequence[TwoElectron], padding: Padding) -> None:
        """Stack the fitted tensors; operators without one are called molecule by molecule.

        Args:
            parts: Each molecule's own.
            padding: Their sizes.

        Raises:
            OutOfMemoryError: If several take too much of a CUDA device.
        """
        self._parts = parts
        self._padding = padding
        fitted = [p for p in parts if isinstance(p, FittedTensor)]
        self._packed: Tensor | None = None
        self._chunks: list[Tensor] | None = None
        if len(fitted) == len(parts):
            naux = max(p.cderi.shape[0] for p in fitted)
            pairs = padding.nao * (padding.nao + 1) // 2
            if len(parts) > 1:  # one alone has no smaller stack
                nbytes = 8 * len(parts) * naux * (pairs + padding.nao**2)  # packed, and unpacked
                check_stack(nbytes, fitted[0].cderi.device)
            # the pairs of fewer orbitals are the first ones of the packed triangle of more
            self._packed = padded([p.cderi.double() for p in fitted], naux, pairs)
            self._index = pair_index(padding.nao, self._packed.device)

    def coulomb(self, dm: SpinMatrix) -> SpinMatrix:
        """J, Eh, of every matrix of a stack."""
        if self._packed is None:
            return self._one_by_one("coulomb", dm)
        weights = pack_density(dm).mT  # [nmol, nao_pair, nspin]
        vj = (self._packed.mT @ (self._packed @ weights)).mT
        return vj[..., self._index]

    def exchange(self, dm: SpinMatrix, factors: Sequence[Factor] | None = None) -> SpinMatrix:
        """K = Σ_L B_L P B_L, Eh, of every symmetric matrix of a stack.

        Args:
            dm: The matrices.
            factors: Not used: products of whole stacks are faster than orbitals one by one.

        Returns:
            Shape of ``dm``.
        """
        del factors
        if self._packed is None:
            return self._one_by_one("exchange", dm)
        n_mol, nspin, nao = dm.shape[:3]
        vk = torch.zeros_like(dm)
        for part in self._unpacked():
            flat = part.reshape(n_mol, -1, nao)  # [(m, L), n]
            wide = part.reshape(n_mol, nao, -1)  # [m, (L, n)]
            for s in range(nspin):
                half = (flat @ dm[:, s]).reshape(wide.shape)
                vk[:, s].baddbmm_(half, wide.mT)
        return vk

    def _unpacked(self) -> list[Tensor]:
        """B as [nmol, m, L, n], in pieces of L."""
        if self._chunks is None:
            assert self._packed is not None
            nao = self._padding.nao
            per_row = self._packed.shape[0] * nao**2 * 8 / 1e6
            step = max(1, int(CHUNK_MB / per_row))
            self._chunks = [
                part[:, :, self._index].transpose(1, 2).contiguous()
                for part in self._packed.split(step, dim=1)
            ]
        return self._chunks

    def _one_by_one(self, name: str, dm: SpinMatrix) -> SpinMatrix:
        """Operators without a fitted tensor."""
        out = torch.zeros_like(dm)
        for k, (part, n) in enumerate(zip(self._parts, self._padding.naos, strict=True)):
            out[k, :, :n, :n] = getattr(part, name)(dm[k, :, :n, :n])
        return out
