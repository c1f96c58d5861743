"""The end of a command: tables of one and of many, what it cost, and what fell short."""

import json

import numpy as np
import pytest

from deeph_zero.cli import show
from deeph_zero.cli.show import builds, keeping, require_success, resuming
from deeph_zero.errors import ComputationError
from deeph_zero.host.files import journal_beside
from deeph_zero.host.signals import saying
from deeph_zero.units import HARTREE_IN_EV


def shown(said, entries, out, **summary):
    plain = {"xc": "pbe", "basis": "sto-3g", "fock_builds": 3, "structures": entries}
    show.show_summary(plain | summary, said, as_json=False, out=out)
    return said.cells


def test_a_basis_of_crystals_stands_beside_that_of_molecules(said, tmp_path):
    own = {"energy": -1.0, "converged": True, "file": "m.xyz", "frame": 1}
    shown(said, [own | {"frame": 0}, own | {"basis": "gth-szv"}], tmp_path)
    shown(said, [own | {"basis": "sto-3g"}], tmp_path)
    titles = [table[0] for table in said.tables]
    assert titles == ["pbe/sto-3g (crystals: gth-szv), hartree", "pbe/sto-3g, hartree"]


def test_one_structure_is_a_card_of_its_numbers(said, tmp_path):
    rng = np.random.default_rng(5)
    forces, tensor = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    entry = {
        "file": "a/w.xyz", "frame": 2, "energy": -1.25, "residual_mae": 1e-4,
        "dipole": [0.3, -0.4, 1.2], "forces": forces.tolist(), "polarizability": tensor.tolist(),
        "frequencies": [900.0, 1600.0, 3000.0], "ir_intensities": [1.0, 70.0, 20.0],
        "charge": -1, "spin": 0, "converged": False,
    }  # fmt: skip
    cells = shown(said, [entry], tmp_path)
    assert said.tables[0][:2] == ("pbe/sto-3g, hartree", ["", "w.xyz:2"])
    assert cells["energy at the network's density"] == ["-1.25000000"]
    assert cells["dipole moment / D"] == ["1.3000"]
    largest = np.linalg.norm(forces, axis=1).max()
    assert cells["largest force on an atom, Eh/bohr"] == [f"{largest:.1e}"]
    assert cells["mean polarisability / bohr^3"] == [f"{np.trace(tensor) / 3:.3f}"]
    assert cells["strongest infrared line / cm^-1"] == ["1600"]
    assert cells["charge"] == ["-1"]
    assert "unpaired electrons (2S)" not in cells, "none is not worth a line"
    assert cells["converged"] == ["no"]
    assert "gap" not in cells


def test_a_line_that_symmetry_forbids_is_not_the_strongest(said, tmp_path):
    entry = {"energy": -1.0, "frequencies": [4800.0], "ir_intensities": [2e-26]}
    assert shown(said, [entry], tmp_path)["strongest infrared line / cm^-1"] == ["-"]


def test_rounding_leaves_no_minus_before_zero(said, tmp_path):
    entry = {"energy": -1.0, "kmesh": [1, 1, 1], "moment": -2.2e-16, "gap": -0.1}
    cells = shown(said, [entry], tmp_path)
    assert cells["magnetic moment / electrons"] == ["0.000"]
    assert cells["gap"] == ["-0.1000"]


def test_an_energy_without_a_network_is_called_so(said, tmp_path):
    cells = shown(said, [{"file": "w.xyz", "frame": None, "energy": -1.0}], tmp_path)
    assert said.tables[0][1] == ["", "w.xyz"]
    assert cells["energy"] == ["-1.00000000"]


def test_without_a_certificate_there_are_levels_of_h_and_no_empty_rows(said, tmp_path):
    unknown = dict.fromkeys(("energy", "homo", "lumo", "gap", "residual_mae", "converged"))
    levels = {"network_homo": -0.25, "network_lumo": 0.5, "network_gap": 0.75}
    entry = {"file": "w.xyz", "frame": 0, "dipole": [0.0, 0.0, 1.0]} | unknown | levels
    assert shown(said, [entry], tmp_path) == {
        "HOMO of the network's H": ["-0.2500"],
        "LUMO of the network's H": ["0.5000"],
        "gap of the network's H": ["0.7500"],
        "dipole moment / D": ["1.0000"],
    }


def test_what_only_a_card_has_room_for(said, tmp_path):
    entry = {
        "polarizability": np.eye(3).tolist(),
        "polarizability_error_estimate": 0.0331,
        "intervals": {
            "energy": [-1.5, -1.25],
            "homo": [[-0.25, -0.125], None],
            "lumo": [0.5, 1.0],
            "gap": None,
            "levels": [-0.25, 0.25],
        },
        "lowdin_charges": [0.5, -0.25, -0.25],
        "converged": None,
    }
    cells = shown(said, [entry], tmp_path)
    assert cells["estimated error of an element of it"] == ["0.033"]
    assert cells["converged energy, 95 % interval"] == ["-1.500000 to -1.250000"]
    assert cells["converged HOMO, 95 % interval"] == ["-0.2500 to -0.1250 / -"]
    assert cells["converged gap, 95 % interval"] == ["-"]
    ev = f"{0.5 * HARTREE_IN_EV:.3f} to {HARTREE_IN_EV:.3f}"
    assert cells["converged LUMO, 95 % interval"] == [f"0.5000 to 1.0000 ({ev} eV)"]
    ev = f"{HARTREE_IN_EV / 4:.3f}"
    levels = cells["converged levels minus the predicted ones, 95 % interval"]
    assert levels == [f"-0.2500 to 0.2500 (-{ev} to {ev} eV)"]
    assert cells["Lowdin charges of atoms"] == ["-0.250 to +0.500"]
    assert "converged" not in cells
    names = list(cells)
    tensor = names.index("mean polarisability / bohr^3")
    assert names[tensor + 1] == "estimated error of an element of it"
    assert list(shown(said, [entry | {"converged": True}], tmp_path))[-1] == "converged"
    refined = entry | {"refined_lowdin_charges": [0.1, -0.1]}
    assert shown(said, [refined], tmp_path)["Lowdin charges of atoms"] == ["-0.100 to +0.100"]


@pytest.mark.parametrize(("columns", "heads"), [(80, 4), (120, 6)])
def test_many_structures_have_the_columns_that_fit(said, tmp_path, monkeypatch, columns, heads):
    monkeypatch.setenv("COLUMNS", str(columns))
    entries = [
        {"file": "w.xyz", "frame": k, "energy": -1.0 * k, "homo": [-0.25, -0.125],
         "lumo": [None, 0.5], "spin": k, "converged": True}
        for k in range(3)
    ]  # fmt: skip
    cells = shown(said, entries, tmp_path)
    (_, columns_, rows) = said.tables[0]
    assert columns_[:3] == ["structure", "2S", "energy / Eh"]
    assert len(columns_) == heads
    assert [row[0] for row in rows] == ["w.xyz:0", "w.xyz:1", "w.xyz:2"]
    assert cells["w.xyz:2"][:2] == ["2", "-2.00000000"]
    if heads == 6:
        assert cells["w.xyz:1"][2:4] == ["-0.2500/-0.1250", "-/0.5000"]


def test_long_tables_say_where_the_rest_is(said, tmp_path):
    entries = [{"file": "w.xyz", "frame": k, "energy": -1.0} for k in range(show.MAX_ROWS + 2)]
    shown(said, entries, tmp_path / "o.h5", wall_time_s=1.26, stopped_by="max_time")
    assert len(said.tables[0][2]) == show.MAX_ROWS
    assert said.messages[0] == f"... and 2 more in {tmp_path / 'o.json'}"
    assert said.messages[1] == "3 Fock builds, 1.3 s, stopped by: max_time"
    assert said.messages[2] == f"written: {tmp_path / 'o.h5'} and {tmp_path / 'o.json'}"


def test_a_run_folder_lists_its_files(said, tmp_path):
    for name in ("b.json", "a.h5", ".manifest.json"):
        (tmp_path / name).touch()
    shown(said, [{}], tmp_path, stopped_by="converged")
    assert said.messages == [
        "3 Fock builds, 0.0 s, converged",
        f"written: {tmp_path}/ (a.h5, b.json)",
    ]


def test_json_is_the_summary_and_nothing_else(said, tmp_path, capsys):
    summary = {"structures": [], "value": float("nan")}
    show.show_summary(summary, said, as_json=True, out=tmp_path)
    assert json.loads(capsys.readouterr().out) == {"structures": [], "value": None}
    assert (said.messages, said.tables) == ([], [])


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"fock_builds": 3}, "3 Fock builds"),
        ({"fock_builds": 3, "coarse_builds": 0}, "3 Fock builds"),
        ({"fock_builds": 3, "coarse_builds": 9}, "3 Fock builds and 9 coarse ones"),
    ],
)
def test_what_it_cost(summary, words):
    assert builds(summary) == words


BAD = {"file": "w.xyz", "frame": 1, "error": "expected an element"}


@pytest.mark.parametrize(
    ("summary", "more", "line"),
    [
        ({"converged": True, "failed": []}, {}, None),
        ({}, {}, None),
        (
            {"failed": [BAD], "structures": [{}, {}]},
            {"cure": "; go on"},
            (
                "1 of 3 structures failed, the first one w.xyz frame 1: expected an element; the "
                "others are kept, see 'failed' in o.json"
            ),
        ),
        (
            {"failed": [BAD | {"frame": None}], "structures": []},
            {},
            (
                "1 of 1 structures failed, the first one w.xyz: expected an element; see "
                "'failed' in o.json"
            ),
        ),
        (
            {"failed": [BAD], "structures": [{}], "stopped_by": "max_time"},
            {"cure": "; go on", "asked": 9},
            (
                "stopped by max_time with 1 of 9 done; 1 of 2 structures failed, the first one "
                "w.xyz frame 1: expected an element; the others are kept, "
                "see 'failed' in o.json; go on"
            ),
        ),
        (
            {"converged": False, "structures": [{"converged": False}, {"converged": True}, {}]},
            {"cure": "; go on"},
            "not converged: 1 of 3 structures; the result is kept in o.h5; go on",
        ),
        (
            {"converged": False, "structures": [{}], "stopped_by": "max_time"},
            {"asked": 4},
            "not finished: 1 of 4 structures done, stopped by max_time; the result is kept in o.h5",
        ),
    ],
)
def test_what_fell_short_is_one_line(tmp_path, monkeypatch, summary, more, line):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    if line is None:
        require_success(summary, out=Path("o.h5"), **more)
        return
    with pytest.raises(ComputationError) as info:
        require_success(summary, out=Path("o.h5"), **more)
    assert str(info.value) == line


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("deeph-zero fit a.xyz", "deeph-zero fit a.xyz --resume"),
        ("deeph-zero fit 'a b.xyz' --overwrite", "deeph-zero fit 'a b.xyz' --resume"),
        ("deeph-zero fit a.xyz --resume -q", "deeph-zero fit a.xyz -q --resume"),
    ],
)
def test_how_to_go_on(command, again):
    assert resuming(command) == again


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ((), "interrupted"),
        (("o.h5",), "interrupted; the structures done so far are kept in {out}"),
        (("o.h5.part",), "interrupted; go on with: deeph-zero label a.xyz --resume"),
    ],
)
def test_after_a_signal_it_is_said_what_is_left(tmp_path, left, words):
    out = tmp_path / "o.h5"
    assert journal_beside(out).name == "o.h5.part"
    for name in left:
        (tmp_path / name).touch()
    with pytest.raises(KeyboardInterrupt) as info, keeping(out, "deeph-zero label a.xyz"):
        raise KeyboardInterrupt
    text = str(info.value) or str(saying(info.value, ""))
    assert text == words.format(out=out)
