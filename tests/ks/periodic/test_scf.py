"""The SCF of crystals ends where PySCF's does; Fock matrices and bands at any k-point."""

import numpy as np
import pytest
import torch
from pyscf.pbc import dft

import deeph_zero as dz
from deeph_zero.errors import ComputationError
from deeph_zero.ks.periodic.scf import NO_GAP

CASES = [
    "insulator",
    "meta-GGA, half of the mesh",
    "metal, half-way points",
    "metal, spins",
    "antiferromagnet",
    "unpaired electrons",
]
"""Crystals of the fixture ``solved``."""


def _whole_mesh(cell, ks, matrices):
    """(k-points of the whole mesh, matrices there): those of -k are conjugated."""
    kpts, at = [], []
    for i, (k, w) in enumerate(zip(ks.info.kpts, ks.info.kweights, strict=True)):
        kpts.append(k)
        at.append(matrices[:, i])
        if w > 1.5 * min(ks.info.kweights):
            kpts.append(-k)
            at.append(matrices[:, i].conj())
    order = np.stack(at, 1)
    return cell.get_abs_kpts(np.array(kpts)), order


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_ends_where_pyscfs_ends(case, solved):
    """PySCF goes on from the density, over the whole mesh, and finds nothing lower."""
    cell, ks, result = solved(case)
    assert result.converged
    assert result.fock_builds <= 12
    kpts, dm = _whole_mesh(cell, ks, result.dm.numpy())
    mf = (dft.KUKS if ks.unrestricted else dft.KRKS)(cell, kpts, xc=ks.info.xc)
    mf.conv_tol, mf.max_cycle = 1e-10, 20
    if ks.smearing:
        mf = mf.smearing(ks.smearing)
    if ks.unrestricted:
        mf.nelec = tuple(round(n * len(kpts)) for n in ks.info.nelec)
    mf.kernel(dm0=dm if ks.unrestricted else dm[0])
    assert mf.converged
    if ks.smearing:  # the energy itself is not stationary
        assert mf.e_tot == pytest.approx(result.energy, abs=1e-6)
        assert mf.e_free == pytest.approx(result.free_energy, abs=2e-8)
    else:
        assert mf.e_tot == pytest.approx(result.energy, abs=2e-8)
        assert result.free_energy == result.energy
        assert result.gap > 0
    np.testing.assert_allclose(result.mo_energy[0, 0], np.array(mf.mo_energy).reshape(
        ks.nspin, len(kpts), -1)[0, 0], atol=2e-4)  # fmt: skip


def test_moments_choose_the_state(solved):
    cell, ks, result = solved("antiferromagnet")
    up, down = ks.n_electrons(result.dm)
    assert up == pytest.approx(down) == pytest.approx(1)
    population = (result.dm * ks.data.ovlp.mT).sum(-1).real
    spin = ((population[0] - population[1]) * ks.data.weights[:, None]).sum(0)
    half = cell.nao // 2
    assert float(spin[:half].sum()) > 0.1
    assert float(spin[half:].sum()) < -0.1
    _, other, unpaired = solved("unpaired electrons")
    assert other.n_electrons(unpaired.dm) == pytest.approx((2, 0))


def test_a_density_can_be_the_start(solved):
    _, ks, result = solved("insulator")
    again = ks.scf(result.dm)
    assert again.fock_builds == 1
    assert again.energy == pytest.approx(result.energy, abs=1e-9)
    plain = ks.scf(dielectric=False, two_grids=False)
    assert plain.coarse_builds == 0
    assert plain.energy == pytest.approx(result.energy, abs=2e-9)
    assert plain.fock_builds == plain.iterations
    assert sum(result.parts.values()) == pytest.approx(result.energy, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
@pytest.mark.parametrize("case", ["insulator", "metal, spins"])
def test_fock_at_any_k_point(case, solved):
    cell, ks, result = solved(case)
    ks(result.dm)
    own = ks.fock_at(ks.info.kpts.tolist())
    torch.testing.assert_close(own, result.fock.to(own.dtype), rtol=0, atol=1e-11)
    kpts = [[0.1, -0.2, 0.3], [0.0, 0.0, 0.0], [0.37, 0.5, 0.11]]
    whole, dm = _whole_mesh(cell, ks, result.dm.numpy())
    mf = (dft.KUKS if ks.unrestricted else dft.KRKS)(cell, whole, xc=ks.info.xc)
    theirs, _ = mf.get_bands(cell.get_abs_kpts(kpts), dm_kpts=dm if ks.unrestricted else dm[0])
    found = ks.bands_at(kpts)
    np.testing.assert_allclose(
        found.numpy(), np.array(theirs).reshape(found.shape), rtol=0, atol=1e-9
    )
    dispersion = found.std(1).max()
    assert float(dispersion) > 1e-2


def test_the_base_is_nearer_than_superposed_atoms(solved):
    _, ks, result = solved("insulator")
    base = ks.base_potential()
    before = ks.fock_builds
    start, moved = ks.starting_fock(), ks.fock_of(base)
    assert ks.fock_builds == before
    errors = [float((f - result.fock).abs().mean()) for f in (start, moved)]
    assert errors[1] < 0.8 * errors[0]
    energies = [float(ks(ks.density(f))[0]) - result.energy for f in (start, moved)]
    assert 0 < energies[1] < 0.3 * energies[0]
    at = ks.fock_at(ks.info.kpts, potential=base)
    torch.testing.assert_close(at, moved.to(at.dtype), rtol=0, atol=1e-11)


def test_resampling_is_exact_for_waves_that_fit(crystal):
    fine = dz.KohnSham.from_pyscf(crystal("diamond", mesh=[9, 12, 10]), xc="lda,vwn").data.mesh
    coarse = dz.KohnSham.from_pyscf(crystal("diamond", mesh=[7, 9, 5]), xc="lda,vwn").data.mesh

    def wave(mesh):
        axes = [torch.arange(n, dtype=torch.float64) / n for n in mesh.shape]
        x, y, z = torch.meshgrid(*axes, indexing="ij")
        phase = 2 * torch.pi * (3 * x - 2 * y + 2 * z)
        return (1.5 + phase.cos() - 0.3 * (2 * torch.pi * (y - z)).sin()).reshape(-1)

    torch.testing.assert_close(fine.resample(wave(coarse), coarse), wave(fine))


def test_bands_need_a_density(crystal):
    ks = dz.KohnSham.from_pyscf(crystal("helium"), xc="lda,vwn")
    with pytest.raises(ComputationError, match="call scf"):
        ks.bands_at([[0, 0, 0]])


def test_a_coarse_grid_is_said(crystal, caplog):
    cell = crystal("diamond", ke_cutoff=8)
    result = dz.KohnSham.from_pyscf(cell, xc="pbe").scf(max_cycle=3)
    assert abs(result.grid_error) > 1e-4
    assert "use a larger ke_cutoff" in caplog.text
    caplog.clear()
    fine = dz.KohnSham.from_pyscf(crystal("diamond", ke_cutoff=50), xc="pbe").scf(max_cycle=3)
    assert abs(fine.grid_error) < 5e-5
    assert "ke_cutoff" not in caplog.text


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
def test_a_metal_without_smearing_is_said(crystal, caplog):
    ks = dz.KohnSham.from_pyscf(crystal("aluminium", ke_cutoff=10, spin=1), kmesh=(2, 1, 1))
    ks.scf(max_cycle=2, degeneracy_tol=0.5)
    assert "use smearing" in caplog.text


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
def test_spins_whose_levels_overlap_are_said(crystal, caplog):
    """Six electrons of one spin and two of the other: each spin has its gap, both have none."""
    cell = crystal("diamond", ke_cutoff=8, spin=4)
    result = dz.KohnSham.from_pyscf(cell).scf(max_cycle=2)
    levels = result.mo_energy
    assert result.gap > NO_GAP
    above = float(levels[0, 0, 5] - levels[1, 0, 2])
    assert above > 0.05
    assert f"up to {above:.1e} Eh above empty ones of the other" in caplog.text
    assert "use smearing, for example smearing=0.005, which frees the moment" in caplog.text
    caplog.clear()
    dz.KohnSham.from_pyscf(cell, smearing=0.005, fix_spin=True).scf(max_cycle=2)
    assert "frees the moment" not in caplog.text
