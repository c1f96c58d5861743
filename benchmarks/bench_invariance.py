"""How much energy, Fock matrix and dipole change when the molecule is moved: grid and network.

    python benchmarks/bench_invariance.py --threads 1
    python benchmarks/bench_invariance.py --smoke

The molecule is converged once, then turned, reflected, shifted and renumbered, its density with it.
"dE" and "dF" are those of one Fock build at the same density, dF with the matrix turned back; "SCF
dE" and "dipole" are of an SCF converged in the new place (conv_tol 1e-11). Rotation and reflection
are limited by the quadrature grid, whose axes stay put. "network" is the output of an untrained
float64 network (random readout) given the transformed inputs, the largest element changed, relative
to its largest element.
"""

import argparse
from typing import Any

import common
import numpy as np
import structures
import torch
from torch import Tensor

from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout

ETHANOL = """C -0.887 0.176 0.021; C 0.459 -0.516 -0.035; O 1.442 0.308 0.577;
H -0.849 1.137 -0.499; H -1.662 -0.443 -0.443; H -1.184 0.378 1.056; H 0.401 -1.469 0.502;
H 0.748 -0.731 -1.072; H 2.301 -0.147 0.532"""
CUTOFF = 14.0
TURNS = 3
"""Random rotations and reflections; the largest change counts."""

Move = tuple[str, Tensor, Tensor, list[int]]
"""Name, orthogonal matrix, shift (bohr), order of the atoms."""


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--xc", default="pbe")
    return common.parse(parser)


def molecules(*, smoke: bool) -> dict[str, Molecule]:
    """Water and ethanol, without symmetry."""
    rows = [line.split() for line in ETHANOL.replace("\n", " ").split(";")]
    numbers = np.array([{"C": 6, "O": 8, "H": 1}[row[0]] for row in rows])
    coords = np.array([[float(x) for x in row[1:]] for row in rows]) / 0.52917721092
    found = {"water": structures.named("water")}
    return found if smoke else found | {"ethanol": Molecule(numbers=numbers, coords=coords)}


def moves(natm: int) -> list[Move]:
    """Everything that is done to a molecule."""
    generator = torch.Generator().manual_seed(3)
    eye, still, order = torch.eye(3).double(), torch.zeros(3).double(), list(range(natm))
    found: list[Move] = []
    for sign, name in ((1.0, "rotation"), (-1.0, "reflection")):
        for _ in range(TURNS):
            q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
            found.append((name, q * torch.linalg.det(q).sign() * sign, still, order))
    found.append(("translation", eye, torch.tensor([1.3, -20.7, 8.1]).double(), order))
    found.append(("permutation", eye, still, order[1:] + order[:1]))
    return found


def moved(molecule: Molecule, move: Move, layout: BasisLayout) -> tuple[Molecule, Tensor]:
    """The molecule in its new place and the matrix that takes AO matrices there."""
    _, q, shift, order = move
    coords = torch.from_numpy(molecule.coords) @ q.mT + shift
    numbers = [int(z) for z in molecule.numbers]
    turn = ao_rotation(layout, numbers, q)
    sizes = [layout.nao([z]) for z in numbers]
    starts = np.cumsum([0, *sizes])
    rows = np.concatenate([np.arange(starts[a], starts[a] + sizes[a]) for a in order])
    there = Molecule(numbers=molecule.numbers[order], coords=coords.numpy()[order])
    return there, turn[torch.from_numpy(rows)]


def network(layout: BasisLayout) -> FockNetwork:
    """An untrained network that says something."""
    torch.manual_seed(0)
    net = FockNetwork(default_spec(layout, "tiny", cutoff=CUTOFF)).double()
    for readout in (net.node_out, net.pair_out):
        for parameter in readout.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def output(
    net: FockNetwork, layout: BasisLayout, molecule: Molecule, matrices: PhysicsMatrices
) -> Tensor:
    """What the network makes of a molecule."""
    inputs = prepare_inputs(
        layout, molecule.numbers, molecule.coords, 0, 0, matrices, cutoff=CUTOFF,
        dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        return net(inputs)[0].to_dense()


def measure(
    name: str, molecule: Molecule, level: int, given: argparse.Namespace
) -> list[dict[str, Any]]:
    """The largest changes per kind of move."""
    mol = build_mole(molecule, basis="def2-svp")
    layout = basis_layout([mol])
    ks = KohnSham.from_pyscf(mol, xc=given.xc, grid_level=level)
    result = ks.scf(conv_tol=1e-11)
    dipole = ks.dipole(result.dm)
    net = network(layout)
    matrices = PhysicsMatrices(
        ovlp=ks.data.ovlp, hcore=ks.data.hcore, dm0=ks.data.dm_guess, fock0=result.fock,
        ddm0=result.dm - ks.data.dm_guess,
    )  # fmt: skip
    here = output(net, layout, molecule, matrices)
    worst: dict[str, dict[str, float]] = {}
    for move in moves(len(molecule.numbers)):
        there, turn = moved(molecule, move, layout)
        other = KohnSham.from_pyscf(
            build_mole(there, basis="def2-svp"), xc=given.xc, grid_level=level
        )
        dm = turn @ result.dm @ turn.mT
        built = other.build(dm)
        again = other.scf(dm, first_build=built, conv_tol=1e-11)
        fields = {
            key: turn @ value @ turn.mT if isinstance(value, torch.Tensor) else value
            for key, value in vars(matrices).items()
        }
        after = output(net, layout, there, PhysicsMatrices(**fields))
        change = {
            "de": abs(float(built.energy) - result.energy),
            "df": float((turn.mT @ built.fock @ turn - result.fock).abs().max()),
            "scf": abs(again.energy - result.energy),
            "dipole": float((other.dipole(again.dm) - move[1] @ dipole).abs().max()),
            "network": float((turn.mT @ after @ turn - here).abs().max() / here.abs().max()),
        }
        old = worst.setdefault(move[0], change)
        worst[move[0]] = {key: max(old[key], change[key]) for key in change}
    return [{"molecule": name, "level": level, "move": k, **v} for k, v in worst.items()]


def main() -> None:
    """Measure and print."""
    given = options()
    levels = [1] if given.smoke else given.levels
    records = []
    for name, molecule in molecules(smoke=given.smoke).items():
        for level in levels:
            records += measure(name, molecule, level, given)
            common.progress(str(records[-4:]))
    keys = ("de", "df", "scf", "dipole", "network")
    rows = [
        [r["molecule"], str(r["level"]), r["move"], *(f"{r[key]:.1e}" for key in keys)]
        for r in records
    ]
    headers = (
        "molecule",
        "level",
        "move",
        "dE, Eh",
        "dF, Eh",
        "SCF dE, Eh",
        "dipole, D",
        "network",
    )
    text = f"{given.xc}/def2-svp, fitted\n\n" + common.table(headers, rows)
    result = {"machine": common.machine(given.threads), "records": records}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
