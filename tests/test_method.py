"""One record says what is solved; settings have its defaults and hand over every choice."""

import dataclasses

import pytest

from deeph_zero.errors import InputError
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.settings.config import MethodConfig

OPTIONS = {
    "xc": "r2scan", "basis": "sto-3g", "density_fit": False, "auxbasis": "weigend", "grid_level": 1,
    "two_grids": False, "unrestricted": True, "break_symmetry": True,
}  # fmt: skip
OF_A_STRUCTURE = {"charge", "spin"}


def test_a_method_cannot_be_changed_and_compares_by_value():
    method = Method(xc="pbe0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.xc = "pbe"  # pyright: ignore[reportAttributeAccessIssue]
    assert method == Method(xc="pbe0")
    assert method != Method(xc="pbe0", crystal=CrystalMethod())


def test_settings_have_the_defaults_of_a_method():
    assert MethodConfig().as_method() == Method()


def test_every_option_of_the_method_reaches_it():
    assert set(MethodConfig.model_fields) == OF_A_STRUCTURE | set(OPTIONS)
    for name, value in OPTIONS.items():
        changed = MethodConfig.parse({name: value}).as_method()
        assert getattr(changed, name) == value
        others = {"break_symmetry"} if name == "unrestricted" else {"unrestricted"}
        same = [f.name for f in dataclasses.fields(Method) if f.name not in {name} | others]
        assert all(getattr(changed, n) == getattr(Method(), n) for n in same)


@pytest.mark.parametrize(
    ("given", "singlet", "doublet"),
    [(None, False, True), (True, True, True), (False, False, False)],
)
def test_spins_are_those_of_the_structure_unless_stated(given, singlet, doublet):
    method = Method(unrestricted=given)
    assert (method.is_unrestricted(0), method.is_unrestricted(1)) == (singlet, doublet)


def test_a_broken_symmetry_needs_two_spins():
    assert MethodConfig(break_symmetry=True).as_method().is_unrestricted(0)
    assert not MethodConfig().as_method().is_unrestricted(0)


def test_a_resolved_method_has_the_name_of_its_fitting_set():
    assert Method().fitted_with("weigend") == Method(auxbasis="weigend")
    exact = Method(density_fit=False, auxbasis="weigend")
    assert exact.fitted_with("weigend").auxbasis is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grid_level": 10}, "expected grid_level 0 to 9, got 10"),
        ({"smearing": -0.01}, "expected smearing of 0 or more, got -0.01"),
        ({"smearing": float("nan")}, "expected smearing of 0 or more, got nan"),
        ({"lindep_threshold": -1e-8}, "expected lindep_threshold of 0 or more, got -1e-08"),
        ({"nlc_grid_level": -1}, "expected nlc_grid_level 0 to 9, got -1"),
    ],
)
def test_what_is_no_method_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Method(**given)
