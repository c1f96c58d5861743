"""After training: certificates at the network's own densities, predictions and summary."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host import runtime
from deeph_zero.host.files import write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.signals import interruptible
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.ks.counts import total
from deeph_zero.ks.parallel.room import Room
from deeph_zero.predict import single
from deeph_zero.predict.doubts import with_base
from deeph_zero.predict.intervals import with_intervals
from deeph_zero.predict.record import (
    bare_record,
    failure,
    method_attributes,
    prediction_arrays,
    prediction_record,
    summary,
    warn_hints,
)
from deeph_zero.predict.single import Prediction
from deeph_zero.prepared.molecule import Means, kohn_sham, same_data
from deeph_zero.train.calibrate import TOGETHER, calibration_entry, refine_some
from deeph_zero.train.certified import certified_together
from deeph_zero.train.module import FitModule
from deeph_zero.train.reserve import Ending, TrainingDeadline, fits
from deeph_zero.train.resume import SUMMARY_FILE, limits
from deeph_zero.train.run import Run
from deeph_zero.train.taught import Problem
from deeph_zero.train.team import Team

WORTH_MEASURING = 10
"""Certificates from which on one more of them is a small price for knowing what they take."""
_LITTLE = 0.05
"""Part of the time left that measuring may take."""


def training_deadline(run: Run, module: FitModule) -> TrainingDeadline:
    """When training has to end for the calibration, the certificates and the files to fit.

    Args:
        run: The run.
        module: The network and its geometries, about to be trained.

    Returns:
        What is asked after every step.
    """
    ending = Ending(
        certificates=len(_to_certify(run)),
        references=len(run.roles.held_out),
        passes=int(module.plan.ridge is not None),
        steps_per_pass=-(-len(module.problems) // module.plan.batch_size),
    )
    return TrainingDeadline(run.runtime.deadline, run.costs, ending)


def _to_certify(run: Run) -> list[Problem]:
    """What this process certifies: its frames and what measures, not displaced copies."""
    own = (*run.geometries.present, *run.geometries.validators)
    return [p for p in own if p.position is not None]


def measure(run: Run, module: FitModule) -> None:
    """Make one certificate and one refinement of many before training, to know what they take.

    Args:
        run: The run; nothing is measured without a time limit.
        module: The network before training.
    """
    if run.runtime.deadline.at is None or run.team is not None:
        return
    costs, little = run.costs, _LITTLE * run.runtime.deadline.remaining()
    costs.add("build", module.build_seconds)
    training = module.network.training
    with contextlib.suppress(ComputationError, InputError):
        todo = _to_certify(run)
        if len(todo) >= WORTH_MEASURING and costs.certificate < little:
            ks = todo[0].ks
            before = ks.builds
            _certify(run, module, todo[0])
            # metrics count the builds of training
            run.results.calibration_builds += ks.builds - before
            ks.builds = before
        if run.roles.held_out and costs.reference < little:
            refine_some(run, module, run.roles.held_out[:1])
    module.network.train(training)


_NEAR_ENOUGH = 1e-3
"""Orbital gradient (rms, Eh) up to which a density is looked at for a lower open shell."""


def certify_all(
    run: Run,
    module: FitModule,
    stopped_by: str,
    kept_out: Mapping[int, Prediction] | None = None,
) -> dict[str, Any]:
    """Write ``predictions.h5`` and ``summary.json``.

    The deadline and the first Ctrl-C are acted on between structures, a second Ctrl-C at once; both
    files are complete for what was done. In the last structure the first Ctrl-C changes nothing.

    Args:
        run: The run; its ``entries`` are filled.
        module: The trained network and its geometries.
        stopped_by: What ended training.
        kept_out: Predictions of the frames that calibrate, by position.

    Returns:
        The summary.

    Raises:
        ComputationError: If a file cannot be written, or every structure failed.
        KeyboardInterrupt: After Ctrl-C, with ``predictions.h5`` written.
    """
    if run.team is not None:
        return _certify_together(run, module, stopped_by, run.team, kept_out or {})
    ready = dict(kept_out or {})
    solved = (*run.geometries.present, *run.geometries.validators)
    own = {p.position: p for p in solved if p.position is not None}
    stored = {p.position: k for k, p in enumerate(solved) if p.position is not None}
    todo = [(k, m) for k, m in enumerate(run.molecules) if k in ready or k in own]
    coming = [stored.get(k) for k, _ in todo]
    certificates = _Certificates(run, module, [own[k] for k, _ in todo if k not in ready])
    failed_now = late = 0
    with (
        interruptible(run.reporter.warning) as interrupt,
        PredictionWriter(run.out / "predictions.h5") as writer,
        run.reporter.task("certificates", len(todo)) as task,
    ):
        for i, (k, molecule) in enumerate(todo):
            if interrupt.requested:
                break
            if k not in ready and (late or not _has_time(run)):
                late += 1
                continue
            run.geometries.look_ahead(coming, i)
            try:
                found = ready.get(k) or certificates.of(own[k])
                entry, group = _records(run, module, found)
            except ComputationError as error:
                failed_now += 1
                run.results.fail(failure(molecule, error))
                run.reporter.warning(f"{molecule.where}{run.results.failed[-1]['error']}")
            except KeyboardInterrupt:  # the second one: give this structure up
                break
            else:
                writer.write(*group)
                run.results.entries[k] = entry | run.roles.entry(k, calibrates=k in ready)
            task.advance()
        else:
            interrupt.settle("max_time" if late else None)
    _say_left_out(run, late, len(todo))
    result = write_summary(run, "max_time" if late else stopped_by)
    if failed_now == len(todo):
        raise ComputationError(f"every structure failed; see {run.out / SUMMARY_FILE}")
    return result


def _has_time(run: Run) -> bool:
    """For one more certificate; the first one is made whatever it takes."""
    return fits(run.runtime.deadline, run.costs, "certificate" if run.results.entries else "")


def _say_left_out(run: Run, late: int, of: int) -> None:
    """One line for everything that the time limit left out, certificates among it."""
    if late:
        run.results.left_out.append(f"certificates of {late} of {of} structures")
    if run.results.left_out:
        run.reporter.warning(
            f"the time limit left out {' and '.join(run.results.left_out)}; go on with "
            f"{argument('resume', True)} and a larger {argument('max_time')}"
        )


def _certify_together(
    run: Run,
    module: FitModule,
    stopped_by: str,
    team: Team,
    kept_out: Mapping[int, Prediction],
) -> dict[str, Any]:
    """Write predictions with several processes: each its own geometries, process 0 writes all."""
    results: list[tuple[int, dict[str, Any], Any]] = []
    for k, found in kept_out.items():
        entry, group = _records(run, module, found)
        results.append((k, entry | {"calibration": True}, group))
    todo = [p for p in run.geometries.present if p.position is not None]  # not displaced copies
    certificates = _Certificates(run, module, todo)
    for problem in todo:
        assert problem.position is not None
        if not fits(run.runtime.deadline, run.costs, "certificate"):
            stopped_by = "max_time"
            break
        try:
            entry, group = _records(run, module, certificates.of(problem))
        except ComputationError as error:
            entry, group = failure(problem.molecule, error), None
        results.append((problem.position, entry, group))
    reports = team.gather((results, stopped_by, total(p.ks.builds for p in run.geometries.present)))
    if not team.leads:
        return {}
    late = 0
    if any(report[1] == "max_time" for report in reports):
        stopped_by = "max_time"
        late = len(run.molecules) - sum(len(report[0]) for report in reports)
    module.remote_builds = total(report[2] for report in reports[1:])
    with PredictionWriter(run.out / "predictions.h5") as writer:
        done = (result for report in reports for result in report[0])
        for k, entry, group in sorted(done, key=lambda result: result[0]):
            if group is None:
                run.results.fail(entry)
                continue
            writer.write(*group)
            run.results.entries[k] = entry
    _say_left_out(run, late, len(run.molecules))
    return write_summary(run, stopped_by)


class _Certificates:
    """Certificates one after another; on a device those that come next are made with the first."""

    def __init__(self, run: Run, module: FitModule, todo: Sequence[Problem]) -> None:
        """Nothing is made yet; ``todo`` is in the order in which it will be asked for."""
        self._run, self._module, self._todo = run, module, list(todo)
        self._room = Room(TOGETHER)
        self._made: dict[int | None, Prediction] = {}
        self._alone: set[int | None] = set()
        self._gains = gains_together(run.runtime.device) and module.lessons.together

    def of(self, problem: Problem) -> Prediction:
        """The next one."""
        place = problem.position
        if self._gains and place not in self._made and place not in self._alone:
            self._make(problem)
        if place in self._made:
            return self._made.pop(place)
        return _certify(self._run, self._module, problem)

    def _make(self, first: Problem) -> None:
        """A geometry and those behind it; none where somebody fails, who then shows alone."""
        start = self._todo.index(first)
        while len(some := self._todo[start:][: self._most()]) > 1:
            try:
                found = _certify_several(self._run, self._module, some, self._room)
            except (ComputationError, InputError, torch.linalg.LinAlgError):
                self._alone.update(one.position for one in some)
                return
            except torch.OutOfMemoryError:
                found = None  # the failure is let go of before the next try
            if found is not None:
                self._made.update(zip((one.position for one in some), found, strict=True))
                return
            self._room.shrink(len(some))

    def _most(self) -> int:
        """As many as fit the memory and the time, going by those before them."""
        deadline, most = self._run.runtime.deadline, self._room.most
        if deadline.at is None:
            return most
        each = self._run.costs.certificate
        return most if each <= 0 else max(1, min(most, int(deadline.remaining() / each)))


def _certify_several(
    run: Run, module: FitModule, problems: Sequence[Problem], room: Room
) -> list[Prediction]:
    """:func:`_certify` of several geometries in one go."""
    begin = runtime.now()
    with contextlib.ExitStack() as stack:
        exact = [stack.enter_context(_exact(run, problem)) for problem in problems]
        layers = [ks.on(ks.data.plain()) for ks in exact]  # a store unpacks at every look
        try:
            found = certified_together(
                module.network, problems, layers, near_enough=_NEAR_ENOUGH, room=room
            )
        finally:
            for ks, own in zip(exact, layers, strict=True):
                ks.builds = own.builds
    for _ in found:
        run.costs.add("certificate", (runtime.now() - begin) / len(found))
    return found


def _certify(run: Run, module: FitModule, problem: Problem) -> Prediction:
    """The network's prediction of a geometry it was trained on, from the integrals there are."""
    with run.costs.measured("certificate"), _exact(run, problem) as ks:
        with torch.no_grad():
            (correction,) = module.network.eval()(problem.inputs)
        fock = problem.predicted(correction, module.network.scales.seen_corrections)
        found = single.assemble(
            problem.molecule,
            ks,
            fock,
            ks.density(fock),
            None,
            certificate=True,
            coupled=True,
        )
        found = dataclasses.replace(found, **with_base(problem.ks, fock, problem.fock0))
        assert found.certificate is not None
        assert found.fock_rebuilt is not None
        if found.certificate.orbital_gradient_rms > _NEAR_ENOUGH:
            return found
        at = found.dm.to(fock), found.fock_rebuilt.to(fock)
        return dataclasses.replace(found, instability=ks.spin_instability(*at))


@contextlib.contextmanager
def _exact(run: Run, problem: Problem) -> Iterator[KohnSham]:
    """The layer with integrals in double precision, whatever trained it; its builds are counted."""
    device = run.runtime.device
    if not problem.builds:
        ks = kohn_sham(problem.molecule, run.config.solved, Means(device))
        yield ks
        run.results.calibration_builds += ks.builds
        return
    if run.config.jk_dtype == "float64":
        yield problem.ks
        return
    guess = problem.ks.data.dm_guess
    ks = problem.ks.on(same_data(problem.molecule, run.config.solved, guess, Means(device)))
    try:
        yield ks
    finally:
        problem.ks.builds = ks.builds


def _records(
    run: Run, module: FitModule, prediction: Prediction
) -> tuple[dict[str, Any], tuple[dict[str, Any], dict[str, Any]]]:
    """Entry of the summary, and arrays and attributes, all at the network's own density."""
    own = dataclasses.replace(
        prediction, refined=None, refined_dipole=prediction.dipole, refined_spin_square=None
    )
    prediction = with_intervals(own, run.results.calibration)
    entry = prediction_record(prediction)
    assert prediction.certificate is not None
    gradient = prediction.certificate.orbital_gradient_rms
    entry["converged"] = gradient <= module.plan.tol
    arrays, attributes = prediction_arrays(prediction)
    attributes |= {
        **method_attributes(prediction.molecule, prediction.info.method),
        "converged": entry["converged"],
    }
    return entry, (arrays, attributes)


def write_summary(run: Run, stopped_by: str) -> dict[str, Any]:
    """Write ``summary.json`` for what there is; a structure without certificate has nulls.

    Args:
        run: The run.
        stopped_by: What ended it.

    Returns:
        The summary.

    Raises:
        ComputationError: If the file cannot be written.
    """
    # builds of this attempt, and those before it: the checkpoint's count or, if larger, the
    # summary's, which includes certificates
    now = total(run.geometries.builds) + run.results.calibration_builds
    before = run.earlier.builds
    if run.module:
        now += run.module.remote_builds
        before = before.at_least(run.module.earlier_builds)
    fitting = run.geometries.present[0].ks.info.auxbasis if run.geometries.present else None
    result = summary(
        command=run.command,
        method=run.config.solved.fitted_with(fitting),
        state=run.config.method.state,
        runtime=run.runtime,
        started=run.started,
        structures=_entries(run),
        failed=run.results.failed,
        stopped_by=stopped_by,
        builds=before + now,
    )
    entries = result["structures"]
    trained = run.module is not None and bool(entries)
    result["converged"] = trained and all(e["converged"] for e in entries)
    result["loss"] = run.module.plan.loss if run.module else run.config.loss
    result["skipped_steps"] = run.module.skipped_steps if run.module else 0
    result["limits"] = limits(run.config)
    result |= calibration_entry(run)
    if run.results.left_out:
        result["left_out"] = run.results.left_out
    if run.geometries.stream is not None:
        result["geometries_replaced"] = run.geometries.stream.replaced
    if run.results.validated is not None:
        result["validation"] = run.results.validated
    if run.results.against_base is not None:
        result["against_base"] = run.results.against_base
    store = run.geometries.store
    if store is not None and store.rebuilt + store.read > 0:
        result["integrals"] = {"computed_again": store.rebuilt, "read": store.read}
    warn_hints(entries, run.reporter)
    write_json(run.out / SUMMARY_FILE, result)
    return result


def _entries(run: Run) -> list[dict[str, Any]]:
    """One entry per structure that did not fail, in input order."""
    if run.module is None and run.earlier.entries:
        return run.earlier.entries  # nothing was done: the model is the one they describe
    failed = {(f["file"], f["frame"]) for f in run.results.failed}
    return [
        run.results.entries[k] if k in run.results.entries else bare_record(m, converged=False)
        for k, m in enumerate(run.molecules)
        if k in run.results.entries or (m.file, m.frame) not in failed
    ]
