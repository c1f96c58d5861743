"""Settings of crystals, beside those of molecules."""

from typing import Annotated

import pydantic
from pydantic import Field

from deeph_zero.method import CrystalMethod
from deeph_zero.settings.base import Settings
from deeph_zero.settings.value_types import Name, three_numbers

BASIS = "gth-dzvp-molopt-sr"
"""Basis set of crystals where none is asked for."""

KSPACING = 0.25
"""1/bohr, where neither a mesh nor a spacing of k-points is asked for."""


_MOST = 1000
"""k-points along one vector."""


_MOST_CELLS = 64
"""Cells of a supercell along one vector, at most."""


def _mesh(value: object) -> object:
    """k-points along three vectors."""
    return _three(value, _MOST, "k-points", "6 6 1")


def _repeats(value: object) -> object:
    """Cells along three vectors."""
    return _three(value, _MOST_CELLS, "cells", "2 2 1")


def _three(value: object, most: int, what: str, example: str) -> object:
    numbers = three_numbers(value, 1, most)
    if numbers is None:
        text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        raise ValueError(
            f"expected three positive whole numbers of {what}, at most {most}, got {text[:40]!r}; "
            f"give for example {example}"
        )
    return numbers


class CrystalConfig(Settings):
    """What is solved of a crystal: k-points, pseudopotentials, grid."""

    kmesh: Annotated[tuple[int, int, int], pydantic.BeforeValidator(_mesh)] | None = Field(
        default=None,
        description="k-points along the three reciprocal vectors of crystals, Γ among them.",
    )
    kspacing: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="Widest spacing of a crystal's k-points, 1/bohr, in place of a mesh; 0.25 "
        "where neither is given.",
    )
    pseudo: Name = Field(
        default=str(CrystalMethod.pseudo),
        description="GTH pseudopotentials of crystals, a name PySCF knows; none for all electrons.",
    )
    ke_cutoff: float | None = Field(
        default=None,
        ge=5,
        le=10_000,
        description="Cutoff of a crystal's uniform grid, Eh; none means a quarter of PySCF's "
        "estimate for the functions, and 40 at least.",
    )
    dimension: int | None = Field(
        default=None,
        ge=2,
        le=3,
        description="Periodic directions of crystals, 2 for layers; none means what pbc says.",
    )

    @pydantic.model_validator(mode="after")
    def _one_mesh(self) -> "CrystalConfig":
        if self.kmesh is not None and self.kspacing is not None:
            raise ValueError(
                "--kmesh and --kspacing exclude each other; got --kmesh "
                f"{' '.join(map(str, self.kmesh))} and --kspacing {self.kspacing:g}; give one"
            )
        return self


class SmearedCrystalConfig(CrystalConfig):
    """Crystals' settings with a width of occupations of their own."""

    smearing: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Width of a crystal's Fermi occupations, Eh; 0 fills levels in order.",
    )


class TrainingCrystalConfig(SmearedCrystalConfig):
    """What is solved of crystals (a cell and pbc), and how samples of them are made."""

    strain: float = Field(
        default=0.01,
        ge=0,
        le=0.2,
        description="Standard deviation of each component of the strain of a displaced crystal.",
    )
    supercell: Annotated[tuple[int, int, int], pydantic.BeforeValidator(_repeats)] | None = Field(
        default=None,
        description="Displaced copies of crystals are of so many cells along the vectors, so that "
        "atoms move apart from their images; none means one cell.",
    )
