"""Crystals of cif files: copies by symmetry, several blocks, and what must not be left out."""

import numpy as np
import pytest

from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

from .records import save

CELL = "".join(f"_cell_length_{x} {n}\n" for x, n in zip("abc", (4, 4.5, 5), strict=True))
CELL += "".join(f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma"))
SITES = "loop_\n_atom_site_label\n" + "".join(f"_atom_site_fract_{x}\n" for x in "xyz")
LI = "data_a\n" + CELL + "{}" + SITES + "Li1 0.1 0.2 0.3\n"
OPERATIONS = "loop_\n_space_group_symop_operation_xyz\n'x,y,z'\n'x+1/2,-y,z'\n"


def read(tmp_path, text, name="a.cif"):
    found, bad = read_structures([save(tmp_path, name, text)], crystals=True)
    return found, [str(b) for b in bad]


@pytest.mark.parametrize("more", ["", "_symmetry_space_group_name_H-M ?\n"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_operations_without_a_name_make_copies(tmp_path, more, coding):
    (crystal,), _ = read(tmp_path, LI.format(more + OPERATIONS).encode(coding))
    coords = crystal.coords * BOHR_IN_ANGSTROM / [4, 4.5, 5]
    np.testing.assert_allclose(coords, [[0.1, 0.2, 0.3], [0.6, 0.8, 0.3]], atol=1e-12)


def test_a_broken_block_costs_itself_only(tmp_path):
    good = LI.format("")
    found, (error,) = read(tmp_path, good + good.replace("0.2", "?") + good, "a.txt")
    assert [m.frame for m in found] == [0, 2]
    assert "frame 1: data block 'a': expected numbers in _atom_site_fract_y, got '?'" in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LI.replace("_cell_angle_gamma 90\n", ""), "a number for _cell_angle_gamma, got none"),
        (LI.replace(CELL, ""), "a number for _cell_length_a, got none; complete the cell"),
        (LI.replace("Li1 0.1 0.2 0.3\n", ""), "expected atoms, got an empty column"),
        (LI.replace("0.3", "nan"), "numbers in _atom_site_fract_z, got 'nan'; correct it"),
        (LI.replace("_z", "_u"), "a column _atom_site_fract_z, got none"),
        (LI.replace("{}", "_space_group_name_Hall '-F 4 2 3'\n"), "_space_group_name_hall alone"),
        (
            LI.replace("{}", "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,-1\n"),
            "_space_group_symop_magn_operation.xyz alone; add one, or write all atoms",
        ),
        ("data_x\nloop_\n_atom_site.Cartn_x\n1.0\n", "got mmCIF, not supported; write .pdb or"),
    ],
)
def test_what_would_be_another_crystal(tmp_path, text, words):
    found, (error,) = read(tmp_path, text.replace("{}", ""))
    assert found == []
    assert words in error


def test_moments_are_said(tmp_path, caplog):
    moments = "loop_\n_atom_site_moment_label\n_atom_site_moment_crystalaxis_x\nLi1 1.0\n"
    with caplog.at_level("WARNING", logger="deeph_zero"):
        (crystal,), _ = read(tmp_path, LI.format("") + moments, "a.mcif")
    assert crystal.moments is None
    assert ["write initial_magmoms" in r.getMessage() for r in caplog.records] == [True]
