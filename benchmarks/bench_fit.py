"""``deeph-zero fit`` of one molecule at a time, against PySCF's converged SCF.

    python benchmarks/bench_fit.py            # eight molecules, a few minutes
    python benchmarks/bench_fit.py --json

Runs the real command in a process of its own; its wall time includes the imports. The reference is
PySCF with the same basis, functional, grid level and fitting, from minao, conv_tol 1e-10.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import common
import structures


@dataclasses.dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        name: File in examples/.
        xc: Functional.
        flags: More options of ``fit``.
    """

    name: str
    xc: str = "pbe"
    flags: tuple[str, ...] = ()


CASES = (
    Case("water"),
    Case("ammonia"),
    Case("methanol"),
    Case("benzene"),
    Case("formaldehyde", "pbe0"),
    Case("ch3"),
    Case("no2"),
    Case("oh", flags=("--break-symmetry",)),
)


def measure(case: Case, folder: Path, threads: int) -> dict[str, Any]:
    """Fit one molecule with the command and compare its energy with PySCF's."""
    common.progress(case.name)
    out = folder / case.name
    path = structures.EXAMPLES / f"{case.name}.xyz"
    summary, seconds = common.command(
        "fit", path, "-o", out, "--xc", case.xc, "--threads", threads, *case.flags
    )
    molecule = structures.named(case.name)
    want = common.reference(molecule, case.xc)
    entry = summary["structures"][0]
    return {
        "molecule": case.name,
        "method": "UKS" if molecule.spin else "RKS",
        "xc": case.xc,
        "flags": list(case.flags),
        "energy": entry["energy"],
        "reference_energy": want["energy"],
        "difference": entry["energy"] - want["energy"],
        "energy_error_estimate": entry["energy_error_estimate"],
        "orbital_gradient_rms": entry["orbital_gradient_rms"],
        "converged": summary["converged"],
        "fock_builds": summary["fock_builds"],
        "fit_seconds": summary["wall_time_s"],
        "command_seconds": seconds,
        "pyscf_cycles": want["cycles"],
        "pyscf_seconds": want["seconds"],
        "pyscf_converged": want["converged"],
    }


def row(record: dict[str, Any]) -> list[str]:
    """One line of the table."""
    flags = " ".join(["", *record["flags"]])
    return [
        f"{record['molecule']} {record['method']} {record['xc']}{flags}",
        f"{record['energy']:.8f}",
        f"{1e6 * record['difference']:.4f}",
        f"{record['orbital_gradient_rms']:.1e}",
        "yes" if record["converged"] else "NO",
        str(record["fock_builds"]),
        f"{record['command_seconds']:.1f}",
        str(record["pyscf_cycles"]) + ("" if record["pyscf_converged"] else " (not converged)"),
        f"{record['pyscf_seconds']:.1f}",
    ]


HEADERS = (
    "molecule", "energy, Eh", "minus PySCF, µEh", "gradient rms, Eh", "converged", "Fock builds",
    "command, s", "PySCF cycles", "PySCF, s",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = common.parse(common.options(__doc__))
    cases = CASES[:1] if options.smoke else CASES
    with tempfile.TemporaryDirectory() as folder:
        records = [measure(case, Path(folder), options.threads) for case in cases]
    text = (
        "`deeph-zero fit`, def2-SVP, grid level 3, fitted; Fock builds count every one (F0, "
        "teacher, validation); PySCF from minao, conv_tol 1e-10.\n\n"
        + common.table(HEADERS, [row(record) for record in records])
    )
    result = {"machine": common.machine(options.threads), "records": records}
    common.report(result, text, as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
