"""From a cif to bands: silicon solved at k-points, then predicted by a network without labels.

The SCF of `silicon.cif` gives the levels at any k-point. Three displaced copies, solved likewise,
are what a network with random features learns from: its last linear maps follow in closed form.
What it says of a cell that it has not seen costs no SCF, and stands beside that cell's own one. A
small basis set, few k-points and few copies: fifteen seconds of one core. `deeph-zero fit` and
`deeph-zero bands` do the same from the command line, see `docs/bands.md`.
"""

from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from pyscf.data.nist import HARTREE2EV
from pyscf.pbc import gto
from pyscf.pbc.tools import pyscf_ase

from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import PreparedCrystal, crystal_layout, prepare_crystal
from deeph_zero.train.crystals import fit_crystals, teach

CIF = Path(__file__).parent / "silicon.cif"
PATH, POINTS, FILLED = "GXWKG", 24, 4
CUTOFF = 9.0  # of the network, bohr
MOVED = 0.03  # Å


def cell_of(atoms: Atoms) -> gto.Cell:
    """A cell of PySCF."""
    cell = gto.Cell()
    cell.a, cell.atom = atoms.cell.array, pyscf_ase.ase_atoms_to_pyscf(atoms)
    cell.basis, cell.pseudo, cell.ke_cutoff, cell.verbose = "gth-szv", "gth-pbe", 20, 0
    return cell.build()


def prepared(atoms: Atoms) -> PreparedCrystal:
    """The Kohn-Sham layer of a crystal, H₀, and what a network reads; no SCF yet."""
    cell = cell_of(atoms)
    return prepare_crystal(
        cell, crystal_layout(cell), cutoff=CUTOFF, dtype=torch.float64, xc="pbe", kmesh=(2, 2, 2)
    )


def moved(atoms: Atoms, seed: int) -> Atoms:
    """A displaced copy."""
    copy = atoms.copy()
    copy.rattle(MOVED, seed=seed)
    return copy


@torch.no_grad()
def main() -> None:
    """Solve, print levels, learn, predict, compare."""
    atoms = ase.io.read(CIF)
    assert isinstance(atoms, Atoms)
    first = teach(prepared(atoms))
    result = first.prepared.ks.scf()
    bands = result.bands(PATH, POINTS)
    levels = bands.energies[0]
    top = float(levels[:, FILLED - 1].max())
    gap = (float(levels[:, FILLED].min()) - top) * HARTREE2EV
    print(f"silicon: {result.energy:.5f} Eh per cell, gap along {PATH} {gap:.2f} eV")
    for distance, name in zip(bands.path.ticks, bands.path.labels, strict=True):
        at = int(np.abs(bands.path.distances - distance).argmin())
        energies = ((levels[at, : FILLED + 1] - top) * HARTREE2EV).tolist()
        print(f"  {name:2}", " ".join(f"{e:7.2f}" for e in energies), "eV")

    torch.manual_seed(0)
    network = FockNetwork(
        default_spec(crystal_layout(first.prepared.ks.cell), "tiny", cutoff=CUTOFF)
    )
    fit_crystals(network.double(), [first, *(teach(prepared(moved(atoms, k))) for k in (1, 2, 3))])

    unseen = prepared(moved(atoms, 4))
    (correction,) = network(unseen.inputs)
    kpts = bands.path.kpts
    exact = unseen.ks.scf().bands(PATH, POINTS).energies
    errors = {}
    for name, part in (("without the network", 0.0), ("with it", 1.0)):
        matrix = unseen.hamiltonian_at(kpts, correction.with_values(part * correction.values))
        change = (unseen.ks.levels_of(matrix, kpts) - exact)[0, :, : FILLED + 1]
        errors[name] = float((change - change.mean()).abs().mean()) * 1e3 * HARTREE2EV
        print(f"a displaced cell, {name}: bands {errors[name]:.0f} meV from its own SCF")
    assert errors["with it"] < 0.5 * errors["without the network"]


if __name__ == "__main__":
    main()
