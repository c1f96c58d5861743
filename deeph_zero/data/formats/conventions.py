"""Units and AO orders of every foreign format, in one table.

Energies and lengths carry the constants the programs themselves use: with another pair a round trip
shows at 1e-5 eV on an element of 100 eV.
"""

import dataclasses

from deeph_zero.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV


@dataclasses.dataclass(frozen=True)
class Convention:
    """How the numbers of a format are meant.

    Attributes:
        energy: Its unit of energy, hartree.
        length: Its unit of length, bohr.
        order: Order and signs of the functions of a shell, one of
            :data:`deeph_zero.ao.convention.SHELL_ORDERS`.
    """

    energy: float
    length: float
    order: str


DEEPH_HARTREE_IN_EV = 27.2113845
DEEPH_BOHR_IN_ANGSTROM = 0.529177249
"""CODATA 2002, as DeepH's own tools convert."""

_EV = 1.0 / HARTREE_IN_EV
_ANGSTROM = 1.0 / BOHR_IN_ANGSTROM
_DEEPH = (1.0 / DEEPH_HARTREE_IN_EV, 1.0 / DEEPH_BOHR_IN_ANGSTROM)

CONVENTIONS = {
    "labels": Convention(1.0, 1.0, "pyscf"),
    "deeph": Convention(*_DEEPH, "m"),
    "deeph-legacy": Convention(*_DEEPH, "openmx"),
    "hsx": Convention(0.5, 1.0, "siesta"),
    "aims": Convention(1.0, _ANGSTROM, "aims"),
    "openmx": Convention(1.0, 1.0, "openmx"),
    "qh9": Convention(1.0, _ANGSTROM, "pyscf"),
    "nabladft": Convention(1.0, 1.0, "psi4"),
    "schnorb": Convention(1.0, _ANGSTROM, "orca"),
    "sphnet": Convention(1.0, _ANGSTROM, "pyscf"),
    "deeptb": Convention(_EV, _ANGSTROM, "m"),
    "dftio": Convention(_EV, _ANGSTROM, "m"),
    "wannier90": Convention(_EV, _ANGSTROM, "pyscf"),
}
"""By the names that ``deeph-zero convert --from`` and ``--to`` take."""

ENERGIES = {"hartree": 1.0, "eV": _EV, "rydberg": 0.5}
"""Units of energy that ``--energy-unit`` takes, hartree."""
