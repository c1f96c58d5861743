"""Energies and properties that other programs published, against this package's own SCF.

    python benchmarks/bench_reference.py --data reference_values.json [--only TEXT] [--output T.md]

The data file is a JSON list of entries: molecule (angstrom), charge, spin, basis, xc, grid,
density_fit, quantity, value, unit, tolerance. Every entry is run at its own settings and judged at
its own tolerance. Beside each stands PySCF's energy at the converged density, same settings: what
differs there is ours, what differs only from the reference is PySCF's or libxc's too. The short
form needs no file and compares one small molecule with PySCF.
"""

import argparse
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from pyscf import dft, gto
from pyscf.data import nist
from pyscf.dft import gen_grid, radi

from deeph_zero.errors import DeephZeroError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.result import SCFResult

NAMES = {
    "B1B95": "hyb_mgga_xc_b88b95",
    "B1LYP": "hyb_gga_xc_b1lyp",
    "B3LYP5": "b3lyp5",
    "B97-1": "hyb_gga_xc_b97_1",
    "B97-D3": "gga_xc_b97_d",
    "B97-K": "hyb_gga_xc_b97_k",
    "BB1K": "hyb_mgga_xc_bb1k",
    "BHHLYP": "bhandhlyp",
    "CAM-B3LYP": "camb3lyp",
    "EDF1": "gga_xc_edf1",
    "EDF2": "hyb_gga_xc_edf2",
    "GAM": "gga_x_gam,gga_c_gam",
    "HCTH93": "gga_xc_hcth_93",
    "KMLYP": "hyb_gga_xc_kmlyp",
    "M05-2X": "hyb_mgga_x_m05_2x,mgga_c_m05_2x",
    "M06-HF": "hyb_mgga_x_m06_hf,mgga_c_m06_hf",
    "M08-SO": "hyb_mgga_x_m08_so,mgga_c_m08_so",
    "MGGA_MS0": "mgga_x_ms0,gga_c_regtpss",
    "MGGA_MS1": "mgga_x_ms1,gga_c_regtpss",
    "MGGA_MS2": "mgga_x_ms2,gga_c_regtpss",
    "MN15-L": "mgga_x_mn15_l,mgga_c_mn15_l",
    "MPW1PBE": "hyb_gga_xc_mpw1pbe",
    "PKZB": "mgga_x_pkzb,mgga_c_pkzb",
    "PW6B95": "hyb_mgga_xc_pw6b95",
    "VSXC": "mgga_x_gvt4,mgga_c_vsxc",
    "dlDF": "hyb_mgga_x_dldf,mgga_c_dldf",
    "lda,vwn (default)": "lda,vwn",
    "b86bpbe": "gga_x_b86_mgc,gga_c_pbe",
    "pw86pbe": "gga_x_pw86,gga_c_pbe",
    "svwn": "lda,vwn_rpa",
}
"""libxc names of functionals that the references call otherwise."""

DISPERSION = {"B97-D3": "d3zero:b97d"}
"""Corrections that a name implies without PySCF's suffix: Q-Chem's B97-D3 is B97-D with D3(0)."""

ABSENT = {
    "B3TLAP": "not in libxc (depends on the density Laplacian)",
    "wM05-D": "not in libxc",
}
QUANTITIES = {
    "energy_total", "energy_components", "dipole_norm", "dipole", "S2", "homo", "lumo",
    "orbital_energies_alpha_occupied", "polarizability_diag", "polarizability_iso",
}  # fmt: skip
NLC_GRID = (50, 194)
"""Grid of the non-local correlation where an entry says nothing: that of the other programs."""


def not_applicable(entry: dict[str, Any]) -> str | None:
    """Why an entry cannot be compared; None if it can."""
    if entry["xc"] in ABSENT:
        return ABSENT[entry["xc"]]
    if entry["quantity"] not in QUANTITIES:
        return f"{entry['quantity']} is not computed here"
    if entry.get("method") == "ROKS":
        return "restricted open shells are not offered"
    if "complete" in entry["basis"]:
        return "basis-set limit"
    if "6D7F" in entry["basis"]:
        return "mixes Cartesian d with spherical f, which PySCF cannot"
    return None


def settings(entry: dict[str, Any]) -> str:
    """What one SCF is about; entries that share it share the SCF."""
    keys = ("molecule", "charge", "spin", "basis", "xc", "grid", "density_fit")
    return json.dumps([entry[k] for k in keys])


def mean_field(entry: dict[str, Any]) -> Any:
    """PySCF's object with the settings of an entry, which decides everything."""
    basis = entry["basis"].split(" (")[0]
    mol = gto.M(
        atom=entry["molecule"],
        basis=basis,
        ecp=basis if "ECP" in entry["basis"] else {},
        cart="cartesian" in entry["basis"],
        charge=entry["charge"],
        spin=entry["spin"],
        verbose=0,
    )
    xc = entry["xc_name"]
    mf = (dft.UKS if entry["spin"] else dft.RKS)(mol, xc=xc)
    mf.disp = DISPERSION.get(entry["xc"])
    text = entry["grid"]
    mf.nlcgrids.atom_grid = NLC_GRID
    _set_grid(mf.nlcgrids, text.partition("nlc")[2])
    _set_grid(mf.grids, text.partition("nlc")[0])
    own = "pyscf" in entry["source"] or "dqc" in entry["source"]
    if "unpruned" in text or not own:
        mf.grids.prune = mf.nlcgrids.prune = None
    if "treutler_prune" in text:
        mf.grids.prune = gen_grid.treutler_prune
    fit = re.search(
        r"def2-universal-j\w+|def2-tzvpp-jkfit|cc-pvdz-(jkfit|ri)", entry["density_fit"]
    )
    return mf.density_fit(auxbasis=fit.group(0)) if fit else mf


def _set_grid(grids: gen_grid.Grids, text: str) -> None:
    points = re.search(r"\((\d+), ?(\d+)\)", text)
    level = re.search(r"level (\d)", text)
    if points:
        grids.atom_grid = (int(points.group(1)), int(points.group(2)))
    elif level:
        grids.atom_grid, grids.level = {}, int(level.group(1))
    elif "ORCA" in text:
        grids.level = 5


@contextlib.contextmanager
def radii(entry: dict[str, Any]) -> Iterator[None]:
    """PySCF's old radial grid, where an entry was made with it."""
    old = radi.ATOM_SPECIFIC_TREUTLER_GRIDS
    # the source file sets it once for all its tests, and not every entry repeats it
    switched_off = "TREUTLER_GRIDS=False" in entry["grid"] or "test_h2o.py" in entry.get("path", "")
    radi.ATOM_SPECIFIC_TREUTLER_GRIDS = not switched_off
    try:
        yield
    finally:
        radi.ATOM_SPECIFIC_TREUTLER_GRIDS = old


class Solution:
    """A converged SCF and PySCF's energy at its density."""

    def __init__(self, entry: dict[str, Any]) -> None:
        """Solve the molecule of an entry."""
        with radii(entry):
            mf = mean_field(entry)
            self.ks = KohnSham.from_pyscf(mf)
            self.result: SCFResult = self.ks.scf(conv_tol=1e-10, conv_tol_grad=1e-6)
            self.pyscf = float(mf.energy_tot(dm=self.result.dm.numpy()))
        self.mol = mf.mol
        self.minus_pyscf = self.result.energy - self.pyscf

    def quantity(self, name: str) -> Any:
        """A number, or a list or mapping of numbers, in the unit of the data file."""
        debye = self.ks.dipole(self.result.dm).numpy()
        levels = np.atleast_2d(self.result.mo_energy.numpy())
        n_alpha = self.ks.nelec[0]
        made: dict[str, Any] = {
            "energy_total": lambda: self.result.energy,
            "dipole_norm": lambda: float(np.linalg.norm(debye)),
            "dipole": lambda: list(debye / nist.AU2DEBYE),
            "S2": lambda: self.ks.spin_square(self.result.dm),
            "orbital_energies_alpha_occupied": lambda: list(levels[0, :n_alpha]),
            "homo": lambda: levels[0, n_alpha - 1],
            "lumo": lambda: levels[0, n_alpha],
            "polarizability_diag": lambda: list(self._polarizability().diagonal()),
            "polarizability_iso": lambda: float(self._polarizability().trace()) / 3,
        }
        return made[name]()

    def _polarizability(self) -> np.ndarray:
        return self.ks.polarizability(self.result).numpy()

    def components(self) -> dict[str, float]:
        """Parts of the energy as ERKALE names them."""
        parts = self.ks.build(self.result.dm).parts
        names = ("e_xc", "e_exx", "e_nlc")
        total = self.result.dm.reshape(-1, self.ks.nao, self.ks.nao).sum(0).numpy()
        return {
            "Coulomb": float(parts["e_coul"]),
            "Exchange-correlation": sum(float(parts.get(name, 0.0)) for name in names),
            "Kinetic": float(np.vdot(self.mol.intor("int1e_kin"), total)),
            "Nuclear attraction": float(np.vdot(self.mol.intor("int1e_nuc"), total)),
        }


def judged(entry: dict[str, Any], solution: Solution) -> dict[str, Any]:
    """Largest deviation of an entry, and whether it is within the entry's tolerance."""
    ours, value = solution.quantity(entry["quantity"]), entry["value"]
    error = np.abs(np.asarray(ours) - np.asarray(value)).max()
    found = {
        "error": float(error),
        "passed": bool(error <= entry["tolerance"] and solution.result.converged),
        "converged": solution.result.converged,
        "minus_pyscf": solution.minus_pyscf,
    }
    if entry["quantity"] == "energy_total":
        found["signed"] = float(ours - value)
    if "components" in entry:
        parts = solution.components()
        found["components"] = {k: parts[k] - v for k, v in entry["components"].items()}
    return found


def run_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every entry with its outcome; entries are grouped by SCF, cheap grids first."""
    solutions: dict[str, Solution | str] = {}
    order = sorted(range(len(entries)), key=lambda k: ("200,590" in entries[k]["grid"], k))
    for k in order:
        entry = entries[k]
        entry["reason"] = not_applicable(entry)
        if entry["reason"]:
            continue
        given = entry.get("xc_pyscf", "")
        entry["xc_name"] = NAMES.get(
            entry["xc"], entry["xc"] if "?" in given or not given else given
        )
        key = settings(entry)
        if key not in solutions:
            common.progress(f"{len(solutions) + 1}: {entry['xc']} {entry['basis']} {entry['grid']}")
            try:
                solutions[key] = Solution(entry)
            except DeephZeroError as error:
                solutions[key] = str(error)
        found = solutions[key]
        if isinstance(found, str):
            entry["reason"] = found
        else:
            entry |= judged(entry, found)
    return entries


def tables(entries: list[dict[str, Any]]) -> str:
    """Markdown: one row per functional, then what failed and what does not apply."""
    done = [e for e in entries if "passed" in e]
    rows = []
    for xc in sorted({e["xc"] for e in done}, key=str.lower):
        here = [e for e in done if e["xc"] == xc]
        passed = sum(e["passed"] for e in here)
        energies = [abs(e["signed"]) for e in here if "signed" in e]
        rows.append(
            [
                f"`{xc}`",
                f"`{here[0]['xc_name']}`",
                f"{passed} / {len(here)}",
                f"{max(energies):.1e}" if energies else "",
                f"{max(abs(e['minus_pyscf']) for e in here):.0e}",
            ]
        )
    headers = ["functional", "libxc", "passed", "largest energy error (Eh)", "ours - PySCF (Eh)"]
    failed = [
        [
            f"`{e['xc']}` {e['basis']}, charge {e['charge']}, {e['quantity']}",
            f"{e['error']:.1e}",
            f"{e['tolerance']:.0e}",
            f"{e['minus_pyscf']:.0e}",
        ]
        for e in done
        if not e["passed"]
    ]
    missing = sorted({(e["xc"], e["reason"]) for e in entries if e.get("reason")})
    passed = sum(e["passed"] for e in done)
    absent = len(entries) - len(done)
    return "\n\n".join(
        [
            f"{passed} of {len(done)} comparable entries pass; {absent} more do not apply.",
            common.table(headers, rows),
            common.table(["failed", "error", "tolerance", "ours - PySCF (Eh)"], failed),
            common.table(["does not apply", "because"], [[f"`{a}`", b] for a, b in missing]),
        ]
    )


def self_check() -> dict[str, Any]:
    """One small molecule, whose reference values PySCF computes now."""
    entry: dict[str, Any] = {
        "source": "pyscf", "molecule": "O 0 0 0.1; H 0.8 0.1 -0.4; H -0.6 0.3 -0.5", "charge": 1,
        "spin": 1, "basis": "sto-3g", "xc": "b3lypg", "xc_name": "b3lypg",
        "grid": "(20,50) unpruned", "density_fit": "none", "quantity": "energy_total",
        "tolerance": 1e-8,
    }  # fmt: skip
    mf = mean_field(entry)
    mf.conv_tol = 1e-11
    entry["value"] = mf.kernel()
    solution = Solution(entry)
    spin_square = mf.spin_square()[0]
    outcome = judged(entry, solution)
    return entry | outcome | {"s2_error": abs(solution.quantity("S2") - spin_square)}


def main() -> None:
    """Run the comparison and print the tables."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, help="reference_values.json")
    parser.add_argument("--only", help="entries whose functional or source contains this text")
    parser.add_argument("--output", type=Path, help="write the Markdown tables here as well")
    given: argparse.Namespace = common.parse(parser)
    machine = common.machine(given.threads)
    torch.set_grad_enabled(False)
    if given.smoke or given.data is None:
        check = self_check()
        common.progress("no --data: one molecule against PySCF instead of the reference values")
        text = f"own SCF - PySCF: {check['error']:.1e} Eh, <S^2> {check['s2_error']:.1e}"
        common.report({"check": check, "machine": machine}, text, as_json=given.json, smoke=True)
        raise SystemExit(0 if check["passed"] and check["s2_error"] < 1e-6 else 1)
    entries = json.loads(given.data.read_text())
    if given.only:
        entries = [e for e in entries if given.only.lower() in (e["xc"] + e["source"]).lower()]
    text = tables(run_entries(entries))
    if given.output:
        given.output.write_text(text + "\n")
    common.report({"entries": entries, "machine": machine}, text, as_json=given.json, smoke=False)


if __name__ == "__main__":
    common.run(main)
