"""Numerical radial functions times real harmonics, in reciprocal space."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Complex, Float
from pyscf.symm import sph
from scipy.interpolate import BSpline, make_interp_spline
from scipy.special import spherical_jn

_STEP = 0.02
"""Step of the table over |q|, 1/bohr; at a reach of 10 bohr its error is 1e-9 of the function."""
_DEGREE = 5
_PIECES = 400


@dataclasses.dataclass(frozen=True, eq=False)
class RadialFunction:
    """f(r) = R(|r|) Y_lm, for all m.

    Attributes:
        l: Angular momentum.
        r: Distances, bohr, growing; the function is 0 behind the last.
        values: r R(r), 1/sqrt(bohr).
        weights: Weights of the quadrature over r.
    """

    l: int
    r: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]

    def norm(self) -> float:
        """∫ r² R² dr."""
        return float((self.weights * self.values**2).sum())

    def products(self, other: "RadialFunction") -> tuple[float, float]:
        """⟨f|g⟩ and ⟨f|-∇²/2|g⟩ of two functions of one atom with the same l and m.

        Args:
            other: g.

        Returns:
            The overlap, and the kinetic energy in Eh.
        """
        end = min(self.r[-1], other.r[-1])
        # the end of the shorter one has a kink: both are integrated piece by piece up to it
        edges = np.linspace(0.0, end, _PIECES + 1)
        nodes, shares = np.polynomial.legendre.leggauss(6)
        half = 0.5 * np.diff(edges)
        x = (edges[:-1, None] + half[:, None] * (nodes + 1)).ravel()
        w = (half[:, None] * shares).ravel()
        one, two = self.spline, other.spline
        u, v = one(x), two(x)
        slopes = one.derivative()(x) * two.derivative()(x)
        kinetic = 0.5 * (slopes + self.l * (self.l + 1) / x**2 * u * v)
        return float(w @ (u * v)), float(w @ kinetic)

    @functools.cached_property
    def spline(self) -> BSpline:
        """r R(r)."""
        return make_interp_spline(self.r, self.values, k=3)

    @property
    def reach(self) -> float:
        """Distance behind which the function is nothing, bohr."""
        return float(self.r[np.flatnonzero(np.abs(self.values) > 1e-8)[-1]])

    def table(self, highest: float) -> BSpline:
        """∫ r² j_l(qr) R(r) dr for 0 <= q <= ``highest`` (1/bohr), as a spline."""
        return _table(self, int(np.ceil(highest / _STEP / 500)) * 500)

    def at(self, vectors: Float[np.ndarray, "n 3"]) -> Complex[np.ndarray, "m n"]:
        """Fourier transform ∫ f(r) exp(-iq·r) d³r of all 2l + 1 functions.

        Args:
            vectors: q, 1/bohr.

        Returns:
            PySCF's order of m, bohr^(3/2).
        """
        length = np.linalg.norm(vectors, axis=1)
        radial = self.table(float(length.max(initial=0.0)))(length)
        return (4 * np.pi * (-1j) ** self.l * radial) * harmonics(self.l, vectors, length)


@functools.lru_cache(maxsize=256)
def _table(function: RadialFunction, steps: int) -> BSpline:
    q = np.arange(steps + _DEGREE) * _STEP
    products = spherical_jn(function.l, q[:, None] * function.r)
    values = products @ (function.weights * function.r * function.values)
    return make_interp_spline(q, values, k=_DEGREE)


def harmonics(
    l: int, vectors: Float[np.ndarray, "n 3"], length: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "m n"]:
    """Y_lm of the directions of vectors, orthonormal on the sphere; at 0 that of (0, 0, 1).

    Args:
        l: Angular momentum.
        vectors: Any length.
        length: Lengths of these vectors.

    Returns:
        PySCF's order: x, y, z for l = 1, m from -l to l otherwise.
    """
    zero = length < 1e-12
    units = np.where(zero[:, None], (0.0, 0.0, 1.0), vectors / np.where(zero, 1.0, length)[:, None])
    return np.asarray(sph.multipoles(units, l, reorder_dipole=True)[l])


def simpson(spacing: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Weights of Simpson's rule for points whose spacing dr/di is given.

    Args:
        spacing: dr/di of every point; an even number of points leaves the last one out, where
            functions have ended.

    Returns:
        Weights.
    """
    n = len(spacing) - (len(spacing) + 1) % 2
    factors = np.zeros(len(spacing))
    factors[1:n:2] = 4 / 3
    factors[2:n:2] = 2 / 3
    factors[0] = 1 / 3
    factors[n - 1] = 1 / 3
    return factors * spacing
