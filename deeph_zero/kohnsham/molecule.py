"""``dz.KohnSham``: the Kohn-Sham layer of a PySCF object."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from torch import Tensor

from deeph_zero.errors import ComputationError, InputError, refuse_unknown
from deeph_zero.host.runtime import resolve_device
from deeph_zero.integrals.orbitals import check_orbitals
from deeph_zero.kohnsham.crystal import CrystalKohnSham, is_periodic
from deeph_zero.ks.density import GAP_FLOOR
from deeph_zero.ks.facade import MoleculeFacade
from deeph_zero.ks.given import check_start, scf_settings
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.occupation import DEGENERACY_TOL
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.response.coupled import CoupledPerturbed
from deeph_zero.ks.response.nuclear import (
    FockGradient,
    MovingIntegrals,
    chosen_atoms,
    dipole_derivatives,
    fock_gradient,
)
from deeph_zero.ks.response.polarizability import polarizability
from deeph_zero.ks.scf.molecule_result import MoleculeResult
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import solve_scf
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.method import Method
from deeph_zero.types import GivenMatrix

if TYPE_CHECKING:
    import torch

    from deeph_zero.integrals.calculation import Calculation
    from deeph_zero.integrals.info import KSInfo

    GivenResult: TypeAlias = SCFResult | None
    GivenAtoms: TypeAlias = Sequence[int] | None
else:  # whatever came: looked at when it is used
    GivenResult: TypeAlias = Any
    GivenAtoms: TypeAlias = Any

_LIGHT = frozenset({"ao_memory_mb", "ao_engine", "max_memory_mb", "engine", "jk_dtype"})
"""Limits that are kept to make a layer again; the others hold integrals."""
_CURE = "make the layer with KohnSham.from_pyscf(mol, xc=...)"

RESPONSE_GRADIENT = 1e-7
RESPONSE_ENERGY = 1e-11
"""Gradient and energy change (Eh) to which a state is converged before it is differentiated: its
derivatives are in error by about as much as the gradient over the gap."""


def _keywords(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments of a function that are given by name."""
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]


class KohnSham(MoleculeFacade):
    """Differentiable Kohn-Sham theory of one molecule; see :class:`MoleculeFacade`.

    Attributes:
        info: What was computed, in names and numbers.

    Examples:
        >>> ks = dz.KohnSham.from_pyscf(mol, xc="pbe")
        >>> result = ks.scf()
        >>> energy, fock = ks(ks.density(result.fock))
    """

    def __init__(self, data: Any, info: "KSInfo | None" = None, **settings: Any) -> None:
        """Bind integrals and their description; use :meth:`from_pyscf`.

        Args:
            data: Integrals, grid and functional (:class:`MoleculeData`).
            info: What they were made with.
            **settings: Keywords of :class:`KohnShamLayer`.

        Raises:
            InputError: If functions are too dependent for the electrons, or a keyword is unknown.
        """
        if info is None:
            raise InputError(f"expected integrals and KSInfo, got {type(data).__name__}; {_CURE}")
        refuse_unknown("KohnSham", settings, _keywords(KohnShamLayer.__init__))
        super().__init__(KohnShamLayer(data, **settings))
        self.info = info
        self._solved: SCFResult | None = None
        self._moving: Callable[[], MovingIntegrals] | None = None
        self._again: Callable[[], KohnSham] | None = None
        check_orbitals(data.nelec, info.nao, charge=info.charge, n_independent=self.nmo)

    def __repr__(self) -> str:
        """Problem and size."""
        problem = f"{self.info.method.xc}/{self.info.basis}"
        return f"KohnSham({problem}, nao={self.nao}, nelec={self.nelec})"

    @classmethod
    def from_pyscf(
        cls,
        mol_or_mf: Any,
        *,
        xc: str | None = None,
        density_fit: bool | None = None,
        auxbasis: str | None = None,
        grid_level: int | None = None,
        unrestricted: bool | None = None,
        device: str = "cpu",
        break_symmetry: bool = False,
        smearing: float | None = None,
        two_grids: bool = True,
        field: Any = None,
        kmesh: Sequence[int] | None = None,
        **limits: Any,
    ) -> "KohnSham":
        """Integrals, grid and functional from PySCF.

        A cell, or a mean-field object of one, makes a :class:`~.kohnsham.crystal.CrystalKohnSham`,
        whose ``from_pyscf`` tells its keywords.

        Args:
            mol_or_mf: A built ``gto.Mole``, or an RKS, UKS, RHF or UHF object, also behind
                ``density_fit``, ``newton`` or with point-group symmetry. An object decides
                functional, fitting, grid, spin treatment and smearing, and its own ``get_hcore``,
                ``get_ovlp`` and ``energy_nuc`` are used. Whatever else would change its energy is
                refused, and so is a keyword that contradicts it.
            xc: Functional, any string PySCF parses; "pbe" where nothing is said.
            density_fit: Fit the two-electron integrals (so it is where nothing is said); False
                uses exact four-centre ones.
            auxbasis: Fitting basis; None is what PySCF picks for this basis and functional.
            grid_level: PySCF's, 0 to 9; 3 where nothing is said.
            unrestricted: UKS; None means "if the molecule has unpaired electrons".
            device: Where the tensors live.
            break_symmetry: Perturb the starting density so that spatial and spin symmetry may
                break, and keep integer occupations under degeneracy.
            smearing: Width (Eh) of Fermi occupations; each spin has its own chemical potential.
                None: the object's, or 0.
            two_grids: Let SCFs and error estimates use a much smaller grid beside the target one,
                see :mod:`deeph_zero.ks.scf.two_grids`; False works on the target grid alone.
            field: Uniform electric field (x, y, z), a.u., on electrons (h + field·r, as one adds it
                to PySCF's ``get_hcore``) and nuclei, about the coordinates' origin.
            kmesh: k-points of a crystal, for example (4, 4, 4).
            **limits: ``ao_memory_mb`` (AO values kept), ``max_memory_mb`` (two-electron
                integrals), ``engine`` ("auto", "torch" or "libxc"), ``ao_engine`` ("auto",
                "libcint" or "torch"), ``nlc_grid_level`` (of VV10's grid, 3 as in PySCF),
                ``lindep_threshold`` (of eigenvalues of S, PySCF's where nothing is said).

        Returns:
            The layer; ``info`` tells what was resolved.

        Raises:
            InputError: If the functional, basis, object or field is not supported, a keyword is
                unknown or contradicts the object, or there are more electrons than orbitals.
            ComputationError: If the integrals do not fit in memory.
        """
        given: dict[str, Any] = dict(
            xc=xc, density_fit=density_fit, auxbasis=auxbasis, grid_level=grid_level,
            unrestricted=unrestricted, break_symmetry=break_symmetry, smearing=smearing,
            two_grids=two_grids, field=field, kmesh=kmesh, **limits,
        )  # fmt: skip
        if is_periodic(mol_or_mf):
            defaults = {"break_symmetry": False, "two_grids": True, "exxdiv": "ewald"}
            stated = {name: x for name, x in given.items() if x is not defaults.get(name)}
            return cast("KohnSham", CrystalKohnSham.from_pyscf(mol_or_mf, device=device, **stated))
        return cls._of_molecule(mol_or_mf, device=device, **given)

    @classmethod
    def _of_molecule(
        cls, mol_or_mf: Any, *, device: str, kmesh: Sequence[int] | None, field: Any, **given: Any
    ) -> "KohnSham":
        from deeph_zero.integrals.calculation import STATED, calculation  # PySCF is heavy
        from deeph_zero.integrals.system import ks_data

        if kmesh is not None:
            raise InputError(
                f"expected kmesh with a crystal, got it with a {type(mol_or_mf).__name__}; give a "
                "pbc.gto.Cell, or leave kmesh out"
            )
        known = {*STATED, *_keywords(cls.from_pyscf), *_keywords(ks_data)}
        refuse_unknown("from_pyscf", given, known)
        stated = {name: given.pop(name) for name in STATED & given.keys()}
        found = calculation(mol_or_mf, **stated)
        where = resolve_device(device)
        return cls._of_calculation(found, device=where, field=field, **given)

    @classmethod
    def _of_calculation(
        cls,
        found: "Calculation",
        *,
        device: "torch.device | str",
        gap_floor: float = GAP_FLOOR,
        field: Any = None,
        **limits: Any,
    ) -> "KohnSham":
        from deeph_zero.integrals.system import ks_data  # PySCF is heavy

        data, info = ks_data(found, device=device, **limits)
        if field is not None:
            data = _in_field(data, found.mol, field, device)
        ks = cls(data, info, gap_floor=gap_floor, **_occupied(info.method))
        if field is None:
            ks._moving = functools.partial(_moved, found)
        light = {name: limits[name] for name in _LIGHT & limits.keys()}
        ks._again = functools.partial(
            cls._of_calculation, found, device=device, gap_floor=gap_floor, field=field, **light
        )
        return ks

    @classmethod
    def of_method(
        cls,
        mol: Any,
        method: Method,
        *,
        builds: bool = True,
        device: "torch.device | str" = "cpu",
        gap_floor: float = GAP_FLOOR,
        **limits: Any,
    ) -> "KohnSham":
        """The layer of a molecule and a method.

        Args:
            mol: A built ``gto.Mole``, whose basis holds.
            method: What is solved.
            builds: Whether there will be Fock builds; without, no integral for them is made.
            device: Where the tensors live.
            gap_floor: Smallest denominator (Eh) between unequal occupations in derivatives.
            **limits: Keywords of :func:`~deeph_zero.integrals.system.ks_data`, for builds.

        Returns:
            The layer; without builds, one raises ComputationError.

        Raises:
            InputError: If the molecule, functional, basis or fitting set is not supported, or
                there are more electrons than orbitals.
            ComputationError: If the integrals do not fit in memory.
        """
        from deeph_zero.integrals.bare import bare_data  # PySCF is heavy
        from deeph_zero.integrals.calculation import calculation_of

        found = calculation_of(mol, method)
        if builds:
            return cls._of_calculation(found, device=device, gap_floor=gap_floor, **limits)
        data, info = bare_data(found, device=device)
        ks = cls(data, info, gap_floor=gap_floor, **_occupied(method))
        ks._moving = functools.partial(_moved, found)
        return ks

    @classmethod
    def without_builds(
        cls,
        mol: Any,
        *,
        xc: str = Method.xc,
        density_fit: bool = Method.density_fit,
        auxbasis: str | None = None,
        unrestricted: bool | None = None,
        device: str = "cpu",
        break_symmetry: bool = False,
    ) -> "KohnSham":
        """A layer for orbitals, densities and dipoles only: no two-electron integral, no grid.

        Args:
            mol: A built ``gto.Mole``.
            xc: As in :meth:`from_pyscf`; nothing of it is evaluated.
            density_fit: As in :meth:`from_pyscf`.
            auxbasis: As in :meth:`from_pyscf`.
            unrestricted: As in :meth:`from_pyscf`.
            device: Where the tensors live.
            break_symmetry: Keep integer occupations under degeneracy.

        Returns:
            The layer; a Fock build raises ComputationError.

        Raises:
            InputError: If the molecule, functional or fitting set is not supported.
        """
        from deeph_zero.integrals.bare import bare_data  # PySCF is heavy
        from deeph_zero.integrals.calculation import calculation
        from deeph_zero.integrals.supported import check_molecule

        check_molecule(mol)
        found = calculation(
            mol,
            xc=xc,
            density_fit=density_fit,
            auxbasis=auxbasis,
            unrestricted=unrestricted,
            break_symmetry=break_symmetry,
        )
        data, info = bare_data(found, device=device)
        return cls(data, info, **_occupied(info.method))

    def smeared(self, width: float) -> "KohnSham":
        """The layer with another smearing; builds are counted on.

        Args:
            width: Width of Fermi occupations, Eh.

        Returns:
            A layer of the same data.
        """
        info = dataclasses.replace(
            self.info, method=dataclasses.replace(self.info.method, smearing=width)
        )
        tols = {"degeneracy_tol": self.degeneracy_tol, "gap_floor": self.gap_floor}
        new = KohnSham(self.data, info, smearing=width, **tols)
        new.fock_builds, new.coarse_builds = self.fock_builds, self.coarse_builds
        new._moving, again = self._moving, self._again
        new._again = None if again is None else functools.partial(_smeared, again, width)
        return new

    def scf(
        self,
        dm0: GivenMatrix | None = None,
        *,
        first_build: FockBuild | None = None,
        **settings: Any,
    ) -> MoleculeResult:
        """Self-consistent field from ``dm0`` (the atomic-density guess by default).

        Args:
            dm0: Starting density matrix; None starts from the setting ``init_guess``.
            first_build: The build at ``dm0``, if it was made already.
            **settings: Fields of :class:`~deeph_zero.ks.scf.result.SCFSettings`.

        Returns:
            The last iterate and whether it converged; non-convergence is not an exception. Its
            methods give derivatives, see :class:`MoleculeResult`.

        Raises:
            InputError: If ``dm0`` is not a matrix of this molecule, there is no setting of that
                name, its value is of another type or out of range, or nothing would read it.
        """
        built, smeared = first_build is not None, self.layer.smearing > 0
        check_start(settings, start=dm0 is not None, built=built, smeared=smeared)
        start = None if dm0 is None else self.to_layer(dm0)
        chosen, first = scf_settings(SCFSettings, settings), self.build_to_layer(first_build)
        found = self.from_layer_record(solve_scf(self.layer, start, chosen, first))
        return MoleculeResult.of(found, self, self._again)

    def polarizability(self, result: GivenResult = None) -> Tensor:
        """Static dipole polarisability, by coupled-perturbed Kohn-Sham equations.

        Args:
            result: What :meth:`scf` gave; None: it is computed (and kept for the next call).

        Returns:
            α = dμ/dε, symmetric [3, 3], bohr³ (1 bohr³ is 0.1482 Å³).

        Raises:
            InputError: If ``result`` is not converged or not of this molecule, or occupations are
                fractional.
            ComputationError: If the SCF or the equations do not converge.
        """
        return polarizability(self._equations(result))

    def dipole_derivatives(self, result: GivenResult = None) -> Tensor:
        """How the dipole moment follows the nuclei, by coupled-perturbed Kohn-Sham equations.

        Args:
            result: As in :meth:`polarizability`.

        Returns:
            dμ_y/dR_Ax, [natm, 3 (x), 3 (y)], elementary charges; μ about a fixed origin, so that
            the sum over the atoms is the charge of the molecule times the unit matrix.

        Raises:
            InputError: As in :meth:`polarizability`, or where the integrals have no derivatives.
            ComputationError: If the SCF or the equations do not converge.
        """
        return dipole_derivatives(self._equations(result), self.moving_integrals())

    def fock_gradient(
        self, result: GivenResult = None, *, atoms: GivenAtoms = None
    ) -> FockGradient:
        """Total derivatives dF/dR and dS/dR of a converged state, density response included.

        Args:
            result: As in :meth:`polarizability`.
            atoms: Which atoms to move, from 0; None: all of them.

        Returns:
            dF/dR, dS/dR, dP/dR and the perturbation with the motion of the basis taken off, by
            atom and direction, see :class:`~deeph_zero.ks.response.nuclear.FockGradient`.

        Raises:
            InputError: As in :meth:`polarizability`, where the integrals have no derivatives, or
                there is no such atom.
            ComputationError: If the SCF or the equations do not converge.
        """
        moving = self.moving_integrals()
        chosen = chosen_atoms(atoms, moving.natm)
        found = fock_gradient(self._equations(result), moving, chosen, self.info.ao_atoms)
        if self.unrestricted:
            return found
        parts = {name: getattr(found, name).squeeze(2) for name in ("fock", "perturbation", "dm")}
        return dataclasses.replace(found, **parts)

    def moving_integrals(self) -> MovingIntegrals:
        """Derivatives of the integrals with respect to the nuclei.

        Returns:
            They; computed when asked for.

        Raises:
            InputError: If there are none.
        """
        if self._moving is None:
            raise InputError(
                "expected a layer whose integrals have derivatives with respect to the nuclei; "
                "make it by KohnSham.from_pyscf without field"
            )
        if self.nmo < self.nao:
            raise InputError(
                f"expected linearly independent functions to differentiate, got {self.nao}, of "
                f"which {self.nao - self.nmo} are dropped; choose a smaller basis set"
            )
        return self._moving()

    def _equations(self, result: GivenResult) -> CoupledPerturbed:
        """The coupled-perturbed equations about a converged state."""
        state = self.tightened(result)
        return CoupledPerturbed(self.layer, self.to_layer(state.dm), self.to_layer(state.fock))

    def tightened(self, result: GivenResult) -> SCFResult:
        """A state as tightly converged as its derivatives need.

        Args:
            result: What :meth:`scf` gave; None: it is computed (and kept for the next call).

        Returns:
            ``result`` itself where it is tight enough, else what an SCF from it gives.

        Raises:
            InputError: If it is not converged, or not of this molecule, or there is smearing.
            ComputationError: If the SCF does not converge.
        """
        if self.smearing > 0:
            raise InputError(
                "expected integer occupations for the response to a perturbation, got smearing "
                f"{self.smearing:g}; leave smearing out"
            )
        if result is None:
            result = self._solved
        elif not isinstance(result, SCFResult):
            raise InputError(
                f"expected a result of ks.scf(), got a {type(result).__name__}; leave it out to "
                "have it computed"
            )
        else:
            for matrix in (result.dm, result.fock):
                self.to_layer(matrix, where="result: ")
            if not result.converged:
                raise InputError(
                    "expected a converged result to differentiate, got one that is not "
                    f"(gradient {result.gradient_norm:.1e} Eh); raise max_cycle"
                )
        if result is not None and result.gradient_norm <= RESPONSE_GRADIENT:
            return result
        start = None if result is None else result.dm
        tight = self.scf(start, conv_tol=RESPONSE_ENERGY, conv_tol_grad=RESPONSE_GRADIENT)
        if not tight.converged:
            raise ComputationError(
                "expected a converged density to differentiate, the SCF ended at a gradient of "
                f"{tight.gradient_norm:.1e} Eh; give the result of ks.scf with settings that help"
            )
        self._solved = tight
        return tight


def _occupied(method: Method) -> dict[str, float]:
    """How a layer fills its orbitals."""
    tol = 0.0 if method.break_symmetry else DEGENERACY_TOL
    return {"degeneracy_tol": tol, "smearing": method.smearing}


def _smeared(make: Callable[[], KohnSham], width: float) -> KohnSham:
    """A layer with another smearing; pickled with those that may have to be made again."""
    return make().smeared(width)


def _moved(found: "Calculation") -> MovingIntegrals:
    from deeph_zero.integrals.moving_atoms import moving_atoms  # gradients of PySCF are heavy

    return moving_atoms(found)


def _in_field(data: KSData, mol: Any, field: Any, device: "torch.device | str") -> KSData:
    """The data with an electric field added."""
    from deeph_zero.integrals.field import electric_field  # PySCF is heavy

    term = electric_field(mol, field, device)
    return dataclasses.replace(data, added=(*data.added, term))
