"""J and K of made-up integrals against their sums, and in pieces against whole."""

import pytest
import torch

from deeph_zero.ks.linalg.factor import spectral_factor
from deeph_zero.ks.linalg.packed import pair_index
from deeph_zero.ks.terms import two_electron
from deeph_zero.ks.terms.two_electron import FittedTensor, FourCentre, pack_density

NAO, NAUX = 5, 9
ROWS, COLS = torch.tril_indices(NAO, NAO)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(*lead, seed=3):
    a = random(*lead, NAO, NAO, seed=seed)
    return a + a.mT


@pytest.fixture
def b():
    """Three-centre integrals, written out."""
    packed = random(NAUX, NAO * (NAO + 1) // 2, seed=1)
    return packed[:, pair_index(NAO, torch.device("cpu"))]


@pytest.fixture
def operators(b):
    """One operator twice: fitted, and the four-centre integrals that the fit stands for."""
    packed = b[:, ROWS, COLS]
    return FittedTensor(packed, NAO), FourCentre(packed.mT @ packed, NAO)


def test_packing_counts_each_pair_twice():
    dm, other = symmetric(), symmetric(seed=4)
    packed = pack_density(dm)
    assert float(packed @ other[ROWS, COLS]) == pytest.approx(float((dm * other).sum()))


def test_coulomb_and_exchange_are_those_of_the_formulas(operators, b):
    dm = symmetric(2)
    eri = torch.einsum("Lmn,Lls->mnls", b, b)
    vj = torch.einsum("mnls,xls->xmn", eri, dm)
    vk = torch.einsum("mlns,xls->xmn", eri, dm)
    for operator in operators:
        torch.testing.assert_close(operator.coulomb(dm), vj)
        torch.testing.assert_close(operator.exchange(dm), vk)
    factors = [spectral_factor(one) for one in dm]
    torch.testing.assert_close(operators[0].exchange(dm, factors), vk)


def test_pieces_are_the_whole(operators, b, monkeypatch):
    """Nothing kept, a few fitting functions at a time, and threads that share the work."""
    dm = symmetric(2)
    whole = [operator.coulomb(dm) for operator in operators[:1]], operators[0].exchange(dm)
    monkeypatch.setattr(two_electron, "_STEP_MB", 8e-6 * NAO**2 * 2)
    monkeypatch.setattr(two_electron, "_STEP_J_MB", 8e-6 * NAO**2)
    monkeypatch.setattr(two_electron, "_ROWS", 4)
    for shared in (2**30, 1):
        monkeypatch.setattr(two_electron, "_SHARED_J", shared)
        monkeypatch.setattr(two_electron, "_SHARED_K", shared)
        small = FittedTensor(b[:, ROWS, COLS], NAO, memory_mb=0.0)
        assert small.unpacked_bytes == 0
        torch.testing.assert_close(small.coulomb(dm), whole[0][0])
        torch.testing.assert_close(small.exchange(dm), whole[1])
    rows = FourCentre(operators[1].eri, NAO, memory_mb=8e-6 * NAO**3)
    torch.testing.assert_close(rows.exchange(dm), whole[1])


def test_single_precision_is_a_slightly_different_operator(b):
    rounded = FittedTensor(b[:, ROWS, COLS].float(), NAO)
    exact = FittedTensor(b[:, ROWS, COLS].float().double(), NAO)
    dm = symmetric()
    assert rounded.coulomb(dm).dtype == torch.float64
    torch.testing.assert_close(rounded.coulomb(dm), exact.coulomb(dm))
    torch.testing.assert_close(rounded.exchange(dm), exact.exchange(dm))


def test_unpacked_integrals_are_not_sent_along(operators):
    import pickle

    fitted, dm = operators[0], symmetric()
    wanted = fitted.exchange(dm)
    assert fitted._full is not None
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy._full is None
    torch.testing.assert_close(copy.exchange(dm), wanted)
