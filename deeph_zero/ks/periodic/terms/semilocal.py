"""Semilocal exchange and correlation of a crystal: E_xc = Σ w f(ρ, ∇ρ, τ) on points."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from deeph_zero.ks.periodic.terms.potential import Quadrature
from deeph_zero.ks.periodic.types import MeshRows, PotentialRows
from deeph_zero.ks.protocol import NVAR, Functional
from deeph_zero.types import Scalar

POINTS = 32768
"""Points of one call of the functional."""


@final
class Semilocal:
    """A functional on the points of a grid."""

    name = "xc"

    def __init__(self, weight: Quadrature, functional: Functional) -> None:
        """Keep the functional.

        Args:
            weight: Quadrature weight of the points, bohr³.
            functional: Functional of density variables with a spin axis.
        """
        self.weight = weight
        self.functional = functional
        self.nvar = NVAR[functional.kind]

    def energy_and_rows(self, rho: MeshRows) -> tuple[Scalar, PotentialRows]:
        """E_xc and its derivative with respect to every row."""
        rows = torch.empty_like(rho[:, : self.nvar])
        energy = rho.new_zeros(())
        for at, piece in self._pieces(rho):
            f, first = self.functional.gradient(piece)
            energy += (f * self._weight(at)).sum()
            rows[..., at] = first
        return energy, rows

    def response(self, rho: MeshRows, d: MeshRows) -> PotentialRows:
        """f_xc times ``d``."""
        out = torch.empty_like(rho[:, : self.nvar])
        for (at, piece), (_, along) in zip(self._pieces(rho), self._pieces(d), strict=True):
            out[..., at] = self.functional.second(piece, along)
        return out

    def second(self, rho: MeshRows, d1: MeshRows, d2: MeshRows) -> PotentialRows:
        """g_xc times both directions."""
        out = torch.empty_like(rho[:, : self.nvar])
        parts = zip(self._pieces(rho), self._pieces(d1), self._pieces(d2), strict=True)
        for (at, piece), (_, one), (_, other) in parts:
            out[..., at] = self.functional.third(piece, one, other)
        return out

    def _weight(self, at: slice) -> Quadrature:
        return self.weight[at] if isinstance(self.weight, Tensor) else self.weight

    def _pieces(self, rho: MeshRows) -> Iterator[tuple[slice, Tensor]]:
        """The functional's argument, some points at a time."""
        for start in range(0, rho.shape[-1], POINTS):
            at = slice(start, start + POINTS)
            yield at, rho[:, : self.nvar, at].contiguous()
