"""Builds and SCFs of crystals against PySCF's, by FFT density fitting and by multigrid.

    python benchmarks/bench_crystals.py                        # all crystals, half an hour
    python benchmarks/bench_crystals.py --only diamond,Al
    python benchmarks/bench_crystals.py --smoke

PBE, GTH pseudopotentials, atoms displaced by 0.03 Å, processor time of one thread in one process.
The layer works on half of the k-points (k and -k are one), PySCF on the whole Γ-centred mesh.
"build" is one with AO values at hand (median of five), "values" what making them costs; "SCF" is
everything, from the cell to convergence (1e-8 Eh), PySCF's from its own start. "dE" is the
difference of the (free) energies per cell.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np
from pyscf.pbc import dft, gto

from deeph_zero.kohnsham.crystal import CrystalKohnSham

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
HEXAGONAL = np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 0]])
HEIGHT = 12.0
"""Å between layers."""


def _layer(a: float) -> np.ndarray:
    return a * HEXAGONAL + np.diag([0, 0, HEIGHT])


MOS2 = [("Mo", (1 / 3, 2 / 3, 0.5)), ("S", (2 / 3, 1 / 3, 0.63)), ("S", (2 / 3, 1 / 3, 0.37))]
HONEYCOMB = [(1 / 3, 2 / 3, 0.5), (2 / 3, 1 / 3, 0.5)]
CRYSTALS: dict[str, tuple[Any, ...]] = {
    "diamond": (3.567 * FCC, [("C", (0, 0, 0)), ("C", (0.25,) * 3)], "gth-dzvp", 60, (3, 3, 3), 0),
    "Si": (5.431 * FCC, [("Si", (0, 0, 0)), ("Si", (0.25,) * 3)], "gth-dzvp", 30, (3, 3, 3), 0),
    "LiH": (4.084 * FCC, [("Li", (0, 0, 0)), ("H", (0.5,) * 3)], "gth-szv", 100, (2, 2, 2), 0),
    "graphene": (
        _layer(2.46), list(zip("CC", HONEYCOMB, strict=True)), "gth-szv", 60, (6, 6, 1), 0.005,
    ),
    "h-BN": (_layer(2.504), list(zip("BN", HONEYCOMB, strict=True)), "gth-szv", 60, (3, 3, 1), 0),
    "MoS2": (_layer(3.16), MOS2, "gth-szv-molopt-sr", 60, (2, 2, 1), 0.005),
    "Al": (
        np.diag([1, 1, 4]) @ (4.05 * FCC),
        [("Al", (0, 0, z / 4)) for z in range(4)], "gth-szv", 25, (2, 2, 1), 0.01,
    ),
}  # fmt: skip
"""Lattice vectors (Å), elements with their fractions, basis, ke_cutoff (Eh), k-points, smearing
(Eh)."""

SMOKE = "h-BN"


def build_cell(name: str, *, ke_cutoff: float | None = None) -> gto.Cell:
    """One of the crystals, displaced.

    Args:
        name: Key of :data:`CRYSTALS`.
        ke_cutoff: Another cutoff, Eh.

    Returns:
        The built cell.
    """
    lattice, atoms, basis, cutoff, _, _ = CRYSTALS[name]
    places = np.array([at for _, at in atoms]) @ lattice
    places += np.random.default_rng(0).normal(scale=0.03, size=places.shape)
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = lattice, "A", 0
    cell.atom = [(symbol, at.tolist()) for (symbol, _), at in zip(atoms, places, strict=True)]
    cell.basis, cell.pseudo, cell.ke_cutoff = basis, "gth-pbe", ke_cutoff or cutoff
    return cell.build()


def seconds(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median of the processor time, and the last value."""
    times, value = [], None
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        times.append(time.process_time() - start)
    return statistics.median(times), value


def whole_scf(cell: gto.Cell, kmesh: tuple[int, ...], smearing: float) -> tuple[Any, Any]:
    """Everything of one SCF."""
    ks = CrystalKohnSham.from_pyscf(cell, kmesh=kmesh, xc="pbe", smearing=smearing)
    return ks, ks.scf(conv_tol=1e-8)


def pyscf_scf(mf: Any, smearing: float) -> tuple[int, float]:
    """Cycles and (free) energy of PySCF's SCF."""
    cycles = []
    mf.callback = lambda state: cycles.append(state["cycle"])
    mf.conv_tol = 1e-8
    mf = mf.smearing(smearing) if smearing else mf
    mf.kernel()
    return len(cycles), float(mf.e_free if smearing else mf.e_tot)


def one(name: str, *, ke_cutoff: float | None, skip_scf: bool) -> dict[str, Any]:
    """A row of the table.

    Args:
        name: Key of :data:`CRYSTALS`.
        ke_cutoff: Another cutoff, Eh.
        skip_scf: Leave PySCF's SCF out.

    Returns:
        The numbers.
    """
    *_, kmesh, smearing = CRYSTALS[name]
    cell = build_cell(name, ke_cutoff=ke_cutoff)
    scf, (ks, result) = seconds(lambda: whole_scf(cell, kmesh, smearing))
    fresh = CrystalKohnSham.from_pyscf(cell, kmesh=kmesh, xc="pbe", smearing=smearing)
    first, _ = seconds(lambda: fresh.build(result.dm))
    build, _ = seconds(lambda: fresh.build(result.dm), 5)
    kpts = cell.make_kpts(kmesh, wrap_around=True)
    mf = dft.KRKS(cell, kpts, xc="pbe")
    dm = mf.get_init_guess()
    veff, _ = seconds(lambda: mf.get_veff(dm=dm))
    grid, _ = seconds(lambda: mf.copy().multigrid_numint().get_veff(dm=dm))
    row = {
        "crystal": name, "nao": ks.nao, "k": f"{ks.nk}/{len(kpts)}",
        "mesh": "x".join(map(str, ks.info.fft_mesh)), "values": first - build, "build": build,
        "FFTDF": veff / build, "multigrid": grid / build, "SCF": scf, "cycles": result.iterations,
        "grid_error": result.grid_error,
    }  # fmt: skip
    if not skip_scf:
        theirs, (cycles, energy) = seconds(lambda: pyscf_scf(mf, smearing))
        row |= {"PySCF SCF": theirs / scf, "its cycles": cycles, "dE": result.free_energy - energy}
    return row


def _shown(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure and print."""
    parser = common.options(__doc__)
    parser.add_argument("--only", default=",".join(CRYSTALS), help="crystals, comma-separated")
    parser.add_argument("--ke-cutoff", type=float, help="another cutoff for all, Eh")
    parser.add_argument("--no-scf", action="store_true", help="leave PySCF's SCF out")
    parser.set_defaults(threads=1)
    given = common.parse(parser)
    names = [SMOKE] if given.smoke else given.only.split(",")
    cutoff = 15.0 if given.smoke else given.ke_cutoff
    records = []
    for name in names:
        records.append(one(name, ke_cutoff=cutoff, skip_scf=given.no_scf or given.smoke))
        common.progress(", ".join(f"{k} {_shown(v)}" for k, v in records[-1].items()))
    rows = [[_shown(value) for value in record.values()] for record in records]
    result = {"machine": common.machine(given.threads), "records": records}
    text = common.table(list(records[0]), rows)
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
