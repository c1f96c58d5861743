"""What a training geometry takes in memory, and what integrals in single precision cost.

    python benchmarks/bench_memory.py                  # 45 frames of ethanol, PBE and B3LYP
    python benchmarks/bench_memory.py --frames 300

Frames are ethanol with every coordinate displaced at random (0.05 bohr), PBE/def2-SVP, grid level
0, with F₀ and four teacher's builds; their integrals are released as in a run with little memory.
The growth of the process's resident memory over the last two thirds of them is what stays of a
frame. The second part compares B3LYP/def2-SVP, grid level 1, with integrals kept in float32 and in
float64: energy and Fock matrix at one density, SCF energy, CPU time of a build (in turns).
"""

import ctypes
import dataclasses
import gc
import statistics
import time
from pathlib import Path
from typing import Any

import ase.build
import common
import numpy as np
import torch

from deeph_zero.integrals.mole import build_mole
from deeph_zero.ks.protocol import KSData
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import Means, basis_layout, kohn_sham, same_data
from deeph_zero.train.store.cache import HeavyStore, heavy_bytes
from deeph_zero.train.store.compact import light_bytes
from deeph_zero.train.taught import Problem, make_problem
from deeph_zero.units import BOHR_IN_ANGSTROM

BUILDS = 4


def ethanol() -> Molecule:
    """One conformer."""
    atoms = ase.build.molecule("CH3CH2OH")
    return Molecule(
        numbers=atoms.numbers, coords=atoms.positions / BOHR_IN_ANGSTROM, file="ethanol"
    )


def resident_mb() -> float:
    """Resident memory of this process, after giving back what is free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def growth(molecule: Molecule, frames: int, basis: str) -> dict[str, Any]:
    """Memory per frame, measured and announced, MB."""
    method = Method(basis=basis, grid_level=0)
    layout = basis_layout([build_mole(molecule, basis=basis)])
    reading = Reading(layout, cutoff=default_spec(layout).cutoff)
    store, rng = HeavyStore(1e-6), np.random.default_rng(0)
    kept, before = list[Problem](), 0.0
    for k in range(frames):
        shift = 0.05 * rng.standard_normal(molecule.coords.shape)
        moved = dataclasses.replace(molecule, coords=molecule.coords + shift)
        problem = make_problem(moved, method, reading, Means(ao_memory_mb=0.1))
        for _ in range(BUILDS):
            problem.teacher.advance()

        def again(moved: Molecule = moved, k: int = k) -> KSData:
            return same_data(moved, method, kept[k].ks.data.dm_guess, Means(ao_memory_mb=0.1))

        kept.append(store.adopt(problem, again))
        kept[k].target_orbitals()
        if k + 1 == frames // 3:
            before = resident_mb()
    per_frame = (resident_mb() - before) / (frames - frames // 3)
    return {"measured_mb": per_frame, "announced_mb": light_bytes(kept[-1]) / 1e6}


def rounding(molecule: Molecule, basis: str) -> dict[str, float]:
    """float32 against float64 integrals."""
    method = Method(basis=basis, xc="b3lyp", grid_level=1)
    exact, rounded = (
        kohn_sham(molecule, method, Means(ao_memory_mb=20.0, jk_dtype=dtype))
        for dtype in (torch.float64, torch.float32)
    )
    dm = exact.density(exact.build(exact.data.dm_guess).fock)
    one, other = exact.build(dm), rounded.build(dm)
    scf = [layer.scf(dm, conv_tol=1e-10).energy for layer in (exact, rounded)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for layer, found in zip((exact, rounded), seconds, strict=True):
            started = time.process_time()
            layer.build(dm)
            found.append(time.process_time() - started)
    return {
        "energy": float(other.energy - one.energy),
        "fock_max": float((other.fock - one.fock).abs().max()),
        "scf_energy": scf[1] - scf[0],
        "time_ratio": statistics.median(seconds[1]) / statistics.median(seconds[0]),
        "mb_float64": heavy_bytes(exact) / 1e6,
        "mb_float32": heavy_bytes(rounded) / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = common.options(__doc__)
    parser.add_argument("--frames", type=int, default=45, help="frames (default 45)")
    options = common.parse(parser)
    basis = "sto-3g" if options.smoke else "def2-svp"
    molecule = ethanol()
    kept = growth(molecule, 6 if options.smoke else options.frames, basis)
    error = rounding(molecule, basis)
    text = (
        f"What stays of a frame of ethanol in {basis}: {kept['measured_mb']:.2f} MB measured, "
        f"{kept['announced_mb']:.2f} MB announced (the teacher's memory full); ten thousand frames "
        f"{10 * kept['measured_mb']:.1f} and {10 * kept['announced_mb']:.1f} GB.\n"
        f"Integrals in float32: energy {error['energy']:.1e} Eh, Fock matrix "
        f"{error['fock_max']:.1e} Eh at most, SCF energy {error['scf_energy']:.1e} Eh; a build "
        f"takes {error['time_ratio']:.2f} times as long; {error['mb_float32']:.0f} MB with AO "
        f"values instead of {error['mb_float64']:.0f}."
    )
    result = {"machine": common.machine(options.threads), "kept": kept, "rounding": error}
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
