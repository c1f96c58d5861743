"""``deeph-zero predict``: a trained model applied to a list of structures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deeph_zero import runtime
from deeph_zero.config import PredictConfig
from deeph_zero.model import load
from deeph_zero.molecule import Molecule
from deeph_zero.predict.batch import Result, check_finite, run_batch
from deeph_zero.predict.record import prediction_arrays, prediction_record
from deeph_zero.reporting import Reporter


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

    def compute(molecule: Molecule) -> Result:
        result = model.predict(
            molecule,
            refine=config.refine,
            certificate=config.certificate,
            coupled=config.coupled,
        )
        if result.energy is not None:
            check_finite(result.energy, "energy")
        arrays, attributes = prediction_arrays(result)
        record = prediction_record(result)
        return arrays, attributes, record, result.info.auxbasis, result.fock_builds

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
