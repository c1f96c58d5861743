"""Give a trained model intervals: refine structures outside its training and keep what they say.

    python tools/pretrain/make_structures.py --recipe calibration.toml -o calibration.xyz
    python tools/pretrain/calibrate.py RUN calibration.xyz --samples samples.json
    python tools/pretrain/calibrate.py RUN calibration.xyz --samples samples.json \
        --measured nine.json 24 63

Predicts and refines every structure, and writes the calibration into the model of RUN, where
`deeph-zero fit --calibration` would have put it. The structures must not be those trained on.
What each of them says is kept in --samples as it comes, so that the command can be ended and
started again. --measured adds some molecules of `benchmarks/bench_pretrained.py --out FILE`.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.data.structures import read_structures
from deeph_zero.errors import ComputationError, DeephZeroError, InputError
from deeph_zero.host.files import write_json
from deeph_zero.host.runtime import set_threads
from deeph_zero.model import Model, load
from deeph_zero.model_files.folder import save_model
from deeph_zero.molecule import Molecule
from deeph_zero.predict import intervals
from deeph_zero.predict.intervals import COVERAGE, REFINE_TOL, Sample

Measured = tuple[Path, int, int]
"""A file, and the first and the last molecule of it, counted from 1."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder of a trained model")
    parser.add_argument("structures", nargs="*")
    parser.add_argument("--samples", type=Path, help="JSON that keeps what structures say")
    parser.add_argument("--measured", nargs=3, action="append", metavar=("FILE", "FIRST", "LAST"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    set_threads(given.threads)
    measured = [(Path(file), int(a), int(b)) for file, a, b in given.measured or ()]
    try:
        n = calibrated(given.run, given.structures, samples=given.samples, measured=measured)
    except DeephZeroError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.run}: calibrated with {n} structures\n")
    return 0


def calibrated(
    run: Path,
    files: Sequence[str],
    coverage: float = COVERAGE,
    *,
    samples: Path | None = None,
    measured: Sequence[Measured] = (),
) -> int:
    """Write a calibration into a model.

    Args:
        run: Its folder.
        files: Structures.
        coverage: Of the intervals.
        samples: File that keeps what they say.
        measured: Molecules of benchmarks.

    Returns:
        How many structures it was made from.

    Raises:
        DeephZeroError: If a structure or the model cannot be used, or there are too few.
    """
    molecules: list[Molecule] = []
    if files:
        molecules, bad = read_structures(list(files), charge=0, spin=0)
        if bad:
            raise InputError(str(bad[0]))
    model = load(run)
    found = [*_refined(model, molecules, samples), *_measured(measured)]
    made = intervals.calibrated(found, coverage)
    save_model(run, model.network, model.meta | {"calibration": made.to_dict()})
    return made.n


def _refined(model: Model, molecules: Sequence[Molecule], kept: Path | None) -> list[Sample]:
    known: dict[str, Any] = {}
    if kept is not None and kept.exists():
        known = json.loads(kept.read_text())
    found = []
    for k, molecule in enumerate(molecules):
        if molecule.where not in known:
            known[molecule.where] = _said(model, molecule)
            if kept is not None:
                write_json(kept, known)
            sys.stderr.write(f"{k + 1} of {len(molecules)}\n")
        if known[molecule.where] is not None:
            found.append(_sample(known[molecule.where]))
    return found


def _said(model: Model, molecule: Molecule) -> dict[str, Any] | None:
    """What one structure says; None where it cannot be refined."""
    try:
        prediction = model.predict(molecule, refine=REFINE_TOL)
    except ComputationError as error:
        sys.stderr.write(f"left out: {molecule.where}{error}\n")
        return None
    if prediction.refined is None or not prediction.refined.converged:
        sys.stderr.write(f"left out: {molecule.where}not converged\n")
        return None
    return dataclasses.asdict(Sample.of(prediction))


def _measured(given: Sequence[Measured]) -> Iterable[Sample]:
    for file, first, last in given:
        rows = json.loads(file.read_text())["structures"]
        if not 1 <= first <= last <= len(rows):
            raise InputError(f"{file}: expected molecules of 1 to {len(rows)}, got {first} {last}")
        for k, row in enumerate(rows[first - 1 : last], first):
            if "sample" not in row:
                raise InputError(f"{file}: molecule {k} has no sample; measure it again")
            yield _sample(row["sample"])


def _sample(values: dict[str, Any]) -> Sample:
    charge, spin = values["state"]
    rest = {key: value for key, value in values.items() if key != "state"}
    return Sample(state=(int(charge), int(spin)), **rest)


if __name__ == "__main__":
    sys.exit(main())
