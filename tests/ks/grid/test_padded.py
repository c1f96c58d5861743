"""Grids of several molecules in stacks: the numbers of one molecule after another."""

import pytest
import torch

from deeph_zero.ks.grid import padded
from deeph_zero.ks.grid.padded import PaddedGrid
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.term import Density

NAO = (4, 2, 5)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Quartic:
    """f = ρ_total⁴ / 24 + ½ |∇ρα + 2 ∇ρβ|² of one or two spins; derivatives written out."""

    kind = "GGA"
    key = "quartic"
    polarised = True

    @staticmethod
    def share(rho):
        return torch.arange(1.0, len(rho) + 1, dtype=rho.dtype)

    def rows(self, rho, scalar):
        n = rho[:, 0].sum(0)
        mixed = torch.einsum("s,sxp->xp", self.share(rho), rho[:, 1:4])
        return n, mixed, scalar(n)

    def gradient(self, rho):
        n, mixed, first = self.rows(rho, lambda n: n**3 / 6)
        out = torch.cat([first.expand(len(rho), 1, -1),
                         self.share(rho)[:, None, None] * mixed], 1)  # fmt: skip
        return n**4 / 24 + 0.5 * mixed.square().sum(0), out

    def second(self, rho, d):
        _, _, factor = self.rows(rho, lambda n: n**2 / 2)
        dn, mixed, _ = self.rows(d, lambda n: n)
        return torch.cat([(factor * dn).expand(len(rho), 1, -1),
                          self.share(rho)[:, None, None] * mixed], 1)  # fmt: skip

    def third(self, rho, d1, d2):
        out = torch.zeros_like(rho)
        out[:, 0] = rho[:, 0].sum(0) * d1[:, 0].sum(0) * d2[:, 0].sum(0)
        return out


class Blocks:
    """A grid whose blocks have unlike points and orbitals."""

    ncomp = 4

    def __init__(self, nao, sizes):
        self.nao, self.sizes = nao, sizes
        self.n_blocks, self.ngrids = len(sizes), sum(sizes)

    def block(self, b):
        index = None if b % 2 == 0 else torch.randperm(
            self.nao, generator=torch.Generator().manual_seed(b))[: self.nao - 1]  # fmt: skip
        nloc = self.nao if index is None else len(index)
        seed = 10 * self.nao + b
        return AOBlock(
            ao=random(4, self.sizes[b], nloc, seed=seed),
            weights=random(self.sizes[b], seed=seed + 500).abs(),
            index=index,
        )


GRIDS = [Blocks(4, (6, 3)), Blocks(2, (4,)), Blocks(5, (2, 7, 5))]


def stacks(nspin, count):
    """Padded matrices of all molecules, and each one's own."""
    wide = torch.zeros(count, 3, nspin, max(NAO), max(NAO), dtype=torch.float64)
    for k, n in enumerate(NAO):
        a = random(count, nspin, n, n, seed=70 + k)
        wide[:, k, :, :n, :n] = a + a.mT
    return wide


@pytest.mark.parametrize("stack_mb", [256.0, 1e-3])
@pytest.mark.parametrize("nspin", [1, 2])
def test_stacks_are_one_molecule_after_another(nspin, stack_mb, monkeypatch):
    monkeypatch.setattr(padded, "STACK_MB", stack_mb)
    whole, (dm, d1, d2) = PaddedGrid(GRIDS, max(NAO)), stacks(nspin, 3)
    fock, energy, electrons = whole.potential(Quartic(), dm)
    changes = whole.response(Quartic(), dm, d1), whole.second(Quartic(), dm, d1, d2)
    for k, (n, grid) in enumerate(zip(NAO, GRIDS, strict=True)):
        term = Semilocal(Quartic(), grid)
        own = [Density(x[k, :, :n, :n].contiguous(), factored=False) for x in (dm, d1, d2)]
        wanted = term.energy_and_fock(own[0])
        torch.testing.assert_close(energy[k], wanted.energy)
        torch.testing.assert_close(electrons[k], wanted.electrons)
        singles = wanted.fock, term.response(*own[:2]), term.second(*own)
        for many, one in zip((fock, *changes), singles, strict=True):
            assert float(one.abs().max()) > 1e-2
            torch.testing.assert_close(many[k, :, :n, :n], one)
            assert not many[k, :, n:].any()
            assert not many[k, ..., n:].any()
