"""``deeph-zero bands``: levels of stored real-space blocks along a path, densities of states."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import (
    Record,
    read_record,
)
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.files import json_beside, remove_abandoned, write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.reporting import Reporter, Task
from deeph_zero.host.runtime import Deadline, stop_reason
from deeph_zero.host.signals import interruptible
from deeph_zero.host.version import __version__
from deeph_zero.jobs.convert import atomic_shells
from deeph_zero.molecule import Molecule
from deeph_zero.predict.band_structure import CrystalBands, band_structure
from deeph_zero.predict.crystal_blocks import predicted_blocks
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.settings.bands_config import BandsConfig
from deeph_zero.settings.crystal_method import ModelCrystals

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Place:
    """One crystal whose bands are wanted.

    Attributes:
        file: Its file.
        frame: Position in it.
        record: Reads, or predicts, its blocks.
        prefix: What messages about it begin with and need not say twice.
    """

    file: str
    frame: int
    record: Callable[[], Record]
    prefix: str


def stored(files: Sequence[str]) -> list[Place]:
    """The crystals of files of real-space blocks.

    Args:
        files: Files of ``label``, ``predict``, ``project`` or ``convert``.

    Returns:
        Their places.

    Raises:
        InputError: If a file cannot be read.
    """
    return [
        Place(name, k, functools.partial(read_record, source, k), source.place(k))
        for name, source in ((name, _opened(name)) for name in files)
        for k in range(len(source))
    ]


def predicted(
    model: CrystalModel, molecules: Sequence[Molecule], settings: ModelCrystals
) -> list[Place]:
    """Crystals whose blocks a model predicts; no Fock build is made.

    Args:
        model: The model.
        molecules: The crystals.
        settings: What is solved.

    Returns:
        Their places.
    """
    return [
        Place(
            m.file, m.frame, functools.partial(predicted_blocks, model, m, settings), m.where[:-2]
        )
        for m in molecules
    ]


def run_bands(
    config: BandsConfig,
    places: Sequence[Place],
    out: Path,
    *,
    reporter: Reporter,
    command: str,
    deadline: Deadline,
    failed: Sequence[dict[str, Any]] = (),
) -> tuple[dict[str, Any], list[CrystalBands]]:
    """Bands of crystals.

    Args:
        config: The path.
        places: The crystals, of :func:`stored` or :func:`predicted`.
        out: HDF5 file to write, and JSON beside it.
        reporter: Progress.
        command: Command line, for the record.
        deadline: When to stop.
        failed: Frames that could not be read.

    Returns:
        The summary, and what was found.

    Raises:
        InputError: If a file cannot be read, or none has a crystal.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    started = time.monotonic()
    found: list[CrystalBands] = []
    failed = list(failed)
    remove_abandoned(out, json_beside(out))
    with interruptible(reporter.warning) as interrupt:
        with reporter.task("bands", len(places)) as task:
            stop = lambda: stop_reason(interrupt, deadline)  # noqa: E731
            stopped = _each(config, places, stop, task, (found, failed))
        if not found and failed and not stopped:
            first = failed[0]
            raise InputError(f"{first['file']} frame {first['frame']}: {first['error']}")
        with PredictionWriter(out) as writer:
            for item in found:
                writer.write(_arrays(item), _attributes(item))
        summary = {
            "version": __version__,
            "format_version": FORMAT_VERSION,
            "command": command,
            "points": config.points,
            "n_structures": len(found),
            "stopped_by": stopped,
            "wall_time_s": time.monotonic() - started,
            "structures": [item.entry for item in found],
            "failed": failed,
        }
        write_json(json_beside(out), summary)
        interrupt.settle(stopped)
    return summary, found


def _each(
    config: BandsConfig,
    places: Sequence[Place],
    stop: Callable[[], str | None],
    task: Task,
    results: tuple[list[CrystalBands], list[dict[str, Any]]],
) -> str | None:
    """One crystal after another; what ended it early."""
    found, failed = results
    for place in places:
        if reason := stop():
            return reason
        try:
            found.append(_crystal(config, place.record(), place.file, place.frame))
        except (InputError, ComputationError) as error:
            text = str(error).removeprefix(f"{place.prefix}: ")
            failed.append({"file": place.file, "frame": place.frame, "error": text})
        task.advance()
    return None


def _opened(name: str) -> LabelsSource:
    try:
        return LabelsSource(Path(name), atomic_shells)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _crystal(config: BandsConfig, record: Record, file: str, frame: int) -> CrystalBands:
    structure = record.structure
    if structure.lattice is None or not structure.pbc[:2].all():
        raise InputError("expected a crystal with real-space blocks, got a molecule; leave it out")
    found = band_structure(
        record,
        config.path,
        config.points,
        dos_spacing=config.dos_spacing if config.dos else None,
        width=config.width,
    )
    return dataclasses.replace(found, entry={"file": file, "frame": frame} | found.entry)


def _arrays(item: CrystalBands) -> dict[str, Any]:
    energies = item.energies.numpy()
    arrays: dict[str, Any] = {
        "numbers": item.structure.numbers,
        "positions": item.structure.coords,
        "lattice": item.structure.lattice,
        "pbc": item.structure.pbc,
        "band_kpts": item.path.kpts,
        "band_distances": item.path.distances,
        "band_energies": energies[0] if len(energies) == 1 else energies,
        "band_ticks": item.path.ticks,
    }
    if item.dos is not None:
        grid, dos = item.dos
        arrays |= {"dos_energies": grid, "dos": dos[0] if len(dos) == 1 else dos}
    return arrays


def _attributes(item: CrystalBands) -> dict[str, Any]:
    names = ("file", "frame", "path", "fermi", "fermi_of_spins", "gap", "vbm", "cbm")
    return {name: item.entry[name] for name in names if name in item.entry} | {
        "labels": list(item.path.labels),
        "charge": item.structure.charge,
        "spin": item.structure.spin,
    }
