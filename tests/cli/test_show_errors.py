"""Tables of errors: units, what is left out, molecules and crystals, two files of matrices."""

import json
from pathlib import Path

import pytest

from deeph_zero.cli.show_errors import show_errors, show_matrix_errors
from deeph_zero.units import HARTREE_IN_EV


def stats(mean, rms=None, largest=None):
    return {"mean": mean, "rms": mean if rms is None else rms, "max": largest or mean}


def row(frame, **changes):
    plain = {
        "file": "a/l.h5", "frame": frame, "charge": 0, "spin": 0, "fock": {"mae": 2e-6},
        "rebuilt": {"mae": 3e-6}, "energy_error": -4.5e-5, "dipole_error": 1.25e-3,
        "subspace_distance": 0.5,
    }  # fmt: skip
    return plain | changes


def result(rows, **errors):
    fock = {"mae": stats(2e-6, 4e-6, 1.2345), "elements": {"H-O": stats(1e-6)}, "shells": {}}
    return {
        "xc": "pbe", "basis": "sto-3g", "n_structures": len(rows), "structures": rows,
        "errors": {"fock": fock} | errors, "stopped_by": None, "fock_builds": 4, "wall_time_s": 2.0,
        "conv_tol": 1e-9,
    }  # fmt: skip


def show(said, found, out=Path("e.json"), **options):
    show_errors(found, said, as_json=False, out=out, **options)
    return said.cells


def test_molecules_in_small_units(said):
    found = result([row(0), row(1)], energy_error=stats(-4e-5), dipole_error=stats(2e-3))
    cells = show(said, found)
    assert said.tables[0][0] == "pbe/sto-3g: errors over 2 structures"
    assert cells["H, all elements"] == ["uEh", "2", "4", "1234500"]
    assert cells["energy E[P(H)]"] == ["uEh", "-40", "-40", "-40"]
    assert cells["dipole moment"] == ["mD", "2", "2", "2"]
    assert cells["H-O"] == ["1", "1", "1"]
    assert "energy per atom" not in cells, "crystals have it"
    assert cells["l.h5:1"] == ["2", "3", "-45", "1.25", "500"]
    assert said.messages[-2:] == ["4 Fock builds, 2.0 s", "written: e.json"]


def test_states_and_scf_have_columns_where_there_are_some(said):
    scf = {"builds_model": 5, "builds_minao": 9}
    found = result(
        [row(0, spin=1, charge=-1, scf=scf, energy_error=None)],
        covered={"energy": 0.94, "homo": 1.0},
        scf=scf | {"saved": 4 / 9},
    )
    found["stopped_by"] = "max_time"
    cells = show(said, found)
    assert said.tables[-1][1][:3] == ["structure", "charge", "2S"]
    assert said.tables[-1][1][-1] == "builds"
    assert cells["l.h5:0"] == ["-1", "1", "2", "3", "-", "1.25", "500", "5/9"]
    assert said.messages[:2] == [
        "references inside the 95 % intervals: energy 94.0%, homo 100.0%",
        "SCF to 1e-09 Eh: 9 Fock builds from minao, 5 from the model and its inputs: 44% saved",
    ]
    assert said.messages[2] == "4 Fock builds, 2.0 s, stopped by: max_time"


def test_crystals_have_bands_in_mev(said):
    line = row(0, energy_error_per_atom=1e-6) | {"fock": {"mae": 2e-6, "bands_max": 0.01}}
    del line["dipole_error"]
    found = result([line], energy_error_per_atom=stats(0.1))
    found["errors"]["fock"]["bands_max"] = stats(1.0)
    cells = show(said, found)
    assert said.tables[-1][1][-2] == "bands / meV"
    assert cells["l.h5:0"][3] == f"{1e3 * HARTREE_IN_EV * 0.01:.3g}"
    assert cells["bands of H, largest error"][1] == f"{1e3 * HARTREE_IN_EV:.0f}"
    assert cells["energy per atom"][1] == f"{1e2 * HARTREE_IN_EV:.0f}"


def test_many_structures_are_cut_and_none_is_no_table(said):
    show(said, result([row(k) for k in range(23)]))
    assert len(said.tables[-1][2]) == 20
    assert said.messages[0] == "... and 3 more in e.json"
    said.tables.clear()
    show(said, result([]) | {"errors": {}})
    assert said.tables == []


def test_json_is_the_result(said, capsys):
    found = result([row(0)])
    show_errors(found, said, as_json=True, out=Path("e.json"))
    assert json.loads(capsys.readouterr().out) == found
    assert said.tables == said.messages == []


def matrices(**changes):
    errors = {
        "fock": {
            "mae": stats(1e-3), "max": stats(0.1), "elements": {"Au-Au": {"mae": stats(1e-3)}},
        },
        "overlap": {"mae": stats(2e-6)},
        "levels": {"occupied_mae": stats(2e-3)},
    }  # fmt: skip
    plain = {
        "reference": "b.h5", "n_structures": 1, "errors": errors, "failed": [],
        "structures": [{"missing": 3}, {"missing": 4}],
    }  # fmt: skip
    return plain | changes


def test_two_files_of_matrices(said):
    bad = {"file": "a.h5", "frame": 2, "error": "expected the same atoms"}
    show_matrix_errors(matrices(failed=[bad]), said, as_json=False, out=Path("e.json"))
    milli = 1e3 * HARTREE_IN_EV
    assert said.tables[0][0] == "against b.h5: 1 structure"
    assert said.cells["H, mean absolute"] == ["meV", *[f"{1e-3 * milli:.3g}"] * 3]
    assert said.cells["H, max"] == ["meV", *[f"{0.1 * milli:.0f}"] * 3]
    assert said.cells["S, mean absolute"] == ["1e-6", "2", "2", "2"]
    assert said.cells["levels, likewise, those filled"][1] == f"{2e-3 * milli:.3g}"
    assert said.cells["Au-Au"] == [f"{1e-3 * milli:.3g}"] * 3
    assert said.messages[0] == "blocks that one of the files has alone, zero in the other: 7"
    assert said.warnings == ["a.h5 frame 2: expected the same atoms"]


@pytest.mark.parametrize("as_json", [True, False])
def test_files_that_agree_have_nothing_to_add(said, as_json, capsys):
    found = matrices(structures=[{"missing": 0}])
    show_matrix_errors(found, said, as_json=as_json, out=Path("e.json"))
    assert said.messages == ([] if as_json else ["written: e.json"])
    assert (json.loads(capsys.readouterr().out or "0") == found) is as_json
