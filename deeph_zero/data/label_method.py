"""What was solved to make a label, and in which words two of them differ."""

import dataclasses
from typing import Any

from deeph_zero.ao.basis_text import label_of, same_basis
from deeph_zero.settings.config import MethodConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelMethod:
    """What was solved to make a label; two labels of one run must agree in all of it.

    Attributes:
        basis: Orbital basis set.
        auxbasis: Resolved fitting set; None without density fitting.
        xc: Functional, as given.
        grid_level: PySCF grid level; None if the file does not say.
        smearing: Width of Fermi occupations, Eh.
    """

    basis: str
    auxbasis: str | None
    xc: str
    grid_level: int | None
    smearing: float = 0.0

    def differences(self, other: "LabelMethod") -> list[str]:
        """In words, every setting that differs; functionals are compared by what they mean.

        Args:
            other: What is wanted.

        Returns:
            Sentences such as "basis 'sto-3g' where 'def2-svp' is wanted".
        """
        found = []
        for name in ("basis", "auxbasis", "xc", "grid_level", "smearing"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "grid_level" and None in (mine, theirs):
                continue
            if _same(name, mine, theirs):
                continue
            if name == "basis":
                mine, theirs = label_of(mine), label_of(theirs)
            found.append(f"{name.replace('_', ' ')} {mine!r} where {theirs!r} is wanted")
        return found


def wanted_method(method: MethodConfig, auxbasis: str | None) -> LabelMethod:
    """The labels a calculation needs.

    Args:
        method: Its settings.
        auxbasis: The fitting set, resolved (``KSInfo.auxbasis``).

    Returns:
        What to compare labels with.
    """
    return LabelMethod(
        basis=method.basis,
        auxbasis=auxbasis if method.density_fit else None,
        xc=method.xc,
        grid_level=method.grid_level,
    )


def _same(name: str, mine: Any, theirs: Any) -> bool:
    if mine == theirs:
        return True
    if not (isinstance(mine, str) and isinstance(theirs, str)):
        return False
    if name == "xc":
        from deeph_zero.integrals.libxc import describe

        ours, other = describe(mine), describe(theirs)
        return dataclasses.replace(ours, name="") == dataclasses.replace(other, name="")
    return same_basis(mine, theirs)
