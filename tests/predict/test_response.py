"""Responses of predictions: refined states against PySCF and differences, estimates, records."""

import dataclasses

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.hessian import thermo

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.hdf5 import DATASETS
from deeph_zero.kohnsham import KohnSham
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.derivatives import Response
from deeph_zero.predict.record import prediction_arrays, prediction_record
from deeph_zero.predict.response import of_prediction, of_refined
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER

COORDS = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])


@pytest.fixture(scope="module")
def model():
    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    method = Method(basis="sto-3g", xc="lda,vwn", grid_level=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Model(FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval(), method)


@pytest.fixture(scope="module")
def refined(model):
    return model.predict(_water(), refine=1e-7, response=True)


def _water():
    return Molecule(numbers=np.array([8, 1, 1]), coords=COORDS)


def _mean_field():
    mol = gto.M(atom=list(zip("OHH", COORDS, strict=True)), unit="bohr", basis="sto-3g", verbose=0)
    mf = dft.RKS(mol, xc="lda,vwn").density_fit()
    mf.grids.level = 1
    mf.conv_tol = 1e-11
    return mf


@pytest.mark.reference
def test_frequencies_and_intensities_of_a_refined_state(refined):
    mf = _mean_field().run()
    second = mf.Hessian().kernel()
    for atom in range(3):  # their grid stands still: translations cost energy
        second[atom, atom] -= second[atom].sum(0)
    theirs = thermo.harmonic_analysis(mf.mol, second, imaginary_freq=False)
    found = refined.response.vibrations
    np.testing.assert_allclose(found.frequencies, theirs["freq_wavenumber"], atol=0.1)
    # an intensity is the square of the dipole's slope along its mode, here by differences
    k, step = 1, 1e-2
    dipoles = []
    for sign in (1, -1):
        moved = mf.mol.set_geom_(COORDS + sign * step * found.modes[k], unit="bohr", inplace=False)
        there = mf.copy().reset(moved).run()
        dipoles.append(there.dip_moment(unit="au", verbose=0))
    slope = (dipoles[0] - dipoles[1]) / (2 * step)
    assert found.intensities[k] == pytest.approx(974.88 * slope @ slope, rel=2e-4)


def test_a_refined_state_is_the_layers_own(refined):
    ks = KohnSham.from_pyscf(_mean_field())
    torch.testing.assert_close(
        torch.from_numpy(refined.response.polarizability), ks.polarizability(), atol=1e-5, rtol=0
    )
    assert not refined.response.estimated
    entry = prediction_record(refined)
    assert entry["response_estimated"] is False
    assert len(entry["frequencies"]) == len(entry["ir_intensities"]) == 3
    assert "polarizability_error_estimate" not in entry
    arrays, _ = prediction_arrays(refined)
    assert arrays["dipole_derivatives"].shape == (3, 3, 3)
    assert arrays["normal_modes"].shape == (3, 3, 3)


def test_an_estimate_says_how_far_it_is(model, refined):
    found = model.predict(_water(), response=True, certificate=False)
    guess, exact = found.response, refined.response
    assert guess.estimated
    assert guess.vibrations is None
    error = np.abs(guess.polarizability - exact.polarizability).max()
    assert 0 < error < guess.polarizability_error
    slopes = np.abs(guess.dipole_derivatives - exact.dipole_derivatives).max()
    assert 0 < slopes < guess.dipole_derivatives_error
    entry = prediction_record(found)
    assert entry["polarizability_error_estimate"] == guess.polarizability_error
    assert "frequencies" not in entry
    assert model.predict(_water()).response is None


def test_unconverged_refinements_have_no_response(model, refined):
    mf = _mean_field()
    short = dataclasses.replace(refined.refined, converged=False)
    with pytest.raises(ComputationError, match="did not get there"):
        of_refined(KohnSham.from_pyscf(mf), short, mf)
    with pytest.raises(InputError, match="response"):
        model.predict_mean_field(_water(), respons=True)


def test_evenly_filled_levels_have_no_estimate():
    mol = gto.M(atom="O 0 0 0; H 0 0 1", spin=1, basis="sto-3g", verbose=0)
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    built = ks.build(ks.data.dm_guess)
    with pytest.raises(InputError, match="filled evenly; give refine=1e-06"):
        of_prediction(ks, ks.density(built.fock), built.fock)


def test_files_hold_it(refined):
    arrays, attributes = prediction_arrays(refined)
    given = {name: value for name, value in arrays.items() if value is not None}
    assert set(given) <= set(DATASETS)
    assert attributes["refined"]


def test_a_response_is_complete():
    whole = Response(polarizability=np.eye(3), dipole_derivatives=np.zeros((1, 3, 3)))
    assert not whole.estimated
    assert dataclasses.replace(whole, polarizability_error=0.1).estimated
