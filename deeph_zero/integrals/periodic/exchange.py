"""Coulomb kernels of exact exchange, with PySCF's treatment of the divergence at G + q = 0."""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pyscf.pbc import tools
from pyscf.pbc.gto import Cell

from deeph_zero.integrals.libxc import XCSpec
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.two_electron import exchange_terms
from deeph_zero.ks.periodic.exchange import Origin, Pair

KEPT_BYTES = 2e8
"""Kernels and phases of pairs of k-points kept at once."""


def has_exchange(spec: XCSpec) -> bool:
    """Whether a functional has exact exchange."""
    return bool(exchange_terms(spec))


def fractions(spec: XCSpec) -> list[tuple[float, float]]:
    """(omega, fraction) of the kernels a functional adds up.

    A negative omega is the short range, 0 all of it, as PySCF's periodic objects have it.
    """
    return [(omega, fraction) for fraction, omega in exchange_terms(spec)]


def whole_mesh(kpoints: KPoints) -> tuple[list[Origin], np.ndarray]:
    """All k-points that the kept ones stand for, and their fractions."""
    origins, scaled = [], []
    for i, k in enumerate(kpoints.scaled):
        origins.append(Origin(i, False))
        scaled.append(k)
        partner = None if kpoints.partners is None else kpoints.partners[i]
        if partner is not None and np.abs(partner - k).max() > 1e-9:
            origins.append(Origin(i, True))
            scaled.append(partner)
    return origins, np.array(scaled)


def probe_charge(cell: Cell, spec: XCSpec, whole: np.ndarray) -> float:
    """Madelung's constant (Eh) times a functional's fraction of the whole kernel."""
    constant = tools.pbc.madelung(cell, cell.get_abs_kpts(whole))
    return float(constant * sum(part for omega, part in fractions(spec) if omega == 0))


def pair_maker(
    cell: Cell,
    how: tuple[XCSpec, str | None, bool],
    mesh: tuple[int, int, int],
    *,
    targets: np.ndarray,
    whole: np.ndarray,
    device: torch.device | str,
) -> Callable[[int, int], Pair]:
    """Kernels and phases by indices of k-points.

    Args:
        cell: The crystal.
        how: The functional, PySCF's name of the treatment at G + q = 0, or None, and whether the
            whole kernel's element there is left out, see :func:`probe_charge`.
        mesh: Points of the uniform grid.
        targets: k-points where matrices are wanted, fractions [n, 3].
        whole: The whole mesh of k-points, fractions.
        device: Where the tensors live.

    Returns:
        Makes them; some are remembered.
    """
    return _Pairs(cell, how, mesh, targets=targets, whole=whole, device=device)


class _Pairs:
    """What :func:`pair_maker` makes: a class, as a function within a function is not pickled."""

    def __init__(
        self,
        cell: Cell,
        how: tuple[XCSpec, str | None, bool],
        mesh: tuple[int, int, int],
        *,
        targets: np.ndarray,
        whole: np.ndarray,
        device: torch.device | str,
    ) -> None:
        spec, self._exxdiv, self._left_out = how
        self._cell, self._mesh, self._device = cell, mesh, device
        self._targets, self._whole = targets, whole
        self._points = types.SimpleNamespace(kpts=cell.get_abs_kpts(whole), exxdiv=self._exxdiv)
        self._coords = cell.get_uniform_grids(mesh)
        self._parts = fractions(spec)
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_of"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        kept = max(1, int(KEPT_BYTES / (24 * len(self._coords))))
        self._of = functools.lru_cache(maxsize=kept)(self._make)

    def __call__(self, target: int, other: int) -> Pair:
        q: Sequence[float] = np.round(self._whole[other] - self._targets[target], 12).tolist()
        return self._of((q[0], q[1], q[2]))

    def _make(self, q: tuple[float, float, float]) -> Pair:
        cell, mesh = self._cell, self._mesh
        shift = cell.get_abs_kpts(np.array(q))
        kernel = np.zeros(len(self._coords))
        for omega, fraction in self._parts:
            with cell.with_range_coulomb(omega):
                treated = False if self._left_out and omega == 0 else self._exxdiv or False
                own = tools.get_coulG(cell, shift, treated, self._points, mesh)
            kernel += fraction * np.real(own)
        phase = None
        if np.abs(shift).max() > 1e-9:
            phase = torch.from_numpy(np.exp(-1j * self._coords @ shift)).to(self._device)
        return Pair(torch.from_numpy(kernel.reshape(mesh)).to(self._device), phase)
