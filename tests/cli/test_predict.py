"""The command `predict`: its options, exports and what it shows, as a person sees it."""

import errno
import json

import h5py
import numpy as np
import pytest
from pyscf import lib

from deeph_zero.cli.main import entry_point
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


def test_a_structure_without_the_orbital_of_a_cube_is_computed_all_the_same(
    water, tmp_path, capsys
):
    (tmp_path / "h.xyz").write_text("1\ncharge=-1\nH 0 0 0\n")
    assert _predict([*water, "h.xyz", "--cube", "lumo"]) == 0
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "cube" in one]
    assert line.endswith(
        "h.xyz frame 0: --cube lumo: all of the 1 orbitals of the basis are occupied; there is no "
        "such cube"
    )
    assert [p.name for p in tmp_path.glob("*.cube")] == ["w_pred_0000_lumo.cube"]
    with h5py.File(tmp_path / "w_pred.h5") as file:
        assert list(file) == ["0000", "0001"]


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


@pytest.mark.usefixtures("folder")
def test_a_prediction_shows_intervals_charges_and_the_report(run, engine, make_summary):
    interval = {
        "energy": [-76.35, -76.3215],
        "homo": [[-0.25, -0.23], None],
        "gap": [0.3700001, 0.3700022],
        "dipole": [1.8, 2.0],
    }
    more = {"intervals": interval, "lowdin_charges": [-0.41, 0.2, 0.21]}
    engine.result = lambda entries, _: make_summary([entries[0] | more])
    lines = run("predict", "model", "good.xyz").out.splitlines()
    for words in (
        ("converged energy, 95 % interval", "-76.350000 to -76.321500"),
        ("converged HOMO, 95 % interval", "-0.2500 to -0.2300 / -"),
        ("converged gap, 95 % interval", "0.3700001 to 0.3700022 (10.068216 to 10.068273 eV)"),
        ("converged dipole, 95 % interval", "1.800 to 2.000"),
        ("Lowdin charges of atoms", "-0.410 to +0.210"),
        ("next: deeph-zero report good_pred.h5",),
    ):
        assert any(all(word in line for word in words) for line in lines), words
    assert "next:" not in run("predict", "model", "good.xyz", "--json").err


@pytest.mark.usefixtures("folder")
def test_predict_options_arrive(run, engine):
    result = run("predict", "model", "good.xyz", "--refine", "1e-6", "--cheap-estimate")
    assert result.code == 0, result.err
    call = engine.calls[0]
    assert (call["config"].refine, call["config"].coupled, call["config"].certificate) == (
        1e-6, False, True,
    )  # fmt: skip
    assert (str(call["out"]), call["model"]) == ("good_pred.h5", "model")
    run("predict", "model", "good.xyz", "--no-certificate", "-o", "b.h5")
    assert engine.calls[1]["config"].certificate is False


@pytest.mark.usefixtures("folder")
def test_what_has_no_effect_is_one_line_of_warning(run, engine):
    result = run("predict", "model", "good.xyz", "--no-certificate", "--one-grid")
    assert (result.code, len(engine.calls)) == (0, 1)
    assert result.err.count("--one-grid: expected something to iterate") == 1


def test_real_prediction_end_to_end(folder, run):
    result = run("predict", "model", "frames.xyz", "-o", "out.h5", "--json")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert summary == json.loads((folder / "out.json").read_text())
    assert [s["frame"] for s in summary["structures"]] == [0, 1, 2]
    with h5py.File(folder / "out.h5") as h5:
        assert list(h5) == ["0000", "0001", "0002"]
        assert h5["0000"].attrs["ao_order"] == "pyscf"
