"""Density and frontier orbitals at Γ of a crystal, on a grid along the vectors of its cell."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Complex, Float

from deeph_zero.data.stored_values import Group
from deeph_zero.errors import InputError
from deeph_zero.host.hdf5 import open_hdf5
from deeph_zero.integrals.periodic.cell import build_cell, build_silently
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.report import volumes
from deeph_zero.report.data import Structure
from deeph_zero.units import BOHR_IN_ANGSTROM

SPACING = 0.32
"""Bohr between points along a vector, unless that makes more than MAX_POINTS."""
MAX_POINTS, MIN_POINTS = 60_000, 8_000
"""In all cells that are shown together; fewer for large matrices, never fewer than the latter."""
WORK = 2e10
"""Multiplications of a density at all points, about; those of a few seconds."""
WIDE = 12.0
"""Cells narrower than this are shown several times along the vector, bohr."""
REPEATS = 3
"""Times at most."""
MARGIN = 6.0
"""Bohr above and below a layer."""
EDGE = 0.05
"""Atoms this near to a face (part of the vector) are shown on the opposite one, too."""
PRECISION = 1e-5
"""Precision of the lattice sums of orbitals, enough for a picture."""
_BLOCK = 4096
_CURE = "write the file again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellMatrices:
    """What is drawn of one crystal, atomic units.

    Attributes:
        molecule: Atoms and lattice.
        basis: Its basis set.
        pseudo: Pseudopotentials; "none" for all electrons.
        smearing: Width of the occupations, Eh.
        kpts: Fractions of the reciprocal vectors, [nk, 3].
        kweights: [nk].
        dm: Density matrix, [nspin, nk, nao, nao].
        overlap: At Γ, [nao, nao].
        hamiltonian: The matrix of the levels at Γ, [nspin, nao, nao].
        occupied: Levels at Γ that are at least half filled, of each spin.
        levels: Number of levels at Γ.
    """

    molecule: Molecule
    basis: str
    pseudo: str
    smearing: float
    kpts: Float[np.ndarray, "nk 3"]
    kweights: Float[np.ndarray, " nk"]
    dm: Complex[np.ndarray, "nspin nk nao nao"]
    overlap: Complex[np.ndarray, "nao nao"]
    hamiltonian: Complex[np.ndarray, "nspin nao nao"]
    occupied: tuple[int, ...]
    levels: int

    @property
    def lattice(self) -> Float[np.ndarray, "3 3"]:
        """Vectors in rows, bohr."""
        assert self.molecule.lattice is not None
        return self.molecule.lattice


def read_cell(hdf5: Path, structure: Structure) -> CellMatrices | None:
    """What a file has of a crystal.

    Args:
        hdf5: The file.
        structure: One of its crystals.

    Returns:
        None where there is no density at k-points with Γ among them.

    Raises:
        InputError: If the group is damaged.
    """
    place = f"{hdf5} group {structure.group}"
    with open_hdf5(hdf5) as handle:
        group = Group(handle[str(structure.group)], place, _CURE)
        if any(n not in group for n in ("density", "kpts", "overlap", "fock", "mo_occ")):
            return None
        try:
            return _read(group)
        except (ValueError, IndexError, TypeError) as error:
            text = " ".join(str(error).split())[:120]
            raise group.wrong("matrices at k-points", text) from None


def _read(group: Group) -> CellMatrices | None:
    kpts = group.array("kpts", "f")
    (gamma,) = np.nonzero(np.abs(kpts).max(1) < 1e-9)
    if len(gamma) != 1:
        return None
    at, nk = int(gamma[0]), len(kpts)
    overlap = group.array("overlap", "cf")
    shape = (-1, nk, *overlap.shape[1:])
    dm = group.array("density", "cf").reshape(shape)
    fock = group.array(group.fock_name, "cf").reshape(shape)[:, at]
    occ = group.array("mo_occ", "f").reshape(len(dm), nk, -1)[:, at]
    energies = group.array("mo_energy", "f").reshape(occ.shape[0], nk, -1)[:, at]
    attributes = group.attributes
    layer = "pbc" in group and not group.array("pbc", "biu")[2]
    molecule = Molecule(
        numbers=group.array("numbers", "iu"),
        coords=group.array("positions", "f"),
        charge=group.whole("charge") if "charge" in attributes else 0,
        spin=group.whole("spin") if "spin" in attributes else 0,
        lattice=group.array("lattice", "f"),
        pbc=(True, True, not layer),
    )
    return CellMatrices(
        molecule=molecule,
        basis=group.text("basis"),
        pseudo=group.text("pseudo") if "pseudo" in attributes else "none",
        smearing=group.number("smearing") if "smearing" in attributes else 0.0,
        kpts=kpts,
        kweights=group.array("kweights", "f"),
        dm=dm,
        overlap=overlap[at],
        hamiltonian=fock,
        occupied=tuple(int(n) for n in (occ > 0.5 * (2.0 / len(dm))).sum(-1)),
        levels=energies.shape[-1],
    )


def cell_of(matrices: CellMatrices) -> Any:
    """PySCF's cell of a stored crystal.

    Args:
        matrices: The crystal.

    Returns:
        The cell; its lattice sums are a picture's.

    Raises:
        InputError: If the basis set is not known here, or is not the one of the matrices.
    """
    name = None if matrices.pseudo.lower() == "none" else matrices.pseudo
    crystal = CrystalMethod(pseudo=name)
    method = Method(basis=matrices.basis, smearing=matrices.smearing, crystal=crystal)
    cell = build_cell(matrices.molecule, method)
    nao = matrices.overlap.shape[-1]
    if cell.nao != nao:
        raise InputError(f"expected {cell.nao} orbitals with this basis set, got {nao}")
    cell.rcut, cell.precision = None, PRECISION
    build_silently(cell)
    return cell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Points along the vectors of a cell, and how often it is shown.

    Attributes:
        lattice: Vectors in rows, bohr.
        origin: First point, fractions of the vectors.
        span: Part of each vector that points cover: 1, and of a layer's third its height.
        shape: Points in one cell along each vector.
        repeats: Cells shown along each.
        periodic: Whether values repeat along each.
    """

    lattice: Float[np.ndarray, "3 3"]
    origin: Float[np.ndarray, " 3"]
    span: Float[np.ndarray, " 3"]
    shape: tuple[int, int, int]
    repeats: tuple[int, int, int]
    periodic: tuple[bool, bool, bool]

    def points(self) -> Float[np.ndarray, "n 3"]:
        """Coordinates in one cell, bohr; the third vector runs fastest."""
        index = np.stack(np.unravel_index(np.arange(math.prod(self.shape)), self.shape), axis=1)
        return (self.origin + self.span * index / np.array(self.shape)) @ self.lattice

    def shown(self, values: Float[np.ndarray, "nx ny nz"]) -> Float[np.ndarray, "mx my mz"]:
        """Values in all cells that are shown, faces included."""
        for axis, (n, times) in enumerate(zip(self.shape, self.repeats, strict=True)):
            if self.periodic[axis]:
                values = values.take(np.arange(n * times + 1) % n, axis)
        return values

    @property
    def steps(self) -> Float[np.ndarray, "3 3"]:
        """From point to point along each vector, bohr."""
        return self.lattice * (self.span / np.array(self.shape))[:, None]


def make_grid(molecule: Molecule, most: int = MAX_POINTS) -> Grid:
    """The grid of a crystal.

    Args:
        molecule: Atoms and lattice.
        most: Points.

    Returns:
        At most about so many points in what is shown.
    """
    assert molecule.lattice is not None
    lattice = np.asarray(molecule.lattice, dtype=float)
    lengths = np.linalg.norm(lattice, axis=1)
    periodic = molecule.pbc
    origin, span = np.zeros(3), np.ones(3)
    if not periodic[2]:
        normal = np.linalg.inv(lattice)[:, 2]  # fractions of the third vector per bohr
        margin = MARGIN * float(np.linalg.norm(normal))
        height = molecule.coords @ normal
        origin[2] = height.min() - margin
        span[2] = height.max() + margin - origin[2]
    repeats = [
        min(REPEATS, max(1, round(WIDE / length))) if along else 1
        for length, along in zip(lengths, periodic, strict=True)
    ]
    size = abs(float(np.linalg.det(lattice))) * float(np.prod(span)) * math.prod(repeats)
    spacing = max(SPACING, (size / most) ** (1 / 3))
    nx, ny, nz = (max(2, math.ceil(n)) for n in lengths * span / spacing)
    return Grid(
        lattice=lattice,
        origin=origin,
        span=span,
        shape=(nx, ny, nz),
        repeats=(repeats[0], repeats[1], repeats[2]),
        periodic=periodic,
    )


def _orbitals(matrices: CellMatrices) -> dict[str, Float[np.ndarray, " nao"]]:
    """The highest filled and the lowest empty level at Γ by name; real up to a phase."""
    s, u = np.linalg.eigh(np.real(matrices.overlap))
    x = u[:, -matrices.levels :] / np.sqrt(s[-matrices.levels :])
    tails = ("",) if len(matrices.hamiltonian) == 1 else ("_alpha", "_beta")
    filled: dict[str, np.ndarray] = {}
    empty: dict[str, np.ndarray] = {}
    for tail, count, fock in zip(
        tails, matrices.occupied, np.real(matrices.hamiltonian), strict=True
    ):
        coeff = x @ np.linalg.eigh(x.T @ fock @ x)[1]
        if count > 0:
            filled["homo_gamma" + tail] = coeff[:, count - 1]
        if count < coeff.shape[1]:
            empty["lumo_gamma" + tail] = coeff[:, count]
    return filled | empty


def evaluate(
    matrices: CellMatrices, cell: Any, points: Float[np.ndarray, "n 3"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Every field at some points, atomic units.

    Args:
        matrices: Density and Fock matrix.
        cell: Its cell.
        points: Bohr.

    Returns:
        Values by name: ``homo_gamma``, ``lumo_gamma`` (with ``_alpha``, ``_beta`` for two spins),
        ``density`` and, for two spins, ``spin_density``.
    """
    orbitals = _orbitals(matrices)
    names = [*orbitals, "density", *(["spin_density"] if len(matrices.dm) == 2 else [])]
    fields = {name: np.empty(len(points), np.float32) for name in names}
    gamma = int(np.abs(matrices.kpts).max(1).argmin())
    kpts = cell.get_abs_kpts(matrices.kpts)
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        ao = cell.pbc_eval_gto("GTOval_sph", points[block], kpts=kpts)
        for name, column in orbitals.items():
            fields[name][block] = (ao[gamma] @ column).real
        spins = [
            sum(
                w * np.einsum("pi,pi->p", phi @ dm, phi.conj()).real
                for w, phi, dm in zip(matrices.kweights, ao, one, strict=True)
            )
            for one in matrices.dm
        ]
        fields["density"][block] = sum(spins)
        if len(spins) == 2:
            fields["spin_density"][block] = spins[0] - spins[1]
    return fields


def _atoms(molecule: Molecule, grid: Grid) -> tuple[list[str], Float[np.ndarray, "natm 3"]]:
    """Symbols and places (bohr) of the atoms in what is shown, those on its faces included."""
    inside = molecule.coords @ np.linalg.inv(grid.lattice)
    along = np.array(grid.periodic)
    inside = np.where(along, inside % 1.0, inside)
    choices = [range(-1, n + 1) if p else [0] for n, p in zip(grid.repeats, along, strict=True)]
    symbols: list[str] = []
    places = []
    for shift in itertools.product(*choices):
        at = inside + np.array(shift)
        within = (at > -EDGE) & (at < np.array(grid.repeats) + EDGE)
        for k in np.flatnonzero((within | ~along).all(1)):
            symbols.append(chemical_symbols[int(molecule.numbers[k])])
            places.append(at[k] @ grid.lattice)
    return symbols, np.array(places)


def scene(matrices: CellMatrices, cell: Any) -> dict[str, Any]:
    """What the viewer needs of one crystal.

    Args:
        matrices: Density and Fock matrix.
        cell: Its cell.

    Returns:
        JSON values; lengths in angstrom.
    """
    most = min(MAX_POINTS, max(MIN_POINTS, int(WORK / matrices.dm.size)))
    grid = make_grid(matrices.molecule, most)
    fields = evaluate(matrices, cell, grid.points())
    symbols, places = _atoms(matrices.molecule, grid)
    packed = {name: grid.shown(v.reshape(grid.shape)) for name, v in fields.items()}
    shape = next(iter(packed.values())).shape
    first = grid.origin @ grid.lattice
    middle = grid.lattice[2] * (0.0 if grid.periodic[2] else grid.origin[2] + 0.5 * grid.span[2])
    edges = grid.lattice * (np.array(grid.repeats) * grid.span)[:, None]
    corners = first + np.array(list(itertools.product((0, 1), repeat=3))) @ edges
    return {
        "view": volumes.view(np.concatenate([places, corners]), room=0.0),
        "symbols": symbols,
        "xyz": (places * BOHR_IN_ANGSTROM).round(5).tolist(),
        "origin": (first * BOHR_IN_ANGSTROM).round(6).tolist(),
        "steps": (grid.steps * BOHR_IN_ANGSTROM).round(8).tolist(),
        "middle": (middle * BOHR_IN_ANGSTROM).round(6).tolist(),
        "cell": (grid.lattice * BOHR_IN_ANGSTROM).round(6).tolist(),
        "repeats": list(grid.repeats),
        "layer": not grid.periodic[2],
        "shape": list(shape),
        "fields": {name: volumes.pack(values) for name, values in packed.items()},
    }
