"""What must hold for crystals: moves, the choice of cell, and cells of another size."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.nn.inputs import PhysicsMatrices, block_inputs, collate, prepare_inputs
from deeph_zero.nn.neighbours import neighbours
from deeph_zero.nn.readout import solve_readout

SHELLS = {1: (0,), 6: (0, 0, 1)}
LAYOUT = BasisLayout.from_shells(SHELLS)
CUTOFF = 6.5
ATOL = 1e-10
INTERACTIONS = ["so2", "tensor-product"]


@dataclasses.dataclass(frozen=True)
class Crystal:
    """A cell and the matrices that a network reads, by (i, j, R)."""

    numbers: list[int]
    coords: torch.Tensor
    lattice: torch.Tensor
    matrices: BlockMatrix

    def inputs(self, dtype=torch.float64):
        near = neighbours(self.coords, CUTOFF, self.lattice)
        pattern = near.pattern(LAYOUT.sizes(self.numbers))
        places = self.matrices.pattern.find(pattern.pairs, pattern.cells)
        assert (places >= 0).all()
        channels = BlockMatrix(pattern, self.matrices.select(places).values)
        scalars = torch.zeros(len(channels.values), 3, dtype=torch.float64)
        return block_inputs(
            LAYOUT, self.numbers, near, channels, scalars, cutoff=CUTOFF, dtype=dtype
        )


def crystal(n_spin=1, seed=3):
    """Three atoms in a small triclinic cell, so that pairs are many and atoms see themselves."""
    generator = torch.Generator().manual_seed(seed)
    lattice = torch.tensor([[3.9, 0.2, 0.1], [1.3, 4.2, -0.3], [0.2, 0.9, 4.6]]).double()
    coords = torch.tensor([[0.1, 0.0, 0.2], [2.1, 2.3, 1.4], [0.7, 1.9, 3.3]]).double()
    numbers = [6, 1, 6]
    near = neighbours(coords, CUTOFF, lattice)
    pattern = near.pattern(LAYOUT.sizes(numbers))
    decay = torch.exp(-torch.cat([torch.zeros(3), near.vectors.norm(dim=1)]) / 3)
    random = torch.randn(
        n_spin, 5 if n_spin == 1 else 8, pattern.nel, generator=generator, dtype=torch.float64
    )
    values = random * decay[pattern.block_of]
    values[..., pattern.block_of < 3] += 1.0
    return Crystal(numbers, coords, lattice, BlockMatrix(pattern, values).hermitian())


def shells_of(numbers):
    return [SHELLS[z] for z in numbers]


def in_cells(c, shifts):
    """The same crystal with atoms taken from other cells: τ_i + T_i, and R + T_i - T_j."""
    pairs = c.matrices.pairs
    cells = c.matrices.cells + shifts[pairs[:, 0]] - shifts[pairs[:, 1]]
    moved = BlockMatrix.packed(pairs, cells, c.matrices.values, c.matrices.sizes)
    return dataclasses.replace(c, coords=c.coords + shifts.double() @ c.lattice, matrices=moved)


def repeated(c, counts):
    """A supercell; its atoms are those of one cell after those of another."""
    cells = list(itertools.product(*(range(n) for n in counts)))
    place = {cell: k for k, cell in enumerate(cells)}
    n, pairs, where, blocks = len(c.numbers), [], [], []
    for home in cells:
        for k, (i, j) in enumerate(c.matrices.pairs.tolist()):
            there = np.array(home) + c.matrices.cells[k].numpy()
            outer, inner = there // counts, there % counts
            pairs.append((place[home] * n + i, place[tuple(inner.tolist())] * n + j))
            where.append(outer.tolist())
            blocks.append(c.matrices.block(k))
    shifts = torch.tensor(cells).double() @ c.lattice
    matrices = BlockMatrix.from_blocks(
        torch.tensor(pairs), torch.tensor(where), blocks, c.matrices.sizes * len(cells)
    )
    return Crystal(
        c.numbers * len(cells),
        (shifts[:, None] + c.coords).reshape(-1, 3),
        c.lattice * torch.tensor(counts).double()[:, None],
        matrices,
    )


def assert_same(found, expected, *, above=1e-3):
    """Equal blocks of equal keys, none of them all zero."""
    places = expected.pattern.find(found.pairs, found.cells)
    assert sorted(places.tolist()) == list(range(len(expected)))
    torch.testing.assert_close(found.values, expected.select(places).values, rtol=0, atol=ATOL)
    assert float(expected.values.abs().max()) > above


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(params=INTERACTIONS)
def network(request, make_network):
    return make_network(LAYOUT, cutoff=CUTOFF, interaction=request.param)


@pytest.mark.parametrize("n_spin", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_turns_and_mirrors_turn_the_blocks(sign, n_spin, network):
    c = crystal(n_spin)
    before = network(c.inputs())[0]
    assert before.values.shape == (
        (2, before.pattern.nel) if n_spin == 2 else (before.pattern.nel,)
    )
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())
    turn = sign * q * torch.linalg.det(q).sign()
    shells = shells_of(c.numbers)
    turned = Crystal(
        c.numbers, c.coords @ turn.T, c.lattice @ turn.T, c.matrices.rotated(shells, turn)
    )
    assert_same(network(turned.inputs())[0], before.rotated(shells, turn))


def test_h_of_minus_r_is_the_transpose_exactly(network):
    found = network.float()(crystal().inputs(torch.float32))[0]
    assert found.values.dtype == torch.float64
    assert found.asymmetry() == 0.0
    assert int((found.pairs[:, 0] == found.pairs[:, 1]).sum()) > 3 * 10
    of_k = found.at_k(torch.tensor([[0.13, -0.4, 0.27]], dtype=torch.float64))[0]
    torch.testing.assert_close(of_k, of_k.mH, rtol=0, atol=1e-14)
    assert float(of_k.imag.abs().max()) > 1e-3


def test_shifts_of_all_and_of_single_atoms_into_other_cells(network):
    c = crystal()
    before = network(c.inputs())[0]
    shifted = dataclasses.replace(c, coords=c.coords + torch.tensor([0.3, -1.1, 0.8]).double())
    assert_same(network(shifted.inputs())[0], before)
    shifts = torch.tensor([[0, 0, 0], [1, -2, 0], [0, 1, 3]])
    moved = in_cells(c, shifts)
    expected = in_cells(dataclasses.replace(c, matrices=before), shifts).matrices
    assert_same(network(moved.inputs())[0], expected)


def test_other_vectors_of_the_same_lattice(network):
    c = crystal()
    change = torch.tensor([[1, 1, 0], [0, 1, 0], [-1, 2, 1]])
    inverse = torch.linalg.inv(change.double()).round().long()

    def renamed(matrix):
        return BlockMatrix.packed(matrix.pairs, matrix.cells @ inverse, matrix.values, matrix.sizes)

    before = network(c.inputs())[0]
    other = dataclasses.replace(
        c, lattice=change.double() @ c.lattice, matrices=renamed(c.matrices)
    )
    assert_same(network(other.inputs())[0], renamed(before))


def test_atoms_in_another_order(network):
    c = crystal()
    order = [2, 0, 1]

    def permuted(matrix):
        new = torch.tensor(order).argsort()
        sizes = [matrix.sizes[k] for k in order]
        return BlockMatrix.packed(new[matrix.pairs], matrix.cells, matrix.values, sizes)

    before = network(c.inputs())[0]
    other = Crystal([c.numbers[k] for k in order], c.coords[order], c.lattice, permuted(c.matrices))
    assert_same(network(other.inputs())[0], permuted(before))


@pytest.mark.parametrize("counts", [(2, 1, 1), (2, 1, 3)])
def test_a_supercell_at_gamma_is_the_cell_on_the_commensurate_mesh(counts, network):
    """Blocks agree one by one, and so do the levels of all k-points that Γ stands for."""
    c = crystal()
    before = network(c.inputs())[0]
    large = repeated(c, counts)
    found = network(large.inputs())[0]
    assert_same(found, repeated(dataclasses.replace(c, matrices=before), counts).matrices)
    axes = [torch.arange(n).double() / n for n in counts]
    mesh = torch.cartesian_prod(*axes)
    levels = torch.linalg.eigvalsh(before.at_k(mesh)).flatten().sort().values
    of_large = torch.linalg.eigvalsh(found.at_k(torch.zeros(1, 3).double()))[0]
    torch.testing.assert_close(of_large, levels, rtol=0, atol=ATOL)
    assert float(levels.std()) > 1e-3


def molecule():
    random = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    s, h, dm0, fock0 = random + random.mT
    matrices = PhysicsMatrices(ovlp=s, hcore=h, dm0=dm0, fock0=fock0, ddm0=dm0 - s)
    coords = torch.tensor([[0.0, 0.2, 0.1], [1.1, 1.4, 0.9]])
    return prepare_inputs(
        LAYOUT, [6, 1], coords, 0, 0, matrices, cutoff=CUTOFF, dtype=torch.float64
    )


def test_batches_of_crystals_of_unlike_size_and_molecules(network):
    cases = [crystal().inputs(), repeated(crystal(), (1, 2, 1)).inputs(), crystal(2).inputs()]
    cases.insert(1, molecule())
    found = network(collate(cases))
    for one, inputs in zip(found, cases, strict=True):
        alone = network(inputs)[0]
        assert torch.equal(one.cells, alone.cells)
        torch.testing.assert_close(one.values, alone.values, rtol=0, atol=1e-12)


def test_the_closed_form_readout_comes_near_the_blocks_of_another(network):
    inputs = [crystal(seed=k).inputs() for k in range(3)]
    wanted = network(collate(inputs))
    for weights in (*network.node_out.parameters(), *network.pair_out.parameters()):
        weights.zero_()
    assert not network(inputs[0])[0].values.any()
    solve_readout(network, inputs, wanted, ridge=1e-12)
    found = network(collate(inputs))
    for one, other in zip(found, wanted, strict=True):
        assert one.pattern is other.pattern
        assert (one.values - other.values).norm() < 0.05 * other.values.norm()
