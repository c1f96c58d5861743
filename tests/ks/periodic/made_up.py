"""A crystal of no atoms: Bloch values and meshes of plain numbers, nothing symmetric."""

import torch

from deeph_zero.ks.periodic.grid import BlochBlock, KGroup
from deeph_zero.ks.periodic.mesh import Mesh, half_spectrum

from ..made_up import random  # noqa: TID252  (tests are no package)

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
"""Of three k-points; the first one's values are real, as where -k is k."""
SHAPE = (2, 3, 4)


def bloch_matrix(nspin=1, nao=3, nk=3, seed=0):
    """Hermitian, complex."""
    a = torch.complex(*random(2, nspin, nk, nao, nao, seed=seed))
    return a + a.mH


class Values:
    """AO values and gradients on a mesh's points, in blocks of unlike size."""

    nao, nk, ngrids = 3, 3, 24

    def __init__(self, sizes=(10, 14)):
        self.sizes, self.n_blocks = sizes, len(sizes)
        real = random(1, 4, self.nao, self.ngrids, seed=50)
        other = torch.complex(*random(2, 2, 4, self.nao, self.ngrids, seed=51))
        self.groups = ((torch.tensor([0]), real), (torch.tensor([1, 2]), other))

    def block(self, b):
        start = sum(self.sizes[:b])
        points = slice(start, start + self.sizes[b])
        groups = tuple(KGroup(index, ao[..., points]) for index, ao in self.groups)
        return BlochBlock(points, groups)

    def at(self, k):
        """[component, nao, ngrids] at one k."""
        return self.groups[0][1][0] if k == 0 else self.groups[1][1][k - 1]


def density(dm):
    """ρ of every spin by the sum that defines it."""
    values = Values()
    out = 0.0
    for k, w in enumerate(WEIGHTS):
        phi = values.at(k)[0].to(dm.dtype)
        out = out + w * torch.einsum("ig,sij,jg->sg", phi, dm[:, k], phi.conj()).real
    return out


def mesh():
    """With a random even kernel in place of 4π/G²."""
    kernel = random(*SHAPE, seed=60).abs()
    reciprocal = random(3, 3, seed=61)
    return Mesh(SHAPE, 30.0, reciprocal, half_spectrum(kernel))


def difference(function, step=1e-3):
    """Five-point derivative at 0."""
    f = [function(t * step) for t in (1, -1, 2, -2)]
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * step)
