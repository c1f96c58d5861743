"""What molecules beyond the network's cutoff do to each other's Fock matrices.

    python benchmarks/bench_far.py

Two water molecules, far apart. A network that is perfect inside its cutoff corrects each as if the
other only had its starting density: H = F₀ + the corrections H - F₀ of both alone. The table shows
how far that is from the converged Fock matrix, and what the first rebuild leaves of it.
"""

import argparse
from typing import Any

import common
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.nn.spec import NetworkSpec

WATER = (("O", (0.0, 0.0, 0.2)), ("H", (0.0, 1.44, 1.10)), ("H", (0.09, -1.40, 1.15)))
"""Atoms and positions, bohr."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument(
        "--distances", type=float, nargs="+", default=[14.5, 20.0, 30.0, 40.0], help="bohr"
    )
    options = common.parse(parser)
    if options.smoke:
        options.distances = [20.0]
    return options


def layer(shifts: list[float], *, smoke: bool) -> KohnSham:
    """Waters along z, each at its shift."""
    atoms = [(s, (x, y, z + shift)) for shift in shifts for s, (x, y, z) in WATER]
    basis, level = ("sto-3g", 0) if smoke else ("def2-svp", 3)
    mol = gto.M(atom=atoms, unit="Bohr", basis=basis, verbose=0)
    return KohnSham.from_pyscf(mol, xc="pbe", grid_level=level)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every distance."""
    rows = []
    for distance in options.distances:
        corrections = []
        for shift in (0.0, distance):
            one = layer([shift], smoke=options.smoke)
            start = one.build(one.data.dm_guess).fock
            corrections.append(one.scf(conv_tol=1e-11, conv_tol_grad=1e-8).fock - start)
        both = layer([0.0, distance], smoke=options.smoke)
        truth = both.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
        h = both.build(both.data.dm_guess).fock + torch.block_diag(*corrections)
        rebuilt = both.build(both.density(h))
        error, left = (h - truth.fock).abs(), (rebuilt.fock - truth.fock).abs()
        rows.append(
            {
                "distance": distance,
                "h_max": float(error.max()),
                "h_mae": float(error.mean()),
                "rebuilt_max": float(left.max()),
                "rebuilt_mae": float(left.mean()),
                "energy": float(rebuilt.energy - truth.energy),
            }
        )
    return {"cutoff": NetworkSpec.cutoff, "rows": rows}


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    headers = (
        "distance, bohr", "H, largest, µEh", "H MAE, µEh", "H̃, largest, µEh", "H̃ MAE, µEh",
        "E[P(H)] - E, µEh",
    )  # fmt: skip
    keys = ("h_max", "h_mae", "rebuilt_max", "rebuilt_mae", "energy")
    rows = [
        [f"{row['distance']:g}", *(f"{1e6 * row[key]:.3g}" for key in keys)]
        for row in result["rows"]
    ]
    common.report(result, common.table(headers, rows), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
