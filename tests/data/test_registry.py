"""The one list of formats, and what the command line says of it."""

import pytest

from deeph_zero.ao.convention import SHELL_ORDERS
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.registry import FORMATS, _class
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
