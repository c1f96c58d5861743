"""SCF from a model's density against PySCF's own starts: iterations, Fock builds, seconds.

    python benchmarks/bench_starts.py --data water_monomers_1k.xyz --larger water_dimers_10.xyz
    python benchmarks/bench_starts.py --data rmd17/ethanol.npz --train 60 --test 20
    python benchmarks/bench_starts.py                          # chains: alkanes and alcohols
    python benchmarks/bench_starts.py --model run/ --data ...  # a model that is trained already

`fit` trains on a seeded choice of frames; others of the same file are tested, and the molecules of
--larger. Without --data: methane to propane, methanol and ethanol, each pushed by 0.04 Å on every
coordinate, then unseen pushes of the same and of butane, pentane, propanol and butanol.

Every start feeds PySCF's SCF (fitted; minao, atom, Hückel; the model's by `model.guess`) to the
same tolerance, without its extra cycle at the end. Fock builds are its calls of `get_veff`, the
first one included, and for the model one more: F0, the input of its network. CPU seconds are of
start and SCF together, of an object that has its grid and integrals; the model makes its own.
"own SCF" is this package's, which takes fewer cycles, from minao and from the model (`predict
--refine`: F0 and the build at the prediction count; it falls back to the standard start where that
one is better).
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_alkanes
import common
import numpy as np
import structures
from pyscf.data import elements

import deeph_zero as dz
from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

BASIS = "def2-svp"
STARTS = ("minao", "atom", "huckel", "model")
SMALL, LARGE = ("C1", "C2", "C3", "C1O", "C2O"), ("C4", "C5", "C3O", "C4O")
PUSH = 0.04
"""Standard deviation of every coordinate of a chain, ångström."""


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, help="structure file to split")
    parser.add_argument("--larger", type=Path, help="structures that are tested only")
    parser.add_argument("--train", type=int, default=100, help="training frames (default 100)")
    parser.add_argument("--test", type=int, default=50, help="test frames (default 50)")
    parser.add_argument("--larger-limit", type=int, default=10, help="larger molecules at most")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the training")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    parser.add_argument("--tol", type=float, default=1e-5, help="conv_tol_grad (default 1e-5)")
    parser.add_argument("--epochs", type=int, help="passes over the training frames")
    parser.add_argument("--max-time", help="limit of the training, such as 20m")
    parser.add_argument("--model", type=Path, help="run folder; trained there unless it exists")
    given = common.parse(parser)
    if given.smoke:
        given.data, given.larger, given.model = structures.EXAMPLES / "water_frames.xyz", None, None
        given.train, given.test, given.epochs, given.grid_level = 10, 2, 2, 0
    return given


def chain(name: str) -> Molecule:
    """Propane for "C3"; for "C3O" with a hydroxyl group in the place of its first hydrogen."""
    carbons = int(name[1:].removesuffix("O"))
    molecule = bench_alkanes.alkane(carbons)
    if not name.endswith("O"):
        return molecule
    numbers, coords = molecule.numbers.copy(), molecule.coords.copy()
    first = int(np.flatnonzero(numbers == elements.charge("H"))[0])
    carbon = np.linalg.norm(coords - coords[first], axis=1)
    carbon[numbers == elements.charge("H")] = np.inf
    centre = coords[int(np.argmin(carbon))]
    bond = (coords[first] - centre) / np.linalg.norm(coords[first] - centre)
    oxygen = centre + 1.42 / BOHR_IN_ANGSTROM * bond
    across = np.cross(bond, [0.3, 0.2, 1.0])
    across /= np.linalg.norm(across)
    hydrogen = oxygen + 0.96 / BOHR_IN_ANGSTROM * (0.33 * bond + 0.944 * across)
    numbers[first], coords[first] = elements.charge("O"), oxygen
    return Molecule(
        numbers=np.append(numbers, elements.charge("H")), coords=np.vstack([coords, hydrogen])
    )


def chains(names: Sequence[str], count: int, rng: np.random.Generator) -> list[Molecule]:
    """``count`` pushed chains, the names in turn."""
    found = []
    for k in range(count):
        molecule = chain(names[k % len(names)])
        push = rng.normal(scale=PUSH / BOHR_IN_ANGSTROM, size=molecule.coords.shape)
        found.append(Molecule(numbers=molecule.numbers, coords=molecule.coords + push))
    return found


def molecules_of(given: argparse.Namespace) -> dict[str, list[Molecule]]:
    """Training frames, test frames, larger molecules.

    Args:
        given: data, larger, train, test and seed.

    Returns:
        By name; "larger" may be missing.

    Raises:
        InputError: If a file is missing or too short.
    """
    if given.data is None:
        rng = np.random.default_rng(given.seed)
        return {
            "train": chains(SMALL, given.train, rng),
            "test": chains(SMALL, given.test, rng),
            "larger": chains(LARGE, given.larger_limit, rng),
        }
    train, test = structures.split(given, given.train, given.test, seed=given.seed)
    found = {"train": train, "test": test}
    if given.larger is not None:
        found["larger"] = structures.read_molecules(given.larger)[: given.larger_limit]
    return found


def fit(folder: Path, given: argparse.Namespace, train: list[Molecule]) -> dict[str, Any]:
    """Train with the real command, unless the run is there already."""
    run = given.model or folder / "run"
    if (run / "model.safetensors").exists():
        return {"run": run}
    structures.write_frames(folder / "train.xyz", train)
    words: list[object] = ["fit", folder / "train.xyz", "-o", run, "--basis", BASIS]
    words += ["--xc", given.xc, "--grid-level", given.grid_level, "--seed", given.seed]
    words += ["--threads", given.threads]
    for name in ("epochs", "max_time"):
        value = getattr(given, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    summary, seconds = common.command(*words)
    return {"run": run, "seconds": seconds, "builds": summary["fock_builds"] / len(train)}


def from_start(
    molecule: Molecule, start: str, model: dz.Model, given: argparse.Namespace
) -> dict[str, Any]:
    """PySCF's SCF from one start.

    Args:
        molecule: The structure.
        start: One of :data:`STARTS`.
        model: For its own.
        given: xc, grid_level and tol.

    Returns:
        Cycles, Fock builds, CPU and wall seconds, energy, whether it converged.
    """
    mf = common.mean_field(build_mole(molecule, basis=BASIS), given.xc, grid_level=given.grid_level)
    # as --refine ends: at the gradient, whatever the energy changed by before
    mf.conv_tol, mf.conv_tol_grad, mf.conv_check = given.tol, given.tol, False
    mf.grids.build()
    mf.with_df.build()
    builds, veff = [start == "model"], mf.get_veff
    wall, cpu = time.perf_counter(), time.process_time()
    dm = model.guess(mf) if start == "model" else mf.get_init_guess(key=start)
    # counted from here on: a guess asks why an object has a method of its own
    mf.get_veff = lambda *args, **kwargs: (builds.append(True), veff(*args, **kwargs))[1]
    mf.kernel(dm0=dm)
    return {
        "cycles": mf.cycles,
        "builds": sum(builds),
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "energy": float(mf.e_tot),
        "converged": bool(mf.converged),
    }


def compare(molecule: Molecule, model: dz.Model, given: argparse.Namespace) -> dict[str, Any]:
    """One molecule from every start, and refined by this package."""
    found: dict[str, Any] = {start: from_start(molecule, start, model, given) for start in STARTS}
    result = model.predict(molecule, refine=given.tol, coupled=False, compare_start=True)
    done = result.refined
    assert done is not None
    assert result.certificate is not None
    found["refine"] = {
        "cycles": done.iterations,
        "standard_cycles": result.standard_iterations,
        # F0, the build at the prediction, and those after it
        "builds": 2 + done.fock_builds,
        "standard_builds": 1 + (result.standard_iterations or 0),
        "replaced": result.standard_start,
        "converged": done.converged,
        "energy": done.energy,
    }
    lowest = min(found[start]["energy"] for start in STARTS)
    found["network_error"] = result.certificate.energy - lowest
    found["spread"] = max(found[start]["energy"] for start in STARTS) - lowest
    found["natm"], found["nao"] = molecule.natm, int(result.overlap.shape[0])
    return found


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """Means per start, and what is saved of PySCF's builds and CPU time from minao."""
    usual = {key: np.mean([r["minao"][key] for r in records]) for key in ("builds", "cpu")}
    table = []
    for start in STARTS:
        mean = {
            key: np.mean([r[start][key] for r in records]) for key in ("cycles", *usual, "wall")
        }
        saved = [f"{100 * (1 - mean[key] / usual[key]):.0f} %" for key in usual]
        cells = [f"{mean['cycles']:.2f}", f"{mean['builds']:.2f}", saved[0]]
        table.append([start, *cells, f"{mean['cpu']:.2f}", saved[1], f"{mean['wall']:.2f}"])
    for title, prefix in (("own SCF, minao", "standard_"), ("own SCF, model", "")):
        cycles, builds = (
            np.mean([r["refine"][prefix + key] for r in records]) for key in ("cycles", "builds")
        )
        saved = f"{100 * (1 - builds / usual['builds']):.0f} %"
        table.append([title, f"{cycles:.2f}", f"{builds:.2f}", saved, "", "", ""])
    return table


def words(name: str, records: list[dict[str, Any]]) -> str:
    """Sentences below the table of one set."""
    worse = sum(r["model"]["builds"] > r["minao"]["builds"] for r in records)
    failed = {s: sum(not r[s]["converged"] for r in records) for s in (*STARTS, "refine")}
    replaced = sum(r["refine"]["replaced"] for r in records)
    error = np.array([r["network_error"] for r in records])
    return (
        f"{name}: {len(records)} molecules of {min(r['natm'] for r in records)} to "
        f"{max(r['natm'] for r in records)} atoms. The model's start needs more builds than "
        f"minao's for {worse} of them; not converged: {failed}. Largest difference of the four "
        f"energies {max(r['spread'] for r in records):.1e} Eh. Energy of the network's density "
        f"above the converged one, mEh: median {1e3 * np.median(error):.3f}, largest "
        f"{1e3 * error.max():.3f}. refine took the standard start for {replaced}."
    )


def describe(result: dict[str, Any], given: argparse.Namespace) -> str:
    """The result for people."""
    headers = ("start", "cycles", "Fock builds", "saved", "CPU s", "saved", "wall s")
    source = "chains" if given.data is None else given.data.name
    head = (
        f"{source}; {given.xc}/{BASIS}, grid level {given.grid_level}, fitted; trained on "
        f"{given.train} frames; SCF to a gradient of {given.tol:g}."
    )
    parts = [head]
    for name, records in result["sets"].items():
        parts += [common.table(headers, rows(records)), words(name, records)]
    if "seconds" in result["training"]:
        parts.append(
            "Training: {builds:.1f} builds a frame, {seconds:.0f} s.".format(**result["training"])
        )
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print."""
    given = parse()
    sets = molecules_of(given)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a guess for another problem
        training = fit(Path(folder), given, sets.pop("train"))
        model = dz.load(training["run"])
        found: dict[str, list[dict[str, Any]]] = {}
        for name, molecules in sets.items():
            found[name] = []
            for k, molecule in enumerate(molecules):
                found[name].append(compare(molecule, model, given))
                common.progress(f"{name} {k + 1} of {len(molecules)}")
    training["run"] = str(training["run"])
    result = {"machine": common.machine(given.threads), "training": training, "sets": found}
    common.report(result, describe(result, given), as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
