"""What is solved, apart from the structure: one discretised Kohn-Sham problem as a frozen record.

Settings, model files, labels, summaries and layers all derive from it. A new choice that changes
the answer is a field here; what only changes the way to it (device, memory, engines) is none.
"""

import dataclasses
import math
from numbers import Integral, Real
from typing import Any, TypeAlias

from deeph_zero.errors import InputError, argument

FINEST_GRID = 9
"""Highest of PySCF's grid levels."""

FittingSet: TypeAlias = str | dict[str, Any] | list[Any] | tuple[Any, ...] | None
"""A name, a basis set's text, or what PySCF takes; None: PySCF's choice."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalMethod:
    """What a crystal's method has beside a molecule's.

    Attributes:
        kmesh: k-points along the reciprocal vectors; None: a list of points that was given.
        pseudo: GTH pseudopotentials by name; None: all electrons.
        ke_cutoff: Cutoff of the uniform grid, Eh; None: a quarter of what PySCF estimates.
        shifted: Monkhorst and Pack's mesh in place of the Γ-centred one.
        fix_spin: With smearing, keep the number of electrons of each spin.
    """

    kmesh: tuple[int, int, int] | None = (1, 1, 1)
    pseudo: str | None = "gth-pbe"
    ke_cutoff: float | None = None
    shifted: bool = False
    fix_spin: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A discretised Kohn-Sham problem; with a structure it has one answer.

    Attributes:
        xc: Functional, PySCF's syntax; VV10 and dispersion are asked for by its name.
        basis: Orbital basis: a name, or a basis set's text in NWChem's format.
        density_fit: Fitted two-electron integrals, or exact ones.
        auxbasis: Fitting set; None: PySCF's choice for basis and functional. Of a resolved method
            its name, None without fitting.
        grid_level: PySCF's, 0 to 9; None: a grid of its own, or one that nobody tells.
        nlc_grid_level: Level of VV10's grid; None as above.
        two_grids: Have a coarse grid for SCFs beside the target one; the answer is the same.
        unrestricted: Two spins; None: if and only if the structure has unpaired electrons.
        break_symmetry: Perturb the starting density of two spins, and keep integer occupations
            under degeneracy.
        smearing: Width (Eh) of Fermi occupations; 0 fills levels in order.
        lindep_threshold: Eigenvalues of S below it are dropped; None: PySCF's threshold.
        crystal: What only crystals have; None for molecules.

    Examples:
        >>> method = Method(xc="pbe0", basis="def2-tzvp", grid_level=2)
        >>> coarser = dataclasses.replace(method, grid_level=1)
    """

    xc: str = "pbe"
    basis: str = "def2-svp"
    density_fit: bool = True
    auxbasis: FittingSet = None
    grid_level: int | None = 3
    nlc_grid_level: int | None = 3
    two_grids: bool = True
    unrestricted: bool | None = None
    break_symmetry: bool = False
    smearing: float = 0.0
    lindep_threshold: float | None = None
    crystal: CrystalMethod | None = None

    def __post_init__(self) -> None:
        """Look at what Python users give.

        Raises:
            InputError: If the functional is no text, a switch neither on nor off, a grid level no
                number from 0 to 9, or a width or threshold negative.
        """
        if not isinstance(self.xc, str):
            raise InputError(f"expected xc as text, got {self.xc!r}; use for example 'pbe'")
        levels = {argument("grid_level"): self.grid_level, "nlc_grid_level": self.nlc_grid_level}
        for name, level in levels.items():
            if level is None or (isinstance(level, Integral) and 0 <= level <= FINEST_GRID):
                continue
            raise InputError(f"expected {name} 0 to 9, got {level!r}; 3 is the default")
        for name in ("density_fit", "two_grids", "unrestricted", "break_symmetry"):
            given = getattr(self, name)
            if given not in (True, False) and not (given is None and name == "unrestricted"):
                raise InputError(f"expected {argument(name)} True or False, got {given!r}")
        for name in ("smearing", "lindep_threshold"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, Real) and 0 <= float(given) < math.inf):
                raise InputError(f"expected {argument(name)} of 0 or more, got {given!r}")

    def is_unrestricted(self, spin: int) -> bool:
        """Whether matrices of a structure have two spins.

        Args:
            spin: Its 2S.

        Returns:
            True for UKS.
        """
        return spin != 0 if self.unrestricted is None else self.unrestricted

    @property
    def fitting_set(self) -> str | None:
        """Name of the fitting set of a resolved method; None without fitting.

        Raises:
            InputError: If it was not resolved.
        """
        if not self.density_fit:
            return None
        if not isinstance(self.auxbasis, str):
            raise InputError("expected a resolved method, got one without a name for its auxbasis")
        return self.auxbasis

    def fitted_with(self, name: str | None) -> "Method":
        """The method with its fitting set resolved.

        Args:
            name: PySCF's choice by its name.

        Returns:
            The method of the same problem; without density fitting it has no set.
        """
        return dataclasses.replace(self, auxbasis=name if self.density_fit else None)
