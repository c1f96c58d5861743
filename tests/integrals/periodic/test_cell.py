"""PySCF cells of structures: boxes of layers, cutoffs, and what is refused."""

import dataclasses

import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.cell import LEAST_CUTOFF, VACUUM, build_cell
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule

METHOD = Method(basis="gth-szv", xc="pbe", crystal=CrystalMethod(ke_cutoff=20.0))
LATTICE = np.array([[7.0, 0.1, 0.0], [0.2, 8.0, 0.3], [0.0, 0.4, 9.0]])


def structure(**changes):
    made = Molecule(
        numbers=np.array([3, 1]),
        coords=np.array([[0.1, 0.2, 0.3], [2.9, 0.1, 3.4]]),
        lattice=LATTICE,
        pbc=(True, True, True),
    )
    return dataclasses.replace(made, **changes)


def with_crystal(**changes):
    return dataclasses.replace(METHOD, crystal=dataclasses.replace(METHOD.crystal, **changes))


def test_a_cell_is_the_structure():
    found = build_cell(structure(), METHOD)
    np.testing.assert_allclose(found.lattice_vectors(), LATTICE)
    np.testing.assert_allclose(found.atom_coords(), structure().coords)
    assert found.atom_charges().tolist() == [3, 1]
    assert found.dimension == 3
    assert found.ke_cutoff == 20.0
    assert (found.basis, found.pseudo) == ("gth-szv", "gth-pbe")


def test_a_cutoff_that_is_not_asked_for_follows_the_basis():
    loose = build_cell(structure(), with_crystal(ke_cutoff=None))
    assert loose.ke_cutoff >= LEAST_CUTOFF
    assert np.prod(loose.mesh) > np.prod(build_cell(structure(), METHOD).mesh)


def test_a_large_grid_that_was_not_asked_for_is_said():
    said = []
    own = with_crystal(ke_cutoff=None)
    build_cell(structure(), own, said.append)
    assert not said
    wide = build_cell(structure(lattice=2 * LATTICE), own, said.append)
    (line,) = said
    shape = " x ".join(map(str, wide.mesh))
    assert line.startswith("the functions of Li want a cutoff of")
    assert f"a grid of {shape} points" in line
    build_cell(structure(lattice=2 * LATTICE), with_crystal(ke_cutoff=wide.ke_cutoff), said.append)
    assert len(said) == 1, "who asks for a cutoff knows"


def test_a_layer_gets_a_box_or_a_warning():
    said = []
    flat = LATTICE.copy()
    flat[:, 2], flat[2] = 0, 0
    needed = 2 * 3.1 + VACUUM
    layer = structure(lattice=flat, pbc=(True, True, False))
    made = build_cell(layer, METHOD, said.append)
    assert made.dimension == 2
    assert made.lattice_vectors()[2].tolist() == [0, 0, np.ceil(needed)]
    assert not said
    flat[2, 2] = 20.0
    low = build_cell(dataclasses.replace(layer, lattice=flat), METHOD, said.append)
    assert low.lattice_vectors()[2, 2] == pytest.approx(20.0)
    (line,) = said
    assert line.startswith("the box of the layer is 20.0 bohr high, which cuts its potential")


@pytest.mark.parametrize(
    ("structural", "method", "words"),
    [
        ({"charge": 1}, {}, "an even number of electrons per cell for spin 0, got 3"),
        ({"spin": 1}, {}, "an odd number of electrons per cell for spin 1, got 4"),
        ({"charge": 5}, {}, "expected electrons for charge 5"),
        ({"spin": 6}, {}, "expected electrons for charge 0 and spin 6, got 4"),
        ({}, {"pseudo": "gth-nothing"}, "a GTH pseudopotential of PySCF with"),
    ],
)
def test_what_is_impossible_is_named(structural, method, words):
    with pytest.raises(InputError, match=words):
        build_cell(structure(**structural), with_crystal(**method))


def test_other_inputs_that_are_refused():
    with pytest.raises(InputError, match="a basis set of PySCF with"):
        build_cell(structure(), dataclasses.replace(METHOD, basis="gth-nothing"))
    charged = structure(charge=2, pbc=(True, True, False))
    with pytest.raises(InputError, match="a neutral layer, got charge 2"):
        build_cell(charged, METHOD)
    with pytest.raises(InputError, match=r"a grid of at most 0\.0001 million points, got"):
        build_cell(structure(), METHOD, most_points=100)
    smeared = dataclasses.replace(METHOD, smearing=0.01)
    assert build_cell(structure(charge=1), smeared).charge == 1
