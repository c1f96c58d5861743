"""A thousand atoms of rippled graphene by prediction alone; learnt on cells of eight.

    python benchmarks/bench_crystal_large.py --threads 2
    python benchmarks/bench_crystal_large.py --smoke

PBE, gth-szv, smearing 0.005 Eh. Cells of eight atoms (strained by 1.5 %, displaced by 0.04 Å) are
solved by their own SCF; a network with random features reads the geometry alone (overlaps and
superposed free atoms, no Fock build), its readout is solved in closed form. Errors are those of
unseen cells of two and eight atoms, beside the base without a network; both up to a constant
potential. Then a rippled sheet is predicted: base, inputs and H as sparse blocks, the levels next
to the Fermi level at two k-points and the density of states by sparse factorisations. No Fock
build, no SCF and no label of it.
"""

import argparse
import resource
import time
from typing import Any

import common
import numpy as np
import torch
from pyscf.pbc import gto

from deeph_zero.kohnsham.sparse_bands import SparseLevels
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.readout import solve_readout
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_crystal
from deeph_zero.prepared.sparse import prepare_sparse
from deeph_zero.train.crystals import RIDGE, TaughtCrystal, crystal_errors, teach

CUTOFF = 12.0
BOND = 2.46
"""Lattice constant, Å."""
POINTS = 15
"""Of the mesh along the lattice constant."""
SMEARING = 0.005


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--cells", type=int, default=6, help="to learn from")
    parser.add_argument("--copies", type=int, default=2, help="cells of 2 copies² atoms are learnt")
    parser.add_argument("--unseen", type=int, default=2, help="cells of each size to test on")
    parser.add_argument("--largest", type=int, default=2, help="copies in the largest test cell")
    parser.add_argument("--size", default="tiny", help="of the network")
    parser.add_argument("--repeat", type=int, nargs=2, default=(16, 16), help="of 4 atoms each")
    parser.add_argument("--ripple", type=float, default=0.8, help="height, Å")
    parser.add_argument("--edges", type=int, default=9, help="energies between which states count")
    return common.parse(parser)


def _cell(lattice: np.ndarray, atoms: np.ndarray, mesh: list[int]) -> gto.Cell:
    cell = gto.Cell()
    cell.a, cell.atom, cell.unit = lattice, [("C", x) for x in atoms], "A"
    cell.basis, cell.pseudo, cell.precision, cell.verbose = "gth-szv", "gth-pbe", 1e-7, 0
    cell.mesh = mesh
    return cell.build()


def small(seed: int, copies: int) -> gto.Cell:
    """A strained and displaced cell of 2 copies² atoms."""
    rng = np.random.default_rng(seed)
    height = 8.0
    lattice = BOND * np.array([[1, 0, 0], [0.5, 3**0.5 / 2, 0], [0, 0, 0]])
    lattice[2, 2] = height
    pair = np.array([[0, 0, height / 2], [BOND / 2, BOND / (2 * 3**0.5), height / 2]])
    shifts = [a * lattice[0] + b * lattice[1] for a in range(copies) for b in range(copies)]
    strain = np.zeros((3, 3))
    strain[:2, :2] = rng.normal(scale=0.015, size=(2, 2))
    strain = np.eye(3) + 0.5 * (strain + strain.T)
    atoms = np.concatenate([pair + shift for shift in shifts]) @ strain
    atoms += rng.normal(scale=0.04, size=atoms.shape)
    lattice = lattice @ strain * np.array([[copies], [copies], [1]])
    return _cell(lattice, atoms, [POINTS * copies, POINTS * copies, 49])


def rippled(repeat: tuple[int, int], ripple: float) -> gto.Cell:
    """A sheet of 4 x repeat atoms with one wave along each axis."""
    a, b = BOND, BOND * 3**0.5
    four = np.array([[0, 0], [a / 2, b / 6], [a / 2, b / 2], [0, 2 * b / 3]])
    shifts = [[a * i, b * j] for i in range(repeat[0]) for j in range(repeat[1])]
    flat = np.concatenate([four + shift for shift in shifts])
    size, height = np.array([a, b]) * repeat, 8.0 + 2 * ripple
    waves = 0.5 * np.sin(2 * np.pi * flat / size).sum(1)
    atoms = np.column_stack([flat, height / 2 + ripple * waves])
    step = BOND / POINTS
    mesh = [int(2 * round((x / step - 1) / 2) + 1) for x in (*size, height)]
    return _cell(np.diag([*size, height]), atoms, mesh)


def taught(seed: int, copies: int = 1) -> TaughtCrystal:
    """A solved cell."""
    cell = small(seed, copies)
    ready = prepare_crystal(
        cell, crystal_layout(cell), cutoff=CUTOFF, dtype=torch.float64, features="geometry",
        xc="pbe", kmesh=(6 // copies, 6 // copies, 1), smearing=SMEARING,
    )  # fmt: skip
    return teach(ready)


@torch.no_grad()
def errors(cells: list[TaughtCrystal], network: FockNetwork | None) -> dict[str, float]:
    """Mean error of H (mEh) and largest of bands (meV)."""
    found = []
    for cell in cells:
        base = cell.correction.with_values(0.0 * cell.correction.values)
        change = base if network is None else network(cell.prepared.inputs)[0]
        found.append(crystal_errors(cell, cell.prepared.hamiltonian(change)))
    return {
        "h": 1e3 * float(np.mean([e.fock for e in found])),
        "bands": 27211.386 * float(np.max([e.bands for e in found])),
    }


class Clock:
    """CPU and wall seconds of steps."""

    def __init__(self) -> None:
        """Start."""
        self.steps: dict[str, tuple[float, float]] = {}
        self._start = time.process_time(), time.perf_counter()

    def step(self, name: str) -> None:
        """End a step."""
        now = time.process_time(), time.perf_counter()
        self.steps[name] = now[0] - self._start[0], now[1] - self._start[1]
        self._start = now
        common.progress(f"{name}: {self.steps[name][0]:.1f} CPU s, {self.steps[name][1]:.1f} s")


@torch.no_grad()
def large(network: FockNetwork, given: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Predict the sheet."""
    cell = rippled(tuple(given.repeat), given.ripple)
    clock.step("cell")
    ready = prepare_sparse(cell, crystal_layout(cell), cutoff=CUTOFF, dtype=torch.float64, xc="pbe")
    clock.step("base and inputs")
    h = ready.hamiltonian(network(ready.inputs)[0])
    clock.step("network")
    levels = SparseLevels(h, ready.ovlp)
    electrons = float(sum(ready.nelec))
    centre = levels.frontier([(0.0, 0, 0)], [1.0], electrons, start=-0.1)
    clock.step("levels at Γ")
    at_k = levels.at((0.2, 0.1, 0.0), 40, centre.fermi)
    clock.step("levels at k")
    edges = centre.fermi + np.linspace(-0.1, 0.1, given.edges)
    states = levels.density_of_states([(0.0, 0, 0)], [1.0], edges.tolist())[0]
    clock.step("density of states")
    return {
        "atoms": cell.natm,
        "orbitals": int(ready.ovlp.nao),
        "blocks": len(ready.ovlp),
        "pairs": int(ready.inputs.edge_index.shape[1]),
        "fermi": centre.fermi,
        "homo": centre.homo,
        "lumo": centre.lumo,
        "levels_at_k": at_k[0].energies.tolist(),
        "energies": (0.5 * (edges[1:] + edges[:-1]) - centre.fermi).tolist(),
        "states_per_atom": (2 * states / cell.natm / 27.211386).tolist(),
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All numbers."""
    clock = Clock()
    count = 2 if given.smoke else given.cells
    inputs, wanted = [], []
    for seed in range(count):
        cell = taught(seed, given.copies)  # its layer is not kept
        inputs.append(cell.prepared.inputs)
        wanted.append(cell.target)
    clock.step(f"SCF of {count} cells of {2 * given.copies**2} atoms")
    torch.manual_seed(0)
    spec = default_spec(crystal_layout(small(0, 1)), given.size, cutoff=CUTOFF, balanced=False)
    network = FockNetwork(spec).double()
    network.calibrate(inputs, wanted)
    solve_readout(network, inputs, wanted, ridge=RIDGE)
    clock.step("fit")
    found = {}
    for copies in range(1, 1 + given.largest):
        some = [taught(1000 * copies + k, copies) for k in range(given.unseen)]
        found[str(2 * copies**2)] = {
            "base": errors(some, None), "network": errors(some, network)
        }  # fmt: skip
    clock.step("SCF of unseen cells")
    sheet = large(network, given, clock)
    return {"errors": found, "sheet": sheet, "seconds": clock.steps}


def main() -> None:
    """Measure and print."""
    given = options()
    if given.smoke:
        given.repeat, given.edges = (2, 1), 3
        given.unseen = given.copies = given.largest = 1
    found = measure(given)
    rows = [
        [size, what, f"{e['h']:.3f}", f"{e['bands']:.1f}"]
        for size, kinds in found["errors"].items()
        for what, e in kinds.items()
    ]
    text = common.table(("unseen cells of", "matrix", "H, mEh", "bands, meV"), rows) + "\n"
    steps = [[k, f"{cpu:.1f}", f"{wall:.1f}"] for k, (cpu, wall) in found["seconds"].items()]
    text += common.table(("step", "CPU s", "s"), steps)
    sheet = found["sheet"]
    text += (
        f"\n{sheet['atoms']} atoms, {sheet['orbitals']} orbitals, {sheet['blocks']} blocks, "
        f"{sheet['pairs']} pairs of the network; {sheet['memory_gb']:.1f} GB; gap at Γ "
        f"{27211.386 * (sheet['lumo'] - sheet['homo']):.0f} meV\nstates per eV and atom: "
    )
    both = zip(sheet["energies"], sheet["states_per_atom"], strict=True)
    text += ", ".join(f"{27.211386 * e:+.2f} eV {d:.3f}" for e, d in both) + "\n"
    result = {"machine": common.machine(given.threads), "records": [found]}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
