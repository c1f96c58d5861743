"""Coulomb energy of a crystal by density fitting, for bases no uniform grid holds."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from deeph_zero.ks.periodic.types import BlochMatrix, KWeights, MeshRows
from deeph_zero.ks.terms.term import Contribution, Density, Term


@final
class FittedCoulomb(Term):
    """½ Σ_Q s_Q ρ_Q² with ρ_Q = Σ_k w_k Re Σ_ij L_k^Q,ij P_k,ji.

    What is called potential of a density, as ``dielectric`` asks for it, are the numbers s_Q ρ_Q.
    """

    name = "coulomb"

    def __init__(
        self,
        tensors: Sequence[Inexact[Tensor, "naux nao nao"]],
        signs: Float[Tensor, " naux"],
        weights: KWeights,
    ) -> None:
        """Keep the fitted integrals.

        Args:
            tensors: L_k of every k-point.
            signs: s_Q: 1, or -1 where the kernel of a slab is negative.
            weights: w_k.
        """
        self.tensors = tuple(tensors)
        self.signs = signs
        self.weights = weights

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy and its matrices."""
        rows = self(at.dm).sum(0, keepdim=True)
        energy = 0.5 * (rows.square() * self.signs).sum()
        return Contribution(energy, self.matrices(rows, at.dm.dtype).expand_as(at.dm))

    def response(self, at: Density, along: Density) -> BlochMatrix:
        """The matrices of the change."""
        del at
        rows = self(along.dm).sum(0, keepdim=True)
        return self.matrices(rows, along.dm.dtype).expand_as(along.dm)

    def __call__(self, d: BlochMatrix) -> MeshRows:
        """The numbers of every spin channel by itself, [nspin, 1, naux]."""
        rows = torch.stack(
            [
                w * torch.einsum("qij,sji->sq", tensor, d[:, k].to(tensor.dtype)).real
                for k, (w, tensor) in enumerate(zip(self.weights, self.tensors, strict=True))
            ]
        )
        return (rows.sum(0) * self.signs).unsqueeze(1)

    def matrices(self, rows: MeshRows, dtype: torch.dtype) -> BlochMatrix:
        """Matrices of such numbers, Eh."""
        out = [
            torch.einsum("sq,qij->sij", rows[:, 0].to(t.dtype), t).to(dtype) for t in self.tensors
        ]
        return torch.stack(out, 1)
