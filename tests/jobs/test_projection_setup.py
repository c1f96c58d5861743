"""Structure, cell, grid, basis and pseudopotentials of a projection made one, or refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.data.potentials.grid import GridPotential
from deeph_zero.data.radial.choice import Basis, Pseudopotentials
from deeph_zero.errors import InputError
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.periodic.gth import gth_parameters
from deeph_zero.integrals.periodic.projection import GaussianOrbitals
from deeph_zero.jobs.projection_setup import Given, one_structure, set_up
from deeph_zero.molecule import Molecule
from deeph_zero.testing import Listener

LATTICE = np.array([[6.0, 0.1, 0], [0, 7.0, 0.2], [0, 0, 8.0]])
COORDS = np.array([[0.1, 0.2, 0.3], [2.0, 3.0, 1.0]])


def potential(shape=(9, 10, 12), spins=1, **changed):
    values = np.random.default_rng(1).normal(size=(spins, *shape))
    return GridPotential(**{"values": values, "lattice": LATTICE} | changed)


def crystal(**changed):
    given = {"lattice": LATTICE, "pbc": (True, True, True), "file": "lih.xyz"}
    return Molecule(**{"numbers": np.array([3, 1]), "coords": COORDS} | given | changed)


@pytest.fixture(scope="module")
def elements():
    """Functions and cores of lithium (three electrons) and hydrogen."""
    basis = Basis(label="gth-szv", gaussian={s: shells_of("gth-szv", s) for s in ("Li", "H")})
    gth = {s: gth_parameters("gth-pade", s) for s in ("Li", "H")}
    return basis, Pseudopotentials(label="gth-pade", gth=gth, upf={})


@pytest.fixture
def given(elements):
    def make(*, structure=None, field=None, **changed):
        basis, pseudos = elements
        return Given(
            potential=potential() if field is None else field,
            structure=crystal() if structure is None else structure,
            basis=basis,
            pseudopotentials=pseudos,
            path=Path("v.npy"),
            **changed,
        )

    return make


def made(given, ke_cutoff=None, reporter=None):
    return set_up(given, ke_cutoff, reporter or Listener())


def test_the_parts_are_put_together(given):
    one = given()
    found = made(one)
    assert found.electrons == 4
    assert found.mesh == (9, 10, 12)
    np.testing.assert_array_equal(found.lattice, LATTICE)
    assert found.volume == pytest.approx(abs(np.linalg.det(LATTICE)))
    assert isinstance(found.orbitals, GaussianOrbitals)
    # the grid is the potential's own: its values are as they were
    np.testing.assert_allclose(found.values, one.potential.values.reshape(1, -1), atol=1e-12)
    (channel,) = found.channels
    assert (channel.spins, channel.electrons) == (slice(0, 1), 2.0)


def test_a_finer_grid_has_the_same_waves(given):
    one = given()
    found = made(one, ke_cutoff=30.0)
    assert all(a >= b for a, b in zip(found.mesh, (9, 10, 12), strict=True))
    assert found.mesh != (9, 10, 12)
    fine = found.values.reshape(found.mesh)
    assert fine.mean() == pytest.approx(one.potential.values.mean(), abs=1e-12)
    coarse = np.fft.fftn(one.potential.values[0]) / one.potential.values[0].size
    same = np.fft.fftn(fine) / fine.size
    assert same[1, 2, 3] == pytest.approx(coarse[1, 2, 3], abs=1e-12)
    assert same[-1, 0, 2] == pytest.approx(coarse[-1, 0, 2], abs=1e-12)
    assert abs(same[5:-5]).max(initial=0.0) < 1e-12


def test_charges_take_electrons_away(given):
    assert made(given(structure=crystal(charge=1, spin=0))).electrons == 3
    with pytest.raises(
        InputError, match=r"lih\.xyz frame 0: .*the cores have 4 and the charge is 9"
    ):
        made(given(structure=crystal(charge=9)))


# ---- spins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spins", "spin", "fixed", "expected"),
    [
        (1, 0, False, [(slice(0, 1), 2.0)]),
        (2, 0, False, [(slice(0, 2), 4.0)]),
        (2, 2, False, [(slice(0, 1), 3.0), (slice(1, 2), 1.0)]),
        (2, 0, True, [(slice(0, 1), 2.0), (slice(1, 2), 2.0)]),
    ],
    ids=["closed", "free moment", "triplet", "fixed zero"],
)
def test_which_spins_share_a_fermi_level(given, spins, spin, fixed, expected):
    one = given(field=potential(spins=spins), structure=crystal(spin=spin), fix_spin=fixed)
    found = made(one).channels
    assert [(channel.spins, channel.electrons) for channel in found] == expected


@pytest.mark.parametrize(
    ("spins", "spin", "words"),
    [
        (1, 2, "expected the potential of two spins for spin 2, v.npy has one; give the other as"),
        (2, 1, "expected a spin that 4 electrons can have, got 1"),
        (2, 6, "expected a spin that 4 electrons can have, got 6"),
    ],
)
def test_spins_that_cannot_be_are_refused(given, spins, spin, words):
    with pytest.raises(InputError, match=words):
        made(given(field=potential(spins=spins), structure=crystal(spin=spin)))


# ---- cells ---------------------------------------------------------------------------------------


def test_a_structure_without_a_cell_takes_the_potentials_and_says_so(given):
    told = Listener()
    molecule = crystal(lattice=None, pbc=(False, False, False))
    found = made(given(structure=molecule), reporter=told)
    np.testing.assert_array_equal(found.lattice, LATTICE)
    assert told.messages == ["lih.xyz frame 0: no cell: that of v.npy is used"]


def test_a_layer_takes_the_height_of_its_box(given):
    layer = crystal(pbc=(True, True, False), lattice=LATTICE * [[1], [1], [0]])
    told = Listener()
    np.testing.assert_array_equal(made(given(structure=layer), reporter=told).lattice, LATTICE)
    assert told.messages == []


def test_without_any_cell_there_is_none(given):
    molecule = crystal(lattice=None, pbc=(False, False, False))
    with pytest.raises(
        InputError, match=r"expected a lattice, neither the structure nor v\.npy has"
    ):
        made(given(structure=molecule, field=potential(lattice=None)))


def test_another_crystal_is_named_with_the_potentials_file(given):
    with pytest.raises(InputError, match=r"^v\.npy: expected the cell of the potential"):
        made(given(structure=crystal(lattice=1.1 * LATTICE)))
    other = potential(numbers=np.array([3, 1]), coords=COORDS + np.array([[0, 0, 0], [0, 0, 0.5]]))
    with pytest.raises(InputError, match=r"^v\.npy: expected atoms where .*atom 2 \(H\)"):
        made(given(field=other))


# ---- one structure -------------------------------------------------------------------------------


def test_a_file_of_one_structure(tmp_path):
    path = tmp_path / "s.xyz"
    path.write_text('1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nHe 0 0 0\n')
    found = one_structure(str(path), potential(), tmp_path / "v.npy", 1, 1)
    assert (found.charge, found.spin, found.periodic) == (1, 1, True)
    path.write_text(path.read_text() * 2)
    with pytest.raises(InputError, match=r"s\.xyz: expected one structure, got several"):
        one_structure(str(path), potential(), tmp_path / "v.npy", None, None)
    path.write_text("1\n\nXx 0 0 0\n")
    with pytest.raises(InputError, match=r"s\.xyz frame 0"):
        one_structure(str(path), potential(), tmp_path / "v.npy", None, None)


def test_a_vsc_is_its_own_structure(tmp_path):
    path = tmp_path / "VSC"
    field = potential(kind="vsc", numbers=np.array([3, 1]), coords=COORDS)
    found = one_structure(str(path), field, path, None, 2)
    assert found.numbers.tolist() == [3, 1]
    assert (found.charge, found.spin, found.pbc) == (0, 2, (True, True, True))
    np.testing.assert_array_equal(found.coords, COORDS)
    # of any other kind the file has to be a structure's
    with pytest.raises(InputError):
        one_structure(str(path), dataclasses.replace(field, kind="npy"), path, None, None)
