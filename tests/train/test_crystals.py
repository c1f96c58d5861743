"""A network that learns a crystal from displaced cells, without labels."""

import numpy as np
import pytest
import torch
from pyscf.pbc import gto

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_crystal
from deeph_zero.train.crystals import (
    Lesson,
    crystal_errors,
    fit_constant,
    fit_crystals,
    teach,
)

CUTOFF = 8.0
SETTINGS = {"xc": "lda,vwn", "kmesh": (2, 1, 1)}


def displaced(seed, copies=1):
    """Hydrogen molecules in a small cell, strained and displaced."""
    rng = np.random.default_rng(seed)
    strain = np.eye(3) + 0.01 * rng.normal(size=(3, 3))
    lattice = np.diag([3.9, 5.2, 5.6]) @ strain
    atoms = np.array([[0.1, 0.0, 0.2], [1.2, 0.7, 0.9]])
    atoms = np.concatenate([atoms + np.array([3.9 * n, 0, 0]) for n in range(copies)])
    atoms = atoms @ strain
    atoms = atoms + 0.05 * rng.normal(size=atoms.shape)
    lattice[0] *= copies
    cell = gto.Cell()
    cell.a, cell.atom, cell.unit = lattice, [("H", x) for x in atoms], "B"
    cell.basis, cell.pseudo, cell.verbose = "gth-szv", "gth-pade", 0
    cell.mesh, cell.precision = [13 * copies + 1 - copies % 2, 15, 15], 1e-6
    return cell.build()


def ready(cell, **settings):
    layout = crystal_layout(cell)
    return prepare_crystal(
        cell, layout, cutoff=CUTOFF, dtype=torch.float64, **{**SETTINGS, **settings}
    )


def test_unseen_cells_are_nearer_than_the_base():
    """Of another size too: two cells in one, at the k-points that these have."""
    crystals = [teach(ready(displaced(k))) for k in range(6)]
    assert all(c.fock_builds >= 1 for c in crystals)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = default_spec(crystal_layout(displaced(0)), "tiny", cutoff=CUTOFF, balanced=False)
        network = FockNetwork(spec).double()
    fit_crystals(network, crystals)
    constant = fit_constant([Lesson.of(c) for c in crystals])
    larger = teach(ready(displaced(50, copies=2), kmesh=(1, 1, 1)))
    for unseen, part in ((teach(ready(displaced(40))), 0.4), (larger, 0.8)):
        with torch.no_grad():
            (correction,) = network(unseen.prepared.inputs)
        base = crystal_errors(unseen, unseen.prepared.fock0)
        found = crystal_errors(unseen, unseen.prepared.hamiltonian(correction))
        assert found.fock < part * base.fock
        assert found.bands < 0.4 * base.bands
        assert base.fock > 1e-4
        # levels as they are: less than half of the base's common error, which is not small
        lesson = Lesson.of(unseen)
        of_levels = lesson.errors(correction, constant.of(lesson.numbers, lesson.volume)).constant
        assert abs(of_levels) < (0.5 if len(lesson.numbers) == 2 else 0.8) * abs(base.constant)
        assert abs(base.constant) > 5e-4
        exact = crystal_errors(unseen, unseen.prepared.hamiltonian(unseen.correction))
        assert exact.fock < 0.1 * base.fock


def test_a_constant_potential_is_no_error():
    taught = teach(ready(displaced(1)))
    shifted = taught.fock + 0.3 * taught.prepared.ks.data.ovlp
    found = crystal_errors(taught, shifted)
    assert found.fock < 1e-10
    assert found.bands < 1e-10


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(ComputationError, match="expected a converged SCF to learn from"):
        teach(ready(displaced(1)), max_cycle=1, two_grids=False)
    with pytest.raises(InputError, match=r"on a uniform grid for a network, got exact exchange"):
        ready(displaced(1), xc="pbe0")
