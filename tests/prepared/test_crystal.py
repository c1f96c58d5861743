"""Crystals made ready for the network, and a network's corrections of them."""

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_crystal
from deeph_zero.prepared.sparse import without_shift

ELSEWHERE = [[0.13, -0.31, 0.2], [0.5, 0.0, 0.1]]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def network_of(layout, cutoff):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = FockNetwork(default_spec(layout, "tiny", cutoff=cutoff, balanced=False)).double()
        for weights in (*net.node_out.parameters(), *net.pair_out.parameters()):
            torch.nn.init.normal_(weights, std=0.1)
    return net


def prepared(cell, cutoff, **settings):
    layout = crystal_layout(cell)
    return prepare_crystal(cell, layout, cutoff=cutoff, dtype=torch.float64, **settings)


def without_average(matrix, ovlp):
    """A - μ S at k-points, of which the best μ leaves least; one for both spins."""
    average = torch.einsum("skij,kji->", matrix, ovlp) / torch.einsum("kij,kji->", ovlp, ovlp)
    return matrix - average / len(matrix) * ovlp


@pytest.mark.parametrize(("xc", "moments"), [("pbe", None), ("r2scan", (0.5, 0.3))])
def test_the_correction_of_a_converged_potential_gives_its_fock_matrix(xc, moments, crystal):
    """At the SCF's k-points and at others, the constant potential included."""
    cell = crystal("chain", precision=1e-9)
    made = prepared(cell, 24.0, xc=xc, kmesh=(2, 1, 1), moments=moments, smearing=0.02)
    assert made.ks.fock_builds == 0
    result = made.ks.scf(max_cycle=4)
    correction = made.correction(result.build.rows)
    assert correction.asymmetry() == 0.0
    change = made.hamiltonian(correction) - result.build.fock
    missed = without_average(made.fock0 - result.build.fock, made.ks.data.ovlp)
    assert float(change.abs().max()) < 1e-6
    assert float(missed.abs().max()) > 1e-3
    there = made.hamiltonian_at(ELSEWHERE, correction)
    exact = made.ks.fock_at(ELSEWHERE, potential=result.build.rows)
    assert float((there - exact).abs().max()) < 1e-6


def test_a_multiple_of_the_overlap_is_read_by_nobody_but_learnt(crystal):
    """What the grid makes of S is right to 2e-4 here."""
    made = prepared(crystal("chain"), 7.0, kmesh=(2, 1, 1))
    rows = made.potential.clone()
    rows[:, 0] += 0.37
    learnt = made.correction(rows)
    torch.testing.assert_close(learnt.values, 0.37 * made.ovlp.values, rtol=0, atol=2e-4)
    base = made.inputs.node_inputs[:, 3]
    shifted = prepared(crystal("chain"), 7.0, kmesh=(2, 1, 1), potential=rows)
    torch.testing.assert_close(shifted.inputs.node_inputs[:, 3], base, rtol=0, atol=5e-4)
    one = made.ovlp
    assert float(without_shift(one.with_values(3.0 * one.values), one).values.abs().max()) < 1e-12


@pytest.mark.parametrize("sign", [1, -1])
def test_a_turned_crystal_has_turned_blocks(sign, crystal):
    """From the grid on: the mesh turns with the lattice vectors, unlike that of a molecule."""
    cell = crystal("diamond", precision=1e-8)
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turn = sign * q * np.sign(np.linalg.det(q))
    coords = cell.atom_coords() @ turn.T
    turned = crystal(
        "diamond",
        precision=1e-8,
        a=cell.lattice_vectors() @ turn.T,
        atom=[("C", x) for x in coords],
        unit="B",
    )
    assert tuple(turned.mesh) == tuple(cell.mesh)
    one, other = (prepared(c, 8.0, kmesh=(2, 1, 1)) for c in (cell, turned))
    net = network_of(crystal_layout(cell), 8.0)
    before, after = (net(p.inputs)[0] for p in (one, other))
    expected = before.rotated([(0, 1)] * 2, torch.from_numpy(turn))
    assert torch.equal(after.cells, expected.cells)
    torch.testing.assert_close(after.values, expected.values, rtol=0, atol=1e-9)
    assert float(expected.values.abs().max()) > 1e-3


def test_a_supercell_at_gamma_has_the_levels_of_its_cell(crystal):
    """On the commensurate mesh: H₀, what the network reads, and what it adds."""
    small = crystal("chain", precision=1e-9, mesh=[13, 15, 15])
    vectors, coords = small.lattice_vectors(), small.atom_coords()
    large = crystal(
        "chain",
        precision=1e-9,
        mesh=[26, 15, 15],
        a=vectors * np.array([[2], [1], [1]]),
        atom=[("H", x + n * vectors[0]) for n in (0, 1) for x in coords],
        unit="B",
    )
    one = prepared(small, 9.0, kmesh=(2, 1, 1))
    rows = one.potential.unflatten(-1, tuple(small.mesh))
    two = prepared(large, 9.0, potential=torch.cat([rows, rows], 2).flatten(2))
    net = network_of(crystal_layout(small), 9.0)
    corrections = [net(p.inputs)[0] for p in (one, two)]
    assert float(corrections[0].values.abs().max()) > 1e-3
    assert len(two.inputs.patterns[0]) == 2 * len(one.inputs.patterns[0])
    levels = [
        p.ks.bands(p.hamiltonian(c)).mo_energy.flatten().sort().values
        for p, c in zip((one, two), corrections, strict=True)
    ]
    torch.testing.assert_close(*levels, rtol=0, atol=1e-6)


def test_spins_have_a_channel_each(crystal):
    made = prepared(crystal("chain"), 7.0, kmesh=(2, 1, 1), moments=(0.6, 0.1), smearing=0.02)
    assert made.inputs.n_spins == (2,)
    assert made.inputs.node_inputs.shape[:2] == (4, 8)
    up, down = made.inputs.node_inputs.split(2)
    torch.testing.assert_close(up[:, 5:], -down[:, 5:], rtol=0, atol=1e-12)
    assert float(up[:, 5:].abs().max()) > 1e-3
    net = network_of(crystal_layout(crystal("chain")), 7.0)
    (found,) = net(made.inputs)
    assert isinstance(found, BlockMatrix)
    assert found.values.shape == (2, made.ovlp.pattern.nel)
    assert made.hamiltonian(found).shape == made.fock0.shape
