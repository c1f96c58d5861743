"""The local bond frame: rotations into it, and the O(2) structure of what arrives there.

The bond lies along the polar axis. What is left of O(3) is O(2): turning about the bond and
reflecting in a plane through it. Features split into A1 (invariant), A2 (odd under reflection) and
doublets E_m, kept as (cos, sin) so that z = cos + i sin turns by exp(i m angle) and reflects to its
conjugate. The sine-cosine roles of a pseudo-tensor's doublet are swapped with a sign (multiply z by
i), after which doublets of both parities transform alike and share one real weight matrix. How the
frame is turned about the bond is arbitrary; it cancels exactly because every operation commutes
with O(2).

References:
    S. Passaro and C. L. Zitnick, ICML 2023, arXiv:2302.03655 (the reduction of SO(3) convolutions
    to SO(2) linear maps).
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.blocks import IrrepKey
from deeph_zero.ao.shells import BasisLayout


def bond_rotations(vectors: Float[Tensor, "nedge 3"]) -> Float[Tensor, "nedge 3 3"]:
    """Proper rotations that put each vector on the polar axis, which is y in network axes.

    Args:
        vectors: Bond vectors in network axes, bohr, none of them zero.

    Returns:
        R with R v = |v| (0, 1, 0).
    """
    polar = vectors / vectors.norm(dim=-1, keepdim=True)
    helper = torch.zeros_like(polar)
    helper.scatter_(-1, polar.abs().argmin(-1, keepdim=True), 1.0)
    third = torch.linalg.cross(polar, helper)
    third = third / third.norm(dim=-1, keepdim=True)
    first = torch.linalg.cross(polar, third)
    return torch.stack([first, polar, third], -2)


@dataclasses.dataclass(frozen=True)
class FrameBasis:
    """Orthogonal change of basis between a block in the bond frame and its O(2) channels.

    Attributes:
        matrix: [dim*dim, dim*dim]; a row is a block element, a column an O(2) component. Columns
            run over A1, A2, then for m = 1, 2, ... all cosines, all sines.
        widths: Channels of A1, A2, E_1, E_2, ...
    """

    matrix: Float[Tensor, "full full"]
    widths: tuple[int, ...]


@functools.cache
def frame_basis(layout: BasisLayout) -> FrameBasis:
    """O(2) channels of a full block: products of two functions cos/sin(m1), cos/sin(m2).

    The A1 channels are the two-centre (Slater-Koster) parameters of the block.
    """
    functions = _bond_functions(layout)
    dim = layout.dim
    columns: dict[int, list[tuple[Tensor, ...]]] = {}

    def outer(*terms: tuple[float, int, int]) -> Tensor:
        column = torch.zeros(dim, dim, dtype=torch.float64)
        for value, a, b in terms:
            column[a, b] += value
        return column.flatten()

    half = 0.5**0.5
    for (m1, c1, s1), (m2, c2, s2) in itertools.product(functions, repeat=2):
        if m1 == 0 and m2 == 0:
            columns.setdefault(0, []).append((outer((1.0, c1, c2)),))
        elif m1 == 0 or m2 == 0:
            pair = (outer((1.0, c1, c2)), outer((1.0, s1, s2)))
            columns.setdefault(m1 + m2, []).append(pair)
        else:
            up = outer((half, c1, c2), (-half, s1, s2)), outer((half, s1, c2), (half, c1, s2))
            columns.setdefault(m1 + m2, []).append(up)
            even = outer((half, c1, c2), (half, s1, s2))
            sign = half if m1 >= m2 else -half
            odd = outer((sign, s1, c2), (-sign, c1, s2))
            if m1 == m2:
                columns.setdefault(0, []).append((even,))
                columns.setdefault(-1, []).append((odd,))
            else:
                columns.setdefault(abs(m1 - m2), []).append((even, odd))
    orders = [0, -1, *range(1, max(columns) + 1)]
    groups = [columns.get(m, []) for m in orders]
    parts = [col for group in groups for component in zip(*group, strict=True) for col in component]
    widths = tuple(len(group) for group in groups)
    return FrameBasis(matrix=torch.stack(parts, 1), widths=widths)


@functools.cache
def frame_matrix(
    layout: BasisLayout, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "full full"]:
    """:attr:`FrameBasis.matrix` cast from float64 once per type and device."""
    return frame_basis(layout).matrix.to(device=device, dtype=dtype)


def _bond_functions(layout: BasisLayout) -> list[tuple[int, int, int]]:
    """(m, slot of cos, slot of sin) of every AO function in the frame; m = 0 repeats its slot."""
    functions, start = [], 0
    for l in layout.slot_shells:
        functions += [(m, start + l + m, start + l - m) for m in range(l + 1)]
        start += 2 * l + 1
    return functions


def split_frame(flat: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Views A1 [..., c], A2 [..., c], E_m [..., 2, c] of a flat O(2) vector."""
    sizes = [*widths[:2], *(2 * w for w in widths[2:])]
    parts = list(flat.split(sizes, -1))
    return parts[:2] + [t.unflatten(-1, (2, t.shape[-1] // 2)) for t in parts[2:]]


def join_frame(parts: Sequence[Tensor]) -> Tensor:
    """Inverse of :func:`split_frame`."""
    return torch.cat([*parts[:2], *(t.flatten(-2) for t in parts[2:])], -1)


@dataclasses.dataclass(frozen=True)
class FrameOrder:
    """Signed permutation from rotated irreps to O(2) channels.

    The flat irrep vector runs over l, then m = -l..l, then channels: the naturals of that l, then
    the pseudos. ``frame = sign * flat[index]`` runs as :func:`split_frame` expects.

    Attributes:
        index: Position in the flat irrep vector of each O(2) component.
        sign: +1 or -1.
        widths: Channels of A1, A2, E_1, E_2, ...
    """

    index: tuple[int, ...]
    sign: tuple[int, ...]
    widths: tuple[int, ...]


def frame_order(natural: Sequence[int], pseudo: Sequence[int]) -> FrameOrder:
    """How features with these channels per l split in the frame.

    Args:
        natural: Channels of parity (-1)^l for l = 0, 1, ...
        pseudo: Channels of parity -(-1)^l.

    Returns:
        The signed permutation.
    """
    starts = [0]
    for l, (n, p) in enumerate(zip(natural, pseudo, strict=True)):
        starts.append(starts[-1] + (2 * l + 1) * (n + p))

    def rows(l: int, m: int, kind: int) -> list[int]:
        first = starts[l] + (l + m) * (natural[l] + pseudo[l]) + kind * natural[l]
        return list(range(first, first + (pseudo if kind else natural)[l]))

    lmax = len(natural) - 1
    index: list[int] = [k for l in range(lmax + 1) for k in rows(l, 0, 0)]
    widths = [len(index), sum(pseudo)]
    index += [k for l in range(lmax + 1) for k in rows(l, 0, 1)]
    sign = [1] * len(index)
    for m in range(1, lmax + 1):
        ls = range(m, lmax + 1)
        cos_natural = [k for l in ls for k in rows(l, m, 0)]
        sin_natural = [k for l in ls for k in rows(l, -m, 0)]
        # a pseudo doublet z enters as i z = -sin + i cos
        cos_pseudo = [k for l in ls for k in rows(l, -m, 1)]
        sin_pseudo = [k for l in ls for k in rows(l, m, 1)]
        index += cos_natural + cos_pseudo + sin_natural + sin_pseudo
        n, p = len(cos_natural), len(cos_pseudo)
        sign += [1] * n + [-1] * p + [1] * (n + p)
        widths.append(n + p)
    return FrameOrder(index=tuple(index), sign=tuple(sign), widths=tuple(widths))


def feature_keys(natural: Sequence[int], pseudo: Sequence[int]) -> tuple[tuple[IrrepKey, int], ...]:
    """Irreps of node features in storage order: natural then pseudo for each l, empty ones out."""
    keys = []
    for l, (n, p) in enumerate(zip(natural, pseudo, strict=True)):
        parity = 1 if l % 2 == 0 else -1
        keys += [((l, parity), n)] * (n > 0) + [((l, -parity), p)] * (p > 0)
    return tuple(keys)


class _SignedPermutation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        forward_map: tuple[Tensor, Tensor],
        inverse_map: tuple[Tensor, Tensor],
    ) -> Tensor:
        ctx.maps = forward_map, inverse_map  # pyright: ignore[reportAttributeAccessIssue]
        return x.index_select(-1, forward_map[0]) * forward_map[1].to(x.dtype)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        forward_map, inverse_map = ctx.maps  # pyright: ignore[reportAttributeAccessIssue]
        return _SignedPermutation.apply(grad_outputs[0], inverse_map, forward_map), None, None

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, *grad_inputs: Tensor | None) -> Tensor:
        forward_map, _ = ctx.maps  # pyright: ignore[reportAttributeAccessIssue]
        change = grad_inputs[0]
        assert change is not None
        return change.index_select(-1, forward_map[0]) * forward_map[1].to(change.dtype)


class SignedPermutation(torch.nn.Module):
    """Applies a :class:`FrameOrder` and its inverse; the backward is a gather, not a scatter."""

    index: Tensor
    sign: Tensor
    inverse: Tensor
    inverse_sign: Tensor

    def __init__(self, order: FrameOrder) -> None:
        """Store the permutation and its inverse."""
        super().__init__()
        index = torch.tensor(order.index)
        sign = torch.tensor(order.sign, dtype=torch.int8)
        inverse = torch.argsort(index)
        self.widths = order.widths
        for name, value in {
            "index": index,
            "sign": sign,
            "inverse": inverse,
            "inverse_sign": sign[inverse],
        }.items():
            self.register_buffer(name, value, persistent=False)

    def to_frame(self, flat: Float[Tensor, "nedge n"]) -> Float[Tensor, "nedge n"]:
        """Rotated irreps to O(2) channels."""
        maps = (self.index, self.sign), (self.inverse, self.inverse_sign)
        return _SignedPermutation.apply(flat, *maps)

    def from_frame(self, flat: Float[Tensor, "nedge n"]) -> Float[Tensor, "nedge n"]:
        """Inverse of :meth:`to_frame`."""
        maps = (self.inverse, self.inverse_sign), (self.index, self.sign)
        return _SignedPermutation.apply(flat, *maps)


def rotate_irreps(
    flat: Float[Tensor, "nedge n"],
    wigner: Sequence[Tensor],
    channels: Sequence[int],
    *,
    inverse: bool = False,
) -> Float[Tensor, "nedge n"]:
    """Apply D_l (or its transpose) to a flat vector of l blocks with ``channels[l]`` channels."""
    parts = flat.split([(2 * l + 1) * c for l, c in enumerate(channels)], -1)
    rotated = [parts[0]]
    for l, part in enumerate(parts[1:], start=1):
        d = wigner[l].mT if inverse else wigner[l]
        rotated.append(torch.bmm(d, part.unflatten(-1, (2 * l + 1, channels[l]))).flatten(-2))
    return torch.cat(rotated, -1)
