"""Whether a potential belongs to a structure, and how steep it is."""

import numpy as np
import pytest

from deeph_zero.data.potentials.grid import GridPotential, check_belongs
from deeph_zero.errors import InputError

from .fields import COORDS, LATTICE, NUMBERS, SHAPE, wave


def belongs(lattice=LATTICE, coords=COORDS, numbers=NUMBERS, stated=NUMBERS):
    potential = GridPotential(
        values=wave(SHAPE)[None], lattice=LATTICE, numbers=np.array(stated), coords=COORDS
    )
    valences = np.array([{6: 4}.get(z, z) for z in numbers])
    check_belongs(potential, np.array(numbers), coords, lattice, valences)


def test_structure_of_the_potential_is_taken_in_any_order():
    belongs()
    belongs(coords=COORDS[::-1] + np.array([1, -2, 0]) @ LATTICE, numbers=[1, 6])
    belongs(stated=[4, 1])  # the valence, as PySCF writes it


def test_other_structures_are_refused():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for words, message in (
        ({"lattice": LATTICE @ turn}, "the same cell in another orientation"),
        ({"lattice": LATTICE * 1.01}, r"\(2.646 0.106 0.000; .* angstrom, .* another cell"),
        ({"coords": COORDS + 0.02}, r"atom 1 \(C\) at .* from the nearest one"),
        ({"coords": COORDS[:1], "numbers": [6]}, "expected the 2 atoms"),
        ({"numbers": [7, 1]}, r"atom 1 \(N\) is of number 6 there"),
        ({"coords": COORDS[[0, 0]]}, "atom 1 .* from the nearest one"),
    ):
        with pytest.raises(InputError, match=message):
            belongs(**words)


def test_steep_potentials_are_told():
    smooth = GridPotential(values=wave((12, 12, 12))[None])
    assert smooth.outermost() < 1e-12
    steep = GridPotential(values=np.random.default_rng(0).normal(size=(1, 12, 12, 12)))
    assert steep.outermost() > 0.2


def test_the_outermost_waves_are_counted():
    """One wave inside and one at the edge of a grid of 12 points, in each direction."""
    x = np.arange(12) / 12
    for axis in range(3):
        line = np.cos(2 * np.pi * x) + 0.5 * np.cos(2 * np.pi * 6 * x)
        values = np.moveaxis(np.broadcast_to(line[:, None, None], (12, 12, 12)), 0, axis)
        found = GridPotential(values=np.ascontiguousarray(values)[None]).outermost()
        # 6 is its own partner: twice the amplitude of a cosine's two waves
        assert found == pytest.approx(0.5 / np.sqrt(0.5 + 0.25), abs=1e-12)


def test_a_constant_has_no_waves():
    assert GridPotential(values=np.full((2, 4, 5, 6), -3.0)).outermost() == 0.0


def test_what_a_file_does_not_say_is_not_compared():
    values = wave(SHAPE)[None]
    valences = np.array([4, 1])
    check_belongs(GridPotential(values=values), np.array(NUMBERS), COORDS, LATTICE, valences)
    check_belongs(
        GridPotential(values=values, lattice=LATTICE),
        np.array(NUMBERS),
        COORDS + 1,
        LATTICE,
        valences,
    )
    assert GridPotential(values=values).shape == SHAPE


def test_a_hair_apart_is_the_same_place():
    belongs(coords=COORDS + 1e-4, lattice=LATTICE + 1e-6)
    with pytest.raises(InputError, match="from the nearest one"):
        belongs(coords=COORDS + np.array([[0, 0, 0], [0.2, 0, 0]]))
