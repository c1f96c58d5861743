"""Where a training step spends its time, and predictions without a Fock build against the SCF.

    python benchmarks/bench_step.py --threads 1                      # four molecules, three sizes
    python benchmarks/bench_step.py --molecules ethanol --sizes small

PBE/def2-SVP, grid level 3, fitted. CPU time of this process, medians of --repeats rounds in which
every part is timed once; "step / build" is forward, backward and optimiser plus one Fock build,
divided by that build. "integrals" (with grid and AO values) and "inputs" (F₀ and what the network
reads) are made once per geometry, not in a step. The peak is that of a process of its own: the
integrals, the inputs and two steps, above what was there before.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import footprint
import structures
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout, same_data
from deeph_zero.train.taught import Problem, make_problem

PARTS = ("build", "forward", "backward", "optimiser")


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument(
        "--molecules", default="water,ethanol,uracil,aspirin", help="comma-separated"
    )
    parser.add_argument("--sizes", default="small,medium,large", help="comma-separated")
    parser.add_argument(
        "--no-predict", dest="predict", action="store_false", help="training steps alone"
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default 7)")
    options = common.parse(parser)
    if options.smoke:
        options.molecules, options.sizes, options.repeats = "water", "tiny", 2
    return options


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Result and CPU time of a call, seconds."""
    start = time.process_time()
    return call(), time.process_time() - start


def step(problem: Problem, network: FockNetwork, repeats: int) -> dict[str, float]:
    """Median CPU seconds of every part of a step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, eps=1e-16, fused=True)
    target = problem.teacher.target - problem.fock0
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    density = problem.ks.density(problem.fock0)
    for _ in range(repeats + 1):  # the first round warms up
        optimizer.zero_grad()
        (correction,), forward = timed(lambda: network(problem.inputs))
        loss = (correction.to_dense() - target).square().sum()
        _, backward = timed(loss.backward)
        _, optimiser = timed(optimizer.step)
        built, build = timed(functools.partial(problem.ks.build, density))
        for name, value in zip(PARTS, (build, forward, backward, optimiser), strict=True):
            seconds[name].append(value)
        density = problem.ks.density(built.fock)
    return {name: statistics.median(values[1:] or values) for name, values in seconds.items()}


def predictions(given: Molecule, network: FockNetwork, repeats: int) -> dict[str, float]:
    """CPU seconds of a prediction without a certificate, and of the SCF it stands for."""
    model = Model(network.eval(), Method())
    runs = [timed(lambda: model.predict(given, certificate=False)) for _ in range(repeats + 1)]
    assert all(result.fock_builds == 0 for result, _ in runs)
    mf = common.mean_field(build_mole(given, basis="def2-svp"), "pbe")
    _, theirs = timed(mf.kernel)
    return {"predict": statistics.median(s for _, s in runs[1:]), "pyscf": theirs}


def peak_mb(given: Molecule, layout: BasisLayout, size: str) -> float:
    """Resident memory that preparing one geometry and two steps on it add, MB; NaN off Linux."""

    def make() -> Callable[[], Any]:
        spec = default_spec(layout, size)
        problem = make_problem(given, Method(), Reading(layout, cutoff=spec.cutoff))
        network = FockNetwork(spec)
        network.calibrate([problem.inputs], [problem.in_blocks(problem.fock0)])
        return lambda: step(problem, network, 0)

    return footprint.measured(make)["peak_mb"]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every molecule and size."""
    rows, speed = [], []
    for name in options.molecules.split(","):
        given = structures.named(name)
        layout = basis_layout([build_mole(given, basis="def2-svp")])
        peaks = {size: peak_mb(given, layout, size) for size in options.sizes.split(",")}
        reading = Reading(layout, cutoff=default_spec(layout).cutoff)
        prepared = functools.partial(make_problem, given, Method(), reading)
        prepared()  # the first one fills tables that later ones share
        problem, prepare = timed(prepared)
        guess = problem.ks.data.dm_guess
        _, integrals = timed(functools.partial(same_data, given, Method(), guess))
        problem.teacher.advance()
        for size, peak in peaks.items():
            common.progress(f"{name} {size}")
            torch.manual_seed(0)
            network = FockNetwork(default_spec(layout, size))
            wanted = problem.in_blocks(problem.teacher.target - problem.fock0)
            network.calibrate([problem.inputs], [wanted])
            parts = step(problem, network, options.repeats)
            rest = parts["forward"] + parts["backward"] + parts["optimiser"]
            rows.append(
                {"molecule": name, "size": size, "nao": problem.ks.nao, "integrals": integrals}
                | {"inputs": max(0.0, prepare - integrals)}
                | {"parameters": sum(p.numel() for p in network.parameters())}
                | parts
                | {"ratio": 1 + rest / parts["build"], "peak_mb": peak}
            )
            network = FockNetwork(default_spec(layout, size, inputs="geometry"))
            found = predictions(given, network, options.repeats) if options.predict else {}
            speed.append({"molecule": name, "size": size} | found)
    return {"steps": rows, "predictions": speed if options.predict else []}


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    steps = [
        [f"{r['molecule']} ({r['nao']} AOs)", r["size"], f"{r['parameters'] / 1e6:.2f}",
         f"{1e3 * r['integrals']:.0f}", f"{1e3 * r['inputs']:.0f}",
         *(f"{1e3 * r[p]:.1f}" for p in PARTS), f"{r['ratio']:.2f}", f"{r['peak_mb']:.0f}"]
        for r in result["steps"]
    ]  # fmt: skip
    headers = ("molecule", "size", "parameters, 10⁶", "integrals, ms", "inputs, ms",
               *(f"{p}, ms" for p in PARTS), "step / build", "peak, MB")  # fmt: skip
    speed = [
        [r["molecule"], r["size"], f"{1e3 * r['predict']:.0f}", f"{r['pyscf']:.2f}",
         f"{r['pyscf'] / r['predict']:.0f}"]
        for r in result["predictions"]
    ]  # fmt: skip
    named = ("molecule", "size", "predict, ms", "PySCF's SCF, s", "ratio")
    text = f"A training step, physics inputs\n\n{common.table(headers, steps)}"
    if speed:
        text += (
            "\n\n`geometry` inputs, prediction without a certificate, untrained weights\n\n"
            f"{common.table(named, speed)}"
        )
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
