"""Arguments in messages: Python's words, or the command line's."""

import os
import subprocess
import sys

import numpy as np
import pytest

from deeph_zero import InputError, Molecule
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import argument, words_of_the_command_line
from deeph_zero.integrals.mole import build_mole


@pytest.mark.parametrize(
    ("given", "python", "command_line"),
    [
        (("spin",), "spin", "--spin"),
        (("spin", 1), "spin=1", "--spin 1"),
        (("inputs", "physics"), "inputs='physics'", "--inputs physics"),
        (("grid_level", 0), "grid_level=0", "--grid-level 0"),
        (("kmesh", (2, 2, 1)), "kmesh=(2, 2, 1)", "--kmesh 2 2 1"),
        (("break_symmetry", True), "break_symmetry=True", "--break-symmetry"),
        (("density_fit", False), "density_fit=False", "--no-density-fit"),
    ],
)
def test_an_argument_is_named_for_its_reader(given, python, command_line):
    assert argument(*given) == python
    with words_of_the_command_line():
        assert argument(*given) == command_line
    assert argument(*given) == python


def test_another_name_on_the_command_line():
    assert argument("name", "qh9", option="--to") == "name='qh9'"
    with words_of_the_command_line():
        assert argument("name", "qh9", option="--to") == "--to qh9"


def test_new_processes_speak_as_the_one_that_starts_them():
    code = "from deeph_zero.errors import argument; print(argument('spin', 1))"
    with words_of_the_command_line():
        run = [sys.executable, "-c", code]
        spoken = subprocess.run(run, env=os.environ, capture_output=True, check=True)
    assert spoken.stdout.decode().strip() == "--spin 1"


def test_one_mistake_in_both_words(tmp_path, capsys):
    radical = Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"needs an odd spin \(2S, .* add spin=1 \("):
        build_mole(radical, basis="sto-3g")
    file = tmp_path / "h.xyz"
    file.write_text("1\n\nH 0 0 0\n")
    assert entry_point(["label", str(file), "--basis", "sto-3g", "-o", str(tmp_path / "o.h5")]) == 2
    assert "needs an odd --spin (2S, the multiplicity - 1); got spin 0; add --spin 1 (" in (
        capsys.readouterr().err
    )
