"""The coarse quadrature that stands beside the target grid, for the SCF on two grids."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from pyscf import gto
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError
from deeph_zero.integrals.ao_engine import AOEngineName
from deeph_zero.integrals.corrections import nonlocal_correlation
from deeph_zero.integrals.free_atoms import radial_density
from deeph_zero.integrals.grids import AO_MEMORY_MB, AOGrid, GridPoints, build_grid
from deeph_zero.ks.protocol import CoarseGrids, VV10Parameters

AtomGrid = dict[str, tuple[int, int]]

LADDER: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((25, 30, 35, 40, 45, 50, 50), (50, 110, 110, 110, 110, 146, 146)),
    ((15, 20, 25, 30, 35, 40, 45), (50, 86, 86, 86, 86, 110, 110)),
)
"""Radial and angular points of an atom by period, the first choice first; pruned as PySCF prunes.

Measured on rattled ethanol, benzene, acetamide, SO2, CH3Br, CH3I, SiH3Cl, ZnH2 and an iron carbonyl
(PBE, r2SCAN; level 3): with the first an SCF on the coarse grid alone is right to 0.1 to 6 µEh, and
after one fine build the orbital gradient is a thousandth of what it was. The second, with 0.6 times
as many points, leaves 5 to 15 µEh and a five-hundredth; PySCF's level 0 50 µEh and a
four-hundredth.
"""
_PERIOD_ENDS = (2, 10, 18, 36, 54, 86)

SMALLER = 2.5
"""The target grid must have so many times the points, or a coarse one is not worth having."""


def coarse_atom_grids(mol: gto.Mole) -> list[AtomGrid]:
    """Radial and angular points of every kind of atom, as PySCF's ``grids.atom_grid``.

    Args:
        mol: Built molecule; ghost atoms count as atoms.

    Returns:
        One for every step of the ladder.
    """
    periods: dict[str, int] = {}
    for k in range(mol.natm):
        symbol = mol.atom_symbol(k)
        charge = gto.charge(gto.mole._std_symbol_without_ghost(symbol))  # noqa: SLF001
        periods[symbol] = sum(charge > end for end in _PERIOD_ENDS)
    return [
        {symbol: (radial[period], angular[period]) for symbol, period in periods.items()}
        for radial, angular in LADDER
    ]


NEGLIGIBLE = 1e-5
"""Electrons in all points that are left out, for one electron of the free atoms.

A quarter of the points: nearest to nuclei, where weights vanish, and farthest from them. Of
rattled ethanol and uracil they hold 1e-4 Eh of the orbital gradient, a tenth of what the coarse
grid leaves."""

_EVEN = 1e-6
"""Relative difference of points that are each other's images."""


def points_that_matter(mol: gto.Mole, grids: gen_grid.Grids) -> GridPoints:
    """A coarse grid without the points that hold next to no electrons.

    The density asked is that of the free atom that a point belongs to. An anion's reaches farther,
    and keeps all points, as do atoms that nothing is known of.

    Args:
        mol: Built molecule.
        grids: Its built grid.

    Returns:
        The other points, in their order.
    """
    keep = np.ones(len(grids.weights), dtype=bool) if mol.charge < 0 else _kept(mol, grids)
    return GridPoints(coords=grids.coords[keep], weights=grids.weights[keep])


def _kept(mol: gto.Mole, grids: gen_grid.Grids) -> Bool[np.ndarray, " ngrids"]:
    held = np.zeros(len(grids.weights))
    for k in range(mol.natm):
        own = grids.atm_idx == k
        radii = np.linalg.norm(grids.coords[own] - mol.atom_coord(k), axis=1)
        try:
            density = radial_density(mol.atom_pure_symbol(k), mol.atom_nelec_core(k), radii)
        except InputError:
            return np.ones(len(held), dtype=bool)
        held[own] = np.abs(grids.weights[own]) * density
    rising = np.sort(held)
    least = rising[np.searchsorted(np.cumsum(rising), NEGLIGIBLE * held.sum())]
    return held > least * (1 - _EVEN)  # images of a point by symmetry go or stay together


class CoarseSource:
    """Makes the coarse grids when they are first asked for, and keeps them."""

    def __init__(
        self,
        mol: gto.Mole,
        *,
        deriv: int,
        target: AOGrid,
        nlc: tuple[VV10Parameters, ...] = (),
        device: torch.device | str = "cpu",
        ao_memory_mb: float = AO_MEMORY_MB,
        ao_engine: AOEngineName = "auto",
    ) -> None:
        """Remember what they are made of.

        Args:
            mol: Built molecule.
            deriv: As in :class:`~deeph_zero.integrals.grids.AOGrid`.
            target: The target grid, which shares its memory for AO values.
            nlc: Parameters of VV10 terms.
            device: Where the tensors go.
            ao_memory_mb: Memory for kept AO values, MB.
            ao_engine: Who evaluates them.
        """
        self._mol = mol
        self._deriv = deriv
        self._target = target
        self._nlc = nlc
        self._at: dict[str, Any] = {
            "device": device,
            "ao_memory_mb": ao_memory_mb,
            "ao_engine": ao_engine,
        }
        self._made = False
        self._found: CoarseGrids | None = None

    def __call__(self) -> CoarseGrids | None:
        """The grids; None for an atom, or where they are not :data:`SMALLER` times smaller."""
        if not self._made:
            self._found = self._make()
            self._made = True
        return self._found

    def _make(self) -> CoarseGrids | None:
        mol = self._mol
        if mol.natm == 1:  # holes of an atom turn freely, and a coarse grid has directions
            return None
        tried = (build_grid(mol, atom_grid=one) for one in coarse_atom_grids(mol))
        small = (one for one in tried if len(one.weights) * SMALLER <= self._target.ngrids)
        found = next(small, None)
        if found is None:
            return None
        points = points_that_matter(mol, found)
        grid = AOGrid(mol, points, deriv=self._deriv, allow_float32=False, **self._at)
        self._target.beside = grid
        nlc = None
        if self._nlc:
            nlc = nonlocal_correlation(mol, self._nlc, points, grid, **self._at)
        nbytes = grid.memory_bytes
        if nlc is not None and nlc.grid is not grid:  # an LDA has no gradients to share
            assert isinstance(nlc.grid, AOGrid)
            nbytes += nlc.grid.memory_bytes
        ratio = self._target.ngrids / max(len(found.weights), 1)
        return CoarseGrids(grid=grid, nlc=nlc, ratio=ratio, memory_bytes=nbytes)
