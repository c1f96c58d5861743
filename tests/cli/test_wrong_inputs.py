"""Every wrong input is one line with a cure: a table of commands and of the line each one gets.

``wrong_inputs.txt`` has the rows: exit code, command and a regular expression of the line, in
groups. A word of a command that names a file of ``wrong_files.py`` makes that file. A new option
needs a row.
"""

import dataclasses
import importlib.util
import os
import re
import shlex
from pathlib import Path

import click
import pytest

from deeph_zero.cli.main import COMMANDS, cli, entry_point
from deeph_zero.host.one_line import LONGEST

HERE = Path(__file__).parent
QUICK = ("--basis sto-3g", "--grid-level 0", "--threads 1")
SPECIAL = {
    "ESC": "\x1b",
    "NL": "\n",
    "RLO": "\u202e",
    "BYTE": "\udcff",
    "LONG": "x" * 300,
    "MANY": "9" * 5000,
    "DEEPER": "y/" * 2500 + "o.h5",
}
PYTHONS_WORDS = re.compile(
    r"internal error|Traceback|index out of range|invalid literal|NoneType|has no attribute"
    r"|\b\w+Error\b|not enough values|codec can't|could not convert|NaN to integer"
)
CURE = re.compile(
    r"; |: (correct|leave|use)|expected .*\b(one of|from|above|below|at most|or|true or false)\b"
    r"|did you mean|does not take a value|requires an argument|unknown option"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    group: str
    code: int
    command: str
    line: str

    @property
    def arguments(self) -> list[str]:
        words = shlex.split(self.command)
        for name, text in SPECIAL.items():
            words = [word.replace(f"{{{name}}}", text) for word in words]
        # what a row gives itself stands in the place of the quick setting
        quick = [q for q in QUICK if not {q.split()[0]} & {word.split("=")[0] for word in words}]
        more = shlex.split(" ".join(quick))
        return [w for word in words for w in (more if word == "O" else [word])]


def table() -> list[Row]:
    rows, group = [], ""
    for text in (HERE / "wrong_inputs.txt").read_text("utf-8").splitlines():
        if text.startswith("# "):
            group = text.removeprefix("# ")
        elif text:
            code, command, line = text.split(" | ")
            rows.append(Row(group, int(code), command.strip(), line.strip()))
    return rows


ROWS = table()


@pytest.fixture(scope="module")
def files():
    """The module beside this one that makes wrong files."""
    spec = importlib.util.spec_from_file_location("wrong_files", HERE / "wrong_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kit(files, tmp_path_factory):
    """A model, a finished run and labels of one hydrogen molecule."""
    folder = tmp_path_factory.mktemp("kit")
    kit = files.Kit(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("hi.xyz", "run.toml"):
            kit.make(name, folder)
        quick = " ".join(QUICK).split()
        assert entry_point(["label", "hi.xyz", *quick, "-o", "labels.h5", "-q"]) == 0
        assert entry_point(["train", "run.toml", "--threads", "1", "-o", "run", "-q"]) in (0, 1)
        (folder / "m").mkdir()
        for name in ("model.json", "model.safetensors"):
            (folder / "m" / name).write_bytes((folder / "run" / name).read_bytes())
    finally:
        os.chdir(before)
    return kit


def tree(folder: Path) -> dict[str, object]:
    """Everything below a folder: contents of files, targets of links."""
    found = {}
    for place, folders, names in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *names)):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                found[name] = path.readlink()
            else:
                found[name] = path.read_bytes() if path.is_file() else None
    return found


def options_in(line: str) -> set[str]:
    """Options that a line names, without those of commands that it quotes."""
    own = re.sub(r"`deeph-zero[^`]*`|deeph-zero \w+ \S*( --\S+)*", "", line)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", own))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.command[:60]}")
def test_one_line_with_a_cure_and_nothing_left(row, kit, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for word in row.arguments:
        for name in (word, word.split("/")[0]):
            kit.make(name, folder)
    before = tree(folder)
    capfd.readouterr()
    code = entry_point(row.arguments)
    err = capfd.readouterr().err
    assert code == row.code, err
    if row.code == 0:  # what must be read
        assert row.line in err
        return
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert re.search(row.line, lines[0]), lines[0]
    assert not PYTHONS_WORDS.search(lines[0]), lines[0]
    assert CURE.search(lines[0]), lines[0]
    assert lines[0].isprintable()
    assert len(lines[0]) <= LONGEST
    assert tree(folder) == before
    known = {opt for p in command_of(row).params for opt in (*p.opts, *p.secondary_opts)}
    known |= {"--help", *row.arguments}
    assert options_in(lines[0]) <= known, "an option that does not exist"


def command_of(row: Row) -> click.Command:
    name = row.arguments[0] if row.arguments else ""
    return cli.get_command(click.Context(cli), name) if name in COMMANDS else cli


def test_every_option_of_every_command_has_a_row():
    for name in COMMANDS:
        given = {
            word.split("=")[0]
            for row in ROWS
            if row.arguments[:1] == [name]
            for word in row.arguments
        }
        for parameter in cli.get_command(click.Context(cli), name).params:
            assert not isinstance(parameter, click.Option) or given & {
                *parameter.opts, *parameter.secondary_opts
            }, f"{name} {parameter.opts[0]}: add a wrong value to wrong_inputs.txt"  # fmt: skip


def test_the_table_is_large():
    assert len({row.command for row in ROWS}) == len(ROWS) >= 582
    assert {row.group for row in ROWS} == {
        "structures", "databases", "read", "options", "settings", "models", "labels", "outputs",
        "potentials", "engines", "models that come with the package",
    }  # fmt: skip
