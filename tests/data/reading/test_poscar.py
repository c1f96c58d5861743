"""POSCAR files: counts that fit, or one line that says which line does not."""

import numpy as np
import pytest

from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

from .records import save

POSCAR = "{title}\n{scale}\n3 0 0\n0.5 4 0\n0 0.2 5\n{symbols}{counts}\n{rest}"
GOOD = {
    "title": "t",
    "scale": "2.0 ! comment",
    "symbols": "Li_sv H/4a\n",
    "counts": "1 1 ! comment",
    "rest": "Selective\nDirect\n0 0 0 T T F\n.5 .5 .25 F F F\n\n0 0 0\n0 0 0\n",
}
PLAIN = "Cart\n0 0 0\n.5 .5 .25\n"


def read(tmp_path, **changes):
    text = POSCAR.format(**(GOOD | changes))
    found, bad = read_structures([save(tmp_path, "POSCAR", text)], crystals=True)
    return found, [str(b) for b in bad]


@pytest.mark.parametrize(
    "changes", [{}, {"symbols": "", "title": "Li1 H1 bulk"}, {"rest": PLAIN + "Lattice velocities"}]
)
def test_files_of_vasp_are_read(tmp_path, changes):
    (crystal,), _ = read(tmp_path, **changes)
    assert crystal.numbers.tolist() == [3, 1]
    place = [1, 1, 0.5] if "rest" in changes else [3.5, 4.1, 2.5]
    np.testing.assert_allclose(crystal.coords[1] * BOHR_IN_ANGSTROM, place, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": "2"}, "line 7: expected a number of atoms for each of 2 symbols"),
        ({"counts": "1 x"}, "line 7: expected numbers of atoms, got '1 x'"),
        ({"symbols": "Li Foo\n"}, "line 6: expected element symbols, got 'Li Foo'; write them"),
        ({"symbols": ""}, "line 6: expected element symbols, got '1 1 ! comment'; write them"),
        ({"scale": "0"}, "line 2: expected one scale or three, not 0, got '0'"),
        ({"scale": "nan"}, "line 2: expected one scale"),
        ({"scale": "1\n3 0 0"}, "line 7: expected numbers of atoms, got 'Li_sv H/4a'"),
        ({"scale": "1\n3 0"}, "line 3: expected a lattice vector, got '3 0'"),
        ({"rest": PLAIN + "0 0 2.0\n"}, "2 positions and then an empty line, got '0 0 2.0' in"),
        ({"rest": PLAIN[:12]}, "expected 2 positions of three numbers, got 1; complete them or"),
        ({"rest": ""}, "expected 2 positions of three numbers, got 0"),
    ],
)  # fmt: skip
def test_what_would_be_another_crystal(tmp_path, changes, words):
    found, (error,) = read(tmp_path, **changes)
    assert found == []
    assert words in error
