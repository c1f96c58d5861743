"""Water in every format, and what a reader has to make of a file."""

import numpy as np

from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

WATER = "O 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
OH = "O 0.1 0 0\nH 0 0.2 0.95\n"
XYZ = "3\ngood\n" + WATER
NEUTRAL, CATION = [(0, 0)], [(1, 1)]
"""Charge and 2S of the only record."""
COORDS = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]]) / BOHR_IN_ANGSTROM


def pdb_line(name, xyz, element="", residue="HOH", record="HETATM"):
    x, y, z = xyz
    return (
        f"{record:6}    1 {name:4} {residue:3} A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"  1.00  0.00          {element}\n"
    )


PDB = (
    pdb_line(" O  ", (0, 0, 0.1), " O")
    + pdb_line(" H1 ", (0, 0.76, 0.58), " H")
    + pdb_line(" H2 ", (0.05, -0.74, 0.61), " H")
)


def save(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def in_bohr(lines):
    """Lines of atoms whose coordinates are in bohr instead of ångström."""
    rows = [line.split() for line in lines.splitlines()]
    return "".join(
        " ".join([row[0], *(repr(float(x) / BOHR_IN_ANGSTROM) for x in row[1:])]) + "\n"
        for row in rows
    )


def assert_water(name, text, states, tmp_path, *, atol=1e-10):
    """Every record is water, of these charges and spins; the last has its coordinates."""
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert bad == []
    assert [(m.charge, m.spin) for m in molecules] == states
    assert [m.numbers.tolist() for m in molecules] == [[8, 1, 1]] * len(states)
    np.testing.assert_allclose(molecules[-1].coords, COORDS, rtol=0, atol=atol)


def assert_refused(name, text, words, tmp_path):
    """The only record is refused in one line that has these words and a cure."""
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert molecules == []
    assert [b.frame for b in bad] == [0]
    assert words in bad[0].error
    assert len(str(bad[0]).splitlines()) == 1
    assert ";" in bad[0].error


def assert_said(case, tmp_path, caplog):
    """The records are read, and one line with these words says what is not used.

    A case is the file's name, its text, the words, and charge and 2S of each record.
    """
    name, text, words, states = case
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([save(tmp_path, name, text)])
    assert (bad, [(m.charge, m.spin) for m in molecules]) == ([], states)
    lines = [record.getMessage() for record in caplog.records]
    assert [words in line for line in lines] == [True]


def assert_silent(name, text, tmp_path, caplog):
    """One record is read, and nothing is said of it."""
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([save(tmp_path, name, text)])
    assert (len(molecules), bad, caplog.records) == (1, [], [])


def assert_costs_itself_only(name, good, broken, tmp_path):
    """Of three records the broken one in the middle is refused, the others are read."""
    molecules, bad = read_structures([save(tmp_path, name, good + broken + good)])
    assert [m.frame for m in molecules] == [0, 2]
    assert [b.frame for b in bad] == [1]
