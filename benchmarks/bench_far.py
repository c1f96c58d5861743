"""What molecules and ions beyond the network's cutoff do to each other's Fock matrices.

    python benchmarks/bench_far.py
    python benchmarks/bench_far.py --other ammonium --distances 16

A water molecule and another one, or an ion, far apart. A network that is perfect inside its cutoff
corrects each as if the other only had its base: H = base + the corrections H - base of both alone.
The table shows how far that is from the converged Fock matrix, and what the first rebuild leaves of
it, for every base there is.
"""

import argparse
from typing import Any

import common
import torch
from pyscf import gto

from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.multipoles import screened
from deeph_zero.nn.spec import NetworkSpec

WATER = (("O", (0.0, 0.0, 0.2)), ("H", (0.0, 1.44, 1.10)), ("H", (0.09, -1.40, 1.15)))
"""Atoms and positions, bohr."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument(
        "--distances", type=float, nargs="+", default=[14.5, 20.0, 30.0, 40.0], help="bohr"
    )
    parser.add_argument("--other", choices=list(OTHERS), default="water", help="beside a water")
    options = common.parse(parser)
    if options.smoke:
        options.distances = [20.0]
    return options


OTHERS: dict[str, tuple[tuple[tuple[str, tuple[float, float, float]], ...], int]] = {
    "water": (WATER, 0),
    "ammonium": (
        (
            ("N", (0.0, 0.0, 0.0)),
            ("H", (1.12, 1.12, 1.12)),
            ("H", (-1.12, -1.12, 1.12)),
            ("H", (-1.12, 1.12, -1.12)),
            ("H", (1.12, -1.12, -1.12)),
        ),
        1,
    ),
    "sodium": ((("Na", (0.0, 0.0, 0.0)),), 1),
}
"""Atoms, bohr, and charge."""


def molecule(shifts: dict[str, float], *, smoke: bool) -> gto.Mole:
    """Molecules along z, each at its shift."""
    atoms = [
        (s, (x, y, z + shift))
        for name, shift in shifts.items()
        for s, (x, y, z) in OTHERS[name.strip("'")][0]
    ]
    charge = sum(OTHERS[name.strip("'")][1] for name in shifts)
    basis = "sto-3g" if smoke else "def2-svp"
    return gto.M(atom=atoms, unit="Bohr", basis=basis, charge=charge, verbose=0)


def bases(ks: KohnSham, mol: gto.Mole) -> dict[str, torch.Tensor]:
    """What networks correct, by name."""
    start = ks.build(ks.data.dm_guess).fock
    atoms = superposed_atoms(mol, ks.data.hcore)
    return {
        "F₀": start,
        "F₀ + step": start + ks.dielectric_step(start, ks.data.dm_guess),
        "superposed atoms": atoms,
        "+ charges": screened(atoms, ks.x, mol.nelec, atomic_clouds(mol, dipoles=False)).fock,
        "+ charges, dipoles": screened(atoms, ks.x, mol.nelec, atomic_clouds(mol)).fock,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every distance and base."""
    rows = []
    for distance in options.distances:
        alone: dict[str, list[torch.Tensor]] = {}
        pair = {"water": 0.0, f"{options.other}'": distance}
        for name, shift in pair.items():
            mol = molecule({name: shift}, smoke=options.smoke)
            one = layer(mol, smoke=options.smoke)
            exact = one.scf(conv_tol=1e-11, conv_tol_grad=1e-8).fock
            for base, matrix in bases(one, mol).items():
                alone.setdefault(base, []).append(exact - matrix)
        mol = molecule(pair, smoke=options.smoke)
        both = layer(mol, smoke=options.smoke)
        truth = both.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
        for base, matrix in bases(both, mol).items():
            h = matrix + torch.block_diag(*alone[base])
            rebuilt = both.build(both.density(h))
            error, left = (h - truth.fock).abs(), (rebuilt.fock - truth.fock).abs()
            rows.append(
                {
                    "distance": distance,
                    "base": base,
                    "h_max": float(error.max()),
                    "h_mae": float(error.mean()),
                    "rebuilt_max": float(left.max()),
                    "rebuilt_mae": float(left.mean()),
                    "energy": float(rebuilt.energy - truth.energy),
                }
            )
    return {"cutoff": NetworkSpec.cutoff, "other": options.other, "rows": rows}


def layer(mol: gto.Mole, *, smoke: bool) -> KohnSham:
    """Of PBE."""
    return KohnSham.from_pyscf(mol, xc="pbe", grid_level=0 if smoke else 3)


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    headers = (
        "distance, bohr", "base", "H, largest, µEh", "H MAE, µEh", "H̃, largest, µEh", "H̃ MAE, µEh",
        "E[P(H)] - E, µEh",
    )  # fmt: skip
    keys = ("h_max", "h_mae", "rebuilt_max", "rebuilt_mae", "energy")
    rows = [
        [f"{row['distance']:g}", row["base"], *(f"{1e6 * row[key]:.3g}" for key in keys)]
        for row in result["rows"]
    ]
    common.report(result, common.table(headers, rows), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
