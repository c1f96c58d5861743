"""``deeph-zero predict``: a trained model applied to a list of structures."""

from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

from deeph_zero import runtime
from deeph_zero.config import FORCE_TOL, PredictConfig
from deeph_zero.model import Model, load
from deeph_zero.molecule import Molecule
from deeph_zero.predict import export
from deeph_zero.predict.batch import Result, check_finite, run_batch
from deeph_zero.predict.record import prediction_arrays, prediction_record
from deeph_zero.reporting import Reporter


class _Compute:
    """What is done with one structure; the files for other programs are numbered as the groups."""

    def __init__(self, model: Model, config: PredictConfig, out: Path, *, numbered: bool) -> None:
        self._model = model
        self._config = config
        self._out = out
        self._numbered = numbered
        self._count = 0

    def __call__(self, molecule: Molecule) -> Result:
        config = self._config
        mf = None
        settings = {
            "refine": FORCE_TOL if config.forces and config.refine is None else config.refine,
            "certificate": config.certificate,
            "coupled": config.coupled,
            "compare_start": config.compare_start,
        }
        if export.wanted(config):
            result, mf = self._model.predict_mean_field(molecule, **settings)
            if config.forces:
                result = self._model.with_forces(result)
        else:
            result = self._model.predict(molecule, **settings, forces=config.forces)
        if result.energy is not None:
            check_finite(result.energy, "energy")
        if mf is not None:
            export.export(mf, config, self._out, self._count if self._numbered else None)
        arrays, attributes = prediction_arrays(result)
        record = prediction_record(result)
        self._count += 1
        return arrays, attributes, record, result.info.auxbasis, result.fock_builds


def run_predict(
    model_path: str | Path,
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: str | Path,
    config: PredictConfig,
    *,
    reporter: Reporter,
    command: str,
) -> dict[str, Any]:
    """Predict every structure; write ``out`` (HDF5) and the JSON summary beside it.

    Args:
        model_path: Run folder or ``model.safetensors``.
        molecules: Structures, taken one at a time.
        failed: Frames that could not be read ({file, frame, error}).
        out: HDF5 file to write.
        config: Refinement, certificate, device, threads, time limit.
        reporter: Progress and warnings.
        command: Command line, for the record.

    Returns:
        The summary. A structure that fails is listed under ``failed``; the others are not touched
        by it. ``converged`` is true when nothing failed, every refinement asked for converged, and
        no structure was left out.

    Raises:
        InputError: If the model cannot be loaded; nothing is written then.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)
    model = load(model_path, device=settings.device)

    single = isinstance(molecules, Sized) and len(molecules) + len(failed) == 1
    compute = _Compute(model, config, Path(out), numbered=not single)
    method = model.method.model_copy(update={"charge": config.charge, "spin": config.spin})
    return run_batch(
        compute,
        molecules,
        failed,
        Path(out),
        method=method,
        runtime=settings,
        reporter=reporter,
        command=command,
        description="predict",
    )
