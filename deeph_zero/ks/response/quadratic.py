"""The way from a density to its self-consistent solution, estimated from one response build.

In semicanonical orbitals of F (diagonal within each occupation level) let p be fuller than q,
w_pq = f_p - f_q, D_pq = e_q - e_p. Under a rotation x of all pairs the energy is, to second order,
E + 2 Σ w F x + Σ w x (Hx), H = D + response. Its minimum is where H s = -F, and Σ w F (H⁻¹F) lower.

Without the response s = x = -F / D, and the lowering is the cheap estimate, Σ w D x². One response
build gives y = D⁻¹H x, and with it three moments of the spectrum of D⁻¹H, weighted by x:
⟨1⟩ = 1, α = ⟨x, y⟩ and v = ⟨y, y⟩ - α², where ⟨a, b⟩ = Σ w D a b / Σ w D x². Wanted is ⟨H⁻¹D⟩.

The one-node rule is 1/α, the minimum along x; by Jensen's inequality it is a lower bound. The
spectrum says more: most rotations hardly disturb the others (D⁻¹H near ζ = 1 - c_x/4; exact
exchange lowers it), a few move charge and are stiff. Two nodes, one of them ζ (the Gauss-Radau
rule), reproduce all three moments: the other node is λ = α + v / (α - ζ), and

    ⟨H⁻¹D⟩ = (ζ + λ - α) / (ζ λ),        s = ((ζ + λ) x - y) / (ζ λ).

References:
    G. H. Golub and G. Meurant, "Matrices, Moments and Quadrature with Applications" (Princeton,
    2010), ch. 6 (quadrature rules) and 7 (bounds of quadratic forms).
"""

import dataclasses

import torch
from torch import Tensor

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.types import SpinEnergies, SpinMatrix, SpinOrbitals

SMALLEST_GAP = 1e-3
"""Denominators are at least this, Eh."""

EXCHANGE_SHARE = 0.25
"""How far a full share of exact exchange takes the soft node ζ below 1: (ii|aa) makes D⁻¹H smaller.
Hartree-Fock on water and NO2 had 0.7 to 0.85 in def2-SVP and 6-31G."""

STIFFEST = 10.0
"""Largest λ believed; the stiffest seen was 7 (NO2). Where ζ would need more, ζ gives way."""


_BELOW_MEAN = 0.999
"""The soft node is at most this share of the mean: two nodes need room between them."""


def semicanonical(
    layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix
) -> tuple[SpinOrbitals, SpinEnergies, Tensor]:
    """Orbitals diagonal in P and, within each occupation level, in F.

    Args:
        layer: The molecule.
        dm: Density matrix.
        fock: F[dm].

    Returns:
        (C [nspin, nao, nmo], occupations per orbital [nspin, nmo], F in these orbitals); a closed
        shell has one spin with occupations up to 2.
    """
    data, x = layer.data, layer.x
    p = x.mH @ data.ovlp @ dm @ data.ovlp @ x
    f = x.mH @ fock @ x
    vectors, occ = [], []
    for p_s, f_s in zip(p, f, strict=True):
        values, u = torch.linalg.eigh(p_s)
        levels = torch.round(values * 1e5) / 1e5
        for level in levels.unique():
            member = levels == level
            sub = u[:, member]
            _, rotation = torch.linalg.eigh(sub.mH @ f_s @ sub)
            u[:, member] = sub @ rotation
        vectors.append(u)
        occ.append(levels)
    u = torch.stack(vectors)
    return x @ u, torch.stack(occ), u.mH @ f @ u


@dataclasses.dataclass(frozen=True)
class Step:
    """Where the quadratic model has its minimum.

    Attributes:
        lowering: By how much the energy falls, Eh.
        ddm: Change of the density matrix.
        dfock: Change of the Fock matrix, Eh.
    """

    lowering: float
    ddm: SpinMatrix
    dfock: SpinMatrix


class QuadraticModel:
    """The energy about a density to second order in orbital rotations.

    Attributes:
        gradient_rms: Root mean square of the occupied-virtual block of F, all spins, Eh.
        cheap: Lowering without the response, Eh.
        aufbau: No emptier level lies below a fuller one.
    """

    def __init__(self, layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix) -> None:
        """Turn F into semicanonical orbitals; no build is spent.

        Args:
            layer: The molecule.
            dm: Density matrix.
            fock: F[dm], Eh.
        """
        self._layer, self._dm = layer, dm
        self._coeff, occ, f_mo = semicanonical(layer, dm, fock)
        weight = occ.unsqueeze(-1) - occ.unsqueeze(-2)  # f_p - f_q
        pairs = weight > 0
        self._weight = weight.clamp_min(0)
        level = torch.diagonal(f_mo, dim1=-2, dim2=-1)
        gap = level.unsqueeze(-2) - level.unsqueeze(-1)  # e_q - e_p
        self.aufbau = not bool((gap[pairs] < 0).any())
        # A wrong occupied space makes a difference negative: |D| keeps the step downhill.
        self._gap = torch.where(pairs, gap, 1.0)
        self._d = self._gap.abs().clamp_min(SMALLEST_GAP)
        f_ov = torch.where(pairs, f_mo, 0.0)
        self.gradient_rms = float((f_ov.square().sum() / max(int(pairs.sum()), 1)).sqrt())
        self._x = -f_ov / self._d
        self.cheap = self._inner(self._x, self._x)

    def step(self) -> Step | None:
        """The step to the minimum, estimated; spends one response build unless F is stationary.

        Returns:
            The step; None if the energy curves downwards along x.
        """
        if self.cheap == 0:
            return self.no_step()
        # the response hardly knows the grid
        layer = self._layer.coarse or self._layer
        dfock = layer.response(self._dm, self.direction())
        exchange = sum((share for share, _ in self._layer.data.exchange), start=0.0)
        return self.step_along(dfock, exchange)

    def direction(self) -> SpinMatrix:
        """The change of the density along x, whose response is asked for."""
        return self._density_change(self._x)

    def no_step(self) -> Step:
        """The step of a stationary F."""
        zero = torch.zeros_like(self._dm)
        return Step(0.0, zero, zero)

    def step_along(self, dfock: SpinMatrix, exchange: float) -> Step | None:
        """:meth:`step` from the response.

        Args:
            dfock: Derivative of F along :meth:`direction`, Eh.
            exchange: Part of exact exchange.

        Returns:
            The step; None if the energy curves downwards along x.
        """
        turned = self._coeff.mH @ dfock @ self._coeff
        # the true differences here, which are negative between wrongly filled levels
        y = (self._gap * self._x + torch.where(self._weight > 0, turned, 0.0)) / self._d
        alpha = self._inner(self._x, y) / self.cheap
        if not alpha > 0:
            return None
        variance = max(self._inner(y, y) / self.cheap - alpha * alpha, 0.0)
        soft, stiff = nodes(alpha, variance, 1.0 - EXCHANGE_SHARE * exchange)
        rotation = ((soft + stiff) * self._x - y) / (soft * stiff)
        return Step(
            lowering=self.cheap * (soft + stiff - alpha) / (soft * stiff),
            ddm=self._density_change(rotation),
            dfock=response_share(alpha, soft, stiff) * dfock,
        )

    def _inner(self, a: Tensor, b: Tensor) -> float:
        return float((self._weight * self._d * a * b).sum())

    def _density_change(self, rotation: Tensor) -> SpinMatrix:
        half = self._coeff @ (self._weight * rotation) @ self._coeff.mH
        return half + half.mH


def nodes(alpha: float, variance: float, soft: float) -> tuple[float, float]:
    """Two-node quadrature of a spectrum with known mean and variance.

    Args:
        alpha: Mean, positive.
        variance: Variance of the spectrum, not negative.
        soft: The node that is given, if the moments allow it.

    Returns:
        (ζ, λ) with 0 < ζ < α <= λ. Where ζ = ``soft`` would ask for λ beyond :data:`STIFFEST`
        (a mean at or below it), λ is that and ζ follows, but stays above α / 2.
    """
    stiffest = max(STIFFEST, 2.0 * alpha)
    highest = _BELOW_MEAN * alpha
    if soft > highest or variance > (alpha - soft) * (stiffest - alpha):
        soft = min(max(alpha - variance / (stiffest - alpha), 0.5 * alpha), highest)
    return soft, alpha + variance / (alpha - soft)


def response_share(alpha: float, soft: float, stiff: float) -> float:
    """Which multiple of the response to x is closest to the response to s.

    The response is (D⁻¹H - 1) of a rotation: (ζ - 1) on the soft part of x, whose share is
    (λ - α) / (λ - ζ), and (λ - 1) on the stiff one; s has them divided by ζ and λ.

    Args:
        alpha: Mean of the spectrum.
        soft: ζ.
        stiff: λ.

    Returns:
        The least-squares factor, between 1/λ and 1/ζ. Without exact exchange it is 1/λ: what
        responds is what is stiff.
    """
    if not stiff > soft:
        return 1.0 / stiff
    share = (alpha - soft) / (stiff - soft)
    low, high = (1.0 - share) * (soft - 1.0) ** 2, share * (stiff - 1.0) ** 2
    if not low + high > 0:
        return 1.0 / stiff
    return (low / soft + high / stiff) / (low + high)
