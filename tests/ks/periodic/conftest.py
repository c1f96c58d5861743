"""Small crystals solved once, and a Hamiltonian beside one's own."""

import warnings

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


SOLVED = {
    "insulator": ("diamond", "pbe", (3, 1, 1), 0.0, {}, {}),
    "meta-GGA, half of the mesh": ("slab", "r2scan", (3, 1, 1), 0.0, {}, {}),
    "metal, half-way points": ("aluminium", "pbe", (2, 2, 1), 0.01, {}, {"ke_cutoff": 30}),
    "metal, spins": ("aluminium", "lda,vwn", (3, 1, 1), 0.01, {"unrestricted": True}, {}),
    "antiferromagnet": ("chain", "pbe", (3, 1, 1), 0.0, {"moments": (1, -1)}, {}),
    "unpaired electrons": ("chain", "pbe", (2, 1, 1), 0.0, {}, {"spin": 2, "ke_cutoff": 20}),
}


"""Crystal, functional, k-points, smearing, further keywords, and settings of the cell."""


@pytest.fixture(scope="session")
def solved(crystal):
    """A layer of one of the cases and its SCF, made once."""
    known = {}

    def solve(case):
        if case not in known:
            name, xc, kmesh, smearing, keywords, settings = SOLVED[case]
            with warnings.catch_warnings():  # PySCF warns of odd electrons in a cell
                warnings.filterwarnings("ignore", ".*spin.*", UserWarning)
                cell = crystal(name, **{"ke_cutoff": 15, **settings})
                ks = dz.KohnSham.from_pyscf(cell, kmesh=kmesh, xc=xc, smearing=smearing, **keywords)
                known[case] = cell, ks, ks.scf()
        return known[case]

    return solve
