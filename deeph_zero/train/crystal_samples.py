"""Geometries that a network of crystals learns from: given ones, and displaced copies."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.crystal_method import ModelCrystals, crystal_method
from deeph_zero.units import BOHR_IN_ANGSTROM


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A crystal and what is solved of it.

    Attributes:
        molecule: The structure.
        method: Its k-points among it.
        frame: Position among the frames that were given; None for a displaced copy.
    """

    molecule: Molecule
    method: Method
    frame: int | None = None


def geometries(config: FitConfig, molecules: Sequence[Molecule]) -> list[Geometry]:
    """The frames, and behind them ``samples`` displaced copies of each.

    Args:
        config: ``samples``, ``displace`` (angstrom), of ``crystal`` strain and supercell; seed.
        molecules: The frames.

    Returns:
        Frames first.
    """
    found = [Geometry(m, crystal_method(m, config), k) for k, m in enumerate(molecules)]
    rng = np.random.default_rng([config.runtime.seed, 1])
    for m in molecules if config.samples else ():
        found += copies(m, config, config.samples, rng)
    return found


def copies(
    molecule: Molecule, config: FitConfig, count: int, rng: np.random.Generator
) -> list[Geometry]:
    """Displaced copies of a frame, of larger cells where they are asked for.

    Args:
        molecule: The frame.
        config: As in :func:`geometries`.
        count: How many.
        rng: Random numbers.

    Returns:
        The copies.
    """
    larger, method = _larger(molecule, config)
    return [Geometry(displaced(larger, config, rng), method) for _ in range(count)]


def _larger(molecule: Molecule, config: FitConfig) -> tuple[Molecule, Method]:
    """A supercell, and its k-points: with a mesh asked for, those that are as dense."""
    counts = config.crystal.supercell or (1, 1, 1)
    larger = supercell(molecule, counts)
    mesh = config.crystal.kmesh
    if mesh is not None:
        n1, n2, n3 = (-(-n // times) for n, times in zip(mesh, counts, strict=True))
        mesh = (n1, n2, n3)
    crystal = config.crystal.model_copy(update={"kmesh": mesh})
    settings = ModelCrystals(method=config.method, crystal=crystal, smearing=config.smearing)
    return larger, crystal_method(larger, settings)


def supercell(molecule: Molecule, counts: tuple[int, int, int]) -> Molecule:
    """Several cells of a crystal in one.

    Args:
        molecule: A crystal; charge, spin and moments are of one cell.
        counts: Cells along each vector; 1 along the third of a layer.

    Returns:
        The larger cell, atoms cell by cell.
    """
    assert molecule.lattice is not None
    repeats = list(itertools.product(*(range(n) for n in counts)))
    shifts = np.array(repeats, dtype=float) @ molecule.lattice
    moments = None if molecule.moments is None else molecule.moments * len(repeats)
    return dataclasses.replace(
        molecule,
        numbers=np.tile(molecule.numbers, len(repeats)),
        coords=(shifts[:, None] + molecule.coords).reshape(-1, 3),
        lattice=molecule.lattice * np.array(counts, dtype=float)[:, None],
        charge=molecule.charge * len(repeats),
        spin=molecule.spin * len(repeats),
        moments=moments,
    )


def displaced(molecule: Molecule, config: FitConfig, rng: np.random.Generator) -> Molecule:
    """A copy with a strained cell and displaced atoms.

    Args:
        molecule: A crystal.
        config: Standard deviations of displacements (angstrom) and of strain.
        rng: Random numbers.

    Returns:
        The copy; a layer is strained in its plane.
    """
    assert molecule.lattice is not None
    strain = rng.normal(0.0, config.crystal.strain, (3, 3))
    strain = 0.5 * (strain + strain.T)
    if not molecule.pbc[2]:
        strain[2] = strain[:, 2] = 0.0
    map_ = np.eye(3) + strain
    shift = rng.normal(0.0, config.displace / BOHR_IN_ANGSTROM, molecule.coords.shape)
    return dataclasses.replace(
        molecule, coords=molecule.coords @ map_ + shift, lattice=molecule.lattice @ map_
    )
