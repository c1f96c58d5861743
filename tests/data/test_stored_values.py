"""Values of a structure's group: taken where they are meant, refused in one line where not."""

import h5py
import numpy as np
import pytest

from deeph_zero.data.stored_values import Group, check_electrons, check_matrices
from deeph_zero.errors import InputError

ARRAYS = {
    "numbers": np.array([8, 1, 1]),
    "small": np.array([1, 2], dtype=np.uint8),
    "coords": np.arange(6.0).reshape(2, 3),
    "single": np.float32([0.5]),
    "complex": np.array([1 + 2j]),
    "flags": np.array([True, False]),
    "nan": np.array([0.0, np.nan]),
    "inf": np.array([np.inf]),
    "text": np.array([b"a", b"b"]),
    "table": np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
    "null": h5py.Empty("f8"),
}


@pytest.fixture
def handle(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in ARRAYS.items():
            file[name] = values
        file.create_group("inner")
        yield file


@pytest.fixture
def group(handle):
    return Group(handle, "a.h5 frame 0")


def with_attribute(handle, value, name="x"):
    handle.attrs[name] = value
    return Group(handle, "a.h5 frame 0")


def refused(call, *arguments, **settings):
    with pytest.raises(InputError) as caught:
        call(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- datasets ----------------------------------------------------------------------------------


def test_names_of_the_members(group):
    assert sorted(group) == sorted([*ARRAYS, "inner"])
    assert "numbers" in group
    assert "nothing" not in group


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("numbers", "iu"), ("small", "iu"), ("coords", "fiu"), ("numbers", "fiu"), ("single", "f"),
        ("complex", "fiuc"), ("flags", "iub"),
    ],
)  # fmt: skip
def test_arrays_are_read_as_they_are(group, name, kinds):
    found = group.array(name, kinds)
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype


@pytest.mark.parametrize(
    ("name", "kinds", "words"),
    [
        ("nothing", "fiu", "expected nothing of real numbers, got none"),
        ("inner", "fiu", "got a group of this name"),
        ("coords", "iu", "expected coords of whole numbers, got values of type float64"),
        ("complex", "fiu", "expected complex of real numbers, got values of type complex128"),
        ("text", "fiu", "got values of type"),
        ("table", "fiu", "got values of type"),
        ("null", "fiu", "got a dataset of shape None"),
        ("nan", "fiu", "expected finite nan, got NaN or infinity in nan"),
        ("inf", "fiu", "expected finite inf, got NaN or infinity in inf"),
    ],
)
def test_other_datasets_are_refused(group, name, kinds, words):
    line = refused(group.array, name, kinds)
    assert line.startswith("a.h5 frame 0: ")
    assert words in line
    assert line.endswith("; make the file again, with `deeph-zero label`")


def test_the_cure_is_the_readers(handle):
    line = refused(Group(handle, "a folder", "write it again").array, "nan", "f")
    assert line.endswith("; write it again")
    error = Group(handle, "here").wrong("this", "that", "do so")
    assert str(error) == "here: expected this, got that; do so"


# ---- attributes --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int8(3), 3.0, np.float32(3), np.array([3]), np.uint64(3)])
def test_whole_numbers(handle, value):
    found = with_attribute(handle, value).whole("x")
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [0.5, np.nan, "3", True, 1e300, 2**40, np.array([1, 2]), 1j])
def test_what_is_no_whole_number(handle, value):
    assert "expected x, a whole number, got " in refused(with_attribute(handle, value).whole, "x")


@pytest.mark.parametrize("value", [-2.5, np.float32(-2.5), np.array([[-2.5]])])
def test_numbers(handle, value):
    found = with_attribute(handle, value).number("x")
    assert (found, type(found)) == (-2.5, float)
    assert with_attribute(handle, 4).number("x") == 4


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2.5", "expected x, a number, got "), (False, "expected x, a number, got "),
        (np.array([1.0, 2.0]), "expected x, a number, got "),
        (np.nan, "expected finite x, got NaN"), (-np.inf, "expected finite x, got NaN"),
    ],
)  # fmt: skip
def test_what_is_no_number(handle, value, words):
    assert words in refused(with_attribute(handle, value).number, "x")


def test_names(handle):
    assert with_attribute(handle, "sto-3g").text("x") == "sto-3g"
    assert with_attribute(handle, np.bytes_(b"pbe")).text("x") == "pbe"
    assert with_attribute(handle, np.bytes_(b"pb\xff")).text("x") == "pb\ufffd"
    for value in ("", "  ", 3, np.array(["a", "b"], dtype="S1")):
        assert "expected x, a name, got " in refused(with_attribute(handle, value).text, "x")


def test_switches(handle):
    for value in (True, 1, np.bool_(True), np.int8(1)):
        assert with_attribute(handle, value).switch("x") is True
    assert with_attribute(handle, 0).switch("x") is False
    for value in (2, 1.0, "true", "1"):
        assert "expected x, true or false, got " in refused(
            with_attribute(handle, value).switch, "x"
        )


@pytest.mark.parametrize("kind", ["whole", "number", "text", "switch"])
def test_an_attribute_that_is_missing(group, kind):
    assert "got none; make" in refused(getattr(group, kind), "nothing")


def test_marks(handle):
    group = with_attribute(handle, "pyscf", "ao_order")
    group.mark("ao_order", "pyscf")
    group.mark("nothing", "pyscf")
    assert "expected ao_order 'm', got 'pyscf'" in refused(group.mark, "ao_order", "m")


GOOD_FACTS = {
    "charge": -1, "spin": 0, "grid_level": 9, "energy": -1.5, "smearing": 0.0, "density_fit": True,
    "converged": False, "ao_order": "pyscf", "units": "hartree atomic units", "xc": "b3lyp",
    "basis": "def2-svp", "auxbasis": "def2-universal-jkfit",
}  # fmt: skip


def test_facts_that_can_be_meant(handle):
    handle.attrs.update(GOOD_FACTS)
    Group(handle, "here").check_facts()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("charge", 0.5, "charge, a whole number"),
        ("spin", "up", "spin, a whole number"),
        ("grid_level", 10, "expected a grid_level from 0 to 9, got 10"),
        ("grid_level", -1, "expected a grid_level from 0 to 9, got -1"),
        ("energy", np.nan, "expected finite energy"),
        ("smearing", "0.1", "smearing, a number"),
        ("density_fit", 3, "density_fit, true or false"),
        ("ao_order", "orca", "expected ao_order 'pyscf', got 'orca'"),
        ("units", "eV", "expected units 'hartree atomic units', got 'eV'"),
        ("xc", "pbe\n", "expected xc, a name, got "),
        ("xc", "x" * 5000, "expected xc, a name, got "),
        ("basis", "../secret.dat", "expected basis, a name, got a path: "),
        ("auxbasis", "/etc/passwd", "expected auxbasis, a name, got a path: "),
        ("basis", "H S\n 1.0 x\n", "expected basis in NWChem's format, got another text"),
    ],
)
def test_facts_that_cannot_be_meant(handle, name, value, words):
    handle.attrs.update(GOOD_FACTS)
    assert words in refused(with_attribute(handle, value, name).check_facts)


# ---- what belongs together ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charges", "occupations"),
    [
        ((10, 0, 0), [2.0] * 5), ((10, 1, 1), [[1.0] * 5, [1.0] * 4 + [0]]), ((8, 0, 0), [2.0] * 4),
        ((10, 0, 0), [2, 2, 2, 2, 1.0004, 0.9999]), ((1, 1, 0), [0.0]),
    ],
)  # fmt: skip
def test_occupations_hold_the_electrons(group, charges, occupations):
    check_electrons(group, *charges, np.array(occupations))


@pytest.mark.parametrize(
    ("charges", "occupations", "words"),
    [
        ((10, 1, 0), [2.0] * 5, "expected occupations of 9 electrons, got 10"),
        (
            (10, 0, 2),
            [2.0] * 5,
            "expected occupations of two spins (2S = 2), got those of a closed",
        ),
        ((10, 0, 2), [[1.0] * 5, [1.0] * 5], "expected occupations with 2S = 2, got 0"),
        ((10, 0, 0), [2, 2, 2, 2, 1.9], "electrons, got 9.9"),
    ],
)
def test_occupations_of_other_electrons(group, charges, occupations, words):
    assert words in refused(check_electrons, group, *charges, np.array(occupations))


def matrices(**changes):
    """Of two functions and one or two spins; the second function may be dependent."""
    given = {"fock": np.eye(2), "dm": np.eye(2), "mo_energy": np.zeros(2), "mo_occ": np.zeros(2)}
    return given | {name: np.array(value, dtype=float) for name, value in changes.items()}


def test_matrices_that_belong_together(group):
    check_matrices(group, **matrices(mo_occ=[2, 0]))
    check_matrices(group, **matrices(mo_energy=[1], mo_occ=[2]))
    two = np.stack([np.eye(2)] * 2)
    check_matrices(group, **matrices(fock=two, dm=two, mo_energy=two[0], mo_occ=two[0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"dm": np.eye(3)},
            "expected Fock and density matrices of one shape, got (2, 2) and (3",
        ),
        ({"fock": np.ones((2, 3)), "dm": np.ones((2, 3))}, "matrices of one shape"),
        ({"fock": np.zeros((3, 2, 2)), "dm": np.zeros((3, 2, 2))}, "of two spins, got 3"),
        ({"fock": [[0, 1], [0, 0]]}, "expected a symmetric fock, got one that is not"),
        ({"dm": [[0, 1], [0, 0]]}, "expected a symmetric density"),
        ({"mo_energy": np.zeros(3), "mo_occ": np.zeros(3)}, "mo_energy and mo_occ of shape (2,)"),
        ({"mo_energy": np.zeros(0), "mo_occ": np.zeros(0)}, "mo_energy and mo_occ of shape (2,)"),
        ({"mo_energy": 0.0, "mo_occ": 0.0}, "mo_energy and mo_occ of shape (2,)"),
        ({"mo_occ": np.zeros(1)}, "got (2,) and (1,)"),
        ({"mo_occ": [2.1, 0]}, "expected occupations from 0 to 2, got 0 to 2.1"),
        ({"mo_occ": [-0.1, 0]}, "expected occupations from 0 to 2, got -0.1 to 0"),
    ],
)
def test_matrices_that_do_not(group, changes, words):
    assert words in refused(check_matrices, group, **matrices(**changes))


def test_two_spins_have_one_electron_in_an_orbital(group):
    two, occ = np.stack([np.eye(2)] * 2), np.array([[2.0, 0], [0, 0]])
    line = refused(check_matrices, group, two, two, np.zeros((2, 2)), occ)
    assert "expected occupations from 0 to 1, got 0 to 2" in line
