"""What an energy term is: energy, Fock matrix and the Fock matrix's derivatives at a density."""

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deeph_zero.ks.linalg.factor import Factor, spectral_factors
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.types import PerMolecule, SpinMatrix, TermMatrix


class Density:
    """A density matrix with its spin axis, and what several terms need of it, made once.

    Attributes:
        dm: Occupations included, [nspin, nao, nao]; [nmol, nspin, nao, nao] for a padded stack;
            [nspin, nk, nao, nao] of a crystal. A closed shell has one spin channel, the total
            density.
        occupation: Electrons of a filled orbital: 2 in a closed shell, 1 otherwise.
    """

    def __init__(self, dm: TermMatrix, *, factored: bool = True, spin_axis: int = -3) -> None:
        """Nothing is made yet.

        Args:
            dm: Symmetric; a change of a density as well.
            factored: Whether terms may go through the orbitals of ``dm``.
            spin_axis: Which axis has the spins.
        """
        self.dm = dm
        self.occupation = 3 - dm.shape[spin_axis]
        self._factored = factored
        self._spin_axis = spin_axis

    @classmethod
    def at_k_points(cls, dm: TermMatrix) -> "Density":
        """That of a crystal: Hermitian matrices, [nspin, nk, nao, nao]."""
        return cls(dm, factored=False, spin_axis=0)

    @cached_property
    def total(self) -> TermMatrix:
        """Sum over the spins, the axis kept."""
        spins = self._spin_axis
        return self.dm if self.dm.shape[spins] == 1 else self.dm.sum(spins, keepdim=True)

    @cached_property
    def factors(self) -> list[Factor] | None:
        """The ``spectral_factors`` of each spin; None for a stack, and where not finite."""
        return spectral_factors(self.dm) if self._factored else None


class Contribution(NamedTuple):
    """What one term gives at a density.

    Attributes:
        energy: Eh; one per molecule of a stack.
        fock: Its derivative, Eh, with the density's axes; a spin axis of length 1 where both spins
            feel the same; None where the energy does not depend on the density.
        electrons: The density integrated on a grid, where the term did it.
        parts: ``energy`` by names, where the term is several that share a pass over a grid.
    """

    energy: PerMolecule
    fock: TermMatrix | None
    electrons: PerMolecule | None = None
    parts: Mapping[str, PerMolecule] | None = None


Responses = Callable[[Sequence[Density]], Sequence[TermMatrix | None]]
"""Changes of a density to the changes of a term's Fock matrix."""


class Term(abc.ABC):
    """One term of the energy of one molecule, of a padded stack of molecules, or of a crystal.

    A subclass has to give energy and Fock matrix. One whose Fock matrix depends on the density
    gives :meth:`response` too, and :meth:`second` where it is not linear in the density. A batch
    evaluates it molecule by molecule unless :meth:`stacked` knows better.

    Attributes:
        name: Key of its energy in :attr:`~deeph_zero.ks.terms.build.FockBuild.parts`; no other
            term of the molecule has it.
        on_grid: Whether it changes with the quadrature grid: the same density's build on another
            grid then gives all but this term.
    """

    name: str
    on_grid: bool = False

    @abc.abstractmethod
    def energy_and_fock(self, at: Density) -> Contribution:
        """Energy and dE/dP.

        Args:
            at: The density.

        Returns:
            Exact derivatives of each other, to rounding.
        """

    def response(self, at: Density, along: Density) -> TermMatrix | None:
        """Derivative of the Fock matrix; self-adjoint in ``along``.

        Args:
            at: Where it is differentiated.
            along: Change of the density.

        Returns:
            dF, Eh, shaped as a Fock matrix; None where F does not depend on the density.
        """
        del at, along

    def linearised(self, at: Density) -> "Responses":
        """The response to many changes of one density, for a term that can prepare for them.

        Args:
            at: Where the Fock matrix is differentiated.

        Returns:
            A function of some changes that gives :meth:`response` to each.
        """
        return lambda changes: [self.response(at, one) for one in changes]

    def second(self, at: Density, d1: Density, d2: Density) -> TermMatrix | None:
        """Second derivative of the Fock matrix, symmetric in the directions.

        Args:
            at: Where it is differentiated.
            d1: First change of the density.
            d2: Second change.

        Returns:
            d²F, Eh, shaped as a Fock matrix; None where F is linear in the density.
        """
        del at, d1, d2

    @classmethod
    def stacked(cls, terms: Sequence[Any], padding: Padding) -> "Term":
        """This term for several molecules, for padded stacks of their matrices.

        Args:
            terms: One per molecule; None for one that has no such term.
            padding: The molecules' sizes.

        Returns:
            A term whose matrices and energies have a leading axis of molecules.
        """
        return OneByOne(terms, padding)


class OneByOne(Term):
    """A term of several molecules that works on each one's own part of the stack."""

    def __init__(self, terms: Sequence[Term | None], padding: Padding) -> None:
        """Hold them.

        Args:
            terms: One per molecule, at least one of them not None.
            padding: The molecules' sizes.
        """
        self._terms = list(terms)
        self._padding = padding
        one = next(term for term in terms if term is not None)
        self.name, self.on_grid = one.name, one.on_grid

    def energy_and_fock(self, at: Density) -> Contribution:
        """Energies and dE/dP of all molecules."""
        energies, focks = at.dm.new_zeros(len(self._terms)), []
        for k, (term, own) in enumerate(zip(self._terms, self._split(at), strict=True)):
            found = None if term is None else term.energy_and_fock(own)
            if found is not None:
                energies[k] = found.energy
            focks.append(None if found is None else found.fock)
        return Contribution(energies, self._stack(focks, at))

    def response(self, at: Density, along: Density) -> SpinMatrix | None:
        """dF of all molecules."""
        return self._each("response", at, along)

    def second(self, at: Density, d1: Density, d2: Density) -> SpinMatrix | None:
        """d²F of all molecules."""
        return self._each("second", at, d1, d2)

    def _each(self, method: str, *densities: Density) -> SpinMatrix | None:
        own = zip(*(self._split(one) for one in densities), strict=True)
        found = [
            None if term is None else getattr(term, method)(*some)
            for term, some in zip(self._terms, own, strict=True)
        ]
        return self._stack(found, densities[0])

    def _split(self, stack: Density) -> list[Density]:
        return [Density(one) for one in self._padding.split(stack.dm)]

    def _stack(self, found: Sequence[Tensor | None], like: Density) -> Tensor | None:
        if all(one is None for one in found):
            return None
        out = torch.zeros_like(like.dm)
        for k, one in enumerate(found):
            if one is not None:
                n = one.shape[-1]
                out[k, :, :n, :n] = one
        return out


def trace(a: SpinMatrix, b: SpinMatrix) -> PerMolecule:
    """tr(a b) of symmetric matrices, summed over spins; one per molecule of a stack."""
    return (a * b).sum((-3, -2, -1))
