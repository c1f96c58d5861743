"""The history of an SCF: what is remembered, forgotten and mixed."""

import pytest
import torch

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.scf.mixing import Mixer, Mixture
from deeph_zero.ks.scf.result import SCFSettings


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def no_layer(smearing=0.0):
    """A layer of which only this is asked."""
    layer = object.__new__(KohnShamLayer)
    layer.smearing = smearing
    return layer


def mixer(smearing=0.0, **settings):
    return Mixer(no_layer(smearing), SCFSettings(**settings))


def test_the_oldest_build_is_forgotten_everywhere():
    history = mixer(diis_space=3)
    builds = [(random(1, 4, 4, seed=k), random(1, 4, 4, seed=10 + k)) for k in range(5)]
    errors = [random(2, 3, seed=20 + k) for k in range(5)]
    for (fock, dm), error in zip(builds, errors, strict=True):
        history.add(fock, dm, error)
    assert len(history) == 3
    assert all(kept is own[0] for kept, own in zip(history.focks, builds[2:], strict=True))
    flat = torch.stack([error.reshape(-1) for error in errors[2:]])
    torch.testing.assert_close(torch.tensor(history._gram, dtype=torch.float64), flat @ flat.mT)


def test_known_products_are_taken():
    one, other = mixer(), mixer()
    errors = [random(5, seed=k) for k in range(3)]
    for k, error in enumerate(errors):
        fock = random(1, 2, 2, seed=9)
        one.add(fock, fock, error)
        products = [float(error @ before) for before in errors[: k + 1]]
        other.add(fock, fock, error, products)
    torch.testing.assert_close(torch.tensor(one._gram), torch.tensor(other._gram))


def test_errors_that_cancel_are_extrapolated_away():
    """Of a problem whose error is linear DIIS finds the matrix without any."""
    history = mixer(diis_space=8)
    slope, zero = random(3, 2, seed=1), random(2, seed=2)
    for k in range(3):
        x = random(2, seed=30 + k)
        fock = torch.diag(torch.cat([x, x.new_zeros(1)])).unsqueeze(0)
        history.add(fock, fock, slope @ (x - zero))
    found = history.extrapolated()
    mean = Mixture(weights=found.weights, focks=found.focks, dms=found.dms)
    assert sum(found.weights) == pytest.approx(1.0)
    matrix = mean.matrix(no_layer(), 0.0)[0]
    torch.testing.assert_close(matrix.diagonal()[:2], zero, rtol=0, atol=1e-10)


def test_before_diis_matrices_are_damped():
    history = mixer(damp=0.3, diis_start=3)
    new, old = random(1, 3, 3, seed=1), random(1, 3, 3, seed=2)
    found = history.next(2, new, old, downhill=False)
    assert not found.dielectric
    torch.testing.assert_close(found.matrix(no_layer(), 0.0), 0.7 * new + 0.3 * old)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({}, True), ({"dielectric": False}, False), ({"damp": 0.1}, False),
     ({"level_shift": 0.2}, False), ({"smearing": 0.01}, False)],
)  # fmt: skip
def test_the_dielectric_step_follows_unchanged_matrices_alone(settings, wanted):
    fock = random(1, 3, 3, seed=1)
    assert mixer(**settings).first(fock, fock, undecided=False).dielectric == wanted
    history = mixer(**settings)
    assert not history.first(fock, fock, undecided=True).dielectric
    history.add(fock, fock, random(4, seed=3))
    assert not history.next(5, fock, fock, downhill=False).dielectric  # and never again


def test_a_changed_problem_takes_the_place_of_the_old():
    history = mixer()
    fock = random(1, 2, 2, seed=1)
    history.add(fock, fock, random(3, seed=2))
    errors = [random(3, seed=5)]
    gram = [[float(errors[0] @ errors[0])]]
    history.replace([2 * fock], errors, gram)
    assert torch.equal(history.focks[0], 2 * fock)
    assert torch.equal(history.dms[0], fock)
    assert history._norms == pytest.approx([float(errors[0].norm())])
