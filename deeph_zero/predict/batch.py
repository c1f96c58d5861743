"""The loop that ``predict`` and ``label`` share: structure by structure, files that always end."""

import dataclasses
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


class _WriteError(Exception):
    """The output file refuses: unlike a structure's own trouble, this ends the batch."""

    def __init__(self, reason: ComputationError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclasses.dataclass
class _Done:
    """What a batch has so far."""

    failed: list[dict[str, Any]]
    structures: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    auxbasis: dict[str, None] = dataclasses.field(default_factory=dict)
    builds: int = 0
    stopped_by: str | None = None

    def take(
        self, result: Result, molecule: Molecule, method: MethodConfig, writer: PredictionWriter
    ) -> None:
        """Write one result and remember its entry."""
        arrays, attributes, entry, auxbasis, builds = result
        try:
            writer.write(arrays, {**method_attributes(molecule, method, auxbasis), **attributes})
        except ComputationError as error:
            raise _WriteError(error) from error
        self.structures.append(entry)
        self.builds += builds
        if auxbasis is not None:
            self.auxbasis[auxbasis] = None

    def summary(self, **facts: Any) -> dict[str, Any]:
        """The summary of what there is."""
        return summary(
            auxbasis=" / ".join(self.auxbasis) or None,
            structures=self.structures,
            failed=self.failed,
            stopped_by=self.stopped_by,
            fock_builds=self.builds,
            **facts,
        )


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
    done = _Done(failed=list(failed))
    total = len(molecules) if isinstance(molecules, Sized) else None
    with interruptible() as interrupt:
        with PredictionWriter(out) as writer, reporter.task(description, total) as task:
            for molecule in molecules:
                if interrupt.requested or runtime.deadline.expired():
                    done.stopped_by = "interrupt" if interrupt.requested else "max_time"
                    break
                try:
                    done.take(compute(molecule), molecule, method, writer)
                except KeyboardInterrupt:  # the second one: give this structure up
                    done.stopped_by = "interrupt"
                    break
                except _WriteError as error:
                    raise error.reason from None
                except Exception as error:
                    # one structure must not end the batch, whatever it meets
                    done.failed.append(failure(molecule, error))
                    reporter.warning(place(molecule) + done.failed[-1]["error"])
                task.advance()
        _warn_degenerate(done.structures, reporter)
        result = done.summary(method=method, runtime=runtime, started=started, command=command)
        write_json(json_beside(out), result)
    if done.stopped_by == "interrupt":
        raise KeyboardInterrupt
    return result


def _warn_degenerate(structures: list[dict[str, Any]], reporter: Reporter) -> None:
    """Once for the whole batch."""
    found = [entry for entry in structures if entry.get("degenerate")]
    if found:
        first = found[0]
        reporter.warning(
            f"{first['file']} frame {first['frame']}: the ground state is degenerate "
            f"({len(found)} of {len(structures)} structures): its frontier level is filled evenly, "
            "which is not a single determinant; see --break-symmetry of fit and label"
        )


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
