"""A small crystal in three kinds of calculation, solved once, and a Hamiltonian beside its own."""

import numpy as np
import pytest
import torch

import deeph_zero as dz

CASES = {"insulator": {}, "smeared": {"smearing": 0.03}, "spins": {"unrestricted": True}}


@pytest.fixture(scope="session", params=CASES)
def beside(request, crystal):
    """Pairs of hydrogen, and a Hamiltonian beside the converged one, alike at k and -k."""
    cell = crystal("chain", mesh=[15, 17, 15])
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1), xc="pbe", **CASES[request.param])
    done = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8)
    assert done.converged
    even, odd = np.random.default_rng(1).normal(size=(2, ks.nspin, 1, ks.nao, ks.nao))
    phase = np.sin(2 * np.pi * ks.info.kpts.sum(-1))[:, None, None]
    noise = torch.from_numpy(
        (even + even.swapaxes(-1, -2)) + 1j * phase * (odd - odd.swapaxes(-1, -2))
    )
    fock = done.fock + 0.004 * noise.to(done.fock.dtype)
    return ks, done, fock, ks.build(ks.density(fock))
