"""The Kohn-Sham layer: density, energy, Fock matrix, response of one molecule; differentiable."""

import copy
import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks import properties
from deeph_zero.ks.counts import Builds
from deeph_zero.ks.density import GAP_FLOOR, density_matrix
from deeph_zero.ks.differentiable import energy_and_fock, hermitian
from deeph_zero.ks.given import check_spin_matrix
from deeph_zero.ks.linalg.eigen import symmetric_eigen
from deeph_zero.ks.linalg.orthogonalise import orthogonaliser
from deeph_zero.ks.occupation import DEGENERACY_TOL, occupations
from deeph_zero.ks.protocol import KSData, MoleculeData
from deeph_zero.ks.smearing import smeared_density, smeared_occupations
from deeph_zero.ks.terms import build
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.ks.terms.semilocal_single import SingleSemilocal, single_semilocal
from deeph_zero.types import Brief, GivenMatrix, OrbitalEnergies, Scalar, SpinMatrix
from deeph_zero.types import Orbitals as OrbitalMatrix


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Orbitals(Brief):
    """Eigenstates of a Fock matrix.

    Attributes:
        mo_energy: Ascending, Eh, [nspin, nmo].
        mo_coeff: Columns are orbitals, [nspin, nao, nmo].
        mo_occ: Occupations, 2 per pair for a closed shell, 1 per spin orbital otherwise.
        degenerate: A frontier level is degenerate and was filled evenly.
        entropy_energy: T S of Fermi occupations, Eh; 0 without smearing.
    """

    mo_energy: OrbitalEnergies
    mo_coeff: OrbitalMatrix
    mo_occ: OrbitalEnergies
    degenerate: bool
    entropy_energy: float = 0.0


class KohnShamLayer:
    """Kohn-Sham theory of one molecule as differentiable functions of matrices.

    Every matrix is float64, [nspin, nao, nao], on the layer's device; another one is an InputError.
    A closed shell has one spin channel, the sum of both spins; otherwise they are (alpha, beta).
    Non-symmetric input is symmetrised. Methods without details are those of
    :class:`~deeph_zero.ks.facade.MoleculeFacade`, which takes and gives matrices without the axis
    for closed shells.

    Attributes:
        single: Steps of an iteration may be built in single precision; of use on a coarse grid
            only.
    """

    single = False

    def __init__(
        self,
        data: MoleculeData,
        *,
        degeneracy_tol: float = DEGENERACY_TOL,
        gap_floor: float = GAP_FLOOR,
        smearing: float = 0.0,
    ) -> None:
        """Bind the layer to one molecule.

        Args:
            data: Integrals, grid and functional, see :class:`~deeph_zero.ks.protocol.KSData`.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly by
                :meth:`density`; 0 keeps integer occupations.
            gap_floor: Smallest denominator (Eh) between unequal occupations in derivatives.
            smearing: Width (Eh, k_B T) of Fermi occupations; 0 fills by aufbau. The quantity that
                is then stationary is the free energy E - :meth:`entropy_energy`.
        """
        self.data = data
        self.smearing = smearing
        self.degeneracy_tol = degeneracy_tol
        self.gap_floor = gap_floor
        self.fock_builds = 0
        self.coarse_builds = 0
        self.shift: SpinMatrix | None = None
        self.x = orthogonaliser(data.ovlp, data.lindep_threshold)

    def on(self, data: MoleculeData) -> "KohnShamLayer":
        """The layer with other data of the same molecule: stored elsewhere, or more exact.

        Args:
            data: With the overlap matrix of this layer's.

        Returns:
            A new layer, whose builds are counted on from this one's.
        """
        new = copy.copy(self)
        new.data = data
        return new

    @property
    def unrestricted(self) -> bool:
        """Whether alpha and beta are apart."""
        return self.data.unrestricted

    @property
    def nspin(self) -> int:
        """Length of the spin axis: 1 for a closed shell, else 2."""
        return 2 if self.data.unrestricted else 1

    @property
    def per_orbital(self) -> float:
        """Electrons in a filled orbital: 2 in a closed shell, else 1."""
        return 1.0 if self.data.unrestricted else 2.0

    @property
    def matrix_weights(self) -> float:
        """Weight of a matrix in traces; crystals have one for each k-point."""
        return 1.0

    @property
    def dm_guess(self) -> SpinMatrix:
        """Superposed atoms, a density to start from."""
        return self.data.dm_guess.reshape(self.nspin, self.nao, self.nao)

    @property
    def nelec(self) -> tuple[int, int]:
        """(n_alpha, n_beta)."""
        return self.data.nelec

    @property
    def nao(self) -> int:
        """Number of atomic orbitals."""
        return self.x.shape[0]  # a store makes S anew at every look

    @property
    def nmo(self) -> int:
        """Number of orbitals after linear dependence was removed."""
        return self.x.shape[1]

    @property
    def orbital_pairs(self) -> int:
        """Occupied-virtual pairs of all spin channels."""
        return sum(n * (self.nmo - n) for n in self.nelec[: self.nspin])

    @property
    def coarse(self) -> "KohnShamLayer | None":
        """The layer on a much smaller grid, see :mod:`.scf.two_grids`; None without one.

        A new one at every call, so that the layer does not hold it: a circle of the two would keep
        the integrals until Python looks for circles. Builds are counted here, in one place; its
        ``shift``, a constant added to every Fock matrix that it builds, is its own.
        """
        grids = None if self.data.coarse is None else self.data.coarse()
        return None if grids is None else CoarseLayer(self)

    @property
    def coarse_ratio(self) -> float:
        """Points of the target grid for one of the coarse grid; 0 without one."""
        grids = None if self.data.coarse is None else self.data.coarse()
        return 0.0 if grids is None else grids.ratio

    @property
    def builds(self) -> Builds:
        """Fock and response builds so far."""
        return Builds(self.fock_builds, self.coarse_builds)

    @builds.setter
    def builds(self, value: Builds) -> None:
        self.fock_builds, self.coarse_builds = value.fine, value.coarse

    def shifted(self, built: FockBuild, dm: SpinMatrix) -> FockBuild:
        """A build of these data with the layer's ``shift`` added.

        Args:
            built: Without it.
            dm: The density matrix of the build.

        Returns:
            F + shift, and tr(shift P) in the energy.
        """
        if self.shift is None:
            return built
        energy = (self.shift * dm).sum()
        parts = {**built.parts, "e_shift": energy}
        return dataclasses.replace(built, fock=built.fock + self.shift, parts=parts)

    def unshifted(self, built: FockBuild | None) -> FockBuild | None:
        """Undo :meth:`shifted`; None stays None."""
        if built is None or self.shift is None:
            return built
        parts = {name: part for name, part in built.parts.items() if name != "e_shift"}
        return dataclasses.replace(built, fock=built.fock - self.shift, parts=parts)

    def check(self, *matrices: GivenMatrix, where: str = "") -> None:
        """See whether matrices are of this molecule; values are not looked at.

        Args:
            *matrices: What was given.
            where: Start of the message.

        Raises:
            InputError: If type, precision, device, size or spin axis are others.
        """
        for matrix in matrices:
            check_spin_matrix(matrix, self.x, unrestricted=self.unrestricted, where=where)

    def __call__(self, dm: GivenMatrix) -> tuple[Scalar, SpinMatrix]:
        """Energy and Fock matrix at a density matrix; both differentiable in ``dm``."""
        self.check(dm)
        return energy_and_fock(self, dm)

    def build(self, dm: GivenMatrix, coarse: FockBuild | None = None) -> FockBuild:
        """Energy parts and Fock matrix, without autograd. Counts as one Fock build.

        Args:
            dm: Density matrix, symmetric.
            coarse: Its build on the coarse grid, where there is one: J and K are taken over.

        Returns:
            The build.

        Raises:
            InputError: If ``dm`` is not a matrix of this molecule.
        """
        self.check(dm)
        self.fock_builds += 1
        with torch.no_grad():
            if coarse is None or coarse.v_xc is None:
                built = build.fock_build(self.data, dm)
            else:
                built = build.rebuild_on_grids(self.data, dm, coarse)
            return self.shifted(built, dm)

    @property
    def in_single(self) -> bool:
        """Whether steps of an iteration were built in single precision."""
        return False

    def step_build(self, dm: SpinMatrix, coarse: FockBuild | None = None) -> FockBuild:
        """The build that a step of an iteration asks for: :meth:`build`, see :attr:`single`."""
        return self.build(dm, coarse)

    def response(self, dm: GivenMatrix, direction: GivenMatrix) -> SpinMatrix:
        """dF along a symmetric ``direction``, without autograd. Counts as one Fock build."""
        self.check(dm, direction)
        self.fock_builds += 1
        with torch.no_grad():
            return build.response(self.data, dm, direction)

    def second_response(self, dm: SpinMatrix, d1: SpinMatrix, d2: SpinMatrix) -> SpinMatrix:
        """d²F along two symmetric directions, without autograd."""
        with torch.no_grad():
            return build.second_response(self.data, dm, d1, d2)

    def linear_response(self, dm: GivenMatrix) -> Callable[[Tensor], Tensor]:
        """:meth:`response` at one density for many directions; each counts as one Fock build.

        Args:
            dm: Density matrix, symmetric.

        Returns:
            A function of symmetric directions [n, *spin, nao, nao] that gives dF of each, Eh. What
            they share, f_xc above all, was made once.

        Raises:
            InputError: If ``dm`` is not a matrix of this molecule.
        """
        self.check(dm)
        with torch.no_grad():
            along = build.linear_response(self.data, dm)

        def counted(directions: Tensor) -> Tensor:
            self.fock_builds += len(directions)
            with torch.no_grad():
                return along(directions)

        return counted

    def orbitals(self, fock: GivenMatrix, degeneracy_tol: float | None = None) -> Orbitals:
        """Orbitals and occupations of a Fock matrix (F C = S C e), without autograd."""
        self.check(fock)
        tol = self.degeneracy_tol if degeneracy_tol is None else degeneracy_tol
        with torch.no_grad():
            energy, vectors = symmetric_eigen(self.x.mH @ fock @ self.x)
            occ, degenerate = occupations(energy, self.nelec, tol)
            ts = 0.0
            if self.smearing > 0:
                occ, ts = smeared_occupations(energy, self.nelec, self.smearing)
            return Orbitals(energy, self.x @ vectors, occ, degenerate, ts)

    def density(self, fock: GivenMatrix) -> SpinMatrix:
        """Density matrix of a Fock matrix, twice differentiable and safe under degeneracy."""
        self.check(fock)
        if self.smearing > 0:
            return self._smeared(fock)[0]
        orthogonal = self.x.mH @ hermitian(fock) @ self.x
        with torch.no_grad():
            energy, vectors = symmetric_eigen(orthogonal)
            occ, _ = occupations(energy, self.nelec, self.degeneracy_tol)
        p = density_matrix(orthogonal, energy, vectors, occ, self.gap_floor)
        return self.x @ p @ self.x.mH

    def entropy_energy(self, fock: GivenMatrix) -> Scalar:
        """T S of the Fermi occupations of ``fock``, Eh, differentiable; 0 without smearing."""
        self.check(fock)
        return self._smeared(fock)[1] if self.smearing > 0 else fock.new_zeros(())

    def _smeared(self, fock: SpinMatrix) -> tuple[SpinMatrix, Scalar]:
        orthogonal = self.x.mH @ hermitian(fock) @ self.x
        parts = [
            smeared_density(f, n, self.smearing)
            for f, n in zip(orthogonal, self.nelec, strict=False)
        ]
        p = self.per_orbital * torch.stack([dm for dm, _ in parts])
        ts = self.per_orbital * torch.stack([ts for _, ts in parts]).sum()
        return self.x @ p @ self.x.mH, ts

    def commutator(self, fock: GivenMatrix, dm: GivenMatrix) -> Float[Tensor, "nspin nmo nmo"]:
        """X† (F P S - S P F) X, [nspin, nmo, nmo]: the orbital gradient in an orthonormal basis."""
        self.check(fock, dm)
        fps = fock @ dm @ self.data.ovlp
        return self.x.mH @ (fps - fps.mH) @ self.x

    def dipole(self, dm: GivenMatrix) -> Tensor:
        """Dipole moment about the nuclear-charge centre, debye, [3]."""
        self.check(dm)
        return properties.dipole(self.data, dm)

    def spin_square(self, dm: GivenMatrix) -> float:
        """⟨S²⟩ of the Kohn-Sham determinant."""
        self.check(dm)
        return properties.spin_square(self.data, dm)

    def n_electrons(self, dm: GivenMatrix) -> float:
        """Electrons, the density integrated on the grid (tr(PS) without one)."""
        self.check(dm)
        return properties.n_electrons(self.data, dm)


class CoarseLayer(KohnShamLayer):
    """A layer's molecule on the coarse grid; everything but the grid is the layer's own."""

    def __init__(self, target: KohnShamLayer) -> None:
        """Share the layer's integrals.

        Args:
            target: The molecule on the target grid; it has a coarse one.
        """
        self._target = target
        self.shift = None
        self.x = target.x
        self._in_single: SingleSemilocal | None = None

    def check(self, *matrices: GivenMatrix, where: str = "") -> None:
        """The layer's; see there."""
        self._target.check(*matrices, where=where)

    @property
    def data(self) -> KSData:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's data with the coarse grid; not kept, as its large part may leave memory."""
        whole = self._target.data.plain()
        assert whole.coarse is not None
        grids = whole.coarse()
        assert grids is not None
        return dataclasses.replace(whole, grid=grids.grid, nlc=grids.nlc, coarse=None)

    @property
    def in_single(self) -> bool:
        """Whether they were; not those of several molecules in one call."""
        return self.single and self._in_single is not None

    def step_build(self, dm: SpinMatrix, coarse: FockBuild | None = None) -> FockBuild:
        """In single precision where :attr:`single` allows it, and the molecule."""
        if coarse is not None or not self.single:
            return self.build(dm, coarse)
        data = self.data
        if self._in_single is None:
            self._in_single = single_semilocal(data)
        if self._in_single is None:
            self.single = False
            return self.build(dm)
        self.check(dm)
        self.fock_builds += 1
        with torch.no_grad():
            return self.shifted(build.fock_build(data, dm, self._in_single), dm)

    @property
    def fock_builds(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Counted as the layer's coarse builds."""
        return self._target.coarse_builds

    @fock_builds.setter
    def fock_builds(self, value: int) -> None:
        self._target.coarse_builds = value

    @property
    def smearing(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's."""
        return self._target.smearing

    @property
    def degeneracy_tol(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's."""
        return self._target.degeneracy_tol

    @property
    def gap_floor(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer's."""
        return self._target.gap_floor
