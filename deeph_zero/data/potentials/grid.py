"""A potential on a uniform grid of a cell, and whether it belongs to a structure."""

import dataclasses

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_SAME_LATTICE = 2e-3
"""Bohr; cubes write the edges of a voxel with six decimals."""
_SAME_PLACE = 5e-3
"""Bohr."""
_OUTER = 0.8
"""Waves beyond this part of the highest one along an axis count as the outermost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridPotential:
    """V(r) at the points i a1/n1 + j a2/n2 + k a3/n3.

    Attributes:
        values: [nspin, n1, n2, n3], Eh; one for all electrons, or one for each spin.
        lattice: Vectors in rows, bohr; None where the file has no cell.
        numbers: Atomic numbers (or valence charges, which some programs write in their place);
            None where the file has no atoms.
        coords: Positions of these atoms, bohr.
        kind: Name of the format.
    """

    values: Float[np.ndarray, "nspin n1 n2 n3"]
    lattice: Float[np.ndarray, "3 3"] | None = None
    numbers: Int[np.ndarray, " natm"] | None = None
    coords: Float[np.ndarray, "natm 3"] | None = None
    kind: str = "npy"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Points along the lattice vectors."""
        n1, n2, n3 = self.values.shape[1:]
        return n1, n2, n3

    def outermost(self) -> float:
        """Part of |V(G)|, G = 0 apart, in the outermost waves: large where the grid is coarse."""
        waves = np.abs(np.fft.fftn(self.values, axes=(1, 2, 3)))
        waves[:, 0, 0, 0] = 0.0
        parts = [np.abs(np.fft.fftfreq(n)) > _OUTER * 0.5 for n in self.shape]
        outer = parts[0][:, None, None] | parts[1][:, None] | parts[2]
        total = float(np.sqrt((waves**2).sum()))
        return float(np.sqrt((waves[:, outer] ** 2).sum())) / total if total else 0.0


def check_belongs(
    potential: GridPotential,
    numbers: Int[np.ndarray, " natm"],
    coords: Float[np.ndarray, "natm 3"],
    lattice: Float[np.ndarray, "3 3"],
    valences: Int[np.ndarray, " natm"],
) -> None:
    """Refuse a potential of another crystal than the structure.

    Args:
        potential: What was read; what it does not say is not compared.
        numbers: Atomic numbers of the structure.
        coords: Positions of its atoms, bohr.
        lattice: Its lattice vectors, rows, bohr.
        valences: Charges of the cores.

    Raises:
        InputError: If cells or atoms differ; the line has both sides.
    """
    if potential.lattice is not None:
        _check_lattice(potential.lattice, lattice)
    if potential.coords is None or potential.numbers is None:
        return
    if len(potential.coords) != len(coords):
        raise InputError(
            f"expected the {len(potential.coords)} atoms of the potential's file, the structure "
            f"has {len(coords)}; give the structure the potential was computed for"
        )
    apart = (coords[:, None] - potential.coords) @ np.linalg.inv(lattice)
    distance = np.linalg.norm((apart - np.round(apart)) @ lattice, axis=-1)
    nearest = distance.argmin(1)
    for atom, other in enumerate(nearest):
        name = f"atom {atom + 1} ({chemical_symbols[int(numbers[atom])]})"
        if distance[atom, other] > _SAME_PLACE or (nearest == other).sum() > 1:
            raise InputError(
                f"expected atoms where the potential's file has them, {name} at "
                f"{_angstrom(coords[atom])} is {distance[atom, other] * BOHR_IN_ANGSTROM:.3f} "
                f"angstrom from the nearest one, at {_angstrom(potential.coords[other])}; give "
                "the structure the potential was computed for"
            )
        stated = int(potential.numbers[other])
        if stated not in (int(numbers[atom]), int(valences[atom])):
            raise InputError(
                f"expected the atoms of the potential's file, {name} is of number {stated} there; "
                "give the structure the potential was computed for"
            )


def _check_lattice(stated: np.ndarray, lattice: np.ndarray) -> None:
    if np.abs(stated - lattice).max() <= _SAME_LATTICE:
        return
    same_shape = np.abs(stated @ stated.T - lattice @ lattice.T).max() <= 20 * _SAME_LATTICE
    how = "the same cell in another orientation" if same_shape else "another cell"
    raise InputError(
        f"expected the cell of the potential, {_rows(stated)} angstrom, the structure has "
        f"{_rows(lattice)}, {how}; give the structure the potential was computed for"
    )


def _rows(lattice: np.ndarray) -> str:
    return "(" + "; ".join(_angstrom(row).strip("()") for row in lattice) + ")"


def _angstrom(vector: np.ndarray) -> str:
    return "(" + " ".join(f"{x:.3f}" for x in vector * BOHR_IN_ANGSTROM + 0.0) + ")"
