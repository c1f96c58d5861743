"""DeePTB's LMDB and dftio's folders: blocks by name "i_j_R1_R2_R3", eV and ångström.

One of (i, j, R) and (j, i, -R) is enough for each pair. The shells of each element ("2s2p1d") stand
in ``basis.dat`` of a folder; an LMDB says nothing of them, a DeePTB input (JSON) beside it does.
"""

import ast
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase.data import chemical_symbols

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.folders import numbers_of, structure_folders, text_in
from deeph_zero.data.formats.lmdb_file import LMDBFile, LMDBWriter
from deeph_zero.data.formats.pickles import unpickled
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Shells,
    Structure,
    by_angular_momentum,
    in_order,
    required_overlap,
    sizes_of,
)
from deeph_zero.data.formats.registry import ShellsOf
from deeph_zero.data.stored_values import HEAVIEST, Group
from deeph_zero.errors import InputError, argument
from deeph_zero.host.documents import parse_json
from deeph_zero.host.files import write_text
from deeph_zero.host.hdf5 import hdf5_written_to, open_hdf5

FILES = (
    "cell.dat", "positions.dat", "atomic_numbers.dat", "pbc.dat", "basis.dat", "hamiltonians.h5",
    "overlaps.h5", "density_matrices.h5",
)  # fmt: skip
_UNITS = CONVENTIONS["deeptb"]
_NAME = re.compile(r"(\d{1,9})_(\d{1,9})_(-?\d{1,6})_(-?\d{1,6})_(-?\d{1,6})")
_SHELL = re.compile(r"(\d{1,2})([a-z])")
_LETTERS = "spdfghi"


def parse_basis(words: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    """l of the shells of each element from words like "2s2p1d".

    Args:
        words: By element symbol.

    Returns:
        l of every shell, by element symbol.

    Raises:
        InputError: If a word is none.
    """
    found = {}
    for symbol, word in words.items():
        parts = _SHELL.findall(word) if isinstance(word, str) else []
        good = parts and "".join(n + letter for n, letter in parts) == word
        if symbol not in chemical_symbols or not good or any(x not in _LETTERS for _, x in parts):
            raise InputError(
                f"basis: expected shells like '2s2p1d' of an element, got {str(word)[:30]!r} of "
                f"{str(symbol)[:10]!r}; correct it"
            )
        found[symbol] = tuple(_LETTERS.index(x) for n, x in parts for _ in range(int(n)))
    return found


def _structure(
    numbers: np.ndarray, coords: np.ndarray, cell: np.ndarray, pbc: np.ndarray, name: str
) -> Structure:
    good = numbers.ndim == 1 and len(numbers) and coords.shape == (len(numbers), 3)
    if not good or not (numbers.min() > 0 and numbers.max() <= HEAVIEST):
        raise InputError("expected atomic numbers and as many positions, got others; leave it out")
    if not np.isfinite(coords).all() or not np.isfinite(cell).all():
        raise InputError("expected finite positions and cell, got NaN or infinity; leave it out")
    crystal = bool(pbc.any())
    if crystal and (cell.shape != (3, 3) or abs(np.linalg.det(cell)) < 1e-6):
        raise InputError("expected a cell of three vectors, got another; correct cell or pbc")
    return Structure(
        numbers=numbers.astype(np.int64),
        coords=coords.astype(float) * _UNITS.length,
        lattice=cell.astype(float) * _UNITS.length if crystal else None,
        pbc=np.resize(pbc.astype(bool), 3),
        name=name,
    )


def _blocks(found: Mapping[str, Any], shells: Shells, what: str) -> BlockMatrix:
    sizes = sizes_of(shells)
    keys, blocks = [], []
    for name, values in found.items():
        match = _NAME.fullmatch(str(name))
        i, j, *cell = (int(x) for x in match.groups()) if match else (-1, -1)
        if not match or max(i, j) >= len(sizes):
            raise InputError(
                f"expected blocks of {what} named i_j_R1_R2_R3, atoms 0 to {len(sizes) - 1}, got "
                f"{str(name)[:40]!r}; check the file"
            )
        array = np.asarray(values)
        if array.dtype.kind not in "fc" or array.shape != (sizes[i], sizes[j]):
            raise InputError(
                f"expected {sizes[i]} x {sizes[j]} numbers in {what} {name}, got {array.shape}; "
                "give the basis it is in"
            )
        keys.append((i, j, *cell))
        kind = np.complex128 if array.dtype.kind == "c" else np.float64
        blocks.append(torch.from_numpy(array.astype(kind)))
    if not keys:
        raise InputError(f"expected blocks of {what}, got none; check the file")
    table = torch.tensor(keys, dtype=torch.long)
    try:
        return BlockMatrix.from_blocks(table[:, :2], table[:, 2:], blocks, sizes).completed()
    except ValueError as error:
        raise InputError(f"{what}: {error}; check the file") from None


def _matrices(found: Mapping[str, Any], shells: Shells) -> Matrices:
    fock = _blocks(found["hamiltonian"], shells, "H")
    overlap, density = found.get("overlap"), found.get("density_matrix")
    return Matrices(
        shells=shells,
        fock=fock.with_values(fock.values * _UNITS.energy),
        overlap=_blocks(overlap, shells, "S") if overlap else None,
        density=_blocks(density, shells, "P") if density else None,
    )


class DeePTBSource:
    """An LMDB of frames; shells from a DeePTB input beside it, or from a basis set."""

    order = _UNITS.order

    def __init__(self, path: Path, shells_of: ShellsOf, basis: str | None) -> None:
        """Find the frames.

        Args:
            path: The file, or the folder with ``data.mdb``.
            shells_of: Shells of atoms in a Gaussian basis set.
            basis: That basis set; None looks for a DeePTB input beside the file.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path, self._shells_of, self._basis = path, shells_of, basis
        self._file = LMDBFile(path)
        folder = path if path.is_dir() else path.parent
        self._stated = _stated_basis(folder) if basis is None else {}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._file)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def _read(self, index: int) -> dict[str, Any]:
        found = unpickled(self._file.value(index))
        arrays = (
            [found.get(k) for k in ("atomic_numbers", "pos")] if isinstance(found, dict) else []
        )
        if not arrays or not all(isinstance(a, np.ndarray) for a in arrays):
            raise InputError("expected atomic_numbers and pos, got none; check the file")
        return found

    def structure(self, index: int) -> Structure:
        """The atoms of a frame."""
        found = self._read(index)
        cell, pbc = (np.asarray(found.get(k, np.zeros(3))) for k in ("cell", "pbc"))
        name = str(found.get("idx", index))[:80]
        return _structure(found["atomic_numbers"].ravel(), found["pos"], cell, pbc, name)

    def matrices(self, index: int) -> Matrices:
        """H and where they are S and P."""
        found = self._read(index)
        if not isinstance(found.get("hamiltonian"), dict):
            raise InputError("expected hamiltonian, blocks by name, got none; check the file")
        numbers = found["atomic_numbers"].ravel()
        if self._basis is not None:
            return _matrices(found, self._shells_of(numbers, self._basis))
        symbols = [chemical_symbols[int(z)] for z in numbers]
        missing = [s for s in symbols if s not in self._stated]
        if missing:
            raise InputError(
                f"expected the shells of {missing[0]}; put DeePTB's input, a .json with "
                f"common_options.basis, beside the file, or give the "
                f"{argument('basis')} of Gaussians"
            )
        return _matrices(found, tuple(self._stated[s] for s in symbols))


def _stated_basis(folder: Path) -> dict[str, tuple[int, ...]]:
    """From the first DeePTB input of a folder that says it."""
    for path in sorted(folder.glob("*.json"))[:100]:
        try:
            document = parse_json(text_in(folder, path.name))
        except ValueError:
            continue
        options = document.get("common_options") if isinstance(document, dict) else None
        basis = options.get("basis") if isinstance(options, dict) else None
        if isinstance(basis, dict) and all(isinstance(w, str) for w in basis.values()):
            return parse_basis(basis)
    return {}


class DftioSource:
    """Folders of dftio's text form, one structure with one frame or several in each."""

    order = _UNITS.order

    def __init__(self, path: Path) -> None:
        """Find the folders and their frames.

        Args:
            path: A folder, or a folder of them.

        Raises:
            WholeFileError: If there is none.
        """
        self._frames: list[tuple[Path, str, int]] = []
        for folder in structure_folders(path, "atomic_numbers.dat"):
            try:
                with open_hdf5(folder / "hamiltonians.h5") as handle:
                    names = sorted((n for n in handle), key=lambda n: (len(n), n))
            except OSError:
                names = ["0"]  # what is wrong is said when it is read
            self._frames += [(folder, name, k) for k, name in enumerate(names)]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def place(self, index: int) -> str:
        """Folder and frame."""
        folder, name, _ = self._frames[index]
        return f"{folder} frame {name}"

    def structure(self, index: int) -> Structure:
        """The atoms of a frame."""
        folder, name, frame = self._frames[index]
        numbers = _table(folder, "atomic_numbers.dat", 1).astype(np.int64).ravel()
        coords = _table(folder, "positions.dat", 3)
        natm = len(numbers)
        if not natm or len(coords) % natm or not len(coords):
            raise InputError(f"positions.dat: expected rows of {natm} atoms, got {len(coords)}")
        frame = min(frame, len(coords) // natm - 1)
        cell = (
            _table(folder, "cell.dat", 3) if (folder / "cell.dat").is_file() else np.zeros((3, 3))
        )
        start = 3 * min(frame, max(0, len(cell) // 3 - 1))
        words = text_in(folder, "pbc.dat").split() if (folder / "pbc.dat").is_file() else ["0"]
        pbc = np.array([w.strip("[],").lower() in ("1", "true", "t", "1.0") for w in words])
        part = coords[frame * natm : (frame + 1) * natm]
        return _structure(numbers, part, cell[start : start + 3], pbc, f"{folder.name}/{name}")

    def matrices(self, index: int) -> Matrices:
        """H and where they are S and P."""
        folder, name, _ = self._frames[index]
        numbers = _table(folder, "atomic_numbers.dat", 1).astype(np.int64).ravel()
        try:
            words = ast.literal_eval(text_in(folder, "basis.dat").strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            words = None
        if not isinstance(words, dict):
            raise InputError("basis.dat: expected {element: '2s2p1d', ...}, got another text")
        stated = parse_basis(words)
        symbols = [chemical_symbols[int(z)] if 0 < z <= HEAVIEST else "X" for z in numbers]
        if any(s not in stated for s in symbols):
            raise InputError(f"basis.dat: expected shells of {', '.join(sorted(set(symbols)))}")
        shells = tuple(stated[s] for s in symbols)
        found = {"hamiltonian": _datasets(folder, "hamiltonians.h5", name)}
        for key, file in (("overlap", "overlaps.h5"), ("density_matrix", "density_matrices.h5")):
            if (folder / file).is_file():
                found[key] = _datasets(folder, file, name)
        return _matrices(found, shells)


def _table(folder: Path, name: str, width: int) -> np.ndarray:
    lines = [x for x in text_in(folder, name).split("\n") if x.strip() and not x.startswith("#")]
    rows = [numbers_of(line, width, f"{name} line {k + 1}") for k, line in enumerate(lines)]
    return np.array(rows).reshape(-1, width)


def _datasets(folder: Path, file: str, name: str) -> dict[str, np.ndarray]:
    try:
        with open_hdf5(folder / file) as handle:
            inner = handle.get(name)
            if not isinstance(inner, h5py.Group):
                raise InputError(f"{file}: expected a group {name!r}, got none; check the file")
            group = Group(inner, file, "write the file again")
            return {key: group.array(key, "fiuc") for key in group}
    except OSError as error:
        line = str(error).splitlines()[0][:80]
        raise InputError(f"{file}: cannot be read ({line}); write the file again") from None


def _named(matrix: BlockMatrix, factor: float) -> dict[str, np.ndarray]:
    """Blocks by name; of each pair one, as DeePTB keeps them."""
    found = {}
    for k, ((i, j), cell) in enumerate(
        zip(matrix.pairs.tolist(), matrix.cells.tolist(), strict=True)
    ):
        other = (j, i, *(-c for c in cell))
        if int(matrix.partners[k]) < 0 or (i, j, *cell) <= other:
            found["_".join(map(str, (i, j, *cell)))] = (matrix.block(k) * factor).numpy()
    return found


def _contents(record: Record, title: str) -> tuple[Matrices, dict[str, dict[str, np.ndarray]]]:
    if record.matrices.spin_polarised or record.matrices.spinor:
        raise InputError(f"expected matrices without spin, got two spins; {title} holds no other")
    matrices = in_order(by_angular_momentum(record.matrices), _UNITS.order)
    found = {
        "hamiltonian": _named(matrices.fock, 1.0 / _UNITS.energy),
        "overlap": _named(required_overlap(matrices), 1.0),
    }
    if matrices.density is not None:
        found["density_matrix"] = _named(matrices.density, 1.0)
    return matrices, found


class DeePTBSink:
    """Writes an LMDB of frames."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Args:
            path: An empty file.

        Raises:
            InputError: If lmdb is not installed.
        """
        self._writer, self._count = LMDBWriter(path), 0
        self.close = self._writer.close

    def write(self, record: Record) -> None:
        """Add a frame."""
        _, found = _contents(record, "DeePTB")
        structure = record.structure
        lattice = np.zeros((3, 3)) if structure.lattice is None else structure.lattice
        value = {
            "atomic_numbers": structure.numbers,
            "cell": lattice / _UNITS.length,
            "pos": structure.coords / _UNITS.length,
            "pbc": structure.pbc,
            "idx": self._count,
            "nf": self._count,
            **found,
        }
        self._writer.put(self._count.to_bytes(4, "big"), pickle.dumps(value, protocol=4))
        self._count += 1


class DftioSink:
    """Writes dftio's folders; more than one structure go into ``0000``, ``0001``, ..."""

    def __init__(self, folder: Path, count: int) -> None:
        """Nothing is written yet.

        Args:
            folder: An empty folder.
            count: How many structures will come.
        """
        self._folder, self._many, self._written = folder, count > 1, 0

    def write(self, record: Record) -> None:
        """Add one structure."""
        target = self._folder / f"{self._written:04d}" if self._many else self._folder
        target.mkdir(parents=True, exist_ok=True)
        matrices, found = _contents(record, "dftio")
        structure = record.structure
        basis: dict[str, str] = {}
        for number, ls in zip(structure.numbers.tolist(), matrices.shells, strict=True):
            word = "".join(f"{ls.count(l)}{_LETTERS[l]}" for l in sorted(set(ls)))
            if basis.setdefault(chemical_symbols[number], word) != word:
                raise InputError(
                    f"expected one basis per element, got two of {chemical_symbols[number]}; "
                    "dftio's layout holds no other"
                )
        lattice = np.zeros((3, 3)) if structure.lattice is None else structure.lattice
        texts = {
            "cell.dat": _lines(lattice / _UNITS.length),
            "positions.dat": _lines(structure.coords / _UNITS.length),
            "atomic_numbers.dat": "".join(f"{z}\n" for z in structure.numbers.tolist()),
            "pbc.dat": "".join(f"{int(x)}\n" for x in structure.pbc),
            "basis.dat": f"{basis}\n",
        }
        for name, text in texts.items():
            write_text(target / name, text)
        files = ("hamiltonians.h5", "overlaps.h5", "density_matrices.h5")
        for file, blocks in zip(files, found.values(), strict=False):
            (target / file).open("xb").close()
            with hdf5_written_to(target / file) as handle:
                group = handle.create_group("0")
                for key, values in blocks.items():
                    group[key] = values
        self._written += 1


def _lines(rows: np.ndarray) -> str:
    return "".join(" ".join(f"{float(x):.17g}" for x in row) + "\n" for row in rows)
