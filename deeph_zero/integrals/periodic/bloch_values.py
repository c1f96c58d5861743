"""AO values at k-points on the points of a grid: Bloch sums, kept within a stated memory."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from pyscf.pbc import gto
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.ks.periodic.grid import BlochBlock, KGroup

BLOCK_MB = 100.0
"""AO values of one block; PySCF needs as much again while it makes them."""


@final
class BlochValues:
    """Bloch sums φ_k(r) = Σ_T exp(ik·T) φ(r - T); implements ``ks.periodic.grid.BlochGrid``.

    They are made when they are first asked for. What does not fit the memory is made again in
    every pass.
    """

    def __init__(
        self,
        cell: gto.Cell,
        kpoints: KPoints,
        points: Float[np.ndarray, "ngrids 3"],
        *,
        deriv: int,
        memory_mb: float,
        device: torch.device | str = "cpu",
    ) -> None:
        """Nothing is computed yet.

        Args:
            cell: The crystal.
            kpoints: Where.
            points: Grid points, bohr.
            deriv: 1 with gradients, 0 without.
            memory_mb: Keep the values if they fit into this.
            device: Where the tensors live.
        """
        self._cell = cell
        self._kpts = kpoints.absolute(cell)
        self._coords = points
        self._deriv = deriv
        self._device = device
        self.nao = cell.nao
        self.nk = len(self._kpts)
        self.ngrids = len(self._coords)
        real = kpoints.self_conjugate
        self._groups = [
            (np.flatnonzero(pick), kind) for pick, kind in ((real, True), (~real, False))
        ]
        per_point = self.nao * (1, 4)[deriv] * (8 * int(real.sum()) + 16 * int((~real).sum()))
        self.megabytes = per_point * self.ngrids / 1e6
        self._size = max(256, int(BLOCK_MB * 1e6 / per_point))
        self.n_blocks = -(-self.ngrids // self._size)
        self.keeps = self.megabytes <= memory_mb
        self._kept: dict[int, BlochBlock] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it makes the values itself."""
        return self.__dict__ | {"_kept": {}}

    def block(self, b: int) -> BlochBlock:
        """AO values on block ``b`` of the points.

        Args:
            b: 0 <= b < n_blocks.

        Returns:
            The block.
        """
        if b in self._kept:
            return self._kept[b]
        made = self._make(b)
        if self.keeps:
            self._kept[b] = made
        return made

    def _make(self, b: int) -> BlochBlock:
        points = slice(b * self._size, min((b + 1) * self._size, self.ngrids))
        values = numint.eval_ao_kpts(
            self._cell, self._coords[points], self._kpts, deriv=self._deriv
        )
        groups = []
        for index, real in self._groups:
            if not len(index):
                continue
            shape = (len(index), (1, 4)[self._deriv], self.nao, points.stop - points.start)
            ao = torch.empty(shape, dtype=torch.float64 if real else torch.complex128)
            for rows, k in zip(ao, index, strict=True):
                # PySCF's [(component,) npoints, nao]
                own = torch.from_numpy(np.real(values[k]) if real else values[k])
                rows.copy_(own.mT)
            ao = ao.to(self._device)
            groups.append(KGroup(torch.from_numpy(index).to(self._device), ao))
        return BlochBlock(points, tuple(groups))
