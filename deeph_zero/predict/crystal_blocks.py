"""Blocks of a crystal that a model predicts, as a record like one that was read; no Fock build."""

from typing import Any

import numpy as np

from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.data.formats.spins import filled_to
from deeph_zero.integrals.mole import shell_ls
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.crystal_record import CrystalState
from deeph_zero.settings.crystal_method import ModelCrystals


def predicted_blocks(model: CrystalModel, molecule: Molecule, settings: ModelCrystals) -> Record:
    """H and S of a crystal in real space, and its Fermi level.

    Args:
        model: The model.
        molecule: The crystal.
        settings: What is solved, of ``model.settings``.

    Returns:
        The record; sparse blocks of a crystal that is too large for matrices at k-points.

    Raises:
        InputError: If the model does not know an element, or it cannot be computed.
        ComputationError: If the functions reach over too many cells.
    """
    if model.is_large(molecule):
        large = model.predict_sparse_structure(molecule, settings)
        cell, pbc = large.prepared.cell, molecule.pbc
        hamiltonian, overlap = large.hamiltonian, large.overlap
        facts: dict[str, Any] = {"fermi": large.ends().fermi}
    else:
        found = model.predict_structure(molecule, settings, certificate=False)
        cell, pbc, blocks = found.ks.cell, found.ks.info.pbc, found.real_space()
        hamiltonian, overlap = blocks.fock, blocks.overlap
        state = CrystalState.of_prediction(found)
        facts = {"fermi": state.fermi_level}
        if len(set(state.fermi)) > 1:
            occ = np.asarray(state.mo_occ.cpu())
            facts["fermi_of_spins"] = filled_to(np.array(state.fermi), occ)
    structure = Structure(
        numbers=molecule.numbers,
        coords=molecule.coords,
        charge=molecule.charge,
        spin=molecule.spin,
        lattice=np.asarray(cell.lattice_vectors()),
        pbc=np.array(pbc),
    )
    matrices = Matrices(
        shells=tuple(tuple(ls) for ls in shell_ls(cell.to_mol())),
        fock=hamiltonian,
        overlap=overlap,
        facts=facts,
    )
    return Record(structure, matrices)
