"""DeepH's folders, current layout: POSCAR, info.json, hamiltonian.h5, overlap.h5; eV and ångström.

References:
    Layout of DeepH-dock (kYangLi/DeepH-dock, docs/key_concepts.md).
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import (
    CONVENTIONS,
    DEEPH_BOHR_IN_ANGSTROM,
    DEEPH_HARTREE_IN_EV,
)
from deeph_zero.data.formats.folders import text_in
from deeph_zero.data.formats.poscar import parse_poscar, write_poscar
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Shells,
    Structure,
    by_angular_momentum,
    identity,
    in_order,
    on_blocks,
    permuted,
    required_overlap,
    sizes_of,
    union_of_blocks,
)
from deeph_zero.data.formats.sources import FolderSource
from deeph_zero.data.formats.spins import to_spinor, unmixed
from deeph_zero.data.stored_values import Group
from deeph_zero.errors import InputError
from deeph_zero.host.documents import parse_json
from deeph_zero.host.files import write_text
from deeph_zero.host.hdf5 import hdf5_written_to, open_hdf5

FILES = ("POSCAR", "info.json", "hamiltonian.h5", "overlap.h5", "density_matrix.h5")
_NAMES = ("hamiltonian.h5", "hamiltonian_pred.h5")
_HIGHEST = 12
"""Angular momentum that no orbital exceeds."""
_ROUNDED = 1e-4
"""What two sets of constants may differ by."""
_VACUUM = 30.0
"""Width of the empty space around a molecule, bohr: the layout has no place for one without a
cell."""


class DeepHSource(FolderSource):
    """One folder per structure."""

    order = CONVENTIONS["deeph"].order
    needed = "POSCAR"

    def structure(self, index: int) -> Structure:
        """POSCAR; a molecule where info.json says so, or every block lies in the home cell."""
        folder = self._folders[index]
        numbers, coords, lattice = parse_poscar(text_in(folder, "POSCAR"))
        info = read_info(folder)
        _, length = units_of(info)
        periodic = info.get("pbc")
        if not isinstance(periodic, list) or len(periodic) != 3:
            periodic = [_has_neighbour_cells(folder)] * 3
        crystal = any(bool(x) for x in periodic)
        return Structure(
            numbers=numbers,
            coords=coords * length,
            lattice=lattice * length if crystal else None,
            pbc=np.array([bool(x) for x in periodic]),
            charge=whole(info, "charge"),
            spin=whole(info, "spin"),
            name=folder.name,
        )

    def matrices(self, index: int) -> Matrices:
        """H, S and where they are P; spin-polarised or of spinors where info.json says so."""
        folder = self._folders[index]
        numbers, _, _ = parse_poscar(text_in(folder, "POSCAR"))
        info = read_info(folder)
        energy, _ = units_of(info)
        shells = _shells(info, numbers)
        spinful = bool(info.get("spinful", False))
        name = next((n for n in _NAMES if (folder / n).is_file()), _NAMES[0])
        fock = _read_blocks(folder, name, shells, spinful)
        fock = fock.with_values(fock.values * energy)
        there = (folder / "overlap.h5").is_file() or not info.get("orthogonal_basis", False)
        overlap = identity(shells)
        if there:
            overlap = _read_blocks(folder, "overlap.h5", shells, spinful=False)
        density = None
        if (folder / "density_matrix.h5").is_file():
            density = _read_blocks(folder, "density_matrix.h5", shells, spinful)
        if spinful:
            fock, density = unmixed(fock, density)
        return Matrices(
            shells=shells, fock=fock, overlap=overlap, density=density, facts=facts_of(info, energy)
        )


def units_of(info: Mapping[str, Any]) -> tuple[float, float]:
    """Hartree per unit of energy and bohr per unit of length of a folder.

    Args:
        info: Its info.json, which may state the constants it was written with.

    Returns:
        The two factors.
    """
    stated = info.get("constants")
    found = CONVENTIONS["deeph"]
    if not isinstance(stated, dict):
        return found.energy, found.length
    energy, length = stated.get("hartree_in_eV"), stated.get("bohr_in_angstrom")
    if not isinstance(energy, float) or abs(energy / DEEPH_HARTREE_IN_EV - 1) > _ROUNDED:
        return found.energy, found.length
    if not isinstance(length, float) or abs(length / DEEPH_BOHR_IN_ANGSTROM - 1) > _ROUNDED:
        return found.energy, found.length
    return 1.0 / energy, 1.0 / length


def facts_of(info: Mapping[str, Any], energy: float) -> dict[str, Any]:
    """What info.json says beside the matrices; energies in hartree."""
    facts: dict[str, Any] = {}
    for key, name in (
        ("fermi_energy_eV", "fermi"),
        ("fermi_level", "fermi"),
        ("energy_eV", "energy"),
    ):
        value = info.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            facts[name] = float(value) * energy
    facts |= {k: info[k] for k in ("basis", "xc") if isinstance(info.get(k), str)}
    return facts | ({"folded": True} if info.get("folded") is True else {})


def whole(info: Mapping[str, Any], key: str) -> int:
    """A whole number of info.json, 0 where it is not there.

    Args:
        info: The document.
        key: Its name.

    Returns:
        The number.

    Raises:
        InputError: If there is something else.
    """
    value = info.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**6:
        raise InputError(f"info.json: expected {key}, a whole number, got {str(value)[:40]!r}")
    return value


def read_info(folder: Path) -> dict[str, Any]:
    """The document info.json.

    Args:
        folder: Folder of one structure.

    Returns:
        Its keys and values.

    Raises:
        InputError: If it is not there, or no such document.
    """
    try:
        info = parse_json(text_in(folder, "info.json"))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"info.json: expected JSON ({str(error)[:80]}); correct it") from None
    if not isinstance(info, dict):
        raise InputError("info.json: expected keys and values, got another document; correct it")
    return info


def _shells(info: Mapping[str, Any], numbers: np.ndarray) -> Shells:
    table = info.get("elements_orbital_map")
    if not isinstance(table, dict):
        raise InputError("info.json: expected elements_orbital_map, {element: [l, ...]}; add it")
    shells = []
    for number in numbers:
        symbol = chemical_symbols[int(number)]
        ls = table.get(symbol)
        good = isinstance(ls, list) and 0 < len(ls) < 1000
        if not good or not all(type(l) is int and 0 <= l <= _HIGHEST for l in ls or ()):
            raise InputError(
                f"info.json: expected the shells of {symbol} in elements_orbital_map, [l, ...], "
                f"0 <= l <= {_HIGHEST}, got {str(ls)[:40]}; correct it"
            )
        shells.append(tuple(ls or ()))
    return tuple(shells)


def _has_neighbour_cells(folder: Path) -> bool:
    name = next((n for n in (*_NAMES, "overlap.h5") if (folder / n).is_file()), _NAMES[0])
    with opened(folder, name) as group:
        return bool(group.array("atom_pairs", "iu")[:, :3].any())


@contextlib.contextmanager
def opened(folder: Path, name: str) -> Iterator[Group]:
    """The root of an HDF5 file of a folder.

    Args:
        folder: Folder of one structure.
        name: The file.

    Yields:
        Its datasets.

    Raises:
        InputError: If it is not there or damaged.
    """
    if not (folder / name).is_file():
        raise InputError(f"expected {name}, there is none; check the folder")
    try:
        with open_hdf5(folder / name) as handle:
            yield Group(handle, name, "write the file again")
    except OSError as error:
        line = str(error).splitlines()[0][:80]
        raise InputError(f"{name}: cannot be read ({line}); write the file again") from None


def _read_blocks(folder: Path, name: str, shells: Shells, spinful: bool) -> BlockMatrix:
    sizes = np.array(sizes_of(shells)) * (2 if spinful else 1)
    with opened(folder, name) as group:
        pairs = group.array("atom_pairs", "iu").astype(np.int64)
        shapes = group.array("chunk_shapes", "iu").astype(np.int64)
        bounds = group.array("chunk_boundaries", "iu").astype(np.int64)
        entries = group.array("entries", "fiuc")
        if pairs.ndim != 2 or pairs.shape[1:] != (5,) or not len(pairs):
            raise group.wrong("atom_pairs of shape [pairs, 5]", str(pairs.shape))
        atoms = pairs[:, 3:]
        if atoms.min() < 0 or atoms.max() >= len(sizes):
            raise group.wrong(f"atoms from 0 to {len(sizes) - 1} in atom_pairs", str(atoms.max()))
        if np.abs(pairs[:, :3]).max() > 10**6:
            raise group.wrong("cells near home in atom_pairs", str(np.abs(pairs[:, :3]).max()))
        wanted = sizes[atoms]
        if shapes.shape != wanted.shape or (shapes != wanted).any():
            raise group.wrong(
                "chunk_shapes as elements_orbital_map has them", "others; check spinful and the map"
            )
        ends = np.concatenate([[0], np.cumsum(wanted.prod(1))])
        if bounds.shape != ends.shape or (bounds != ends).any() or entries.shape != (ends[-1],):
            raise group.wrong(f"chunks of {ends[-1]} entries one behind the other", "others")
    kind = np.complex128 if entries.dtype.kind == "c" else np.float64
    return BlockMatrix.packed(
        torch.from_numpy(atoms),
        torch.from_numpy(np.ascontiguousarray(pairs[:, :3])),
        torch.from_numpy(entries.astype(kind)),
        tuple(int(n) for n in sizes),
    )


class DeepHSink:
    """Writes folders; more than one structure go into ``dft/0000``, ``dft/0001``, ..."""

    def __init__(self, folder: Path, count: int) -> None:
        """Nothing is written yet.

        Args:
            folder: An empty folder.
            count: How many structures will come.
        """
        self._folder, self._many = folder, count > 1
        self._written = 0

    def write(self, record: Record) -> None:
        """Add one structure, its atoms grouped by element as the layout wants them."""
        target = self._folder / "dft" / f"{self._written:04d}" if self._many else self._folder
        target.mkdir(parents=True, exist_ok=True)
        record = permuted(record, grouped_by_element(record.structure.numbers))
        matrices = by_angular_momentum(record.matrices)
        info = info_of(record.structure, matrices)
        lattice = cell_of(record.structure)
        coords = record.structure.coords
        write_text(
            target / "POSCAR",
            write_poscar(
                record.structure.numbers,
                coords * DEEPH_BOHR_IN_ANGSTROM,
                lattice * DEEPH_BOHR_IN_ANGSTROM,
            ),
        )
        write_text(target / "info.json", json.dumps(info, indent=1) + "\n")
        matrices = in_order(matrices, CONVENTIONS["deeph"].order)
        pattern = union_of_blocks(matrices)
        spins = matrices.spin_polarised or matrices.spinor
        for name, matrix, factor in (
            ("overlap.h5", required_overlap(matrices), 1.0),
            ("hamiltonian.h5", matrices.fock, DEEPH_HARTREE_IN_EV),
            ("density_matrix.h5", matrices.density, 1.0),
        ):
            if matrix is not None:
                whole_matrix = on_blocks(matrix, pattern)
                if spins and name != "overlap.h5":
                    whole_matrix = to_spinor(whole_matrix, matrices.sizes)
                _write_blocks(target / name, whole_matrix, factor)
        self._written += 1


def grouped_by_element(numbers: np.ndarray) -> list[int]:
    """Atoms with those of one element side by side, elements by their first atom."""
    first = {int(z): k for k, z in reversed(list(enumerate(numbers)))}
    return sorted(range(len(numbers)), key=lambda k: first[int(numbers[k])])


def cell_of(structure: Structure) -> np.ndarray:
    """Lattice vectors, bohr; of a molecule those of a box with empty space around it."""
    if structure.lattice is not None:
        return structure.lattice
    return np.diag(np.ptp(structure.coords, axis=0) + 2 * _VACUUM)


def info_of(structure: Structure, matrices: Matrices) -> dict[str, Any]:
    """What info.json says: DeepH's keys, and beside them charge, spin, pbc and the constants.

    Args:
        structure: The atoms.
        matrices: Their matrices.

    Returns:
        The document.

    Raises:
        InputError: If atoms of one element have different shells.
    """
    table: dict[str, list[int]] = {}
    for number, ls in zip(structure.numbers, matrices.shells, strict=True):
        symbol = chemical_symbols[int(number)]
        if table.setdefault(symbol, list(ls)) != list(ls):
            raise InputError(
                f"expected one basis per element, got two of {symbol}; DeepH's layout holds no "
                "other"
            )
    facts = matrices.facts
    info: dict[str, Any] = {
        "atoms_quantity": len(structure.numbers),
        "orbits_quantity": sum(matrices.sizes),
        "orthogonal_basis": False,
        "spinful": matrices.spin_polarised or matrices.spinor,
        "fermi_energy_eV": float(facts.get("fermi", 0.0)) * DEEPH_HARTREE_IN_EV,
        "elements_orbital_map": table,
        "charge": structure.charge,
        "spin": structure.spin,
        "pbc": [bool(x) for x in structure.pbc],
        "constants": {
            "hartree_in_eV": DEEPH_HARTREE_IN_EV,
            "bohr_in_angstrom": DEEPH_BOHR_IN_ANGSTROM,
        },
    }
    if "energy" in facts:
        info["energy_eV"] = float(facts["energy"]) * DEEPH_HARTREE_IN_EV
    return info | {k: facts[k] for k in ("basis", "xc", "folded") if k in facts}


def _write_blocks(path: Path, matrix: BlockMatrix, factor: float) -> None:
    path.open("xb").close()
    with hdf5_written_to(path) as handle:
        keys = torch.cat([matrix.cells, matrix.pairs], 1)
        sizes = torch.tensor(matrix.sizes, dtype=torch.long)
        handle["atom_pairs"] = keys.numpy()
        handle["chunk_shapes"] = sizes[matrix.pairs].numpy()
        handle["chunk_boundaries"] = matrix.offsets.numpy()
        handle["entries"] = (matrix.values * factor).numpy()
