"""What programs start from: a density as a Gaussian cube, a molecule as a checkpoint of PySCF."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from ase.data import chemical_symbols
from pyscf import gto, scf
from pyscf.pbc import gto as pbc_gto
from pyscf.tools import cubegen

from deeph_zero.data.formats.labels import NUMERICAL
from deeph_zero.data.formats.protocol import BlochDensity, Record
from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.mesh_density import mesh_density
from deeph_zero.molecule import Molecule

_SPACING = 0.15
"""Distance of two points of a cube, bohr."""


def on_mesh(record: Record, mesh: tuple[int, int, int]) -> Record:
    """A crystal whose density is wanted on another mesh than its own.

    Args:
        record: A structure and its matrices.
        mesh: Points along the vectors.

    Returns:
        The record.

    Raises:
        InputError: If it is a molecule, whose cube has no cell to share.
    """
    read = record.matrices.bloch
    if record.structure.lattice is None or read is None:
        what = "a molecule" if record.structure.lattice is None else "matrices without a density"
        raise InputError(f"{argument('mesh')}: expected the density of a crystal, got {what}; "
                         "leave it out")  # fmt: skip
    matrices = dataclasses.replace(
        record.matrices, bloch=lambda: dataclasses.replace(read(), mesh=mesh)
    )
    return Record(record.structure, matrices)


def _mole(record: Record) -> gto.Mole:
    structure, matrices = record.structure, record.matrices
    basis = matrices.facts.get("basis", NUMERICAL)
    if structure.lattice is not None or basis == NUMERICAL or matrices.spinor:
        what = "a crystal" if structure.lattice is not None else f"basis {basis!r}"
        raise InputError(f"expected a molecule in a Gaussian basis, got {what}; its functions "
                         "cannot be evaluated")  # fmt: skip
    mol = build_mole(
        Molecule(
            numbers=structure.numbers,
            coords=structure.coords,
            charge=structure.charge,
            spin=structure.spin,
        ),
        basis=basis,
    )
    if shell_ls(mol) != matrices.shells:
        raise InputError(f"expected the shells of {basis[:40]}, got others; give the right basis")
    return mol


def _orbitals(record: Record, mol: gto.Mole) -> tuple[Any, Any, Any]:
    """Energies, coefficients and aufbau occupations of H, with a spin axis where H has one."""
    overlap = mol.intor("int1e_ovlp")
    fock = record.matrices.fock.to_dense().numpy()
    if fock.ndim == 2:
        energy, coeff = scipy.linalg.eigh(fock, overlap)
        occ = np.zeros(len(energy))
        occ[: mol.nelec[0]] += 1
        occ[: mol.nelec[1]] += 1
        return energy, coeff, occ
    found = [scipy.linalg.eigh(part, overlap) for part in fock]
    occ = np.zeros((2, fock.shape[-1]))
    for spin, n in enumerate(mol.nelec):
        occ[spin, :n] = 1
    return np.array([e for e, _ in found]), np.array([c for _, c in found]), occ


class CubeSink:
    """Writes the electron density (valence, where the basis set has cores) of one structure.

    The density of a crystal is on its own FFT mesh, from which plane-wave programs can start; that
    of a molecule is in a box around it.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is written yet.

        Args:
            path: The file.
        """
        self._path = path

    def close(self) -> None:
        """Nothing is left to do."""

    def write(self, record: Record) -> None:
        """The density of the file, or where a molecule has none that of H."""
        if record.structure.lattice is not None:
            _crystal_cube(record, self._path)
            return
        mol = _mole(record)
        if record.matrices.density is not None:
            dm = record.matrices.density.to_dense().numpy()
        else:
            dm = (
                scf.hf.make_rdm1(*_orbitals(record, mol)[1:])
                if mol.spin == 0
                else (scf.uhf.make_rdm1(*_orbitals(record, mol)[1:]))
            )
        total = np.asarray(dm).reshape(-1, mol.nao, mol.nao).sum(0)
        cubegen.density(mol, str(self._path), total, resolution=_SPACING)


def _crystal_cube(record: Record, path: Path) -> None:
    """Density on the FFT mesh, electrons per bohr³; z runs fastest, six values to a line."""
    bloch, cell = _bloch_density(record), _cell(record)
    mesh = bloch.mesh or (int(cell.mesh[0]), int(cell.mesh[1]), int(cell.mesh[2]))
    kpoints = KPoints(scaled=bloch.kpts, weights=bloch.weights)
    values = mesh_density(cell, kpoints, bloch.dm.sum(0), mesh)
    electrons = values.sum() * cell.vol / values.size
    atoms = zip(record.structure.numbers, record.structure.coords, strict=True)
    with path.open("w", encoding="ascii") as file:
        file.write("electron density of a crystal on its FFT mesh, electrons per bohr^3\n")
        file.write(f"deeph-zero: {electrons:.6f} electrons on the mesh\n")
        file.write(f"{cell.natm:5d}{0:12.6f}{0:12.6f}{0:12.6f}\n")
        for n, vector in zip(mesh, cell.lattice_vectors(), strict=True):
            file.write(f"{n:5d}" + "".join(f"{x / n:15.10f}" for x in vector) + "\n")
        for z, place in atoms:
            file.write(f"{z:5d}{z:12.6f}" + "".join(f"{x:15.10f}" for x in place) + "\n")
        for row in values.reshape(-1, mesh[2]):
            lines = (row[k : k + 6] for k in range(0, mesh[2], 6))
            file.writelines("".join(f"{x:13.5E}" for x in six) + "\n" for six in lines)


def _bloch_density(record: Record) -> BlochDensity:
    if record.matrices.bloch is None:
        raise InputError(
            "expected the density of a crystal at its k-points, as labels of `deeph-zero label` "
            "and predictions have, got matrices without one; label the structure"
        )
    return record.matrices.bloch()


def _cell(record: Record) -> pbc_gto.Cell:
    """The functions of a crystal."""
    structure, basis = record.structure, record.matrices.facts.get("basis", NUMERICAL)
    if basis == NUMERICAL or record.matrices.spinor:
        raise InputError(f"expected a crystal in a Gaussian basis, got basis {basis!r}; its "
                         "functions cannot be evaluated")  # fmt: skip
    symbols = [chemical_symbols[z] for z in structure.numbers]
    cell = pbc_gto.Cell()
    cell.atom = list(zip(symbols, structure.coords.tolist(), strict=True))
    cell.a, cell.unit, cell.spin, cell.verbose = structure.lattice, "B", None, 0
    cell.basis = {symbol: shells_of(basis, symbol) for symbol in set(symbols)}
    cell.dimension = 3 if structure.pbc[2] else 2
    if None not in cell.basis.values():
        cell.build(dump_input=False, parse_arg=False)
    if None in cell.basis.values() or shell_ls(cell) != record.matrices.shells:
        raise InputError(f"expected the shells of {basis[:40]}, got others; give the right basis")
    return cell


class CheckpointSink:
    """Writes molecule, energy and orbitals as ``mf.chkfile`` has them."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet.

        Args:
            path: The file.
        """
        self._path = path

    def close(self) -> None:
        """Nothing is left to do."""

    def write(self, record: Record) -> None:
        """The orbitals of H; ``energy`` is 0 where the source states none."""
        mol = _mole(record)
        energy, coeff, occ = _orbitals(record, mol)
        total = float(record.matrices.facts.get("energy", 0.0))
        self._path.unlink(missing_ok=True)
        scf.chkfile.dump_scf(mol, str(self._path), total, energy, coeff, occ)
