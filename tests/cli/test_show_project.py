"""What a projection found: levels in two units, the path in letters, a moment if there is one."""

import json

import pytest

from deeph_zero.cli.show_project import show_projection
from deeph_zero.units import HARTREE_IN_EV


def summary(**changes):
    plain = {
        "kmesh": [4, 4, 1], "n_functions": 13, "n_electrons": 8, "fermi": 0.25, "gap": None,
        "bands": {"labels": [["G", 0.0], ["M", 1.0], ["K", 1.0], ["G", 2.0]], "gap": 0.125},
        "grid_overlap_error": 1.5e-7, "block_error": 3e-6, "magnetic_moment": None,
        "written": "o.h5",
    }  # fmt: skip
    return plain | changes


def test_levels_are_in_hartree_and_ev(said):
    show_projection(summary(), said, as_json=False)
    assert said.cells["Fermi level (mesh 4 4 1)"] == [f"0.25000 Eh = {HARTREE_IN_EV / 4:.3f} eV"]
    assert said.cells["gap on the mesh"] == ["none"]
    assert said.cells["overlap on the grid, largest error"] == ["1.5e-07"]
    assert said.cells["levels from the blocks, largest error"] == ["3.0e-06 Eh"]
    assert said.cells["functions, electrons per cell"] == ["13, 8"]
    assert "magnetic moment per cell" not in said.cells
    assert said.messages == ["written: o.h5"]


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        ([["G", 0.0], ["M", 1.0], ["K", 1.0], ["G", 2.0]], "GM,KG"),
        ([["G", 0.0], ["X", 0.5]], "GX"),
        ([["G", 0.0]], "G"),
    ],
)
def test_a_comma_stands_where_the_path_jumps(said, labels, path):
    show_projection(summary(bands={"labels": labels, "gap": None}), said, as_json=False)
    assert said.cells[f"gap along {path}"] == ["none"]


def test_a_magnet_has_its_moment(said):
    show_projection(summary(magnetic_moment=-1.98766), said, as_json=False)
    assert said.cells["magnetic moment per cell"] == ["-1.9877"]


def test_json_is_the_summary(said, capsys):
    show_projection(summary(), said, as_json=True)
    assert json.loads(capsys.readouterr().out) == summary()
    assert said.tables == []
