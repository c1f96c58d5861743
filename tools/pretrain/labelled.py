"""Write the structures that have labels: `train` wants one for each.

    python tools/pretrain/labelled.py train.xyz labels.h5 -o labelled.xyz

The first ones of a file, where labelling was ended before its end.
"""

import argparse
import sys
from pathlib import Path

import ase
import ase.io

from deeph_zero.data.labels import LabelStore
from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import DeephZeroError, InputError


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("structures", type=Path, help="extended xyz")
    parser.add_argument("labels", help="file of `deeph-zero label`")
    parser.add_argument("-o", "--out", type=Path, required=True, help="extended xyz")
    given = parser.parse_args()
    try:
        counts = write(given.structures, given.labels, given.out)
    except DeephZeroError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.out}: {counts[0]} of {counts[1]} structures\n")
    return 0


def write(structures: Path, labels: str, out: Path) -> tuple[int, int]:
    """Write those of a file that have converged labels.

    Args:
        structures: All.
        labels: Of some of them.
        out: File to write.

    Returns:
        How many were written, and how many there are.

    Raises:
        InputError: If none has a label.
    """
    store, frames = LabelStore([labels]), list(ase.io.iread(structures, ":"))
    kept = list[ase.Atoms]()
    for atoms in frames:
        assert isinstance(atoms, ase.Atoms)
        index = store.index(from_atoms(atoms))
        if index is not None and store.read(index).converged:
            kept.append(atoms)
    if not kept:
        raise InputError(f"{labels}: expected labels of {structures}, got none of them")
    ase.io.write(out, kept, format="extxyz")
    return len(kept), len(frames)


if __name__ == "__main__":
    sys.exit(main())
