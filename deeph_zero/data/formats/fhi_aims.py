"""FHI-aims' text matrices of a molecule or atom (``output h_s_matrices``); hartree, ångström.

A folder with ``geometry.in``, ``basis-indices.out``, ``hamiltonian.out``, ``overlap-matrix.out``.
"""

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

_UNITS = CONVENTIONS["aims"]


class AimsSource(FolderSource):
    """One folder per calculation."""

    order = _UNITS.order
    needed = "basis-indices.out"

    def structure(self, index: int) -> Structure:
        """The atoms of geometry.in."""
        folder = self._folders[index]
        numbers, rows = [], []
        for k, line in enumerate(text_in(folder, "geometry.in").split("\n"), start=1):
            words = line.split("#")[0].split()
            if words[:1] == ["lattice_vector"]:
                raise InputError(
                    f"geometry.in line {k}: expected a molecule, got a crystal, whose matrices "
                    "(rs_hamiltonian.out) are not read; convert them with DeepH-dock"
                )
            if words[:1] != ["atom"]:
                continue
            rows.append(numbers_of(" ".join(words[1:]), 3, f"geometry.in line {k}"))
            symbol = words[4].split("_")[0] if len(words) > 4 else ""
            if symbol not in atomic_numbers or symbol == "X":
                raise InputError(
                    f"geometry.in line {k}: expected 'atom x y z element', got "
                    f"{line.strip()[:60]!r}; correct it"
                )
            numbers.append(atomic_numbers[symbol])
        if not rows:
            raise InputError("geometry.in: expected atoms, got none; check the file")
        return Structure(
            numbers=np.array(numbers, dtype=np.int64),
            coords=np.array(rows) * _UNITS.length,
            name=folder.name,
        )

    def matrices(self, index: int) -> Matrices:
        """H and S."""
        folder = self._folders[index]
        shells = _shells(folder)
        return Matrices(
            shells=shells,
            fock=_triangle(folder, "hamiltonian.out", shells),
            overlap=_triangle(folder, "overlap-matrix.out", shells),
        )


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
