"""``fit``: prepare geometries, train one network on them without labels, certify, write the run."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeph_zero.config import FitConfig
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.files import PredictionWriter, write_json
from deeph_zero.integrals.mole import build_mole, place
from deeph_zero.model import load, model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.model import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import single
from deeph_zero.predict.record import (
    failure,
    method_attributes,
    prediction_arrays,
    prediction_record,
    summary,
)
from deeph_zero.reporting import Reporter
from deeph_zero.runtime import Deadline, Runtime, setup
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.callbacks import (
    Checkpoints,
    MetricsFile,
    ProgressReport,
    quiet_trainer,
    run_trainer,
)
from deeph_zero.train.checkpoint import KEEP, save_model
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import make_plan
from deeph_zero.train.problem import AO_MEMORY_MB, Problem, basis_layout, make_problem
from deeph_zero.units import BOHR_IN_ANGSTROM

CONFIG_FILE = "config.json"
"""Resolved settings of a run; ``--resume`` compares them."""


@dataclasses.dataclass
class Run:
    """What one call of :func:`run_fit` carries around."""

    config: FitConfig
    runtime: Runtime
    reporter: Reporter
    out: Path
    command: str
    started: float
    failed: list[dict[str, Any]]
    builds_lost: int = 0
    """Builds of geometries that failed and were dropped."""


def run_fit(
    config: FitConfig,
    molecules: list[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    *,
    resume: bool,
    reporter: Reporter,
    command: str,
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

    Returns:
        The summary, as written to ``summary.json``.

    Raises:
        InputError: If a resumed run has other settings, or a structure cannot be used.
        ComputationError: If training breaks down.
        KeyboardInterrupt: After Ctrl-C, with checkpoint, model and summary written.
    """
    run = Run(config, setup(config.runtime), reporter, out, command, time.monotonic(), failed)
    if config.runtime.started is not None:
        run.started = config.runtime.started
    resume_from = _resume_point(run, molecules) if resume else None
    problems, network = _prepare(run, molecules, resume_from is not None)
    module = FitModule(network, problems, make_plan(config, len(problems)))
    if resume_from is None:
        module.start(calibrate=config.init is None)
        write_json(out / CONFIG_FILE, _settings(run, molecules))
    write_model = _model_writer(run, module)
    write_model()
    try:
        stopped_by = _train(run, module, resume_from, write_model)
    except KeyboardInterrupt:
        write_model()
        result = _summary(run, module, [_unfinished(m) for m in molecules], "interrupt")
        write_json(out / "summary.json", result)
        raise
    if not module.converged:
        module.refit()
    write_model()
    return _finish(run, module, molecules, stopped_by)


def displaced(molecules: list[Molecule], config: FitConfig) -> list[Molecule]:
    """Copies with normally distributed displacements; charge and spin stay.

    Args:
        molecules: Where to start.
        config: ``samples`` per structure, ``displace`` in angstrom, and the seed.

    Returns:
        ``samples`` copies of each structure, without the originals.
    """
    rng = np.random.default_rng(config.runtime.seed)
    scale = config.displace / BOHR_IN_ANGSTROM
    return [
        dataclasses.replace(m, coords=m.coords + rng.normal(0.0, scale, m.coords.shape))
        for m in molecules
        for _ in range(config.samples)
    ]


def _settings(run: Run, molecules: list[Molecule]) -> dict[str, Any]:
    values = run.config.model_dump(mode="json", exclude={"runtime": {"max_time", "verbose"}})
    frames = [[m.file, m.frame, m.natm] for m in molecules]
    return {"config": values, "frames": frames}


def _resume_point(run: Run, molecules: list[Molecule]) -> Path | None:
    """The checkpoint to go on from; InputError if the folder holds another run or none to read."""
    path = run.out / CONFIG_FILE
    if not path.exists():
        return None  # stopped before the first checkpoint: nothing to go on from
    try:
        old = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected the settings of a run in {path}, cannot read them ({error}); "
            "use --overwrite to start again"
        ) from None
    new = json.loads(json.dumps(_settings(run, molecules)))
    # a longer run is what people resume for; where the structures lie does not matter
    for doc in (old, new):
        for name in ("epochs", "steps", "conv_tol_grad", "skip_bad"):
            doc.get("config", {}).pop(name, None)
        doc["frames"] = [f[2] for f in doc.get("frames", [])]
    if old != new:
        names = sorted(_differences(old, new))
        raise InputError(
            f"--resume: expected the settings of the run in {run.out}, got another "
            f"{', '.join(names)}; repeat the first command with --resume, or use --overwrite"
        )
    checkpoint = run.out / KEEP
    return checkpoint if checkpoint.exists() else None


def _differences(old: Any, new: Any, name: str = "") -> set[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = old.keys() | new.keys()
        return {d for k in keys for d in _differences(old.get(k), new.get(k), k)}
    return set() if old == new else {name or "settings"}


def _prepare(
    run: Run, molecules: list[Molecule], resuming: bool
) -> tuple[list[Problem], FockNetwork]:
    """Integrals and F[P₀] of every geometry, and the network."""
    config = run.config
    everything = [*molecules, *displaced(molecules, config)]
    moles = [build_mole(m, basis=config.method.basis) for m in molecules]
    layout = basis_layout(moles)
    if resuming:
        network = load(run.out).network
    elif config.init is not None:
        network = _initial(config)
        network.spec.layout.with_elements(dict(layout.shells))
    else:
        torch.manual_seed(run.runtime.seed)
        network = FockNetwork(default_spec(layout))
    network = network.to(run.runtime.device).train()
    problems: list[Problem] = []
    with run.reporter.task("integrals", len(everything)) as task:
        for k, molecule in enumerate(everything):
            try:
                problem = make_problem(
                    molecule,
                    config.method,
                    network.spec.layout,
                    cutoff=network.spec.cutoff,
                    dtype=network.dtype,
                    device=run.runtime.device,
                    ao_memory_mb=AO_MEMORY_MB / len(everything),
                    mol=moles[k] if k < len(moles) else None,
                )
            except (ComputationError, InputError) as error:
                if not config.skip_bad and k < len(molecules):
                    raise
                # a displaced copy that fell apart is not the user's frame
                if k < len(molecules):
                    run.failed.append(failure(molecule, error))
                run.reporter.warning(f"{place(molecule)}left out: {error}")
                continue
            problems.append(problem)
            task.advance()
            if run.runtime.deadline.expired():
                run.reporter.warning(
                    f"the time is up after {len(problems)} of {len(everything)} geometries"
                )
                break
    if not problems:
        raise ComputationError("no geometry could be prepared; see the warnings above")
    _report_degenerate(run, problems)
    return problems, network


def _initial(config: FitConfig) -> FockNetwork:
    assert config.init is not None
    model = load(config.init)
    if model.method.basis != config.method.basis:
        raise InputError(
            f"--init {config.init}: expected a model for basis {config.method.basis!r}, got one "
            f"for {model.method.basis!r}; give --basis {model.method.basis}"
        )
    return model.network


def _report_degenerate(run: Run, problems: list[Problem]) -> None:
    if run.config.method.break_symmetry:
        return
    found = [p for p in problems if p.ks.orbitals(p.fock0).degenerate]
    if found:
        first = place(found[0].molecule)
        run.reporter.warning(
            f"{first}the ground state is degenerate ({len(found)} of {len(problems)} geometries): "
            "its frontier level is filled evenly, which is not a single determinant; "
            "use --break-symmetry for the symmetry-broken state"
        )


def _model_writer(run: Run, module: FitModule) -> Any:
    info = module.problems[0].ks.info
    meta = model_meta(run.config.method, info, module.network.spec)

    def write() -> None:
        save_model(run.out, module.network, meta)

    return write


def _train(run: Run, module: FitModule, resume_from: Path | None, write_model: Any) -> str | None:
    plan = module.plan
    checkpoints = Checkpoints(
        run.out / KEEP, deadline=_training_deadline(run, module), on_save=write_model
    )
    trainer = quiet_trainer(
        [
            MetricsFile(run.out / "metrics.csv"),
            ProgressReport(
                run.reporter,
                "training",
                shown=("loss", "residual", "gradient", "fock_builds"),
            ),
            checkpoints,
        ],
        max_epochs=plan.epochs,
        max_steps=plan.max_steps,
        accelerator="gpu" if run.runtime.device.type == "cuda" else "cpu",
        devices=[run.runtime.device.index or 0] if run.runtime.device.type == "cuda" else 1,
    )
    batches = ResumableBatches(
        list(range(len(module.problems))) * plan.repeats, plan.batch_size, seed=run.runtime.seed
    )
    stopped_by = run_trainer(trainer, module, batches, checkpoints, resume_from=resume_from)
    module.to(run.runtime.device)
    if module.converged:
        return "converged"
    return stopped_by or plan.limit


def _training_deadline(run: Run, module: FitModule) -> Deadline:
    """Leaves time for the certificates: about three builds per structure."""
    deadline = run.runtime.deadline
    if deadline.at is None:
        return deadline
    reserve = 1.0 + 3.0 * module.build_seconds * len(module.problems)
    return Deadline(deadline.at - reserve)


def _unfinished(molecule: Molecule) -> dict[str, Any]:
    from deeph_zero.predict.record import structure_record

    return structure_record(
        molecule,
        certificate=None,
        dipole=None,
        n_electrons=None,
        spin_square=None,
        residual_mae=None,
        converged=False,
    )


def _finish(
    run: Run, module: FitModule, molecules: list[Molecule], stopped_by: str | None
) -> dict[str, Any]:
    """Certificates at the network's own densities, ``predictions.h5`` and ``summary.json``."""
    own = {id(p.molecule): p for p in module.problems}
    entries: list[dict[str, Any]] = []
    failed_now = 0
    with (
        PredictionWriter(run.out / "predictions.h5") as writer,
        run.reporter.task("certificates", len(molecules)) as task,
    ):
        for molecule in molecules:
            problem = own.get(id(molecule))
            if problem is None or run.runtime.deadline.expired():
                entries.append(_unfinished(molecule))
                task.advance()
                continue
            try:
                entries.append(_certify(run, module, problem, writer))
            except ComputationError as error:
                failed_now += 1
                run.failed.append(failure(molecule, error))
                run.reporter.warning(f"{place(molecule)}{error}")
            task.advance()
    result = _summary(run, module, entries, stopped_by)
    write_json(run.out / "summary.json", result)
    if failed_now == len(molecules):
        raise ComputationError(f"every structure failed; see {run.out / 'summary.json'}")
    return result


def _certify(
    run: Run, module: FitModule, problem: Problem, writer: PredictionWriter
) -> dict[str, Any]:
    with torch.no_grad():
        (correction,) = module.network.eval()(problem.inputs.to(run.runtime.device))
    fock = problem.hamiltonian(correction)
    prediction = single.assemble(
        problem.molecule,
        problem.ks,
        fock,
        problem.ks.density(fock),
        None,
        certificate=True,
        coupled=True,
    )
    entry = prediction_record(prediction)
    assert prediction.certificate is not None
    gradient = prediction.certificate.orbital_gradient_rms
    entry["converged"] = gradient <= run.config.conv_tol_grad
    if prediction.degenerate:
        entry["degenerate"] = True
    arrays, attributes = prediction_arrays(prediction)
    attributes |= {
        **method_attributes(problem.molecule, run.config.method, problem.ks.info.auxbasis),
        "converged": entry["converged"],
    }
    writer.write(arrays, attributes)
    return entry


def _summary(
    run: Run, module: FitModule, entries: list[dict[str, Any]], stopped_by: str | None
) -> dict[str, Any]:
    info = module.problems[0].ks.info
    result = summary(
        command=run.command,
        method=run.config.method,
        auxbasis=info.auxbasis,
        runtime=run.runtime,
        started=run.started,
        structures=entries,
        failed=run.failed,
        stopped_by=stopped_by,
        fock_builds=module.fock_builds,
    )
    result["converged"] = bool(entries) and all(e["converged"] for e in entries)
    result["loss"] = module.plan.loss
    result["skipped_steps"] = module.skipped_steps
    return result
