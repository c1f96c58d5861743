"""Exit codes, streams and files of the commands, with engines that only record their call."""

# ruff: noqa: ARG001  (fixtures act by being there)
import errno
import json
import os
import signal
import subprocess
import sys
import time

import click
import h5py
import pytest

from deeph_zero import __version__
from deeph_zero.cli import main
from deeph_zero.cli.fit import fit
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.settings import config

COMMANDS = ["fit", "predict", "label", "report", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command):
    result = run(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"deeph-zero {command}" in result.out
    for option in ("--json", "--verbose", "--quiet", "--device", "--threads", "--seed"):
        assert option in result.out


def test_version_and_overview(run):
    assert run("--version").out.strip().endswith(__version__)
    overview = run("-h").out
    assert all(command in overview for command in COMMANDS)


def test_promised_defaults(folder, run, engine):
    assert run("fit", "good.xyz").code == 0
    call = engine.calls[0]
    method = call["config"].method
    assert (method.basis, method.xc, method.charge, method.spin) == ("def2-svp", "pbe", 0, 0)
    assert (method.grid_level, method.density_fit, method.auxbasis) == (3, True, None)
    assert str(call["out"]) == "good_run"
    assert call["resume"] is False
    assert call["command"] == "deeph-zero fit good.xyz"
    assert call["config"].runtime.started <= time.monotonic()


def test_every_fit_option_arrives(folder, run, engine):
    result = run(
        "fit", "good.xyz", "frames.xyz", "-o", "deep/er/run", "--basis", "sto-3g", "--xc", "b3lyp",
        "--auxbasis", "def2-universal-jkfit", "--charge", "1", "--spin", "1", "--grid-level", "1",
        "--no-density-fit", "--unrestricted", "--break-symmetry", "--loss", "energy", "--steps",
        "9", "--tol", "1e-4", "--samples", "4", "--displace", "0.1", "--init", "model",
        "--skip-bad", "--max-time", "1h30m", "--device", "cpu", "--threads", "1", "--seed", "7",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    call = engine.calls[0]
    expected = config.FitConfig.parse(
        {
            "method": {
                "basis": "sto-3g", "xc": "b3lyp", "auxbasis": "def2-universal-jkfit", "charge": 1,
                "spin": 1, "grid_level": 1, "density_fit": False, "unrestricted": True,
                "break_symmetry": True,
            },
            "runtime": {
                "device": "cpu", "threads": 1, "seed": 7, "max_time": 5400,
                "started": call["config"].runtime.started,
            },
            "loss": "energy", "steps": 9, "conv_tol_grad": 1e-4, "samples": 4, "displace": 0.1,
            "init": "model", "closed_form": True,  # another functional than the model's
            "skip_bad": True, "data": {"train": ["good.xyz", "frames.xyz"]},
        }
    )  # fmt: skip
    assert call["config"] == expected
    assert [m.charge for m in call["molecules"]] == [1] * 4
    assert str(call["out"]) == "deep/er/run"
    assert json.loads(result.out)["fock_builds"] == 7
    (line,) = result.err.splitlines()
    assert "--init model was trained with" in line
    assert "this run has --xc b3lyp, --no-density-fit, --grid-level 1 as stated" in line


OTHER_OPTIONS = {
    "--density-fit", "--unrestricted", "--break-symmetry", "--stream", "--skip-bad", "--resume",
    "--overwrite", "--json", "--verbose", "--quiet", "--output", "--max-time", "--init", "--epochs",
    "--allow-close-contacts",
}  # fmt: skip
"""Switches, and options that other tests give."""
VALUES = {
    "basis": "sto-3g", "xc": "b3lyp", "auxbasis": "def2-universal-jkfit", "charge": 2, "spin": 2,
    "grid_level": 1, "loss": "energy", "steps": 9, "conv_tol_grad": 1e-4, "samples": 4,
    "displace": 0.1, "sampling": "normal-modes", "temperature": 77.0, "calibration": 19,
    "validation": 0.2, "inputs": "geometry", "memory_mb": 123.0, "disk_mb": 45.0,
    "jk_dtype": "float32", "workers": 3, "device": "cpu", "threads": 1, "seed": 7,
    "two_grids": False,
}  # fmt: skip
OF_CRYSTALS = {
    "kmesh": (2, 2, 1), "kspacing": 0.3, "pseudo": "gth-pade", "ke_cutoff": 40.0, "dimension": 2,
    "smearing": 0.01, "strain": 0.02, "supercell": (2, 1, 1),
}  # fmt: skip


def test_no_fit_option_is_forgotten(folder, run, engine):
    """Every option of the command is given alone and looked for in the settings."""
    cell = 'Lattice="4 0 0 0 4 0 0 0 12" pbc="T T T"'
    (folder / "layer.xyz").write_text(f"2\n{cell}\nH 0 0 0\nH 0 0 0.75\n")
    for option in fit.params:
        flags = {*option.opts, *option.secondary_opts}
        if isinstance(option, click.Argument) or flags & OTHER_OPTIONS:
            continue
        value = (VALUES | OF_CRYSTALS)[option.name]
        copies = {"displace", "sampling", "temperature", "strain", "supercell"}
        needs = ["--samples", "2"] if option.name in copies else []
        each = value if isinstance(value, tuple) else (value,)
        words = [option.opts[0], *(str(v) for v in each if v is not False), *needs]
        name = "layer.xyz" if option.name in OF_CRYSTALS else "frames.xyz"
        result = run("fit", name, "-o", f"run_{option.name}", "-q", *words)
        assert result.code == 0, (words, result.err)
        found = engine.calls[-1]["config"].model_dump()
        sections = [found, *(part for part in found.values() if isinstance(part, dict))]
        values = [part[option.name] for part in sections if option.name in part]
        assert value in values, words


def test_table_and_next_step(folder, run, engine):
    result = run("fit", "good.xyz")
    # one structure: a quantity a line, which fits any terminal
    pairs = [line.rsplit(maxsplit=1) for line in result.out.splitlines()]
    cells = {pair[0].strip(): pair[1] for pair in pairs if len(pair) == 2}
    assert cells["energy at the network's density"] == "-76.32100000"
    assert cells["converged"] == "yes"
    assert "good.xyz:0" in result.out
    assert "7 Fock builds, 1.2 s, converged" in result.out
    assert "written: good_run/" in result.out
    assert "next: deeph-zero predict good_run STRUCTURES" in result.out
    assert result.err == ""


def test_a_prediction_shows_intervals_charges_and_the_report(folder, run, engine, make_summary):
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


@pytest.mark.parametrize(("columns", "wide"), [(80, False), (140, True)])
def test_table_of_many_fits_the_terminal(folder, run, engine, *, monkeypatch, columns, wide):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = run("fit", "frames.xyz").out
    table = [line for line in out.splitlines() if "frames.xyz:" in line and "-76." in line]
    assert len(table) == 3
    assert all(len(line.rstrip()) <= columns and "…" not in line for line in table)
    assert all("yes" in line for line in table)
    assert ("HOMO" in out) is wide


def test_long_tables_are_cut(folder, run, engine):
    (folder / "many.xyz").write_text((folder / "good.xyz").read_text() * 30)
    out = run("fit", "many.xyz").out
    assert out.count("many.xyz:") == 20
    assert "... and 10 more in many_run/summary.json" in out


def test_unrestricted_pairs_and_missing_values(folder, run, engine, make_summary):
    def result(entries, failed):
        del failed
        entries[0] |= {"homo": [-0.4, -0.3], "lumo": [0.1, None], "energy": None, "dipole": None}
        return make_summary(entries)

    engine.result = result
    assert "-0.4000/-0.3000" in (out := run("fit", "good.xyz").out)
    assert "0.1000/-" in out


def test_quiet_says_nothing(folder, run, engine):
    result = run("fit", "good.xyz", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_json_is_alone_on_stdout(folder, run, engine):
    result = run("label", "frames.xyz", "--json")
    assert [s["frame"] for s in json.loads(result.out)["structures"]] == [0, 1, 2]
    assert result.code == 0


def test_not_converged_is_exit_one_and_kept(folder, run, engine, make_summary):
    engine.result = lambda entries, failed: make_summary(
        [e | {"converged": False} for e in entries],
        failed=failed, converged=False, stopped_by="max_time",
    )  # fmt: skip
    result = run("fit", "good.xyz")
    assert result.code == 1
    assert result.err.startswith("error: not converged: 1 of 1 structures, stopped by max_time")
    assert result.err.count("\n") == 1
    assert "--resume" in result.err
    assert (folder / "good_run" / "model.json").exists()


def test_skipped_frames_are_no_failure_but_later_ones_are(folder, run, engine, make_summary):
    good = (folder / "good.xyz").read_text()
    (folder / "mix.xyz").write_text(good + good.replace("0.76", "nan") + good)
    late = {"file": "mix.xyz", "frame": 2, "error": "expected a finite energy, got nan"}
    engine.result = lambda entries, failed: make_summary(entries[:1], failed=[*failed, late])
    result = run("fit", "mix.xyz", "--skip-bad")
    assert result.code == 1
    assert "1 of 2 structures failed, the first one mix.xyz frame 2" in result.err
    engine.result = lambda entries, failed: make_summary(entries, failed=failed)
    assert run("fit", "mix.xyz", "--skip-bad", "--overwrite").code == 0


@pytest.mark.parametrize("command", [["predict", "model"], ["label"]])
def test_bad_frames_are_listed_and_exit_one(folder, run, engine, command):
    good = (folder / "good.xyz").read_text()
    (folder / "mix.xyz").write_text(good + good.replace("0.76", "nan") + good.replace("O 0", "F 0"))
    result = run(*command, "mix.xyz", "-o", "out.h5")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "2 of 3 structures failed, the first one mix.xyz frame 1" in result.err
    call = engine.calls[0]
    assert [m.frame for m in call["molecules"]] == [0]
    assert [(f["file"], f["frame"]) for f in call["failed"]] == [("mix.xyz", 1), ("mix.xyz", 2)]
    assert all(set(f) == {"file", "frame", "error"} for f in call["failed"])


def test_predict_options_arrive(folder, run, engine):
    result = run("predict", "model", "good.xyz", "--refine", "1e-6", "--cheap-estimate")
    assert result.code == 0, result.err
    call = engine.calls[0]
    assert (call["config"].refine, call["config"].coupled, call["config"].certificate) == (
        1e-6, False, True,
    )  # fmt: skip
    assert (str(call["out"]), call["model"]) == ("good_pred.h5", "model")
    run("predict", "model", "good.xyz", "--no-certificate", "-o", "b.h5")
    assert engine.calls[1]["config"].certificate is False


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


def test_resume_reaches_the_engine(folder, run, engine):
    assert run("fit", "good.xyz").code == 0
    assert run("fit", "good.xyz").code == 2
    assert run("fit", "good.xyz", "--resume").code == 0
    assert [call["resume"] for call in engine.calls] == [False, True]


def test_overwrite_starts_from_nothing(folder, run, engine):
    run("fit", "good.xyz")
    (folder / "good_run" / "model.json").write_text("old")
    (folder / "good_run" / "mine.csv").write_text("mine")
    assert run("fit", "good.xyz", "--overwrite").code == 0
    assert (folder / "good_run" / "model.json").read_text() == "{}"
    assert (folder / "good_run" / "mine.csv").exists()


def test_interrupt_is_130_and_says_how_to_go_on(folder, run, engine):
    engine.error = KeyboardInterrupt()
    result = run("fit", "good.xyz", "-o", "my run")
    assert result.code == 130
    assert result.err.count("\n") == 1
    assert "deeph-zero fit good.xyz -o 'my run' --resume" in result.err
    assert (folder / "my run" / "checkpoints").is_dir()


def test_interrupt_of_label(folder, run, engine):
    engine.error = KeyboardInterrupt()
    result = run("label", "good.xyz")
    assert (result.code, result.err) == (130, "error: interrupted\n")


def test_interrupt_of_real_labels_keeps_what_is_done(folder, run, monkeypatch):
    from deeph_zero.jobs import label

    def once(molecule, method, **settings):
        """Ctrl-C while the second frame is being prepared."""
        if molecule.frame == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(molecule, method, **settings)

    original = label.kohn_sham
    monkeypatch.setattr(label, "kohn_sham", once)
    result = run("label", "frames.xyz", "--basis", "sto-3g", "--grid-level", "0", "-o", "l.h5")
    assert result.code == 130
    assert result.err == (
        "error: interrupted; the structures done so far are kept in l.h5; go on with: deeph-zero "
        "label frames.xyz --basis sto-3g --grid-level 0 -o l.h5 --resume\n"
    )
    with h5py.File(folder / "l.h5") as h5:
        assert list(h5) == ["0000", "0001"]


class OutOfMemoryError(RuntimeError):
    """As torch.cuda's, by name."""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            ComputationError("expected SCF to converge,\ngot NaN"),
            1,
            "expected SCF to converge,\\ngot",
        ),
        (InputError("found late"), 2, "found late"),
        (MemoryError(), 1, "out of memory; use a smaller basis"),
        (OutOfMemoryError("CUDA out of memory. Tried"), 1, "out of memory (CUDA out of memory."),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "internal error: ZeroDivisionError: division by",
        ),
        (KeyError("x"), 1, "run again with -v for the traceback"),
        (click.Abort(), 130, "interrupted"),
        (click.FileError("f", "gone"), 2, "gone"),
    ],
)
def test_every_exception_is_one_line(folder, run, engine, error, code, words):  # noqa: PLR0917
    engine.error = error
    result = run("label", "good.xyz")
    assert result.code == code
    assert result.err.count("\n") == 1
    assert words in result.err
    assert "Traceback" not in result.err


def test_late_input_error_leaves_no_folder(folder, run, engine, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise InputError("found late")

    monkeypatch.setattr(sys.modules["deeph_zero.train.fit"], "run_fit", refuse)
    assert run("fit", "good.xyz", "-o", "a/b/run").code == 2
    assert not (folder / "a").exists()


def test_internal_error_with_details(folder, run, engine):
    engine.error = ZeroDivisionError("oops")
    result = run("label", "good.xyz", "-v")
    assert result.code == 1
    assert "Traceback" in result.err


def test_broken_pipe_is_quiet(monkeypatch, capsys):
    def gone(_args):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(main, "_run", gone)
    monkeypatch.setattr(main.os, "dup2", lambda *_: None)
    assert entry_point(["doctor"]) == 1
    assert capsys.readouterr().err == ""


def test_real_prediction_end_to_end(folder, run):
    result = run("predict", "model", "frames.xyz", "-o", "out.h5", "--json")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert summary == json.loads((folder / "out.json").read_text())
    assert [s["frame"] for s in summary["structures"]] == [0, 1, 2]
    with h5py.File(folder / "out.h5") as h5:
        assert list(h5) == ["0000", "0001", "0002"]
        assert h5["0000"].attrs["ao_order"] == "pyscf"


def test_real_labels_end_to_end(folder, run):
    result = run("label", "good.xyz", "--basis", "sto-3g", "--grid-level", "1", "--json")
    assert result.code == 0, result.err
    (entry,) = json.loads(result.out)["structures"]
    assert entry["converged"] is True
    assert (folder / "good_labels.h5").exists()


def test_doctor_checks_itself(run):
    result = run("doctor", "--json", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["version"] == __version__
    assert report["packages"]["pyscf"]
    assert set(report["optional"]) >= {"rdkit", "torch_scatter", "tensorboard"}
    assert [check["passed"] for check in report["self_check"]] == [True, True, True]
    assert all(check["value"] > 0 for check in report["self_check"][1:])


def test_doctor_reports_a_sick_installation(run, monkeypatch):
    from deeph_zero.cli import selfcheck

    def broken():
        raise ImportError("libcint.so not found\nsecond line")

    monkeypatch.setattr(selfcheck, "fock_deviation", broken)
    monkeypatch.setattr(selfcheck, "derivative_deviation", lambda: 0.5)
    monkeypatch.setattr(selfcheck, "rotation_deviation", lambda: 1e-13)
    result = run("doctor")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "ImportError: libcint.so not found" in result.err
    assert result.out.count("FAILED") == 2


@pytest.mark.slow
def test_as_a_program(tmp_path):
    """The installed command: fast help, one line, right exit code, a reader that goes away."""
    program = [sys.executable, "-c", "from deeph_zero.cli.main import *; sys.exit(entry_point())"]
    shown = subprocess.run([*program, "--help"], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    wrong = subprocess.run(
        [*program, "fit", "no.xyz"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_torch():
    code = (
        "import sys; from deeph_zero.cli.main import cli; import deeph_zero.cli.fit; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pyscf', 'e3nn', 'ase')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
