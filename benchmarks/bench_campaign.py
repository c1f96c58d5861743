"""A campaign of converged calculations: ``deeph-zero label`` against a loop over PySCF.

    python benchmarks/bench_campaign.py                                 # methanol, 12 frames
    python benchmarks/bench_campaign.py --data ethanol.npz --frames 12 --xc pbe,b3lyp
    python benchmarks/bench_campaign.py --one-grid                      # also on one grid
    python benchmarks/bench_campaign.py --model RUN --no-pyscf  # ours alone, also from a model
    python benchmarks/bench_campaign.py --smoke

CPU seconds of whole processes, start-up included, one thread: ours writes its label file, the loop
only converges (``RKS.density_fit``, PySCF's defaults, conv_tol_grad 1e-5) from the better of two
starts: superposed atoms, or the density of the frame before. Without --data the frames are
vibrations made here; of a trajectory (npz, xyz) frames at equal distances are taken. "worst" is the
largest difference between the energies of two grids and those of another route.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ase
import ase.io
import common
import numpy as np
import structures

from deeph_zero.units import BOHR_IN_ANGSTROM

TOL = 1e-5
LOOP = """
import json, sys
import ase.io
from pyscf import dft, gto, lib
path, xc, level, again = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "before"
lib.num_threads(1)
out, dm = [], None
for atoms in ase.io.read(path, ":"):
    pairs = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist()))
    mol = gto.M(atom=pairs, basis="def2-svp", verbose=0)
    mf = dft.RKS(mol, xc=xc).density_fit()
    mf.grids.level, mf.conv_tol_grad = level, 1e-5
    mf.kernel(dm0=dm if again else None)
    dm = mf.make_rdm1()
    out.append([float(mf.e_tot), int(mf.cycles)])
print(json.dumps(out))
"""


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    structures.add_options(parser, "methanol")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--skip", type=int, default=0, help="first frames of --data left out")
    parser.add_argument("--xc", default="pbe", help="functionals, comma separated")
    parser.add_argument("--level", type=int, default=3, help="grid level")
    parser.add_argument("--one-grid", action="store_true", help="also without the coarse grid")
    parser.add_argument("--model", help="also from the densities of a model")
    parser.add_argument("--no-pyscf", action="store_true", help="ours alone")
    given = common.parse(parser)
    if given.smoke:
        given.molecule, given.frames = "water", 2
    return given


def cpu_seconds(words: list[str]) -> tuple[str, float]:
    """Output of a process and the processor time it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, spent


def ours(path: Path, xc: str, given: argparse.Namespace, *more: str) -> dict[str, Any]:
    """``label`` over the file."""
    program = str(Path(sys.executable).with_name("deeph-zero"))
    out = path.with_suffix(".h5")
    words = [program, "label", str(path), "-o", str(out), "--overwrite", "--xc", xc]
    words += ["--grid-level", str(given.level), "--threads", "1", "--json"]
    text, seconds = cpu_seconds([*words, "--conv-tol-grad", str(TOL), *more])
    summary = json.loads(text)
    return {
        "seconds": seconds,
        "energies": [entry["energy"] for entry in summary["structures"]],
        "fine": summary["fock_builds"],
        "coarse": summary["coarse_builds"],
    }


def loop(path: Path, xc: str, given: argparse.Namespace, start: str) -> dict[str, Any]:
    """PySCF over the file, from one kind of start."""
    words = [sys.executable, "-c", LOOP, str(path), xc, str(given.level), start]
    text, seconds = cpu_seconds(words)
    found = json.loads(text)
    return {
        "seconds": seconds,
        "start": start,
        "energies": [energy for energy, _ in found],
        "cycles": sum(cycles for _, cycles in found),
    }


def measure(path: Path, xc: str, given: argparse.Namespace) -> dict[str, Any]:
    """All routes for one functional, side by side."""
    starts = () if given.no_pyscf else ("atoms", "before")
    both = [loop(path, xc, given, start) for start in starts]
    theirs = min(both, key=lambda one: one["seconds"], default=None)
    two = ours(path, xc, given)
    one = ours(path, xc, given, "--one-grid") if given.one_grid else None
    model = ours(path, xc, given, "--model", given.model) if given.model else None
    others = [route["energies"] for route in (theirs, one, model) if route]
    worst = max((np.abs(np.subtract(two["energies"], e)).max() for e in others), default=0.0)
    found = {"pyscf": theirs, "two": two, "one": one, "model": model}
    return {"xc": xc, **found, "worst": float(worst)}


def cell(route: dict[str, Any] | None) -> str:
    """Seconds and builds of one of our routes."""
    return f"{route['seconds']:.1f} ({route['fine']} + {route['coarse']})" if route else "-"


def main() -> None:
    """Measure and print."""
    given = options()
    chosen = structures.frames(given, given.frames, skip=given.skip)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.xyz"
        atoms = [ase.Atoms(m.numbers, m.coords * BOHR_IN_ANGSTROM) for m in chosen]
        ase.io.write(path, atoms, format="extxyz")
        rows = [measure(path, xc, given) for xc in given.xc.split(",")]
    cells = []
    for row in rows:
        theirs, two = row["pyscf"], row["two"]
        words = "{seconds:.1f} ({start}, {cycles} cycles)"
        times = f"{theirs['seconds'] / two['seconds']:.1f}" if theirs else "-"
        ours_ = [cell(row[route]) for route in ("one", "two", "model")]
        first = words.format(**theirs) if theirs else "-"
        cells.append([row["xc"], first, *ours_, times, f"{row['worst']:.1e}"])
    routes = ("one grid / s (builds)", "two grids / s (fine + coarse)", "from the model / s")
    headers = ("xc", "PySCF / s", *routes)
    text = f"{len(chosen)} frames of {chosen[0].natm} atoms, def2-SVP, level {given.level}\n\n"
    text += common.table((*headers, "times faster", "worst / Eh"), cells)
    result = {"machine": common.machine(1), "frames": len(chosen), "rows": rows}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
