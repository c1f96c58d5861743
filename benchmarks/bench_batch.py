"""Fock builds and SCF of several molecules in one batch against one by one.

    python benchmarks/bench_batch.py --threads 1
    python benchmarks/bench_batch.py --device cuda
    python benchmarks/bench_batch.py --smoke

Both ways in turns in one process, a new density each time, medians of the pairs: CPU time of one
thread, or wall time with the device synchronised. "mix" is four each of water, methanol,
formaldehyde and CH3 (UKS), every molecule displaced a little. dF is the largest difference of the
Fock matrices.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import common
import numpy as np
import structures
import torch
from torch import Tensor

from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.molecule import Molecule

SETS = {
    "hydrogen": ("hydrogen",),
    "water": ("water",),
    "mix": ("water", "methanol", "formaldehyde", "ch3"),
}


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--molecules", type=int, default=16, help="molecules per batch")
    parser.add_argument("--levels", type=int, nargs="+", default=[0, 1, 3], help="grid levels")
    parser.add_argument("--xc", nargs="+", default=["pbe", "pbe0", "r2scan"])
    parser.add_argument("--pairs", type=int, default=9, help="pairs of timings")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strategy", choices=["merged", "padded"])
    return common.parse(parser)


def molecule(name: str, seed: int) -> Molecule:
    """An example, displaced at random by 0.05 bohr."""
    rng = np.random.default_rng(seed)
    if name == "hydrogen":
        coords = np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 1.4]])
        found = Molecule(numbers=np.array([1, 1]), coords=coords)
    else:
        found = structures.named(name)
    coords = found.coords + 0.05 * rng.standard_normal(found.coords.shape)
    spin = 1 if name == "ch3" else 0
    return Molecule(numbers=found.numbers, coords=coords, spin=spin)


def layers(chosen: str, xc: str, level: int, given: argparse.Namespace) -> list[KohnSham]:
    """The molecules of a set in turns."""
    names = SETS[chosen]
    count = 4 if given.smoke else given.molecules
    return [
        KohnSham.from_pyscf(
            build_mole(molecule(names[k % len(names)], k), basis="def2-svp"),
            xc=xc,
            grid_level=level,
            device=given.device,
        )
        for k in range(count)
    ]


def seconds(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Time of one call and its result."""
    if device == "cpu":
        clock = time.process_time
    else:
        torch.cuda.synchronize()
        clock = time.perf_counter
    started = clock()
    result = work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started, result


def one_by_one(single: Sequence[KohnSham], dms: Sequence[Tensor]) -> list[FockBuild]:
    """A build of each molecule."""
    return [one.build(dm) for one, dm in zip(single, dms, strict=True)]


def measure(chosen: str, xc: str, level: int, given: argparse.Namespace) -> dict[str, Any]:
    """One set: builds one by one and together, in turns."""
    single = layers(chosen, xc, level, given)
    batch = KohnShamBatch(single, strategy=given.strategy)
    dms: list[Tensor] = [one.data.dm_guess for one in single]
    alone, together, worst = [], [], 0.0
    for pair in range(given.pairs + 2):
        ways = [partial(one_by_one, single, dms), partial(batch.build, dms)]
        order = (0, 1) if pair % 2 else (1, 0)
        found = {k: seconds(ways[k], given.device) for k in order}
        differences = [
            float((a.fock - b.fock).abs().max())
            for a, b in zip(found[0][1], found[1][1], strict=True)
        ]
        worst = max(worst, *differences)
        if pair > 1:  # the first fill caches
            alone.append(found[0][0])
            together.append(found[1][0])
        dms = [one.density(b.fock) for one, b in zip(single, found[0][1], strict=True)]
    scf = [
        seconds(lambda: [one.scf(conv_tol=1e-8) for one in single], given.device)[0],
        seconds(lambda: batch.scf(conv_tol=1e-8), given.device)[0],
    ]
    return {
        "set": chosen,
        "xc": xc,
        "level": level,
        "molecules": len(single),
        "alone_ms": 1e3 * statistics.median(alone),
        "together_ms": 1e3 * statistics.median(together),
        "ratio": statistics.median(a / b for a, b in zip(alone, together, strict=True)),
        "scf_ratio": scf[0] / scf[1],
        "difference": worst,
    }


def main() -> None:
    """Measure and print."""
    given = options()
    if given.smoke:
        given.levels, given.xc, given.pairs = [0], ["pbe"], 1
    records = []
    for chosen in SETS:
        for level in given.levels:
            for xc in given.xc:
                records.append(measure(chosen, xc, level, given))
                common.progress(str(records[-1]))
    rows = [
        [
            r["set"],
            str(r["level"]),
            r["xc"],
            str(r["molecules"]),
            f"{r['alone_ms']:.1f}",
            f"{r['together_ms']:.1f}",
            f"{r['ratio']:.2f}",
            f"{r['scf_ratio']:.2f}",
            f"{r['difference']:.0e}",
        ]
        for r in records
    ]
    headers = (
        "set", "level", "xc", "molecules", "one by one, ms", "batch, ms", "ratio", "SCF ratio",
        "dF, Eh",
    )  # fmt: skip
    text = "Fock builds, one by one / in a batch\n\n" + common.table(headers, rows)
    result = {"machine": common.machine(given.threads), "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
