"""``deeph-zero convert``: Fock matrices of other programs in a Gaussian basis as labels.

What a file says of its AO order, basis and functional is not trusted. The overlap, where there is
one, has to be that of the basis at these positions, and a converged Fock matrix is the one its own
density gives back, H = F[P(H)], only in the right order, basis and functional. One Fock build per
molecule, which the label's energy needs anyway.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float
from pyscf import gto
from torch import Tensor

from deeph_zero.ao.basis_text import label_of
from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.convention import AO_ORDERS, SHELL_ORDERS, to_pyscf
from deeph_zero.data.contacts import check_contacts
from deeph_zero.data.formats.labels import NUMERICAL
from deeph_zero.data.formats.protocol import (
    Record,
    Shells,
    Source,
    Structure,
    check_matrix,
)
from deeph_zero.data.formats.registry import open_source
from deeph_zero.data.structures import time_is_over
from deeph_zero.errors import InputError, argument
from deeph_zero.host import runtime
from deeph_zero.host.reporting import Reporter
from deeph_zero.integrals.basis_sets import shells_of, valid_basis
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.jobs.journal import Record as JobRecord
from deeph_zero.jobs.journal import digest
from deeph_zero.jobs.loop import run_batch
from deeph_zero.jobs.workers import Compute, start_process
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.molecule import Molecule, State
from deeph_zero.predict.record import method_attributes, structure_record
from deeph_zero.prepared.molecule import Means, kohn_sham
from deeph_zero.settings.convert_config import ConvertConfig
from deeph_zero.types import AOMatrix
from deeph_zero.units import BOHR_IN_ANGSTROM

_UNSURE = ("deeptb", "dftio")
"""Formats of eV with files in hartree among those that are published."""
_SAME_OVERLAP = 1e-4
"""Largest difference of an overlap that counts as the same; positions in single precision shift
those of heavy atoms' tight functions by 1e-5."""


@dataclasses.dataclass(frozen=True)
class Understood:
    """A stored Fock matrix in PySCF's order, and what its density gives.

    Attributes:
        order: The order it was stored in, one of :data:`deeph_zero.ao.convention.AO_ORDERS`.
        fock: H, Eh.
        dm: P(H).
        built: The Fock build there.
        deviation: Largest |H - F[P(H)]|, Eh.
    """

    order: str
    fock: AOMatrix
    dm: AOMatrix
    built: FockBuild
    deviation: float


def pyscf_array(
    ls: Sequence[int], stored: Float[np.ndarray, "*spin nao nao"], order: str
) -> Float[np.ndarray, "*spin nao nao"]:
    """A matrix of another order and other signs in PySCF's.

    Args:
        ls: Angular momentum of every shell, in order.
        stored: The matrix.
        order: One of :data:`deeph_zero.ao.convention.SHELL_ORDERS`.

    Returns:
        A copy.
    """
    places, signs = to_pyscf(ls, order)
    index, sign = np.array(places, dtype=np.int64), np.array(signs, dtype=np.float64)
    return stored[..., index[:, None], index] * sign[:, None] * sign


def order_of_overlap(
    ls: Sequence[int],
    stored: Float[np.ndarray, "nao nao"],
    overlap: Float[np.ndarray, "nao nao"],
    orders: Sequence[str],
) -> str:
    """The order in which a stored overlap is the one of the basis.

    Args:
        ls: Angular momentum of every shell, in order.
        stored: S as it is stored.
        overlap: S of the basis at these positions, PySCF's order.
        orders: Those to try; the first that fits is taken.

    Returns:
        One of ``orders``.

    Raises:
        InputError: If none fits: the basis or the geometry is another.
    """
    found = {name: float(np.abs(pyscf_array(ls, stored, name) - overlap).max()) for name in orders}
    for name, deviation in found.items():
        if deviation < _SAME_OVERLAP:
            return name
    best = min(found, key=found.__getitem__)
    raise InputError(
        f"expected the overlap of this basis and geometry, got one that differs by "
        f"{found[best]:.1e} in the AO order {best!r}, the best of {', '.join(orders)}; give the "
        f"{argument('basis')} it was made with"
    )


def understand(
    ks: KohnSham,
    ls: Sequence[int],
    stored: Float[np.ndarray, "*spin nao nao"],
    *,
    orders: Sequence[str] = AO_ORDERS,
    agreement: float,
) -> Understood:
    """Find the AO order in which a matrix is self-consistent.

    Args:
        ks: Layer of the molecule.
        ls: Angular momentum of every shell, in order.
        stored: The matrix, Eh.
        orders: The orders to try; the first that fits is taken.
        agreement: Largest |H - F[P(H)]| that counts, Eh.

    Returns:
        The matrix in PySCF's order.

    Raises:
        InputError: If none fits: the matrix is of another basis, functional or geometry, or was
            not converged.
    """
    tried: list[Understood] = []
    for order in orders:
        fock = torch.from_numpy(pyscf_array(ls, stored, order)).to(ks.data.ovlp)
        dm = ks.density(fock)
        built = ks.build(dm)
        found = Understood(order, fock, dm, built, float((fock - built.fock).abs().max()))
        if found.deviation < agreement:
            return found
        tried.append(found)
    best = min(tried, key=lambda found: found.deviation)
    cure = ""
    if best.deviation < 10 * agreement:  # far below what another functional does
        cure = f", or a larger {argument('agreement')} where it was made with density fitting"
    raise InputError(
        f"expected a Fock matrix that its own density gives back within {agreement:g} Eh, got "
        f"{best.deviation:.1e} Eh in the AO order {best.order!r}, the best of {', '.join(orders)}; "
        f"give the {argument('xc')}, {argument('basis')} and {argument('grid_level')} it was "
        f"made with{cure}"
    )


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file and how it is read; opened again in each process.

    Attributes:
        path: File or folder.
        name: Its format, one of :data:`deeph_zero.data.formats.registry.FORMATS`.
        basis: Basis set of its functions.
        stated: Whether the user named it.
        unit: Unit of energy; None is the format's.
    """

    path: Path
    name: str
    basis: str
    stated: bool = True
    unit: str | None = None

    def source(self) -> Source:
        """Open it; raises InputError."""
        return open_source(
            self.path, self.name, atomic_shells, self.basis, stated=self.stated, unit=self.unit
        )


def atomic_shells(numbers: np.ndarray, basis: str) -> Shells:
    """Angular momenta of the shells of atoms in a Gaussian basis.

    Args:
        numbers: Atomic numbers.
        basis: Name or text.

    Returns:
        One tuple per atom, in PySCF's order.

    Raises:
        InputError: If the basis lacks an element.
    """
    return tuple(_shells_of_element(int(z), basis) for z in numbers)


def with_overlap(record: Record) -> Record:
    """A molecule of a Gaussian basis with its overlap, where its file has none.

    Args:
        record: A structure and its matrices.

    Returns:
        The record; as it is where it has an overlap or states no basis.
    """
    structure, matrices = record.structure, record.matrices
    basis = matrices.facts.get("basis", NUMERICAL)
    if matrices.overlap is not None or structure.lattice is not None or basis == NUMERICAL:
        return record
    molecule = Molecule(
        numbers=structure.numbers,
        coords=structure.coords,
        charge=structure.charge,
        spin=structure.spin,
    )
    overlap = build_mole(molecule, basis=basis).intor("int1e_ovlp")
    blocks = BlockMatrix.from_dense(torch.from_numpy(overlap), matrices.sizes)
    return Record(structure, dataclasses.replace(matrices, overlap=blocks))


@functools.cache
def _shells_of_element(number: int, basis: str) -> tuple[int, ...]:
    symbol = chemical_symbols[number]
    shells = shells_of(basis, symbol)
    if shells is None:
        valid_basis(basis, [number])  # says why
    # one electron: a basis for pseudopotentials has too few functions for all of them
    atom = gto.M(
        atom=[(symbol, (0.0, 0.0, 0.0))],
        basis={symbol: shells},
        charge=number - 1,
        spin=1,
        verbose=0,
    )
    return shell_ls(atom)[0]


def molecules_of(
    opened: Opened,
    limit: int | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> tuple[list[Molecule], list[dict[str, Any]]]:
    """The structures of a file as molecules.

    Args:
        opened: The file.
        limit: How many of its structures; None takes all.
        expired: Tells whether a time limit is over.

    Returns:
        The molecules, ``frame`` their place in the file, and those that cannot be used ({file,
        frame, error}).

    Raises:
        ComputationError: If the time is over before the last one.
    """
    source, molecules, failed = opened.source(), [], []
    count = len(source) if limit is None else min(limit, len(source))
    for index in range(count):
        if expired():
            raise time_is_over(f"reading {opened.path}, {index} of its structures were read")
        try:
            structure = source.structure(index)
            _check_molecule(structure)
        except InputError as error:
            text = str(error).removeprefix(f"{source.place(index)}: ")
            failed.append({"file": str(opened.path), "frame": index, "error": text})
            continue
        molecules.append(
            Molecule(
                numbers=structure.numbers,
                coords=structure.coords,
                charge=structure.charge,
                spin=structure.spin,
                file=str(opened.path),
                frame=index,
            )
        )
    return molecules, failed


def _check_molecule(structure: Structure) -> None:
    if structure.lattice is not None:
        raise InputError(
            f"expected a molecule, got a crystal; leave {argument('basis')} out to keep its "
            "matrices"
        )
    check_contacts(structure.numbers, structure.coords * BOHR_IN_ANGSTROM, insist=True)


@dataclasses.dataclass(frozen=True)
class _ConvertJob:
    """What is done with one molecule, in any process."""

    config: ConvertConfig
    opened: Opened
    order: str

    @property
    def verbose(self) -> int:
        return self.config.runtime.verbose

    def start(self, threads: int) -> Compute:
        """Open the file."""
        device = start_process(self.config.runtime, threads).device
        return functools.partial(self._compute, self.opened.source(), device)

    def _compute(
        self,
        source: Source,
        device: torch.device,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
    ) -> JobRecord:
        del warn
        name, ks, found = _read(source, molecule, self.config, device, first=self.order)
        arrays, energy = _label_arrays(molecule, ks, found), float(found.built.energy)
        record = structure_record(
            molecule,
            certificate=ks.certificate(found.dm, found.built.fock, energy, coupled=False),
            dipole=ks.dipole(found.dm).cpu().numpy(),
            n_electrons=float(found.built.n_electrons),
            spin_square=None,
            residual_mae=float((found.fock - found.built.fock).abs().mean()),
            converged=True,
        )
        facts = {"source_id": name, "source_ao_order": found.order, "deviation": found.deviation}
        attributes = method_attributes(molecule, ks.info.method)
        return JobRecord(
            index=index,
            digest=digest(molecule),
            arrays=arrays,
            attributes=attributes | {"energy": energy, "converged": True} | facts,
            entry=record | facts,
            auxbasis=ks.info.auxbasis,
            fock_builds=ks.fock_builds,
            coarse_builds=ks.coarse_builds,
        )


def _understood(
    opened: Opened,
    molecule: Molecule,
    config: ConvertConfig,
    device: torch.device,
    reporter: Reporter,
) -> tuple[Opened, Understood]:
    """How the file is read, from its first molecule; some programs forget to leave hartree."""
    try:
        return opened, _read(opened.source(), molecule, config, device)[2]
    except InputError:
        if opened.unit is not None or opened.name not in _UNSURE:
            raise
        other = dataclasses.replace(opened, unit="hartree")
        try:
            found = _read(other.source(), molecule, config, device)[2]
        except InputError:
            found = None
        if found is None:
            raise
        reporter.warning(f"{opened.path}: the energies are in hartree, not in eV as in its format")
        return other, found


def _read(
    source: Source,
    molecule: Molecule,
    config: ConvertConfig,
    device: torch.device | str,
    *,
    first: str | None = None,
) -> tuple[str, KohnSham, Understood]:
    """A molecule's name, layer and matrix; the order of the others is tried first."""
    mol = build_mole(molecule, basis=config.basis)
    shells = shell_ls(mol)
    matrices = source.matrices(molecule.frame)
    if matrices.shells != shells:
        raise InputError(
            f"expected the shells of {label_of(config.basis)}, got those of another basis set "
            f"({_shells_in_words(matrices.shells)}); give the "
            f"{argument('basis')} it is in"
        )
    check_matrix(matrices.fock, "H")
    ls = [l for atom in shells for l in atom]
    stored = matrices.fock.hermitian().to_dense().numpy()
    own = first or source.order
    orders = [own, *(order for order in AO_ORDERS if order != own)]
    if matrices.overlap is not None:
        check_matrix(matrices.overlap, "S")
        every = [own, *(order for order in SHELL_ORDERS if order != own)]
        overlap = matrices.overlap.to_dense().numpy()
        orders = [order_of_overlap(ls, overlap, mol.intor("int1e_ovlp"), every)]
    ks = kohn_sham(molecule, config.solved, Means(device), mol=mol)
    name = source.structure(molecule.frame).name
    return name, ks, understand(ks, ls, stored, orders=orders, agreement=config.agreement)


def _shells_in_words(shells: Shells) -> str:
    """The first of them as chemists write them: 3s2p1d, 2s1p."""
    words = []
    for ls in dict.fromkeys(shells):
        counts = [(list(ls).count(l), "spdfghiklmnoq"[l]) for l in sorted(set(ls))]
        words.append("".join(f"{n}{letter}" for n, letter in counts))
    return ", ".join(words[:4])


def _label_arrays(molecule: Molecule, ks: KohnSham, found: Understood) -> dict[str, np.ndarray]:
    """Datasets of a label: the stored matrix and what follows from it without the build."""
    orbitals = ks.orbitals(found.fock)
    tensors: dict[str, Tensor] = {
        "overlap": ks.data.ovlp,
        "fock": found.fock,
        "density": found.dm,
        "mo_energy": orbitals.mo_energy,
        "mo_occ": orbitals.mo_occ,
    }
    arrays = {key: np.asarray(value.cpu()) for key, value in tensors.items()}
    return {"numbers": molecule.numbers, "positions": molecule.coords, **arrays}


def run_import(
    opened: Opened,
    molecules: Sequence[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    config: ConvertConfig,
    *,
    reporter: Reporter,
    command: str,
    resume: bool = False,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Turn matrices of a Gaussian basis into labels.

    The first molecule decides whether the file is understood: if it is not, nothing is written.

    Args:
        opened: The file.
        molecules: Its molecules.
        failed: Rows that could not be read ({file, frame, error}).
        out: HDF5 file to write, with a JSON summary beside it.
        config: What the file does not say, device, threads, processes, time limit.
        reporter: Progress and warnings.
        command: Command line, for the record.
        resume: Go on with what an earlier call left unfinished.
        overwrite: Else replace what is there; False refuses.

    Returns:
        The summary; entries have ``source_id``, ``source_ao_order``, ``deviation``: |H - F[P(H)]|.

    Raises:
        InputError: If the file is not of this basis, functional and layout.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)
    source = opened.source()
    try:
        opened, found = _understood(opened, molecules[0], config, settings.device, reporter)
    except InputError as error:
        where = source.place(molecules[0].frame)
        text = str(error).removeprefix(molecules[0].where).removeprefix(f"{where}: ")
        raise InputError(f"{where}: {text}") from None
    facts = config.model_dump(mode="json", exclude={"runtime", "workers", "first"})
    return run_batch(
        _ConvertJob(config, opened, found.order),
        molecules,
        failed,
        out,
        facts=facts,
        method=config.solved,
        state=State(),
        runtime=settings,
        reporter=reporter,
        command=command,
        description="convert",
        workers=config.workers,
        resume=resume,
        overwrite=overwrite,
    )
