"""OpenMX 3.9's ``.scfout``: H, S and P in blocks, hartree and bohr; elements from the text beside.

The binary file knows neither elements nor shells. Both stand in the input, which the output
repeats: ``Atoms.SpeciesAndCoordinates`` and ``Definition.of.Atomic.Species`` (Te7.0-s3p2d2).
Calculations without spin and with collinear spin are read.
"""

import re
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.folders import text_in
from deeph_zero.data.formats.protocol import Matrices, Shells, Structure, sizes_of
from deeph_zero.data.formats.sources import OneFileSource
from deeph_zero.errors import InputError

_UNITS = CONVENTIONS["openmx"]
_MOST = 10**6
"""Atoms, cells or functions that no file of this kind has."""
_BASIS = re.compile(r"(?:[^-\s]*-)?((?:[spdf]\d)+)")
_FERMI = re.compile(r"Chemical [Pp]otential \(Hartree\)\s*=?\s*(-?\d+\.\d+)")


class OpenMXSource(OneFileSource):
    """One calculation: ``name.scfout``, and a text with its input beside it."""

    order = _UNITS.order
    ending = ".scfout"
    title = "a .scfout file"

    def _parse(self, path: Path) -> tuple[Structure, Matrices]:
        return _parse(path)


class _Numbers:
    """Numbers of a binary file, one after the other."""

    def __init__(self, path: Path) -> None:
        self._data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else b""
        self._at = 0

    def next(self, kind: str, *shape: int) -> np.ndarray:
        """The next numbers."""
        count = int(np.prod([float(n) for n in shape]))
        size = count * np.dtype(kind).itemsize
        if self._at + size > len(self._data):
            raise InputError(
                f"expected {count} numbers at byte {self._at}, the file ends at "
                f"{len(self._data)}; copy it again, or check that OpenMX 3.9 wrote it"
            )
        found = np.frombuffer(bytes(self._data[self._at : self._at + size]), kind)
        self._at += size
        return found.reshape(shape)


def _parse(path: Path) -> tuple[Structure, Matrices]:
    file = _Numbers(path)
    natm, spin, *_, ncell, _ = (int(x) for x in file.next("<i4", 7))
    switch = spin % 4
    if not (0 < natm < _MOST and 0 <= ncell < _MOST and 0 <= spin < 1000):
        raise InputError(
            f"expected numbers of atoms and cells, got {natm} and {ncell}; check that OpenMX 3.9 "
            "wrote the file"
        )
    if switch not in (0, 1):
        raise InputError(
            f"expected no spin or collinear spin, got SpinP_switch {switch}; noncollinear matrices "
            "are not read, convert them with DeepH-dock"
        )
    file.next("<f8", ncell + 1, 4)
    cells = file.next("<i4", ncell + 1, 4)[:, 1:].astype(np.int64)
    sizes, neighbours = (file.next("<i4", natm).astype(np.int64) for _ in range(2))
    numbers, shells, facts = _said_beside(path)
    if sizes_of(shells) != tuple(sizes.tolist()):
        raise InputError(
            f"expected {sizes.tolist()[:8]} functions of the atoms, the input beside has "
            f"{sizes_of(shells)[:8]}; check that the files belong together"
        )
    if neighbours.min() < 0 or neighbours.max() > _MOST:
        raise InputError("expected numbers of neighbours, got others; check the file")
    counts = (neighbours + 1).tolist()
    atoms = [file.next("<i4", n).astype(np.int64) - 1 for n in counts]
    where = [file.next("<i4", n).astype(np.int64) for n in counts]
    everyone, places = np.concatenate(atoms), np.concatenate(where)
    if not (everyone.min() >= 0 and everyone.max() < natm and places.min() >= 0) or (
        places.max() > ncell
    ):
        raise InputError(f"expected neighbours among {natm} atoms, got others; check the file")
    lattice = file.next("<f8", 3, 4)[:, 1:].copy()
    file.next("<f8", 3, 4)
    coords = file.next("<f8", natm, 4)[:, 1:].copy()
    home = np.repeat(np.arange(natm), counts)
    pairs = torch.from_numpy(np.stack([home, everyone], 1))
    areas = int((sizes[home] * sizes[everyone]).sum())
    values = [file.next("<f8", areas).copy() for _ in range(switch + 1)]
    overlap = file.next("<f8", areas).copy()

    def blocks(elements: np.ndarray) -> BlockMatrix:
        return BlockMatrix.packed(
            pairs,
            torch.from_numpy(cells[places]),
            torch.from_numpy(elements),
            tuple(sizes.tolist()),
        )

    structure = Structure(
        numbers=numbers,
        coords=coords,
        lattice=lattice if cells[places].any() else None,
        pbc=np.full(3, bool(cells[places].any())),
        name=path.stem,
    )
    fock = blocks(np.stack(values) if switch else values[0])
    return structure, Matrices(shells=shells, fock=fock, overlap=blocks(overlap), facts=facts)


def _said_beside(path: Path) -> tuple[np.ndarray, Shells, dict[str, float]]:
    """Elements, shells and the chemical potential from the input or the output beside."""
    for name in (f"{path.stem}.out", f"{path.stem}_in.dat", f"{path.stem}.dat", "openmx_in.dat"):
        if (path.parent / name).is_file():
            break
    else:
        raise InputError(
            f"expected {path.stem}.out or the input {path.stem}.dat beside the file, there is "
            "none; it says which elements and shells there are"
        )
    text = text_in(path.parent, name)
    species: dict[str, tuple[int, tuple[int, ...]]] = {}
    for words in _lines_between(text, "Definition.of.Atomic.Species", name):
        match = _BASIS.fullmatch(words[1]) if len(words) > 2 else None
        symbol = re.match(r"[A-Z][a-z]?", words[2]) if len(words) > 2 else None
        if match is None or symbol is None or symbol[0] not in atomic_numbers:
            raise InputError(
                f"{name}: expected 'Te Te7.0-s3p2d2 Te_PBE19' in Definition.of.Atomic.Species, got "
                f"{' '.join(words)[:60]!r}; correct it"
            )
        parts = re.findall(r"([spdf])(\d)", match[1])
        ls = tuple("spdf".index(letter) for letter, n in parts for _ in range(int(n)))
        species[words[0]] = (atomic_numbers[symbol[0]], tuple(sorted(ls)))
    atoms = [
        w[1] if len(w) > 1 else ""
        for w in _lines_between(text, "Atoms.SpeciesAndCoordinates", name)
    ]
    missing = [label for label in atoms if label not in species]
    if missing or not atoms:
        raise InputError(f"{name}: expected atoms of {', '.join(species)}, got {missing[:1]}")
    fermi = _FERMI.findall(text)
    facts = {"fermi": float(fermi[-1]) * _UNITS.energy} if fermi else {}
    numbers = np.array([species[label][0] for label in atoms], dtype=np.int64)
    return numbers, tuple(species[label][1] for label in atoms), facts


def _lines_between(text: str, keyword: str, name: str) -> list[list[str]]:
    """Words of the lines between <keyword and keyword>."""
    match = re.search(rf"<{re.escape(keyword)}\b(.*?){re.escape(keyword)}>", text, re.DOTALL)
    if match is None:
        raise InputError(f"{name}: expected <{keyword} ... {keyword}>, there is none")
    lines = [line.split("#")[0].split() for line in match[1].split("\n")[1:]]
    return [words for words in lines if words]
