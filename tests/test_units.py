"""Our constants are PySCF's, to the last digit, and agree with textbook values."""

import pytest
from pyscf.data import nist

from deeph_zero import units


@pytest.mark.parametrize(
    ("ours", "pyscf"),
    [
        (units.BOHR_IN_ANGSTROM, nist.BOHR),
        (units.HARTREE_IN_EV, nist.HARTREE2EV),
        (units.DEBYE_PER_AU, nist.AU2DEBYE),
    ],
    ids=["bohr", "hartree", "debye"],
)
def test_constants_equal_pyscf(ours: float, pyscf: float):
    assert ours == pyscf


def test_constants_have_the_right_size_and_direction():
    # textbook values, so that an inverted or renamed constant in PySCF cannot pass unnoticed
    assert pytest.approx(0.5292, abs=1e-4) == units.BOHR_IN_ANGSTROM
    assert pytest.approx(27.2114, abs=1e-4) == units.HARTREE_IN_EV
    assert pytest.approx(2.5417, abs=1e-4) == units.DEBYE_PER_AU
