"""Ten thousand small frames in one command, one of them corrupt, interrupted and killed on the way.

    python benchmarks/bench_frames.py --threads 1                 # 10,000 hydrogen molecules
    python benchmarks/bench_frames.py --frames 2000 --undisturbed # and compare with one plain run

A model of H2 (PBE/STO-3G, grid level 0) is trained; `deeph-zero predict` gets frames with random
bonds, of which the one in the middle lacks a coordinate. It is sent SIGINT when a quarter is done,
goes on with --resume, is killed (SIGKILL) when half is done, and goes on with --resume to the end.
Then every frame has to be there once, in order, and the corrupt one named. Wall and CPU seconds and
the peak of resident memory are the process's own, imports included.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import h5py
import numpy as np

from deeph_zero.errors import ComputationError
from deeph_zero.host.files import journal_beside
from deeph_zero.jobs import journal

METHOD = ("--basis", "sto-3g", "--auxbasis", "weigend", "--grid-level", "0")


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--frames", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--workers", type=int, default=1, help="processes of predict (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the bonds")
    parser.add_argument("--undisturbed", action="store_true", help="compare with one plain run")
    given = common.parse(parser)
    if given.smoke:
        given.frames, given.undisturbed = 60, True
    return given


def write(path: Path, count: int, seed: int, *, corrupt: int | None = None) -> None:
    """Hydrogen molecules of random length and direction as extended XYZ."""
    rng = np.random.default_rng(seed)
    ends = rng.normal(size=(count, 3))
    ends *= ((0.75 + 0.08 * rng.normal(size=count)) / np.linalg.norm(ends, axis=1))[:, None]
    lines = []
    for k, (x, y, z) in enumerate(ends):
        last = "" if k == corrupt else f" {z:.8f}"
        lines.append(f"2\nspin=0\nH 0 0 0\nH {x:.8f} {y:.8f}{last}\n")
    path.write_text("".join(lines))


def record_size(path: Path) -> int | None:
    """Bytes of the first result in a journal, behind its head; None as long as there is none."""
    start = _whole(path, 0)
    return None if start is None else _whole(path, start)


def _whole(path: Path, start: int) -> int | None:
    """Bytes of the record that begins at ``start``."""
    fixed = journal._HEAD  # noqa: SLF001  (its layout is not an interface)
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(fixed.size)
    if len(data) < fixed.size:
        return None
    _, n_text, n_blob, _ = fixed.unpack(data)
    return fixed.size + n_text + n_blob


def run(words: list[object], out: Path, *, at: int | None = None, kill: int = 0) -> dict[str, Any]:
    """One command, and the signal it gets when it has some results.

    Args:
        words: Sub-command, arguments and options.
        out: Its HDF5 file.
        at: Results in the journal at which the signal comes; None leaves the command alone.
        kill: The signal.

    Returns:
        Exit code, wall and CPU seconds, peak memory in MB.
    """
    program = Path(sys.executable).with_name("deeph-zero")
    started, part = time.perf_counter(), journal_beside(out)
    process = subprocess.Popen(
        [str(program), *map(str, words), "-q"], stderr=subprocess.PIPE, text=True
    )
    while at is not None and process.poll() is None:
        size = record_size(part)
        if size is not None and part.stat().st_size > size * at:
            process.send_signal(kill)
            break
        time.sleep(0.02)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    return {
        "exit": process.returncode,
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
        "said": process.stderr.read().strip().splitlines()[-1:],
    }


def content(out: Path) -> dict[str, Any]:
    """Frames, energies and density matrices in the order of the file."""
    with h5py.File(out) as file:
        groups = [file[name] for name in sorted(file, key=int)]
        return {
            "frames": [int(group.attrs["frame"]) for group in groups],
            "energies": [float(group.attrs["energy"]) for group in groups],
            "densities": [group["density"][()].tobytes() for group in groups],
        }


def check(out: Path, given: argparse.Namespace, stages: dict[str, Any]) -> None:
    """Complete, in order, the corrupt frame named, exit codes as documented.

    Args:
        out: The finished file.
        given: frames.
        stages: What the commands returned.

    Raises:
        ComputationError: If something is not so.
    """
    corrupt = given.frames // 2
    wanted = [k for k in range(given.frames) if k != corrupt]
    summary = json.loads(out.with_suffix(".json").read_text())
    found = {
        "frames in the file": content(out)["frames"] == wanted,
        "frames in the summary": [e["frame"] for e in summary["structures"]] == wanted,
        "the corrupt frame": [e["frame"] for e in summary["failed"]] == [corrupt],
        "no journal": not journal_beside(out).exists(),
        "exit codes": [s["exit"] for s in stages.values()] == [130, -signal.SIGKILL, 1],
        "the last line": f"frame {corrupt}" in "".join(stages["--resume to the end"]["said"]),
    }
    wrong = [name for name, right in found.items() if not right]
    if wrong:
        raise ComputationError(f"expected a complete, ordered result, wrong: {', '.join(wrong)}")


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train, predict with both interruptions, check."""
    frames, out = folder / "frames.xyz", folder / "out.h5"
    write(folder / "train.xyz", 20, given.seed + 1)
    write(frames, given.frames, given.seed, corrupt=given.frames // 2)
    common.progress("training")
    common.command(
        "fit", folder / "train.xyz", "-o", folder / "run", *METHOD, "--epochs", 30, "--tol", 0.1,
        "--threads", given.threads,
    )  # fmt: skip
    words: list[object] = ["predict", folder / "run", frames, "-o", out]
    words += ["--threads", given.threads, "--workers", given.workers]
    stages = {}
    common.progress("until Ctrl-C")
    quarter, half = given.frames // 4, given.frames // 2
    stages["until Ctrl-C at a quarter"] = run(words, out, at=quarter, kill=signal.SIGINT)
    kept = json.loads(out.with_suffix(".json").read_text())
    common.progress(f"{kept['n_structures']} done; until SIGKILL")
    stages["--resume until SIGKILL at half"] = run(
        [*words, "--resume"], out, at=half, kill=signal.SIGKILL
    )
    common.progress("to the end")
    stages["--resume to the end"] = run([*words, "--resume"], out)
    check(out, given, stages)
    result = {"stages": stages, "kept_after_interrupt": kept["n_structures"]}
    result["file_mb"] = out.stat().st_size / 1e6
    if given.undisturbed:
        common.progress("undisturbed")
        plain = folder / "plain.h5"
        words[words.index(out)] = plain
        stages["undisturbed"] = run(words, plain)
        result["same"] = content(out) == content(plain)
        if not result["same"]:
            raise ComputationError("expected the results of an undisturbed run, got others")
    return result


def describe(result: dict[str, Any], given: argparse.Namespace) -> str:
    """The result for people."""
    rows = [
        [name, str(r["exit"]), f"{r['wall']:.0f}", f"{r['cpu']:.0f}", f"{r['memory']:.0f}"]
        for name, r in result["stages"].items()
    ]
    same = {True: ", bitwise those of an undisturbed run", None: ""}[result.get("same")]
    return (
        f"{given.frames} frames of H2, PBE/STO-3G, grid level 0, {given.workers} process"
        f"{'es' if given.workers > 1 else ''}; frame {given.frames // 2} is corrupt.\n\n"
        + common.table(("stage", "exit code", "wall s", "CPU s", "peak MB"), rows)
        + f"\n\nAll {given.frames - 1} readable frames are there once, in order{same}; the corrupt "
        f"one is named. {result['kept_after_interrupt']} were in the files after Ctrl-C; the "
        f"result is {result['file_mb']:.0f} MB."
    )


def main() -> None:
    """Measure and print."""
    given = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given)
    result = {"machine": common.machine(given.threads), **result}
    common.report(result, describe(result, given), as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
