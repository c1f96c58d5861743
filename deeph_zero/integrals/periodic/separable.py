"""Separable operators Σ |β⟩ D ⟨β| on atoms, between Bloch sums, through reciprocal space."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex, Float, Inexact

CHUNK = 20_000
"""Reciprocal vectors at once."""

Transforms = Callable[
    [Float[np.ndarray, "n 3"], Float[np.ndarray, " 3"]], Complex[np.ndarray, "n nao"]
]
"""∫ φ_k(r) exp(-i(k+G)·r) d³r of all functions, given G and k (PySCF's ``ft_ao``)."""


@runtime_checkable
class Projectors(Protocol):
    """Projectors of one kind of atom."""

    @property
    def strengths(self) -> Float[np.ndarray, "n n"]:
        """D of all of them, Eh."""
        ...

    def at(self, vectors: Float[np.ndarray, "n 3"]) -> Inexact[np.ndarray, "count n"]:
        """Transforms of the projectors of an atom at the origin at reciprocal vectors."""
        ...


AtomsWithProjectors = Sequence[tuple[Projectors, Float[np.ndarray, "_ 3"]]]
"""Projectors of each kind of atom, and where its atoms are, bohr."""


def separable_matrix(
    transforms: Transforms,
    vectors: Float[np.ndarray, "n 3"],
    kpt: Float[np.ndarray, " 3"],
    volume: float,
    atoms: AtomsWithProjectors,
) -> Complex[np.ndarray, "nao nao"]:
    """The operator at one k.

    Args:
        transforms: Transforms of the functions.
        vectors: G, all that the sum runs over, 1/bohr.
        kpt: k, 1/bohr.
        volume: Volume of the cell, bohr³.
        atoms: Projectors of each kind of atom, and the positions of its atoms.

    Returns:
        Σ_a ⟨φ_k|β_a⟩ D ⟨β_a|φ_k⟩, Eh.
    """
    overlaps: list[list[np.ndarray | float]] = [[0.0] * len(places) for _, places in atoms]
    nao = 0
    for start in range(0, len(vectors), CHUNK):
        some = vectors[start : start + CHUNK]
        values = transforms(some, kpt) / volume
        nao = values.shape[1]
        for (projectors, places), sums in zip(atoms, overlaps, strict=True):
            table = projectors.at(some + kpt).conj()
            for a, place in enumerate(places):
                # exp(ik·r_a) is the same for both sides of an atom's term and left out
                phase = np.exp(1j * (some @ place))
                sums[a] = sums[a] + (table * phase) @ values
    total = np.zeros((nao, nao), dtype=complex)
    for (projectors, _), sums in zip(atoms, overlaps, strict=True):
        for o in sums:
            assert isinstance(o, np.ndarray)
            total += o.conj().T @ projectors.strengths @ o
    return total


def within_sphere(
    vectors: Float[np.ndarray, "n 3"],
    kpt: Float[np.ndarray, " 3"],
    reciprocal: Float[np.ndarray, "3 3"],
    shape: Sequence[int],
) -> Float[np.ndarray, "m 3"]:
    """The vectors of a mesh with |k+G| in the largest sphere that the mesh has room for.

    A sphere about k+G = 0 keeps V(-k) = V(k)*, which a mesh that ends evenly about G = 0 does not.

    Args:
        vectors: G of the mesh.
        kpt: k, 1/bohr.
        reciprocal: Reciprocal lattice vectors in rows, 1/bohr.
        shape: Points of the mesh.

    Returns:
        Those inside.
    """
    length = np.linalg.norm(vectors + kpt, axis=1)
    return vectors[length <= sphere_radius(reciprocal, shape)]


def sphere_radius(reciprocal: Float[np.ndarray, "3 3"], shape: Sequence[int]) -> float:
    """Radius of the largest sphere of k+G that fits a mesh for any k of the first cell, 1/bohr.

    Args:
        reciprocal: Reciprocal lattice vectors in rows, 1/bohr.
        shape: Points of the mesh.

    Returns:
        The radius.
    """
    # the planes of the box stand 2π/|a_i| apart
    steps = 1.0 / np.linalg.norm(np.linalg.inv(reciprocal), axis=0)
    # whatever k does, |G_i| stays below (n - 1) // 2 + 1
    rooms = [((n - 1) // 2 + 0.5) * step for n, step in zip(shape, steps, strict=True)]
    return float(min(rooms)) * (1 - 1e-9)
