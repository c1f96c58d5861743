"""Time of one Fock build, this package against PySCF's get_veff, side by side.

    python benchmarks/bench_fock.py --threads 1     # all molecules and functionals, minutes
    python benchmarks/bench_fock.py --molecules water benzene --functionals pbe

The columns: medians of one build; set-up (grid, integrals, starting density; CPU seconds of one
thread) and peak memory (resident, of set-up and two builds, above what the process had before)
of each program alone in a forked child; "limit" is what this package says it may take: KSInfo's
memory plus the bounded working memory.

Same molecule, grid, fitting set and integrals. Every build gets a new density: orbitals of a
slightly perturbed Fock matrix. PySCF is handed those orbitals with the density, as in its own SCF
(its faster path); this package gets the density matrix alone. Both programs take turns in one
process; first builds, which make integrals, grids and kept AO values, are not counted.
"""

import argparse
import statistics
import time
from typing import Any

import common
import footprint
import numpy as np
import structures
import torch
from ase.build import molecule as ase_molecule
from pyscf import gto, lib, scf

from deeph_zero.data.structures import from_atoms
from deeph_zero.integrals.grids import BLOCK_MEMORY_MB
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.terms.semilocal import GROUP_MEMORY_MB
from deeph_zero.ks.terms.two_electron import DEFAULT_MEMORY_MB
from deeph_zero.molecule import Molecule

MOLECULES = ("water", "ethanol", "benzene", "aspirin")
FUNCTIONALS = ("pbe", "pbe0", "r2scan")
WORKING_MB = DEFAULT_MEMORY_MB + BLOCK_MEMORY_MB + GROUP_MEMORY_MB
"""Bounded working memory: unpacked integrals, one block and one group of blocks."""
TARGET = 1.5
"""Ratio of medians that the design asks for."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--molecules", nargs="+", choices=MOLECULES, default=MOLECULES)
    parser.add_argument("--functionals", nargs="+", default=FUNCTIONALS)
    parser.add_argument("--basis", nargs="+", default=["def2-svp", "def2-tzvp"])
    parser.add_argument("--levels", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--repeats", type=int, default=9, help="counted pairs of builds")
    parser.add_argument("--unrestricted", action="store_true", help="UKS of the same molecules")
    parser.add_argument("--ao-memory", type=float, help="MB for kept AO values (default 1000)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU instead of wall time: busy machines"
    )
    parser.add_argument(
        "--no-footprint", action="store_true", help="leave set-up times and peak memory out"
    )
    parser.add_argument("--response", action="store_true", help="time response builds as well")
    given = common.parse(parser)
    if given.cpu_time and given.threads > 1:
        parser.error("expected --threads 1 with --cpu-time: it adds up over threads")
    if given.smoke:
        given.molecules, given.functionals = ["water"], ["pbe", "pbe0"]
        given.basis, given.levels, given.repeats = ["def2-svp"], [1], 3
    return given


def molecule(name: str) -> Molecule:
    """An example, ethanol from ASE's tables, or aspirin from textbook bond lengths."""
    if name == "ethanol":
        return from_atoms(ase_molecule("CH3CH2OH"))
    return structures.named(name)


def densities(mf: Any, fock: np.ndarray, count: int) -> list[np.ndarray]:
    """Densities of slightly perturbed Fock matrices, tagged with their orbitals for PySCF.

    Args:
        mf: PySCF's object.
        fock: A Fock matrix near convergence, [nao, nao] or [2, nao, nao].
        count: How many.

    Returns:
        Idempotent densities, each tagged with ``mo_coeff`` and ``mo_occ``.
    """
    rng = np.random.default_rng(0)
    ovlp = mf.get_ovlp()
    out = []
    for _ in range(count):
        noise = 0.02 * rng.standard_normal(fock.shape)
        noise = ovlp @ (noise + np.swapaxes(noise, -1, -2)) @ ovlp
        mo_energy, mo_coeff = mf.eig(fock + noise, ovlp)
        mo_occ = mf.get_occ(mo_energy, mo_coeff)
        dm = np.asarray(mf.make_rdm1(mo_coeff, mo_occ))
        out.append(lib.tag_array(dm, mo_coeff=np.asarray(mo_coeff), mo_occ=np.asarray(mo_occ)))
    return out


def seconds(call: Any, clock: Any) -> tuple[float, Any]:
    """Time of one call by ``clock``, and its result."""
    started = clock()
    result = call()
    return clock() - started, result


def mean_field(mol: gto.Mole, xc: str, level: int, options: argparse.Namespace) -> Any:
    """PySCF's object, nothing built yet."""
    mf = common.mean_field(mol, xc, grid_level=level)
    return mf.to_uks() if options.unrestricted else mf


def footprints(
    mol: gto.Mole, xc: str, level: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Set-up seconds and peak memory of both programs, each from nothing in its own process."""

    def ours() -> Any:
        limits = {} if options.ao_memory is None else {"ao_memory_mb": options.ao_memory}
        spin = options.unrestricted or None
        ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=level, unrestricted=spin, **limits)
        return lambda: ks.build(ks.data.dm_guess)

    def theirs() -> Any:
        mf = mean_field(mol, xc, level, options)
        mf.grids.build()
        mf.with_df.build()
        mf.get_hcore()
        guess = mf.get_init_guess(mol, "minao")
        return lambda: mf.get_veff(dm=guess)

    return {"this": footprint.measured(ours), "pyscf": footprint.measured(theirs)}


def measure(mol: gto.Mole, xc: str, level: int, options: argparse.Namespace) -> dict[str, Any]:
    """Medians of alternating builds, and how far the Fock matrices are apart."""
    mf = mean_field(mol, xc, level, options)
    clock = time.process_time if options.cpu_time else time.perf_counter
    limits = {} if options.ao_memory is None else {"ao_memory_mb": options.ao_memory}
    hcore = scf.hf.get_hcore(mol)
    guess = np.asarray(mf.get_init_guess(mol, "minao"))
    mf.with_df.build()  # or PySCF makes the integrals of a pure functional at every build
    fock = hcore + np.asarray(mf.get_veff(dm=guess))
    ks = KohnSham.from_pyscf(mf, **limits)
    dms = densities(mf, fock, options.repeats + 1)
    theirs, ours, response, difference = [], [], [], 0.0
    for step, dm in enumerate(dms):
        given = torch.from_numpy(np.array(dm))
        own_time, built = seconds(lambda dm=given: ks.build(dm), clock)
        their_time, veff = seconds(lambda dm=dm: mf.get_veff(dm=dm), clock)
        change = given - torch.from_numpy(np.array(dms[step - 1]))
        if options.response:
            response.append(seconds(lambda dm=given, g=change: ks.response(dm, g), clock)[0])
        gap = np.abs(built.fock.numpy() - hcore - np.asarray(veff)).max()
        difference = max(difference, float(gap))
        if step:  # the first build keeps the AO values
            ours.append(own_time)
            theirs.append(their_time)
    record = {
        "nao": int(mol.nao),
        "ngrids": ks.info.ngrids,
        "memory_mb": ks.info.memory_bytes / 1e6,
        "seconds": statistics.median(ours),
        "pyscf_seconds": statistics.median(theirs),
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "fock_difference": difference,
    }
    record["limit_mb"] = ks.info.memory_bytes / 1e6 + WORKING_MB
    if response:
        record["response_seconds"] = statistics.median(response[1:])
    return record


def cases(options: argparse.Namespace) -> list[tuple[str, str, int, str]]:
    """(molecule, basis, level, functional)."""
    return [
        (name, basis, level, xc)
        for name in options.molecules
        for basis in options.basis
        for level in options.levels
        for xc in options.functionals
    ]


def tabulate(records: list[dict[str, Any]], *, response: bool) -> str:
    """One row per case."""
    headers = ["molecule", "basis", "level", "xc", "nao", "points", "PySCF, ms", "this, ms"]
    headers += ["ratio", "dF, Eh", *(["response, ms"] if response else [])]
    footprints = all("footprint" in r for r in records)
    if footprints:
        headers += ["set-up PySCF, s", "this, s", "peak PySCF, MB", "this, MB", "limit, MB"]
    rows = []
    for r in records:
        row = [r["molecule"], r["basis"], str(r["level"]), r["xc"], str(r["nao"])]
        row += [str(r["ngrids"]), f"{1e3 * r['pyscf_seconds']:.1f}", f"{1e3 * r['seconds']:.1f}"]
        row += [f"{r['ratio']:.2f}", f"{r['fock_difference']:.0e}"]
        row += [f"{1e3 * r['response_seconds']:.1f}"] if response else []
        if footprints:
            pair = [r["footprint"][program] for program in ("pyscf", "this")]
            row += [f"{one['setup']:.2f}" for one in pair]
            row += [*(f"{one['peak_mb']:.0f}" for one in pair), f"{r['limit_mb']:.0f}"]
        rows.append(row)
    return common.table(headers, rows)


def main() -> None:
    """Measure and print."""
    options = parse()
    records = []
    for name, basis, level, xc in cases(options):
        mol = build_mole(molecule(name), basis=basis)
        case: dict[str, Any] = {"molecule": name, "basis": basis, "level": level, "xc": xc}
        if not options.no_footprint:
            case["footprint"] = footprints(mol, xc, level, options)
        records.append({**case, **measure(mol, xc, level, options)})
        common.progress(f"{name} {basis} {level} {xc} ratio {records[-1]['ratio']:.2f}")
    ratios = [r["ratio"] for r in records]
    middle, worst = statistics.median(ratios), min(ratios)
    difference = max(r["fock_difference"] for r in records)
    text = (
        f"One Fock build, {'UKS' if options.unrestricted else 'RKS'}, fitted, medians of "
        f"{options.repeats} pairs in turns, {'CPU' if options.cpu_time else 'wall'} time.\n\n"
        f"{tabulate(records, response=options.response)}\n\n"
        f"PySCF's time over this package's: median {middle:.2f} (target {TARGET}), "
        f"smallest {worst:.2f}; largest difference of a Fock matrix {difference:.0e} Eh."
    )
    result = {
        "machine": common.machine(options.threads),
        "median_ratio": middle,
        "smallest_ratio": worst,
        "records": records,
    }
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
