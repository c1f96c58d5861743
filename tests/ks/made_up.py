"""A functional and grids of no molecule: their formulas are short, and nothing is symmetric."""

import torch

from deeph_zero.ks.protocol import AOBlock, KSData
from deeph_zero.ks.terms.two_electron import FittedTensor


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Quartic:
    """f = ρ⁴ / 24 of the total density + ½ |Σ_s s ∇ρ_s|², s = 1, 2, of one or two spins."""

    kind = "GGA"
    key = "quartic"
    polarised = True

    @staticmethod
    def _share(rho):
        return torch.arange(1.0, len(rho) + 1, dtype=rho.dtype)

    def _parts(self, rho):
        return rho[:, 0].sum(0), torch.einsum("s,sxp->xp", self._share(rho), rho[:, 1:4])

    def _rows(self, rho, first, mixed):
        both = first.expand(len(rho), 1, -1), self._share(rho)[:, None, None] * mixed
        return torch.cat(both, 1)

    def gradient(self, rho):
        n, mixed = self._parts(rho)
        energy = n**4 / 24 + 0.5 * mixed.square().sum(0)
        return energy, self._rows(rho, n**3 / 6, mixed)

    def second(self, rho, d):
        (n, _), (dn, mixed) = self._parts(rho), self._parts(d)
        return self._rows(rho, n**2 / 2 * dn, mixed)

    def third(self, rho, d1, d2):
        (n, _), (one, _), (other, mixed) = self._parts(rho), self._parts(d1), self._parts(d2)
        return self._rows(rho, n * one * other, 0 * mixed)


class Blocks:
    """A grid whose blocks have unlike points; every second one lacks an orbital."""

    ncomp = 4

    def __init__(self, nao, sizes):
        self.nao, self.sizes = nao, sizes
        self.n_blocks, self.ngrids = len(sizes), sum(sizes)

    def block(self, b):
        seed = 10 * self.nao + b
        order = torch.randperm(self.nao, generator=torch.Generator().manual_seed(b))
        index = order[: self.nao - 1] if b % 2 else None
        nloc = self.nao - b % 2
        return AOBlock(
            ao=random(4, self.sizes[b], nloc, seed=seed),
            weights=random(self.sizes[b], seed=seed + 500).abs(),
            index=index,
        )


def ks_data(nao=2, **changes):
    """All that a layer needs, of no molecule: no functional, and integrals that are zero."""
    zero = torch.zeros(nao, nao, dtype=torch.float64)
    plain = {
        "ovlp": torch.eye(nao, dtype=torch.float64), "hcore": zero,
        "dipole": zero.expand(3, -1, -1),
        "nuclear_dipole": torch.zeros(3, dtype=torch.float64), "e_nuc": 0.0, "nelec": (1, 1),
        "unrestricted": False, "exchange": (), "functional": None, "grid": None, "dm_guess": zero,
        "coulomb": FittedTensor(torch.zeros(1, nao * (nao + 1) // 2, dtype=torch.float64), nao),
        "lindep_threshold": 1e-8,
    }  # fmt: skip
    return KSData(**plain | changes)
