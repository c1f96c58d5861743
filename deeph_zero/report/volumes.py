"""Density, spin density and frontier orbitals on a coarse grid, packed as text for the page."""

import base64
import dataclasses
import math
import zlib
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule
from deeph_zero.report.data import Matrices
from deeph_zero.units import BOHR_IN_ANGSTROM

MARGIN = 6.0
"""Bohr around the nuclei."""
SPACING = 0.32
"""Bohr between points, unless that makes more than MAX_POINTS."""
MAX_POINTS = 90_000
_BLOCK = 8192
TILT = 50.0
"""Degrees by which a flat molecule is tipped, so that both sides of a π orbital are seen."""
ROOM = 3.5
"""Bohr around the nuclei in the first view."""
CLIP = 0.5
"""Larger values (atomic units) are cut: no surface is drawn there."""
SMALLEST_WEIGHT = 1e-7
"""Parts of a density below this share of its largest are left out."""
LEVELS = 511
"""Steps of the packed numbers on each side of zero."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A grid along the axes.

    Attributes:
        origin: First point, bohr.
        spacing: Bohr.
        shape: Points along x, y, z.
    """

    origin: Float[np.ndarray, " 3"]
    spacing: float
    shape: tuple[int, int, int]

    def points(self, block: slice) -> Float[np.ndarray, "n 3"]:
        """Coordinates of some points, bohr; z runs fastest."""
        index = np.arange(math.prod(self.shape))[block]
        return self.origin + self.spacing * np.stack(np.unravel_index(index, self.shape), axis=1)


def mole_of(matrices: Matrices) -> Any:
    """PySCF's Mole of a stored structure.

    Args:
        matrices: The structure and its basis set.

    Returns:
        The Mole.

    Raises:
        InputError: If the basis set is not known here, or is not the one of the matrices.
    """
    molecule = Molecule(
        numbers=matrices.numbers,
        coords=matrices.coords,
        charge=matrices.charge,
        spin=matrices.spin,
    )
    mol = build_mole(molecule, basis=matrices.basis)
    if mol.nao != len(matrices.overlap):
        raise InputError(
            f"expected {mol.nao} orbitals with basis {matrices.basis}, got {len(matrices.overlap)}"
        )
    return mol


def offsets_of(mol: Any) -> list[int]:
    """First AO of every atom, and the number of AOs."""
    return [0, *(int(stop) for stop in mol.aoslice_by_atom()[:, 3])]


def mo_coeff(matrices: Matrices) -> Float[np.ndarray, "spin nao nmo"]:
    """Orbitals of the stored Fock matrix, one set per spin channel.

    Args:
        matrices: Fock matrix and overlap; as many orbitals as there are stored energies.

    Returns:
        Columns are orbitals, ordered by energy; the largest coefficient of each is positive.
    """
    nmo = matrices.mo_energy.shape[-1]
    s, u = np.linalg.eigh(matrices.overlap)
    x = u[:, -nmo:] / np.sqrt(s[-nmo:])  # linear dependence: the smallest ones are dropped
    found = []
    for fock in matrices.hamiltonian.reshape(-1, *matrices.overlap.shape):
        _, rotation = scipy.linalg.eigh(x.T @ fock @ x)
        coeff = x @ rotation
        largest = np.take_along_axis(coeff, np.abs(coeff).argmax(0)[None], 0)
        found.append(coeff * np.where(largest < 0, -1.0, 1.0))
    return np.stack(found)


def make_box(coords: Float[np.ndarray, "natm 3"]) -> Box:
    """A box around nuclei.

    Args:
        coords: Bohr.

    Returns:
        The grid, at most about MAX_POINTS points.
    """
    low = coords.min(0) - MARGIN
    size = coords.max(0) + MARGIN - low
    spacing = max(SPACING, float(np.prod(size) / MAX_POINTS) ** (1 / 3))
    nx, ny, nz = (int(n) for n in np.ceil(size / spacing).astype(int) + 1)
    return Box(origin=low, spacing=spacing, shape=(nx, ny, nz))


def frontier(matrices: Matrices) -> dict[str, tuple[int, int]]:
    """Spin channel and position of the orbitals worth a look, by name."""
    chosen = {}
    tails = ("_alpha", "_beta") if matrices.unrestricted else ("",)
    nmo = matrices.mo_energy.shape[-1]
    for spin, (nocc, tail) in enumerate(zip(matrices.occupied(), tails, strict=True)):
        if nocc > 0:
            chosen["homo" + tail] = spin, nocc - 1
        if nocc < nmo:
            chosen["lumo" + tail] = spin, nocc
    order = ("homo", "homo_alpha", "homo_beta", "lumo", "lumo_alpha", "lumo_beta")
    return {name: chosen[name] for name in order if name in chosen}


def evaluate(matrices: Matrices, mol: Any, box: Box) -> dict[str, Float[np.ndarray, "nx ny nz"]]:
    """Every field on the grid, float32, atomic units.

    AO values come in double precision, block by block; the sums are single precision, far finer
    than a picture.

    Args:
        matrices: Density and Fock matrix.
        mol: Its Mole.
        box: The grid.

    Returns:
        Values by name: ``homo``, ``lumo`` (with ``_alpha``, ``_beta`` for UKS), ``density`` and,
        for UKS, ``spin_density``.
    """
    wanted = frontier(matrices)
    coeff = mo_coeff(matrices)
    columns = np.stack([coeff[s][:, p] for s, p in wanted.values()], 1).astype(np.float32)
    dms = {"density": matrices.dm.sum(0) if matrices.unrestricted else matrices.dm}
    if matrices.unrestricted:
        dms["spin_density"] = matrices.dm[0] - matrices.dm[1]
    npoints = math.prod(box.shape)
    fields = {name: np.empty(npoints, np.float32) for name in (*wanted, *dms)}
    factors = {name: _factors(dm) for name, dm in dms.items()}
    for start in range(0, npoints, _BLOCK):
        block = slice(start, start + _BLOCK)
        ao = mol.eval_gto("GTOval_sph", box.points(block)).astype(np.float32)
        for name, values in zip(wanted, (ao @ columns).T, strict=True):
            fields[name][block] = values
        for name, (weights, vectors) in factors.items():
            fields[name][block] = np.square(ao @ vectors) @ weights
    return {name: values.reshape(box.shape) for name, values in fields.items()}


def _factors(
    dm: Float[np.ndarray, "nao nao"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "nao n"]]:
    """Weights and vectors of a density matrix, as many as it has electron pairs: fewer than AOs."""
    weights, vectors = np.linalg.eigh(dm)
    kept = np.abs(weights) > SMALLEST_WEIGHT * max(np.abs(weights).max(), 1e-300)
    return weights[kept].astype(np.float32), vectors[:, kept].astype(np.float32)


def pack(values: Float[np.ndarray, "*shape"]) -> str:
    """A field as short text: cube roots in steps, differences, compressed, base64.

    Cube roots keep the relative error of small values, where surfaces are drawn, below two per
    cent from 0.002 on; differences of neighbours compress well.

    Args:
        values: The field; cut at CLIP.

    Returns:
        Base64 of a zlib stream: the low bytes of all differences, then the high bytes.
    """
    cut = np.clip(values.ravel() / CLIP, -1.0, 1.0)
    steps = np.rint(np.cbrt(cut) * LEVELS).astype(np.int16)
    changes = np.diff(steps, prepend=np.int16(0)).astype("<i2").view(np.uint8)
    planes = changes.reshape(-1, 2).T.tobytes()
    return base64.b64encode(zlib.compress(planes, 9)).decode("ascii")


def unpack(text: str) -> Float[np.ndarray, " n"]:
    """The reverse of :func:`pack`, as the page does it."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    changes: Int[np.ndarray, " n"] = planes.T.copy().view("<i2").ravel()
    steps = np.cumsum(changes, dtype=np.int64)
    return CLIP * (steps / LEVELS) ** 3


def view(coords: Float[np.ndarray, "n 3"], room: float = ROOM) -> dict[str, Any]:
    """From where something is seen.

    Args:
        coords: Nuclei, or corners, bohr.
        room: Around them, bohr.

    Returns:
        Centre and radius (angstrom) and the turn that shows the widest side, tilted.
    """
    centre = coords.mean(0)
    off = coords - centre
    _, _, axes = np.linalg.svd(off, full_matrices=True)
    axes[2] = np.cross(axes[0], axes[1])  # a rotation, not a reflection
    turn = Rotation.from_euler("x", -TILT, degrees=True) * Rotation.from_matrix(axes)
    radius = float(np.linalg.norm(off, axis=1).max()) + room
    return {
        "centre": (centre * BOHR_IN_ANGSTROM).round(4).tolist(),
        "radius": round(radius * BOHR_IN_ANGSTROM, 4),
        "turn": turn.as_quat().round(6).tolist(),
    }


def scene(matrices: Matrices, mol: Any) -> dict[str, Any]:
    """What the viewer needs of one molecule.

    Args:
        matrices: Density and Fock matrix.
        mol: Its Mole.

    Returns:
        JSON values; lengths in angstrom.
    """
    box = make_box(matrices.coords)
    fields = evaluate(matrices, mol, box)
    return {
        "view": view(matrices.coords),
        "symbols": matrices.symbols,
        "xyz": (matrices.coords * BOHR_IN_ANGSTROM).round(5).tolist(),
        "origin": (box.origin * BOHR_IN_ANGSTROM).round(6).tolist(),
        "spacing": round(box.spacing * BOHR_IN_ANGSTROM, 8),
        "shape": list(box.shape),
        "fields": {name: pack(values) for name, values in fields.items()},
    }
