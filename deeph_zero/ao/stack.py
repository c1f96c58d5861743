"""AO values on many blocks of points at once: few large kernels for a GPU, none per block."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ao.values import N_COMPONENTS, angular


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackedShells:
    """Contracted functions of one l, each on one block of points.

    Attributes:
        l: Angular momentum.
        block: Number of the block.
        row: Row of each of its 2l + 1 (or Cartesian) functions, all blocks' rows counted through.
        centre: Bohr.
        exponents: Bohr^-2; where there are fewer primitives any number, with coefficient 0.
        coefficients: Contraction coefficients.
    """

    l: int
    block: Int[Tensor, " n"]
    row: Int[Tensor, "n nfun"]
    centre: Float[Tensor, "n 3"]
    exponents: Float[Tensor, "n nprim"]
    coefficients: Float[Tensor, "n nprim"]


def stacked_values(
    shells: Sequence[StackedShells],
    points: Float[Tensor, "nblk 3 npoints"],
    nloc: int,
    *,
    deriv: int,
    cart: bool,
) -> Float[Tensor, "ncomp nblk npoints nloc"]:
    """AO values, and gradients, of every block's functions on its points.

    What :func:`~deeph_zero.ao.values.ao_rows` gives for one block after another.

    Args:
        shells: By l; on the device of ``points``.
        points: Points of every block, bohr.
        nloc: Columns of every block; those that no function has are zero.
        deriv: Highest derivative, 0 or 1.
        cart: Cartesian functions instead of solid harmonics.

    Returns:
        1 or 4 components, contiguous.
    """
    nblk, _, npoints = points.shape
    ncomp = N_COMPONENTS[deriv]
    rows = points.new_zeros(ncomp, nblk * nloc, npoints)
    for some in shells:
        shift = points[some.block] - some.centre.unsqueeze(-1)
        values = _values(some, shift, deriv, cart=cart)
        rows.index_copy_(1, some.row.reshape(-1), values.flatten(1, 2))
    return rows.reshape(ncomp, nblk, nloc, npoints).mT.contiguous()


def _values(
    shells: StackedShells, shift: Float[Tensor, "n 3 npoints"], deriv: int, *, cart: bool
) -> Float[Tensor, "ncomp n nfun npoints"]:
    """R Y and its derivatives ∂_i φ = R ∂_i Y + 2 dR/d(r²) r_i Y."""
    square = shift.square().sum(1, keepdim=True)
    primitives = torch.exp(shells.exponents.neg().unsqueeze(-1) * square)
    factors = [shells.coefficients]
    if deriv:
        factors.append(-2.0 * shells.exponents * shells.coefficients)
    radial = (torch.stack(factors, dim=1) @ primitives).unsqueeze(2)  # [n, order, 1, npoints]
    y = angular(shift, shells.l, deriv, cart=cart)
    value = (radial[:, 0] * y[0][:, 0]).unsqueeze(0)
    if not deriv:
        return value
    slope = (radial[:, 1] * y[0][:, 0]).unsqueeze(1)
    gradient = torch.addcmul(radial[:, :1] * y[1], shift.unsqueeze(2), slope)
    return torch.cat([value, gradient.transpose(0, 1)])
