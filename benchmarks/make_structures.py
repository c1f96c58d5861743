"""Write the molecules in examples/: idealised geometries, each pushed a little off symmetry.

    python benchmarks/make_structures.py             # rewrites examples/*.xyz
    python benchmarks/make_structures.py -o folder/  # writes elsewhere

Bond lengths and angles are textbook values, rounded, those of caffeine a force field's; every
coordinate then gets a Gaussian push from a fixed seed, so that no matrix element is zero by
symmetry. Same script, same files.
"""

import argparse
from pathlib import Path

import numpy as np

DISPLACEMENT = 0.015
"""Standard deviation of the push on each coordinate, angstrom."""
FRAME_DISPLACEMENT = 0.03
"""The same for the frames of the multi-frame file, angstrom."""
N_FRAMES = 20
CAFFEINE = """
C    2.765  -1.561  -0.001
N    1.591  -0.711  -0.017
C    0.337  -1.318   0.095
O    0.156  -2.527   0.206
C   -0.732  -0.381   0.067
C   -0.544   0.962  -0.055
N   -1.724   1.643  -0.056
C   -2.643   0.707   0.068
N   -2.085  -0.542   0.146
C   -2.799  -1.786   0.285
N    0.710   1.512  -0.162
C    0.866   2.949  -0.290
C    1.826   0.674  -0.145
O    2.976   1.116  -0.237
H    3.322  -1.415  -0.933
H    3.407  -1.266   0.835
H    2.517  -2.620   0.100
H   -3.712   0.877   0.105
H   -3.874  -1.588   0.320
H   -2.483  -2.267   1.214
H   -2.569  -2.418  -0.576
H    1.917   3.240  -0.366
H    0.431   3.436   0.588
H    0.345   3.285  -1.192
"""

Atoms = tuple[list[str], np.ndarray]
"""Symbols and coordinates in angstrom, [natm, 3]."""


def direction(polar: float, azimuth: float) -> np.ndarray:
    """Unit vector with the given polar angle from z and azimuth from x, both in degrees."""
    t, p = np.radians([polar, azimuth])
    return np.array([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)])


def bent(centre: str, end: str, length: float, angle: float) -> Atoms:
    """A symmetric X-Y-X molecule in the yz plane; ``angle`` at the centre, degrees."""
    ends = [length * direction(angle / 2, azimuth) for azimuth in (90, -90)]
    return [centre, end, end], np.array([np.zeros(3), *ends])


def ammonia() -> Atoms:
    """NH3: N-H 1.012, H-N-H 106.7 degrees."""
    # three equal bonds at azimuths 120 degrees apart: sin(polar) = sin(angle / 2) * 2 / sqrt(3)
    polar = np.degrees(np.arcsin(2 / np.sqrt(3) * np.sin(np.radians(106.7 / 2))))
    ends = [1.012 * direction(180 - polar, azimuth) for azimuth in (0, 120, 240)]
    return ["N", "H", "H", "H"], np.array([np.zeros(3), *ends])


def methyl() -> Atoms:
    """CH3 radical: planar, C-H 1.079."""
    ends = [1.079 * direction(90, azimuth) for azimuth in (0, 120, 240)]
    return ["C", "H", "H", "H"], np.array([np.zeros(3), *ends])


def formaldehyde() -> Atoms:
    """H2CO: C-O 1.205, C-H 1.111, H-C-H 116.1 degrees."""
    ends = [1.111 * direction(180 - 116.1 / 2, azimuth) for azimuth in (90, -90)]
    return ["C", "O", "H", "H"], np.array([np.zeros(3), [0, 0, 1.205], *ends])


def methanol() -> Atoms:
    """CH3OH, staggered: C-O 1.421, C-H 1.094, O-H 0.963, C-O-H 108 degrees, O-C-H 109.5."""
    methyl_h = [1.094 * direction(109.5, azimuth) for azimuth in (180, 60, -60)]
    oxygen = np.array([0.0, 0.0, 1.421])
    hydroxyl = oxygen + 0.963 * direction(180 - 108.0, 0)
    return ["C", "O", "H", "H", "H", "H"], np.array([np.zeros(3), oxygen, *methyl_h, hydroxyl])


def benzene() -> Atoms:
    """C6H6: C-C 1.397, C-H 1.084."""
    ring = np.array([direction(90, 60 * k) for k in range(6)])
    return ["C"] * 6 + ["H"] * 6, np.concatenate([1.397 * ring, (1.397 + 1.084) * ring])


def caffeine() -> Atoms:
    """Caffeine, Cn1c(=O)c2c(ncn2C)n(C)c1=O, in a minimum of the force field MMFF94 (RDKit)."""
    rows = [line.split() for line in CAFFEINE.strip().splitlines()]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float)


def frame(atoms: Atoms, spin: int, displacement: float, rng: np.random.Generator) -> str:
    """One extended-XYZ frame of ``atoms``, displaced; ``spin`` is 2S."""
    symbols, coords = atoms
    coords = coords + rng.normal(scale=displacement, size=coords.shape)
    head = f'Properties=species:S:1:pos:R:3 charge=0 spin={spin} pbc="F F F"'
    rows = [
        f"{symbol:2s} {x:10.5f} {y:10.5f} {z:10.5f}"
        for symbol, (x, y, z) in zip(symbols, coords, strict=True)
    ]
    return "\n".join([str(len(rows)), head, *rows]) + "\n"


def main() -> None:
    """Write every file."""
    default = Path(__file__).parents[1] / "examples"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=default, help="folder to write to")
    output = parser.parse_args().output
    water = bent("O", "H", 0.9575, 104.5)
    molecules: dict[str, tuple[Atoms, int]] = {
        "water": (water, 0),
        "ammonia": (ammonia(), 0),
        "formaldehyde": (formaldehyde(), 0),
        "methanol": (methanol(), 0),
        "benzene": (benzene(), 0),
        "oh": ((["O", "H"], np.array([[0, 0, 0], [0, 0, 0.9697]])), 1),
        "ch3": (methyl(), 1),
        "no2": (bent("N", "O", 1.193, 134.1), 1),
        "caffeine": (caffeine(), 0),
    }
    output.mkdir(parents=True, exist_ok=True)
    for seed, (name, (atoms, spin)) in enumerate(molecules.items()):
        rng = np.random.default_rng(seed)
        (output / f"{name}.xyz").write_text(frame(atoms, spin, DISPLACEMENT, rng))
    rng = np.random.default_rng(100)
    frames = [frame(water, 0, FRAME_DISPLACEMENT, rng) for _ in range(N_FRAMES)]
    (output / "water_frames.xyz").write_text("".join(frames))
    print(f"wrote {len(molecules) + 1} files to {output}")


if __name__ == "__main__":
    main()
