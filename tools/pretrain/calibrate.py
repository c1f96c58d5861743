"""Give a trained model intervals: refine structures outside its training and keep what they say.

    python tools/pretrain/make_structures.py --recipe calibration.toml -o calibration.xyz
    python tools/pretrain/calibrate.py RUN calibration.xyz

Predicts and refines every structure, and writes the calibration into the model of RUN, where
`deeph-zero fit --calibration` would have put it. The structures must not be those trained on.
"""

import argparse
import sys
from pathlib import Path

from deeph_zero.data.structures import read_structures
from deeph_zero.errors import ComputationError, DeephZeroError, InputError
from deeph_zero.host.runtime import set_threads
from deeph_zero.model import load
from deeph_zero.model_files.folder import save_model
from deeph_zero.predict.intervals import COVERAGE, calibrate
from deeph_zero.predict.single import Prediction
from deeph_zero.train.calibrate import REFINE_TOL


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder of a trained model")
    parser.add_argument("structures", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    set_threads(given.threads)
    try:
        n = calibrated(given.run, given.structures)
    except DeephZeroError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.run}: calibrated with {n} structures\n")
    return 0


def calibrated(run: Path, files: list[str], coverage: float = COVERAGE) -> int:
    """Write a calibration into a model.

    Args:
        run: Its folder.
        files: Structures.
        coverage: Of the intervals.

    Returns:
        How many structures it was made from.

    Raises:
        DeephZeroError: If a structure or the model cannot be used, or there are too few.
    """
    molecules, bad = read_structures(files, charge=0, spin=0)
    if bad:
        raise InputError(str(bad[0]))
    model, found = load(run), list[Prediction]()
    for k, molecule in enumerate(molecules):
        try:
            found.append(model.predict(molecule, refine=REFINE_TOL))
        except ComputationError as error:
            sys.stderr.write(f"left out: {molecule.where}{error}\n")
        sys.stderr.write(f"{k + 1} of {len(molecules)}\n")
    usable = [p for p in found if p.refined is not None and p.refined.converged]
    made = calibrate(usable, coverage)
    save_model(run, model.network, model.meta | {"calibration": made.to_dict()})
    return made.n


if __name__ == "__main__":
    sys.exit(main())
