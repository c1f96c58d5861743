"""Densities of several Fock matrices and the builds there, as stacks: what losses are made of.

Everything is differentiable once in the matrices; the backward pass of what depends on F[P] is one
response of all molecules. No number is looked at on the way: a molecule whose numbers are not
finite is told by a flag, and neither its numbers nor its derivatives reach the others.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from deeph_zero.errors import InputError
from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.batch.padded import Occupied, PaddedBucket
from deeph_zero.ks.differentiable import hermitian
from deeph_zero.ks.linalg.eigen import symmetric_eigen
from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.ks.response.quadratic import SMALLEST_GAP
from deeph_zero.ks.terms.term import Density
from deeph_zero.types import GivenMatrices, MoleculeMatrix, PerMolecule, SpinMatrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What one build at P(H) says of the molecules of a stack; all are [nmol].

    Attributes:
        members: Their positions in the batch.
        energy: E[P(H)], Eh, with gradient.
        residual: Mean square of H - F[P(H)] in the orthonormal basis, with gradient.
        commutator: Mean square of the occupied-virtual block of F at P(H), with gradient.
        estimate: The certificate's cheap estimate of E[P(H)] - E_SCF, Eh.
        gap: Smallest gap between filled and empty levels of H, Eh.
        sound: 1; 0 where E or F are not finite, which are zeros then; NaN where H is not finite.
        at: P(H) and F there of each, without gradient.
    """

    members: list[int]
    energy: PerMolecule
    residual: PerMolecule
    commutator: PerMolecule
    estimate: PerMolecule
    gap: PerMolecule
    sound: PerMolecule
    at: list[tuple[MoleculeMatrix, MoleculeMatrix]]


def rebuilt(batch: KSBatch, focks: GivenMatrices) -> list[Rebuilt]:
    """One build at the density of every Fock matrix; counts as one build each.

    Args:
        batch: Molecules that are worked on as padded stacks.
        focks: H of each, Eh.

    Returns:
        One for each stack.

    Raises:
        InputError: If one is worked on by itself, or a matrix is not of its molecule.
        ComputationError: If the eigen-solver fails.
    """
    if not batch.stackable:
        raise InputError("expected molecules of padded stacks, without smearing")
    batch.check(focks)
    return batch.within_memory(
        lambda: [
            _of_stack(batch, b, members, [focks[k] for k in members])
            for b, members in enumerate(batch.buckets)
        ]
    )


def _of_stack(
    batch: KSBatch, bucket: int, members: list[int], focks: Sequence[MoleculeMatrix]
) -> Rebuilt:
    stack = batch.stack(bucket)
    given = stack.padding.stack(focks)
    bad = _not_finite(given)
    given = stack.orthonormal(hermitian(given.masked_fill(_wide(bad), 0.0)))
    filled = stack.density(stack.above(given))
    energy, fock, failed = _Build.apply(batch, bucket, filled.dm)  # pyright: ignore
    inner = stack.orthonormal(fock)
    fp = inner @ filled.orthonormal
    elements, pairs = _weights(stack, energy)
    at = zip(*(stack.padding.split(m.detach()) for m in (filled.dm, fock)), strict=True)
    return Rebuilt(
        members=members,
        energy=energy,
        residual=(given - inner).square().sum((-3, -2, -1)) * elements,
        commutator=(fp - fp.mH).square().sum((-3, -2, -1)) * pairs,
        estimate=_estimate(inner.detach(), filled),
        gap=stack.gaps(filled.energy),
        sound=(~failed).to(energy.dtype).masked_fill(bad, torch.nan),
        at=list(at),
    )


def _weights(stack: PaddedBucket, like: Tensor) -> tuple[PerMolecule, PerMolecule]:
    """What makes mean squares of sums over elements, and of those of a commutator."""
    per = 2 * stack.per_orbital**2  # each pair is there twice, times the occupation squared
    rows = [
        [1 / (one.nspin * one.nmo**2), 1 / (per * max(one.orbital_pairs, 1))]
        for one in stack.layers
    ]
    elements, pairs = sent(torch.tensor(rows, dtype=like.dtype), like.device).unbind(-1)
    return elements, pairs


def _estimate(fock: Tensor, filled: Occupied) -> PerMolecule:
    """Σ (f_p - f_q) F_pq² / (e_q - e_p) in semicanonical orbitals, see ``QuadraticModel``."""
    with torch.no_grad():
        fock = filled.vectors.mH @ fock @ filled.vectors
        occ = torch.round(filled.occ * 1e5) / 1e5  # as there
        weight = occ.unsqueeze(-1) - occ.unsqueeze(-2)
        # levels of one occupation have neighbouring places, and keep them
        place = torch.nn.functional.pad((occ.diff(dim=-1) != 0).cumsum(-1), (1, 0))
        apart = 2 * fock.abs().sum(-1).amax(-1, keepdim=True) + 1.0
        within = fock.masked_fill(weight != 0, 0.0) + torch.diag_embed(place * apart)
        _, turn = symmetric_eigen(within, checked=True)
        fock = turn.mH @ fock @ turn
        level = fock.diagonal(dim1=-2, dim2=-1)
        gap = (level.unsqueeze(-2) - level.unsqueeze(-1)).abs().clamp_min(SMALLEST_GAP)
        return (weight.clamp_min(0) * fock.square() / gap).sum((-3, -2, -1))


def _not_finite(matrices: Tensor) -> Tensor:
    """Which matrices of a stack have NaN or infinite elements, [nmol]: no sum hides one."""
    total = matrices.detach().flatten(1).sum(-1)
    return (total - total) != 0


def _wide(flags: Tensor) -> Tensor:
    return flags.reshape(-1, 1, 1, 1)


class _Build(Function):
    """(E, F, whether one is not finite) of a stack of densities; zeros where that is so."""

    @staticmethod
    def forward(ctx: Any, batch: KSBatch, bucket: int, dm: SpinMatrix) -> tuple[Tensor, ...]:
        stack = batch.stack(bucket)
        found, _ = stack.total(Density(dm, factored=False))
        energy, fock = sum(found.parts.values()), found.fock
        assert isinstance(energy, Tensor)
        for layer in stack.layers:
            layer.fock_builds += 1
        failed = _not_finite(fock + _wide(energy))
        energy, fock = energy.masked_fill(failed, 0.0), fock.masked_fill(_wide(failed), 0.0)
        ctx.batch, ctx.bucket = batch, bucket
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(failed)
        ctx.save_for_backward(dm, fock, failed)
        return energy, fock, failed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None, Tensor | None]:
        of_energy, of_fock, _ = grads
        dm, fock, failed = ctx.saved_tensors
        parts: list[Tensor] = []
        if of_fock is not None:
            parts.append(_response(ctx.batch, ctx.bucket, dm, hermitian(of_fock)))
        if of_energy is not None:
            parts.append(_wide(of_energy) * fock)
        if not parts:
            return None, None, None
        return None, None, sum(parts[1:], start=parts[0]).masked_fill(_wide(failed), 0.0)


def _response(batch: KSBatch, bucket: int, dm: SpinMatrix, along: SpinMatrix) -> SpinMatrix:
    """dF of every molecule; in halves where the memory is short of a response."""
    stack = batch.stack(bucket)
    try:
        found = stack.response(dm, along)
    except torch.OutOfMemoryError:
        found = None  # the failure is let go of before the next try
    if found is None:
        split = stack.padding.split
        halves = KSBatch(stack.layers, strategy="padded")
        return stack.padding.stack(halves.response(split(dm), split(along)))
    for layer in stack.layers:
        layer.fock_builds += 1
    return found
