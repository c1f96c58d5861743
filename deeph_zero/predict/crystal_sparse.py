"""A crystal of any size predicted from its geometry: sparse blocks of H and S, and levels."""

import dataclasses
import functools

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.kohnsham.sparse_bands import Frontier, SparseLevels
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.sparse import SparseCrystal
from deeph_zero.types import Brief

COUNTS = (40, 160, 640)
"""Levels at a k-point among which the Fermi level is looked for, one after another."""
LARGE = 2000
"""Orbitals of a cell beyond which commands take sparse blocks and levels near the Fermi level only,
where that is possible: H at all k-points of a mesh, dense, would take gigabytes."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SparsePrediction(Brief):
    """What a model says of a crystal without a layer; no Fock build, so there is no certificate.

    Attributes:
        molecule: The structure.
        method: What is solved.
        prepared: Its base and inputs.
        hamiltonian: The network's H, [nel], or [2, nel] for two spins, Eh.
    """

    molecule: Molecule
    method: Method
    prepared: SparseCrystal
    hamiltonian: BlockMatrix

    @property
    def overlap(self) -> BlockMatrix:
        """S, in the same blocks."""
        return self.prepared.ovlp

    @functools.cached_property
    def levels(self) -> SparseLevels:
        """Levels near an energy, counts of levels and density of states, at any k-point."""
        return SparseLevels(self.hamiltonian, self.overlap)

    def ends(self) -> Frontier:
        """:meth:`frontier` at the method's k-points, with as many levels as it takes.

        Returns:
            What was found.

        Raises:
            InputError: If S is singular.
            ComputationError: If it is not found.
        """
        crystal = self.method.crystal
        mesh = (crystal.kmesh if crystal else None) or (1, 1, 1)
        for count in COUNTS[:-1]:
            try:
                return self.frontier(mesh, count=count)
            except ComputationError:
                continue
        return self.frontier(mesh, count=COUNTS[-1])

    def frontier(
        self, kmesh: tuple[int, int, int] = (1, 1, 1), *, count: int = 40, start: float = 0.0
    ) -> Frontier:
        """The Fermi level and the levels around it, with the method's smearing.

        Args:
            kmesh: k-points about Γ.
            count: Levels at every k-point.
            start: Where the Fermi level is looked for first, Eh.

        Returns:
            What was found.

        Raises:
            InputError: If S is singular.
            ComputationError: If more levels are needed.
        """
        points = make_kpoints(kmesh, dimension=int(self.prepared.cell.dimension))
        return self.levels.frontier(
            points.scaled.tolist(),
            points.weights.tolist(),
            float(sum(self.prepared.nelec)),
            smearing=self.method.smearing,
            count=count,
            start=start,
        )
