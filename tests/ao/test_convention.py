"""Orders and signs of shells against the programs' own definitions, and there and back."""

import math

import pytest
import torch

from deeph_zero.ao.convention import (
    SHELL_ORDERS,
    from_pyscf,
    rotation_to_network_axes,
    stored_order,
    stored_signs,
    to_network_axes,
    to_pyscf,
    to_user_axes,
)

LS = (1, 0, 3, 2, 4, 1)
SIZE = sum(2 * l + 1 for l in LS)

PYSCF_M = {0: (0,), 1: (1, -1, 0), 2: (-2, -1, 0, 1, 2), 3: (-3, -2, -1, 0, 1, 2, 3)}
"""m of the functions of a shell in PySCF: p runs x, y, z."""

DOCUMENTED = {
    ("orca", 1): "+0 +1 +-1",
    ("orca", 3): "+0 +1 +-1 +2 +-2 n3 n-3",
    ("psi4", 2): "+0 +1 +-1 +2 +-2",
    ("openmx", 1): "+1 +-1 +0",
    ("openmx", 2): "+0 +2 +-2 +1 +-1",
    ("openmx", 3): "+0 +1 +-1 +2 +-2 +3 +-3",
    ("siesta", 1): "n-1 +0 n1",
    ("siesta", 2): "+-2 n-1 +0 n1 +2",
    ("aims", 1): "+-1 +0 n1",
    ("aims", 3): "+-3 +-2 +-1 +0 n1 +2 n3",
    ("abacus", 2): "+0 n1 n-1 +2 +-2",
    ("m", 2): "+-2 +-1 +0 +1 +2",
}
"""Functions of a shell as the program stores them: m, after + with PySCF's sign, n without."""


@pytest.mark.parametrize(("name", "l"), DOCUMENTED)
def test_order_and_signs_are_as_documented(name, l):
    words = DOCUMENTED[name, l].split()
    wanted = [(int(w[1:]), -1 if w[0] == "n" else 1) for w in words]
    order, signs = stored_order(l, name), stored_signs(l, name)
    assert [(PYSCF_M[l][k], s) for k, s in zip(order, signs, strict=True)] == wanted


@pytest.mark.parametrize("name", SHELL_ORDERS)
def test_there_and_back(name):
    numbers = torch.arange(1, SIZE + 1)
    places, signs = from_pyscf(LS, name)
    stored = torch.tensor(signs) * numbers[places]
    assert name == "pyscf" or not torch.equal(stored, numbers)
    places, signs = to_pyscf(LS, name)
    assert torch.equal(torch.tensor(signs) * stored[places], numbers)


def test_shells_keep_their_places():
    for name in SHELL_ORDERS:
        places, _ = to_pyscf(LS, name)
        first = 0
        for l in LS:
            last = first + 2 * l + 1
            assert sorted(places[first:last]) == list(range(first, last))
            first = last


def test_axes_turn_with_the_vectors():
    angle = 0.7
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    vectors = torch.tensor([[0.3, -1.2, 2.0], [1.0, 0.1, -0.4]], dtype=torch.float64)
    there = to_network_axes(vectors)
    assert torch.equal(there[:, 1], vectors[:, 2])  # the polar axis z becomes y
    assert torch.equal(to_user_axes(there), vectors)
    turned = there @ rotation_to_network_axes(turn).mT
    torch.testing.assert_close(turned, to_network_axes(vectors @ turn.mT), rtol=0, atol=1e-15)
