"""Layers without integrals for builds: what they have is right, what they lack is said."""

import pytest
import torch
from pyscf import gto

import deeph_zero as dz
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.bare import bare_data
from deeph_zero.integrals.calculation import calculation


@pytest.fixture(scope="module", params=[0, 1])
def pair(request):
    spin = request.param
    mol = gto.M(atom="O 0 0 .1; H .2 .3 1", basis="sto-3g", charge=spin - 1, spin=spin, verbose=0)
    whole = dz.KohnSham.from_pyscf(mol, xc="pbe", grid_level=0, unrestricted=bool(spin))
    return whole, bare_data(calculation(mol, xc="pbe", grid_level=0, unrestricted=bool(spin)))


def test_one_electron_matrices_are_those_of_the_whole(pair):
    whole, (data, info) = pair
    torch.testing.assert_close(data.ovlp, whole.data.ovlp)
    torch.testing.assert_close(data.hcore, whole.data.hcore)
    assert data.nelec == whole.data.nelec
    assert data.e_nuc == whole.data.e_nuc
    assert not data.dm_guess.any()
    assert (info.xc, info.auxbasis) == (whole.info.xc, whole.info.auxbasis)


def test_a_fock_build_says_what_is_missing(pair):
    _, (data, _) = pair
    with pytest.raises(ComputationError, match=r"made without; make it with KohnSham\.from_pyscf"):
        data.coulomb.coulomb(data.ovlp)
    with pytest.raises(ComputationError, match="made without"):
        data.coulomb.exchange(data.ovlp, None)
