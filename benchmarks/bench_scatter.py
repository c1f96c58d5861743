"""Sums over the pairs of every atom: torch's `index_add` against torch-scatter's segments.

    python benchmarks/bench_scatter.py --threads 1
    python benchmarks/bench_scatter.py --device cuda

Forward and backward of the aggregation of messages in batches of ten molecules; medians, the
engines in turns. Without torch-scatter only torch is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import ase.build
import common
import numpy as np
import torch

from deeph_zero.nn import aggregate
from deeph_zero.units import BOHR_IN_ANGSTROM

BATCH = 10
WIDTH = 600
"""Features of a message, about those of the default network."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--molecules", nargs="+", default=["H2O", "CH3CH2OH", "C6H6", "C60"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=21)
    given = common.parse(parser)
    if given.smoke:
        given.molecules, given.repeats = ["H2O"], 3
    return given


def pairs_of(name: str, device: str) -> tuple[torch.Tensor, int]:
    """Receivers of a batch of molecules, every pair within 14 bohr, and the number of atoms."""
    positions = ase.build.molecule(name).positions / BOHR_IN_ANGSTROM
    near = np.linalg.norm(positions[:, None] - positions[None], axis=-1) < 14.0
    np.fill_diagonal(near, val=False)
    one, n = np.nonzero(near)[0], len(positions)
    receiver = np.concatenate([one + k * n for k in range(BATCH)])
    return torch.from_numpy(receiver).to(device), BATCH * n


def medians(calls: Sequence[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Median seconds of each call, in turns, after three rounds that do not count."""
    taken: list[list[float]] = [[] for _ in calls]
    for step in range(repeats + 3):
        for call, own in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            if step >= 3:
                own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in taken]


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both engines on one kind of molecule."""
    receiver, natm = pairs_of(name, options.device)
    values = torch.randn(len(receiver), WIDTH, device=options.device, requires_grad=True)
    grad = torch.randn(natm, WIDTH, device=options.device)

    def call(engine: aggregate.Engine) -> torch.Tensor:
        return torch.autograd.grad(
            aggregate.sum_to_atoms(values, receiver, natm, engine), values, grad
        )[0]

    engines: list[aggregate.Engine] = ["torch"]
    if aggregate.installed():
        engines.append("torch_scatter")
    seconds = medians([lambda e=e: call(e) for e in engines], options.device, options.repeats)
    same = [aggregate.sum_to_atoms(values, receiver, natm, e) for e in engines]
    return {
        "molecule": name,
        "pairs": len(receiver),
        "atoms": natm,
        **dict(zip(engines, seconds, strict=True)),
        "difference": float((same[0] - same[-1]).detach().abs().max()),
    }


def main() -> None:
    """Measure and print."""
    options = parse()
    rows = [measure(name, options) for name in options.molecules]
    result = {"rows": rows, "machine": common.machine(options.threads)}
    cells = []
    for row in rows:
        times = [row.get(engine) for engine in ("torch", "torch_scatter")]
        shown = ["" if t is None else f"{1e3 * t:.3f}" for t in times]
        ratio = "" if times[1] is None else f"{times[0] / times[1]:.2f}"
        cells.append([row["molecule"], str(row["atoms"]), str(row["pairs"]), *shown, ratio])
    heads = ("molecules", "atoms", "pairs", "torch, ms", "torch-scatter, ms", "torch / scatter")
    text = f"{BATCH} molecules a batch, {WIDTH} features, {options.device}\n\n"
    text += common.table(heads, cells)
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
