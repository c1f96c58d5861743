"""SCF of this package against PySCF's over the G2 molecules, from the same starting density.

    python benchmarks/bench_scf.py                       # PBE and B3LYP, all molecules, an hour
    python benchmarks/bench_scf.py --xc pbe --limit 40
    python benchmarks/bench_scf.py --xc b3lyp --records b3lyp.jsonl   # goes on where it stopped
    python benchmarks/bench_scf.py --smoke

def2-SVP, density fitting, grid level 1, UKS for radicals (``n_unpaired`` of each frame), both
programs with conv_tol 1e-9, the superposition of atomic densities as start and their own defaults
for everything else. "dE" is ours minus PySCF's: a positive one beyond 1e-6 Eh is a higher state.
Molecules run by electron number, smallest first; with --limit the radicals go first.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import common
from pyscf import gto

from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham

DATA = Path("../shared/data/ase_g2_s22/g2.xyz")
"""Relative to the repository root: not part of the repository."""

SMOKE = (("water", 0), ("oh", 1), ("ch3", 1))
"""Examples that need no data file, and their unpaired electrons."""

CONV_TOL = 1e-9
SAME_STATE = 1e-6
"""Energies closer than this (Eh) are one state."""


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="extended XYZ with n_unpaired")
    parser.add_argument("--xc", default="pbe,b3lyp", help="functionals, comma separated")
    parser.add_argument("--limit", type=int, help="number of molecules per functional")
    parser.add_argument("--only", help="regular expression of names")
    parser.add_argument("--level", type=int, default=1, help="grid level")
    parser.add_argument("--max-cycle", type=int, default=100, help="cycles allowed, both programs")
    parser.add_argument(
        "--records", type=Path, help="JSON lines; runs found there are not repeated"
    )
    return common.parse(parser)


def recorded(path: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """Runs of an earlier call, by functional and molecule."""
    if path is None or not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {(r["xc"], r["name"]): r for r in lines}


def molecules(given: argparse.Namespace) -> list[tuple[str, gto.Mole]]:
    """Names and built molecules in the order in which they run."""
    root = Path(__file__).parents[1]
    path = given.data if given.data.is_absolute() else root / given.data
    if given.smoke and not path.exists():
        return [(name, build_mole(common.example(name), basis="def2-svp")) for name, _ in SMOKE]
    if not path.exists():
        raise InputError(f"expected the G2 structures, found no file {path}; use --data FILE")
    frames: list[ase.Atoms] = ase.io.read(path, ":")  # pyright: ignore
    found = []
    for atoms in frames:
        spin = int(atoms.info["n_unpaired"])
        mole = build_mole(from_atoms(atoms, spin=spin), basis="def2-svp")
        name = atoms.info["name"]
        if not isinstance(name, str):  # ASE reads the fluorine atom's name, F, as "false"
            name = atoms.get_chemical_formula()
        if given.only is None or re.search(given.only, name):
            found.append((name, mole))
    found.sort(key=lambda pair: (pair[1].spin == 0 and bool(given.limit), pair[1].nelectron))
    if given.smoke:
        return found[:5]
    return found[: given.limit]


def compare(name: str, mol: gto.Mole, xc: str, given: argparse.Namespace) -> dict[str, Any]:
    """One molecule with both programs."""
    mf = common.mean_field(mol, xc, grid_level=given.level)
    mf.conv_tol, mf.max_cycle = CONV_TOL, given.max_cycle
    ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=given.level)
    started = time.perf_counter()
    result = ks.scf(conv_tol=CONV_TOL, max_cycle=given.max_cycle)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    mf.kernel()
    return {
        "name": name,
        "xc": xc,
        "spin": int(mol.spin),
        "nao": int(mol.nao),
        "converged": result.converged,
        "pyscf_converged": bool(mf.converged),
        "energy": result.energy,
        "pyscf_energy": float(mf.e_tot),
        "difference": result.energy - float(mf.e_tot),
        "iterations": result.iterations,
        "pyscf_iterations": int(mf.cycles),
        "fock_builds": result.fock_builds,
        "gradient_norm": result.gradient_norm,
        "seconds": seconds,
        "pyscf_seconds": time.perf_counter() - started,
    }


def line(r: dict[str, Any]) -> list[str]:
    """One record as table cells."""
    marks = {True: "yes", False: "NO"}
    return [
        f"{r['name']} {r['xc']}",
        str(r["spin"]),
        str(r["nao"]),
        f"{marks[r['converged']]} / {marks[r['pyscf_converged']]}",
        f"{r['difference']:+.1e}",
        f"{r['iterations']} / {r['pyscf_iterations']}",
        str(r["fock_builds"]),
    ]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all records."""
    both = [r for r in records if r["converged"] and r["pyscf_converged"]]
    same = [r for r in both if abs(r["difference"]) < SAME_STATE]
    return {
        "runs": len(records),
        "converged": sum(r["converged"] for r in records),
        "pyscf_converged": sum(r["pyscf_converged"] for r in records),
        "only_pyscf_converged": [
            f"{r['name']} {r['xc']}" for r in records if r["pyscf_converged"] > r["converged"]
        ],
        "higher": [f"{r['name']} {r['xc']}" for r in both if r["difference"] >= SAME_STATE],
        "lower": [f"{r['name']} {r['xc']}" for r in both if r["difference"] <= -SAME_STATE],
        "worst_same_state": max((abs(r["difference"]) for r in same), default=None),
        "mean_iterations": sum(r["iterations"] for r in both) / max(len(both), 1),
        "mean_pyscf_iterations": sum(r["pyscf_iterations"] for r in both) / max(len(both), 1),
        "mean_fock_builds": sum(r["fock_builds"] for r in both) / max(len(both), 1),
        "largest_excess": max((r["iterations"] - r["pyscf_iterations"] for r in both), default=0),
    }


def main() -> None:
    """Measure and print."""
    given = options()
    records = []
    chosen = molecules(given)
    done = recorded(given.records)
    for xc in given.xc.split(","):
        for name, mol in chosen:
            if (xc, name) in done:
                records.append(done[xc, name])
                continue
            records.append(compare(name, mol, xc, given))
            common.progress("  ".join(line(records[-1])))
            if given.records is not None:
                with given.records.open("a") as file:
                    file.write(json.dumps(records[-1]) + "\n")
    totals = summary(records)
    headers = ("molecule", "2S", "nao", "converged", "dE / Eh", "iterations", "Fock builds")
    text = (
        "SCF, ours / PySCF; def2-SVP, fitted, minao start\n\n"
        + common.table(headers, [line(r) for r in records])
        + "\n\n"
        + "\n".join(f"{key}: {value}" for key, value in totals.items())
    )
    result = {"machine": common.machine(given.threads), "summary": totals, "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
