"""The semilocal matrix as atoms move: against differences of made-up Gaussians and points."""

import pytest
import torch

from deeph_zero.ks.grid.maps import density_features, potential_matrix
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.terms.moving_semilocal import MovingBlock, moving_semilocal
from deeph_zero.ks.xc.registry import combine

from ..made_up import random  # noqa: TID252  (tests are no package)

ATOMS = random(2, 3, seed=1)
OWNER = torch.tensor([0, 0, 1, 1])
EXPONENTS = torch.tensor([0.8, 0.5, 1.1, 0.4], dtype=torch.float64)
AXES = random(4, 3, seed=2)
"""Each orbital is exp(-a r²) (1 + b·r) about its atom."""
POINTS = [random(5, 3, seed=3), random(4, 3, seed=4)]
"""Of each atom, about it."""
STEP = 1e-3
CASES = {"lda": "LDA_C_VWN", "gga": "GGA_X_PBE", "mgga": "MGGA_X_R2SCAN"}


def value(point, atoms):
    """All orbitals at one point."""
    r = point - atoms[OWNER]
    return torch.exp(-EXPONENTS * r.square().sum(-1)) * (1 + (AXES * r).sum(-1))


def rows_of(points, atoms):
    """Values, gradients and second derivatives, [10, nao, npoints]."""
    each = (
        torch.func.vmap(value, (0, None)),
        *(
            torch.func.vmap(one, (0, None))
            for one in (torch.func.jacfwd(value), torch.func.jacfwd(torch.func.jacfwd(value)))
        ),
    )
    own, first, twice = (function(points, atoms) for function in each)
    pairs = [twice[..., x, y] for x, y in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    return torch.stack([own, *first.unbind(-1), *pairs]).mT


def weights_of(parent, atoms):
    """Depends on how far the atoms are apart, as Becke's do."""
    apart = (atoms[0] - atoms[1]).square().sum()
    return (0.5 + 0.1 * torch.arange(len(POINTS[parent])).double()) * (
        1 + 0.2 * (parent + 1) * apart
    )


def block_of(parent, atoms):
    weights = weights_of(parent, atoms)
    gradient = torch.func.jacfwd(weights_of, argnums=1)(parent, atoms)
    rows = rows_of(POINTS[parent] + atoms[parent], atoms)
    return MovingBlock(rows, weights, gradient.movedim(0, -1), parent)


def matrix(functional, atoms, dm):
    """What the quadrature gives."""
    kind = functional.kind
    out = torch.zeros_like(dm)
    for parent in range(2):
        rows = rows_of(POINTS[parent] + atoms[parent], atoms)[: 1 if kind == "LDA" else 4]
        block = AOBlock(ao=rows.mT, index=None, weights=weights_of(parent, atoms))
        v = functional.gradient(density_features(block, dm, kind))[1] * block.weights
        out += torch.stack([potential_matrix(block, one, kind) for one in v])
    return out


@pytest.mark.parametrize("nspin", [1, 2])
@pytest.mark.parametrize("name", CASES.values(), ids=CASES)
def test_the_matrix_moves_as_its_quadrature(name, nspin):
    functional = combine([(name, 1.0)], unrestricted=nspin == 2)
    c = random(nspin, 4, 3, seed=6)
    dm = c @ c.mT
    blocks = [block_of(parent, ATOMS) for parent in range(2)]
    found = moving_semilocal(functional, blocks, dm, OWNER, 2)
    for atom, axis in ((0, 2), (1, 1)):
        values = []
        for t in (1, -1, 2, -2):
            moved = ATOMS.clone()
            moved[atom, axis] += t * STEP
            values.append(matrix(functional, moved, dm))
        numeric = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * STEP)
        assert float(numeric.abs().max()) > 1e-2
        torch.testing.assert_close(found.fock[atom, axis], numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES.values(), ids=CASES)
def test_all_together_nothing_moves(name):
    functional = combine([(name, 1.0)], unrestricted=False)
    c = random(1, 4, 3, seed=6)
    blocks = [block_of(parent, ATOMS) for parent in range(2)]
    found = moving_semilocal(functional, blocks, c @ c.mT, OWNER, 2)
    assert float(found.fock[0].abs().max()) > 1e-2
    torch.testing.assert_close(
        found.fock.sum(0), torch.zeros_like(found.fock[0]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", CASES.values(), ids=CASES)
def test_the_inner_part_is_that_of_the_left_orbital(name):
    """<∂m|v|n> with v standing still: the left orbital moved against all points, by differences."""
    functional = combine([(name, 1.0)], unrestricted=False)
    kind, c = functional.kind, random(1, 4, 3, seed=6)
    dm, blocks = c @ c.mT, [block_of(parent, ATOMS) for parent in range(2)]
    found = moving_semilocal(functional, blocks, dm, OWNER, 2).inner
    ncomp = 1 if kind == "LDA" else 4
    numeric = torch.zeros(3, 4, 4, dtype=torch.float64)
    for x in range(3):
        for parent, block in enumerate(blocks):
            still = block.rows[:ncomp]
            own = AOBlock(ao=still.mT, index=None, weights=block.weights)
            v = functional.gradient(density_features(own, dm, kind))[1][0] * block.weights
            for t in (STEP, -STEP):
                moved = ATOMS + t * torch.eye(3, dtype=torch.float64)[x]
                left = rows_of(POINTS[parent] + ATOMS[parent], moved)[:ncomp]
                wide = torch.cat([left, still], 1)  # the moved ones beside those that stand still
                both = AOBlock(ao=wide.mT, index=None, weights=block.weights)
                numeric[x] += (
                    potential_matrix(both, v, kind)[:4, 4:] / (2 * STEP) * (1 if t > 0 else -1)
                )
    torch.testing.assert_close(found[:, 0], numeric, rtol=1e-4, atol=1e-5)
