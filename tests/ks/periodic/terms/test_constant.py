"""An energy of the geometry alone."""

import torch

from deeph_zero.ks.periodic.terms.constant import Constant
from deeph_zero.ks.terms.term import Density

from ..made_up import bloch_matrix  # noqa: TID252


def test_no_density_changes_it():
    term = Constant("ewald", -7.25)
    assert term.name == "ewald"
    for nspin in (1, 2):
        at = Density.at_k_points(bloch_matrix(nspin))
        found = term.energy_and_fock(at)
        assert (float(found.energy), found.fock) == (-7.25, None)
        assert found.energy.dtype == torch.float64  # real beside complex matrices
        assert term.response(at, at) is None
        assert term.second(at, at, at) is None
