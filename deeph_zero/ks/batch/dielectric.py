"""The dielectric step of a padded stack of molecules, without waiting for the device."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from deeph_zero.ks.batch.padded import PaddedBucket
from deeph_zero.ks.density import divided_difference
from deeph_zero.ks.linalg.conjugate_gradients import Vectors, steps
from deeph_zero.ks.response.dielectric import MAX_PRODUCTS, SPIN_PART, TOLERANCE, kernel_of
from deeph_zero.types import MoleculeMatrix, SpinMatrix

USUAL_PRODUCTS = 6
"""Coulomb matrices tried first; molecules take two to four."""


def whole_steps(
    bucket: PaddedBucket, focks: Sequence[MoleculeMatrix], dms: Sequence[MoleculeMatrix]
) -> list[MoleculeMatrix]:
    """The steps with as many products as each molecule needs, as it would be alone.

    Args:
        bucket: The molecules.
        focks: F of each, Eh.
        dms: Its density matrix.

    Returns:
        K D of each, Eh.

    Raises:
        ComputationError: If the eigen-solver fails.
    """
    fock, dm = bucket.padding.stack(focks), bucket.padding.stack(dms)
    orbitals = bucket.filled_orbitals(fock)
    found, used = dielectric_steps(bucket, fock, dm, USUAL_PRODUCTS, orbitals)
    if int(used.max()) >= USUAL_PRODUCTS:  # somebody may have needed more
        found, _ = dielectric_steps(bucket, fock, dm, MAX_PRODUCTS, orbitals)
    return bucket.padding.split(found)


def dielectric_steps(
    bucket: PaddedBucket,
    fock: SpinMatrix,
    dm: SpinMatrix,
    products: int,
    orbitals: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[SpinMatrix, Tensor]:
    """:func:`~deeph_zero.ks.response.dielectric.dielectric_step` of every molecule.

    Systems that are solved, or turn out indefinite, stand still while the others go on; the host
    does not look and has to say beforehand how many products are made. With fewer than a molecule
    needs its step is a little less exact than alone.

    Args:
        bucket: The molecules.
        fock: F, Eh.
        dm: Their density matrices.
        products: Coulomb matrices per molecule.
        orbitals: Levels, orbitals and occupations of F; None: integer occupations.

    Returns:
        K D of each, Eh, and how many products each one made use of.

    Raises:
        ComputationError: If the eigen-solver fails.
    """
    energy, c, occ = bucket.orbitals(fock) if orbitals is None else orbitals
    weights = divided_difference(energy, occ, bucket.gap_floor)
    root = (-weights).clamp_min(0.0).sqrt()
    first = (c * occ.unsqueeze(-2)) @ c.mH - dm
    out, used = torch.zeros_like(fock), fock.new_zeros(len(fock))
    # the last that is definite wins; without spins there is nothing to choose
    for spin_part in (0.0, SPIN_PART) if len(fock[0]) > 1 else (0.0,):
        start = kernel_of(bucket.coulomb, spin_part, first)
        more, definite, count = _responses(bucket, spin_part, start, (c, root), products)
        out = torch.where(definite.reshape(-1, 1, 1, 1), start + more, out)
        used = torch.maximum(used, count)
    return out, used


def _responses(
    bucket: PaddedBucket,
    spin_part: float,
    start: SpinMatrix,
    orbitals: tuple[Tensor, Tensor],
    products: int,
) -> tuple[SpinMatrix, Tensor, Tensor]:
    """K of the solutions, which systems are definite, and products made use of."""
    c, root = orbitals
    moved: list[SpinMatrix] = []

    def pairs(potential: SpinMatrix) -> Tensor:
        return root * (c.mH @ potential @ c)

    def product(direction: Vectors) -> Vectors:
        y = direction.reshape(root.shape)
        moved.append(kernel_of(bucket.coulomb, spin_part, c @ (root * y) @ c.mH))
        return (y + pairs(moved[-1])).reshape(direction.shape)

    rhs = -pairs(start).reshape(len(start), -1)
    goal = TOLERANCE * rhs.norm(dim=-1)
    total, bad, used = torch.zeros_like(start), rhs.new_zeros(len(rhs)), rhs.new_zeros(len(rhs))
    for step in islice(steps(product, rhs, goal, watch=False), products):
        total.addcmul_(step.length.reshape(-1, 1, 1, 1), moved.pop())
        bad += step.active & (step.curvature <= 0)
        used += step.active
    return total, bad == 0, used
