"""``fit``: prepare geometries, train one network on them without labels, certify, write the run."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from deeph_zero.errors import ComputationError, DeephZeroError, InputError, argument
from deeph_zero.host.launch import launch
from deeph_zero.host.reporting import Reporter, SilentReporter
from deeph_zero.host.runtime import set_threads, setup
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.calibrate import held_out, refine_held_out
from deeph_zero.train.callbacks import (
    Checkpoints,
    MetricsFile,
    ProgressReport,
    quiet_trainer,
    run_trainer,
)
from deeph_zero.train.event_files import live_curves
from deeph_zero.train.finish import certify_all, measure, training_deadline, write_summary
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import Plan, make_plan, resolved
from deeph_zero.train.prepare import TimeIsUpError, prepare
from deeph_zero.train.resume import (
    compare_settings,
    forget_settings,
    resume_point,
    save_settings,
    save_toml,
    taken_over,
)
from deeph_zero.train.run import Roles, Run
from deeph_zero.train.store.prefetch import LookAhead
from deeph_zero.train.team import Team, TeamStrategy, assembled, followed, joined
from deeph_zero.train.team_module import TeamModule
from deeph_zero.train.validation import ValidationCheck, check_positions
from deeph_zero.train.worth import compare


def run_fit(
    config: FitConfig,
    molecules: list[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    *,
    resume: bool,
    reporter: Reporter,
    command: str,
    validation: Sequence[Molecule] = (),
) -> dict[str, Any]:
    """Train on structures without labels and write the run folder.

    Args:
        config: Every setting.
        molecules: Checked structures.
        failed: Frames left out, for the record.
        out: Run folder, claimed.
        resume: Go on from the checkpoint in ``out``, if there is one.
        reporter: Progress and messages.
        command: Command line, for the record.
        validation: Structures to measure the model on, where they come from a file.

    Returns:
        The summary, as written to ``summary.json``.

    Raises:
        InputError: If a resumed run has other settings, or a structure cannot be used.
        ComputationError: If training breaks down.
        KeyboardInterrupt: After Ctrl-C, with the run and its summary kept.
    """
    run = Run.begun(
        config,
        failed,
        reporter=reporter,
        out=out,
        molecules=molecules,
        command=command,
        roles=_roles(config, len(molecules), tuple(validation)),
    )
    resume_from = None
    if resume:
        note = compare_settings(run)
        resume_from = resume_point(run)
        before = taken_over(run, trained=resume_from is not None, note=note)
        if before is not None:
            _dismiss()
            return before
    save_settings(run)  # before any work, so that whatever happens next can be resumed
    try:
        with _team(run, resume_from):
            return _fit(run, resume_from)
    except TimeIsUpError as error:
        reporter.warning(f"the time is up before training: {error}; nothing was trained")
        run.results.uncalibrated = "the time limit ended the run before training"
        return write_summary(run, "max_time")
    except KeyboardInterrupt:
        write_summary(run, "interrupt")
        raise
    except DeephZeroError:
        _after_error(run, new=not resume)
        raise
    finally:
        run.release()


def _after_error(run: Run, *, new: bool) -> None:
    """Leave a summary where something was trained, and no settings where there is nothing."""
    if run.module is not None:
        with contextlib.suppress(ComputationError):  # the disk may be what fails
            write_summary(run, "error")
    elif new:
        forget_settings(run.out)  # nothing to go on with


def _roles(config: FitConfig, n: int, validation: tuple[Molecule, ...] = ()) -> Roles:
    """Which of ``n`` structures are not trained on."""
    out = held_out(config, n)
    measuring: tuple[int, ...] = ()
    if isinstance(config.data.validation, float):
        measuring = check_positions(config.data.validation, n, out)
    return Roles(held_out=out, measuring=measuring, validation=validation)


def _dismiss() -> None:
    """Where torchrun has started other processes, tell them that there is nothing to do."""
    if launch() is not None:
        with joined(None):
            pass


@contextlib.contextmanager
def _team(run: Run, resume_from: Path | None) -> Iterator[None]:
    """Inside the block ``run`` has the processes that were asked for."""
    size = run.config.devices
    if size == 1:
        yield
        return
    if run.runtime.device.type != "cpu":
        device = argument("device", str(run.runtime.device))
        raise InputError(
            f"training.devices: expected 1 with {device}, got {size}; "
            "several processes work on CPUs only"
        )
    started = launch()
    share = max(1, run.runtime.threads // (size if started is None else started.here))
    runtime = run.config.runtime.model_copy(update={"threads": share, "device": "cpu"})
    config = run.config.model_copy(update={"runtime": runtime})
    set_threads(share)
    try:
        arguments = (config, run.molecules, run.out, resume_from)
        with joined(arguments) if started else assembled(size, _work, arguments) as team:
            run.team = team
            yield
    finally:
        set_threads(run.runtime.threads)


def follow() -> None:
    """What a process of torchrun but the first does: the same as that, without files and words.

    Raises:
        ComputationError: If the first one has ended, or training breaks down.
    """
    with followed() as (team, arguments):
        if arguments is not None:
            config, *others = arguments
            # the clocks of machines differ: the time counts from now
            runtime = config.runtime.model_copy(update={"started": None})
            _share(team, config.model_copy(update={"runtime": runtime}), *others)


def _work(
    place: tuple[int, int, Path],
    config: FitConfig,
    molecules: list[Molecule],
    out: Path,
    resume_from: Path | None,
) -> None:
    """What a process but the first does."""
    team = Team(*place)
    try:
        _share(team, config, molecules, out, resume_from)
    finally:
        team.close()


def _share(
    team: Team,
    config: FitConfig,
    molecules: list[Molecule],
    out: Path,
    resume_from: Path | None,
) -> None:
    runtime = setup(config.runtime)
    logging.getLogger("deeph_zero").setLevel(logging.ERROR)
    run = Run(
        config=config,
        runtime=runtime,
        reporter=SilentReporter(),
        out=out,
        molecules=molecules,
        roles=_roles(config, len(molecules)),
        team=team,
    )
    try:
        _fit(run, resume_from)
    finally:
        run.release()


SHOWN = ("loss", "residual", "gradient", "energy_error", "val_residual", "fock_builds")
"""What is shown beside the progress of a training, of what `metrics.csv` has."""


def _fit(run: Run, resume_from: Path | None) -> dict[str, Any]:
    network = prepare(run, trained=resume_from is not None)
    plan = make_plan(run.config, len(run.geometries.problems))
    save_toml(run, resolved(run.config, plan))
    module = _module(run, network, plan)
    if resume_from is None and not module.start(
        calibrate=not bool(network.scales.settled.all()), deadline=run.runtime.deadline
    ):
        raise TimeIsUpError("the geometries were prepared, their first Fock builds not completed")
    run.module = module
    meta = {}
    if run.leads:
        meta = model_meta(
            run.config.method, run.geometries.present[0].ks.info, module.network.spec, run.molecules
        )
    write_model = _model_writer(run, module, meta)
    write_model()
    check = (
        ValidationCheck(run.geometries.validators, plan.epochs)
        if run.geometries.validators
        else None
    )
    measure(run, module)
    try:
        stopped_by = _train(run, module, resume_from, write_model, check)
    except KeyboardInterrupt:
        write_model()
        raise
    if not module.converged:
        module.average.adopt()
        module.refit()
        module.average.clear()
        if check is not None:
            run.results.validated = check.choose(module.network)
    write_model()
    return _close(run, module, meta, write_model, stopped_by)


def _module(run: Run, network: FockNetwork, plan: Plan) -> FitModule:
    if run.team is None:
        module = FitModule(network, run.geometries.problems, plan, run.geometries.stream)
    else:
        module = TeamModule(network, run.geometries.problems, plan, run.team)
        module.lessons.dropped.update(run.geometries.lost)
    store = run.geometries.store
    module.lessons.together = store is not None and store.holds_all
    return module


def _close(
    run: Run,
    module: FitModule,
    meta: dict[str, Any],
    write_model: Callable[[], None],
    stopped_by: str,
) -> dict[str, Any]:
    """Calibration and certificates of a trained network."""
    # several processes: the first one calibrates, the others wait for what comes of it
    kept_out = refine_held_out(run, module, meta) if run.leads else {}
    if run.results.left_out:
        stopped_by = "max_time"
    if run.team is not None:
        run.results.calibration = run.team.gather(run.results.calibration)[0]
    if run.results.calibration is not None:
        write_model()
    if run.team is None and not run.runtime.deadline.expired():
        of = run.geometries
        run.results.against_base = compare(
            module.network, of.problems, of.validators, kept_out, run.reporter
        )
    return certify_all(run, module, stopped_by, kept_out)


class _Begun(Callback):
    """Knows whether a checkpoint was taken over and training began."""

    yes = False

    def on_train_start(self, trainer: object, pl_module: object) -> None:
        """Note it."""
        del trainer, pl_module
        self.yes = True


def _model_writer(run: Run, module: FitModule, meta: dict[str, Any]) -> Callable[[], None]:
    if not run.leads:
        return lambda: None

    def write() -> None:
        with module.average.applied(), run.costs.measured("model"):
            save_model(run.out, module.network, meta)

    return write


def _train(
    run: Run,
    module: FitModule,
    resume_from: Path | None,
    write_model: Callable[[], None],
    check: ValidationCheck | None,
) -> str:
    plan = module.plan
    if resume_from is not None and _restore_converged(module, resume_from):
        return "converged"
    checkpoints = Checkpoints(
        run.out / KEEP, deadline=training_deadline(run, module), on_save=write_model
    )
    gpu, begun = run.runtime.device.type == "cuda", _Begun()
    trainer = quiet_trainer(
        [
            *([] if check is None else [check]),
            MetricsFile(run.out / "metrics.csv"),
            *(live_curves(run.out) if run.leads else []),
            ProgressReport(
                run.reporter,
                "training",
                shown=SHOWN,
            ),
            checkpoints,
            begun,
        ],
        max_epochs=plan.epochs,
        max_steps=plan.max_steps,
        accelerator="gpu" if gpu else "cpu",
        devices=[run.runtime.device.index or 0] if gpu else 1,
        strategy="auto" if run.team is None else TeamStrategy(run.team),
    )
    batches = ResumableBatches(
        list(range(len(module.problems))) * plan.repeats, plan.batch_size, seed=run.runtime.seed
    )
    store = run.geometries.store
    if store is not None and (store.ahead is not None or store.n_written):
        module.look_ahead = LookAhead(batches, module, store)
    with _restored(begun, resume_from):
        stopped_by = run_trainer(
            trainer,
            module,
            batches,
            checkpoints,
            resume_from=resume_from,
            say=run.reporter.warning,
        )
    module.to(run.runtime.device)
    if module.converged:
        return "converged"
    return stopped_by or plan.limit


@contextlib.contextmanager
def _restored(begun: _Begun, resume_from: Path | None) -> Iterator[None]:
    """A checkpoint that Lightning cannot take over is damaged: nothing was trained yet."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if resume_from is None or begun.yes or isinstance(error, DeephZeroError):
            raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{resume_from}: expected the checkpoint of this run, cannot go on with it ({text}); "
            f"put the run's own files back, or use {argument('overwrite', True)} to start again"
        ) from error


def _restore_converged(module: FitModule, resume_from: Path) -> bool:
    """Take over a checkpoint that is converged to the tolerance asked for, without a step."""
    state = SafeCheckpointIO().load_checkpoint(resume_from)
    reached = state["fit"]["converged_to"] if isinstance(state.get("fit"), dict) else None
    if reached is None or reached > module.plan.tol:
        return False
    module.load_state_dict(state["state_dict"])
    module.on_load_checkpoint(state)
    module.converged = True
    return True
