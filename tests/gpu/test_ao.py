"""AO values and grids on a CUDA device equal the CPU's."""

import pytest
import torch
from pyscf import gto

from deeph_zero.ao.values import ao_values
from deeph_zero.integrals.ao_engine import TorchAO
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.integrals.grids import AOGrid, build_grid
from deeph_zero.kohnsham import KohnSham

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def mol():
    atoms = [("C", (0.3 * i, -0.2 * i, 2.4 * i)) for i in range(6)]
    return gto.M(atom=atoms, basis="def2-tzvp", verbose=0)


@pytest.mark.parametrize("deriv", [0, 1, 2])
@pytest.mark.parametrize("cart", [False, True])
def test_values_equal_the_cpus(mol, rng, deriv, cart):
    same = gto.M(atom=mol.atom, basis="def2-tzvp", cart=cart, verbose=0)
    basis, centres = ao_basis(same), torch.from_numpy(same.atom_coords())
    points = 5.0 * torch.randn(300, 3, generator=rng, dtype=torch.float64)
    cpu = ao_values(basis, centres, points, deriv)
    cuda = ao_values(basis.to("cuda"), centres.cuda(), points.cuda(), deriv).cpu()
    scale = cpu.abs().amax((1, 2), keepdim=True)
    assert float(((cuda - cpu).abs() / scale).max()) <= 1e-12


@pytest.mark.parametrize("ao_memory_mb", [1000.0, 20.0, 0.0])
def test_grid_makes_and_keeps_its_blocks_on_the_device(mol, ao_memory_mb):
    grids = build_grid(mol, 0)
    options = {"deriv": 1, "ao_memory_mb": ao_memory_mb, "allow_float32": False}
    grid = AOGrid(mol, grids, device="cuda", **options)
    assert isinstance(grid._engine, TorchAO)
    dm = torch.eye(grid.nao, dtype=torch.float64)
    reference = AOGrid(mol, grids, device="cpu", **options)

    def electrons(g):
        total = 0.0
        for k in range(g.n_blocks):
            block = g.block(k)
            assert block.ao.device.type == g.device.type
            assert torch.equal(g.block(k).ao, block.ao)
            local = dm if block.index is None else dm[block.index.cpu()][:, block.index.cpu()]
            local = local.to(g.device)
            total += float(block.weights @ ((block.ao[0] @ local) * block.ao[0]).sum(1))
        return total

    assert electrons(grid) == pytest.approx(electrons(reference), rel=1e-12)


def test_short_memory_on_the_device_changes_no_energy(water):
    layers = [
        KohnSham.from_pyscf(water, grid_level=1, device="cuda", ao_memory_mb=mb)
        for mb in (1000.0, 4.0, 0.0)
    ]
    energies = [float(ks.build(ks.data.dm_guess).energy) for ks in layers]
    assert max(energies) - min(energies) < 1e-9
