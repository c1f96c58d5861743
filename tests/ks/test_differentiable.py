"""Derivatives of builds with weights of matrices, on an energy that is known in closed form."""

import dataclasses

import torch

from deeph_zero.ks.differentiable import energy_and_fock


@dataclasses.dataclass(frozen=True)
class Built:
    energy: torch.Tensor
    fock: torch.Tensor


class Cubic:
    """E = Σ_k w_k Re tr(P_k³) / 3, F = P²; Hermitian matrices of two k-points."""

    matrix_weights = torch.tensor([0.25, 0.75], dtype=torch.float64).reshape(2, 1, 1)

    def build(self, dm):
        each = (dm @ dm @ dm).diagonal(dim1=-2, dim2=-1).sum(-1).real
        return Built((each * self.matrix_weights.reshape(-1)).sum() / 3, dm @ dm)

    def response(self, dm, direction):
        return dm @ direction + direction @ dm

    def second_response(self, dm, d1, d2):
        del dm
        return d1 @ d2 + d2 @ d1


def test_first_and_second_derivatives_are_those_of_the_formula(rng):
    shape = (1, 2, 3, 3)
    parts = [torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2)]
    dm = torch.complex(*parts).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: energy_and_fock(Cubic(), x), dm)
    assert torch.autograd.gradgradcheck(lambda x: energy_and_fock(Cubic(), x), dm)
    energy, fock = energy_and_fock(Cubic(), dm)
    (gradient,) = torch.autograd.grad(energy, dm)
    torch.testing.assert_close(gradient, Cubic.matrix_weights * fock)
    assert float(gradient.detach().abs().max()) > 0.1
