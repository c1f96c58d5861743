"""Energies of the geometry alone, of one molecule and of stacks."""

import pytest
import torch

from deeph_zero.ks.terms.constant import Dispersion, NuclearRepulsion
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Density

from ..made_up import ks_data  # noqa: TID252  (tests are no package)

DATA = ks_data(e_nuc=9.25, e_disp=-0.004)
KINDS = pytest.mark.parametrize(
    ("kind", "energy"), [(NuclearRepulsion, 9.25), (Dispersion, -0.004)], ids=["nuclei", "D3"]
)


def density(*shape, scale=1.0):
    return Density(scale * torch.ones(shape, dtype=torch.float64), factored=False)


@KINDS
def test_no_density_changes_it(kind, energy):
    term = kind.of(DATA)
    for scale in (0.0, 1.0, -3.0):
        found = term.energy_and_fock(density(1, 2, 2, scale=scale))
        assert (float(found.energy), found.fock) == (energy, None)
        assert found.energy.dtype == torch.float64
    assert term.response(density(1, 2, 2), density(1, 2, 2)) is None
    assert not term.on_grid


def test_what_is_absent_is_no_term():
    nothing = ks_data()
    assert Dispersion.of(nothing) is None
    assert float(NuclearRepulsion.of(nothing).energy) == 0  # an atom's is known, and zero


@KINDS
def test_stacks_have_one_for_each_molecule(kind, energy):
    stack = kind.stacked([kind.of(DATA), None, kind(2.5)], Padding([1, 2, 2]))
    assert stack.name == kind.name
    found = stack.energy_and_fock(density(3, 1, 2, 2))
    assert found.energy.tolist() == [energy, 0.0, 2.5]
    assert found.fock is None
    assert stack.second(density(3, 1, 2, 2), density(3, 1, 2, 2), density(3, 1, 2, 2)) is None
