"""Errors of one crystal's prediction against its own SCF, and what makes no reference."""

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.crystal_labels import CrystalLabel, CrystalLabels
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.jobs import crystal_evaluate as module
from deeph_zero.jobs import evaluate, unconverged
from deeph_zero.jobs.crystal_evaluate import NAMES, evaluate_crystal, usable_crystals
from deeph_zero.model_files.folder import save_model
from deeph_zero.predict.crystal_intervals import MANY, STATED, crystal_sample
from deeph_zero.predict.intervals import calibrated
from deeph_zero.settings.evaluate_config import EvaluateConfig
from deeph_zero.units import BOHR_IN_ANGSTROM

from .test_crystal_predict import (
    CRYSTAL,
    meta_and_network,  # noqa: F401  (asked for by the next one)
    model,  # noqa: F401  (the same untrained model)
)


class Labels(CrystalLabels):
    """One label that is made of a result."""

    def __init__(self, label):
        self.found = label

    def index(self, molecule):
        return 0 if molecule is CRYSTAL else None

    def label(self, index, method):
        self.asked = index, method
        return self.found


def evaluated(model, labels=None, **config):  # noqa: F811
    given = {"scf": False, "conv_tol": 1e-8} | config
    return evaluate_crystal(model, CRYSTAL, labels, EvaluateConfig.parse(given))


@pytest.fixture(scope="module")
def solved(model):  # noqa: F811
    found = model.predict_structure(CRYSTAL, model.settings())
    return SimpleNamespace(found=found, done=found.ks.scf(conv_tol=1e-8))


def label(solved, **changed):
    done = solved.done
    given = {
        "fock": done.fock, "dm": done.dm, "mo_energy": done.mo_energy, "mo_occ": done.mo_occ,
        "energy": done.energy, "free_energy": done.free_energy, "kmesh": (1, 1, 1),
        "kpts": np.zeros((1, 3)),
    }  # fmt: skip
    return Labels(CrystalLabel(**given | changed))


@pytest.fixture(scope="module")
def plain(model, solved):  # noqa: F811
    """Against the label of its own SCF."""
    return evaluated(model, label(solved))


def test_errors_are_those_against_its_own_scf(model, solved):  # noqa: F811
    row = evaluated(model, scf=True)
    found, done = solved.found, solved.done
    assert row["energy_error"] == pytest.approx(found.energy - done.energy, abs=1e-7)
    assert row["energy_error_per_atom"] == row["energy_error"] / 2
    assert row["reference_energy"] == pytest.approx(done.free_energy, abs=1e-8)
    assert row["energy_error"] > 0
    assert set(NAMES) < set(row)
    change = (found.fock - done.fock)[0, 0]
    ovlp = found.ks.data.ovlp[0]
    # what is left has no part along S
    rest = change - (change * ovlp).sum() / (ovlp * ovlp).sum() * ovlp
    assert row["fock"]["mae"] == pytest.approx(float(rest.abs().mean()), rel=1e-2)
    assert row["fock"]["bands_mae"] > row["rebuilt"]["bands_mae"] >= 0
    assert row["rebuilt"]["mae"] < row["fock"]["mae"]
    assert set(row["fock"]["elements"]) == {"H", "H-H"}
    scf = row["scf"]
    assert scf["saved"] == 1.0 - scf["builds_model"] / scf["builds_minao"]
    assert scf["iterations_model"] <= scf["iterations_minao"] + 1
    assert row["converged"] is True
    warm = found.ks.scf(found.dm, conv_tol=1e-8)
    coarse = done.coarse_builds + warm.coarse_builds
    assert coarse > 0
    assert row["coarse_builds"] == found.coarse_builds + coarse


def test_a_label_stands_for_the_scf(model, solved):  # noqa: F811
    labels = label(solved)
    row, own = evaluated(model, labels), evaluated(model)
    assert labels.asked[1].crystal.kmesh == (1, 1, 1)
    for name in ("energy_error", "subspace_distance"):
        assert row[name] == pytest.approx(own[name], rel=1e-3, abs=1e-7)
    assert row["fock"]["mae"] == pytest.approx(own["fock"]["mae"], rel=1e-3)
    assert row["fock_builds"] < own["fock_builds"]
    assert "scf" not in row


def test_a_label_of_a_potential_has_no_energy(model, solved):  # noqa: F811
    row = evaluated(model, label(solved, energy=None, free_energy=None))
    assert (row["energy_error"], row["energy_error_per_atom"]) == (None, None)
    assert row["fock"]["mae"] > 0


def test_a_constant_potential_is_no_error(model, solved, plain):  # noqa: F811
    """The same label with every level 0.3 Eh higher."""
    shift = 0.3 * solved.found.ks.data.ovlp
    moved = evaluated(model, label(solved, fock=solved.done.fock + shift))
    for name in ("mae", "bands_mae", "bands_max"):
        assert moved["fock"][name] == pytest.approx(plain["fock"][name], abs=1e-9)
    constant = [row["fock"]["bands_constant"] for row in (plain, moved)]
    assert abs(constant[1] - 0.3) <= constant[0] + 1e-9


def test_complex_labels_of_real_matrices_are_taken(model, solved, plain):  # noqa: F811
    as_complex = {name: getattr(solved.done, name).to(torch.complex128) for name in ("fock", "dm")}
    row = evaluated(model, label(solved, **as_complex))
    assert row["fock"]["mae"] == pytest.approx(plain["fock"]["mae"])


def test_a_label_of_another_size_is_refused(model, solved):  # noqa: F811
    more = {name: getattr(solved.done, name).repeat(1, 2, 1, 1) for name in ("fock", "dm")}
    more |= {n: getattr(solved.done, n).repeat(1, 2, 1) for n in ("mo_energy", "mo_occ")}
    with pytest.raises(
        InputError, match=r"matrices of shape \(1, 1, 2, 2\) in its label, got \(1, 2"
    ):
        evaluated(model, label(solved, **more))


def test_an_scf_that_does_not_converge_is_no_reference(model):  # noqa: F811
    with pytest.raises(
        ComputationError, match=r"in 1 cycles \(orbital gradient .* Eh\); use a larger max_cycle$"
    ):
        evaluated(model, max_cycle=1)


def test_a_reference_without_a_gap_wants_another_model(model, monkeypatch):  # noqa: F811
    monkeypatch.setattr(unconverged, "FEW", 1)
    monkeypatch.setattr(unconverged, "SMALL_GAP", 10.0)
    with pytest.raises(ComputationError, match=r"Eh\); train the model with smearing=0.01$"):
        evaluated(model, max_cycle=1)


def test_where_there_is_a_label_no_scf_is_needed(model, solved):  # noqa: F811
    with pytest.raises(ComputationError, match=r"max_cycle, or scf=False, as it has a label$"):
        evaluated(model, label(solved), scf=True, max_cycle=1)


def test_what_lies_in_calibrated_intervals_is_counted(model, solved, monkeypatch):  # noqa: F811
    found = model.predict_structure(CRYSTAL, model.settings(), refine=1e-8)
    calibration = calibrated([crystal_sample(found)] * 19, unlike=False)
    monkeypatch.setattr(model, "calibration", calibration)
    row = evaluated(model, label(solved))
    assert list(row["covered"]) == ["energy", *STATED, *MANY]
    assert all(row["covered"].values())
    assert "out_of_distribution" not in row
    narrow = {name: 0.3 * q for name, q in calibration.quantiles.items()}
    narrow = dataclasses.replace(calibration, quantiles=narrow, atoms=1)
    monkeypatch.setattr(model, "calibration", narrow)
    monkeypatch.setattr(module, "LEFT_OF_LEVELS", 0.0)
    row = evaluated(model, label(solved))
    assert not any(row["covered"][name] for name in ("energy", "levels", "bands"))
    assert row["out_of_distribution"] == ["2 atoms in the cell, 1 in the calibration"]
    row = evaluated(model, label(solved, energy=None, free_energy=None))
    assert row["covered"]["energy"]


def test_warnings_of_a_reference_name_the_crystal(model, monkeypatch, caplog):  # noqa: F811
    log = logging.getLogger("deeph_zero")

    def warned(*_):
        log.warning("no gap")
        log.warning("a coarse grid", extra={"of_a_kind": True})
        return {"fock_builds": 1, "coarse_builds": 0}

    monkeypatch.setattr(evaluate, "evaluate_crystal", warned)
    job = evaluate._EvaluateJob("run", (), EvaluateConfig(), model=model)
    compute = job.start(1)
    for frame in (0, 1):
        crystal = dataclasses.replace(CRYSTAL, file="c.xyz", frame=frame)
        compute(frame, crystal, lambda _: None)
    assert caplog.messages == [
        "c.xyz frame 0: no gap", "c.xyz frame 0: a coarse grid", "c.xyz frame 1: no gap",
    ]  # fmt: skip


class Checked(CrystalLabels):
    """Labels of three crystals, the one in the middle of another method."""

    def __init__(self, bad):
        self._bad = bad

    def index(self, molecule):
        return {"a": 0, "b": 1, "c": 2}.get(molecule.file)

    def check(self, index, method):
        assert method.xc == "lda,vwn"
        if index in self._bad:
            raise InputError("b frame 0: expected labels of basis x, got y; label them again")
        return None, None


def test_labels_that_are_no_reference_cost_their_crystals_before_any_work(model):  # noqa: F811
    crystals = [dataclasses.replace(CRYSTAL, file=name, frame=0) for name in "abd"]
    earlier = {"file": "e", "frame": 0, "error": "unreadable"}
    good, failed = usable_crystals(crystals, [earlier], Checked([1]), model.settings())
    assert [one.file for one in good] == ["a", "d"], "d has no label, and gets an SCF"
    assert failed[0] == earlier
    assert (failed[1]["file"], failed[1]["error"]) == (
        "b", "expected labels of basis x, got y; label them again"
    )  # fmt: skip
    line = r"^b frame 0: expected labels of basis x, got y; label them again \(no structure can be"
    with pytest.raises(InputError, match=line + r" used: this and 1 more\)$"):
        usable_crystals(crystals[1:2], [earlier], Checked([1]), model.settings())
    with pytest.raises(InputError, match=r"^b frame 0: .*; label them again$"):
        usable_crystals(crystals[1:2], [], Checked([1]), model.settings())


def test_the_command_looks_at_labels_before_it_works(
    meta_and_network,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    """Other grids are said; labels that are not the model's, or not converged, are refused."""
    meta, network = meta_and_network
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "run", network, meta)
    rows = "\n".join(f"H {x} {y} {z}" for x, y, z in CRYSTAL.coords * BOHR_IN_ANGSTROM)
    cell = " ".join(str(x) for x in np.ravel(CRYSTAL.lattice * BOHR_IN_ANGSTROM))
    Path("c.xyz").write_text(f'2\nLattice="{cell}" pbc="T T T"\n{rows}\n')
    same = ["--basis", "gth-szv", "--xc", "lda,vwn", "--pseudo", "gth-pade", "-o", "c.h5", "-q"]
    entry_point(["label", "c.xyz", "--kmesh", "2", "1", "1", "--ke-cutoff", "25", *same])
    capsys.readouterr()
    assert entry_point(["evaluate", "run", "c.h5", "--no-scf"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert said[0].startswith("warning: c.h5 frame 0: its label is at k-points 2 1 1, 1 1 1 are as")
    assert said[1].startswith("warning: c.h5 frame 0: its label is of a grid of ")
    assert said[1].endswith("label it with --ke-cutoff 15")
    for name, value, line in (
        (
            "converged",
            False,
            "expected a converged label, its SCF did not converge; label it again",
        ),
        ("xc", "pbe", "expected labels of --xc lda,vwn, got pbe; label the structures with"),
    ):
        with h5py.File("c.h5", "a") as file:
            file["0000"].attrs[name] = value
        assert entry_point(["evaluate", "run", "c.h5", "-o", "new.json"]) == 2
        assert capsys.readouterr().err.startswith(f"error: c.h5 frame 0: {line}")
        assert not Path("new.json").exists()
