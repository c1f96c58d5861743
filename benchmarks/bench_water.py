"""Label-free training on distorted water: errors, certificates and SCF cycles saved, unseen frames.

    python benchmarks/bench_water.py                                       # 100 + 100 frames
    python benchmarks/bench_water.py --train 200 --max-time 20m --json
    python benchmarks/bench_water.py --data water_monomers_1k.xyz

Frames are thermal vibrations made here, or those of --data, such as the 1000 monomers of the SALTED
examples. The first 92 of these are one geometry in different orientations, so the split is a seeded
random permutation of all frames; test frames whose interatomic distances equal those of a training
frame are reported apart. `fit` and `predict` are the real commands. The reference is PySCF's SCF of
the same discretised problem: Fock matrices and energies from conv_tol_grad 1e-8, cycles counted
from minao to conv_tol_grad = tol, as --refine (without PySCF's extra cycle at the end), the same
criteria as `predict --refine tol`.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import h5py
import numpy as np
import structures

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule

BASIS = "def2-svp"
SAME_GEOMETRY = 1e-3
"""Largest difference of sorted interatomic distances between rotated copies, bohr."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form trains on ten frames for a few epochs."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--train", type=int, default=100, help="training frames (default 100)")
    parser.add_argument("--test", type=int, default=100, help="test frames (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the training")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--grid-level", type=int, default=3, help="PySCF's (default 3)")
    parser.add_argument("--refine", type=float, default=1e-5, help="conv_tol_grad (default 1e-5)")
    parser.add_argument("--epochs", type=int, help="passes over the training frames")
    parser.add_argument("--max-time", help="limit of the training, such as 20m")
    options = common.parse(parser)
    if options.smoke:
        options.train = options.test = 10
        options.grid_level, options.epochs = 0, 2
    return options


def distances(molecule: Molecule) -> np.ndarray:
    """Sorted interatomic distances, bohr."""
    pairs = np.linalg.norm(molecule.coords[:, None] - molecule.coords[None], axis=-1)
    return np.sort(pairs[np.triu_indices(len(pairs), k=1)])


def seen(test: list[Molecule], train: list[Molecule]) -> np.ndarray:
    """Which test frames are rotated copies of a training frame."""
    known = np.stack([distances(m) for m in train])
    gaps = [np.abs(known - distances(m)).max(-1).min() for m in test]
    return np.array(gaps) < SAME_GEOMETRY


@dataclasses.dataclass(frozen=True)
class Reference:
    """PySCF's answer for one frame.

    Attributes:
        energy: Converged to a gradient of 1e-8, Eh.
        fock: Fock matrix of the converged density, Eh.
        cycles: From minao to the tolerance of the refinement.
        fock_builds: The same with the build at the start.
        seconds: For those cycles, grid and integrals included.
    """

    energy: float
    fock: np.ndarray
    cycles: int
    fock_builds: int
    seconds: float


def reference(molecule: Molecule, options: argparse.Namespace) -> Reference:
    """Solve one frame with PySCF.

    Args:
        molecule: The frame.
        options: xc, grid_level and refine.

    Returns:
        Energy and Fock matrix, and what it took from minao.

    Raises:
        ComputationError: If it does not converge.
    """
    started = time.perf_counter()
    mol = build_mole(molecule, basis=BASIS)
    mf = common.mean_field(mol, options.xc, grid_level=options.grid_level)
    mf.conv_tol, mf.conv_tol_grad = options.refine, options.refine  # as --refine ends
    mf.conv_check = False  # a cycle after convergence that nobody needs
    builds = []
    veff = mf.get_veff
    mf.get_veff = lambda *args, **kwargs: (builds.append(1), veff(*args, **kwargs))[1]
    mf.kernel()
    seconds, cycles, spent, done = (
        time.perf_counter() - started,
        mf.cycles,
        len(builds),
        mf.converged,
    )
    mf.conv_tol, mf.conv_tol_grad = 1e-11, 1e-8
    mf.kernel(dm0=mf.make_rdm1())
    if not (done and mf.converged):
        raise ComputationError(f"expected PySCF to converge, it did not for frame {molecule.frame}")
    return Reference(mf.e_tot, mf.get_fock(), cycles, spent, seconds)


def train(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Run ``deeph-zero fit`` on the training frames; its summary and seconds."""
    words: list[object] = ["fit", folder / "train.xyz", "-o", folder / "run", "--basis", BASIS]
    words += ["--xc", options.xc, "--grid-level", options.grid_level, "--seed", options.seed]
    words += ["--threads", options.threads]
    for name in ("epochs", "max_time"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    return common.command(*words)


def predict(folder: Path, name: str, threads: int, *flags: object) -> dict[str, Any]:
    """Run ``deeph-zero predict`` on the test frames.

    Args:
        folder: Where the run and the frames are.
        name: Of the output.
        threads: CPU threads.
        *flags: More options.

    Returns:
        Its summary.

    Raises:
        ComputationError: If a frame failed.
    """
    summary, _ = common.command(
        "predict", folder / "run", folder / "test.xyz", "-o", folder / f"{name}.h5",
        "--threads", threads, *flags,
    )  # fmt: skip
    if summary["failed"]:
        raise ComputationError(f"expected every frame to be predicted, failed: {summary['failed']}")
    return summary


def matrix_errors(folder: Path, references: list[Reference]) -> list[dict[str, Any]]:
    """Mean absolute errors of H and of the rebuilt Fock matrix of each test frame, Eh."""
    records = []
    with h5py.File(folder / "prediction.h5") as file:
        for key, want in zip(sorted(file), references, strict=True):
            h, rebuilt = (np.asarray(file[f"{key}/{name}"]) for name in ("fock", "fock_rebuilt"))
            records.append(
                {
                    "h_mae": float(np.abs(h - want.fock).mean()),
                    "rebuilt_mae": float(np.abs(rebuilt - want.fock).mean()),
                }
            )
    return records


def spread(values: np.ndarray) -> dict[str, float]:
    """Mean, median and largest magnitude."""
    size = np.abs(values)
    return {"mean": size.mean(), "median": float(np.median(size)), "max": size.max()}


def statistics(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers over frames, Eh; the ratio is estimate / true error of the energy."""
    column = {key: np.array([f[key] for f in frames]) for key in frames[0]}
    ratio = column["estimate"] / column["energy_error"]
    return {
        "n": len(frames),
        "h_mae": column["h_mae"].mean(),
        "rebuilt_mae": column["rebuilt_mae"].mean(),
        "energy": spread(column["energy_error"]),
        "energy_with_estimate": spread(column["energy_error"] - column["estimate"]),
        "ratio": dict(
            zip(("5%", "median", "95%"), np.quantile(ratio, [0.05, 0.5, 0.95]), strict=True)
        ),
        "within_factor_2": float(((ratio > 0.5) & (ratio < 2)).mean()),
        "builds": column["builds"].mean(),
        "cycles": column["cycles"].mean(),
        "pyscf_builds": column["pyscf_builds"].mean(),
        "pyscf_cycles": column["pyscf_cycles"].mean(),
        "builds_saved": 1 - column["builds"].sum() / column["pyscf_builds"].sum(),
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train, predict, solve with PySCF, compare."""
    chosen = structures.split(options, options.train, options.test, seed=options.seed)
    training, test = (
        structures.write_frames(folder / f"{name}.xyz", part)
        for name, part in zip(("train", "test"), chosen, strict=True)
    )
    common.progress("training")
    fitted, fit_seconds = train(folder, options)
    common.progress("prediction")
    bare = predict(folder, "bare", options.threads, "--no-certificate")
    certified = predict(folder, "prediction", options.threads)
    refined = predict(
        folder, "refined", options.threads, "--no-certificate", "--refine", options.refine
    )
    common.progress("references")
    references = [reference(molecule, options) for molecule in test]
    frames = matrix_errors(folder, references)
    start = bare["fock_builds"] / len(test)  # of the network's inputs: F0
    parts = zip(
        frames,
        certified["structures"],
        refined["structures"],
        references,
        seen(test, training),
        strict=True,
    )
    for frame, entry, done, want, copy in parts:
        frame |= {
            "energy_error": entry["energy"] - want.energy,
            "estimate": entry["energy_error_estimate"],
            "refined_error": done["refined_energy"] - want.energy,
            "builds": start + done["refine_fock_builds"],
            "cycles": done["refine_fock_builds"] - 1,
            "pyscf_builds": want.fock_builds,
            "pyscf_cycles": want.cycles,
            "seen": bool(copy),
        }
    unseen = [frame for frame in frames if not frame["seen"]]
    return {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "all": statistics(frames),
        "unseen": statistics(unseen) if unseen else None,
        "n_seen": len(frames) - len(unseen),
        "refined_converged": refined["converged"],
        "refined_difference": max(abs(frame["refined_error"]) for frame in frames),
        "training_fock_builds": fitted["fock_builds"] / options.train,
        "training_converged": fitted["converged"],
        "stopped_by": fitted["stopped_by"],
        "fit_seconds": fit_seconds,
        "seconds_per_frame": {
            "F0 and network": bare["wall_time_s"] / options.test,
            "with certificate": certified["wall_time_s"] / options.test,
            "refined": refined["wall_time_s"] / options.test,
            "pyscf": float(np.mean([r.seconds for r in references])),
        },
        "frames": frames,
    }


def tabulate(result: dict[str, Any]) -> str:
    """Quantities down, all test frames and the unseen geometries among them across."""

    def size(key: str) -> list[str]:
        return [
            " / ".join(f"{1e6 * c[key][k]:.3g}" for k in ("mean", "median", "max")) for c in columns
        ]

    columns = [c for c in (result["all"], result["unseen"]) if c]
    rows = [
        ["H MAE, µEh", *(f"{1e6 * c['h_mae']:.2f}" for c in columns)],
        ["rebuilt H̃ MAE, µEh", *(f"{1e6 * c['rebuilt_mae']:.2f}" for c in columns)],
        ["energy error, µEh (mean / median / max)", *size("energy")],
        ["energy error minus estimate, µEh (same)", *size("energy_with_estimate")],
        [
            "estimate / true error (5 % / median / 95 %)",
            *(" / ".join(f"{x:.3f}" for x in c["ratio"].values()) for c in columns),
        ],
        ["estimate within a factor 2", *(f"{100 * c['within_factor_2']:.0f} %" for c in columns)],
        ["SCF cycles from the prediction", *(f"{c['cycles']:.2f}" for c in columns)],
        ["SCF cycles of PySCF from minao", *(f"{c['pyscf_cycles']:.2f}" for c in columns)],
        ["Fock builds to converge, F0 counted", *(f"{c['builds']:.2f}" for c in columns)],
        ["Fock builds of PySCF from minao", *(f"{c['pyscf_builds']:.2f}" for c in columns)],
        ["Fock builds saved", *(f"{100 * c['builds_saved']:.0f} %" for c in columns)],
    ]
    heads = ("all", "unseen geometries")[: len(columns)]
    headers = ("", *(f"{name} ({c['n']})" for name, c in zip(heads, columns, strict=True)))
    return common.table(headers, rows)


def describe(result: dict[str, Any], options: argparse.Namespace) -> str:
    """The result for people."""
    end = "converged" if result["training_converged"] else "not all converged"
    if result["stopped_by"]:
        end += f", stopped by {result['stopped_by']}"
    times = ", ".join(f"{k} {v:.2f} s" for k, v in result["seconds_per_frame"].items())
    missed = "" if result["refined_converged"] else " (NOT ALL CONVERGED)"
    return (
        f"{structures.source(options)}, {options.xc}/{BASIS}, "
        f"grid level {options.grid_level}, fitted; "
        f"{options.train} training and {options.test} test frames, seeded permutation of all "
        f"(seed {options.seed}); {result['n_seen']} test frames are rotated copies of training "
        f"frames; SCF to a gradient of {options.refine:g}{missed}.\n\n"
        f"{tabulate(result)}\n\n"
        f"Training: {result['training_fock_builds']:.2f} Fock builds per geometry, "
        f"{result['fit_seconds']:.0f} s, {end}.\n"
        f"Per test frame, imports left out: {times}.\n"
        "Largest difference of a refined energy from PySCF's: "
        f"{1e6 * result['refined_difference']:.1e} µEh."
    )


def main() -> None:
    """Measure and print."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options)
    result = {"machine": common.machine(options.threads), **result}
    common.report(result, describe(result, options), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
