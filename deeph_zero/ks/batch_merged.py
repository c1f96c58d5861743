"""Builds of several molecules one after another, whose grid points share calls of the functional.

The way for a processor: each molecule's matrices stay in its cache, and a functional, whose call
costs the same for few points as for thousands, is called seldom.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from deeph_zero.ks import build
from deeph_zero.ks.build import DensityOnGrid, FockBuild, block_groups
from deeph_zero.ks.factor import spectral_factors
from deeph_zero.ks.grid_maps import density_features, restrict
from deeph_zero.ks.protocol import AOBlock, Functional, KSData
from deeph_zero.types import MoleculeMatrix

MERGE_POINTS = 12288
"""Points up to which the groups of different molecules share a call: beyond, a call's
intermediates leave the processor's cache and cost more than the call itself."""

Groups = list[tuple[int, list[AOBlock]]]
"""Blocks that share a call of the functional, with the position of their molecule."""


def fock_builds(
    functional: Functional | None, datas: Sequence[KSData], dms: Sequence[MoleculeMatrix]
) -> list[FockBuild]:
    """:func:`~deeph_zero.ks.build.fock_build` of every molecule.

    Args:
        functional: The one functional of all of them.
        datas: The molecules.
        dms: Their symmetric density matrices.

    Returns:
        The builds, in order; the same numbers as one by one.
    """
    if functional is None:
        return [build.fock_build(*one) for one in zip(datas, dms, strict=True)]
    factors = [spectral_factors(dm) for dm in dms]
    builds = [
        build.fock_build(dataclasses.replace(data, functional=None, grid=None), dm, orbitals)
        for data, dm, orbitals in zip(datas, dms, factors, strict=True)
    ]
    densities = [
        DensityOnGrid(dm, functional.kind, orbitals)
        for dm, orbitals in zip(dms, factors, strict=True)
    ]
    e_xc = [dm.new_zeros(()) for dm in dms]
    count = [dm.new_zeros(()) for dm in dms]
    for groups in _shared(datas):
        rho = torch.cat([densities[k].features(b) for k, blocks in groups for b in blocks], dim=-1)
        energy, potential = functional.gradient(rho)
        start = 0
        for k, blocks in groups:
            weights = torch.cat([block.weights for block in blocks])
            part = slice(start, start + len(weights))
            e_xc[k] = e_xc[k] + weights @ energy[part]
            count[k] = count[k] + (rho[..., 0, part] @ weights).sum()
            build.add_potential_(
                builds[k].fock, blocks, potential[..., part] * weights, functional.kind
            )
            start = part.stop
    parts = zip(builds, e_xc, count, strict=True)
    return [dataclasses.replace(b, e_xc=e, n_electrons=n) for b, e, n in parts]


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
    bare = [dataclasses.replace(data, functional=None, grid=None) for data in datas]
    out = [build.response(*one) for one in zip(bare, dms, directions, strict=True)]
    if functional is None:
        return out
    kind = functional.kind
    densities = [DensityOnGrid(dm, kind, spectral_factors(dm)) for dm in dms]
    for groups in _shared(datas):
        each = [(k, block) for k, blocks in groups for block in blocks]
        rho = torch.cat([densities[k].features(block) for k, block in each], dim=-1)
        along = [density_features(b, restrict(directions[k], b), kind) for k, b in each]
        second = functional.second(rho, torch.cat(along, dim=-1))
        start = 0
        for k, blocks in groups:
            weights = torch.cat([block.weights for block in blocks])
            part = second[..., start : start + len(weights)] * weights
            build.add_potential_(out[k], blocks, part, kind)
            start += len(weights)
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
