"""Layouts, blocks and irreps: round trips over shell lists, and what must be refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.ao.blocks import (
    ao_rows,
    block_positions,
    clebsch_gordan,
    gather_blocks,
    irrep_basis,
    scatter_blocks,
)
from deeph_zero.ao.rotation import ao_rotation, wigner_d
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError

SHELLS = st.dictionaries(
    st.integers(1, 20), st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=3
)


def all_pairs(n):
    return torch.cartesian_prod(torch.arange(n), torch.arange(n)).T


def random_matrix(n, seed=0):
    return torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(shells=SHELLS, data=st.data())
def test_matrix_to_irreps_and_back(shells, data):
    layout = BasisLayout.from_shells({z: tuple(ls) for z, ls in shells.items()})
    numbers = data.draw(st.lists(st.sampled_from(layout.elements), min_size=1, max_size=3))
    nao = layout.nao(numbers)
    assert nao == sum(2 * l + 1 for z in numbers for l in shells[z])
    matrix, rows, pairs = random_matrix(nao), ao_rows(layout, numbers), all_pairs(len(numbers))
    blocks = gather_blocks(matrix, rows, pairs)
    basis = irrep_basis(layout)
    irreps = basis.to_irreps(blocks)
    torch.testing.assert_close(
        sum(x.square().sum() for x in irreps), matrix.square().sum(), rtol=1e-12, atol=0
    )
    back = scatter_blocks(basis.from_irreps(irreps), rows, pairs, nao)
    torch.testing.assert_close(back, matrix, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(shells=SHELLS)
def test_layout_survives_json(shells):
    layout = BasisLayout.from_shells({z: tuple(ls) for z, ls in shells.items()}, slots=(2, 1))
    assert BasisLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    for z, ls in layout.shells:
        slots = layout.ao_slots(z)
        assert len(set(slots)) == len(slots) == sum(2 * l + 1 for l in ls)


def test_p_d_block_holds_one_two_three_odd():
    layout = BasisLayout.from_shells({8: (1, 2)})
    keys = dict(irrep_basis(layout).keys)
    assert {k for k in keys if k[1] == -1} == {(1, -1), (2, -1), (3, -1)}
    assert keys[2, -1] == 2
    assert keys[1, 1] == 2  # antisymmetric part of p-p and of d-d
    assert (0, -1) not in keys


def test_irreps_turn_with_their_own_wigner_matrix():
    """Including parity: under a reflection a pseudo-tensor picks up the extra sign."""
    layout = BasisLayout.from_shells({6: (0, 1, 2, 3)})
    q, _ = torch.linalg.qr(random_matrix(3, 4))
    rotation = -q * torch.linalg.det(q)  # improper
    u = ao_rotation(layout, [6], rotation)
    matrix, rows, pair = random_matrix(16), ao_rows(layout, [6]), torch.zeros(2, 1).long()
    basis = irrep_basis(layout)
    before = basis.to_irreps(gather_blocks(matrix, rows, pair))
    after = basis.to_irreps(gather_blocks(u @ matrix @ u.T, rows, pair))
    from deeph_zero.ao.convention import rotation_to_network_axes

    for ((l, parity), _), x, y in zip(basis.keys, before, after, strict=True):
        d = wigner_d(l, rotation_to_network_axes(rotation))
        sign = parity * (-1) ** l
        torch.testing.assert_close(sign * d @ x, y, rtol=0, atol=1e-11)


@pytest.mark.parametrize("triple", [(1, 1, 1), (1, 2, 2), (3, 3, 6), (4, 4, 8)])
def test_coupling_coefficients_are_double_precision(triple):
    l1, l2, l = triple
    c = clebsch_gordan(l1, l2, l)
    gram = torch.einsum("abm,abn->mn", c, c)
    torch.testing.assert_close(gram, torch.eye(2 * l + 1).double(), rtol=0, atol=1e-13)


def test_positions_cover_every_element_once():
    layout = BasisLayout.from_shells({1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)})
    numbers = [8, 1, 1]
    nao = layout.nao(numbers)
    _, target = block_positions(ao_rows(layout, numbers), all_pairs(3), nao)
    assert sorted(target.tolist()) == list(range(nao * nao))


def test_slots_are_padded_and_can_be_reserved():
    layout = BasisLayout.from_shells({1: (0, 0, 1)}, slots=(3, 2, 1))
    assert layout.dim == 14
    bigger = layout.with_elements({8: (0, 0, 0, 1, 1, 2)})
    assert bigger.slots == layout.slots
    assert bigger.elements == (1, 8)
    with pytest.raises(InputError, match=r"need slots \(3, 2, 1, 1\) per l, the layout has"):
        layout.with_elements({26: (0, 1, 2, 3)})


def test_unknown_element_and_empty_input_are_refused():
    layout = BasisLayout.from_shells({1: (0,)})
    with pytest.raises(InputError, match=r"expected one of the elements \[1\], got 6"):
        layout.nao([1, 6])
    with pytest.raises(InputError, match="at least one element, got none"):
        BasisLayout.from_shells({})
    with pytest.raises(InputError, match="element 3 needs shells"):
        BasisLayout.from_shells({3: ()})
