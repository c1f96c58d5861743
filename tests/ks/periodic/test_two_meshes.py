"""SCF on two meshes: the target mesh's own answer, fewer builds, estimates of what is left."""

import dataclasses

import pytest
import torch

import deeph_zero as dz
from deeph_zero.ks.periodic.terms.hartree import Hartree
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.two_meshes import Lowering, coarse_lowering


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
@pytest.mark.parametrize("case", ["insulator", "metal, half-way points", "metal, spins"])
def test_two_meshes_end_where_one_does(case, solved):
    _, ks, result = solved(case)
    alone = ks.scf(two_grids=False)
    assert result.coarse_builds > 0
    assert result.fock_builds < alone.fock_builds
    assert result.free_energy == pytest.approx(alone.free_energy, abs=2e-9)
    torch.testing.assert_close(result.fock, alone.fock, rtol=0, atol=2e-5)


def test_a_misleading_coarse_mesh_is_left(solved):
    """A coarse mesh that screens too little, or does not converge, is found out."""
    cell, _, result = solved("insulator")
    for wrong in (0.3, 6.0):
        other = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1))
        make = other.data.coarse

        def misleading(make=make, wrong=wrong):
            data = make()
            kernel = data.mesh.kernel * wrong
            local, _, xc = data.mesh_term.potentials
            hartree = Hartree(dataclasses.replace(data.mesh, kernel=kernel))
            term = MeshTerm(
                data.mesh_term.grid, data.weights, data.mesh_term.weight, [local, hartree, xc]
            )
            return dataclasses.replace(data, mesh_term=term)

        other.data = dataclasses.replace(other.data, coarse=misleading)
        found = other.scf()
        assert found.converged
        assert found.energy == pytest.approx(result.energy, abs=2e-9)


def beside(ks, result, size=0.01):
    """The density of a matrix beside the solution's, alike at k and -k."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 1, ks.nao, ks.nao, generator=generator, dtype=torch.float64)
    fock = result.fock + size * (noise + noise.mT)
    bands = ks.bands(fock)
    return ks.density(fock), bands.filling.entropy_energy


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
@pytest.mark.parametrize("case", ["insulator", "metal, half-way points"])
def test_the_coarse_mesh_says_how_far_the_energy_will_fall(case, solved):
    _, ks, result = solved(case)
    dm, ts = beside(ks, result)
    built = ks.build(dm)
    before = ks.fock_builds
    found = coarse_lowering(ks, built, ts)
    above = float(built.energy) - ts - result.free_energy
    assert above > 1e-4
    assert found.lowering == pytest.approx(above, rel=0.05)
    assert found.builds > 1
    assert ks.fock_builds == before  # nothing on the target mesh


def test_nothing_is_left_of_a_solution(solved):
    _, ks, result = solved("insulator")
    found = coarse_lowering(ks, ks.build(result.dm), 0.0)
    assert found.lowering == pytest.approx(0, abs=1e-8)


def test_without_a_coarse_mesh_there_is_no_answer(solved):
    cell, _, result = solved("insulator")
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1))
    ks.data = dataclasses.replace(ks.data, coarse=None, coarse_mesh=ks.data.mesh.shape)
    assert ks.coarse_ratio <= 1
    assert coarse_lowering(ks, ks.build(result.dm), 0.0) == Lowering(None, 0)


def test_few_cycles_end_where_they_end(solved):
    """Cycles on both meshes count; what is given back is a build of the target mesh."""
    _, ks, result = solved("insulator")
    for cycles in (1, 3):
        found = ks.scf(max_cycle=cycles)
        assert found.iterations <= cycles
        assert not found.converged
        assert found.energy == pytest.approx(float(ks.build(found.dm).energy), abs=1e-10)
        assert found.energy > result.energy
