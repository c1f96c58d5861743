"""UPF radial_files: projectors and header, or one line that says what is not read."""

import numpy as np
import pytest

from deeph_zero.data.radial.upf import read_upf
from deeph_zero.errors import InputError

from .functions import SPACING, R, carbon

BAD_UPF = {
    "document type": (lambda t: '<!DOCTYPE x [<!ENTITY a "b">]>\n' + t, "plain XML, got <!DOC"),
    "entity": (lambda t: t.replace("</UPF>", "<!ENTITY x 'y'></UPF>"), "expected plain XML"),
    "version 1": (lambda t: t.replace('<UPF version="2.0.1">', ""), "got version 1; convert"),
    "not xml": (lambda t: t.replace("</PP_NONLOCAL>", ""), "expected XML, got a fault"),
    "another": (lambda _: "data\n", "got another kind of file"),
    "later": (lambda t: t.replace('"2.0.1"', '"3.0"'), "expected UPF version 2"),
    "no grid": (lambda t: t.replace("PP_RAB", "PP_RAP"), "expected PP_MESH/PP_RAB"),
    "few points": (lambda t: t.replace("<PP_RAB>1", "<PP_RAB>1.0 1"), "PP_RAB: expected 301"),
    "no beta": (lambda t: t.replace("PP_BETA.2", "PP_BETA.3"), "expected PP_NONLOCAL/PP_BETA.2"),
    "l": (lambda t: t.replace('angular_momentum="1"', 'angular_momentum="9"'), "angular momentum"),
    "word": (lambda t: t.replace("<PP_DIJ>3", "<PP_DIJ>x3"), "PP_DIJ: expected numbers, got 'x3"),
    "nan": (lambda t: t.replace("<PP_DIJ>3.000000000000000E+00", "<PP_DIJ>nan"), "DIJ: expected f"),
    "count": (lambda t: t.replace('number_of_proj="2"', 'number_of_proj="999"'), "number_of_proj"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_UPF)
def test_bad_upf(radial_files, name):
    spoil, message = BAD_UPF[name]
    path = radial_files.write("C.upf", spoil(carbon(radial_files)))
    with pytest.raises(InputError, match=message) as caught:
        read_upf(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"us": "T"}, "got ultrasoft, whose non-local part changes"),
        ({"kind": "US"}, "got ultrasoft"),
        ({"paw": "T", "us": "T", "kind": "PAW"}, "got PAW"),
        ({"kind": "1/r"}, "expected pseudo_type NC"),
        ({"element": "Xx"}, "expected an element, got 'Xx'"),
        ({"valence": 3.5}, "expected a whole z_valence"),
        ({"so": "maybe"}, "expected T or F as has_so"),
        ({"so": "T"}, "expected PP_SPIN_ORB/PP_RELBETA.1"),
        ({"so": "T", "spins": [0.5, 2.5]}, "expected j = 1"),
    ],
)
def test_other_kinds_of_pseudopotentials(radial_files, header, message):
    with pytest.raises(InputError, match=message):
        read_upf(radial_files.write("C.upf", carbon(radial_files, **header)))


def test_strengths_between_unlike_channels_are_refused(radial_files):
    beta = R * radial_files.gth(0, 1, 0.4, R)
    for strengths, message in (
        ([[3, 0.5], [0.5, 2]], "zeros between different angular momenta"),
        ([[3, 0.5], [0.1, 2]], "expected a symmetric matrix"),
    ):
        text = radial_files.upf([(0, beta), (1, beta)], np.array(strengths), R, SPACING)
        with pytest.raises(InputError, match=message):
            read_upf(radial_files.write("C.upf", text))
