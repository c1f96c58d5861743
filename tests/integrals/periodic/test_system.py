"""Energy and Fock matrix of crystals against PySCF's FFTDF, at the same density and mesh."""

import numpy as np
import pytest
import torch
from pyscf.pbc import dft

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic import system
from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.system import crystal_data
from deeph_zero.ks.terms.term import Density
from deeph_zero.ks.terms.terms import total

EXACT = 1e-11
"""Eh per cell; the arithmetic is the same, so that only rounding is left."""

CASES = {
    "LDA, two k": ("diamond", "lda,vwn", [2, 1, 1], False, {}),
    "PBE, real and complex k": ("diamond", "pbe", [3, 1, 2], False, {}),
    "r2SCAN, spins": ("diamond", "r2scan", [2, 1, 1], True, {}),
    "PBE, spins, several k": ("lih", "pbe", [1, 3, 1], True, {}),
    "slab, dimension 2": ("slab", "pbe", [2, 1, 1], False, {"dimension": 2}),
    "slab, dimension 2, spins": ("slab", "lda,vwn", [1, 1, 1], True, {"dimension": 2}),
    "even mesh": ("diamond", "pbe", [2, 1, 1], False, {"mesh": [10, 12, 11]}),
    "labels and ghosts": ("labels", "lda,vwn", [2, 1, 1], False, {}),
    "all electrons": ("helium", "pbe", [1, 2, 1], False, {}),
}


def _pyscf(cell, kpts, xc, spins):
    return (dft.KUKS if spins else dft.KRKS)(cell, kpts, xc=xc)


def _reference(mf, dm):
    veff, hcore = mf.get_veff(dm=dm), mf.get_hcore()
    energy = mf.energy_elec(dm, hcore, veff)[0] + mf.energy_nuc()
    return energy.real, np.asarray(hcore + veff), veff


def _sum(terms, dm):
    found = total(terms, Density.at_k_points(dm))
    return float(sum(found.parts.values())), found.fock


@pytest.mark.filterwarnings("ignore:.*spin.*:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_energy_and_fock_are_pyscfs(case, crystal, density):
    name, xc, kmesh, spins, settings = CASES[case]
    cell = crystal(name, **settings)
    kpts = cell.make_kpts(kmesh, wrap_around=True)
    mf = _pyscf(cell, kpts, xc, spins)
    dm = density(cell, kpts, nspin=1 + spins)
    given = dm.numpy() if spins else dm[0].numpy()
    energy, fock, veff = _reference(mf, given)
    data = crystal_data(crystal_calculation(mf))
    dm = dm.to(data.ovlp.dtype) if data.ovlp.is_complex() else dm.real
    ours, matrix = _sum(data.terms, dm)
    assert ours == pytest.approx(energy, abs=EXACT)
    np.testing.assert_allclose(matrix.numpy(), fock.reshape(matrix.shape), atol=EXACT)
    built = data.mesh_term.build(dm)
    assert float(built.parts["coulomb"]) == pytest.approx(veff.ecoul.real, abs=EXACT)
    assert float(built.parts["xc"]) == pytest.approx(veff.exc.real, abs=EXACT)


@pytest.mark.parametrize("spins", [False, True])
@pytest.mark.parametrize("kpt", [[0, 0, 0], [0.21, 0.5, -0.13]])
def test_objects_with_one_k_point(kpt, spins, crystal, density):
    cell = crystal("diamond")
    where = cell.get_abs_kpts(np.array(kpt))
    mf = (dft.UKS if spins else dft.RKS)(cell, where, xc="pbe")
    data = crystal_data(crystal_calculation(mf))
    dm = density(cell, where.reshape(1, 3), nspin=1 + spins)
    given = dm[:, 0].numpy() if data.ovlp.is_complex() else dm[:, 0].real.numpy()
    energy, fock, _ = _reference(mf, given if spins else given[0])
    ours, matrix = _sum(data.terms, torch.from_numpy(given)[:, None])
    assert data.ovlp.is_complex() == any(kpt)
    assert ours == pytest.approx(energy, abs=EXACT)
    np.testing.assert_allclose(matrix[:, 0].numpy(), fock.reshape(given.shape), atol=EXACT)


def test_a_repulsion_of_nuclei_that_users_set(crystal):
    cell = crystal("helium")
    own = cell.enuc
    assert crystal_data(crystal_calculation(cell)).constant.energy == pytest.approx(own, abs=1e-13)
    cell.enuc = own + 0.25
    for given in (cell, dft.RKS(cell)):
        data = crystal_data(crystal_calculation(given))
        assert data.constant.energy == pytest.approx(own + 0.25, abs=1e-13)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("kmesh", "mesh"), [((3, 2, 1), [9, 9, 9]), ((2, 1, 2), [8, 9, 8])])
def test_half_of_the_k_points_is_enough(kmesh, mesh, shifted, crystal, density):
    cell = crystal("diamond", mesh=mesh)
    settings = crystal_calculation(cell, kmesh=kmesh, shifted=shifted)
    half, full = settings.kpoints, make_kpoints(kmesh, shifted=shifted, time_reversal=False)
    mf = _pyscf(cell, full.absolute(cell), "pbe", False)
    dm = density(cell, full.absolute(cell), nspin=1)
    energy, fock, _ = _reference(mf, dm[0].numpy())
    assert len(half.scaled) < len(full.scaled) or half.real
    assert half.weights.sum() == pytest.approx(1)
    here = [_position(full.scaled, k) for k in half.scaled]
    there = [_position(full.scaled, k) for k in half.partners]
    data = crystal_data(settings)
    given = dm[:, here].real if half.real else dm[:, here]
    ours, matrix = _sum(data.terms, given.contiguous())
    assert ours == pytest.approx(energy, abs=EXACT)
    # PySCF's own matrices at k and -k differ by what its mesh misses
    mean = 0.5 * (fock[here] + fock[there].conj())
    np.testing.assert_allclose(matrix[0].numpy(), mean, atol=EXACT)


def _position(points, k):
    distance = points - k
    return int(np.abs(distance - np.round(distance)).max(-1).argmin())


def test_values_are_made_again_beyond_the_memory(crystal, density):
    cell = crystal("diamond")
    settings = crystal_calculation(cell, kmesh=(2, 1, 1))
    dm = density(cell, settings.kpoints.absolute(cell), nspin=1)
    kept, again = crystal_data(settings), crystal_data(settings, ao_memory_mb=0.0)
    assert kept.mesh_term.grid.keeps
    assert not again.mesh_term.grid.keeps
    for one, other in zip(_sum(kept.terms, dm), _sum(again.terms, dm), strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-12)


def test_a_supercell_is_its_cell_at_more_k_points(crystal):
    """Superposed atoms on both: potentials and the energies of their densities agree."""
    from pyscf.pbc import tools

    cell = crystal("diamond", mesh=[11, 11, 11])
    big = tools.super_cell(cell, [2, 1, 1])
    big.mesh = [22, 11, 11]
    one = crystal_data(crystal_calculation(cell, kmesh=(2, 1, 1)))
    two = crystal_data(crystal_calculation(big))
    a, _ = one.mesh_term.potential_of(one.rho_guess())
    b, _ = two.mesh_term.potential_of(two.rho_guess())
    for name in a:
        assert float(b[name]) == pytest.approx(2 * float(a[name]), abs=1e-6)


def test_more_k_points_than_memory_are_refused(crystal, monkeypatch):
    monkeypatch.setattr(system, "available_memory_mb", lambda: 1e-3)
    cell = crystal("helium")
    system.checked_overlap(cell, make_kpoints((1, 1, 1)), "cpu")
    with pytest.raises(
        InputError, match=r"of 14 k-points and \d+ functions within 0 MB, they take"
    ):
        system.checked_overlap(cell, make_kpoints((3, 3, 3)), "cpu")
    with pytest.raises(InputError, match=r"at most 40000 k-points .* for an SCF, got 48672; use a"):
        system.checked_overlap(cell, make_kpoints((46, 46, 46)), "cpu")
