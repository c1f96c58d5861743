"""Units of foreign formats against the constants of the programs."""

import pytest
from ase import units
from pyscf.data import nist

from deeph_zero.data.formats.conventions import CONVENTIONS, ENERGIES


@pytest.mark.parametrize(
    ("unit", "size"), [("hartree", 1), ("eV", 1 / 27.211386), ("rydberg", 0.5)]
)
def test_units_of_energy(unit, size):
    assert ENERGIES[unit] == pytest.approx(size, rel=1e-7)


@pytest.mark.parametrize("name", ["schnorb", "sphnet", "qh9", "deeptb", "dftio", "aims"])
def test_angstrom_is_that_of_pyscf(name):
    assert CONVENTIONS[name].length * nist.BOHR == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("name", ["deeptb", "dftio", "wannier90"])
def test_electronvolts_are_those_of_pyscf(name):
    assert CONVENTIONS[name].energy * nist.HARTREE2EV == pytest.approx(1, abs=1e-9)


def test_deeph_has_constants_of_2002():
    then = units.create_units("2002")
    for name in ("deeph", "deeph-legacy"):
        assert CONVENTIONS[name].energy * then["Hartree"] == pytest.approx(1, abs=2e-8)
        assert CONVENTIONS[name].length * then["Bohr"] == pytest.approx(1, abs=1e-7)


def test_siesta_counts_in_rydberg_and_bohr():
    assert (CONVENTIONS["hsx"].energy, CONVENTIONS["hsx"].length) == (0.5, 1.0)
