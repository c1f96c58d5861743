"""One molecule as numbers: atomic numbers, coordinates, charge, spin, and where it came from."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

SMILES_PREFIX = "smiles:"
"""A structure argument that starts with it is a molecule, not a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Molecule:
    """A checked molecular structure. No behaviour: reading is in ``data/structures.py``.

    Attributes:
        numbers: Atomic numbers, shape [natm].
        coords: Cartesian coordinates in bohr, shape [natm, 3].
        charge: Total charge.
        spin: 2S = number of unpaired electrons (PySCF's ``Mole.spin``).
        file: Path the structure was read from, for messages and summaries ("" if none).
        frame: Index of the frame in that file, from 0.
    """

    numbers: Int[np.ndarray, " natm"]
    coords: Float[np.ndarray, "natm 3"]
    charge: int = 0
    spin: int = 0
    file: str = ""
    frame: int = 0

    @property
    def natm(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def where(self) -> str:
        """What every message about this structure starts with: "file frame i: "."""
        return f"{self.file} frame {self.frame}: " if self.file else ""
