"""The table of structures and the list of settings: what has a column, how it sorts."""

import platform

import pytest

from deeph_zero.report import data, table
from deeph_zero.report.table import provenance, structure_table


@pytest.fixture
def source(tmp_path):
    (tmp_path / "summary.json").touch()

    def make(*structures, summary=None, model=None):
        return data.Source(
            path=tmp_path, kind="run", summary_path=tmp_path / "summary.json",
            summary=summary or {}, structures=list(structures), metrics={}, model=model or {},
            hdf5=None,
        )  # fmt: skip

    return make


def structure(frame, formula="H₂O", **entry):
    return data.Structure(entry={"file": "a/w.xyz", "frame": frame} | entry, formula=formula)


def test_columns_are_those_that_some_structure_has(source):
    rows = [
        structure(0, energy=-1.5, charge=0, spin=0, dipole=[0.0, 3.0, 4.0], converged=True),
        structure(1, energy=None, charge=0, spin=2, homo=[-0.5, -0.25], converged=False),
    ]
    heads, cells = structure_table(source(*rows))
    assert heads == [
        ("Structure", ""), ("2S", ""), ("Energy", "Eh"), ("HOMO", "Eh"), ("Dipole", "D"),
        ("Converged", ""),
    ]  # fmt: skip
    assert [[c.text for c in row] for row in cells] == [
        ["w.xyz:0", "0", "-1.50000000", "–", "5.0000", "yes"],
        ["w.xyz:1", "2", "–", "-0.5000 / -0.2500", "–", "no"],
    ]
    assert [row[2].key for row in cells] == [-1.5, None]
    assert [row[3].key for row in cells] == [None, -0.5]
    assert [row[5].key for row in cells] == [1.0, 0.0]


def test_crystals_have_columns_of_their_own_and_none_of_a_molecule(source):
    entry = {"kmesh": [2, 2, 1], "energy": -1.5, "free_energy": -1.75, "fermi": -0.25, "lumo": None}
    rows = [structure(k, dipole=None, spin_square=None, moment=float(k), **entry) for k in (0, 1)]
    heads, cells = structure_table(source(*rows))
    assert heads == [
        ("Structure", ""), ("Energy", "Eh"), ("Free energy", "Eh"), ("Fermi level", "Eh"),
        ("Moment", "electrons"), ("Converged", ""),
    ]  # fmt: skip
    texts = ["w.xyz:1", "-1.50000000", "-1.75000000", "-0.2500", "1.000", "–"]
    assert [cell.text for cell in cells[1]] == texts


def test_formulas_have_a_column_where_they_differ(source):
    heads, cells = structure_table(source(structure(0), structure(1, "CH₄"), structure(2, "")))
    assert heads[1] == ("Formula", "")
    assert [(row[1].text, row[1].key) for row in cells] == [
        ("H₂O", "H₂O"), ("CH₄", "CH₄"), ("–", None)
    ]  # fmt: skip
    assert [row[-1].text for row in cells] == ["–"] * 3, "no convergence was asked for"


def test_a_long_table_is_cut(source, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    _, cells = structure_table(source(*(structure(k) for k in range(5))))
    assert [row[0].text for row in cells] == ["w.xyz:0", "w.xyz:1", "w.xyz:2"]


def test_settings_and_versions_that_are_known(source):
    summary = {"command": "deeph-zero fit w.xyz", "version": "0.2", "xc": "pbe0", "seed": 0,
               "density_fit": True, "loss": None, "device": "", "charge": 0}  # fmt: skip
    model = {
        "xc_components": [["GGA_X_PBE", 0.75], ["HF", 0.25], "odd"],
        "network": {"n_layers": 3, "inputs": "physics", "cutoff": 14.0},
    }
    rows = dict(provenance(source(summary=summary, model=model)))
    assert rows["command"] == "deeph-zero fit w.xyz"
    assert rows["functional"] == "pbe0"
    assert rows["seed"] == "0"
    assert rows["density fitting"] == "yes"
    assert "loss" not in rows
    assert "device" not in rows
    assert rows["functional's parts"] == "0.75 GGA_X_PBE, 0.25 HF"
    assert rows["network"] == "3 layers, inputs: physics, cutoff 14 bohr"
    assert platform.python_version() in rows["page written with"]
    assert rows["finished"].endswith("UTC")


@pytest.mark.parametrize(
    "model",
    [{}, {"network": None}, {"network": [1]}, {"xc_components": {}}, {"xc_components": [1, [2]]}],
)
def test_a_model_file_is_not_trusted(source, model):
    rows = dict(provenance(source(model=model)))
    assert not {"network", "functional's parts"} & rows.keys()
    odd = dict(provenance(source(model={"network": {"cutoff": "far"}})))
    assert odd["network"] == "None layers, inputs: None"
