"""In which words the method of a label and the one that is wanted differ."""

import dataclasses
from typing import Any

from deeph_zero.ao.basis_text import label_of, same_basis
from deeph_zero.method import Method


def method_differences(found: Method, wanted: Method) -> list[str]:
    """In words, every setting that differs; functionals are compared by what they mean.

    Args:
        found: Resolved, what a label was made with; a grid level of None is one nobody tells.
        wanted: Resolved, what it must have been made with.

    Returns:
        Sentences such as "basis 'sto-3g' where 'def2-svp' is wanted".
    """
    words = []
    for name, attribute in _COMPARED.items():
        mine, theirs = getattr(found, attribute), getattr(wanted, attribute)
        if name == "grid level" and None in (mine, theirs):
            continue
        if _same(name, mine, theirs):
            continue
        if name == "basis":
            mine, theirs = label_of(mine), label_of(theirs)
        words.append(f"{name} {mine!r} where {theirs!r} is wanted")
    return words


_COMPARED = {
    "basis": "basis", "auxbasis": "fitting_set", "xc": "xc", "grid level": "grid_level",
    "smearing": "smearing",
}  # fmt: skip


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
