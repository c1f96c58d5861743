"""What every benchmark shares: options, PySCF references, the real command, tables."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pyscf import dft, gto, lib

from deeph_zero import __version__
from deeph_zero.errors import ComputationError, DeephZeroError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule


def options(description: str | None) -> argparse.ArgumentParser:
    """Parser with the options all benchmarks have.

    Args:
        description: Docstring of the script.

    Returns:
        A parser that knows --smoke, --json and --threads.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="short form; no number to quote")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of a table")
    parser.add_argument("--threads", type=int, help="CPU threads (default 2; 1 in the short form)")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The given options, with one thread number for torch and PySCF in this process."""
    given = parser.parse_args()
    if given.threads is None:
        given.threads = 1 if given.smoke else min(2, os.cpu_count() or 1)
    torch.set_num_threads(given.threads)
    lib.num_threads(given.threads)
    return given


def machine(threads: int) -> dict[str, Any]:
    """Processor, threads and versions that a number belongs to."""
    names = ("torch", "pyscf", "e3nn")
    return {
        "cpu": _cpu_name(),
        "threads": threads,
        "python": platform.python_version(),
        "deeph-zero": __version__,
        **{name: version(name) for name in names},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def mean_field(mol: gto.Mole, xc: str, *, fit: bool = True, grid_level: int = 3) -> Any:
    """PySCF's object with this package's settings: UKS for an open shell, minao start."""
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=xc)
    mf.grids.level = grid_level
    mf.conv_tol = 1e-10
    return mf.density_fit() if fit else mf


def reference(molecule: Molecule, xc: str, basis: str = "def2-svp") -> dict[str, Any]:
    """Energy, cycles and seconds of PySCF's own fitted SCF from minao, conv_tol 1e-10."""
    started = time.perf_counter()
    mf = mean_field(build_mole(molecule, basis=basis), xc)
    mf.kernel()
    return {
        "energy": mf.e_tot,
        "cycles": mf.cycles,
        "converged": bool(mf.converged),
        "seconds": time.perf_counter() - started,
    }


def command(*words: object) -> tuple[dict[str, Any], float]:
    """Run ``deeph-zero ... --json`` in a process of its own.

    Args:
        *words: Sub-command, arguments and options.

    Returns:
        The summary it printed, and the wall time of the process with its imports, seconds. A run
        that did not converge has a summary too.

    Raises:
        ComputationError: If it printed none.
    """
    program = Path(sys.executable).with_name("deeph-zero")
    started = time.perf_counter()
    done = subprocess.run(
        [str(program), *map(str, words), "--json"], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    try:
        return json.loads(done.stdout), seconds
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise ComputationError(
            f"expected a summary from deeph-zero {words[0]}, got exit code "
            f"{done.returncode}: {last}"
        ) from None


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned right."""
    marks = ["---"] + ["---:"] * (len(headers) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (headers, marks, *rows))


def report(result: dict[str, Any], text: str, *, as_json: bool, smoke: bool) -> None:
    """Print a result, with the machine it was measured on.

    Args:
        result: Every number, under its own key; "machine" holds :func:`machine`.
        text: The same for people.
        as_json: Print the first instead of the second.
        smoke: Say that the numbers are not for quoting.
    """
    if as_json:
        print(json.dumps(result | {"smoke": smoke}, indent=1))
        return
    print(text)
    print("\n" + ", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    if smoke:
        print("Short form: shows that the script works; the numbers are not for quoting.")


def progress(text: str) -> None:
    """A line on stderr: the long forms take minutes."""
    print(text, file=sys.stderr, flush=True)


def run(main: Any) -> None:
    """Call ``main`` and turn an expected failure into one line and an exit code."""
    try:
        main()
    except DeephZeroError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
