"""What an SCF of a crystal gives: its Hamiltonian in real space and at any k-point, bands."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from deeph_zero.kohnsham.k_path import KPath, k_path
from deeph_zero.ks.periodic.data import Elsewhere
from deeph_zero.ks.periodic.layer import CrystalBuild
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix
from deeph_zero.types import Brief

if TYPE_CHECKING:
    from deeph_zero.integrals.periodic.folded_blocks import RealSpace
    from deeph_zero.integrals.periodic.info import CrystalInfo

KPoints = Any
"""Fractions of the reciprocal lattice vectors, [nk, 3]: nested lists, an array or a tensor."""


@runtime_checkable
class CrystalSource(Protocol):
    """A layer that has matrices at any k-point, as :class:`~.crystal.CrystalKohnSham`."""

    info: "CrystalInfo"

    def real_space(self, build: CrystalBuild) -> "RealSpace":
        """F and S as blocks that give them at any k-point."""
        ...

    def matrices_of(self, kpts: KPoints, build: CrystalBuild) -> tuple[BlochMatrix, Elsewhere]:
        """F of a build at any k-points, and what else is there."""
        ...

    def levels_of(self, fock: BlochMatrix, where: Any) -> BandEnergies:
        """Levels of a matrix at k-points."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Bands(Brief):
    """Levels along lines through the Brillouin zone.

    Attributes:
        path: The k-points.
        energies: Eh, ascending at every k.
        fermi: Fermi level of each spin, Eh.
    """

    path: KPath
    energies: BandEnergies
    fermi: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class CrystalResult(CrystalSCFResult):
    """The last SCF iterate of a crystal, its Hamiltonian in real space and at any k-point.

    Attributes:
        layer: The crystal.
    """

    layer: CrystalSource = dataclasses.field(repr=False)

    def real_space(self) -> "RealSpace":
        """F and S as blocks that give them at any k-point, not folded from the SCF's mesh.

        Returns:
            The blocks; :meth:`blocks` lists them.

        Raises:
            ComputationError: If the functions reach over too many cells.
        """
        return self.layer.real_space(self.build)

    def blocks(self) -> Iterator[tuple[int, int, tuple[int, int, int], Tensor]]:
        """F(i, j, R) with F(k) = Σ_R exp(2πi k·R) F(R), k in fractions.

        Yields:
            Atom i of the home cell, atom j, its cell R, and the block [ni, nj], Eh; [2, ni, nj]
            for two spins.
        """
        fock = self.real_space().fock
        for k, ((i, j), cell) in enumerate(
            zip(fock.pairs.tolist(), fock.cells.tolist(), strict=True)
        ):
            yield i, j, tuple(cell), fock.block(k)

    def hamiltonian(self, kpts: KPoints) -> BlochMatrix:
        """F at any k-points, exact.

        Args:
            kpts: Fractions of the reciprocal vectors, [nk, 3].

        Returns:
            Complex, [nspin, nk, nao, nao], Eh.

        Raises:
            InputError: If ``kpts`` has another shape.
        """
        return self.layer.matrices_of(kpts, self.build)[0]

    def bands(self, path: str | None = None, points: int = 60) -> Bands:
        """Levels along a path through the Brillouin zone.

        Args:
            path: Names of special points, for example "GMKG"; None: ASE's path for the lattice.
            points: k-points.

        Returns:
            The bands.

        Raises:
            InputError: If the path names a point that the zone does not have.
        """
        info = self.layer.info
        line = k_path(info.lattice, info.pbc, path, points)
        fock, elsewhere = self.layer.matrices_of(line.kpts, self.build)
        energies = self.layer.levels_of(fock, elsewhere)
        return Bands(path=line, energies=energies, fermi=self.fermi)
