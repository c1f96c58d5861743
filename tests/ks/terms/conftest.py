"""Two-electron operators of made-up integrals, and their sums written out."""

import pytest
import torch

from deeph_zero.ks.terms.two_electron import FittedTensor

from ..made_up import random  # noqa: TID252  (tests are no package)


class Written:
    """An operator as the sums that define J and K."""

    def __init__(self, b):
        self.b = b

    def coulomb(self, dm):
        return torch.einsum("Lmn,Lls,...ls->...mn", self.b, self.b, dm)

    def exchange(self, dm):
        return torch.einsum("Lml,Lns,...ls->...mn", self.b, self.b, dm)


@pytest.fixture(scope="session")
def operator():
    """Makes a fitted operator of some orbitals, and the same written out."""

    def make(nao, naux=7, seed=0):
        b = random(naux, nao, nao, seed=seed)
        b = b + b.mT
        rows, cols = torch.tril_indices(nao, nao)
        return FittedTensor(b[:, rows, cols].contiguous(), nao), Written(b)

    return make
