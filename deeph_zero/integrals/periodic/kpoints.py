"""Uniform meshes of k-points, Γ-centred or shifted, of which one of k and -k may be enough."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pyscf.pbc import gto

from deeph_zero.errors import InputError, argument

MOST = 1_000_000
"""k-points of a mesh: nobody waits for more."""
_SAME = 1e-8
"""Fractional coordinates closer than this are one point."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KPoints:
    """k-points and what each stands for.

    Attributes:
        scaled: Fractions of the reciprocal lattice vectors, [nk, 3]; in (-1/2, 1/2] where a mesh
            was made here.
        weights: [nk], sum 1.
        mesh: Points along each reciprocal vector, or None for a list of points.
        partners: Where a point stands for -k too, the point of the whole mesh that is -k up to a
            reciprocal lattice vector, [nk, 3]; None where every point stands for itself.
    """

    scaled: Float[np.ndarray, "nk 3"]
    weights: Float[np.ndarray, " nk"]
    mesh: tuple[int, int, int] | None = None
    partners: Float[np.ndarray, "nk 3"] | None = None

    @property
    def self_conjugate(self) -> np.ndarray:
        """Whether -k is k up to a reciprocal lattice vector, [nk]."""
        twice = 2 * self.scaled
        return np.abs(twice - np.round(twice)).max(-1) < _SAME

    @property
    def real(self) -> bool:
        """Whether matrices are real at every point, as at Γ.

        Points that stand for themselves count only at Γ: elsewhere PySCF's reciprocal vectors end
        unevenly about k, which leaves small imaginary parts.
        """
        if self.partners is None:
            return bool(np.abs(self.scaled).max() < _SAME)
        return bool(self.self_conjugate.all())

    def absolute(self, cell: gto.Cell) -> Float[np.ndarray, "nk 3"]:
        """Cartesian, 1/bohr."""
        return cell.get_abs_kpts(self.scaled)


def make_kpoints(
    kmesh: Sequence[int],
    *,
    shifted: bool = False,
    time_reversal: bool = True,
    dimension: int = 3,
) -> KPoints:
    """A uniform mesh.

    Args:
        kmesh: Points along each reciprocal vector.
        shifted: Monkhorst and Pack's mesh, which avoids Γ along axes with an even number of
            points (PySCF's ``with_gamma_point=False``); it is centred at Γ otherwise.
        time_reversal: Keep one of k and -k, with the weight of both.
        dimension: Periodic directions of the cell.

    Returns:
        The points, fractions in (-1/2, 1/2].

    Raises:
        InputError: If ``kmesh`` is not three positive numbers, or has k-points along a direction
            that is not periodic.

    References:
        H. J. Monkhorst, J. D. Pack, Phys. Rev. B 13, 5188 (1976), eq. 3.
    """
    mesh = _checked(kmesh, dimension)
    axes = [_axis(n, shifted=shifted and n % 2 == 0) for n in mesh]
    scaled = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    weights = np.full(len(scaled), 1 / len(scaled))
    if not time_reversal:
        return KPoints(scaled=scaled, weights=weights, mesh=mesh)
    first, second = _pairs(mesh, shifted)
    shares = np.where(first == second, 1.0, 2.0) * weights[first]
    return KPoints(scaled=scaled[first], weights=shares, mesh=mesh, partners=scaled[second])


def listed_kpoints(cell: gto.Cell, kpts: np.ndarray) -> KPoints:
    """Given points with equal weights, as they are.

    Args:
        cell: The crystal.
        kpts: Cartesian, 1/bohr, [nk, 3].

    Returns:
        The points.
    """
    scaled = cell.get_scaled_kpts(np.reshape(kpts, (-1, 3)))
    return KPoints(scaled=scaled, weights=np.full(len(scaled), 1 / len(scaled)))


def _checked(kmesh: Sequence[int], dimension: int) -> tuple[int, int, int]:
    try:
        numbers = [int(n) for n in kmesh]
        whole = len(numbers) == 3 and all(
            float(n) == i for n, i in zip(kmesh, numbers, strict=True)
        )
    except (TypeError, ValueError):
        whole, numbers = False, []
    if not whole or min(numbers) < 1:
        raise InputError(
            f"kmesh expected three positive whole numbers, got {kmesh!r}; give for example "
            f"{argument('kmesh', (4, 4, 4))}"
        )
    if math.prod(numbers) > MOST:
        raise InputError(
            f"kmesh expected at most {MOST} k-points in all, got {math.prod(numbers)} of "
            f"{argument('kmesh', tuple(numbers))}; give fewer"
        )
    if dimension == 2 and numbers[2] != 1:
        raise InputError(
            f"kmesh expected 1 along the third vector of a cell with dimension 2, got {numbers[2]};"
            f" give {argument('kmesh', (numbers[0], numbers[1], 1))}"
        )
    return numbers[0], numbers[1], numbers[2]


def _axis(n: int, *, shifted: bool) -> np.ndarray:
    """Fractions along one axis, in (-1/2, 1/2], Γ first where it is one of them."""
    steps = (np.arange(n) + (0.5 if shifted else 0.0)) / n
    return np.where(steps > 0.5 + _SAME, steps - 1.0, steps)


def _pairs(mesh: tuple[int, int, int], shifted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Indices of k and of -k for each pair; the same twice where -k is k."""
    axes = []
    for n in mesh:
        steps = np.arange(n)
        axes.append(n - 1 - steps if shifted and n % 2 == 0 else -steps % n)
    partners = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), mesh).reshape(-1)
    first = np.flatnonzero(np.arange(len(partners)) <= partners)
    return first, partners[first]
