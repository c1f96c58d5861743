"""Error against processor time of every way to a Fock matrix, with and without learning.

    python benchmarks/bench_routes.py                                  # vibrations of methanol
    python benchmarks/bench_routes.py --data uracil.npz --frames 6 --xc pbe
    python benchmarks/bench_routes.py --data ethanol.npz --model run_a/ --model run_b/
    python benchmarks/bench_routes.py --plot routes.png
    python benchmarks/bench_routes.py --smoke

Every route starts from a molecule and pays for all it needs (integrals, grids, AO values); one
thread, medians over frames. Errors are means over frames against this package's SCF on the
target grid (1e-7 Eh): of the elements of H and of H~ = F[P(H)], of E[P(H)], of the energy the route
reports, of the highest occupied level of H. H~ and E[P(H)] are made outside the timing where the
route does not make them. "PySCF" is RKS.density_fit from superposed atoms to conv_tol_grad 1e-5.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
import torch
from pyscf import dft
from torch import Tensor

from deeph_zero.integrals.coarse import coarse_atom_grids
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import coarse_solution, solve_scf
from deeph_zero.model import Model, load
from deeph_zero.molecule import Molecule

TOL = 1e-5
LOOSE = {"conv_tol": float("inf"), "conv_tol_grad": 3e-4, "hint": False}
"""Of a coarse SCF that a fine build corrects."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a route says, and the energy it reports (None: E[P(H)] of its matrix)."""

    fock: Tensor
    energy: float | None = None


Route = Callable[[Molecule, argparse.Namespace], Found]


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    structures.add_options(parser, "methanol")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--skip", type=int, default=0, help="first frames of --data left out")
    parser.add_argument("--xc", default="pbe")
    parser.add_argument("--level", type=int, default=3, help="grid level")
    parser.add_argument("--model", action="append", default=[], help="run folder (repeatable)")
    parser.add_argument(
        "--route",
        action="append",
        metavar="NAME",
        help="only these, beside the models (repeatable)",
    )
    parser.add_argument("--plot", type=Path, help="write a figure")
    given = common.parse(parser)
    unknown = set(given.route or ()) - set(ROUTES)
    if unknown:
        parser.error(f"--route: expected one of {', '.join(ROUTES)}, got {unknown.pop()}")
    if given.smoke:
        given.molecule, given.frames = "water", 2
    return given


def layer(molecule: Molecule, given: argparse.Namespace) -> KohnSham:
    """The layer on the target grid."""
    mol = build_mole(molecule, basis="def2-svp")
    return KohnSham.from_pyscf(mol, xc=given.xc, grid_level=given.level)


def coarse_layer(molecule: Molecule, given: argparse.Namespace) -> KohnSham:
    """A layer that has the coarse grid alone."""
    mol = build_mole(molecule, basis="def2-svp")
    mf = dft.RKS(mol, xc=given.xc).density_fit()
    mf.grids.atom_grid = coarse_atom_grids(mol)[0]
    return KohnSham.from_pyscf(mf)


def first_fock(molecule: Molecule, given: argparse.Namespace) -> Found:
    """F0 after a dielectric step."""
    ks = layer(molecule, given)
    fock = ks.build(ks.data.dm_guess).fock
    return Found(fock + ks.dielectric_step(fock, ks.data.dm_guess))


def coarse_alone(molecule: Molecule, given: argparse.Namespace) -> Found:
    """An SCF on the coarse grid."""
    result = coarse_layer(molecule, given).scf(**LOOSE)
    return Found(result.fock, result.energy)


def corrected(molecule: Molecule, given: argparse.Namespace) -> Found:
    """F0, and a coarse SCF that it corrects."""
    ks = layer(molecule, given)
    built = ks.build(ks.data.dm_guess)
    return _solved(ks, ks.data.dm_guess, built.fock, float(built.energy))


def one_build(molecule: Molecule, given: argparse.Namespace) -> Found:
    """A coarse SCF, a fine build there, and a coarse SCF that it corrects."""
    ks = layer(molecule, given)
    coarse = ks.layer.coarse
    assert coarse is not None
    dm = ks.from_layer(solve_scf(coarse, None, SCFSettings(**LOOSE)).dm)
    built = ks.build(dm)
    return _solved(ks, dm, built.fock, float(built.energy))


def _solved(ks: KohnSham, dm: Tensor, fock: Tensor, energy: float) -> Found:
    solution = coarse_solution(ks.layer, ks.to_layer(dm), ks.to_layer(fock))
    assert solution is not None
    return Found(ks.from_layer(solution.fock), energy + solution.change)


def scf(molecule: Molecule, given: argparse.Namespace, *, two_grids: bool = True) -> Found:
    """The whole SCF."""
    result = layer(molecule, given).scf(
        conv_tol=1e-9, conv_tol_grad=TOL, two_grids=two_grids, hint=False
    )
    return Found(result.fock, result.energy)


def one_grid(molecule: Molecule, given: argparse.Namespace) -> Found:
    """The SCF on the target grid alone."""
    return scf(molecule, given, two_grids=False)


def pyscf(molecule: Molecule, given: argparse.Namespace) -> Found:
    """PySCF's SCF."""
    mf = common.mean_field(build_mole(molecule, basis="def2-svp"), given.xc, grid_level=given.level)
    mf.conv_tol, mf.conv_tol_grad = 1e-9, TOL
    energy = float(mf.kernel())
    return Found(torch.as_tensor(np.asarray(mf.get_fock())), energy)


def network(model: Model, *, certificate: bool) -> Route:
    """A trained model, without or with the one build of its certificate."""

    def route(molecule: Molecule, given: argparse.Namespace) -> Found:
        del given
        result = model.predict(molecule, certificate=certificate)
        if not certificate:
            return Found(result.fock)
        assert result.certificate is not None
        assert result.fock_rebuilt is not None
        return Found(result.fock_rebuilt, result.certificate.energy_estimate)

    return route


ROUTES: dict[str, Route] = {
    "F0 + step": first_fock,
    "coarse SCF": coarse_alone,
    "F0, coarse SCF": corrected,
    "coarse SCF, one build, coarse SCF": one_build,
    "SCF on two grids": scf,
    "SCF on one grid": one_grid,
    "PySCF": pyscf,
}


def errors(ks: KohnSham, wanted: Any, found: Found) -> list[float]:
    """H, H~, energy of the density, energy reported, HOMO: absolute, microhartree."""
    dm = ks.density(found.fock)
    built = ks.build(dm)
    n = ks.nelec[0]
    own = ks.orbitals(found.fock).mo_energy[n - 1]
    energy = float(built.energy)
    parts = [
        (found.fock - wanted.fock).abs().mean(),
        (built.fock - wanted.fock).abs().mean(),
        energy - wanted.energy,
        (energy if found.energy is None else found.energy) - wanted.energy,
        own - wanted.mo_energy[n - 1],
    ]
    return [abs(float(part)) * 1e6 for part in parts]


def measure(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Errors and seconds of every route."""
    routes = {name: ROUTES[name] for name in (ROUTES if given.route is None else given.route)}
    models = {path: load(path) for path in given.model}
    kinds = [model.network.spec.inputs for model in models.values()]
    for path, model in models.items():
        kind = model.network.spec.inputs
        name = f"{kind} network" + f" {Path(path).name}" * (kinds.count(kind) > 1)
        if model.network.spec.inputs == "geometry":
            routes[name] = network(model, certificate=False)
        routes[f"{name}, one build"] = network(model, certificate=True)
    rows: dict[str, list[list[float]]] = {name: [] for name in routes}
    chosen = structures.frames(given, given.frames, skip=given.skip)
    for route in routes.values():  # what is compiled or read once per process
        route(chosen[0], given)
    for k, molecule in enumerate(chosen):
        ks = layer(molecule, given)
        wanted = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7, hint=False)
        for name, route in routes.items():
            started = time.process_time()
            found = route(molecule, given)
            rows[name].append([time.process_time() - started, *errors(ks, wanted, found)])
        common.progress(f"frame {k + 1} of {len(chosen)}")
    return {
        name: {
            "seconds": float(np.median([row[0] for row in found])),
            "errors": np.mean([row[1:] for row in found], axis=0).tolist(),
        }
        for name, found in rows.items()
    }


def draw(found: dict[str, dict[str, Any]], path: Path, title: str) -> None:
    """Error of H~ against seconds, one point per route."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2), constrained_layout=True)
    drawn = {True: 0, False: 0}
    for name, row in sorted(found.items(), key=lambda i: i[1]["seconds"]):
        learned = "network" in name
        drawn[learned] += 1
        floor = max(row["errors"][1], 1e-3)
        axes.loglog(row["seconds"], floor, "s" if learned else "o", color="C1" if learned else "C0")
        place = (
            5,
            4 if drawn[learned] % 2 == learned else -11,
        )  # neighbours would write over each other
        axes.annotate(name, (row["seconds"], floor), place, textcoords="offset points", size=8)
    axes.set_xlabel("processor time per geometry / s")
    axes.set_ylabel("mean |H̃ − converged| / µEh")
    axes.set_title(title, size=10)
    axes.margins(x=0.25)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, draw."""
    given = options()
    found = measure(given)
    name = given.data.stem if given.data else given.molecule
    title = f"{name}, {given.xc.upper()}/def2-SVP, level {given.level}"
    cells = [
        [name, f"{row['seconds']:.2f}", *(f"{value:.3g}" for value in row["errors"])]
        for name, row in sorted(found.items(), key=lambda item: item[1]["seconds"])
    ]
    headers = ("route", "CPU s", "H / µEh", "H~", "E[P]", "E reported", "HOMO")
    if given.plot is not None:
        draw(found, given.plot, title)
    result = {"machine": common.machine(given.threads), "routes": found}
    text = f"{title}\n\n{common.table(headers, cells)}"
    common.report(result, text, as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
