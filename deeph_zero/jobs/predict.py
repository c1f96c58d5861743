"""``deeph-zero predict``: a trained model applied to a list of structures."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

from deeph_zero.errors import argument
from deeph_zero.host import runtime
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.saying import Naming
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.portable import Portable
from deeph_zero.jobs import export
from deeph_zero.jobs.chunks import OfModel
from deeph_zero.jobs.crystal_predict import predict_crystal_record
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.loop import Engine, check_finite, run_batch
from deeph_zero.jobs.tasks import Task
from deeph_zero.jobs.workers import Compute, start_process
from deeph_zero.model import CrystalModel, Model, load_any
from deeph_zero.model_files.folder import fingerprint
from deeph_zero.model_files.meta import asked_state
from deeph_zero.molecule import Molecule
from deeph_zero.predict.agreement import check_elements
from deeph_zero.predict.answer import Asked
from deeph_zero.predict.record import method_attributes, prediction_arrays, prediction_record
from deeph_zero.predict.single import Prediction
from deeph_zero.settings.config import PredictConfig

_log = logging.getLogger("deeph_zero")


@dataclasses.dataclass(frozen=True)
class _PredictJob:
    """What is done with one structure, in any process."""

    model_path: str
    config: PredictConfig
    out: Path
    numbered: bool
    model: Model | CrystalModel | None = None
    """The loaded model; other processes load their own."""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"model": None}

    @property
    def verbose(self) -> int:
        return self.config.runtime.verbose

    def start(self, threads: int) -> Compute:
        """Load the model, where this process has not."""
        device = start_process(self.config.runtime, threads).device
        model = load_any(self.model_path, device=device) if self.model is None else self.model
        model.iterate_on(two_grids=self.config.two_grids)
        if isinstance(model, CrystalModel):
            return functools.partial(self._compute_crystal, model, Naming())
        found = _Predictions(model, self)
        if "workers" in self.config.model_fields_set and found.at_once > 1:
            found.check_workers()
        return found

    def _compute_crystal(
        self,
        model: CrystalModel,
        naming: Naming,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
    ) -> Record:
        return predict_crystal_record(index, molecule, model, self.config, warn, naming=naming)


@dataclasses.dataclass(frozen=True)
class _Predictions(OfModel):
    """What is done with molecules."""

    job: _PredictJob

    @property
    def at_once(self) -> int:
        """Several on a GPU, unless files of other programs are wanted of each."""
        together = self.model.gains_together and not export.wanted(self.job.config)
        return self.model.room.most if together else 1

    @property
    def _settings(self) -> dict[str, Any]:
        config = self.job.config
        return {
            "refine": config.refine,
            "certificate": config.certificate,
            "coupled": config.coupled,
            "forces": config.forces,
            "response": config.response,
            "compare_start": config.compare_start,
        }

    def check_workers(self) -> None:
        """Say where there is nothing to do for those that were asked for."""
        if not self.needs_integrals:
            name = argument("workers", self.job.config.workers)
            _log.warning("%s: no integrals are needed, no process is started for them", name)

    @property
    def needs_integrals(self) -> bool:
        """Whether a Fock build is made."""
        physics = self.model.network.spec.inputs == "physics"
        return physics or Asked(**self._settings).builds

    def order(self, molecule: Molecule) -> Order | None:
        """All integrals, unless no Fock build is made."""
        check_elements(molecule, self.model.elements)
        if self.needs_integrals:
            return Order(molecule=molecule, method=self.model.method)
        return None

    def several(
        self,
        tasks: Sequence[Task],
        warns: Sequence[Callable[[str], None]],
        portables: Sequence[Portable | None],
    ) -> list[Record]:
        """Records of several molecules from one call."""
        del warns
        molecules = [molecule for _, molecule in tasks]
        found, _ = self.model.predict_batch(molecules, Asked(**self._settings), portables)
        return [_record(*task, result) for task, result in zip(tasks, found, strict=True)]

    def __call__(
        self,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
        portable: Portable | None = None,
    ) -> Record:
        """The record of one molecule."""
        job, settings = self.job, self._settings
        if portable is not None:
            found, _ = self.model.predict_layer(molecule, portable=portable, **settings)
            return _record(index, molecule, found)
        settings["allow_close_contacts"] = True  # they were checked when they were read
        if not export.wanted(job.config):
            return _record(index, molecule, self.model.predict(molecule, **settings))
        result, mf = self.model.predict_mean_field(molecule, **settings)
        found = _record(index, molecule, result)
        number = index if job.numbered else None
        export.export(mf, job.config, job.out, number, lambda text: warn(molecule.where + text))
        return found


def _record(index: int, molecule: Molecule, result: Prediction) -> Record:
    if result.energy is not None:
        check_finite(result.energy, "energy")
    arrays, attributes = prediction_arrays(result)
    method = result.info.method
    return Record(
        index=index,
        digest=digest(molecule),
        arrays={name: value for name, value in arrays.items() if value is not None},
        attributes=method_attributes(molecule, method) | attributes,
        entry=prediction_record(result),
        auxbasis=method.fitting_set,
        fock_builds=result.fock_builds,
        coarse_builds=result.coarse_builds,
    )


def run_predict(
    model_path: str | Path,
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: str | Path,
    config: PredictConfig,
    *,
    reporter: Reporter,
    command: str,
    resume: bool = False,
    overwrite: bool = True,
    model: Model | CrystalModel | None = None,
) -> dict[str, Any]:
    """Predict every structure; write ``out`` (HDF5) and the JSON summary beside it.

    Args:
        model_path: Run folder or ``model.safetensors``.
        molecules: Structures, taken one at a time.
        failed: Frames that could not be read ({file, frame, error}).
        out: HDF5 file to write.
        config: Refinement, certificate, device, threads, processes, time limit.
        reporter: Progress and warnings.
        command: Command line, for the record.
        resume: Go on with what an earlier call left unfinished; it ends as one call would have.
        overwrite: Else replace what is there; False refuses.
        model: What ``model_path`` holds, on the device of ``config``, if it was loaded already.

    Returns:
        The summary. A structure that fails is listed under ``failed``; the others are not touched
        by it. ``converged`` is true when nothing failed, every refinement asked for converged, and
        no structure was left out.

    Raises:
        InputError: If the model cannot be loaded, or what is to be gone on with was of other
            structures, settings or another model, or results are there already; nothing is
            written then.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)
    if model is None:  # says what is wrong before anything is there
        model = load_any(model_path, device=settings.device)
    single = isinstance(molecules, Sized) and len(molecules) + len(failed) == 1
    facts = {"model": fingerprint(model_path)} | config.model_dump(
        mode="json",
        exclude={"runtime", "workers", "engine", "charge", "spin", "allow_close_contacts"},
    )
    return run_batch(
        _PredictJob(str(model_path), config, Path(out), numbered=not single, model=model),
        molecules,
        failed,
        Path(out),
        facts=facts,
        method=model.method,
        state=asked_state(model.state, charge=config.charge, spin=config.spin),
        runtime=settings,
        reporter=reporter,
        command=command,
        description="predict",
        workers=config.workers,
        engine=Engine.of(config),
        resume=resume,
        overwrite=overwrite,
    )
