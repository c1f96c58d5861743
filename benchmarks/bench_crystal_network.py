"""Graphene learnt without labels: errors of unseen cells against the base, which costs no build.

    python benchmarks/bench_crystal_network.py --threads 1
    python benchmarks/bench_crystal_network.py --smoke

Cells of two atoms are strained by 2 % and displaced by 0.04 Å. Each is solved by its own SCF (PBE,
gth-szv, 6x6x1 k-points, smearing 0.005 Eh), the readout of a network with random features is solved
in closed form for the corrections, and cells that it did not see are predicted: of two, eight and
eighteen atoms; likewise where it is trained on cells of eight. "H" is the mean absolute element of
the error at the k-points, "bands" the largest error of a level up to the first empty one; both up
to a constant potential. "learnt" is what the correction itself leaves beyond the cutoff.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from pyscf.pbc import gto

from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_crystal
from deeph_zero.train.crystal_steps import Steps, train_crystals
from deeph_zero.train.crystals import Lesson, TaughtCrystal, crystal_errors, fit_crystals, teach

CUTOFF = 12.0
BOND = 2.46
"""Lattice constant, Å."""


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[4, 12, 30])
    parser.add_argument("--larger", type=int, default=8, help="cells of 8 atoms to train on")
    parser.add_argument("--steps", type=int, default=0, help="gradient steps after the closed form")
    parser.add_argument("--unseen", type=int, default=4)
    parser.add_argument("--sizes", default="tiny,small")
    return common.parse(parser)


def graphene(seed: int, copies: int) -> gto.Cell:
    """A strained and displaced cell of 2 copies² atoms."""
    rng = np.random.default_rng(seed)
    lattice = BOND * np.array([[1, 0, 0], [0.5, 3**0.5 / 2, 0], [0, 0, 0]])
    lattice[2, 2] = 6.5
    pair = np.array([[0, 0, 3.25], [BOND / 2, BOND / (2 * 3**0.5), 3.25]])
    shifts = [a * lattice[0] + b * lattice[1] for a in range(copies) for b in range(copies)]
    strain = np.zeros((3, 3))
    strain[:2, :2] = rng.normal(scale=0.015, size=(2, 2))
    strain = np.eye(3) + 0.5 * (strain + strain.T)
    atoms = np.concatenate([pair + shift for shift in shifts]) @ strain
    atoms += rng.normal(scale=0.04, size=atoms.shape)
    cell = gto.Cell()
    cell.a = lattice @ strain * np.array([[copies], [copies], [1]])
    cell.atom, cell.unit, cell.verbose = [("C", x) for x in atoms], "A", 0
    cell.basis, cell.pseudo, cell.precision = "gth-szv", "gth-pbe", 1e-7
    cell.mesh = [15 * copies, 15 * copies, 39]
    return cell.build()


def taught(seed: int, copies: int = 1) -> tuple[TaughtCrystal, float, float]:
    """A solved cell; seconds to prepare it and to solve it."""
    cell = graphene(seed, copies)
    start = time.process_time()
    mesh = (6 // copies, 6 // copies, 1)
    ready = prepare_crystal(
        cell, crystal_layout(cell), cutoff=CUTOFF, dtype=torch.float64, xc="pbe", kmesh=mesh,
        smearing=0.005,
    )  # fmt: skip
    prepared = time.process_time() - start
    found = teach(ready)
    return found, prepared, time.process_time() - start - prepared


def errors(
    cells: list[TaughtCrystal], correction: Callable[[TaughtCrystal], torch.Tensor]
) -> dict[str, float]:
    """Mean errors of H (mEh) and of bands (meV) with given elements of the corrections."""
    found = []
    for cell in cells:
        change = cell.correction.with_values(correction(cell))
        found.append(crystal_errors(cell, cell.prepared.hamiltonian(change)))
    return {
        "h": 1e3 * float(np.mean([e.fock for e in found])),
        "bands": 27211.386 * float(np.mean([e.bands for e in found])),
    }


@torch.no_grad()
def _predicted(network: FockNetwork, cell: TaughtCrystal) -> torch.Tensor:
    return network(cell.prepared.inputs)[0].values


def unseen_cells(given: argparse.Namespace) -> dict[str, list[TaughtCrystal]]:
    """Cells that are not trained on, by size."""
    if given.smoke:
        return {"2 atoms": [taught(1000)[0]]}
    kinds = {"2 atoms": (1, given.unseen), "8 atoms": (2, 2), "18 atoms": (3, 1)}
    return {
        kind: [taught(1000 * copies + k, copies)[0] for k in range(count)]
        for kind, (copies, count) in kinds.items()
    }


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All numbers of cells and sizes."""
    counts = [2] if given.smoke else given.cells
    made = [taught(k) for k in range(max(counts))]
    times = {
        "prepare": float(np.mean([m[1] for m in made])),
        "solve": float(np.mean([m[2] for m in made])),
    }
    cells = [m[0] for m in made]
    common.progress(f"{times}, {np.mean([c.fock_builds for c in cells])} builds each")
    larger = [taught(5000 + k, 2)[0] for k in range(0 if given.smoke else given.larger)]
    unseen = unseen_cells(given)
    records = []
    for kind, some in unseen.items():
        records.append(
            {"what": "base", "kind": kind, **errors(some, lambda c: 0.0 * c.correction.values)}
        )
        records.append(
            {"what": "learnt", "kind": kind, **errors(some, lambda c: c.correction.values)}
        )
    sets = {f"{count} cells of 2": cells[:count] for count in counts}
    if larger:
        sets |= {
            f"{len(larger)} of 8": larger,
            f"{len(larger)} of 8 and 4 of 2": larger + cells[:4],
        }
    for size in ["tiny"] if given.smoke else given.sizes.split(","):
        for name, chosen in sets.items():
            torch.manual_seed(0)
            spec = default_spec(_layout(cells[0]), size, cutoff=CUTOFF)
            network = FockNetwork(spec).double()
            start = time.process_time()
            fit_crystals(network, chosen)
            if given.steps:
                lessons = [Lesson.of(c) for c in chosen]
                steps = Steps(epochs=10**6, most=given.steps)
                train_crystals(
                    network, lessons, [], steps, seed=0, note=lambda _: None, stop=lambda: False
                )
            fitted = time.process_time() - start
            predicted = functools.partial(_predicted, network)
            for kind, some in unseen.items():
                what = f"{size}, {name}"
                records.append(
                    {"what": what, "kind": kind, "fit": fitted, **errors(some, predicted)}
                )
                common.progress(str(records[-1]))
    return [{**r, **times} for r in records]


def _layout(cell: TaughtCrystal) -> Any:
    return crystal_layout(cell.prepared.blocks.cell)


def main() -> None:
    """Measure and print."""
    given = options()
    records = measure(given)
    rows = [[r["what"], r["kind"], f"{r['h']:.3f}", f"{r['bands']:.1f}"] for r in records]
    text = common.table(("matrix", "unseen cells of", "H, mEh", "bands, meV"), rows)
    text += f"\nCPU seconds per cell of 2 atoms: {records[0]['prepare']:.1f} to prepare, "
    text += f"{records[0]['solve']:.1f} for its SCF\n"
    result = {"machine": common.machine(given.threads), "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
