"""What one Fock build says about a density: orbital gradient and an estimate of its energy error.

In semicanonical orbitals of F (diagonal within each occupation level) the energy along the
rotation t·x, x_pq = -F_pq / (e_q - e_p), is E + t a + t² b / 2 with a = tr(F dP) and
b = 2 Σ (f_p - f_q) x_pq² (e_q - e_p) + tr(dP R[dP]), R the response build. Its minimum,
a² / (2 b), is the coupled estimate; without the response it is Σ (f_p - f_q) F_pq² / (e_q - e_p).

The minimum lies at t = -a / b. What F and the dipole are there to first order, F + t R[dP] and
mu - t tr(r dP), gives estimates of orbital energies and dipole without another build.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.types import AOMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.layer import KohnShamLayer

PerSpin = float | list[float | None] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """How wrong a prediction is, in Hartree.

    Attributes:
        energy: E[P̂] at the predicted density.
        energy_error_estimate: Estimate of E[P̂] - E_SCF, >= 0.
        energy_estimate: ``energy`` minus the estimate; not variational.
        orbital_gradient_rms: Root mean square of the occupied-virtual block of F over all its
            elements and spins.
        homo: Highest occupied level of the rebuilt Fock; [alpha, beta] for UKS, None if none.
        lumo: Lowest empty one.
        gap: lumo - homo.
        coupled: The estimate includes the response build.
        stable: The energy curves upwards along the estimated rotation.
        degenerate: The frontier level is degenerate.
        homo_estimate: First-order estimate of the converged level, from F + t R[dP]; None without
            the response build.
        lumo_estimate: The same of the lowest empty one.
        gap_estimate: Their difference.
        dipole_change: First-order estimate of the converged dipole minus the present one, debye,
            [3]; None without the response build.
    """

    energy: float
    energy_error_estimate: float
    energy_estimate: float
    orbital_gradient_rms: float
    homo: PerSpin
    lumo: PerSpin
    gap: PerSpin
    coupled: bool
    stable: bool
    degenerate: bool
    homo_estimate: PerSpin = None
    lumo_estimate: PerSpin = None
    gap_estimate: PerSpin = None
    dipole_change: tuple[float, float, float] | None = None


def semicanonical(
    layer: "KohnShamLayer", dm: AOMatrix, fock: AOMatrix
) -> tuple[Float[Tensor, "spin nao nmo"], Float[Tensor, "spin nmo"], Tensor]:
    """Orbitals diagonal in P and, within each occupation level, in F.

    Args:
        layer: The molecule.
        dm: Density matrix.
        fock: F[dm].

    Returns:
        (C [spin, nao, nmo], occupations per orbital [spin, nmo], F in these orbitals); a closed
        shell has one spin with occupations up to 2.
    """
    data, x = layer.data, layer.x
    p = (x.mT @ data.ovlp @ dm @ data.ovlp @ x).reshape(-1, layer.nmo, layer.nmo)
    f = (x.mT @ fock @ x).reshape(-1, layer.nmo, layer.nmo)
    vectors, occ = [], []
    for p_s, f_s in zip(p, f, strict=True):
        values, u = torch.linalg.eigh(p_s)
        levels = torch.round(values * 1e5) / 1e5
        for level in levels.unique():
            member = levels == level
            sub = u[:, member]
            _, rotation = torch.linalg.eigh(sub.mT @ f_s @ sub)
            u[:, member] = sub @ rotation
        vectors.append(u)
        occ.append(levels)
    u = torch.stack(vectors)
    return x @ u, torch.stack(occ), u.mT @ f @ u


def _frontier(layer: "KohnShamLayer", fock: AOMatrix) -> tuple[PerSpin, PerSpin, PerSpin, bool]:
    orbitals = layer.orbitals(fock)
    levels = orbitals.mo_energy.reshape(-1, layer.nmo).tolist()
    homo = [e[n - 1] if n > 0 else None for e, n in zip(levels, layer.nelec, strict=False)]
    lumo = [e[n] if n < len(e) else None for e, n in zip(levels, layer.nelec, strict=False)]
    gap = [None if h is None or l is None else l - h for h, l in zip(homo, lumo, strict=True)]
    if layer.unrestricted:
        return homo, lumo, gap, orbitals.degenerate  # pyright: ignore
    return homo[0], lumo[0], gap[0], orbitals.degenerate


def certify(
    layer: "KohnShamLayer", dm: AOMatrix, fock: AOMatrix, energy: float, *, coupled: bool = True
) -> Certificate:
    """Certificate of a density from the Fock build made there.

    Args:
        layer: The molecule.
        dm: Predicted density matrix P̂.
        fock: F[P̂].
        energy: E[P̂], Eh.
        coupled: Spend one response build for the coupled estimate.

    Returns:
        The certificate; the sign of its estimate is that of a lowering, >= 0.
    """
    with torch.no_grad():
        coeff, occ, f_mo = semicanonical(layer, dm, fock)
        df = occ.unsqueeze(-1) - occ.unsqueeze(-2)  # f_p - f_q
        pairs = df > 0
        level = torch.diagonal(f_mo, dim1=-2, dim2=-1)
        de = level.unsqueeze(-2) - level.unsqueeze(-1)  # e_q - e_p
        # A wrong occupied space can make a difference negative: |de| keeps the step downhill.
        de = torch.where(pairs, de.abs().clamp_min(1e-3), 1.0)
        f_ov = torch.where(pairs, f_mo, 0.0)
        count = int(pairs.sum())
        rms = float((f_ov.square().sum() / max(count, 1)).sqrt())
        estimate = cheap = float((df * f_ov.square() / de).sum())
        stable, is_coupled = True, False
        corrected: dict[str, Any] = {}
        if coupled and cheap > 0:
            rotation = df.clamp_min(0) * (-f_ov / de)
            half = coeff @ rotation @ coeff.mT
            ddm = (half + half.mT).reshape(dm.shape)
            dfock = layer.response(dm, ddm)
            curvature = 2.0 * cheap + float((ddm * dfock).sum())
            stable, is_coupled = curvature > 0, curvature > 0
            if stable:
                estimate = 2.0 * cheap**2 / curvature
                t = 2.0 * cheap / curvature
                corrected = _corrected(layer, dm, t * ddm, fock + t * dfock)
        elif coupled:  # already stationary: nothing to correct
            corrected = _corrected(layer, dm, torch.zeros_like(dm), fock)
        homo, lumo, gap, degenerate = _frontier(layer, fock)
    return Certificate(
        energy=energy,
        energy_error_estimate=estimate,
        energy_estimate=energy - estimate,
        orbital_gradient_rms=rms,
        homo=homo,
        lumo=lumo,
        gap=gap,
        coupled=is_coupled,
        stable=stable,
        degenerate=degenerate,
        **corrected,
    )


def _corrected(
    layer: "KohnShamLayer", dm: AOMatrix, ddm: AOMatrix, fock: AOMatrix
) -> dict[str, Any]:
    """First-order estimates at dm + ddm, where the Fock matrix is ``fock`` to first order."""
    homo, lumo, gap, _ = _frontier(layer, fock)
    change = layer.dipole(dm + ddm) - layer.dipole(dm)
    return {
        "homo_estimate": homo,
        "lumo_estimate": lumo,
        "gap_estimate": gap,
        "dipole_change": tuple(change.tolist()),
    }
