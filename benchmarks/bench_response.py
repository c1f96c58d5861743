"""Polarisabilities, infrared intensities, electron-phonon elements against other programs' numbers.

    python benchmarks/bench_response.py --reference response_reference_values.json [--only TEXT]

The file is a JSON list of entries: id, molecule (ångström, or bohr where it says so), charge, spin,
basis, xc, grid, density_fit, quantity, value, tolerance. A polarisability's value is a number (the
mean of the diagonal), three (the diagonal) or a tensor, bohr³. Entries are judged at their own
tolerance; what this package does not compute (crystals, Raman, frequencies of light) is named. The
short form needs no file and compares a tensor with differences of SCFs in finite fields.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import bench_reference
import common
import numpy as np
from pyscf import dft, gto, lib, scf
from pyscf.eph import rhf as eph

from deeph_zero.errors import DeephZeroError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.predict.vibrations import vibrations
from deeph_zero.units import DEBYE_PER_AU

NLC_GRID = (50, 194)


def options() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--reference", type=Path, help="response_reference_values.json")
    parser.add_argument("--only", help="entries whose id, functional or basis contains this text")
    return common.parse(parser)


def reason_against(entry: dict[str, Any]) -> str | None:
    """Why an entry cannot be compared; None if it can."""
    words = entry["quantity"].lower()
    if "cell" in entry or "molecule" not in entry:
        return "crystals have no response here"
    if " at 0" in words or "frequency-dependent" in words:
        return "static responses alone"
    if "raman" in words:
        return "Raman activities are not computed"
    known = ("polari", "ir intens", "electron-phonon", "lib.fp")
    return None if any(word in words for word in known) else f"{entry['quantity']} is unknown here"


def mean_field(entry: dict[str, Any]) -> Any:
    """PySCF's object with the settings of an entry, which decides everything."""
    text = str(entry["molecule"])
    bohr = "bohr" in text.lower()
    spin = int(entry.get("spin", 0))
    mol = gto.M(
        atom=re.sub(r"\(.*?\)", "", text),
        unit="bohr" if bohr else "angstrom",
        basis=entry["basis"],
        charge=int(entry.get("charge", 0)),
        spin=spin,
        verbose=0,
    )
    name = entry["xc"].split(" (")[0]
    open_shell = spin != 0 or "U" in re.findall(r"U(?=HF|KS)", entry["xc"])
    if name.upper() in ("HF", "UHF", "RHF"):
        mf: Any = (scf.UHF if open_shell else scf.RHF)(mol)
    else:
        xc = bench_reference.NAMES.get(name, name)
        mf = (dft.UKS if open_shell else dft.RKS)(mol, xc=xc)
        _set_grids(mf, str(entry.get("grid", "")))
    fit = str(entry.get("density_fit", ""))
    if not fit or fit.lower() in ("none", "false"):
        return mf
    named = re.search(r"def2-universal-j\w+|cc-pv\wz-\w+", fit)
    return mf.density_fit(auxbasis=named.group(0) if named else None)


def _set_grids(mf: Any, text: str) -> None:
    semilocal, _, nonlocal_part = text.partition("nlc")
    mf.nlcgrids.atom_grid = NLC_GRID
    for grids, words in ((mf.grids, semilocal), (mf.nlcgrids, nonlocal_part)):
        points = re.search(r"\((\d+), ?(\d+)\)", words)
        if points:
            grids.atom_grid = (int(points.group(1)), int(points.group(2)))
    level = re.search(r"level (\d)", semilocal)
    if level:
        mf.grids.level = int(level.group(1))


def computed(entry: dict[str, Any]) -> np.ndarray:
    """The quantity of an entry, in its unit, with the axes of its value."""
    mf = mean_field(entry)
    ks = KohnSham.from_pyscf(mf)
    state = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7)
    words, shape = entry["quantity"].lower(), np.asarray(entry["value"]).shape
    if "polari" in words:
        alpha = state.polarizability().numpy()
        if shape == ():
            return alpha.trace() / 3
        return alpha.diagonal() if shape == (3,) else alpha.reshape(shape)
    if "ir intens" in words:
        return vibrations(mf, ks, state, state.dipole_derivatives().numpy()).intensities
    return _electron_phonon(mf, state)


def _electron_phonon(mf: Any, state: Any) -> np.ndarray:
    """PySCF's fingerprint of the absolute elements along its own modes."""
    mf.mo_coeff, mf.mo_energy = state.mo_coeff.numpy(), state.mo_energy.numpy()
    mf.mo_occ, mf.e_tot, mf.converged = state.mo_occ.numpy(), state.energy, True
    omega, modes = eph.solve_hmat(mf.mol, mf.Hessian().kernel())
    masses = mf.mol.atom_mass_list() * eph.MP_ME
    modes = eph._freq_mass_weighted_vec(modes, omega, masses)  # noqa: SLF001
    elements = state.fock_gradient().perturbation.flatten(0, 1).numpy()
    along = np.einsum("xJ,x...->J...", modes.real, elements)
    if along.ndim == 4:
        along = along.transpose(1, 0, 2, 3)
    return np.asarray(lib.fp(abs(along)))


def allowed(entry: dict[str, Any]) -> np.ndarray:
    """The tolerance, absolute or "rtol A + B"."""
    value, tolerance = np.asarray(entry["value"]), entry["tolerance"]
    if isinstance(tolerance, str):
        relative, absolute = (float(x) for x in re.findall(r"[\d.]+(?:e-?\d+)?", tolerance))
        return relative * np.abs(value) + absolute
    return np.full(value.shape, float(tolerance))


def run_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every entry with its outcome."""
    for k, entry in enumerate(entries):
        entry["reason"] = reason_against(entry)
        if entry["reason"]:
            continue
        common.progress(f"{k + 1}: {entry['id']}")
        try:
            ours = computed(entry)
        except DeephZeroError as error:
            entry["reason"] = str(error)
            continue
        off = np.abs(ours - np.asarray(entry["value"]))
        entry["ours"] = np.asarray(ours).tolist()
        entry["error"], entry["passed"] = float(off.max()), bool((off <= allowed(entry)).all())
    return entries


def table_of(entries: list[dict[str, Any]]) -> str:
    """Markdown: what was compared, then what does not apply."""
    done = [e for e in entries if "passed" in e]
    rows = [
        [e["id"], e["quantity"], f"{e['error']:.1e}", str(e["tolerance"]), str(e["passed"])]
        for e in done
    ]
    passed = sum(e["passed"] for e in done)
    left = [[e["id"], e["reason"]] for e in entries if e.get("reason")]
    count = f"{passed} of {len(done)} comparable entries pass; {len(left)} more do not apply."
    return "\n\n".join(
        [
            count,
            common.table(["entry", "quantity", "error", "tolerance", "passed"], rows),
            common.table(["does not apply", "because"], left),
        ]
    )


def self_check() -> dict[str, Any]:
    """Water's polarisability against differences of dipole moments in two fields."""
    mol = gto.M(atom="O 0 0 0.1; H 0.8 0.1 -0.4; H -0.6 0.3 -0.5", basis="sto-3g", verbose=0)
    settings: dict[str, Any] = {"xc": "b3lyp", "grid_level": 0}
    alpha = KohnSham.from_pyscf(mol, **settings).polarizability().numpy()[0]
    dipoles = []
    for strength in (5e-4, -5e-4):
        ks = KohnSham.from_pyscf(mol, field=(strength, 0, 0), **settings)
        state = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8)
        dipoles.append(ks.dipole(state.dm).numpy() / DEBYE_PER_AU)
    slope = (dipoles[0] - dipoles[1]) / 1e-3
    return {"error": float(np.abs(alpha - slope).max())}


def main() -> None:
    """Run the comparison and print the table."""
    given = options()
    machine = common.machine(given.threads)
    if given.smoke or given.reference is None:
        check = self_check()
        text = f"coupled-perturbed - finite field: {check['error']:.1e} bohr³"
        common.report({"check": check, "machine": machine}, text, as_json=given.json, smoke=True)
        raise SystemExit(0 if check["error"] < 1e-4 else 1)
    entries = json.loads(given.reference.read_text())
    if given.only:
        named = given.only.lower()
        entries = [
            e
            for e in entries
            if named in f"{e['id']} {e.get('xc', '')} {e.get('basis', '')}".lower()
        ]
    text = table_of(run_entries(entries))
    common.report({"entries": entries, "machine": machine}, text, as_json=given.json, smoke=False)
    raise SystemExit(0 if all(e.get("passed", True) for e in entries) else 1)


if __name__ == "__main__":
    common.run(main)
