"""The loop that ``predict`` and ``label`` share: structure by structure, files that always end."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.files import json_beside, write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.reporting import Task as ProgressTask
from deeph_zero.host.runtime import Runtime, stop_reason
from deeph_zero.host.signals import interruptible
from deeph_zero.jobs.journal import Journal
from deeph_zero.jobs.tasks import Tasks
from deeph_zero.jobs.workers import Job, Outcome, outcomes
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.ks.counts import Builds
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule, State
from deeph_zero.predict.record import summary, warn_hints, warn_outside
from deeph_zero.settings.config import LabelConfig, PredictConfig
from deeph_zero.settings.evaluate_config import EvaluateConfig

FEED = 16
"""Processes that make integrals, unless more are asked for: small molecules as fast as a card."""
WORTH_A_PROCESS = 8
"""Structures whose integrals take as long as the start of a process, roughly."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """Where structures are computed.

    Attributes:
        ray: "ray" or "ray:ADDRESS"; empty: in processes of this machine.
        threads: CPU threads of each task of Ray.
        at_once: What ``workers`` says: tasks of Ray at a time, processes that make integrals for
            a device; None: as many as there are CPUs for. 0: nothing is made for a device.
    """

    ray: str = ""
    threads: int = 1
    at_once: int | None = None

    @classmethod
    def of(cls, config: LabelConfig | PredictConfig | EvaluateConfig) -> "Engine":
        """What the settings ask for; ``workers`` and ``threads`` count where they were given."""
        asked = None
        if not isinstance(config, EvaluateConfig) and "workers" in config.model_fields_set:
            asked = config.workers
        ray = "" if config.engine == "local" else config.engine
        return cls(ray=ray, threads=config.runtime.threads or 1, at_once=asked)


LOCAL = Engine(at_once=0)


@dataclasses.dataclass
class _Progress:
    """When a batch began, why it ended, and what failed on the way."""

    started: float = dataclasses.field(default_factory=time.monotonic)
    failed: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    stopped_by: str | None = None


def run_batch(
    job: Job,
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    *,
    facts: Mapping[str, Any],
    method: Method,
    state: State,
    runtime: Runtime,
    reporter: Reporter,
    command: str,
    description: str,
    workers: int = 1,
    engine: Engine = LOCAL,
    resume: bool = False,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Compute every structure and write ``out`` and the JSON beside it.

    Results are kept in a journal (``out.h5.part``) as they come, and written in order at the end.
    What fails is listed under ``failed``. Deadline and Ctrl-C are acted on between structures, a
    second Ctrl-C at once, with complete files. The journal stays as long as a result is missing.

    Args:
        job: What to do with one structure.
        molecules: The structures.
        failed: Frames that could not be read, listed first.
        out: HDF5 file.
        facts: What the results depend on, by name; compared by ``resume``.
        method: The problem, for the record.
        state: Charge and spin of structures that state none, for the record.
        runtime: Device, threads, seed, deadline.
        reporter: Progress.
        command: Command line, for the record.
        description: Text beside the progress bar, and the command a journal is of.
        workers: Processes that compute.
        engine: Where they are.
        resume: Go on with the journal that is there.
        overwrite: Else replace what is there.

    Returns:
        The summary.

    Raises:
        InputError: If the journal is of something else, or a process cannot load the model.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    progress = _Progress()
    total = len(molecules) if isinstance(molecules, Sized) else None
    journal = Journal(out, {"command": description, **facts}, resume=resume, overwrite=overwrite)
    complete = False
    try:
        _check_journal(journal, molecules)
        with interruptible(reporter.warning) as interrupt:
            open_ones = (task for task in enumerate(molecules) if task[0] not in journal)
            tasks = Tasks(open_ones, lambda: stop_reason(interrupt, runtime.deadline))
            with reporter.task(description, total) as task:
                task.skip(len(journal))
                left = None if total is None else total - len(journal)
                found = stream(job, tasks, engine, (workers, left), runtime)
                _collect(found, journal, progress, reporter, task)
            progress.stopped_by = progress.stopped_by or tasks.stopped_by
            with _kept(journal):
                found = _write(journal, out, progress, failed, reporter, method=method)
                result = summary(
                    **found, command=command, state=state, runtime=runtime, started=progress.started
                )
                write_json(json_beside(out), result)
            interrupt.settle(progress.stopped_by)
            complete = not (progress.stopped_by or (progress.failed and len(journal)))
    finally:
        # where something goes wrong before the first result, nothing is left behind
        journal.close(remove=complete or not (journal or resume or progress.stopped_by))
    if progress.stopped_by == "interrupt":
        raise KeyboardInterrupt
    return result


def stream(
    job: Job,
    tasks: Tasks,
    engine: Engine,
    workers: tuple[int, int | None],
    runtime: Runtime,
) -> Iterator[Outcome]:
    """Outcomes of processes here (of no more than there are structures), or of a cluster.

    Args:
        job: What to do with one structure.
        tasks: The structures.
        engine: Where they are computed.
        workers: Processes here, and how many structures there are, if that is known.
        runtime: Threads of the processes here.

    Returns:
        The outcomes as they come.
    """
    if not engine.ray:
        most, left = workers
        few = most if left is None else max(1, min(most, left))
        ahead = _ahead(engine, left, runtime) if gains_together(runtime.device) else 0
        return outcomes(job, tasks, workers=few, threads=runtime.threads, ahead=ahead)
    from deeph_zero.jobs.ray_engine import ray_outcomes

    return ray_outcomes(
        job, tasks, engine=engine.ray, threads=engine.threads, at_once=engine.at_once
    )


def _ahead(engine: Engine, left: int | None, runtime: Runtime) -> int:
    """Processes that make integrals for a device, of so many structures."""
    if engine.at_once is None:
        most = min(FEED, runtime.threads - 1)  # one thread is for the device
        return most if left is None else min(most, left // WORTH_A_PROCESS)
    return engine.at_once if left is None else min(engine.at_once, left)


@contextlib.contextmanager
def _kept(journal: Journal) -> Iterator[None]:
    """Where the files cannot be written, say that nothing of the work is lost."""
    try:
        yield
    except ComputationError as error:
        if len(journal) and str(error).endswith("run it again"):
            raise type(error)(f"{error} with {argument('resume', True)}") from None
        raise


def _check_journal(journal: Journal, molecules: Iterable[Molecule]) -> None:
    """Every result is of the structure that has its place now."""
    if len(journal) == 0:
        return
    if not isinstance(molecules, Sized):
        raise InputError(
            f"{argument('resume', True)}: expected a list of structures, got a stream; leave it out"
        )
    journal.check_count(len(molecules))
    for index, molecule in enumerate(molecules):
        journal.check(index, molecule)


def _collect(
    found: Iterator[Outcome],
    journal: Journal,
    progress: _Progress,
    reporter: Reporter,
    task: ProgressTask,
) -> None:
    """Keep what comes."""
    try:
        with contextlib.closing(found):  # pyright: ignore[reportArgumentType]
            for outcome in found:
                index, molecule = outcome.task
                for text in outcome.warnings:
                    reporter.warning(text)
                if outcome.data is not None:
                    journal.append(index, outcome.digest, outcome.data)
                elif outcome.error is not None:
                    progress.failed[index] = outcome.error
                    reporter.warning(molecule.where + outcome.error["error"])
                task.advance()
    except KeyboardInterrupt:  # the second one: what was being computed is given up
        progress.stopped_by = "interrupt"


def _write(
    journal: Journal,
    out: Path,
    progress: _Progress,
    failed: list[dict[str, Any]],
    reporter: Reporter,
    *,
    method: Method,
) -> dict[str, Any]:
    """The HDF5 file, and what the summary says of the structures."""
    structures: list[dict[str, Any]] = []
    auxbasis: dict[str, None] = {}
    builds = Builds()
    with PredictionWriter(out) as writer:
        for record in journal.records():
            writer.write(record.arrays, record.attributes)
            structures.append(record.entry)
            builds += Builds(record.fock_builds, record.coarse_builds)
            if record.auxbasis is not None:
                auxbasis[record.auxbasis] = None
    if not method.smearing:  # fractional occupations are what was asked for
        _warn_degenerate(structures, reporter)
    warn_hints(structures, reporter)
    warn_outside(structures, reporter)
    return {
        "stopped_by": progress.stopped_by,
        "failed": [*failed, *(progress.failed[k] for k in sorted(progress.failed))],
        "method": method.fitted_with(" / ".join(auxbasis) or None),
        "structures": structures,
        "builds": builds,
    }


def _warn_degenerate(structures: list[dict[str, Any]], reporter: Reporter) -> None:
    """Once for the whole batch."""
    found = [entry for entry in structures if entry.get("degenerate")]
    if found:
        first = found[0]
        reporter.warning(
            f"{first['file']} frame {first['frame']}: the ground state is degenerate "
            f"({len(found)} of {len(structures)} structures): its frontier level is filled evenly, "
            f"which is not a single determinant; see {argument('break_symmetry')} of fit and label"
        )


def check_finite(value: float, what: str) -> float:
    """The value, unless it is NaN or infinite.

    Args:
        value: A number.
        what: Its name.

    Returns:
        The value.

    Raises:
        ComputationError: If it is not finite.
    """
    if not abs(value) < float("inf"):
        raise ComputationError(f"expected a finite {what}, got {value}; check the geometry")
    return value
