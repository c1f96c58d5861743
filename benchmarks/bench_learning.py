"""Label-free training against supervised training on exact labels, and variants, on unseen frames.

    python benchmarks/bench_learning.py                     # vibrations of water, 128 + 100
    python benchmarks/bench_learning.py --data water.xyz --train 500 --test 500 --seed 1
    python benchmarks/bench_learning.py --data water.xyz --cases geometry,float64 --work runs/
    python benchmarks/bench_learning.py --show learning.jsonl

`label`, `train` and `evaluate` are the real commands: the same network, epochs, seed and frames in
every case, nothing set that `fit` does not set by itself, but no frames kept out for calibration.
Training frames are labelled only where a case needs their labels.
Training and test frames are the first ones of a seeded permutation of all; --samples replaces them
by vibrations of the first frame. Labels are this package's SCF. --work keeps labels and runs, so
that a run cut by --max-time goes on when the same command is given again. Each finished case is
appended to --records, one JSON object per line, and --show makes the table of such files.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures

from deeph_zero.errors import ComputationError
from deeph_zero.host.files import write_text
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config_file import RunSettings, to_toml

SUPERVISED = "training.loss=supervised"
CASES: dict[str, tuple[str, ...]] = {
    "label-free": (),
    "supervised": (SUPERVISED,),
    "full-budget": ("training.budget=full",),
    "no-average": ("training.ema=0",),
    "float64": ("model.dtype=float64",),
    "geometry": ("model.inputs=geometry",),
    "geometry-supervised": ("model.inputs=geometry", SUPERVISED),
    "energy": ("training.loss=energy",),
    "commutator": ("training.loss=commutator",),
    "self-consistency": ("training.loss=self-consistency",),
    "finish": ("training.loss=fixed-point@0-0.8,self-consistency@0.8",),
    "energy-finish": ("training.loss=fixed-point@0-0.8,energy@0.8",),
    "medium": ("model.size=medium",),
    "large": ("model.size=large",),
}
"""What each case sets, beyond the defaults of ``fit``."""

SPLIT_SEED = 0


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form trains on ten frames for two epochs."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--samples", type=int, help="vibrations of the first frame of --data")
    parser.add_argument("--temperature", type=float, default=600.0, help="of them, K (default 600)")
    parser.add_argument("--train", type=int, default=128, help="training frames (default 128)")
    parser.add_argument("--test", type=int, default=100, help="test frames (default 100)")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    parser.add_argument("--epochs", type=int, help="of each training (default: the engine's)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default 0)")
    parser.add_argument("--cases", default="label-free,supervised", help=", ".join(CASES))
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="in every case"
    )
    parser.add_argument("--work", type=Path, help="folder for labels and runs (default: temporary)")
    parser.add_argument("--max-time", help="limit of each training in this call, such as 10m")
    parser.add_argument("--records", type=Path, help="JSON-lines file that results are added to")
    parser.add_argument("--show", type=Path, nargs="+", help="only print the table of such files")
    options = common.parse(parser)
    if options.smoke:
        options.train, options.test, options.epochs = 10, 3, 2
        options.basis, options.grid_level = "sto-3g", 0
    unknown = set(options.cases.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--cases: expected names out of {', '.join(CASES)}, got {unknown.pop()}")
    if options.data is None and options.samples is None:
        options.samples = options.train + options.test
    return options


def frames(options: argparse.Namespace) -> tuple[list[Molecule], list[Molecule]]:
    """Training and test geometries.

    Args:
        options: data, molecule, samples, temperature, train and test.

    Returns:
        Both lists.

    Raises:
        InputError: If there are too few.
    """
    if options.data is None:
        found = [structures.named(options.molecule)]
    else:
        found = structures.read_molecules(options.data)
    if options.samples is not None:
        found = structures.vibrations(found[0], options.samples, SPLIT_SEED, options.temperature)
    return structures.divide(found, options.train, options.test, seed=SPLIT_SEED)


def labels(options: argparse.Namespace, work: Path, part: str) -> dict[str, Any]:
    """Converge the frames of a part, once per work folder; returns the summary of ``label``."""
    summary = work / f"{part}.json"
    if not summary.exists():
        common.progress(f"labels, {part}")
        done, seconds = common.command(
            "label", work / f"{part}.xyz", "-o", work / f"{part}.h5", "--overwrite",
            "--conv-tol", 1e-11, "--xc", options.xc, "--basis", options.basis,
            "--grid-level", options.grid_level, "--threads", options.threads,
        )  # fmt: skip
        if done["failed"]:
            raise ComputationError(f"expected a label of every frame, got {done['failed'][0]}")
        kept = {"seconds": seconds, "fock_builds": done["fock_builds"]}
        summary.write_text(json.dumps(kept))
    return json.loads(summary.read_text())


def settings(options: argparse.Namespace, case: str, work: Path) -> RunSettings:
    """The settings file of a case."""
    values: dict[str, dict[str, Any]] = {
        "method": {"xc": options.xc, "basis": options.basis, "grid_level": options.grid_level},
        "data": {"train": (str(work / "train.xyz"),)},
        "training": {"calibration": 0},
        "model": {},
        "runtime": {"seed": options.seed, "threads": options.threads},
    }
    if options.epochs is not None:
        values["training"]["epochs"] = options.epochs
    for assignment in (*CASES[case], *options.set):
        name, _, value = assignment.partition("=")
        section, _, key = name.partition(".")
        values.setdefault(section, {})[key] = value
    if "supervised" in values["training"].get("loss", ""):
        values["data"]["labels"] = (str(work / "train.h5"),)
    return RunSettings.parse(json.loads(json.dumps(values)), named=".".join)


def train(options: argparse.Namespace, case: str, work: Path) -> tuple[Path, dict[str, Any], float]:
    """Run ``train``, or go on with it.

    Args:
        options: seed, set and max_time.
        case: Which settings.
        work: Folder with the frames and labels.

    Returns:
        The run folder, its summary, and the training steps' wall time over all calls, seconds.
    """
    changes = "".join(f"_{word.replace('/', '-')}" for word in options.set)
    run = work / f"{case}_{options.seed}_{options.epochs}{changes}"
    config = work / f"{run.name}.toml"
    write_text(config, to_toml(settings(options, case, work)))
    limit = () if options.max_time is None else ("--max-time", options.max_time)
    go_on = ("--resume",) if run.exists() else ()
    summary, _ = common.command("train", config, "-o", run, *limit, *go_on)
    last = (run / "metrics.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    summary["training_builds"] = float(row["fock_builds"])
    return run, summary, float(row["seconds"])


def errors(run: Path, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Mean absolute errors of a model on the test frames, Eh, from ``evaluate``."""
    found, _ = common.command(
        "evaluate", run, work / "test.h5", "--no-scf", "-o", run / "evaluation.json",
        "--overwrite", "--threads", options.threads,
    )  # fmt: skip
    mean = {name: found["errors"][name] for name in ("fock", "rebuilt")}
    rows = found["structures"]
    after = [r["energy_error"] - r["energy_error_estimate"] for r in rows]
    return {
        "n_test": len(rows),
        "h_mae": mean["fock"]["mae"]["mean"],
        "rebuilt_mae": mean["rebuilt"]["mae"]["mean"],
        "rebuilt_median": float(np.median([r["rebuilt"]["mae"] for r in rows])),
        "energy_error": found["errors"]["energy_error"]["mean"],
        "energy_error_after": float(np.abs(after).mean()),
        "homo_mae": mean["rebuilt"]["homo_mae"]["mean"],
        "lumo_mae": mean["rebuilt"]["lumo_mae"]["mean"],
        "homo_mae_h": mean["fock"]["homo_mae"]["mean"],
        "lumo_mae_h": mean["fock"]["lumo_mae"]["mean"],
    }


def measure(options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Every case that comes to its end."""
    names = ("train", "test")
    if not all((work / f"{name}.xyz").exists() for name in names):
        for name, part in zip(names, frames(options), strict=True):
            structures.write_frames(work / f"{name}.xyz", part)
    needed = names if "supervised" in options.cases else ("test",)
    labelled = {name: labels(options, work, name) for name in needed}
    given = ("train", "test", "xc", "basis", "grid_level", "seed", "samples", "temperature", "set")
    records = []
    for case in options.cases.split(","):
        common.progress(f"{case}, seed {options.seed}")
        run, summary, seconds = train(options, case, work)
        if summary["stopped_by"] == "max_time":
            common.progress("not finished: give the same command again to go on")
            continue
        builds = summary["training_builds"]
        if "supervised" in case:
            # the label's first build and F₀ are the same one
            builds = labelled["train"]["fock_builds"]
        record = {
            "data": options.data.name if options.data else options.molecule,
            **{name: getattr(options, name) for name in given},
            "case": case,
            "epochs": summary["limits"]["epochs"],
            "stopped_by": summary["stopped_by"],
            "skipped_steps": summary["skipped_steps"],
            "builds": builds / options.train,
            "training_seconds": seconds,
            **errors(run, work, options),
            "machine": common.machine(options.threads),
        }
        records.append(record)
        if options.records is not None:
            with options.records.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
    return records


GROUP = ("data", "samples", "xc", "basis", "grid_level", "train", "test", "epochs")
"""What the cases of one table have in common."""


def row(r: dict[str, Any], group: list[dict[str, Any]]) -> list[str]:
    """A line of the table; the ratio is of rebuilt H̃, to the supervised run of the same seed."""
    other = "geometry-supervised" if r["case"] == "geometry" else "supervised"
    same = [s for s in group if (s["case"], s["seed"], s["set"]) == (other, r["seed"], r["set"])]
    ratio = f"{r['rebuilt_mae'] / same[-1]['rebuilt_mae']:.2f}" if same else ""
    micro = [
        f"{1e6 * r[k]:.3g}"
        for k in ("h_mae", "rebuilt_mae", "rebuilt_median", "energy_error",
                  "energy_error_after", "homo_mae", "lumo_mae")
    ]  # fmt: skip
    title = " ".join([r["case"], *r["set"]])
    seconds = f"{r['training_seconds']:.0f}"
    return [title, str(r["seed"]), f"{r['builds']:.1f}", *micro, ratio, seconds]


def tables(records: list[dict[str, Any]]) -> str:
    """One table per data set and method."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault(tuple(r[name] for name in GROUP), []).append(r)
    headers = ("training", "seed", "builds", "H", "H̃", "H̃, median", "energy", "after estimate",
               "HOMO", "LUMO", "H̃ / supervised", "training, s")  # fmt: skip
    parts = ["Mean absolute errors on unseen frames, µEh; HOMO and LUMO of the rebuilt matrix."]
    for key, group in groups.items():
        named = dict(zip(GROUP, key, strict=True))
        source = named["data"] + (" (vibrations)" if named["samples"] else "")
        parts.append(
            f"{source}, {named['xc']}/{named['basis']}, grid level {named['grid_level']}; "
            f"{named['train']} training and {named['test']} test frames, {named['epochs']} epochs"
        )
        parts.append(common.table(headers, [row(r, group) for r in group]))
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.show is not None:
        lines = [line for path in options.show for line in path.read_text().splitlines()]
        records = [json.loads(line) for line in lines]
    elif options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
        records = measure(options, options.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            records = measure(options, Path(folder))
    result = {"records": records, "machine": common.machine(options.threads)}
    common.report(result, tables(records), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
