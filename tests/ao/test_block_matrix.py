"""Blocks (i, j, R) against dense matrices, PySCF's crystals and rotated molecules."""

import numpy as np
import pytest
import torch
from pyscf import gto
from pyscf.pbc import gto as pbcgto

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.blocks import irrep_basis
from deeph_zero.ao.shells import BasisLayout

SIZES = (1, 4, 3)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def crystal_blocks(seed=1, dtype=torch.float64):
    """A Hermitian matrix of a made-up crystal: half of the blocks, then their partners."""
    pairs = torch.tensor([[0, 0], [0, 1], [2, 1], [1, 1], [2, 0]])
    cells = torch.tensor([[1, 0, 0], [0, -1, 0], [0, 0, 0], [0, 1, 2], [1, 1, -1]])
    blocks = [
        random(SIZES[i], SIZES[j], seed=seed + k).to(dtype)
        for k, (i, j) in enumerate(pairs.tolist())
    ]
    return BlockMatrix.from_blocks(pairs, cells, blocks, SIZES).hermitian()


def test_dense_there_and_back():
    matrix = random(2, 8, 8)
    found = BlockMatrix.from_dense(matrix, SIZES)
    assert len(found) == 9
    assert found.nao == 8
    torch.testing.assert_close(found.to_dense(), matrix, rtol=0, atol=0)
    torch.testing.assert_close(found.block(5), matrix[:, 1:5, 5:], rtol=0, atol=0)
    single = BlockMatrix.from_dense(matrix[:, :4, :4], (4,))
    torch.testing.assert_close(single.to_dense(), matrix[:, :4, :4], rtol=0, atol=0)


def test_only_the_blocks_of_one_cell_are_dense():
    found = crystal_blocks()
    dense = found.to_dense((0, -1, 0))
    torch.testing.assert_close(dense[:1, 1:5], found.block(1), rtol=0, atol=0)
    assert float(dense.abs().sum() - found.block(1).abs().sum()) == 0.0
    assert float(found.to_dense((5, 0, 0)).abs().max()) == 0.0


@pytest.mark.parametrize("sparse", [8, 0], ids=["dense", "sparse"])
def test_bloch_sums_are_those_of_the_formula(sparse, monkeypatch):
    """Dense matrices of every cell, or a block at a time where most would be zeros."""
    monkeypatch.setattr("deeph_zero.ao.block_matrix._SPARSE", sparse)
    found, kpts = crystal_blocks(), torch.tensor([[0.0, 0.0, 0.0], [0.13, -0.31, 0.27]])
    found = found.with_values(torch.stack([found.values, 2 * found.values]))
    got = found.at_k(kpts.double())
    assert got.shape == (2, 2, 8, 8)
    starts = np.cumsum([0, *SIZES])
    for s, k in np.ndindex(2, 2):
        wanted = np.zeros((8, 8), dtype=complex)
        for (i, j), cell, block in zip(
            found.pairs.tolist(), found.cells.numpy(), found.blocks(), strict=True
        ):
            part = wanted[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            part += np.exp(2j * np.pi * kpts[k].double().numpy() @ cell) * block[s].numpy()
        np.testing.assert_allclose(got[s, k].numpy(), wanted, atol=1e-13)
        np.testing.assert_allclose(wanted, wanted.conj().T, atol=1e-13)


@pytest.mark.reference
def test_bloch_sums_are_pyscfs():
    """S(R) from PySCF's own k-points, back to S(k) at another one."""
    cell = pbcgto.M(
        atom="He 0 0 0; H 0.4 0.9 0.7", a=np.diag([2.4, 2.6, 2.9]) + 0.1, spin=1,
        basis={"He": [[0, [1.2, 1.0]]], "H": [[1, [1.0, 1.0]]]}, precision=1e-12, verbose=0,
    )  # fmt: skip
    mesh = 7
    kpts = cell.make_kpts([mesh] * 3)
    of_k = np.array(cell.pbc_intor("int1e_ovlp", kpts=kpts))
    fractional = cell.get_scaled_kpts(kpts)
    span = np.arange(mesh) - mesh // 2
    cells = torch.tensor(np.array(np.meshgrid(span, span, span)).reshape(3, -1).T)
    of_r = np.einsum("kij,kr->rij", of_k, np.exp(-2j * np.pi * fractional @ cells.numpy().T))
    of_r = torch.tensor((of_r / mesh**3).real)
    sizes, pairs, where, blocks = (1, 3), [], [], []
    for cell_r, matrix in zip(cells.tolist(), of_r, strict=True):
        for i, j in np.ndindex(2, 2):
            pairs.append((i, j))
            where.append(cell_r)
            blocks.append(matrix.split(sizes, 0)[i].split(sizes, 1)[j])
    found = BlockMatrix.from_blocks(torch.tensor(pairs), torch.tensor(where), blocks, sizes)
    k = np.array([0.21, -0.11, 0.34])
    wanted = cell.pbc_intor("int1e_ovlp", kpts=cell.get_abs_kpts(k))
    got = found.at_k(torch.tensor(k[None]))[0].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert np.abs(got - wanted.conj()).max() > 1e-3  # the other phase is told apart


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_hermitian_pairs_every_block_with_its_adjoint(dtype):
    found = crystal_blocks(dtype=dtype)
    if dtype == torch.complex128:
        found = found.with_values(found.values * (1 + 0.5j)).hermitian()
    assert len(found) == 10
    assert found.asymmetry() == 0.0
    torch.testing.assert_close(found.hermitian().values, found.values, rtol=0, atol=0)
    spoilt = found.values.clone()
    spoilt[7] += 0.25
    broken = found.with_values(spoilt)
    assert broken.asymmetry() == pytest.approx(0.25)
    assert broken.hermitian().asymmetry() == 0.0
    assert found.select(torch.arange(9)).asymmetry() == float(found.block(4).abs().max())


def test_a_repeated_block_is_refused():
    found = crystal_blocks()
    with pytest.raises(ValueError, match="once"):
        found.select(torch.tensor([0, 0])).asymmetry()
    with pytest.raises(ValueError, match="from 0 to 2"):
        BlockMatrix.packed(torch.tensor([[0, 3]]), torch.zeros(1, 3).long(), torch.zeros(1), SIZES)
    with pytest.raises(ValueError, match="expected 4 elements"):
        BlockMatrix.packed(torch.tensor([[0, 1]]), torch.zeros(1, 3).long(), torch.zeros(5), SIZES)


def test_other_orders_are_undone():
    found = crystal_blocks()
    places = [torch.tensor([0]), torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])]
    signs = [torch.tensor([1.0]), torch.tensor([1.0, -1, 1, -1]), torch.tensor([-1.0, 1, 1])]
    got = found.reordered(places, signs)
    wanted = found.block(2)[places[2]][:, places[1]] * signs[2][:, None] * signs[1]
    torch.testing.assert_close(got.block(2), wanted.double(), rtol=0, atol=0)
    back = [p.argsort() for p in places]
    undone = got.reordered(back, [s[p] for s, p in zip(signs, back, strict=True)])
    torch.testing.assert_close(undone.values, found.values, rtol=0, atol=0)


@pytest.mark.reference
def test_a_rotated_molecule_has_rotated_blocks():
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    atoms = [("O", (0.0, 0.0, 0.1)), ("C", (0.3, -1.3, 0.2)), ("H", (0.1, 0.76, 0.58))]

    def overlap(rotation):
        turned = [(symbol, tuple(rotation @ np.array(xyz))) for symbol, xyz in atoms]
        mol = gto.M(atom=turned, basis="def2-svp", charge=1, verbose=0)
        return torch.tensor(mol.intor("int1e_kin"))

    shells = [(0, 0, 0, 1, 1, 2), (0, 0, 0, 1, 1, 2), (0, 0, 1)]
    sizes = [sum(2 * l + 1 for l in ls) for ls in shells]
    found = BlockMatrix.from_dense(overlap(np.eye(3)), sizes)
    got = found.rotated(shells, torch.tensor(q)).to_dense()
    torch.testing.assert_close(got, overlap(q), rtol=0, atol=1e-10)
    assert float((found.to_dense() - overlap(q)).abs().max()) > 0.1


def test_blocks_become_irreps_and_come_back():
    layout = BasisLayout.from_shells({1: (0,), 8: (0, 1), 6: (1,)}, slots=(2, 1))
    numbers, found = [1, 8, 6], crystal_blocks()
    slots = found.to_slots(layout, numbers)
    assert slots.shape == (10, layout.dim, layout.dim)
    basis = irrep_basis(layout)
    irreps = basis.to_irreps(slots)
    total = sum(x.square().sum() for x in irreps)
    torch.testing.assert_close(total, found.values.square().sum(), rtol=1e-12, atol=0)
    back = found.from_slots(basis.from_irreps(irreps), layout, numbers)
    torch.testing.assert_close(back.values, found.values, rtol=0, atol=1e-13)


def test_gradients_pass_through_bloch_sums():
    found = crystal_blocks()
    values = found.values.clone().requires_grad_()
    kpts = torch.tensor([[0.2, 0.1, -0.4]], dtype=torch.float64)
    found.with_values(values).at_k(kpts).abs().square().sum().backward()
    step = torch.zeros_like(found.values)
    step[3] = 1e-6

    def size(v):
        return float(found.with_values(v).at_k(kpts).abs().square().sum())

    wanted = (size(found.values + step) - size(found.values - step)) / 2e-6
    assert float(values.grad[3]) == pytest.approx(wanted, rel=1e-6)


def test_sparse_elements_become_blocks():
    found = crystal_blocks()
    block = found.pattern.block_of
    rows, columns = found.pattern.aos()
    mixed = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    values = torch.stack([found.values, -found.values])[:, mixed]
    got = BlockMatrix.from_entries(
        rows[mixed], columns[mixed], found.cells[block][mixed], values, SIZES
    )
    assert len(got) == len(found)
    kpts = torch.tensor([[0.2, 0.1, -0.4]], dtype=torch.float64)
    torch.testing.assert_close(got.at_k(kpts)[0], found.at_k(kpts), rtol=0, atol=1e-14)
    one = BlockMatrix.from_entries(
        torch.tensor([2, 2]), torch.tensor([7, 7]), torch.zeros(2, 3).long(), torch.ones(2), SIZES
    )
    assert (one.pairs.tolist(), float(one.block(0)[1, 2]), len(one.values)) == ([[1, 2]], 2.0, 12)
