"""An option that is given twice with different values is refused, in every command alike."""

import click
import pytest

from deeph_zero.cli.main import COMMANDS, cli

NEEDED = {
    "fit": ["a.xyz"],
    "predict": ["m", "a.xyz"],
    "label": ["a.xyz"],
    "train": ["a.toml"],
    "evaluate": ["m", "a.h5"],
    "report": ["r"],
    "convert": ["a.db", "b.h5"],
    "project": ["v.cube", "a.cif"],
    "bands": ["a.h5"],
    "models": [],
    "doctor": [],
}
pytestmark = pytest.mark.usefixtures("folder")


def options():
    for name in COMMANDS:
        for option in cli.get_command(click.Context(cli), name).params:
            takes_one = isinstance(option, click.Option) and not (option.multiple or option.count)
            if takes_one and (not option.is_flag or option.secondary_opts):
                yield pytest.param(name, option, id=f"{name} {option.opts[0]}")


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_two_values_of_one_option_are_refused(name, option, run):
    first, last = option.opts[0], option.opts[-1]
    if option.secondary_opts:
        words, line = [first, option.secondary_opts[0]], f"{first} and {option.secondary_opts[0]}"
    else:
        words, line = [first, "one", f"{last}=two" if "--" in last else "two"], "'one' and 'two'"
    if option.nargs > 1:
        one, two = ([str(n)] * option.nargs for n in (1, 2))
        words, line = [first, *one, first, *two], f"'{' '.join(one)}' and '{' '.join(two)}'"
    outcome = run(name, *NEEDED[name], *words)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {first}")
    assert line in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--xc", "pbe", "--xc=pbe"],
        ["--overwrite", "--overwrite"],
        ["--no-density-fit"] * 2,
        ["-o", "run", "--output", "run"],
        ["-v", "-v"],
    ],
)
def test_the_same_twice_loses_nothing(words, run, engine):
    assert run("fit", "good.xyz", "--basis", "sto-3g", *words).code == 0
    (call,) = engine.calls
    assert call["config"].method.xc == "pbe"


@pytest.mark.usefixtures("engine")
def test_cubes_are_many_and_what_follows_two_dashes_is_no_option(run):
    assert run("predict", "model", "good.xyz", "--cube", "homo", "--cube", "lumo").code == 0
    assert "there is none" in run("fit", "--xc", "pbe", "--", "--xc", "b3lyp").err


def test_help_comes_first_and_an_unknown_option_is_named(run):
    assert run("fit", "--xc", "pbe", "--xc", "hf", "--help").code == 0
    assert "unknown option --foo" in run("fit", "--xc", "pbe", "--xc", "hf", "--foo").err


def test_a_file_given_twice_is_said(folder, run, engine):
    (folder / "again.xyz").symlink_to("good.xyz")
    outcome = run("fit", "good.xyz", "again.xyz", "--basis", "sto-3g")
    assert outcome.code == 0
    assert len(engine.calls[0]["molecules"]) == 2
    assert "again.xyz is good.xyz once more: its frames count twice" in outcome.err


def test_measuring_on_the_training_file_is_said(run, engine, monkeypatch):
    monkeypatch.setattr(engine, "fit", lambda *_, **__: engine.fit(*_, **__ | {"validation": []}))
    outcome = run("fit", "good.xyz", "--basis", "sto-3g", "--validation", "model/../good.xyz")
    assert "trained on" in outcome.err
