"""VV10 non-local correlation of the total density, on a grid of its own or the functional's."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.grid.maps import density_features, potential_matrix, restrict
from deeph_zero.ks.protocol import KSData, NonlocalCorrelation
from deeph_zero.ks.terms import vv10_pairs
from deeph_zero.ks.terms.term import Contribution, Density, Term
from deeph_zero.types import SpinMatrix


@final
class VV10(Term):
    """VV10; its potential is the same for both spins."""

    name = "e_nlc"
    on_grid = True

    def __init__(self, nlc: NonlocalCorrelation) -> None:
        """Hold parameters and grid.

        Args:
            nlc: Parameters and grid.
        """
        self._grid = nlc.grid
        self._where = nlc.points, nlc.terms

    @classmethod
    def of(cls, data: KSData) -> "VV10 | None":
        """The term of a molecule; None for a functional without VV10."""
        nlc = data.nlc
        return None if nlc is None else cls(nlc)

    def energy_and_fock(self, at: Density) -> Contribution:
        """Energy and the potential's matrix."""
        energy, potential = vv10_pairs.potential(self._rows(at), *self._where)
        return Contribution(self._where[0].weights @ energy, self._matrix(potential))

    def response(self, at: Density, along: Density) -> SpinMatrix | None:
        """Change of the matrix; at no cost where the total density does not change."""
        if not bool(along.total.any()):
            return None
        rows = self._rows(at), self._rows(along)
        return self._matrix(vv10_pairs.response(*rows, *self._where))

    def second(self, at: Density, d1: Density, d2: Density) -> SpinMatrix:
        """Second derivative of the matrix."""
        rows = self._rows(at), self._rows(d1), self._rows(d2)
        return self._matrix(vv10_pairs.second_response(*rows, *self._where))

    def _rows(self, at: Density) -> Float[Tensor, "4 ngrids"]:
        """Total density and its gradient on all points."""
        total = at.total[0]
        blocks = (self._grid.block(k) for k in range(self._grid.n_blocks))
        return torch.cat([density_features(b, restrict(total, b), "GGA") for b in blocks], dim=-1)

    def _matrix(self, potential: Float[Tensor, "4 ngrids"]) -> SpinMatrix:
        """Matrix of a potential, one spin."""
        out = potential.new_zeros(1, self._grid.nao, self._grid.nao)
        weighted, start = potential * self._where[0].weights, 0
        for k in range(self._grid.n_blocks):
            block = self._grid.block(k)
            stop = start + len(block.weights)
            local = potential_matrix(block, weighted[:, start:stop], "GGA")
            if block.index is None:
                out += local
            else:
                out[:, block.index.unsqueeze(1), block.index] += local
            start = stop
        return out
