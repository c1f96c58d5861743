"""The list of terms, and sums over it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.protocol import MoleculeData
from deeph_zero.ks.terms.constant import Dispersion, NuclearRepulsion
from deeph_zero.ks.terms.coulomb import Coulomb
from deeph_zero.ks.terms.exchange import Exchange
from deeph_zero.ks.terms.one_electron import OneElectron
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.term import Contribution, Density, Term
from deeph_zero.ks.terms.vv10 import VV10
from deeph_zero.types import PerMolecule, TermMatrix

TERMS = (OneElectron, Coulomb, Exchange, Semilocal, VV10, NuclearRepulsion, Dispersion)
"""What a molecule's integrals make; further ones come with :attr:`KSData.added`."""


def terms_of(data: MoleculeData) -> list[Term]:
    """The terms of a molecule's energy.

    Args:
        data: Integrals, grid and functional.

    Returns:
        Those of :data:`TERMS` that it has, and those added.

    Raises:
        InputError: If two have the same name, or something added is no term.
    """
    whole = data.plain()
    found: list[Term] = [term for kind in TERMS if (term := kind.of(whole)) is not None]
    for term in whole.added:
        if not isinstance(term, Term):
            raise InputError(f"expected an energy term (a Term), got {type(term).__name__}")
        if any(term.name == one.name for one in found):
            raise InputError(f"expected energy terms of different names, got two {term.name!r}")
        found.append(term)
    return found


def stacked_terms(each: Sequence[Sequence[Term]], padding: Padding) -> list[Term]:
    """The terms of several molecules, for padded stacks of their matrices.

    Args:
        each: :func:`terms_of` every molecule; those with a semilocal term have the same functional.
        padding: Their sizes.

    Returns:
        One per name.
    """
    by_name = [{term.name: term for term in terms} for terms in each]
    out: list[Term] = []
    for name in dict.fromkeys(name for terms in by_name for name in terms):
        own = [terms.get(name) for terms in by_name]
        kind = next(type(term) for term in own if term is not None)
        out.append(kind.stacked(own, padding))
    return out


class Total(NamedTuple):
    """A sum of terms.

    Attributes:
        parts: Energies by name, Eh.
        fock: Sum of the Fock matrices, Eh, with the density's axes.
        on_grids: What the terms on a grid give of it.
        electrons: The density integrated on a grid, None without.
    """

    parts: dict[str, PerMolecule]
    fock: TermMatrix
    on_grids: TermMatrix
    electrons: PerMolecule | None


def total(
    terms: Sequence[Term], at: Density, given: Mapping[str, Contribution] | None = None
) -> Total:
    """Sum of energies and Fock matrices.

    Args:
        terms: The terms of one molecule, of a stack, or of a crystal.
        at: The density.
        given: What is known of some already, by name.

    Returns:
        The sum.
    """
    known = given or {}
    parts: dict[str, PerMolecule] = {}
    focks: dict[bool, list[Tensor]] = {False: [], True: []}
    electrons = None
    for term in terms:
        found = known[term.name] if term.name in known else term.energy_and_fock(at)
        parts.update({term.name: found.energy} if found.parts is None else found.parts)
        if found.fock is not None:
            focks[term.on_grid].append(found.fock)
        if found.electrons is not None:
            electrons = found.electrons
    on_grids = _added(focks[True], at.dm)
    return Total(parts, _added([*focks[False], on_grids], at.dm), on_grids, electrons)


def change(
    terms: Sequence[Term],
    at: Density,
    along: Density,
    given: Mapping[str, TermMatrix] | None = None,
) -> TermMatrix:
    """Derivative of the Fock matrix.

    Args:
        terms: The terms of one molecule, of a stack, or of a crystal.
        at: Where it is differentiated.
        along: Change of the density.
        given: What is known of some terms already, by name.

    Returns:
        dF, Eh, with the density's axes.
    """
    known = given or {}
    found = [known[term.name] if term.name in known else term.response(at, along) for term in terms]
    return _added(found, at.dm)


def second_change(terms: Sequence[Term], at: Density, d1: Density, d2: Density) -> TermMatrix:
    """Second derivative of the Fock matrix.

    Args:
        terms: The terms of one molecule, of a stack, or of a crystal.
        at: Where it is differentiated.
        d1: First change of the density.
        d2: Second change.

    Returns:
        d²F, Eh, with the density's axes.
    """
    return _added([term.second(at, d1, d2) for term in terms], at.dm)


def _added(matrices: Sequence[Tensor | None], like: TermMatrix) -> TermMatrix:
    """Sum of those there are, a new matrix with the axes of ``like``."""
    first, *rest = [one for one in matrices if one is not None] or [torch.zeros_like(like)]
    for one in rest:
        first = first + one
    return first if rest and first.shape == like.shape else first.expand_as(like).clone()
