"""Growth of one Fock build with the molecule: linear alkanes, this package against PySCF.

    python benchmarks/bench_alkanes.py --threads 1 --cpu-time     # C2 ... C30, PBE/def2-SVP
    python benchmarks/bench_alkanes.py --lengths 2 4 8 16

All-trans chains by formula: C-C 1.53 Å, C-C-C 112 degrees, C-H 1.09 Å, H-C-H 107 degrees. Builds as
in bench_fock.py. The exponents are slopes of log(value) over log(carbon atoms) by least squares, of
all lengths and of the upper half. Both programs hold a fitted tensor of their own in one process;
lengths at which the two would exceed --max-memory are left out and named.
"""

import argparse
import itertools
import math
from typing import Any

import bench_fock
import common
import numpy as np
from ase import Atoms

from deeph_zero.data.structures import from_atoms
from deeph_zero.integrals.mole import auxiliary_basis, build_mole
from deeph_zero.integrals.two_electron import fitted_tensor_bytes
from deeph_zero.molecule import Molecule

LENGTHS = (2, 4, 6, 8, 12, 16, 20, 24, 30)
_CC, _CH = 1.53, 1.09
_HALF_CCC, _HALF_HCH = math.radians(112 / 2), math.radians(107 / 2)


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="carbon atoms")
    parser.add_argument("--xc", default="pbe")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="counted pairs of builds")
    parser.add_argument("--max-memory", type=float, default=8000.0, help="MB for both tensors")
    parser.add_argument("--cpu-time", action="store_true", help="CPU instead of wall time")
    parser.set_defaults(unrestricted=False, ao_memory=None, response=False)
    given = common.parse(parser)
    if given.cpu_time and given.threads > 1:
        parser.error("expected --threads 1 with --cpu-time: it adds up over threads")
    if given.smoke:
        given.lengths, given.repeats = [1, 2], 2
    return given


def alkane(n_carbon: int) -> Molecule:
    """C_n H_(2n+2), all-trans, along x in the xy plane."""
    step = np.array([_CC * math.sin(_HALF_CCC), _CC * math.cos(_HALF_CCC), 0.0])
    chain = np.array([[i * step[0], (i % 2) * step[1], 0.0] for i in range(-1, n_carbon + 1)])
    carbons = chain[1:-1]
    hydrogens = []
    for end, beyond in ((carbons[0], chain[0]), (carbons[-1], chain[-1])):
        hydrogens.append(end + _CH / _CC * (beyond - end))
    for i, carbon in enumerate(carbons):
        outward = 1.0 if i % 2 else -1.0
        for side in (-1.0, 1.0):
            offset = [0.0, outward * math.cos(_HALF_HCH), side * math.sin(_HALF_HCH)]
            hydrogens.append(carbon + _CH * np.array(offset))
    return from_atoms(Atoms(f"C{n_carbon}H{len(hydrogens)}", [*carbons, *hydrogens]))


def exponent(records: list[dict[str, Any]], value: str) -> float:
    """Slope of log(value) over log(carbon atoms)."""
    sizes = np.log([r["carbons"] for r in records])
    return float(np.polyfit(sizes, np.log([r[value] for r in records]), 1)[0])


def tabulate(records: list[dict[str, Any]]) -> str:
    """One row per chain."""
    headers = ["chain", "nao", "points", "PySCF, s", "this, s", "ratio", "peak PySCF, MB"]
    headers += ["this, MB", "limit, MB", "dF, Eh"]
    rows = []
    for r in records:
        row = [f"C{r['carbons']}", str(r["nao"]), str(r["ngrids"]), f"{r['pyscf_seconds']:.3f}"]
        row += [f"{r['seconds']:.3f}", f"{r['ratio']:.2f}", f"{r['pyscf_mb']:.0f}"]
        row += [f"{r['this_mb']:.0f}", f"{r['limit_mb']:.0f}", f"{r['fock_difference']:.0e}"]
        rows.append(row)
    return common.table(headers, rows)


def measured(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[int]]:
    """A record per chain, and the lengths left out for lack of memory."""
    records, left_out = [], []
    for n_carbon in sorted(options.lengths):
        mol = build_mole(alkane(n_carbon), basis=options.basis)
        aux = auxiliary_basis(mol, options.xc).mole
        if 2 * fitted_tensor_bytes(mol, aux) / 1e6 > options.max_memory:
            left_out.append(n_carbon)
            continue
        prints = bench_fock.footprints(mol, options.xc, options.level, options)
        record = bench_fock.measure(mol, options.xc, options.level, options)
        record |= {f"{name}_mb": one["peak_mb"] for name, one in prints.items()}
        records.append(record | {"carbons": n_carbon})
        common.progress(f"C{n_carbon} ratio {record['ratio']:.2f}")
    return records, left_out


def main() -> None:
    """Measure and print."""
    options = parse()
    records, left_out = measured(options)
    values = {
        "PySCF's time": "pyscf_seconds",
        "this package's time": "seconds",
        "PySCF's memory": "pyscf_mb",
        "this package's memory": "this_mb",
    }
    upper = records[len(records) // 2 - 1 :]
    slopes = {n: (exponent(records, v), exponent(upper, v)) for n, v in values.items()}
    words = itertools.starmap("{}: {:.2f} (all), {:.2f} (upper half)".format, _flat(slopes))
    text = (
        f"{options.xc}/{options.basis}, grid level {options.level}, fitted, medians of "
        f"{options.repeats} pairs, {'CPU' if options.cpu_time else 'wall'} time.\n\n"
        f"{tabulate(records)}\n\nExponents. " + "; ".join(words) + "."
    )
    if left_out:
        text += f" Left out for memory: {', '.join(f'C{n}' for n in left_out)}."
    result = {
        "machine": common.machine(options.threads),
        "exponents": slopes,
        "left_out": left_out,
        "records": records,
    }
    common.report(result, text, as_json=options.json, smoke=options.smoke)


def _flat(slopes: dict[str, tuple[float, float]]) -> list[tuple[str, float, float]]:
    return [(name, *pair) for name, pair in slopes.items()]


if __name__ == "__main__":
    common.run(main)
