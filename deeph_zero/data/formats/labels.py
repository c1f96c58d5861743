"""This package's own HDF5 as a source and a sink: dense matrices, or real-space blocks."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.protocol import (
    BlochDensity,
    Matrices,
    Record,
    Shells,
    Structure,
    from_dense,
    on_blocks,
    required_overlap,
    sizes_of,
    union_of_blocks,
)
from deeph_zero.data.formats.spins import filled_to
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.stored_values import HEAVIEST, Group, check_electrons, check_matrices
from deeph_zero.errors import InputError
from deeph_zero.host.hdf5 import PredictionWriter, group_names, open_hdf5
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser

ShellsOf = Callable[[np.ndarray, str], Shells]
"""Atomic numbers and basis to the shells of every atom."""

FORMAT_VERSION = 2
"""Version of a group with real-space blocks."""
NUMERICAL = "numerical"
"""``basis`` of functions that are no Gaussians; only their angular momenta are known."""
_MOST_POINTS = 10_000
"""Points along a vector that no mesh has."""
_CURE = "make the file again, with `deeph-zero label`"


class LabelsSource:
    """A file of ``deeph-zero label``, ``predict`` or ``convert``."""

    order = "pyscf"

    def __init__(self, path: Path, shells_of: ShellsOf) -> None:
        """Find the groups.

        Args:
            path: The file.
            shells_of: Where a group does not say which shells its functions are of.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path, self._shells_of = path, shells_of
        try:
            with open_hdf5(path) as handle:
                self._names = group_names(n for n in handle if isinstance(handle[n], h5py.Group))
        except OSError as error:
            line = str(error).splitlines()[0][:80]
            raise WholeFileError(
                f"expected labels in HDF5, cannot read it ({line}); make them with "
                "`deeph-zero label`"
            ) from None
        if not self._names:
            raise WholeFileError("expected a group per structure, got none; check the file")

    def __len__(self) -> int:
        """Number of structures."""
        return len(self._names)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def group(self, index: int) -> str:
        """Name of its group."""
        return self._names[index]

    def _read(self, index: int, look: Callable[[Group], Any]) -> Any:
        place = self.place(index)
        try:
            with open_hdf5(self._path) as handle:
                return look(Group(handle[self._names[index]], place, _CURE))
        except OSError as error:
            line = str(error).splitlines()[0][:80]
            raise InputError(f"{place}: cannot be read ({line}); {_CURE}") from None

    def structure(self, index: int) -> Structure:
        """Atoms, charge and spin as they are stored."""
        return self._read(index, lambda group: _structure(group, self._names[index]))

    def matrices(self, index: int) -> Matrices:
        """Blocks where the group has some, else the dense matrices."""
        found = self._read(index, self._matrices)
        if not self._read(index, lambda group: "kpts" in group):
            return found

        def bloch() -> BlochDensity:
            return self._read(index, lambda group: _bloch_density(group, found))

        return dataclasses.replace(found, bloch=bloch)

    def _matrices(self, group: Group) -> Matrices:
        group.check_facts()
        facts: dict[str, Any] = {}
        for name in ("energy", "fermi"):
            if name in group.attributes:
                facts[name] = group.number(name)
        if "fermi" in group and (each := group.array("fermi", "f")).shape == (2,):
            occ = group.array("mo_occ", "fiu") if "mo_occ" in group else np.empty(0)
            facts["fermi_of_spins"] = filled_to(each, occ) if occ.ndim == 3 else each
        for name in ("basis", "xc"):
            if name in group.attributes:
                facts[name] = group.text(name)
        if "folded" in group.attributes and group.switch("folded"):
            facts["folded"] = True
        numbers = group.array("numbers", "iu")
        shells = self._shells(group, numbers, facts.get("basis"))
        if "blocks" in group:
            return _from_blocks(group, shells, facts)
        if "kpts" in group:
            raise group.wrong(
                "real-space blocks of a crystal, as labels of semilocal functionals have them",
                "matrices at its k-points alone",
                "`deeph-zero predict RUN STRUCTURES` makes those of a run, hybrids have none",
            )
        fock = group.array(group.fock_name, "fiu")
        if fock.ndim not in (2, 3) or (fock.ndim == 3 and len(fock) != 2):
            raise group.wrong("fock of shape [nao, nao] or [2, nao, nao]", str(fock.shape))
        _check_label(group, fock, numbers, facts)
        overlap, density = (
            group.array(name, "fiu").astype(float) if name in group else None
            for name in ("overlap", "density")
        )
        return from_dense(shells, fock.astype(float), overlap, density, facts)

    def _shells(self, group: Group, numbers: np.ndarray, basis: str | None) -> Shells:
        if "shells" not in group:
            if basis is None or basis == NUMERICAL:
                raise group.wrong("basis, a name, or shells of the atoms", "neither")
            return self._shells_of(numbers, basis)
        table = group.array("shells", "iu")
        good = table.ndim == 2 and table.shape[1:] == (2,) and len(table)
        if not good or table.min() < 0 or table[:, 0].max() >= len(numbers) or table.max() > 10**6:
            raise group.wrong("shells of shape [shells, 2], atom and l", str(table.shape))
        return tuple(
            tuple(int(l) for l in table[table[:, 0] == atom, 1]) for atom in range(len(numbers))
        )


def _check_label(
    group: Group, fock: np.ndarray, numbers: np.ndarray, facts: Mapping[str, Any]
) -> None:
    """Where there are orbitals, everything has to belong together as it does for training."""
    from deeph_zero.integrals.basis_sets import electrons_beside_cores

    if not all(name in group for name in ("density", "mo_energy", "mo_occ")):
        return
    density, energies, occupations = (
        group.array(name, "fiu") for name in ("density", "mo_energy", "mo_occ")
    )
    check_matrices(group, fock, density, energies, occupations)
    electrons = electrons_beside_cores(numbers.tolist(), facts["basis"])
    check_electrons(group, electrons, group.whole("charge"), group.whole("spin"), occupations)


def _structure(group: Group, name: str) -> Structure:
    numbers, coords = group.array("numbers", "iu"), group.array("positions", "fiu")
    if numbers.ndim != 1 or not len(numbers) or coords.shape != (len(numbers), 3):
        raise group.wrong("positions of shape [atoms, 3]", f"{numbers.shape} and {coords.shape}")
    if numbers.min() < 1 or numbers.max() > HEAVIEST:
        raise group.wrong(f"atomic numbers from 1 to {HEAVIEST}", str(numbers.tolist())[:60])
    lattice, pbc = None, np.zeros(3, dtype=bool)
    if "lattice" in group:
        lattice = group.array("lattice", "fiu").astype(float)
        if lattice.shape != (3, 3) or abs(np.linalg.det(lattice)) < 1e-6:
            raise group.wrong("a lattice of three vectors", str(lattice.shape))
        pbc = np.ones(3, dtype=bool)
        if "pbc" in group:
            pbc = np.resize(group.array("pbc", "iub").astype(bool), 3)
    return Structure(
        numbers=numbers.astype(np.int64),
        coords=coords.astype(float),
        lattice=lattice,
        pbc=pbc,
        charge=group.whole("charge") if "charge" in group.attributes else 0,
        spin=group.whole("spin") if "spin" in group.attributes else 0,
        name=group.text("source_id") if "source_id" in group.attributes else name,
    )


def _from_blocks(group: Group, shells: Shells, facts: dict[str, Any]) -> Matrices:
    pairs = group.array("block_atoms", "iu").astype(np.int64)
    cells = group.array("block_cells", "iu").astype(np.int64)
    if pairs.ndim != 2 or pairs.shape[1:] != (2,) or cells.shape != (len(pairs), 3):
        raise group.wrong(
            "block_atoms [blocks, 2] and block_cells", f"{pairs.shape}, {cells.shape}"
        )
    sizes = sizes_of(shells)
    spinor = "spinor" in group.attributes and group.switch("spinor")

    def matrix(name: str) -> BlockMatrix | None:
        if name not in group:
            return None
        values = group.array(name, "fiuc")
        kind = np.complex128 if values.dtype.kind == "c" else np.float64
        doubled = spinor and name != "overlap_blocks"
        try:
            return BlockMatrix.packed(
                torch.from_numpy(pairs),
                torch.from_numpy(cells),
                torch.from_numpy(values.astype(kind)),
                tuple(2 * n for n in sizes) if doubled else sizes,
            )
        except ValueError as error:
            raise group.wrong(f"{name} that fit the shells", f"{error}") from None

    fock = matrix("blocks")
    assert fock is not None
    return Matrices(
        shells=shells,
        fock=fock,
        overlap=matrix("overlap_blocks"),
        density=matrix("density_blocks"),
        facts=facts,
    )


def _bloch_density(group: Group, matrices: Matrices) -> BlochDensity:
    """P at the k-points: as it is stored, else the filled levels of the blocks."""
    kpts = group.array("kpts", "fiu").astype(float)
    if kpts.ndim != 2 or kpts.shape[1:] != (3,) or not len(kpts):
        raise group.wrong("kpts of shape [nk, 3]", str(kpts.shape))
    weights = np.full(len(kpts), 1 / len(kpts))
    if "kweights" in group:
        weights = group.array("kweights", "fiu").astype(float)
    nao = sum(matrices.sizes)
    if "density" in group:
        dm = group.array("density", "fiuc").astype(complex)
    else:
        dm = _filled(matrices, kpts, group.array("mo_occ", "fiu").astype(float), group)
    dm = dm if dm.ndim == 4 else dm[None]
    if weights.shape != (len(kpts),) or dm.shape[1:] != (len(kpts), nao, nao):
        raise group.wrong(
            f"kweights [{len(kpts)}] and density [{len(kpts)}, {nao}, {nao}]",
            f"{weights.shape} and {dm.shape}",
        )
    mesh = None
    if "fft_mesh" in group.attributes:
        numbers = np.ravel(group.attributes["fft_mesh"])
        if numbers.shape != (3,) or not all(0 < int(n) < _MOST_POINTS for n in numbers):
            raise group.wrong("three numbers of points as fft_mesh", str(numbers)[:60])
        mesh = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
    return BlochDensity(kpts=kpts, weights=weights, dm=dm, mesh=mesh)


def _filled(matrices: Matrices, kpts: np.ndarray, occ: np.ndarray, group: Group) -> np.ndarray:
    """Σ n c c† of the blocks' levels."""
    points = torch.from_numpy(kpts)
    overlap = required_overlap(matrices).at_k(points)
    fock = matrices.fock.at_k(points)
    fock = fock if matrices.spin_polarised else fock[None]
    found = BlochOrthogonaliser(overlap, lindep_threshold()).orbitals(fock)[1].numpy()
    occ = occ if occ.ndim == 3 else occ[None]
    if occ.shape != (len(found), len(kpts), found.shape[-1]):
        raise group.wrong(f"mo_occ of {found.shape[-1]} levels a k-point", str(occ.shape))
    return np.einsum("skip,skp,skjp->skij", found, occ, found.conj())


class LabelsSink:
    """Writes real-space blocks, one group per structure."""

    def __init__(self, writer: PredictionWriter, source: str) -> None:
        """Nothing is written yet.

        Args:
            writer: The open file.
            source: Name of the format the matrices come from.
        """
        self._writer, self._source = writer, source

    def write(
        self,
        record: Record,
        more: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one structure.

        Args:
            record: Its matrices.
            more: Datasets beside the blocks.
            attributes: Beside those that blocks have.
        """
        structure, matrices = record.structure, record.matrices
        pattern = union_of_blocks(matrices)
        fock = on_blocks(matrices.fock, pattern)
        arrays: dict[str, Any] = {
            "numbers": structure.numbers,
            "positions": structure.coords,
            "shells": np.array(
                [(k, l) for k, ls in enumerate(matrices.shells) for l in ls], dtype=np.int64
            ),
            "block_atoms": pattern.pairs.numpy(),
            "block_cells": pattern.cells.numpy(),
            "block_offsets": fock.offsets.numpy(),
            "blocks": fock.values.numpy(),
        }
        if structure.lattice is not None:
            arrays |= {"lattice": structure.lattice, "pbc": structure.pbc}
        for name, matrix in (
            ("overlap_blocks", matrices.overlap),
            ("density_blocks", matrices.density),
        ):
            if matrix is not None:
                arrays[name] = on_blocks(matrix, pattern).values.numpy()
        facts = dict(matrices.facts)
        own = facts.pop("fermi_of_spins", None)
        if own is not None and np.isfinite(own).all():
            arrays["fermi"] = own
        own = {
            "format_version": FORMAT_VERSION,
            "gauge": "lattice",
            "charge": structure.charge,
            "spin": structure.spin,
            "spinor": matrices.spinor,
            "basis": facts.pop("basis", NUMERICAL),
            "source_format": self._source,
            "source_id": structure.name or None,
            **facts,
        }
        self._writer.write(arrays | dict(more or {}), own | dict(attributes or {}))
