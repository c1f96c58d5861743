"""How far shells reach, and which of them matter on a compact set of points."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deeph_zero.ao.values import AOBasis, ShellGroup
from deeph_zero.types import Coordinates

_BISECTIONS = 25
_DISTANCES = 200_000
"""Distances made at once, so that they stay in the processor's cache."""


def shell_extents(basis: AOBasis, cutoff: float, deriv: int = 1) -> Float[Tensor, " nshell"]:
    """Distances beyond which every function of a shell stays below ``cutoff``.

    The bound replaces each contraction by Σ_p |c_p| exp(-a_p r²) and each angular function of l by
    the root of the sum over m of its square. At distance 1, Σ_m Y² = (2l+1)/4π; because the
    Laplacian of f² is 2|∇f|² for harmonic f, Σ_m |∇Y|² = l(2l+1) Σ_m Y² and Σ_m |∇∇Y|² =
    (l-1)(2l-1) Σ_m |∇Y|². The bound falls beyond the last maximum of its terms, so that bisection
    finds where it crosses the cutoff.

    Args:
        basis: Shells; numbered 0 to nshell - 1.
        cutoff: Positive, atomic units.
        deriv: Derivatives up to this order (0, 1 or 2) stay below it as well.

    Returns:
        Bohr, by shell number, on the basis' device.
    """
    out = torch.zeros(basis.nshell, dtype=torch.float64)
    for group in basis.groups:
        radii = _crossing(_envelope(group, deriv, cart=basis.cart), _last_maximum(group), cutoff)
        out = out.to(radii.device)
        out[group.shell] = radii
    return out


def significant_shells(
    basis: AOBasis,
    extents: Float[Tensor, " nshell"],
    coords: Coordinates,
    points: Float[Tensor, "npoints 3"],
) -> Bool[Tensor, " nshell"]:
    """Shells that reach at least one of a set of points.

    Args:
        basis: All shells.
        extents: From :func:`shell_extents`, bohr.
        coords: Centres, bohr.
        points: A compact set, bohr.

    Returns:
        By shell number. The others are below the cutoff at every point.

    Cost:
        Distances from the centres that reach the box around the points; nothing is evaluated.
    """
    return reaching_shells(basis, extents, coords, points, [0, len(points)])[0]


def reaching_shells(
    basis: AOBasis,
    extents: Float[Tensor, " nshell"],
    coords: Coordinates,
    points: Float[Tensor, "npoints 3"],
    bounds: Sequence[int],
) -> Bool[Tensor, "nblocks nshell"]:
    """:func:`significant_shells` of every block of points, neighbours together.

    Args:
        basis: All shells.
        extents: From :func:`shell_extents`, bohr.
        coords: Centres, bohr.
        points: Blocks that are compact, next to their neighbours, bohr.
        bounds: Block k holds the points ``bounds[k]`` to ``bounds[k + 1]``.

    Returns:
        One row per block.
    """
    nearest = extents.new_full((len(bounds) - 1, len(coords)), float("inf"))
    for first, last in _runs(bounds, max(1, _DISTANCES // max(1, len(coords)))):
        some = points[bounds[first] : bounds[last]]
        if not len(some):
            continue
        low, high = some.aminmax(dim=0)
        to_box = torch.maximum(low - coords, coords - high).clamp(min=0.0).norm(dim=1)
        close = to_box <= extents.max()
        centres = coords[close]
        squares = torch.addmm(some.square().sum(1), centres, some.mT, alpha=-2.0)
        squares += centres.square().sum(1, keepdim=True)
        for k in range(first, last):
            own = squares[:, bounds[k] - bounds[first] : bounds[k + 1] - bounds[first]]
            if own.shape[1]:
                nearest[k, close] = own.amin(1).clamp_(min=0.0).sqrt_()
    atom = torch.zeros(basis.nshell, dtype=torch.long, device=coords.device)
    for group in basis.groups:
        atom[group.shell] = group.atom
    return nearest[:, atom] <= extents


def _runs(bounds: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """First block and the one after the last, of blocks with ``most`` points (or of one block)."""
    first, blocks = 0, len(bounds) - 1
    while first < blocks:
        last = first + 1
        while last < blocks and bounds[last + 1] - bounds[first] <= most:
            last += 1
        yield first, last
        first = last


Envelope = Callable[[Float[Tensor, " nshell"]], Float[Tensor, " nshell"]]


def _envelope(group: ShellGroup, deriv: int, *, cart: bool) -> Envelope:
    """Bound on the largest value or derivative of each shell as a function of the distance."""
    l = group.l
    bounds = _angular_bounds(l, cart=cart)
    heights = group.coefficients.abs().amax(1)

    def at(r: Tensor) -> Tensor:
        radius = r.unsqueeze(1)
        gauss = heights * torch.exp(-group.exponents * radius.square())
        # |R|, |dR/dr| and the largest element of ∇∇R; angular functions and their derivatives
        slope = 2.0 * group.exponents * radius
        radial = (gauss, gauss * slope, gauss * (slope.square() + 2.0 * group.exponents))
        angular = [b * r.pow(max(l - k, 0)).unsqueeze(1) for k, b in enumerate(bounds)]
        terms = [radial[0] * angular[0]]
        if deriv > 0:
            terms.append(radial[1] * angular[0] + radial[0] * angular[1])
        if deriv > 1:
            both = 2.0 * radial[1] * angular[1]
            terms.append(radial[2] * angular[0] + both + radial[0] * angular[2])
        return torch.stack(terms).sum(-1).amax(0)

    return at


def _angular_bounds(l: int, *, cart: bool) -> tuple[float, float, float]:
    """Bounds of |Y|, |∂Y| and |∂∂Y| at distance 1."""
    unit = math.sqrt((2 * l + 1) / (4.0 * math.pi))
    if cart:
        unit = unit if l < 2 else 1.0
        return unit, l * unit, l * max(l - 1, 0) * unit
    first = unit * math.sqrt(l * (2 * l + 1))
    return unit, first, first * math.sqrt(max(l - 1, 0) * (2 * l - 1))


def _last_maximum(group: ShellGroup) -> Float[Tensor, " nshell"]:
    """Beyond it every term of the envelope falls: r^k exp(-a r²), k <= l + 2, peaks at √(k/2a)."""
    return torch.sqrt((group.l + 2) / (2.0 * group.exponents.amin(1)))


def _crossing(
    envelope: Envelope, start: Float[Tensor, " nshell"], cutoff: float
) -> Float[Tensor, " nshell"]:
    """Where a function that falls from ``start`` on is at ``cutoff`` (``start`` if below there)."""
    low, high = start, 2.0 * start
    while bool((envelope(high) > cutoff).any()):
        high = 2.0 * high
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = envelope(middle) > cutoff
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return high
