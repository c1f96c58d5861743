"""Builds of several molecules one after another, whose grid points share calls of the functional.

The way for a processor: each molecule's matrices stay in its cache, and a functional, whose call
costs the same for few points as for thousands, is called seldom.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deeph_zero.ks import build
from deeph_zero.ks.build import DensityOnGrid, FockBuild, block_groups
from deeph_zero.ks.grid.maps import density_features, restrict
from deeph_zero.ks.linalg.factor import spectral_factors
from deeph_zero.ks.parallel.sharing import available_threads, one_thread_each, share
from deeph_zero.ks.protocol import AOBlock, Functional, KSData, XCKind
from deeph_zero.types import MoleculeMatrix

MERGE_POINTS = 12288
"""Points up to which the groups of different molecules share a call: beyond, a call's
intermediates leave the processor's cache and cost more than the call itself."""

R = TypeVar("R")
Add = Callable[[int, list[AOBlock], Tensor], None]
"""Adds the matrix of a weighted potential to a molecule's."""
Groups = list[tuple[int, list[AOBlock]]]
"""Blocks that share a call of the functional, with the position of their molecule."""


def fock_builds(
    functional: Functional | None,
    datas: Sequence[KSData],
    dms: Sequence[MoleculeMatrix],
    coarse: Sequence[FockBuild | None] | None = None,
) -> list[FockBuild]:
    """:func:`~deeph_zero.ks.build.fock_build` of every molecule.

    Args:
        functional: The one functional of all of them.
        datas: The molecules.
        dms: Their symmetric density matrices.
        coarse: Their builds on another grid, where they are known.

    Returns:
        The builds, in order; the same numbers as one by one.
    """
    alone = [k for k, data in enumerate(datas) if functional is None or _alone(data)]
    out = {}
    for k in alone:
        known = coarse[k] if coarse else None
        if known is not None and known.v_xc is not None:
            out[k] = build.rebuild_on_grids(datas[k], dms[k], known)
        else:
            out[k] = build.fock_build(datas[k], dms[k])
    small = [k for k in range(len(datas)) if k not in out]
    if functional is not None and small:
        found = _small_builds(functional, [datas[k] for k in small], [dms[k] for k in small])
        out |= dict(zip(small, found, strict=True))
    return [out[k] for k in range(len(datas))]


def _alone(data: KSData) -> bool:
    """Whether a molecule fills calls of the functional without others."""
    return data.grid is None or data.grid.ngrids > MERGE_POINTS


@one_thread_each()
def _small_builds(
    functional: Functional, datas: Sequence[KSData], dms: Sequence[MoleculeMatrix]
) -> list[FockBuild]:
    """Builds of molecules that share calls of the functional."""
    factors = [spectral_factors(dm) for dm in dms]
    builds = [
        build.fock_build(dataclasses.replace(data, functional=None, grid=None), dm, orbitals)
        for data, dm, orbitals in zip(datas, dms, factors, strict=True)
    ]
    densities = [
        DensityOnGrid(dm, functional.kind, orbitals)
        for dm, orbitals in zip(dms, factors, strict=True)
    ]

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

    e_xc = [dm.new_zeros(()) for dm in dms]
    count = [dm.new_zeros(()) for dm in dms]
    focks = [one.fock for one in builds]
    for k, energy, electrons in _sum_over_groups_(focks, datas, functional.kind, work):
        e_xc[k] += energy
        count[k] += electrons
    parts = zip(builds, e_xc, count, strict=True)
    # what the grid added is part of a sum now
    return [dataclasses.replace(b, e_xc=e, n_electrons=n, v_xc=None) for b, e, n in parts]


def _sum_over_groups_(
    out: Sequence[MoleculeMatrix],
    datas: Sequence[KSData],
    kind: XCKind,
    work: Callable[[Groups, Add], list[R]],
) -> list[R]:
    """Let threads share the groups; parts of a matrix are summed in the order of the groups."""
    found: list[R] = []
    values = sum(one.grid.ngrids * one.grid.nao for one in datas if one.grid is not None)
    if available_threads() == 1 or values < build.SHARED_VALUES:

        def add(k: int, blocks: list[AOBlock], potential: Tensor) -> None:
            build.add_potential_(out[k], blocks, potential, kind)

        for groups in _shared(datas):
            found += work(groups, add)
        return found

    def with_matrices(groups: Groups) -> tuple[list[R], list[tuple[int, Tensor]]]:
        matrices: list[tuple[int, Tensor]] = []

        def add(k: int, blocks: list[AOBlock], potential: Tensor) -> None:
            matrix = torch.zeros_like(out[k])
            build.add_potential_(matrix, blocks, potential, kind)
            matrices.append((k, matrix))

        return work(groups, add), matrices

    def use(result: tuple[list[R], list[tuple[int, Tensor]]]) -> None:
        found.extend(result[0])
        for k, matrix in result[1]:
            out[k].add_(matrix)

    share(with_matrices, _shared(datas), use)
    return found


def responses(
    functional: Functional | None,
    datas: Sequence[KSData],
    dms: Sequence[MoleculeMatrix],
    directions: Sequence[MoleculeMatrix],
) -> list[MoleculeMatrix]:
    """:func:`~deeph_zero.ks.build.response` of every molecule.

    Args:
        functional: The one functional of all of them.
        datas: The molecules.
        dms: Density matrices at which F is differentiated.
        directions: Symmetric directions.

    Returns:
        dF of each, Eh.
    """
    alone = [k for k, data in enumerate(datas) if functional is None or _alone(data)]
    out = {k: build.response(datas[k], dms[k], directions[k]) for k in alone}
    small = [k for k in range(len(datas)) if k not in out]
    if functional is not None and small:
        along = [directions[k] for k in small]
        found = _small_responses(
            functional, [datas[k] for k in small], [dms[k] for k in small], along
        )
        out |= dict(zip(small, found, strict=True))
    return [out[k] for k in range(len(datas))]


@one_thread_each()
def _small_responses(
    functional: Functional,
    datas: Sequence[KSData],
    dms: Sequence[MoleculeMatrix],
    directions: Sequence[MoleculeMatrix],
) -> list[MoleculeMatrix]:
    """Responses of molecules that share calls of the functional."""
    bare = [dataclasses.replace(data, functional=None, grid=None) for data in datas]
    out = [build.response(*one) for one in zip(bare, dms, directions, strict=True)]
    kind = functional.kind
    densities = [DensityOnGrid(dm, kind, spectral_factors(dm)) for dm in dms]

    def work(groups: Groups, add: Add) -> list[None]:
        each = [(k, block) for k, blocks in groups for block in blocks]
        rho = torch.cat([densities[k].features(block) for k, block in each], dim=-1)
        along = [density_features(b, restrict(directions[k], b), kind) for k, b in each]
        second = functional.second(rho, torch.cat(along, dim=-1))
        start = 0
        for k, blocks in groups:
            weights = torch.cat([block.weights for block in blocks])
            add(k, blocks, second[..., start : start + len(weights)] * weights)
            start += len(weights)
        return []

    _sum_over_groups_(out, datas, kind, work)
    return out


def _shared(datas: Sequence[KSData]) -> Iterator[Groups]:
    """Each molecule's own groups of blocks, small ones of neighbours together."""
    waiting: Groups = []
    points = 0
    for k, data in enumerate(datas):
        assert data.grid is not None
        for blocks in block_groups(data.grid):
            size = sum(len(block.weights) for block in blocks)
            if waiting and points + size > MERGE_POINTS:
                yield waiting
                waiting, points = [], 0
            waiting.append((k, blocks))
            points += size
    if waiting:
        yield waiting
