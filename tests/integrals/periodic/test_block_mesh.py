"""Blocks (i, j, R) of matrices at k-points, and the mesh they need."""

import numpy as np
import torch

from deeph_zero.integrals.periodic.block_mesh import blocks_of, mesh_for
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    projected,
)

KMESH = {"diamond": (3, 1, 2), "molecule": (1, 1, 1), "triplet": (1, 1, 1)}


def test_blocks_give_the_matrices_of_their_mesh_back(potential_cells, potential_run):
    cell = potential_cells["diamond"]
    values = potential_run(cell, KMESH["diamond"], two=False).values.reshape(1, -1)
    orbitals = GaussianOrbitals(cell, tuple(cell.mesh), [])
    kpoints = make_kpoints((4, 3, 5))
    fock, ovlp = projected(orbitals, values, cell.vol, kpoints)
    h, s = blocks_of(
        [fock[0], ovlp], kpoints, cell.lattice_vectors(), cell.atom_coords(), (4, 4), threshold=0.0
    )
    again = torch.from_numpy(kpoints.scaled)
    # V_nl ends unevenly about k on a grid this coarse; S does not
    assert float((s.at_k(again) - ovlp).abs().max()) < 1e-12
    assert float((h.at_k(again) - fock[0]).abs().max()) < 1e-4
    assert h.asymmetry() < 1e-12
    assert not h.values.is_complex()


def test_mesh_keeps_images_apart_that_reach_each_other():
    lattice = np.diag([5.0, 9.0, 40.0])
    coords = np.array([[0.1, 0.2, 3.0], [2.0, 4.0, 18.0]])
    assert mesh_for(lattice, coords, np.full((2, 2), 4.9)) == (1, 1, 1)
    # 12 bohr: R from -2 to 2 along x, -1 to 1 along y; the other side of the vacuum is 25 away
    assert mesh_for(lattice, coords, np.full((2, 2), 12.0)) == (5, 3, 1)
    assert mesh_for(lattice, coords, np.full((2, 2), 26.0))[2] == 2


def test_small_blocks_are_left_out(crystal):
    """Of all matrices together: a block that one of them needs stays in the others."""
    cell = crystal("chain")
    kpoints = make_kpoints((5, 5, 5))
    kpts = kpoints.absolute(cell)
    ovlp, kinetic = (
        torch.from_numpy(np.asarray(cell.pbc_intor(name, kpts=kpts)) + 0j)
        for name in ("int1e_ovlp", "int1e_kin")
    )
    given = (kpoints, cell.lattice_vectors(), cell.atom_coords(), (1, 1))
    whole = blocks_of([ovlp, kinetic], *given, threshold=0.0)
    assert len(whole[0]) == 4 * 125
    for threshold in (1e-3, 0.05):
        found = blocks_of([ovlp, kinetic], *given, threshold=threshold)
        large = [
            max(abs(float(v)) for v in pair) > threshold
            for pair in zip(whole[0].values, whole[1].values, strict=True)
        ]
        assert len(found[0]) == len(found[1]) == sum(large) < 500
        assert torch.equal(found[0].pairs, found[1].pairs)
        kept = {
            (*p, *c) for p, c in zip(found[0].pairs.tolist(), found[0].cells.tolist(), strict=True)
        }
        every = zip(whole[0].pairs.tolist(), whole[0].cells.tolist(), strict=True)
        assert kept == {(*p, *c) for (p, c), keep in zip(every, large, strict=True) if keep}


def test_meshes_end_at_fifteen_points():
    """Whatever the reach; a molecule in a box needs one."""
    assert mesh_for(np.diag([2.0, 50, 50]), np.zeros((1, 3)), np.full((1, 1), 40.0)) == (15, 1, 1)
    pair = np.array([[0.0, 0, 0], [4.9, 0, 0]])
    # across the wall of the cell the second atom is nearer than inside of it
    assert mesh_for(np.diag([5.0, 50, 50]), pair, np.full((2, 2), 5.0)) == (2, 1, 1)
