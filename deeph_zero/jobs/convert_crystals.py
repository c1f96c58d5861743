"""Crystals of other programs in a Gaussian basis: the stored overlap has to be the basis' own.

A crystal's Fock matrix is not built here, as a molecule's is: which functional and pseudopotentials
it is of is what the user says when it is trained on.
"""

import dataclasses

import numpy as np
import torch
from ase.data import chemical_symbols
from pyscf.pbc import gto

from deeph_zero.ao.basis_text import label_of
from deeph_zero.data.formats.protocol import Record, required_overlap
from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.jobs.convert import atomic_shells

_PROBES = np.array([[0.0, 0.0, 0.0], [0.137, -0.291, 0.413]])
"""k-points at which overlaps are compared."""
_SAME_OVERLAP = 1e-3
"""Largest difference of an overlap that counts as the same: programs leave far blocks out."""


def in_gaussians(record: Record, basis: str) -> Record:
    """A crystal whose functions are those of a basis set.

    Args:
        record: A structure and its matrices.
        basis: Name or text.

    Returns:
        The record, with the basis among its facts.

    Raises:
        InputError: If it is a molecule, or the overlap or the shells are of another basis.
    """
    structure, matrices = record.structure, record.matrices
    if structure.lattice is None:
        raise InputError("expected crystals as the first of the structures is, got a molecule; "
                         "convert them in two files")  # fmt: skip
    if matrices.shells != atomic_shells(structure.numbers, basis):
        raise InputError(
            f"expected the shells of {label_of(basis)}, got those of another basis set; give the "
            f"{argument('basis')} it is in, or none for numerical orbitals"
        )
    stored = required_overlap(matrices).at_k(torch.from_numpy(_PROBES)).numpy()
    cell = _cell(record, basis)
    kpts = cell.get_abs_kpts(_PROBES)
    expected = np.asarray(cell.pbc_intor("int1e_ovlp", hermi=1, kpts=kpts))
    deviation = float(np.abs(stored - expected).max())
    if deviation > _SAME_OVERLAP:
        raise InputError(
            f"expected the overlap of {label_of(basis)} at these positions, got one that differs "
            f"by {deviation:.1e}; give the {argument('basis')} it was made with"
        )
    facts = {**matrices.facts, "basis": basis}
    return Record(structure, dataclasses.replace(matrices, facts=facts))


def _cell(record: Record, basis: str) -> gto.Cell:
    structure = record.structure
    symbols = [chemical_symbols[z] for z in structure.numbers]
    cell = gto.Cell()
    cell.atom = list(zip(symbols, structure.coords.tolist(), strict=True))
    cell.a, cell.unit, cell.spin, cell.verbose = structure.lattice, "B", None, 0
    cell.basis = {symbol: shells_of(basis, symbol) for symbol in set(symbols)}
    cell.dimension = 3 if structure.pbc[2] else 2
    cell.mesh = [3, 3, 3]  # nothing is summed on it
    return cell.build(dump_input=False, parse_arg=False)
