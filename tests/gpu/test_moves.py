"""What is made on the processor comes to the device where something there meets it, and back."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.integrals.ao_engine import make_engine
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.jobs.label import _prepared
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.batch.padded import PaddedBucket
from deeph_zero.ks.linalg.orthogonalise import orthogonaliser
from deeph_zero.molecule import Molecule
from deeph_zero.predict import response
from deeph_zero.predict.refined_together import instability
from deeph_zero.settings.config import LabelConfig
from deeph_zero.train.average import WeightAverage

from .test_places import BOTH, molecule, same, skewed, some, symmetric
from .test_predictions import hydrogen, model
from .test_teachers import taught

pytestmark = pytest.mark.gpu


def apart(distance):
    return gto.M(atom=f"H 0 0 0; H 0 .1 {distance}", basis="sto-3g", verbose=0)


# ---- integrals -----------------------------------------------------------------------------------


def test_an_electric_field():
    def work(device):
        ks = KohnSham.from_pyscf(
            molecule(), xc="svwn", grid_level=0, field=(0.01, 0.02, -0.01), device=device
        )
        built = ks.build(ks.data.dm_guess)
        return built.energy, built.fock

    same(work)


def test_functions_of_libcint():
    mol = molecule()
    points = some(5, 3).numpy()
    some_shells = np.array([True, False, True, True])

    def work(device):
        engine = make_engine("libcint", mol, ao_basis(mol), points, deriv=1, device=device)
        return [engine.rows(slice(1, 4), shells) for shells in (np.ones(4, bool), some_shells)]

    same(work)


def test_dependent_functions_are_dropped():
    vectors = torch.linalg.eigh(symmetric(4)).eigenvectors
    ovlp = (vectors * torch.tensor([1e-9, 0.5, 1.0, 1.5])) @ vectors.mT

    def work(device):
        x = orthogonaliser(ovlp.to(device), 1e-6)
        assert x.shape == (4, 3)
        return [x @ x.mT]

    same(work)


# ---- batches and states --------------------------------------------------------------------------


def test_tolerances_of_degenerate_levels():
    def work(device):
        layers = [
            KohnSham.from_pyscf(apart(r), xc="svwn", grid_level=0, device=device).layer
            for r in (0.7, 0.8)
        ]
        layers[1].degeneracy_tol = 1e-3
        bucket = PaddedBucket(layers)
        focks = [one.data.hcore[None] for one in layers]
        return bucket.densities(focks)

    same(work)


@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
def test_an_open_shell_that_hides(xc):
    """What fails in there is no error: it is a hint, and would be missing."""
    found = []
    for device in BOTH:
        ks = KohnSham.from_pyscf(apart(1.9), xc=xc, grid_level=0, device=device)
        near = ks if device == "cpu" else KohnSham.from_pyscf(apart(1.9), xc=xc, grid_level=0)
        done = ks.scf(hint=False)
        found.append(instability(near, ks, done.dm.cpu(), done.fock.cpu()))
    assert None not in found
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_other_starts_of_a_label():
    config = LabelConfig.parse({"init_guess": "huckel", "method": {"basis": "sto-3g"}})

    def work(device):
        given = Molecule(numbers=np.array([1, 1]), coords=np.array([[0.0, 0, 0], [0, 0.1, 1.4]]))
        return [_prepared(given, config, device, None, None)[1]]

    same(work)


def test_motion_of_nuclei_with_non_local_correlation():
    mf = dft.RKS(apart(0.7), xc="wb97m-v")
    mf.grids.level = mf.nlcgrids.level = 0

    def work(device):
        ks = KohnSham.from_pyscf(mf, device=device)
        moved = ks.moving_integrals().fock(ks.to_layer(ks.data.dm_guess))
        return moved.fock, moved.inner

    same(work)


def test_responses_of_predictions():
    mol = apart(0.7)

    def work(device):
        ks = KohnSham.from_pyscf(mol, xc="svwn", grid_level=0, device=device)
        dm = ks.density(ks.build(ks.data.dm_guess).fock)
        found = response.of_prediction(ks, dm, ks.build(dm).fock)
        kept = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
        slopes = ks.dipole_derivatives(response._on_device(kept, ks))
        assert slopes.device.type == device
        arrays = found.polarizability, found.dipole_derivatives, slopes.cpu().numpy()
        return [torch.from_numpy(one).to(device) for one in arrays]

    same(work, atol=1e-5)


# ---- models --------------------------------------------------------------------------------------


def test_derivatives_of_a_model():
    def work(device):
        slopes = model(device, inputs="geometry").fock_gradient(hydrogen(0), atoms=[1])
        assert slopes.fock.device.type == "cpu"
        return [one.to(device) for one in (slopes.fock, slopes.perturbation)]

    same(work, atol=1e-6)


def test_a_network_of_tensor_products():
    def work(device):
        made = model(device, inputs="geometry", interaction="tensor-product")
        predicted, _ = made.predict_layer(hydrogen(0), certificate=False)
        return [predicted.fock.to(device)]

    same(work, atol=1e-6)


def test_weights_that_were_kept():
    """A checkpoint has them on the processor."""

    def work(device):
        weights = [some(3, 2).to(device), some(4).to(device)]
        average = WeightAverage(weights, 0.5)
        average.restore({"updates": 2, "mean": [0.5 * w.cpu() for w in weights]})
        average.update()
        average.adopt()
        return weights

    same(work)


def test_a_teacher_that_was_kept():
    """Its history goes on where its matrices are."""

    def work(device):
        (problem,), lessons = taught(device, 1)
        lessons.advance([0])
        kept = {name: value.cpu() for name, value in problem.teacher.state().items()}
        (again,), lessons = taught(device, 1)
        again.teacher.restore(kept)
        mean = again.teacher.diis.extrapolate()
        lessons.advance([0])
        return again.teacher.target, mean

    same(work, atol=1e-6)


# ---- crystals ------------------------------------------------------------------------------------


def test_forces_and_blocks_of_a_crystal():
    cell = skewed()

    def work(device):
        ks = KohnSham.from_pyscf(cell, kmesh=(1, 1, 1), xc="svwn", device=device)
        done = ks.scf(max_cycle=3)
        found = ks.forces(done), ks.real_space().fock.values
        return [one.to(device) for one in found]

    same(work, atol=1e-6)
