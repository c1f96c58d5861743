"""``deeph-zero convert``: Fock matrices of foreign databases as labels, and labels as theirs.

Nothing in such a file says how its AOs are ordered or which functional was used. Both are found
out: a converged Fock matrix is the one its own density gives back, H = F[P(H)], and only in the
right order, basis and functional. One Fock build per molecule, which the label's energy needs
anyway.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ao.convention import AO_ORDERS, stored_order
from deeph_zero.data.labels import LabelStore
from deeph_zero.data.qh9 import Matrices, write_qh9
from deeph_zero.errors import InputError
from deeph_zero.host import runtime
from deeph_zero.host.files import atomic_path
from deeph_zero.host.reporting import Reporter
from deeph_zero.integrals.mole import build_mole, place, shell_ls
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.loop import run_batch
from deeph_zero.jobs.workers import Compute, start_process
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.build import FockBuild
from deeph_zero.molecule import Molecule
from deeph_zero.predict.record import method_attributes, structure_record
from deeph_zero.prepared import kohn_sham
from deeph_zero.settings.convert_config import ConvertConfig
from deeph_zero.types import AOMatrix
from deeph_zero.units import BOHR_IN_ANGSTROM


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


def ao_places(ls: Iterable[int], order: str) -> Int[np.ndarray, " nao"]:
    """Where each AO of PySCF's order is in a matrix of another order.

    Args:
        ls: Angular momentum of every shell, in order.
        order: One of :data:`deeph_zero.ao.convention.AO_ORDERS`.

    Returns:
        ``places`` with ``pyscf = stored[places][:, places]``.
    """
    stored: list[int] = []
    for l in ls:
        start = len(stored)
        stored.extend(start + k for k in stored_order(l, order))
    return np.argsort(np.array(stored, dtype=np.int64))


def understand(
    ks: KohnSham,
    ls: Sequence[int],
    stored: Float[np.ndarray, "nao nao"],
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
        places = ao_places(ls, order)
        fock = torch.from_numpy(stored[np.ix_(places, places)].copy()).to(ks.data.ovlp)
        dm = ks.density(fock)
        built = ks.build(dm)
        found = Understood(order, fock, dm, built, float((fock - built.fock).abs().max()))
        if found.deviation < agreement:
            return found
        tried.append(found)
    best = min(tried, key=lambda found: found.deviation)
    raise InputError(
        f"expected a Fock matrix that its own density gives back within {agreement:g} Eh, got "
        f"{best.deviation:.1e} Eh in the AO order {best.order!r}, the best of {', '.join(orders)}; "
        "give the --xc, --basis and --grid-level it was made with"
    )


@dataclasses.dataclass(frozen=True)
class _ConvertJob:
    """What is done with one molecule, in any process."""

    config: ConvertConfig
    source: Path
    order: str

    @property
    def verbose(self) -> int:
        return self.config.runtime.verbose

    def start(self, threads: int) -> Compute:
        """Open the database."""
        device = start_process(self.config.runtime, threads).device
        return functools.partial(self._compute, Matrices(self.source), device)

    def _compute(
        self,
        matrices: Matrices,
        device: torch.device,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
    ) -> Record:
        del warn
        name, ks, found = _read(matrices, molecule, self.config, device, first=self.order)
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
        attributes = method_attributes(molecule, self.config.method, ks.info.auxbasis)
        return Record(
            index=index,
            digest=digest(molecule),
            arrays=arrays,
            attributes=attributes | {"energy": energy, "converged": True} | facts,
            entry=record | facts,
            auxbasis=ks.info.auxbasis,
            fock_builds=ks.fock_builds,
            coarse_builds=ks.coarse_builds,
        )


def _read(
    matrices: Matrices,
    molecule: Molecule,
    config: ConvertConfig,
    device: torch.device | str,
    *,
    first: str = AO_ORDERS[0],
) -> tuple[str, KohnSham, Understood]:
    """A molecule's name, layer and matrix; the order of the others is tried first."""
    mol = build_mole(molecule, basis=config.basis)
    ls = [l for atom in shell_ls(mol) for l in atom]
    name, stored = matrices.read(molecule.frame, int(mol.nao))
    ks = kohn_sham(molecule, config.method, device=device, mol=mol)
    orders = (first, *(order for order in AO_ORDERS if order != first))
    return name, ks, understand(ks, ls, stored, orders=orders, agreement=config.agreement)


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
    source: Path,
    molecules: Sequence[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    config: ConvertConfig,
    *,
    reporter: Reporter,
    command: str,
    resume: bool = False,
) -> dict[str, Any]:
    """Turn a database in QH9's layout into labels.

    The first molecule decides whether the file is understood: if it is not, nothing is written.

    Args:
        source: The database.
        molecules: Its molecules.
        failed: Rows that could not be read ({file, frame, error}).
        out: HDF5 file to write, with a JSON summary beside it.
        config: What the file does not say, device, threads, processes, time limit.
        reporter: Progress and warnings.
        command: Command line, for the record.
        resume: Go on with what an earlier call left unfinished.

    Returns:
        The summary; every entry has ``source_id``, ``source_ao_order`` and ``deviation``, the
        largest |H - F[P(H)]| in hartree.

    Raises:
        InputError: If the file is not of this basis, functional and layout.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)
    try:
        _, _, found = _read(Matrices(source), molecules[0], config, settings.device)
    except InputError as error:
        text = str(error).removeprefix(place(molecules[0]))
        raise InputError(f"{source} frame {molecules[0].frame}: {text}") from None
    facts = config.model_dump(mode="json", exclude={"runtime", "workers", "first"})
    return run_batch(
        _ConvertJob(config, source, found.order),
        molecules,
        failed,
        out,
        facts=facts,
        method=config.method,
        runtime=settings,
        reporter=reporter,
        command=command,
        description="convert",
        workers=config.workers,
        resume=resume,
    )


def run_export(source: Path, out: Path, *, first: int | None = None) -> tuple[int, set[str]]:
    """Write labels as a database in QH9's layout.

    Args:
        source: HDF5 file of ``deeph-zero label``.
        out: The database; appears as a whole.
        first: Number of labels to write; None writes all.

    Returns:
        Number of molecules, and every "functional/basis" among them, which the layout cannot say.

    Raises:
        InputError: If a label cannot be read, is charged or of an open shell.
        ComputationError: If the file cannot be written.
    """
    store = LabelStore([source])
    molecules = store.molecules
    count = len(store) if first is None else min(first, len(store))
    methods = {f"{store.method(k).xc}/{store.method(k).basis}" for k in range(count)}

    def rows() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for k in range(count):
            molecule, label = molecules[k], store.read(k)
            if molecule.charge != 0 or label.fock.ndim == 3:
                raise InputError(
                    f"{store.place(k)}: expected a neutral closed shell, got charge "
                    f"{molecule.charge}, spin {molecule.spin}; the layout of QH9 holds no other"
                )
            yield molecule.numbers, molecule.coords * BOHR_IN_ANGSTROM, label.fock.numpy()

    with atomic_path(out) as temporary:
        written = write_qh9(temporary, rows())
    return written, methods
