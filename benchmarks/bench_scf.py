"""SCF of this package over the G2 molecules: against PySCF's, and on two grids against one.

    python benchmarks/bench_scf.py                       # PBE and B3LYP, all molecules, an hour
    python benchmarks/bench_scf.py --xc pbe --limit 40
    python benchmarks/bench_scf.py --xc b3lyp --records b3lyp.jsonl   # goes on where it stopped
    python benchmarks/bench_scf.py --one-grid --reference own --grid-level 3 --conv-tol-grad 1e-5
                --threads 1 --xc pbe,b3lyp,r2scan --records g2.jsonl  # two grids against one
    python benchmarks/bench_scf.py --one-grid --reference own --set five --grid-level 3 --threads 1
    python benchmarks/bench_scf.py --one-grid --reference own --set kinds --threads 1
    python benchmarks/bench_scf.py --smoke

def2-SVP, density fitting, UKS for radicals, both programs with conv_tol 1e-9, the superposition of
atomic densities as start and their own defaults for everything else. "dE" is ours minus the
reference's: a positive one beyond 1e-6 Eh is a higher state. G2 is ASE's (162 molecules and atoms;
``--data`` takes another file, ``n_unpaired`` of each frame). "five" is rattled water, ethanol,
benzene, uracil and aspirin; "kinds" what G2 lacks: grid levels, effective core potentials,
non-local correlation, range separation, smearing; it chooses functionals and levels by itself.
Molecules run by electron number, smallest first; with --limit the radicals go first.

--one-grid also runs every SCF on the target grid alone: processor time of the SCF in one process,
AO values and integrals at hand, the two in turns, the best of --repeats.
"""

import argparse
import dataclasses
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import common
import numpy as np
import structures
from ase.collections import g2
from pyscf import gto

from deeph_zero.data.structures import from_atoms, read_structures
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.molecule import Molecule

SMOKE = ("water", "oh", "ch3")
"""Examples of the short form."""

FIVE = ("H2O", "CH3CH2OH", "C6H6", "O=c1cc[nH]c(=O)[nH]1", "aspirin")
"""Names in G2, a SMILES, a file beside this one."""

RATTLED = 0.03
"""Standard deviation of a rattled coordinate, bohr: no symmetry is left."""

CONV_TOL = 1e-9
SAME_STATE = 1e-6
"""Energies closer than this (Eh) are one state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One SCF to run.

    Attributes:
        name: What it is called.
        mol: Built molecule.
        xc: Functional.
        level: Grid level.
        smearing: Width of Fermi occupations, Eh.
    """

    name: str
    mol: gto.Mole
    xc: str
    level: int
    smearing: float = 0.0

    @property
    def key(self) -> str:
        """What a record of it is found by."""
        return f"{self.name} {self.xc} {self.level} {self.smearing:g}"


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--set", choices=("g2", "five", "kinds"), default="g2")
    parser.add_argument("--data", type=Path, help="extended XYZ with n_unpaired, in place of G2")
    parser.add_argument("--xc", default="pbe,b3lyp", help="functionals, comma separated")
    parser.add_argument("--limit", type=int, help="number of molecules per functional")
    parser.add_argument("--every", type=int, default=1, help="every so manieth molecule by size")
    parser.add_argument("--only", help="regular expression of name, functional and level")
    parser.add_argument("--grid-level", "--level", dest="level", type=int, default=1)
    parser.add_argument("--max-cycle", type=int, default=100, help="cycles allowed, both programs")
    parser.add_argument("--conv-tol-grad", type=float, help="gradient asked for, Eh; both programs")
    parser.add_argument("--one-grid", action="store_true", help="two grids against one")
    parser.add_argument(
        "--reference", choices=("pyscf", "own"), default="pyscf", help="own: our SCF on one grid"
    )
    parser.add_argument("--repeats", type=int, default=2, help="of every timed SCF")
    parser.add_argument(
        "--records", type=Path, help="JSON lines; runs found there are not repeated"
    )
    return common.parse(parser)


def recorded(path: Path | None) -> dict[str, dict[str, Any]]:
    """Runs of an earlier call."""
    if path is None or not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {r["key"]: r for r in lines}


def g2_molecules(given: argparse.Namespace) -> list[tuple[str, Molecule]]:
    """Names and structures of ASE's G2, or of the file in its place."""
    if given.data is None:
        frames = [g2[name] for name in g2.names]
        spins = [round(sum(atoms.get_initial_magnetic_moments())) for atoms in frames]
        found = list(zip(frames, spins, g2.names, strict=True))
    elif given.data.exists():
        frames: list[ase.Atoms] = ase.io.read(given.data, ":")  # pyright: ignore
        found = [(a, int(a.info["n_unpaired"]), a.info["name"]) for a in frames]
    else:
        raise InputError(f"expected structures, found no file {given.data}; use --data FILE")
    return [
        # ASE reads the fluorine atom's name, F, as "false"
        (str(n) if isinstance(n, str) else a.get_chemical_formula(), from_atoms(a, spin=spin))
        for a, spin, n in found
    ]


def rattled(molecule: Molecule) -> Molecule:
    """Every coordinate moved at random, always by the same."""
    noise = np.random.default_rng(7).standard_normal(molecule.coords.shape)
    return dataclasses.replace(molecule, coords=molecule.coords + RATTLED * noise)


def known(name: str) -> Molecule:
    """A rattled molecule: a name in G2, a file beside this one, a SMILES, or "I 0 0 0; H ..."."""
    file = Path(__file__).with_name(f"{name}.xyz")
    if name in g2.names:
        atoms = g2[name]
        return rattled(from_atoms(atoms, spin=round(sum(atoms.get_initial_magnetic_moments()))))
    if file.exists():
        return rattled(structures.read_molecules(file)[0])
    if ";" in name:
        atoms = [part.split() for part in name.split(";")]
        positions = [[float(x) for x in words[1:]] for words in atoms]
        return rattled(from_atoms(ase.Atoms([words[0] for words in atoms], positions)))
    molecules, bad = read_structures([f"smiles:{name}"])
    if bad:
        raise InputError(str(bad[0]))
    return rattled(molecules[0])


KINDS: tuple[tuple[str, str, int, float], ...] = (
    *(("CH3CH2OH", xc, level, 0) for xc in ("pbe", "b3lyp") for level in (1, 2, 4, 5)),
    *(("SO2", "r2scan", level, 0) for level in (1, 2, 4, 5)),
    *(("NO2", "pbe", level, 0) for level in (1, 2, 4, 5)),
    *(("I 0 0 0; H 0 0 1.61", xc, 3, 0) for xc in ("pbe", "b3lyp")),
    *(("I 0 0 0; I 0 0 2.67", xc, 3, 0) for xc in ("pbe", "r2scan")),
    ("Ag 0 0 0; H 0 0 1.62", "pbe", 3, 0),
    *((name, "wb97m-v", 3, 0) for name in ("H2", "H2O", "CH3CH2OH", "NO2")),
    ("CH3CH2OH", "b97m-v", 3, 0),
    *(
        (name, xc, 3, 0)
        for name in ("H2O", "CH3CH2OH", "NO2")
        for xc in ("camb3lyp", "hse06", "wb97x-d")
    ),
    ("CH3CH2OH", "lda,vwn", 3, 0),
    *((name, "pbe", 3, 0.02) for name in ("SO2", "NO2", "C6H6")),
    ("C6H6", "b3lyp", 3, 0.02),
)
"""Molecule, functional, grid level, width of smearing."""


def cases(given: argparse.Namespace) -> list[Case]:
    """What to run, in order."""
    if given.smoke:
        names = [(name, structures.named(name)) for name in SMOKE]
        levels = [1, 3] if given.one_grid else [given.level]
        return [
            Case(name=name, mol=build_mole(m, basis="def2-svp"), xc="pbe", level=level)
            for name, m in names[: 4 - len(levels)]
            for level in levels
        ]
    if given.set == "kinds":
        found = [
            Case(name=n, mol=build_mole(known(n), basis="def2-svp"), xc=xc, level=lv, smearing=w)
            for n, xc, lv, w in KINDS
        ]
    else:
        named = g2_molecules(given) if given.set == "g2" else [(n, known(n)) for n in FIVE]
        built = [(name, build_mole(m, basis="def2-svp")) for name, m in named]
        built.sort(key=lambda one: (one[1].spin == 0 and bool(given.limit), one[1].nelectron))
        chosen = built[:: given.every][: given.limit]
        found = [
            Case(name=name, mol=mol, xc=xc, level=given.level)
            for xc in given.xc.split(",")
            for name, mol in chosen
        ]
    return [one for one in found if given.only is None or re.search(given.only, one.key)]


def two_and_one(
    ks: KohnSham, settings: dict[str, Any], repeats: int
) -> tuple[SCFResult, dict[str, Any]]:
    """The SCF, and both in turns, everything at hand that they share."""
    for layer in (ks.layer, ks.layer.coarse):
        if layer is not None:
            layer.build(layer.dm_guess)  # AO values and unpacked integrals come with the first
    seconds: dict[bool, list[float]] = {True: [], False: []}
    results: dict[bool, SCFResult] = {}
    for _ in range(max(1, repeats)):
        for both in (False, True):
            started = time.process_time()
            results[both] = ks.scf(**settings, two_grids=both)
            seconds[both].append(time.process_time() - started)
    two, one = results[True], results[False]
    return two, {
        "coarse_builds": two.coarse_builds,
        "one_converged": one.converged,
        "one_energy": one.energy - one.entropy_energy,
        "one_fock_builds": one.fock_builds,
        "one_seconds": min(seconds[False]),
        "two_seconds": min(seconds[True]),
        "ratio": min(seconds[False]) / min(seconds[True]),
        "grid_ratio": ks.layer.coarse_ratio,
    }


def theirs(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """PySCF's SCF."""
    mf = common.mean_field(case.mol, case.xc, grid_level=case.level)
    if case.smearing:
        raise InputError("expected --reference own with smearing: PySCF's has another minimum")
    mf.conv_tol, mf.max_cycle, mf.conv_tol_grad = CONV_TOL, given.max_cycle, given.conv_tol_grad
    started = time.perf_counter()
    mf.kernel()
    return {
        "pyscf_converged": bool(mf.converged),
        "pyscf_energy": float(mf.e_tot),
        "pyscf_iterations": int(mf.cycles),
        "pyscf_seconds": time.perf_counter() - started,
    }


def compare(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """One molecule with everything asked for."""
    mol = case.mol
    ks = KohnSham.from_pyscf(mol, xc=case.xc, grid_level=case.level, smearing=case.smearing)
    settings: dict[str, Any] = {"conv_tol": CONV_TOL, "max_cycle": given.max_cycle, "hint": False}
    if given.conv_tol_grad is not None:
        settings["conv_tol_grad"] = given.conv_tol_grad
    started = time.perf_counter()
    more: dict[str, Any] = {}
    if given.one_grid or given.reference == "own":
        result, more = two_and_one(ks, settings, given.repeats)
    else:
        result = ks.scf(**settings)
    seconds = time.perf_counter() - started
    energy = result.energy - result.entropy_energy
    if given.reference == "pyscf":
        more |= theirs(case, given)
    reference = "pyscf" if given.reference == "pyscf" else "one"
    return {
        "key": case.key,
        "name": case.name,
        "xc": case.xc,
        "level": case.level,
        "smearing": case.smearing,
        "spin": int(mol.spin),
        "nao": int(mol.nao),
        "converged": result.converged,
        "reference": given.reference,
        "reference_converged": more[f"{reference}_converged"],
        "energy": energy,
        "difference": energy - more[f"{reference}_energy"],
        "iterations": result.iterations,
        "fock_builds": result.fock_builds,
        "gradient_norm": result.gradient_norm,
        "seconds": seconds,
        **more,
    }


HEADERS = ("molecule", "2S", "nao", "converged", "dE / Eh", "iterations", "Fock builds")
MORE = ("one grid", "coarse", "points", "CPU s, one grid", "two", "times less")


def line(r: dict[str, Any]) -> list[str]:
    """One record as table cells."""
    marks = {True: "yes", False: "NO"}
    cells = [
        " ".join(
            [r["name"], r["xc"], str(r["level"]), *([str(r["smearing"])] * (r["smearing"] > 0))]
        ),
        str(r["spin"]),
        str(r["nao"]),
        f"{marks[r['converged']]} / {marks[r['reference_converged']]}",
        f"{r['difference']:+.1e}",
        f"{r['iterations']} / {r.get('pyscf_iterations', '-')}",
        str(r["fock_builds"]),
    ]
    if "ratio" in r:
        cells += [
            str(r["one_fock_builds"]),
            str(r["coarse_builds"]),
            f"{r['grid_ratio']:.1f}",
            f"{r['one_seconds']:.3f}",
            f"{r['two_seconds']:.3f}",
            f"{r['ratio']:.2f}",
        ]
    return cells


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all records."""
    both = [r for r in records if r["converged"] and r["reference_converged"]]
    same = [r for r in both if abs(r["difference"]) < SAME_STATE]
    out = {
        "runs": len(records),
        "converged": sum(r["converged"] for r in records),
        "reference_converged": sum(r["reference_converged"] for r in records),
        "only_reference_converged": [
            r["key"] for r in records if r["reference_converged"] > r["converged"]
        ],
        "higher": [r["key"] for r in both if r["difference"] >= SAME_STATE],
        "lower": [r["key"] for r in both if r["difference"] <= -SAME_STATE],
        "worst_same_state": max((abs(r["difference"]) for r in same), default=None),
        "mean_iterations": sum(r["iterations"] for r in both) / max(len(both), 1),
        "mean_fock_builds": sum(r["fock_builds"] for r in both) / max(len(both), 1),
    }
    both = [r for r in both if "pyscf_iterations" in r]
    if both:
        out["mean_pyscf_iterations"] = sum(r["pyscf_iterations"] for r in both) / len(both)
        out["largest_excess"] = max(r["iterations"] - r["pyscf_iterations"] for r in both)
    return out | two_grid_summary([r for r in records if "ratio" in r])


def two_grid_summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What two grids cost beside one."""
    on_two = [r for r in records if r["coarse_builds"]]
    if not on_two:
        return {}
    ratios = [r["ratio"] for r in on_two]
    builds = [r["fock_builds"] for r in on_two]
    return {
        "on_two_grids": len(on_two),
        "fine_builds": {n: builds.count(n) for n in sorted(set(builds))},
        "median_ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "below_0.95": [f"{r['key']} {r['ratio']:.2f}" for r in on_two if r["ratio"] < 0.95],
        "ratio_of_all_time": sum(r["one_seconds"] for r in on_two)
        / sum(r["two_seconds"] for r in on_two),
    }


def main() -> None:
    """Measure and print."""
    given = options()
    records = []
    done = recorded(given.records)
    for case in cases(given):
        if case.key in done:
            records.append(done[case.key])
            continue
        records.append(compare(case, given))
        common.progress("  ".join(line(records[-1])))
        if given.records is not None:
            with given.records.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    parts = {
        xc: [r for r in records if r["xc"] == xc] for xc in dict.fromkeys(r["xc"] for r in records)
    }
    totals = {xc: summary(part) for xc, part in parts.items()}
    rows = [line(r) for r in records]
    headers = (HEADERS + MORE)[: max(map(len, rows), default=len(HEADERS))]
    text = "SCF, ours / reference; def2-SVP, fitted, minao start\n\n" + common.table(headers, rows)
    for xc, found in totals.items():
        text += f"\n\n{xc}\n" + "\n".join(f"{key}: {value}" for key, value in found.items())
    result = {"machine": common.machine(given.threads), "summary": totals, "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
