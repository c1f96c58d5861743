"""A real field without symmetry on a grid of a cell without symmetry."""

import numpy as np

from deeph_zero.data.potentials.grid import GridPotential

LATTICE = np.array([[5.0, 0.2, 0.0], [-1.0, 6.0, 0.3], [0.4, 0.0, 7.0]])


COORDS = np.array([[0.3, 0.2, 0.1], [2.5, 2.6, 3.0]])


NUMBERS = [6, 1]


SHAPE = (6, 5, 8)


def wave(shape, shift=(0.0, 0.0, 0.0)):
    """A real field without symmetry, of waves that every grid here has room for."""
    x, y, z = (np.arange(n) / n + s for n, s in zip(shape, shift, strict=True))
    a, b, c = np.meshgrid(x, y, z, indexing="ij")
    first = np.cos(2 * np.pi * (a - 2 * b + c)) - 0.4 * np.sin(2 * np.pi * (2 * a + 3 * c))
    return first + 0.25 * np.cos(2 * np.pi * (b - c)) - 1.5


def same_place(found: GridPotential):
    assert np.abs(found.lattice - LATTICE).max() < 1e-8
    assert np.abs(found.coords - COORDS).max() < 1e-8
    assert found.numbers.tolist() == NUMBERS
