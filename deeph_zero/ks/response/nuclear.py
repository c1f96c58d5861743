"""Derivatives of a converged state with respect to its atoms: Fock matrix, overlap, dipole moment.

The orbitals of a basis of atomic functions move along: dF/dR holds the motion of the basis beside
that of the Hamiltonian. The matrix element of the perturbation itself is

    <m|dH/dR|n> = dF_mn/dR - <∂m|H|n> - <m|H|∂n>,

∂m the derivative of an orbital as its own atom moves, and H the Kohn-Sham operator, its potential
that of the density with all its response.

References:
    J. Gerratt and I. M. Mills, J. Chem. Phys. 49, 1719 (1968), for the response; the perturbation
    is that of PySCF's ``eph`` modules.
"""

import dataclasses
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.response.coupled import TOLERANCE, CoupledPerturbed
from deeph_zero.ks.terms.moving_semilocal import MovingPart
from deeph_zero.types import Brief, SpinMatrix


@runtime_checkable
class MovingIntegrals(Protocol):
    """Derivatives of a molecule's integrals with respect to its atoms."""

    @property
    def natm(self) -> int:
        """Number of atoms."""
        ...

    @property
    def charges(self) -> Float[Tensor, " natm"]:
        """Nuclear charges in the Hamiltonian."""
        ...

    def overlap(self) -> Float[Tensor, "natm 3 nao nao"]:
        """dS/dR, 1/bohr."""
        ...

    def position(self) -> Float[Tensor, "natm 3 3 nao nao"]:
        """d<m|r|n>/dR by atom, direction of motion, component of r, about the charge centre."""
        ...

    def fock(self, dm: SpinMatrix) -> MovingPart:
        """dF/dR at fixed density matrix, and <∂m|F|n>, Eh/bohr."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FockGradient(Brief):
    """How a self-consistent Fock matrix follows the atoms; atomic units.

    Attributes:
        atoms: The atoms, as counted in the molecule.
        fock: dF/dR, the response of the density included, by atom and direction, Eh/bohr.
        overlap: dS/dR, 1/bohr.
        perturbation: <m|dH/dR|n>: ``fock`` without the motion of the basis, Eh/bohr.
        dm: dP/dR, 1/bohr.
    """

    atoms: tuple[int, ...]
    fock: Float[Tensor, "n 3 *spin nao nao"]
    overlap: Float[Tensor, "n 3 nao nao"]
    perturbation: Float[Tensor, "n 3 *spin nao nao"]
    dm: Float[Tensor, "n 3 *spin nao nao"]


def chosen_atoms(atoms: Any, natm: int) -> list[int]:
    """Atoms a user asked for.

    Args:
        atoms: Numbers from 0; None: all.
        natm: How many there are.

    Returns:
        The numbers.

    Raises:
        InputError: If they are not different numbers of atoms.
    """
    if atoms is None:
        return list(range(natm))
    given = list(atoms) if isinstance(atoms, Iterable) else [atoms]
    for atom in given:
        if not isinstance(atom, numbers.Integral) or not 0 <= int(atom) < natm:
            raise InputError(
                f"atoms expected numbers from 0 to {natm - 1}, got {atom!r}; atoms count from 0"
            )
    if not given or len(set(given)) < len(given):
        raise InputError(f"atoms expected some different atoms, got {given}; leave it out for all")
    return [int(atom) for atom in given]


def fock_gradient(
    equations: CoupledPerturbed,
    moving: MovingIntegrals,
    atoms: Sequence[int],
    ao_atoms: Sequence[int],
    tol: float = TOLERANCE,
) -> FockGradient:
    """Total derivatives of a self-consistent Fock matrix.

    Args:
        equations: About the converged density.
        moving: Derivatives of the integrals.
        atoms: Which atoms move, one at a time.
        ao_atoms: Atom of each orbital.
        tol: Relative residual of the equations.

    Returns:
        dF/dR, dS/dR, the perturbation and dP/dR.

    Raises:
        ComputationError: If the equations do not converge.
    """
    rotations = equations.rotations
    shape = rotations.dm.shape
    part = _fixed_density(equations, moving)
    chosen = list(atoms)
    fixed = part.fock[chosen].reshape(-1, *shape)
    overlap = moving.overlap().to(fixed)[chosen]
    found = equations.solve(fixed, overlap.reshape(-1, *shape[-2:]), tol)
    fock = found.fock.reshape(len(chosen), 3, *shape)
    owner = torch.tensor(ao_atoms, device=fock.device)
    perturbation = fock.clone()
    for k, atom in enumerate(chosen):
        own = (owner == atom).to(fock).unsqueeze(-1)
        basis = part.inner * own
        perturbation[k] -= basis + basis.mH
    return FockGradient(
        atoms=tuple(chosen),
        fock=fock,
        overlap=overlap,
        perturbation=perturbation,
        dm=found.dm.reshape(fock.shape),
    )


def dipole_derivatives(
    equations: CoupledPerturbed, moving: MovingIntegrals, tol: float = TOLERANCE
) -> Float[Tensor, "natm 3 3"]:
    """dμ/dR by the response to three fields: as many equations for any number of atoms.

    With dP and dF those of a field, P⁰ the change of the density that a motion's dS alone makes and
    W its energy-weighted counterpart, tr(r dP/dR) = tr(dP (F¹ - W)) + tr(dF P⁰).

    Args:
        equations: About the converged density.
        moving: Derivatives of the integrals.
        tol: Relative residual of the equations.

    Returns:
        By atom, direction of motion and component of μ = Σ Z R - tr(r P), elementary charges; the
        sum over the atoms is the molecule's charge times one. The origin is fixed.

    Raises:
        ComputationError: If the equations do not converge.
    """
    rotations = equations.rotations
    dm = rotations.dm
    total = dm.sum(0)
    by_field = equations.in_fields(tol)
    fixed = _fixed_density(equations, moving).fock
    overlap, position = moving.overlap().to(dm), moving.position().to(dm)
    charges = moving.charges.to(dm)
    out = dm.new_zeros(moving.natm, 3, 3)
    for atom in range(moving.natm):
        for x in range(3):
            moved, weighted = rotations.overlap_change(overlap[atom, x])
            own = fixed[atom, x] - weighted - weighted.mH
            change = (by_field.dm * own + by_field.fock * moved).flatten(1).sum(1)
            change = change + torch.einsum("kmn,mn->k", position[atom, x], total)
            out[atom, x] = -change
            out[atom, x, x] += charges[atom]
    return out


def _fixed_density(equations: CoupledPerturbed, moving: MovingIntegrals) -> MovingPart:
    return moving.fock(equations.rotations.dm)
