"""The command ``label``: its options, a model that gives the starts, frames that are left out."""

# ruff: noqa: ARG001  (fixtures act by being there)
import json
import os
import signal
from pathlib import Path

import h5py
import pytest

from deeph_zero.cli.label import _option
from deeph_zero.host.signals import FIRST


def test_json_is_alone_on_stdout(folder, run, engine):
    result = run("label", "frames.xyz", "--json")
    assert [s["frame"] for s in json.loads(result.out)["structures"]] == [0, 1, 2]
    assert result.code == 0


def test_charge_and_spin_of_the_frame_win(folder, run, engine):
    water = (folder / "good.xyz").read_text()
    (folder / "ions.xyz").write_text(water.replace("3\n\n", "3\ncharge=1 spin=1\n") + water)
    assert run("label", "ions.xyz", "--charge", "2").code == 0
    assert [(m.charge, m.spin) for m in engine.calls[0]["molecules"]] == [(1, 1), (2, 0)]


def test_label_options_arrive(folder, run, engine):
    run("label", "good.xyz", "--conv-tol", "1e-11", "--max-cycle", "7", "-o", "x.hdf5")
    call = engine.calls[0]
    assert (call["config"].conv_tol, call["config"].max_cycle) == (1e-11, 7)
    assert str(call["out"]) == "x.hdf5"


def test_a_fitting_basis_of_nothing_is_one_line_of_warning(folder, run, engine):
    result = run("label", "good.xyz", "--auxbasis", "weigend", "--no-density-fit")
    assert result.code == 0
    assert result.err.count("--auxbasis: expected --density-fit with it") == 1
    assert "no-density-fit" not in run("label", "good.xyz", "--no-density-fit", "--overwrite").err


def test_a_large_grid_is_said_before_the_first_crystal(folder, run, engine, monkeypatch):
    monkeypatch.setattr("deeph_zero.integrals.periodic.cell.MANY_GRID_POINTS", 100)
    monkeypatch.setattr("deeph_zero.integrals.periodic.cell.HIGH_CUTOFF", 1.0)
    frame = '2\nLattice="3 0 0 0 3 0 0 0 4" pbc="T T T"\nLi 0 0 0.1\nH 0 0.1 1.7\n'
    (folder / "c.xyz").write_text(2 * frame)
    engine.error = KeyboardInterrupt()
    words = "label", "c.xyz", "--basis", "gth-szv", "--kmesh", "1", "1", "1"
    first, last = run(*words).err.splitlines()
    assert first.startswith("warning: c.xyz frame 0: the functions of Li want a cutoff of ")
    assert first.endswith("a smaller --ke-cutoff is faster, and less exact (2 structures)")
    assert last == "error: interrupted"
    assert "want a cutoff" not in run(*words, "--ke-cutoff", "40").err


def test_interrupt_of_label(folder, run, engine):
    engine.error = KeyboardInterrupt()
    result = run("label", "good.xyz")
    assert (result.code, result.err) == (130, "error: interrupted\n")


def test_interrupt_of_real_labels_keeps_what_is_done(folder, run, monkeypatch):
    from deeph_zero.jobs import label

    def once(molecule, method, *means, **settings):
        """Ctrl-C while the second frame is being prepared."""
        if molecule.frame == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(molecule, method, *means, **settings)

    original = label.kohn_sham
    monkeypatch.setattr(label, "kohn_sham", once)
    result = run("label", "frames.xyz", "--basis", "sto-3g", "--grid-level", "0", "-o", "l.h5")
    assert result.code == 130
    assert result.err == (
        f"warning: interrupted: {FIRST}\n"
        "error: interrupted; the structures done so far are kept in l.h5; go on with: deeph-zero "
        "label frames.xyz --basis sto-3g --grid-level 0 -o l.h5 --resume\n"
    )
    with h5py.File(folder / "l.h5") as h5:
        assert list(h5) == ["0000", "0001"]


def test_real_labels_end_to_end(folder, run):
    result = run("label", "good.xyz", "--basis", "sto-3g", "--grid-level", "1", "--json")
    assert result.code == 0, result.err
    (entry,) = json.loads(result.out)["structures"]
    assert entry["converged"] is True
    assert (folder / "good_labels.h5").exists()


@pytest.mark.parametrize(
    ("path", "option"),
    [
        (("conv_tol_grad",), "--conv-tol-grad"),
        (("method", "grid_level"), "--grid-level"),
        (("max_cycle",), "--max-cycle"),
    ],
)
def test_settings_are_called_by_the_options_of_this_command(path, option):
    assert _option(path) == option


def test_bad_frames_are_no_failure_where_that_was_said(folder, run, engine):
    good = (folder / "good.xyz").read_text()
    (folder / "mix.xyz").write_text(good + good.replace("0.76", "nan"))
    result = run("label", "mix.xyz", "--skip-bad")
    assert result.code == 0, result.err
    assert engine.calls[-1]["failed"] == []
    assert "1 bad frames left out, the first one mix.xyz frame 1" in result.err
    assert run("label", "mix.xyz", "-o", "b.h5").code == 1
    assert [f["frame"] for f in engine.calls[-1]["failed"]] == [1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--model", "model", "--basis", "6-31g"],
            "--model: expected a model of --basis 6-31g, got one",
        ),
        (["--model", "none"], "expected a model (run folder or model.safetensors), got none"),
        (["--model", "model", "--init-guess", "atom"], "--model and --init-guess exclude each"),
        (["--kmesh", "2", "2", "2"], "--kmesh: expected a crystal (a cell and pbc) among the str"),
        (["--conv-tol-grad", "0"], "--conv-tol-grad: expected a number from 1e-11 to 1"),
        (["--smearing", "-1"], "--smearing: expected a number from 0 to 1, got '-1'"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(folder, run, engine, words, line):
    before = sorted(folder.iterdir())
    result = run("label", "good.xyz", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {line}")
    assert result.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before
    assert engine.calls == []
