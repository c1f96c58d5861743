"""How far shells reach: nothing beyond it is above the cutoff, and not much of it is wasted."""

import pytest
import torch

from deeph_zero.ao import extent
from deeph_zero.ao.extent import reaching_shells, shell_extents, significant_shells
from deeph_zero.ao.values import AOBasis, Shell, ao_values

CUTOFF = 1e-6
SHELLS = [
    Shell(atom=1, l=0, exponents=[12.0, 0.3], coefficients=[[0.8, 0.5]]),
    Shell(atom=0, l=1, exponents=[0.9], coefficients=[[1.3]]),
    Shell(atom=0, l=0, exponents=[45.0], coefficients=[[2.0]]),
    Shell(atom=1, l=3, exponents=[1.1, 0.25], coefficients=[[0.2, -0.1]]),
]
COORDS = torch.tensor([[0.3, -0.2, 0.1], [1.4, 0.9, -2.2]], dtype=torch.float64)


def sphere(count=300):
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise / noise.norm(dim=1, keepdim=True)


def largest(basis, shell, radius, deriv):
    """Of one shell's functions, and their derivatives, at a distance."""
    atom = SHELLS[shell].atom
    keep = torch.arange(len(SHELLS)) == shell
    values = ao_values(basis.select(keep), COORDS, COORDS[atom] + radius * sphere(), deriv)
    return float(values.abs().max())


@pytest.mark.parametrize("cart", [False, True])
@pytest.mark.parametrize("deriv", [0, 1, 2])
def test_beyond_it_everything_is_small(deriv, cart):
    basis = AOBasis.from_shells(SHELLS, cart=cart)
    extents = shell_extents(basis, CUTOFF, deriv)
    for shell, radius in enumerate(extents.tolist()):
        for factor in (1.0001, 1.1, 2.0):
            assert largest(basis, shell, factor * radius, deriv) <= CUTOFF
        assert largest(basis, shell, 0.85 * radius, deriv) > CUTOFF


def test_derivatives_and_smaller_cutoffs_reach_further():
    basis = AOBasis.from_shells(SHELLS)
    by_order = torch.stack([shell_extents(basis, CUTOFF, k) for k in range(3)])
    assert bool((by_order.diff(dim=0) > 0).all())
    assert bool((shell_extents(basis, 1e-9) > shell_extents(basis, CUTOFF)).all())


def test_significant_shells_are_those_near_a_point():
    basis = AOBasis.from_shells(SHELLS)
    extents = shell_extents(basis, CUTOFF)
    box = torch.rand(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for offset in (0.0, 2.0, 6.0, 100.0):
        points = box + torch.tensor([offset, 0.0, 0.3 * offset])
        away = torch.cdist(COORDS, points).amin(1)
        atoms = torch.tensor([shell.atom for shell in SHELLS])
        found.append(significant_shells(basis, extents, COORDS, points))
        assert torch.equal(found[-1], away[atoms] <= extents)
    assert bool(found[0].all())
    assert 0 < int(found[1].sum()) < len(SHELLS) or 0 < int(found[2].sum()) < len(SHELLS)
    assert not found[3].any()
    assert not significant_shells(basis, extents, COORDS, box[:0]).any()


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_shells_of_neighbouring_blocks_are_those_of_each(at_once, monkeypatch):
    monkeypatch.setattr(extent, "_DISTANCES", at_once)
    basis = AOBasis.from_shells(SHELLS)
    extents = shell_extents(basis, CUTOFF)
    noise = torch.rand(60, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    points = noise + torch.linspace(0.0, 20.0, 60).unsqueeze(1).expand(-1, 3)
    bounds = [0, 7, 20, 20, 41, 60]
    found = reaching_shells(basis, extents, COORDS, points, bounds)
    for row, start, stop in zip(found, bounds[:-1], bounds[1:], strict=True):
        assert torch.equal(row, significant_shells(basis, extents, COORDS, points[start:stop]))
    assert found[0].any()
    assert not found[0].equal(found[1])
    assert not found[2].any()
