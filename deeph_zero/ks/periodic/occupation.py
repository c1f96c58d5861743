"""Occupation of levels at all k-points together: in order, or smeared with one Fermi level."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.occupation import widened
from deeph_zero.ks.periodic.types import BandEnergies, KWeights
from deeph_zero.ks.smearing import NO_ORBITAL, chemical_potential, fermi
from deeph_zero.types import Brief

ROUNDING = 1e-9
"""Electrons per cell that count as none."""

GIVEN_TOL = 1e-6
"""Frontier levels of given matrices closer than this are filled evenly, Eh."""


class Channel(NamedTuple):
    """Spins that share a chemical potential.

    Attributes:
        spins: Their indices, consecutive.
        electrons: Orbitals they fill, per cell.
    """

    spins: slice
    electrons: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Filling(Brief):
    """How levels are filled.

    Attributes:
        occ: [nspin, nk, nmo]; 2 per pair for a closed shell, 1 per spin orbital otherwise.
        fermi: Chemical potential of each spin, Eh: μ with smearing, else the middle between the
            highest filled and the lowest empty level (the highest filled one where none is empty).
        gap: Lowest empty minus highest filled level, with smearing of those on both sides of μ, the
            smallest of all channels, Eh; 0 where a level is filled in part without smearing,
            infinite where no level is empty.
        degenerate: A frontier level was filled in part.
        entropy_energy: T S, Eh per cell.
    """

    occ: Tensor
    fermi: tuple[float, ...]
    gap: float
    degenerate: bool
    entropy_energy: float


def channels(
    nelec: tuple[float, float], *, unrestricted: bool, smearing: float, fix_spin: bool
) -> list[Channel]:
    """Which spins share a chemical potential.

    Args:
        nelec: Electrons (alpha, beta) per cell.
        unrestricted: Two spins.
        smearing: Width, Eh.
        fix_spin: Keep the electrons of each spin under smearing.

    Returns:
        The channels.
    """
    if not unrestricted:
        return [Channel(slice(0, 1), sum(nelec) / 2)]
    if smearing > 0 and not fix_spin:
        return [Channel(slice(0, 2), sum(nelec))]
    return [Channel(slice(0, 1), nelec[0]), Channel(slice(1, 2), nelec[1])]


def fill(
    levels: BandEnergies,
    weights: KWeights,
    filled: list[Channel],
    *,
    smearing: float,
    degeneracy_tol: float,
) -> Filling:
    """Occupations of all levels.

    Args:
        levels: Orbital energies, Eh.
        weights: w_k.
        filled: From :func:`channels`.
        smearing: Width of Fermi occupations, Eh; 0 fills in order.
        degeneracy_tol: Frontier levels closer than this (Eh) share their electrons evenly.

    Returns:
        The filling.

    Raises:
        InputError: If there are more electrons than orbitals.
    """
    share = weights.unsqueeze(-1).expand_as(levels)
    per_orbital = 2.0 if len(levels) == 1 else 1.0
    occ = torch.zeros_like(levels)
    fermis: list[float] = []
    gap, degenerate, entropy = float("inf"), False, 0.0
    for spins, electrons in filled:
        own, w = levels[spins], share[spins]
        _check_room(own, w, electrons)
        if smearing > 0 and electrons > 0:
            mu = chemical_potential(own, electrons, smearing, weights.expand(own.shape[:-1]))
            f = fermi(own - mu, smearing)
            entropy += per_orbital * smearing * float((w * _entropy(f)).sum())
            level, own_gap, split = mu, _gap_at(own, mu), False
        else:
            f, level, own_gap, split = _in_order(own, w, electrons, degeneracy_tol)
        occ[spins] = per_orbital * f
        fermis += [level] * len(own)
        gap, degenerate = min(gap, own_gap), degenerate or split
    return Filling(
        occ=occ, fermi=tuple(fermis), gap=gap, degenerate=degenerate, entropy_energy=entropy
    )


def _gap_at(levels: Tensor, mu: float) -> float:
    """Between the levels on both sides of an energy, Eh; infinite where there is none."""
    low, high = levels[levels <= mu], levels[(levels > mu) & (levels < NO_ORBITAL)]
    return float(high.min() - low.max()) if len(low) and len(high) else float("inf")


def _entropy(f: Tensor) -> Tensor:
    """-f ln f - (1 - f) ln(1 - f), 0 at both ends."""
    return torch.special.entr(f) + torch.special.entr(1 - f)


def _check_room(levels: Tensor, share: Tensor, electrons: float) -> None:
    most = float(share[levels < NO_ORBITAL].sum())
    if electrons > most + ROUNDING:
        raise InputError(
            f"expected at most {most:g} electrons of one spin (or pairs) per cell for {most:g} "
            f"orbitals, got {electrons:g}; choose a larger basis, or another charge or spin"
        )


def _in_order(
    levels: Tensor, share: Tensor, electrons: float, tol: float
) -> tuple[Tensor, float, float, bool]:
    """(occupations up to 1, Fermi level, gap, whether a level is filled in part)."""
    flat, order = levels.reshape(-1).sort()
    w = share.reshape(-1)[order]
    before = w.cumsum(0) - w
    f = ((electrons - before) / w).clamp(0.0, 1.0)
    f = torch.where(f * w < ROUNDING, 0.0, torch.where((1 - f) * w < ROUNDING, 1.0, f))
    count = int((f > 0).sum())
    if count == 0:
        return torch.zeros_like(levels), float(flat[0]), float("inf"), False
    first, last = _frontier(flat, f, count, tol)
    split = last > first
    if split:
        f[first:last] = (f[first:last] * w[first:last]).sum() / w[first:last].sum()
    occ = torch.empty_like(f)
    occ[order] = f
    top, nxt = float(flat[count - 1]), float(flat[count]) if count < len(flat) else float("inf")
    whole = not split and nxt < NO_ORBITAL
    gap = 0.0 if split else (nxt - top if nxt < NO_ORBITAL else float("inf"))
    return occ.reshape(levels.shape), 0.5 * (top + nxt) if whole else top, gap, split


def _frontier(flat: Tensor, f: Tensor, count: int, tol: float) -> tuple[int, int]:
    """Range of levels that share the frontier's electrons; empty where it is filled in order."""
    partly = 0 < float(f[count - 1]) < 1
    first, last = count - 1, count
    if not partly and (count == len(flat) or float(flat[count] - flat[count - 1]) >= tol):
        return 0, 0
    return widened((flat[1:] - flat[:-1]).tolist(), first, last, tol)
