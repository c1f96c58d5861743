"""One geometry made ready for the network: integrals, the matrix it corrects, inputs."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.data.labels import Label
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.integrals.mole import build_mole, place, shell_ls
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.system import ks_data
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.build import FockBuild
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.response.dielectric import dielectric_step
from deeph_zero.ks.scf.mixing import is_undecided
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import NetworkInputs, PhysicsMatrices, prepare_inputs
from deeph_zero.nn.packed_inputs import PackedInputs
from deeph_zero.nn.spec import Base, InputKind
from deeph_zero.nn.spectral_bound import bounded
from deeph_zero.settings.config import MethodConfig
from deeph_zero.train.teacher import Teacher
from deeph_zero.types import AOMatrix

if TYPE_CHECKING:
    from pyscf import gto

AO_MEMORY_MB = 2000.0
"""Kept AO values of all geometries of a run together."""


FIRST = 3e-4
"""Orbital gradient (Eh) to which a coarse SCF gives the first density of a teacher."""

TRAINING_GAP_FLOOR = 1e-3
"""Smallest denominator (Eh) of density derivatives in training; a closing gap stays harmless."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Orbitals of a matrix that H is compared with, and weights 0..1 of its orbital pairs.

    The three weights of a pair add up to one; levels that are partly filled belong to all blocks.

    Attributes:
        target: The matrix, Eh.
        vectors: Its eigenvectors in the orthonormal basis, columns, [.., nmo, nmo].
        mo_energy: Its eigenvalues, Eh.
        filled: Occupations scaled to 0..1, [.., nmo].
    """

    target: AOMatrix
    vectors: Tensor
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
class Problem:
    """A geometry, its Kohn-Sham layer and what the network sees of it.

    Attributes:
        molecule: The structure.
        ks: Kohn-Sham layer; counts its Fock builds.
        fock0: H₀, what the network corrects, Eh: F[P₀] after a dielectric step, or with
            ``geometry`` inputs the screened core Hamiltonian.
        start: The whole build at P₀, where an ordinary SCF starts; None if nobody asked for it.
        matrices: The matrices of the input; None once they are not needed.
        stored: Network inputs, packed where many wait.
        teacher: Remembered builds and the target they give.
        label: Converged reference values, where the user has them.
    """

    molecule: Molecule
    ks: KohnSham
    fock0: AOMatrix
    start: FockBuild | None
    matrices: PhysicsMatrices | None
    stored: NetworkInputs | PackedInputs
    teacher: Teacher
    label: Label | None = None
    present: ClassVar[bool] = True
    """Whether its integrals are in this process."""
    _target_frame: Frame | None = None
    _label_frame: Frame | None = None

    @property
    def inputs(self) -> NetworkInputs:
        """Network inputs."""
        return self.stored.unpack() if isinstance(self.stored, PackedInputs) else self.stored

    def target_frame(self) -> Frame:
        """Orbitals of the teacher's target, kept until it changes."""
        target = self.teacher.target
        if self._target_frame is None or self._target_frame.target is not target:
            self._target_frame = self._frame(target)
        return self._target_frame

    def label_frame(self) -> Frame:
        """Orbitals of the label's Fock matrix."""
        if self._label_frame is None:
            assert self.label is not None
            self._label_frame = self._frame(self.label.fock.to(self.fock0))
        return self._label_frame

    def _frame(self, target: AOMatrix) -> Frame:
        orbitals = self.ks.orbitals(target)
        return Frame(
            target=target,
            # orthonormal-basis eigenvectors: X⁻¹ C = Xᵀ S C
            vectors=self.ks.x.mT @ self.ks.data.ovlp @ orbitals.mo_coeff,
            mo_energy=orbitals.mo_energy,
            filled=orbitals.mo_occ / orbitals.mo_occ.max().clamp_min(1.0),
        )

    def hamiltonian(self, correction: AOMatrix) -> AOMatrix:
        """H = H₀ + the network's correction, float64."""
        return self.fock0 + correction.to(self.fock0.dtype)

    def predicted(self, correction: AOMatrix, seen: tuple[float, float]) -> AOMatrix:
        """The same for use: no larger correction than training had, see :mod:`.ks.bounded`."""
        exact = correction.to(self.fock0.dtype)
        return self.hamiltonian(bounded(exact, self.ks.x, self.ks.data.ovlp, seen))


def needs_unrestricted(molecule: Molecule, method: MethodConfig) -> bool:
    """UKS for unpaired electrons, on request, and to let symmetry break."""
    return molecule.spin != 0 or method.unrestricted or method.break_symmetry


def basis_layout(moles: Sequence["gto.Mole"]) -> BasisLayout:
    """The shells of every element that occurs.

    Args:
        moles: Built molecules of one basis set.

    Returns:
        Layout that holds all of them.
    """
    shells: dict[int, tuple[int, ...]] = {}
    for mol in moles:
        shells.update(zip(_numbers(mol), shell_ls(mol), strict=True))
    return BasisLayout.from_shells(shells)


def _numbers(mol: "gto.Mole") -> list[int]:
    from pyscf.data.elements import charge

    return [charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]


def kohn_sham(
    molecule: Molecule,
    method: MethodConfig,
    *,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = AO_MEMORY_MB,
    mol: "gto.Mole | None" = None,
    builds: bool = True,
    jk_dtype: torch.dtype = torch.float64,
    portable: Portable | None = None,
) -> KohnSham:
    """The Kohn-Sham layer of a structure with a run's settings.

    Args:
        molecule: The structure.
        method: Basis, functional, fitting, grid, spin treatment.
        device: Where the tensors live.
        ao_memory_mb: AO values kept for this molecule.
        mol: The built ``Mole``, if there is one already.
        builds: Whether Fock builds will be asked of it; without, no integral for them is made.
        jk_dtype: Fitted two-electron tensors are kept in.
        portable: Integrals from :func:`order_of`, where a worker has made them.

    Returns:
        The layer.
    """
    mol = build_mole(molecule, basis=method.basis) if mol is None else mol
    common = _keywords(molecule, method, device)
    if not builds:
        return KohnSham.without_builds(mol, **common)
    return KohnSham.from_pyscf(
        mol,
        grid_level=method.grid_level,
        ao_memory_mb=ao_memory_mb,
        jk_dtype=jk_dtype,
        portable=portable,
        two_grids=method.two_grids,
        **common,
    )


def order_of(
    molecule: Molecule,
    method: MethodConfig,
    *,
    jk_dtype: torch.dtype = torch.float64,
    dm_guess: AOMatrix | None = None,
) -> Order:
    """The integrals of :func:`kohn_sham`, for a worker.

    Args:
        molecule: The structure.
        method: As for the layer.
        jk_dtype: As for the layer.
        dm_guess: The starting density, where it is known already.

    Returns:
        What to order.
    """
    keywords = _keywords(molecule, method, "cpu") | {
        "grid_level": method.grid_level,
        "jk_dtype": jk_dtype,
        "dm_guess": None if dm_guess is None else dm_guess.cpu(),
    }
    del keywords["device"]
    return Order(molecule=molecule, basis=method.basis, keywords=keywords)


def same_data(
    molecule: Molecule,
    method: MethodConfig,
    dm_guess: AOMatrix,
    *,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = AO_MEMORY_MB,
    jk_dtype: torch.dtype = torch.float64,
    portable: Portable | None = None,
) -> KSData:
    """What the layer of :func:`kohn_sham` holds, computed once more.

    Args:
        molecule: The structure.
        method: As for the layer.
        dm_guess: The layer's starting density.
        device: As for the layer.
        ao_memory_mb: As for the layer.
        jk_dtype: As for the layer.
        portable: As for the layer.

    Returns:
        The data; on a CPU with the same number of threads bitwise the same.
    """
    mol = build_mole(molecule, basis=method.basis)
    keywords = _keywords(molecule, method, device)
    return ks_data(
        mol,
        dm_guess=dm_guess,
        grid_level=method.grid_level,
        ao_memory_mb=ao_memory_mb,
        jk_dtype=jk_dtype,
        portable=portable,
        two_grids=method.two_grids,
        **keywords,
    )[0]


def _keywords(
    molecule: Molecule, method: MethodConfig, device: torch.device | str
) -> dict[str, Any]:
    """What layers with and without Fock builds have in common."""
    return {
        "xc": method.xc,
        "density_fit": method.density_fit,
        "auxbasis": method.auxbasis,
        "unrestricted": needs_unrestricted(molecule, method),
        "device": str(device),
        "break_symmetry": method.break_symmetry,
    }


def make_problem(
    molecule: Molecule,
    method: MethodConfig,
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = AO_MEMORY_MB,
    mol: "gto.Mole | None" = None,
    inputs: InputKind = "physics",
    base: Base = "dielectric",
    taught: bool = True,
    builds: bool = True,
    jk_dtype: torch.dtype = torch.float64,
    portable: Portable | None = None,
) -> Problem:
    """Prepare a geometry; spends one Fock build (F[P₀]) where the inputs or the teacher need it.

    Args:
        molecule: The structure.
        method: Basis, functional, fitting, grid, spin treatment.
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        dtype: The network's.
        device: Where the tensors live.
        ao_memory_mb: AO values kept for this molecule.
        mol: The built ``Mole``, if there is one already.
        inputs: What the network reads, see :class:`~deeph_zero.nn.spec.NetworkSpec`.
        base: What ``physics`` inputs correct, likewise.
        taught: Whether a teacher will begin at F[P₀].
        builds: Whether Fock builds follow; matters for ``geometry`` inputs without a teacher.
        jk_dtype: Fitted two-electron tensors are kept in.
        portable: Integrals from :func:`order_of`, where a worker has made them.

    Returns:
        The problem.

    Raises:
        ComputationError: If the starting Fock matrix is not finite.
    """
    mol = build_mole(molecule, basis=method.basis) if mol is None else mol
    physics = inputs == "physics"
    ks = kohn_sham(
        molecule,
        method,
        device=device,
        ao_memory_mb=ao_memory_mb,
        mol=mol,
        builds=builds or physics or taught,
        jk_dtype=jk_dtype,
        portable=portable,
    )
    ks.gap_floor = TRAINING_GAP_FLOOR
    # without physics inputs a teacher can begin at the coarse grid's solution
    start = _start(ks, molecule) if physics or (taught and ks.coarse is None) else None
    fock0, matrices = _physics(ks, start, base) if physics else _geometry(ks, mol)
    prepared = prepare_inputs(
        layout,
        molecule.numbers,
        molecule.coords,
        molecule.charge,
        molecule.spin,
        matrices,
        cutoff=cutoff,
        dtype=dtype,
    ).to(device)
    return Problem(
        molecule=molecule,
        ks=ks,
        fock0=fock0,
        start=start,
        matrices=matrices,
        stored=prepared,
        teacher=_teacher(ks, start) if taught else Teacher(ks, fock0),
    )


def _start(ks: KohnSham, molecule: Molecule) -> FockBuild:
    """The build at P₀."""
    built = ks.build(ks.data.dm_guess)
    if not bool(torch.isfinite(built.fock).all()):
        text = "the Fock matrix of the atomic-density guess is not finite; check the geometry"
        raise ComputationError(f"{place(molecule)}: {text}")
    return built


def _teacher(ks: KohnSham, start: FockBuild | None) -> Teacher:
    """Begins at F[P₀] where that was built, else at the solution of the coarse grid."""
    if start is not None:
        return Teacher(ks, start.fock, dm0=ks.data.dm_guess)
    assert ks.coarse is not None
    tol = ks.degeneracy_tol
    solution = ks.coarse.scf(
        conv_tol=float("inf"), conv_tol_grad=FIRST, degeneracy_tol=tol, hint=False
    )
    return Teacher(ks, solution.fock)


def _physics(ks: KohnSham, start: FockBuild | None, base: Base) -> tuple[AOMatrix, PhysicsMatrices]:
    """H₀ = F[P₀], moved on by a dielectric step where that is safe, and what the network sees.

    Where the levels at F[P₀] leave open which orbital the electrons are in, F[P₀] itself is kept:
    a long step could decide wrongly.
    """
    assert start is not None
    dm0, fock0 = ks.data.dm_guess, start.fock
    if base == "dielectric" and not is_undecided(ks, fock0):
        fock0 = fock0 + dielectric_step(ks, fock0, dm0)
    return fock0, PhysicsMatrices(
        ovlp=ks.data.ovlp,
        hcore=ks.data.hcore,
        dm0=dm0,
        fock0=fock0,
        ddm0=ks.density(fock0) - dm0,
    )


def _geometry(ks: KohnSham, mol: "gto.Mole") -> tuple[AOMatrix, PhysicsMatrices]:
    """The screened core Hamiltonian as H₀ (for every spin), and what the network sees of it."""
    screened = screened_core(mol, ks.data.hcore).to(ks.data.ovlp)
    n_spin = 2 if ks.unrestricted else 1
    matrices = PhysicsMatrices(ovlp=ks.data.ovlp, hcore=screened, n_spin=n_spin)
    return screened.repeat(2, 1, 1) if ks.unrestricted else screened, matrices
