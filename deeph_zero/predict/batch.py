"""The loop that ``predict`` and ``label`` share: structure by structure, files that always end."""

import time
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import Any

from deeph_zero.config import MethodConfig
from deeph_zero.errors import ComputationError
from deeph_zero.files import PredictionWriter, json_beside, write_json
from deeph_zero.integrals.mole import place
from deeph_zero.molecule import Molecule
from deeph_zero.predict.record import failure, method_attributes, summary
from deeph_zero.reporting import Reporter
from deeph_zero.runtime import Runtime, interruptible

Result = tuple[dict[str, Any], dict[str, Any], dict[str, Any], str | None, int]
"""Arrays, attributes, structure entry, resolved fitting set, Fock builds."""


def run_batch(
    compute: Callable[[Molecule], Result],
    molecules: Iterable[Molecule],
    failed: list[dict[str, Any]],
    out: Path,
    *,
    method: MethodConfig,
    runtime: Runtime,
    reporter: Reporter,
    command: str,
    description: str,
) -> dict[str, Any]:
    """Compute every structure and write ``out`` and the JSON beside it.

    One structure is in memory at a time. A structure that fails is listed under ``failed`` and the
    next one is taken. The deadline and Ctrl-C are acted on between structures, a second Ctrl-C at
    once, always with both files complete for what was done.

    Args:
        compute: What to do with one structure.
        molecules: The structures.
        failed: Frames that could not be read, listed first.
        out: HDF5 file.
        method: The problem, for the record.
        runtime: Device, threads, seed, deadline.
        reporter: Progress.
        command: Command line, for the record.
        description: Text beside the progress bar.

    Returns:
        The summary.

    Raises:
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    started = time.monotonic()
    failed = list(failed)
    structures: list[dict[str, Any]] = []
    auxbasis: dict[str, None] = {}
    builds = 0
    stopped_by = None
    total = len(molecules) if isinstance(molecules, Sized) else None
    with interruptible() as interrupt:
        with PredictionWriter(out) as writer, reporter.task(description, total) as task:
            for molecule in molecules:
                if interrupt.requested or runtime.deadline.expired():
                    stopped_by = "interrupt" if interrupt.requested else "max_time"
                    break
                try:
                    arrays, attributes, entry, aux, spent = compute(molecule)
                except KeyboardInterrupt:  # the second one: give this structure up
                    stopped_by = "interrupt"
                    break
                except Exception as error:
                    # one structure must not end the batch, whatever it meets
                    failed.append(failure(molecule, error))
                    reporter.warning(place(molecule) + failed[-1]["error"])
                    task.advance()
                    continue
                attributes = {**method_attributes(molecule, method, aux), **attributes}
                writer.write(arrays, attributes)
                structures.append(entry)
                builds += spent
                if aux is not None:
                    auxbasis[aux] = None
                task.advance()
        result = summary(
            command=command,
            method=method,
            auxbasis=" / ".join(auxbasis) or None,
            runtime=runtime,
            started=started,
            structures=structures,
            failed=failed,
            stopped_by=stopped_by,
            fock_builds=builds,
        )
        write_json(json_beside(out), result)
    if stopped_by == "interrupt":
        raise KeyboardInterrupt
    return result


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
