"""What was asked of a prediction: which builds it needs, and that each answer is given once."""

import re

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.predict.answer import Asked, At, Made, answer
from deeph_zero.predict.single import refine
from deeph_zero.prepared.molecule import basis_layout, prepare
from deeph_zero.settings.config import FORCE_TOL

METHOD = Method(xc="lda,vwn", basis="sto-3g", grid_level=0)
LIH = Molecule(numbers=np.array([3, 1]), coords=np.array([[0.1, 0, 0.2], [0.3, 0.1, 1.9]]))


@pytest.mark.parametrize(
    ("asked", "tol", "builds", "once"),
    [
        ({}, None, True, True),
        ({"certificate": False}, None, False, True),
        ({"refine": 1e-4}, 1e-4, True, False),
        ({"certificate": False, "refine": 1e-4}, 1e-4, True, False),
        ({"forces": True}, FORCE_TOL, True, False),
        ({"forces": True, "refine": 1e-4}, 1e-4, True, False),
        ({"certificate": False, "response": True}, None, True, False),
    ],
    ids=str,
)
def test_which_builds_are_needed(asked, tol, builds, once):
    found = Asked(**asked)
    assert (found.tol, found.builds, found.once) == (tol, builds, once)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"refine": -1e-5}, "expected a positive tolerance to refine to, got -1e-05"),
        ({"refine": float("nan")}, "expected a positive tolerance to refine to, got nan"),
        (
            {"refine": 1e-15},
            "refine: expected 1e-11 Eh or more, got 1e-15, which rounding does not",
        ),
        ({"compare_start": True}, "compare_start: expected refine=1e-05 with it; add it"),
    ],
)
def test_what_cannot_be_asked(asked, words):
    with pytest.raises(InputError, match=re.escape(words)):
        Asked(**asked)


@pytest.fixture
def ready():
    layout = basis_layout([build_mole(LIH, basis="sto-3g")])
    return prepare(LIH, METHOD, Reading(layout, cutoff=8.0, dtype=torch.float64))


def at(ready, fock, *, build=True):
    dm = ready.ks.density(fock)
    return At(ready.ks, dm, ready.ks.build(dm) if build else None)


def asked_of(ready, fock, where, **asked):
    made = asked.pop("made", None)
    return answer(ready, fock, where, Asked(**asked), method=METHOD, known=(None, None), made=made)


def test_the_base_itself_is_answered(ready):
    fock = ready.fock0
    found = asked_of(ready, fock, at(ready, fock), refine=1e-5, forces=True, compare_start=True)
    assert torch.equal(found.base, fock)
    assert found.doubts == ()
    assert found.refined.converged
    assert found.certificate.energy > found.refined.energy
    estimate = found.certificate.energy_estimate
    assert estimate == pytest.approx(found.refined.energy, abs=1e-4)
    assert found.standard_iterations + 1 >= found.refined.iterations
    np.testing.assert_allclose(found.forces.sum(0), 0.0, atol=1e-6)


def test_forces_are_those_of_the_refined_energy(ready):
    found = asked_of(ready, ready.fock0, at(ready, ready.fock0), forces=True)
    mol = gto.M(atom=list(zip(("Li", "H"), LIH.coords, strict=True)), unit="bohr",
                basis="sto-3g", verbose=0)  # fmt: skip
    mf = mol.RKS(xc="lda,vwn").density_fit()
    mf.grids.level, mf.conv_tol = 0, 1e-11
    assert found.refined.energy == pytest.approx(mf.kernel(), abs=1e-9)
    gradient = mf.nuc_grad_method()
    gradient.grid_response = True
    np.testing.assert_allclose(found.forces, -gradient.kernel(), atol=1e-5)


def test_what_was_made_before_is_not_made_again(ready):
    fock = ready.fock0
    where = at(ready, fock)
    done = refine(ready.ks, where.dm, where.built, tol=1e-4)
    certified = ready.ks.certificate(where.dm, where.built.fock, float(where.built.energy))
    made = Made(refined=done, facts={"standard_start": True}, certified=certified)
    before = ready.ks.builds
    found = asked_of(ready, fock, where, refine=1e-4, made=made)
    assert ready.ks.builds == before
    assert found.refined is done
    assert found.certificate is certified
    assert found.standard_start


def test_network_speed_costs_nothing(ready):
    before = ready.ks.builds
    found = asked_of(ready, ready.fock0, at(ready, ready.fock0, build=False), certificate=False)
    assert ready.ks.builds == before
    assert (found.energy, found.certificate, found.refined, found.response) == (None,) * 4
    torch.testing.assert_close(found.mo_energy, ready.ks.orbitals(ready.fock0).mo_energy)


def test_an_estimated_response_needs_no_refinement(ready):
    found = asked_of(ready, ready.fock0, at(ready, ready.fock0), certificate=False, response=True)
    assert found.refined is None
    assert found.response.estimated
    assert found.response.polarizability.shape == (3, 3)
