"""Spend fewer SCF cycles over many geometries: train on some, start PySCF from the model on others.

The model is trained without labels on fifteen waters and used on five it has not seen. The same
model then drives an ASE optimisation; its energies and forces are refined ones, PySCF's own.
"""

import tempfile
import time
from pathlib import Path

import ase.io
from ase.optimize import BFGS
from pyscf import dft, gto

import deeph_zero as dz
from deeph_zero.cli.main import entry_point

FRAMES = Path(__file__).parent / "water_frames.xyz"
METHOD = ["--basis", "6-31g", "--xc", "pbe", "--grid-level", "1"]


def train(folder: Path) -> dz.Model:
    """`deeph-zero fit` on the first fifteen frames."""
    ase.io.write(folder / "train.xyz", ase.io.read(FRAMES, index=":15"), format="extxyz")
    arguments = ["fit", str(folder / "train.xyz"), "-o", str(folder / "run"), *METHOD]
    entry_point([*arguments, "--epochs", "60", "--tol", "0.1", "--threads", "1", "-q"])
    return dz.load(folder / "run")


def compare(model: dz.Model) -> tuple[int, int]:
    """PySCF's cycles on the last five frames, from its own start and from the model's."""
    cycles, seconds = [0, 0], [0.0, 0.0]
    for atoms in ase.io.iread(FRAMES, index="15:"):
        atom = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
        mol = gto.M(atom=atom, basis="6-31g", verbose=0)
        for k in (0, 1):
            mf = dft.RKS(mol, xc="pbe").density_fit()
            mf.grids.level = 1
            mf.conv_tol_grad = 1e-5
            started = time.perf_counter()
            # the model's density costs one Fock build of its own, in the time but not the cycles
            mf.kernel(dm0=None if k == 0 else model.guess(mf))
            seconds[k] += time.perf_counter() - started
            cycles[k] += mf.cycles
    for name, n, s in zip(("minao", "model"), cycles, seconds, strict=True):
        print(f"start {name}: {n} SCF cycles, {s:.2f} s")
    return cycles[0], cycles[1]


def main() -> None:
    """Train, compare, optimise."""
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder))
    usual, ours = compare(model)
    assert ours < usual

    atoms = ase.io.read(FRAMES, index=15)
    atoms.calc = dz.ase.DeepHZero(model)
    optimiser = BFGS(atoms, logfile=None)
    assert optimiser.run(fmax=0.02, steps=30)
    angle = atoms.get_angle(1, 0, 2)
    print(f"optimised in {optimiser.nsteps} steps: {atoms.get_potential_energy():.5f} eV")
    print(f"O-H {atoms.get_distance(0, 1):.4f} Å, H-O-H {angle:.2f}°")
    assert 90 < angle < 120


if __name__ == "__main__":
    main()
