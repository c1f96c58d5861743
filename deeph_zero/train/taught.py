"""A prepared geometry with what training adds: a teacher, a label, the orbitals of its targets."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from deeph_zero.data.labels import Label
from deeph_zero.integrals.portable import Portable
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.protocol import MoleculeData
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import solve_scf
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import PROCESSOR, Means, Prepared, prepare
from deeph_zero.train.teacher import GivenTarget, Teacher
from deeph_zero.types import AOMatrix

FIRST = 3e-4
"""Orbital gradient (Eh) to which a coarse SCF gives the first density of a teacher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchOrbitals:
    """Orbitals of a matrix that H is compared with, and weights 0..1 of its orbital pairs.

    The three weights of a pair add up to one; levels that are partly filled belong to all blocks.

    Attributes:
        target: The matrix, Eh.
        mo_coeff: Its orbitals, columns, [.., nao, nmo].
        mo_energy: Its eigenvalues, Eh.
        filled: Occupations scaled to 0..1, [.., nmo].
    """

    target: AOMatrix
    mo_coeff: Tensor
    mo_energy: Tensor
    filled: Tensor

    @property
    def occ_occ(self) -> Tensor:
        """Weight in the occupied-occupied block, [.., nmo, nmo]."""
        return torch.minimum(self.filled.unsqueeze(-1), self.filled.unsqueeze(-2))

    @property
    def occ_virt(self) -> Tensor:
        """Weight in the occupied-virtual block, |f_p - f_q|."""
        return (self.filled.unsqueeze(-1) - self.filled.unsqueeze(-2)).abs()

    @property
    def virt_virt(self) -> Tensor:
        """Weight in the virtual-virtual block."""
        return 1.0 - torch.maximum(self.filled.unsqueeze(-1), self.filled.unsqueeze(-2))


@dataclasses.dataclass(eq=False, kw_only=True)
class Problem(Prepared):
    """A prepared geometry that a network is taught on.

    Attributes:
        teacher: Remembered builds and the target they give.
        label: Converged reference values, where the user has them.
        builds: Whether its layer makes Fock builds; where the label alone teaches, it does not.
        position: Among the structures of the run; None for displaced copies and other structures.
    """

    teacher: Teacher
    label: Label | None = None
    builds: bool = True
    position: int | None = None
    _target_orbitals: MatchOrbitals | None = None
    _label_orbitals: MatchOrbitals | None = None

    def target_orbitals(self) -> MatchOrbitals:
        """Orbitals of the teacher's target, kept until it changes."""
        target = self.teacher.target
        if self._target_orbitals is None or self._target_orbitals.target is not target:
            self._target_orbitals = self._orbitals(target)
        return self._target_orbitals

    def label_orbitals(self) -> MatchOrbitals:
        """Orbitals of the label's Fock matrix."""
        if self._label_orbitals is None:
            assert self.label is not None
            self._label_orbitals = self._orbitals(self.label.fock.to(self.fock0))
        return self._label_orbitals

    def on(self, data: MoleculeData) -> "Problem":
        """The geometry with its data from elsewhere; what only the preparation needed is left out.

        Args:
            data: Integrals, grid and functional.

        Returns:
            A new one, whose layer and teacher read these data.
        """
        ks = self.ks.on(data)
        teacher = self.teacher.on(ks)
        return dataclasses.replace(self, ks=ks, teacher=teacher, matrices=None, start=None)

    def _orbitals(self, target: AOMatrix) -> MatchOrbitals:
        orbitals = self.ks.orbitals(target)
        return MatchOrbitals(
            target=target,
            mo_coeff=orbitals.mo_coeff,
            mo_energy=orbitals.mo_energy,
            filled=orbitals.mo_occ / orbitals.mo_occ.max().clamp_min(1.0),
        )


@dataclasses.dataclass(frozen=True)
class Absent:
    """The place of a geometry that another process has: no integrals, no builds.

    Attributes:
        molecule: The structure.
    """

    molecule: Molecule


def here(problem: Problem | Absent) -> Problem:
    """A geometry that this process has.

    Args:
        problem: What is in its place.

    Returns:
        The geometry.
    """
    assert isinstance(problem, Problem), "asked for a geometry of another process"
    return problem


def make_problem(
    molecule: Molecule,
    method: Method,
    reading: Reading,
    means: Means = PROCESSOR,
    *,
    portable: Portable | None = None,
) -> Problem:
    """Prepare a geometry and give it a teacher; spends one Fock build (F[P₀]) or a coarse SCF.

    Args:
        molecule: The structure.
        method: What is solved.
        reading: What the network reads and corrects.
        means: With what.
        portable: Integrals of a worker.

    Returns:
        The problem.

    Raises:
        ComputationError: If the starting Fock matrix is not finite.
    """
    prepared = prepare(molecule, method, reading, means, begins=True, portable=portable)
    fields = {f.name: getattr(prepared, f.name) for f in dataclasses.fields(prepared)}
    return Problem(teacher=_teacher(prepared.ks, prepared.start), **fields)


def labelled_problem(
    molecule: Molecule,
    method: Method,
    reading: Reading,
    label_of: Callable[[Prepared], Label],
    means: Means = PROCESSOR,
) -> Problem:
    """Prepare a geometry that its label alone teaches; no two-electron integral, grid or build.

    Args:
        molecule: The structure.
        method: What is solved.
        reading: What the network reads (``geometry`` inputs) and corrects.
        label_of: Its label.
        means: With what.

    Returns:
        The problem.
    """
    prepared = prepare(molecule, method, reading, means, builds=False)
    fields = {f.name: getattr(prepared, f.name) for f in dataclasses.fields(prepared)}
    label = label_of(prepared)
    teacher = GivenTarget(prepared.ks, label.fock.to(prepared.fock0))
    return Problem(teacher=teacher, label=label, builds=False, **fields)


def _teacher(ks: KohnSham, start: FockBuild | None) -> Teacher:
    """Begins at F[P₀] where that was built, else at the solution of the coarse grid."""
    if start is not None:
        return Teacher(ks, start.fock, dm0=ks.data.dm_guess)
    coarse, tol = ks.layer.coarse, ks.degeneracy_tol
    assert coarse is not None
    settings = SCFSettings(
        conv_tol=float("inf"), conv_tol_grad=FIRST, degeneracy_tol=tol, hint=False
    )
    return Teacher(ks, ks.from_layer(solve_scf(coarse, None, settings).fock))
