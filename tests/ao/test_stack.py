"""AO values on many blocks at once are those of one block after another."""

import pytest
import torch

from deeph_zero.ao.stack import StackedShells, stacked_values
from deeph_zero.ao.values import AOBasis, Shell, ao_values

NLOC = 11
COORDS = torch.tensor([[0.1, 0.5, -0.3], [1.2, -0.4, 0.8]], dtype=torch.float64)
BLOCKS = [
    [Shell(atom=0, l=2, exponents=[0.7, 0.2], coefficients=[[0.4, -0.3]]),
     Shell(atom=1, l=0, exponents=[1.5], coefficients=[[0.9]])],
    [Shell(atom=1, l=0, exponents=[0.4, 3.0], coefficients=[[0.6, 0.2]]),
     Shell(atom=0, l=1, exponents=[0.8], coefficients=[[-0.5]]),
     Shell(atom=1, l=2, exponents=[0.3], coefficients=[[0.7]])],
]  # fmt: skip
"""The shells of two blocks of points: other functions, in another order."""


def functions(l, cart):
    return (l + 1) * (l + 2) // 2 if cart else 2 * l + 1


def stacked(cart):
    """By l; primitives that a shell lacks have no coefficient."""
    rows: dict[int, list] = {}
    for b, shells in enumerate(BLOCKS):
        first = b * NLOC
        for shell in shells:
            n = functions(shell.l, cart)
            padded = [*shell.exponents, 1.0][:2], [*shell.coefficients[0], 0.0][:2]
            own = b, list(range(first, first + n)), COORDS[shell.atom].tolist(), *padded
            rows.setdefault(shell.l, []).append(own)
            first += n
    made = []
    for l, some in rows.items():
        block, row, *numbers = zip(*some, strict=True)
        centre, exponents, coefficients = (torch.tensor(x, dtype=torch.float64) for x in numbers)
        made.append(
            StackedShells(
                l=l,
                block=torch.tensor(block),
                row=torch.tensor(row),
                centre=centre,
                exponents=exponents,
                coefficients=coefficients,
            )
        )
    return made


@pytest.mark.parametrize("cart", [False, True])
@pytest.mark.parametrize("deriv", [0, 1])
def test_each_block_has_its_own_values(deriv, cart):
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    found = stacked_values(stacked(cart), points, NLOC, deriv=deriv, cart=cart)
    assert found.shape == ((1, 4)[deriv], 2, 9, NLOC)
    for b, shells in enumerate(BLOCKS):
        basis = AOBasis.from_shells(shells, cart=cart)
        wanted = ao_values(basis, COORDS, points[b].mT.contiguous(), deriv)
        torch.testing.assert_close(found[:, b, :, : basis.nao], wanted, rtol=1e-13, atol=1e-14)
        assert not found[:, b, :, basis.nao :].any()
