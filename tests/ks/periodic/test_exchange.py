"""Exact exchange and density fitting of crystals against PySCF's, at the same density."""

import gc
import warnings

import numpy as np
import pytest
import torch
from pyscf.pbc import dft, scf

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.system import crystal_data
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density
from deeph_zero.ks.terms.terms import total

EXACT = 1e-11
"""Eh per cell; the arithmetic is the same, so that only rounding is left."""

CASES = {
    "PBE0, two k": ("diamond", "pbe0", [2, 1, 1], False, "ewald", {}),
    "HSE06, complex k": ("diamond", "hse06", [1, 3, 1], False, "ewald", {}),
    "CAM-B3LYP, spins": ("diamond", "camb3lyp", [1, 2, 1], True, "ewald", {}),
    "wB97, long range, all electrons": ("helium", "wb97", [1, 1, 2], False, None, {}),
    "Hartree-Fock, sphere": ("helium", "hf", [2, 1, 1], False, "vcut_sph", {}),
    "Hartree-Fock, spins": ("helium", "hf", [3, 1, 1], True, "ewald", {}),
    "slab, dimension 2": ("slab", "pbe0", [2, 1, 1], False, "ewald",
                          {"dimension": 2, "ke_cutoff": 12}),
}  # fmt: skip

FITTED = {
    "PBE": ("pbe", [2, 1, 1], False),
    "r2SCAN, spins": ("r2scan", [1, 2, 1], True),
    "HSE06, spins": ("hse06", [2, 1, 1], True),
    "Hartree-Fock, one k": ("hf", [1, 1, 1], False),
}


@pytest.fixture
def _temporary_files():
    """PySCF leaves the files of its fitted integrals to the garbage collector, which warns."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _object(cell, kpts, xc, spins):
    if xc == "hf":
        return (scf.KUHF if spins else scf.KRHF)(cell, kpts)
    return (dft.KUKS if spins else dft.KRKS)(cell, kpts, xc=xc)


def _compare(mf, xc, dm, spins):
    given = dm.numpy() if spins else dm[0].numpy()
    veff = mf.get_veff(dm_kpts=given) if xc == "hf" else mf.get_veff(dm=given)
    hcore = mf.get_hcore()
    energy = (mf.energy_elec(given, hcore, veff)[0] + mf.energy_nuc()).real
    fock = np.asarray(hcore + veff)
    data = crystal_data(crystal_calculation(mf))
    own = dm.to(data.ovlp.dtype)
    found = total(data.terms, Density.at_k_points(own))
    assert float(sum(found.parts.values())) == pytest.approx(energy, abs=EXACT)
    np.testing.assert_allclose(found.fock.numpy(), fock.reshape(found.fock.shape), atol=EXACT)
    return data


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_exchange_is_pyscfs(case, crystal, density):
    name, xc, kmesh, spins, exxdiv, settings = CASES[case]
    cell = crystal(name, **settings)
    kpts = cell.make_kpts(kmesh, wrap_around=True)
    mf = _object(cell, kpts, xc, spins)
    mf.exxdiv = exxdiv
    data = _compare(mf, xc, density(cell, kpts, nspin=1 + spins), spins)
    assert data.exxdiv == exxdiv
    assert any(term.name == "exchange" for term in data.terms)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kpt", [[0, 0, 0], [0.21, 0.5, -0.13]])
@pytest.mark.parametrize("xc", ["hf", "camb3lyp"])
def test_objects_with_one_k_point(xc, kpt, crystal, density):
    """They have the correction of the divergence apart, which a coarse mesh shows."""
    cell = crystal("helium", mesh=[8, 9, 8])
    where = cell.get_abs_kpts(np.array(kpt))
    mf = scf.UHF(cell, where) if xc == "hf" else dft.UKS(cell, where, xc=xc)
    dm = density(cell, where.reshape(1, 3), nspin=2)[:, 0]
    dm = dm if any(kpt) else dm.real.contiguous()
    veff, hcore = mf.get_veff(dm=dm.numpy()), mf.get_hcore()
    energy = (mf.energy_elec(dm.numpy(), hcore, veff)[0] + mf.energy_nuc()).real
    data = crystal_data(crystal_calculation(mf))
    found = total(data.terms, Density.at_k_points(dm[:, None]))
    assert float(sum(found.parts.values())) == pytest.approx(energy, abs=EXACT)
    theirs = np.asarray(hcore + veff)
    theirs = 0.5 * (theirs + theirs.conj().swapaxes(-1, -2))  # an even mesh ends unevenly about k
    np.testing.assert_allclose(found.fock[:, 0].numpy(), theirs, atol=EXACT)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("mesh", "kmesh", "center"),
    [([9, 8, 6], [3, 1, 1], None), ([8, 9, 8], [2, 2, 1], [0.11, 0.23, -0.07]),
     ([7, 7, 9], [2, 2, 1], None)],
)  # fmt: skip
def test_the_edge_of_the_mesh_is_where_pyscf_has_it(mesh, kmesh, center, crystal, density):
    """Rounding decides on which side of it PySCF takes q to be; a coarse mesh shows it."""
    cell = crystal("helium", mesh=mesh)
    mf = scf.KRHF(cell, cell.make_kpts(kmesh, scaled_center=center))
    dm = density(cell, mf.kpts, nspin=1)
    fock = np.asarray(mf.get_hcore() + mf.get_veff(dm_kpts=dm[0].numpy()))
    energy = mf.energy_tot(dm[0].numpy()).real
    data = crystal_data(crystal_calculation(mf))
    found = total(data.terms, Density.at_k_points(dm))
    assert float(sum(found.parts.values())) == pytest.approx(energy, abs=EXACT)
    theirs = 0.5 * (fock + fock.conj().swapaxes(-1, -2))  # PySCF's is not quite Hermitian then
    np.testing.assert_allclose(found.fock[0].numpy(), theirs, atol=EXACT)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("mesh", "kmesh", "shifted"),
    [([9, 8, 6], (3, 1, 1), False), ([7, 7, 9], (2, 2, 1), True), ([8, 9, 8], (2, 2, 1), False)],
)
def test_half_of_the_k_points_has_the_edge_too(mesh, kmesh, shifted, crystal, density):
    cell = crystal("helium", mesh=mesh)
    settings = crystal_calculation(cell, xc="hf", kmesh=kmesh, shifted=shifted)
    full = make_kpoints(kmesh, shifted=shifted, time_reversal=False)
    mf = scf.KRHF(cell, full.absolute(cell))
    dm = density(cell, mf.kpts, nspin=1)
    energy = mf.energy_tot(dm[0].numpy()).real
    away = full.scaled - settings.kpoints.scaled[:, None]
    here = np.abs(away - np.round(away)).sum(-1).argmin(-1).tolist()
    own = dm[:, here].real if settings.kpoints.real else dm[:, here]
    found = total(crystal_data(settings).terms, Density.at_k_points(own.contiguous()))
    assert float(sum(found.parts.values())) == pytest.approx(energy, abs=EXACT)


@pytest.mark.usefixtures("_temporary_files")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("case", FITTED)
def test_density_fitting_is_pyscfs(case, crystal, density):
    xc, kmesh, spins = FITTED[case]
    cell = crystal("helium")
    kpts = cell.make_kpts(kmesh, wrap_around=True)
    mf = _object(cell, kpts, xc, spins).density_fit()
    dm = density(cell, kpts, nspin=1 + spins)
    _compare(mf, xc, dm if len(kpts) > 1 else dm.real.contiguous(), spins)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_half_of_the_k_points_is_enough(crystal, density):
    """The other half comes from complex conjugates; so does the energy's derivative."""
    cell = crystal("helium", ke_cutoff=60)
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(4, 1, 1), xc="hf", exxdiv="ewald")
    kpts = cell.make_kpts([4, 1, 1], wrap_around=True)
    dm = density(cell, kpts, nspin=1)
    mf = scf.KRHF(cell, kpts)
    fock = np.asarray(mf.get_fock(dm=dm[0].numpy()))
    away = cell.get_scaled_kpts(kpts) - ks.info.kpts[:, None]
    here = np.abs(away - np.round(away)).sum(-1).argmin(-1).tolist()
    assert len(here) == 3
    own = dm[:, here].contiguous()
    built = ks.build(own)
    assert float(built.energy) == pytest.approx(mf.energy_tot(dm[0].numpy()).real, abs=1e-9)
    np.testing.assert_allclose(built.fock[0].numpy(), fock[here], atol=1e-8)
    generator = torch.Generator().manual_seed(3)
    d = torch.randn(own.shape, generator=generator, dtype=own.dtype)
    d = d + d.mH
    claimed = float(weighted_trace(ks.data.weights, built.fock, d))
    energies = [float(ks.build(own + t * d).energy) for t in (1e-3, -1e-3)]
    assert claimed == pytest.approx((energies[0] - energies[1]) / 2e-3, rel=1e-7)
    change = ks.response(own, d)
    torch.testing.assert_close(change, ks.build(own + d).fock - built.fock, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hybrids_converge_and_have_bands(crystal):
    cell = crystal("diamond", ke_cutoff=25)
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1), xc="hse06")
    result = ks.scf()
    assert result.converged
    assert result.coarse_builds > result.fock_builds
    assert result.exxdiv == ks.info.exxdiv == "ewald"
    alone = ks.scf(two_grids=False)
    assert alone.energy == pytest.approx(result.energy, abs=2e-9)
    own = ks.fock_at(ks.info.kpts, result.dm)
    torch.testing.assert_close(own, ks.build(result.dm).fock, rtol=0, atol=1e-10)
    kpts = cell.make_kpts([3, 1, 1], wrap_around=True)
    mf = dft.KRKS(cell, kpts, xc="hse06")
    scaled = cell.get_scaled_kpts(kpts)
    dm = np.empty((3, cell.nao, cell.nao), dtype=complex)
    for k, p in zip(ks.info.kpts, result.dm[0].numpy(), strict=True):
        dm[np.abs(scaled - k).sum(-1).argmin()] = p
        dm[np.abs(scaled + k).sum(-1).argmin()] = p.conj()
    wanted = [[0.1, -0.2, 0.3]]
    theirs, _ = mf.get_bands(cell.get_abs_kpts(wanted), dm_kpts=dm)
    np.testing.assert_allclose(ks.bands_at(wanted).numpy()[0], theirs, rtol=0, atol=1e-8)


@pytest.mark.usefixtures("_temporary_files")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
def test_all_electron_crystals_converge(crystal):
    cell = crystal("helium")
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1), xc="pbe", density_fit=True)
    result = ks.scf()
    mf = dft.KRKS(cell, cell.make_kpts([3, 1, 1]), xc="pbe").density_fit()
    mf.conv_tol = 1e-10
    assert result.converged
    assert result.energy == pytest.approx(mf.kernel(), abs=2e-9)
    assert ks.info.integrals == "GDF"
    assert result.exxdiv is None
    with pytest.raises(InputError, match="give those k-points to the SCF"):
        ks.bands_at([[0, 0, 0]])
    with pytest.raises(InputError, match="give a density matrix"):
        ks.base_potential()
