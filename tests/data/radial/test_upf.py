"""UPF files: projectors and header, or one line that says what is not read."""

import gzip

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
    "half": (lambda t: t.replace('number_of_proj="2"', 'number_of_proj="2.5"'), "expected a whole"),
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


# ---- what is read ------------------------------------------------------------------------------


def test_numbers_of_a_good_file(radial_files):
    found = read_upf(radial_files.write("C.upf", carbon(radial_files)))
    assert (found.number, found.valence, found.spin_orbit) == (6, 4, False)
    assert [beta.l for beta in found.projectors] == [0, 1]
    for l, (beta, radius) in enumerate(zip(found.projectors, (0.4, 0.5), strict=True)):
        np.testing.assert_allclose(beta.values, R * radial_files.gth(l, 1, radius, R), atol=1e-14)
        # the projectors of GTH are normalised
        assert beta.norm() == pytest.approx(1, abs=1e-8)
    # D is stated in rydberg
    np.testing.assert_allclose(found.strengths, np.diag([1.5, 1.0]))


def test_other_ways_to_write_the_same(radial_files):
    text = carbon(radial_files)
    plain = read_upf(radial_files.write("a.upf", text))
    for name, changed in {
        "exponents": text.replace("E+", "D+").replace("E-", "d-"),
        "remarks": text.replace("a < b & c", "<PP_HEADER> & no XML <"),
        "switches": text.replace('is_paw="F"', 'is_paw=".FALSE."').replace('"NC"', '"SL"'),
        "element": text.replace('element="C"', 'element=" c "'),
    }.items():
        found = read_upf(radial_files.write(f"{name}.upf", changed))
        assert found.number == 6
        np.testing.assert_array_equal(found.projectors[1].values, plain.projectors[1].values)
    packed = radial_files.folder / "a.upf.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    np.testing.assert_array_equal(read_upf(packed).strengths, plain.strengths)


@pytest.mark.parametrize(("stated", "points"), [(100, 101), (101, 101), (1, 3), (9999, 301)])
def test_projectors_end_where_the_file_says(radial_files, stated, points):
    """At an odd point, as programs integrate."""
    text = carbon(radial_files).replace(
        'angular_momentum="1"', f'angular_momentum="1" cutoff_radius_index="{stated}"'
    )
    whole, short = read_upf(radial_files.write("C.upf", text)).projectors
    assert (len(whole.r), len(short.r), len(short.weights)) == (301, points, points)


def test_without_projectors_there_is_nothing(radial_files):
    text = radial_files.upf([], np.zeros((0, 0)), R, SPACING)
    found = read_upf(radial_files.write("C.upf", text))
    assert (found.projectors, found.strengths.shape) == ((), (0, 0))
    semilocal = text.replace("</UPF>", "<PP_SEMILOCAL>0</PP_SEMILOCAL></UPF>")
    with pytest.raises(InputError, match="expected projectors, got a semilocal pseudopotential"):
        read_upf(radial_files.write("b.upf", semilocal))


def test_spin_orbit_strengths_are_shared_by_j(radial_files):
    beta = R * radial_files.gth(1, 1, 0.5, R)
    text = radial_files.upf(
        [(1, beta), (1, beta)], np.diag([6.0, 3.0]), R, SPACING, so="T", spins=[0.5, 1.5]
    )
    found = read_upf(radial_files.write("C.upf", text))
    assert found.spin_orbit
    # (2j + 1) / 2(2l + 1) of half of the rydberg
    np.testing.assert_allclose(found.strengths, np.diag([3.0 / 3, 1.5 * 2 / 3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[::-1], "PP_R: expected growing distances"),
        (lambda r: r - 1, "PP_R: expected growing distances"),
        (lambda r: np.where(r > 1, 1, r), "PP_R: expected growing distances"),
    ],
)
def test_distances_that_do_not_grow(radial_files, change, message):
    text = radial_files.upf([], np.zeros((0, 0)), change(R), SPACING)
    with pytest.raises(InputError, match=message):
        read_upf(radial_files.write("C.upf", text))
