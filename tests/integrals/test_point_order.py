"""Orders of grid points: permutations, compact, and taken only where they pay."""

import numpy as np
import pytest
import torch
from pyscf import gto
from pyscf.dft import gen_grid

from deeph_zero.integrals.ao_engine import ShellReach
from deeph_zero.integrals.grids import AO_CUTOFF, AOGrid, build_grid
from deeph_zero.integrals.point_order import bisection, boxes_along, compact_order
from deeph_zero.kohnsham import KohnSham
from deeph_zero.testing import WATER


def helium(positions):
    return gto.M(atom=[("He", p) for p in positions], basis="def2-svp", verbose=0)


def chain(n, axis):
    step = np.roll([3.1, 0.1, -0.2], axis)
    return helium([tuple(i * step) for i in range(n)])


def columns(grid):
    return float(np.mean([grid.block(k).ao.shape[2] for k in range(grid.n_blocks)]))


@pytest.fixture(scope="module")
def cloud():
    return np.random.default_rng(0).normal(size=(1000, 3)) * [9.0, 3.0, 1.0]


def test_orders_are_permutations(cloud):
    bounds = [0, 130, 260, 500, 777, 1000]
    for order in (boxes_along(cloud[:5], cloud), bisection(cloud, bounds)):
        assert sorted(order) == list(range(1000))


def test_bisection_separates_blocks_along_the_longest_side(cloud):
    order = bisection(cloud, [0, 400, 1000])
    assert cloud[order[:400], 0].max() <= cloud[order[400:], 0].min()
    eight = bisection(cloud, list(range(0, 1001, 125)))
    volume = [np.prod(np.ptp(cloud[eight[i : i + 125]], axis=0)) for i in range(0, 1000, 125)]
    assert np.median(volume) < 0.1 * np.prod(np.ptp(cloud, axis=0))


def test_boxes_run_along_the_longest_axis(cloud):
    centres = np.array([[0.0, 0.0, 0.0], [1.0, 20.0, 2.0]])
    boxes = np.floor(cloud[boxes_along(centres, cloud)][:, 1] / 1.2)
    inside = np.abs(cloud[boxes_along(centres, cloud)][:, 1] - 10.0) < 9.0
    assert (np.diff(cloud[boxes_along(centres, cloud)][inside, 1]) > -1.4).all()
    assert len(np.unique(boxes[inside])) > 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_chain_is_cheap_in_every_direction(axis):
    counts = [
        columns(AOGrid(m, build_grid(m, 0), deriv=1)) for m in (chain(8, axis), chain(24, axis))
    ]
    assert counts[1] < 25
    assert counts[1] < 1.1 * counts[0]


def test_the_cheapest_order_is_taken_and_only_if_it_pays():
    coords = np.arange(12.0)[:, None] * [1.0, 0.0, 0.0]
    centres = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    given = {"cost": []}

    def cost_by(values):
        left = list(values)

        def cost(points):
            given["cost"].append(points)
            return left.pop(0)

        return cost

    bounds = [0, 6, 12]
    assert compact_order(centres, coords, bounds, cost_by([10.0, 9.5, 9.9])) is None
    third = compact_order(centres, coords, bounds, cost_by([10.0, 8.0, 7.0]))
    assert sorted(third) == list(range(12))
    assert np.array_equal(given["cost"][-1], coords[third])
    second = compact_order(centres, coords, bounds, cost_by([10.0, 5.0, 7.0]))
    assert np.array_equal(second, boxes_along(centres, coords))
    assert compact_order(centres, coords, [0, 12], cost_by([])) is None
    assert compact_order(0.5 * centres, coords, bounds, cost_by([])) is None


def test_small_molecules_keep_the_given_order(water):
    grids = build_grid(water, 1)
    grid = AOGrid(water, grids, deriv=1)
    assert np.array_equal(grid.coords, grids.coords[grids.weights != 0])


def test_energy_and_fock_do_not_depend_on_the_order(monkeypatch):
    mol = chain(12, 2)
    reordered = KohnSham.from_pyscf(mol, grid_level=0)
    monkeypatch.setattr("deeph_zero.integrals.point_order.SMALL_BOHR", 1e3)
    plain = KohnSham.from_pyscf(mol, grid_level=0)
    assert not np.array_equal(reordered.data.grid.coords, plain.data.grid.coords)
    dm = plain.data.dm_guess
    ours, reference = reordered.build(dm), plain.build(dm)
    assert float(ours.energy - reference.energy) == pytest.approx(0.0, abs=1e-11)
    torch.testing.assert_close(ours.fock, reference.fock, rtol=0, atol=1e-11)


def test_cost_counts_squared_columns():
    mol = chain(3, 0)
    reach = ShellReach.of(mol, AO_CUTOFF, 1)
    assert reach.cost(mol.atom_coords(), [0, 3]) == mol.nao**2


@pytest.mark.parametrize("name", ["small", "long"])
def test_box_order_is_pyscfs(name):
    atom = WATER
    if name == "long":
        atom = "; ".join(f"He {0.1 * k} {0.3 * k} {1.9 * k}" for k in range(9))
    mol = gto.M(atom=atom, basis="sto-3g", verbose=0)
    reference = gen_grid.Grids(mol)
    reference.level = 1
    reference.build()
    ours = build_grid(mol, 1)
    assert np.array_equal(ours.coords, reference.coords)
    assert np.array_equal(ours.weights, reference.weights)
    assert np.array_equal(ours.atm_idx, reference.atm_idx)
