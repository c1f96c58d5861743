"""FHI-aims' text matrices: H and S of a molecule or a crystal; hartree, ångström.

A folder with ``geometry.in``, ``basis-indices.out``, and either ``hamiltonian.out`` and
``overlap-matrix.out`` (``output h_s_matrices``: a molecule or atom) or ``rs_indices.out``,
``rs_hamiltonian.out`` (``_up``, ``_dn``) and ``rs_overlap.out`` (``output_rs_matrices plain``: a
crystal, one element a line). Row and column of those: <i R| H |j 0>, one of (i, j, R) and
(j, i, -R) where i and j differ.
"""

import re
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.folders import numbers_of, text_in
from deeph_zero.data.formats.protocol import Matrices, Shells, Structure, sizes_of
from deeph_zero.data.formats.sources import FolderSource
from deeph_zero.errors import InputError
from deeph_zero.units import HARTREE_IN_EV

_UNITS = CONVENTIONS["aims"]
_NO_CELL = 10**8
"""The last cell of the list has numbers beyond this: it stands for none."""
_BORDER = 1e-3
"""How far (fractions of a vector) an atom is from the border of the cell it may be moved over."""
_FERMI = re.compile(
    r"Chemical [Pp]otential(?: \(Fermi level\) in eV)?\s*:\s*(-?\d*\.\d+(?:E[+-]\d+)?)"
)


class AimsSource(FolderSource):
    """One folder per calculation."""

    order = _UNITS.order
    needed = "basis-indices.out"

    def structure(self, index: int) -> Structure:
        """Cell and atoms of geometry.in."""
        folder = self._folders[index]
        numbers, rows, fractional, vectors = [], [], [], []
        for k, line in enumerate(text_in(folder, "geometry.in").split("\n"), start=1):
            words, place = line.split("#")[0].split(), f"geometry.in line {k}"
            if words[:1] == ["lattice_vector"]:
                vectors.append(numbers_of(" ".join(words[1:]), 3, place))
            if words[:1] not in (["atom"], ["atom_frac"]):
                continue
            rows.append(numbers_of(" ".join(words[1:]), 3, place))
            fractional.append(words[0] == "atom_frac")
            symbol = words[4].split("_")[0] if len(words) > 4 else ""
            if symbol not in atomic_numbers or symbol == "X":
                raise InputError(
                    f"{place}: expected 'atom x y z element', got {line.strip()[:60]!r}; correct it"
                )
            numbers.append(atomic_numbers[symbol])
        if not rows:
            raise InputError("geometry.in: expected atoms, got none; check the file")
        lattice = _lattice(vectors)
        coords = np.array(rows)
        if any(fractional):
            if lattice is None:
                raise InputError("geometry.in: expected 'atom x y z element' in a molecule, got "
                                 "atom_frac without a lattice_vector; add the cell")  # fmt: skip
            coords = np.where(np.array(fractional)[:, None], coords @ lattice, coords)
        if lattice is not None and not (folder / "rs_indices.out").is_file():
            raise InputError(
                "geometry.in: expected a molecule beside hamiltonian.out, got a crystal, whose "
                "matrices in real space (rs_indices.out, rs_hamiltonian.out, rs_overlap.out) are "
                "not there; run FHI-aims with output_rs_matrices plain"
            )
        return Structure(
            numbers=np.array(numbers, dtype=np.int64),
            coords=coords * _UNITS.length,
            lattice=None if lattice is None else lattice * _UNITS.length,
            pbc=np.full(3, lattice is not None),
            name=folder.name,
        )

    def matrices(self, index: int) -> Matrices:
        """H and S."""
        folder = self._folders[index]
        shells = _shells(folder)
        if (folder / "rs_indices.out").is_file():
            return _crystal(folder, shells, self.structure(index))
        return Matrices(
            shells=shells,
            fock=_triangle(folder, "hamiltonian.out", shells),
            overlap=_triangle(folder, "overlap-matrix.out", shells),
        )


def _lattice(vectors: list[list[float]]) -> np.ndarray | None:
    """Vectors in rows, as they stand; None where there are none."""
    if not vectors:
        return None
    if len(vectors) != 3 or abs(np.linalg.det(np.array(vectors))) < 1e-6:
        raise InputError(
            f"geometry.in: expected three independent lattice_vector lines, got {len(vectors)}; "
            "correct them"
        )
    return np.array(vectors)


def _shells(folder: Path) -> Shells:
    """From the table fn, type, atom, n, l, m: of each shell m runs from -l to l."""
    table = []
    for k, line in enumerate(text_in(folder, "basis-indices.out").split("\n"), start=1):
        words = line.split()
        if not words or not words[0].isdecimal():
            continue
        place = f"basis-indices.out line {k}"
        if len(words) != 6:
            raise InputError(f"{place}: expected 'fn type atom n l m', got {line.strip()[:60]!r}")
        table.append([int(x) for x in numbers_of(" ".join(words[2:]), 4, place)])
    shells: list[list[int]] = []
    at = 0
    while at < len(table):
        atom, n, l, _ = table[at]
        rows = table[at : at + 2 * l + 1] if 0 <= l <= 12 else []
        wanted = [[atom, n, l, m] for m in range(-l, l + 1)]
        if rows != wanted or atom not in (len(shells), len(shells) + 1):
            raise InputError(
                f"basis-indices.out: expected m from -l to l of function {at + 1}, atoms in "
                "order, got others; check the file"
            )
        if atom > len(shells):
            shells.append([])
        shells[-1].append(l)
        at += 2 * l + 1
    return tuple(tuple(ls) for ls in shells)


def _triangle(folder: Path, name: str, shells: Shells) -> BlockMatrix:
    """A symmetric matrix from lines 'i j value' of one of its triangles."""
    sizes = sizes_of(shells)
    nao = sum(sizes)
    matrix, there = np.zeros((nao, nao)), np.zeros((nao, nao), dtype=bool)
    for k, line in enumerate(text_in(folder, name).split("\n"), start=1):
        if not line.strip():
            continue
        i, j, value = numbers_of(line, 3, f"{name} line {k}")
        if not (i.is_integer() and j.is_integer() and min(i, j) >= 1 and max(i, j) <= nao):
            raise InputError(
                f"{name} line {k}: expected functions from 1 to {nao}, got {line.split()[:2]}; "
                "check that the files belong together"
            )
        matrix[int(i) - 1, int(j) - 1] = value
        there[int(i) - 1, int(j) - 1] = True
    missing = ~(there | there.T)
    if missing.any():
        i, j = np.argwhere(missing)[0] + 1
        raise InputError(f"{name}: expected an element {i} {j}, there is none; the file is cut off")
    full = np.where(there, matrix, matrix.T)
    return BlockMatrix.from_dense(torch.from_numpy(full), sizes)


def _crystal(folder: Path, shells: Shells, structure: Structure) -> Matrices:
    """Sparse matrices of a crystal, one or two spins."""
    sizes = sizes_of(shells)
    rows, columns, cells, count = _places(folder, sum(sizes))
    two = (folder / "rs_hamiltonian_up.out").is_file()
    names = ["rs_hamiltonian_up.out", "rs_hamiltonian_dn.out"] if two else ["rs_hamiltonian.out"]
    names.append("rs_overlap.out")
    values = torch.from_numpy(np.stack([_elements(folder, name, count) for name in names]))
    values = values[:, : len(rows)]
    # the other triangle; of i = j both directions are there
    other = rows != columns
    both = torch.cat([values, values[:, torch.from_numpy(other)]], 1)
    whole = BlockMatrix.from_entries(
        torch.from_numpy(np.concatenate([rows, columns[other]])),
        torch.from_numpy(np.concatenate([columns, rows[other]])),
        torch.from_numpy(np.concatenate([-cells, cells[other]])),
        both,
        sizes,
    )
    if len(shells) == len(structure.numbers) and structure.lattice is not None:
        whole = _as_written(whole, structure.coords, structure.lattice)
    return Matrices(
        shells=shells,
        fock=whole.with_values(whole.values[:-1] if two else whole.values[0]),
        overlap=whole.with_values(whole.values[-1]),
        facts=_fermi(folder),
    )


def _as_written(matrix: BlockMatrix, coords: np.ndarray, lattice: np.ndarray) -> BlockMatrix:
    """Cells counted from the atoms of geometry.in; FHI-aims moves them to a cell about the origin.

    Where an atom is on that cell's border only the overlaps know to which side it went: large ones
    are of atoms that are near.

    Args:
        matrix: H and S, the overlap last.
        coords: Positions of geometry.in, bohr.
        lattice: Vectors in rows, bohr.

    Returns:
        The blocks with the cells of geometry.in.
    """
    scaled = coords @ np.linalg.inv(lattice)
    first, second = matrix.pairs.numpy().T
    cells, bonds = matrix.cells.numpy(), coords[second] - coords[first]
    overlap = matrix.with_values(matrix.values[-1])
    sizes = np.array([float(block.abs().max()) for block in overlap.blocks()])

    def length(shift: np.ndarray) -> float:
        moved = cells + shift[second] - shift[first]
        return float(sizes @ np.linalg.norm(bonds + moved @ lattice, axis=1))

    best = min((np.zeros_like(scaled), -np.round(scaled)), key=length)
    for atom, axis in np.argwhere(np.abs(np.abs(scaled - np.round(scaled)) - 0.5) < _BORDER):
        for step in (-1, 1):
            other = best.copy()
            other[atom, axis] += step
            best = min((best, other), key=length)
    shift = torch.from_numpy(best).long()
    moved = matrix.cells + shift[matrix.pairs[:, 1]] - shift[matrix.pairs[:, 0]]
    return BlockMatrix.packed(matrix.pairs, moved, matrix.values, matrix.sizes)


def _fermi(folder: Path) -> dict[str, float]:
    """The last one that the output beside says."""
    if not (folder / "aims.out").is_file():
        return {}
    found = _FERMI.findall(text_in(folder, "aims.out"))
    return {"fermi": float(found[-1]) / HARTREE_IN_EV} if found else {}


def _places(folder: Path, nao: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Row, column and cell of the row of every element, and how many elements the files have."""
    name = "rs_indices.out"
    parts = _sections(folder, name)
    sizes = [parts.get(key, np.zeros(0)) for key in _COUNTS]
    if any(len(part) != 1 or part[0] < 1 for part in sizes):
        raise InputError(
            f"{name}: expected {', '.join(_COUNTS)} at its beginning, got others; check the file"
        )
    count, ncell, nbasis = (int(part[0]) for part in sizes)
    if nbasis != nao:
        raise InputError(
            f"{name}: expected {nao} functions as in basis-indices.out, got {nbasis}; check that "
            "the files belong together"
        )
    wanted = (3 * ncell, ncell * nbasis, ncell * nbasis, count)
    for key, n in zip(_LISTS, wanted, strict=True):
        if len(parts.get(key, ())) != n:
            raise InputError(
                f"{name}: expected {n} numbers of {key}, got {len(parts.get(key, ()))}; the file "
                "is cut off, or from another calculation"
            )
    cells = parts["cell_index"].reshape(ncell, 3)
    first = parts["index_hamiltonian(1,:,:)"].reshape(ncell, nbasis) - 1
    last = parts["index_hamiltonian(2,:,:)"].reshape(ncell, nbasis)
    real = np.all(np.abs(cells) < _NO_CELL, axis=1, keepdims=True)
    there = (first >= 0) & (last > first) & real
    lengths = np.where(there, last - first, 0).ravel()
    starts = np.where(there, first, 0).ravel()
    place = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    columns = parts["column_index_hamiltonian"]
    if not np.array_equal(np.sort(place), np.arange(len(place))) or len(place) > count:
        raise InputError(f"{name}: expected every element once, got others; check the file")
    if len(place) and not (columns[place].min() >= 1 and columns[place].max() <= nbasis):
        raise InputError(f"{name}: expected columns from 1 to {nbasis}, got others; check the file")
    cell, row = np.divmod(np.repeat(np.arange(ncell * nbasis), lengths), nbasis)
    order = np.argsort(place)
    return row[order], columns[place][order] - 1, cells[cell][order], count


_COUNTS = ("n_hamiltonian_matrix_size", "n_cells_in_hamiltonian", "n_basis")
_LISTS = (
    "cell_index",
    "index_hamiltonian(1,:,:)",
    "index_hamiltonian(2,:,:)",
    "column_index_hamiltonian",
)


def _sections(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Whole numbers below each heading."""
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for k, line in enumerate(text_in(folder, name).split("\n"), start=1):
        text = line.strip()
        heading, _, rest = text.partition(": ")
        some = text.split()
        if heading in (*_COUNTS, *_LISTS):
            words, some = found.setdefault(heading, []), rest.split()
        if not all(word.lstrip("-").isdecimal() and len(word) < 12 for word in some):
            raise InputError(
                f"{name} line {k}: expected whole numbers, got {text[:60]!r}; check the file"
            )
        words += some
    return {heading: np.array(some, dtype=np.int64) for heading, some in found.items()}


def _elements(folder: Path, name: str, count: int) -> np.ndarray:
    """One number a line."""
    if not (folder / name).is_file() and (folder / name).with_suffix(".h5").is_file():
        raise InputError(
            f"expected {name}, got {name.replace('.out', '.h5')}; run FHI-aims with "
            "output_rs_matrices plain"
        )
    lines = text_in(folder, name).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != count:
        raise InputError(
            f"{name}: expected {count} lines with an element each, got {len(lines)}; the file is "
            "cut off, or from another calculation"
        )
    try:
        return np.array(lines, dtype=float)
    except ValueError:  # say where
        found = [numbers_of(line, 1, f"{name} line {k}") for k, line in enumerate(lines, start=1)]
        return np.array(found)[:, 0]
