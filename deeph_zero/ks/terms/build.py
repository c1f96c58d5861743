"""One Fock build: energy and Fock matrix of a density matrix, and the Fock matrix's derivatives.

E[P] = tr(hP) + ½ tr(J[P]P) - ½ Σ_σ tr((c_x K)[P_σ] P_σ) + E_xc + E_nlc + E_disp + E_nn for spin
orbitals, and whatever terms were added; F is the derivative of E. What a term is stands in its
own file, the list in :mod:`.terms`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deeph_zero.ks.parallel.sharing import one_thread_each
from deeph_zero.ks.protocol import KSData, MoleculeData
from deeph_zero.ks.terms import semilocal_merged
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.semilocal_single import SingleSemilocal
from deeph_zero.ks.terms.term import Contribution, Density, Term, trace
from deeph_zero.ks.terms.terms import change, second_change, terms_of, total
from deeph_zero.types import AOMatrix, Brief, MoleculeMatrix, SpinMatrix


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FockBuild(Brief):
    """Energy parts (Eh), Fock matrix and electron count of one density matrix.

    Attributes:
        parts: Energy of every term by name: ``e_core`` (kinetic and attraction), ``e_coul``,
            ``e_exx`` (exact exchange, coefficient included), ``e_xc`` (semilocal), ``e_nlc``
            (VV10), ``e_nuc``, ``e_disp``, ``e_field``, ``e_shift`` (a constant added to every Fock
            matrix); those that the energy has.
        fock: dE/dP, Eh; shape of the density.
        n_electrons: Density integrated on the grid (tr(PS) without a grid).
        v_xc: What the terms on a grid add to ``fock``, Eh; None where that was not kept.
    """

    parts: Mapping[str, Tensor]
    fock: AOMatrix
    n_electrons: Tensor
    v_xc: AOMatrix | None = None

    @property
    def energy(self) -> Tensor:
        """Total energy, Eh."""
        return sum(self.parts.values(), start=self.fock.new_zeros(()))


@one_thread_each()
def fock_build(
    data: MoleculeData, dm: SpinMatrix, single: SingleSemilocal | None = None
) -> FockBuild:
    """Energy and Fock matrix at a symmetric density matrix.

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix with occupations, [nspin, nao, nao].
        single: The semilocal term in single precision, taken for the exact one.

    Returns:
        Energies and F = dE/dP, exact to rounding (with ``single`` to that of float32).
    """
    at = Density(dm)
    known = {} if single is None else {single.name: single.energy_and_fock(at)}
    return _built(data, terms_of(data), at, known)


@one_thread_each()
def rebuild_on_grids(data: MoleculeData, dm: SpinMatrix, built: FockBuild) -> FockBuild:
    """A build from one of the same density on another grid: J and K are taken over.

    Args:
        data: Integrals, grid and functional.
        dm: The density matrix.
        built: :func:`fock_build` of the same molecule with another grid, nothing added to it.

    Returns:
        What ``fock_build(data, dm)`` gives, to rounding.
    """
    return _rebuilt(terms_of(data), Density(dm), {}, built)


@one_thread_each()
def fock_builds(
    datas: Sequence[KSData],
    dms: Sequence[MoleculeMatrix],
    coarse: Sequence[FockBuild | None] | None = None,
) -> list[FockBuild]:
    """Builds of several molecules one after another, whose grids share calls of the functional.

    Args:
        datas: The molecules, all with one functional or all without.
        dms: Their symmetric density matrices.
        coarse: Their builds on another grid, where they are known: J and K are taken over.

    Returns:
        The builds, in order; the same numbers as one by one.
    """
    terms = [terms_of(data) for data in datas]
    at = [Density(dm) for dm in dms]
    given: list[dict[str, Contribution]] = [{} for _ in datas]
    small = _small(terms)
    if small:
        found = semilocal_merged.energies_and_focks(list(small.values()), [at[k] for k in small])
        for (k, term), one in zip(small.items(), found, strict=True):
            given[k][term.name] = one
    out = []
    for k, data in enumerate(datas):
        elsewhere = coarse[k] if coarse else None
        if elsewhere is None or elsewhere.v_xc is None:
            out.append(_built(data, terms[k], at[k], given[k]))
        else:
            out.append(_rebuilt(terms[k], at[k], given[k], elsewhere))
    return out


@one_thread_each()
def response(data: MoleculeData, dm: SpinMatrix, direction: SpinMatrix) -> SpinMatrix:
    """Derivative of F along a symmetric direction G: J[G] - c_x K[G] + f_xc · rho[G].

    Linear and self-adjoint in G. For a closed shell G is a change of the total density.

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix at which F is differentiated.
        direction: G, same shape as ``dm``.

    Returns:
        dF, same shape, Eh.
    """
    return change(terms_of(data), Density(dm), Density(direction))


def linear_response(data: MoleculeData, dm: SpinMatrix) -> Callable[[Tensor], Tensor]:
    """:func:`response` at one density for many directions; what they share is made once.

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix at which F is differentiated.

    Returns:
        A function of directions [n, nspin, nao, nao] that gives dF of each, Eh.
    """
    with one_thread_each():
        prepared = [term.linearised(Density(dm)) for term in terms_of(data)]

    @one_thread_each()
    def along(directions: Tensor) -> Tensor:
        changes = [Density(one) for one in directions]
        out = torch.zeros_like(directions)
        for term in prepared:
            for k, one in enumerate(term(changes)):
                if one is not None:
                    out[k] += one
        return out

    return along


@one_thread_each()
def responses(
    datas: Sequence[KSData],
    dms: Sequence[MoleculeMatrix],
    directions: Sequence[MoleculeMatrix],
) -> list[MoleculeMatrix]:
    """:func:`response` of several molecules, whose grids share calls of the functional.

    Args:
        datas: The molecules, all with one functional or all without.
        dms: Density matrices at which F is differentiated.
        directions: Symmetric directions.

    Returns:
        dF of each, Eh.
    """
    terms = [terms_of(data) for data in datas]
    at = [Density(dm) for dm in dms]
    along = [Density(one) for one in directions]
    given: list[dict[str, Tensor]] = [{} for _ in datas]
    small = _small(terms)
    if small:
        where = [at[k] for k in small], [along[k] for k in small]
        found = semilocal_merged.responses(list(small.values()), *where)
        for (k, term), one in zip(small.items(), found, strict=True):
            given[k][term.name] = one
    return [change(*one) for one in zip(terms, at, along, given, strict=True)]


@one_thread_each()
def second_response(
    data: MoleculeData, dm: SpinMatrix, d1: SpinMatrix, d2: SpinMatrix
) -> SpinMatrix:
    """Second derivative of F along two directions (density functionals only; J, K are linear).

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix at which F is differentiated.
        d1: First direction.
        d2: Second direction.

    Returns:
        d²F, same shape as ``dm``, symmetric in (d1, d2).
    """
    return second_change(terms_of(data), *(Density(one) for one in (dm, d1, d2)))


def _small(terms: Sequence[Sequence[Term]]) -> dict[int, Semilocal]:
    """Semilocal terms that leave room in a call of the functional, by position."""
    return {
        k: term
        for k, some in enumerate(terms)
        for term in some
        if isinstance(term, Semilocal) and semilocal_merged.is_small(term)
    }


def _built(
    data: MoleculeData, terms: Sequence[Term], at: Density, given: Mapping[str, Contribution]
) -> FockBuild:
    found = total(terms, at, given)
    electrons = found.electrons
    return FockBuild(
        parts=found.parts,
        fock=found.fock,
        n_electrons=trace(at.total, data.ovlp.unsqueeze(0)) if electrons is None else electrons,
        v_xc=found.on_grids,
    )


def _rebuilt(
    terms: Sequence[Term],
    at: Density,
    given: Mapping[str, Contribution],
    elsewhere: FockBuild,
) -> FockBuild:
    assert elsewhere.v_xc is not None
    found = total([term for term in terms if term.on_grid], at, given)
    v_xc, electrons = found.fock, found.electrons
    return FockBuild(
        parts={**elsewhere.parts, **found.parts},
        fock=elsewhere.fock - elsewhere.v_xc + v_xc,
        n_electrons=elsewhere.n_electrons if electrons is None else electrons,
        v_xc=v_xc,
    )
