"""DeepH's folders, the layout of DeepH-pack 0.2, DeepH-E3 and xDeepH: text files and string keys.

``lat.dat`` and ``site_positions.dat`` have vectors in columns; ``hamiltonians.h5`` has a dataset
"[R1, R2, R3, i, j]" per block, atoms counted from 1, functions in OpenMX's order, eV.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import (
    CONVENTIONS,
    DEEPH_BOHR_IN_ANGSTROM,
    DEEPH_HARTREE_IN_EV,
)
from deeph_zero.data.formats.deeph import (
    cell_of,
    facts_of,
    info_of,
    opened,
    read_info,
    units_of,
    whole,
)
from deeph_zero.data.formats.folders import numbers_of, text_in
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Shells,
    Structure,
    by_angular_momentum,
    identity,
    in_order,
    on_blocks,
    required_overlap,
    sizes_of,
    union_of_blocks,
)
from deeph_zero.data.formats.sources import FolderSource
from deeph_zero.data.formats.spins import to_spinor, unmixed
from deeph_zero.data.stored_values import HEAVIEST, Group
from deeph_zero.errors import InputError
from deeph_zero.host.files import write_text
from deeph_zero.host.hdf5 import hdf5_written_to

FILES = (
    "info.json", "lat.dat", "rlat.dat", "site_positions.dat", "element.dat", "orbital_types.dat",
    "hamiltonians.h5", "overlaps.h5", "density_matrices.h5",
)  # fmt: skip
_KEY = re.compile(r"\[\s*(-?\d+),\s*(-?\d+),\s*(-?\d+),\s*(\d+),\s*(\d+)\s*\]")


class LegacySource(FolderSource):
    """One folder per structure."""

    order = CONVENTIONS["deeph-legacy"].order
    needed = "orbital_types.dat"

    def structure(self, index: int) -> Structure:
        """The text files; a molecule where info.json says so, or every block lies at home."""
        folder = self._folders[index]
        info = read_info(folder)
        _, length = units_of(info)
        numbers = _elements(folder)
        lattice = _columns(folder, "lat.dat", 3)
        periodic = info.get("pbc")
        if not isinstance(periodic, list) or len(periodic) != 3:
            with opened(folder, "hamiltonians.h5") as group:
                periodic = [any(_key(name, group, 10**6)[:3] != (0, 0, 0) for name in group)] * 3
        crystal = any(bool(x) for x in periodic)
        return Structure(
            numbers=numbers,
            coords=_columns(folder, "site_positions.dat", len(numbers)) * length,
            lattice=lattice * length if crystal else None,
            pbc=np.array([bool(x) for x in periodic]),
            charge=whole(info, "charge"),
            spin=whole(info, "spin"),
            name=folder.name,
        )

    def matrices(self, index: int) -> Matrices:
        """H, S and where they are P."""
        folder = self._folders[index]
        info = read_info(folder)
        energy, _ = units_of(info)
        shells = _orbital_types(folder)
        spinful = bool(info.get("isspinful", False))
        fock = _read_blocks(folder, "hamiltonians.h5", shells, spinful)
        fock = fock.with_values(fock.values * energy)
        overlap, density = identity(shells), None
        if (folder / "overlaps.h5").is_file() or not info.get("isorthogonal", False):
            overlap = _read_blocks(folder, "overlaps.h5", shells, spinful=False)
        if (folder / "density_matrices.h5").is_file():
            density = _read_blocks(folder, "density_matrices.h5", shells, spinful)
        if spinful:
            fock, density = unmixed(fock, density)
        return Matrices(
            shells=shells, fock=fock, overlap=overlap, density=density, facts=facts_of(info, energy)
        )


def _columns(folder: Path, name: str, count: int) -> np.ndarray:
    """Vectors that stand in columns, as rows [count, 3]."""
    lines = [line for line in text_in(folder, name).split("\n") if line.strip()]
    if len(lines) != 3:
        raise InputError(f"{name}: expected 3 lines, x, y and z of each vector, got {len(lines)}")
    rows = [numbers_of(line, count, f"{name} line {k + 1}") for k, line in enumerate(lines)]
    return np.array(rows).T.copy()


def _elements(folder: Path) -> np.ndarray:
    words = text_in(folder, "element.dat").split()
    if not words or not all(w.isdecimal() and 0 < int(w[:9]) <= HEAVIEST for w in words):
        raise InputError(
            f"element.dat: expected an atomic number from 1 to {HEAVIEST} per line, got "
            f"{' '.join(words)[:40]!r}; correct it"
        )
    return np.array([int(w) for w in words], dtype=np.int64)


def _orbital_types(folder: Path) -> Shells:
    shells = []
    for number, line in enumerate(text_in(folder, "orbital_types.dat").split("\n"), start=1):
        words = line.split()
        if not all(w.isdecimal() and int(w[:9]) <= 12 for w in words):
            raise InputError(
                f"orbital_types.dat line {number}: expected the l of each shell, got "
                f"{line.strip()[:40]!r}; correct it"
            )
        if words:
            shells.append(tuple(int(w) for w in words))
    return tuple(shells)


def _key(name: str, group: Group, natm: int) -> tuple[int, ...]:
    match = _KEY.fullmatch(name)
    found = tuple(int(x[:9]) for x in match.groups()) if match else (0, 0, 0, 0, 0)
    if not all(1 <= atom <= natm for atom in found[3:]):
        raise group.wrong(f"blocks named [R1, R2, R3, i, j], atoms 1 to {natm}", repr(name[:40]))
    return found


def _read_blocks(folder: Path, name: str, shells: Shells, spinful: bool) -> BlockMatrix:
    sizes = [n * (2 if spinful else 1) for n in sizes_of(shells)]
    keys, blocks = [], []
    with opened(folder, name) as group:
        for key in group:
            *cell, i, j = _key(key, group, len(sizes))
            values = group.array(key, "fiuc")
            if values.shape != (sizes[i - 1], sizes[j - 1]):
                raise group.wrong(
                    f"{sizes[i - 1]} x {sizes[j - 1]} elements in {key}, as orbital_types.dat says",
                    str(values.shape),
                )
            keys.append((*cell, i - 1, j - 1))
            kind = np.complex128 if values.dtype.kind == "c" else np.float64
            blocks.append(torch.from_numpy(values.astype(kind)))
        if not keys:
            raise group.wrong("blocks", "an empty file")
    table = torch.tensor(keys, dtype=torch.long)
    return BlockMatrix.from_blocks(table[:, 3:], table[:, :3], blocks, sizes)


class LegacySink:
    """Writes folders; more than one structure go into ``0000``, ``0001``, ..."""

    def __init__(self, folder: Path, count: int) -> None:
        """Nothing is written yet.

        Args:
            folder: An empty folder.
            count: How many structures will come.
        """
        self._folder, self._many = folder, count > 1
        self._written = 0

    def write(self, record: Record) -> None:
        """Add one structure."""
        target = self._folder / f"{self._written:04d}" if self._many else self._folder
        target.mkdir(parents=True, exist_ok=True)
        matrices = by_angular_momentum(record.matrices)
        info = info_of(record.structure, matrices)
        _write_texts(target, record.structure, matrices.shells)
        legacy = {
            "nsites": info["atoms_quantity"],
            "isorthogonal": info["orthogonal_basis"],
            "isspinful": info["spinful"],
            "fermi_level": info["fermi_energy_eV"],
        }
        kept = ("charge", "spin", "pbc", "constants", "energy_eV", "basis", "xc", "folded")
        legacy |= {k: info[k] for k in kept if k in info}
        write_text(target / "info.json", json.dumps(legacy, indent=1) + "\n")
        matrices = in_order(matrices, CONVENTIONS["deeph-legacy"].order)
        pattern = union_of_blocks(matrices)
        for name, matrix, factor in (
            ("overlaps.h5", required_overlap(matrices), 1.0),
            ("hamiltonians.h5", matrices.fock, DEEPH_HARTREE_IN_EV),
            ("density_matrices.h5", matrices.density, 1.0),
        ):
            if matrix is not None:
                found = on_blocks(matrix, pattern)
                if info["spinful"] and name != "overlaps.h5":
                    found = to_spinor(found, matrices.sizes)
                _write_blocks(target / name, found, factor)
        self._written += 1


def _write_texts(target: Path, structure: Structure, shells: Shells) -> None:
    lattice = cell_of(structure) * DEEPH_BOHR_IN_ANGSTROM
    texts = {
        "lat.dat": _lines(lattice.T),
        "rlat.dat": _lines(2 * np.pi * np.linalg.inv(lattice)),
        "site_positions.dat": _lines(structure.coords.T * DEEPH_BOHR_IN_ANGSTROM),
        "element.dat": "".join(f"{int(z)}\n" for z in structure.numbers),
        "orbital_types.dat": "".join("  ".join(map(str, ls)) + "\n" for ls in shells),
    }
    for name, text in texts.items():
        write_text(target / name, text)


def _lines(rows: np.ndarray | Sequence[Sequence[float]]) -> str:
    return "".join(" ".join(f"{float(x):.17g}" for x in row) + "\n" for row in rows)


def _write_blocks(path: Path, matrix: BlockMatrix, factor: float) -> None:
    path.open("xb").close()
    with hdf5_written_to(path) as handle:
        for k, ((i, j), cell) in enumerate(
            zip(matrix.pairs.tolist(), matrix.cells.tolist(), strict=True)
        ):
            key = "[" + ", ".join(map(str, (*cell, i + 1, j + 1))) + "]"
            handle[key] = (matrix.block(k) * factor).numpy()
