"""What is solved of a crystal: settings, and a structure's lattice, made one method."""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import numpy as np

from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import BASIS, KSPACING, CrystalConfig

_ROUNDING = 1e-9


@runtime_checkable
class CrystalSettings(Protocol):
    """Settings of a command that solves crystals."""

    @property
    def method(self) -> MethodConfig:
        """What crystals share with molecules."""
        ...

    @property
    def crystal(self) -> CrystalConfig:
        """What only crystals have."""
        ...

    @property
    def smearing(self) -> float:
        """Width of Fermi occupations, Eh."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCrystals:
    """What a model solves, with what a user asks of it.

    Attributes:
        method: What crystals share with molecules.
        crystal: What only crystals have.
        smearing: Width of Fermi occupations, Eh.
        spacings: Spacings of the k-points along each reciprocal vector if no mesh and no spacing is
            asked for, 1/bohr.
    """

    method: MethodConfig
    crystal: CrystalConfig
    smearing: float
    spacings: tuple[float, float, float] | None = None


def crystal_method(molecule: Molecule, config: CrystalSettings) -> Method:
    """What is solved of a crystal, its mesh of k-points resolved.

    Args:
        molecule: The structure.
        config: Settings; a basis that was not asked for is the crystals' own default.

    Returns:
        The method.
    """
    assert molecule.lattice is not None
    asked, crystal = config.method, config.crystal
    pseudo = None if crystal.pseudo.lower() == "none" else crystal.pseudo
    spacing = crystal.kspacing or KSPACING
    if isinstance(config, ModelCrystals) and config.spacings and crystal.kspacing is None:
        spacing = config.spacings
    return Method(
        xc=asked.xc,
        basis=crystal_basis(asked),
        unrestricted=True if asked.unrestricted else None,
        two_grids=asked.two_grids,
        smearing=config.smearing,
        crystal=CrystalMethod(
            kmesh=crystal.kmesh or mesh_of(molecule.lattice, molecule.pbc, spacing),
            pseudo=pseudo,
            ke_cutoff=crystal.ke_cutoff,
        ),
    )


def crystal_basis(asked: MethodConfig) -> str:
    """The basis that was asked for, else the crystals' own default."""
    return asked.basis if "basis" in asked.model_fields_set else BASIS


def mesh_of(
    lattice: np.ndarray,
    pbc: tuple[bool, bool, bool],
    spacing: float | tuple[float, float, float],
) -> tuple[int, int, int]:
    """The smallest mesh of k-points that are nowhere further apart than wanted.

    Args:
        lattice: Vectors in rows, bohr.
        pbc: Periodic directions.
        spacing: 1/bohr; one for each reciprocal vector, or one for all.

    Returns:
        Points along each reciprocal vector.
    """
    lengths = reciprocal_lengths(lattice, pbc)
    counts = np.maximum(1, np.ceil(lengths / np.array(spacing) - _ROUNDING)).astype(int).tolist()
    return counts[0], counts[1], counts[2] if pbc[2] else 1


def reciprocal_lengths(lattice: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """Lengths of the reciprocal vectors.

    Args:
        lattice: Vectors in rows, bohr.
        pbc: Periodic directions; the third vector of a layer does not count.

    Returns:
        [3], 1/bohr, 2π included.
    """
    vectors = np.array(lattice)
    if not pbc[2]:
        vectors[2] = [0.0, 0.0, 1.0]
    return 2 * math.pi * np.linalg.norm(np.linalg.inv(vectors), axis=0)
