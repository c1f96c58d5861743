"""Energy and Fock matrix of this package against PySCF, at the same density.

    python benchmarks/bench_exactness.py            # all functionals and systems, minutes
    python benchmarks/bench_exactness.py --json

Two densities per molecule: idempotent from a random Fock matrix, and PySCF's converged one. Each
program gets the molecule, the functional, the grid level and "fitted" or not, and builds its own
grid, fitting basis and integrals. The Fock matrix of a spin channel without electrons is left out:
there the potential hangs on the rounding of 1 - zeta, and PySCF's own screened and unscreened
matrices differ by 3e-6 Eh.
"""

import dataclasses
import time
from typing import Any

import ase
import common
import numpy as np
import structures
import torch
from pyscf import gto, scf

from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.libxc import LibxcFunctional
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.molecule import Molecule

FUNCTIONALS = (
    "lda,vwn", "lda,vwn_rpa", "lda,pw", "pbe", "blyp", "b3lyp", "b3lyp5", "pbe0", "tpss",
    "hse06", "camb3lyp", "m062x",
)  # fmt: skip
SMOKE_FUNCTIONALS = ("pbe", "tpss", "camb3lyp")
TARGET = 1e-9
"""Largest difference the design allows, Eh."""


@dataclasses.dataclass(frozen=True)
class System:
    """A molecule and what two cores can afford of it.

    Attributes:
        name: File in examples/, or a name in ``_molecule``.
        grid_level: PySCF's.
        exact: Four-centre integrals as well as fitted ones.
    """

    name: str
    grid_level: int
    exact: bool = True


SYSTEMS = (
    System("water", 3),
    System("formaldehyde", 3),
    System("benzene", 1, exact=False),
    System("hydrogen iodide (ECP)", 2),
    System("ch3", 3),
    System("no2", 2),
    System("hydrogen atom", 3),
)
SMOKE_SYSTEMS = (System("water", 0), System("oh", 0))


def molecule(name: str) -> Molecule:
    """An example (pushed off symmetry by a fixed seed), or one of the two built here."""
    if name == "hydrogen iodide (ECP)":
        positions = [[0.02, 0.01, 0.0], [0.1, 0.2, 1.6]]
        return from_atoms(ase.Atoms("IH", positions=positions))
    if name == "hydrogen atom":
        return from_atoms(ase.Atoms("H", positions=[[0.1, 0.2, 0.3]]), spin=1)
    return structures.named(name)


def random_density(mol: gto.Mole, seed: int = 0) -> np.ndarray:
    """Idempotent density matrix of a randomly perturbed core Hamiltonian."""
    rng = np.random.default_rng(seed)
    h = scf.hf.get_hcore(mol)
    s = mol.intor("int1e_ovlp")
    dms = []
    for n in mol.nelec:
        noise = 0.3 * rng.standard_normal(h.shape)
        _, c = scf.hf.eig(h + s @ (noise + noise.T) @ s, s)
        dms.append(c[:, :n] @ c[:, :n].T)
    return np.stack(dms) if mol.spin else 2 * dms[0]


def compare(mf: Any, ks: KohnSham, dm: np.ndarray) -> tuple[float, float]:
    """|dE| and the largest |dF| over the channels with electrons, Eh."""
    hcore = mf.get_hcore()
    veff = mf.get_veff(dm=dm)
    want_energy = mf.energy_tot(dm=dm, h1e=hcore, vhf=veff)
    built = ks.build(torch.from_numpy(np.ascontiguousarray(dm)))
    nao = dm.shape[-1]
    errors = np.abs(built.fock.numpy() - (hcore + np.asarray(veff))).reshape(-1, nao, nao)
    occupied = [n > 0 for n in mf.mol.nelec] if len(errors) == 2 else [True]
    return abs(float(built.energy) - want_energy), float(errors[occupied].max())


def converged_density(mol: gto.Mole, xc: str, level: int, start: np.ndarray | None) -> np.ndarray:
    """Density matrix of PySCF's fitted SCF, from ``start`` or minao.

    Args:
        mol: Molecule.
        xc: Functional.
        level: Grid level.
        start: Density of another functional; any converged density serves the comparison.

    Returns:
        [nao, nao] or [2, nao, nao].

    Raises:
        ComputationError: If the SCF does not converge.
    """
    mf = common.mean_field(mol, xc, grid_level=level)
    mf.conv_tol = 1e-8
    mf.kernel(dm0=start)
    if not mf.converged:
        raise ComputationError(f"expected PySCF to converge, got no convergence with {xc}")
    return np.array(mf.make_rdm1())


def measure(system: System, functionals: tuple[str, ...]) -> list[dict[str, Any]]:
    """One record per functional, fitting and density."""
    mol = build_mole(molecule(system.name), basis="def2-svp")
    level = system.grid_level
    records = []
    converged = None
    for xc in functionals:
        common.progress(f"{system.name} {xc}")
        converged = converged_density(mol, xc, level, converged)
        for fit in (True, False) if system.exact else (True,):
            mf = common.mean_field(mol, xc, fit=fit, grid_level=level)
            ks = KohnSham.from_pyscf(mol, xc=xc, density_fit=fit, grid_level=level)
            for name, dm in (("random", random_density(mol)), ("converged", converged)):
                energy, fock = compare(mf, ks, dm)
                records.append(
                    {
                        "system": system.name,
                        "nao": mol.nao,
                        "grid_level": level,
                        "method": "UKS" if mol.spin else "RKS",
                        "fitted": fit,
                        "xc": xc,
                        "engine": "libxc"
                        if isinstance(ks.data.functional, LibxcFunctional)
                        else "torch",
                        "density": name,
                        "energy_difference": energy,
                        "fock_difference": fock,
                    }
                )
    return records


def tabulate(records: list[dict[str, Any]], functionals: tuple[str, ...]) -> str:
    """Worst differences per functional and spin treatment, fitted and exact."""
    rows = []
    for xc in functionals:
        for method in ("RKS", "UKS"):
            row = [f"{xc} {method}"]
            for fit in (True, False):
                own = [
                    r for r in records if (r["xc"], r["method"], r["fitted"]) == (xc, method, fit)
                ]
                row += [
                    f"{max(r[key] for r in own):.1e}" if own else "-"
                    for key in ("energy_difference", "fock_difference")
                ]
            engine = next(r["engine"] for r in records if r["xc"] == xc)
            rows.append([*row, engine])
    headers = ("functional", "fitted dE", "fitted dF", "exact dE", "exact dF", "engine")
    return common.table(headers, rows)


def main() -> None:
    """Measure and print."""
    options = common.parse(common.options(__doc__))
    systems = SMOKE_SYSTEMS if options.smoke else SYSTEMS
    functionals = SMOKE_FUNCTIONALS if options.smoke else FUNCTIONALS
    started = time.perf_counter()
    records = [record for system in systems for record in measure(system, functionals)]
    seconds = time.perf_counter() - started
    worst = max(max(r["energy_difference"], r["fock_difference"]) for r in records)
    named = [
        f"{s.name} (level {s.grid_level}{'' if s.exact else ', fitted only'})" for s in systems
    ]
    text = (
        f"Largest absolute difference from PySCF at the same density, Eh; def2-svp; "
        f"{', '.join(named)}; random and converged densities.\n\n"
        f"{tabulate(records, functionals)}\n\n"
        f"worst {worst:.1e} Eh ({len(records)} comparisons, target {TARGET:.0e}); {seconds:.0f} s"
    )
    result = {
        "machine": common.machine(options.threads),
        "seconds": seconds,
        "worst": worst,
        "records": records,
    }
    common.report(result, text, as_json=options.json, smoke=options.smoke)
    if not worst < TARGET:
        raise SystemExit(1)


if __name__ == "__main__":
    common.run(main)
