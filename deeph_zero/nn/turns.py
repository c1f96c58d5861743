"""Features of pairs into their bond frames and back, each way one step of differentiation.

A turn is linear in the features, so its derivatives, in either mode and of any order, are turns
again. Rotation, order and signs are then done in memory that no derivative needs later.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from deeph_zero.nn.frames import SignedPermutation, join_frame, rotate_irreps, split_frame

_ELEMENTWISE = 400
"""Products in a matrix product below which ``torch.bmm`` takes them one by one on a processor."""
_MANY = 64
"""Pairs from which on whole tensors are faster than that."""


class Turn(NamedTuple):
    """What takes the features of some pairs into their frames.

    Attributes:
        order: Rotated irreps in the order of the frame.
        channels: Channels per l.
        wigner: D_l into the frames, l = 0, 1, ..., [nedge, 2l+1, 2l+1].
        weight: Factor of each pair, [nedge, 1]; None: 1.
    """

    order: SignedPermutation
    channels: Sequence[int]
    wigner: Sequence[Tensor]
    weight: Tensor | None = None

    @property
    def constant(self) -> bool:
        """Whether the features alone are differentiated."""
        given = self.wigner if self.weight is None else (*self.wigner, self.weight)
        return not any(
            x.requires_grad or forward_ad.unpack_dual(x).tangent is not None for x in given
        )


def into_frames(flat: Float[Tensor, "nedge n"], turn: Turn) -> list[Tensor]:
    """Features in molecule axes as O(2) channels in the bond frames.

    Args:
        flat: Per l, components, then natural and pseudo channels.
        turn: How.

    Returns:
        A1, A2, E_1, E_2, ... as :func:`~deeph_zero.nn.frames.split_frame` gives them, weighted.
    """
    if turn.constant:
        return list(_Into.apply(flat, turn))
    frame = turn.order.to_frame(rotate_irreps(flat, turn.wigner, turn.channels))
    return split_frame(frame if turn.weight is None else frame * turn.weight, turn.order.widths)


def from_frames(parts: Sequence[Tensor], turn: Turn) -> Float[Tensor, "nedge n"]:
    """Transpose of :func:`into_frames`; its inverse where there is no weight.

    Args:
        parts: A1, A2, E_1, E_2, ...
        turn: How.

    Returns:
        Features in molecule axes.
    """
    if turn.constant:
        return _From.apply(turn, *parts)
    frame = join_frame(parts)
    flat = turn.order.from_frame(frame if turn.weight is None else frame * turn.weight)
    return rotate_irreps(flat, turn.wigner, turn.channels, inverse=True)


class _Into(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, turn: Turn) -> tuple[Tensor, ...]:
        ctx.turn = turn
        order = turn.order
        rotated = [
            x if l == 0 else _product(turn.wigner[l], x).flatten(-2)
            for l, x in enumerate(_by_l(flat, turn))
        ]
        frame = torch.cat(rotated, -1).index_select(-1, order.index).mul_(order.sign)
        if turn.weight is not None:
            frame.mul_(turn.weight)
        return tuple(split_frame(frame, order.widths))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _From.apply(ctx.turn, *grad_outputs), None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> tuple[Tensor, ...]:
        return _Into.apply(grad_inputs[0], ctx.turn)


class _From(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, turn: Turn, *parts: Tensor) -> Tensor:
        ctx.turn, ctx.shapes = turn, [x.shape for x in parts]
        order = turn.order
        frame = parts[0].new_empty(len(parts[0]), len(order.index))
        for to, x in zip(split_frame(frame, order.widths), parts, strict=True):
            to.copy_(x)
        flat = frame.index_select(-1, order.inverse).mul_(order.inverse_sign)
        if turn.weight is not None:
            flat.mul_(turn.weight)
        for l, x in enumerate(_by_l(flat, turn)):
            if l > 0:
                x.copy_(_product(turn.wigner[l].mT, x))
        return flat

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Into.apply(grad_outputs[0], ctx.turn)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor | None) -> Tensor:
        # a part that does not change comes without a derivative
        like = next(x for x in grad_inputs if x is not None)
        given = zip(grad_inputs[1:], ctx.shapes, strict=True)
        return _From.apply(ctx.turn, *(like.new_zeros(s) if x is None else x for x, s in given))


def _by_l(flat: Tensor, turn: Turn) -> list[Tensor]:
    """Views per l: the invariants [nedge, c], then [nedge, 2l+1, c]."""
    sizes = [(2 * l + 1) * c for l, c in enumerate(turn.channels)]
    first, *others = flat.split(sizes, -1)
    wide = enumerate(zip(others, turn.channels[1:], strict=True), start=1)
    return [first, *(x.unflatten(-1, (2 * l + 1, c)) for l, (x, c) in wide)]


def _product(d: Tensor, x: Tensor) -> Tensor:
    """D x of every pair, in new memory."""
    n, c = x.shape[1:]
    slow = x.device.type == "cpu" and n * n * c < _ELEMENTWISE
    if not (slow and n <= 3 and len(x) >= _MANY):
        return torch.bmm(d, x)
    out = d[:, :, :1] * x[:, :1]
    for k in range(1, n):
        out.addcmul_(d[:, :, k : k + 1], x[:, k : k + 1])
    return out
