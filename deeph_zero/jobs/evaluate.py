"""``deeph-zero evaluate``: a model's errors against reference data, structure by structure."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.data.labels import Label, LabelStore, check_labels, label_for
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.files import remove_abandoned, write_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.reporting import Task as ProgressTask
from deeph_zero.host.runtime import Runtime, stop_reason
from deeph_zero.host.saying import Naming
from deeph_zero.host.signals import interruptible
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.integrals.portable import Portable
from deeph_zero.jobs.chunks import OfModel
from deeph_zero.jobs.compare import compare
from deeph_zero.jobs.crystal_evaluate import NAMES as CRYSTAL_NAMES
from deeph_zero.jobs.crystal_evaluate import evaluate_crystal
from deeph_zero.jobs.crystals import elements_of
from deeph_zero.jobs.journal import Record, decode, digest
from deeph_zero.jobs.loop import Engine, check_finite, stream
from deeph_zero.jobs.tasks import Task, Tasks
from deeph_zero.jobs.unconverged import advice_of_reference
from deeph_zero.jobs.workers import Compute, Outcome, start_process
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.copies import to_device
from deeph_zero.ks.counts import Builds, total
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.method import Method
from deeph_zero.model import CrystalModel, Model, load_any
from deeph_zero.model_files.meta import asked_state
from deeph_zero.molecule import Molecule
from deeph_zero.predict.agreement import check_elements
from deeph_zero.predict.answer import Asked
from deeph_zero.predict.record import summary, warn_outside
from deeph_zero.predict.refined_together import results_on_host
from deeph_zero.predict.single import Prediction
from deeph_zero.settings.evaluate_config import EvaluateConfig

NAMES = ("energy_error", "dipole_error", "subspace_distance", "fock", "rebuilt", "estimates")
"""What is averaged over molecules."""


@dataclasses.dataclass(frozen=True)
class _EvaluateJob:
    """What is done with one structure, in any process."""

    model_path: str
    label_files: tuple[str, ...]
    config: EvaluateConfig
    model: Model | CrystalModel | None = None
    """The loaded model; other processes load their own."""
    labels: LabelStore | CrystalLabels | None = None
    """Likewise."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"model": None, "labels": None}

    @property
    def verbose(self) -> int:
        return self.config.runtime.verbose

    def start(self, threads: int) -> Compute:
        """Load model and labels, where this process has not."""
        model, labels = self.model, self.labels
        if model is None:
            device = start_process(self.config.runtime, threads).device
            model = load_any(self.model_path, device=device)
            if self.label_files and isinstance(model, CrystalModel):
                labels = CrystalLabels(list(self.label_files))
            elif self.label_files:
                labels = LabelStore(self.label_files, skip_bad=True)
        model.iterate_on(two_grids=self.config.two_grids)
        if isinstance(model, Model):
            assert not isinstance(labels, CrystalLabels)
            return _Rows(model, labels, self.config)
        assert not isinstance(labels, LabelStore)

        naming = Naming()

        def compute(index: int, molecule: Molecule, warn: Callable[[str], None]) -> Record:
            del warn
            with naming.of(molecule.where, elements_of(molecule)):
                row = evaluate_crystal(model, molecule, labels, self.config)
            return _record((index, molecule), row)

        return compute


@dataclasses.dataclass(frozen=True)
class _Rows(OfModel):
    """What is done with molecules: predictions and SCFs of several on a GPU in one call."""

    labels: LabelStore | None
    config: EvaluateConfig

    @property
    def at_once(self) -> int:
        """Several molecules on a GPU."""
        return self.model.room.most if self.model.gains_together else 1

    def order(self, molecule: Molecule) -> Order:
        """All integrals."""
        check_elements(molecule, self.model.elements)
        return Order(molecule=molecule, method=self.model.method)

    def several(
        self,
        tasks: Sequence[Task],
        warns: Sequence[Callable[[str], None]],
        portables: Sequence[Portable | None],
    ) -> list[Record]:
        """Records of several molecules from one call."""
        del warns
        model, config, molecules = self.model, self.config, [one for _, one in tasks]
        found, made = model.predict_batch(molecules, Asked(), portables)
        batch, near = made.batch, [own.ks for own in made.prepared]
        assert batch is not None
        labels = [
            None
            if self.labels is None
            else label_for(self.labels, molecule, ks.info.method, prediction.fock.shape)
            for molecule, ks, prediction in zip(molecules, near, found, strict=True)
        ]
        cold = warm = None
        labelled = [one is not None for one in labels]
        if config.scf or not all(labelled):
            cold = _scfs(batch, None, config, labelled)
        if config.scf:
            dms = to_device([one.dm for one in found], model.device)
            warm = _scfs(batch, dms, config, labelled)
        records: list[Record] = []
        for k, (task, far) in enumerate(zip(tasks, batch.layers, strict=True)):
            label, reference = labels[k], None if cold is None else cold[k]
            if label is None:
                assert reference is not None
                label = _as_label(reference)
            row = _row(model, task[1], (found[k], near[k]), label)
            if warm is not None and reference is not None:
                row["scf"] = self._saved(reference, warm[k])
            records.append(_record(task, row | _ended(found[k], far)))
        return records

    def _saved(self, cold: SCFResult, warm: SCFResult) -> dict[str, Any]:
        return _saved(cold, warm, spent=self.model.network.spec.inputs == "physics")

    def __call__(
        self,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
        portable: Portable | None = None,
    ) -> Record:
        """The record of one molecule."""
        del warn
        row = _evaluate(self.model, molecule, self.labels, self.config, portable)
        return _record((index, molecule), row)


def _record(task: Task, row: dict[str, Any]) -> Record:
    return Record(
        index=task[0],
        digest=digest(task[1]),
        arrays={},
        attributes={},
        entry=row,
        auxbasis=None,
        fock_builds=row["fock_builds"],
        coarse_builds=row["coarse_builds"],
    )


def run_evaluate(
    model: Model | CrystalModel,
    molecules: Sequence[Molecule],
    failed: list[dict[str, Any]],
    out: Path | None,
    config: EvaluateConfig,
    *,
    labels: LabelStore | CrystalLabels | None,
    settings: Runtime,
    reporter: Reporter,
    command: str,
    model_path: str | Path = "",
    label_files: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare a model with converged reference values.

    With ``config.scf`` two SCFs per structure: from atomic densities and from the prediction.

    Args:
        model: The model.
        molecules: Structures.
        failed: Frames that could not be read ({file, frame, error}).
        out: JSON file to write; None writes none.
        config: SCF settings.
        labels: Reference values; a structure without one gets this package's own SCF.
        settings: Device, threads, seed, deadline.
        reporter: Progress and warnings.
        command: Command line, for the record.
        model_path: Where the workers of a cluster find ``model``.
        label_files: Where they find ``labels``.

    Returns:
        The evaluation, as written: ``errors`` (over all structures) and ``structures``.

    Raises:
        InputError: If a worker of a cluster cannot load model or labels.
        ComputationError: If the file cannot be written, or there is no such cluster.
        KeyboardInterrupt: After Ctrl-C, with the file written for what was done.
    """
    started = time.monotonic()
    failed = list(failed)
    if out is not None:
        remove_abandoned(out)
    job = _EvaluateJob(str(model_path), tuple(label_files), config, model, labels)
    with interruptible(reporter.warning) as interrupt:
        stop = lambda: stop_reason(interrupt, settings.deadline)  # noqa: E731
        with reporter.task("evaluate", len(molecules)) as task:
            tasks = Tasks(enumerate(molecules), stop)
            engine, workers = Engine.of(config), (1, len(molecules))
            found = stream(job, tasks, engine, workers, settings)
            rows, interrupted = _rows(found, failed, reporter=reporter, task=task)
            stopped_by = "interrupt" if interrupted else tasks.stopped_by
        warn_outside(rows, reporter)
        result = summary(
            command=command,
            method=model.method.fitted_with(model.meta.get("auxbasis")),
            state=asked_state(model.state, charge=config.charge, spin=config.spin),
            runtime=settings,
            started=started,
            structures=rows,
            failed=failed,
            stopped_by=stopped_by,
            builds=total(Builds(row["fock_builds"], row["coarse_builds"]) for row in rows),
        )
        names = CRYSTAL_NAMES if isinstance(model, CrystalModel) else NAMES
        result |= {"conv_tol": config.conv_tol, "errors": aggregate(rows, names)}
        if out is not None:
            write_json(out, result)
        interrupt.settle(stopped_by)
    if stopped_by == "interrupt":
        raise KeyboardInterrupt
    return result


def usable(
    molecules: Sequence[Molecule],
    failed: list[dict[str, Any]],
    labels: LabelStore | None,
    method: Method,
) -> tuple[list[Molecule], list[dict[str, Any]]]:
    """The structures that can be compared, before any work.

    Args:
        molecules: Structures that could be read.
        failed: Those that could not ({file, frame, error}).
        labels: Reference values; a damaged one costs its structure, not the others.
        method: What the labels must have been made with.

    Returns:
        Structures without a damaged label, and all failures.

    Raises:
        InputError: If nothing is left; the first reason.
    """
    if labels is None:
        return list(molecules), failed
    known = {(entry["file"], entry["frame"]) for entry in failed}
    new = {key: text for key, text in labels.bad.items() if key not in known}
    good = []
    for molecule in molecules:
        key = (molecule.file, molecule.frame)
        try:
            if key not in labels.bad:
                check_labels(labels, [molecule], method)
                labels.check(molecule)
                good.append(molecule)
        except InputError as error:
            new[key] = str(error).removeprefix(f"{molecule.file} frame {molecule.frame}: ")
    failed = failed + [{"file": f, "frame": k, "error": text} for (f, k), text in new.items()]
    if not good:
        first = failed[0]
        raise InputError(f"{first['file']} frame {first['frame']}: {first['error']}")
    return good, failed


def _rows(
    found: Iterator[Outcome],
    failed: list[dict[str, Any]],
    *,
    reporter: Reporter,
    task: ProgressTask,
) -> tuple[list[dict[str, Any]], bool]:
    """A row per structure that works, and whether the rest was given up; ``failed`` grows."""
    rows: dict[int, dict[str, Any]] = {}
    errors: dict[int, dict[str, Any]] = {}
    interrupted = False
    try:
        with contextlib.closing(found):  # pyright: ignore[reportArgumentType]
            for outcome in found:
                index, molecule = outcome.task
                if outcome.data is not None:
                    rows[index] = decode(outcome.data).entry
                elif outcome.error is not None:
                    errors[index] = outcome.error
                    reporter.warning(molecule.where + outcome.error["error"])
                task.advance()
    except KeyboardInterrupt:  # the second one: what is being computed is given up
        interrupted = True
    failed.extend(errors[k] for k in sorted(errors))
    return [rows[k] for k in sorted(rows)], interrupted


def _evaluate(
    model: Model,
    molecule: Molecule,
    labels: LabelStore | None,
    config: EvaluateConfig,
    portable: Portable | None,
) -> dict[str, Any]:
    """One row of the table."""
    prediction, ks = model.predict_layer(molecule, portable=portable)
    label = None
    if labels is not None:
        label = label_for(labels, molecule, ks.info.method, prediction.fock.shape)
    assert prediction.energy is not None
    check_finite(prediction.energy, "energy")
    labelled = label is not None
    cold = _scf(ks, None, config, labelled=labelled) if config.scf or not labelled else None
    if label is None:
        assert cold is not None
        label = _as_label(cold)
    row = _row(model, molecule, (prediction, ks), label)
    if config.scf:
        assert cold is not None
        dm = prediction.dm.to(ks.data.ovlp.device)
        warm = _scf(ks, dm, config, labelled=labelled)
        row["scf"] = _saved(cold, warm, spent=model.network.spec.inputs == "physics")
    return row | _ended(prediction, ks)


def _row(
    model: Model, molecule: Molecule, found: tuple[Prediction, KohnSham], label: Label
) -> dict[str, Any]:
    """How far a prediction is from its label."""
    prediction, ks = found
    assert prediction.energy is not None
    assert prediction.certificate is not None
    check_finite(prediction.energy, "energy")
    shells = shell_ls(build_mole(molecule, basis=model.method.basis))
    return {
        "file": molecule.file,
        "frame": molecule.frame,
        "charge": molecule.charge,
        "spin": molecule.spin,
        "energy": prediction.energy,
        "reference_energy": label.energy,
        "energy_error_estimate": prediction.certificate.energy_error_estimate,
        "orbital_gradient_rms": prediction.certificate.orbital_gradient_rms,
        **compare(prediction, label, ks, shells),
    }


def _ended(prediction: Prediction, ks: KohnSham) -> dict[str, Any]:
    """The end of a row, of a layer that made the builds."""
    row: dict[str, Any] = {}
    if prediction.out_of_distribution:
        row["out_of_distribution"] = list(prediction.out_of_distribution)
    row["fock_builds"], row["coarse_builds"] = ks.fock_builds, ks.coarse_builds
    return row | {"converged": True}


def _as_label(done: SCFResult) -> Label:
    names = ("fock", "dm", "mo_energy", "mo_occ")
    return Label(**{name: getattr(done, name).cpu() for name in names}, energy=done.energy)


def _scfs(
    batch: KohnShamBatch, dms: Any, config: EvaluateConfig, labelled: Sequence[bool]
) -> list[SCFResult]:
    """Converged SCFs of several molecules in step; results on the processor."""
    settings = {"conv_tol": config.conv_tol, "max_cycle": config.max_cycle, "hint": False}
    found = results_on_host(batch.scf(dms, **settings))
    pairs = zip(found, labelled, strict=True)
    return [_converged(one, config, labelled=known) for one, known in pairs]


def _scf(ks: KohnSham, dm: Any, config: EvaluateConfig, *, labelled: bool) -> SCFResult:
    result = ks.scf(dm, conv_tol=config.conv_tol, max_cycle=config.max_cycle, hint=False)
    return _converged(result, config, labelled=labelled)


def _converged(result: SCFResult, config: EvaluateConfig, *, labelled: bool) -> SCFResult:
    if not result.converged:
        cure = advice_of_reference(result, max_cycle=config.max_cycle, labelled=labelled)
        raise ComputationError(
            f"the reference SCF did not converge in {result.iterations} cycles: {cure}"
        )
    return result


def _saved(cold: SCFResult, warm: SCFResult, *, spent: bool) -> dict[str, Any]:
    """Builds with and without the model; F0 counted where its inputs ``spent`` that."""
    builds = spent + warm.fock_builds
    return {
        "builds_minao": cold.fock_builds,
        "builds_model": builds,
        "iterations_minao": cold.iterations,
        "iterations_model": warm.iterations,
        "saved": 1.0 - builds / cold.fock_builds,
    }


def aggregate(rows: Sequence[dict[str, Any]], names: Sequence[str] = NAMES) -> dict[str, Any]:
    """Mean absolute value, root mean square and largest absolute value of every number.

    Args:
        rows: Entries of ``structures``.
        names: What is averaged.

    Returns:
        Nested like a row, with {mean, rms, max} in the place of each error. A structure counts
        once whatever its size; ``scf`` holds sums of builds and the part saved in all,
        ``covered`` the share of structures whose reference lies in its interval.
    """
    if not rows:
        return {}
    out: dict[str, Any] = {name: pooled([row[name] for row in rows]) for name in names}
    covered = [row["covered"] for row in rows if "covered" in row]
    if covered:
        out["covered"] = {n: sum(c[n] for c in covered) / len(covered) for n in covered[0]}
    counted = [row["scf"] for row in rows if "scf" in row]
    if counted:
        cold = sum(entry["builds_minao"] for entry in counted)
        warm = sum(entry["builds_model"] for entry in counted)
        out["scf"] = {"builds_minao": cold, "builds_model": warm, "saved": 1.0 - warm / cold}
    return out


def pooled(values: Sequence[Any]) -> Any:
    """Mean, root mean square and largest absolute value of numbers, dictionaries key by key.

    Args:
        values: One for each structure, all of one form.

    Returns:
        A value of this form, with {mean, rms, max} instead of numbers.
    """
    first = values[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: pooled([value[key] for value in values if key in value]) for key in keys}
    numbers = [abs(value) for value in values if value is not None]
    if not numbers:
        return {"mean": None, "rms": None, "max": None}
    square = sum(x * x for x in numbers) / len(numbers)
    return {"mean": sum(numbers) / len(numbers), "rms": square**0.5, "max": max(numbers)}
