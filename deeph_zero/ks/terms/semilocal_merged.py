"""Semilocal exchange and correlation of several molecules that share calls of the functional.

The way for a processor: each molecule's matrices stay in its cache, and a functional, whose call
costs the same for few points as for thousands, is called seldom.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deeph_zero.ks.parallel.sharing import available_threads, one_thread_each, share
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.terms import semilocal
from deeph_zero.ks.terms.semilocal import (
    DensityOnGrid,
    Semilocal,
    add_potential_,
    block_groups,
    features_of,
)
from deeph_zero.ks.terms.term import Contribution, Density
from deeph_zero.types import MoleculeMatrix

MERGE_POINTS = 12288
"""Points up to which the groups of different molecules share a call: beyond, a call's
intermediates leave the processor's cache and cost more than the call itself."""

R = TypeVar("R")
Add = Callable[[int, list[AOBlock], Tensor], None]
"""Adds the matrix of a weighted potential to a molecule's."""
Groups = list[tuple[int, list[AOBlock]]]
"""Blocks that share a call of the functional, with the position of their molecule."""


def is_small(term: Semilocal) -> bool:
    """Whether a molecule's grid leaves room for others in a call of the functional."""
    return term.grid.ngrids <= MERGE_POINTS


@one_thread_each()
def energies_and_focks(terms: Sequence[Semilocal], at: Sequence[Density]) -> list[Contribution]:
    """What each term gives, as it would alone.

    Args:
        terms: One per molecule, all with the same functional.
        at: Their densities.

    Returns:
        E_xc, v_xc and electrons on the grid, in order.
    """
    functional = terms[0].functional
    densities = [DensityOnGrid(one, functional.kind) for one in at]

    def work(groups: Groups, add: Add) -> list[tuple[int, Tensor, Tensor]]:
        rho = torch.cat([densities[k].features(b) for k, blocks in groups for b in blocks], dim=-1)
        energy, potential = functional.gradient(rho)
        found, start = [], 0
        for k, blocks in groups:
            weights = torch.cat([block.weights for block in blocks])
            part = slice(start, start + len(weights))
            add(k, blocks, potential[..., part] * weights)
            found.append((k, weights @ energy[part], (rho[..., 0, part] @ weights).sum()))
            start = part.stop
        return found

    focks = [torch.zeros_like(one.dm) for one in at]
    e_xc = [one.dm.new_zeros(()) for one in at]
    count = [one.dm.new_zeros(()) for one in at]
    for k, energy, electrons in _sum_over_groups_(focks, terms, work):
        e_xc[k] += energy
        count[k] += electrons
    return [Contribution(*one) for one in zip(e_xc, focks, count, strict=True)]


@one_thread_each()
def responses(
    terms: Sequence[Semilocal], at: Sequence[Density], along: Sequence[Density]
) -> list[MoleculeMatrix]:
    """The change of each term's Fock matrix, as it would be alone.

    Args:
        terms: One per molecule, all with the same functional.
        at: Their densities.
        along: Changes of them.

    Returns:
        dF of each, Eh.
    """
    functional = terms[0].functional
    densities = [DensityOnGrid(one, functional.kind) for one in at]

    def work(groups: Groups, add: Add) -> list[None]:
        rho = torch.cat([densities[k].features(b) for k, blocks in groups for b in blocks], dim=-1)
        changes = [features_of(along[k], blocks, functional.kind) for k, blocks in groups]
        second = functional.second(rho, torch.cat(changes, dim=-1))
        start = 0
        for k, blocks in groups:
            weights = torch.cat([block.weights for block in blocks])
            add(k, blocks, second[..., start : start + len(weights)] * weights)
            start += len(weights)
        return []

    out = [torch.zeros_like(one.dm) for one in at]
    _sum_over_groups_(out, terms, work)
    return out


def _sum_over_groups_(
    out: Sequence[MoleculeMatrix],
    terms: Sequence[Semilocal],
    work: Callable[[Groups, Add], list[R]],
) -> list[R]:
    """Let threads share the groups; parts of a matrix are summed in the order of the groups."""
    found: list[R] = []
    kind = terms[0].functional.kind
    values = sum(term.grid.ngrids * term.grid.nao for term in terms)
    if available_threads() == 1 or values < semilocal.SHARED_VALUES:

        def add(k: int, blocks: list[AOBlock], potential: Tensor) -> None:
            add_potential_(out[k], blocks, potential, kind)

        for groups in _shared(terms):
            found += work(groups, add)
        return found

    def with_matrices(groups: Groups) -> tuple[list[R], list[tuple[int, Tensor]]]:
        matrices: list[tuple[int, Tensor]] = []

        def add(k: int, blocks: list[AOBlock], potential: Tensor) -> None:
            matrix = torch.zeros_like(out[k])
            add_potential_(matrix, blocks, potential, kind)
            matrices.append((k, matrix))

        return work(groups, add), matrices

    def use(result: tuple[list[R], list[tuple[int, Tensor]]]) -> None:
        found.extend(result[0])
        for k, matrix in result[1]:
            out[k].add_(matrix)

    share(with_matrices, _shared(terms), use)
    return found


def _shared(terms: Sequence[Semilocal]) -> Iterator[Groups]:
    """Each molecule's own groups of blocks, small ones of neighbours together."""
    waiting: Groups = []
    points = 0
    for k, term in enumerate(terms):
        for blocks in block_groups(term.grid):
            size = sum(len(block.weights) for block in blocks)
            if waiting and points + size > MERGE_POINTS:
                yield waiting
                waiting, points = [], 0
            waiting.append((k, blocks))
            points += size
    if waiting:
        yield waiting
