"""Crystals that benchmarks learn and ask for, strained and displaced; PBE, gth-szv."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.units import Bohr

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.crystal import PreparedCrystal, crystal_layout, prepare_structure

BOND = 2.46
"""Lattice constant of graphene, Å."""
BOX = 6.5
"""Height of its cell, Å."""
NETWORK_CUTOFF = 12.0
"""Bohr."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A structure and what is solved of it."""

    molecule: Molecule
    method: Method

    @property
    def layout(self) -> BasisLayout:
        """Shells of its elements."""
        return crystal_layout(build_cell(self.molecule, self.method))

    def prepared(self) -> PreparedCrystal:
        """Its layer, H₀ and network inputs."""
        return prepare_structure(
            self.molecule, self.method, self.layout, cutoff=NETWORK_CUTOFF, dtype=torch.float64
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crystal:
    """A crystal to learn.

    Attributes:
        atoms: At rest.
        kmesh: k-points.
        cutoff: Of the grid, Eh.
        smearing: Eh.
        displace: Of atoms, Å.
        strain: Of the cell.
        path: Of its bands.
    """

    atoms: Atoms
    kmesh: tuple[int, int, int]
    cutoff: int
    smearing: float = 0.0
    displace: float = 0.04
    strain: float = 0.015
    path: str = "GX"

    def problem(self, atoms: Atoms, kmesh: tuple[int, int, int] | None = None) -> Problem:
        """A structure of it, with its k-points."""
        crystal = CrystalMethod(pseudo="gth-pbe", kmesh=kmesh or self.kmesh, ke_cutoff=self.cutoff)
        method = Method(xc="pbe", basis="gth-szv", smearing=self.smearing, crystal=crystal)
        molecule = Molecule(
            numbers=atoms.numbers,
            coords=atoms.positions / Bohr,
            spin=atoms.info.get("spin", 0),
            lattice=atoms.cell.array / Bohr,
            pbc=(True, True, True),
        )
        return Problem(molecule, method)

    def moved(self, count: int, seed: int, repeat: tuple[int, int, int] = (1, 1, 1)) -> list[Atoms]:
        """Strained and displaced copies; a sheet is strained in its plane."""
        rng = np.random.default_rng([seed, *repeat])
        found = []
        for _ in range(count):
            atoms = self.atoms.repeat(repeat)
            strain = rng.normal(scale=self.strain, size=(3, 3))
            strain = 0.5 * (strain + strain.T)
            if self.kmesh[2] == 1:
                strain[2] = strain[:, 2] = 0.0
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            atoms.positions += rng.normal(scale=self.displace, size=atoms.positions.shape)
            atoms.info.update(self.atoms.info)
            found.append(atoms)
        return found


def _graphene() -> Atoms:
    cell = BOND * np.array([[1, 0, 0], [0.5, 3**0.5 / 2, 0], [0, 0, BOX / BOND]])
    places = [[0, 0, BOX / 2], [BOND / 2, BOND / (2 * 3**0.5), BOX / 2]]
    return Atoms("C2", places, cell=cell, pbc=True)


def _boron_nitride() -> Atoms:
    """A sheet of h-BN, at graphene's angles."""
    atoms = _graphene()
    atoms.set_cell(atoms.cell.array * [[2.5 / BOND], [2.5 / BOND], [1.0]], scale_atoms=True)
    atoms.symbols = "BN"
    return atoms


def _biphenylene() -> Atoms:
    """Carbon in rings of four, six and eight: chains of hexagons, side by side."""
    width, length = 3.76, 4.52
    places = [(x, y, BOX / 2) for x in (-1.155, 1.155) for y in (-0.73, 0.73)]
    places += [(0.0, y, BOX / 2) for y in (-1.54, 1.54)]
    return Atoms("C6", places, cell=[width, length, BOX], pbc=True)


def _methyl() -> Atoms:
    """A crystal of methyl radicals, their spins parallel."""
    angles = np.deg2rad([90, 210, 330])
    ring = np.stack([1.08 * np.cos(angles), 1.08 * np.sin(angles), 0 * angles], axis=1)
    atoms = Atoms("CH3", [[0, 0, 0], *ring], cell=[4.0, 3.9, 3.4], pbc=True)
    atoms.positions += [2.0, 1.9, 1.7]
    atoms.info["spin"] = 1
    return atoms


CRYSTALS = {
    "graphene": Crystal(atoms=_graphene(), kmesh=(6, 6, 1), cutoff=50, smearing=0.005, path="GMKG"),
    "diamond": Crystal(
        atoms=bulk("C", "diamond", a=3.57), kmesh=(3, 3, 3), cutoff=60, path="GXWKGL"
    ),
    "LiH": Crystal(
        atoms=bulk("LiH", "rocksalt", a=4.08), kmesh=(2, 2, 2), cutoff=60, path="GXWKGL"
    ),
    # at 50 Eh bands move by 0.25 eV with the place of the atoms on the grid
    "h-BN": Crystal(atoms=_boron_nitride(), kmesh=(4, 4, 1), cutoff=120, path="GMKG"),
    "methyl": Crystal(atoms=_methyl(), kmesh=(1, 1, 2), cutoff=50, strain=0.01),
    "hydrogen": Crystal(
        atoms=Atoms(
            "H2",
            [[0.05, 0, 0.1], [0.63, 0.37, 0.47]],
            cell=[[2.06, 0, 0], [0, 2.75, 0], [0, 0.05, 2.9]],
            pbc=True,
        ),
        kmesh=(2, 1, 1),
        cutoff=30,
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a model of graphene is asked for."""

    name: str
    make: Callable[[], list[Atoms]]
    kmesh: tuple[int, int, int]


def cases(sizes: list[int]) -> list[Case]:
    """Graphene of 2 n² atoms, and what a model of it has not seen."""
    sheet, three = CRYSTALS["graphene"], CRYSTALS["diamond"]

    def copies(n: int) -> Case:
        along = -(-6 // n)
        return Case(f"{2 * n * n} atoms", lambda: sheet.moved(1, 3, (n, n, 1)), (along, along, 1))

    return [
        *map(copies, sizes),
        Case("vacancy, 7 atoms", lambda: _without_one(sheet.moved(1, 4, (2, 2, 1))), (3, 3, 1)),
        Case("biphenylene network", lambda: [_biphenylene()], (3, 3, 1)),
        Case("diamond", lambda: three.moved(1, 5), (3, 3, 3)),
    ]


def _without_one(frames: list[Atoms]) -> list[Atoms]:
    for atoms in frames:
        del atoms[0]
    return frames
