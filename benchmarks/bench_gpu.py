"""Everything a first run on a CUDA card should show, in at most twelve minutes.

Stages have their own time limits, results are written as they come (JSON lines), and a stage that
fails or runs out of time does not end the others:

start       versions, card, free memory, `deeph-zero doctor`
values      builds and responses of every class of functional, SCF of a batch, gradients, against
            references carried in a file (or made on the processor now)
micro       what a launch costs; diagonalisation by torch, CuPy and purification; functionals as
            they are and as CUDA graphs
throughput  builds per second of batches of water, ethanol and uracil
others      gpu4pyscf one by one on the same molecules, where it is installed: builds and SCF
training    label-free uracil on the card, held-out frames against converged labels
profile     kernels that the card launched, against those counted on the pretended device

    python benchmarks/bench_gpu.py --write-references gpu.npz    # on any machine, beforehand
    python benchmarks/bench_gpu.py --references gpu.npz --out gpu.jsonl
    python benchmarks/bench_gpu.py --rehearse                    # without a card, no timing

``--rehearse`` goes through every stage on the pretended device of `tests/gpu`: the processor
computes, and every number of time is meaningless.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from gpu_stages import SMALL, STAGES, OutOfTimeError, Run, Sizes, profile, references

ROOT = Path(__file__).parents[1]
LIMITS = {"start": 40, "values": 80, "micro": 80, "throughput": 90, "others": 80}
LIMITS |= {"training": 240, "profile": 30}
"""Seconds of every stage, 640 in all, beside what each takes to load its libraries."""
LOADING = 40
"""Seconds for that, after which a stage that does not answer is killed."""
REHEARSED = 10.0
"""So much more time has a stage on the pretended device."""


@contextlib.contextmanager
def _limited(run: Run, seconds: float) -> Iterator[None]:
    def over(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    run.ends = time.monotonic() + seconds
    # again after five seconds: somebody may have caught everything
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def run_stage(run: Run, name: str, limit: float) -> None:
    """One stage within its limit, here."""
    (stage,) = [one for one in STAGES if one.__name__ == name]
    began = time.perf_counter()
    state = "done"
    try:
        with _limited(run, limit):
            stage(run)
    except OutOfTimeError:
        state = "out of time"
    except Exception as error:  # another stage may work
        state = f"failed: {type(error).__name__}: {error}"[:300]
    run.note(name, state=state, seconds=round(time.perf_counter() - began, 1))


def run_apart(run: Run, name: str, limit: float, words: Sequence[str]) -> None:
    """One stage in a process of its own: what breaks a card's context breaks no other stage."""
    program = subprocess.Popen([sys.executable, __file__, "--stages", name, *words])
    try:
        code = program.wait(limit)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
        run.note(name, state=f"killed: it did not end within {limit:.0f} s")
    else:
        if code:
            run.note(name, state=f"failed: the process ended with code {code}")


@contextlib.contextmanager
def _pretended() -> Iterator[Any]:
    """The pretended device of the tests; a count of what happens on it."""
    sys.path.insert(0, str(ROOT))
    from tests.gpu.pretended import pretended_cuda

    with pretended_cuda(count=True) as seen:
        yield seen


def write_references(path: Path, sizes: Sizes) -> None:
    """Values from the processor and counts from the pretended device, to carry to a card."""
    found: dict[str, Any] = {}
    with _pretended() as seen:  # first: torch has to know of the device at its first derivative
        counting = Run(sizes, "cuda", None, None, seen)

        def note(_stage: str, **values: Any) -> None:
            found[f"launches/{values['what']}/{values['n']}"] = values["kernels"]

        counting.note = note  # pyright: ignore[reportAttributeAccessIssue]
        profile(counting)
    references(sizes, "cpu", found.__setitem__)
    np.savez(path, **found)


def parse() -> argparse.Namespace:
    """The given options."""
    parser = common.options(__doc__)
    parser.add_argument("--rehearse", action="store_true", help="on the pretended device, small")
    parser.add_argument("--references", type=Path, help="values made by --write-references")
    parser.add_argument("--write-references", type=Path, metavar="FILE", help="make them and stop")
    parser.add_argument("--out", type=Path, help="JSON lines, beside stdout")
    names = [stage.__name__ for stage in STAGES]
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    return common.parse(parser)


def main() -> None:
    """Choose the device, go through the stages."""
    given = parse()
    small = given.rehearse or given.smoke
    sizes = SMALL if small else Sizes()
    if given.write_references is not None:
        write_references(given.write_references, sizes)
        return
    if not small and not torch.cuda.is_available():
        sys.exit("expected a CUDA device, torch sees none; --rehearse goes without")
    slower = REHEARSED if small else 1.0
    run = Run(sizes, "cuda", given.out, None, threads=given.threads)
    if len(given.stages) > 1:
        words = ["--rehearse"] if small else []
        for option in ("threads", "references", "out"):
            if getattr(given, option) is not None:
                words += [f"--{option}", str(getattr(given, option))]
        for name in given.stages:
            run_apart(run, name, slower * (LIMITS[name] + LOADING), words)
        return
    if given.references is not None:
        with np.load(given.references) as file:
            run.references = dict(file)
    (name,) = given.stages
    with _pretended() if small else contextlib.nullcontext() as run.count:
        run_stage(run, name, slower * LIMITS[name])


if __name__ == "__main__":
    main()
