"""Settings of ``deeph-zero convert``: what a foreign file does not say about itself."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from deeph_zero.method import Method
from deeph_zero.settings.base import Settings
from deeph_zero.settings.config import Name, RuntimeConfig, Workers
from deeph_zero.settings.value_types import Basis, three_numbers

_BOTH = (
    "labels", "deeph", "deeph-legacy", "qh9", "nabladft", "schnorb", "sphnet", "deeptb", "dftio",
)  # fmt: skip
READ = (*_BOTH, "hsx", "aims", "openmx")
"""Formats that ``--from`` takes."""
WRITTEN = (*_BOTH, "wannier90", "cube", "pyscf")
"""Formats that ``--to`` takes."""
FormatName = Literal[
    "labels", "deeph", "deeph-legacy", "qh9", "nabladft", "schnorb", "sphnet", "deeptb", "dftio",
    "hsx", "aims", "openmx", "wannier90", "cube", "pyscf",
]  # fmt: skip


_MOST = 2000
_POINTS = f"three whole numbers from 2 to {_MOST} such as 48 48 48"


def _mesh(value: Any) -> Any:
    numbers = three_numbers(value, 2, _MOST)
    if numbers is None:
        raise ValueError(f"expected {_POINTS}")
    return numbers


Mesh = Annotated[tuple[int, int, int], pydantic.BeforeValidator(_mesh)]


class ConvertConfig(Settings):
    """Reading a database of Fock matrices; the defaults are QH9's."""

    runtime: RuntimeConfig = RuntimeConfig()
    source_format: FormatName | None = Field(
        default=None, description=f"Format of A, where it is not clear: {', '.join(READ)}."
    )
    target_format: FormatName | None = Field(
        default=None, description=f"Format of B, where its name does not say: {', '.join(WRITTEN)}."
    )
    energy_unit: Literal["hartree", "eV", "rydberg"] | None = Field(
        default=None, description="Unit of A's energies, where it is not its format's: hartree, eV."
    )
    basis: Basis = Field(default="def2-svp", description="Basis set of the database.")
    xc: Name = Field(
        default="b3lyp5", description="Its functional; QH9's b3lyp is PySCF's b3lyp5 (VWN5)."
    )
    grid_level: int = Field(default=3, ge=0, le=9, description="Its quadrature grid, 0 to 9.")
    first: int | None = Field(default=None, ge=1, description="Convert the first N molecules only.")
    agreement: float = Field(
        default=1e-3,
        gt=0,
        le=1,
        description="Largest |H - F[P(H)]| of a matrix that counts as understood, Eh.",
    )
    workers: Workers = Field(
        default=1, description="Processes that share the structures, and the threads."
    )
    mesh: Mesh | None = Field(
        default=None,
        description="Points along the vectors of a crystal's cube; those of its own FFT mesh where "
        "nothing is said.",
        examples=[_POINTS],
    )

    @property
    def solved(self) -> Method:
        """The problem of the database; such are made without density fitting."""
        return Method(basis=self.basis, xc=self.xc, grid_level=self.grid_level, density_fit=False)
