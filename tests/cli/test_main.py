"""Exit codes, streams and files of the commands, with engines that only record their call."""

# ruff: noqa: ARG001  (fixtures act by being there)
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest

from deeph_zero import __version__
from deeph_zero.__main__ import main as command
from deeph_zero.cli import main
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.signals import Stopped

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


def test_a_terminal_without_unicode_shows_other_letters_as_json_does(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(main, "_run", lambda _: click.echo('"Γ é 😀"') or 0)
    assert entry_point(["doctor"]) == 0
    shown = stream.buffer.getvalue()
    assert shown.decode("latin-1") == '"\\u0393 é \\ud83d\\ude00"\n'
    assert json.loads(shown.decode("latin-1")) == "Γ é 😀"


def test_ctrl_c_while_modules_are_imported_is_a_line(monkeypatch, capsys):
    class Importing(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "deeph_zero.cli.main", Importing("deeph_zero.cli.main"))
    assert command() == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(
    ("signum", "terminal", "times"),
    [("SIGINT", True, 1), ("SIGINT", False, 3), ("SIGTERM", True, 3)],
)
def test_ctrl_c_at_a_terminal_ends_a_loop_of_the_shell(signum, terminal, times):
    """Ctrl-C goes to the shell and the command: bash waits for how the latter ends."""
    code = (
        "import atexit, os, signal, sys; from deeph_zero import __main__; "
        "from deeph_zero.cli import main; atexit.register(print, 'tidied up'); "
        f"main._run = lambda _: os.kill(os.getpid(), signal.{signum}) if {signum!r} != 'SIGINT' "
        "else os.killpg(0, signal.SIGINT); sys.exit(__main__.main())"
    )
    loop = f'for i in 1 2 3; do "{sys.executable}" -c "{code}"; done'
    ours, theirs = os.openpty()
    try:
        ended = subprocess.run(
            ["bash", "-c", loop],
            stdout=subprocess.PIPE,
            stderr=theirs if terminal else subprocess.PIPE,
            text=True,
            check=False,
            start_new_session=True,
            # not inherited: a runner in the background may have it ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        said = os.read(ours, 10000).decode() if terminal else ended.stderr
    finally:
        os.close(ours)
        os.close(theirs)
    word = "interrupted" if signum == "SIGINT" else "ended by SIGTERM"
    assert ended.stdout == "tidied up\n" * times
    assert said.replace("\r", "") == f"error: {word}\n" * times
    last = 130 if signum == "SIGINT" else 143
    assert ended.returncode == (-signal.SIGINT if times == 1 else last)


def test_a_working_folder_that_was_removed_is_named(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(main, "_run", lambda _: Path("w.xyz").absolute())
    assert entry_point(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "error: the working folder has been removed; change to one that exists and run it again\n"
    )


def test_programs_get_the_exit_code_of_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(main, "_run", lambda _: signal.raise_signal(signal.SIGINT))
    # a shell that starts the tests in its background has them ignore the signal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert command() == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_closed_standard_output_is_no_failure(monkeypatch):
    monkeypatch.setattr(main, "_run", lambda _: 0)
    monkeypatch.setattr(sys, "stdout", None)
    assert entry_point(["doctor"]) == 0


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


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (InputError("a: expected b"), "a: expected b", 2),
        (ComputationError("not converged"), "not converged", 1),
        (MemoryError("cannot   allocate\n8 GB"), "out of memory (cannot allocate 8 GB); use a", 1),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "standard output or a file: cannot be read or written (No space left on device); check",
            1,
        ),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "a.h5: cannot be read or written (", 1),
        (ValueError("x" * 500), "internal error: ValueError: xxx", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (Stopped(signal.SIGTERM), "ended by SIGTERM", 143),
        (Stopped(signal.SIGHUP, "ended; go on"), "ended; go on", 129),
        (click.Abort(), "interrupted", 130),
        (click.ClickException("odd\n words"), "odd words", 2),
        (
            click.UsageError("Missing argument 'X'."),
            "missing argument 'X'; see deeph-zero --help",
            2,
        ),
        (click.NoSuchOption("--xz"), "unknown option --xz; see deeph-zero --help", 2),
        (
            click.NoSuchOption("--xz", possibilities=["--xc"]),
            "unknown option --xz; did you mean --xc?",
            2,
        ),
    ],
)
def test_anything_that_is_raised_is_a_line_and_a_code(error, line, code):
    text, found = main.explain(error)
    assert text.startswith(line)
    assert "\n" not in text
    assert len(text) < 300
    assert found == code


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fti"], "expected one of fit, .*, got 'fti'; did you mean fit?"),
        (["zzzz"], "got 'zzzz'; see deeph-zero --help"),
        (["fit", "a.xyz", "--bassis", "x"], "unknown option --bassis; did you mean --basis?"),
        (["fit", "a.xyz", "--zzzz"], "unknown option --zzzz; see deeph-zero fit --help"),
        (["fit"], "missing argument 'STRUCTURES...'; see deeph-zero fit --help"),
        (["fit", "a\udcff.xyz"], r"a\\udcff.xyz: expected a name in UTF-8, got other bytes; rena"),
        (["label", "a.xyz", "-v", "-q"], "-v and -q exclude each other; give one of them"),
        (["label", ""], "STRUCTURES: expected the name of a file or folder, got an empty one"),
        (
            ["label", "a.xyz", "--xc", "pbe", "--xc", "lda"],
            "--xc: expected one value, got 'pbe' an",
        ),
    ],
)
def test_what_click_refuses_is_in_our_words(run, words, line):
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    assert re.search(line, result.err)
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
