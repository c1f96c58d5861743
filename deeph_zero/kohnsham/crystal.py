"""``dz.KohnSham`` of crystals: the layer at k-points, made from PySCF's cells and objects."""

import dataclasses
import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from deeph_zero.errors import ComputationError, InputError, refuse_unknown
from deeph_zero.kohnsham.crystal_result import CrystalResult, KPoints
from deeph_zero.ks.given import scf_settings
from deeph_zero.ks.parallel.room import memory_mb
from deeph_zero.ks.periodic.data import CrystalData, Elsewhere
from deeph_zero.ks.periodic.dielectric import dielectric_potential
from deeph_zero.ks.periodic.layer import CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.ks.periodic.result import CrystalSCFResult, CrystalSCFSettings
from deeph_zero.ks.periodic.scf import crystal_scf
from deeph_zero.ks.periodic.step_coulomb import CoulombOnMesh
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix, BlochOperator, MeshRows
from deeph_zero.method import Method
from deeph_zero.types import GivenMatrix

if TYPE_CHECKING:
    from deeph_zero.integrals.periodic.calculation import CrystalCalculation
    from deeph_zero.integrals.periodic.folded_blocks import RealSpace
    from deeph_zero.integrals.periodic.info import CrystalInfo


def is_periodic(thing: Any) -> bool:
    """Whether an object is one of PySCF's for crystals.

    Args:
        thing: A cell or molecule, or a mean-field object of either.

    Returns:
        True for those of ``pyscf.pbc``; nothing is imported.
    """
    return any(kind.__module__.startswith("pyscf.pbc") for kind in type(thing).__mro__)


class CrystalKohnSham(CrystalLayer):
    """Differentiable Kohn-Sham theory of one crystal; see :class:`CrystalLayer`.

    Attributes:
        info: What was computed, in names and numbers.

    Examples:
        >>> ks = dz.KohnSham.from_pyscf(cell, kmesh=(4, 4, 4), xc="pbe")
        >>> result = ks.scf()
        >>> energy, fock = ks(ks.density(result.fock))
        >>> levels = ks.bands_at([[0, 0, 0], [0.5, 0, 0]])
    """

    def __init__(self, data: CrystalData, info: "CrystalInfo", **settings: Any) -> None:
        """Bind integrals and their description; use :meth:`from_pyscf`.

        Args:
            data: Integrals, grid and functional.
            info: What they were made with.
            **settings: Keywords of :class:`CrystalLayer`.

        Raises:
            InputError: If S(k) is singular, there are more electrons than orbitals, or a keyword is
                unknown.
        """
        refuse_unknown("CrystalKohnSham", settings, _keywords(CrystalLayer.__init__))
        super().__init__(data, **settings)
        self.info = info
        self._last: CrystalBuild | None = None
        self._calculation: CrystalCalculation | None = None

    def __repr__(self) -> str:
        """Problem and size, per cell."""
        problem = f"{self.info.xc}/{self.info.basis}"
        size = f"nk={self.nk}, nao={self.nao}, nelec={self.info.nelec}"
        return f"CrystalKohnSham({problem}, {size})"

    def checked(self, dm: GivenMatrix) -> BlochMatrix:
        """A matrix with the layer's shape; a closed shell's may come without the spin axis.

        Args:
            dm: [nspin, nk, nao, nao]; [nk, nao, nao] for a closed shell.

        Returns:
            [nspin, nk, nao, nao].

        Raises:
            InputError: If type, precision, device or shape are others, or real matrices are given
                imaginary parts.
        """
        bare = not self.unrestricted and getattr(dm, "shape", ()) == (self.nk, self.nao, self.nao)
        return super().checked(dm.unsqueeze(0) if bare and isinstance(dm, torch.Tensor) else dm)

    @classmethod
    def from_pyscf(
        cls,
        cell_or_mf: Any,
        *,
        device: str = "cpu",
        ao_memory_mb: float | None = None,
        engine: str = "auto",
        two_grids: bool = True,
        **settings: Any,
    ) -> "CrystalKohnSham":
        """Integrals, grid and functional from PySCF.

        Args:
            cell_or_mf: A built ``pbc.gto.Cell`` (its ``spin`` counts the unpaired electrons of one
                cell), or a KRKS, KUKS, RKS, UKS or Hartree-Fock object with FFTDF or GDF, which
                decides everything itself (the ``spin`` of its cell counts those of all k-points
                together).
            device: Where the tensors live.
            ao_memory_mb: Keep AO values up to so much; where nothing is said 2000, on a CUDA device
                a quarter of what is free.
            engine: What evaluates the functional: "auto", "torch" or "libxc".
            two_grids: False: SCFs never iterate on a coarse mesh.
            **settings: ``xc``, ``kmesh``, ``shifted``, ``unrestricted``, ``smearing``,
                ``fix_spin``, ``moments``, ``exxdiv`` and ``density_fit``, see
                :func:`~deeph_zero.integrals.periodic.calculation.crystal_calculation`.

        Returns:
            The layer.

        Raises:
            InputError: If something is not supported, a keyword is unknown or contradicts the
                object, S(k) is singular, or there are more electrons than orbitals.
        """
        from deeph_zero.integrals.periodic.calculation import crystal_calculation  # PySCF is heavy
        from deeph_zero.integrals.periodic.system import AO_MEMORY_MB, crystal_data

        own = {"device", "ao_memory_mb", "engine", "two_grids"}
        refuse_unknown("from_pyscf", settings, {*own, *_keywords(crystal_calculation)})
        found = crystal_calculation(cell_or_mf, **settings)
        found = dataclasses.replace(found, two_grids=two_grids)
        memory = memory_mb(device, AO_MEMORY_MB) if ao_memory_mb is None else ao_memory_mb
        data = crystal_data(found, device=device, ao_memory_mb=memory, engine=engine)
        return cls.of_calculation(found, data)

    @classmethod
    def of_method(
        cls,
        cell: Any,
        method: Method,
        *,
        moments: Sequence[float] | None = None,
        device: "torch.device | str" = "cpu",
        **limits: Any,
    ) -> "CrystalKohnSham":
        """The layer of a cell and a method.

        Args:
            cell: A built ``pbc.gto.Cell``, whose basis, pseudopotentials and mesh hold.
            method: What is solved, with its ``crystal``.
            moments: Initial magnetic moments per atom (electrons).
            device: Where the tensors live.
            **limits: ``ao_memory_mb`` and ``engine`` of :meth:`from_pyscf`.

        Returns:
            The layer.

        Raises:
            InputError: As :meth:`from_pyscf`, or if the method is a molecule's.
        """
        from deeph_zero.integrals.periodic.calculation import crystal_calculation_of
        from deeph_zero.integrals.periodic.system import crystal_data  # PySCF is heavy

        found = crystal_calculation_of(cell, method, moments)
        return cls.of_calculation(found, crystal_data(found, device=device, **limits))

    @classmethod
    def of_calculation(
        cls, calculation: "CrystalCalculation", data: CrystalData
    ) -> "CrystalKohnSham":
        """The layer of a calculation whose integrals are made already."""
        from deeph_zero.integrals.periodic.info import crystal_info  # PySCF is heavy

        info = crystal_info(calculation)
        if not info.method.two_grids:
            data = dataclasses.replace(data, coarse=None)
        made = cls(data, info, smearing=calculation.smearing, fix_spin=calculation.fix_spin)
        made._calculation = calculation
        return made

    @property
    def cell(self) -> Any:
        """PySCF's cell.

        Raises:
            ComputationError: If the layer was not made by :meth:`from_pyscf`.
        """
        if self._calculation is None:
            raise ComputationError("expected a layer of PySCF's cell, got one of plain tensors")
        return self._calculation.cell

    def build(self, dm: GivenMatrix) -> CrystalBuild:
        """Energies and Fock matrix, without autograd; :meth:`fock_at` goes on from it.

        Args:
            dm: Hermitian density matrix.

        Returns:
            The build.

        Raises:
            InputError: If ``dm`` is not a matrix of this crystal.
        """
        self._last = super().build(dm)
        return self._last

    def scf(self, dm0: GivenMatrix | None = None, **settings: Any) -> CrystalResult:
        """Self-consistent field.

        Args:
            dm0: Starting density matrix; None: superposed free atoms.
            **settings: Fields of :class:`~deeph_zero.ks.periodic.result.CrystalSCFSettings`.

        Returns:
            The last iterate and whether it converged; non-convergence is not an exception.

        Raises:
            InputError: If a keyword is unknown, its value is of another type or out of range, or
                ``dm0`` is not a matrix of this crystal.
        """
        wanted = scf_settings(CrystalSCFSettings, settings)
        start = None if dm0 is None else self.checked(dm0)
        found = crystal_scf(self, start, wanted)
        own = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        return CrystalResult(**own, layer=self)

    def real_space(self, build: CrystalBuild | MeshRows | None = None) -> "RealSpace":
        """F and S as real-space blocks that give them at any k-point.

        Args:
            build: What F is of, or potentials on the grid; None: the last build.

        Returns:
            The blocks.

        Raises:
            ComputationError: If there was no build yet, or the functions reach over too many cells.
        """
        from deeph_zero.integrals.periodic.folded_blocks import real_space_blocks  # PySCF is heavy

        build = self._last if build is None else build
        if build is None or self._calculation is None:
            raise ComputationError("expected a density, got none yet; call scf() first")
        if self.data.further:
            raise ComputationError(
                "real-space blocks: expected a semilocal functional on the uniform grid, got exact "
                "exchange or density fitting, whose matrices are no local potential's"
            )
        rows = build.rows if isinstance(build, CrystalBuild) else build
        return real_space_blocks(self._calculation, rows)

    def forces(self, result: CrystalSCFResult) -> Tensor:
        """Forces on the atoms, by PySCF's derivatives; of the free energy with smearing.

        Args:
            result: The SCF; they belong to its energy only where it converged.

        Returns:
            [natm, 3], Eh/bohr.

        Raises:
            InputError: If PySCF has none: meta-GGAs, range-separated hybrids, slabs (dimension 2),
                density fitting.
        """
        from deeph_zero.integrals.periodic.gradients import crystal_forces  # PySCF is heavy

        return torch.from_numpy(crystal_forces(self._settings("forces"), result))

    def stress(self, result: CrystalSCFResult) -> Tensor:
        """Derivative of the energy with respect to strain, per volume, by PySCF's derivatives.

        Args:
            result: The SCF; it belongs to its energy only where it converged.

        Returns:
            [3, 3], Eh/bohr³, positive where the crystal wants to shrink.

        Raises:
            InputError: If PySCF has none: as for :meth:`forces`, and all hybrids.
        """
        from deeph_zero.integrals.periodic.gradients import crystal_stress  # PySCF is heavy

        return torch.from_numpy(crystal_stress(self._settings("stress"), result))

    def _settings(self, what: str) -> "CrystalCalculation":
        if self._calculation is None:
            raise ComputationError(
                f"expected a layer of PySCF's cell for {what}, got plain tensors"
            )
        return self._calculation

    def polarizability(self, *given: Any, **settings: Any) -> NoReturn:
        """Molecules have it; see :meth:`~deeph_zero.kohnsham.KohnSham.polarizability`."""
        del given, settings
        raise InputError(
            "expected a molecule for responses to fields and motions of nuclei, got a crystal; "
            "take differences of crystals that are a little apart"
        )

    dipole_derivatives = fock_gradient = polarizability

    def base_potential(self) -> MeshRows:
        """The best potential that is known before any build.

        That of superposed free atoms, moved on by a dielectric step on the coarse mesh.

        Returns:
            On the grid, one row for each density variable, Eh; :meth:`fock_of` and :meth:`fock_at`
            make matrices of it.
        """
        rows = self.starting_potential()
        coulomb = self.data.step_coulomb()
        assert isinstance(coulomb, CoulombOnMesh)
        assert self.data.mesh is not None
        change = dielectric_potential(self, coulomb, self.fock_of(rows), None)
        rows[:, :1] += self.data.mesh.resample(change, coulomb.mesh)
        return rows

    def fock_at(
        self, kpts: KPoints, dm: GivenMatrix | None = None, *, potential: MeshRows | None = None
    ) -> BlochMatrix:
        """F at any k-points, exact: what changes is a local potential, and exact exchange.

        Args:
            kpts: Where, fractions of the reciprocal lattice vectors.
            dm: Density matrix at the layer's own k-points; None: that of the last build, which
                after :meth:`scf` is the converged one.
            potential: Potentials on the grid in place of those of a density, such as
                :meth:`base_potential`.

        Returns:
            Complex, [nspin, nk, nao, nao], Eh.

        Raises:
            InputError: If ``kpts`` has another shape, or ``dm`` is not a matrix of this crystal.
            ComputationError: If there was no build yet.
        """
        return self._matrices_at(self._elsewhere(kpts), dm, potential)

    def overlap_at(self, kpts: KPoints) -> BlochOperator:
        """S at any k-points.

        Args:
            kpts: Where, fractions of the reciprocal lattice vectors.

        Returns:
            Complex, [nk, nao, nao].

        Raises:
            InputError: If ``kpts`` has another shape.
        """
        return self._elsewhere(kpts).ovlp

    def bands_at(self, kpts: KPoints, dm: GivenMatrix | None = None) -> BandEnergies:
        """Levels at any k-points.

        Args:
            kpts: Where, fractions of the reciprocal lattice vectors.
            dm: As in :meth:`fock_at`.

        Returns:
            Ascending, Eh; +inf where a linearly dependent combination was left out.

        Raises:
            InputError: If ``kpts`` has another shape, or S is singular at one of them.
            ComputationError: If there was no build yet.
        """
        elsewhere = self._elsewhere(kpts)
        return self.levels_of(self._matrices_at(elsewhere, dm), elsewhere)

    def levels_of(self, fock: BlochMatrix, where: Elsewhere | KPoints) -> BandEnergies:
        """Levels of Hamiltonians at other k-points.

        Args:
            fock: H, Eh.
            where: The k-points, or the overlap there.

        Returns:
            As :meth:`bands_at`.

        Raises:
            InputError: If S is singular at one of the points.
        """
        elsewhere = where if isinstance(where, Elsewhere) else self._elsewhere(where)
        orthogonal = BlochOrthogonaliser(elsewhere.ovlp, self.data.lindep_threshold)
        return orthogonal.levels(fock)

    def matrices_of(self, kpts: KPoints, build: CrystalBuild) -> tuple[BlochMatrix, Elsewhere]:
        """F of a build at any k-points, and what else is there.

        Args:
            kpts: Where, fractions of the reciprocal lattice vectors.
            build: One of this layer.

        Returns:
            F (Eh), and the overlap at these points.

        Raises:
            InputError: If ``kpts`` has another shape.
        """
        elsewhere = self._elsewhere(kpts)
        return _of_build(elsewhere, build), elsewhere

    def _elsewhere(self, kpts: KPoints) -> Elsewhere:
        if self.data.at is None:
            raise InputError(
                "expected a uniform grid for matrices at other k-points, got density fitting; give "
                "those k-points to the SCF"
            )
        return self.data.at(_fractions(kpts))

    def _matrices_at(
        self, elsewhere: Elsewhere, dm: GivenMatrix | None, potential: MeshRows | None = None
    ) -> BlochMatrix:
        if potential is not None:
            return elsewhere.mesh_term.matrix(potential, torch.complex128) + elsewhere.fixed
        if dm is not None:
            self.build(self.checked(dm))
        if self._last is None:
            raise ComputationError("expected a density, got none yet; call scf() or give dm")
        return _of_build(elsewhere, self._last)


def _of_build(elsewhere: Elsewhere, build: CrystalBuild) -> BlochMatrix:
    fock = elsewhere.mesh_term.matrix(build.rows, torch.complex128) + elsewhere.fixed
    if elsewhere.exchange is None:
        return fock
    return fock + elsewhere.exchange.elsewhere(build.dm)


def _fractions(kpts: Any) -> list[list[float]]:
    """k-points as lists of three numbers."""
    try:
        points = [[float(x) for x in k] for k in kpts]
    except (TypeError, ValueError):
        points = []
    if not points or any(len(k) != 3 or not all(map(math.isfinite, k)) for k in points):
        raise InputError(
            "kpts expected fractions of the reciprocal vectors, shape [nk, 3], got "
            f"{' '.join(str(kpts).split())[:60]}; give for example [[0, 0, 0], [0.5, 0, 0]]"
        )
    return points


def _keywords(function: Any) -> list[str]:
    """Names of the arguments of a function that are given by name."""
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
