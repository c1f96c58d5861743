"""One molecule or crystal as numbers: atoms, charge, spin, lattice, and where it came from."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

SMILES_PREFIX = "smiles:"
"""A structure argument that starts with it is a molecule, not a file."""


class State(NamedTuple):
    """Charge and 2S, such as those of structures that state none."""

    charge: int = 0
    spin: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Molecule:
    """A checked structure. No behaviour: reading is in ``data/structures.py``.

    Two are equal (``==``) as ASE's ``Atoms`` are: same atoms in the same order, coordinates,
    lattice, charge, spin and moments, to the last bit; where they were read from does not matter.

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

    def __eq__(self, other: object) -> bool:
        """Whether the other one is the same structure."""
        if not isinstance(other, Molecule):
            return NotImplemented
        return self._known() == other._known()

    def __hash__(self) -> int:
        """Equal structures have one hash."""
        return hash(self._known())

    def _known(self) -> tuple[Any, ...]:
        """What makes it this structure, in plain numbers: 0.0 is -0.0 there."""
        lattice = None if self.lattice is None else tuple(self.lattice.ravel().tolist())
        coords = tuple(self.coords.ravel().tolist())
        atoms = tuple(self.numbers.tolist())
        return atoms, coords, self.charge, self.spin, lattice, self.pbc, self.moments

    def __repr__(self) -> str:
        """Formula, charge and spin; of a crystal the lengths of its vectors; the file."""
        from ase.symbols import Symbols  # takes a while to import

        shown = [str(Symbols(self.numbers).get_chemical_formula()) or "no atoms"]
        shown += [f"charge={self.charge}", f"spin={self.spin}"]
        if self.lattice is not None:
            lengths = np.linalg.norm(self.lattice, axis=1)
            shown.append(f"cell={' x '.join(f'{x:.4g}' for x in lengths)} bohr")
            shown.append(f"pbc={self.pbc}")
        if self.moments is not None:
            shown.append(f"moments=[{len(self.moments)}]")
        if self.file:
            shown += [f"file={self.file!r}", f"frame={self.frame}"]
        return f"Molecule({', '.join(shown)})"
