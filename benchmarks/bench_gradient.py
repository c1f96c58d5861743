"""How far dH/dR of a model's own Fock matrix is from that of the converged one, on unseen frames.

    python benchmarks/bench_gradient.py --frames 60 --epochs 300 --threads 1    # water, 60 frames

A model with geometry inputs is trained without labels (PBE/6-31G, grid level 1) on vibrations.
On unseen frames `model.fock_gradient` (automatic differentiation, no Fock build) is compared with
`ks.scf().fock_gradient()` (coupled-perturbed equations about the converged density): the whole
derivative, that without the motion of the basis, and its element between HOMO and LUMO of the
converged state. Beside it the same of the base alone, superposed atoms with charges and dipoles.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
import torch
from torch import Tensor

from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.response.nuclear import FockGradient
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.model import Model, load
from deeph_zero.molecule import Molecule

METHOD = ("--basis", "6-31g", "--grid-level", "1", "--inputs", "geometry")


def options() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--frames", type=int, default=60, help="to train on (default 60)")
    parser.add_argument("--test", type=int, default=10, help="unseen frames (default 10)")
    parser.add_argument("--epochs", type=int, default=300, help="default 300")
    parser.add_argument("--run", type=Path, help="a model trained before, in place of training")
    given = common.parse(parser)
    if given.smoke:
        given.frames, given.test, given.epochs = 4, 1, 2
    return given


def without_correction(model: Model) -> Model:
    """The model with a correction of zero: its base."""
    base = Model(model.network, model.method)
    base.network = type(model.network)(model.network.spec).double().eval()
    return base


def errors(model: Model, molecule: Molecule, state: SCFResult, found: FockGradient) -> list[float]:
    """Mean absolute element of H, dH/dR, the perturbation; rms of its HOMO-LUMO elements; mEh."""
    own = model.fock_gradient(molecule)
    fock = model.predict(molecule, certificate=False).fock
    homo = int(state.mo_occ.sum()) // 2 - 1
    frontier = state.mo_coeff[:, homo], state.mo_coeff[:, homo + 1]
    difference = own.perturbation - found.perturbation
    coupling = torch.einsum("m,axmn,n->ax", frontier[0], difference, frontier[1])
    parts: list[Tensor] = [fock - state.fock, own.fock - found.fock, difference]
    found_errors = [1e3 * float(part.abs().mean()) for part in parts]
    return [*found_errors, 1e3 * float(coupling.square().mean().sqrt())]


def sizes(state: SCFResult, found: FockGradient) -> list[float]:
    """The same of the converged state itself."""
    homo = int(state.mo_occ.sum()) // 2 - 1
    frontier = state.mo_coeff[:, homo], state.mo_coeff[:, homo + 1]
    coupling = torch.einsum("m,axmn,n->ax", frontier[0], found.perturbation, frontier[1])
    parts = [state.fock, found.fock, found.perturbation]
    return [
        *(1e3 * float(part.abs().mean()) for part in parts),
        1e3 * float(coupling.square().mean().sqrt()),
    ]


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train, or take the model given, and compare."""
    train, test = structures.split(given, given.frames, given.test, seed=1)
    run = given.run
    if run is None:
        run = folder / "run"
        structures.write_frames(folder / "frames.xyz", train)
        common.progress("training")
        common.command(
            "fit", folder / "frames.xyz", "-o", run, *METHOD, "--epochs", given.epochs,
            "--threads", given.threads,
        )  # fmt: skip
    model = load(run)
    base = without_correction(model)
    rows: dict[str, list[list[float]]] = {"base": [], "model": [], "converged": []}
    for k, molecule in enumerate(test):
        common.progress(f"frame {k + 1} of {len(test)}")
        ks = KohnSham.of_method(build_mole(molecule, basis=model.method.basis), model.method)
        state = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7)
        found = state.fock_gradient()
        rows["base"].append(errors(base, molecule, state, found))
        rows["model"].append(errors(model, molecule, state, found))
        rows["converged"].append(sizes(state, found))
    return {name: np.mean(values, 0).tolist() for name, values in rows.items()}


def main() -> None:
    """Measure and print."""
    given = options()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    names = {
        "base": "base alone: error",
        "model": "model: error",
        "converged": "converged state: size",
    }
    heads = ["", "H, mEh", "dH/dR, mEh/bohr", "without the basis", "HOMO-LUMO"]
    text = common.table(
        heads, [[names[name], *(f"{x:.3g}" for x in values)] for name, values in found.items()]
    )
    result = {"errors": found, "machine": common.machine(given.threads)}
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
