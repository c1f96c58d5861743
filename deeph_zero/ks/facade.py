"""The façade of a layer: users' matrices, [nao, nao] for a closed shell, in and out.

Inside ``ks/`` matrices always have a spin axis. Here, and nowhere else, it is put on and taken off.
"""

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.batch.ks_batch import Energies, KSBatch, Strategy
from deeph_zero.ks.certificate import Certificate, certify
from deeph_zero.ks.counts import Builds
from deeph_zero.ks.given import check_count, check_matrix
from deeph_zero.ks.layer import KohnShamLayer, Orbitals
from deeph_zero.ks.protocol import MoleculeData
from deeph_zero.ks.response.dielectric import dielectric_step
from deeph_zero.ks.response.open_shell import spin_instability
from deeph_zero.ks.response.stability import Stability, stability
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import AOMatrix, GivenMatrices, GivenMatrix, MoleculeMatrix, Scalar

T = TypeVar("T")
Facade = TypeVar("Facade", bound="MoleculeFacade")
Record = TypeVar("Record", Orbitals, FockBuild, SCFResult, Stability)

_MATRICES = ("fock", "dm", "v_xc", "mo_energy", "mo_coeff", "mo_occ", "dm_internal")
"""What records hold with a spin axis."""


class _OfLayer(Generic[T]):
    """An attribute of the layer, read and written there."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: "MoleculeFacade | None", owner: type) -> T:
        return cast("T", self) if instance is None else getattr(instance.layer, self._name)

    def __set__(self, instance: "MoleculeFacade", value: T) -> None:
        setattr(instance.layer, self._name, value)


class MoleculeFacade:
    """A layer with the matrices of Python users.

    Every matrix is float64, [nao, nao] for a closed shell (the sum of both spins) and
    [2, nao, nao] for (alpha, beta), on the layer's device; another one is an InputError.
    Non-symmetric input is symmetrised. What works is the ``layer``, whose matrices have the spin
    axis in closed shells too.

    Attributes:
        layer: :class:`~deeph_zero.ks.layer.KohnShamLayer`; :meth:`to_layer` and
            :meth:`from_layer` convert matrices.
        data: Integrals, grid and functional.
        x: Orthonormal basis, X† S X = 1, [nao, nmo].
        smearing: Width of Fermi occupations, Eh.
        degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly.
        gap_floor: Smallest denominator (Eh) between unequal occupations in derivatives.
        fock_builds: Builds and responses so far.
        coarse_builds: Those on the coarse grid.
        builds: Both counts.
        unrestricted: Whether alpha and beta are apart.
        nelec: (n_alpha, n_beta).
        nao: Number of atomic orbitals.
        nmo: Number of orbitals after linear dependence was removed.
    """

    data = _OfLayer[MoleculeData]()
    x = _OfLayer[Tensor]()
    smearing = _OfLayer[float]()
    degeneracy_tol = _OfLayer[float]()
    gap_floor = _OfLayer[float]()
    fock_builds = _OfLayer[int]()
    coarse_builds = _OfLayer[int]()
    builds = _OfLayer[Builds]()
    unrestricted = _OfLayer[bool]()
    nelec = _OfLayer[tuple[int, int]]()
    nao = _OfLayer[int]()
    nmo = _OfLayer[int]()

    def __init__(self, layer: KohnShamLayer) -> None:
        """Put the façade before a layer.

        Args:
            layer: The molecule.
        """
        self.layer = layer

    def on(self: Facade, data: MoleculeData) -> Facade:
        """The façade with other data of the molecule, see :meth:`.KohnShamLayer.on`.

        Args:
            data: Integrals, grid and functional.

        Returns:
            A new one, whose builds are counted on from this one's.
        """
        new = copy.copy(self)
        new.layer = self.layer.on(data)
        return new

    def to_layer(self, matrix: GivenMatrix, *, where: str = "") -> Tensor:
        """A matrix as the layer has it, [nspin, nao, nao], after a look at it.

        Args:
            matrix: What was given.
            where: Start of the message.

        Returns:
            The matrix with the spin axis; differentiable.

        Raises:
            InputError: If type, precision, device, size or spin axis are others.
        """
        check_matrix(matrix, self.x, unrestricted=self.unrestricted, where=where)
        return matrix if self.unrestricted else matrix.unsqueeze(0)

    def from_layer(self, matrix: Tensor) -> Tensor:
        """Undo :meth:`to_layer`, for levels as well.

        Args:
            matrix: What has a spin axis in front.

        Returns:
            Without it for a closed shell; differentiable.
        """
        return matrix if self.unrestricted else matrix.squeeze(0)

    def from_layer_record(self, record: Record) -> Record:
        """A result of the layer with the user's matrices.

        Args:
            record: Orbitals, a build, an SCF or a stability analysis.

        Returns:
            Without the spin axis for a closed shell.
        """
        if self.unrestricted:
            return record
        found = {
            name: value.squeeze(0)
            for name in _MATRICES
            if isinstance(value := getattr(record, name, None), Tensor)
        }
        return dataclasses.replace(record, **found)

    def build_to_layer(self, built: FockBuild | None) -> FockBuild | None:
        """A build that :meth:`build` gave, as the layer has it.

        Args:
            built: The build; None stays None.

        Returns:
            With spin axes.

        Raises:
            InputError: If its Fock matrix is not one of this molecule.
        """
        if built is None or self.unrestricted:
            return built
        fock = self.to_layer(built.fock)
        v_xc = None if built.v_xc is None else built.v_xc.unsqueeze(0)
        return dataclasses.replace(built, fock=fock, v_xc=v_xc)

    def __call__(self, dm: GivenMatrix) -> tuple[Scalar, AOMatrix]:
        """Energy and Fock matrix at a density matrix; both differentiable in ``dm``.

        Args:
            dm: Density matrix, occupations included.

        Returns:
            E (Eh) and F = dE/dP. dE/dP needs no further build; the backward pass of F is one
            response build (f_xc, J and K of the cotangent).

        Raises:
            InputError: If ``dm`` is not a matrix of this molecule.
        """
        energy, fock = self.layer(self.to_layer(dm))
        return energy, self.from_layer(fock)

    def build(self, dm: GivenMatrix) -> FockBuild:
        """Energy parts and Fock matrix, without autograd. Counts as one Fock build.

        Args:
            dm: Density matrix, symmetric.

        Returns:
            The build.

        Raises:
            InputError: If ``dm`` is not a matrix of this molecule.
        """
        return self.from_layer_record(self.layer.build(self.to_layer(dm)))

    def response(self, dm: GivenMatrix, direction: GivenMatrix) -> AOMatrix:
        """dF along a symmetric ``direction``, without autograd. Counts as one Fock build.

        Args:
            dm: Density matrix, symmetric.
            direction: Change of it.

        Returns:
            dF, Eh.

        Raises:
            InputError: If one of them is not a matrix of this molecule.
        """
        return self.from_layer(self.layer.response(self.to_layer(dm), self.to_layer(direction)))

    def orbitals(self, fock: GivenMatrix, degeneracy_tol: float | None = None) -> Orbitals:
        """Orbitals and occupations of a Fock matrix (F C = S C e), without autograd.

        Args:
            fock: Symmetric Fock matrix, Eh.
            degeneracy_tol: Overrides the layer's.

        Returns:
            Orbital energies, coefficients, occupations and whether the frontier is degenerate.

        Raises:
            InputError: If ``fock`` is not a matrix of this molecule.
            ComputationError: If ``fock`` is not finite.
        """
        return self.from_layer_record(self.layer.orbitals(self.to_layer(fock), degeneracy_tol))

    def density(self, fock: GivenMatrix) -> AOMatrix:
        """Density matrix of a Fock matrix, twice differentiable and safe under degeneracy.

        Args:
            fock: Fock matrix, Eh.

        Returns:
            P with tr(P S) = number of electrons.

        Raises:
            InputError: If ``fock`` is not a matrix of this molecule.
            ComputationError: If ``fock`` is not finite.
        """
        return self.from_layer(self.layer.density(self.to_layer(fock)))

    def entropy_energy(self, fock: GivenMatrix) -> Scalar:
        """T S of the Fermi occupations of ``fock``, Eh, twice differentiable; 0 without smearing.

        E[P] minus it is the free energy, whose derivative along any change of ``fock`` vanishes
        at self-consistency.

        Args:
            fock: Fock matrix, Eh.

        Returns:
            T S.

        Raises:
            InputError: If ``fock`` is not a matrix of this molecule.
        """
        return self.layer.entropy_energy(self.to_layer(fock))

    def commutator(self, fock: GivenMatrix, dm: GivenMatrix) -> Tensor:
        """X† (F P S - S P F) X, the orbital gradient in an orthonormal basis, [*spin, nmo, nmo]."""
        return self.from_layer(self.layer.commutator(self.to_layer(fock), self.to_layer(dm)))

    def dipole(self, dm: GivenMatrix) -> Tensor:
        """Dipole moment about the nuclear-charge centre, debye, [3]."""
        return self.layer.dipole(self.to_layer(dm))

    def spin_square(self, dm: GivenMatrix) -> float:
        """⟨S²⟩ of the Kohn-Sham determinant."""
        return self.layer.spin_square(self.to_layer(dm))

    def n_electrons(self, dm: GivenMatrix) -> float:
        """Electrons, the density integrated on the grid (tr(PS) without one)."""
        return self.layer.n_electrons(self.to_layer(dm))

    def dielectric_step(self, fock: GivenMatrix, dm: GivenMatrix) -> AOMatrix:
        """What is left of a self-consistency step; see :func:`~.dielectric.dielectric_step`."""
        step = dielectric_step(self.layer, self.to_layer(fock), self.to_layer(dm))
        return self.from_layer(step)

    def spin_instability(self, dm: GivenMatrix, fock: GivenMatrix) -> float | None:
        """Whether a lower open shell hides; see :func:`~.open_shell.spin_instability`."""
        return spin_instability(self.layer, self.to_layer(dm), self.to_layer(fock))

    def certificate(
        self,
        dm: GivenMatrix,
        fock: GivenMatrix,
        energy: float | Tensor,
        *,
        coupled: bool = True,
    ) -> Certificate:
        """How far a density is from self-consistency; see :func:`~.certificate.certify`."""
        at = self.to_layer(dm), self.to_layer(fock)
        return certify(self.layer, *at, float(energy), coupled=coupled)

    def stability(
        self, dm: GivenMatrix, fock: GivenMatrix, *, external: bool = True, tol: float = 1e-3
    ) -> Stability:
        """Whether a converged density is a minimum; see :func:`~.stability.stability`."""
        at = self.to_layer(dm), self.to_layer(fock)
        return self.from_layer_record(stability(self.layer, *at, external=external, tol=tol))


Layer = TypeVar("Layer", bound=MoleculeFacade)


class BatchFacade(Generic[Layer]):
    """A batch with the matrices of Python users: lists in, lists out, in order.

    Attributes:
        layers: The molecules; they count their own builds.
        batch: What works.
    """

    def __init__(self, layers: Any, *, strategy: str | None = None) -> None:
        """Sort the molecules into buckets.

        Args:
            layers: A list of the molecules' layers, all on one device.
            strategy: "merged" (one by one with shared calls of the functional) or "padded" (stacks
                of equal shape); None chooses by the device.

        Raises:
            InputError: If there is no layer, something else, they are on different devices or the
                strategy is unknown.
        """
        self.layers: list[Layer] = _checked(layers)
        self.batch = KSBatch([one.layer for one in self.layers], strategy=strategy)

    def __repr__(self) -> str:
        """How many molecules, and how they are worked on."""
        return f"{type(self).__name__}({len(self)} molecules, {self.strategy})"

    @property
    def strategy(self) -> Strategy:
        """How the molecules are worked on."""
        return self.batch.strategy

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.layers)

    def to_layers(self, matrices: GivenMatrices) -> list[Tensor]:
        """A matrix of each molecule as its layer has it.

        Args:
            matrices: What was given.

        Returns:
            With spin axes; differentiable.

        Raises:
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        check_count(matrices, len(self))
        return [
            one.to_layer(matrix, where=f"molecule {k} of the batch: ")
            for k, (one, matrix) in enumerate(zip(self.layers, matrices, strict=True))
        ]

    def from_layers(self, matrices: Sequence[Tensor]) -> list[MoleculeMatrix]:
        """Undo :meth:`to_layers`."""
        return [one.from_layer(m) for one, m in zip(self.layers, matrices, strict=True)]

    def from_layer_records(self, records: Sequence[Record]) -> list[Record]:
        """Results of the layers with the users' matrices."""
        pairs = zip(self.layers, records, strict=True)
        return [one.from_layer_record(record) for one, record in pairs]

    def __call__(self, dms: GivenMatrices) -> tuple[Energies, list[MoleculeMatrix]]:
        """Energies and Fock matrices; both differentiable in ``dms``.

        Args:
            dms: Density matrix of each molecule, occupations included.

        Returns:
            E of each, [n], Eh, and F = dE/dP of each.

        Raises:
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        energies, focks = self.batch(self.to_layers(dms))
        return energies, self.from_layers(focks)

    def build(self, dms: GivenMatrices) -> list[FockBuild]:
        """Energy parts and Fock matrices, without autograd. Counts as one build each.

        Args:
            dms: Symmetric density matrices.

        Returns:
            The builds, in order.

        Raises:
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        return self.from_layer_records(self.batch.build(self.to_layers(dms)))

    def response(self, dms: GivenMatrices, directions: GivenMatrices) -> list[MoleculeMatrix]:
        """dF along symmetric ``directions``, without autograd. Counts as one build each.

        Args:
            dms: Density matrices at which F is differentiated.
            directions: One per molecule.

        Returns:
            dF of each, Eh.

        Raises:
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        at, along = self.to_layers(dms), self.to_layers(directions)
        return self.from_layers(self.batch.response(at, along))

    def density(self, focks: GivenMatrices) -> list[MoleculeMatrix]:
        """Density matrices of Fock matrices, differentiable and safe under degeneracy.

        Args:
            focks: Fock matrices, Eh.

        Returns:
            P of each.

        Raises:
            ComputationError: If a matrix is not finite.
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        return self.from_layers(self.batch.density(self.to_layers(focks)))

    def dielectric_steps(self, focks: GivenMatrices, dms: GivenMatrices) -> list[MoleculeMatrix]:
        """What is left of a self-consistency step of every molecule, without autograd.

        Args:
            focks: Fock matrices, Eh.
            dms: Their density matrices.

        Returns:
            Changes to add to the Fock matrices, Eh.

        Raises:
            ComputationError: If a matrix is not finite.
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        found = self.batch.dielectric_steps(self.to_layers(focks), self.to_layers(dms))
        return self.from_layers(found)


def _checked(layers: Any) -> list[Any]:
    """The layers of a batch, if they are a list of such."""
    cure = "KohnShamBatch.from_pyscf takes several molecules"
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        name = type(layers).__name__
        raise InputError(f"a batch expected a list of KohnSham layers, got one {name}; {cure}")
    found = list(layers)
    for one in found:
        if not isinstance(one, MoleculeFacade):
            raise InputError(
                f"a batch expected layers (KohnSham) of molecules, got {type(one).__name__}; {cure}"
            )
    return found
