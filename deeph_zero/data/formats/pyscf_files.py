"""Molecules for programs that start from a density: a Gaussian cube, a checkpoint of PySCF."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from pyscf import gto, scf
from pyscf.tools import cubegen

from deeph_zero.data.formats.labels import NUMERICAL
from deeph_zero.data.formats.protocol import Record
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.molecule import Molecule

_SPACING = 0.15
"""Distance of two points of a cube, bohr."""


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
    """Writes the electron density (valence, where the basis set has cores) of one molecule."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet.

        Args:
            path: The file.
        """
        self._path = path

    def close(self) -> None:
        """Nothing is left to do."""

    def write(self, record: Record) -> None:
        """The density of the file, or where there is none that of H."""
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
