"""Coulomb kernels of exact exchange, with PySCF's treatment of the divergence at G + q = 0."""

import functools
import types
from typing import Any, TypeAlias

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
_SAME = 1e-9
"""Fractional coordinates closer than this are one point."""
_Vector: TypeAlias = tuple[float, float, float]


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
        if partner is not None and np.abs(partner - k).max() > _SAME:
            origins.append(Origin(i, True))
            scaled.append(partner)
    return origins, np.array(scaled)


def mirror_mesh(kpoints: KPoints) -> np.ndarray | None:
    """The point that is -k of every point of the whole mesh, fractions.

    Args:
        kpoints: Kept ones.

    Returns:
        In the order of :func:`whole_mesh`; None where every point stands for itself.
    """
    if kpoints.partners is None:
        return None
    origins, _ = whole_mesh(kpoints)
    both = list(zip(kpoints.scaled, kpoints.partners, strict=True))
    return np.array([both[i][0 if conjugate else 1] for i, conjugate in origins])


def probe_charge(cell: Cell, spec: XCSpec, whole: np.ndarray) -> float:
    """Madelung's constant (Eh) times a functional's fraction of the whole kernel."""
    constant = tools.pbc.madelung(cell, cell.get_abs_kpts(whole))
    return float(constant * sum(part for omega, part in fractions(spec) if omega == 0))


class PairMaker:
    """Kernels and phases by indices of k-points; some are remembered.

    A class, as a function within a function is not pickled.
    """

    def __init__(
        self,
        cell: Cell,
        how: tuple[XCSpec, str | None, bool],
        mesh: tuple[int, int, int],
        *,
        targets: np.ndarray,
        whole: np.ndarray,
        device: torch.device | str,
        mirrored: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Nothing is made before it is asked for.

        Args:
            cell: The crystal.
            how: The functional, PySCF's name of the treatment at G + q = 0, or None, and whether
                the whole kernel's element there is left out, see :func:`probe_charge`.
            mesh: Points of the uniform grid.
            targets: k-points where matrices are wanted, fractions [n, 3].
            whole: The whole mesh of k-points, fractions.
            device: Where the tensors live.
            mirrored: Where targets stand for -k too, the points that are -k of them and of the
                whole mesh; matrices become the mean of K(k) and K(-k)*, which differ by what the
                mesh misses.
        """
        spec, self._exxdiv, self._left_out = how
        self._cell, self._mesh, self._device = cell, mesh, device
        self._odd = all(n % 2 for n in mesh)
        if mirrored is not None:  # PySCF's objects keep fractions of Cartesian points
            targets, whole, *rest = (
                cell.get_scaled_kpts(cell.get_abs_kpts(some))
                for some in (targets, whole, *mirrored)
            )
            mirrored = rest[0], rest[1]
        self._between, self._mirrored = (targets, whole), mirrored
        self._points = types.SimpleNamespace(kpts=cell.get_abs_kpts(whole), exxdiv=self._exxdiv)
        self._coords = cell.get_uniform_grids(mesh)
        self._parts = fractions(spec)
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        """All but what is remembered."""
        return {name: value for name, value in self.__dict__.items() if name != "_of"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin to remember anew.

        Args:
            state: Attributes.
        """
        self.__dict__ |= state
        kept = max(1, int(KEPT_BYTES / (24 * len(self._coords))))
        self._of = functools.lru_cache(maxsize=kept)(self._make)

    def __call__(self, target: int, other: int) -> Pair:
        """Kernel and phase of a pair.

        Args:
            target: Index among the targets.
            other: Index in the whole mesh.

        Returns:
            Them.
        """
        shift = self._shift(*self._between, (target, other))
        if self._mirrored is None:
            return self._of(shift, None)
        back = self._shift(*self._mirrored, (target, other))
        same = self._odd and np.abs(np.add(shift, back)).max() < _SAME
        return self._of(shift, None if same else back)

    def _make(self, shift: _Vector, back: _Vector | None) -> Pair:
        kernel = self._kernel(shift)
        if back is not None:
            around = self._cell.get_scaled_kpts(np.add(shift, back))
            kernel = 0.5 * (kernel + _turned(self._kernel(back), around))
        phase = None
        if np.abs(shift).max() > _SAME:
            phase = torch.from_numpy(np.exp(-1j * self._coords @ np.array(shift)))
            phase = phase.to(self._device)
        return Pair(torch.from_numpy(kernel).to(self._device), phase)

    def _kernel(self, shift: _Vector) -> np.ndarray:
        cell, mesh = self._cell, self._mesh
        kernel = np.zeros(len(self._coords))
        for omega, fraction in self._parts:
            with cell.with_range_coulomb(omega):
                treated = False if self._left_out and omega == 0 else self._exxdiv or False
                own = tools.get_coulG(cell, np.array(shift), treated, self._points, mesh)
            kernel += fraction * np.real(own)
        return kernel.reshape(mesh)

    def _shift(self, targets: np.ndarray, whole: np.ndarray, at: tuple[int, int]) -> _Vector:
        """From a target to a point of the whole mesh, 1/bohr."""
        cell = self._cell
        away = np.round(whole[at[1]] - targets[at[0]], 12)
        if self._odd and not (np.mod(away, 1) == 0.5).any():  # one difference, one kernel
            x, y, z = cell.get_abs_kpts(away).tolist()
        else:  # the last digit decides what PySCF takes for the edge of the mesh
            ends, starts = cell.get_abs_kpts(whole), cell.get_abs_kpts(targets)
            x, y, z = (ends[at[1]] - starts[at[0]]).tolist()
        return x, y, z


def _turned(kernel: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A kernel for densities at ``shift`` - q as one for their complex conjugates, at q."""
    turned = np.roll(np.flip(kernel), 1, (0, 1, 2))
    return np.roll(turned, -np.rint(shift).astype(int), (0, 1, 2))
