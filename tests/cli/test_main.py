"""Exit codes, streams and files of the commands, with engines that only record their call."""

# ruff: noqa: ARG001  (fixtures act by being there)
import errno
import subprocess
import sys

import click
import pytest

from deeph_zero import __version__
from deeph_zero.cli import main
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import ComputationError, InputError

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


def test_quiet_says_nothing(folder, run, engine):
    result = run("fit", "good.xyz", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


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
