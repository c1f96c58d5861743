"""E and F of a density matrix as differentiable functions, of molecules and crystals.

With weights w of matrices (w_k of k-points, 1 for molecules) dE = Σ w Re tr(F dP). Gradients
follow torch's convention for complex numbers, dL = Re Σ conj(gradient) dP: the energy's is w F.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd import Function

from deeph_zero.types import Scalar


@runtime_checkable
class Built(Protocol):
    """A Fock build."""

    @property
    def energy(self) -> Tensor:
        """Total energy, Eh."""
        ...

    @property
    def fock(self) -> Tensor:
        """dE/dP over the weights, Eh."""
        ...


@runtime_checkable
class Layer(Protocol):
    """What builds, and responds; all without autograd."""

    @property
    def matrix_weights(self) -> Tensor | float:
        """w, shaped to multiply matrices."""
        ...

    def build(self, dm: Tensor) -> Built:
        """Energy and Fock matrix."""
        ...

    def response(self, dm: Tensor, direction: Tensor) -> Tensor:
        """dF along a Hermitian direction; self-adjoint."""
        ...

    def second_response(self, dm: Tensor, d1: Tensor, d2: Tensor) -> Tensor:
        """d²F along two Hermitian directions."""
        ...


def hermitian(matrix: Tensor) -> Tensor:
    """(M + M†) / 2."""
    return 0.5 * (matrix + matrix.mH)


def energy_and_fock(layer: Layer, dm: Tensor) -> tuple[Scalar, Tensor]:
    """Energy and Fock matrix, differentiable in ``dm``.

    Args:
        layer: Builds and responds.
        dm: Density matrix; made Hermitian.

    Returns:
        E (Eh) and F. dE/dP needs no further build; the backward pass of F is one response build.
    """
    return _Build.apply(hermitian(dm), layer)  # pyright: ignore


class _Build(Function):
    """(E, F) of a density matrix; the backward pass of F is one response build."""

    @staticmethod
    def forward(ctx: Any, dm: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        built = layer.build(dm)
        ctx.layer = layer
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dm, built.fock)
        return built.energy, built.fock

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        grad_energy, grad_fock = grads
        # fock is an output: autograd reconnects it to the graph, so dE differentiates again.
        dm, fock = ctx.saved_tensors
        w = ctx.layer.matrix_weights
        total = None
        if grad_energy is not None:
            total = grad_energy * w * fock
        if grad_fock is not None:
            along = w * _Response.apply(dm, hermitian(grad_fock) / w, ctx.layer)  # pyright: ignore
            total = along if total is None else total + along
        return total, None


class _Response(Function):
    """dF along a direction; self-adjoint, so its own backward is the same map."""

    @staticmethod
    def forward(ctx: Any, dm: Tensor, direction: Tensor, layer: Layer) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(dm, direction)
        return layer.response(dm, direction)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        dm, direction = ctx.saved_tensors
        layer: Layer = ctx.layer
        w = layer.matrix_weights
        along = hermitian(grads[0]) / w
        grad_dm = grad_direction = None
        if ctx.needs_input_grad[0]:
            grad_dm = w * layer.second_response(dm, direction, along)
        if ctx.needs_input_grad[1]:
            grad_direction = w * layer.response(dm, along)
        return grad_dm, grad_direction, None
