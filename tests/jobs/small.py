"""Water and hydroxyl in STO-3G for tests of jobs, and PySCF's answers to them."""

import numpy as np
from pyscf import dft, gto

from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import MethodConfig

CONFIG = MethodConfig(basis="sto-3g", auxbasis="weigend", grid_level=0)
RUNTIME = {"device": "cpu", "threads": 1, "seed": 5}
SUMMARY_KEYS = [
    "version", "format_version", "command", "xc", "basis", "auxbasis", "grid_level", "density_fit",
    "charge", "spin", "seed", "threads", "device", "n_structures", "converged", "stopped_by",
    "wall_time_s", "fock_builds", "coarse_builds", "structures", "failed",
]  # fmt: skip


def water(frame=0, shift=0.0):
    coords = np.array([[0, 0, 0.2], [0, 1.43 + shift, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=frame)


def hydroxyl(frame=0):
    coords = np.array([[0, 0, 0], [0.2, 0.4, 1.77]])
    return Molecule(numbers=np.array([8, 1]), coords=coords, spin=1, file="oh.xyz", frame=frame)


def mole(molecule):
    atoms = [(int(z), tuple(r)) for z, r in zip(molecule.numbers, molecule.coords, strict=True)]
    return gto.M(atom=atoms, unit="B", basis="sto-3g", spin=molecule.spin, verbose=0)


def scf(molecule):
    kind = dft.UKS if molecule.spin else dft.RKS
    mf = kind(mole(molecule), xc="pbe").density_fit(auxbasis="weigend")
    mf.grids.level = 0
    mf.conv_tol = 1e-11
    mf.kernel()
    assert mf.converged
    return mf
