"""A hundred atoms within a memory limit, against PySCF."""

import numpy as np
import pytest
from pyscf import dft, gto

from deeph_zero.kohnsham import KohnSham

AO_MEMORY_MB = 20.0
MAX_MEMORY_MB = 200.0
SPACING = 3.2
"""Between the molecules of the cluster, angstrom."""
KINDS = {
    "water": [("O", (0, 0, 0)), ("H", (0, 0.76, 0.58)), ("H", (0, -0.75, 0.6))],
    "hydrogen": [("H", (0, 0, 0)), ("H", (0.1, 0.2, 0.7))],
    "helium": [("He", (0, 0, 0))],
}
COUNTS = {"water": 8, "hydrogen": 19, "helium": 38}


@pytest.fixture(scope="module")
def cluster():
    """Eight waters among hydrogen and helium on a disturbed lattice: 100 atoms."""
    rng = np.random.default_rng(0)
    names = [name for name, count in COUNTS.items() for _ in range(count)]
    sites = [(i, j, k) for i in range(5) for j in range(5) for k in range(3)][: len(names)]
    atoms = []
    for name, site in zip(rng.permutation(names), sites, strict=True):
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        centre = SPACING * np.array(site) + 0.2 * rng.standard_normal(3)
        atoms += [(z, tuple(turn @ np.array(xyz) + centre)) for z, xyz in KINDS[name]]
    assert len(atoms) == 100
    return gto.M(atom=atoms, basis="sto-3g", verbose=0)


@pytest.mark.slow
@pytest.mark.reference
def test_a_hundred_atoms_converge_and_have_pyscfs_fock_matrix(cluster):
    ks = KohnSham.from_pyscf(
        cluster,
        xc="pbe0",
        grid_level=0,
        ao_memory_mb=AO_MEMORY_MB,
        max_memory_mb=MAX_MEMORY_MB,
    )
    assert ks.info.memory_bytes <= (AO_MEMORY_MB + MAX_MEMORY_MB) * 1e6
    # more AO values than may be kept: some blocks are evaluated anew for every build
    assert 4 * 8 * ks.info.ngrids * ks.nao > AO_MEMORY_MB * 1e6
    result = ks.scf(conv_tol=1e-8)
    assert result.converged
    mf = dft.RKS(cluster, xc="pbe0").density_fit()
    mf.grids.level = 0
    dm = result.dm.numpy()
    veff = mf.get_veff(dm=dm)
    fock = mf.get_hcore() + np.asarray(veff)
    assert np.abs(result.fock.numpy() - fock).max() < 1e-9
    assert result.energy == pytest.approx(mf.energy_tot(dm=dm, vhf=veff), abs=1e-9)
