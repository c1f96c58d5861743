"""Quadrature from moments, against a spectrum that is known, and the minimum it leads to."""

import numpy as np
import pytest
import torch
from pyscf import gto

import deeph_zero as dz
from deeph_zero.ks.response.quadratic import (
    STIFFEST,
    QuadraticModel,
    nodes,
    response_share,
    semicanonical,
)


@pytest.mark.parametrize(("alpha", "variance", "soft"), [(1.4, 0.02, 1.0), (1.1, 0.3, 0.75)])
def test_nodes_have_the_moments(alpha, variance, soft):
    low, high = nodes(alpha, variance, soft)
    assert low == soft < alpha < high
    share = (alpha - low) / (high - low)
    values, weights = np.array([low, high]), np.array([1 - share, share])
    assert weights @ values == pytest.approx(alpha)
    assert weights @ values**2 - alpha**2 == pytest.approx(variance)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("variance", [0.0, 0.1, 50.0])
@pytest.mark.parametrize("soft", [0.75, 1.0])
def test_nodes_stay_where_they_may_be(alpha, variance, soft):
    low, high = nodes(alpha, variance, soft)
    assert 0 < low < alpha <= high
    assert low == soft or low >= 0.5 * alpha
    assert high >= alpha + variance / alpha  # no node stiffer than the moments allow
    if variance < 0.1:
        assert high <= max(STIFFEST, 2 * alpha) * 1.001


def test_the_share_of_the_response_fits_a_spectrum_best():
    alpha, soft, stiff = 1.3, 0.8, 2.5
    share = (alpha - soft) / (stiff - soft)
    factor = response_share(alpha, soft, stiff)

    def miss(f):
        parts = ((1 - share, soft), (share, stiff))
        return sum(w * ((z - 1) / z - f * (z - 1)) ** 2 for w, z in parts)

    assert 1 / stiff <= factor <= 1 / soft
    assert miss(factor) <= min(miss(factor - 1e-3), miss(factor + 1e-3))
    assert response_share(1.3, 1.0, 2.5) == pytest.approx(1 / 2.5)
    assert response_share(1.0, 1.0, 1.0) == 1.0


@pytest.fixture(scope="module")
def disturbed():
    """Stretched LiH with a density beside the converged one, which is known."""
    ks = dz.KohnSham.from_pyscf(gto.M(atom="Li 0 0 .1; H .3 .2 1.7", basis="sto-3g"), xc="hf")
    done = ks.scf(conv_tol=1e-12)
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(ks.nao, ks.nao))
    fock = done.fock + 4e-3 * torch.from_numpy(noise + noise.T)
    dm = ks.density(fock)
    built = ks.build(dm)
    layer = ks.layer
    model = QuadraticModel(layer, dm.unsqueeze(0), built.fock.unsqueeze(0))
    return ks, done, dm, built, model


def test_the_step_leads_to_the_minimum(disturbed):
    _, done, dm, built, model = disturbed
    above = float(built.energy) - float(done.energy)
    step = model.step()
    assert above > 1e-5
    assert step.lowering == pytest.approx(above, rel=0.06)
    assert abs(step.lowering - above) < 0.4 * abs(model.cheap - above)
    before = float((dm - done.dm).norm())
    after = float((dm + step.ddm[0] - done.dm).norm())
    assert after < 0.25 * before


def test_semicanonical_orbitals_are_of_both(disturbed):
    ks, _, dm, built, model = disturbed
    coeff, occ, fock = semicanonical(ks.layer, dm.unsqueeze(0), built.fock.unsqueeze(0))
    occupied = occ[0] > 1
    assert occupied.sum() == 2
    inside = fock[0][occupied][:, occupied]
    assert float((inside - inside.diagonal().diag()).abs().max()) < 1e-10
    back = coeff[0] @ occ[0].diag() @ coeff[0].mT
    assert float((back - dm).abs().max()) < 1e-5
    between = fock[0][~occupied][:, occupied]
    assert model.gradient_rms == pytest.approx(float(between.square().mean().sqrt()), rel=1e-6)
    assert model.aufbau
