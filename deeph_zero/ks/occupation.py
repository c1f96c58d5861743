"""Occupation numbers: aufbau, with a degenerate frontier level filled evenly; HOMO and LUMO."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

DEGENERACY_TOL = 1e-4
"""Frontier levels closer than this (Eh) share their electrons; a grid splits exact ones by 1e-5."""


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The levels on both sides of the gap of one spin channel, Eh.

    Attributes:
        homo: Highest filled level; None if none is filled.
        lumo: Lowest empty one; None if none is empty.
    """

    homo: float | None
    lumo: float | None

    @property
    def gap(self) -> float | None:
        """lumo - homo; None without both."""
        return None if self.homo is None or self.lumo is None else self.lumo - self.homo


def frontier(mo_energy: Float[Tensor, "nspin nmo"], filled: Sequence[int]) -> list[Frontier]:
    """HOMO and LUMO of each spin channel.

    Args:
        mo_energy: Ascending, Eh.
        filled: Number of levels with electrons of each channel; more numbers are not read.

    Returns:
        One for each channel.
    """
    return [
        Frontier(e[n - 1] if n > 0 else None, e[n] if n < len(e) else None)
        for e, n in zip(mo_energy.tolist(), filled, strict=False)
    ]


def smallest_gap(mo_energy: Float[Tensor, "nspin nmo"], filled: Sequence[int]) -> float:
    """Smallest gap between filled and empty levels of all spin channels.

    Args:
        mo_energy: Ascending, Eh.
        filled: As for :func:`frontier`.

    Returns:
        Eh; infinite where no channel has both.
    """
    gaps = [f.gap for f in frontier(mo_energy, filled) if f.gap is not None]
    return min(gaps, default=float("inf"))


def filled_levels(mo_occ: Float[Tensor, "nspin nmo"]) -> list[int]:
    """Number of levels with electrons of each spin channel."""
    return (mo_occ > 0).sum(-1).tolist()


def aufbau(
    mo_energy: Float[Tensor, " nmo"], nocc: int, degeneracy_tol: float
) -> tuple[Float[Tensor, " nmo"], bool]:
    """Occupations in [0, 1] of one spin channel, lowest levels first.

    When the highest occupied and lowest empty level are closer than ``degeneracy_tol`` the whole
    level is filled evenly, which keeps the density invariant under the symmetry that makes it
    degenerate. With ``degeneracy_tol`` = 0 occupations are integers, as PySCF's.

    Args:
        mo_energy: Ascending orbital energies, Eh.
        nocc: Number of electrons of this spin (pairs, for a closed shell).
        degeneracy_tol: Eh; see above.

    Returns:
        Occupations, and whether the frontier level was found degenerate.
    """
    occ = torch.zeros_like(mo_energy)
    occ[:nocc] = 1.0
    nmo = mo_energy.shape[0]
    if not 0 < nocc < nmo or degeneracy_tol <= 0:
        return occ, False
    gaps = (mo_energy[1:] - mo_energy[:-1]).tolist()
    if gaps[nocc - 1] >= degeneracy_tol:
        return occ, False
    first, end = widened(gaps, nocc - 1, nocc + 1, degeneracy_tol)
    occ[first:end] = (nocc - first) / (end - first)
    return occ, True


def evenly_filled(
    mo_energy: Float[Tensor, "*batch nmo"], nocc: Int[Tensor, "*batch"], tol: float | Tensor
) -> Float[Tensor, "*batch nmo"]:
    """:func:`aufbau` of many channels at once, without a look at any number.

    Args:
        mo_energy: Ascending orbital energies, Eh.
        nocc: Electrons of each channel.
        tol: Eh; a tensor has one for each channel, [*batch, 1].

    Returns:
        Occupations in [0, 1].
    """
    nmo, count = mo_energy.shape[-1], nocc.unsqueeze(-1)
    level = torch.arange(nmo, device=mo_energy.device)
    # levels that are not told apart have one number
    apart = mo_energy.diff(dim=-1) >= tol
    number = torch.nn.functional.pad(apart.cumsum(-1), (1, 0))
    homo = number.gather(-1, (count - 1).clamp_min(0))
    lumo = number.gather(-1, count.clamp_max(nmo - 1))
    shared = (homo == lumo) & (count > 0) & (count < nmo)
    below, member = (number < homo).sum(-1, keepdim=True), number == homo
    part = (count - below) / member.sum(-1, keepdim=True).to(mo_energy.dtype)
    return torch.where(shared & member, part, (level < count).to(mo_energy.dtype))


def widened(gaps: Sequence[float], first: int, end: int, tol: float) -> tuple[int, int]:
    """A range of levels with all neighbours that are not told apart from it.

    Args:
        gaps: Differences of neighbouring levels.
        first: First level of the range.
        end: The one behind its last.
        tol: Levels closer than this belong together.

    Returns:
        The range.
    """
    while first > 0 and gaps[first - 1] < tol:
        first -= 1
    while end <= len(gaps) and gaps[end - 1] < tol:
        end += 1
    return first, end


def occupations(
    mo_energy: Float[Tensor, "nspin nmo"],
    nelec: tuple[int, int],
    degeneracy_tol: float,
) -> tuple[Float[Tensor, "nspin nmo"], bool]:
    """Occupations with PySCF's normalisation: 2 per pair for a closed shell, 1 per spin orbital.

    Args:
        mo_energy: One spin channel for a closed shell, two for (alpha, beta).
        nelec: (n_alpha, n_beta).
        degeneracy_tol: See :func:`aufbau`.

    Returns:
        Occupations, same shape, and whether a frontier level is degenerate.
    """
    pairs = [aufbau(e, n, degeneracy_tol) for e, n in zip(mo_energy, nelec, strict=False)]
    per_orbital = 2.0 / len(mo_energy)
    return per_orbital * torch.stack([occ for occ, _ in pairs]), any(flag for _, flag in pairs)
