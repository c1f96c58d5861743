"""Options: made from settings, names that are none, what is taken, and where results go."""

import re
from pathlib import Path

import pydantic
import pytest
import rich_click as click

from deeph_zero.ao.basis_text import is_text, same_basis
from deeph_zero.cli.options import (
    InputName,
    Invocation,
    OutputPath,
    default_output,
    given,
    method_values,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError
from deeph_zero.settings.base import Settings


class Few(Settings):
    many_words: int = pydantic.Field(default=3, ge=1, description="How many.")
    on: bool = pydantic.Field(default=True, description="Whether.")
    off: bool = pydantic.Field(default=False, description="Perhaps.")
    none: str | None = pydantic.Field(default=None, description="A name.")
    mesh: tuple[int, int, int] | None = pydantic.Field(default=None, description="Points.")


def command(*decorators):
    got = {}

    def remember(**options):
        got.update(options)

    for decorate in decorators:
        remember = decorate(remember)
    return click.command()(remember), got


def call(*decorators, words=()):
    made, got = command(*decorators)
    made.main(list(words), standalone_mode=False)
    return got


@pytest.mark.parametrize(
    ("decorator", "words", "values"),
    [
        (setting(Few, "many_words", metavar="N"), [], {"many_words": None}),
        # text, whatever it is: the settings say what is wrong with it
        (setting(Few, "many_words", metavar="N"), ["--many-words", "x"], {"many_words": "x"}),
        (setting(Few, "many_words", flag="--n", metavar="N"), ["--n", "-2"], {"many_words": "-2"}),
        (setting(Few, "off"), ["--off"], {"off": True}),
        (setting(Few, "off"), [], {"off": None}),
        (setting(Few, "on", flag="--on/--no-on"), ["--no-on"], {"on": False}),
        (
            setting(Few, "mesh", metavar="N N N", nargs=3),
            ["--mesh", "2", "3", "4"],
            {"mesh": ("2", "3", "4")},
        ),
    ],
)
def test_values_stay_text_and_what_is_not_given_is_none(decorator, words, values):
    assert call(decorator, words=words) == values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("many_words", "How many. (default: 3)"),
        ("on", "Whether. (default: on)"),
        ("off", "Perhaps."),
        ("none", "A name."),
    ],
)
def test_help_and_default_are_the_fields(name, text):
    made, _ = command(setting(Few, name, metavar="X"))
    (option,) = made.params
    assert isinstance(option, click.Option)
    assert option.help == text


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (InputName(), "", "FILES: expected the name of a file or folder, got an empty one (''); "),
        (InputName(), " \t", "FILES: expected the name of a file or folder, got an empty one"),
        (OutputPath(), "", "-o: expected a path, got ''; name one, or leave -o out"),
        (OutputPath(), " ", "-o: expected a path, got ' '"),
        (OutputPath(), "ü" * 2048, "-o: expected a path of at most 4095 bytes, got 'üüü"),
        (OutputPath(), "x" * 4096, "-o: expected a path of at most 4095 bytes"),
    ],
)
def test_a_variable_that_was_never_set_is_no_name(kind, value, words):
    argument = click.argument("files", type=kind, metavar="FILES...")
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        call(argument, words=["--", value])


@pytest.mark.parametrize("value", ["a b.xyz", "x" * 4095, "ü" * 2047])
def test_other_names_are_taken_as_they_are(value):
    for kind in (InputName(), OutputPath()):
        assert call(click.argument("files", type=kind), words=[value]) == {"files": value}


def test_what_was_given_is_taken_and_nothing_else():
    options = {"a": 0, "b": None, "c": False, "d": ""}
    assert given(options, ("a", "b", "c", "e")) == {"a": 0, "c": False}


@pytest.mark.parametrize(
    ("quiet", "verbose", "level"), [(False, 0, 0), (True, 0, -1), (False, 2, 2), (False, 50, 9)]
)
def test_verbosity(quiet, verbose, level):
    options = {"quiet": quiet, "verbose": verbose, "threads": "2", "seed": None, "device": None}
    assert runtime_values(options, 7.5) == {"threads": "2", "verbose": level, "started": 7.5}


def test_quiet_and_verbose_exclude_each_other():
    with pytest.raises(InputError, match="-v and -q exclude each other; give one of them"):
        runtime_values({"quiet": True, "verbose": 1}, 0.0)


def test_a_command_knows_when_it_began():
    first, second = Invocation(), Invocation()
    assert first.command == "deeph-zero"
    assert first.started <= second.started


TEXT = "H S\n 3.42 0.15\n 0.62 0.53\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.nw", "sto-3g", "mine"):
        Path(name).write_text(TEXT)
    Path("broken.nw").write_text("H S\n x y\n")
    return tmp_path


@pytest.mark.parametrize("name", ["mine.nw", "./mine.nw", "mine", TEXT])
def test_a_basis_file_is_read_so_that_it_stays_known(folder, name):
    values = method_values({"basis": name, "auxbasis": name, "xc": "pbe", "spin": None})
    assert values.keys() == {"basis", "auxbasis", "xc"}
    for text in (values["basis"], values["auxbasis"]):
        assert is_text(text)
        assert same_basis(text, TEXT)
    assert sorted(p.name for p in folder.iterdir()) == ["broken.nw", "mine", "mine.nw", "sto-3g"]


@pytest.mark.usefixtures("folder")
def test_a_file_of_a_basis_name_changes_nothing():
    assert method_values({"basis": "sto-3g"}) == {"basis": "sto-3g"}
    assert same_basis(method_values({"basis": "./sto-3g"})["basis"], TEXT)
    assert method_values({"basis": "no-such-name"}) == {"basis": "no-such-name"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("basis", "no/b.nw", "--basis: no/b.nw: expected a basis file, there is none"),
        ("auxbasis", "broken.nw", "--auxbasis: broken.nw: line 2: expected an element, got 'x'"),
    ],
)
def test_a_basis_file_that_is_none_names_the_option(option, name, words):
    with pytest.raises(InputError, match=f"^{words}"):
        method_values({option: name})


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("smiles:CC(=O)NC", "CC_O_NC_pred.h5"),
        ("smiles:C/C=C/[O-]", "C_C_C_O_pred.h5"),
        ("smiles:[" + "C" * 99, "C" * 40 + "_pred.h5"),
        ("some/water.v2.xyz", "water_pred.h5"),
        ("smiles:[]", "smiles_pred.h5"),
        (".xyz", "out_pred.h5"),
    ],
)
def test_a_smiles_gives_a_name_that_any_disk_takes(given, out):
    assert default_output([given], "_pred.h5") == Path(out)
