"""What a free atom's electrons look like: its density and potentials as sums of s Gaussians."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pyscf import gto
from pyscf.gto import ecp
from scipy.integrate import cumulative_simpson
from scipy.special import erf

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.minao import Shell, free_atom

BACKGROUND = 0.008
"""Density (1/bohr³) that an atom's exchange potential takes for granted around it.

Distorted ethanol, uracil, formate, methylammonium and QM9 molecules: anything from 0.005 to 0.015
serves; with no background the superposed potentials are too deep by 0.6 Eh."""

_RADII = np.geomspace(1e-5, 40.0, 800)
"""Where the fits are made, bohr; evenly in log r, so that nothing on any scale is left out."""

_RATIO = 2.6
_MOST_DIFFUSE = 0.06
"""Even-tempered exponents of the fits, 1/bohr²."""

_VALENCE = 0.3
"""Density (1/bohr³) beyond which electrons do not take part in charge transfer."""

_EXCHANGE = (3.0 / np.pi) ** (1.0 / 3.0)


@dataclasses.dataclass(frozen=True, eq=False)
class FreeAtom:
    """A spherical atom in Gaussians: electrons c_k spread as (α_k/π)^(3/2) exp(-α_k r²).

    Attributes:
        exponents: α, 1/bohr², from the most compact on.
        electrons: c_k of its density; they sum to the electron number.
        screening: c_k of a density whose Coulomb potential is that of the electrons plus exchange;
            the same sum.
        width: Exponent of one Gaussian as wide as its valence electrons, 1/bohr².
    """

    exponents: Float[np.ndarray, " n"]
    electrons: Float[np.ndarray, " n"]
    screening: Float[np.ndarray, " n"]
    width: float


@functools.cache
def free_atom_clouds(symbol: str, n_core: int = 0) -> FreeAtom:
    """Density and screening potential of a neutral atom.

    The density is that of the occupied atomic natural orbitals of the ANO basis, spread evenly
    over m, without the shells that a core potential replaces. Exchange is what the atom *adds* in
    surroundings of the density b: -(3/π)^⅓ ((ρ + b)^⅓ - b^⅓). The cube root is concave, so that
    superposed exchange potentials of isolated atoms would be far too deep wherever atoms overlap.

    Args:
        symbol: Element.
        n_core: Electrons in its effective core potential.

    Returns:
        Fits to about 1e-4 Eh, the same every time.

    Raises:
        InputError: If there are no natural orbitals of this element.
    """
    density = _density(symbol, n_core)
    enclosed = cumulative_simpson(4 * np.pi * _RADII**3 * density, x=np.log(_RADII), initial=0.0)
    outside = cumulative_simpson(4 * np.pi * _RADII**2 * density, x=np.log(_RADII), initial=0.0)
    n_electrons = float(np.rint(enclosed[-1]))
    scale = n_electrons / enclosed[-1]
    hartree = scale * (enclosed + _RADII * (outside[-1] - outside))  # r V(r)
    added = np.cbrt(scale * density + BACKGROUND) - np.cbrt(BACKGROUND)
    largest = max(100.0, 30.0 * gto.charge(symbol) ** 2)
    n = 1 + int(np.ceil(np.log(largest / _MOST_DIFFUSE) / np.log(_RATIO)))
    exponents = _MOST_DIFFUSE * _RATIO ** np.arange(n)[::-1]
    electrons = _fit(exponents, hartree, n_electrons)
    return FreeAtom(
        exponents=exponents,
        electrons=electrons,
        screening=electrons + _fit(exponents, -_EXCHANGE * added * _RADII, 0.0),
        width=_width(scale * density),
    )


def radial_density(
    symbol: str, n_core: int, radii: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    """Density of a neutral atom at distances from it, interpolated.

    Args:
        symbol: Element.
        n_core: Electrons in its effective core potential.
        radii: Bohr.

    Returns:
        Electrons per bohr³.

    Raises:
        InputError: If there are no natural orbitals of this element.
    """
    return np.interp(radii, _RADII, _density(symbol, n_core))


def background_potential() -> float:
    """Exchange potential of the background alone, Eh, the same everywhere."""
    return float(-_EXCHANGE * np.cbrt(BACKGROUND))


@functools.cache
def _density(symbol: str, n_core: int) -> Float[np.ndarray, " points"]:
    """Electrons per bohr³ at the radii."""
    try:
        occupations, shells = free_atom(symbol)
    except (KeyError, IndexError, RuntimeError) as error:
        raise InputError(
            f"expected elements with natural atomic orbitals, got {symbol}; "
            f"use {argument('inputs', 'physics')}"
        ) from error
    atom = gto.Mole()
    made = atom.make_env([[symbol, (0.0, 0.0, 0.0)]], {symbol: list(shells)}, np.zeros(20))
    atom._atm, atom._bas, atom._env = made  # noqa: SLF001
    atom._built = True  # noqa: SLF001
    points = np.zeros((len(_RADII), 3))
    points[:, 2] = _RADII  # the density is a sphere: any direction will do
    values = np.asarray(atom.eval_gto("GTOval_sph", points))
    return (values**2) @ (np.array(occupations) * _beside_core(shells, n_core))


def _beside_core(shells: Sequence[Shell], n_core: int) -> Float[np.ndarray, " nao"]:
    """1 for every function but those of shells inside the core, which come first of their l."""
    replaced = list(ecp.core_configuration(n_core)) if n_core else []
    kept: list[float] = []
    for shell in shells:
        l, contractions = int(np.asarray(shell[0])), len(np.atleast_1d(shell[1])) - 1
        core = min(replaced[l], contractions) if l < len(replaced) else 0
        kept += [0.0] * (core * (2 * l + 1)) + [1.0] * ((contractions - core) * (2 * l + 1))
    return np.array(kept)


def _fit(
    exponents: Float[np.ndarray, " n"], wanted: Float[np.ndarray, " points"], total: float
) -> Float[np.ndarray, " n"]:
    """c with Σ c erf(√α r) ≈ r V(r) and Σ c = ``total``."""
    basis = erf(np.sqrt(exponents) * _RADII[:, None])
    last = basis[:, -1:]
    # the last coefficient is what the others leave of the sum
    found, *_ = np.linalg.lstsq(basis[:, :-1] - last, wanted - total * last[:, 0], rcond=1e-9)
    return np.append(found, total - found.sum())


def _width(density: Float[np.ndarray, " points"]) -> float:
    """α of the Gaussian with the mean square radius of the valence electrons."""
    valence = density * _VALENCE / (density + _VALENCE)
    weights = valence * _RADII**3  # dr = r d(log r)
    return float(1.5 * weights.sum() / (weights * _RADII**2).sum())
