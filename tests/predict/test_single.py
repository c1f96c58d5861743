"""One prediction: what follows from a matrix, and where its refinement begins."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.grids import AOGrid
from deeph_zero.kohnsham import KohnSham
from deeph_zero.molecule import Molecule
from deeph_zero.predict.record import prediction_record
from deeph_zero.predict.single import (
    NEAR_ENOUGH,
    assemble,
    builds_once,
    canonical_orbitals,
    is_worse,
    refine,
    refine_best,
)

COORDS = np.array([[0.1, 0.0, 0.2], [0.3, 0.1, 1.9]])
LIH = Molecule(numbers=np.array([3, 1]), coords=COORDS, file="lih.xyz")


def mole(charge=0):
    atoms = list(zip(("Li", "H"), COORDS, strict=True))
    return gto.M(atom=atoms, unit="bohr", basis="sto-3g", charge=charge, spin=charge, verbose=0)


@pytest.fixture(params=[0, 1], ids=["closed", "open"])
def ks(request):
    return KohnSham.from_pyscf(mole(request.param), xc="lda,vwn", grid_level=0)


def predicted(ks, size=0.02):
    """A matrix that is not that of its own density."""
    fock = ks.build(ks.data.dm_guess).fock
    off = torch.randn(fock.shape, generator=torch.Generator().manual_seed(3), dtype=fock.dtype)
    return fock + size * (off + off.mT)


def made(ks, **settings):
    fock = predicted(ks)
    given = {"certificate": True, "coupled": False} | settings
    return assemble(LIH, ks, fock, ks.density(fock), None, **given)


def test_everything_is_of_the_matrixs_own_density(ks):
    found = made(ks)
    mol = mole(ks.info.charge)
    mf = (dft.UKS if ks.unrestricted else dft.RKS)(mol, xc="lda,vwn").density_fit()
    mf.grids.level = 0
    dm = found.dm.numpy()
    assert found.energy == pytest.approx(mf.energy_tot(dm=dm), abs=1e-9)
    rebuilt = mf.get_fock(dm=dm)
    np.testing.assert_allclose(found.fock_rebuilt, rebuilt, atol=1e-9)
    np.testing.assert_allclose(found.mo_energy, mf.eig(rebuilt, mf.get_ovlp())[0], atol=1e-8)
    off = np.abs(found.fock.numpy() - rebuilt)
    assert found.residual_mae == pytest.approx(off.mean(), rel=1e-6)
    assert found.n_electrons == pytest.approx(mol.nelectron, abs=0.02)
    if ks.unrestricted:
        coeff = [mf.eig(found.fock.numpy(), mf.get_ovlp())[1][s] for s in range(2)]
        occ = [np.arange(6) < n for n in mol.nelec]
        expected = mf.spin_square([c[:, o] for c, o in zip(coeff, occ, strict=True)])[0]
        assert found.spin_square == pytest.approx(expected, abs=1e-9)
    else:
        assert found.spin_square is None
    assert (found.refined, found.forces, found.intervals) == (None, None, None)
    assert torch.equal(torch.from_numpy(found.refined_dipole), torch.from_numpy(found.dipole))


def test_without_a_certificate_nothing_is_built(ks):
    fock = predicted(ks)
    before = ks.fock_builds
    found = assemble(LIH, ks, fock, ks.density(fock), None, certificate=False, coupled=True)
    assert ks.fock_builds == before
    nothing = ("fock_rebuilt", "energy", "certificate", "residual_mae", "n_electrons")
    assert [getattr(found, name) for name in nothing] == [None] * 5
    torch.testing.assert_close(found.mo_energy, ks.orbitals(fock).mo_energy)
    # the levels that are known are those of H, and not called as those of F[P] are
    entry = prediction_record(found)
    nelec = ks.layer.nelec if found.mo_energy.ndim == 2 else ks.layer.nelec[:1]
    levels = found.mo_energy.reshape(len(nelec), -1).tolist()
    pairs = [(e[n - 1], e[n]) for e, n in zip(levels, nelec, strict=True)]
    for k, name in enumerate(("homo", "lumo")):
        expected = [pair[k] for pair in pairs]
        assert entry[f"network_{name}"] == (expected if len(expected) == 2 else expected[0])
        assert entry[name] is None


def test_a_build_that_was_made_is_not_made_again(ks):
    fock = predicted(ks)
    dm = ks.density(fock)
    built = ks.build(dm)
    before = ks.fock_builds
    found = assemble(LIH, ks, fock, dm, None, certificate=True, coupled=False, built=built)
    assert ks.fock_builds == before
    assert found.energy == float(built.energy)


def test_charges_add_up_and_are_kept(ks):
    found = made(ks)
    one, same = found.populations(), found.populations(refined=False)
    assert one is same
    for name in ("mulliken_charges", "lowdin_charges"):
        assert float(getattr(one, name).sum()) == pytest.approx(ks.info.charge, abs=1e-9)
    done = refine(ks, found.dm, tol=1e-5)
    both = dataclasses.replace(found, refined=done)
    final, own = both.populations(), both.populations(refined=False)
    torch.testing.assert_close(own.mulliken_charges, one.mulliken_charges)
    assert float((final.mulliken_charges - own.mulliken_charges).abs().max()) > 1e-4


def test_the_refined_spin_is_that_of_the_refined_density(ks):
    fock = predicted(ks)
    dm = ks.density(fock)
    done = refine(ks, dm, tol=1e-6)
    found = assemble(LIH, ks, fock, dm, done, certificate=True, coupled=False)
    entry = prediction_record(found)
    if not ks.unrestricted:
        assert "refined_spin_square" not in entry
        return
    mf = dft.UKS(mole(ks.info.charge), xc="lda,vwn").density_fit()
    mf.grids.level, mf.conv_tol = 0, 1e-12
    mf.kernel()
    assert entry["refined_spin_square"] == pytest.approx(mf.spin_square()[0], abs=1e-6)
    assert abs(entry["spin_square"] - entry["refined_spin_square"]) > 1e-5


def test_canonical_orbitals_are_those_of_the_density(ks):
    found = made(ks)
    coeff, energy, occ = canonical_orbitals(ks, found)
    s, dm = found.overlap, found.dm
    torch.testing.assert_close((coeff * occ.unsqueeze(-2)) @ coeff.mT, dm, atol=1e-9, rtol=0)
    eye = torch.eye(coeff.shape[-1], dtype=coeff.dtype).expand_as(coeff)
    torch.testing.assert_close(coeff.mT @ s @ coeff, eye, atol=1e-9, rtol=0)
    inside = coeff.mT @ found.fock_rebuilt @ coeff
    same = occ.unsqueeze(-1) == occ.unsqueeze(-2)
    torch.testing.assert_close(
        torch.where(same, inside, 0.0), torch.diag_embed(energy), atol=1e-9, rtol=0
    )
    assert bool((occ[..., 1:] <= occ[..., :-1]).all()), "occupied first"
    for n in (occ > 0), (occ == 0):
        for row, keep in zip(energy.reshape(-1, 6), n.reshape(-1, 6), strict=True):
            assert bool((row[keep][1:] >= row[keep][:-1]).all()), "each space by energy"


# ---- refinements ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [0.0, -1e-5, math.nan])
def test_a_tolerance_is_positive(ks, tol):
    with pytest.raises(InputError, match="positive tolerance to refine to"):
        refine(ks, ks.data.dm_guess, tol=tol)


def test_a_refinement_ends_where_pyscf_does(ks):
    done = refine(ks, made(ks).dm, tol=1e-6)
    mf = (dft.UKS if ks.unrestricted else dft.RKS)(mole(ks.info.charge), xc="lda,vwn").density_fit()
    mf.grids.level = 0
    mf.conv_tol = 1e-11
    assert done.converged
    assert done.energy == pytest.approx(mf.kernel(), abs=1e-9)


def start(ks):
    dm = ks.data.dm_guess
    return dm, ks.build(dm)


def scaled(standard, part):
    """A build whose commutator is a part of the standard one's."""
    dm, built = standard
    return dm, dataclasses.replace(built, fock=part * built.fock)


@pytest.mark.parametrize(
    ("part", "worse"),
    [(0.5 * NEAR_ENOUGH, False), (2 * NEAR_ENOUGH, True), (math.nan, True), (math.inf, True)],
)
def test_a_start_worse_than_superposed_atoms_is_told(ks, part, worse):
    standard = start(ks)
    assert is_worse(ks, scaled(standard, part), standard, tol=1e-6) is worse


def test_what_is_converged_is_no_worse_than_atoms_without_a_gradient():
    """Symmetry makes both commutators of H2 vanish, up to rounding of any ratio."""
    mol = gto.M(atom="H 0 0 0; H 0 0.1 0.8", basis="sto-3g", verbose=0)
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    dm = ks.scf().dm
    done, standard = (dm, ks.build(dm)), start(ks)
    assert not is_worse(ks, done, standard, tol=1e-8)
    assert not is_worse(ks, done, (standard[0], scaled(standard, 0.0)[1]), tol=1e-8)
    assert is_worse(ks, scaled(done, math.nan), standard, tol=1e-8)


def test_the_better_start_is_taken(ks):
    standard = start(ks)
    good = ks.scf(conv_tol=1e-4, conv_tol_grad=1e-2).dm
    near = good, ks.build(good)
    done, facts = refine_best(ks, near, standard[1], tol=1e-5, compare_start=True)
    assert facts["standard_start"] is False
    assert done.iterations < facts["standard_iterations"]
    wild = scaled(standard, 1.0)
    again, facts = refine_best(ks, wild, standard[1], tol=1e-5, compare_start=False)
    assert facts["standard_start"] is True
    assert "standard_iterations" not in facts
    assert again.energy == pytest.approx(done.energy, abs=1e-8)
    # nobody made the build at the superposed atoms: it would cost one
    _, facts = refine_best(ks, wild, None, tol=1e-5, compare_start=False)
    assert facts["standard_start"] is False


@pytest.mark.parametrize(("level", "kept"), [(0, True), (2, False)])
def test_values_of_one_build_are_not_kept_where_a_coarse_grid_estimates(level, kept):
    ks = KohnSham.from_pyscf(mole(), xc="lda,vwn", grid_level=level)
    other = KohnSham.from_pyscf(mole(), xc="lda,vwn", grid_level=level)
    assert isinstance(ks.data.grid, AOGrid)
    builds_once(ks)
    one, two = (layer.build(layer.data.dm_guess) for layer in (ks, other))
    assert torch.equal(one.fock, two.fock)
    assert (ks.layer.coarse is None) is kept
