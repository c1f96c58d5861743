"""SIESTA's and HONPAS' HSX files: sparse H and S of numerical orbitals, rydberg and bohr.

Fortran records, versions 1 and 2 of the format. Beside the file, ``.DM`` has the density matrix,
and ``.XV`` is looked at where a species' label is no element. A file of one cell is a molecule,
unless its overlaps show that other cells were folded into it: then its matrices are those of k = 0.

References:
    E. Artacho et al., J. Phys.: Condens. Matter 20, 064208 (2008), and SIESTA's manual, SaveHS.
"""

import dataclasses
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.folders import text_in
from deeph_zero.data.formats.fortran import FortranRecords
from deeph_zero.data.formats.proof import TURNS, order_deviation
from deeph_zero.data.formats.protocol import Matrices, Record, Structure, in_pyscf_order
from deeph_zero.data.formats.siesta_dm import check_electrons, density_beside
from deeph_zero.data.formats.sources import OneFileSource
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError

_UNITS = CONVENTIONS["hsx"]
_MOST = 10**7
"""Orbitals, atoms or cells that no file of this kind has."""
_SPINS = (1, 2, 4, 8)


class HSXSource(OneFileSource):
    """One HSX file: one structure."""

    order = _UNITS.order
    ending = ".HSX"
    title = "an HSX file"

    def _parse(self, path: Path) -> tuple[Structure, Matrices]:
        return _parse(path)


def _parse(path: Path) -> tuple[Structure, Matrices]:
    records = FortranRecords(path, "an HSX file of version 1 or 2")
    (version,) = records.numbers("the version", "<i4", 1)
    if version not in (1, 2):
        raise InputError(
            f"expected version 1 or 2 of HSX, got {version}; write it with SIESTA 5 (older files: "
            "sisl converts them)"
        )
    (double,) = records.numbers("the precision", "<i4", 1)
    natm, nao, nspin, nspecies, *nsc = (int(x) for x in records.numbers("the sizes", "<i4", 7))
    ncell = int(np.prod([float(max(n, 0)) for n in nsc]))
    if nspin not in _SPINS or not all(0 < n < _MOST for n in (natm, nao, nspecies, ncell)):
        raise InputError(
            f"expected sizes of atoms, orbitals, spins (1, 2, 4 or 8), species and cells, got "
            f"{natm}, {nao}, {nspin}, {nspecies} and {nsc}; check that it is an HSX file"
        )
    head = records.numbers("the cell, fermi level and charge", "<f8", 12)
    atoms = records.next("the atoms")
    isc, coords, species, last = _atoms(atoms, natm, ncell)
    shells, labels, valences = _species(records, nspecies)
    if not (species.min() >= 1 and species.max() <= nspecies):
        raise InputError(f"expected species from 1 to {nspecies}, got {species.tolist()[:8]}")
    of_atoms = tuple(shells[k - 1] for k in species)
    sizes = [sum(2 * l + 1 for l in ls) for ls in of_atoms]
    if sum(sizes) != nao or (last != np.cumsum(sizes)).any():
        raise InputError(f"expected {nao} orbitals, the species have {sum(sizes)}; check the file")
    if version == 2:
        records.next("the k-point mesh")
    fock, overlap = _sparse(records, isc, sizes, nspin=nspin, kind="<f8" if double else "<f4")
    facts = {"fermi": float(head[9]) * _UNITS.energy, "n_electrons": float(head[10])}
    density = density_beside(path, isc, sizes, nspin)
    if density is not None:
        check_electrons(path, density, overlap, float(head[10]))
    matrices = Matrices(shells=of_atoms, fock=fock, overlap=overlap, density=density, facts=facts)
    molecule = Structure(
        numbers=_numbers(path, labels, species),
        coords=coords,
        charge=round(float(sum(valences[k - 1] for k in species) - head[10])),
        name=path.stem,
    )
    if ncell == 1 and not _folded(molecule, matrices):
        return molecule, matrices
    structure = dataclasses.replace(
        molecule, lattice=head[:9].reshape(3, 3).copy(), pbc=np.array([n > 1 for n in nsc])
    )
    if ncell == 1:
        structure = dataclasses.replace(structure, pbc=np.ones(3, dtype=bool))
        matrices = dataclasses.replace(matrices, facts=facts | {"folded": True})
    return structure, matrices


def _folded(molecule: Structure, matrices: Matrices) -> bool:
    """Whether overlaps with other cells were added to those at home, as without ForceAuxCell."""
    deviation = order_deviation(Record(molecule, in_pyscf_order(matrices, _UNITS.order)))
    return deviation is not None and deviation > TURNS


def _atoms(
    record: bytes, natm: int, ncell: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cells [ncell, 3], positions, species and last orbital of each atom."""
    sizes = [12 * ncell, 24 * natm, 4 * natm, 4 * natm]
    if len(record) != sum(sizes):
        raise InputError(
            f"expected {sum(sizes)} bytes of cells and atoms, got {len(record)}; check that it is "
            "an HSX file of version 1 or 2"
        )
    a, b, c = np.cumsum(sizes)[:3]
    coords = np.frombuffer(record[a:b], "<f8").reshape(natm, 3)
    if not np.isfinite(coords).all() or np.abs(coords).max() > 1e9:
        raise InputError("expected finite positions, got NaN or infinity; check the file")
    return (
        np.frombuffer(record[:a], "<i4").reshape(ncell, 3).astype(np.int64),
        coords.copy(),
        np.frombuffer(record[b:c], "<i4").astype(np.int64),
        np.frombuffer(record[c:], "<i4").astype(np.int64),
    )


def _species(
    records: FortranRecords, count: int
) -> tuple[list[tuple[int, ...]], list[str], list[float]]:
    """Shells, label and valence charge of each species."""
    record = records.next("the species")
    if len(record) != 32 * count:
        raise InputError(f"expected {count} species, got a record of {len(record)} bytes")
    shells, labels, valences = [], [], []
    for k in range(count):
        part = record[32 * k : 32 * k + 32]
        labels.append(part[:20].decode("latin-1").strip())
        valence, orbitals = struct.unpack("<di", part[20:])
        valences.append(valence if 0 <= valence <= HEAVIEST else 0.0)
        table = records.numbers(f"orbitals of {labels[-1][:20]}", "<i4", 3 * max(orbitals, 0))
        shells.append(_shells(table.reshape(-1, 3), labels[-1]))
    return shells, labels, valences


def _shells(table: np.ndarray, label: str) -> tuple[int, ...]:
    """l of each shell, from n, l and zeta of every orbital: 2l+1 alike follow one another."""
    ls, at = [], 0
    while at < len(table):
        l = int(table[at, 1])
        part = table[at : at + 2 * l + 1] if 0 <= l <= 12 else table[:0]
        if len(part) != 2 * l + 1 or (part != part[0]).any():
            raise InputError(
                f"expected 2l+1 orbitals of each shell of {label[:20]!r}, got others; check the "
                "file"
            )
        ls.append(l)
        at += 2 * l + 1
    return tuple(ls)


def _numbers(path: Path, labels: Sequence[str], species: np.ndarray) -> np.ndarray:
    """Atomic numbers from the labels (Fe, Fe.soc, C_1), or from the XV file beside."""
    known = [atomic_numbers.get(_element(label), 0) for label in labels]
    if all(known):
        return np.array([known[k - 1] for k in species], dtype=np.int64)
    beside = path.with_suffix(".XV")
    if not beside.is_file():
        label = labels[known.index(0)]
        raise InputError(
            f"expected labels of species that begin with an element, got {label[:20]!r}; put "
            f"{beside.name} beside the file"
        )
    lines = text_in(beside.parent, beside.name).split("\n")
    words = [line.split()[1:2] for line in lines[4 : 4 + len(species)]]
    found = [int(w[0]) if w and w[0].isdecimal() else 0 for w in words]
    if len(found) != len(species) or not all(0 < z <= HEAVIEST for z in found):
        raise InputError(f"{beside.name}: expected an atomic number of each atom; check the file")
    return np.array(found, dtype=np.int64)


def _element(label: str) -> str:
    letters = label[: next((k for k, c in enumerate(label) if not c.isalpha()), len(label))]
    return letters if letters in atomic_numbers and letters != "X" else ""


def _sparse(
    records: FortranRecords, isc: np.ndarray, sizes: Sequence[int], *, nspin: int, kind: str
) -> tuple[BlockMatrix, BlockMatrix]:
    """H and S from their columns."""
    nao = sum(sizes)
    counts = records.numbers("the columns of each row", "<i4", nao).astype(np.int64)
    if counts.min() < 0:
        raise InputError("expected numbers of columns, got negative ones; check the file")
    columns = np.concatenate(
        [records.numbers("columns", "<i4", n).astype(np.int64) for n in counts.tolist()]
    )
    if len(columns) and not (columns.min() >= 1 and columns.max() <= nao * len(isc)):
        raise InputError(
            f"expected columns from 1 to {nao * len(isc)}, got {columns.min()} to {columns.max()}"
        )
    parts = [_rows(records, "H", counts, kind) for _ in range(nspin)]
    overlap = _rows(records, "S", counts, kind)
    rows = torch.from_numpy(np.repeat(np.arange(nao), counts))
    cells = torch.from_numpy(isc[(columns - 1) // nao])
    functions = torch.from_numpy((columns - 1) % nao)

    def blocks(values: np.ndarray) -> BlockMatrix:
        return BlockMatrix.from_entries(rows, functions, cells, torch.from_numpy(values), sizes)

    fock = np.stack(parts) * _UNITS.energy
    if nspin == 1:
        return blocks(fock[0]), blocks(overlap)
    return _with_spin(blocks, fock), blocks(overlap)


def _rows(records: FortranRecords, what: str, counts: np.ndarray, kind: str) -> np.ndarray:
    return np.concatenate([records.numbers(what, kind, n) for n in counts.tolist()]).astype(float)


def _with_spin(blocks: Callable[[np.ndarray], BlockMatrix], fock: np.ndarray) -> BlockMatrix:
    """Two spins, or blocks [[uu, ud], [du, dd]].

    SIESTA keeps ⟨ν R| H |μ 0⟩ in the place of (μ, ν R), the complex conjugate of a block, with Re
    ud and -Im ud in the third and fourth component. On two Pt atoms with spin-orbit coupling this
    gives SIESTA's eigenvalues, and l·s the sign it has.
    """
    if len(fock) == 2:
        return blocks(fock)
    up, down = fock[0] + 0j, fock[1] + 0j
    down_up = fock[2] + 1j * fock[3]
    up_down = down_up.conj()
    if len(fock) == 8:
        up, down = up - 1j * fock[4], down - 1j * fock[5]
        up_down = fock[6] - 1j * fock[7]
    uu, ud, du, dd = (blocks(values) for values in (up, up_down, down_up, down))
    parts = []
    for a, b, c, d in zip(uu.blocks(), ud.blocks(), du.blocks(), dd.blocks(), strict=True):
        parts.append(torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)], 0))
    sizes = [2 * n for n in uu.sizes]
    return BlockMatrix.from_blocks(uu.pairs, uu.cells, parts, sizes)
