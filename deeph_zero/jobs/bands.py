"""``deeph-zero bands``: levels of stored real-space blocks along a path, densities of states."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import Record, Structure, read_record, required_overlap
from deeph_zero.data.formats.spins import to_spinor
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.files import json_beside, write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import Deadline
from deeph_zero.host.signals import Interrupt, interruptible
from deeph_zero.host.version import __version__
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.jobs.convert import atomic_shells
from deeph_zero.jobs.crystals import mesh_of
from deeph_zero.kohnsham.k_path import KPath, k_path
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.settings.bands_config import BandsConfig

FORMAT_VERSION = 1
_SAME = 1e-6
"""Levels this near to the Fermi level (Eh) are filled."""
_ELEMENTS = 2_000_000
"""Of all matrices that are diagonalised at once."""
_GRID = 2000
"""Energies of a density of states."""
_ABOVE = 1.0
"""How far above the Fermi level a density of states goes, Eh."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalBands:
    """What was found for one crystal.

    Attributes:
        entry: For the summary.
        path: The k-points.
        energies: [nspin, nk, n], Eh.
        structure: The atoms.
        dos: Energies (Eh) and states per Eh and cell, [n] and [nspin, n]; None where not asked.
    """

    entry: dict[str, Any]
    path: KPath
    energies: torch.Tensor
    structure: Structure
    dos: tuple[np.ndarray, np.ndarray] | None = None


def run_bands(
    config: BandsConfig,
    files: Sequence[str],
    out: Path,
    *,
    reporter: Reporter,
    command: str,
    deadline: Deadline,
) -> tuple[dict[str, Any], list[CrystalBands]]:
    """Bands of every crystal of some files.

    Args:
        config: The path.
        files: Files of real-space blocks.
        out: HDF5 file to write, and JSON beside it.
        reporter: Progress.
        command: Command line, for the record.
        deadline: When to stop.

    Returns:
        The summary, and what was found.

    Raises:
        InputError: If a file cannot be read, or none has a crystal.
        ComputationError: If a file cannot be written.
        KeyboardInterrupt: After Ctrl-C, with the files written.
    """
    started = time.monotonic()
    sources = [(name, _opened(name)) for name in files]
    places = [(name, source, k) for name, source in sources for k in range(len(source))]
    found: list[CrystalBands] = []
    failed: list[dict[str, Any]] = []
    stopped: str | None = None
    with interruptible() as interrupt, reporter.task("bands", len(places)) as task:
        for name, source, k in places:
            stopped = _stop(interrupt, deadline)
            if stopped:
                break
            try:
                found.append(_crystal(config, read_record(source, k), name, k))
            except (InputError, ComputationError) as error:
                text = str(error).removeprefix(f"{source.place(k)}: ")
                failed.append({"file": name, "frame": k, "error": text})
            task.advance()
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
    if stopped == "interrupt":
        raise KeyboardInterrupt
    return summary, found


def _opened(name: str) -> LabelsSource:
    try:
        return LabelsSource(Path(name), atomic_shells)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _stop(interrupt: Interrupt, deadline: Deadline) -> str | None:
    if interrupt.requested:
        return "interrupt"
    return "max_time" if deadline.expired() else None


def _crystal(config: BandsConfig, record: Record, file: str, frame: int) -> CrystalBands:
    structure = record.structure
    if structure.lattice is None or not structure.pbc[:2].all():
        raise InputError("expected a crystal with real-space blocks, got a molecule; leave it out")
    pbc = (True, True, bool(structure.pbc[2]))
    path = k_path(structure.lattice, pbc, config.path, config.points)
    energies = levels(record, path.kpts)
    fermi = record.matrices.facts.get("fermi")
    entry: dict[str, Any] = {
        "file": file,
        "frame": frame,
        "path": path.path,
        "labels": [[name, float(x)] for name, x in zip(path.labels, path.ticks, strict=True)],
        "fermi": fermi,
        **_edges(energies, path, fermi),
    }
    dos = None
    if config.dos:
        mesh = mesh_of(structure.lattice, pbc, config.dos_spacing)
        dos = _density_of_states(record, make_kpoints(mesh), config.width, fermi)
        entry["dos_kmesh"] = list(mesh)
    return CrystalBands(entry=entry, path=path, energies=energies, structure=structure, dos=dos)


def levels(record: Record, kpts: np.ndarray) -> torch.Tensor:
    """Levels of real-space blocks.

    Args:
        record: With an overlap.
        kpts: Fractions of the reciprocal vectors, [nk, 3].

    Returns:
        [nspin, nk, n], Eh, ascending; one spin axis where spins mix.

    Raises:
        InputError: If S is singular, or there is none.
    """
    matrices = record.matrices
    overlap = required_overlap(matrices)
    if matrices.spinor:
        overlap = to_spinor(overlap, matrices.sizes)
    points = torch.from_numpy(np.ascontiguousarray(kpts, dtype=np.float64))
    step = max(1, _ELEMENTS // max(1, matrices.fock.nao**2))
    parts = []
    for some in points.split(step):
        orthogonal = BlochOrthogonaliser(overlap.at_k(some), lindep_threshold())
        fock = matrices.fock.at_k(some)
        fock = fock if matrices.spin_polarised else fock[None]
        parts.append(orthogonal.levels(fock))
    return torch.cat(parts, 1)


def _edges(energies: torch.Tensor, path: KPath, fermi: float | None) -> dict[str, Any]:
    """Edges of the bands, and the gap between them: 0 where a band crosses the Fermi level."""
    names: list[str] = ["vbm", "cbm", "gap", "vbm_k", "cbm_k", "direct", "metal"]
    nothing: dict[str, Any] = dict.fromkeys(names)
    if fermi is None:
        return nothing
    filled = energies <= fermi + _SAME
    counts = filled.sum(-1)
    if bool((counts != counts[:, :1]).any()):
        return nothing | {"gap": 0.0, "metal": True}
    below = torch.where(filled, energies, -torch.inf).amax((0, 2))
    above = torch.where(filled, torch.inf, energies).amin((0, 2))
    top, bottom = int(below.argmax()), int(above.argmin())
    vbm, cbm = float(below[top]), float(above[bottom])
    if not (math.isfinite(vbm) and math.isfinite(cbm)):
        return nothing | {"metal": False}
    return {
        "vbm": vbm,
        "cbm": cbm,
        "gap": max(0.0, cbm - vbm),
        "vbm_k": path.kpts[top].tolist(),
        "cbm_k": path.kpts[bottom].tolist(),
        "direct": float((above - below).min()) <= cbm - vbm + _SAME,
        "metal": False,
    }


def _density_of_states(
    record: Record, kpoints: KPoints, width: float, fermi: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Energies, and states of both spins together (or of each) per Eh and cell."""
    energies = levels(record, kpoints.scaled).numpy()
    finite = energies[np.isfinite(energies)]
    top = float(finite.max()) if fermi is None else min(float(finite.max()), fermi + _ABOVE)
    grid = np.linspace(float(finite.min()) - 6 * width, top + 6 * width, _GRID)
    per_level = 2.0 if len(energies) == 1 and not record.matrices.spinor else 1.0
    norm = per_level / (width * math.sqrt(2 * math.pi))
    dos = np.zeros((len(energies), _GRID))
    for s, spin in enumerate(energies):
        for weight, row in zip(kpoints.weights, spin, strict=True):
            near = row[np.isfinite(row) & (row < top + 12 * width)]
            z = (grid[:, None] - near) / width
            dos[s] += weight * norm * np.exp(-0.5 * z**2).sum(1)
    return grid, dos


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
    names = ("file", "frame", "path", "fermi", "gap", "vbm", "cbm")
    return {name: item.entry[name] for name in names} | {
        "labels": list(item.path.labels),
        "charge": item.structure.charge,
        "spin": item.structure.spin,
    }
