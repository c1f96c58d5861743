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
