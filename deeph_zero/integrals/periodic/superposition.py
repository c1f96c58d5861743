"""Potentials of superposed free atoms at any points, without a transform of the whole cell.

The electrostatic potential of a neutral free atom, core and electrons, ends where its electrons
do, and so does what exchange and correlation make of its density: at a point only near atoms count.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from pyscf.pbc.gto import Cell
from pyscf.pbc.gto.pseudo import get_vlocG
from scipy.special import erf, gammainc, gammaincc
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.guess import FreeAtom, Gaussians, free_atoms
from deeph_zero.integrals.periodic.image_atoms import Images
from deeph_zero.ks.periodic.types import MeshRows
from deeph_zero.ks.protocol import NVAR, Functional

# ruff: noqa: SLF001  pseudopotentials are read where PySCF keeps them

NEGLIGIBLE = 1e-9
"""Density (1/bohr³) and potential (Eh) of an atom that do not count."""
STEP = 0.01
"""Step of the tables, bohr, for exponents up to 10; finer beyond."""


@dataclasses.dataclass(frozen=True)
class _Table:
    """ρ, ρ'/r, τ and the electrostatic potential of one kind by distance, piecewise cubic."""

    step: float
    pieces: Float[Tensor, "n 4 4"]

    @property
    def reach(self) -> float:
        return self.step * len(self.pieces)

    def at(self, distance: Tensor) -> Float[Tensor, "*shape 4"]:
        place = distance / self.step
        index = place.long()
        inside = index < len(self.pieces)
        row = self.pieces[index.clamp(max=len(self.pieces) - 1).flatten()]
        x = ((place - index) * inside).flatten()[:, None]
        found = row[:, 0] + x * (row[:, 1] + x * (row[:, 2] + x * row[:, 3]))
        return (found * inside.flatten()[:, None]).unflatten(0, distance.shape)


class SuperposedAtoms:
    """Free atoms of one crystal, added up with all their images."""

    def __init__(
        self,
        cell: Cell,
        images: Images,
        shares: Float[np.ndarray, "nspin natm"],
        functional: Functional,
    ) -> None:
        """Make tables of every kind of atom.

        Args:
            cell: The crystal, neutral, with GTH pseudopotentials.
            images: Finds its atoms.
            shares: Part of every atom's density in each spin channel.
            functional: Exchange and correlation.

        Raises:
            InputError: If the cell is charged, or an atom has no pseudopotential.
        """
        _check(cell)
        self._images = images
        self._shares = torch.from_numpy(np.asarray(shares, dtype=float))
        self._functional = functional
        self.nvar = NVAR[functional.kind]
        kinds = free_atoms(cell)
        symbols = [cell.atom_symbol(a) for a in range(cell.natm)]
        known = {s: _table(cell, s, kind) for s, kind in kinds.items() if kind.density}
        self._tables = [known.get(s) for s in symbols]
        self._reach = np.array([t.reach if t else -1e9 for t in self._tables])
        self._shift = _average(cell, symbols, known)

    def density(
        self, coords: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"], radius: float
    ) -> tuple[MeshRows, Tensor]:
        """Density variables, and the electrostatic potential.

        Args:
            coords: Points, bohr.
            centre: Centre of a sphere that holds them.
            radius: Radius of the sphere, bohr.

        Returns:
            [nspin, nvar, n], and [n] (Eh), zero where the cell's average is.
        """
        images = self._images.near(centre, radius, reach=self._reach)
        rows = torch.zeros(len(self._shares), 4, len(coords), dtype=torch.float64)
        kinetic = torch.zeros_like(rows[:, 0])
        potential = torch.full((len(coords),), self._shift, dtype=torch.float64)
        kinds = self._images.kinds[images.atoms]
        for kind in np.unique(kinds):
            own = np.flatnonzero(kinds == kind)
            table = self._tables[images.atoms[own[0]]]
            assert table is not None
            apart = torch.from_numpy(coords[None] - images.coords[own][:, None])
            found = table.at(apart.norm(dim=-1))
            share = self._shares[:, torch.from_numpy(images.atoms[own])]
            rows[:, 0] += share @ found[..., 0]
            kinetic += share @ found[..., 2]
            for x in range(3):
                rows[:, 1 + x] += share @ (found[..., 1] * apart[..., x])
            potential += found[..., 3].sum(0)
        rows[:, 0].clamp_(min=0.0)
        if self.nvar == 5:
            return torch.cat([rows, possible_kinetic(rows, kinetic)], 1), potential
        return rows[:, : self.nvar], potential

    def rows(
        self, coords: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"], radius: float
    ) -> tuple[Float[Tensor, "nspin 1 n"], MeshRows]:
        """The density, and potentials for every density variable.

        Args:
            coords: Points, bohr.
            centre: Centre of a sphere that holds them.
            radius: Radius of the sphere, bohr.

        Returns:
            [nspin, 1, n], electrons per bohr³; [nspin, nvar, n], Eh and its like.
        """
        rho, electrostatic = self.density(coords, centre, radius)
        _, rows = self._functional.gradient(rho.contiguous())
        rows[:, 0] += electrostatic
        return rho[:, :1], rows


def possible_kinetic(
    rows: MeshRows, kinetic: Float[Tensor, "nspin n"]
) -> Float[Tensor, "nspin 1 n"]:
    """τ, not below von Weizsäcker's |∇ρ|²/8ρ, which that of orbitals never is.

    Args:
        rows: Density and gradient, [nspin, 4, n].
        kinetic: τ, Eh per bohr³.

    Returns:
        Eh per bohr³.
    """
    bound = rows[:, 1:4].square().sum(1) / (8 * rows[:, 0].clamp_min(1e-12))
    return torch.maximum(kinetic, bound).unsqueeze(1)


def _check(cell: Cell) -> None:
    if cell.charge:
        raise InputError(
            f"expected a neutral cell for superposed free atoms, got charge {cell.charge}; use "
            "physics inputs"
        )
    bare = [
        cell.atom_symbol(a)
        for a in range(cell.natm)
        if cell.atom_charge(a) and cell.atom_symbol(a) not in cell._pseudo
    ]
    if bare:
        raise InputError(
            f"expected GTH pseudopotentials on all atoms, got none on {bare[0]}; choose a GTH "
            "basis and pseudopotential"
        )


def _table(cell: Cell, symbol: str, atom: FreeAtom) -> _Table:
    """Tabulate an atom as far as it counts."""
    pseudo = cell._pseudo[symbol]
    charge = float(sum(pseudo[0]))
    scale = charge / sum(c * _moment(2 * l + 2, a) for l, a, c in atom.density)
    density, kinetic = (tuple((l, a, c * scale) for l, a, c in terms) for terms in atom)
    sharpest = max(*(a for _, a, _ in density), 0.5 / pseudo[1] ** 2)
    step = STEP / max(1.0, math.sqrt(sharpest / 10))
    functions = _functions(density, kinetic, pseudo, charge)
    far = np.arange(0.0, 60.0, 0.25)
    counts = np.abs(functions(far)).max(0) > NEGLIGIBLE
    size = int(far[np.flatnonzero(counts).max() + 1] / step)
    edges = step * np.arange(size + 1)
    left, right = functions(edges[:-1]), functions(edges[1:])
    one, two = functions(edges[:-1] + step / 3), functions(edges[:-1] + 2 * step / 3)
    # the cubic through four points of every interval
    pieces = np.stack(
        [
            left,
            -5.5 * left + 9 * one - 4.5 * two + right,
            9 * left - 22.5 * one + 18 * two - 4.5 * right,
            -4.5 * left + 13.5 * one - 13.5 * two + 4.5 * right,
        ],
        0,
    )
    return _Table(step, torch.from_numpy(np.ascontiguousarray(pieces.transpose(2, 0, 1))))


def _moment(n: int, a: float) -> float:
    """4π ∫ r^n exp(-a r²) dr."""
    return 2 * math.pi * math.gamma((n + 1) / 2) * a ** (-(n + 1) / 2)


def _functions(
    density: Gaussians, kinetic: Gaussians, pseudo: Sequence, charge: float
) -> Callable[[np.ndarray], np.ndarray]:
    """ρ, ρ'/r, τ and the potential of core and electrons, [4, n], by distance."""

    def functions(r: np.ndarray) -> np.ndarray:
        rho, slope, hartree = np.zeros((3, len(r)))
        inverse = 1 / np.maximum(r, 1e-12)
        for l, a, c in density:
            gauss = c * np.exp(-a * r**2)
            rho += r ** (2 * l) * gauss
            slope -= 2 * a * r ** (2 * l) * gauss
            slope += 2 * l * r ** max(2 * l - 2, 0) * gauss if l else 0.0
            inner = 0.5 * math.gamma(l + 1.5) * a ** -(l + 1.5) * gammainc(l + 1.5, a * r**2)
            outer = 0.5 * math.gamma(l + 1.0) * a ** -(l + 1.0) * gammaincc(l + 1.0, a * r**2)
            hartree += 4 * math.pi * c * (inner * inverse + outer)
        tau = sum(c * r ** (2 * l) * np.exp(-a * r**2) for l, a, c in kinetic)
        return np.stack([rho, slope, tau, hartree + _core(pseudo, charge, r, inverse)])

    return functions


def _core(pseudo: Sequence, charge: float, r: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Local part of a GTH pseudopotential.

    References:
        S. Goedecker, M. Teter, J. Hutter, Phys. Rev. B 54, 1703 (1996), eq. 1.
    """
    radius, count, coefficients = pseudo[1], pseudo[2], pseudo[3]
    x2 = (r / radius) ** 2
    near = math.sqrt(2 / math.pi) / radius
    coulomb = np.where(r < 1e-8, near, erf(r / (math.sqrt(2) * radius)) * inverse)
    polynomial = sum(coefficients[i] * x2**i for i in range(count))
    return -charge * coulomb + np.exp(-0.5 * x2) * polynomial


def _average(cell: Cell, symbols: Sequence[str], tables: dict[str, _Table]) -> float:
    """What takes the cell's average potential to where a transform without G = 0 has it, Eh."""
    if cell.dimension < 3:
        return 0.0
    kept = -get_vlocG(cell, np.zeros((1, 3)))[:, 0]
    own = [_integral(tables[s]) if s in tables else 0.0 for s in symbols]
    return float((kept - np.array(own)).sum()) / float(cell.vol)


@functools.lru_cache(maxsize=128)
def _integral(table: _Table) -> float:
    """∫ v d³r of the electrostatic potential, Eh bohr³."""
    # Simpson's rule for the cubic in every interval times r²: Gauss-Legendre of four points
    nodes, weights = np.polynomial.legendre.leggauss(4)
    starts = table.step * torch.arange(len(table.pieces), dtype=torch.float64)
    total = 0.0
    for node, weight in zip(0.5 * (nodes + 1), 0.5 * weights, strict=True):
        r = starts + node * table.step
        total += float((weight * table.step * r.square() * table.at(r)[..., 3]).sum())
    return 4 * math.pi * total
