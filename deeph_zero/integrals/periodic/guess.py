"""Starting densities of crystals: valence densities of free atoms, superposed on the grid."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Complex, Float
from pyscf.pbc import tools
from pyscf.pbc.gto import Cell
from pyscf.scf import atom_hf

_SMALLEST = 1e-12
"""Weights of products of Gaussians below it (electrons) are left out."""

Gaussians = tuple[tuple[int, float, float], ...]
"""A spherical density as Σ c r^(2l) exp(-a r²): (l, a, c), bohr."""


class FreeAtom(NamedTuple):
    """Spherical valence densities of an atom.

    Attributes:
        density: Electrons per bohr³.
        kinetic: τ = ½ Σ |∇φ|², Eh per bohr³.
    """

    density: Gaussians
    kinetic: Gaussians


_KNOWN: dict[str, FreeAtom] = {}
"""Free atoms of this process, by element, basis and pseudopotential."""


def superposed_density(
    cell: Cell,
    mesh: tuple[int, int, int],
    shares: Float[np.ndarray, "nspin natm"],
    what: Literal["density", "kinetic"] = "density",
) -> Float[np.ndarray, "nspin ngrids"]:
    """Densities of the cell's free atoms, added up with all their images.

    Their transforms are summed in reciprocal space up to the mesh's cutoff, so that no image is
    left out; what the mesh cannot hold is.

    Args:
        cell: The crystal.
        mesh: Points of the uniform grid.
        shares: Part of every atom's density in each spin channel.
        what: The density or τ.

    Returns:
        Electrons (Eh) per bohr³, not negative; a spin's electrons are those of its shares.
    """
    length2 = (cell.get_Gv(mesh) ** 2).sum(-1)
    phases = cell.get_SI(mesh=mesh)
    kinds = free_atoms(cell)
    spectra = {s: _transform(getattr(kind, what), length2) for s, kind in kinds.items()}
    out = np.zeros((len(shares), len(length2)))
    for s, share in enumerate(shares):
        spectrum = sum(
            share[a] * phases[a] * spectra[cell.atom_symbol(a)] for a in range(cell.natm)
        )
        density = tools.ifft(np.asarray(spectrum), mesh).real * (len(length2) / cell.vol)
        wanted = density.sum()
        density = density.clip(0.0)
        out[s] = density * (wanted / density.sum()) if wanted > 0 else density
    return out


def atomic_matrices(
    cell: Cell, shares: Float[np.ndarray, "nspin natm"], scaled: Float[np.ndarray, "nk 3"]
) -> Complex[np.ndarray, "nspin nk nao nao"]:
    """Density matrices of the cell's free atoms, one block each, the same at every k.

    Args:
        cell: The crystal.
        shares: Part of every atom's density in each spin channel.
        scaled: k-points; only their number matters.

    Returns:
        The matrices.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySCF's advice on its own free atoms
        found = atom_hf.get_atm_nrhf(cell)
    out = np.zeros((len(shares), cell.nao, cell.nao))
    for a, (_, _, start, end) in enumerate(cell.aoslice_by_atom()):
        if cell.atom_symbol(a) not in found:
            continue
        _, _, coefficients, occupations = found[cell.atom_symbol(a)]
        out[:, start:end, start:end] = shares[:, a, None, None] * (
            (coefficients * occupations) @ coefficients.T
        )
    return np.repeat(out[:, None], len(scaled), 1).astype(complex)


def free_atoms(cell: Cell) -> Mapping[str, FreeAtom]:
    """Spherical densities of the kinds of atom in a cell, in its basis and pseudopotentials.

    Args:
        cell: The crystal.

    Returns:
        By symbol, as Gaussians; empty for ghost atoms.
    """
    keys = {s: repr((s, cell._basis.get(s), cell._pseudo.get(s))) for s in _symbols(cell)}  # noqa: SLF001
    if any(key not in _KNOWN for key in keys.values()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF's advice on its own free atoms
            found = atom_hf.get_atm_nrhf(cell)
        for symbol, (_, _, coefficients, occupations) in found.items():
            first = _symbols(cell).index(symbol)
            dm = (coefficients * occupations) @ coefficients.T
            _KNOWN[keys[symbol]] = _gaussians(cell, first, dm)
    return {symbol: _KNOWN[key] for symbol, key in keys.items()}


def _symbols(cell: Cell) -> list[str]:
    return [cell.atom_symbol(a) for a in range(cell.natm)]


def _gaussians(cell: Cell, atom: int, dm: np.ndarray) -> FreeAtom:
    """A spherical density matrix of one atom as Gaussians."""
    shells = [i for i in range(cell.nbas) if cell.bas_atom(i) == atom]
    starts = np.cumsum([0] + [_width(cell, i) for i in shells])
    terms: dict[tuple[int, float], float] = {}
    kinetic: dict[tuple[int, float], float] = {}
    for i, at_i in zip(shells, starts, strict=False):
        for j, at_j in zip(shells, starts, strict=False):
            l = int(cell.bas_angular(i))
            if l != cell.bas_angular(j):
                continue
            n, m = _width(cell, i), _width(cell, j)
            block = dm[at_i : at_i + n, at_j : at_j + m]
            block = block.reshape(n // (2 * l + 1), 2 * l + 1, m // (2 * l + 1), 2 * l + 1)
            radial = np.einsum("amcm->ac", block) / (4 * np.pi)
            weights = cell._libcint_ctr_coeff(i) @ radial @ cell._libcint_ctr_coeff(j).T  # noqa: SLF001
            for p, a in enumerate(cell.bas_exp(i)):
                for q, b in enumerate(cell.bas_exp(j)):
                    _add(terms, l, a + b, weights[p, q])
                    # ½ [f' g' + l (l + 1) f g / r²] of f = r^l exp(-a r²), g = r^l exp(-b r²)
                    if l:
                        _add(kinetic, l - 1, a + b, (l + 0.5) * l * weights[p, q])
                        _add(kinetic, l, a + b, -l * (a + b) * weights[p, q])
                    _add(kinetic, l + 1, a + b, 2 * a * b * weights[p, q])
    return FreeAtom(_kept(terms), _kept(kinetic))


def _add(terms: dict[tuple[int, float], float], l: int, exponent: float, weight: float) -> None:
    key = (l, float(exponent))
    terms[key] = terms.get(key, 0.0) + float(weight)


def _kept(terms: dict[tuple[int, float], float]) -> Gaussians:
    return tuple((l, a, c) for (l, a), c in terms.items() if abs(c) > _SMALLEST)


def _width(cell: Cell, shell: int) -> int:
    """AOs of a shell, all contractions."""
    return int(cell.bas_nctr(shell) * (2 * cell.bas_angular(shell) + 1))


def _transform(density: Sequence[tuple[int, float, float]], length2: np.ndarray) -> np.ndarray:
    """∫ ρ(r) exp(-iG·r) of Gaussians, by G²."""
    out = np.zeros_like(length2)
    for l, a, c in density:
        out += c * (np.pi / a) ** 1.5 * np.exp(-length2 / (4 * a)) * _polynomial(l, a, length2)
    return out


def _polynomial(l: int, a: float, length2: np.ndarray) -> np.ndarray:
    """Transform of r^(2l) exp(-a r²) by that of exp(-a r²): derivatives with respect to -a.

    With x = G²/4a the transform of r^(2l) exp(-a r²) is l! L_l^(1/2)(x) / a^l times that of the
    Gaussian, L the associated Laguerre polynomial.
    """
    x = length2 / (4 * a)
    before, now = np.zeros_like(x), np.ones_like(x)
    for n in range(l):
        before, now = now, ((2 * n + 1.5 - x) * now - (n + 0.5) * before) / (n + 1)
    return now * float(functools.reduce(lambda u, v: u * v, range(1, l + 1), 1)) / a**l
