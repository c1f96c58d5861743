"""``deeph-zero label``: converged reference data from this package's own SCF."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeph_zero import runtime
from deeph_zero.config import LabelConfig
from deeph_zero.integrals.guess import density_guess
from deeph_zero.integrals.mole import build_mole, place
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf import SCFResult
from deeph_zero.ks.start import starting_density
from deeph_zero.molecule import Molecule
from deeph_zero.predict.batch import Result, check_finite, run_batch
from deeph_zero.predict.record import dispersion_entry, label_arrays, structure_record
from deeph_zero.reporting import Reporter
from deeph_zero.train.problem import kohn_sham


def _solved(ks: KohnSham, dm0: Tensor, config: LabelConfig) -> SCFResult:
    return ks.scf(
        dm0,
        conv_tol=config.conv_tol,
        conv_tol_grad=config.conv_tol_grad,
        max_cycle=config.max_cycle,
        level_shift=config.level_shift,
        leave_saddles=config.stability,
    )


def _prepared(
    molecule: Molecule, config: LabelConfig, device: torch.device | str
) -> tuple[KohnSham, Tensor]:
    """The layer and the density its SCF starts from."""
    method = config.method
    mol = build_mole(molecule, basis=method.basis)
    ks = kohn_sham(molecule, method, device=device, mol=mol)
    ks.smearing = config.smearing
    if config.init_guess == "minao":
        return ks, ks.data.dm_guess
    if config.init_guess == "core" and not method.break_symmetry:
        return ks, starting_density(ks, "core")
    guess = density_guess(
        mol,
        unrestricted=ks.unrestricted,
        break_symmetry=method.break_symmetry,
        recipe=config.init_guess,
    )
    return ks, guess.to(ks.data.ovlp)


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
        ks, dm0 = _prepared(molecule, config, settings.device)
        result = _solved(ks, dm0, config)
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
        record |= dispersion_entry(ks.info)
        arrays, attributes = label_arrays(molecule, result, ks.data.ovlp)
        if config.smearing > 0:
            record["free_energy"] = attributes["free_energy"] = result.free_energy
            attributes["smearing"] = config.smearing
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
