"""Small cells learnt, larger ones asked for: hydrogen molecules in a crystal, errors by cell size.

    python benchmarks/bench_crystal_transfer.py --threads 1

Cells of two atoms, and of four, are strained by 1 % and displaced by 0.05 Å, as `deeph-zero fit
--samples` does it without and with `--supercell 2 1 1` (LDA, gth-szv, 4x1x1 k-points of the cell of
two). Readouts of random features are solved in closed form from their own SCFs; unseen cells of
two, four and eight atoms are predicted. "H" is the mean absolute element of the error at the
k-points, "bands" the largest error of a level up to the first empty one, both up to a constant.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_structure
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.crystal_method import crystal_method
from deeph_zero.train.crystal_samples import geometries
from deeph_zero.train.crystals import Lesson, fit_crystals, teach

CUTOFF = 8.0
RIDGES = (1e-6, 1e-4)
CELL = Molecule(
    numbers=np.array([1, 1]),
    coords=np.array([[0.094, 0.0, 0.189], [1.19, 0.699, 0.888]]),
    lattice=np.array([[3.893, 0, 0], [0, 5.197, 0], [0, 0.094, 5.48]]),
    pbc=(True, True, True),
)


def settings(samples: int, seed: int, cells: int) -> FitConfig:
    """Those of `fit`."""
    return FitConfig.parse(
        {
            "samples": samples,
            "displace": 0.05,
            "method": {"basis": "gth-szv", "xc": "lda,vwn"},
            "crystal": {
                "kmesh": (4, 1, 1),
                "ke_cutoff": 30,
                "pseudo": "gth-pade",
                "supercell": (cells, 1, 1) if samples else None,
            },
            "runtime": {"seed": seed},
        }
    )


LAYOUT = crystal_layout(build_cell(CELL, crystal_method(CELL, settings(0, 0, 1))))


def lessons(samples: int, seed: int, cells: int) -> list[Lesson]:
    """Displaced copies, solved."""
    found = []
    for geometry in geometries(settings(samples, seed, cells), [CELL])[1:]:
        ready = prepare_structure(
            geometry.molecule, geometry.method, LAYOUT, cutoff=CUTOFF, dtype=torch.float64
        )
        found.append(Lesson.of(teach(ready, conv_tol=1e-8, conv_tol_grad=1e-5)))
    return found


@torch.no_grad()
def errors(some: Sequence[Lesson], correction: Callable[[Lesson], BlockMatrix]) -> dict[str, float]:
    """Means of H (mEh) and bands (meV)."""
    found = [lesson.errors(correction(lesson)) for lesson in some]
    return {
        "h": 1e3 * float(np.mean([e.fock for e in found])),
        "bands": 27211.386 * float(np.mean([e.bands for e in found])),
    }


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All numbers."""
    few = 2 if given.smoke else None
    two, four = lessons(few or 12, 1, 1), lessons(few or 8, 2, 2)
    unseen = {"2": lessons(few or 3, 11, 1), "4": lessons(few or 3, 12, 2)}
    if not given.smoke:
        unseen["8"] = lessons(2, 13, 4)
    records = [
        {"what": "base H0", "atoms": n, **errors(some, lambda x: _nothing(x.target))}
        for n, some in unseen.items()
    ]
    sets = {"12 cells of 2": two, "8 of 4": four, "8 of 4 and 6 of 2": four + two[:6]}
    for name, chosen in sets.items():
        for ridge in RIDGES:
            torch.manual_seed(0)
            network = FockNetwork(default_spec(LAYOUT, "tiny", cutoff=CUTOFF)).double()
            fit_crystals(network, chosen, ridge=ridge)
            for n, some in unseen.items():
                found = errors(some, lambda x, net=network: net(x.inputs)[0])
                records.append({"what": f"{name}, ridge {ridge:g}", "atoms": n, **found})
                common.progress(str(records[-1]))
    return records


def _nothing(correction: BlockMatrix) -> BlockMatrix:
    return correction.with_values(torch.zeros_like(correction.values))


def main() -> None:
    """Measure and print."""
    given = common.parse(common.options(__doc__))
    records = measure(given)
    rows = [[r["what"], r["atoms"], f"{r['h']:.3f}", f"{r['bands']:.0f}"] for r in records]
    text = common.table(("trained on", "unseen cells of", "H, mEh", "bands, meV"), rows)
    result = {"machine": common.machine(given.threads), "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
