"""A training step of this checkout against another's, in turns in one process.

    git worktree add --detach before COMMIT
    python benchmarks/bench_against.py --threads 1 --other before

PBE/def2-SVP, `geometry` inputs, the small network, supervised by a label that is the base, moved;
the steps are those of `fit` without Lightning: network, loss, backward pass, clipping, Adam and
averaged weights. CPU time, medians of --repeats rounds in which each checkout goes first in turn;
the ratio is the median of the rounds' ratios. "loss" is the largest relative difference of the two
loss curves. A label-free step adds Fock builds. Without --other this checkout runs against itself:
what differs is noise.
"""

import argparse
import importlib
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
import torch

from deeph_zero.host.allocator import keep_freed_memory
from deeph_zero.molecule import Molecule

ROOT = Path(__file__).parents[1]
PARTS = ("forward", "backward", "update", "step")


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--other", type=Path, default=ROOT, help="folder of another checkout")
    parser.add_argument(
        "--batches",
        default="water:1,ethanol:1,water:10,uracil:6",
        help="neutral closed shells, molecule:count, ...",
    )
    parser.add_argument("--size", default="small", help="of the network (default small)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default 9)")
    options = common.parse(parser)
    if options.smoke:
        options.batches, options.size, options.repeats = "water:1", "tiny", 2
    return options


def package(root: Path) -> Any:
    """A function that imports modules of a checkout, whichever was imported before."""
    for name in [name for name in sys.modules if name.split(".")[0] == "deeph_zero"]:
        del sys.modules[name]
    sys.path.insert(0, str(root.resolve()))
    try:
        for name in ("method", "train.module", "train.plan", "settings.config", "data.labels"):
            importlib.import_module(f"deeph_zero.{name}")
    finally:
        sys.path.pop(0)
    mine = {name: module for name, module in sys.modules.items() if name.startswith("deeph_zero.")}
    return lambda name: mine[f"deeph_zero.{name}"]


class Side:
    """One checkout's training of one batch."""

    def __init__(self, of: Any, given: Molecule, count: int, size: str) -> None:
        """Prepare geometries, label them, and make a network."""
        method, shape = of("method").Method(), (count, *given.coords.shape)
        moved = given.coords + 0.05 * np.random.default_rng(0).standard_normal(shape)
        molecules = [
            of("molecule").Molecule(numbers=given.numbers, coords=x, charge=0, spin=0)
            for x in moved
        ]
        prepared = of("prepared.molecule")
        moles = [of("integrals.mole").build_mole(m, basis="def2-svp") for m in molecules]
        spec = of("nn.spec").default_spec(prepared.basis_layout(moles), size, inputs="geometry")
        torch.manual_seed(0)
        network = of("nn.network").FockNetwork(spec)
        for weights in (*network.node_out.parameters(), *network.pair_out.parameters()):
            torch.nn.init.normal_(weights, std=0.02)  # a readout of zeros would teach it alone

        def label_of(found: Any) -> Any:
            ones = torch.ones(len(found.fock0), dtype=torch.float64)
            fock = found.fock0 + 0.01 * found.ks.data.ovlp
            return of("data.labels").Label(
                fock=fock, dm=fock, energy=0.0, mo_energy=ones, mo_occ=ones
            )

        problems = [
            of("train.taught").labelled_problem(m, method, network.reading, label_of)
            for m in molecules
        ]
        config = of("settings.config").FitConfig(loss="supervised", ema=0.99)
        plan = of("train.plan").make_plan(config, len(problems))
        self.module = of("train.module").FitModule(network, problems, plan)
        self.module.start(calibrate=True)
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.batch = list(range(len(problems)))

    def step(self) -> tuple[list[float], float]:
        """CPU seconds of each part, and the loss."""
        times = [time.process_time()]
        loss = self.module.training_step(self.batch, 0)
        times.append(time.process_time())
        loss.backward()
        times.append(time.process_time())
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()
        self.module.average.update()
        times.append(time.process_time())
        spent = [after - before for before, after in itertools.pairwise(times)]
        return [*spent, sum(spent)], float(loss.detach())


def compare(sides: list[Side], repeats: int) -> dict[str, Any]:
    """Both in turns."""
    found: list[list[tuple[list[float], float]]] = [[], []]
    for k in range(repeats + 1):  # the first round warms up
        for which in (0, 1) if k % 2 else (1, 0):
            found[which].append(sides[which].step())
    other, this = found
    ratios = [a[0][-1] / b[0][-1] for a, b in zip(other[1:], this[1:], strict=True)]
    loss = max(abs(a[1] / b[1] - 1) for a, b in zip(other, this, strict=True))
    medians = [
        {name: statistics.median(t[k] for t, _ in one[1:]) for k, name in enumerate(PARTS)}
        for one in found
    ]
    return {"other": medians[0], "this": medians[1], "ratio": statistics.median(ratios),
            "loss": loss}  # fmt: skip


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every batch."""
    packages = [package(options.other), package(ROOT)]
    rows = []
    for text in options.batches.split(","):
        name, count = text.split(":")
        common.progress(text)
        given = structures.named(name)
        sides = [Side(of, given, int(count), options.size) for of in packages]
        rows.append({"batch": text, "size": options.size, **compare(sides, options.repeats)})
    return rows


def main() -> None:
    """Measure and print."""
    options = parse()
    keep_freed_memory()
    rows = measure(options)
    cells = [
        [f"{r['batch']} ({r['size']})"]
        + [f"{1e3 * r[side][part]:.1f}" for part in PARTS for side in ("other", "this")]
        + [f"{r['ratio']:.2f}", f"{r['loss']:.0e}"]
        for r in rows
    ]
    heads = [f"{part}, {side}" for part in PARTS for side in ("other", "this")]
    text = common.table(("batch", *heads, "other / this", "loss"), cells)
    result = {"rows": rows, "machine": common.machine(options.threads)}
    common.report(result, f"A training step, CPU time, ms\n\n{text}",
                  as_json=options.json, smoke=options.smoke)  # fmt: skip


if __name__ == "__main__":
    common.run(main)
