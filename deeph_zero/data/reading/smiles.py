"""Geometry of a SMILES: conformers of its molecules, relaxed by a force field with RDKit."""

from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii, vdw_radii
from jaxtyping import Float

from deeph_zero.data.contacts import check_contacts
from deeph_zero.data.reading.packing import Body, packed
from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import ISOTOPES
from deeph_zero.errors import InputError

_SEED = 7
"""Seed of the starting conformer; a SMILES always gives the same geometry."""

_STEPS = 2000
_FAR = 6.0
"""Molecules of one SMILES further apart than this (angstrom) have left each other."""


def embedded(chem: Any, all_chem: Any, smiles: str, say: Say) -> ase.Atoms:
    """Hydrogens, a conformer, and its MMFF (or UFF) minimum.

    The molecules of a SMILES with dots are embedded one by one, put at contact, and relaxed
    together where the force field has parameters for all of them.

    Args:
        chem: ``rdkit.Chem``.
        all_chem: ``rdkit.Chem.AllChem``.
        smiles: The SMILES.
        say: Takes a warning.

    Returns:
        The atoms, ``info`` with charge and spin as the SMILES states them.

    Raises:
        InputError: If it is none, or RDKit finds no geometry.
    """
    mol = chem.MolFromSmiles(smiles)
    if mol is None:
        raise InputError(f"expected a SMILES, got {smiles!r}; correct it")
    mol = chem.AddHs(mol)
    if mol.GetNumAtoms() == 0:
        raise InputError("expected a molecule, got no atoms; leave the line out")
    if any(atom.GetIsotope() for atom in mol.GetAtoms()):
        say(ISOTOPES)
    members = [list(atoms) for atoms in chem.GetMolFrags(mol)]
    if len(members) == 1:
        _conformer(all_chem, mol, smiles)
        _relax(all_chem, mol)
        positions = mol.GetConformer().GetPositions()
    else:
        positions = _several(chem, all_chem, mol, members)
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    return ase.Atoms(
        numbers=_numbers(mol),
        positions=positions,
        info={"charge": chem.GetFormalCharge(mol), "spin": radicals},
    )


def _several(
    chem: Any, all_chem: Any, mol: Any, members: list[list[int]]
) -> Float[np.ndarray, "natm 3"]:
    """Molecules beside each other."""
    parts = chem.GetMolFrags(mol, asMols=True)
    for part in parts:
        _conformer(all_chem, part, chem.MolToSmiles(chem.RemoveHs(part)))
        _relax(all_chem, part)
    order = sorted(range(len(parts)), key=lambda k: (-len(members[k]), k))
    places = packed([_body(parts[k]) for k in order])
    positions = np.empty((mol.GetNumAtoms(), 3))
    for k, place in zip(order, places, strict=True):
        positions[members[k]] = place
    conformer = chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions)
    mol.AddConformer(conformer, assignId=True)
    if not _relax(all_chem, mol):
        return positions
    relaxed = mol.GetConformer().GetPositions()
    return relaxed if _together(_numbers(mol), relaxed, members) else positions


def _conformer(all_chem: Any, mol: Any, smiles: str) -> None:
    if all_chem.EmbedMolecule(mol, randomSeed=_SEED) != 0:
        random = {"randomSeed": _SEED, "useRandomCoords": True}
        if all_chem.EmbedMolecule(mol, **random) != 0:
            raise InputError(f"RDKit finds no geometry for {smiles!r}; give coordinates instead")


def _relax(all_chem: Any, mol: Any) -> bool:
    """To the force field's minimum; False where it has no parameters for an atom."""
    if mol.GetNumAtoms() == 1:
        return False
    together = {"maxIters": _STEPS, "ignoreInterfragInteractions": False}
    if all_chem.MMFFHasAllMoleculeParams(mol):
        return all_chem.MMFFOptimizeMolecule(mol, **together) >= 0
    if all_chem.UFFHasAllMoleculeParams(mol):
        return all_chem.UFFOptimizeMolecule(mol, **together) >= 0
    return False


def _body(mol: Any) -> Body:
    """A molecule with van der Waals radii, those of ions reduced to about ionic ones."""
    numbers = _numbers(mol)
    charges = np.array([float(atom.GetFormalCharge()) for atom in mol.GetAtoms()])
    radii = np.nan_to_num(vdw_radii[numbers], nan=2.0)
    ionic = np.where(charges > 0, covalent_radii[numbers] * 0.7, radii * 0.95)
    return Body(
        np.asarray(mol.GetConformer().GetPositions()), np.where(charges != 0, ionic, radii), charges
    )


def _numbers(mol: Any) -> np.ndarray:
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)


def _together(numbers: np.ndarray, positions: np.ndarray, members: list[list[int]]) -> bool:
    """Whether relaxed molecules have neither run into each other nor away."""
    try:
        check_contacts(numbers, positions)
    except InputError:
        return False
    for own in members:
        others = np.setdiff1d(np.arange(len(numbers)), own)
        gaps = np.linalg.norm(positions[own][:, None] - positions[others][None], axis=-1)
        if gaps.min() > _FAR:
            return False
    return True
