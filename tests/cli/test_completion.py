"""Completion: what a shell is told at each word of a line."""

import pytest

from deeph_zero.cli.completion import VARIABLE
from deeph_zero.cli.main import entry_point


@pytest.mark.parametrize(
    ("line", "answer", "code"),
    [
        ("deeph-zero pre", ["plain,predict"], 0),
        ("deeph-zero predict --ref", ["plain,--refine"], 0),
        ("deeph-zero predict run hc", ["file,hc"], 0),
        ("deeph-zero nothing x", [], 1),
    ],
)
def test_what_may_come_next(monkeypatch, capsys, line, answer, code):
    monkeypatch.setenv(VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert entry_point([]) == code
    shown = capsys.readouterr()
    assert shown.out.split() == answer
    assert shown.err == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_a_shell_asks_this_program(monkeypatch, capsys, shell):
    monkeypatch.setenv(VARIABLE, f"{shell}_source")
    assert entry_point([]) == 0
    assert f"{VARIABLE}={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize("instruction", ["bash_nothing", "shell_source"])
def test_another_instruction_is_a_code(monkeypatch, capsys, instruction):
    monkeypatch.setenv(VARIABLE, instruction)
    assert entry_point([]) == 1
    assert capsys.readouterr().out == ""
