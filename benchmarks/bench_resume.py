"""Kill -9 at random moments, resume, and compare the weights with an uninterrupted run.

    python benchmarks/bench_resume.py --threads 1                  # ten kills of one run
    python benchmarks/bench_resume.py --kills 20 --longest 8

`deeph-zero fit` of the distorted waters in the examples, at a fixed thread count. Each attempt is
killed after a time drawn evenly from --shortest to --longest seconds, set-up included, and resumed;
an attempt that ends by itself is not a kill. The last one runs to its end.
"""

import argparse
import csv
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import structures

from deeph_zero.errors import ComputationError

PATIENCE = 0.05
"""Seconds between looks at a running attempt."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form kills once, after the first step on record."""
    parser = common.options(__doc__)
    parser.add_argument("--data", type=Path, default=structures.EXAMPLES / "water_frames.xyz")
    parser.add_argument("--kills", type=int, default=10, help="default 10")
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds (default 2)")
    parser.add_argument("--longest", type=float, default=15.0, help="seconds (default 15)")
    parser.add_argument("--epochs", type=int, default=200, help="default 200")
    parser.add_argument("--basis", default="def2-svp", help="basis (default def2-svp)")
    parser.add_argument("--seed", type=int, default=0, help="of the training and the moments")
    options = common.parse(parser)
    if options.smoke:
        options.kills, options.epochs, options.basis = 1, 20, "sto-3g"
    return options


def command(options: argparse.Namespace, run: Path) -> list[str]:
    """The command line that is killed."""
    words = [
        "fit", options.data, "-o", run, "--basis", options.basis, "--grid-level", 1, "--quiet",
        "--epochs", options.epochs, "--threads", options.threads, "--seed", options.seed,
    ]  # fmt: skip
    return [str(Path(sys.executable).with_name("deeph-zero")), *map(str, words)]


def reached(run: Path) -> int:
    """Last step that is on record; 0 before the first epoch."""
    path = run / "metrics.csv"
    if not path.exists():
        return 0
    steps = [row["step"] for row in csv.DictReader(path.open())]
    return int(steps[-1]) if steps and steps[-1] else 0


def attempt(words: list[str], run: Path, over: Callable[[float], bool]) -> bool:
    """Start or resume; kill as soon as ``over`` (seconds). Returns whether it had to be killed."""
    begun = (run / "config.json").exists()
    process = subprocess.Popen([*words, *(["--resume"] if begun else [])], stderr=subprocess.PIPE)
    started = time.perf_counter()
    while True:
        try:
            _, said = process.communicate(timeout=PATIENCE)
            break
        except subprocess.TimeoutExpired:
            if over(time.perf_counter() - started):
                process.kill()
                process.communicate()
                return True
    # 1: not every geometry is as converged as asked, the run is complete
    if process.returncode not in (0, 1):
        raise ComputationError(f"expected a finished run, got: {said.decode().strip()}")
    return False


def digest(run: Path) -> str:
    """Fingerprint of the weights."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def end_of_attempt(
    options: argparse.Namespace, run: Path, dice: random.Random
) -> Callable[[float], bool]:
    """When to kill: after a time by chance; in the short form after the first step on record.

    No number of seconds suits every machine.
    """
    if options.smoke:
        return lambda _: reached(run) > 0
    moment = dice.uniform(options.shortest, options.longest)
    return lambda seconds: seconds >= moment


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run in one go, one with kills."""
    whole, broken = folder / "whole", folder / "broken"
    started = time.perf_counter()
    attempt(command(options, whole), whole, lambda _: False)
    seconds = time.perf_counter() - started
    dice = random.Random(options.seed)
    kills = []
    while len(kills) < options.kills:
        begun = time.perf_counter()
        if not attempt(command(options, broken), broken, end_of_attempt(options, broken, dice)):
            raise ComputationError(
                f"expected {options.kills} kills, got {len(kills)} before the run was complete; "
                "use more --epochs or a smaller --longest"
            )
        kills.append({"after_seconds": time.perf_counter() - begun, "step": reached(broken)})
        common.progress(
            f"killed after {kills[-1]['after_seconds']:.1f} s at step {kills[-1]['step']}"
        )
    attempt(command(options, broken), broken, lambda _: False)
    return {
        "seconds": seconds,
        "steps": reached(whole),
        "kills": kills,
        "same_weights": digest(whole) == digest(broken),
        "same_steps": reached(whole) == reached(broken),
    }


def main() -> None:
    """Measure and print; fails where the weights differ."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder)) | {"machine": common.machine(options.threads)}
    rows = [[f"{k['after_seconds']:.1f}", str(k["step"])] for k in result["kills"]]
    text = (
        f"{common.table(('killed after, s', 'last step on record'), rows)}\n\n"
        f"Uninterrupted: {result['steps']} steps in {result['seconds']:.0f} s. Weights after "
        f"{len(rows)} kills: {'bitwise the same' if result['same_weights'] else 'different'}."
    )
    common.report(result, text, as_json=options.json, smoke=options.smoke)
    if not (result["same_weights"] and result["same_steps"]):
        raise ComputationError(
            "expected the weights of the uninterrupted run, got others; the checkpoints are wrong"
        )


if __name__ == "__main__":
    common.run(main)
