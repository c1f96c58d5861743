"""What PySCF computes from a refined ``as_scf`` object is what it computes from its own SCF.

Asymmetric geometries, RKS and UKS, with and without density fitting, a pure and a hybrid
functional; the model is untrained, so that the refinement has work to do.
"""

import warnings

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER

BASIS = "6-31g"
PEROXYL = "O 0 0 0.05; O 0.05 1.32 0.1; H 0.8 1.7 0.2"
CASES = [
    pytest.param((WATER, 0, "pbe", True), id="RKS-fitted"),
    pytest.param((WATER, 0, "pbe0", False), id="RKS"),
    pytest.param((PEROXYL, 1, "pbe", True), id="UKS-fitted"),
    pytest.param((PEROXYL, 1, "pbe0", False), id="UKS"),
]


def network():
    mol = gto.M(atom=WATER, basis=BASIS, verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
        for name, value in found.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=1e-3)
    return found.eval()


def mean_field(atom, spin, xc, fitted):
    mol = gto.M(atom=atom, spin=spin, basis=BASIS, verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=xc)
    mf.grids.level = 0
    return mf.density_fit() if fitted else mf


def pair(atom, spin, xc, fitted):
    """The model's refined object, and PySCF's own converged one."""
    model = Model(network(), Method(basis=BASIS, grid_level=0, xc=xc, density_fit=fitted))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = model.as_scf(mean_field(atom, spin, xc, fitted), refine=1e-7)
    theirs = mean_field(atom, spin, xc, fitted)
    theirs.conv_tol, theirs.conv_tol_grad = 1e-12, 1e-7
    theirs.kernel()
    assert ours.converged
    assert theirs.converged
    return ours, theirs


@pytest.fixture(scope="module", params=CASES)
def refined(request):
    return pair(*request.param)


def test_energy_and_orbital_energies(refined):
    ours, theirs = refined
    assert abs(ours.e_tot - theirs.e_tot) < 1e-9
    assert abs(ours.energy_tot() - ours.e_tot) < 1e-9
    np.testing.assert_allclose(ours.mo_energy, theirs.mo_energy, atol=1e-6)
    np.testing.assert_array_equal(ours.mo_occ, theirs.mo_occ)


def test_analyze(refined):
    (ours, our_dipole), (theirs, their_dipole) = (mf.analyze(verbose=0) for mf in refined)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(our_dipole, their_dipole, atol=1e-5)
    assert np.linalg.norm(their_dipole) > 0.5


def test_gradients(refined):
    ours, theirs = (mf.Gradients().run().de for mf in refined)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(theirs).max() > 1e-2


def test_tddft(refined):
    values = []
    for mf in refined:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF's own
            excited = mf.TDDFT()
            excited.nstates, excited.conv_tol = 3, 1e-7
            excited.kernel()
        values.append((excited.e, excited.oscillator_strength()))
    (ours, our_strength), (theirs, their_strength) = values
    assert len(theirs) == 3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(our_strength, their_strength, atol=1e-4)


def stability(mf):
    """Both verdicts, and how far the orbitals it returns are from the ones it was given."""
    inside, outside, stable_inside, stable_outside = mf.stability(
        external=mf.mo_coeff.ndim == 2, return_status=True
    )
    del outside
    overlap, occ = mf.get_ovlp(), np.asarray(mf.mo_occ)
    density = mf.make_rdm1(np.asarray(inside), occ)
    return (
        stable_inside,
        stable_outside,
        float(np.abs(np.asarray((density - mf.make_rdm1()) @ overlap)).max()),
    )


def test_stability(refined):
    ours, theirs = (stability(mf) for mf in refined)
    assert ours[:2] == theirs[:2]
    assert ours[0]
    assert max(ours[2], theirs[2]) < 1e-6


@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "exact"])
def test_an_instability_is_found_as_pyscf_finds_it(fitted):
    ours, theirs = (stability(mf) for mf in pair("H 0 0 0; H 0.1 0.2 2.4", 0, "pbe", fitted))
    assert ours[:2] == theirs[:2] == (True, False)
