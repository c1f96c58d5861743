"""``deeph-zero evaluate A.h5 B.h5``: matrices of one file against those of another.

No function has to be known: what is compared are blocks and levels, in any basis. A constant
potential is no difference: H and H + μ S are one Hamiltonian, so that errors are given both as the
files stand and with the μ taken off that fits best.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Structure,
    on_blocks,
    read_record,
    required_overlap,
)
from deeph_zero.data.formats.spins import to_spinor
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.files import remove_abandoned, write_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import Deadline, stop_reason
from deeph_zero.host.signals import interruptible
from deeph_zero.host.version import __version__
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.jobs.convert import atomic_shells
from deeph_zero.jobs.evaluate import pooled
from deeph_zero.predict.band_structure import levels
from deeph_zero.settings.crystal_method import mesh_of

FORMAT_VERSION = 1
NAMES = ("fock", "aligned", "overlap", "levels")
SAME_POSITION = 1e-3
"""Largest difference of coordinates and lattice vectors, bohr; formats round them."""
SPACING = 0.3
"""Distance of the k-points where levels are compared, 1/bohr."""


def run_matrix_errors(
    ours: str,
    theirs: str,
    out: Path,
    *,
    reporter: Reporter,
    command: str,
    deadline: Deadline,
) -> dict[str, Any]:
    """Compare two files, structure by structure in their order.

    Args:
        ours: HDF5 file of ``convert``, ``label``, ``predict`` or ``project``.
        theirs: The reference, likewise.
        out: JSON file to write.
        reporter: Progress.
        command: Command line, for the record.
        deadline: When to stop.

    Returns:
        What is written: ``errors`` over all structures, ``structures``, ``failed``.

    Raises:
        InputError: If a file cannot be read, they differ in the number of structures, or none of
            these can be compared.
        KeyboardInterrupt: After Ctrl-C, with the file written.
    """
    started = time.monotonic()
    first, second = (LabelsSource(Path(name), atomic_shells) for name in (ours, theirs))
    if len(first) != len(second):
        raise InputError(
            f"{theirs}: expected {len(first)} structures as in {ours}, got {len(second)}; compare "
            "files of the same structures in the same order"
        )
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    stopped: str | None = None
    with interruptible(reporter.warning) as interrupt:
        with reporter.task("evaluate", len(first)) as task:
            for k in range(len(first)):
                if stopped := stop_reason(interrupt, deadline):
                    break
                try:
                    found = compared(read_record(first, k), read_record(second, k))
                    rows.append({"file": ours, "frame": k} | found)
                except (InputError, ComputationError) as error:
                    text = str(error).removeprefix(f"{first.place(k)}: ")
                    failed.append({"file": ours, "frame": k, "error": text})
                task.advance()
        if not rows and failed and not stopped:
            raise InputError(f"{ours} frame {failed[0]['frame']}: {failed[0]['error']}")
        result = {
            "version": __version__,
            "format_version": FORMAT_VERSION,
            "command": command,
            "reference": theirs,
            "n_structures": len(rows),
            "errors": {name: pooled(some) for name in NAMES if (some := _present(rows, name))},
            "structures": rows,
            "failed": failed,
            "stopped_by": stopped,
            "wall_time_s": time.monotonic() - started,
        }
        remove_abandoned(out)
        write_json(out, result)
        interrupt.settle(stopped)
    return result


def _present(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def compared(ours: Record, theirs: Record) -> dict[str, Any]:
    """Errors of one structure's matrices.

    Args:
        ours: What is judged.
        theirs: The reference.

    Returns:
        Eh: of ``fock`` as it stands, ``aligned`` after the best constant potential ``shift``, of
        S (``overlap``), and of the ``levels`` after the shift, each with its own overlap; mean and
        largest absolute values. ``missing`` counts blocks that one of the two has alone; they are
        zero in the other.

    Raises:
        InputError: If structures or functions differ.
    """
    _check_same(ours.structure, theirs.structure)
    left, right = ours.matrices, theirs.matrices
    if left.shells != right.shells:
        raise InputError(
            "expected the same shells of every atom in both files, got others; compare matrices "
            "of one basis"
        )
    fock, pattern, missing = _together(*_alike(left, right))
    delta = fock[0] - fock[1]
    metric = None if right.overlap is None else _metric(right, pattern)
    shift, aligned = None, None
    if metric is not None:
        # the same μ for all spins
        shift = float((delta * metric).real.sum() / (len(delta) * metric.square().sum()))
        aligned = _errors(delta - shift * metric)
    overlap = None
    if left.overlap is not None and right.overlap is not None:
        (one, other), _, _ = _together(left.overlap, right.overlap)
        overlap = _errors(one - other)
    return {
        "n_atoms": len(ours.structure.numbers),
        "fock": _errors(delta) | {"elements": _by_elements(delta, pattern, ours.structure)},
        "aligned": aligned,
        "shift": shift,
        "overlap": overlap,
        "levels": _levels(ours, theirs, shift or 0.0),
        "blocks": len(pattern),
        "missing": missing,
        "converged": True,
    }


def _check_same(ours: Structure, theirs: Structure) -> None:
    same = np.array_equal(ours.numbers, theirs.numbers)
    same = same and (ours.lattice is None) == (theirs.lattice is None)
    if not same:
        raise InputError(
            f"expected the atoms of {_formula(theirs)} as in the other file, got {_formula(ours)}; "
            "give files of the same structures in the same order"
        )
    off = np.abs(ours.coords - theirs.coords).max()
    if ours.lattice is not None and theirs.lattice is not None:
        cell = theirs.lattice
        parts = np.linalg.solve(cell.T, (ours.coords - theirs.coords).T).T
        # atoms may be in other images of the cell only where the blocks say so, too
        off = np.abs(parts @ cell).max() + np.abs(ours.lattice - cell).max()
    if off > SAME_POSITION:
        raise InputError(
            f"expected positions as in the other file, got some that are {off:.3g} bohr apart; "
            "give files of the same structures in the same order"
        )


def _formula(structure: Structure) -> str:
    symbols = [chemical_symbols[z] for z in structure.numbers[:6]]
    more = "..." if len(structure.numbers) > len(symbols) else ""
    kind = "a molecule" if structure.lattice is None else "a crystal"
    return f"{kind} {' '.join(symbols)}{more}"


def _alike(left: Matrices, right: Matrices) -> list[BlockMatrix]:
    """Both H with the same spins: mixed, two, or one."""
    both = [left, right]
    if left.spinor or right.spinor:
        return [to_spinor(m.fock, m.sizes) for m in both]
    if left.spin_polarised or right.spin_polarised:
        return [
            m.fock
            if m.spin_polarised
            else m.fock.with_values(torch.stack([m.fock.values, m.fock.values]))
            for m in both
        ]
    return [left.fock, right.fock]


def _together(
    one: BlockMatrix, other: BlockMatrix
) -> tuple[tuple[torch.Tensor, torch.Tensor], BlockMatrix, int]:
    """Elements [nspin, nel] on the blocks that either has, and how many only one has."""
    keys = [torch.cat([m.cells, m.pairs], 1) for m in (one, other)]
    every = torch.cat(keys).unique(dim=0)
    areas = torch.tensor(one.sizes)[every[:, 3:]].prod(1)
    zeros = torch.zeros(int(areas.sum()), dtype=torch.float64)
    pattern = BlockMatrix.packed(every[:, 3:], every[:, :3], zeros, one.sizes)
    left, right = (on_blocks(m, pattern).values.reshape(-1, len(zeros)) for m in (one, other))
    return (left, right), pattern, 2 * len(every) - len(keys[0]) - len(keys[1])


def _metric(matrices: Matrices, pattern: BlockMatrix) -> torch.Tensor:
    """S on the blocks of H, for both spins where they mix."""
    overlap = required_overlap(matrices)
    if pattern.sizes != overlap.sizes:
        overlap = to_spinor(overlap, matrices.sizes)
    there = {tuple(key) for key in torch.cat([pattern.pairs, pattern.cells], 1).tolist()}
    keys = torch.cat([overlap.pairs, overlap.cells], 1).tolist()
    inside = overlap.select(torch.tensor([tuple(key) in there for key in keys]))
    return on_blocks(inside, pattern).values


def _errors(delta: torch.Tensor) -> dict[str, float]:
    size = delta.abs()
    return {"mae": float(size.mean()), "max": float(size.max())}


def _by_elements(
    delta: torch.Tensor, pattern: BlockMatrix, structure: Structure
) -> dict[str, dict[str, float]]:
    """Mean absolute element by pair of elements, an atom's own blocks and those with others."""
    symbols = [chemical_symbols[z] for z in structure.numbers]
    sums: dict[str, tuple[float, int]] = {}
    sized = pattern.with_values(delta.abs())
    for k, ((i, j), cell) in enumerate(
        zip(pattern.pairs.tolist(), pattern.cells.tolist(), strict=True)
    ):
        own = i == j and not any(cell)
        name = f"{symbols[i]} on site" if own else "-".join(sorted((symbols[i], symbols[j])))
        block = sized.block(k)
        total, count = sums.get(name, (0.0, 0))
        sums[name] = total + float(block.sum()), count + block.numel()
    return {name: {"mae": total / count} for name, (total, count) in sorted(sums.items())}


def _levels(ours: Record, theirs: Record, shift: float) -> dict[str, float] | None:
    """Levels at Γ of a molecule, on a mesh of a crystal, each with its own overlap."""
    if theirs.matrices.overlap is None:
        return None
    borrowed = ours
    if ours.matrices.overlap is None:
        matrices = dataclasses.replace(ours.matrices, overlap=theirs.matrices.overlap)
        borrowed = dataclasses.replace(ours, matrices=matrices)
    structure = theirs.structure
    kpts = np.zeros((1, 3))
    if structure.lattice is not None:
        pbc = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
        kpts = make_kpoints(mesh_of(structure.lattice, pbc, SPACING)).scaled
    found = [levels(record, kpts) for record in (borrowed, theirs)]
    if found[0].shape[1:] != found[1].shape[1:]:
        return None  # spins that mix in one file alone
    delta = (found[0] - shift - found[1]).abs()
    delta = delta[torch.isfinite(delta)]
    entry = {"mae": float(delta.mean()), "max": float(delta.max())}
    fermi = theirs.matrices.facts.get("fermi")
    if fermi is not None:
        below = (found[1] <= fermi).expand(found[0].shape)
        off = (found[0] - shift - found[1]).abs()[below]
        entry["occupied_mae"] = float(off.mean()) if off.numel() else 0.0
    return entry
