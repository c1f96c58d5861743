"""Error of the teacher's targets against Fock builds, with and without the dielectric step.

    python benchmarks/bench_targets.py                               # 16 vibrations of water
    python benchmarks/bench_targets.py --data uracil.npz --frames 2 --xc pbe0

Targets start from superposed atoms (F₀ is build 1) or from the converged matrix plus a symmetric
normal random one of 0.5 mEh in an orthonormal basis (rms 0.7 mEh), as a network would predict. The
error is the root mean square of the occupied-virtual elements of target - F in the orbitals of F,
the SCF converged to a gradient of 1e-8; medians over frames.
"""

import argparse
import time
from typing import Any

import common
import numpy as np
import structures
import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.diis import DIIS
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.molecule import kohn_sham
from deeph_zero.train.teacher import Teacher

NOISE = 5e-4
"""Of the network-like start, Eh per element before it is made symmetric."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form takes two small frames."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--frames", type=int, default=16, help="random frames (default 16)")
    parser.add_argument("--builds", type=int, default=6, help="builds of a target (default 6)")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    options = common.parse(parser)
    if options.smoke:
        options.frames, options.builds, options.basis, options.grid_level = 2, 3, "sto-3g", 0
    return options


def by_diis(ks: KohnSham, fock: Tensor, builds: int) -> list[Tensor]:
    """Targets of DIIS alone; the density of the first build is that of ``fock``."""
    diis, found = DIIS(), []
    for _ in range(builds):
        dm = ks.density(fock)
        built = ks.build(dm).fock
        diis.add(built, ks.commutator(built, dm))
        fock = diis.extrapolate()
        found.append(fock)
    return found


def by_teacher(teacher: Teacher, builds: int) -> list[Tensor]:
    """Targets of the teacher after each of its builds."""
    found = []
    for _ in range(builds):
        teacher.advance()
        found.append(teacher.target)
    return found


def from_network(ks: KohnSham, hamiltonian: Tensor, builds: int) -> list[Tensor]:
    """Targets of a teacher whose first build is at the density of ``hamiltonian``."""
    teacher = Teacher(ks, hamiltonian)
    dm = ks.density(hamiltonian)
    built = ks.build(dm)
    teacher.offer(dm, built.fock, float(built.energy))
    return [teacher.target, *by_teacher(teacher, builds - 1)]


def frame(molecule: Molecule, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Errors of one geometry, and the times of a build and of a dielectric step."""
    method = Method(basis=options.basis, xc=options.xc, grid_level=options.grid_level)
    ks = kohn_sham(molecule, method, mol=build_mole(molecule, basis=options.basis))
    exact = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8).fock
    start = ks.build(ks.data.dm_guess).fock
    shape = (*exact.shape[:-2], ks.nmo, ks.nmo)
    random = torch.randn(shape, dtype=exact.dtype, generator=torch.Generator().manual_seed(seed))
    back = ks.data.ovlp @ ks.x
    network = exact + NOISE * back @ (random + random.mT) @ back.mT
    teacher = Teacher(ks, start, dm0=ks.data.dm_guess)
    k = options.builds
    targets = {
        "atoms, DIIS": [start, *by_diis(ks, start, k - 1)],
        "atoms, teacher": [teacher.target, *by_teacher(teacher, k - 1)],
        "network, DIIS": by_diis(ks, network, k),
        "network, teacher": from_network(ks, network, k),
    }
    errors = {name: deviations(ks, found, exact) for name, found in targets.items()}
    dm = ks.density(start)
    seconds = [duration(lambda: ks.build(dm)), duration(lambda: ks.dielectric_step(start, dm))]
    return {"errors": errors, "seconds": seconds}


def deviations(ks: KohnSham, found: list[Tensor], exact: Tensor) -> list[float]:
    """Root mean square of each target's error between orbitals of different occupation, Eh."""
    orbitals = ks.orbitals(exact)
    between = orbitals.mo_occ.unsqueeze(-1) != orbitals.mo_occ.unsqueeze(-2)

    def size(error: Float[Tensor, "*spin nao nao"]) -> float:
        elements = (orbitals.mo_coeff.mT @ error @ orbitals.mo_coeff)[between]
        return float(elements.square().mean().sqrt())

    return [size(target - exact) for target in found]


def duration(work: Any) -> float:
    """Median processor time of five calls, after one that warms up, seconds."""
    work()
    times = []
    for _ in range(5):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians over random frames."""
    if options.data is None:
        frames = structures.vibrations(structures.named(options.molecule), options.frames)
    else:
        frames = structures.read_molecules(options.data)
    order = np.random.default_rng(0).permutation(len(frames))[: options.frames]
    found = [frame(frames[k], options, int(k)) for k in order]
    names = found[0]["errors"]
    errors = {n: np.median([f["errors"][n] for f in found], axis=0).tolist() for n in names}
    build, step = np.median([f["seconds"] for f in found], axis=0)
    return {"errors": errors, "build_seconds": float(build), "step_seconds": float(step)}


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    rows = [
        [name, *(f"{1e6 * e:.3g}" for e in errors)] for name, errors in result["errors"].items()
    ]
    headers = ("start, rule; errors in µEh after builds:", *map(str, range(1, options.builds + 1)))
    part = result["step_seconds"] / result["build_seconds"]
    text = (
        f"{structures.source(options)}, {options.frames} frames, {options.xc}/{options.basis}, "
        f"grid level {options.grid_level}.\n\n{common.table(headers, rows)}\n\n"
        "A dielectric step takes "
        f"{1e3 * result['step_seconds']:.2f} ms, a Fock build {1e3 * result['build_seconds']:.2f} "
        f"ms: {100 * part:.0f} %."
    )
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
