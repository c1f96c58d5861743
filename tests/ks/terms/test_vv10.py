"""VV10 as a term: derivatives of the energy, of closed and open shells, and of batches."""

import pytest
import torch
from pyscf import dft, gto

import deeph_zero as dz
from deeph_zero.ks.terms.term import Density
from deeph_zero.ks.terms.terms import terms_of
from deeph_zero.ks.terms.vv10 import VV10
from deeph_zero.testing import assert_fock_is_gradient

from ..made_up import ks_data  # noqa: TID252  (tests are no package)


@pytest.fixture(scope="module")
def layers() -> list[dz.KohnSham]:
    """A closed and an open shell with VV10 on a coarse grid."""
    out = []
    for charge in (0, 1):
        mol = gto.M(
            atom="F 0 0 0.1; H 0.1 0.3 0.9", basis="sto-3g", charge=charge, spin=charge, verbose=0
        )  # fmt: skip
        mf = (dft.UKS if charge else dft.RKS)(mol, xc="vv10").density_fit()
        mf.grids.atom_grid = mf.nlcgrids.atom_grid = (12, 26)
        out.append(dz.KohnSham.from_pyscf(mf))
    return out


@pytest.mark.parametrize("k", [0, 1])
def test_fock_is_the_gradient_and_response_its_derivative(layers, k: int) -> None:
    ks = layers[k]
    assert ks.data.nlc is not None
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    assert_fock_is_gradient(ks, dm)
    g = torch.Generator().manual_seed(1)
    a = 0.1 * torch.randn(dm.shape, generator=g, dtype=dm.dtype)
    along = a @ dm + dm @ a.mT
    h = 1e-3
    f = [ks.build(dm + t * h * along).fock for t in (1, -1, 2, -2)]
    numeric = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h)
    torch.testing.assert_close(ks.response(dm, along), numeric, rtol=0, atol=1e-8)


def test_second_derivative_of_the_fock_matrix(layers) -> None:
    ks = layers[0]
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    g = torch.Generator().manual_seed(2)
    a, b = (0.1 * torch.randn(dm.shape, generator=g, dtype=dm.dtype) for _ in range(2))
    d1, d2 = (x @ dm + dm @ x.mT for x in (a, b))
    x = dm.clone().requires_grad_()
    (first,) = torch.autograd.grad((ks(x)[1] * d1).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * d2).sum(), x)
    h = 1e-3
    f = [ks.response(dm + t * h * d2, d1) for t in (1, -1, 2, -2)]
    numeric = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h)
    assert float(numeric.abs().max()) > 1e-3
    torch.testing.assert_close(second, numeric, rtol=0, atol=1e-7)


@pytest.mark.parametrize("strategy", ["merged", "padded"])
def test_a_batch_equals_one_by_one(layers, strategy: str) -> None:
    for ks in layers:
        dm = ks.density(ks.build(ks.data.dm_guess).fock)
        dms = [dm, ks.data.dm_guess]
        batch = dz.KohnShamBatch([ks, ks], strategy=strategy)
        alone = [ks.build(one) for one in dms]
        for one, other in zip(batch.build(dms), alone, strict=True):
            assert float(other.parts["e_nlc"]) > 0.01
            torch.testing.assert_close(one.fock, other.fock, rtol=0, atol=1e-10)
            assert abs(float(one.energy) - float(other.energy)) < 1e-10
        changes = batch.response(dms, dms[::-1])
        for one, at, along in zip(changes, dms, dms[::-1], strict=True):
            torch.testing.assert_close(one, ks.response(at, along), rtol=0, atol=1e-10)


def test_without_parameters_there_is_no_term() -> None:
    assert VV10.of(ks_data()) is None


def test_it_feels_the_total_density_alone(layers) -> None:
    ks = layers[1]
    (term,) = [one for one in terms_of(ks.data) if isinstance(one, VV10)]
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    one, swapped = (term.energy_and_fock(Density(x)) for x in (dm, dm.flip(0)))
    assert float(one.energy) == pytest.approx(float(swapped.energy), abs=1e-14)
    assert one.fock.shape == (1, ks.nao, ks.nao)
    flip = torch.stack([dm[0], -dm[0]])
    assert term.response(Density(dm), Density(flip)) is None
