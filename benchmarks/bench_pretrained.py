"""A general model at molecules that it was not trained on, beside what costs as much without it.

    python benchmarks/bench_pretrained.py organic-pbe                     # of ASE's G2, 4-6 heavy
    python benchmarks/bench_pretrained.py RUN --qm9 qm9.npz --qm9-count 60
    python benchmarks/bench_pretrained.py RUN --qm9-count 0 --frames aspirin.npz --frame-count 20
    python benchmarks/bench_pretrained.py RUN --qm9 qm9.npz --out qm9.json

Of a file of QM9 (arrays ``z``, ``R``, ``offsets``) the molecules of ``--heavy`` heavy atoms and of
H, C, N, O and F are drawn with ``--seed``; of a file of frames as many at equal distances. The
reference is this package's own SCF of the same discretised problem, to 1e-6 Eh (orbital gradient).
Routes, by the fine Fock builds that they pay for:

- "base": superposed atoms with self-consistent charges and dipoles, what the model corrects (0);
- "network": H as predicted (0);
- "coarse SCF": H at the end of an SCF on the coarse grid alone (0, and that SCF);
- "after one build": one fine build at the route's density and a coarse SCF that it corrects. At
  the network's it is its certificate; without a network a coarse SCF comes before.

With --network-only the reference is that SCF from the prediction, to 1e-7 Eh: what lies between it
and the certificate's estimates is then no tolerance of the reference, and every structure in --out
has a "sample" that `tools/pretrain/calibrate.py --measured` makes intervals from.

H~ = F[P(H)] and E[P(H)] are measured with a build that a route without builds does not pay for.
Means of absolute values; ``--out`` keeps every structure, for the model's card.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures
from ase.data import chemical_symbols
from bench_qm9 import read_arrays
from torch import Tensor

from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import ComputationError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import coarse_solution, solve_scf
from deeph_zero.model import Model, load
from deeph_zero.model_files.card import Errors as CardErrors
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import REFINE_TOL, Sample
from deeph_zero.predict.single import Prediction
from deeph_zero.prepared.molecule import prepare

MADE_HEAVY = (4, 6)
"""Heavy atoms of the molecules of G2 without a file, fewest and most."""
LOOSE = {"conv_tol": float("inf"), "conv_tol_grad": 3e-4, "hint": False}
"""Of the coarse SCF that a fine build corrects."""
TIGHT = {"conv_tol": 1e-10, "conv_tol_grad": 1e-6, "hint": False}
"""Of the reference."""
TIGHTER = {"conv_tol": 1e-11, "conv_tol_grad": REFINE_TOL, "hint": False}
"""Of the reference that intervals are measured with."""
ELEMENTS = {1, 6, 7, 8, 9}
LEVELS = ("homo", "lumo", "gap")

Errors = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The converged state.

    Attributes:
        result: Of the SCF.
        levels: HOMO, LUMO, gap, Eh.
        dipole: Debye, [3].
    """

    result: SCFResult
    levels: Errors
    dipole: np.ndarray

    @classmethod
    def of(cls, ks: KohnSham, start: Tensor | None = None) -> "Wanted":
        """Converge a molecule, further from a given start."""
        result = ks.scf(**TIGHT) if start is None else ks.scf(start, **TIGHTER)
        return cls(result, levels(ks, result.fock), ks.dipole(result.dm).numpy())


def levels(ks: KohnSham, fock: Tensor) -> Errors:
    """Frontier levels of a matrix, closed shell."""
    energies, n = ks.orbitals(fock).mo_energy, ks.nelec[0]
    homo, lumo = float(energies[n - 1]), float(energies[n])
    return {"homo": homo, "lumo": lumo, "gap": lumo - homo}


def errors_at(ks: KohnSham, wanted: Wanted, fock: Tensor) -> Errors:
    """Of H, of F[P(H)] and of its energy, levels and dipole; one fine build."""
    dm = ks.density(fock)
    built = ks.build(dm)
    found = _levels_off(wanted, levels(ks, fock), "_of_h")
    return found | {
        "fock": float((fock - wanted.result.fock).abs().mean()),
        "rebuilt": float((built.fock - wanted.result.fock).abs().mean()),
        "energy": abs(float(built.energy) - wanted.result.energy),
        "dipole": float(np.linalg.norm(ks.dipole(dm).numpy() - wanted.dipole)),
        **_levels_off(wanted, levels(ks, built.fock)),
    }


def errors_after(ks: KohnSham, wanted: Wanted, fock: Tensor) -> Errors:
    """The same, and of energy and levels after the coarse SCF that the build corrects."""
    dm = ks.density(fock)
    built = ks.build(dm)
    solution = coarse_solution(ks.layer, ks.to_layer(dm), ks.to_layer(built.fock))
    assert solution is not None
    energy = float(built.energy) + solution.change
    after = levels(ks, ks.from_layer(solution.fock))
    found = errors_at(ks, wanted, fock) | _levels_off(wanted, after, "_estimate")
    return found | {"energy_estimate": abs(energy - wanted.result.energy)}


def errors_of(ks: KohnSham, wanted: Wanted, found: Prediction) -> Errors:
    """The same of a model's prediction with its certificate."""
    certificate = found.certificate
    assert certificate is not None
    assert found.fock_rebuilt is not None
    rebuilt = {name: getattr(certificate, name) for name in LEVELS}
    after = {name: getattr(certificate, f"{name}_estimate") for name in LEVELS}
    return {
        "fock": float((found.fock - wanted.result.fock).abs().mean()),
        "rebuilt": float((found.fock_rebuilt - wanted.result.fock).abs().mean()),
        "energy": abs(certificate.energy - wanted.result.energy),
        "energy_estimate": abs(certificate.energy_estimate - wanted.result.energy),
        "dipole": float(np.linalg.norm(np.asarray(found.dipole) - wanted.dipole)),
        **_levels_off(wanted, levels(ks, found.fock), "_of_h"),
        **_levels_off(wanted, rebuilt),
        **_levels_off(wanted, after, "_estimate"),
    }


def _levels_off(wanted: Wanted, found: Errors, ending: str = "") -> Errors:
    return {f"{name}{ending}": abs(found[name] - wanted.levels[name]) for name in LEVELS}


def inside(prediction: Prediction, wanted: Wanted) -> Errors:
    """1 where a converged value lies in its interval, else 0."""
    given = prediction.intervals
    if given is None:
        return {}
    truth = {"energy": wanted.result.energy, **wanted.levels}
    truth["dipole"] = float(np.linalg.norm(wanted.dipole))
    found = {}
    for name, value in truth.items():
        low, high = given[name]
        key = "coverage" if name == "energy" else f"coverage_{name}"
        found[key] = float(low <= value <= high)
        if name in LEVELS:
            found[f"half_width_{name}"] = (high - low) / 2
    return found


def measure_one(model: Model, molecule: Molecule, network_only: bool = False) -> dict[str, Any]:
    """Errors of the routes at one molecule, with the cost of the prediction and the reference."""
    started = time.process_time()
    bare = None if network_only else model.predict(molecule, certificate=False)
    seconds = {"network": time.process_time() - started}
    predicted, ks = model.predict_layer(molecule)
    started = time.process_time()
    wanted = Wanted.of(ks, predicted.dm.to(ks.data.ovlp) if network_only else None)
    seconds["scf, integrals left out"] = time.process_time() - started
    network = errors_of(ks, wanted, predicted) | inside(predicted, wanted)
    found = {"network": network}
    if bare is not None:
        warm = ks.scf(bare.dm.to(ks.data.ovlp), **TIGHT)
        network["fine_builds"] = float(warm.fock_builds)
        network["fine_builds_standard"] = float(wanted.result.fock_builds)
        found |= others(model, molecule, ks, wanted)
    sample = Sample.of(
        dataclasses.replace(predicted, refined=wanted.result, refined_dipole=wanted.dipole)
    )
    return {
        "atoms": len(molecule.numbers),
        "elements": sorted({chemical_symbols[z] for z in molecule.numbers.tolist()}),
        "errors": {k: v for k, v in network.items() if k in CardErrors.model_fields},
        "routes": found,
        **({"sample": dataclasses.asdict(sample)} if network_only else {"seconds": seconds}),
    }


def others(model: Model, molecule: Molecule, ks: KohnSham, wanted: Wanted) -> dict[str, Errors]:
    """Errors of the routes without a network."""
    coarse = ks.layer.coarse
    if coarse is None:
        raise ComputationError("expected a method with a coarse grid, got one without")
    base = prepare(molecule, model.method, model.network.reading, builds=False)
    solved = solve_scf(coarse, None, SCFSettings(**LOOSE))
    return {
        "base": errors_at(ks, wanted, base.fock0),
        "coarse SCF": errors_after(ks, wanted, ks.from_layer(solved.fock)),
    }


def chosen(given: argparse.Namespace) -> list[Molecule]:
    """The molecules that are asked for."""
    if given.frames is not None:
        every = structures.read_molecules(given.frames)
        return every[:: max(1, len(every) // given.frame_count)][: given.frame_count]
    found = structures.small_organic() if given.qm9 is None else read_arrays(given.qm9)
    least, most = given.heavy or (MADE_HEAVY if given.qm9 is None else (7, 9))
    fit = [
        atoms
        for atoms in found
        if least <= (atoms.numbers > 1).sum() <= most and set(atoms.numbers.tolist()) <= ELEMENTS
    ]
    order = np.random.default_rng(given.seed).permutation(len(fit))[: given.qm9_count]
    part, of = given.part
    return [from_atoms(fit[k]) for k in order[part - 1 :: of]]


def options() -> argparse.Namespace:
    """Command line of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("model", nargs="?", default="organic-pbe", help="name or run folder")
    parser.add_argument("--qm9", type=Path, help="npz with z, R, offsets, in place of G2")
    parser.add_argument("--qm9-count", type=int, default=60, help="molecules at most (default 60)")
    parser.add_argument("--heavy", type=int, nargs=2, help="heavy atoms, fewest and most")
    parser.add_argument("--frames", type=Path, help="frames of one molecule instead")
    parser.add_argument("--frame-count", type=int, default=20, help="of them (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument(
        "--part", type=int, nargs=2, default=(1, 1), metavar=("K", "N"),
        help="every N-th molecule from the K-th on, for several processes",
    )  # fmt: skip
    parser.add_argument(
        "--network-only", action="store_true", help="no other routes: half the time"
    )
    parser.add_argument("--out", type=Path, help="JSON with every structure")
    parser.add_argument("--resume", action="store_true", help="keep what --out holds and go on")
    given = common.parse(parser)
    if given.smoke:
        given.qm9_count, given.heavy = 1, (2, 2)
    return given


def earlier(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of a run of the same options that was ended."""
    if not (given.resume and given.out is not None and given.out.exists()):
        return []
    return json.loads(given.out.read_text())["structures"]


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of all molecules; written after each of them where a file is given."""
    model, rows = load(given.model), earlier(given)
    molecules = chosen(given)
    for k, molecule in enumerate(molecules[len(rows) :], len(rows)):
        rows.append(measure_one(model, molecule, given.network_only))
        common.progress(f"{k + 1} of {len(molecules)}")
        if given.out is not None:
            unfinished = given.out.with_name(f"{given.out.name}.part")
            unfinished.write_text(json.dumps({"structures": rows}, indent=1))
            unfinished.rename(given.out)
    return rows


COLUMNS = {
    "fock": "H", "rebuilt": "H~", "energy": "E[P(H)]", "energy_estimate": "E after one build",
    "homo_of_h": "HOMO of H", "lumo_of_h": "LUMO of H", "homo": "HOMO of H~", "lumo": "LUMO of H~",
    "gap": "gap of H~", "homo_estimate": "HOMO after", "lumo_estimate": "LUMO after",
}  # fmt: skip
"""Errors in the table, µEh."""


def means(rows: list[dict[str, Any]], route: str) -> Errors:
    """Means over the structures that have a number."""
    names = dict.fromkeys(name for row in rows for name in row["routes"][route])
    return {
        name: float(np.mean([r["routes"][route][name] for r in rows if name in r["routes"][route]]))
        for name in names
    }


def builds(own: Errors) -> str:
    """Fine builds of the SCF, where they were counted."""
    if "fine_builds" not in own:
        return ""
    return (
        f"Fine builds of the SCF (1e-6 Eh): {own['fine_builds']:.2f} from the prediction, "
        f"{own['fine_builds_standard']:.2f} from superposed atoms. "
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Means of every route, and what only the network has."""
    routes = [name for name in ("base", "network", "coarse SCF") if name in rows[0]["routes"]]
    found = {route: means(rows, route) for route in routes}
    cells = [
        [f"{title}, µEh", *(f"{1e6 * p[name]:.3g}" if name in p else "" for p in found.values())]
        for name, title in COLUMNS.items()
    ]
    cells.append(["dipole, debye", *(f"{part['dipole']:.3g}" for part in found.values())])
    own = found["network"]
    covered = {name: own[name] for name in own if name.startswith(("coverage", "half_width"))}
    told = ", ".join(f"{name} {value:.3g}" for name, value in covered.items())
    names = list(rows[0].get("seconds", ()))
    times = ", ".join(f"{np.median([r['seconds'][n] for r in rows]):.2f} s {n}" for n in names)
    return (
        f"{common.table(('', *found), cells)}\n\n{len(rows)} structures. {builds(own)}"
        f"Processor time (median): {times or 'not taken'}.\n{told}"
    )


def main() -> None:
    """Measure and print."""
    given = options()
    rows = measure(given)
    result = {"machine": common.machine(given.threads), "structures": rows}
    common.report(result, table(rows), as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
