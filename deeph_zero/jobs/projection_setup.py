"""What a potential is projected on: structure, cell, grid, basis and pseudopotentials made one."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float
from pyscf.pbc import gto
from pyscf.pbc.tools import cutoff_to_mesh

from deeph_zero.data.potentials.grid import GridPotential, check_belongs
from deeph_zero.data.radial.choice import Basis, Pseudopotentials
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError, argument
from deeph_zero.host.reporting import Reporter
from deeph_zero.integrals.periodic.numerical import NumericalOrbitals
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    KleinmanBylander,
    Orbitals,
    OrbitalsOnMesh,
    fourier_resampled,
)
from deeph_zero.integrals.periodic.pseudopotential import gth_projectors
from deeph_zero.ks.periodic.occupation import Channel, channels
from deeph_zero.molecule import Molecule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What the user handed over, read and checked.

    Attributes:
        potential: On its own grid.
        structure: The atoms; its lattice may be missing, as that of a molecule is.
        basis: Functions of the elements.
        pseudopotentials: Pseudopotentials of the elements.
        path: The potential's file, for messages.
        fix_spin: The structure's spin is what was asked for, 0 too.
    """

    potential: GridPotential
    structure: Molecule
    basis: Basis
    pseudopotentials: Pseudopotentials
    path: Path
    fix_spin: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Crystal:
    """Everything that matrices are made of.

    Attributes:
        lattice: Vectors in rows, bohr.
        mesh: Points of the integrals' grid.
        values: The local potential there, Eh.
        electrons: Per cell.
        orbitals: The basis, with kinetic energy and non-local potential.
        channels: Which spins share a Fermi level, and their electrons (or pairs).
    """

    lattice: Float[np.ndarray, "3 3"]
    mesh: tuple[int, int, int]
    values: Float[np.ndarray, "nspin ngrids"]
    electrons: int
    orbitals: Orbitals
    channels: list[Channel]

    @property
    def volume(self) -> float:
        """Volume of the cell, bohr³."""
        return abs(float(np.linalg.det(self.lattice)))


def one_structure(
    name: str, potential: GridPotential, path: Path, charge: int | None, spin: int | None
) -> Molecule:
    """The structure of a file that holds one.

    Args:
        name: The file; a VSC is its own structure too.
        potential: What was read.
        path: Its file.
        charge: Charge of a structure that states none.
        spin: 2S of a structure that states none.

    Returns:
        Crystal, or molecule without a cell.

    Raises:
        InputError: If the file cannot be read or holds several.
    """
    atoms = potential.numbers is not None and potential.coords is not None
    if Path(name) == path and potential.kind == "vsc" and atoms:
        assert potential.numbers is not None
        assert potential.coords is not None
        return Molecule(
            numbers=potential.numbers,
            coords=potential.coords,
            charge=charge or 0,
            spin=spin or 0,
            lattice=potential.lattice,
            pbc=(True, True, True),
            file=name,
        )
    found, bad = read_structures([name], charge=charge, spin=spin, limit=2, crystals=True)
    if bad:
        raise InputError(str(bad[0]))
    if len(found) != 1:
        raise InputError(
            f"{name}: expected one structure, got several; write the one of the potential to a "
            "file of its own"
        )
    return found[0]


def set_up(given: Given, ke_cutoff: float | None, reporter: Reporter) -> Crystal:
    """Put together what was handed over.

    Args:
        given: Potential, structure, basis and pseudopotentials.
        ke_cutoff: Kinetic energy (Eh) that the grid has room for; None: the potential's grid.
        reporter: Takes a word about a cell that is not the structure's own.

    Returns:
        The crystal.

    Raises:
        InputError: If they do not belong together.
    """
    molecule, lattice = given.structure, _lattice(given, reporter)
    valences = np.array([given.pseudopotentials.valence(int(z)) for z in molecule.numbers])
    cores, charge = int(valences.sum()), molecule.charge
    if cores < charge:
        raise InputError(
            f"{molecule.where}expected electrons, the cores have {cores} and the charge is "
            f"{charge}; correct the charge"
        )
    try:
        check_belongs(given.potential, molecule.numbers, molecule.coords, lattice, valences)
    except InputError as error:
        raise InputError(f"{given.path}: {error}") from None
    mesh = _mesh(given.potential.shape, lattice, ke_cutoff)
    return Crystal(
        lattice=lattice,
        mesh=mesh,
        values=fourier_resampled(given.potential.values, mesh),
        electrons=cores - charge,
        orbitals=_orbitals(given, lattice, mesh),
        channels=_channels(given, cores - charge),
    )


def _channels(given: Given, electrons: int) -> list[Channel]:
    molecule, nspin = given.structure, len(given.potential.values)
    if not molecule.spin and not given.fix_spin:
        # the potential decides the moment itself
        return [Channel(slice(0, nspin), electrons * nspin / 2)]
    if nspin == 1 and molecule.spin:
        raise InputError(
            f"{molecule.where}expected the potential of two spins for spin {molecule.spin}, "
            f"{given.path} has one; give the other as {argument('down')}"
        )
    if (electrons - molecule.spin) % 2 or molecule.spin > electrons:
        raise InputError(
            f"{molecule.where}expected a spin that {electrons} electrons can have, got "
            f"{molecule.spin}; correct {argument('spin')}"
        )
    return channels(
        ((electrons + molecule.spin) / 2, (electrons - molecule.spin) / 2),
        unrestricted=nspin == 2,
        smearing=0.0,
        fix_spin=True,
    )


def _orbitals(given: Given, lattice: np.ndarray, mesh: tuple[int, int, int]) -> Orbitals:
    basis, pseudos = given.basis, given.pseudopotentials
    numbers, coords = given.structure.numbers.tolist(), given.structure.coords
    kinds: dict[int, Any] = {
        z: KleinmanBylander.of(p.projectors, p.strengths) for z, p in pseudos.upf.items()
    }
    if basis.numerical:  # a cell of PySCF has its own
        kinds |= {
            z: gth_projectors(pseudos.gth[symbol])
            for z in set(numbers)
            if (symbol := chemical_symbols[z]) in pseudos.gth
        }
    elements = given.structure.numbers
    projectors = [(kind, coords[elements == z]) for z, kind in kinds.items()]
    if basis.numerical:
        shells = [basis.numerical[z].orbitals for z in numbers]
        return OrbitalsOnMesh(NumericalOrbitals(coords, lattice, shells), mesh, projectors)
    cell = gto.Cell()
    cell.atom = [(chemical_symbols[z], place) for z, place in zip(numbers, coords, strict=True)]
    cell.unit, cell.a, cell.mesh = "B", lattice, mesh
    cell.basis, cell.pseudo = dict(basis.gaussian), dict(pseudos.gth)
    cell.spin, cell.verbose = None, 0
    cell.build(dump_input=False, parse_arg=False)
    return GaussianOrbitals(cell, mesh, projectors)


def _lattice(given: Given, reporter: Reporter) -> Float[np.ndarray, "3 3"]:
    """The structure's, or the potential's where the structure has none."""
    structure, stated = given.structure, given.potential.lattice
    if structure.lattice is not None and all(structure.pbc):
        return structure.lattice
    if stated is None:
        raise InputError(
            f"{structure.where}expected a lattice, neither the structure nor {given.path} has one; "
            "write the structure with its cell (Lattice=, pbc)"
        )
    if structure.lattice is None:
        reporter.message(f"{structure.where}no cell: that of {given.path} is used")
        return stated
    return np.concatenate([structure.lattice[:2], stated[2:]])


def _mesh(
    shape: tuple[int, int, int], lattice: np.ndarray, ke_cutoff: float | None
) -> tuple[int, int, int]:
    """The potential's grid, or a finer one for the integrals."""
    if ke_cutoff is None:
        return shape
    wanted = cutoff_to_mesh(lattice, ke_cutoff)
    n1, n2, n3 = (max(int(n), own) for n, own in zip(wanted, shape, strict=True))
    return n1, n2, n3
