"""Scan the torsion of hydrogen peroxide: SCF cycles and wall time that a model saves.

The model is trained without labels on nine torsion angles, each with a little vibration; the scan
is of twelve others. The printed Fock builds count everything: PySCF's own calls, and one more per
conformer for the matrix that the network reads. A molecule this small spends as much time on
making integrals for that matrix as it saves in cycles: the gain in time begins with larger ones.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from pyscf import dft, gto

import deeph_zero as dz
from deeph_zero.cli.main import entry_point

BASIS, XC, LEVEL = "6-31g", "pbe", 0


def peroxide(torsion: float) -> ase.Atoms:
    """H-O-O-H at a torsion angle in degrees: O-O 1.46 Å, O-H 0.97 Å, H-O-O 100 degrees."""
    half, across = 0.73, 0.97 * np.sin(np.radians(100))
    along = half - 0.97 * np.cos(np.radians(100))
    turn = np.radians(torsion)
    positions = [
        (-along, across, 0.0),
        (-half, 0.0, 0.0),
        (half, 0.0, 0.0),
        (along, across * np.cos(turn), across * np.sin(turn)),
    ]
    return ase.Atoms("HOOH", positions)


def train(folder: Path) -> dz.Model:
    """`deeph-zero fit` on vibrating conformers."""
    rng = np.random.default_rng(1)
    frames = []
    for torsion in np.linspace(2.0, 178.0, 9):
        frames.append(peroxide(float(torsion)))
        frames[-1].positions += 0.01 * rng.normal(size=(4, 3))
    ase.io.write(folder / "train.xyz", frames, format="extxyz")
    method = ["--basis", BASIS, "--xc", XC, "--grid-level", str(LEVEL)]
    arguments = ["fit", str(folder / "train.xyz"), "-o", str(folder / "run"), *method]
    entry_point([*arguments, "--epochs", "80", "--tol", "0.1", "--threads", "1", "-q"])
    return dz.load(folder / "run")


def solve(atoms: ase.Atoms, model: dz.Model | None) -> dict[str, Any]:
    """PySCF's SCF from minao or from the model's density."""
    atom = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    mf = dft.RKS(gto.M(atom=atom, basis=BASIS, verbose=0), xc=XC).density_fit()
    mf.grids.level, mf.conv_tol, mf.conv_tol_grad, mf.conv_check = LEVEL, 1e-10, 1e-5, False
    started = time.perf_counter()
    mf.kernel(dm0=None if model is None else model.guess(mf))
    assert mf.converged
    # a build at the start and one a cycle; the network's input is one more
    builds = mf.cycles + 1 + (model is not None)
    seconds = time.perf_counter() - started
    return {"energy": mf.e_tot, "cycles": mf.cycles, "builds": builds, "seconds": seconds}


def main() -> None:
    """Train, scan from both starts, print."""
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder))
    totals = {key: [0.0, 0.0] for key in ("cycles", "builds", "seconds")}
    print("torsion   energy / mEh   cycles: minao  model")
    lowest = None
    for torsion in np.linspace(12.0, 168.0, 12):
        both = [solve(peroxide(float(torsion)), start) for start in (None, model)]
        assert abs(both[0]["energy"] - both[1]["energy"]) < 1e-8
        lowest = both[0]["energy"] if lowest is None else lowest
        height = 1e3 * (both[0]["energy"] - lowest)
        print(f"{torsion:7.1f} {height:14.3f} {both[0]['cycles']:15d} {both[1]['cycles']:6d}")
        for key, total in totals.items():
            for k in (0, 1):
                total[k] += both[k][key]
    for key, (usual, ours) in totals.items():
        saved = 1 - ours / usual
        print(f"{key}: {usual:.4g} from minao, {ours:.4g} from the model, {saved:.0%} saved")
    assert totals["builds"][1] < totals["builds"][0]


if __name__ == "__main__":
    main()
