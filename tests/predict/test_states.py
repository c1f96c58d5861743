"""Charge and spin: of the model by default, stated ones before it, and shown where results are."""

import json
import logging

import ase
import h5py
import pytest

import deeph_zero as dz
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import InputError
from deeph_zero.host.saying import say_once
from deeph_zero.model_files.meta import default_state, state_line
from deeph_zero.molecule import State

FRAME = "2\n{}\nH 0 0 0.1\nH 0.1 0.2 {}\n"
COMMON = ("--device", "cpu", "--threads", "1")
SMALL = ("--basis", "sto-3g", "--grid-level", "0", *COMMON)


def entries(path):
    return [
        (entry["charge"], entry["spin"]) for entry in json.loads(path.read_text())["structures"]
    ]


@pytest.fixture(scope="module")
def cation(tmp_path_factory):
    """A model of H2+ whose frames state the charge; the options say nothing."""
    folder = tmp_path_factory.mktemp("cation")
    (folder / "train.xyz").write_text(FRAME.format("charge=1 spin=1", 1.2))
    run = folder / "run"
    call = ["fit", str(folder / "train.xyz"), "-o", str(run), "--steps", "1", *SMALL, "-q"]
    assert entry_point(call) == 0  # its only orbital is known by symmetry
    assert entries(run / "summary.json") == [(1, 1)]
    (folder / "plain.xyz").write_text(FRAME.format("", 1.1))
    (folder / "mixed.xyz").write_text(FRAME.format("", 1.1) + FRAME.format("charge=0 spin=0", 0.9))
    return folder


@pytest.mark.parametrize(
    "case",
    [
        (("plain",), [(1, 1)], "charge 1 and spin (2S) 1"),
        (("mixed",), [(1, 1), (0, 0)], "charge 1 and spin (2S) 1"),
        (("plain", "--charge", "-1"), [(-1, 1)], "taken with spin (2S) 1,"),
        (("plain", "--charge", "0", "--spin", "0"), [(0, 0)], None),
    ],
)
def test_predict_takes_the_models_state_for_frames_that_state_none(cation, tmp_path, capfd, case):
    out = tmp_path / "out.h5"
    (name, *more), expected, said = case
    words = ["predict", str(cation / "run"), str(cation / f"{name}.xyz"), "-o", str(out)]
    assert entry_point([*words, "--cheap-estimate", *COMMON, *more]) == 0
    shown = capfd.readouterr().out
    assert ("those of the model's training" in shown) == (said is not None)
    assert said is None or said in shown
    assert entries(out.with_suffix(".json")) == expected
    with h5py.File(out) as file:
        groups = [file[name] for name in sorted(file)]
        assert [(g.attrs["charge"], g.attrs["spin"]) for g in groups] == expected
    card = {line.split()[0]: line.split()[-1] for line in shown.splitlines() if line.split()}
    if len(expected) == 1:
        assert card.get("charge") == (str(expected[0][0]) if expected[0][0] else None)
        assert card.get("unpaired") == (str(expected[0][1]) if expected[0][1] else None)
    else:
        assert "2S" in shown


def test_evaluate_does_the_same(cation, tmp_path, capfd):
    out = tmp_path / "eval.json"
    call = ["evaluate", str(cation / "run"), str(cation / "plain.xyz"), "-o", str(out), "--no-scf"]
    assert entry_point([*call, *COMMON]) == 0
    assert "those of the model's training" in capfd.readouterr().out
    assert entries(out) == [(1, 1)]


def test_python_does_the_same_and_says_so_once(cation, caplog):
    say_once.cache_clear()
    model = dz.load(cation / "run")
    atoms = ase.Atoms("HH", [[0, 0, 0.1], [0.1, 0.2, 1.1]])
    with caplog.at_level(logging.WARNING, logger="deeph_zero"):
        found = [model.predict(atoms, coupled=False).molecule for _ in range(2)]
    assert {(m.charge, m.spin) for m in found} == {(1, 1)}
    assert [r.getMessage() for r in caplog.records] == [state_line(State(1, 1))]
    caplog.clear()
    say_once.cache_clear()
    atoms.info.update(charge=0, spin=0)
    neutral = model.predict(atoms, coupled=False)
    assert (neutral.molecule.charge, neutral.molecule.spin, caplog.records) == (0, 0, [])
    assert neutral.spin_square is None


def test_a_close_contact_is_refused_in_python(cation):
    model = dz.load(cation / "run")
    atoms = ase.Atoms("HH", [[0, 0, 0], [0, 0.1, 0.25]], info={"charge": 0, "spin": 0})
    with pytest.raises(InputError, match="allow_close_contacts=True"):
        model.predict(atoms)
    assert model.predict(atoms, coupled=False, allow_close_contacts=True).energy is not None


def test_the_default_state_is_the_only_one_of_the_training():
    anion = {"method": {"charge": -1, "spin": 0}}
    assert default_state(anion) == (-1, 0)
    assert default_state(anion | {"states": [[1, 1]]}) == (1, 1)
    assert default_state(anion | {"states": [[0, 0], [1, 1]]}) == (-1, 0)
    assert default_state({}) == (0, 0)
    with pytest.raises(InputError, match="pairs of whole numbers"):
        default_state({"states": [[1]]})
    assert state_line(State()) is None
    assert state_line(State(0, 2), spin=0) is None
    assert state_line(State(0, 2), charge=1) is not None


@pytest.mark.parametrize(("command", "close"), [("label", True), ("fit", True), ("label", False)])
def test_the_commands_insist_on_request(tmp_path, capfd, command, close):
    path = tmp_path / "close.xyz"
    path.write_text(FRAME.format("", 0.3))
    out = tmp_path / ("out.h5" if command == "label" else "run")
    flag = ["--allow-close-contacts"] if close else []
    more = ["--steps", "1"] if command == "fit" else []
    code = entry_point([command, str(path), "-o", str(out), *SMALL, *more, *flag, "-q"])
    if close:
        assert code == 0
        assert out.exists()
    else:
        assert code == 2
        assert "close.xyz frame 0: atoms 1 and 2 (H, H) are 0.30 ang" in capfd.readouterr().err
        assert not out.exists()
