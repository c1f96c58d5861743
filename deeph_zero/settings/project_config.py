"""Settings of ``deeph-zero project``: a potential of another program in an AO basis."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from deeph_zero.settings.base import Settings
from deeph_zero.settings.config import RuntimeConfig
from deeph_zero.settings.value_types import three_numbers

_MOST = 99
_THREE = f"three whole numbers from 1 to {_MOST} such as 6 6 1"


def _mesh(value: Any) -> Any:
    numbers = three_numbers(value, 1, _MOST)
    if numbers is None:
        raise ValueError(f"expected {_THREE}")
    return numbers


KMesh = Annotated[tuple[int, int, int], pydantic.BeforeValidator(_mesh)]


class ProjectConfig(Settings):
    """What is computed of a potential."""

    runtime: RuntimeConfig = RuntimeConfig()
    unit: Literal["hartree", "eV", "rydberg"] | None = Field(
        default=None,
        description="Unit of the potential: hartree, eV or rydberg; rydberg in a VSC and hartree "
        "elsewhere where nothing is said.",
    )
    charge: int | None = Field(
        default=None, ge=-100, le=100, description="Charge of a cell that states none."
    )
    spin: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="2S = unpaired electrons per cell of a potential of two spins; one Fermi level "
        "decides where nothing is said.",
    )
    kmesh: KMesh | None = Field(
        default=None,
        description="k-points along the reciprocal vectors for Fermi level and dense matrices; the "
        "blocks' own mesh where nothing is said.",
        examples=[_THREE],
    )
    block_mesh: KMesh | None = Field(
        default=None,
        description="k-points from which the real-space blocks are summed; as many as the reach of "
        "the functions needs where nothing is said.",
        examples=[_THREE],
    )
    ke_cutoff: float | None = Field(
        default=None,
        gt=0,
        le=5000,
        description="Kinetic energy (hartree) that the grid of the integrals has room for; the "
        "potential's own grid where nothing is said, never a coarser one.",
    )
    smearing: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Width (hartree) of Fermi occupations; 0 fills in order.",
    )
    path: Annotated[str, Field(pattern=r"^\s*[A-Za-z0-9,]+\s*$")] | None = Field(
        default=None,
        description="Bands along special points such as GMKG; chosen by the lattice where nothing "
        "is said.",
        examples=["letters of special points such as GMKG or GXL"],
    )
    points: int = Field(default=60, ge=2, le=10_000, description="k-points along the path.")
