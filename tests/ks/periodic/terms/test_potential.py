"""What may stand on a grid: the potentials there are, told from what is none."""

import pytest
import torch

from deeph_zero.ks.periodic.terms.constant import Constant
from deeph_zero.ks.periodic.terms.hartree import Hartree
from deeph_zero.ks.periodic.terms.local import LocalPotential
from deeph_zero.ks.periodic.terms.potential import Potential
from deeph_zero.ks.periodic.terms.semilocal import Semilocal
from deeph_zero.ks.xc.registry import combine

from ..made_up import mesh  # noqa: TID252

VALUES = torch.zeros(24, dtype=torch.float64)
KINDS = {
    "coulomb": lambda: Hartree(mesh()),
    "nuclei": lambda: LocalPotential("nuclei", mesh(), VALUES),
    "xc": lambda: Semilocal(1.0, combine([("LDA_X", 1.0)], unrestricted=False)),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_has_a_name_and_says_how_many_rows_it_reads(name):
    one = KINDS[name]()
    assert isinstance(one, Potential)
    assert (one.name, one.nvar) == (name, 1)
    rho = torch.ones(1, 1, 24, dtype=torch.float64)
    energy, rows = one.energy_and_rows(rho)
    assert energy.shape == ()
    assert rows.shape == rho.shape


@pytest.mark.parametrize(
    "other", [mesh(), Constant("ewald", 1.0), None], ids=["mesh", "term", "no"]
)
def test_something_else_is_none(other):
    assert not isinstance(other, Potential)
