"""Energies, forces and gaps of crystals against published values of other programs' test suites.

    python benchmarks/bench_crystal_references.py --reference FILE           # what is cheap
    python benchmarks/bench_crystal_references.py --reference FILE --all     # hours
    python benchmarks/bench_crystal_references.py --reference FILE --only id,id

FILE is a JSON list of entries with cell, method, xc, k-points, integrals, quantity, value and
tolerance, as in PySCF's own tests. What is not computed here (Hubbard U, Gaussian smearing, Fe with
eight electrons, for which there is no Gaussian basis) is listed with the reason. Without a file two
values of PySCF's tests are checked.
"""

import ast
import json
import re
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import common
import numpy as np
from pyscf import lib
from pyscf.pbc import dft, gto, scf

from deeph_zero.errors import DeephZeroError
from deeph_zero.kohnsham.crystal import CrystalKohnSham

PLANE_WAVES = "gth-dzvp-molopt-sr"
"""Basis in place of plane waves; tolerances of such entries allow for it."""

MANY = 8
"""k-points above which one of k and -k is kept, which is the same energy."""

LARGEST = 60.0
"""CPU seconds of PySCF above which an entry waits for --all."""

BUILT_IN: list[dict[str, Any]] = [
    {
        "id": "he_sc3_krhf", "method": "KRHF", "xc": None, "kmesh": [1, 1, 1], "df": "FFTDF",
        "cell": {"unit": "A", "a": "3 * identity", "atom": "He 0 0 0", "basis": [[0, [1, 1]]]},
        "quantity": "energy_total", "value": -2.2719576422665635, "tolerance": 2e-8,
    },
    {
        "id": "he2_rhf_ewald", "method": "RHF", "xc": None, "kmesh": [1, 1, 1], "df": "FFTDF",
        "cell": {
            "unit": "B", "a": "4 * identity", "atom": "He 1.5 2 1.5; He 2 2 2.5",
            "basis": {"He": [[0, [0.8, 1]], [0, [1.0, 1]], [0, [1.2, 1]]]}, "mesh": [21, 21, 21],
        },
        "quantity": "energy_total", "value": -4.351158228469863, "tolerance": 2e-7,
    },
]  # fmt: skip
"""pyscf/pbc/scf/test/test_khf.py and test_hf.py (Apache-2.0)."""


class NotHereError(Exception):
    """Why an entry is not computed."""


def build_cell(given: dict[str, Any]) -> gto.Cell:
    """The cell of an entry.

    Args:
        given: Its description.

    Returns:
        The built cell.

    Raises:
        NotHereError: If it has no Gaussian basis, or is no cell at all.
    """
    if "atom" not in given and "atom_fractional" not in given:
        raise NotHereError("no cell")
    cell = gto.Cell()
    cell.verbose, cell.unit = 0, given.get("unit", "A")
    cell.a = _lattice(given)
    atoms = given.get("atom") or given["atom_fractional"]
    lines = [line.split() for line in atoms.replace("\n", ";").split(";") if line.strip()]
    places = [(s, np.array([float(x) for x in rest])) for s, *rest in lines]
    if "atom" not in given:
        places = [(s, x @ np.array(cell.a)) for s, x in places]
    cell.atom = [(s, x.tolist()) for s, x in places]
    cell.basis = _basis(given["basis"], places[0][0])
    if given.get("pseudo"):
        cell.pseudo = given["pseudo"]
    for name in ("mesh", "precision", "dimension", "ke_cutoff"):
        if given.get(name):
            setattr(cell, name, given[name])
    if given.get("ke_cutoff_Ha"):
        cell.ke_cutoff = given["ke_cutoff_Ha"]
    cell.spin = given.get("spin", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cell.build()


def _lattice(given: dict[str, Any]) -> Any:
    a = given.get("a")
    if a is None:
        from ase.cell import Cell

        return np.array(Cell.fromcellpar([*given["cell_lengths"], *given["cell_angles"]]))
    if not isinstance(a, str):
        return np.array(a, dtype=float)
    factor, what = a.split("*", 1)
    matrix = np.eye(3) if "identity" in what else np.array(ast.literal_eval(what.strip()))
    return float(factor) * matrix


def _basis(given: Any, symbol: str) -> Any:
    if "plane waves" in str(given):
        return PLANE_WAVES
    if not isinstance(given, str):
        return given if isinstance(given, dict) else {symbol: given}
    found = re.search(r"exponents ([\d. ]+); coefficients ([-\d. ]+) and ([-\d. ]+)\)", given)
    if not found:
        return given
    exponents, *columns = ([float(x) for x in part.split()] for part in found.groups())
    rows = [list(row) for row in zip(exponents, *columns, strict=True)]
    diffuse = re.search(r"one p with exponent ([\d.]+)", given)
    return {symbol: [[0, *rows], *([[1, [float(diffuse.group(1)), 1.0]]] if diffuse else [])]}


def build_object(entry: dict[str, Any], cell: gto.Cell) -> Any:
    """PySCF's object of an entry, not run.

    Args:
        entry: The entry.
        cell: Its cell.

    Returns:
        The object.

    Raises:
        NotHereError: If the method is not one of this package.
    """
    method, xc = entry["method"], entry.get("xc") or "hf"
    if "pU" in method:
        raise NotHereError("Hubbard U")
    two = method.startswith(("U", "KU"))
    if "mf.omega" in xc:
        raise NotHereError("an omega of the object's own")
    xc = "lda_xc_teter93" if "TETER93" in xc else xc
    kpts = _kpts(entry, cell)
    many = method.startswith("K")
    if entry.get("xc") is None:
        kinds = (scf.KRHF, scf.KUHF) if many else (scf.RHF, scf.UHF)
    else:
        kinds = (dft.KRKS, dft.KUKS) if many else (dft.RKS, dft.UKS)
    mf = kinds[two](cell, kpts if many else kpts[0])
    if entry.get("xc") is not None:
        mf.xc = xc
    exxdiv = str(entry.get("exxdiv", "ewald")).split()[0]
    explicit = "exxdiv" in entry
    mf.exxdiv = None if explicit and exxdiv in ("None", "null") else exxdiv
    how = entry.get("df", "")
    if "GDF" in how or "RSDF" in how:
        if "multigrid" in how:
            raise NotHereError("density fitting and multigrid in one")
        auxiliary = "weigend" if "weigend" in how else None
        mf = mf.rs_density_fit() if "RSDF" in how else mf.density_fit(auxbasis=auxiliary)
    smearing = entry.get("smearing")
    if smearing and smearing["method"] != "fermi":
        raise NotHereError(f"{smearing['method']} smearing")
    return mf.smearing(smearing["sigma"]) if smearing else mf


def _kpts(entry: dict[str, Any], cell: gto.Cell) -> np.ndarray:
    words = entry.get("kpts") or ""
    listed = re.search(r"= \[([-\d., e]+)\]\s*$", words)
    if listed:
        return np.array([[float(x) for x in listed.group(1).split(",")]])
    keywords: dict[str, Any] = {}
    if "with_gamma_point=False" in words:
        keywords["with_gamma_point"] = False
    if "wrap_around=True" in words:
        keywords["wrap_around"] = True
    center = re.search(r"scaled_center=\[([-\d., ]+)\]", words)
    if center:
        keywords["scaled_center"] = [float(x) for x in center.group(1).split(",")]
    return cell.make_kpts(entry["kmesh"] or [1, 1, 1], **keywords)


def compute(entry: dict[str, Any]) -> tuple[Any, Any]:
    """(value, the SCF) of an entry."""
    cell = build_cell(entry["cell"])
    mf = build_object(entry, cell)
    plain = len(_kpts(entry, cell)) > MANY and "scaled_center" not in (entry.get("kpts") or "")
    if plain and not hasattr(mf.with_df, "auxbasis") and not cell.spin:
        ks = CrystalKohnSham.from_pyscf(
            cell,
            xc=getattr(mf, "xc", "hf"),
            kmesh=entry["kmesh"],
            shifted="with_gamma_point=False" in (entry.get("kpts") or ""),
            unrestricted=True if entry["method"].startswith(("U", "KU")) else None,
            smearing=(entry.get("smearing") or {}).get("sigma"),
            exxdiv=mf.exxdiv,
        )
    else:
        ks = CrystalKohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-10, conv_tol_grad=1e-6)
    what = entry["quantity"]
    if "gradient" in what:
        forces = -ks.forces(result).numpy()
        return (lib.fp(forces) if "fp" in what else forces), result
    if "gap" in what:
        levels = ks.bands_at([[0, 0, 0]])[0, 0]
        filled = round(sum(ks.info.nelec) / 2)
        return float(levels[filled] - levels[filled - 1]), result
    if not what.startswith("energy_total"):
        raise NotHereError(what)
    return (result.free_energy if "-TS" in what else result.energy), result


def one(entry: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    started = time.process_time()
    row: dict[str, Any] = {"id": entry["id"], "difference": None, "tolerance": entry["tolerance"]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, result = compute(entry)
    except (NotHereError, DeephZeroError) as error:
        return row | {"verdict": f"not here: {error}"}
    except Exception as error:  # one entry must not end the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        return row | {"verdict": f"failed: {type(error).__name__} {error} ({last.name})"}
    away = float(np.abs(np.asarray(value) - np.asarray(entry["value"])).max())
    good = away <= entry["tolerance"] and result.converged
    words = "within" if good else ("outside" if result.converged else "not converged")
    return row | {
        "difference": away, "verdict": words, "fine": result.fock_builds,
        "coarse": result.coarse_builds, "grid_error": result.grid_error,
        "seconds": time.process_time() - started,
    }  # fmt: skip


def _wanted(entry: dict[str, Any], given: Any) -> bool:
    if given.only:
        return entry["id"] in given.only.split(",")
    seconds = entry.get("checked", {}).get("cpu_seconds_one_thread")
    cheap = entry.get("expected_cheap_under_60s_2cores", True)
    return bool(given.all or (cheap and (seconds is None or seconds <= LARGEST)))


def _shown(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str("" if value is None else value)


def main() -> None:
    """Compare and print."""
    parser = common.options(__doc__)
    parser.add_argument("--reference", type=Path, help="JSON file of reference values")
    parser.add_argument("--only", help="ids, comma-separated")
    parser.add_argument("--all", action="store_true", help="also what takes long")
    parser.set_defaults(threads=1)
    given = common.parse(parser)
    entries = BUILT_IN if given.reference is None else json.loads(given.reference.read_text())
    records = []
    for entry in entries:
        if _wanted(entry, given):
            records.append(one(entry))
            common.progress(", ".join(f"{k} {_shown(v)}" for k, v in records[-1].items()))
    headers = [
        "id",
        "difference",
        "tolerance",
        "fine",
        "coarse",
        "grid_error",
        "seconds",
        "verdict",
    ]
    rows = [[_shown(r.get(name)) for name in headers] for r in records]
    counts = {word: sum(r["verdict"] == word for r in records) for word in ("within", "outside")}
    result = {"machine": common.machine(given.threads), "records": records, "counts": counts}
    text = common.table(headers, rows)
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
