"""Wigner D matrices in float64.

e3nn builds its own from float32 generators, which limits them to 1e-7. Here they come from the
polynomial spherical harmonics instead: Y(R r) = D(R) Y(r) at enough fixed points r, solved by least
squares once per l.
"""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.blocks import ao_rows
from deeph_zero.ao.convention import m_order, rotation_to_network_axes
from deeph_zero.ao.coupling import spherical_harmonics
from deeph_zero.ao.shells import BasisLayout


@functools.cache
def _sample_points(l: int) -> tuple[Tensor, Tensor]:
    """Points on a spiral over the sphere, and the pseudo-inverse of the harmonics there."""
    n = 8 * l + 8
    k = torch.arange(n, dtype=torch.float64)
    height = 1 - (2 * k + 1) / n
    radius = (1 - height**2).sqrt()
    angle = k * math.pi * (3 - math.sqrt(5))
    points = torch.stack([radius * angle.cos(), height, radius * angle.sin()], -1)
    return points, torch.linalg.pinv(spherical_harmonics(l, points))


def wigner_d(l: int, rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch m m"]:
    """Matrices of rotations or reflections on the real harmonics of degree l.

    Args:
        l: Angular momentum.
        rotation: Orthogonal matrices in network axes, float64. Improper ones are allowed: the
            result then belongs to the natural parity (-1)^l.

    Returns:
        D with Y(R r) = D Y(r) in e3nn's order m = -l..l, orthogonal to 1e-14.
    """
    if l == 0:
        return torch.ones(*rotation.shape[:-2], 1, 1, dtype=rotation.dtype, device=rotation.device)
    points, inverse = (t.to(rotation.device) for t in _sample_points(l))
    rotated = spherical_harmonics(l, points @ rotation.mT)
    return (inverse @ rotated).mT


def shell_rotation(ls: Sequence[int], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "nao nao"]:
    """Matrix U that turns the functions of some shells, in PySCF's order.

    Args:
        ls: Angular momentum of every shell, in order.
        rotation: Rotation or reflection in PySCF's axes: coordinates become coords @ rotation.T.

    Returns:
        Orthogonal and block-diagonal, float64.
    """
    in_axes = rotation_to_network_axes(rotation.double())
    blocks = []
    for l in ls:
        order = list(m_order(l))
        block = torch.zeros(2 * l + 1, 2 * l + 1, dtype=torch.float64)
        block[torch.tensor(order)[:, None], torch.tensor(order)] = wigner_d(l, in_axes)
        blocks.append(block)
    return torch.block_diag(*blocks)


def ao_rotation(
    layout: BasisLayout, numbers: Sequence[int], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "nao nao"]:
    """Matrix U that turns AO matrices along with the molecule: A -> U A U^T.

    Args:
        layout: Shells of the elements.
        numbers: Atomic numbers, [natm].
        rotation: Rotation or reflection in PySCF's axes: coordinates become coords @ rotation.T.

    Returns:
        Orthogonal [nao, nao] in PySCF's AO order, float64.

    Raises:
        InputError: If an element is not in the layout.
    """
    rows = ao_rows(layout, numbers)
    nao = layout.nao(numbers)
    full = torch.zeros(nao + 1, nao + 1, dtype=torch.float64)
    in_axes = rotation_to_network_axes(rotation.double())
    start = 0
    for l in layout.slot_shells:
        index = rows[:, start : start + 2 * l + 1]
        full[index[:, :, None], index[:, None, :]] = wigner_d(l, in_axes)
        start += 2 * l + 1
    return full[:nao, :nao]
