"""`predict --forces`, exports and the start comparison, as a person in front of the terminal."""

import errno
import json

import h5py
import numpy as np
import pytest
from pyscf import lib

from deeph_zero.cli import show
from deeph_zero.cli.main import entry_point
from deeph_zero.cli.show import require_success
from deeph_zero.errors import ComputationError
from deeph_zero.host.files import cannot_write
from deeph_zero.model_files import network
from deeph_zero.predict import meanfield, single


@pytest.fixture
def water(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.xyz").write_text("3\n\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n")
    return [str(trained), "w.xyz"]


def _predict(args):
    return entry_point(["predict", *args, "--threads", "1", "-q"])


def test_forces_and_counts_reach_the_files(water, tmp_path):
    assert _predict([*water, "--forces", "--compare-start"]) == 0
    (entry,) = json.loads((tmp_path / "w_pred.json").read_text())["structures"]
    forces = np.array(entry["forces"])
    assert forces.shape == (3, 3)
    assert np.abs(forces.sum(0)).max() < 1e-6  # no net force
    assert 1e-3 < np.abs(forces).max() < 1
    assert entry["refine_start"] == "prediction"
    assert entry["standard_start_iterations"] >= entry["refine_iterations"] > 0
    with h5py.File(tmp_path / "w_pred.h5") as file:
        group = file["0000"]
        assert np.array_equal(group["forces"], forces)
        assert np.allclose(group["mulliken_charges"], entry["refined_mulliken_charges"])
        gross = np.diag(group["density"][()] @ group["overlap"][()])
        assert 8 - gross[:5].sum() == pytest.approx(group["mulliken_charges"][0], abs=1e-10)


def test_responses_reach_the_files_and_the_terminal(water, tmp_path, capsys):
    words = ["predict", *water, "--response", "--refine", "1e-5", "--threads", "1"]
    assert entry_point(words) == 0
    shown = capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "w_pred.json").read_text())["structures"]
    mean = np.trace(entry["polarizability"]) / 3
    assert 0.5 < mean < 20
    line = next(one for one in shown.splitlines() if "mean polarisability" in one)
    assert float(line.split()[-1]) == pytest.approx(mean, abs=1e-3)
    strongest = entry["frequencies"][int(np.argmax(entry["ir_intensities"]))]
    line = next(one for one in shown.splitlines() if "strongest infrared line" in one)
    assert float(line.split()[-1]) == pytest.approx(strongest, abs=1)
    with h5py.File(tmp_path / "w_pred.h5") as file:
        for key in ("polarizability", "dipole_derivatives", "frequencies", "ir_intensities"):
            assert np.array_equal(file["0000"][key], entry[key])


def test_an_estimated_response_is_shown_with_its_error():
    entry = {
        "polarizability": np.eye(3).tolist(),
        "polarizability_error_estimate": 0.0331,
        "converged": None,
    }
    assert show._card(entry)[-3:-1] == [
        ["mean polarisability / bohr^3", "1.000"],
        ["estimated error of an element of it", "0.033"],
    ]


def test_the_model_is_read_once_and_the_overlap_turned_once(water, monkeypatch):
    calls = []

    def counted(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (calls.append(name), real(*a, **k))[1])

    counted(network, "read_model")
    counted(single, "square_root")
    assert _predict([*water, "--refine", "1e-5"]) == 0
    assert sorted(calls) == ["read_model", "square_root"]


def test_files_for_other_programs_are_named_and_never_overwritten(water, tmp_path, capsys):
    exports = ["--chkfile", "w.chk", "--molden", "w.molden", "--cube", "homo", "--cube", "density"]
    assert _predict([*water, *exports]) == 0
    names = {"w.chk", "w.molden", "w_pred_homo.cube", "w_pred_density.cube"}
    assert names < {p.name for p in tmp_path.iterdir()}
    assert lib.chkfile.load("w.chk", "scf/mo_coeff").shape == (7, 7)
    before = (tmp_path / "w.chk").read_bytes()
    capsys.readouterr()
    assert _predict([*water, *exports, "-o", "other.h5"]) == 2
    assert capsys.readouterr().err == "error: w.chk exists; use --overwrite or another name\n"
    assert (tmp_path / "w.chk").read_bytes() == before
    assert not (tmp_path / "other.h5").exists()


def test_a_structure_whose_files_do_not_fit_leaves_none(water, tmp_path, monkeypatch, capsys):
    before = {p.name for p in tmp_path.iterdir()}

    def full(mf, kind, path):
        del mf, kind
        raise cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(meanfield, "write_cube", full)
    assert _predict([*water, "--molden", "w.molden", "--chkfile", "w.chk", "--cube", "homo"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(No space left on device); free some space and run it again")
    assert {p.name for p in tmp_path.iterdir()} == before


def test_several_structures_get_numbered_files(water, tmp_path):
    assert _predict([*water, "w.xyz", "--molden", "w.molden"]) == 0
    assert sorted(p.name for p in tmp_path.glob("*.molden")) == ["w_0000.molden", "w_0001.molden"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cube", "foo"], "--cube: expected density, spin-density, homo or lumo, got 'foo'"),
        (["--compare-start"], "--compare-start: expected --refine TOL with it; add it"),
        (["--chkfile", "no/w.chk"], "--chkfile no/w.chk: the folder no does not exist"),
        (["--no-certificate", "--molden", "w.molden"], "--no-certificate: orbitals for other"),
    ],
)
def test_wrong_options_are_one_line(water, tmp_path, capsys, options, message):
    assert _predict([*water, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"w.xyz"}


def test_a_stop_is_said_where_frames_failed_too(tmp_path):
    bad = {"file": "w.xyz", "frame": 1, "error": "expected an element"}
    summary = {"failed": [bad], "structures": [{"converged": None}], "converged": False}
    with pytest.raises(ComputationError, match=r"^1 of 2 structures failed.*o\.json$"):
        require_success(summary, out=tmp_path / "o.h5", asked=9, cure="; go on")
    summary["stopped_by"] = "max_time"
    words = r"^stopped by max_time with 1 of 9 done; 1 of 2 structures failed.*o\.json; go on$"
    with pytest.raises(ComputationError, match=words):
        require_success(summary, out=tmp_path / "o.h5", asked=9, cure="; go on")
