"""What is found wrong before anything is written: frames, elements, labels, kinds of structures."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.cli import checks
from deeph_zero.data.structures import BadFrame
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.runtime import Deadline
from deeph_zero.method import Method
from deeph_zero.model import load
from deeph_zero.molecule import Molecule, State
from deeph_zero.settings.config import FitConfig, LabelConfig, PredictConfig

METHOD = Method(basis="sto-3g", grid_level=0)
HYDROGEN = "2\n\nH 0 0 0\nH 0 0 0.74\n"
MOLECULE = Molecule(
    numbers=np.array([1, 1]), coords=np.array([[0, 0, 0], [0, 0, 1.4]]), file="h.xyz"
)
CRYSTAL = dataclasses.replace(MOLECULE, lattice=np.eye(3) * 6, pbc=(True, True, True))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("h.xyz").write_text(HYDROGEN * 2)
    Path("bad.xyz").write_text(HYDROGEN + HYDROGEN.replace("0.74", "nan") + HYDROGEN)
    Path("iron.xyz").write_text("1\nspin=4\nFe 0 0 0\n")
    return tmp_path


def check(*files, **more):
    return checks.read_and_check(files, METHOD, State(), **more)


@pytest.mark.usefixtures("place")
def test_good_and_bad_frames_keep_their_order():
    good, bad = check("bad.xyz", "no.xyz", "h.xyz", "bad.xyz", elements=[1])
    assert [(m.file, m.frame) for m in good] == [
        ("bad.xyz", 0), ("bad.xyz", 2), ("h.xyz", 0), ("h.xyz", 1), ("bad.xyz", 0), ("bad.xyz", 2),
    ]  # fmt: skip
    assert [(b.file, b.frame) for b in bad] == [("bad.xyz", 1), ("bad.xyz", 1), ("no.xyz", None)]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("files", "more", "words"),
    [
        (["no.xyz"], {}, "^no.xyz: expected"),
        (
            ["iron.xyz", "no.xyz"],
            {"elements": [1, 8]},
            (
                r"^iron.xyz frame 0: expected elements of the model \(H, O\), got Fe; use a model "
                r"that was fitted to it \(no structure can be used: this and 1 more\)$"
            ),
        ),
        (["h.xyz"], {"molecules_too": False}, "expected a crystal .* for a model of crystals"),
    ],
)
def test_without_a_good_frame_there_is_nothing_to_do(files, more, words):
    with pytest.raises(InputError, match=words):
        check(*files, **more)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"xc": "no-such"}, State(), "no-such"),
        ({"basis": "no-such"}, State(), "basis"),
        ({"auxbasis": "no-such"}, State(), "no-such"),
        ({}, State(spin=1), "2 electrons, which needs an even spin"),
        ({}, State(charge=3), "charge"),
    ],
)
def test_what_no_frame_can_have_is_said_of_the_first(changes, state, words):
    method = dataclasses.replace(METHOD, **changes)
    with pytest.raises(InputError, match=words):
        checks.read_and_check(["h.xyz"], method, state)


@pytest.mark.usefixtures("place")
def test_a_fitting_set_that_is_not_used_is_not_looked_at():
    method = dataclasses.replace(METHOD, auxbasis="no-such", density_fit=False)
    assert len(checks.read_and_check(["h.xyz"], method, State())[0]) == 2


@pytest.mark.usefixtures("place")
def test_a_limit_that_ends_meanwhile_is_said():
    with pytest.raises(ComputationError, match="time"):
        check("h.xyz", deadline=Deadline(at=0.0))


def test_a_file_that_counts_twice_is_said(place, caplog):
    (place / "link.xyz").symlink_to("h.xyz")
    with caplog.at_level(logging.WARNING, "deeph_zero"):
        check("h.xyz", "link.xyz", "h.xyz")
    assert [record.getMessage() for record in caplog.records] == [
        "link.xyz is h.xyz once more: its frames count twice; leave one out if not meant",
        "h.xyz is given twice: its frames count twice; leave one out if not meant",
    ]


BAD = [BadFrame("a.xyz", 3, "expected 3 atom lines"), BadFrame("b.xyz", None, "no file")]


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ([], None),
        (BAD[:1], "a.xyz frame 3: expected 3 atom lines; or leave it out with --skip-bad"),
        (
            BAD,
            (
                "a.xyz frame 3: expected 3 atom lines (bad structures: this and 1 more); or leave "
                "them out with --skip-bad"
            ),
        ),
    ],
)
def test_a_bad_frame_stops_a_training(bad, line):
    if line is None:
        checks.refuse_bad(bad)
        return
    with pytest.raises(InputError) as info:
        checks.refuse_bad(bad)
    assert str(info.value) == line


def test_the_place_of_a_bad_frame_is_said_once():
    error = InputError("h.xyz frame 0: expected this,\ngot that")
    assert str(checks.bad_frame(MOLECULE, error)) == "h.xyz frame 0: expected this, got that"


def test_displaced_copies_have_no_labels():
    values = {"loss": "supervised", "samples": 2, "data": {"labels": ("l.h5",)}}
    with pytest.raises(InputError, match="--samples: expected 0 with the supervised loss alone"):
        checks.check_training_labels(FitConfig.parse(values), [MOLECULE])


@pytest.mark.parametrize(
    ("loss", "labels", "words"),
    [
        ("auto", (), None),
        ("fixed-point", (), None),
        ("supervised", (), "data.labels: the supervised loss needs data.labels; name files of"),
        ("energy:0.5,supervised", (), "the supervised loss needs data.labels"),
        (
            "auto",
            ("l.h5",),
            "data.labels: expected training.loss with supervised in it, got 'auto'",
        ),
        ("energy", ("l.h5",), "expected training.loss with supervised in it, got 'energy'; set"),
    ],
)
def test_labels_go_with_the_loss_that_reads_them(loss, labels, words):
    config = FitConfig.parse({"loss": loss, "data": {"labels": labels}})
    if words is None:
        checks.check_training_labels(config, [MOLECULE])
        return
    with pytest.raises(InputError, match=words):
        checks.check_training_labels(config, [MOLECULE])


@pytest.mark.parametrize(
    ("elements", "words"),
    [((), None), (("H", "O"), None), (("Xq",), "Xq"), (("H", "U"), r"^\[model\] elements: .*U")],
)
def test_room_is_kept_for_elements_that_the_basis_has(elements, words):
    config = FitConfig.parse({"model": {"elements": elements}, "method": {"basis": "sto-3g"}})
    if words is None:
        checks.check_room(config)
        return
    with pytest.raises(InputError, match=words):
        checks.check_room(config)


@pytest.mark.parametrize(
    ("values", "structures", "words"),
    [
        ({"crystal": {"kmesh": "2 2 2"}}, [MOLECULE, CRYSTAL], None),
        ({"crystal": {"kmesh": "2 2 2"}}, [CRYSTAL], None),
        ({"method": {"grid_level": 1}}, [MOLECULE], None),
        ({"method": {"basis": "sto-3g"}}, [CRYSTAL], None),
        (
            {"crystal": {"kmesh": "2 2 2", "ke_cutoff": 50}},
            [MOLECULE],
            (
                r"^--ke-cutoff: expected a crystal \(a cell and pbc\) among the structures, got "
                "molecules only; leave it out"
            ),
        ),
        (
            {"method": {"grid_level": 1}},
            [CRYSTAL],
            "^--grid-level: expected a molecule among the structures, got crystals only, which",
        ),
        ({"level_shift": 0.1}, [CRYSTAL], "^--level-shift: expected a molecule"),
        ({"stability": True}, [CRYSTAL], "^--stability: expected a molecule"),
    ],
)
def test_an_option_has_a_structure_to_act_on(values, structures, words):
    config = LabelConfig.parse(values)
    if words is None:
        checks.check_kinds(config, structures)
        return
    with pytest.raises(InputError, match=words):
        checks.check_kinds(config, structures)


class Card:
    """As of a model that comes with the package."""

    name = "tiny"

    def outside(self, molecule):
        return ["2S 4"] if molecule.spin else []


@pytest.mark.parametrize(
    ("spins", "words"),
    [
        ((0, 0), None),
        ((4,), "h.xyz frame 0: outside what tiny was checked on, its start may be poor, the"),
        ((0, 4, 4), "h.xyz frame 1: 2 of 3 structures: outside what tiny was checked on"),
    ],
)
def test_a_start_from_outside_a_models_card_is_said(said, trained, spins, words):
    model = load(trained)
    molecules = [dataclasses.replace(MOLECULE, spin=s, frame=k) for k, s in enumerate(spins)]
    checks.say_outside(model, molecules, said)
    assert said.warnings == [], "a model without a card says nothing"
    model.card = Card()
    checks.say_outside(model, [*molecules], said)
    if words is None:
        assert said.warnings == []
    else:
        (line,) = said.warnings
        assert line.startswith(words)
        assert line.endswith(": 2S 4")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("state", "stated", "words"),
    [
        (State(), (), []),
        (State(), ("charge",), ["the charge 2 that the frame states is used, not 0"]),
        (State(2, 0), ("charge",), []),
        (State(1, 1), (), ["the charge 2 that the frame states", "the spin 4 that the frame"]),
        (State(), ("spin", "xc"), ["the spin 4 that the frame states is used, not 0"]),
    ],
)
def test_a_charge_that_was_stated_is_not_dropped_in_silence(state, stated, words, caplog):
    Path("iron.xyz").write_text("1\ncharge=2 spin=4\nFe 0 0 0\n")
    found, _ = checks.read_and_check(["iron.xyz"], METHOD, state, stated=stated)
    assert (found[0].charge, found[0].spin) == (2, 4)
    assert [w in caplog.text for w in words] == [True] * len(words)
    assert caplog.text.count("is used, not") == len(words)


@pytest.mark.usefixtures("place")
def test_a_models_own_charge_and_spin_are_taken_and_said(said, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "cation")
    path = tmp_path / "cation/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"states": [[1, 1]]}))
    model = load(path.parent)
    config = PredictConfig()
    good, _ = checks.read_for_model(["h.xyz"], model, config, said, Deadline())
    assert [(m.charge, m.spin) for m in good] == [(1, 1)] * 2
    assert said.messages[0].startswith("structures that state none are taken with charge 1")
    asked = PredictConfig(charge=0, spin=0)
    good, _ = checks.read_for_model(["h.xyz"], model, asked, said, Deadline())
    assert [(m.charge, m.spin) for m in good] == [(0, 0)] * 2
    assert len(said.messages) == 1
    with pytest.raises(InputError, match=r"expected elements of the model \(H, O\), got Fe"):
        checks.read_for_model(["iron.xyz"], model, config, said, Deadline())
