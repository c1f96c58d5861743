"""Densities of states: Gaussians at the levels of the whole zone, from a mesh of k-points."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from deeph_zero.integrals.periodic.kpoints import KPoints

_ENERGIES = (2000, 100_000)
"""Fewest and most of a density of states; two in a width, where that lies between."""
_FINE = 20
"""Bins in a width, whose shares are as good as the level itself, and wanted levels in one."""
_MOST_FINE = 100
"""Bins from one energy to the next, at most."""
_SAMPLES = 10_000_000
"""Levels between the points of a mesh, at most."""
_MOST_STEPS = 1000
"""From a point to the next, at most."""
_ABOVE = 1.0
"""How far above the Fermi level a density of states goes, Eh."""


def density_of_states(
    kpoints: KPoints,
    energies: Float[np.ndarray, "nspin nk n"],
    width: float,
    *,
    fermi: float | None = None,
    per_level: float = 1.0,
) -> tuple[Float[np.ndarray, " ne"], Float[np.ndarray, "nspin ne"]]:
    """Gaussians at levels of the mesh's points and at what lies between them.

    Between neighbouring points the levels, in ascending order, are on cubics along each axis, which
    are least right where bands cross. Where a band climbs by more than two widths from point to
    point, Gaussians at the points alone are single peaks.

    Args:
        kpoints: A mesh with Γ, of which one of k and -k is enough.
        energies: Levels at its points, ascending, infinite where there is none; Eh.
        width: Standard deviation of the Gaussians, Eh.
        fermi: The Fermi level, Eh: what lies more than 1 Eh above it is left out.
        per_level: Electrons in a level.

    Returns:
        Energies, Eh, and states per Eh and cell.

    References:
        R. Keys, IEEE Trans. Acoust. Speech Signal Process. 29, 1153 (1981), eq. 15 (the cubics).
    """
    finite = energies[np.isfinite(energies)]
    top = float(finite.max()) if fermi is None else min(float(finite.max()), fermi + _ABOVE)
    low, high = float(finite.min()) - 6 * width, top + 6 * width
    fewest, most = _ENERGIES
    grid = np.linspace(low, high, min(max(fewest, math.ceil(2 * (high - low) / width)), most))
    fine = min(max(1, math.ceil(_FINE * (grid[1] - grid[0]) / width)), _MOST_FINE)
    bin_width = (grid[1] - grid[0]) / fine
    bins = np.zeros((len(energies), math.ceil((high + 7 * width - low) / bin_width) + 2))
    whole = _whole_mesh(kpoints, np.minimum(energies, high + 6.5 * width))
    whole = whole[..., (whole < high).any((0, 1, 2, 3))]
    steps = _steps(whole, width)
    for s, found in _between(whole, steps):
        levels = np.maximum(found[found < high + 6 * width], low + 6 * width)
        _count(bins[s], (levels - low) / bin_width)
    norm = per_level / (bin_width * math.prod(whole.shape[1:4]) * math.prod(steps))
    smeared = gaussian_filter1d(bins, width / bin_width, mode="constant", truncate=8.0)
    return grid, norm * smeared[:, : fine * len(grid) : fine]


def _whole_mesh(
    kpoints: KPoints, energies: Float[np.ndarray, "nspin nk n"]
) -> Float[np.ndarray, "nspin n1 n2 n3 n"]:
    """Levels at every point of the mesh, in the order of its fractions."""
    assert kpoints.mesh is not None
    whole = np.empty((len(energies), *kpoints.mesh, energies.shape[-1]))
    for points in (kpoints.scaled, kpoints.partners):
        if points is not None:
            i, j, k = (np.rint(points * kpoints.mesh).astype(int) % kpoints.mesh).T
            whole[:, i, j, k] = energies
    return whole


def _steps(whole: Float[np.ndarray, "nspin n1 n2 n3 n"], width: float) -> tuple[int, int, int]:
    """Into how many steps to divide the way to the next point along each axis."""
    jumps = [np.abs(np.roll(whole, -1, axis) - whole).max() for axis in (1, 2, 3)]
    steps = [int(np.clip(np.ceil(_FINE * jump / width), 1, _MOST_STEPS)) for jump in jumps]
    while math.prod(steps) * whole.size > _SAMPLES and max(steps) > 1:
        steps[steps.index(max(steps))] -= 1
    return steps[0], steps[1], steps[2]


def _between(
    whole: Float[np.ndarray, "nspin n1 n2 n3 n"], steps: tuple[int, int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Spins and levels, a layer of the mesh at a time: all of the zone that is nearest to it."""
    for s, first in itertools.product(range(len(whole)), range(whole.shape[1])):
        four = np.arange(first - 1, first + 3) % whole.shape[1]
        levels = _on_cubics(whole[s, four][:, None], 0, steps[0])
        yield s, _divided(_divided(levels, 1, steps[1]), 2, steps[2])


def _divided(levels: np.ndarray, axis: int, steps: int) -> np.ndarray:
    """With points between neighbours along a periodic axis."""
    return _on_cubics([np.roll(levels, shift, axis) for shift in (1, 0, -1, -2)], axis, steps)


def _on_cubics(four: Sequence[np.ndarray] | np.ndarray, axis: int, steps: int) -> np.ndarray:
    """The second of four neighbours along an axis, and points between it and the third."""
    weights = (_cubic(step / steps) for step in range(steps))
    parts = [sum(w * levels for w, levels in zip(own, four, strict=True)) for own in weights]
    shape = list(four[0].shape)
    shape[axis] *= steps
    return np.stack(parts, axis + 1).reshape(shape)


def _cubic(t: float) -> tuple[float, float, float, float]:
    """Weights of four points, of which the curve goes through the middle two, along them."""
    return (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )


def _count(bins: Float[np.ndarray, " nbins"], places: Float[np.ndarray, " nlevels"]) -> None:
    """Add levels to the two bins beside them."""
    index = places.astype(int)
    share = places - index
    bins += np.bincount(index, 1 - share, len(bins))
    bins += np.bincount(index + 1, share, len(bins))
