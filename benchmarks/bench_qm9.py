"""One label-free model of many unlike molecules: small ones train, larger ones test.

    python benchmarks/bench_qm9.py                      # ASE's G2: up to three heavy atoms train
    python benchmarks/bench_qm9.py --data qm9.npz --folder runs/qm9          # 200 + 60 molecules
    python benchmarks/bench_qm9.py --data qm9.npz --train 60 --test 20 --epochs 30

The data are arrays ``z``, ``R`` (angstrom) and ``offsets`` (molecule k is offsets[k]:offsets[k+1])
of neutral closed-shell molecules. Those with up to six heavy atoms train, those with seven and
eight test: the first ones of a seeded permutation of either group. Without --data they are those of
ASE's G2 made of H, C, N, O and F: up to three heavy atoms train, four to six test. `fit` and
`evaluate` are the real commands; the reference is this package's own converged SCF of the same
discretised problem, and SCF builds are counted from minao and from the prediction, F₀ included.
With ``--folder`` the run stays: a training that `--max-time` ended goes on when the script is
started again. There ``unseen.xyz`` holds small molecules that were not used.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import common
import numpy as np
import structures

from deeph_zero.errors import InputError

SMALL = ("H2O", "NH3", "CH4", "HCN", "CO", "N2", "H2CO", "C2H2", "HF", "LiH")
LARGE = ("CH3OH", "CH3CN")
"""Names of ``ase.build.molecule`` for the short form."""
TRAIN_HEAVY = 6
MADE_HEAVY = 3
"""The same without a file."""
TEST_HEAVY = (7, 8)
UNSEEN = 200
"""Small molecules beside those of the training, for `bench_intervals.py`."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form takes fewer and smaller molecules."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, help="npz with z, R, offsets, in place of G2")
    parser.add_argument("--train", type=int, help="molecules (default 200; 40 of G2)")
    parser.add_argument("--test", type=int, help="molecules (default 60; 30 of G2)")
    parser.add_argument("--calibration", type=int, default=0, help="further small ones (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the training")
    parser.add_argument("--xc", default="b3lyp", help="functional (default b3lyp)")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    parser.add_argument("--inputs", default="physics", help="of the network (default physics)")
    parser.add_argument("--epochs", type=int, help="passes over the molecules")
    parser.add_argument("--max-time", help="limit of this piece of the training, such as 10m")
    parser.add_argument("--memory", type=float, help="for the molecules of the training, MB")
    parser.add_argument("--jk-dtype", default="float32", help="of `fit` (default float32)")
    parser.add_argument("--folder", type=Path, help="keep the run here, and go on with it")
    options = common.parse(parser)
    if options.smoke:
        options.basis, options.grid_level, options.epochs = "sto-3g", 0, 2
        options.train, options.test = len(SMALL), len(LARGE)
    made = options.data is None
    options.train = options.train or (40 if made else 200)
    options.test = options.test or (30 if made else 60)
    return options


def molecules(options: argparse.Namespace) -> dict[str, list[ase.Atoms]]:
    """Training and test molecules.

    Args:
        options: data, train, test, calibration, seed and smoke.

    Returns:
        Small ones to train on ("train"), larger ones ("test"), further small ones ("unseen").

    Raises:
        InputError: If there are too few of them.
    """
    if options.smoke:
        groups = {"train": SMALL, "test": LARGE}
        return {name: [ase.build.molecule(m) for m in found] for name, found in groups.items()}
    if options.data is None:
        found = structures.small_organic()
        sizes = (range(MADE_HEAVY + 1), range(MADE_HEAVY + 1, TRAIN_HEAVY + 1))
    else:
        found = read_arrays(options.data)
        sizes = (range(TRAIN_HEAVY + 1), TEST_HEAVY)
    heavy = [int((atoms.numbers > 1).sum()) for atoms in found]
    rng = np.random.default_rng(options.seed)
    n_small = options.train + options.calibration
    small, large = (rng.permutation(np.flatnonzero(np.isin(heavy, list(size)))) for size in sizes)
    for kind, those, count in (("small", small, n_small), ("larger", large, options.test)):
        if len(those) < count:
            raise InputError(
                f"expected {count} {kind} molecules or more, got {len(those)}; ask for fewer "
                "(--train, --calibration, --test) or give a larger file (--data)"
            )
    chosen = {
        "train": small[:n_small],
        "test": large[: options.test],
        "unseen": small[n_small : n_small + UNSEEN],
    }
    return {name: [found[k] for k in those] for name, those in chosen.items()}


def read_arrays(path: Path) -> list[ase.Atoms]:
    """All molecules of an npz file."""
    with np.load(path, allow_pickle=False) as file:
        z, r, offsets = file["z"], file["R"], file["offsets"]
    pairs = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return [ase.Atoms(z[a:b], r[a:b]) for a, b in pairs]


def fit(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run ``deeph-zero fit``, or go on with it; its summary with seconds and peak memory."""
    words: list[object] = ["fit", folder / "train.xyz", "-o", folder / "run"]
    words += ["--resume"] if (folder / "run").exists() else []
    words += ["--basis", options.basis, "--xc", options.xc, "--grid-level", options.grid_level]
    words += ["--inputs", options.inputs]
    words += ["--seed", options.seed, "--threads", options.threads]
    words += ["--jk-dtype", options.jk_dtype, "--calibration", options.calibration]
    for name in ("epochs", "max_time", "memory"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    summary, seconds = common.command(*words)
    return {"summary": summary, "seconds": seconds, "peak_mb": _children_mb()}


def _children_mb() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def evaluate(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run ``deeph-zero evaluate`` on the test molecules, or read what it wrote before."""
    out = folder / "evaluation.json"
    if not out.exists():
        words = ["evaluate", folder / "run", folder / "test.xyz", "-o", out]
        common.command(*words, "--threads", options.threads)
    return json.loads(out.read_text())


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, atoms in molecules(options).items():
        if atoms and not (folder / f"{name}.xyz").exists():
            ase.io.write(folder / f"{name}.xyz", atoms, format="extxyz")
    common.progress("training")
    started = time.perf_counter()
    fitted = fit(folder, options)
    summary = fitted["summary"]
    result = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "fit": {
            "seconds": fitted["seconds"],
            "peak_mb": fitted["peak_mb"],
            "stopped_by": summary["stopped_by"],
            "builds_per_molecule": summary["fock_builds"] / (options.train + options.calibration),
            "skipped_steps": summary["skipped_steps"],
            "failed": summary["failed"],
        },
    }
    if summary["stopped_by"] == "max_time":
        return result
    common.progress("evaluation")
    evaluation = evaluate(folder, options)
    return result | {
        "seconds": time.perf_counter() - started,
        "n_test": len(evaluation["structures"]),
        "test_failed": evaluation["failed"],
        "errors": evaluation["errors"],
        "scf_per_molecule": [row["scf"]["saved"] for row in evaluation["structures"]],
    }


def tabulate(result: dict[str, Any]) -> str:
    """H and H̃ over the test molecules, H by element and kind of orbital, and the SCF builds."""
    errors = result["errors"]
    fock, rebuilt, scf = errors["fock"], errors["rebuilt"], errors["scf"]
    rows = [
        _row("mean \\|H - F\\|, µEh", fock["mae"]),
        _row("mean \\|H̃ - F\\|, µEh", rebuilt["mae"]),
        *(_row(f"H, {name}, µEh", fock["blocks"][name]) for name in fock["blocks"]),
        *(_row(f"H̃, {name}, µEh", rebuilt["blocks"][name]) for name in rebuilt["blocks"]),
        *(_row(f"H, {name}, µEh", fock["elements"][name]) for name in sorted(fock["elements"])),
        *(_row(f"H, {name} orbitals, µEh", fock["shells"][name]) for name in fock["shells"]),
        _row("HOMO from H̃, µEh", rebuilt["homo_mae"]),
        _row("LUMO from H̃, µEh", rebuilt["lumo_mae"]),
        _row("energy of the predicted density, µEh", errors["energy_error"]),
    ]
    n = result["n_test"]
    saved = np.quantile(result["scf_per_molecule"], [0, 0.5, 1])
    return (
        f"{common.table(('', 'mean', 'largest'), rows)}\n\n"
        f"SCF Fock builds per molecule: {scf['builds_minao'] / n:.2f} from minao, "
        f"{scf['builds_model'] / n:.2f} from the prediction with F₀ counted: "
        f"{100 * scf['saved']:.0f} % saved (smallest, median, largest of a molecule "
        f"{', '.join(f'{100 * s:.0f} %' for s in saved)})."
    )


def _row(name: str, entry: dict[str, float | None]) -> list[str]:
    numbers = (entry[key] for key in ("mean", "max"))
    return [name, *("–" if x is None else f"{1e6 * x:.1f}" for x in numbers)]


def describe(result: dict[str, Any], options: argparse.Namespace) -> str:
    """The result for people."""
    fitted = result["fit"]
    told = (
        f"{options.train} training and {options.test} test molecules, {options.xc}/{options.basis},"
        f" grid level {options.grid_level}, fitted, seed {options.seed}. Training: "
        f"{fitted['seconds']:.0f} s (this piece), {fitted['builds_per_molecule']:.2f} Fock builds "
        f"per molecule with its certificate, peak memory {fitted['peak_mb']:.0f} MB, "
        f"{fitted['skipped_steps']} steps skipped, stopped by {fitted['stopped_by']}."
    )
    if "errors" not in result:
        return f"{told}\nStart again with the same --folder to go on."
    lost = [*fitted["failed"], *result["test_failed"]]
    return f"{told} Failed: {len(lost)}.\n\n{tabulate(result)}"


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(Path(folder), options)
    else:
        result = measure(options.folder, options)
    result = {"machine": common.machine(options.threads), **result}
    common.report(result, describe(result, options), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
