"""``deeph-zero label``: converged reference data from this package's own SCF."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deeph_zero.host import runtime
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.saying import Naming
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.guess import density_guess
from deeph_zero.integrals.mole import build_mole
from deeph_zero.integrals.portable import Portable
from deeph_zero.jobs.crystals import label_crystal, summary_method
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.loop import Engine, check_finite, run_batch
from deeph_zero.jobs.tasks import Task
from deeph_zero.jobs.unconverged import advice
from deeph_zero.jobs.workers import Compute, start_process
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.ks.parallel.room import TOGETHER, Room
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.scf.start import starting_density
from deeph_zero.molecule import Molecule
from deeph_zero.predict.agreement import check_elements
from deeph_zero.predict.record import (
    dispersion_entry,
    hint_entry,
    label_arrays,
    method_attributes,
    structure_record,
)
from deeph_zero.predict.refined_together import instability, results_on_host
from deeph_zero.prepared.molecule import Means, kohn_sham
from deeph_zero.prepared.several import on_processor
from deeph_zero.settings.config import LabelConfig

if TYPE_CHECKING:
    from deeph_zero.model import Model


def _settings(config: LabelConfig) -> dict[str, Any]:
    """Settings of the SCF."""
    return {
        "conv_tol": config.conv_tol,
        "conv_tol_grad": config.conv_tol_grad,
        "max_cycle": config.max_cycle,
        "level_shift": config.level_shift,
        "leave_saddles": config.stability,
        "hint": False,
    }


def _prepared(
    molecule: Molecule,
    config: LabelConfig,
    device: torch.device | str,
    model: "Model | None",
    portable: Portable | None,
) -> tuple[KohnSham, Tensor]:
    """The layer and the density its SCF starts from."""
    method = config.solved
    if model is not None:
        return model.starting_layer(molecule, method, portable)
    mol = build_mole(molecule, basis=method.basis)
    ks = kohn_sham(molecule, method, Means(device), mol=mol, portable=portable)
    if config.init_guess == "minao":
        return ks, ks.data.dm_guess
    if config.init_guess == "core" and not method.break_symmetry:
        return ks, ks.from_layer(starting_density(ks.layer, "core"))
    guess = density_guess(
        mol,
        unrestricted=ks.unrestricted,
        break_symmetry=method.break_symmetry,
        recipe=config.init_guess,
    )
    return ks, guess.to(ks.data.ovlp)


@dataclasses.dataclass(frozen=True)
class _LabelJob:
    """What is done with one structure, in any process."""

    config: LabelConfig

    @property
    def verbose(self) -> int:
        return self.config.runtime.verbose

    def start(self, threads: int) -> Compute:
        """Load the model, if one gives the starts."""
        device = start_process(self.config.runtime, threads).device
        if self.config.model is None:
            return _Labels(self.config, device, None)
        from deeph_zero.model import load  # networks take a while to import

        model = load(self.config.model, device=device)
        model.check_starts(self.config.solved)
        return _Labels(self.config, device, model)


@dataclasses.dataclass(frozen=True)
class _Labels:
    """What is done with structures."""

    config: LabelConfig
    device: torch.device
    model: "Model | None"
    room: Room = dataclasses.field(default_factory=lambda: Room(TOGETHER))
    naming: Naming = dataclasses.field(default_factory=Naming)

    @property
    def at_once(self) -> int:
        """Several molecules on a GPU, whose SCFs run in step."""
        return self.room.most if gains_together(self.device) else 1

    def order(self, molecule: Molecule) -> Order | None:
        """All integrals of a molecule."""
        if molecule.periodic:
            return None
        if self.model is not None:
            check_elements(molecule, self.model.elements)
        return Order(molecule=molecule, method=self.config.solved)

    def several(
        self,
        tasks: Sequence[Task],
        warns: Sequence[Callable[[str], None]],
        portables: Sequence[Portable | None],
    ) -> list[Record]:
        """Records of several molecules from one call."""
        where = self.config, self.device, self.model
        each = zip(tasks, portables, strict=True)
        pairs = [_prepared(one, *where, portable) for (_, one), portable in each]
        layers = [ks for ks, _ in pairs]
        batch = KohnShamBatch(layers)
        found = batch.scf([dm for _, dm in pairs], **_settings(self.config))
        self.room.learn(len(tasks), scarce=batch.batch.scarce)
        each = zip(tasks, on_processor(layers), layers, results_on_host(found), warns, strict=True)
        return [self._record(task, (near, far), done, warn) for task, near, far, done, warn in each]

    def __call__(
        self,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
        portable: Portable | None = None,
    ) -> Record:
        """The record of one structure."""
        if molecule.periodic:
            return label_crystal(
                index, molecule, self.config, self.device, warn, naming=self.naming
            )
        ks, dm0 = _prepared(molecule, self.config, self.device, self.model, portable)
        result = ks.scf(dm0, **_settings(self.config))
        return self._record((index, molecule), (ks, ks), result, warn)

    def _record(
        self,
        task: Task,
        layers: tuple[KohnSham, KohnSham],
        result: SCFResult,
        warn: Callable[[str], None],
    ) -> Record:
        """Record of a result that lies where the first layer is; the second one makes builds."""
        (index, molecule), (near, far) = task, layers
        check_finite(result.energy, "SCF energy")
        if not result.converged:
            cure = advice(
                result,
                max_cycle=self.config.max_cycle,
                smearing=self.config.smearing,
                level_shift=self.config.level_shift,
            )
            warn(f"{molecule.where}SCF not converged after {result.iterations} cycles: {cure}")
        entry = _entry(molecule, near, far, result)
        arrays, attributes = label_arrays(molecule, result, near.data.ovlp)
        method = far.info.method
        if method.smearing > 0:
            entry["free_energy"] = attributes["free_energy"] = result.free_energy
            attributes["smearing"] = method.smearing
        return Record(
            index=index,
            digest=digest(molecule),
            arrays={name: value for name, value in arrays.items() if value is not None},
            attributes=method_attributes(molecule, method) | attributes,
            entry=entry,
            auxbasis=method.fitting_set,
            fock_builds=far.fock_builds,
            coarse_builds=far.coarse_builds,
        )


def _entry(molecule: Molecule, near: KohnSham, far: KohnSham, result: SCFResult) -> dict[str, Any]:
    """The structure's entry of the summary."""
    count = result.n_electrons
    if count is None:
        count = far.n_electrons(result.dm.to(far.data.ovlp.device))
    record = structure_record(
        molecule,
        # uncoupled: at convergence the response build would refine an estimate of rounding
        certificate=near.certificate(result.dm, result.fock, result.energy, coupled=False),
        dipole=near.dipole(result.dm).cpu().numpy(),
        n_electrons=count,
        spin_square=near.spin_square(result.dm) if near.unrestricted else None,
        residual_mae=None,
        converged=result.converged,
    )
    if result.degenerate:
        record["degenerate"] = True
    if result.converged:
        record |= hint_entry(instability(near, far, result.dm, result.fock))
    return record | dispersion_entry(far.info)


def run_label(
    config: LabelConfig,
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: str | Path,
    *,
    reporter: Reporter,
    command: str,
    resume: bool = False,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Converge every structure; write ``out`` (HDF5) and the JSON summary beside it.

    Args:
        config: Method, tolerances, device, threads, processes, time limit.
        molecules: Structures, taken one at a time.
        failed: Frames that could not be read ({file, frame, error}).
        out: HDF5 file to write.
        reporter: Progress and warnings.
        command: Command line, for the record.
        resume: Go on with what an earlier call left unfinished; it ends as one call would have.
        overwrite: Else replace what is there; False refuses.

    Returns:
        The summary. An SCF that does not converge is a result, marked ``converged: false``.

    Raises:
        InputError: If what is to be gone on with was of other structures or settings, or results
            are there already.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)
    facts = config.model_dump(
        mode="json", exclude={"runtime", "workers", "engine", "skip_bad", "allow_close_contacts"}
    )
    return run_batch(
        _LabelJob(config),
        molecules,
        failed,
        Path(out),
        facts=facts.pop("method") | facts,
        method=summary_method(config, molecules),
        state=config.method.state,
        runtime=settings,
        reporter=reporter,
        command=command,
        description="label",
        workers=config.workers,
        engine=Engine.of(config),
        resume=resume,
        overwrite=overwrite,
    )
