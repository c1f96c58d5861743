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


def cube_text(values, *, origin=(0, 0, 0), angstrom=False, nval=1, digits=10):
    values = values if nval == 2 else values[..., None]
    shape = values.shape[:3]
    unit = 0.52917721092 if angstrom else 1.0
    head = f"{len(NUMBERS)} " + " ".join(f"{x * unit:.10f}" for x in origin)
    lines = ["title", "potential", head + (f" {nval}" if nval > 1 else "")]
    for n, vector in zip(shape, LATTICE, strict=True):
        count = -n if angstrom else n
        lines.append(f"{count} " + " ".join(f"{x * unit / n:.10f}" for x in vector))
    for z, place in zip(NUMBERS, COORDS, strict=True):
        lines.append(f"{z} {z}.0 " + " ".join(f"{x * unit:.10f}" for x in place))
    flat = values.reshape(-1)
    lines += [" ".join(f"{v:.{digits}E}" for v in flat[k : k + 6]) for k in range(0, len(flat), 6)]
    return "\n".join([*lines, ""])
