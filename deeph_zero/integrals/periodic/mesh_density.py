"""The density of a crystal on the points of its FFT mesh."""

import numpy as np
import torch
from jaxtyping import Complex, Float
from pyscf.pbc import gto

from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.ks.periodic.grid import density_rows


def mesh_density(
    cell: gto.Cell,
    kpoints: KPoints,
    dm: Complex[np.ndarray, "nk nao nao"],
    mesh: tuple[int, int, int],
) -> Float[np.ndarray, "n1 n2 n3"]:
    """ρ(r) = Σ_k w_k Σ_ij φ_i(r) P_ij φ_j(r)*, point (i, j, k) at i/n1 a1 + j/n2 a2 + k/n3 a3.

    Args:
        cell: The functions; of a layer the third vector is that of its box.
        kpoints: Where, with weights.
        dm: Density matrices of the sum of the spins.
        mesh: Points along the vectors.

    Returns:
        Electrons per bohr³.
    """
    grid = BlochValues(cell, kpoints, _points(cell, mesh), deriv=0, memory_mb=0.0)
    weights = torch.from_numpy(np.ascontiguousarray(kpoints.weights))
    rows = density_rows(grid, weights, torch.from_numpy(np.ascontiguousarray(dm))[None], 1)
    return rows[0, 0].numpy().reshape(mesh)


def _points(cell: gto.Cell, mesh: tuple[int, int, int]) -> Float[np.ndarray, "ngrids 3"]:
    """Points of the mesh; around a layer, whose functions have no images along z, its own box."""
    axes = [np.arange(n) / n for n in mesh]
    if cell.dimension == 2:
        height = cell.get_scaled_atom_coords()[:, 2]
        axes[2] -= np.round(axes[2] - 0.5 * (height.min() + height.max()))
    fractions = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return fractions @ cell.lattice_vectors()
