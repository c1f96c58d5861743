"""The one list of formats, and what the command line says of it."""

import pytest

from deeph_zero.ao.convention import SHELL_ORDERS
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.registry import FORMATS, _class, recognise
from deeph_zero.errors import InputError
from deeph_zero.settings.convert_config import READ, WRITTEN


def test_the_command_line_knows_every_format():
    assert set(READ) == {name for name, found in FORMATS.items() if found.source}
    assert set(WRITTEN) == {name for name, found in FORMATS.items() if found.sink}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_classes_and_its_conventions(name):
    found = FORMATS[name]
    for attribute in filter(None, (found.source, found.sink)):
        assert callable(_class(name, attribute))
    if found.source:
        assert CONVENTIONS[name].order in SHELL_ORDERS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openmx.out", r"expected a \.scfout file beside OpenMX's output"),
        ("MoS2_in.dat", r"expected a \.scfout file beside OpenMX's input"),
        ("water.fdf", r"expected an \.HSX file beside SIESTA's input"),
        ("rs_hamiltonian.out", "expected basis-indices.out beside"),
        ("VSC", "deeph-zero project makes matrices of it"),
        ("notes.txt", "expected Hamiltonian data of one of the formats"),
    ],
)
def test_a_folder_that_is_known_but_incomplete_says_what_is_missing(tmp_path, name, message):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=message):
        recognise(tmp_path)
