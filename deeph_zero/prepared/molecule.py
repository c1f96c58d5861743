"""One geometry made ready for the network: integrals, the matrix it corrects, inputs.

Predicting and training share it; :mod:`deeph_zero.train.taught` adds what training needs.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.integrals.calculation import calculation_of
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.system import ks_data
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.density import GAP_FLOOR
from deeph_zero.ks.multipoles import screened
from deeph_zero.ks.parallel.room import memory_mb
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.scf.mixing import is_undecided
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.inputs import NetworkInputs, PhysicsMatrices, prepare_inputs
from deeph_zero.nn.packed_inputs import PackedInputs
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import Base
from deeph_zero.nn.spectral_bound import bounded
from deeph_zero.types import AOMatrix

if TYPE_CHECKING:
    from pyscf import gto

AO_MEMORY_MB = 2000.0
"""Kept AO values of all geometries of a run together, on a processor."""

TRAINING_GAP_FLOOR = 1e-3
"""Smallest denominator (Eh) of density derivatives in training; a closing gap stays harmless."""


def ao_memory(device: torch.device | str) -> float:
    """Memory for the kept AO values of all geometries of a run together.

    Args:
        device: Where they are kept.

    Returns:
        MB; a part of what is free on a CUDA device.
    """
    return memory_mb(device, AO_MEMORY_MB)


@dataclasses.dataclass(frozen=True)
class Means:
    """With what a geometry is computed.

    Attributes:
        device: Where the tensors live.
        ao_memory_mb: AO values kept for this molecule; None: all of :func:`ao_memory`.
        jk_dtype: Fitted two-electron tensors are kept in.
    """

    device: torch.device | str = "cpu"
    _: dataclasses.KW_ONLY
    ao_memory_mb: float | None = None
    jk_dtype: torch.dtype = torch.float64

    @property
    def memory_mb(self) -> float:
        """Memory for its AO values, MB."""
        return ao_memory(self.device) if self.ao_memory_mb is None else self.ao_memory_mb


PROCESSOR = Means()


@dataclasses.dataclass(eq=False, kw_only=True)
class Prepared:
    """A geometry, its Kohn-Sham layer and what the network sees of it.

    Attributes:
        molecule: The structure.
        ks: Kohn-Sham layer; counts its Fock builds.
        fock0: H₀, what the network corrects, Eh: F[P₀] after a dielectric step, or with
            ``geometry`` inputs superposed atoms with self-consistent charges and dipoles.
        start: The whole build at P₀, where an ordinary SCF starts; None if nobody asked for it.
        matrices: The matrices of the input; None once they are not needed.
        stored: Network inputs, packed where many wait.
        balance: How corrections are predicted; None: element by element.
    """

    molecule: Molecule
    ks: KohnSham
    fock0: AOMatrix
    start: FockBuild | None
    matrices: PhysicsMatrices | None
    stored: NetworkInputs | PackedInputs
    balance: Balance | None = None

    @property
    def inputs(self) -> NetworkInputs:
        """Network inputs."""
        return self.stored.unpack() if isinstance(self.stored, PackedInputs) else self.stored

    def hamiltonian(self, output: BlockMatrix) -> AOMatrix:
        """H = H₀ + the correction that the network's output stands for, float64."""
        return self.fock0 + self.correction(output)

    def predicted(self, output: BlockMatrix, seen: tuple[float, float]) -> AOMatrix:
        """H for use: no larger correction than training had, see :mod:`.nn.spectral_bound`."""
        return self.bounded(self.correction(output), seen)

    def bounded(self, correction: AOMatrix, seen: tuple[float, float]) -> AOMatrix:
        """H₀ + a correction, brought to the size that training had."""
        return self.fock0 + bounded(correction, self.ks.x, self.ks.data.ovlp, seen)

    def as_output(self, correction: AOMatrix) -> AOMatrix:
        """What the network has to predict for a correction, Eh."""
        return correction if self.balance is None else self.balance.predicted(correction)

    def in_blocks(self, correction: AOMatrix) -> BlockMatrix:
        """The matrix as the network writes it: without the blocks of pairs beyond the cutoff."""
        stored, output = self.stored, self.as_output(correction)
        pattern = stored.pattern if isinstance(stored, PackedInputs) else stored.patterns[0]
        return BlockMatrix.gathered(pattern.to(output.device), output)

    def correction(self, output: BlockMatrix) -> AOMatrix:
        """The correction that the network's output stands for, Eh."""
        exact = output.to_dense().to(self.fock0.dtype)
        return exact if self.balance is None else self.balance.correction(exact)


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
    method: Method,
    means: Means = PROCESSOR,
    *,
    mol: "gto.Mole | None" = None,
    builds: bool = True,
    gap_floor: float = GAP_FLOOR,
    portable: Portable | None = None,
) -> KohnSham:
    """The Kohn-Sham layer of a structure with a run's settings.

    Args:
        molecule: The structure.
        method: What is solved.
        means: With what.
        mol: The built ``Mole``, if there is one already.
        builds: Whether Fock builds will be asked of it; without, no integral for them is made.
        gap_floor: Smallest denominator (Eh) between unequal occupations in derivatives.
        portable: Integrals of a worker (:class:`~deeph_zero.integrals.ahead.IntegralsAhead`).

    Returns:
        The layer.
    """
    return KohnSham.of_method(
        build_mole(molecule, basis=method.basis) if mol is None else mol,
        method,
        builds=builds,
        device=means.device,
        gap_floor=gap_floor,
        ao_memory_mb=means.memory_mb,
        jk_dtype=means.jk_dtype,
        portable=portable,
    )


def same_data(
    molecule: Molecule,
    method: Method,
    dm_guess: AOMatrix,
    means: Means = PROCESSOR,
    *,
    portable: Portable | None = None,
) -> KSData:
    """What the layer of :func:`kohn_sham` holds, computed once more.

    Args:
        molecule: The structure.
        method: As for the layer.
        dm_guess: The layer's starting density.
        means: As for the layer.
        portable: As for the layer.

    Returns:
        The data; on a CPU with the same number of threads bitwise the same.
    """
    return ks_data(
        calculation_of(build_mole(molecule, basis=method.basis), method),
        device=means.device,
        dm_guess=dm_guess,
        ao_memory_mb=means.memory_mb,
        jk_dtype=means.jk_dtype,
        portable=portable,
    )[0]


def prepare(
    molecule: Molecule,
    method: Method,
    reading: Reading,
    means: Means = PROCESSOR,
    *,
    mol: "gto.Mole | None" = None,
    begins: bool = False,
    builds: bool = True,
    portable: Portable | None = None,
) -> Prepared:
    """Prepare a geometry; spends one Fock build (F[P₀]) where the inputs or its user need it.

    Args:
        molecule: The structure.
        method: What is solved.
        reading: What the network reads and corrects.
        means: With what.
        mol: The built ``Mole``, if there is one already.
        begins: Whether somebody begins at F[P₀], or at the solution of the coarse grid, if any.
        builds: Whether Fock builds follow; matters for ``geometry`` inputs.
        portable: As for :func:`kohn_sham`.

    Returns:
        The prepared geometry.

    Raises:
        ComputationError: If the starting Fock matrix is not finite.
    """
    mol = build_mole(molecule, basis=method.basis) if mol is None else mol
    physics = reading.inputs == "physics"
    ks = kohn_sham(
        molecule,
        method,
        means,
        mol=mol,
        builds=builds or physics or begins,
        gap_floor=TRAINING_GAP_FLOOR,
        portable=portable,
    )
    # without physics inputs one can begin at the coarse grid's solution
    start = _start(ks, molecule) if physics or (begins and ks.layer.coarse is None) else None
    base = reading.corrected
    fock0, matrices = _physics(ks, start, base) if physics else _geometry(ks, mol, base)
    seen = prepare_inputs(
        reading.layout, molecule.numbers, molecule.coords, molecule.charge, molecule.spin, matrices,
        cutoff=reading.cutoff, dtype=reading.dtype,
    ).to(means.device)  # fmt: skip
    return Prepared(
        molecule=molecule,
        ks=ks,
        fock0=fock0,
        start=start,
        matrices=matrices,
        stored=seen,
        balance=Balance.of(ks.data.ovlp) if reading.balanced else None,
    )


def _start(ks: KohnSham, molecule: Molecule) -> FockBuild:
    """The build at P₀."""
    built = ks.build(ks.data.dm_guess)
    check_start(molecule, built.fock)
    return built


def check_start(molecule: Molecule, fock: AOMatrix) -> None:
    """See whether F[P₀] can be begun with.

    Args:
        molecule: The structure.
        fock: F[P₀], Eh.

    Raises:
        ComputationError: If it is not finite.
    """
    if not bool(torch.isfinite(fock).all()):
        text = "the Fock matrix of the atomic-density guess is not finite; check the geometry"
        raise ComputationError(f"{molecule.where}{text}")


def _physics(ks: KohnSham, start: FockBuild | None, base: Base) -> tuple[AOMatrix, PhysicsMatrices]:
    """H₀ = F[P₀], moved on by a dielectric step where that is safe, and what the network sees.

    Where the levels at F[P₀] leave open which orbital the electrons are in, F[P₀] itself is kept:
    a long step could decide wrongly.
    """
    assert start is not None
    dm0, fock0 = ks.data.dm_guess, start.fock
    if base == "dielectric" and not is_undecided(ks.layer, ks.to_layer(fock0)):
        fock0 = fock0 + ks.dielectric_step(fock0, dm0)
    return fock0, PhysicsMatrices(
        ovlp=ks.data.ovlp,
        hcore=ks.data.hcore,
        dm0=dm0,
        fock0=fock0,
        ddm0=ks.density(fock0) - dm0,
    )


def _geometry(ks: KohnSham, mol: "gto.Mole", base: Base) -> tuple[AOMatrix, PhysicsMatrices]:
    """H₀ without a Fock build (the same for every spin), and what the network sees."""
    ovlp = ks.data.ovlp
    if base == "fock":
        bare = screened_core(mol, ks.data.hcore).to(ovlp)
        matrices = PhysicsMatrices(ovlp=ovlp, hcore=bare, n_spin=2 if ks.unrestricted else 1)
        return bare.repeat(2, 1, 1) if ks.unrestricted else bare, matrices
    bare = superposed_atoms(mol, ks.data.hcore)
    found = screened(bare, ks.x.cpu(), ks.data.nelec, atomic_clouds(mol))
    fock0, dm, before = (matrix.to(ovlp) for matrix in found[:3])
    if not ks.unrestricted:
        dm, before = dm.sum(0), before.sum(0)
    fock0 = fock0.repeat(2, 1, 1) if ks.unrestricted else fock0
    matrices = PhysicsMatrices(
        ovlp=ovlp, hcore=bare.to(ovlp), dm0=dm, fock0=fock0, ddm0=dm - before
    )
    return fock0, matrices
