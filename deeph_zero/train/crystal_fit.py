"""``fit`` and ``train`` of crystals: solve them, train one network, certify, write the run."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import ComputationError, DeephZeroError, InputError, argument
from deeph_zero.host.files import append_csv, write_csv, write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import stop_reason
from deeph_zero.host.signals import Interrupt, interruptible
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.ks.counts import Builds
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.crystal import CrystalPrediction, predict_crystal
from deeph_zero.predict.crystal_intervals import with_crystal_intervals
from deeph_zero.predict.crystal_model import load_crystal_model
from deeph_zero.predict.crystal_record import (
    crystal_prediction_entry,
    crystal_prediction_group,
    prediction_blocks,
)
from deeph_zero.predict.record import bare_record, failure, summary
from deeph_zero.prepared.constant import LevelConstant
from deeph_zero.prepared.crystal import crystal_layout, prepare_structure
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.crystal_method import crystal_basis, crystal_method
from deeph_zero.train.calibrate import calibration_entry
from deeph_zero.train.crystal_calibrate import calibrate_crystals, calibrating, frames_kept_out
from deeph_zero.train.crystal_readout import settle_readout
from deeph_zero.train.crystal_samples import Geometry, geometries
from deeph_zero.train.crystal_steps import (
    COLUMNS,
    EPOCHS,
    LEARNING_RATE,
    Row,
    Steps,
    train_crystals,
)
from deeph_zero.train.crystal_targets import SOLVED, Targets
from deeph_zero.train.crystals import Lesson, fit_constant, fit_crystals
from deeph_zero.train.resume import (
    SUMMARY_FILE,
    compare_settings,
    forget_settings,
    limits,
    save_settings,
    taken_over,
)
from deeph_zero.train.run import Roles, Run

CUTOFF = 12.0
"""Bohr, where none is asked for: what is left out of a correction beyond it is below a
millielectronvolt."""
DRAWN = 3
"""Crystals whose blocks a run stores, as many as its report draws; where there are more, the report
makes those it draws by the model."""
CUT = 4e-4
"""Error of bands (Eh; 11 meV) by what is beyond the cutoff from which on it is said."""
_OF_STEPS = ("epochs", "steps", "learning_rate", "batch_size")
REACHED = 1e-3
"""Orbital gradient (rms, Eh) at which the network's own density of one of many is converged."""


def run_crystal_fit(
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
    """Train on crystals and write the run folder.

    Args:
        config: Every setting, checked for crystals.
        molecules: Checked crystals.
        failed: Frames left out, for the record.
        out: Run folder, claimed.
        resume: Take over what an earlier attempt solved.
        reporter: Progress and messages.
        command: Command line, for the record.
        validation: Crystals that only measure, where they come from a file.

    Returns:
        The summary, as written to ``summary.json``.

    Raises:
        InputError: If a resumed run has other settings, or a crystal cannot be used.
        ComputationError: If no crystal can be solved, or training breaks down.
        KeyboardInterrupt: After Ctrl-C, with the run and its summary kept.
    """
    # a default basis is the crystals' own, and is written down as what it is
    method = config.method.model_copy(update={"basis": crystal_basis(config.method)})
    config = config.model_copy(update={"method": method})
    run = Run.begun(
        config,
        list(failed),
        reporter=reporter,
        out=out,
        molecules=molecules,
        command=command,
        roles=Roles(held_out=frames_kept_out(config, len(molecules)), validation=tuple(validation)),
    )
    if resume:
        note = compare_settings(run)
        before = taken_over(run, trained=False, note=note)
        if before is not None:
            return before
    save_settings(run)
    fit = _CrystalFit(run)
    with interruptible(run.reporter.warning) as interrupt, _said_once():
        try:
            return fit.run(interrupt, resume=resume)
        except KeyboardInterrupt:
            fit.write_summary("interrupt")
            raise
        except DeephZeroError:
            with contextlib.suppress(ComputationError):
                if fit.lessons:
                    fit.write_summary("error")
                elif not resume:
                    forget_settings(out)
            raise


class _CrystalFit:
    """One run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._config = run.config
        self._network: FockNetwork | None = None
        self._builds = Builds()
        self._targets = Targets(run)
        self._stopped: str | None = None
        self._errors: dict[str, float] | None = None
        self._constant = LevelConstant()

    @property
    def lessons(self) -> list[Lesson]:
        """What is learnt so far."""
        return self._targets.lessons

    def run(self, interrupt: Interrupt, *, resume: bool) -> dict[str, Any]:
        """Everything; the run folder is complete afterwards."""
        if not resume:
            self._targets.memory.forget()
        found = geometries(self._config, self._run.molecules)
        frames = len(found)
        found += [Geometry(m, crystal_method(m, self._config)) for m in self._run.roles.validation]
        self._network = network = self._new_network(found)
        self._stopped = self._targets.solve(network, found, frames, interrupt)
        self._builds += self._targets.builds
        self._say_what_is_cut()
        ended = self._train(network, interrupt) if self.lessons else None
        if not self.lessons:
            if interrupt.requested:
                raise KeyboardInterrupt
            if self._stopped is None:
                first = (
                    self._run.results.failed[-1]["error"]
                    if self._run.results.failed
                    else "nothing was given"
                )
                raise ComputationError(f"no crystal could be solved: {first}")
            return self.write_summary(self._stopped)
        meta = crystal_meta(
            self._config.method,
            self._config.crystal,
            network.spec,
            self._run.molecules,
            dataclasses.asdict(self._constant),
        )
        save_model(self._run.out, network, meta)
        self._calibrate(network, meta, interrupt)
        if not interrupt.requested:
            self._certify(interrupt)
        if interrupt.requested:
            raise KeyboardInterrupt
        result = self.write_summary(self._stopped or ended or "converged")
        if self._stopped is None:
            self._targets.memory.forget()
        return result

    def _new_network(self, found: Sequence[Geometry]) -> FockNetwork:
        model = self._config.model
        dtype = torch.float32 if model.dtype == "float32" else torch.float64
        cells = [build_cell(g.molecule, g.method) for g in _one_of_each_element(found)]
        layout = crystal_layout(*cells)
        if self._config.init is not None:
            return self._initial(layout)
        cutoff = model.cutoff if "cutoff" in model.model_fields_set else CUTOFF
        spec = default_spec(
            layout, model.size, cutoff=cutoff, inputs=model.inputs, interaction=model.interaction
        )
        spec = dataclasses.replace(spec, balanced=False)  # S has no inverse root in blocks
        torch.manual_seed(self._config.runtime.seed)
        return FockNetwork(spec).to(dtype)

    def _initial(self, layout: BasisLayout) -> FockNetwork:
        """The network of another model, its scales included."""
        assert self._config.init is not None
        network = load_crystal_model(self._config.init).network
        known = dict(network.spec.layout.shells)
        for z, shells in layout.shells:
            if known.get(z) != shells:
                raise InputError(
                    f"{argument('init', self._config.init)}: expected a model with the elements of "
                    f"the crystals in their basis, got none with atomic number {z} of shells "
                    f"{list(shells)}; leave it out"
                )
        network.scales.settled.fill_(True)
        return network.train()

    # ---- the network

    def _say_what_is_cut(self) -> None:
        """Warn where the exact corrections, without what is beyond the cutoff, miss the bands."""
        left = max((c.errors(c.target).bands for c in self.lessons), default=0.0)
        if left > CUT and self._network is not None:
            self._run.reporter.warning(
                f"pairs beyond the cutoff of {self._network.spec.cutoff:g} bohr are not learnt: "
                f"bands are off by {left:.1e} Eh without them; raise model.cutoff, "
                "or take a basis of shorter functions, such as gth-dzvp-molopt-sr"
            )

    def _train(self, network: FockNetwork, interrupt: Interrupt) -> str:
        """Fit and step; what ended it."""
        self._constant = fit_constant(self.lessons)
        if len(self.lessons) == 1 and not self._targets.checks:
            fit_crystals(network, self.lessons)  # one crystal is reproduced, nothing to step to
            self._say_no_steps()
            return "converged"
        config = self._config
        steps = Steps(
            epochs=config.epochs or (10**6 if config.steps else EPOCHS),
            most=config.steps,
            learning_rate=config.learning_rate or LEARNING_RATE,
            batch_size=config.batch_size or 1,
        )
        metrics = self._run.out / "metrics.csv"
        write_csv(metrics, COLUMNS, [])
        stop = lambda: stop_reason(interrupt, self._run.runtime.deadline) is not None  # noqa: E731
        with self._run.reporter.task("training", None) as task:

            def note(row: Row) -> None:
                append_csv(metrics, COLUMNS, row)
                task.advance(1, **{k: v for k, v in row.items() if k in ("loss", "val_loss")})

            whole = train_crystals(
                network.train(),
                self.lessons,
                self._targets.checks,
                steps,
                seed=config.runtime.seed,
                note=note,
                stop=stop,
            )
        network.eval()
        if not whole:
            self._stopped = stop_reason(interrupt, self._run.runtime.deadline)
        self._errors = _errors(network, self._constant, self._targets.checks)
        if whole and self._targets.checks and config.data.validation is None:
            # nobody asked to only measure with them: they chose, and now they are learnt from
            everything = [*self.lessons, *self._targets.checks]
            settle_readout(network, everything, stop=stop)
            self._constant = fit_constant(everything)
        return "steps" if config.steps else "epochs"

    def _say_no_steps(self) -> None:
        """Name settings of steps that a run without steps was given."""
        stated = [name for name in _OF_STEPS if name in self._config.model_fields_set]
        if stated:
            self._run.reporter.warning(
                f"{', '.join(map(argument, stated))}: not used, one crystal is solved and learnt "
                f"in closed form; steps need more of them, or {argument('samples')}"
            )

    # ---- certificates and files

    def _calibrate(self, network: FockNetwork, meta: dict[str, Any], interrupt: Interrupt) -> None:
        run = self._run
        found = calibrating(self._config, run.molecules, run.roles.held_out)
        stopped = lambda: stop_reason(interrupt, run.runtime.deadline) is not None  # noqa: E731
        calibrate_crystals(run, network.eval(), found, meta, stopped)
        if run.results.calibration is not None:
            save_model(run.out, network, meta)

    def _certify(self, interrupt: Interrupt) -> None:
        assert self._network is not None
        run, network = self._run, self._network.eval()
        gone = {(f["file"], f["frame"]) for f in run.results.failed}
        todo = [(k, m) for k, m in enumerate(run.molecules) if (m.file, m.frame) not in gone]
        alone = len(run.molecules) == 1 and not self._config.samples
        with (
            PredictionWriter(run.out / "predictions.h5") as writer,
            run.reporter.task("certificates", len(todo)) as task,
        ):
            for k, molecule in todo:
                reason = stop_reason(interrupt, self._run.runtime.deadline)
                if reason and (run.results.entries or reason == "interrupt"):
                    self._stopped = reason
                    break
                try:
                    found = self._prediction(network, k, molecule, refine=alone)
                except ComputationError as error:
                    run.results.failed.append(failure(molecule, error))
                    run.reporter.warning(molecule.where + run.results.failed[-1]["error"])
                else:
                    entry, arrays, attributes = self._records(found, blocks=len(todo) <= DRAWN)
                    writer.write(arrays, attributes)
                    held = k in run.roles.held_out
                    checked = k in self._targets.checked and not held
                    role = run.roles.entry(k, calibrates=held, validates=checked)
                    run.results.entries[k] = entry | role
                task.advance()
            else:
                interrupt.settle(None)  # in the last one: nothing is missing

    def _prediction(
        self, network: FockNetwork, k: int, molecule: Molecule, *, refine: bool
    ) -> CrystalPrediction:
        method, spec = crystal_method(molecule, self._config), network.spec
        ready = self._targets.kept.pop(k, None)
        if ready is None:
            ready = prepare_structure(
                molecule,
                method,
                spec.layout,
                cutoff=spec.cutoff,
                dtype=network.dtype,
                features=spec.inputs,
            )
        ready = ready.with_constant(self._constant.of(molecule.numbers.tolist(), ready.volume))
        before = ready.ks.fock_builds
        tol = self._config.conv_tol_grad or SOLVED
        found = predict_crystal(network, ready, molecule, method, refine=tol if refine else None)
        self._builds += Builds(ready.ks.fock_builds - before, found.coarse_builds)
        return with_crystal_intervals(
            found, self._run.results.calibration, self._config.crystal.smearing
        )

    def _records(
        self, found: CrystalPrediction, *, blocks: bool
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        entry = crystal_prediction_entry(found)
        if found.refined is None:
            reached = self._config.conv_tol_grad or REACHED
            entry["converged"] = entry["orbital_gradient_rms"] <= reached
        arrays, attributes = crystal_prediction_group(found)
        attributes["converged"] = entry["converged"]
        if blocks:
            where, warn = found.molecule.where, self._run.reporter.warning
            arrays |= prediction_blocks(found, lambda text: warn(where + text))
        return entry, arrays, attributes

    def write_summary(self, stopped_by: str) -> dict[str, Any]:
        """Write ``summary.json`` for what there is."""
        run, config = self._run, self._config
        method = crystal_method(run.molecules[0], config)
        method = dataclasses.replace(method, density_fit=False, grid_level=None)
        gone = {(f["file"], f["frame"]) for f in run.results.failed}
        entries = [
            run.results.entries.get(k) or bare_record(m, converged=False)
            for k, m in enumerate(run.molecules)
            if k in run.results.entries or (m.file, m.frame) not in gone
        ]
        result = summary(
            command=run.command,
            method=method,
            state=config.method.state,
            runtime=run.runtime,
            started=run.started,
            structures=entries,
            failed=run.results.failed,
            stopped_by=stopped_by,
            builds=run.earlier.builds + self._builds + run.results.calibration_builds,
        )
        result |= {
            "converged": bool(entries) and all(e["converged"] for e in entries),
            "loss": config.loss if config.loss != "auto" else "own SCF",
            "limits": limits(config),
            **calibration_entry(run),
            "pseudo": config.crystal.pseudo,
            "smearing": config.smearing,
            "geometries": len(self.lessons),
        }
        if run.results.left_out:
            result["left_out"] = run.results.left_out
        if self._errors is not None:
            result["validation"] = self._errors | {"geometries": len(self._targets.checks)}
        write_json(run.out / SUMMARY_FILE, result)
        return result


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Inside the block each kind of warning of the layer comes once: geometries are alike."""
    known: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        new = str(record.msg) not in known
        known.add(str(record.msg))
        return new

    logger = logging.getLogger("deeph_zero")
    logger.addFilter(first)
    try:
        yield
    finally:
        logger.removeFilter(first)


def _one_of_each_element(found: Sequence[Geometry]) -> list[Geometry]:
    """Few geometries that have every element among them."""
    known: set[int] = set()
    few = []
    for geometry in found:
        new = {int(z) for z in geometry.molecule.numbers} - known
        if new:
            few.append(geometry)
            known |= new
    return few


@torch.no_grad()
def _errors(
    network: FockNetwork, constant: LevelConstant, checks: Sequence[Lesson]
) -> dict[str, float] | None:
    """Means over crystals that were kept out: of H, of bands' largest, of levels' constant, Eh."""
    if not checks:
        return None
    found = [c.errors(network(c.inputs)[0], constant.of(c.numbers, c.volume)) for c in checks]
    return {
        "fock_mae": sum(e.fock for e in found) / len(found),
        "bands": sum(e.bands for e in found) / len(found),
        "constant": sum(abs(e.constant) for e in found) / len(found),
    }
