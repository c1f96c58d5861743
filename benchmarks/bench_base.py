"""What a network corrects, without the network: every base beside the converged Kohn-Sham matrix.

    python benchmarks/bench_base.py
    python benchmarks/bench_base.py --data frames.xyz --count 4 --xc b3lyp --grid-level 3

H is the base itself, H̃ = F[P(H)] and the energy of P(H) cost one Fock build that is not part of
its time. Times are CPU seconds beyond S and the core Hamiltonian, medians over the structures.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
import torch
from pyscf import gto

from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.multipoles import screened


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, default=structures.EXAMPLES / "water_frames.xyz")
    parser.add_argument("--count", type=int, default=4, help="structures, evenly spread")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    options = common.parse(parser)
    if options.smoke:
        options.count, options.basis, options.grid_level = 1, "sto-3g", 0
    return options


def _fock0(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    del mol
    return ks.build(ks.data.dm_guess).fock


def _step(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    fock = _fock0(ks, mol)
    return fock + ks.dielectric_step(fock, ks.data.dm_guess)


def _atomic_potentials(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    return screened_core(mol, ks.data.hcore)


def _atoms(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    return superposed_atoms(mol, ks.data.hcore)


def _charges(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    clouds = atomic_clouds(mol, dipoles=False)
    return screened(_atoms(ks, mol), ks.x, mol.nelec, clouds).fock


def _multipoles(ks: KohnSham, mol: gto.Mole) -> torch.Tensor:
    return screened(_atoms(ks, mol), ks.x, mol.nelec, atomic_clouds(mol)).fock


BASES: dict[str, Callable[[KohnSham, gto.Mole], torch.Tensor]] = {
    "superposed atomic potentials (0.1)": _atomic_potentials,
    "superposed atoms": _atoms,
    "+ charges": _charges,
    "+ charges, dipoles": _multipoles,
    "F₀ (a build)": _fock0,
    "F₀ + dielectric step (a build)": _step,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every base of every closed-shell structure."""
    molecules = structures.read_molecules(options.data)
    chosen = np.linspace(0, len(molecules) - 1, options.count).astype(int)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in BASES}
    for k in chosen:
        mol = common.build_mole(molecules[k], basis=options.basis)
        ks = KohnSham.from_pyscf(mol, xc=options.xc, grid_level=options.grid_level)
        exact = ks.scf(conv_tol=1e-10, conv_tol_grad=1e-6)
        n = ks.nelec[0]
        for name, make in BASES.items():
            started = time.process_time()
            h = make(ks, mol)
            seconds = time.process_time() - started
            rebuilt = ks.build(ks.density(h))
            levels = ks.orbitals(h).mo_energy
            found[name].append(
                {
                    "h_mae": float((h - exact.fock).abs().mean()),
                    "rebuilt_mae": float((rebuilt.fock - exact.fock).abs().mean()),
                    "energy": float(rebuilt.energy - exact.energy),
                    "homo": float((levels[n - 1] - exact.mo_energy[n - 1]).abs()),
                    "seconds": seconds,
                }
            )
    rows = {
        name: {key: float(np.mean([r[key] for r in some])) for key in some[0]}
        | {"seconds": float(np.median([r["seconds"] for r in some]))}
        for name, some in found.items()
    }
    return {"data": options.data.name, "n": len(chosen), "xc": options.xc, "rows": rows}


def main() -> None:
    """Measure and print."""
    options = parse()
    result = measure(options) | {"machine": common.machine(options.threads)}
    headers = ("base", "H MAE, mEh", "H̃ MAE, mEh", "E[P(H)] - E, mEh", "HOMO, mEh", "ms")
    keys = ("h_mae", "rebuilt_mae", "energy", "homo", "seconds")
    rows = [
        [name, *(f"{1e3 * row[key]:.3g}" for key in keys)] for name, row in result["rows"].items()
    ]
    common.report(result, common.table(headers, rows), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
