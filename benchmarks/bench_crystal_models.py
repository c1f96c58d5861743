"""Models of crystals: without labels and with them, asked for larger cells and other crystals.

    python benchmarks/bench_crystal_models.py --threads 1
    python benchmarks/bench_crystal_models.py --only LiH,larger --folder bench_crystals

Five crystals (PBE, gth-szv): strained and displaced cells are learnt as `deeph-zero fit` learns,
from their own SCFs, and from the density matrices of labels (SCFs to 1e-10 Eh); same frames,
network, seed and steps. Unseen cells are predicted: "H" is the mean absolute element of the error
at the k-points, "H̃" that of F[P(H)], "bands" the largest error of a level up to the first empty
one, all up to a constant potential, and "energy" the error of E[P(H)] (with smearing of the free
energy). "base" is H₀, before the network. CPU seconds and Fock builds (fine + coarse) are of
everything up to the trained model. PySCF's own SCF and its `get_bands` are of one unseen cell.

"larger": graphene learnt from cells of eight atoms, and a few of two, is asked for larger cells,
and for what it has not seen (a vacancy, the biphenylene network, diamond); its error estimates
stand beside its errors.

What is solved stays in the folder: a run that was stopped goes on from there.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from ase import Atoms
from ase.units import Bohr, Hartree
from learnt_crystals import CRYSTALS, NETWORK_CUTOFF, Crystal, Problem, cases
from pyscf.pbc import dft

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.kohnsham.k_path import k_path
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.crystal import CrystalPrediction, predict_crystal
from deeph_zero.train.crystal_readout import settle_readout
from deeph_zero.train.crystal_steps import Steps, train_crystals
from deeph_zero.train.crystals import Lesson, TaughtCrystal, crystal_errors, teach_density

LEARNING: dict[str, Any] = {"conv_tol": 1e-8, "conv_tol_grad": 1e-5}
LABEL: dict[str, Any] = {"conv_tol": 1e-10, "conv_tol_grad": 1e-6}


LARGER = "larger"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solved:
    """One frame to learn from, and what it took: CPU seconds, builds (fine, coarse)."""

    free: Lesson
    supervised: Lesson
    prepare: float
    free_cost: tuple[float, int, int]
    supervised_cost: tuple[float, int, int]


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    names = ",".join([*[n for n in CRYSTALS if n != "hydrogen"], LARGER])
    folder = Path(__file__).parent / "bench_crystal_models"
    parser.add_argument("--only", default=names, help=f"some of {names}")
    parser.add_argument("--folder", type=Path, default=folder, help="of what is solved")
    parser.add_argument("--cells", type=int, default=10, help="to learn from")
    parser.add_argument("--samples", type=int, default=6, help="cells of 8 atoms, for larger")
    parser.add_argument("--unseen", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3], help="copies per vector")
    parser.add_argument("--size", default="small", help="of the network")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pyscf", default="diamond,graphene", help="solved by PySCF, too")
    return common.parse(parser)


def solve(problem: Problem) -> Solved:
    """Solve a frame twice: to learn from, and as a label."""
    start = time.process_time()
    ready = problem.prepared()
    prepare, start = time.process_time() - start, time.process_time()
    own = ready.ks.scf(**LEARNING)
    free = Lesson.of(TaughtCrystal.of_result(ready, own))
    free_cpu, start = time.process_time() - start, time.process_time()
    label = ready.ks.scf(**LABEL)
    supervised = Lesson.of(teach_density(ready, label.dm))
    return Solved(
        free=free,
        supervised=supervised,
        prepare=prepare,
        free_cost=(free_cpu, own.fock_builds, own.coarse_builds),
        supervised_cost=(
            time.process_time() - start,
            label.fock_builds + 1,
            label.coarse_builds,
        ),
    )


class Folder:
    """What was computed before."""

    def __init__(self, path: Path) -> None:
        """Where it is."""
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def frame(self, name: str, problem: Problem) -> Solved:
        """A solved frame."""
        path = self._path / f"{name}.pt"
        if not path.exists():
            torch.save(solve(problem), path)
        return torch.load(path, weights_only=False)

    def numbers(self, name: str, what: Callable[[], Any]) -> Any:
        """A result as JSON."""
        path = self._path / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(what(), indent=1))
            common.progress(f"{name}: {' '.join(path.read_text().split())[:400]}")
        return json.loads(path.read_text())


def network_of(
    layout: BasisLayout,
    lessons: Sequence[Lesson],
    checks: Sequence[Lesson],
    given: argparse.Namespace,
) -> tuple[FockNetwork, float]:
    """A trained network, as `fit` trains it, and its CPU seconds."""
    start = time.process_time()
    torch.manual_seed(0)
    spec = default_spec(layout, given.size, cutoff=NETWORK_CUTOFF, balanced=False)
    network = FockNetwork(spec).double().train()
    steps = Steps(epochs=given.epochs)
    train_crystals(
        network, lessons, checks, steps, seed=0,
        note=lambda row: common.progress(str(row)), stop=lambda: False,
    )  # fmt: skip
    settle_readout(network.eval(), [*lessons, *checks], stop=lambda: False)
    return network.eval(), time.process_time() - start


@torch.no_grad()
def errors(found: CrystalPrediction, exact: CrystalSCFResult) -> dict[str, float]:
    """Errors of a prediction, Eh, beside those of its base."""
    certificate, rebuilt = found.certificate, found.fock_rebuilt
    taught = TaughtCrystal.of_result(found.prepared, exact)
    assert certificate is not None
    assert rebuilt is not None
    row: dict[str, float] = {"natm": found.molecule.natm}
    for name, matrix in (("base", found.prepared.fock0), ("h", found.fock), ("rebuilt", rebuilt)):
        error = crystal_errors(taught, matrix)
        row[name], row[f"{name}_bands"] = error.fock, error.bands
    row["energy"] = certificate.free_energy - exact.free_energy
    row["estimate"] = certificate.energy_error_estimate
    return row


def asked(networks: dict[str, FockNetwork], problem: Problem) -> dict[str, Any]:
    """Errors of networks for one structure, and CPU seconds of prediction and SCF."""
    start = time.process_time()
    ready = problem.prepared()
    prepare, start = time.process_time() - start, time.process_time()
    exact = ready.ks.scf(**LEARNING)
    scf = time.process_time() - start
    rows = {}
    for name, network in networks.items():
        start = time.process_time()
        found = predict_crystal(network, ready, problem.molecule, problem.method)
        predict = time.process_time() - start
        rows[name] = errors(found, exact) | {"predict": predict}
    builds = [exact.fock_builds, exact.coarse_builds]
    return {"prepare": prepare, "scf": scf, "builds": builds, "rows": rows}


KINDS = ("label-free", "supervised")


def learnt(name: str, folder: Folder, given: argparse.Namespace) -> dict[str, Any]:
    """One crystal, without labels and with them."""
    crystal = CRYSTALS[name]
    frames = [
        folder.frame(f"{name}-{k}", crystal.problem(atoms))
        for k, atoms in enumerate(crystal.moved(given.cells, 1))
    ]
    kept = max(1, given.cells // 5)
    layout = crystal.problem(crystal.atoms).layout
    networks, found = {}, {}
    for kind in KINDS:
        free = kind == "label-free"
        lessons = [f.free if free else f.supervised for f in frames]
        networks[kind], cpu = network_of(layout, lessons[kept:], lessons[:kept], given)
        costs = np.array([f.free_cost if free else f.supervised_cost for f in frames]).sum(0)
        prepare = sum(f.prepare for f in frames)
        found[kind] = {
            "solve": costs[0],
            "prepare": prepare,
            "train": cpu,
            "builds": costs[1:].astype(int).tolist(),
        }
    unseen = crystal.moved(given.unseen, 2)
    answers = [asked(networks, crystal.problem(atoms)) for atoms in unseen]
    for kind in KINDS:
        found[kind]["rows"] = [a["rows"][kind] for a in answers]
    bands = None
    if name in given.pyscf.split(","):
        bands = against_pyscf(networks["label-free"], crystal, unseen[0], smoke=given.smoke)
    return {"crystal": name, "kinds": found, "pyscf": bands}


def against_pyscf(
    network: FockNetwork, crystal: Crystal, atoms: Atoms, *, smoke: bool
) -> dict[str, Any]:
    """PySCF's own SCF and bands of an unseen cell."""
    problem, points = crystal.problem(atoms), 7 if smoke else 25
    ready = problem.prepared()
    cell = ready.ks.cell
    start = time.process_time()
    mf = dft.KRKS(cell, cell.make_kpts(crystal.kmesh, wrap_around=True), xc="pbe")
    if crystal.smearing:
        mf = mf.smearing(sigma=crystal.smearing, method="fermi")
    mf.conv_tol = 1e-8
    mf.kernel()
    scf = time.process_time() - start
    row: dict[str, Any] = {"scf": scf, "cycles": mf.cycles, "path": crystal.path}
    count = cell.nelectron // 2 + 1
    # the path of the crystal at rest: a strained one has other special points
    line = k_path(crystal.atoms.cell.array / Bohr, (True, True, True), crystal.path, points)
    exact = np.asarray(mf.get_bands(cell.get_abs_kpts(line.kpts))[0])[:, :count]
    for key, refine in (("network", None), ("refined", 1e-7)):
        found = predict_crystal(network, ready, problem.molecule, problem.method, refine=refine)
        levels = ready.ks.levels_of(found.hamiltonian(line.kpts), line.kpts)
        change = levels.numpy()[0, :, :count] - exact
        row[key] = float(np.abs(change - change.mean()).max())
        row[f"{key} mean"] = float(np.abs(change - change.mean()).mean())
    return row


def larger(folder: Folder, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Graphene of 8 atoms learnt, asked for larger cells and other sheets."""
    crystal = CRYSTALS["graphene"]
    frames = [
        folder.frame(f"graphene8-{k}", crystal.problem(atoms, (3, 3, 1)))
        for k, atoms in enumerate(crystal.moved(given.samples, 1, (2, 2, 1)))
    ]
    few = [
        folder.frame(f"graphene-{k}", crystal.problem(atoms))
        for k, atoms in enumerate(crystal.moved(given.cells, 1)[:4])
    ]
    kept = 1
    lessons = [f.free for f in frames[kept:] + few]
    layout = crystal.problem(crystal.atoms).layout
    network, cpu = network_of(layout, lessons, [f.free for f in frames[:kept]], given)
    used = frames + few
    rows: list[dict[str, Any]] = [
        {
            "what": "learning",
            "train": cpu,
            "prepare": sum(f.prepare for f in used),
            "solve": sum(f.free_cost[0] for f in used),
            "builds": np.array([f.free_cost[1:] for f in used]).sum(0).tolist(),
        }
    ]
    for case in cases(given.sizes):
        (atoms,) = case.make()
        problem = crystal.problem(atoms, case.kmesh)
        found = folder.numbers(
            f"larger {case.name}", lambda problem=problem: asked({"": network}, problem)
        )
        rows.append({"what": case.name, **found})
    return rows


MILLI_EV = 1e3 * Hartree


def _mean(rows: list[dict[str, float]], name: str, *, per_atom: bool = False) -> float:
    return float(np.mean([abs(r[name]) / (r["natm"] if per_atom else 1.0) for r in rows]))


def _numbers(rows: list[dict[str, float]]) -> list[str]:
    """Elements and bands of base, H and H̃, energy per atom."""
    found = []
    for name in ("base", "h", "rebuilt"):
        found += [
            f"{1e3 * _mean(rows, name):.3f}",
            f"{MILLI_EV * _mean(rows, f'{name}_bands'):.1f}",
        ]
    return [*found, f"{MILLI_EV * _mean(rows, 'energy', per_atom=True):.4f}"]


HEADS = ("base, mEh", "bands, meV", "H, mEh", "bands, meV", "H̃, mEh", "bands, meV")


def learnt_table(records: list[dict[str, Any]]) -> str:
    """Without labels and with them."""
    rows = []
    for record in records:
        for kind, r in record["kinds"].items():
            fine, coarse = r["builds"]
            times = [f"{r[key]:.0f}" for key in ("prepare", "solve", "train")]
            what = f"{record['crystal']}, {kind}"
            rows.append([what, f"{fine} + {coarse}", *times, *_numbers(r["rows"])])
    heads = ("crystal", "builds", "prepare, s", "solve, s", "train, s", *HEADS, "meV/atom")
    return common.table(heads, rows)


def larger_table(records: list[dict[str, Any]]) -> str:
    """Beyond what was learnt."""
    rows = []
    for r in records[1:]:
        one = r["rows"][""]
        error, estimate = (MILLI_EV * one[key] / one["natm"] for key in ("energy", "estimate"))
        times = [f"{r['prepare']:.0f}", f"{one['predict']:.1f}", f"{r['scf']:.1f}"]
        rows.append([r["what"], *times, *_numbers([one])[:-1], f"{error:.3f}", f"{estimate:.3f}"])
    heads = ("asked for", "prepare, s", "predict, s", "SCF, s", *HEADS, "meV/atom", "estimated")
    fit = records[0]
    fine, coarse = fit["builds"]
    spent = f"learning: {fine} + {coarse} builds; " + ", ".join(
        f"{key} {fit[key]:.0f} s" for key in ("prepare", "solve", "train")
    )
    return f"{common.table(heads, rows)}\n\n{spent}"


def pyscf_table(records: list[dict[str, Any]]) -> str:
    """PySCF's own SCF and bands."""
    rows = []
    for record in records:
        r = record["pyscf"]
        errors_of = [f"{MILLI_EV * r[key]:.3g}" for key in ("network mean", "network", "refined")]
        times = [f"{r['scf']:.0f}", str(r["cycles"])]
        rows.append([record["crystal"], r["path"], *times, *errors_of])
    heads = ("crystal", "path", "PySCF, s", "cycles", "mean, meV", "largest", "refined, largest")
    return common.table(heads, rows)


def main() -> None:
    """Measure and print."""
    given = options()
    logging.getLogger("deeph_zero").setLevel(logging.ERROR)  # the meshes are coarse, as is known
    names = given.only.split(",")
    if given.smoke:
        names, given.cells, given.unseen, given.epochs, given.size = ["hydrogen"], 2, 1, 1, "tiny"
        given.pyscf = "hydrogen"
    with contextlib.ExitStack() as stack:
        path = given.folder
        if given.smoke:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = Folder(path)
        records = [
            folder.numbers(name, lambda name=name: learnt(name, folder, given))
            for name in names
            if name in CRYSTALS
        ]
        beyond = larger(folder, given) if LARGER in names else []
    text = [learnt_table(records)] if records else []
    known = [r for r in records if r["pyscf"]]
    text += [pyscf_table(known)] if known else []
    text += [larger_table(beyond)] if beyond else []
    result = {"machine": common.machine(given.threads), "learnt": records, "larger": beyond}
    common.report(result, "\n\n".join(text), as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
