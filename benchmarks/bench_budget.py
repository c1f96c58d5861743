"""Fock builds per geometry against accuracy: labels, truncated labels, label-free budgets.

    python benchmarks/bench_budget.py                       # vibrations of water, 64 + 32 frames
    python benchmarks/bench_budget.py --data frames.xyz --cases full,adaptive --seed 1

Every case trains the same network on the same frames from the same initial weights, averages and
refits it as `fit` does, and is measured on unseen frames against this package's SCF converged to a
gradient of 1e-8. F₀ counts as a build. A label of k builds is the DIIS extrapolation after k.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.data.labels import Label
from deeph_zero.integrals.mole import build_mole
from deeph_zero.ks.scf.diis import DIIS
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import Means, basis_layout
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.budget import Budget
from deeph_zero.train.callbacks import Checkpoints, quiet_trainer, run_trainer
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import make_plan
from deeph_zero.train.sampling import displaced
from deeph_zero.train.stream import Stream
from deeph_zero.train.taught import Problem, make_problem
from deeph_zero.train.teacher import DEFAULT_TOL, Teacher, gradient_rms

CASES = "converged,labels-6,labels-5,labels-4,quick-4,quick-3,full,adaptive"
KEPT = 16
"""Frames that a stream does not replace."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form trains on ten frames for two epochs."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--train", default="64", help="training frames (default 64; a list)")
    parser.add_argument("--test", type=int, default=32, help="test frames (default 32)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and batches")
    parser.add_argument("--epochs", type=int, default=120, help="of each training (default 120)")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    parser.add_argument(
        "--cases",
        default=CASES,
        help=f"default {CASES}; labels-K: plain DIIS, quick-K: the teacher alone; "
        "adaptive:RATIO:FIRST:LAST sets the budget by hand; stream:VISITS replaces frames",
    )
    options = common.parse(parser)
    if options.smoke:
        options.train, options.test, options.epochs = "10", 3, 2
        options.basis, options.grid_level, options.cases = "sto-3g", 0, "labels-4,quick-3,adaptive"
    return options


def problems(options: argparse.Namespace, n_train: int) -> list[Problem]:
    """Training, then test geometries: the first ones of a permutation of all, seed 0."""
    train, test = structures.split(options, n_train, options.test, seed=0)
    chosen = train + test
    layout = basis_of(chosen, options)
    return [problem_of(m, options, layout) for m in chosen]


def basis_of(molecules: list[Molecule], options: argparse.Namespace) -> BasisLayout:
    """Shells of their elements."""
    return basis_layout([build_mole(m, basis=options.basis) for m in molecules])


def problem_of(molecule: Molecule, options: argparse.Namespace, layout: BasisLayout) -> Problem:
    """A geometry with F₀ built."""
    method = Method(basis=options.basis, grid_level=options.grid_level)
    cutoff = default_spec(layout).cutoff
    reading = Reading(layout, cutoff=cutoff)
    return make_problem(molecule, method, reading, Means(ao_memory_mb=20.0))


def restart(problem: Problem) -> Problem:
    """The same geometry as if only F₀ had been built."""
    problem.ks.fock_builds = 1
    assert problem.start is not None
    fresh = Teacher(problem.ks, problem.start.fock, dm0=problem.ks.data.dm_guess)
    return dataclasses.replace(problem, teacher=fresh, label=None)


def by_diis(problem: Problem, builds: int | None) -> tuple[torch.Tensor, float]:
    """Plain DIIS from F₀, without the teacher's dielectric step: matrix and energy."""
    ks, diis = problem.ks, DIIS()
    fock, energy, residual = problem.fock0, 0.0, np.inf
    while residual > DEFAULT_TOL and (builds is None or ks.fock_builds < builds):
        dm = ks.density(fock)
        built = ks.build(dm)
        diis.add(built.fock, ks.commutator(built.fock, dm))
        residual, energy = float(gradient_rms(ks, built.fock, dm)), float(built.energy)
        fock = diis.extrapolate()
    return fock, energy


def by_teacher(problem: Problem, builds: int | None) -> tuple[torch.Tensor, float]:
    """The teacher alone, from F₀: matrix and energy."""
    teacher = problem.teacher
    while not teacher.converged and (builds is None or problem.ks.fock_builds < builds):
        teacher.advance()
    return teacher.target, teacher.energy


def labelled(problem: Problem, mode: str, builds: int | None) -> Problem:
    """With a label from so many builds, F₀ included; None converges it."""
    fock, energy = (by_teacher if mode == "quick" else by_diis)(problem, builds)
    orbitals = problem.ks.orbitals(fock)
    problem.label = Label(
        fock=fock,
        dm=problem.ks.density(fock),
        energy=energy,
        mo_energy=orbitals.mo_energy,
        mo_occ=orbitals.mo_occ,
    )
    return problem


def stream_of(geometries: list[Problem], visits: int, options: argparse.Namespace) -> Stream:
    """Replaces every frame but the first ones by copies displaced by 0.05 Å (rms) around it."""
    frames = [p.molecule for p in geometries]
    config = FitConfig.parse({"samples": 1})
    layout = basis_of(frames, options)

    def make(place: int, generation: int) -> Problem:
        (molecule,) = displaced([frames[place]], config, (options.seed, place, generation))
        return problem_of(molecule, options, layout)

    return Stream(geometries, range(KEPT, len(frames)), make, visits)


def trained(case: str, geometries: list[Problem], options: argparse.Namespace) -> FitModule:
    """Train one case as ``fit`` does, the closed-form readout at its end included."""
    mode, *numbers = case.split(":")
    geometries = [restart(p) for p in geometries]
    supervised = mode.startswith(("labels", "quick", "converged"))
    if supervised:
        kind, _, builds = mode.partition("-")
        geometries = [labelled(p, kind, int(builds) if builds else None) for p in geometries]
    config = FitConfig.parse(
        {
            "epochs": options.epochs,
            "loss": "supervised" if supervised else "fixed-point",
            "budget": "full" if mode == "full" else "adaptive",
        }
    )
    plan = make_plan(config, len(geometries))
    stream = stream_of(geometries, int(numbers.pop()), options) if mode == "stream" else None
    if numbers:
        ratio, first, last = map(float, numbers)
        plan = dataclasses.replace(plan, budget=Budget(ratio=ratio, first=int(first), last=last))
    torch.manual_seed(options.seed)
    layout = basis_of([p.molecule for p in geometries], options)
    module = FitModule(FockNetwork(default_spec(layout)).train(), geometries, plan, stream)
    module.start(calibrate=True)
    with tempfile.TemporaryDirectory() as folder:
        keeper = Checkpoints(Path(folder) / "state", every_seconds=1e9)
        trainer = quiet_trainer([keeper], max_epochs=plan.epochs, accelerator="cpu", devices=1)
        batches = ResumableBatches(
            list(range(len(geometries))) * plan.repeats, plan.batch_size, seed=options.seed
        )
        run_trainer(trainer, module, batches, keeper)
    module.average.adopt()
    module.refit()
    return module


def errors(module: FitModule, test: list[Problem], exact: list[torch.Tensor]) -> dict[str, float]:
    """Mean absolute errors of H and of the rebuilt matrix on the test frames, Eh."""
    of_h, of_rebuilt = [], []
    module.network.eval()
    with torch.no_grad():
        for problem, fock in zip(test, exact, strict=True):
            (correction,) = module.network(problem.inputs)
            h = problem.hamiltonian(correction)
            rebuilt = problem.ks.build(problem.ks.density(h)).fock
            of_h.append(float((h - fock).abs().mean()))
            of_rebuilt.append(float((rebuilt - fock).abs().mean()))
    return {"h_mae": float(np.mean(of_h)), "rebuilt_mae": float(np.mean(of_rebuilt))}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every number of training frames, and every case for each."""
    sizes = [int(n) for n in str(options.train).split(",")]
    begin = time.process_time()
    everything = problems(options, max(sizes))
    setup = (time.process_time() - begin) / len(everything)
    train, test = everything[: max(sizes)], everything[max(sizes) :]
    exact = [p.ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8).fock for p in test]
    rows = []
    for n in sizes:
        for case in options.cases.split(","):
            common.progress(f"{n} {case}")
            begin = time.process_time()
            module = trained(case, train[:n], options)
            builds = [p.ks.fock_builds for p in module.problems]
            seen = n + (0 if module.stream is None else module.stream.replaced)
            row = {"train": n, "case": case, "seconds": time.process_time() - begin + n * setup}
            row |= {"builds": sum(builds) / seen, "most": max(builds), "geometries": seen}
            rows.append(row | errors(module, test, exact))
            common.progress(str(rows[-1]))
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    return {"settings": settings, "setup_seconds": setup, "rows": rows}


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    rows = [
        [str(c["train"]), c["case"], str(c["geometries"]), f"{c['builds']:.2f}",
         "" if c["case"].startswith("stream") else str(c["most"]), f"{c['seconds']:.0f}",
         f"{1e6 * c['h_mae']:.1f}", f"{1e6 * c['rebuilt_mae']:.1f}"]
        for c in result["rows"]
    ]  # fmt: skip
    headers = (
        "frames",
        "training",
        "geometries",
        "builds of each",
        "most",
        "CPU s",
        "H MAE, µEh",
        "H̃ MAE, µEh",
    )
    text = (
        f"{structures.source(options)}, PBE/{options.basis}, grid level {options.grid_level}; "
        f"{options.test} test frames, {options.epochs} epochs, "
        f"seed {options.seed}.\n\n{common.table(headers, rows)}"
    )
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
