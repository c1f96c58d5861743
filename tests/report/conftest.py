"""Run folders made of real converged densities, written as `fit`, `predict` and `label` do."""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.pbc import gto as pbc_gto

from deeph_zero.host.files import write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.report.data import read_source
from deeph_zero.testing import WATER

CH3 = "C 0 0 0.05; H 1.07 0.03 0; H -0.5 0.95 0.02; H -0.56 -0.92 -0.04"


@dataclasses.dataclass
class Solved:
    """A molecule and PySCF's SCF on it."""

    mol: gto.Mole
    mf: Any

    @property
    def fock(self) -> np.ndarray:
        return np.asarray(self.mf.get_fock())

    def group(self, noise: float = 1e-4, *, file: str = "mol.xyz", frame: int = 0):
        """Arrays and attributes of an HDF5 group, H being F plus a little."""
        generator = np.random.default_rng(7)
        off = noise * generator.standard_normal(self.fock.shape)
        arrays = {
            "numbers": self.mol.atom_charges(),
            "positions": self.mol.atom_coords(),
            "overlap": self.mol.intor("int1e_ovlp"),
            "fock": self.fock + off + off.swapaxes(-1, -2),
            "fock_rebuilt": self.fock,
            "density": np.asarray(self.mf.make_rdm1()),
            "mo_energy": np.asarray(self.mf.mo_energy),
            "mo_occ": np.asarray(self.mf.mo_occ),
        }
        attributes = {
            "energy": self.mf.e_tot, "charge": self.mol.charge, "spin": self.mol.spin,
            "xc": "pbe", "basis": "sto-3g", "file": file, "frame": frame, "refined": False,
        }  # fmt: skip
        return arrays, attributes


def solve(atom: str, *, spin: int = 0, charge: int = 0) -> Solved:
    mol = gto.M(atom=atom, basis="sto-3g", spin=spin, charge=charge, verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc="pbe")
    mf.grids.level = 1
    mf.kernel()
    return Solved(mol, mf)


@pytest.fixture(scope="session")
def water() -> Solved:
    return solve(WATER)


@pytest.fixture(scope="session")
def ch3() -> Solved:
    return solve(CH3, spin=1)


def entry(solved: Solved, *, file: str = "mol.xyz", frame: int = 0, **values: Any) -> dict:
    spin = solved.mol.spin > 0
    record = {
        "file": file, "frame": frame, "energy": solved.mf.e_tot, "energy_error_estimate": 3.4e-6,
        "energy_estimate": solved.mf.e_tot - 3.4e-6, "orbital_gradient_rms": 2.5e-5,
        "residual_mae": 8e-5, "homo": [-0.19, -0.35] if spin else -0.23,
        "lumo": [0.06, -0.09] if spin else 0.03, "gap": [0.25, 0.26] if spin else 0.26,
        "dipole": [0.3, 0.0, 1.9], "n_electrons": float(solved.mol.nelectron), "converged": True,
    }  # fmt: skip
    if spin:
        record["spin_square"] = 0.7535
    return record | values


def summary(entries: list[dict], **values: Any) -> dict:
    plain = {
        "version": "0.1.0", "format_version": 1, "command": "deeph-zero fit mol.xyz", "xc": "pbe",
        "basis": "sto-3g", "auxbasis": "def2-universal-jfit", "grid_level": 3,
        "density_fit": True, "charge": 0, "spin": 0, "seed": 0, "threads": 1, "device": "cpu",
        "n_structures": len(entries), "converged": True, "stopped_by": "converged",
        "wall_time_s": 83.2, "fock_builds": 11, "structures": entries, "failed": [],
        "loss": "fixed-point", "limits": {"epochs": None, "steps": None, "conv_tol_grad": 1e-5},
    }  # fmt: skip
    return plain | values


METRICS = "step,epoch,seconds,loss,residual,gradient,fock_builds,teacher,energy_error\n" + "".join(
    f"{10 * k},{k},{k}.5,{20 / k},{0.01 / k},{0.02 / k},{4 + k},{0.001 / k},{0.003 / k**2}\n"
    for k in range(1, 9)
)


def write_run(
    folder: Path, entries: list[dict], groups: list[tuple], *, metrics: str = METRICS, **values: Any
) -> Path:
    """A folder as `fit` leaves it."""
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", summary(entries, **values))
    (folder / "metrics.csv").write_text(metrics)
    with PredictionWriter(folder / "predictions.h5") as writer:
        for arrays, attributes in groups:
            writer.write(arrays, attributes)
    (folder / "model.json").write_text(
        json.dumps({"e3nn_version": "0.6.0", "cg_fingerprint": "608204ff", "sha256": "9ad3",
                    "xc_components": [["GGA_X_PBE", 1.0]],
                    "network": {"n_layers": 3, "inputs": "physics", "cutoff": 14.0}})
    )  # fmt: skip
    return folder


@pytest.fixture
def water_run(tmp_path, water) -> Path:
    return write_run(tmp_path / "water_run", [entry(water)], [water.group()])


@pytest.fixture
def ch3_run(tmp_path, ch3) -> Path:
    return write_run(tmp_path / "ch3_run", [entry(ch3)], [ch3.group()])


@pytest.fixture
def frames_run(tmp_path, water) -> Path:
    """Four frames; the third has no group (its certificate is missing), errors are not in order."""
    errors = [3e-6, 2e-4, None, 5e-7]
    entries, groups = [], []
    for k, error in enumerate(errors):
        entries.append(entry(water, frame=k, energy_error_estimate=error))
        if error is not None:
            groups.append(water.group(file="mol.xyz", frame=k))
    entries[2] |= dict.fromkeys(("energy", "orbital_gradient_rms", "homo", "dipole"))
    entries[2]["converged"] = False
    return write_run(tmp_path / "frames_run", entries, groups, converged=False, stopped_by="steps")


@pytest.fixture
def make() -> types.SimpleNamespace:
    """The functions above, for tests that need something special."""
    return types.SimpleNamespace(entry=entry, summary=summary, run=write_run, solve=solve)


LATTICE = np.array([[3.9, 0, 0], [0.4, 5.2, 0], [0, 0.1, 5.5]])
COORDS = np.array([[0.1, 0, 0.2], [1.2, 0.7, 0.9]])
KPTS = np.array([[0, 0, 0], [1 / 3, 0, 0]])


def crystal_levels(cell, fraction, filled):
    """Matrices and levels at one k-point of a Hamiltonian that is no symmetric one."""
    kpt = cell.get_abs_kpts(fraction)
    s = np.asarray(cell.pbc_intor("int1e_ovlp", hermi=1, kpt=kpt))
    h = np.asarray(cell.pbc_intor("int1e_kin", hermi=1, kpt=kpt)) - 0.5 * s
    h[0, 0] -= 0.2
    values, vectors = np.linalg.eigh(s)
    x = vectors / np.sqrt(values)
    energies, u = np.linalg.eigh(x.conj().T @ h @ x)
    c = (x @ u)[:, :filled]
    return s, h, energies, c @ c.conj().T


def crystal_group(spins=1):
    """A crystal of hydrogen as a file has it: k-points of half a mesh."""
    cell = pbc_gto.M(
        a=LATTICE, unit="B", atom=[("H", r) for r in COORDS], basis="gth-dzvp",
        pseudo="gth-pade", mesh=[15, 15, 15], verbose=0, spin=0,
    )  # fmt: skip
    filled = (1,) if spins == 1 else (2, 1)
    found = [[crystal_levels(cell, k, n) for k in KPTS] for n in filled]
    full = 2.0 / spins
    dm = full * np.array([[k[3] for k in spin] for spin in found])
    nmo = len(found[0][0][2])
    occ = np.array([[full * (np.arange(nmo) < n)] * len(KPTS) for n in filled])
    arrays = {
        "numbers": np.array([1, 1]), "positions": COORDS, "lattice": LATTICE,
        "pbc": np.array([True] * 3), "kpts": KPTS, "kweights": np.array([1 / 3, 2 / 3]),
        "overlap": np.array([k[0] for k in found[0]], dtype=complex),
        "fock": np.array([[k[1] for k in spin] for spin in found], dtype=complex),
        "density": dm, "mo_energy": np.array([[k[2] for k in spin] for spin in found]),
        "mo_occ": occ,
    }  # fmt: skip
    if spins == 1:
        names = ("fock", "density", "mo_energy", "mo_occ")
        arrays |= {name: arrays[name][0] for name in names}
    attributes = {
        "charge": 1 - spins, "spin": spins - 1, "basis": "gth-dzvp", "pseudo": "gth-pade",
        "xc": "pbe", "file": "mol.xyz", "frame": 0, "energy": -1.0, "fermi": 0.0, "refined": False,
    }  # fmt: skip
    return cell, arrays, attributes


@pytest.fixture
def crystal(tmp_path):
    """Hydrogen molecules at k-points as a file of one or two spins, and what a report reads."""

    def stored(spins=1, **changes):
        cell, arrays, attributes = crystal_group(spins)
        path = tmp_path / "crystal.h5"
        with PredictionWriter(path) as writer:
            writer.write(arrays | changes.pop("arrays", {}), attributes | changes)
        entry = {"file": "mol.xyz", "frame": 0, "energy": -1.0, "energy_error_estimate": 1e-6}
        write_json(
            tmp_path / "crystal.json", {"structures": [entry], "basis": "gth-dzvp", "grid_level": 3}
        )
        return cell, read_source(path)

    return stored
