"""AO values in torch against libcint, and a Fock build with kept, rounded or recomputed AO values.

CPU time of one thread, medians, the variants in turns. Evaluation: one block of points near the
atoms, values as [ncomp, npoints, nao], contiguous. Fock build: PBE, fitted; the first build, which
fills the store, is not counted.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np
import structures
import torch
from pyscf import gto
from pyscf.dft import numint

from deeph_zero.ao.values import ao_values
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.integrals.grids import AOGrid
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham

POINTS = 1024
ROUNDED = 0.99
"""Memory of the rounded variant, of what everything in float64 takes."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--molecules", nargs="+", default=["water", "benzene"])
    parser.add_argument("--basis", nargs="+", default=["def2-svp", "def2-tzvp"])
    parser.add_argument("--level", type=int, default=1, help="grid of the Fock builds")
    parser.add_argument("--repeats", type=int, default=9)
    parser.set_defaults(threads=1)
    given = common.parse(parser)
    if given.threads != 1:
        parser.error("expected --threads 1: CPU time adds up over threads")
    if given.smoke:
        given.molecules, given.basis, given.repeats = ["water"], ["def2-svp"], 3
    return given


def medians(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each call, taken in turns after one round that does not count."""
    taken: list[list[float]] = [[] for _ in calls]
    for step in range(repeats + 1):
        for call, own in zip(calls, taken, strict=True):
            started = time.process_time()
            call()
            if step:
                own.append(time.process_time() - started)
    return [statistics.median(own) for own in taken]


def evaluation(mol: gto.Mole, deriv: int, repeats: int) -> dict[str, Any]:
    """Times of both evaluations, and how far they are apart relative to the largest value."""
    rng = np.random.default_rng(0)
    centres = mol.atom_coords()
    near = centres[rng.integers(0, mol.natm, POINTS)]
    points = near + rng.normal(size=(POINTS, 3))
    basis = ao_basis(mol)
    given = (torch.from_numpy(centres), torch.from_numpy(points))

    def libcint() -> np.ndarray:
        ao = numint.eval_ao(mol, points, deriv=deriv).reshape(-1, POINTS, int(mol.nao))
        return np.ascontiguousarray(ao)

    def ours() -> torch.Tensor:
        return ao_values(basis, *given, deriv)

    theirs, own = medians([libcint, ours], repeats)
    reference = libcint()
    gap = np.abs(ours().numpy() - reference).max((1, 2)) / np.abs(reference).max((1, 2))
    return {
        "nao": int(mol.nao),
        "deriv": deriv,
        "libcint_seconds": theirs,
        "torch_seconds": own,
        "ratio": own / theirs,
        "largest_difference": float(gap.max()),
    }


def builds(mol: gto.Mole, level: int, repeats: int) -> dict[str, Any]:
    """Fock builds with AO values kept, rounded in part, recomputed by libcint and by torch."""
    kept = KohnSham.from_pyscf(mol, grid_level=level, ao_memory_mb=1e5)
    needed = kept.data.grid.memory_bytes / 1e6  # pyright: ignore[reportOptionalMemberAccess]
    variants = {
        "kept": kept,
        "rounded": KohnSham.from_pyscf(mol, grid_level=level, ao_memory_mb=ROUNDED * needed),
        "libcint": KohnSham.from_pyscf(mol, grid_level=level, ao_memory_mb=0.0),
        "torch": KohnSham.from_pyscf(mol, grid_level=level, ao_memory_mb=0.0, ao_engine="torch"),
    }
    dm = kept.data.dm_guess
    energies = {name: float(ks.build(dm).energy) for name, ks in variants.items()}
    times = medians([lambda ks=ks: ks.build(dm) for ks in variants.values()], repeats)
    return {
        "nao": int(mol.nao),
        "level": level,
        "megabytes": {name: _kept_megabytes(ks) for name, ks in variants.items()},
        "seconds": dict(zip(variants, times, strict=True)),
        "energy_change": {name: abs(e - energies["kept"]) for name, e in energies.items()},
    }


def _kept_megabytes(ks: KohnSham) -> float:
    grid = ks.data.grid
    return grid.kept_bytes / 1e6 if isinstance(grid, AOGrid) else 0.0


def tables(evaluations: list[dict[str, Any]], made: list[dict[str, Any]]) -> str:
    """Both tables."""
    headers = ["molecule", "basis", "nao", "derivatives", "libcint, ms", "torch, ms"]
    headers += ["torch / libcint", "difference"]
    rows = []
    for r in evaluations:
        row = [r["molecule"], r["basis"], str(r["nao"]), str(r["deriv"])]
        row += [f"{1e3 * r['libcint_seconds']:.2f}", f"{1e3 * r['torch_seconds']:.2f}"]
        rows.append([*row, f"{r['ratio']:.1f}", f"{r['largest_difference']:.0e}"])
    first = common.table(headers, rows)
    names = ["kept", "rounded", "libcint", "torch"]
    headers = [
        "molecule",
        "basis",
        "level",
        "kept, MB",
        "rounded, MB",
        *(f"{n}, ms" for n in names),
    ]
    headers += ["rounded: dE, Eh", "torch: dE, Eh"]
    rows = []
    for r in made:
        row = [r["molecule"], r["basis"], str(r["level"])]
        row += [f"{r['megabytes'][name]:.1f}" for name in names[:2]]
        row += [f"{1e3 * r['seconds'][name]:.1f}" for name in names]
        rows.append([*row, *(f"{r['energy_change'][name]:.0e}" for name in ("rounded", "torch"))])
    return f"{first}\n\n{common.table(headers, rows)}"


def main() -> None:
    """Measure and print."""
    options = parse()
    evaluations, made = [], []
    for name in options.molecules:
        for basis in options.basis:
            mol = build_mole(structures.named(name), basis=basis)
            case = {"molecule": name, "basis": basis}
            evaluations += [case | evaluation(mol, d, options.repeats) for d in range(3)]
            made.append(case | builds(mol, options.level, options.repeats))
            common.progress(f"{name} {basis}")
    result = {
        "machine": common.machine(options.threads),
        "evaluations": evaluations,
        "builds": made,
    }
    text = tables(evaluations, made)
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
