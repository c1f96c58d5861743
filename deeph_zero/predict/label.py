"""``deeph-zero label``: converged reference data from this package's own SCF."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deeph_zero import runtime
from deeph_zero.config import LabelConfig
from deeph_zero.integrals.mole import place
from deeph_zero.molecule import Molecule
from deeph_zero.predict.batch import Result, check_finite, run_batch
from deeph_zero.predict.record import label_arrays, structure_record
from deeph_zero.reporting import Reporter
from deeph_zero.train.problem import kohn_sham


def run_label(
    config: LabelConfig,
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: str | Path,
    *,
    reporter: Reporter,
    command: str,
) -> dict[str, Any]:
    """Converge every structure; write ``out`` (HDF5) and the JSON summary beside it.

    Args:
        config: Method, tolerances, device, threads, time limit.
        molecules: Structures, taken one at a time.
        failed: Frames that could not be read ({file, frame, error}).
        out: HDF5 file to write.
        reporter: Progress and warnings.
        command: Command line, for the record.

    Returns:
        The summary. An SCF that does not converge is a result, marked ``converged: false``.

    Raises:
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    settings = runtime.setup(config.runtime)

    def compute(molecule: Molecule) -> Result:
        ks = kohn_sham(molecule, config.method, device=settings.device)
        result = ks.scf(
            conv_tol=config.conv_tol,
            conv_tol_grad=config.conv_tol_grad,
            max_cycle=config.max_cycle,
        )
        check_finite(result.energy, "SCF energy")
        if not result.converged:
            reporter.warning(
                f"{place(molecule)}SCF not converged after "
                f"{result.iterations} cycles; use a larger --max-cycle"
            )
        record = structure_record(
            molecule,
            # uncoupled: at convergence the response build would refine an estimate of rounding
            certificate=ks.certificate(result.dm, result.fock, result.energy, coupled=False),
            dipole=ks.dipole(result.dm).cpu().numpy(),
            n_electrons=ks.n_electrons(result.dm),
            spin_square=ks.spin_square(result.dm) if ks.unrestricted else None,
            residual_mae=None,
            converged=result.converged,
        )
        if result.degenerate:
            record["degenerate"] = True
        arrays, attributes = label_arrays(molecule, result, ks.data.ovlp)
        return arrays, attributes, record, ks.info.auxbasis, ks.fock_builds

    return run_batch(
        compute,
        molecules,
        failed,
        Path(out),
        method=config.method,
        runtime=settings,
        reporter=reporter,
        command=command,
        description="label",
    )
