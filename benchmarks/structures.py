"""The structures that benchmarks run on: made here by the package, or read from ``--data``."""

import argparse
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.build import molecule as g2_molecule
from ase.collections import g2

from deeph_zero.data.structures import from_atoms, read_structures
from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import TrainingConfig
from deeph_zero.train.sampling import displaced
from deeph_zero.units import BOHR_IN_ANGSTROM

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
TEMPERATURE = 600.0
"""Of made vibrations, kelvin: wide enough that frames differ as those of public data do."""

NEAR_MINIMA = {
    "ethanol": """C -1.18 -0.40 0.02; C 0.10 0.43 -0.01; O 1.21 -0.45 0.05; H -1.25 -1.03 -0.87
H -1.24 -1.05 0.90; H -2.05 0.26 0.03; H 0.14 1.10 0.86; H 0.13 1.05 -0.92; H 2.00 0.10 0.03""",
    "uracil": """N 0.00 1.18 0.02; C 1.24 0.58 0.00; N 1.22 -0.79 0.00; C 0.06 -1.56 -0.01
C -1.15 -0.96 0.00; C -1.25 0.48 0.01; O 2.27 1.22 0.01; O -2.28 1.13 -0.01; H 0.04 2.19 0.05
H 2.11 -1.25 0.02; H 0.17 -2.64 -0.02; H -2.07 -1.52 0.03""",
}
"""Molecules typed in, angstrom."""


def read_molecules(path: Path) -> list[Molecule]:
    """All frames of a file.

    Args:
        path: Structure file.

    Returns:
        Its molecules, in order.

    Raises:
        InputError: If there is no such file, or a frame is bad.
    """
    molecules, bad = read_structures([path])
    if bad:
        raise InputError(str(bad[0]))
    return molecules


def write_frames(path: Path, molecules: list[Molecule]) -> list[Molecule]:
    """Write an extended-XYZ file and read it back, so that everybody has the same digits."""
    atoms = [
        ase.Atoms(
            m.numbers,
            positions=m.coords * BOHR_IN_ANGSTROM,
            info={"charge": m.charge, "spin": m.spin},
        )
        for m in molecules
    ]
    ase.io.write(path, atoms, format="extxyz")
    return read_molecules(path)


def named(name: str) -> Molecule:
    """One molecule of this repository.

    Args:
        name: An example, a file beside this one, "ethanol" or "uracil".

    Returns:
        Its structure.

    Raises:
        InputError: If there is none of that name.
    """
    for folder in (EXAMPLES, HERE):
        if (folder / f"{name}.xyz").exists():
            return read_molecules(folder / f"{name}.xyz")[0]
    if name not in NEAR_MINIMA:
        names = sorted([*NEAR_MINIMA, *(p.stem for f in (EXAMPLES, HERE) for p in f.glob("*.xyz"))])
        raise InputError(f"expected a molecule out of {', '.join(names)}, got {name!r}")
    rows = [row.split() for row in NEAR_MINIMA[name].replace("\n", ";").split(";")]
    positions = [[float(x) for x in row[1:]] for row in rows]
    return from_atoms(ase.Atoms([row[0] for row in rows], positions))


def vibrations(
    molecule: Molecule, count: int, seed: int = 0, temperature: float = TEMPERATURE
) -> list[Molecule]:
    """Thermal displacements along normal modes, as `fit` of a single structure makes them."""
    config = TrainingConfig(samples=count, sampling="normal-modes", temperature=temperature)
    return displaced([molecule], config, (seed,))


def add_options(parser: argparse.ArgumentParser, molecule: str = "water") -> None:
    """Add what :func:`frames` and :func:`split` read.

    Args:
        parser: Of the benchmark.
        molecule: Whose vibrations are taken by default.
    """
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--data", type=Path, help="structure file, in place of made frames")
    either.add_argument(
        "--molecule", default=molecule, metavar="NAME",
        help=f"whose vibrations are made without --data (default {molecule})",
    )  # fmt: skip


def source(given: argparse.Namespace) -> str:
    """Where the frames come from, for tables."""
    return given.data.name if given.data else f"{given.molecule} (vibrations, {TEMPERATURE:g} K)"


def frames(given: argparse.Namespace, count: int, *, skip: int = 0) -> list[Molecule]:
    """Frames of ``--data`` at equal distances, or as many vibrations.

    Args:
        given: ``data`` and ``molecule``.
        count: How many.
        skip: Frames at the start of the file left out.

    Returns:
        The frames; fewer where the file is shorter.
    """
    if given.data is None:
        return vibrations(named(given.molecule), count)
    every = read_molecules(given.data)[skip:]
    return every[:: max(1, len(every) // count)][:count]


def split(
    given: argparse.Namespace, n_train: int, n_test: int, *, seed: int
) -> tuple[list[Molecule], list[Molecule]]:
    """Training and test frames.

    Args:
        given: ``data`` and ``molecule``.
        n_train: Training frames.
        n_test: Test frames.
        seed: Of the permutation of the file's frames, or of the vibrations.

    Returns:
        Both lists.

    Raises:
        InputError: If the file is missing or has too few frames.
    """
    if given.data is None:
        found = vibrations(named(given.molecule), n_train + n_test, seed)
    else:
        found = read_molecules(given.data)
    return divide(found, n_train, n_test, seed=seed)


def divide(
    found: list[Molecule], n_train: int, n_test: int, *, seed: int
) -> tuple[list[Molecule], list[Molecule]]:
    """The first ones of a seeded permutation; see :func:`split`."""
    wanted = n_train + n_test
    if len(found) < wanted:
        raise InputError(f"--data: expected {wanted} frames or more, got {len(found)}")
    order = np.random.default_rng(seed).permutation(len(found))[:wanted]
    chosen = [found[k] for k in order]
    return chosen[:n_train], chosen[n_train:]


def small_organic() -> list[ase.Atoms]:
    """Neutral closed-shell molecules of H, C, N, O and F out of ASE's G2."""
    every = [g2_molecule(name) for name in g2.names]
    return [
        atoms
        for atoms in every
        if len(atoms) > 1
        and set(atoms.numbers) <= {1, 6, 7, 8, 9}
        and sum(atoms.numbers) % 2 == 0
        and not any(atoms.get_initial_magnetic_moments())
    ]
