"""One molecule or crystal as numbers: atoms, charge, spin, lattice, and where it came from."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SMILES_PREFIX = "smiles:"
"""A structure argument that starts with it is a molecule, not a file."""


class State(NamedTuple):
    """Charge and 2S, such as those of structures that state none."""

    charge: int = 0
    spin: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Molecule:
    """A checked structure. No behaviour: reading is in ``data/structures.py``.

    Attributes:
        numbers: Atomic numbers, shape [natm].
        coords: Cartesian coordinates in bohr, shape [natm, 3].
        charge: Total charge; of a crystal that of one cell.
        spin: 2S = number of unpaired electrons (PySCF's ``Mole.spin``); of a crystal in one cell.
        lattice: Rows are the lattice vectors of a crystal, bohr; None for a molecule. Of a layer
            the third row only spans the box and may be zero.
        pbc: Periodic directions: all three, or the first two (a layer).
        moments: Initial magnetic moment of every atom of a crystal, electrons, or None.
        file: Path the structure was read from, for messages and summaries ("" if none).
        frame: Index of the frame in that file, from 0.
    """

    numbers: Int[np.ndarray, " natm"]
    coords: Float[np.ndarray, "natm 3"]
    charge: int = 0
    spin: int = 0
    lattice: Float[np.ndarray, "3 3"] | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    moments: tuple[float, ...] | None = None
    file: str = ""
    frame: int = 0

    @property
    def natm(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def periodic(self) -> bool:
        """Whether it is a crystal."""
        return self.lattice is not None

    @property
    def where(self) -> str:
        """What every message about this structure starts with: "file frame i: "."""
        return f"{self.file} frame {self.frame}: " if self.file else ""
